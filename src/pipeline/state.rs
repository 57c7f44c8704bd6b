//! What the pipeline needs from the daemon, and what it remembers between batches.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::{Notify, watch};

use super::{
    clock_step::stepped, coverage_log::CoverageLog, known_commits::KnownCommits, present_people::PresentPeople,
    unknown_devices::UnknownDevices,
};
use crate::{
    base::{
        clock::{BootTime, Clock, Now, WallTime},
        fact::Subject,
        health::Health,
        minute_count::MinuteCount,
        record::BusinessId,
        turns::Turn,
        version::VersionId,
        zone::Zone,
    },
    directory::{Directory, history::DirectoryHistory},
    metrics::Metrics,
    policy::{
        PolicyHistory, SitePolicy,
        calendar::{Calendar, PassDay},
    },
    source::network::coverage::SiteCoverage,
    spool::SpoolLink,
    store::{DatabaseNews, Store},
};

/// How often the loop runs while something waits for the next turn: a deadline that could not be decided yet, or a
/// silence that the next frame will prove.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How often the loop runs when nothing arrives and nothing is due. A step of the wall clock is noticed this late.
pub(super) const IDLE_TICK: Duration = Duration::from_secs(5);

/// The shortest wait in real time, if our clock runs faster than the machine's.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// What the pipeline needs from the daemon.
#[derive(Clone, Debug)]
pub struct Context {
    /// The clocks.
    pub clock: Clock,
    /// The database.
    pub store: Store,
    /// The site of this gateway.
    pub business: BusinessId,
    /// The settings of every site, current and past; a reload adds to them.
    pub policies: watch::Receiver<Arc<PolicyHistory>>,
    /// The directory, current and past; an import adds to it.
    pub directories: watch::Receiver<Arc<DirectoryHistory>>,
    /// Notified when the database has a newer version of either; `None` if no task would load it.
    pub stale: Option<Arc<Notify>>,
    /// What the shared database has answered last to the question that is asked for all parts; without it, the pipeline
    /// asks for itself.
    pub news: Option<watch::Receiver<Option<DatabaseNews>>>,
    /// The spool that feeds this pipeline, if there is one.
    pub spool: Option<SpoolLink>,
    /// The coverage of the captures.
    pub site_coverage: SiteCoverage,
    /// Conditions.
    pub health: Health,
    /// Metrics.
    pub metrics: Metrics,
    /// Reports every turn of the loop.
    pub turn: Turn,
}

/// What the condition on facts that were set aside says.
#[derive(Debug, Default)]
pub(super) struct AsideCount {
    /// How many facts were set aside in the time that is named.
    pub(super) facts: u64,
    /// When they were last counted in the table.
    pub(super) counted_at: Option<BootTime>,
}

/// The pipeline; see the module.
#[derive(Debug)]
pub struct Pipeline {
    pub(super) context: Context,
    /// What the shared database is known to have.
    pub(super) mark: KnownCommits,
    pub(super) present: PresentPeople,
    pub(super) coverage: CoverageLog,
    pub(super) rejections: MinuteCount,
    pub(super) unknown_devices: UnknownDevices,
    /// The pass day of the condition `unrecognised_flood`, and the number of sightings not recorded during it.
    pub(super) flood_day: Option<PassDay>,
    pub(super) left_out: u64,
    /// The clocks at the last turn. Open check-ins are written in this time until a step has been applied to them.
    pub(super) last_clocks: Option<Now>,
    /// When the condition `clock_stepped` was last raised.
    pub(super) stepped_at: Option<BootTime>,
    /// The past version of the directory that was loaded last, kept while late facts still need it.
    pub(super) past_directory: Option<Arc<Directory>>,
    /// The version of the directory with which everyone present was last folded.
    pub(super) reviewed_version: Option<VersionId>,
    /// When presences were last written.
    pub(super) presences_written_at: Option<BootTime>,
    /// The next deadline in the database, if any, and when it was read.
    pub(super) next_deadline: Option<(Option<WallTime>, BootTime)>,
    /// Whether presences are waiting in the queue: then no recent silence is decided, because one of them may break it.
    pub(super) presences_waiting: bool,
    /// People whose latest facts may come after a silence that only the next frame can confirm, and when that silence
    /// would have reached the idle limit. At most one instant per person.
    pub(super) unproven: BTreeMap<Subject, WallTime>,
    /// People whose state the database does not take, and since when they are left alone.
    pub(super) left_alone: BTreeMap<Subject, BootTime>,
    /// How many facts were set aside lately.
    pub(super) aside: AsideCount,
    /// The pass day for which open check-ins without a coworker have been ended; `None` if they must be looked for.
    pub(super) plain_day: Option<PassDay>,
}

impl Pipeline {
    /// A pipeline that has not started.
    pub fn new(context: Context) -> Self {
        Self {
            context,
            mark: KnownCommits::default(),
            present: PresentPeople::default(),
            coverage: CoverageLog::default(),
            rejections: MinuteCount::default(),
            unknown_devices: UnknownDevices::default(),
            flood_day: None,
            left_out: 0,
            last_clocks: None,
            stepped_at: None,
            past_directory: None,
            reviewed_version: None,
            presences_written_at: None,
            next_deadline: None,
            presences_waiting: false,
            unproven: BTreeMap::new(),
            left_alone: BTreeMap::new(),
            aside: AsideCount::default(),
            plain_day: None,
        }
    }

    /// The time in which open check-ins are written: the current time, but without a step that has not been applied to
    /// them yet.
    pub(super) fn now(&self) -> Now {
        let now = self.context.clock.now();
        match self.last_clocks.and_then(|last| stepped(last, now)) {
            Some(by) => Now { wall: now.wall.moved(-by), ..now },
            None => now,
        }
    }

    /// The current settings of the site.
    pub(super) fn policy(&self) -> Arc<SitePolicy> {
        let policies = self.context.policies.borrow();
        Arc::clone(
            policies.latest(self.context.business).expect("the site's own policy is known before the pipeline starts"),
        )
    }

    /// The newest loaded version of the directory.
    pub(super) fn directory_version(&self) -> VersionId {
        self.context.directories.borrow().latest().version_id()
    }

    /// How long the next turn may wait for arrivals: until the next deadline. An idle gateway wakes up rarely.
    pub(super) fn longest_wait(&self) -> Duration {
        let now = self.now().wall;
        let wait = match self.next_deadline {
            // It could not be decided yet, or has to be read first.
            None => TICK,
            Some((Some(next), _)) if next <= now => TICK,
            Some(_) if !self.unproven.is_empty() => TICK,
            Some((Some(next), _)) => next.since(now).min(self.context.clock.until_beat(IDLE_TICK)),
            Some((None, _)) => self.context.clock.until_beat(IDLE_TICK),
        };
        // A clock that runs faster than the machine's needs no more turns in its own time than thirty a wait.
        self.context.clock.real(wait * 30).clamp(SHORTEST_WAIT, wait.max(SHORTEST_WAIT))
    }

    /// Reports that the pipeline is working.
    pub(super) fn report_alive(&self) {
        self.context.turn.works();
    }
}

/// The calendar of a business at an instant; in UTC if its settings are no longer known.
pub(crate) fn calendar_of(policies: &PolicyHistory, business: BusinessId, at: WallTime) -> Calendar {
    let utc = Calendar { zone: Zone::utc(), cut_off: chrono::NaiveTime::MIN };
    policies.at(business, at).map_or(utc, |policy| policy.calendar())
}
