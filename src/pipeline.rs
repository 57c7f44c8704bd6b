//! The one task that decides: receive, load, decide, commit, acknowledge.
//!
//! Whatever has queued up becomes one batch and mostly one transaction, with as many statements for all as for one.
//! Receipts are spent in the order of arrival, after the commit. While the database is away the batch waits, nothing more
//! is taken from the queues, and so the broker keeps what we have not acknowledged.

mod charges;
mod logged;
mod memory;
mod plan;
mod portion;
mod questions;
mod walk;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    clock::{BootTime, Clock, EARLIEST, FIRST_SYNC, Now, STEP, WallTime},
    directory::Directory,
    engine::{
        self, Timeout,
        calendar::{Calendar, PassDay},
        heard::HeardTimes,
    },
    health::{ConditionKind, Health},
    metrics::{Metrics, Queue},
    random,
    record::{BusinessId, CoworkerId},
    sighting::{Presence, Sighting, TimeQuality},
    source::{Content, Delivery, Presences, network::hearing::Hearing},
    store::{Changes, Heard, Known, Log, Store, StoreError, UsageQuery},
};
use memory::{Due, Memory};
pub use plan::Rulebook;
use plan::{Done, Found, Plan};
use portion::{Portion, Turns};
use questions::Questions;

pub use memory::UNRECOGNISED_A_DAY;

/// Messages in one batch, at most. A thousand rows are a few hundred kilobytes and some ten milliseconds; more would
/// make the first of them wait for the last without saving round trips worth naming.
const BATCH: usize = 1000;

/// Timers that fire in one transaction, at most; the rest fire in the next.
const TIMERS: usize = 1000;

/// How often timers are looked at when nothing arrives. A check-out is at most this late.
const TICK: Duration = Duration::from_secs(1);

/// How often it is written down that we could hear, and so how much heard silence a crash can forget.
const HEARD_EVERY: Duration = Duration::from_secs(30);

/// How far back it is remembered when we could hear: as far back as anything is decided again.
const HEARD_KEPT: Duration = Duration::from_hours(9 * 24);

/// Stretches of hearing that are remembered, at most: one ends with every blindness. Of more the oldest are forgotten,
/// so that silence in their time is not counted.
const STRETCHES: usize = 10_000;

/// The first pause after the database failed; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause: when the database is back we notice within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How long one try may take: a server that has gone away without a word would hold it for ever. Ten times the longest
/// batch that was ever seen on a slow disk, and below the time after which the watchdog calls the pipeline stuck.
const LONGEST_TRY: Duration = Duration::from_secs(30);

/// Conflicts in a row that are tried again without a pause: each means that another gateway got on with its work.
const CONFLICTS: u32 = 10;

/// Rejected messages that get a line in the sighting log, per minute; the rest are counted. Enough to see what a
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
pub struct Surroundings {
    /// The time.
    pub clock: Clock,
    /// Where everything is written.
    pub store: Store,
    /// What the site decides by; a reload replaces it.
    pub book: watch::Receiver<Arc<Rulebook>>,
    /// Who is who; an import replaces it.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// When the captures could hear.
    pub hearing: Hearing,
    /// Conditions.
    pub health: Health,
    /// Figures.
    pub metrics: Metrics,
    /// Stamped at every turn of the loop, so that a supervisor sees that it turns.
    pub alive: watch::Sender<Option<BootTime>>,
}

/// The queues that the pipeline reads.
#[derive(Debug)]
pub struct Inlets {
    /// From the broker session.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// From the captures.
    pub presences: mpsc::Receiver<Presences>,
}

