//! The local spool: with a shared PostgreSQL, door messages are stored on this machine's disk before they are
//! acknowledged.
//!
//! One task sits between the broker session and the pipeline. It writes the messages that have queued up to a SQLite
//! file, in one transaction. After its fsync, the broker gets the acknowledgements, and the same deliveries continue to
//! the pipeline. When the pipeline spends their receipts, the shared database has them, and the spool deletes them,
//! lazily: a message that is replayed needlessly still has its key, and is a duplicate. While the database is
//! unavailable, the file grows up to its limit. Then nothing more is acknowledged, and the broker keeps the rest.
//! Messages of an earlier process go to the pipeline first.
//!
//! Presences from the network are not spooled: the captures merge them, so an outage costs only repetition.
//!
//! Never here: what a message means. With a SQLite database there is no spool, because the decision is committed to the
//! same disk.

mod fill;
mod lock;
mod message;

use std::{
    fs::File,
    path::PathBuf,
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

use self::{fill::SpoolFill, lock::lock};
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

/// How many messages are written, or read back, at once: as many as the pipeline processes in one batch.
const BATCH: usize = 1000;

/// How often gauges and conditions are updated.
const TICK: Duration = Duration::from_secs(1);

/// How long committed rows may wait for the next write to delete them; after that, their deletion gets an fsync of its
/// own. After a crash, rows committed within this time are replayed needlessly.
const DELETE_AFTER: Duration = Duration::from_secs(5);

/// Pauses between attempts while the disk fails.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(2) };

/// Counters and gauges of the spool, for metrics.
#[derive(Debug, Default)]
pub struct SpoolCounters {
    /// Messages that the shared database does not have yet.
    pub depth: AtomicU64,
    /// Bytes of the file that are in use.
    pub bytes: AtomicU64,
    /// Bytes that may be in use.
    pub limit: AtomicU64,
    /// Age of the oldest message in the spool, in whole seconds.
    pub oldest: AtomicU64,
    /// Messages written.
    pub written: AtomicU64,
    /// Door events of an earlier process that were replayed to the pipeline.
    pub replayed: AtomicU64,
    /// Writes and reads that failed and were tried again.
    pub failures: AtomicU64,
}

/// The input and output of the spool, and the signals for its end.
#[derive(Debug)]
pub struct SpoolEnds {
    /// From the broker session.
    pub input: mpsc::Receiver<Delivery>,
    /// To the pipeline.
    pub output: mpsc::Sender<Delivery>,
    /// Cancelled by the spool when the session has ended and no more of its messages will be acknowledged.
    pub settled: CancellationToken,
    /// Ends the spool; the next process continues with its content.
    pub stop: CancellationToken,
}

/// The spool; see the module documentation.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    /// `None` while a new file cannot be created.
    file: Option<SpoolFile>,
    /// Held because two processes on one spool would deliver everything twice.
    _lock: File,
    clock: Clock,
    health: Health,
    counters: Arc<SpoolCounters>,
    fill: SpoolFill,
    /// Rows up to here were written by earlier processes.
    inherited: i64,
    /// When this process began to use the spool; shows whether the boot times of those rows are still valid.
    began: Now,
    /// The last row in the file.
    written: i64,
    /// The last row that was sent to the pipeline.
    delivered: i64,
    /// The shared database has everything up to this row.
    committed: Arc<AtomicI64>,
    window: Arc<AckWindow<i64>>,
    /// The last row that was deleted, and when.
    deleted: (i64, BootTime),
    last_tick: Option<BootTime>,
    /// A write failed; wait before the next one.
    write_failed: bool,
    /// A read failed; wait before the next one.
    read_failed: bool,
    /// No read has succeeded since one failed.
    unreadable: bool,
    /// Failures in a row.
    failures: u32,
}

