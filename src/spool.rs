//! The local spool: with a shared PostgreSQL, door messages are on this machine's disk before they are acknowledged.
//!
//! One task stands between the broker session and the pipeline. What has queued up is one transaction of a SQLite file;
//! after its fsync the broker gets its acknowledgements, and the same deliveries go on to the pipeline, each with a
//! receipt that says that the shared database has it. Then it is forgotten, lazily: whatever is replayed once too often
//! has the keys that it had, and is a duplicate. While the database is away the file grows up to its limit; then nothing
//! more is acknowledged, and the broker keeps the rest. What an earlier process left is handed over first.
//!
//! Presences of the network are not spooled: the captures merge them, so that an outage costs nothing but repetition.
//!
//! Never here: what a message means. With a SQLite database there is no spool, because the commit of the decision is
//! the same disk.

mod kept;

use std::{
    fs::File,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc::{self, Permit},
    time::{self, Sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        backoff::Backoff,
        clock::{BootTime, Clock, EARLIEST, Now},
        health::{ConditionKind, Health},
    },
    mapping::content::Content,
    settings,
    source::{Delivery, mqtt::window::AckWindow},
    store::{SpoolFile, Spooled, StoreError},
};

/// Messages that are written, or read again, at once: as many as the pipeline takes in one batch.
const BATCH: usize = 1000;

/// How often gauges and conditions are brought up to date.
const TICK: Duration = Duration::from_secs(1);

/// How long rows that are done wait for the next write to be forgotten with it, before that costs an fsync of its own.
/// After a crash this much is replayed for nothing.
const FORGET_AFTER: Duration = Duration::from_secs(5);

/// Between two tries while the disk takes nothing; doubled from the first to the last.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(2) };

/// What the spool counts; metrics read it.
#[derive(Debug, Default)]
pub struct SpoolCounters {
    /// Messages in it that the shared database does not have yet.
    pub depth: AtomicU64,
    /// Bytes of the file that are in use.
    pub bytes: AtomicU64,
    /// The bytes that may be in use.
    pub limit: AtomicU64,
    /// Whole seconds since the oldest message in it arrived.
    pub oldest: AtomicU64,
    /// Messages written.
    pub written: AtomicU64,
    /// Door events of an earlier process that were handed over again.
    pub replayed: AtomicU64,
    /// Writes and reads that failed, and were tried again.
    pub failures: AtomicU64,
}

/// The two ends of the spool, and how it is told to stop.
#[derive(Debug)]
pub struct SpoolEnds {
    /// From the broker session.
    pub input: mpsc::Receiver<Delivery>,
    /// To the pipeline.
    pub output: mpsc::Sender<Delivery>,
    /// Cancelled by the spool when the session has ended and nothing more of it will be acknowledged.
    pub taken: CancellationToken,
    /// Ends the spool; what it holds is for the next process.
    pub stop: CancellationToken,
}

/// The spool; see the module.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    /// None while a new one cannot be made.
    file: Option<SpoolFile>,
    /// Two processes on one spool would hand everything over twice.
    _lock: File,
    clock: Clock,
    health: Health,
    counters: Arc<SpoolCounters>,
    limit: u64,
    /// Rows up to here are of earlier processes.
    inherited: i64,
    /// The clocks when this process began to use the spool; they judge the arrivals of those rows.
    began: Now,
    /// The last row in the file.
    written: i64,
    /// The last row that was handed over.
    handed: i64,
    /// The last row up to which the shared database has everything.
    done: Arc<AtomicI64>,
    window: Arc<AckWindow<i64>>,
    /// The last row that was deleted, and when.
    forgotten: (i64, BootTime),
    used: u64,
    full: bool,
    looked: Option<BootTime>,
    /// The disk takes nothing; wait before the next try.
    failing: bool,
    /// The disk cannot be read; wait before the next try.
    unreadable: bool,
    /// How often in a row it has failed.
    failures: u32,
}

