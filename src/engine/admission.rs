//! PURE. Who is it, and may this sighting open a check-in? (`design` 4.3, in its order; the first check that fails is the reason.)

use uuid::Uuid;

use super::{
    Admission, Claim, DoorClaim, Gate, Standing, Told, Visit,
    calendar::Calendar,
    decision::{Note, Reason},
    passes::{self, Ask, Entitlement, PassEnd, PassUse, Refused, Spent, Usage},
};
use crate::{
    clock::WallTime,
    directory::{Coworker, Directory, Match},
    mac::MacAddr,
    record::{BusinessId, CheckinSource},
    settings::{Door, DoorAction, NetworkOpens, Site, UnrecognisedDevices},
    sighting::{Direction, DoorEvent, DoorEventKind, Presence, Refusal},
};

/// What a door event says, before anybody's check-ins are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Somebody known did something that their check-ins depend on.
    Claim {
        /// What.
        action: DoorClaim,
        /// What was against their opening a check-in.
        barrier: Option<Reason>,
    },
    /// A failed check-in, of a person if one is known.
    Fail(Reason),
    /// Only the sighting log.
    Record(Note),
}

/// Judges a door event.
pub fn judge_door<'a>(
    event: &DoorEvent,
    directory: &'a Directory,
    doors: &[Door],
    business: BusinessId,
) -> (Said, Option<&'a Coworker>) {
    if !event.kind.names_somebody() {
        return (Said::Record(Note::NamesNobody), None);
    }
    let Some(credential) = &event.credential else {
        return (Said::Record(Note::NamesNobody), None);
    };
    let found = directory.by_credential(credential);
    let known = match found {
        Match::One(coworker) => Some(coworker),
        Match::Nobody | Match::Several => None,
    };
    match event.kind {
        DoorEventKind::Denied => {
            return (Said::Fail(Reason::RefusedByController(event.refusal.unwrap_or(Refusal::Other))), known);
        }
        DoorEventKind::UnknownCredential => {
            let reason =
                if known.is_some() { Reason::RefusedByController(Refusal::Other) } else { Reason::UnrecognisedCard };
            return (Said::Fail(reason), known);
        }
        DoorEventKind::Duress => return (Said::Fail(Reason::Duress), known),
        DoorEventKind::Granted
        | DoorEventKind::Read
        | DoorEventKind::Exit
        | DoorEventKind::RemoteOpen
        | DoorEventKind::DoorOpen
        | DoorEventKind::DoorClosed
        | DoorEventKind::Held
        | DoorEventKind::Forced
        | DoorEventKind::Tamper
        | DoorEventKind::Bell
        | DoorEventKind::Online
        | DoorEventKind::Offline
        | DoorEventKind::Heartbeat => {}
    }
    let Some(door) = doors.iter().find(|door| door.matches(&event.door.0)) else {
        return (Said::Fail(Reason::DoorNotConfigured), known);
    };
    let action = match event.direction {
        Direction::In | Direction::Unknown => door.on_in,
        Direction::Out => door.on_out,
    };
    let action = match action {
        DoorAction::CheckIn => DoorClaim::Entry,
        DoorAction::CheckOut => DoorClaim::Exit,
        DoorAction::Toggle => DoorClaim::Toggle,
        DoorAction::Activity => DoorClaim::Activity,
        DoorAction::Record => return (Said::Record(Note::RecordOnly), known),
    };
    let coworker = match found {
        Match::One(coworker) => coworker,
        Match::Nobody => return (Said::Fail(Reason::UnrecognisedCard), None),
        Match::Several => return (Said::Fail(Reason::AmbiguousCard), None),
    };
    (Said::Claim { action, barrier: barrier(coworker, business) }, Some(coworker))
}

/// What a presence amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresenceVerdict<'a> {
    /// A device of somebody known.
    Claim {
        /// Who.
        coworker: &'a Coworker,
        /// What was against their opening a check-in.
        barrier: Option<Reason>,
    },
    /// A failed check-in, once per pass day.
    Fail(Reason),
    /// Nothing: a device for which the site wants no record.
    Nothing,
}

/// Judges a presence.
pub fn judge_presence<'a>(presence: &Presence, directory: &'a Directory, site: &Site) -> PresenceVerdict<'a> {
    match directory.by_mac(presence.mac) {
        Match::Nobody if wants_record(site, presence.mac) => PresenceVerdict::Fail(Reason::UnrecognisedDevice),
        Match::Several if presence.last_strong_at.is_some() => PresenceVerdict::Fail(Reason::AmbiguousDevice),
        Match::Nobody | Match::Several => PresenceVerdict::Nothing,
        Match::One(coworker) => {
            let not_by_network = (!coworker.allow_network_checkin).then_some(Reason::NetworkNotAllowed);
            PresenceVerdict::Claim { coworker, barrier: barrier(coworker, site.business).or(not_by_network) }
        }
    }
}

