//! PURE. What the visits of one coworker cost that no pass of theirs covers.

use std::collections::BTreeMap;

use crate::{
    clock::WallTime,
    directory::Directory,
    engine::{
        Visit,
        calendar::Calendar,
        passes::{PassKind, PayAsYouGo, Usage, payg},
    },
    store::NewCharge,
};

/// What a charge depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Till<'a> {
    pub(super) directory: &'a Directory,
    pub(super) rules: &'a PayAsYouGo,
    pub(super) calendar: &'a Calendar,
    pub(super) usage: &'a Usage,
}

impl Till<'_> {
    /// The charges to be written for visits (earliest first, one coworker's) that were different `before`: those of the
    /// changed ones, and of later ones of the same pass day, because a day has a least and a greatest price.
    pub(super) fn charges(&self, visits: &[&Visit], before: &[Visit]) -> Vec<NewCharge> {
        let mut days: BTreeMap<WallTime, (payg::Charged, bool)> = BTreeMap::new();
        let paid_now = |id| visits.iter().any(|visit| visit.unique_id == id && assigned(visit).is_some());
        let gone = before.iter().filter(|known| assigned(known).is_some() && !paid_now(known.unique_id));
        // Later visits of a day on which one is paid no more may cost more.
        let fewer: Vec<WallTime> = gone.map(|known| self.calendar.pass_day(known.from).start).collect();
        let mut charges = Vec::new();
        for visit in visits {
            let Some(time_pass) = assigned(visit).and_then(|id| self.directory.time_pass(id)) else { continue };
            let pass_day = self.calendar.pass_day(visit.from).start;
            let known = || self.usage.charges.get(&(visit.coworker, pass_day)).cloned().unwrap_or_default();
            let (paid, changed) = days.entry(pass_day).or_insert_with(|| (known(), fewer.contains(&pass_day)));
            let charge = payg::charge(time_pass, self.rules, visit.from, visit.to, paid);
            paid.add(time_pass.id, charge.unbounded, charge.amount);
            *changed |= before.iter().find(|before| before.unique_id == visit.unique_id).is_none_or(|before| {
                (before.from, before.to, assigned(before)) != (visit.from, visit.to, assigned(visit))
            });
            if *changed {
                charges.push(NewCharge {
                    checkin: visit.unique_id,
                    coworker: visit.coworker,
                    business: visit.business,
                    time_pass: time_pass.id,
                    pass_day,
                    from: visit.from,
                    to: visit.to,
                    charge,
                });
            }
        }
        charges
    }
}

/// The kind of pass that was assigned to a visit on the spot.
pub(super) fn assigned(visit: &Visit) -> Option<crate::record::TimePassId> {
    visit.pass.as_ref().filter(|pass| pass.kind == PassKind::PayAsYouGo).map(|pass| pass.time_pass)
}
