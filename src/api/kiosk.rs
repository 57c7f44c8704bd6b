//! `POST /api/public/checkin`: a kiosk was shown a card, a PIN or a device. The pipeline decides it as a tap at a door.
//!
//! A PIN has few digits, so guesses are slowed down as failed sign-ins are: by address, and by the e-mail address that
//! comes with a PIN. A kiosk is one address for many people who mistype, so each further person who is recognised there
//! takes one failure back; one person with a card of their own gains no more guesses by that.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::{
    ApiState,
    address::{Address, Caller},
    auth::{RequestIdentity, require},
    command,
    command_body::CommandBody,
    fault::FieldFault,
    list::named_ignored,
    reply::{Problem, RequestRefusal},
    throttle::{SignInAttempt, Throttle, UserKey},
};
use crate::{
    access::{Right, Role, RoleEntity},
    base::{
        bounded_table::BoundedTable, card::LONGEST_CREDENTIAL, clock::BootTime, mac::MacAddr, random,
        record::CoworkerId,
    },
    engine::decision::Note,
    pipeline::{ApiRequest, KioskCredential, KioskEnd, KioskRequest, KioskWish},
    settings::Kiosks,
};

/// The longest PIN and the longest e-mail address, in characters (RFC 5321 4.5.3.1).
const LONGEST_PIN: usize = 64;
const LONGEST_EMAIL: usize = 254;

/// How long a person stays known at a kiosk: until then, they take no further failure back.
const KNOWN_FOR: Duration = Duration::from_hours(1);

/// The most people who are remembered, at all kiosks together. At the limit, the one who was recognised longest ago is
/// forgotten.
const KNOWN: usize = 4096;

const OFF: &str = "The settings let no kiosk check people in: set kiosk_checkins = true in [api], and name the kiosks in \
                   kiosk_addresses or give them a token.";

/// Who may ask, and how long they must wait after failures.
#[derive(Debug)]
pub(super) struct KioskGuard {
    kiosks: Kiosks,
    /// Random for each process, so the keys are useless elsewhere.
    salt: [u8; 32],
    failures: Mutex<KioskFailures>,
}

struct KioskFailures {
    throttle: Throttle,
    /// Who was recognised where, and when.
    known: BoundedTable<(Address, CoworkerId), BootTime>,
}

impl fmt::Debug for KioskFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KioskFailures")
    }
}

impl KioskGuard {
    pub(super) fn new(kiosks: Kiosks) -> Self {
        let failures = KioskFailures { throttle: Throttle::default(), known: BoundedTable::new(KNOWN) };
        Self { kiosks, salt: random::secret(), failures: Mutex::new(failures) }
    }

    /// Lets a listed kiosk in, and another with a token that may create check-ins here.
    async fn permit(&self, api: &ApiState, shown: &RequestIdentity) -> Result<(), Problem> {
        let ip = shown.caller.ip();
        if self.kiosks.addresses.iter().any(|network| network.contains(&ip)) {
            return Ok(());
        }
        let role = Role::of(RoleEntity::Checkin, Right::Create);
        let user = require(api, shown, role).await?;
        let sees_site = api.site.as_ref().is_some_and(|(business, _)| user.reach.includes(*business));
        if sees_site { Ok(()) } else { Err(Problem::Forbidden(role)) }
    }

    /// Counts an attempt as failed until it is decided.
    fn begin(&self, shown: &KioskBody, caller: Caller, now: BootTime) -> Result<SignInAttempt, Problem> {
        let user = match (&shown.credential, caller) {
            (KioskCredential::PinOfEmail { email, .. }, _) => Some(self.key(&email.to_lowercase())),
            // Programs on this machine are no address of their own, so they wait together.
            (_, Caller::Local) => Some(self.key("")),
            (_, Caller::Remote(_)) => None,
        };
        self.failures().throttle.begin(user, caller, now).map_err(Problem::Throttled)
    }

    /// Takes an attempt back that was not decided.
    fn undecided(&self, attempt: SignInAttempt) {
        self.failures().throttle.undecided(attempt);
    }

    /// Takes an attempt back at which this person was recognised, and a failure before it if they are the first for a
    /// while.
    fn recognised(&self, attempt: SignInAttempt, coworker: CoworkerId, shown: &RequestIdentity, now: BootTime) {
        let mut failures = self.failures();
        let KioskFailures { throttle, known } = &mut *failures;
        throttle.undecided(attempt);
        let key = (shown.caller.address(), coworker);
        if known.get(&key).is_none_or(|at| now.since(*at) >= KNOWN_FOR) {
            throttle.undecided(attempt);
            known.insert(key, now, |at| *at);
        }
    }

