//! PURE. What a wish about a check-in means: the interval that it sets, or why it cannot be.

use std::time::Duration;

use crate::{
    base::{
        clock::WallTime,
        fact::{EditedEnd, TimeSpan},
        record::{BusinessId, Checkin, CheckinId},
    },
    policy::calendar::Calendar,
};

/// How far ahead of our clock a time may be: one client sends London wall time with a false `Z`, which is an hour ahead
/// in summer, and clocks of kiosks are seldom worse. Such a time counts as now; a later one is a fault.
const AHEAD: Duration = Duration::from_hours(2);

/// Something that keeps a wish from being carried out, and the key of the body that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditFault {
    /// Such as `FromTime`.
    pub key: &'static str,
    /// What is wrong with its value, after its name.
    pub message: String,
}

impl EditFault {
    pub(super) fn new(key: &'static str, message: impl Into<String>) -> Self {
        Self { key, message: message.into() }
    }
}

/// The interval that a wish names, before it is compared with our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedTimes {
    /// Its beginning.
    pub from: WallTime,
    /// Its end; `None` for an open check-in.
    pub to: Option<WallTime>,
}

/// What an edit will set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlannedSet {
    pub(super) from: WallTime,
    pub(super) end: EditedEnd,
    /// What the check-in lasts by it, as far as it is known now.
    pub(super) span: TimeSpan,
}

/// The interval of a new check-in.
pub(super) fn created(wanted: WantedTimes, now: WallTime, calendar: &Calendar) -> Result<PlannedSet, Vec<EditFault>> {
    let WantedTimes { from, to } = checked(wanted, now, calendar)?;
    Ok(PlannedSet {
        from,
        end: to.map_or(EditedEnd::Joins, EditedEnd::At),
        span: TimeSpan { from, to: to.unwrap_or(from.moved(1)) },
    })
}

/// The other interval of a check-in; `None` if it has that interval already.
pub(super) fn changed(
    known: &Checkin,
    wanted: WantedTimes,
    now: WallTime,
    calendar: &Calendar,
) -> Result<Option<PlannedSet>, Vec<EditFault>> {
    // The API shows whole seconds: who sends them back does not mean another instant.
    let as_known = |at: WallTime, known: Option<WallTime>| {
        let second = |at: WallTime| at.millis().div_euclid(1000);
        known.filter(|known| second(*known) == second(at)).unwrap_or(at)
    };
    let wanted = WantedTimes {
        from: as_known(wanted.from, Some(known.from_time)),
        to: wanted.to.map(|to| as_known(to, known.to_time)),
    };
    if (wanted.from, wanted.to) == (known.from_time, known.to_time) {
        return Ok(None);
    }
    let WantedTimes { from, to } = checked(wanted, now, calendar)?;
    let day = calendar.pass_day(known.from_time);
    if !day.contains(from) {
        let message = "is in another pass day than the check-in; delete it and create another";
        return Err(vec![EditFault::new("FromTime", message)]);
    }
    let end = match (to, known.to_time) {
        (Some(to), _) => EditedEnd::At(to),
        (None, None) => EditedEnd::Unset,
        (None, Some(_)) if now < day.end => EditedEnd::NotBefore(now),
        (None, Some(_)) => {
            let message = "is required: the pass day of the check-in is over, so it cannot be open";
            return Err(vec![EditFault::new("ToTime", message)]);
        }
    };
    Ok(Some(PlannedSet { from, end, span: TimeSpan { from, to: to.unwrap_or(now.max(from.moved(1))) } }))
}

/// The times, none of them ahead of our clock.
fn checked(wanted: WantedTimes, now: WallTime, calendar: &Calendar) -> Result<WantedTimes, Vec<EditFault>> {
    let mut faults = Vec::new();
    let mut past = |key: &'static str, at: WallTime| {
        if at > now.plus(AHEAD) {
            faults.push(EditFault::new(key, "is in the future"));
        }
        at.min(now)
    };
    let from = past("FromTime", wanted.from);
    let to = wanted.to.map(|to| past("ToTime", to));
    let day = calendar.pass_day(from);
    if to.is_some_and(|to| to < from) {
        faults.push(EditFault::new("ToTime", "is before FromTime"));
    } else if to.is_some_and(|to| to > day.end) {
        let cut_off = day.end.to_rfc3339_seconds();
        faults.push(EditFault::new("ToTime", format!("is after the daily cut-off that ends the check-in, {cut_off}")));
    }
    if faults.is_empty() { Ok(WantedTimes { from, to }) } else { Err(faults) }
}

/// What to do about check-ins of the same person that share an instant with a new one that has an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Overlap {
    /// There are none that matter.
    Free,
    /// This one lasts as long already.
    Covered(CheckinId),
    /// This one is extended: the person was in during both.
    Extends(CheckinId, WantedTimes),
    /// This one stands in the way.
    Blocked(CheckinId, BusinessId),
}

/// Compares a new check-in that has an end with the check-ins that share an instant with it, each with whether an edit
/// has set it.
pub(super) fn overlap(business: BusinessId, span: TimeSpan, others: &[(Checkin, bool)]) -> Overlap {
    if let Some((other, _)) = others.iter().find(|(other, _)| other.business_id != business) {
        return Overlap::Blocked(other.id, other.business_id);
    }
    let lasts = |other: &Checkin, to: WallTime| other.to_time.is_none_or(|end| end >= to);
    if let Some((other, _)) = others.iter().find(|(other, _)| other.from_time <= span.from && lasts(other, span.to)) {
        return Overlap::Covered(other.id);
    }
    // Those that doors and devices opened within it become part of it; one that begins before it, or that an edit has
    // set, is extended instead.
    let stays = |(other, edited): &&(Checkin, bool)| *edited || other.from_time < span.from;
    let mut standing = others.iter().filter(stays);
    match (standing.next(), standing.next()) {
        (None, _) => Overlap::Free,
        (Some((other, _)), None) => {
            let from = other.from_time.min(span.from);
            let to = other.to_time.map(|to| to.max(span.to));
            Overlap::Extends(other.id, WantedTimes { from, to })
        }
        (Some(_), Some((second, _))) => Overlap::Blocked(second.id, second.business_id),
    }
}

/// The check-in that stands in the way of a changed one: it is elsewhere, or an edit has set it.
pub(super) fn blocking(known: &Checkin, others: &[(Checkin, bool)]) -> Option<(CheckinId, BusinessId)> {
    let others = others.iter().filter(|(other, _)| other.id != known.id);
    let mut blocking = others.filter(|(other, edited)| *edited || other.business_id != known.business_id);
    blocking.next().map(|(other, _)| (other.id, other.business_id))
}
