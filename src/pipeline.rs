//! The one task that decides: receive, load, fold, commit, acknowledge.
//!
//! Whatever has queued up becomes one batch and mostly one transaction, with as many statements for all as for one.
//! Receipts are spent in the order of arrival, after the commit. While the database is away the batch waits, nothing more
//! is taken from the queues, and so the broker keeps what we have not acknowledged.
//!
//! What decides is pure and elsewhere: `intake` makes facts, `decide` folds them and says what changes. Here is when that
//! happens: when something arrives, when a deadline in the database has come, when the directory changes, when the clock is
//! stepped.

mod adopt;
mod clock_step;
mod coverage_log;
pub(crate) mod decide;
mod intake;
mod of_then;
mod present;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    base::{
        backoff::Backoff,
        clock::{BootTime, CONFIRMED_AFTER, Clock, EARLIEST, FIRST_SYNC, Now, WallTime},
        fact::{DoorFact, Fact, FactDigest, LogDay, Recognised, RejectedFact, Subject},
        health::{ConditionKind, Health},
        mac::MacAddr,
        random,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot},
        sighting::{Presence, Sighting},
        zone::Zone,
    },
    directory::{Directory, history::DirectoryHistory},
    engine::{
        coverage::Coverage,
        decision::{DecisionCode, Outcome, Reason},
        fold::{self, FailureRecord, Opened, World},
        passes::Refused,
        person::PersonState,
    },
    mapping::content::Content,
    metrics::{Metrics, Queue},
    policy::{
        HISTORY, PolicyHistory, SitePolicy,
        calendar::{Calendar, PassDay},
    },
    source::{Delivery, Presences, network::coverage::SiteCoverage},
    store::{Batch, BatchRows, DecidedFact, Store, StoreError, Writes},
};
use clock_step::{ClockStep, retime, retimed_presence, stepped};
use coverage_log::CoverageLog;
use decide::{Decided, GroupCase, RefoldInput, UnloggedPoint};
use intake::{FactReader, Intake};
use present::{Presents, UnknownDeviceRecord};

pub use present::UNRECOGNISED_A_DAY;

/// Messages in one batch, at most. A thousand rows are a few hundred kilobytes and some ten milliseconds; more would
/// make the first of them wait for the last without saving round trips worth naming.
const BATCH: usize = 1000;

/// Facts in one transaction, at most: some 20 MB with everything that is made of them. A message may hold many events;
/// what is beyond is the next transaction.
const FACTS: usize = 16_384;

/// People in one transaction, at most: their states are read and written, some 2 MB.
const PEOPLE: usize = 2000;

/// Deadlines that are looked at in one transaction, at most; the rest in the next.
const TIMERS: usize = 1000;

/// How often the loop turns when nothing arrives. A check-out is at most this late.
const TICK: Duration = Duration::from_secs(1);

/// How often it is asked when the next deadline comes, where another gateway may have written it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// A visit begins at most so long before the fact that opens it: within its pass day, of which the longest has an hour more
/// than others.
const LONGEST_DAY: Duration = Duration::from_hours(25);

/// How often presences that only go on, and with them the coverage, are written down: so much a crash can forget, of both.
const WRITE_EVERY: Duration = Duration::from_secs(60);

/// How often the coverage is written down while no presence is: so much silence a crash can forget.
const COVERAGE_EVERY: Duration = Duration::from_secs(30);

/// Between two attempts after the database failed. When it is back, we notice within the longest pause.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// How long one try may take: a server that has gone away without a word would hold it for ever. Ten times the longest
/// batch that was ever seen on a slow disk, and below the time after which the watchdog calls the pipeline stuck.
const LONGEST_TRY: Duration = Duration::from_secs(30);

/// How long it may take to read an earlier version of the directory: of a hundred thousand people, some seconds on a slow disk.
const LONGEST_RECALL: Duration = Duration::from_mins(2);

/// How long a newer version of the directory or the settings is waited for before it is asked about again.
const STALE: Duration = Duration::from_millis(500);

/// Conflicts in a row that are tried again without a pause: each means that another gateway got on with its work.
const CONFLICTS: u32 = 10;

/// Rejected messages that get a line in the log, per minute; the rest are counted. Enough to see what a
/// controller sends, too little to fill a disk.
const REJECTIONS_A_MINUTE: u32 = 30;

/// How long a step that was believed stays a condition.
const STEP_REMEMBERED: Duration = Duration::from_mins(10);

/// Why the pipeline ended.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The database cannot be used at all.
    #[error("the pipeline cannot go on")]
    Store(#[from] StoreError),
    /// The deadline of the shutdown came while the database was away; what was not committed was not acknowledged.
    #[error("stopped before the last batch was committed; it will come again, from the spool or the broker")]
    GaveUp,
}

/// What the pipeline needs from the daemon.
#[derive(Clone, Debug)]
pub struct Context {
    /// The time.
    pub clock: Clock,
    /// Where everything is written.
    pub store: Store,
    /// The site that this gateway stands in.
    pub business: BusinessId,
    /// What sites decide by, and did; a reload adds to it.
    pub policies: watch::Receiver<Arc<PolicyHistory>>,
    /// Who is who, and was; an import adds to it.
    pub directories: watch::Receiver<Arc<DirectoryHistory>>,
    /// Told when the database has a newer version of either; none where no one would come.
    pub stale: Option<Arc<Notify>>,
    /// When the captures could hear.
    pub site_coverage: SiteCoverage,
    /// Conditions.
    pub health: Health,
    /// Figures.
    pub metrics: Metrics,
    /// Stamped at every turn of the loop, so that a supervisor sees that it turns.
    pub alive: watch::Sender<Option<BootTime>>,
}

/// The queues that the pipeline reads.
#[derive(Debug)]
pub struct Inputs {
    /// From the broker session.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// From the captures.
    pub presences: mpsc::Receiver<Presences>,
}