/// The pipeline; see the module.
#[derive(Debug)]
pub struct Pipeline {
    with: Surroundings,
    memory: Memory,
    /// Lines of the log that one transaction reads to decide again.
    room: u64,
    stretch: Option<Stretch>,
    /// The stretches of hearing that are written down, the oldest first; the last may be the one that goes on.
    heard: VecDeque<(Uuid, Heard)>,
    rejections: Allowance,
    /// The hearing clock when the database began to refuse; none while it takes what we write.
    refused_since: Option<Duration>,
    flood_day: Option<PassDay>,
    /// The clocks at the last turn: open check-ins are written in this time, until a step has been taken over.
    clock_was: Option<Now>,
    stepped_at: Option<BootTime>,
    left_out: u64,
    /// The directory by which those who are in were last looked at.
    reviewed: Option<i64>,
}

/// The stretch of hearing that is being written down.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    id: Uuid,
    from: Now,
    heard_from: Duration,
    written: BootTime,
}

/// So many lines a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Allowance {
    minute: Option<BootTime>,
    used: u32,
}

impl Allowance {
    fn take(&mut self, now: BootTime) -> bool {
        if self.minute.is_none_or(|minute| now.since(minute) >= Duration::from_mins(1)) {
            *self = Self { minute: Some(now), used: 0 };
        }
        self.used += 1;
        self.used <= REJECTIONS_A_MINUTE
    }
}

/// Does something with the database until it succeeds, see [`Pipeline::again`].
macro_rules! patiently {
    ($pipeline:ident, $deadline:expr, $work:expr) => {{
        let mut patience = Patience::new();
        loop {
            let tried = time::timeout(LONGEST_TRY, $work).await;
            match tried.unwrap_or(Err(StoreError::too_late())) {
                Ok(value) => {
                    $pipeline.taken();
                    break value;
                }
                Err(error) => $pipeline.again(&mut patience, error, $deadline).await?,
            }
        }
    }};
}

impl Pipeline {
    /// A pipeline that has not started.
    pub fn new(with: Surroundings) -> Self {
        Self {
            with,
            memory: Memory::new(),
            room: questions::LINES,
            stretch: None,
            heard: VecDeque::new(),
            rejections: Allowance::default(),
            refused_since: None,
            flood_day: None,
            clock_was: None,
            stepped_at: None,
            left_out: 0,
            reviewed: None,
        }
    }

