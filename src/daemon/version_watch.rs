//! Publishes new versions of the directory, the settings and the time zone data.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time,
};
use tokio_util::sync::CancellationToken;

use super::database_watch::News;
use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
        record::BusinessId,
        turns::Turn,
        version::VersionId,
        zone::Zone,
    },
    directory::{Directory, history::DirectoryHistory},
    pipeline::something_new,
    policy::PolicyHistory,
    settings::zones::{Stamp, Zones},
    source::network::coalesce::KnownMacs,
    store::{DatabaseNews, Store, StoreError, WriteStamp},
};

/// How often the versions are checked: an import takes effect within this time.
const EVERY: Duration = Duration::from_secs(5);

/// The shortest pause between two checks, in the machine's time, for a clock that runs faster than the machine's.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The conditions of a database that is away.
const OUTAGES: [ConditionKind; 3] =
    [ConditionKind::DatabaseUnavailable, ConditionKind::DatabaseSilent, ConditionKind::CommitUnanswered];

/// How long one check may take, with loading a large directory from a slow disk. Each of its questions to the database
/// has a shorter limit of its own.
const LONGEST_CHECK: Duration = Duration::from_secs(30);

/// Loads and publishes the directory and the sites' settings when the database has other versions. While
/// they cannot be read the last ones stay in force, so a half-failed import checks out no person.
#[derive(Debug)]
pub(super) struct VersionWatch {
    /// The site of this gateway.
    pub(super) business: BusinessId,
    pub(super) store: Store,
    pub(super) directories: watch::Sender<Arc<DirectoryHistory>>,
    pub(super) policies: watch::Sender<Arc<PolicyHistory>>,
    pub(super) known_macs: watch::Sender<KnownMacs>,
    pub(super) health: Health,
    pub(super) clock: Clock,
    /// Notified when the pipeline has seen a newer version.
    pub(super) stale: Arc<Notify>,
    pub(super) zones: Zones,
    /// The state of the zone data's files at the last check.
    pub(super) zone_stamps: Vec<Stamp>,
    pub(super) turn: Turn,
    /// When the SQLite file was last written to before the last check; `None` before it, and with PostgreSQL.
    pub(super) checked: Option<WriteStamp>,
    /// What a shared database has answered to the question that is asked for all parts; without it, this task asks for
    /// itself.
    pub(super) news: Option<News>,
    /// When the last check began.
    pub(super) checked_at: Option<BootTime>,
    /// When the first of the last checks began that have failed.
    pub(super) failing_since: Option<BootTime>,
}

/// What the question that is asked for all parts says about the versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// The newest ones of the directory and the settings.
    Newest(VersionId, VersionId),
    /// It was last asked before the last check, and will soon be asked again.
    NothingSince,
    /// It is not asked, or was not answered lately.
    Nothing,
}

