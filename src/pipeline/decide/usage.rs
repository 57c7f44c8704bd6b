//! PURE. The usage of passes and plans outside a fold, and the usage that the fold must write for others to read.

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveDate;
use uuid::Uuid;

use super::{groups::People, input::FoldInput};
use crate::{
    base::{clock::WallTime, fact::Subject, record::CoworkerId},
    directory::history::DirectoryHistory,
    engine::{
        fold::{self, Folded, World},
        passes::Used,
        person::PersonState,
    },
    store::{StoredPerson, Writes},
};

/// The totals towards plan limits to read: for each coworker, the last total before each of these days. They are the
/// first days of all windows in which a limit may be counted during the fold, unless the person's state already has an
/// earlier day.
pub(crate) fn totals_to_read(world: &World<'_>, inputs: &[FoldInput]) -> BTreeSet<(CoworkerId, NaiveDate)> {
    let mut totals = BTreeSet::new();
    for input in inputs {
        let versions = world.directories.between(input.begins(), world.now);
        for ((subject, business), instants) in input.instants() {
            let counted = input.group.people.get(&subject).and_then(|person| person.counted.days().first());
            // If nothing has been counted yet, there are no earlier totals.
            let Some((coworker, (known_from, _))) = subject.as_coworker().zip(counted) else { continue };
            // After a visit ends automatically, another may begin on the day of a fact, on the day of a version or
            // today.
            for at in instants.iter().chain(&versions).chain([&world.now]) {
                let starts = fold::window_starts(world, coworker, business, *at);
                totals.extend(starts.into_iter().filter(|first| first <= known_from).map(|first| (coworker, first)));
            }
        }
    }
    totals
}

/// Adds to each input the usage of its passes by people who are not folded.
pub(crate) fn add_usage(inputs: &mut [FoldInput], users: Vec<(Uuid, Subject, Used)>) {
    let mut by_pass: BTreeMap<Uuid, Vec<(Subject, Used)>> = BTreeMap::new();
    for (pass, subject, used) in users {
        by_pass.entry(pass).or_default().push((subject, used));
    }
    if by_pass.is_empty() {
        return;
    }
    for FoldInput { group, passes, .. } in inputs {
        for (pass, users) in passes.iter().filter_map(|pass| by_pass.get_key_value(pass)) {
            let others = users.iter().filter(|(subject, _)| !group.people.contains_key(subject));
            group.others.entry(*pass).or_default().extend(others.map(|(_, used)| *used));
        }
    }
}

/// Everyone who holds passes that the people of an input may use, but is not folded.
pub(in crate::pipeline) fn absent_holders(inputs: &[FoldInput]) -> People {
    let absent = |input: &FoldInput| {
        input.holders.iter().filter(|holder| !input.current.contains_key(holder)).copied().collect::<People>()
    };
    inputs.iter().filter(|input| input.shares_passes).flat_map(absent).collect()
}

/// Replaces the stored usage of these holders with that in their own states: only the states contain what they used
/// before the pass was shared.
pub(in crate::pipeline) fn use_states_of_holders(
    users: &mut Vec<(Uuid, Subject, Used)>,
    holders: &BTreeMap<Subject, StoredPerson>,
    passes: &BTreeSet<Uuid>,
    directories: &DirectoryHistory,
) {
    users.retain(|(_, subject, _)| !holders.contains_key(subject));
    for (subject, coworker, person) in
        holders.iter().filter_map(|(subject, known)| Some((*subject, subject.as_coworker()?, &known.person)))
    {
        let used =
            person.uses(coworker, |pass| passes.contains(pass), |pass| basis_of(directories, coworker, person, pass));
        users.extend(used.into_iter().map(|(pass, used)| (pass, subject, used)));
    }
}

/// The time from which usage of a pass is counted, according to the directory at the person's last fold.
fn basis_of(
    directories: &DirectoryHistory,
    coworker: CoworkerId,
    person: &PersonState,
    pass: Uuid,
) -> Option<WallTime> {
    directories.at(person.folded.at).pass(coworker, pass).map(|held| held.basis_at)
}

/// Writes people's usage of passes that others may use too, for the others to read. Usage by a person who has left the
/// team still counts.
pub(super) fn write_shared_usage(
    folded: &Folded,
    current: &BTreeMap<Subject, StoredPerson>,
    shares_passes: bool,
    world: &World<'_>,
    writes: &mut Writes,
) {
    for (subject, person) in &folded.people {
        let Some(coworker) = subject.as_coworker() else { continue };
        let directory = world.directories.latest();
        let is_own = |pass: &Uuid| directory.own_passes(coworker).any(|held| held.guid == *pass);
        let basis_of = |pass| basis_of(world.directories, coworker, person, pass);
        let read_by_others = |pass: &Uuid| shares_passes || !is_own(pass);
        let mut uses = person.uses(coworker, read_by_others, basis_of);
        // Usage that a refold has undone is written as zero, which frees the pass.
        if let Some(before) = current.get(subject) {
            for (pass, used) in before.person.uses(coworker, read_by_others, basis_of) {
                uses.entry(pass).or_insert(Used::nothing(coworker, used.basis_at));
            }
        }
        writes.pass_usage.extend(uses.into_iter().map(|(pass, used)| (pass, *subject, used)));
    }
}
