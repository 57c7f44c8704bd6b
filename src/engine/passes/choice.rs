//! PURE. Chooses one of the passes that a person may use, and finds what is wrong with the others.
//!
//! The order, where each rule only breaks the ties that those before it leave: the pass of a visit elsewhere that this
//! entry ended; a day pass that this person has begun today (the day is paid); priority high, normal, low; day passes
//! before time passes; the cheaper one; granted by a plan or product before added by hand; valid at fewer businesses
//! before more; more left on it; own before shared by a team; the smaller number.

use std::{
    cmp::{Ordering, Reverse},
    collections::BTreeMap,
    time::Duration,
};

use chrono::NaiveDate;

use super::{
    case::PassCase,
    pass_use::{PassEnd, PassKind, PassUse, Refused},
    slots,
    usage::{Spent, Used},
};
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CoworkerId, CoworkerTimePassId},
    },
    directory::catalogue::{HeldPass, Moment, Places, Price, Priority, TimePass},
    engine::decision::Reason,
};

/// No pass is valid.
#[derive(Debug)]
pub(super) struct NoPassFits {
    /// Why the nearest miss is not valid.
    pub(super) nearest: Option<Refused>,
    /// One would be valid at a door.
    pub(super) good_at_a_door: bool,
}

/// A valid pass.
struct Candidate<'a> {
    pass: &'a HeldPass,
    begun: bool,
    /// Days of a day pass, seconds of a time pass.
    left: u64,
    ends: Option<(WallTime, PassEnd)>,
}

/// How many businesses a sentence names; it only counts the others.
const PLACES: usize = 3;

/// The sort key of a pass: the best pass has the smallest one.
type PassRank = (bool, bool, Priority, bool, Price, bool, usize, Reverse<u64>, bool, CoworkerTimePassId);

/// Returns the pass to use.
///
/// # Errors
/// The nearest miss, if there is any pass.
pub(super) fn choose(case: &PassCase<'_>) -> Result<PassUse, NoPassFits> {
    let mut best: Option<(PassRank, Candidate<'_>)> = None;
    let mut nearest: Option<(&HeldPass, Reason)> = None;
    let mut good_at_a_door = false;
    for pass in case.directory.usable(case.ask.coworker.id) {
        match judge(case, pass) {
            Ok(candidate) => {
                let rank = rank(case, &candidate);
                if best.as_ref().is_none_or(|(known, _)| rank < *known) {
                    best = Some((rank, candidate));
                }
            }
            Err(reason) => {
                good_at_a_door |= reason == Reason::PassNoNetwork && !is_in_use(case, pass);
                if nearest.is_none_or(|known| nearer(case, (pass, reason), known).is_gt()) {
                    nearest = Some((pass, reason));
                }
            }
        }
    }
    let Some((_, candidate)) = best else {
        return Err(NoPassFits { nearest: nearest.map(|(pass, reason)| refused(case, pass, reason)), good_at_a_door });
    };
    Ok(candidate.used())
}

/// The pass with this identity, if they may use it and it is valid.
pub(super) fn only(case: &PassCase<'_>, guid: uuid::Uuid) -> Option<PassUse> {
    let pass = case.directory.usable(case.ask.coworker.id).find(|pass| pass.guid == guid)?;
    judge(case, pass).ok().map(Candidate::used)
}

impl Candidate<'_> {
    fn used(self) -> PassUse {
        let Self { pass, ends, .. } = self;
        PassUse {
            guid: Some(pass.guid),
            time_pass: pass.kind.id,
            kind: if pass.kind.minutes.is_some() { PassKind::Time } else { PassKind::Day },
            counts_towards_plan_limits: pass.kind.counts_towards_plan_limits,
            ends,
        }
    }
}

/// The reasons in the order of the checks, from what cannot be helped to what time or another way in solves. Of several
/// passes, the one that passed the most checks is reported.
const NEARNESS: [Reason; 8] = [
    Reason::PassArchived,
    Reason::PassNotForCustomer,
    Reason::PassOtherBusiness,
    Reason::PassExpired,
    Reason::PassUsedUp,
    Reason::PassOutsideHours,
    Reason::PassNoNetwork,
    Reason::PassInUse,
];