impl VersionWatch {
    /// Checks every five seconds, and at once when the pipeline requests it, until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            self.check_zones();
            let pause = self.clock.real(EVERY).min(self.clock.until_beat(EVERY)).max(SHORTEST_PAUSE);
            self.turn.rests(pause);
            let told = tokio::select! {
                () = stop.cancelled() => return,
                () = self.stale.notified() => Told::Nothing,
                () = something_new(self.news.as_mut()) => self.told(),
                () = time::sleep(pause) => self.told(),
            };
            self.turn.works();
            if told == Told::NothingSince {
                continue;
            }
            let now = self.clock.now().boot;
            let checked = time::timeout(LONGEST_CHECK, self.check_versions(told)).await;
            self.checked_at = Some(now);
            match checked.unwrap_or(Err(StoreError::too_late())) {
                Ok(()) => {
                    self.failing_since = None;
                    self.health.clear(ConditionKind::DirectoryStale, "");
                }
                Err(error) => self.note_failure(&error, now),
            }
        }
    }

    /// What the database has told since the last check.
    fn told(&self) -> Told {
        let last = self.news.as_ref().and_then(|news| *news.borrow());
        match last.filter(|last| self.clock.now().boot.since(last.asked_at) < EVERY * 2) {
            Some(DatabaseNews { asked_at, .. }) if self.checked_at.is_some_and(|checked| asked_at <= checked) => {
                Told::NothingSince
            }
            Some(DatabaseNews { found: Some(found), .. }) => Told::Newest(found.directory, found.policy),
            Some(DatabaseNews { found: None, .. }) | None => Told::Nothing,
        }
    }

    /// Raises the condition, unless the whole database is away: that has a condition of its own. So with a shared database
    /// it must have answered since the first failure.
    fn note_failure(&mut self, error: &StoreError, now: BootTime) {
        let since = *self.failing_since.get_or_insert(now);
        let answers = self.news.as_ref().is_none_or(|news| news.borrow().is_some_and(|news| news.asked_at > since));
        let is_away = OUTAGES.into_iter().any(|kind| self.health.is_raised(kind, ""));
        if answers && !is_away {
            let detail = format!("{}; the last version stays in force", error.in_words("the database"));
            self.health.raise(ConditionKind::DirectoryStale, "", detail);
        }
    }

    /// Compares the versions in the database with the published ones, and publishes those that differ. A restored
    /// database may have older ones.
    async fn check_versions(&mut self, told: Told) -> Result<(), StoreError> {
        // A file that has not been written to since the last check is not even read.
        let stamp = self.store.write_stamp();
        if stamp.is_some() && stamp == self.checked {
            return Ok(());
        }
        let (newest_directory, newest_policy) = match told {
            Told::Newest(directory, policy) => (directory, policy),
            Told::Nothing | Told::NothingSince => self.store.newest().await?,
        };
        let published = self.directories.borrow().latest().version_id();
        if newest_directory != published {
            let newer = Arc::new(self.store.load_directory().await?);
            let versions = self.store.directory_versions().await?;
            tracing::info!(coworkers = newer.coworkers(), version = newer.version, "the directory has changed");
            // The captures first: if their table of unknown devices is full, they must not skip a device that the
            // pipeline would now recognise.
            self.known_macs.send_replace(known_macs(&newer));
            let history = self.directories.borrow().followed_by(newer, &versions);
            self.directories.send_replace(Arc::new(history));
        }
        let published = Arc::clone(&self.policies.borrow());
        if newest_policy != published.newest {
            let mut policies = self.zones.rule(&self.store.read_policies().await?);
            // A restored database does not have the settings with which this site runs.
            if let Some(current) = published.missing_in(&policies, self.business) {
                tracing::warn!("the database no longer has this site's settings; they are recorded again");
                policies = self.zones.rule(&self.store.policies(current, self.clock.now().wall).await?);
            }
            self.policies.send_replace(Arc::new(policies));
        }
        self.checked = stamp.filter(|stamp| stamp.is_settled(self.clock.now().wall));
        Ok(())
    }

    /// Reads the time zone data again when its files have changed. From then on the new rules apply to all instants.
    fn check_zones(&mut self) {
        // Reading the data is expensive, so the files' stamps are compared first.
        let published = Arc::clone(&self.policies.borrow());
        let stamps = self.zones.stamps(published.zones().map(Zone::name));
        if std::mem::replace(&mut self.zone_stamps, stamps.clone()) == stamps {
            return;
        }
        let newer = self.zones.opened_again();
        let ruled = newer.rule(&published);

        // A package update replaces every file; only zones whose rules differ matter here.
        let changed: BTreeSet<&str> = ruled
            .zones()
            .zip(published.zones())
            .filter(|(new, old)| !new.has_rules_of(old))
            .map(|(new, _)| new.name())
            .collect();
        if newer.version() != self.zones.version() || !changed.is_empty() {
            let (version, zones) = (newer.version(), changed.iter().copied().collect::<Vec<_>>().join(", "));
            tracing::info!(
                source = newer.source(),
                version,
                "the time zone data has changed; zones with other rules here: {zones:?}; times that controllers send \
                 without an offset are read by it after a reload"
            );
        }

        // A zone missing from the new data keeps the rules already read, but would prevent the next start.
        for gone in published.zones().map(Zone::name).filter(|name| newer.find(name).is_none()).collect::<BTreeSet<_>>()
        {
            let source = newer.source();
            tracing::warn!(
                source,
                "the time zone data no longer has {gone}, or its file is damaged; the rules that were read stay in force \
                 until checkind ends, and it will not start without them: repair the package tzdata"
            );
        }
        if !changed.is_empty() {
            self.policies.send_replace(Arc::new(ruled));
        }
        self.zones = newer;
    }
}

/// The MAC addresses of people's devices, for the captures.
pub(super) fn known_macs(directory: &Directory) -> KnownMacs {
    Arc::new(directory.known_macs().collect())
}
