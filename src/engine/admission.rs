//! PURE. Who is it, and may this sighting open a check-in? (`design` 4.3, in its order; the first check that fails is the reason.)

use super::{
    Admission, Claim, DoorClaim, Gate, Standing, Told,
    calendar::Calendar,
    decision::{Note, Reason},
};
use crate::{
    clock::WallTime,
    directory::{Coworker, Directory, Match},
    mac::MacAddr,
    record::BusinessId,
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

/// The gate of a site: what is against a coworker, then what the site lets the network do.
#[derive(Clone, Copy, Debug)]
pub struct Doorkeeper<'a> {
    /// The site.
    pub site: &'a Site,
    /// Its pass days.
    pub calendar: Calendar,
}

impl Gate for Doorkeeper<'_> {
    fn admission(&self, told: &Told, standing: &Standing) -> Admission {
        if let Some(reason) = told.barrier {
            return Admission::Refused(reason);
        }
        if let Claim::Network { since, first_at, last_at, strong_at, .. } = told.claim
            && let Some(note) = self.held(since, first_at, strong_at.unwrap_or(last_at), standing)
        {
            return Admission::Held(note);
        }
        Admission::Admitted
    }
}

impl Doorkeeper<'_> {
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
