//! Decides what a kiosk was shown: a card, a PIN or a device.
//!
//! It takes the path of a tap: the directory of that time says who it is, the settings say what the door that stands for
//! the kiosks means, and the debounce, toggles and failed check-ins are those of doors. A device that comes in takes the
//! path of the network instead, by the same admission as a frame of it.

use std::{collections::BTreeSet, fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    attempts::PipelineError,
    batch_work::{BatchWork, CommitEnd},
    intake::Intake,
    state::Pipeline,
    would_admit::{WouldAdmit, would_admit},
};
use crate::{
    base::{
        card,
        clock::{Now, WallTime},
        fact::{FactDigest, Subject},
        mac::MacAddr,
        random,
        record::{CheckinSource, CoworkerId},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Sighting, SightingKey,
            TimeQuality,
        },
    },
    directory::{Directory, Match},
    engine::{
        Decision,
        decision::{Note, Outcome, Reason},
        passes::Refused,
        person::PersonState,
    },
    mapping::content::Content,
    policy::door::{Door, KIOSK_DOOR, KIOSK_TOGGLE},
    source::{Delivery, Receipt},
    store::StoreError,
};

/// The source of what kiosks send, in the log of facts.
const SOURCE: &str = "api";

/// What a kiosk was shown. Its `Debug` shows nothing of it.
pub enum KioskCredential {
    /// A card or fob number.
    Card(String),
    /// A PIN, which must be of one person only.
    Pin(SecretString),
    /// A PIN with its owner's e-mail address, which two people with the same PIN do not share.
    PinOfEmail {
        /// The address.
        email: String,
        /// The PIN.
        pin: SecretString,
    },
    /// A device.
    Device(MacAddr),
}

impl fmt::Debug for KioskCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KioskCredential")
    }
}

/// What a kiosk asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KioskWish {
    /// The person comes in.
    In,
    /// The person goes out.
    Out,
    /// In if out, out if in.
    Toggle,
}

/// A kiosk that waits for its answer.
#[derive(Debug)]
pub struct KioskRequest {
    /// What it was shown.
    pub shown: KioskCredential,
    /// What it asks for.
    pub wish: KioskWish,
    /// Whether it only asks what would happen.
    pub is_dry_run: bool,
    /// Where the answer goes. If it is closed, the kiosk has gone and nothing is done.
    pub reply: oneshot::Sender<KioskAnswer>,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KioskAnswer {
    /// Who was recognised.
    pub coworker: Option<CoworkerId>,
    /// What happened, or would.
    pub end: KioskEnd,
}

/// What happened at a kiosk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KioskEnd {
    /// The person is in.
    In {
        /// When their pass ends; `None` if no pass is required.
        until: Option<WallTime>,
    },
    /// The person is out.
    Out,
    /// A failed check-in says why.
    Refused {
        /// Why.
        reason: Reason,
        /// More for the front desk.
        detail: Option<Arc<str>>,
    },
    /// Nothing, and no failed check-in.
    Nothing(Note),
    /// The settings no longer let kiosks check anyone in.
    SwitchedOff,
}

impl From<Refused> for KioskEnd {
    fn from(Refused { reason, detail }: Refused) -> Self {
        Self::Refused { reason, detail }
    }
}

/// The arrival that a kiosk reports.
enum KioskSighting {
    AtDoor { key: SightingKey, event: DoorEvent },
    OnNetwork(MacAddr),
}

impl KioskSighting {
    /// The same as the pipeline reads arrivals.
    fn arrivals(&self, now: Now) -> (Vec<Delivery>, Vec<Presence>) {
        match self {
            Self::AtDoor { key, event } => {
                let sighting = Sighting {
                    key: key.clone(),
                    source: SOURCE.into(),
                    event_at: now.wall,
                    time_quality: TimeQuality::Arrival,
                    arrived: now,
                    event: event.clone(),
                };
                (vec![Delivery::new(SOURCE.into(), Content::Sightings(vec![sighting]), Receipt::none())], Vec::new())
            }
            Self::OnNetwork(mac) => {
                let presence = Presence {
                    interface: SOURCE.into(),
                    mac: *mac,
                    since: now.wall,
                    first_at: now.wall,
                    last_at: now.wall,
                    last_strong_at: Some(now.wall),
                    frames: 1,
                    arrived: now,
                };
                (Vec::new(), vec![presence])
            }
        }
    }
}