impl Spool {
    /// Opens or creates the spool, and sees what an earlier process has left.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it may be better in a moment; [`StoreError::Unusable`] when another process has it
    /// or it is damaged.
    pub async fn open(
        settings: &settings::SpoolSettings,
        clock: Clock,
        health: Health,
        counters: Arc<SpoolCounters>,
    ) -> Result<Self, StoreError> {
        let lock = lock(&settings.path)?;
        let file = SpoolFile::open(&settings.path).await?;
        let ends = file.ends().await?;
        let used = file.append(&[], 0).await?;
        let (before, last) = ends.map_or((0, 0), |(first, last)| (first - 1, last));
        if last > before {
            tracing::info!(messages = last - before, "the spool holds door messages of an earlier run");
        }
        let done = Arc::new(AtomicI64::new(before));
        let window = {
            let done = Arc::clone(&done);
            AckWindow::new(move |seq| done.store(seq, Relaxed))
        };
        let began = clock.now();
        counters.limit.store(settings.limit, Relaxed);
        counters.depth.store(u64::try_from(last - before).unwrap_or(0), Relaxed);
        Ok(Self {
            path: settings.path.clone(),
            file: Some(file),
            _lock: lock,
            clock,
            health,
            counters,
            limit: settings.limit,
            inherited: last,
            began,
            written: last,
            handed: before,
            done,
            window,
            forgotten: (before, began.boot),
            used,
            full: false,
            looked: None,
            failing: false,
            unreadable: false,
            failures: 0,
        })
    }

    /// Is there nothing of an earlier process in it?
    pub const fn is_empty(&self) -> bool {
        self.handed == self.written
    }

