//! PURE. The input and output of a fold: people as they were, people as they are, and every record made on the way.

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
    directory::catalogue::TimePass,
    engine::{
        Decision,
        decision::Reason,
        identity,
        passes::{Counted, PassUse, Refused, Used, payg},
        person::{EndedVisit, PersonState, Visit},
    },
    policy::passes::PayAsYouGo,
};

/// The people who are folded together, as they were before the first item.
#[derive(Clone, Debug, Default)]
pub struct FoldGroup {
    /// The people, and the credentials that no one owns.
    pub people: BTreeMap<Subject, PersonState>,
    /// What people outside this fold have used of the passes that these people may use.
    pub others: BTreeMap<Uuid, Vec<Used>>,
    /// For each limit of a plan, the last total before its window, if it is final and no longer in a person's state.
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

/// A check-in to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitRecord {
    /// Who.
    pub coworker: CoworkerId,
    /// The visit.
    pub visit: Visit,
    /// What was true when it was opened, if that was in this fold.
    pub opened: Option<Opened>,
}

/// A failed check-in to be stored.
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

/// A charge to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    /// The identity of the check-in.
    pub checkin: Uuid,
    /// Who.
    pub coworker: CoworkerId,
    /// Where.
    pub business: BusinessId,
    /// The kind of pass.
    pub time_pass: TimePassId,
    /// The beginning of the pass day.
    pub pass_day: WallTime,
    /// From when.
    pub from: WallTime,
    /// Until when; `None` while the check-in is open and the charge provisional.
    pub to: Option<WallTime>,
    /// How much.
    pub charge: payg::Charge,
}

impl ChargeRecord {
    /// What a visit costs by these rules, after what was charged before in its pass day.
    pub fn of(
        coworker: CoworkerId,
        visit: &Visit,
        kind: &TimePass,
        rules: &PayAsYouGo,
        already: &payg::Charged,
    ) -> Self {
        Self {
            checkin: visit.unique_id,
            coworker,
            business: visit.business,
            time_pass: kind.id,
            pass_day: visit.day.start,
            from: visit.from,
            to: visit.to,
            charge: payg::charge(kind, rules, visit.from, visit.to, already),
        }
    }
}

/// A new version of the directory changed when the pass of an open visit ends.
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
    /// People as they were before their first event of a day.
    pub checkpoints: Vec<(Subject, LogDay, PersonState)>,
    /// Every check-in that was open, opened or changed.
    pub visits: BTreeMap<Uuid, VisitRecord>,
    /// Every failed check-in.
    pub failures: BTreeMap<Uuid, FailureRecord>,
    /// Every charge.
    pub charges: BTreeMap<Uuid, ChargeRecord>,
    /// Totals towards plan limits at the end of each day, for the days that changed.
    pub counted: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    /// The decision on each item, in order.
    pub decisions: Vec<Decision>,
    /// Visits ended by timers, by the directory or by coming in elsewhere.
    pub ended: Vec<(Subject, EndedVisit)>,
    /// Open visits that now have another pass end because of a version of the directory.
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