impl Spool {
    /// Opens or creates the spool, and finds the messages that an earlier process left in it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another attempt may succeed; [`StoreError::Unusable`] when another process uses
    /// the spool or it is damaged.
    pub async fn open(
        settings: &settings::SpoolSettings,
        clock: Clock,
        health: Health,
        counters: Arc<SpoolCounters>,
    ) -> Result<Self, StoreError> {
        // Lock first, then find the rows of earlier processes. Appending nothing returns how much is in use.
        let lock = lock(&settings.path)?;
        let file = SpoolFile::open(&settings.path).await?;
        let ends = file.ends().await?;
        let used = file.append(&[], 0).await?;
        let (before, last) = ends.map_or((0, 0), |(first, last)| (first - 1, last));
        if last > before {
            tracing::info!(messages = last - before, "the spool contains door messages of an earlier run");
        }
        // Rows may be committed out of order; only a contiguous run from the start may be deleted.
        let committed = Arc::new(AtomicI64::new(before));
        let window = {
            let committed = Arc::clone(&committed);
            AckWindow::new(move |seq| committed.store(seq, Relaxed))
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
            fill: SpoolFill::new(settings.limit, used),
            inherited: last,
            began,
            written: last,
            delivered: before,
            committed,
            window,
            deleted: (before, began.boot),
            last_tick: None,
            write_failed: false,
            read_failed: false,
            unreadable: false,
            failures: 0,
        })
    }

    /// Whether everything in the spool has been sent to the pipeline.
    pub const fn is_empty(&self) -> bool {
        self.delivered == self.written
    }

    /// Runs until `stop` is cancelled, or until the session has ended and everything is committed.
    ///
    /// # Errors
    /// If the file can never be used again.
    pub async fn run(mut self, mut ends: SpoolEnds) -> Result<(), StoreError> {
        if !self.wait_for_clock(&ends.stop).await {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(BATCH);
        let (mut has_input, mut has_reader) = (true, true);
        let mut retry: Pin<Box<Sleep>> = Box::pin(time::sleep(Duration::ZERO));
        loop {
            // Send rows that the pipeline does not have yet, of this or an earlier process, as soon as it has room.
            // Read no input while the spool is full or the last batch could not be written yet.
            let behind = usize::try_from(self.written - self.delivered).unwrap_or(BATCH).min(BATCH);
            let waiting = self.write_failed || self.read_failed;
            tokio::select! {
                () = ends.stop.cancelled() => break,
                room = ends.output.reserve_many(behind), if behind > 0 && has_reader && !self.read_failed => match room {
                    Ok(room) => self.replay(room).await?,
                    Err(_) => has_reader = false,
                },
                count = ends.input.recv_many(&mut batch, BATCH), if has_input && batch.is_empty() && !self.fill.is_full() => {
                    has_input = count > 0;
                }
                () = &mut retry, if waiting => (self.write_failed, self.read_failed) = (false, false),
                () = time::sleep(TICK) => {}
            }
            if !batch.is_empty() && !self.write_failed {
                self.store(&mut batch, &ends.output).await?;
            }
            self.tick().await?;
            // After a failure, pause before the next attempt, longer each time.
            if (self.write_failed || self.read_failed) && (!waiting || retry.is_elapsed()) {
                retry.set(time::sleep(RETRY.pause(self.failures)));
                self.failures = self.failures.saturating_add(1);
            }
            // Once the session has ended, signal that there will be no more acknowledgements: all its messages are on
            // the disk, or the disk accepts no more of them.
            let stuck = self.fill.is_full() || self.write_failed;
            if !has_input || (stuck && ends.input.is_closed()) {
                ends.settled.cancel();
            }
            if !has_input && self.committed.load(Relaxed) == self.written {
                break;
            }
        }
        self.close().await;
        Ok(())
    }

    /// Waits until the wall clock is past the time at which this program was written; returns false if `stop` is
    /// cancelled first.
    ///
    /// Reads no input meanwhile: after a reboot, we could not tell when such a message had arrived.
    async fn wait_for_clock(&mut self, stop: &CancellationToken) -> bool {
        while self.clock.now().wall < EARLIEST {
            if stop.run_until_cancelled(time::sleep(TICK)).await.is_none() {
                return false;
            }
        }
        self.began = self.clock.now();
        true
    }

    /// Writes a batch from the session, acknowledges it, and sends it to the pipeline unless earlier rows are still
    /// waiting.
    async fn store(&mut self, batch: &mut Vec<Delivery>, output: &mpsc::Sender<Delivery>) -> Result<(), StoreError> {
        // Messages that need no decision are acknowledged and not written.
        let now = self.clock.now().wall;
        let mut rows = Vec::with_capacity(batch.len());
        let decided = batch.iter().filter(|delivery| delivery.content != Content::Ignored);
        for (delivery, seq) in decided.zip(self.written + 1..) {
            rows.push(Spooled { seq, arrived_at: now, message: message::encode(&delivery.source, &delivery.content) });
        }
        let committed = self.committed.load(Relaxed);
        if !rows.is_empty() {
            match self.append(&rows, committed).await {
                Ok(used) => self.written_to(used, committed),
                Err(error) => return self.write_failure(error),
            }
        }
        let caught_up = self.delivered == self.written;
        self.written += i64::try_from(rows.len()).unwrap_or(i64::MAX);
        self.counters.written.fetch_add(rows.len() as u64, Relaxed);
        self.counters.depth.store(u64::try_from(self.written - committed).unwrap_or(0), Relaxed);
        // Send them to the pipeline only if it has room for all of them; otherwise they are read back when it does.
        let mut room = if caught_up { output.try_reserve_many(rows.len()).ok() } else { None };
        for Delivery { source, content, receipt } in batch.drain(..) {
            receipt.spend();
            if content != Content::Ignored
                && let Some(permit) = room.as_mut().and_then(Iterator::next)
            {
                self.send(permit, self.delivered + 1, source, content);
            }
        }
        Ok(())
    }

    /// Sends the next rows of the file to the pipeline.
    async fn replay(&mut self, room: impl Iterator<Item = Permit<'_, Delivery>>) -> Result<(), StoreError> {
        let room: Vec<_> = room.collect();
        let Some(file) = self.file.clone() else { return Ok(()) };
        let rows = match file.page(self.delivered, room.len()).await {
            Ok(rows) => rows,
            Err(error) => return self.read_failure(error),
        };
        self.unreadable = false;
        for (row, permit) in rows.into_iter().zip(room) {
            let inherited = row.seq <= self.inherited;
            let read = message::decode(&row.message, inherited.then_some(self.began));
            let (source, content) = read.unwrap_or_else(|| {
                tracing::error!("cannot read a message in the spool; another version of checkind wrote it");
                message::placeholder()
            });
            if inherited {
                self.counters.replayed.fetch_add(content.events(), Relaxed);
            }
            self.send(permit, row.seq, source, content);
        }
        Ok(())
    }

    fn send(&mut self, permit: Permit<'_, Delivery>, seq: i64, source: Arc<str>, content: Content) {
        permit.send(Delivery { source, content, receipt: self.window.receipt(seq) });
        self.delivered = seq;
    }

    /// Writes to the file. If that fails and the file contains nothing that is still needed, deletes it to start with a
    /// new one, because on a full disk even deleting rows needs space.
    async fn append(&mut self, rows: &[Spooled], committed: i64) -> Result<u64, StoreError> {
        let file = match self.file.clone() {
            Some(file) => file,
            None => self.file.insert(SpoolFile::open(&self.path).await?).clone(),
        };
        let written = file.append(rows, committed).await;
        if matches!(written, Err(StoreError::Unavailable(_) | StoreError::Unfit(_))) && committed == self.written {
            file.close().await;
            self.file = None;
            if let Err(error) = SpoolFile::remove(&self.path) {
                tracing::warn!(%error, "could not remove an empty spool");
            }
        }
        written
    }

    /// Records a successful write.
    fn written_to(&mut self, used: u64, committed: i64) {
        self.fill.set_used(used);
        self.deleted = (committed, self.clock.now().boot);
        self.failures = 0;
        if !self.unreadable {
            self.health.clear(ConditionKind::SpoolUnavailable, "");
        }
    }

    fn write_failure(&mut self, error: StoreError) -> Result<(), StoreError> {
        self.write_failed = true;
        self.failed(error)
    }

    fn read_failure(&mut self, error: StoreError) -> Result<(), StoreError> {
        (self.read_failed, self.unreadable) = (true, true);
        self.failed(error)
    }

    /// Reports a failure, unless the file can never be used again. The next attempt follows after a growing pause.
    fn failed(&self, error: StoreError) -> Result<(), StoreError> {
        self.counters.failures.fetch_add(1, Relaxed);
        let source = match error {
            unusable @ StoreError::Unusable { .. } => return Err(unusable),
            StoreError::Conflict => "another process writes to it".to_owned(),
            StoreError::Unavailable(source) | StoreError::Refused { source, .. } | StoreError::Unfit(source) => {
                source.to_string()
            }
        };
        let detail = format!(
            "the spool cannot be used ({source}); door messages stay with the broker meanwhile. Free space on its disk, or \
             replace the disk"
        );
        self.health.raise(ConditionKind::SpoolUnavailable, "", detail);
        Ok(())
    }

    /// Once a second: deletes committed rows, and updates gauges and conditions.
    async fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.last_tick.is_some_and(|last| now.boot.since(last) < TICK) {
            return Ok(());
        }
        self.last_tick = Some(now.boot);
        let committed = self.committed.load(Relaxed);
        let (deleted, at) = self.deleted;
        let is_due = committed > deleted && (self.fill.is_full() || now.boot.since(at) >= DELETE_AFTER);
        if !self.write_failed && (is_due || self.health.is_raised(ConditionKind::SpoolUnavailable, "")) {
            match self.append(&[], committed).await {
                Ok(used) => self.written_to(used, committed),
                Err(error) => self.write_failure(error)?,
            }
        }
        let depth = u64::try_from(self.written - committed).unwrap_or(0);
        let oldest = match self.file.clone() {
            Some(file) if depth > 0 && !self.read_failed => match file.page(committed, 1).await {
                Ok(rows) => rows.first().map_or(Duration::ZERO, |row| now.wall.since(row.arrived_at)),
                Err(error) => return self.read_failure(error),
            },
            Some(_) | None => Duration::ZERO,
        };
        self.unreadable &= self.read_failed;
        self.counters.depth.store(depth, Relaxed);
        self.counters.bytes.store(self.fill.used(), Relaxed);
        self.counters.oldest.store(oldest.as_secs(), Relaxed);
        self.update_conditions(depth, oldest);
        Ok(())
    }

    /// Raises and clears the conditions on the spool's size.
    fn update_conditions(&mut self, depth: u64, oldest: Duration) {
        self.fill.update();
        if self.fill.is_full() {
            self.health.raise_once(ConditionKind::SpoolFull, "", SpoolFill::full_detail(depth, oldest));
        } else {
            self.health.clear(ConditionKind::SpoolFull, "");
        }
        if self.fill.is_filling(self.health.is_raised(ConditionKind::SpoolFilling, "")) {
            self.health.raise_once(ConditionKind::SpoolFilling, "", self.fill.filling_detail(depth, oldest));
        } else {
            self.health.clear(ConditionKind::SpoolFilling, "");
        }
    }

    /// Closes the file. Committed rows that could not be deleted will be replayed needlessly.
    async fn close(self) {
        let committed = self.committed.load(Relaxed);
        if let Some(file) = &self.file {
            if committed > self.deleted.0
                && let Err(error) = file.append(&[], committed).await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not delete committed messages from the spool; they will be replayed"
                );
            }
            file.close().await;
        }
        if self.written > committed {
            tracing::info!(messages = self.written - committed, "the spool contains door messages for the next run");
        }
    }
}

#[cfg(test)]
mod tests;