    /// Works until it is told to stop, or until the session has ended and the pipeline has everything.
    ///
    /// # Errors
    /// When the file can never be used again.
    pub async fn run(mut self, mut ends: SpoolEnds) -> Result<(), StoreError> {
        if !self.clock_set(&ends.stop).await {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(BATCH);
        let (mut has_input, mut has_reader) = (true, true);
        let mut retry: Pin<Box<Sleep>> = Box::pin(time::sleep(Duration::ZERO));
        loop {
            let behind = usize::try_from(self.written - self.handed).unwrap_or(BATCH).min(BATCH);
            let waiting = self.failing || self.unreadable;
            tokio::select! {
                () = ends.stop.cancelled() => break,
                room = ends.output.reserve_many(behind), if behind > 0 && has_reader && !self.unreadable => match room {
                    Ok(room) => self.read_again(room).await?,
                    Err(_) => has_reader = false,
                },
                count = ends.input.recv_many(&mut batch, BATCH), if has_input && batch.is_empty() && !self.full => {
                    has_input = count > 0;
                }
                () = &mut retry, if waiting => (self.failing, self.unreadable) = (false, false),
                () = time::sleep(TICK) => {}
            }
            if !batch.is_empty() && !self.failing {
                self.keep(&mut batch, &ends.output).await?;
            }
            self.look().await?;
            if (self.failing || self.unreadable) && (!waiting || retry.is_elapsed()) {
                retry.set(time::sleep(RETRY.pause(self.failures)));
                self.failures = self.failures.saturating_add(1);
            }
            let stuck = self.full || self.failing;
            if !has_input || (stuck && ends.input.is_closed()) {
                ends.taken.cancel();
            }
            if !has_input && self.done.load(Relaxed) == self.written {
                break;
            }
        }
        self.leave().await;
        Ok(())
    }

    /// Waits while the wall clock says a time before this program existed; false when it is told to stop meanwhile.
    ///
    /// Nothing is taken in: what arrives now would not be known to have arrived when, after another start of the machine.
    async fn clock_set(&mut self, stop: &CancellationToken) -> bool {
        while self.clock.now().wall < EARLIEST {
            if stop.run_until_cancelled(time::sleep(TICK)).await.is_none() {
                return false;
            }
        }
        self.began = self.clock.now();
        true
    }

    /// Writes what came from the session, acknowledges it, and hands it over if nothing is before it.
    async fn keep(&mut self, batch: &mut Vec<Delivery>, output: &mpsc::Sender<Delivery>) -> Result<(), StoreError> {
        let now = self.clock.now().wall;
        let mut rows = Vec::with_capacity(batch.len());
        let told = batch.iter().filter(|delivery| delivery.content != Content::Ignored);
        for (delivery, seq) in told.zip(self.written + 1..) {
            rows.push(Spooled { seq, arrived_at: now, message: kept::written(&delivery.source, &delivery.content) });
        }
        let done = self.done.load(Relaxed);
        if !rows.is_empty() {
            match self.append(&rows, done).await {
                Ok(used) => self.taken(used, done),
                Err(error) => return self.not_written(error),
            }
        }
        let caught_up = self.handed == self.written;
        self.written += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        self.counters.written.fetch_add(rows.len() as u64, Relaxed);
        self.counters.depth.store(u64::try_from(self.written - done).unwrap_or(0), Relaxed);
        // Only when there is room for all of them; otherwise they are read again when there is.
        let mut room = if caught_up { output.try_reserve_many(rows.len()).ok() } else { None };
        for Delivery { source, content, receipt } in batch.drain(..) {
            receipt.spend();
            if content != Content::Ignored
                && let Some(permit) = room.as_mut().and_then(Iterator::next)
            {
                self.hand_over(permit, self.handed + 1, source, content);
            }
        }
        Ok(())
    }

    /// Hands over the next rows of the file.
    async fn read_again(&mut self, room: impl Iterator<Item = Permit<'_, Delivery>>) -> Result<(), StoreError> {
        let room: Vec<_> = room.collect();
        let Some(file) = self.file.clone() else { return Ok(()) };
        let rows = match file.page(self.handed, room.len()).await {
            Ok(rows) => rows,
            Err(error) => return self.not_read(error),
        };
        for (row, permit) in rows.into_iter().zip(room) {
            let inherited = row.seq <= self.inherited;
            let read = kept::read(&row.message, inherited.then_some(self.began));
            let (source, content) = read.unwrap_or_else(|| {
                tracing::error!("a message in the spool is of another version of this program and cannot be read");
                kept::unreadable()
            });
            if inherited {
                self.counters.replayed.fetch_add(content.events(), Relaxed);
            }
            self.hand_over(permit, row.seq, source, content);
        }
        Ok(())
    }

    fn hand_over(&mut self, permit: Permit<'_, Delivery>, seq: i64, source: Arc<str>, content: Content) {
        permit.send(Delivery { source, content, receipt: self.window.receipt(seq) });
        self.handed = seq;
    }

    /// Writes to the file. When it takes nothing, and holds nothing either that anybody still needs, it begins anew: on
    /// a full disk even deleting takes room.
    async fn append(&mut self, rows: &[Spooled], done: i64) -> Result<u64, StoreError> {
        let file = match self.file.clone() {
            Some(file) => file,
            None => self.file.insert(SpoolFile::open(&self.path).await?).clone(),
        };
        let written = file.append(rows, done).await;
        if matches!(written, Err(StoreError::Unavailable(_))) && done == self.written {
            file.close().await;
            self.file = None;
            if let Err(error) = SpoolFile::remove(&self.path) {
                tracing::warn!(%error, "an empty spool could not be removed");
            }
        }
        written
    }

    /// The file has taken what was written.
    fn taken(&mut self, used: u64, done: i64) {
        self.used = used;
        self.full |= used >= self.limit;
        self.forgotten = (done, self.clock.now().boot);
        self.failures = 0;
        self.health.clear(ConditionKind::SpoolUnavailable, "");
    }

    fn not_written(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.failing = true;
        self.failed(error)
    }

    fn not_read(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.unreadable = true;
        self.failed(error)
    }

    /// After a failure: it is tried again after a growing pause, unless it never will succeed.
    fn failed(&self, error: StoreError) -> Result<(), StoreError> {
        self.counters.failures.fetch_add(1, Relaxed);
        let source = match error {
            unusable @ StoreError::Unusable { .. } => return Err(unusable),
            StoreError::Conflict => "another process writes it".to_owned(),
            StoreError::Unavailable(source) => source.to_string(),
        };
        let detail = format!(
            "the spool cannot be used ({source}); door messages stay with the broker meanwhile. Make room on its disk, or \
             replace the disk"
        );
        self.health.raise(ConditionKind::SpoolUnavailable, "", detail);
        Ok(())
    }

    /// Once a second: forgets what is done, and brings gauges and conditions up to date.
    async fn look(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.looked.is_some_and(|looked| now.boot.since(looked) < TICK) {
            return Ok(());
        }
        self.looked = Some(now.boot);
        let done = self.done.load(Relaxed);
        let (forgotten, at) = self.forgotten;
        let due = done > forgotten && (self.full || now.boot.since(at) >= FORGET_AFTER);
        if !self.failing && (due || self.health.is_raised(ConditionKind::SpoolUnavailable, "")) {
            match self.append(&[], done).await {
                Ok(used) => self.taken(used, done),
                Err(error) => self.not_written(error)?,
            }
        }
        let depth = u64::try_from(self.written - done).unwrap_or(0);
        let oldest = match self.file.clone() {
            Some(file) if depth > 0 && !self.unreadable => match file.page(done, 1).await {
                Ok(rows) => rows.first().map_or(Duration::ZERO, |row| now.wall.since(row.arrived_at)),
                Err(error) => return self.not_read(error),
            },
            Some(_) | None => Duration::ZERO,
        };
        self.counters.depth.store(depth, Relaxed);
        self.counters.bytes.store(self.used, Relaxed);
        self.counters.oldest.store(oldest.as_secs(), Relaxed);
        self.judge(depth, oldest);
        Ok(())
    }

    /// Raises and clears what there is to say about the size. A condition ends well below where it begins, so that it
    /// does not come and go.
    fn judge(&mut self, depth: u64, oldest: Duration) {
        self.full = self.used >= if self.full { self.limit - self.limit / 20 } else { self.limit };
        let percent = self.used.saturating_mul(100) / self.limit.max(1);
        let minutes = oldest.as_secs() / 60;
        if self.full {
            let detail = format!(
                "the spool is full: {depth} door messages, the oldest {minutes} minutes old, wait for the database; \
                 further ones stay with the broker, which may keep only a few. Bring the database back, or raise \
                 spool.limit"
            );
            self.health.raise(ConditionKind::SpoolFull, "", detail);
        } else {
            self.health.clear(ConditionKind::SpoolFull, "");
        }
        let filling = self.health.is_raised(ConditionKind::SpoolFilling, "");
        if self.used >= self.limit / if filling { 20 } else { 10 } {
            let detail = format!(
                "{percent}% of the spool are in use: {depth} door messages, the oldest {minutes} minutes old, wait for \
                 the database. Nothing is lost; bring the database back"
            );
            self.health.raise(ConditionKind::SpoolFilling, "", detail);
        } else {
            self.health.clear(ConditionKind::SpoolFilling, "");
        }
    }

    /// The orderly end. What could not be forgotten is replayed for nothing.
    async fn leave(self) {
        let done = self.done.load(Relaxed);
        if let Some(file) = &self.file {
            if done > self.forgotten.0
                && let Err(error) = file.append(&[], done).await
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "the spool was not tidied up at the end");
            }
            file.close().await;
        }
        if self.written > done {
            tracing::info!(messages = self.written - done, "the spool holds door messages for the next run");
        }
    }
}