/// The gate of a site for one coworker: what is against them, then what the site lets the network do, then limits and
/// passes.
#[derive(Clone, Copy, Debug)]
pub struct Doorkeeper<'a> {
    /// The site.
    pub site: &'a Site,
    /// Its pass days.
    pub calendar: Calendar,
    /// People, passes and plans.
    pub directory: &'a Directory,
    /// Who; none when the directory has lost them.
    pub coworker: Option<&'a Coworker>,
    /// What was used of passes and limits.
    pub usage: &'a Usage,
    /// Visits that are counted there; the others say themselves what they use.
    pub counted: &'a [Uuid],
}

impl Gate for Doorkeeper<'_> {
    fn admission(&self, told: &Told, standing: &Standing) -> Admission {
        if let Some(answered) = &told.answered {
            return answered.clone();
        }
        if let Some(reason) = told.barrier {
            return Admission::Refused(Refused { reason, detail: None });
        }
        if let Claim::Network { since, first_at, last_at, strong_at, .. } = told.claim
            && let Some(note) = self.held(since, first_at, strong_at.unwrap_or(last_at), standing)
        {
            return Admission::Held(note);
        }
        self.entitled(told.claim.at(), told.claim.source(), standing)
    }

    fn stay(&self, at: WallTime, source: CheckinSource, standing: &Standing) -> Admission {
        let against = self.coworker.map_or(Some(Reason::CoworkerArchived), |known| barrier(known, self.site.business));
        match against {
            Some(reason) => Admission::Refused(Refused { reason, detail: None }),
            None => self.entitled(at, source, standing),
        }
    }
}

impl Doorkeeper<'_> {
    fn entitled(&self, at: WallTime, by: CheckinSource, standing: &Standing) -> Admission {
        let Some(coworker) = self.coworker else {
            return Admission::Refused(Refused { reason: Reason::CoworkerArchived, detail: None });
        };
        let ask = Ask { coworker, business: self.site.business, by, at };
        let decided = standing.visits().iter().filter(|visit| !self.counted.contains(&visit.unique_id));
        let also: Vec<Spent> = decided.map(|visit| visit.spent(&self.calendar)).collect();
        match passes::entitle(self.directory, &self.site.passes, &self.calendar, &ask, self.usage, &also) {
            Ok(Entitlement::Unchecked) => Admission::Admitted(None),
            Ok(Entitlement::Pass(pass)) => Admission::Admitted(Some(pass)),
            Err(refused) => Admission::Refused(refused),
        }
    }

    /// The pass of an open visit, with the end that it has by this directory, if that is another; nothing where no pass
    /// covers the visit. A pass that is gone, or was refused to its holder since, ends now.
    pub fn lasts(&self, open: &Visit, now: WallTime) -> Option<PassUse> {
        let pass = open.pass.as_ref()?;
        let coworker = self.coworker?;
        let ask = Ask { coworker, business: self.site.business, by: open.source, at: open.from };
        let entitled = passes::entitle(self.directory, &self.site.passes, &self.calendar, &ask, self.usage, &[]);
        let ends = match entitled {
            Ok(Entitlement::Unchecked) => None,
            Ok(Entitlement::Pass(same)) if (same.guid, same.time_pass) == (pass.guid, pass.time_pass) => same.ends,
            Ok(Entitlement::Pass(_)) if self.is_held(pass, coworker) => pass.ends,
            Ok(Entitlement::Pass(_)) | Err(_) => Some((now, PassEnd::Expires)),
        };
        let ends = ends.map(|(at, why)| (at.max(now), why));
        (ends != pass.ends).then(|| PassUse { ends, ..pass.clone() })
    }

    fn is_held(&self, pass: &PassUse, coworker: &Coworker) -> bool {
        match pass.guid {
            None => self.directory.time_pass(pass.time_pass).is_some_and(|kind| !kind.archived),
            Some(guid) => self.directory.usable(coworker.id).any(|held| held.guid == guid && !held.kind.archived),
        }
    }

    /// What keeps the network from opening a check-in, without anybody being refused.
    fn held(&self, since: WallTime, first_at: WallTime, evidence: WallTime, standing: &Standing) -> Option<Note> {
        let may_open = self.site.network_checkins
            && match self.site.network_opens {
                NetworkOpens::Always => true,
                NetworkOpens::AfterDoor => standing.let_in_by_door(&self.calendar, first_at),
                NetworkOpens::Never => false,
            };
        if !may_open {
            Some(Note::NetworkMayNotOpen)
        } else if evidence.since(since) < self.site.minimum_dwell {
            Some(Note::DwellNotReached)
        } else {
            None
        }
    }
}

/// Known and unambiguous is settled; then active, not archived, of this business.
pub fn barrier(coworker: &Coworker, business: BusinessId) -> Option<Reason> {
    if coworker.archived {
        Some(Reason::CoworkerArchived)
    } else if !coworker.active {
        Some(Reason::CoworkerInactive)
    } else if !coworker.belongs_to(business) {
        Some(Reason::OtherBusiness)
    } else {
        None
    }
}

fn wants_record(site: &Site, mac: MacAddr) -> bool {
    match site.unrecognised_devices {
        UnrecognisedDevices::All => true,
        UnrecognisedDevices::GlobalOnly => !mac.is_local(),
        UnrecognisedDevices::Off => false,
    }
}