fn judge<'a>(case: &PassCase<'_>, pass: &'a HeldPass) -> Result<Candidate<'a>, Reason> {
    // The checks run in the order of `NEARNESS`.
    let at = case.ask.at;
    case.fits(&pass.kind)?;
    let expires = pass.expires().map(|moment| case.end_of(moment));
    if expires.is_some_and(|expires| expires <= at) {
        return Err(Reason::PassExpired);
    }
    let begun = pass.kind.minutes.is_none() && begun(case, pass);
    let left = if pass.kind.minutes.is_some() { seconds_left(case, pass) } else { days_left(case, pass) };
    if left == 0 && !begun {
        return Err(Reason::PassUsedUp);
    }
    let until = case.fits_now(&pass.kind)?;
    if is_in_use(case, pass) {
        return Err(Reason::PassInUse);
    }
    let used_up = pass.kind.minutes.map(|_| (case.ask.from.plus(Duration::from_secs(left)), PassEnd::MinutesUsedUp));
    let ends = [used_up, until.map(|until| (until, PassEnd::SlotEnds)), expires.map(|at| (at, PassEnd::Expires))];
    Ok(Candidate { pass, begun, left, ends: ends.into_iter().flatten().min() })
}

fn rank(case: &PassCase<'_>, candidate: &Candidate<'_>) -> PassRank {
    let Candidate { pass, begun, left, ends: _ } = candidate;
    (
        case.ask.continued != Some(pass.guid),
        !begun,
        pass.kind.priority,
        pass.kind.minutes.is_some(),
        pass.price,
        !pass.granted,
        pass.kind.places.number(),
        Reverse(*left),
        pass.holder != case.ask.coworker.id,
        pass.id,
    )
}

/// Whether this person has already used the pass on this pass day.
fn begun(case: &PassCase<'_>, pass: &HeldPass) -> bool {
    let (id, today) = (case.ask.coworker.id, case.day.date);
    let before = used(case, pass).any(|used| used.coworker == id && used.on(today));
    let now = || visits(case, pass).any(|visit| visit.coworker == id && visit.day.date == today);
    let imported = || {
        pass.used().filter(|_| pass.holder == id).is_some_and(|used| match used {
            Moment::Date(date) => date == today,
            Moment::Instant(at) => case.day.contains(at),
        })
    };
    before || now() || imported()
}

/// What each person has used of a pass, not counting visits that may still change.
fn used<'a>(case: &'a PassCase<'_>, pass: &HeldPass) -> impl Iterator<Item = &'a Used> {
    case.usage.passes.get(&pass.guid).into_iter().flatten()
}

/// The visits on this pass that may still change.
fn visits<'a>(case: &'a PassCase<'_>, pass: &HeldPass) -> impl Iterator<Item = &'a Spent> {
    let guid = pass.guid;
    case.also.iter().filter(move |visit| visit.pass == Some(guid))
}

/// The days left on a day pass. Each person's pass day is one use, counted if it began after the import that set what
/// was left. Days are distinguished by date, so the same date at another business with another cut-off is the same day.
fn days_left(case: &PassCase<'_>, pass: &HeldPass) -> u64 {
    let before: u64 = used(case, pass).map(|used| u64::from(used.since(pass.basis_at).0)).sum();
    let mut now: BTreeMap<(CoworkerId, NaiveDate), WallTime> = BTreeMap::new();
    for visit in visits(case, pass) {
        let date = visit.day.date;
        let known = used(case, pass).any(|used| used.coworker == visit.coworker && used.on(date));
        if !known {
            let first = now.entry((visit.coworker, date)).or_insert(visit.from);
            *first = visit.from.min(*first);
        }
    }
    let now = now.values().filter(|first| **first >= pass.basis_at).count() as u64;
    u64::from(pass.left).saturating_sub(before + now)
}

