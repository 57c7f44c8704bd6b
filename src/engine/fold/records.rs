//! PURE. What a fold takes and what it gives: people as they were, people as they are, and every record on the way.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{FactDigest, LogDay, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId},
    },
    engine::{
        Decision,
        decision::Reason,
        identity,
        passes::{Counted, PassUse, Refused, Used, payg},
        person::{EndedVisit, PersonState, Visit},
    },
};

/// The people who are folded together, as they were before the first item.
#[derive(Clone, Debug, Default)]
pub struct FoldGroup {
    /// The people, and the credentials that no one owns.
    pub people: BTreeMap<Subject, PersonState>,
    /// What people outside this fold have used of passes that these people may use.
    pub others: BTreeMap<Uuid, Vec<Used>>,
    /// The last total towards a plan before the window of each limit, if it is final and no longer in a state.
    pub totals: BTreeMap<(CoworkerId, NaiveDate), Counted>,
}

/// What was true when a visit was opened; later edits never change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Name, teams and plan.
    pub then: Snapshot,
    /// The location's name.
    pub business_name: Option<String>,
}

/// A check-in as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitRecord {
    /// Who.
    pub coworker: CoworkerId,
    /// What.
    pub visit: Visit,
    /// What was true when it was opened, if that was in this fold.
    pub opened: Option<Opened>,
}

/// A failed check-in as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// Its identity.
    pub unique_id: Uuid,
    /// Who, if the person was recognised.
    pub coworker: Option<CoworkerId>,
    /// What was true then.
    pub then: Opened,
    /// Where.
    pub business: BusinessId,
    /// When.
    pub attempt_at: WallTime,
    /// By what.
    pub source: CheckinSource,
    /// The device.
    pub mac: Option<MacAddr>,
    /// Why.
    pub refused: Refused,
}

/// A charge as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    /// The identity of the check-in.
    pub checkin: Uuid,
    /// Who.
    pub coworker: CoworkerId,
    /// Where.
    pub business: BusinessId,
    /// By which kind of pass.
    pub time_pass: TimePassId,
    /// The beginning of the pass day.
    pub pass_day: WallTime,
    /// From when.
    pub from: WallTime,
    /// Until when; none while the check-in is open: then the charge is provisional.
    pub to: Option<WallTime>,
    /// How much.
    pub charge: payg::Charge,
}

/// A version of the directory changed how long the pass of an open visit lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repassed {
    /// Which visit.
    pub visit: Uuid,
    /// When the version came into force.
    pub at: WallTime,
    /// What the visit used before.
    pub before: Option<PassUse>,
    /// What it uses now.
    pub now: PassUse,
}

/// The result of a fold.
#[derive(Debug, Default)]
pub struct Folded {
    /// Everyone as they are now.
    pub people: BTreeMap<Subject, PersonState>,
    /// People as they were before the first event of a day.
    pub checkpoints: Vec<(Subject, LogDay, PersonState)>,
    /// Every check-in that was open, opened or changed.
    pub visits: BTreeMap<Uuid, VisitRecord>,
    /// Every failed check-in.
    pub failures: BTreeMap<Uuid, FailureRecord>,
    /// Every charge.
    pub charges: BTreeMap<Uuid, ChargeRecord>,
    /// Totals towards plan limits, up to the end of each day whose total changed.
    pub counted: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    /// What became of each item, in their order.
    pub decisions: Vec<Decision>,
    /// Visits that timers, the directory or coming in elsewhere ended.
    pub ended: Vec<(Subject, EndedVisit)>,
    /// Open visits whose pass end a version of the directory changed.
    pub repassed: Vec<Repassed>,
}

/// The identity of a failed check-in at a door: one per attempt.
pub fn door_failure(attempt: FactDigest) -> Uuid {
    identity([attempt.0.as_slice(), b"failure"])
}

/// The identity of a device's failed check-in: one per business, pass day, reason and device.
pub fn device_failure(business: BusinessId, day: WallTime, reason: Reason, mac: MacAddr, subject: Subject) -> Uuid {
    identity([
        b"device".as_slice(),
        &business.0.to_be_bytes(),
        &day.millis().to_be_bytes(),
        reason.code().as_bytes(),
        &mac.octets(),
        &subject.0.to_be_bytes(),
    ])
}
