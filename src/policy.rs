//! PURE. The settings of a site, now and in the past: settings are facts too.
//!
//! A fact is judged by the settings in force at its time, so a change of settings never changes an earlier record.

pub mod calendar;
pub mod door;
pub mod passes;
pub mod site;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use calendar::Calendar;
use door::Door;
use site::Site;

use crate::base::{clock::WallTime, record::BusinessId, version::VersionId, zone::Zone};

/// The greatest age of a fact that is still decided; older ones are only recorded. Controllers that buffer events keep
/// a week.
pub const LATEST: Duration = Duration::from_hours(8 * 24);

/// How far back the settings, the directory, checkpoints and coverage are kept: the greatest delay of a fact, plus the
/// longest pass day before it.
pub const HISTORY: Duration = Duration::from_hours(10 * 24);

/// How far a controller's clock may be ahead of ours. A fact further ahead comes from a wrong clock, and is decided
/// when its time has come.
pub const AHEAD: Duration = Duration::from_mins(5);

/// The rules of a site that the life cycle of a check-in depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Pass days and the business's wall clock.
    pub calendar: Calendar,
    /// A tracked check-in is closed after a silence longer than this.
    pub idle_limit: Duration,
    /// How long after an exit, or after the last lingering evidence, network evidence opens nothing.
    pub linger: Duration,
    /// The same credential at the same door again within this span is the same sighting.
    pub debounce: Duration,
    /// How long a person must have been in before a toggle door checks them out.
    pub toggle_minimum_stay: Duration,
    /// Every visit is a separate record, even with a day pass or without a pass.
    pub record_every_visit: bool,
}

/// The settings of one site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SitePolicy {
    /// `[site]`, `[pay_as_you_go]`.
    pub site: Site,
    /// `[[door]]`.
    pub doors: Vec<Door>,
}

impl SitePolicy {
    /// The rules for the engine.
    pub fn rules(&self) -> Rules {
        Rules {
            calendar: self.calendar(),
            idle_limit: self.site.idle_limit,
            linger: self.site.linger,
            debounce: self.site.debounce,
            toggle_minimum_stay: self.site.toggle_minimum_stay,
            record_every_visit: self.site.record_every_visit,
        }
    }

    /// Pass days and the wall clock.
    pub fn calendar(&self) -> Calendar {
        Calendar { zone: self.site.time_zone.clone(), cut_off: self.site.cut_off }
    }
}

/// The settings of every business that shares the database, each version with the instant from which it applies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyHistory {
    /// By business, earliest first.
    versions: BTreeMap<BusinessId, Vec<(WallTime, Arc<SitePolicy>)>>,
    /// The last version in the database.
    pub newest: VersionId,
}

impl PolicyHistory {
    /// A history with one version, in force from the beginning.
    pub fn only(policy: SitePolicy) -> Self {
        let mut history = Self::default();
        history.add(WallTime::from_millis(0), policy);
        history
    }

    /// The same with the current rules of the time zones, which past instants are judged by too.
    #[must_use]
    pub fn in_zones(&self, ruled: impl Fn(&Zone) -> Zone) -> Self {
        let mut all = Self { newest: self.newest, ..Self::default() };
        for (from, policy) in self.versions.values().flatten() {
            let site = Site { time_zone: ruled(&policy.site.time_zone), ..policy.site.clone() };
            all.add(*from, SitePolicy { site, doors: policy.doors.clone() });
        }
        all
    }

    /// The time zones of all versions.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.versions.values().flatten().map(|(_, policy)| &policy.site.time_zone)
    }

    /// Adds a version. Versions must be added in time order.
    pub fn add(&mut self, from: WallTime, policy: SitePolicy) {
        self.versions.entry(policy.site.business).or_default().push((from, Arc::new(policy)));
    }

    /// The settings of a business at an instant; before the first known version, that version.
    pub fn at(&self, business: BusinessId, at: WallTime) -> Option<&Arc<SitePolicy>> {
        let versions = self.versions.get(&business)?;
        let after = versions.partition_point(|(from, _)| *from <= at);
        versions.get(after.saturating_sub(1)).map(|(_, policy)| policy)
    }

    /// Whether these settings of a business are in it, in force from the same instant.
    fn contains(&self, (from, policy): &(WallTime, Arc<SitePolicy>)) -> bool {
        let versions = self.versions.get(&policy.site.business);
        versions.into_iter().flatten().any(|known| known.0 == *from && known.1 == *policy)
    }

    /// The current settings of a business, if another history does not contain them. The database has then been
    /// restored: it never forgets current settings.
    pub fn missing_in(&self, other: &Self, business: BusinessId) -> Option<&Arc<SitePolicy>> {
        let current = self.versions.get(&business)?.last()?;
        (!other.contains(current)).then_some(&current.1)
    }

    /// The current settings of a business.
    pub fn latest(&self, business: BusinessId) -> Option<&Arc<SitePolicy>> {
        self.versions.get(&business).and_then(|versions| versions.last()).map(|(_, policy)| policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_judged_by_the_settings_of_its_time() {
        let policy = |minutes| SitePolicy {
            site: Site { idle_limit: Duration::from_mins(minutes), ..site::test_site() },
            doors: Vec::new(),
        };
        let at = WallTime::from_millis;
        let mut history = PolicyHistory::default();
        history.add(at(1000), policy(1));
        history.add(at(2000), policy(2));
        let limit = |millis| history.at(BusinessId(1), at(millis)).map(|policy| policy.site.idle_limit.as_secs() / 60);
        assert_eq!([500, 1000, 1999, 2000, 9000].map(limit), [1, 1, 1, 2, 2].map(Some));
        assert_eq!(history.at(BusinessId(9), at(0)), None);
    }

    #[test]
    fn a_policy_is_kept_as_it_was() {
        let policy = SitePolicy { site: site::test_site(), doors: Vec::new() };
        let text = serde_json::to_string(&policy).expect("plain data");
        assert_eq!(serde_json::from_str::<SitePolicy>(&text).expect("reads"), policy);
    }
}
