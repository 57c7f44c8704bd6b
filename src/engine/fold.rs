//! PURE. The only code that makes records: it turns people as they were and the facts since then into people as they
//! are, with every record made on the way.
//!
//! People who may use the same passes are folded together, because what one of them does can decide whether the next
//! may come in. Usually that is one person. Records are keyed by identity; the caller works out which are new or
//! different.

mod deciding;
mod folding;
mod item;
mod recording;
mod records;
mod timers;
mod world;

pub use item::{FoldItem, What};
pub use records::{
    ChargeRecord, FailureRecord, FoldGroup, Folded, Opened, Repassed, VisitRecord, device_failure, door_failure,
};
pub use timers::{deadline, silence_behind};
pub use world::{World, window_starts};

use std::{collections::BTreeSet, time::Duration};

use folding::Folding;
use item::Upcoming;
use recording::add_charge;

use super::{
    Admission, Decision,
    decision::Reason,
    passes::{Refused, payg},
};
use crate::base::{
    clock::WallTime,
    fact::{FactRank, Subject},
    record::{BusinessId, CheckinSource, CoworkerId},
};

/// Folds the items in order, with the timers between them and up to now.
pub fn fold(world: World<'_>, group: FoldGroup, items: &[FoldItem<'_>]) -> Folded {
    let upcoming = Upcoming::of(items);
    let since = group.people.values().map(|person| person.folded.at).min();
    let mut versions = world.directories.between(since, world.now).into_iter().peekable();
    let mut folding = Folding::of(world, group, upcoming);
    let mut decisions: Vec<Option<Decision>> = vec![None; items.len()];
    let mut order: Vec<usize> = (0..items.len()).collect();
    for step in 0..items.len() {
        // Events before the item come first: new versions of the directory, and timers that expire.
        let at = items[order[step]].place.at;
        // An edit comes before a version of its instant, and before what other edits begin then.
        let is_edit = items[order[step]].place.rank == FactRank::Edit;
        while let Some(version) = versions.next_if(|version| *version < at || *version == at && !is_edit) {
            folding.run_timers(version, &BTreeSet::new());
            folding.new_directory(version);
        }
        let leaving = folding.leaving(order[step..].iter().map(|index| &items[*index]), at);
        folding.run_timers_before(at, &leaving, is_edit);
        // Among items at the same instant, the one that fits the person's phase comes first.
        let next = folding.pick_among_ties(items, &order[step..]);
        order[step..=step + next].rotate_right(1);
        let index = order[step];
        let item = &items[index];
        decisions[index] = Some(folding.decide(index, item));
    }
    folding.folded.decisions = decisions.into_iter().flatten().collect();
    // Events after the last item, up to now.
    for version in versions {
        folding.run_timers(version, &BTreeSet::new());
        folding.new_directory(version);
    }
    folding.run_timers(world.now, &BTreeSet::new());
    folding.finish()
}

/// Returns whether this person would be let in and by which pass, and what they have been charged so far in the pass
/// day.
pub fn ask(
    world: World<'_>,
    group: FoldGroup,
    coworker: CoworkerId,
    business: BusinessId,
    (at, by): (WallTime, CheckinSource),
) -> (Admission, payg::Charged) {
    let mut folding = Folding::of(world, group, Upcoming::default());
    folding.run_timers(at, &BTreeSet::new());
    let subject = Subject::coworker(coworker);
    let mut person = folding.folded.people.remove(&subject).unwrap_or_default();
    let refused = Admission::Refused(Refused { reason: Reason::CoworkerArchived, detail: None });
    // Coming in here would first end a visit elsewhere.
    let idle = person.open().map_or(Duration::ZERO, |open| world.idle_limit(open));
    let admission = match person.come_from_elsewhere(business, at, by, idle) {
        Ok(continued) => folding.at_business(subject, business, at, |_, admission| {
            admission.map_or(refused, |admission| admission.entitled((at, at), by, &person, continued))
        }),
        Err(note) => Admission::NotNow(note),
    };
    // The charges of visits that may still change are not in the state yet.
    let mut charged = person.charged.clone();
    for visit in &person.visits {
        if let Some(charge) = folding.charge(coworker, visit, &charged) {
            add_charge(&mut charged, &charge);
        }
    }
    let day = world.policy(business, at).map(|policy| policy.calendar().pass_day(at).start);
    let of_day = charged.into_iter().find(|known| known.business == business && Some(known.day) == day);
    (admission, of_day.map(|known| known.charged).unwrap_or_default())
}