/// The pipeline; see the module.
#[derive(Debug)]
pub struct Pipeline {
    with: Context,
    presents: Presents,
    coverage: CoverageLog,
    rejections: RateLimit,
    flood_day: Option<PassDay>,
    /// The clocks at the last turn: open check-ins are written in this time, until a step has been taken over.
    clock_was: Option<Now>,
    stepped_at: Option<BootTime>,
    left_out: u64,
    /// The version of the directory that something late was last read by, while there is more of it.
    recalled: Option<Arc<Directory>>,
    /// The directory by which those who are in were last looked at.
    reviewed: Option<i64>,
    /// When presences were last written down.
    wrote_presences: Option<BootTime>,
    /// The next deadline that is known, and when it was asked for.
    next_deadline: Option<(Option<WallTime>, BootTime)>,
    /// Presences are waiting: no one is found silent, theirs may be among them.
    behind: bool,
    /// Of whom something was decided that may be otherwise: the instant of the silence before it, in time that was not
    /// known to be heard. One for each person at most.
    unproven: BTreeMap<Subject, WallTime>,
}

/// So many lines a minute.
#[derive(Clone, Copy, Debug, Default)]
struct RateLimit {
    minute: Option<BootTime>,
    used: u32,
}

impl RateLimit {
    fn take(&mut self, now: BootTime) -> bool {
        if self.minute.is_none_or(|minute| now.since(minute) >= Duration::from_mins(1)) {
            *self = Self { minute: Some(now), used: 0 };
        }
        self.used += 1;
        self.used <= REJECTIONS_A_MINUTE
    }
}

/// What is decided in one transaction.
#[derive(Clone, Copy, Debug)]
struct BatchWork<'a> {
    part: &'a Intake,
    /// People of whom nothing new is said, and who are looked at all the same.
    people: &'a BTreeSet<Subject>,
    /// Failed check-ins and facts of strange devices.
    strange: &'a [(FailureRecord, DecidedFact)],
    /// The wall clock was stepped: what it wrote of these people is moved, the check-ins of these among them.
    step: Option<(ClockStep, &'a BTreeSet<Subject>)>,
    /// The newest version of the directory when it was asked whose each fact is; none where there are no facts.
    read_by: Option<i64>,
    /// Everybody is folded again from this day: more is known to be heard than when something was decided.
    again_from: Option<LogDay>,
}

impl BatchWork<'_> {
    fn is_read_by(&self, directories: &DirectoryHistory) -> bool {
        self.read_by.is_none_or(|version| version == directories.latest().version)
    }
}

/// What of a batch has been committed, or needs no decision, where it has to be read again.
#[derive(Debug, Default)]
struct AlreadyCommitted {
    doors: BTreeSet<(WallTime, FactDigest)>,
    heard: BTreeSet<(MacAddr, WallTime)>,
    refreshed: u64,
    facts: usize,
}

impl AlreadyCommitted {
    fn leave_out(&self, intake: &mut Intake) {
        intake.doors.retain(|fact| !self.doors.contains(&said(fact)));
        intake.heard.retain(|heard| !self.heard.contains(&(heard.mac, heard.point.last_at)));
        intake.strange.retain(|fact| !self.heard.contains(&(fact.mac, fact.point.last_at)));
    }

    fn note(&mut self, part: &Intake) {
        self.doors.extend(part.doors.iter().map(said));
        self.heard.extend(part.heard.iter().map(|heard| (heard.mac, heard.point.last_at)));
        self.facts += part.len();
    }
}

/// What finds a fact of a batch again, whoever it is found to be of.
const fn said(fact: &DoorFact) -> (WallTime, FactDigest) {
    (fact.at, fact.digest)
}

/// What a committed transaction came to.
#[derive(Debug, Default)]
struct Done {
    outcomes: Vec<(Outcome, Option<Reason>)>,
    decided: Vec<Decided>,
    unproven: BTreeMap<Subject, WallTime>,
}

/// Does something with the database until it succeeds, see [`Pipeline::again`].
macro_rules! patiently {
    ($pipeline:ident, $deadline:expr, $work:expr) => {
        patiently!($pipeline, $deadline, $work, within LONGEST_TRY)
    };
    ($pipeline:ident, $deadline:expr, $work:expr, within $longest:expr) => {{
        let mut attempts = Attempts::default();
        loop {
            let tried = time::timeout($longest, $work).await;
            match tried.unwrap_or(Err(StoreError::too_late())) {
                Ok(value) => {
                    $pipeline.taken();
                    break value;
                }
                Err(error) => $pipeline.again(&mut attempts, error, $deadline).await?,
            }
        }
    }};
}

impl Pipeline {
    /// A pipeline that has not started.
    pub fn new(with: Context) -> Self {
        Self {
            with,
            presents: Presents::default(),
            coverage: CoverageLog::default(),
            rejections: RateLimit::default(),
            flood_day: None,
            clock_was: None,
            stepped_at: None,
            left_out: 0,
            recalled: None,
            reviewed: None,
            wrote_presences: None,
            next_deadline: None,
            behind: false,
            unproven: BTreeMap::new(),
        }
    }

