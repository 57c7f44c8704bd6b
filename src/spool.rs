//! The local spool: with a shared PostgreSQL, door messages are stored on this machine's disk before they are
//! acknowledged.
//!
//! One task sits between the broker session and the pipeline. It writes the messages that have queued up to a SQLite
//! file, in one transaction. After its fsync, the broker gets the acknowledgements, and the same deliveries continue to
//! the pipeline. When the pipeline spends their receipts, the shared database has them. The spool keeps them for
//! `spool.keep`, because the database may lose what it has committed: then the pipeline requests them again, see
//! [`SpoolLink`]. After that the spool deletes them, lazily: a message that is replayed needlessly still has its key,
//! and is a duplicate. While the database is unavailable, the file grows up to its limit; committed messages give way
//! to new ones first. Then nothing more is acknowledged, and the broker keeps the rest. Messages of an earlier process
//! go to the pipeline first.
//!
//! Presences from the network are not spooled: the captures merge them, so an outage costs only repetition.
//!
//! Never here: what a message means. With a SQLite database there is no spool, because the decision is committed to the
//! same disk.

mod fill;
mod kept;
mod link;
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
    sync::mpsc,
    time::{self, Sleep},
};
use tokio_util::sync::CancellationToken;

pub use self::link::{DeliveredAgain, SpoolLink};
use self::{fill::SpoolFill, kept::KeptRows, lock::lock};
use crate::{
    base::{
        backoff::Backoff,
        clock::{BootTime, Clock, EARLIEST, Now},
        health::{ConditionKind, Health},
        random,
        turns::Turn,
    },
    mapping::content::Content,
    settings,
    source::{
        DELIVERY_BYTES, Delivery, DeliveryRoom, DeliveryRooms, DeliverySender, SpoolPlace, mqtt::window::AckWindow,
    },
    store::{SpoolFile, Spooled, StoreError},
};

/// How many messages are written, or read back, at once: as many as the pipeline processes in one batch.
const BATCH: usize = 1000;

/// How much is read back at once, in bytes: a quarter of what the pipeline's queue holds, so it is full while the next
/// part is read.
const REPLAYED: usize = DELIVERY_BYTES as usize / 4;

/// How often gauges and conditions are updated.
const TICK: Duration = Duration::from_secs(1);

/// The same while the shared database has everything: an idle gateway wakes up rarely.
const IDLE_TICK: Duration = Duration::from_secs(10);

/// How many kept rows are deleted at once at most to make room in a full spool: some five megabytes.
const GIVE_WAY: i64 = 10_000;

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
    /// Age of the oldest message that the shared database does not have yet, in whole seconds.
    pub oldest: AtomicU64,
    /// Messages written.
    pub written: AtomicU64,
    /// Door events of an earlier process that were replayed to the pipeline.
    pub replayed: AtomicU64,
    /// Door events that went to the pipeline again because the shared database had lost them.
    pub delivered_again: AtomicU64,
    /// Writes and reads that failed and were tried again.
    pub failures: AtomicU64,
}

/// The input and output of the spool, and the signals for its end.
#[derive(Debug)]
pub struct SpoolEnds {
    /// From the broker session.
    pub input: mpsc::Receiver<Delivery>,
    /// To the pipeline.
    pub output: DeliverySender,
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
    /// The shared database has everything up to this row, as far as receipts tell.
    committed: Arc<AtomicI64>,
    window: Arc<AckWindow<i64>>,
    /// Everything up to this row is deleted.
    deleted: i64,
    kept: KeptRows,
    link: SpoolLink,
    /// What the last row says that the shared database is known to have.
    noted: i64,
    /// See [`SpoolPlace::round`].
    round: u32,
    /// Rows up to here are being delivered again, because the shared database has lost them.
    again_until: i64,
    last_tick: Option<BootTime>,
    /// A write failed; wait before the next one.
    write_failed: bool,
    /// A read failed; wait before the next one.
    read_failed: bool,
    /// No read has succeeded since one failed.
    unreadable: bool,
    /// Failures in a row.
    failures: u32,
    /// Reports each turn and each question to the disk; `None` until it runs.
    turn: Option<Turn>,
}