/// Takes the spool for this process.
fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unusable = |what: String| StoreError::Unusable { what, source: None };
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(|error| {
        unusable(format!("{} cannot be made ({error}); its folder must exist and be writable", name.display()))
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(unusable(format!("another checkind uses the spool {}; give each its own spool.path", path.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(unusable(format!("{} cannot be locked ({error})", name.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        mapping::content::{RejectReason, Rejection},
        source::Receipt,
    };
    use std::sync::Mutex;

    struct Bench {
        folder: tempfile::TempDir,
        health: Health,
        counters: Arc<SpoolCounters>,
        /// The messages in the order in which they were acknowledged to the broker.
        acknowledged: Arc<Mutex<Vec<u32>>>,
    }

    /// A spool at work.
    struct Running {
        session: mpsc::Sender<Delivery>,
        pipeline: mpsc::Receiver<Delivery>,
        taken: CancellationToken,
        stop: CancellationToken,
        task: tokio::task::JoinHandle<Result<(), StoreError>>,
    }

    impl Bench {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self {
                folder,
                health: Health::new(Clock::system()),
                counters: Arc::default(),
                acknowledged: Arc::default(),
            }
        }

        async fn open(&self, limit: u64) -> Result<Spool, StoreError> {
            let settings = settings::SpoolSettings { path: self.folder.path().join("spool.db"), limit };
            Spool::open(&settings, Clock::system(), self.health.clone(), Arc::clone(&self.counters)).await
        }

        /// `room` is that of the queue to the pipeline.
        #[expect(clippy::disallowed_methods, reason = "a test is its own supervisor")]
        async fn start(&self, limit: u64, room: usize) -> Running {
            // Room for all that a test sends, whatever the spool takes of it.
            let (session, input) = mpsc::channel(4096);
            let (output, pipeline) = mpsc::channel(room);
            let (taken, stop) = (CancellationToken::new(), CancellationToken::new());
            let ends = SpoolEnds { input, output, taken: taken.clone(), stop: stop.clone() };
            let spool = self.open(limit).await.expect("the spool opens");
            let task = tokio::spawn(spool.run(ends));
            Running { session, pipeline, taken, stop, task }
        }

        fn delivery(&self, number: u32) -> Delivery {
            let log = Arc::clone(&self.acknowledged);
            let sample = number.to_string();
            let rejection = Rejection { why: RejectReason::NoRule, topic: "doors".to_owned(), sample };
            Delivery {
                source: Arc::from("side"),
                content: if number % 10 == 9 { Content::Ignored } else { Content::Rejected(rejection) },
                receipt: Receipt::new(move || log.lock().expect("the log").push(number)),
            }
        }

        async fn wait_for_acknowledged(&self, count: usize) {
            while self.acknowledged.lock().expect("the log").len() < count {
                time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    fn number(delivery: &Delivery) -> u32 {
        let Content::Rejected(rejection) = &delivery.content else { panic!("{delivery:?}") };
        rejection.sample.parse().expect("a number")
    }

    /// Without the messages that say nothing to decide.
    fn told(numbers: std::ops::Range<u32>) -> impl Iterator<Item = u32> {
        numbers.filter(|number| number % 10 != 9)
    }

    #[tokio::test]
    async fn everything_is_acknowledged_in_order_and_handed_over_in_order_however_slow_the_reader_is() {
        let bench = Bench::new();
        let mut running = bench.start(1_000_000_000, 1000).await;
        for number in 0..5000 {
            running.session.send(bench.delivery(number)).await.expect("it is read");
        }
        bench.wait_for_acknowledged(5000).await;
        assert!(bench.acknowledged.lock().expect("the log").iter().copied().eq(0..5000));
        drop(running.session);
        for expected in told(0..5000) {
            let delivery = running.pipeline.recv().await.expect("it is handed over");
            assert_eq!(number(&delivery), expected);
            delivery.receipt.spend();
        }
        running.task.await.expect("no panic").expect("a good end");
        assert!(running.taken.is_cancelled());
        let next = bench.open(1_000_000_000).await.expect("the spool opens again");
        assert_eq!(next.written, 0, "nothing is left");
    }

    #[tokio::test]
    async fn what_was_not_committed_comes_again_in_the_next_life_and_nothing_before_it() {
        let bench = Bench::new();
        let mut running = bench.start(1_000_000_000, 1000).await;
        for number in 0..500 {
            running.session.send(bench.delivery(number)).await.expect("it is read");
        }
        bench.wait_for_acknowledged(500).await;
        for _ in told(0..200) {
            running.pipeline.recv().await.expect("it is handed over").receipt.spend();
        }
        let unspent = running.pipeline.recv().await.expect("it is handed over");
        running.stop.cancel();
        running.task.await.expect("no panic").expect("a good end");
        drop(unspent);

        let mut running = bench.start(1_000_000_000, 1000).await;
        running.session.send(bench.delivery(500)).await.expect("it is read");
        for expected in told(200..501) {
            let delivery = running.pipeline.recv().await.expect("it is handed over");
            assert_eq!(number(&delivery), expected);
        }
        assert_eq!(bench.counters.replayed.load(Relaxed), 270);
        running.stop.cancel();
        running.task.await.expect("no panic").expect("a good end");
    }

    #[tokio::test]
    async fn a_full_spool_takes_nothing_more_until_there_is_room() {
        let bench = Bench::new();
        let mut running = bench.start(50_000, 1000).await;
        for number in 0..3000 {
            running.session.send(bench.delivery(number)).await.expect("it is read");
        }
        while !bench.health.is_raised(ConditionKind::SpoolFull, "") {
            time::sleep(Duration::from_millis(2)).await;
        }
        let held = bench.acknowledged.lock().expect("the log").len();
        assert!(held < 3000, "{held}");
        for _ in told(0..3000) {
            running.pipeline.recv().await.expect("it is handed over").receipt.spend();
        }
        bench.wait_for_acknowledged(3000).await;
        running.stop.cancel();
        running.task.await.expect("no panic").expect("a good end");
    }

    #[tokio::test]
    async fn two_processes_do_not_share_a_spool() {
        let bench = Bench::new();
        let first = bench.open(1_000_000).await.expect("the spool opens");
        let second = bench.open(1_000_000).await.expect_err("it is taken");
        assert!(second.to_string().contains("another checkind"), "{second}");
        drop(first);
        bench.open(1_000_000).await.expect("it is free again");
    }
}