    /// Runs until both queues are closed and empty, or `stop` says to close them; gives up at `deadline`.
    ///
    /// # Errors
    /// [`PipelineError::Store`] when the database can never be used, [`PipelineError::GaveUp`] at the deadline.
    pub async fn run(
        mut self,
        mut inlets: Inlets,
        stop: CancellationToken,
        deadline: CancellationToken,
    ) -> Result<(), PipelineError> {
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
        if !self.clock_set(&stop).await {
            return Ok(());
        }
        patiently!(self, &deadline, self.recover());
        let tick = self.with.clock.real(TICK * 30).clamp(Duration::from_millis(20), TICK);
        let mut deliveries = Vec::with_capacity(BATCH);
        let mut stopping = false;
        loop {
            let mut presences = Vec::new();
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    inlets.deliveries.close();
                    inlets.presences.close();
                }
                taken = inlets.deliveries.recv_many(&mut deliveries, BATCH) => {
                    if taken == 0 {
                        // Closed and drained; the presences may not be.
                        while let Some(more) = inlets.presences.recv().await {
                            self.settle(&mut Vec::new(), more, &deadline).await?;
                        }
                        break;
                    }
                }
                Some(more) = inlets.presences.recv() => presences = more,
                () = time::sleep(tick) => {}
            }
            while presences.len() < BATCH
                && let Ok(more) = inlets.presences.try_recv()
            {
                presences.extend(more);
            }
            self.gauge(&inlets);
            self.watch_clock(&deadline).await?;
            if !deliveries.is_empty() || !presences.is_empty() {
                self.settle(&mut deliveries, presences, &deadline).await?;
            }
            let behind = !inlets.presences.is_empty();
            self.turn(behind, &deadline).await?;
        }
        // Best effort: at worst half a minute of heard silence is forgotten.
        if let Ok(Err(error)) = time::timeout(LONGEST_PAUSE, self.write_heard(true)).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the last stretch of hearing was not written");
        }
        Ok(())
    }

    fn gauge(&self, inlets: &Inlets) {
        let metrics = &self.with.metrics;
        metrics.queue_depth(Queue::Deliveries, i64::try_from(inlets.deliveries.len()).unwrap_or(i64::MAX));
        metrics.queue_depth(Queue::Presences, i64::try_from(inlets.presences.len()).unwrap_or(i64::MAX));
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
    }

    /// What is due besides what arrived: timers, the hearing record, a look at the clock.
    ///
    /// While presences are waiting, nobody is found silent: theirs may be among them.
    async fn turn(&mut self, behind: bool, deadline: &CancellationToken) -> Result<(), PipelineError> {
        let now = self.now();
        self.watch_book(now);
        let book = Arc::clone(&self.with.book.borrow());
        self.memory.forget_taps(book.site.debounce, now.boot);
        let directory = Arc::clone(&self.with.directory.borrow());
        if self.reviewed != Some(directory.version) {
            patiently!(self, deadline, self.review(&directory));
        }
        loop {
            let heard = self.with.hearing.heard(now.boot);
            let mut due = self.memory.due(book.site.idle_limit, heard, now.boot, TIMERS);
            due.retain(|due| !behind || due.timeout == Timeout::CutOff);
            // Whose turn it is not is due again in the next.
            let mut turns = Turns::new(&directory, &book.site.passes);
            due.retain(|due| due.timeout != Timeout::PassEnd || turns.takes(due.coworker, now.wall));
            if due.is_empty() {
                break;
            }
            patiently!(self, deadline, self.fire(&due));
            self.with.alive.send_replace(Some(self.with.clock.now().boot));
        }
        patiently!(self, deadline, self.write_heard(false));
        Ok(())
    }

    /// Reads from the database what a restart must know: open check-ins with the silence heard so far, devices already
    /// reported today. Check-ins whose pass day ended while we were away are closed by their timers at once.
    async fn recover(&mut self) -> Result<(), StoreError> {
        let now = self.now();
        let book = Arc::clone(&self.with.book.borrow());
        let calendar = book.rules().calendar;
        let business = book.site.business;
        self.with.store.catch_up(business, questions::too_old(now.wall)).await?;
        let heard = self.with.hearing.heard(now.boot);
        let (mut memory, mut active) = (Memory::new(), Vec::new());
        let found = |visit: &engine::Visit| {
            memory.settle(visit, calendar.pass_day(visit.from).end, heard, now, false);
            active.push((visit.coworker, visit.last_activity));
        };
        self.with.store.open_visits(business, found).await?;
        let oldest = active.iter().map(|(_, last_activity)| *last_activity).min().unwrap_or(now.wall);
        let since = oldest.min(now.wall.minus(HEARD_KEPT));
        let mut stretches = self.with.store.heard(business, since).await?;
        // Written in a time that was not right.
        stretches.retain(|heard| heard.to <= now.wall.plus(STEP));
        self.heard = stretches.iter().rev().take(STRETCHES).rev().map(|heard| (Uuid::nil(), *heard)).collect();
        let past = HeardTimes::new(stretches.iter().map(|heard| (heard.from, heard.to)));
        for (coworker, last_activity) in active {
            memory.quiet_before(coworker, past.since(last_activity), heard);
        }
        self.memory = memory;
        let day = calendar.pass_day(now.wall);
        let reason = engine::decision::Reason::UnrecognisedDevice;
        let reported = self.with.store.failed_devices(business, day.start, reason, UNRECOGNISED_A_DAY).await?;
        self.memory.begin_day(day, reported);
        self.with.metrics.open_checkins(i64::try_from(self.memory.open()).unwrap_or(i64::MAX));
        tracing::info!(open = self.memory.open(), business = business.0, "open check-ins found");
        Ok(())
    }

    /// Decides and commits one batch, then spends its receipts.
    async fn settle(
        &mut self,
        deliveries: &mut Vec<Delivery>,
        presences: Presences,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let began = self.with.clock.now().boot;
        let written_rejections = self.rejections_to_write(deliveries, began);
        let now = self.now();
        let presences: Presences = presences.into_iter().map(|presence| retimed_presence(presence, now)).collect();
        for delivery in deliveries.iter_mut() {
            retime(delivery, now);
        }
        let directory = Arc::clone(&self.with.directory.borrow());
        let batch = Portion::of(deliveries, &presences, &written_rejections, &directory);
        let sightings = batch.sightings.len() + batch.presences.len();
        let mut left = batch;
        while !left.is_empty() {
            let (portion, later) = self.in_turn(&left, &directory);
            let (done, rest) = patiently!(self, deadline, self.attempt(&portion, &directory));
            self.remember(done, portion.presences.len() - rest.presences.len());
            self.with.alive.send_replace(Some(self.with.clock.now().boot));
            left = rest.and(later);
        }
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
        self.with.metrics.batch(u32::try_from(sightings).unwrap_or(u32::MAX), took);
        Ok(())
    }

    /// Which of the rejected messages get a line in the log; decided once, so that a retry decides the same.
    fn rejections_to_write(&mut self, deliveries: &[Delivery], now: BootTime) -> Vec<bool> {
        let mut written = Vec::new();
        for delivery in deliveries {
            let Content::Rejected(rejection) = &delivery.content else { continue };
            self.with.metrics.rejected(rejection.why);
            let write = self.rejections.take(now);
            if write {
                let (why, sample) = (rejection.why.word(), &rejection.sample);
                let topic = logged::without_numbers(&rejection.topic);
                tracing::info!(source = %delivery.source, why, topic, sample, "a message was not understood");
            }
            written.push(write);
        }
        written
    }

    /// What can be decided in one transaction, and what must wait until its turn comes.
    fn in_turn<'a>(&self, batch: &Portion<'a>, directory: &Directory) -> (Portion<'a>, Portion<'a>) {
        let mut turns = Turns::new(directory, &self.with.book.borrow().site.passes);
        batch.in_turn(&mut turns, |coworker| self.memory.is_in(coworker))
    }

    /// One try: as many statements for all as for one. Gives what is left for a transaction of its
    /// own, because the logs of too many people would have to be read for this one.
    async fn attempt<'a>(
        &self,
        batch: &Portion<'a>,
        directory: &Arc<Directory>,
    ) -> Result<(Done, Portion<'a>), StoreError> {
        let now = self.now();
        let book = Arc::clone(&self.with.book.borrow());
        let business = book.site.business;

        let policy = &book.site.passes;
        let mut transaction = self.with.store.batch().await?;
        let everybody = questions::who(batch.sightings.iter().copied(), &batch.presences);
        transaction.lock_passes(directory, policy, everybody.keys().copied()).await?;
        let keys: Vec<_> = batch.sightings.iter().map(|(sighting, _)| &sighting.key).collect();
        let people: Vec<_> = everybody.keys().copied().collect();
        let horizon = questions::horizon(now.wall);
        let too_old = questions::too_old(now.wall);
        let Known { decided, frontiers } = transaction.known(&keys, &people, business, horizon, too_old).await?;
        // Redelivery is rare: mostly everybody says something new.
        let new = |(sighting, _): &(&Sighting, _)| !decided.contains(&sighting.key);
        let fewer = || questions::who(batch.sightings.iter().copied().filter(new), &batch.presences);
        let fewer = (!decided.is_empty()).then(fewer);
        let spoken = fewer.as_ref().unwrap_or(&everybody);
        let mut questions = Questions::new(&everybody, spoken, &frontiers, &book, &self.memory, now.wall);
        let lengths = transaction.lengths(&questions.again, business, horizon).await?;
        let (batch, rest) = batch.without(&questions.postpone(&lengths, self.room));
        let oldest = questions.standings.values().min().copied().unwrap_or(now.wall);
        let since = look_back(oldest, &book);
        let standings = transaction.standings(&questions.standings, business, since).await?;
        let pasts = transaction.pasts(&questions.pasts(), business, horizon).await?;
        let decided_from = questions::decided_from(&standings, &questions.again, since);
        let calendar = book.rules().calendar;
        let usage = transaction.usage(&usage_query(directory, &book, &calendar, &decided_from)).await?;
        let found =
            Found { standings, frontiers, again: questions.again, pasts, decided_from, usage, until: batch.until };
        let heard = self.heard_times(now);
        let mut plan = Plan::new(directory, &book, &self.memory, &heard, found, now);
        plan.decide(&batch.sightings, &batch.presences, &decided, random::uuid);
        for (source, rejection, written) in &batch.rejections {
            plan.reject(source, rejection, *written, random::uuid());
        }
        Ok((Self::write(plan, transaction, &book, now.wall).await?, rest))
    }

    async fn write(
        mut plan: Plan<'_>,
        mut transaction: crate::store::Batch,
        book: &Rulebook,
        now: WallTime,
    ) -> Result<Done, StoreError> {
        let calendar = book.rules().calendar;
        let (failures, lines) = plan.taken_back();
        transaction.take_back(failures, lines, book.site.business).await?;
        let written = transaction.put_failures(plan.failures(), &calendar, now).await?;
        plan.repeated(&written);
        // While the database works, what comes next is made ready.
        let visits = async {
            transaction.put_visits(&plan.visits(), &calendar, now).await?;
            let (charges, taken_back) = plan.charges();
            transaction.delete_charges(&taken_back).await?;
            transaction.put_charges(&charges, now).await
        };
        let (put, log) = tokio::join!(visits, async { Log::of(plan.log()) });
        put?;
        transaction.put_log(log).await?;
        let (committed, done) = tokio::join!(transaction.commit(), async { plan.done(&written) });
        committed.map(|()| done)
    }

    /// After the commit: timers, taps, figures.
    fn remember(&mut self, mut done: Done, presences: usize) {
        let now = self.now();
        let book = Arc::clone(&self.with.book.borrow());
        self.settle_visits(&done, &book, now);
        self.memory.take_taps(&mut done.taps);
        for (coworker, frontier, taps) in done.recent {
            self.memory.decided(coworker, frontier, taps, now.boot);
        }
        for (mac, day) in done.reports {
            self.memory.reported(mac, day);
        }
        let metrics = &self.with.metrics;
        metrics.received((done.outcomes.len().saturating_sub(presences)) as u64);
        metrics.presences(presences as u64);
        let mut outcomes: BTreeMap<engine::decision::Outcome, u64> = BTreeMap::new();
        for (outcome, reason) in done.outcomes {
            *outcomes.entry(outcome).or_default() += 1;
            if let Some(reason) = reason {
                metrics.failed(reason.code());
            }
        }
        for (outcome, sightings) in outcomes {
            metrics.decided(outcome, sightings);
        }
        metrics.decided_again(done.decided_again);
        if done.left_out > 0 {
            self.left_out += done.left_out;
            metrics.left_out(done.left_out);
            let detail = format!(
                "more than {UNRECOGNISED_A_DAY} unrecognised devices today; {} sightings of more were not recorded. \
                 If this is a guest network, set unrecognised_devices to \"global-only\" or \"off\"",
                self.left_out
            );
            self.with.health.raise(ConditionKind::UnrecognisedFlood, "", detail);
            self.flood_day = Some(book.rules().calendar.pass_day(now.wall));
        } else if self.flood_day.is_some_and(|day| !day.contains(now.wall)) {
            self.with.health.clear(ConditionKind::UnrecognisedFlood, "");
            self.flood_day = None;
            self.left_out = 0;
        }
    }

    fn settle_visits(&mut self, done: &Done, book: &Rulebook, now: Now) {
        let calendar = book.rules().calendar;
        let heard = self.with.hearing.heard(now.boot);
        for (coworker, visits) in &done.settled {
            if !visits.iter().any(engine::Visit::is_open) {
                self.memory.gone(*coworker);
            }
            for visit in visits.iter().filter(|visit| visit.is_open()) {
                let heard_now = done.heard.contains(coworker);
                self.memory.settle(visit, calendar.pass_day(visit.from).end, heard, now, heard_now);
            }
        }
        self.with.metrics.open_checkins(i64::try_from(self.memory.open()).unwrap_or(i64::MAX));
    }

    /// Closes the check-ins whose timers are due.
    async fn fire(&mut self, due: &[Due]) -> Result<(), StoreError> {
        let now = self.now();
        let book = Arc::clone(&self.with.book.borrow());
        let directory = Arc::clone(&self.with.directory.borrow());
        let coworkers: BTreeMap<_, _> = due.iter().map(|due| (due.coworker, now.wall)).collect();
        let mut transaction = self.with.store.batch().await?;
        let found = Self::found_open(&mut transaction, &directory, &book, &coworkers, now.wall).await?;
        let heard = self.heard_times(now);
        let mut plan = Plan::new(&directory, &book, &self.memory, &heard, found, now);
        plan.time_out(due, random::uuid);
        let visits = plan.visits();
        let closed = visits.stays.len() + visits.changed.len();
        let done = Self::write(plan, transaction, &book, now.wall).await?;
        self.settle_visits(&done, &book, now);
        let silent = due.iter().filter(|due| due.timeout == Timeout::Silence).count();
        tracing::info!(closed, silent, at_cut_off = due.len() - silent, "checked out automatically");
        Ok(())
    }

    /// What the database says of people who are in, for decisions that no sighting asks for.
    async fn found_open(
        transaction: &mut crate::store::Batch,
        directory: &Directory,
        book: &Rulebook,
        coworkers: &BTreeMap<CoworkerId, WallTime>,
        now: WallTime,
    ) -> Result<Found, StoreError> {
        transaction.lock_passes(directory, &book.site.passes, coworkers.keys().copied()).await?;
        let standings = transaction.standings(coworkers, book.site.business, now).await?;
        let began = |standing: &engine::Standing| standing.open().map_or(now, |open| open.from);
        let decided_from = standings.iter().map(|(coworker, standing)| (*coworker, began(standing))).collect();
        let usage = transaction.usage(&usage_query(directory, book, &book.rules().calendar, &decided_from)).await?;
        Ok(Found { standings, decided_from, usage, ..Found::default() })
    }

    /// After an import: those who may no longer be in are out, and passes last as long as they do now.
    async fn review(&mut self, directory: &Arc<Directory>) -> Result<(), StoreError> {
        let now = self.now();
        let book = Arc::clone(&self.with.book.borrow());
        let coworkers: Vec<CoworkerId> = self.memory.people().collect();
        for portion in coworkers.chunks(TIMERS) {
            let asked = portion.iter().map(|coworker| (*coworker, now.wall)).collect();
            let mut transaction = self.with.store.batch().await?;
            let found = Self::found_open(&mut transaction, directory, &book, &asked, now.wall).await?;
            let heard = self.heard_times(now);
            let mut plan = Plan::new(directory, &book, &self.memory, &heard, found, now);
            plan.review(portion, random::uuid);
            let done = Self::write(plan, transaction, &book, now.wall).await?;
            self.settle_visits(&done, &book, now);
        }
        self.reviewed = Some(directory.version);
        Ok(())
    }

    /// Writes down that we could hear until now.
    async fn write_heard(&mut self, last: bool) -> Result<(), StoreError> {
        let now = self.now();
        let heard = self.with.hearing.heard(now.boot);
        let business = self.with.book.borrow().site.business;
        let Some(stretch) = self.stretch.filter(|stretch| self.is_unbroken(stretch, now)) else {
            let hearing = self.with.hearing.is_hearing();
            self.stretch =
                hearing.then(|| Stretch { id: random::uuid(), from: now, heard_from: heard, written: now.boot });
            return Ok(());
        };
        if last || now.boot.since(stretch.written) >= HEARD_EVERY {
            self.put_stretch(stretch, business, now).await?;
            self.stretch = Some(Stretch { written: now.boot, ..stretch });
        }
        Ok(())
    }

    async fn put_stretch(&mut self, stretch: Stretch, business: BusinessId, now: Now) -> Result<(), StoreError> {
        let heard = Heard { from: stretch.from.wall, to: now.wall.max(stretch.from.wall) };
        self.with.store.put_heard(stretch.id, business, heard).await?;
        match self.heard.back_mut().filter(|(id, _)| *id == stretch.id) {
            Some((_, known)) => *known = heard,
            None => self.heard.push_back((stretch.id, heard)),
        }
        let oldest = now.wall.minus(HEARD_KEPT);
        while self.heard.len() > STRETCHES || self.heard.front().is_some_and(|(_, heard)| heard.to < oldest) {
            self.heard.pop_front();
        }
        Ok(())
    }

    /// When we could hear. What the captures hear while the database refuses what we write does not count before it is
    /// written.
    fn heard_times(&self, now: Now) -> HeardTimes {
        let written = self.heard.iter().map(|(_, heard)| (heard.from, heard.to));
        let going_on = self.stretch.filter(|stretch| self.refused_since.is_none() && self.is_unbroken(stretch, now));
        HeardTimes::new(written.chain(going_on.map(|stretch| (stretch.from.wall, now.wall))))
    }

    fn is_unbroken(&self, stretch: &Stretch, now: Now) -> bool {
        let heard = self.with.hearing.heard(now.boot).saturating_sub(stretch.heard_from);
        let passed = now.boot.since(stretch.from.boot);
        passed.saturating_sub(heard) < STEP && now.wall.since(stretch.from.wall).abs_diff(passed) < STEP
    }

    /// The database takes what we write. What the captures heard while it did not could not be written, so nobody's
    /// silence in that time is known.
    fn taken(&mut self) {
        self.with.health.clear(ConditionKind::DatabaseUnavailable, "");
        if let Some(before) = self.refused_since.take() {
            let heard = self.with.hearing.heard(self.with.clock.now().boot);
            self.memory.forgive(heard.saturating_sub(before));
            self.stretch = None;
        }
    }

    /// A reload may have moved the cut-off.
    fn watch_book(&mut self, now: Now) {
        if self.with.book.has_changed().unwrap_or(false) {
            let calendar = self.with.book.borrow_and_update().rules().calendar;
            self.memory.reset_cut_offs(|from| calendar.pass_day(from).end, now);
        }
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
            patiently!(self, deadline, self.move_visits(by));
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

    /// Moves the open check-ins by so many milliseconds, and sets their cut-offs anew.
    ///
    /// At the first synchronisation after the machine's start, those that were open before it keep their times: another,
    /// right clock may have written them.
    async fn move_visits(&mut self, by: i64) -> Result<(), StoreError> {
        let now = self.with.clock.now();
        let first = now.boot < BootTime::from_duration(FIRST_SYNC);
        let book = Arc::clone(&self.with.book.borrow());
        let calendar = book.rules().calendar;
        let moving = self.memory.stamped_before_step(by, first, now);
        let coworkers: BTreeMap<CoworkerId, WallTime> = moving.values().map(|&coworker| (coworker, now.wall)).collect();
        let mut transaction = self.with.store.batch().await?;
        let only_open = WallTime::from_millis(i64::MAX);
        let standings = transaction.standings(&coworkers, book.site.business, only_open).await?;
        let open = standings.values().filter_map(engine::Standing::open);
        let moved: Vec<engine::Visit> =
            open.filter(|visit| moving.contains_key(&visit.unique_id)).map(|visit| visit.moved(by)).collect();
        let changes = Changes { changed: moved.iter().collect(), ..Changes::default() };
        transaction.put_visits(&changes, &calendar, now.wall).await?;
        let stale = moved.iter().map(|visit| (visit.coworker, visit.from.moved(-by).min(visit.from)));
        transaction.spoil(&stale.collect(), book.site.business).await?;
        transaction.commit().await?;
        self.memory.step(&moving, by, |from| calendar.pass_day(from).end, now);
        tracing::warn!(
            seconds = by / 1000,
            moved = moved.len(),
            "the wall clock was stepped; open check-ins moved with it"
        );
        Ok(())
    }

    /// After a failure: whether and when to try again. At once after a conflict, after a growing pause while the database
    /// is unavailable.
    async fn again(
        &mut self,
        patience: &mut Patience,
        error: StoreError,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        self.with.metrics.commit_failed();
        let heard = self.with.hearing.heard(self.with.clock.now().boot);
        self.refused_since.get_or_insert(heard);
        self.with.alive.send_replace(Some(self.with.clock.now().boot));
        match error {
            StoreError::Conflict if patience.conflicts < CONFLICTS => {
                patience.conflicts += 1;
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
            () = time::sleep(random::jittered(patience.pause)) => {}
        }
        patience.pause = (patience.pause * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

/// How often one piece of work was tried.
#[derive(Debug)]
struct Patience {
    pause: Duration,
    conflicts: u32,
}

impl Patience {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE, conflicts: 0 }
    }
}

/// By how many milliseconds the wall clock was stepped between two looks; what was kept from an earlier start of the
/// machine has the time that it had.
fn stepped(was: Now, now: Now) -> Option<i64> {
    if was.boot.is_earlier() {
        return None;
    }
    let expected = was.wall.plus(now.boot.since(was.boot));
    (now.wall.distance(expected) > STEP).then(|| now.wall.millis().saturating_sub(expected.millis()))
}

/// A message that arrived before a step, or before the clock was set, gets the time that it would have now.
fn retime(delivery: &mut Delivery, now: Now) {
    let Content::Sightings(sightings) = &mut delivery.content else { return };
    for sighting in sightings {
        let Some(by) = stepped(sighting.arrived, now) else { continue };
        sighting.arrived.wall = sighting.arrived.wall.moved(by);
        match sighting.time_quality {
            TimeQuality::Arrival => sighting.event_at = sighting.event_at.moved(by),
            TimeQuality::Device | TimeQuality::Corrected => {}
        }
    }
}

/// The same for what a capture heard; and what it merged across a step is put in order.
fn retimed_presence(mut presence: Presence, now: Now) -> Presence {
    let by = stepped(presence.arrived, now).unwrap_or(0);
    let last = presence.last_at.min(presence.arrived.wall);
    presence.last_at = last.moved(by);
    presence.last_strong_at = presence.last_strong_at.map(|at| at.min(last).moved(by));
    let first = if presence.first_at < EARLIEST && last >= EARLIEST { last } else { presence.first_at.min(last) };
    presence.first_at = first.moved(by);
    let since = if presence.since < EARLIEST && first >= EARLIEST { first } else { presence.since.min(first) };
    presence.since = since.moved(by);
    presence.arrived.wall = presence.arrived.wall.moved(by);
    presence
}

fn usage_query<'a>(
    directory: &'a Directory,
    book: &'a Rulebook,
    calendar: &'a Calendar,
    people: &'a BTreeMap<CoworkerId, WallTime>,
) -> UsageQuery<'a> {
    let policy = &book.site.passes;
    UsageQuery { directory, policy, calendar, business: book.site.business, people }
}

/// The visits that an event can concern: those of its pass day, and one that ended so shortly before that its phone may
/// still linger.
fn look_back(oldest: WallTime, book: &Rulebook) -> WallTime {
    book.rules().calendar.pass_day(oldest).start.minus(Duration::from_hours(24))
}

#[cfg(test)]
mod again;
#[cfg(test)]
mod constant_work;
#[cfg(test)]
mod late;
#[cfg(test)]
mod order;
#[cfg(test)]
mod passes;
#[cfg(test)]
mod tests;