    /// Runs until both queues are closed and empty, or `stop` says to close them; gives up at `deadline`.
    ///
    /// # Errors
    /// [`PipelineError::Store`] when the database can never be used, [`PipelineError::GaveUp`] at the deadline.
    pub async fn run(
        mut self,
        mut inputs: Inputs,
        stop: CancellationToken,
        deadline: CancellationToken,
    ) -> Result<(), PipelineError> {
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
        if !self.clock_set(&stop).await {
            return Ok(());
        }
        self.recover(&deadline).await?;
        let tick = self.with.clock.real(TICK * 30).clamp(Duration::from_millis(20), TICK);
        let mut deliveries = Vec::with_capacity(BATCH);
        let mut stopping = false;
        loop {
            let mut presences = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    inputs.deliveries.close();
                    inputs.presences.close();
                }
                taken = inputs.deliveries.recv_many(&mut deliveries, BATCH) => {
                    if taken == 0 {
                        // Closed and drained; the presences may not be.
                        while let Some(more) = inputs.presences.recv().await {
                            self.settle(&mut Vec::new(), more, &deadline).await?;
                        }
                        break;
                    }
                }
                Some(more) = inputs.presences.recv() => presences = more,
                () = time::sleep(tick) => {}
            }
            while presences.len() < BATCH
                && let Ok(more) = inputs.presences.try_recv()
            {
                presences.extend(more);
            }
            self.gauge(&inputs);
            self.watch_clock(&deadline).await?;
            self.behind = !inputs.presences.is_empty();
            if !deliveries.is_empty() || !presences.is_empty() {
                self.settle(&mut deliveries, presences, &deadline).await?;
            }
            self.turn(&deadline).await?;
        }
        // Best effort: at worst a minute of presences and coverage is forgotten, both alike.
        if let Ok(Err(error)) = time::timeout(RETRY.longest, self.write_presences()).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last presences were not written");
        }
        Ok(())
    }

    fn gauge(&self, inputs: &Inputs) {
        let metrics = &self.with.metrics;
        metrics.queue_depth(Queue::Deliveries, i64::try_from(inputs.deliveries.len()).unwrap_or(i64::MAX));
        metrics.queue_depth(Queue::Presences, i64::try_from(inputs.presences.len()).unwrap_or(i64::MAX));
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
    }

    /// What the site decides by now.
    fn policy(&self) -> Arc<SitePolicy> {
        let policies = self.with.policies.borrow();
        Arc::clone(
            policies.latest(self.with.business).expect("the site's own policy is known before the pipeline starts"),
        )
    }

    /// What is due besides what arrived: deadlines, presences and coverage to be written, a newer directory.
    async fn turn(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.now();
        self.prove(deadline).await?;
        let version = self.with.directories.borrow().latest().version;
        if self.reviewed != Some(version) {
            self.look_at_everybody(deadline).await?;
            self.reviewed = Some(version);
        }
        self.fire(deadline).await?;
        let every = WRITE_EVERY.min(self.policy().site.idle_limit / 4);
        if self.wrote_presences.is_none_or(|wrote| now.boot.since(wrote) >= every) {
            if !self.presents.unwritten(self.with.business).is_empty()
                || self.coverage.unwritten_for(now.boot) >= COVERAGE_EVERY
            {
                patiently!(self, deadline, self.write_presences());
            }
            self.wrote_presences = Some(now.boot);
            let over = self.presents.over(now.wall);
            if !over.is_empty() {
                self.look_at(&over, None, deadline).await?;
            }
        }
        Ok(())
    }

    /// Takes over what was heard, and folds those again before whose last facts a silence has become known by it.
    async fn prove(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.now();
        self.coverage.look(&self.with.site_coverage, now);
        let proven = self.coverage.proven(now);
        let mut by_day: BTreeMap<LogDay, BTreeSet<Subject>> = BTreeMap::new();
        for (subject, silence) in self.unproven.extract_if(.., |_, silence| *silence < proven) {
            by_day.entry(LogDay::of(silence)).or_default().insert(subject);
        }
        let part = Intake::default();
        for (day, people) in by_day {
            let again_from = Some(day);
            let work = BatchWork { part: &part, people: &people, strange: &[], step: None, read_by: None, again_from };
            self.decide(work, deadline).await?;
        }
        Ok(())
    }

    /// Reads from the database what a restart must know: when the captures could hear, devices already reported today; and
    /// looks at everybody who is in. What ended while we were away ends by that.
    async fn recover(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let adopting = async {
            while patiently!(self, deadline, self.adopt(), within adopt::LONGEST).is_none() {
                self.wait_for_newer().await;
            }
            Ok::<_, PipelineError>(())
        };
        tokio::select! {
            adopted = adopting => adopted?,
            () = deadline.cancelled() => return Err(PipelineError::GaveUp),
        }
        let now = self.now();
        let business = self.with.business;
        let stretches = patiently!(self, deadline, self.with.store.coverage(business, false, now.wall.minus(HISTORY)));
        self.coverage = CoverageLog::read(stretches.get(&business).map_or(&[], Vec::as_slice), now.wall);
        let day = self.policy().calendar().pass_day(now.wall);
        let reason = Reason::UnrecognisedDevice;
        let reported =
            patiently!(self, deadline, self.with.store.failed_devices(business, day.start, reason, UNRECOGNISED_A_DAY));
        self.presents.begin_day(day, reported.into_iter().map(|mac| (reason, mac)).collect());
        self.look_at_everybody(deadline).await?;
        self.reviewed = Some(self.with.directories.borrow().latest().version);
        tracing::info!(open = self.presents.len(), business = business.0, "open check-ins found");
        Ok(())
    }

    /// Folds everybody who is in here up to now: at start, and after an import, which may have taken away what they are in by.
    async fn look_at_everybody(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let business = self.with.business;
        let mut after = Subject(i64::MIN);
        loop {
            let people = patiently!(self, deadline, self.with.store.people_in(business, after, TIMERS));
            let Some(last) = people.last() else { return Ok(()) };
            after = *last;
            self.look_at(&people.into_iter().collect(), None, deadline).await?;
        }
    }

    /// Folds these people up to now.
    async fn look_at(
        &mut self,
        people: &BTreeSet<Subject>,
        step: Option<(ClockStep, &BTreeSet<Subject>)>,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let part = Intake::default();
        let work = BatchWork { part: &part, people, strange: &[], step, read_by: None, again_from: None };
        let done = self.decide(work, deadline).await?;
        let (closed, silent) = done
            .decided
            .iter()
            .fold((0, 0), |(closed, silent), decided| (closed + decided.ended, silent + decided.silent));
        if closed > 0 {
            tracing::info!(closed, silent, "checked out automatically");
        }
        Ok(())
    }

    /// Looks at those whose deadline has come.
    async fn fire(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let business = self.with.business;
        // Who has to be looked at again in a moment is so in the next turn: what arrives has its turn first.
        let now = self.now();
        loop {
            let asked = |at: &BootTime| now.boot.since(*at) < LOOK_EVERY;
            let known = self.next_deadline.filter(|(_, at)| !self.with.store.is_shared() || asked(at));
            if known.is_some_and(|(next, _)| next.is_none_or(|next| next > now.wall)) {
                return Ok(());
            }
            let due = patiently!(self, deadline, self.with.store.due(business, now.wall, TIMERS));
            if due.is_empty() {
                let next = patiently!(self, deadline, self.with.store.next_deadline(business));
                self.next_deadline = Some((next, now.boot));
                return Ok(());
            }
            self.look_at(&due.into_iter().collect(), None, deadline).await?;
            self.with.alive.send_replace(Some(self.with.clock.now().boot));
            if self.behind {
                // A silence that cannot be told yet comes again in the next turn.
                return Ok(());
            }
        }
    }

    /// Decides and commits one batch, then spends its receipts.
    async fn settle(
        &mut self,
        deliveries: &mut Vec<Delivery>,
        presences: Presences,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let began = self.with.clock.now().boot;
        let now = self.now();
        // Whatever has been handed over was heard.
        self.coverage.look(&self.with.site_coverage, now);
        for delivery in deliveries.iter_mut() {
            retime(delivery, now);
        }
        let presences: Presences = presences.into_iter().map(|presence| retimed_presence(presence, now)).collect();
        let mut rejected = self.rejected(deliveries, now);
        let mut over = AlreadyCommitted::default();
        // Whose card it was is asked again when a newer directory has come into force meanwhile.
        while !self.settle_once(deliveries, &presences, &mut rejected, &mut over, deadline).await? {}
        let facts = over.facts;
        let committed = self.with.clock.now().boot;
        for delivery in deliveries.drain(..) {
            if let Content::Sightings(sightings) = &delivery.content
                && let Some(sighting) = sightings.first().filter(|sighting| !sighting.arrived.boot.is_earlier())
            {
                self.with.metrics.lag(committed.since(sighting.arrived.boot));
            }
            delivery.receipt.spend();
        }
        let took = self.with.clock.now().boot.since(began);
        self.with.metrics.batch(u32::try_from(facts).unwrap_or(u32::MAX), took);
        Ok(())
    }

    /// Decides and commits what of a batch is not over; false where that has to begin anew, by a newer directory.
    async fn settle_once(
        &mut self,
        deliveries: &[Delivery],
        presences: &[Presence],
        rejected: &mut Vec<RejectedFact>,
        over: &mut AlreadyCommitted,
        deadline: &CancellationToken,
    ) -> Result<bool, PipelineError> {
        let now = self.now();
        let mut intake = self.read(deliveries, presences, now, deadline).await?;
        over.leave_out(&mut intake);
        intake.rejected.clone_from(rejected);
        let rules = self.policy().rules();
        for heard in intake.heard.extract_if(.., |heard| self.presents.goes_on(heard, &rules)) {
            over.heard.insert((heard.mac, heard.point.last_at));
            over.refreshed += 1;
        }
        let strange = self.strange(std::mem::take(&mut intake.strange), now);
        let (ignored, read_by, metrics) = (intake.ignored, Some(intake.version), self.with.metrics.clone());
        let nobody = BTreeSet::new();
        let mut records = strange.records;
        for part in intake.split(FACTS, PEOPLE) {
            if part.len() == 0 && records.is_empty() {
                continue;
            }
            let of_part = std::mem::take(&mut records);
            let work =
                BatchWork { part: &part, people: &nobody, strange: &of_part, step: None, read_by, again_from: None };
            let Some(done) = self.decide_once(work, deadline).await? else { return Ok(false) };
            rejected.clear();
            over.note(&part);
            metrics.received((part.doors.len() + part.rejected.len()) as u64);
            metrics.presences((part.heard.len() + of_part.len()) as u64);
            self.count(done);
            for (failure, fact) in of_part {
                if let Some(mac) = failure.mac {
                    self.presents.reported(failure.refused.reason, mac);
                    over.heard.insert((mac, fact.fact.at));
                }
            }
            self.with.alive.send_replace(Some(self.with.clock.now().boot));
        }
        metrics.decided(Outcome::Refreshed, over.refreshed);
        metrics.decided(Outcome::Recorded, ignored + strange.skipped);
        metrics.presences(over.refreshed + ignored + strange.skipped);
        self.note_flood(strange.left_out, now);
        Ok(true)
    }

    /// The facts of a batch, each by the directory of its time.
    async fn read(
        &mut self,
        deliveries: &[Delivery],
        presences: &[Presence],
        now: Now,
        deadline: &CancellationToken,
    ) -> Result<Intake, PipelineError> {
        let directories = Arc::clone(&self.with.directories.borrow());
        let (business, policy) = (self.with.business, self.policy());
        let reader = FactReader { business, directories: &directories, policy: &policy, now: now.wall };
        let mut intake = Intake { version: directories.latest().version, ..Intake::default() };
        // What only the database knows the version of is read after the others, one version after the other.
        let mut by_version: BTreeMap<i64, (Vec<&Sighting>, Vec<&Presence>)> = BTreeMap::new();
        for sighting in intake::sightings(deliveries) {
            match reader.missing_at(sighting.event_at) {
                None => intake.doors.push(reader.door(sighting)),
                Some(version) => by_version.entry(version).or_default().0.push(sighting),
            }
        }
        for presence in presences {
            match reader.missing_at(presence.last_at) {
                None => reader.presence(presence, &mut intake),
                Some(version) => by_version.entry(version).or_default().1.push(presence),
            }
        }
        if by_version.is_empty() {
            self.recalled = None;
        }
        for (version, (sightings, presences)) in by_version {
            let directories = directories.with(version, self.recall(version, deadline).await?);
            let reader = FactReader { business, directories: &directories, policy: &policy, now: now.wall };
            intake.doors.extend(sightings.into_iter().map(|sighting| reader.door(sighting)));
            for presence in presences {
                reader.presence(presence, &mut intake);
            }
        }
        Ok(intake)
    }

    /// What of a batch was not understood, and is written down: so many a minute.
    fn rejected(&mut self, deliveries: &[Delivery], now: Now) -> Vec<RejectedFact> {
        let directories = Arc::clone(&self.with.directories.borrow());
        let (business, policy) = (self.with.business, self.policy());
        let reader = FactReader { business, directories: &directories, policy: &policy, now: now.wall };
        let mut rejected = Vec::new();
        for delivery in deliveries {
            let Content::Rejected(rejection) = &delivery.content else { continue };
            self.with.metrics.rejected(rejection.why);
            self.with.metrics.decided(Outcome::Rejected, 1);
            if self.rejections.take(now.boot) {
                let (why, sample) = (rejection.why.word(), &rejection.sample);
                let topic = intake::without_numbers(&rejection.topic);
                tracing::info!(source = %delivery.source, why, topic, sample, "a message was not understood");
                rejected.push(reader.rejected(&delivery.source, rejection, random::uuid()));
            } else {
                self.with.metrics.received(1);
            }
        }
        rejected
    }

    /// A version of the directory that only the database has: who had which card then. Outside of any transaction, because of
    /// a hundred thousand people it takes seconds.
    async fn recall(&mut self, version: i64, deadline: &CancellationToken) -> Result<Arc<Directory>, PipelineError> {
        if let Some(recalled) = self.recalled.as_ref().filter(|recalled| recalled.version == version) {
            return Ok(Arc::clone(recalled));
        }
        // One at a time.
        self.recalled = None;
        let directory =
            Arc::new(patiently!(self, deadline, self.with.store.load_directory_of(version), within LONGEST_RECALL));
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
        self.recalled = Some(Arc::clone(&directory));
        Ok(directory)
    }

    /// Which strange devices get a record: once per pass day and reason, and only so many.
    fn strange(&mut self, facts: Vec<crate::base::fact::StrangeDeviceFact>, now: Now) -> StrangeDevices {
        let mut found = StrangeDevices::default();
        let policy = self.policy();
        let directories = Arc::clone(&self.with.directories.borrow());
        let mut new: BTreeSet<(Reason, MacAddr)> = BTreeSet::new();
        for fact in facts {
            let reason = match fact.recognised {
                Recognised::Ambiguous => Reason::AmbiguousDevice,
                Recognised::Unknown | Recognised::Coworker | Recognised::NoCredential => Reason::UnrecognisedDevice,
            };
            let day = policy.calendar().pass_day(fact.point.last_at);
            let known = if new.contains(&(reason, fact.mac)) {
                UnknownDeviceRecord::Reported
            } else {
                self.presents.strange(reason, fact.mac, policy.calendar().pass_day(now.wall), new.len())
            };
            match known {
                UnknownDeviceRecord::New => {
                    new.insert((reason, fact.mac));
                    let business = fact.business;
                    let subject = Subject::strange_device(business, fact.mac);
                    let name =
                        directories.at(fact.point.last_at).business(business).unwrap_or(&policy.site.name).to_owned();
                    let failure = FailureRecord {
                        unique_id: fold::device_failure(business, day.start, reason, fact.mac, subject),
                        coworker: None,
                        then: Opened { then: Snapshot::default(), business_name: Some(name) },
                        business,
                        attempt_at: fact.point.last_at,
                        source: CheckinSource::NetworkActivity,
                        mac: Some(fact.mac),
                        refused: Refused { reason, detail: None },
                    };
                    let decision = DecisionCode::of(Outcome::Failed, Some(reason.code()));
                    let stored = DecidedFact { fact: Fact::StrangeDevice(fact).stored(), decision };
                    found.records.push((failure, stored));
                }
                UnknownDeviceRecord::Reported => found.skipped += 1,
                UnknownDeviceRecord::LeftOut => {
                    found.skipped += 1;
                    found.left_out += 1;
                }
            }
        }
        found
    }

    /// Decides a part, however long the database is away and whatever is newer.
    async fn decide(&mut self, work: BatchWork<'_>, deadline: &CancellationToken) -> Result<Done, PipelineError> {
        loop {
            if let Some(done) = self.decide_once(work, deadline).await? {
                return Ok(done);
            }
        }
    }

    /// Decides a part, however long the database is away; none where there is a newer directory, or there are newer settings,
    /// than it was read by. These are at hand then, or were waited for.
    async fn decide_once(
        &mut self,
        work: BatchWork<'_>,
        deadline: &CancellationToken,
    ) -> Result<Option<Done>, PipelineError> {
        let (mut directories, mut policies) = (self.with.directories.clone(), self.with.policies.clone());
        directories.mark_unchanged();
        policies.mark_unchanged();
        let now = self.now();
        if let Some(done) = patiently!(self, deadline, self.attempt(work, now)) {
            self.remember(&done, work);
            return Ok(Some(done));
        }
        if work.is_read_by(&self.with.directories.borrow()) {
            tracing::debug!("waiting for the newest directory and settings");
            if let Some(stale) = &self.with.stale {
                stale.notify_one();
            }
            tokio::select! {
                _ = directories.changed() => {}
                _ = policies.changed() => {}
                () = deadline.cancelled() => return Err(PipelineError::GaveUp),
                () = time::sleep(STALE) => {}
            }
        }
        Ok(None)
    }

    /// One try: as many statements for all as for one. None when what we decide by is not the newest.
    async fn attempt(&self, work: BatchWork<'_>, now: Now) -> Result<Option<Done>, StoreError> {
        let directories = Arc::clone(&self.with.directories.borrow());
        let policies = Arc::clone(&self.with.policies.borrow());
        let (policy, latest) = (self.policy(), Arc::clone(directories.latest()));
        if !work.is_read_by(&directories) {
            return Ok(None);
        }
        let part = work.part;
        let subjects: BTreeSet<Subject> = part.subjects().union(work.people).copied().collect();
        let first = part.first().unwrap_or(now.wall);

        let mut transaction = self.with.store.batch().await?;
        // What is late is folded from the beginning of its day; whose last facts were of yesterday may be looked at today.
        let since = LogDay::of(first).start().min(now.wall.minus(Duration::from_hours(24)));
        let (directories, groups) =
            of_then::groups(&directories, &subjects, since, &policy.site.passes, &mut transaction).await?;
        let versions = directories.since(since);

        let coworkers = subjects.iter().filter_map(|subject| subject.as_coworker());
        transaction.lock_passes(&versions, &policy.site.passes, coworkers).await?;
        let keys: Vec<_> = part.doors.iter().map(DoorFact::key).collect();
        let mut loaded = transaction.load(&subjects, &keys).await?;
        if self.with.stale.is_some() && (loaded.directory, loaded.policies) != (latest.version, policies.newest) {
            return Ok(None);
        }
        let (mut done, mut writes) = (Done::default(), Writes::default());
        let (new, twice) = decide::new_facts(part, &loaded.known);
        done.outcomes.extend((0..twice).map(|_| (Outcome::Duplicate, None)));
        let (doors, only_recorded) = decide::undecided(new, &part.rejected, &mut writes);
        done.outcomes.extend((0..only_recorded).map(|_| (Outcome::Recorded, None)));
        for (failure, fact) in work.strange {
            writes.failures.push(failure.clone());
            writes.facts.push(fact.clone());
            done.outcomes.push((Outcome::Failed, Some(failure.refused.reason)));
        }

        // Of those who share passes, who is in, or did something after what is new, is folded with them.
        let sharing: BTreeSet<Subject> = groups
            .iter()
            .filter(|group| group.len() > 1)
            .flatten()
            .copied()
            .filter(|known| !subjects.contains(known))
            .collect();
        let active = transaction.active(&sharing, first).await?;
        add(&mut loaded, &mut transaction, &active).await?;
        let mut cases: Vec<GroupCase> = groups
            .iter()
            .map(|group| {
                let members: BTreeSet<Subject> =
                    group.iter().copied().filter(|known| subjects.contains(known) || active.contains(known)).collect();
                let mut case = GroupCase::of(group, &versions);
                self.fill(&mut case, &members, &loaded);
                case
            })
            .collect();
        // Whose case each new fact is.
        let case_of: BTreeMap<Subject, usize> = cases
            .iter()
            .enumerate()
            .flat_map(|(index, case)| case.now.keys().map(move |subject| (*subject, index)))
            .collect();
        for fact in doors {
            if let Some(case) = case_of.get(&fact.subject).and_then(|index| cases.get_mut(*index)) {
                case.doors.push(fact);
            }
        }
        for heard in &part.heard {
            if let Some(case) = case_of.get(&heard.subject).and_then(|index| cases.get_mut(*index)) {
                case.unwritten.push(UnloggedPoint { heard: heard.clone(), new: true, was_pending: false });
            }
        }

        let quiet_until = if self.behind { now.wall.minus(WRITE_EVERY * 2) } else { now.wall };
        let business = self.with.business;
        let mut coverage = BTreeMap::from([(business, self.coverage.coverage(now))]);
        let policies = policies.as_ref();
        let world = World { directories: &directories, policies, coverage: &coverage, now: now.wall, quiet_until };
        self.go_back(&mut cases, &groups, work, world, (&mut loaded, &mut transaction, &mut writes)).await?;
        know_usage(&mut cases, &directories, &mut transaction).await?;

        self.hear_others(&cases, now, &mut coverage, &mut transaction).await?;
        let begins = cases.iter().filter_map(GroupCase::begins).min().unwrap_or(now.wall);
        let everybody = cases.iter().flat_map(|case| case.now.keys()).filter_map(|subject| subject.as_coworker());
        let directories = of_then::recall(&directories, &everybody.collect(), begins, &mut transaction).await?;
        let world = World { directories: &directories, policies, coverage: &coverage, now: now.wall, quiet_until };
        let totals = decide::totals_to_read(&world, &cases);
        let totals = transaction.totals(&totals).await?;
        for mut case in cases {
            case.group.totals.clone_from(&totals);
            done.unproven.extend(decide::unproven(&case, &world, business));
            let decided = decide::decide(world, case, &mut writes);
            done.outcomes.extend(decided.outcomes.iter().copied());
            done.decided.push(decided);
        }
        if work.again_from.is_some() || done.decided.iter().any(|decided| decided.silent > 0) {
            // A silence that ended something must be known as long as what it ended.
            writes.coverage = self.coverage.to_write(now).map(|(id, covered)| (id, self.with.business, covered));
        }
        let calendar = |business: BusinessId, at: WallTime| calendar_of(policies, business, at);
        transaction.write(&writes, &calendar, now.wall).await?;
        transaction.commit().await?;
        Ok(Some(done))
    }

    /// Adds people to a case: as they stand, and what was heard of them that no fact holds yet.
    fn fill(&self, case: &mut GroupCase, members: &BTreeSet<Subject>, loaded: &BatchRows) {
        let business = self.with.business;
        for subject in members {
            case.now.insert(*subject, loaded.people.get(subject).cloned().unwrap_or_default());
            // What is kept here is what the database has, and more.
            let kept = self.presents.pending(*subject, business);
            let stored = loaded.unlogged.get(subject).into_iter().flatten();
            let stored = stored.filter(|pending| kept.is_none() || pending.business != business);
            case.unwritten.extend(stored.flat_map(UnloggedPoint::pending));
            case.unwritten.extend(kept.iter().flatten().flat_map(UnloggedPoint::pending));
        }
    }

    /// Where something came late: everybody of the case as they were before that day, and what there is since.
    async fn go_back(
        &self,
        cases: &mut [GroupCase],
        groups: &[BTreeSet<Subject>],
        work: BatchWork<'_>,
        world: World<'_>,
        (loaded, transaction, writes): (&mut BatchRows, &mut Batch, &mut Writes),
    ) -> Result<(), StoreError> {
        let from: Vec<Option<LogDay>> = cases
            .iter()
            .map(|case| match work.step {
                None => decide::late_from(case, &world).into_iter().chain(work.again_from).min(),
                Some((step, moving)) => clock_step::moved_from(case, moving, step),
            })
            .collect();
        // Of those who share passes, also who did something since.
        let others = |(index, group): (usize, &BTreeSet<Subject>)| {
            let late = cases.get(index).filter(|_| from.get(index).is_some_and(Option::is_some) && group.len() > 1);
            late.map(|case| group.iter().copied().filter(|known| !case.now.contains_key(known)).collect::<Vec<_>>())
        };
        let others: BTreeSet<Subject> = groups.iter().enumerate().filter_map(others).flatten().collect();
        let earliest = from.iter().flatten().min().copied().unwrap_or_default();
        let behind = transaction.active(&others, earliest.start()).await?;
        add(loaded, transaction, &behind).await?;
        let tomorrow = LogDay::of(world.now.plus(Duration::from_hours(24)));
        let (mut days, mut since) = (Vec::new(), BTreeMap::new());
        for ((case, group), from) in cases.iter_mut().zip(groups).zip(&from) {
            let Some(from) = *from else { continue };
            let members = behind.intersection(group).copied().collect();
            self.fill(case, &members, loaded);
            let doors = case.doors.iter().map(|fact| LogDay::of(fact.at));
            let folded = case.now.values().map(|known| LogDay::of(known.person.folded.at));
            let newest = doors.chain(folded).chain([tomorrow]).max().unwrap_or(tomorrow);
            days.extend(case.now.keys().flat_map(|subject| days_of(from, newest).map(move |day| (*subject, day))));
            case.past = Some(RefoldInput { from, ..RefoldInput::default() });
        }
        let mut checkpoints: BTreeMap<Subject, BTreeMap<LogDay, PersonState>> = BTreeMap::new();
        for (subject, day, person) in transaction.checkpoints(&days).await? {
            checkpoints.entry(subject).or_default().insert(day, person);
        }
        let mut facts: BTreeMap<Subject, Vec<DecidedFact>> = BTreeMap::new();
        for row in transaction.facts(&days).await? {
            facts.entry(row.fact.subject).or_default().push(row);
        }
        for case in cases.iter_mut() {
            let Some(past) = &mut case.past else {
                case.group.people = case.now.iter().map(|(subject, known)| (*subject, known.person.clone())).collect();
                continue;
            };
            for (subject, known) in &case.now {
                past.facts.extend(facts.remove(subject).into_iter().flatten());
                let known_days = checkpoints.remove(subject).unwrap_or_default();
                past.checkpoints.extend(known_days.keys().map(|day| (*subject, *day)));
                // Without a checkpoint, nothing has happened to them on that day or later.
                let person = known_days.into_values().next().unwrap_or_else(|| known.person.clone());
                if let Some(coworker) = subject.as_coworker() {
                    let visits = person.visits.iter().map(|visit| visit.from).chain([past.from.start()]).min();
                    let visits = visits.unwrap_or(past.from.start());
                    past.since.insert(coworker, visits);
                    since.insert(coworker, (visits.minus(LONGEST_DAY), past.from.start()));
                }
                case.group.people.insert(*subject, person);
            }
            if let Some((step, moving)) = work.step {
                clock_step::move_facts(case, moving, step, writes);
            }
        }
        let mut records = transaction.records(&since).await?;
        for case in cases.iter_mut() {
            let people: BTreeSet<CoworkerId> = case.now.keys().filter_map(|subject| subject.as_coworker()).collect();
            if let Some(past) = &mut case.past {
                past.records = records.take(&people);
            }
        }
        Ok(())
    }

    /// When the captures of other businesses could hear, where a case is about another one.
    async fn hear_others(
        &self,
        cases: &[GroupCase],
        now: Now,
        coverage: &mut BTreeMap<BusinessId, Coverage>,
        transaction: &mut Batch,
    ) -> Result<(), StoreError> {
        let business = self.with.business;
        if self.with.store.is_shared() && cases.iter().any(|case| case.is_about_others(business)) {
            let others = transaction.coverage(business, true, now.wall.minus(HISTORY)).await?;
            coverage.extend(others.into_iter().map(|(other, stretches)| {
                (other, Coverage::new(stretches.iter().map(|covered| (covered.from, covered.to))))
            }));
        }
        Ok(())
    }

    /// After a commit: who is in, the next deadline.
    fn remember(&mut self, done: &Done, work: BatchWork<'_>) {
        let now = self.now();
        self.unproven.extend(&done.unproven);
        let seen = (self.reviewed.is_some() || !work.people.is_empty() && work.step.is_some()).then_some(now.boot);
        for decided in &done.decided {
            for (subject, person) in &decided.people {
                self.presents.settle(*subject, person, self.with.business, seen);
            }
        }
        self.next_deadline = None;
        self.with.metrics.open_checkins(i64::try_from(self.presents.len()).unwrap_or(i64::MAX));
        let again: u64 = done.decided.iter().map(|decided| decided.again).sum();
        self.with.metrics.decided_again(again);
    }

    /// Counts what became of a part.
    fn count(&self, done: Done) {
        let metrics = &self.with.metrics;
        let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
        for (outcome, reason) in done.outcomes {
            *outcomes.entry(outcome).or_default() += 1;
            if let Some(reason) = reason {
                metrics.failed(reason.code());
            }
        }
        for (outcome, facts) in outcomes {
            metrics.decided(outcome, facts);
        }
    }

    fn note_flood(&mut self, left_out: u64, now: Now) {
        if left_out > 0 {
            self.left_out += left_out;
            self.with.metrics.left_out(left_out);
            let detail = format!(
                "more than {UNRECOGNISED_A_DAY} unrecognised devices today; {} sightings of more were not recorded. \
                 If this is a guest network, set unrecognised_devices to \"global-only\" or \"off\"",
                self.left_out
            );
            self.with.health.raise(ConditionKind::UnrecognisedFlood, "", detail);
            self.flood_day = Some(self.policy().calendar().pass_day(now.wall));
        } else if self.flood_day.is_some_and(|day| !day.contains(now.wall)) {
            self.with.health.clear(ConditionKind::UnrecognisedFlood, "");
            self.flood_day = None;
            self.left_out = 0;
        }
    }

    /// Writes down presences that only go on, and with them until when we could hear.
    async fn write_presences(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        let business = self.with.business;
        let covered = self.coverage.to_write(now);
        let writes = Writes {
            unlogged: self.presents.unwritten(business),
            coverage: covered.map(|(id, covered)| (id, business, covered)),
            ..Writes::default()
        };
        if writes.unlogged.is_empty() && writes.coverage.is_none() {
            return Ok(());
        }
        let policies = Arc::clone(&self.with.policies.borrow());
        let calendar = |business: BusinessId, at: WallTime| calendar_of(&policies, business, at);
        let mut transaction = self.with.store.batch().await?;
        transaction.write(&writes, &calendar, now.wall).await?;
        transaction.commit().await?;
        self.presents.written();
        if let Some(covered) = covered {
            self.coverage.written(covered, now);
        }
        Ok(())
    }

    /// The database takes what we write.
    fn taken(&mut self) {
        self.with.health.clear(ConditionKind::DatabaseUnavailable, "");
        self.coverage.taken();
    }

    /// The time that open check-ins are written in: the one in force, until a step that it took is taken over from the
    /// one before.
    fn now(&self) -> Now {
        let now = self.with.clock.now();
        match self.clock_was.and_then(|was| stepped(was, now)) {
            Some(by) => Now { wall: now.wall.moved(-by), ..now },
            None => now,
        }
    }

    /// Waits while the wall clock says a time before this program existed; false when the daemon stops meanwhile.
    ///
    /// Nothing is taken in: the broker keeps the door messages, the captures merge what they hear.
    async fn clock_set(&mut self, stop: &CancellationToken) -> bool {
        loop {
            let now = self.with.clock.now();
            self.with.alive.send_replace(Some(now.boot));
            if now.wall >= EARLIEST {
                self.with.health.clear(ConditionKind::ClockNotSet, "");
                return true;
            }
            let detail = "the wall clock was not set since the machine started; door messages wait at the broker until \
                          it is. Set it, or give this machine a time server that it can reach";
            self.with.health.raise(ConditionKind::ClockNotSet, "", detail);
            tokio::select! {
                () = stop.cancelled() => return false,
                () = time::sleep(TICK) => {}
            }
        }
    }

    /// Names a step of the wall clock. Once it is believed, open check-ins move with it, so that on the clock that never
    /// jumps nothing happens to them: nobody goes out because of it, and how long they have been in stays right.
    async fn watch_clock(&mut self, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.with.clock.now();
        if let Some(by) = self.clock_was.and_then(|was| stepped(was, now)) {
            self.move_people(by, deadline).await?;
            let detail =
                format!("the wall clock was stepped by {} seconds; open check-ins were moved with it", by / 1000);
            self.with.health.raise(ConditionKind::ClockStepped, "", detail);
            self.stepped_at = Some(now.boot);
        } else if let Some(by) = self.with.clock.doubt() {
            let detail = format!(
                "the wall clock was stepped by {} seconds. Records keep the time before the step until it has lasted an \
                 hour; if the clock is right now, restart checkind",
                by / 1000
            );
            self.with.health.raise(ConditionKind::ClockStepped, "", detail);
            self.stepped_at = Some(now.boot);
        } else if self.stepped_at.is_some_and(|at| now.boot.since(at) > STEP_REMEMBERED) {
            self.with.health.clear(ConditionKind::ClockStepped, "");
            self.stepped_at = None;
        }
        self.clock_was = Some(now);
        Ok(())
    }

    /// Moves the open check-ins by so many milliseconds, with the facts that our clock wrote of them.
    ///
    /// At the first synchronisation after the machine's start, those that were open before it keep their times: another,
    /// right clock may have written them.
    async fn move_people(&mut self, by: i64, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.with.clock.now();
        let first = now.boot < BootTime::from_duration(FIRST_SYNC);
        let moving = self.presents.stamped_before_step(by, first, now);
        // From here on the new time is in force, and what is folded is folded up to it.
        self.clock_was = Some(now);
        self.coverage.step(by);
        let step = ClockStep { by, wrong_from: now.wall.minus(CONFIRMED_AFTER) };
        let mut people: BTreeSet<Subject> = moving.clone();
        if by < 0 {
            people.extend(patiently!(
                self,
                deadline,
                self.with.store.people_ahead(self.with.business, step.wrong_from, PEOPLE)
            ));
        }
        let people: Vec<Subject> = people.into_iter().collect();
        for portion in people.chunks(TIMERS) {
            self.look_at(&portion.iter().copied().collect(), Some((step, &moving)), deadline).await?;
        }
        tracing::warn!(
            seconds = by / 1000,
            moved = moving.len(),
            "the wall clock was stepped; open check-ins moved with it"
        );
        Ok(())
    }

    /// After a failure: whether and when to try again. At once after a conflict, after a growing pause while the database
    /// is unavailable.
    async fn again(
        &mut self,
        attempts: &mut Attempts,
        error: StoreError,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        self.with.metrics.commit_failed();
        self.coverage.refused();
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
        match error {
            StoreError::Conflict if attempts.conflicts < CONFLICTS => {
                attempts.conflicts += 1;
                tracing::debug!(times = attempts.conflicts, "another writer changed the same records");
                return Ok(());
            }
            StoreError::Conflict => {
                let detail =
                    "another writer keeps changing the same records; are two gateways of one business running?";
                self.with.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
            }
            StoreError::Unavailable(source) => {
                let meanwhile = if self.with.store.is_shared() {
                    "door messages are kept in the spool meanwhile"
                } else {
                    "nothing is acknowledged meanwhile"
                };
                let detail =
                    format!("the database does not take what we write ({source}); {meanwhile}, nothing is lost");
                self.with.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
            }
            unusable @ StoreError::Unusable { .. } => return Err(PipelineError::Store(unusable)),
        }
        tokio::select! {
            () = deadline.cancelled() => return Err(PipelineError::GaveUp),
            () = time::sleep(RETRY.pause(attempts.failures)) => {}
        }
        attempts.failures = attempts.failures.saturating_add(1);
        Ok(())
    }
}