impl Spool {
    /// Opens or creates the spool, and finds the messages that an earlier process left in it.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] when another process uses the spool; after any other error, another attempt may
    /// succeed.
    pub async fn open(
        settings: &settings::SpoolSettings,
        clock: Clock,
        health: Health,
        counters: Arc<SpoolCounters>,
    ) -> Result<Self, StoreError> {
        // Lock first, then find the rows of earlier processes. Appending nothing returns how much is in use.
        let lock = lock(&settings.path)?;
        let file = SpoolFile::open(&settings.path).await?;
        let rows = file.rows().await?;
        let used = file.append(&[], 0).await?;
        let (deleted, last) = rows.map_or((0, 0), |rows| (rows.first - 1, rows.last));
        // Another id for an empty file, or one with rows of an earlier version: its places were counted from the
        // beginning, so the mark in the database says nothing about them.
        let (id, marked) = match (file.id().await?, rows.and_then(|rows| rows.marked)) {
            (Some(id), Some(marked)) => (id, marked),
            _ => {
                let id = random::uuid().to_string();
                file.set_id(&id).await?;
                (id, deleted)
            }
        };
        let before = marked.clamp(deleted, last);
        if last > before {
            tracing::info!(messages = last - before, "the spool contains door messages of an earlier run");
        }
        let (committed, window) = receipts_after(before);
        let began = clock.now();
        let link = SpoolLink::new(id, deleted, marked, last);
        if let Some(noted) = file.went_back().await? {
            link.remember_went_back(noted, &health, began.wall);
        }
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
            deleted,
            kept: KeptRows::new(settings.keep),
            link,
            noted: marked,
            round: 0,
            again_until: 0,
            last_tick: None,
            write_failed: false,
            read_failed: false,
            unreadable: false,
            failures: 0,
            turn: None,
        })
    }

    /// Reports that it works: it turns again within the limit of one question to the disk.
    fn turns(&self) {
        if let Some(turn) = &self.turn {
            turn.works();
        }
    }

    /// The link to the pipeline that decides what is in this spool.
    pub fn link(&self) -> SpoolLink {
        self.link.clone()
    }

    /// Whether there is nothing to do until the next message, and the gauges say so.
    fn is_idle(&self) -> bool {
        self.committed.load(Relaxed) == self.written
            && self.counters.depth.load(Relaxed) == 0
            && !(self.fill.is_full() || self.write_failed || self.read_failed)
            && !self.health.is_raised(ConditionKind::SpoolUnavailable, "")
    }

    /// Whether everything in the spool has been sent to the pipeline.
    pub const fn is_empty(&self) -> bool {
        self.delivered == self.written
    }

    /// Runs until `stop` is cancelled, or until the session has ended and everything is committed.
    ///
    /// # Errors
    /// If another process uses the file.
    pub async fn run(mut self, mut ends: SpoolEnds, turn: Turn) -> Result<(), StoreError> {
        self.turn = Some(turn);
        if !self.wait_for_clock(&ends.stop).await {
            return Ok(());
        }
        let mut batch = Vec::with_capacity(BATCH);
        let (mut has_input, mut has_reader) = (true, true);
        let mut retry: Pin<Box<Sleep>> = Box::pin(time::sleep(Duration::ZERO));
        loop {
            // Send rows that the pipeline does not have yet, of this or an earlier process, as soon as it has room.
            // Read no input while the spool is full or the last batch could not be written yet.
            self.deliver_again();
            let behind = usize::try_from(self.written - self.delivered).unwrap_or(BATCH).min(BATCH);
            let waiting = self.write_failed || self.read_failed;
            self.turns();
            tokio::select! {
                () = ends.stop.cancelled() => break,
                rooms = ends.output.reserve_many(behind, REPLAYED), if behind > 0 && has_reader && !self.read_failed => match rooms {
                    Some(rooms) => self.replay(rooms).await?,
                    None => has_reader = false,
                },
                count = ends.input.recv_many(&mut batch, BATCH), if has_input && batch.is_empty() && !self.fill.is_full() => {
                    has_input = count > 0;
                }
                () = self.link.requested() => {}
                () = &mut retry, if waiting => (self.write_failed, self.read_failed) = (false, false),
                () = time::sleep(if self.is_idle() { self.clock.until_beat(IDLE_TICK) } else { TICK }) => {}
            }
            if !batch.is_empty() && !self.write_failed {
                self.store(&mut batch, &ends.output).await?;
            }
            self.note_went_back().await?;
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
        self.note_went_back().await?;
        self.close().await;
        Ok(())
    }

    /// Notes for the next process that the database went back.
    async fn note_went_back(&mut self) -> Result<(), StoreError> {
        let (Some(file), Some(unnoted)) = (&self.file, self.link.unnoted()) else { return Ok(()) };
        match file.note_went_back(&unnoted).await {
            Ok(()) => {
                self.link.noted(&unnoted);
                Ok(())
            }
            Err(error) => self.write_failure(error),
        }
    }

    /// Waits until the wall clock is past the time at which this program was written; returns false if `stop` is
    /// cancelled first.
    ///
    /// Reads no input meanwhile: after a reboot, we could not tell when such a message had arrived.
    async fn wait_for_clock(&mut self, stop: &CancellationToken) -> bool {
        while self.clock.now().wall < EARLIEST {
            self.turns();
            if stop.run_until_cancelled(time::sleep(TICK)).await.is_none() {
                return false;
            }
        }
        self.began = self.clock.now();
        true
    }

    /// Writes a batch from the session, acknowledges it, and sends it to the pipeline unless earlier rows are still
    /// waiting.
    async fn store(&mut self, batch: &mut Vec<Delivery>, output: &DeliverySender) -> Result<(), StoreError> {
        // Messages that need no decision are acknowledged and not written.
        let (now, marked) = (self.clock.now().wall, self.link.marked());
        let mut rows = Vec::with_capacity(batch.len());
        let decided = batch.iter().filter(|delivery| delivery.content != Content::Ignored);
        for (delivery, seq) in decided.zip(self.written + 1..) {
            let message = message::encode(&delivery.source, &delivery.content);
            rows.push(Spooled { seq, arrived_at: now, message, marked: Some(marked) });
        }
        let caught_up = self.delivered == self.written;
        let committed = self.committed.load(Relaxed);
        if !rows.is_empty() {
            let added = i64::try_from(rows.len()).unwrap_or(i64::MAX);
            let done = self.deletable(added);
            match self.append(&rows, done).await {
                Ok(used) => {
                    self.written += added;
                    self.noted = marked;
                    self.written_to(used, done);
                }
                Err(error) => return self.write_failure(error),
            }
        }
        self.counters.written.fetch_add(rows.len() as u64, Relaxed);
        self.counters.depth.store(u64::try_from(self.written - committed).unwrap_or(0), Relaxed);
        // Send them to the pipeline only if it has room for all of them; otherwise they are read back when it does.
        let bytes = batch.iter().map(Delivery::memory).sum();
        let mut rooms = if caught_up { output.try_reserve_many(rows.len(), bytes) } else { None };
        for delivery in batch.drain(..) {
            let bytes = delivery.memory();
            let Delivery { source, content, receipt, .. } = delivery;
            receipt.spend();
            if content == Content::Ignored {
                continue;
            }
            match rooms.as_mut().and_then(|rooms| rooms.next(bytes)) {
                Some(room) => self.send(room, self.delivered + 1, source, content),
                // None after this one either, or they would overtake it.
                None => rooms = None,
            }
        }
        Ok(())
    }

    /// Sends the next rows of the file to the pipeline.
    async fn replay(&mut self, mut rooms: DeliveryRooms<'_>) -> Result<(), StoreError> {
        let Some(file) = self.file.clone() else { return Ok(()) };
        let rows = match file.page(self.delivered, rooms.places(), REPLAYED).await {
            Ok(rows) => rows,
            Err(error) => return self.read_failure(error),
        };
        self.unreadable = false;
        for row in rows {
            let inherited = row.seq <= self.inherited;
            let read = message::decode(&row.message, inherited.then_some(self.began));
            let (source, content) = read.unwrap_or_else(|| {
                tracing::error!("cannot read a message in the spool; another version of checkind wrote it");
                message::placeholder()
            });
            // What finds no room is read again.
            let Some(room) = rooms.next(content.memory()) else { break };
            if row.seq <= self.again_until {
                self.counters.delivered_again.fetch_add(content.events(), Relaxed);
            } else if inherited {
                self.counters.replayed.fetch_add(content.events(), Relaxed);
            }
            self.send(room, row.seq, source, content);
        }
        Ok(())
    }

    fn send(&mut self, room: DeliveryRoom<'_>, seq: i64, source: Arc<str>, content: Content) {
        let receipt = self.window.receipt(seq).at(SpoolPlace { round: self.round, seq });
        room.send(Delivery::new(source, content, receipt));
        self.delivered = seq;
    }

    /// If the pipeline has requested it, goes back to the first row that the shared database does not have. Receipts
    /// that are spent for earlier deliveries have no effect any more.
    fn deliver_again(&mut self) {
        let Some((place, round)) = self.link.take_request() else { return };
        let place = place.clamp(self.deleted, self.written);
        self.kept.went_back_to(place);
        (self.committed, self.window) = receipts_after(place);
        (self.delivered, self.round, self.again_until) = (place, round, self.delivered);
    }

    /// The place up to which rows may be deleted, when `added` rows are about to be written. Rows are kept for a while
    /// after their commit. If the spool is nearly full, those kept longest give way, twice as many as are added; if its
    /// disk is full, all. The last row stays: the next process continues to count there.
    fn deletable(&mut self, added: i64) -> i64 {
        let committed = self.committed.load(Relaxed);
        let expired = self.kept.update(committed, self.clock.now().boot);
        let room = if self.failures > 0 {
            committed
        } else if self.fill.is_nearly_full() {
            self.deleted.saturating_add(added.saturating_mul(2))
        } else {
            0
        };
        expired.max(room).min(committed).min(self.written + added - 1).max(self.deleted)
    }

    /// Writes to the file. If that fails twice and the file contains nothing that the shared database lacks, deletes it
    /// to start with a new one, because on a full disk even deleting rows needs space.
    async fn append(&mut self, rows: &[Spooled], done: i64) -> Result<u64, StoreError> {
        self.turns();
        let file = match self.file.clone() {
            Some(file) => file,
            None => {
                let file = SpoolFile::open(&self.path).await?;
                file.set_id(self.link.id()).await?;
                self.file.insert(file).clone()
            }
        };
        let written = file.append(rows, done).await;
        let failed =
            matches!(written, Err(StoreError::Unavailable(_) | StoreError::Refused { .. } | StoreError::Unfit(_)));
        let is_needless = self.failures > 0 && self.committed.load(Relaxed) == self.written;
        if failed && is_needless {
            file.close().await;
            self.file = None;
            match SpoolFile::remove(&self.path) {
                Ok(()) => {
                    tracing::warn!("the spool begins again, without the messages that the database already has");
                    self.deleted = self.written;
                    self.link.set_rows(self.deleted, self.written);
                }
                Err(error) => tracing::warn!(%error, "could not remove a spool that cannot be written"),
            }
        }
        written
    }

    /// Records a successful write, which deleted everything up to `done`.
    fn written_to(&mut self, used: u64, done: i64) {
        self.fill.set_used(used);
        self.deleted = done;
        self.link.set_rows(self.deleted, self.written);
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
        if let unusable @ StoreError::Unusable { .. } = error {
            return Err(unusable);
        }
        let detail = format!(
            "{}; door messages stay with the broker meanwhile. Free space on its disk, or replace the disk",
            error.in_words("the spool")
        );
        self.health.raise(ConditionKind::SpoolUnavailable, "", detail);
        Ok(())
    }

    /// Once a second: makes room in a full spool, and updates gauges and conditions.
    async fn tick(&mut self) -> Result<(), StoreError> {
        let now = self.clock.now();
        if self.last_tick.is_some_and(|last| now.boot.since(last) < TICK) {
            return Ok(());
        }
        self.last_tick = Some(now.boot);
        let committed = self.committed.load(Relaxed);
        // Notes the time of commits, for their deletion with a later write.
        self.kept.update(committed, now.boot);
        // A full disk may have room again, or has it once nothing is kept.
        let mut is_due = self.health.is_raised(ConditionKind::SpoolUnavailable, "");
        loop {
            let last = committed.min(self.written - 1);
            let is_full = self.fill.is_full() && self.deleted < last;
            if self.write_failed || !(is_due || is_full) {
                break;
            }
            let tenth = ((self.written - self.deleted) / 10).clamp(1, GIVE_WAY);
            let room = if is_due { committed } else { self.deleted.saturating_add(tenth) };
            let done = room.min(last).max(self.deleted);
            match self.append(&[], done).await {
                Ok(used) => self.written_to(used, done),
                Err(error) => self.write_failure(error)?,
            }
            self.fill.update();
            is_due = false;
        }
        let depth = u64::try_from(self.written - committed).unwrap_or(0);
        self.turns();
        let oldest = match self.file.clone() {
            Some(file) if depth > 0 && !self.read_failed => match file.page(committed, 1, 0).await {
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
        // Committed rows give way, so only the share of the others counts.
        let rows = u64::try_from(self.written - self.deleted).unwrap_or(0);
        let waiting = self.fill.share(depth, rows);
        if self.fill.is_filling(waiting, self.health.is_raised(ConditionKind::SpoolFilling, "")) {
            self.health.raise_once(ConditionKind::SpoolFilling, "", self.fill.filling_detail(waiting, depth, oldest));
        } else {
            self.health.clear(ConditionKind::SpoolFilling, "");
        }
    }

    /// Closes the file, and notes in it what the shared database has; the rest will be replayed.
    async fn close(self) {
        let marked = self.link.marked();
        if let Some(file) = &self.file {
            if marked != self.noted
                && let Err(error) = file.note(self.written, marked).await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not note in the spool what the database has; some messages will be replayed"
                );
            }
            file.close().await;
        }
        let waiting = self.written - self.committed.load(Relaxed);
        if waiting > 0 {
            tracing::info!(messages = waiting, "the spool contains door messages for the next run");
        }
    }
}

/// The receipts of the rows after a place, and the place up to which they are spent. Rows may be committed out of
/// order; only a contiguous run from the start counts.
fn receipts_after(place: i64) -> (Arc<AtomicI64>, Arc<AckWindow<i64>>) {
    let committed = Arc::new(AtomicI64::new(place));
    let spent = Arc::clone(&committed);
    (committed, AckWindow::new(move |seq| spent.store(seq, Relaxed)))
}

#[cfg(test)]
mod tests;
