//! PURE. What is needed to judge facts: the versions of the directory and the settings, coverage and the time.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::NaiveDate;

use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CoworkerId},
    },
    directory::{Directory, history::DirectoryHistory},
    engine::{coverage::Coverage, passes, person::Visit},
    policy::{PolicyHistory, SitePolicy},
};

/// What is needed to judge facts.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The directory, now and in the past.
    pub directories: &'a DirectoryHistory,
    /// The settings of the sites, now and in the past.
    pub policies: &'a PolicyHistory,
    /// The coverage of each business.
    pub coverage: &'a BTreeMap<BusinessId, Coverage>,
    /// The current time.
    pub now: WallTime,
    /// Silence before this instant is final: the captures have delivered all evidence up to it.
    pub quiet_until: WallTime,
}

impl World<'_> {
    pub(super) fn directory(&self, at: WallTime) -> &Directory {
        self.directories.at(at)
    }

    pub(super) fn policy(&self, business: BusinessId, at: WallTime) -> Option<&Arc<SitePolicy>> {
        self.policies.at(business, at)
    }

    pub(super) fn coverage(&self, business: BusinessId) -> &Coverage {
        static NONE: Coverage = Coverage::none();
        self.coverage.get(&business).unwrap_or(&NONE)
    }

    /// How long a device may be silent before an open visit ends.
    pub(super) fn idle_limit(&self, visit: &Visit) -> Duration {
        self.policy(visit.business, visit.last_activity).map_or(Duration::MAX, |policy| policy.site.idle_limit)
    }
}

/// The first day of each window that limits a person's plan at an instant.
pub fn window_starts(
    world: &World<'_>,
    coworker: CoworkerId,
    business: BusinessId,
    at: WallTime,
) -> BTreeSet<NaiveDate> {
    let Some(policy) = world.policy(business, at) else { return BTreeSet::new() };
    let directory = world.directory(at);
    let Some(known) = directory.coworker(coworker).filter(|known| known.tariff_id.is_some()) else {
        return BTreeSet::new();
    };
    let calendar = policy.calendar();
    let today = calendar.pass_day(at).date;
    passes::window_starts(directory, &policy.site.passes, &calendar, known, today)
}