/// How often one piece of work was tried.
#[derive(Debug, Default)]
struct Attempts {
    failures: u32,
    /// How many of the failures were conflicts with another writer.
    conflicts: u32,
}

/// Strange devices of a batch.
#[derive(Debug, Default)]
struct StrangeDevices {
    records: Vec<(FailureRecord, DecidedFact)>,
    /// Of devices that have their record, or get none.
    skipped: u64,
    /// Of those, the ones that get none because there are too many.
    left_out: u64,
}

/// The days from one to another; where a step of the clock lies between them, those about each.
pub(crate) fn days_of(from: LogDay, to: LogDay) -> impl Iterator<Item = LogDay> {
    const ABOUT: i64 = 12;
    let (near, far) = ((from.0 + ABOUT).min(to.0), (to.0 - ABOUT).max(from.0));
    (from.0..=near).chain(far.max(near + 1)..=to.0).map(LogDay)
}

/// What others, who are not folded, have used of passes of the people of each case.
async fn know_usage(
    cases: &mut [GroupCase],
    directories: &DirectoryHistory,
    transaction: &mut Batch,
) -> Result<(), StoreError> {
    let passes: BTreeSet<Uuid> = cases.iter().flat_map(|case| case.passes.iter().copied()).collect();
    let mut users = transaction.pass_users(&passes).await?;
    let holders = decide::absent_holders(cases);
    if !holders.is_empty() {
        let holders = transaction.load(&holders, &[]).await?.people;
        decide::add_holders(&mut users, &holders, &passes, directories);
    }
    decide::know_usage(cases, users);
    Ok(())
}

async fn add(loaded: &mut BatchRows, transaction: &mut Batch, people: &BTreeSet<Subject>) -> Result<(), StoreError> {
    if !people.is_empty() {
        let more = transaction.load(people, &[]).await?;
        loaded.people.extend(more.people);
        loaded.unlogged.extend(more.unlogged);
    }
    Ok(())
}

/// A business's pass days and wall clock at an instant; of one that is not known any more, UTC.
pub(crate) fn calendar_of(policies: &PolicyHistory, business: BusinessId, at: WallTime) -> Calendar {
    let utc = Calendar { zone: Zone::utc(), cut_off: chrono::NaiveTime::MIN };
    policies.at(business, at).map_or(utc, |policy| policy.calendar())
}

#[cfg(test)]
mod tests;