impl Pipeline {
    /// Decides what a kiosk was shown, and answers it after the commit.
    pub(super) async fn answer_kiosk(
        &mut self,
        request: KioskRequest,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let is_served = Door::of(&self.policy().doors, KIOSK_DOOR).is_some();
        let answer = if !is_served {
            Ok(KioskAnswer { coworker: None, end: KioskEnd::SwitchedOff })
        } else if request.is_dry_run {
            self.would_answer(&request).await
        } else {
            self.decide_shown(&request, deadline).await?
        };
        match answer {
            // A kiosk that has gone misses only the answer.
            Ok(answer) => drop(request.reply.send(answer)),
            // Dropping the reply tells the client to try again.
            Err(error) => {
                tracing::warn!(error = %error.in_words("the database"), "what a kiosk was shown was not taken");
            }
        }
        Ok(())
    }

    async fn decide_shown(
        &mut self,
        request: &KioskRequest,
        deadline: &CancellationToken,
    ) -> Result<Result<KioskAnswer, StoreError>, PipelineError> {
        let seen = self.sighting(request);
        loop {
            let now = self.now();
            let (deliveries, presences) = seen.arrivals(now);
            let facts = self.read_facts(&deliveries, &presences, now, deadline).await?;
            let Some((subject, digest)) = only_fact(&facts) else {
                // The device of no person, or of several.
                let reason = self.unknown_device(request);
                self.process_batch(&mut Vec::new(), presences, deadline).await?;
                return Ok(Ok(KioskAnswer { coworker: None, end: KioskEnd::Refused { reason, detail: None } }));
            };
            let no_people = BTreeSet::new();
            let work = BatchWork { read_by: Some(facts.version), ..BatchWork::fold_now(&facts, &no_people) };
            match self.try_commit(work, deadline).await? {
                CommitEnd::Stale => {}
                CommitEnd::Unfit(error) => return Ok(Err(error)),
                CommitEnd::Committed(result) => {
                    let decisions = result.decided.iter().flat_map(|decided| &decided.decisions);
                    let decision = decisions.clone().find(|(known, _)| *known == digest).map(|(_, decision)| decision);
                    let person = result.decided.iter().find_map(|decided| decided.people.get(&subject));
                    let end = self.end(request.wish, decision, person);
                    let metrics = &self.context.metrics;
                    metrics.kiosk_taps(facts.doors.len() as u64);
                    metrics.presences(facts.presences.len() as u64);
                    self.count_outcomes(result);
                    return Ok(Ok(KioskAnswer { coworker: subject.as_coworker(), end }));
                }
            }
        }
    }

    /// What the kiosk was shown, as a tap or as a frame.
    fn sighting(&self, request: &KioskRequest) -> KioskSighting {
        let (door, direction) = match (&request.shown, request.wish) {
            (KioskCredential::Device(mac), KioskWish::In) => return KioskSighting::OnNetwork(*mac),
            (KioskCredential::Device(mac), KioskWish::Toggle) => {
                if !self.has_stayed(*mac) {
                    return KioskSighting::OnNetwork(*mac);
                }
                (KIOSK_DOOR, Direction::Out)
            }
            (_, KioskWish::Out) => (KIOSK_DOOR, Direction::Out),
            (_, KioskWish::In) => (KIOSK_DOOR, Direction::In),
            (_, KioskWish::Toggle) => (KIOSK_TOGGLE, Direction::Unknown),
        };
        let event = DoorEvent {
            kind: DoorEventKind::Read,
            door: DoorKey(door.to_owned()),
            direction,
            credential: Some(credential(&request.shown, self.context.directories.borrow().latest())),
            refusal: None,
        };
        KioskSighting::AtDoor { key: SightingKey(format!("{SOURCE}/{}", random::uuid().simple())), event }
    }

    /// Whether the owner of a device has been in for the minimum stay of a toggle.
    fn has_stayed(&self, mac: MacAddr) -> bool {
        let (directories, now) = (self.context.directories.borrow(), self.now().wall);
        let since = match directories.at(now).by_mac(mac) {
            Match::One(coworker) => self.present.since(Subject::coworker(coworker.id)),
            Match::NoOne | Match::Several => None,
        };
        since.is_some_and(|since| now.since(since) >= self.policy().site.toggle_minimum_stay)
    }

    fn unknown_device(&self, request: &KioskRequest) -> Reason {
        let directories = self.context.directories.borrow();
        let shown = credential(&request.shown, directories.latest());
        match directories.at(self.now().wall).by_credential(&shown) {
            Match::Several => Reason::AmbiguousDevice,
            Match::NoOne | Match::One(_) => Reason::UnrecognisedDevice,
        }
    }

