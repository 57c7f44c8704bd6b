//! PURE. A fold in progress: everyone in it, the context of a claim at a business, and what was used of passes.

use std::collections::BTreeMap;

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    item::Upcoming,
    records::{FoldGroup, Folded},
    world::World,
};
use crate::{
    base::{
        clock::WallTime,
        fact::Subject,
        record::{BusinessId, CoworkerId},
    },
    engine::{
        admission::SiteAdmission,
        passes::{Counted, PlanUsed, Spent, Usage, Used},
        person::{ClaimContext, PersonState},
    },
};

/// The people in a fold, what they and others have used, and the records made so far.
pub(super) struct Folding<'w> {
    pub(super) world: World<'w>,
    others: BTreeMap<Uuid, Vec<Used>>,
    /// Totals towards plan limits: those known at the start, and those that the fold has changed.
    pub(super) totals: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    pub(super) folded: Folded,
    pub(super) upcoming: Upcoming,
}

impl<'w> Folding<'w> {
    pub(super) fn of(world: World<'w>, group: FoldGroup, upcoming: Upcoming) -> Self {
        let FoldGroup { people, others, mut totals } = group;
        for (coworker, person) in people.iter().filter_map(|(subject, person)| Some((subject.as_coworker()?, person))) {
            totals.extend(person.counted.days().iter().map(|(date, total)| ((coworker, *date), *total)));
        }
        let folded = Folded { people, ..Folded::default() };
        Self { world, others, totals, folded, upcoming }
    }

    /// Calls `then` with the rules and the admission of a business as they were at `at`; with `None` if there are no
    /// settings or the subject is not a coworker.
    pub(super) fn at_business<T>(
        &self,
        subject: Subject,
        business: BusinessId,
        at: WallTime,
        then: impl FnOnce(Option<&ClaimContext<'_>>, Option<&SiteAdmission<'_>>) -> T,
    ) -> T {
        let (Some(policy), Some(coworker)) = (self.world.policy(business, at), subject.as_coworker()) else {
            return then(None, None);
        };
        let rules = policy.rules();
        let usage = |person: &PersonState| self.usage(coworker, person);
        let admission = SiteAdmission {
            site: &policy.site,
            calendar: rules.calendar.clone(),
            directory: self.world.directory(at),
            coworker,
            usage: &usage,
        };
        let context = ClaimContext {
            business,
            rules: &rules,
            coverage: self.world.coverage(business),
            admission: &admission,
            idle_elsewhere: rules.idle_limit,
        };
        then(Some(&context), Some(&admission))
    }

    /// What this person and everyone else in the group have used. The person is separate because they have been taken
    /// out of the group.
    fn usage(&self, coworker: CoworkerId, person: &PersonState) -> (Usage, Vec<Spent>) {
        let mut usage = Usage::default();
        let mut also: Vec<Spent> = Vec::new();
        for (pass, used) in &person.used {
            usage.passes.entry(*pass).or_default().push(*used);
        }
        also.extend(person.visits.iter().map(|visit| visit.spent(coworker)));
        for (subject, other) in &self.folded.people {
            let Some(id) = subject.as_coworker() else { continue };
            for (pass, used) in &other.used {
                usage.passes.entry(*pass).or_default().push(*used);
            }
            also.extend(other.visits.iter().map(|visit| visit.spent(id)));
        }
        for (pass, others) in &self.others {
            usage.passes.entry(*pass).or_default().extend(others);
        }
        let totals = self.totals.range((coworker, NaiveDate::MIN)..=(coworker, NaiveDate::MAX));
        usage.plans.insert(coworker, PlanUsed(totals.map(|((_, date), total)| (*date, *total)).collect()));
        (usage, also)
    }
}