    fn failures(&self) -> MutexGuard<'_, KioskFailures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn key(&self, text: &str) -> UserKey {
        Sha256::new().chain_update(self.salt).chain_update(text).finalize().into()
    }
}

/// What a kiosk sends.
struct KioskBody {
    credential: KioskCredential,
    wish: KioskWish,
    is_dry_run: bool,
    /// Keys that mean nothing here.
    ignored: Vec<String>,
}

impl KioskBody {
    fn read(mut body: CommandBody) -> Result<Self, Vec<FieldFault>> {
        let mac = body.text("mac", LONGEST_CREDENTIAL).value();
        let card = body.text("accessCardId", LONGEST_CREDENTIAL).value();
        let email = body.text("email", LONGEST_EMAIL).value();
        let pin = body.text("pincode", LONGEST_PIN).value().map(SecretString::from);
        for key in ["password", "token"] {
            if body.text(key, usize::MAX).value().is_some() {
                body.fault(key, None, "is not taken here; send a pincode");
            }
        }
        let toggle = body.truth("toggle").value().unwrap_or(false);
        let disconnect = body.truth("disconnect").value().unwrap_or(false);
        let is_dry_run = body.truth("doNotCheckIn").value().unwrap_or(false);
        let wish = match (toggle, disconnect) {
            (false, false) => KioskWish::In,
            (true, false) => KioskWish::Toggle,
            (false, true) => KioskWish::Out,
            (true, true) => {
                body.fault("toggle", None, "cannot be combined with disconnect");
                KioskWish::Out
            }
        };
        let credential = match (mac, card, pin, email) {
            (Some(mac), None, None, None) => match mac.parse::<MacAddr>() {
                Ok(mac) => Some(KioskCredential::Device(mac)),
                Err(_) => {
                    body.fault("mac", Some(&mac), "is a MAC address, such as 00:50:56:ab:cd:ef");
                    None
                }
            },
            (None, Some(card), None, None) => Some(KioskCredential::Card(card)),
            (None, None, Some(pin), None) => Some(KioskCredential::Pin(pin)),
            (None, None, Some(pin), Some(email)) => Some(KioskCredential::PinOfEmail { email, pin }),
            (None, None, None, Some(_)) => {
                body.fault("pincode", None, "is required with an email");
                None
            }
            (None, None, None, None) => {
                // The fault of a field itself says more.
                if body.faults().is_empty() {
                    body.fault("mac", None, "is required, or accessCardId, or pincode with or without email");
                }
                None
            }
            (Some(_), ..) | (_, Some(_), ..) => {
                body.fault(
                    "mac",
                    None,
                    "is one of several: send mac, or accessCardId, or pincode with or without email",
                );
                None
            }
        };
        let ignored = body.finish(&[])?;
        // Without a credential there was a fault.
        credential.map_or_else(|| Err(Vec::new()), |credential| Ok(Self { credential, wish, is_dry_run, ignored }))
    }
}

/// What a kiosk was shown.
pub(super) async fn check_in(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    let guard = api.kiosks.clone().ok_or(Problem::SwitchedOff(OFF))?;
    guard.permit(&api, &shown).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let asked = KioskBody::read(CommandBody::read(kind, &body)?)?;
    let attempt = guard.begin(&asked, shown.caller, api.clock.now().boot)?;
    let (reply, answer) = oneshot::channel();
    let KioskBody { credential, wish, is_dry_run, ignored } = asked;
    let request = KioskRequest { shown: credential, wish, is_dry_run, reply };
    let answer = match api.requests.ask(ApiRequest::Kiosk(request), answer).await {
        Ok(answer) => answer,
        Err(problem) => {
            guard.undecided(attempt);
            return Err(problem.into());
        }
    };
    let now = api.clock.now();
    if let Some(coworker) = answer.coworker {
        guard.recognised(attempt, coworker, &shown, now.boot);
    }
    let answer = match answer.end {
        KioskEnd::In { until } => command::session(until, now.wall),
        KioskEnd::Out => command::session_over(),
        KioskEnd::Refused { reason, detail } => {
            tracing::info!(peer = %shown, reason = reason.code(), "a kiosk let someone not in");
            command::refused(&reason.description_with(detail.as_deref()))
        }
        KioskEnd::Nothing(note) => command::refused(&said(note)),
        KioskEnd::SwitchedOff => {
            guard.undecided(attempt);
            return Err(Problem::SwitchedOff(OFF).into());
        }
    };
    Ok(named_ignored(answer, &ignored))
}

/// `code: sentence`, as of a refusal.
fn said(note: Note) -> String {
    format!("{}: {}", note.word(), note.sentence())
}