    /// What the kiosk is told about this decision. Without one, the fact was committed before.
    fn end(&self, wish: KioskWish, decision: Option<&Decision>, person: Option<&PersonState>) -> KioskEnd {
        if let Some((reason, decision)) = decision.and_then(|decision| Some((decision.reason?, decision))) {
            return KioskEnd::Refused { reason, detail: decision.detail.clone() };
        }
        let open = person.and_then(PersonState::open).filter(|open| open.business == self.context.business);
        let note = decision.and_then(|decision| decision.note);
        let is_done =
            decision.is_none_or(|decision| decision.outcome == Outcome::Closed) || note == Some(Note::RepeatedTap);
        match (wish, open) {
            (KioskWish::In | KioskWish::Toggle, Some(open)) => {
                KioskEnd::In { until: open.pass.as_ref().map(|_| open.ends_at_last().0) }
            }
            (KioskWish::Out | KioskWish::Toggle, None) if is_done => KioskEnd::Out,
            (KioskWish::In | KioskWish::Out | KioskWish::Toggle, _) => {
                KioskEnd::Nothing(note.unwrap_or(Note::NotCheckedIn))
            }
        }
    }

    /// What would happen now. Nothing is written.
    async fn would_answer(&self, request: &KioskRequest) -> Result<KioskAnswer, StoreError> {
        let now = self.now().wall;
        let directories = Arc::clone(&self.context.directories.borrow());
        let policies = Arc::clone(&self.context.policies.borrow());
        let by_device = matches!(request.shown, KioskCredential::Device(_));
        let shown = credential(&request.shown, directories.latest());
        let unknown = |reason| KioskAnswer { coworker: None, end: KioskEnd::Refused { reason, detail: None } };
        let coworker = match (directories.at(now).by_credential(&shown), by_device) {
            (Match::One(coworker), _) => coworker,
            (Match::NoOne, false) => return Ok(unknown(Reason::UnrecognisedCard)),
            (Match::NoOne, true) => return Ok(unknown(Reason::UnrecognisedDevice)),
            (Match::Several, false) => return Ok(unknown(Reason::AmbiguousCard)),
            (Match::Several, true) => return Ok(unknown(Reason::AmbiguousDevice)),
        };
        let by = if by_device { CheckinSource::NetworkActivity } else { CheckinSource::DoorAccess };
        let (store, policy) = (&self.context.store, self.policy());
        let would = would_admit(store, (&directories, &policies), coworker, &policy.site, (now, by)).await?;
        let end = match (would, request.wish) {
            (WouldAdmit::In { .. }, KioskWish::Out | KioskWish::Toggle) => KioskEnd::Out,
            (WouldAdmit::In { until, .. }, KioskWish::In) => KioskEnd::In { until },
            (_, KioskWish::Out) => KioskEnd::Nothing(Note::NotCheckedIn),
            (WouldAdmit::Admitted { needs_door: true, .. }, _) => KioskEnd::Nothing(Note::NetworkMayNotOpen),
            (WouldAdmit::Admitted { pass, .. }, _) => {
                let day_ends = policy.calendar().pass_day(now).end;
                KioskEnd::In { until: pass.map(|pass| pass.ends.map_or(day_ends, |(at, _)| at)) }
            }
            (WouldAdmit::Refused(refused), _) => refused.into(),
            (WouldAdmit::NotNow(note), _) => KioskEnd::Nothing(note),
        };
        Ok(KioskAnswer { coworker: Some(coworker.id), end })
    }
}

/// The only fact among these, if it is one to decide: its subject and its digest.
fn only_fact(facts: &Intake) -> Option<(Subject, FactDigest)> {
    let door = facts.doors.first().map(|fact| (fact.subject, fact.digest));
    let presence = facts.presences.first();
    door.or_else(|| presence.map(|seen| (seen.subject, seen.point.place(seen.business, seen.mac).digest)))
}

/// What the kiosk was shown, as the directory looks it up.
fn credential(shown: &KioskCredential, directory: &Directory) -> Credential {
    let plain = |kind, value: String| Credential { kind, scope: None, value, spellings: Vec::new() };
    match shown {
        // As the platform stores it. A number in another spelling is not guessed at.
        KioskCredential::Card(text) => card::read(CredentialKind::Card, None, text, &[]),
        KioskCredential::Pin(pin) => plain(CredentialKind::Pin, pin.expose_secret().to_owned()),
        KioskCredential::PinOfEmail { email, pin } => {
            plain(CredentialKind::Pin, directory.pin_of_email(email, pin.expose_secret()))
        }
        KioskCredential::Device(mac) => plain(CredentialKind::Device, mac.to_string()),
    }
}