/// The seconds left on a time pass. The number in the import includes visits that ended before it. For a person who
/// came before the first known import, all visits that may still change count: no pass lasts forever. An edit may keep
/// a visit open for longer than its pass lasts.
fn seconds_left(case: &PassCase<'_>, pass: &HeldPass) -> u64 {
    let at = case.ask.at;
    let open = |used: &Used| used.open.map_or(0, |from| at.since(from).as_secs());
    let before: u64 = used(case, pass).map(|used| used.since(pass.basis_at).1 + open(used)).sum();
    let counts = |to: WallTime| to >= pass.basis_at || at < pass.basis_at;
    let counted = visits(case, pass).filter(|visit| visit.to.is_none_or(counts));
    let now: u64 = counted.map(|visit| visit.present(at)).sum();
    (u64::from(pass.left) * 60).saturating_sub(before + now)
}

/// Whether it is a time pass that an open visit is using. Several people can use a day pass at once.
fn is_in_use(case: &PassCase<'_>, pass: &HeldPass) -> bool {
    pass.kind.minutes.is_some() && in_use_since(case, pass).is_some()
}

/// Since when an open visit has been using the pass. Minutes are used by one visit at a time. The platform's own list
/// of check-ins (`CheckedIn`) is ignored: it is as old as the import, and would lock people out until the next one.
fn in_use_since(case: &PassCase<'_>, pass: &HeldPass) -> Option<WallTime> {
    let at = case.ask.at;
    let known = used(case, pass).filter_map(|used| used.open);
    let now = visits(case, pass).filter(|visit| visit.to.is_none_or(|to| at < to));
    known.chain(now.map(|visit| visit.from)).filter(|from| *from <= at).min()
}

/// Compares two misses; the greater one is reported to the front desk: the nearer by [`NEARNESS`], then the later of
/// two that have expired, own before shared, the smaller number.
fn nearer(case: &PassCase<'_>, one: (&HeldPass, Reason), other: (&HeldPass, Reason)) -> Ordering {
    let key = |(pass, reason): (&HeldPass, Reason)| {
        let near = NEARNESS.iter().position(|known| *known == reason);
        let expired = pass.expires().filter(|_| reason == Reason::PassExpired).map(|moment| case.end_of(moment));
        (near, expired, pass.holder == case.ask.coworker.id, Reverse(pass.id))
    };
    key(one).cmp(&key(other))
}

fn refused(case: &PassCase<'_>, pass: &HeldPass, reason: Reason) -> Refused {
    let name = &pass.kind.name;
    let whose = case.directory.coworker(pass.holder).filter(|holder| holder.id != case.ask.coworker.id);
    let whose = whose.map_or_else(String::new, |holder| format!(" of {}", holder.full_name));
    let expires = pass.expires().filter(|_| reason == Reason::PassExpired);
    let since = in_use_since(case, pass).filter(|_| reason == Reason::PassInUse);
    let more = if let Some(expires) = expires {
        match expires {
            Moment::Date(date) => format!(" was valid until the end of {date}"),
            Moment::Instant(at) => format!(" expired on {}", case.face(at)),
        }
    } else if let Some(since) = since {
        format!(" has been in use since {}", case.face(since))
    } else if reason == Reason::PassOutsideHours {
        format!(" is valid {}", slots::hours(&pass.kind, case.calendar, case.ask.at))
    } else if reason == Reason::PassOtherBusiness {
        format!(" is valid at {}", places(&pass.kind, case))
    } else {
        String::new()
    };
    Refused { reason, detail: Some(format!("\"{name}\"{whose}{more}").into()) }
}

/// The names of the first few businesses where it is valid.
fn places(kind: &TimePass, case: &PassCase<'_>) -> String {
    let Places::Only(list) = &kind.places else { return "every business".to_owned() };
    let name = |id: &BusinessId| {
        case.directory.business(*id).map_or_else(|| format!("business {id}"), |name| format!("\"{name}\""))
    };
    let more = if list.len() > PLACES { format!(" and {} more", list.len() - PLACES) } else { String::new() };
    list.iter().take(PLACES).map(name).collect::<Vec<_>>().join(", ") + &more
}
