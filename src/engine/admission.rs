//! PURE. Who is it, and may this sighting open a check-in? (`design` 4.3, in its order; the first check that fails is the reason.)

use super::{
    DoorClaim, Standing,
    calendar::Calendar,
    decision::{Note, Reason},
    life::Admission,
};
use crate::{
    clock::WallTime,
    directory::{Coworker, Directory, Match},
    mac::MacAddr,
    record::BusinessId,
    settings::{Door, DoorAction, NetworkOpens, Site, UnrecognisedDevices},
    sighting::{Direction, DoorEvent, DoorEventKind, Presence, Refusal},
};

/// What a door event amounts to, before anybody's check-ins are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorVerdict<'a> {
    /// Somebody known did something that their check-ins depend on.
    Claim {
        /// Who.
        coworker: &'a Coworker,
        /// What.
        action: DoorClaim,
        /// May it open a check-in?
        admission: Admission,
    },
    /// A failed check-in, of a person if one is known.
    Fail(Reason, Option<&'a Coworker>),
    /// Only the sighting log.
    Record(Note, Option<&'a Coworker>),
}

/// Judges a door event.
pub fn judge_door<'a>(
    event: &DoorEvent,
    directory: &'a Directory,
    doors: &[Door],
    business: BusinessId,
) -> DoorVerdict<'a> {
    if !event.kind.names_somebody() {
        return DoorVerdict::Record(Note::NamesNobody, None);
    }
    let Some(credential) = &event.credential else {
        return DoorVerdict::Record(Note::NamesNobody, None);
    };
    let found = directory.by_credential(credential);
    let known = match found {
        Match::One(coworker) => Some(coworker),
        Match::Nobody | Match::Several => None,
    };
    match event.kind {
        DoorEventKind::Denied => {
            return DoorVerdict::Fail(Reason::RefusedByController(event.refusal.unwrap_or(Refusal::Other)), known);
        }
        DoorEventKind::UnknownCredential => {
            let reason =
                if known.is_some() { Reason::RefusedByController(Refusal::Other) } else { Reason::UnrecognisedCard };
            return DoorVerdict::Fail(reason, known);
        }
        DoorEventKind::Duress => return DoorVerdict::Fail(Reason::Duress, known),
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
        return DoorVerdict::Fail(Reason::DoorNotConfigured, known);
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
        DoorAction::Record => return DoorVerdict::Record(Note::RecordOnly, known),
    };
    let coworker = match found {
        Match::One(coworker) => coworker,
        Match::Nobody => return DoorVerdict::Fail(Reason::UnrecognisedCard, None),
        Match::Several => return DoorVerdict::Fail(Reason::AmbiguousCard, None),
    };
    DoorVerdict::Claim { coworker, action, admission: admit(coworker, business) }
}

/// What a presence amounts to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceVerdict<'a> {
    /// A device of somebody known.
    Claim {
        /// Who.
        coworker: &'a Coworker,
        /// May it open a check-in?
        admission: Admission,
    },
    /// A failed check-in, once per pass day.
    Fail(Reason),
    /// Nothing: a device for which the site wants no record.
    Nothing,
}

/// Judges a presence; `standing` finds where its owner stands.
pub fn judge_presence<'a, 's>(
    presence: &Presence,
    directory: &'a Directory,
    site: &Site,
    calendar: &Calendar,
    standing: impl FnOnce(&Coworker) -> Option<&'s Standing>,
) -> PresenceVerdict<'a> {
    match directory.by_mac(presence.mac) {
        Match::Nobody if wants_record(site, presence.mac) => PresenceVerdict::Fail(Reason::UnrecognisedDevice),
        Match::Several if presence.last_strong_at.is_some() => PresenceVerdict::Fail(Reason::AmbiguousDevice),
        Match::Nobody | Match::Several => PresenceVerdict::Nothing,
        Match::One(coworker) => {
            let admission = admit_by_network(coworker, presence, site, calendar, standing(coworker));
            PresenceVerdict::Claim { coworker, admission }
        }
    }
}

fn admit_by_network(
    coworker: &Coworker,
    presence: &Presence,
    site: &Site,
    calendar: &Calendar,
    standing: Option<&Standing>,
) -> Admission {
    let at = presence.last_at;
    match admit(coworker, site.business) {
        Admission::Admitted => {}
        not @ (Admission::Refused(_) | Admission::Held(_)) => return not,
    }
    if !coworker.allow_network_checkin {
        return Admission::Refused(Reason::NetworkNotAllowed);
    }
    let may_open = site.network_checkins
        && match site.network_opens {
            NetworkOpens::Always => true,
            NetworkOpens::AfterDoor => {
                standing.is_some_and(|standing| standing.let_in_by_door(calendar, presence.first_at))
            }
            NetworkOpens::Never => false,
        };
    if !may_open {
        return Admission::Held(Note::NetworkMayNotOpen);
    }
    let evidence: WallTime = presence.last_strong_at.unwrap_or(at);
    if evidence.since(presence.since) < site.minimum_dwell {
        return Admission::Held(Note::DwellNotReached);
    }
    Admission::Admitted
}

/// Known and unambiguous is settled; then active, not archived, of this business.
fn admit(coworker: &Coworker, business: BusinessId) -> Admission {
    if coworker.archived {
        Admission::Refused(Reason::CoworkerArchived)
    } else if !coworker.active {
        Admission::Refused(Reason::CoworkerInactive)
    } else if !coworker.belongs_to(business) {
        Admission::Refused(Reason::OtherBusiness)
    } else {
        Admission::Admitted
    }
}

fn wants_record(site: &Site, mac: MacAddr) -> bool {
    match site.unrecognised_devices {
        UnrecognisedDevices::All => true,
        UnrecognisedDevices::GlobalOnly => !mac.is_local(),
        UnrecognisedDevices::Off => false,
    }
}
