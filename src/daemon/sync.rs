//! Reads the directory from the platform, or from another server with its API, and imports what has changed there.
//!
//! A round lists what has changed since the last one (once a day, everything), reads by its id whatever lists leave out,
//! and imports the result as one file, through the draft of `checkind import`: all of it or nothing. So credentials
//! that were assigned by hand stay, and entities that were created here are never archived.
//!
//! What is stored says how far the last round came: each document has the platform's `UpdatedOn`. So a round that fails
//! loses nothing, and a restart needs no state.
//!
//! Several gateways of one database may be configured to read. One does at a time: it holds a lease, which is the row
//! of no business.

mod platform;
mod records;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use platform::{AskError, Platform};
use records::{EntityKey, KnownEntities, ListPageRead, PlatformRecord, RoundRead, list_path, place_of, updated_on};

use crate::{
    base::{
        backoff::Backoff,
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
        random,
        record::BusinessId,
        turns::Turn,
    },
    directory::{
        entity::EntityKind,
        import::{
            ImportFaults,
            draft::{Changes, Draft, Replace},
        },
    },
    settings::SyncSettings,
    store::{Store, StoreError},
};

/// The row of the lease: no business has this number.
const LEASE: BusinessId = BusinessId(0);

/// How often the lease is renewed during a round: three times before it expires.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How often everything is read.
const WHOLE_EVERY: Duration = Duration::from_hours(24);

/// The pauses after failed rounds; none is longer than the usual one.
const RETRY: Backoff = Backoff { first: Duration::from_secs(2), longest: Duration::from_mins(15) };

/// The shortest time between two questions for single records: five a second, so other clients of the platform get
/// their answers too.
const BETWEEN_RECORDS: Duration = Duration::from_millis(200);

/// The most pages of a list: a million records. A longer list fails the round.
const MOST_PAGES: usize = 1000;

/// How often one question may be throttled before the round fails.
const MOST_WAITS: u32 = 10;

/// How often a write is tried that other imports overtake.
const TRIES: usize = 3;

/// The most faults of the import that a condition names; the log has all at level debug, with their values.
const FAULTS_SHOWN: usize = 5;

/// Why a round has failed. Nothing was imported.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error("{0}")]
    Ask(#[from] AskError),
    #[error("the list {0} changed while it was read")]
    Moving(&'static str),
    #[error("the list {0} is longer than {MOST_PAGES} pages")]
    TooLong(&'static str),
    #[error("{0}")]
    Record(String),
    #[error("its directory cannot be imported, because of {0}")]
    Faults(String),
    #[error("another gateway has begun to read it")]
    LeaseLost,
    #[error("other imports ran at the same time")]
    Overtaken,
    #[error("this gateway's database failed: {0}")]
    Store(#[from] StoreError),
}

/// How a round ended that did not fail.
#[derive(Debug)]
enum RoundEnd {
    /// Another gateway reads.
    Elsewhere,
    /// What has changed is imported.
    Changes,
    /// Everything is as there.
    Whole,
    /// The same, but these many people of so many were not archived.
    HeldBack(usize, usize),
}

/// The task.
#[derive(Debug)]
pub(super) struct DirectorySync {
    platform: Platform,
    every: Duration,
    store: Store,
    clock: Clock,
    health: Health,
    turn: Turn,
    instance: Uuid,
    renewed: Option<BootTime>,
    /// When everything was last read.
    whole_at: Option<BootTime>,
    /// What has been read by its id but not been imported yet, by the `UpdatedOn` of its list: the next round after a
    /// failed one need not read it again.
    kept: BTreeMap<EntityKey, (Option<String>, PlatformRecord)>,
    /// What had only just changed when it was read, and is read again.
    again: BTreeSet<EntityKey>,
    pace: Interval,
    orphans: usize,
}

impl DirectorySync {
    pub(super) fn new(settings: SyncSettings, store: Store, clock: Clock, health: Health, turn: Turn) -> Self {
        let mut pace = interval(BETWEEN_RECORDS);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            every: clock.real(settings.every),
            platform: Platform::new(settings),
            store,
            clock,
            health,
            turn,
            instance: random::uuid(),
            renewed: None,
            whole_at: None,
            kept: BTreeMap::new(),
            again: BTreeSet::new(),
            pace,
            orphans: 0,
        }
    }

    /// Reads until stopped.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            self.turn.works();
            let Some(ended) = stop.run_until_cancelled(self.round()).await else { break };
            let pause = match ended {
                Ok(end) => {
                    failures = 0;
                    self.ended(&end);
                    self.every
                }
                Err(error) => {
                    let detail = format!("{}: {error}; what was read before stays in force", self.platform.address());
                    self.health.raise(ConditionKind::SyncFailing, "", detail);
                    let pause = RETRY.pause(failures).min(self.every.max(RETRY.first));
                    failures = failures.saturating_add(1);
                    pause
                }
            };
            self.turn.rests(pause);
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                break;
            }
        }
        if self.renewed.is_some()
            && let Err(error) = self.store.release_lease(LEASE, self.instance).await
        {
            tracing::debug!(%error, "the lease of the sync could not be given back; it expires");
        }
    }

    fn ended(&self, end: &RoundEnd) {
        self.health.clear(ConditionKind::SyncFailing, "");
        match end {
            // Only reading everything finds out whether they are still gone.
            RoundEnd::Changes => {}
            RoundEnd::Whole | RoundEnd::Elsewhere => self.health.clear(ConditionKind::SyncHeldBack, ""),
            RoundEnd::HeldBack(gone, people) => {
                let detail = format!(
                    "{} no longer lists {gone} of {people} people, more than a tenth; they were not archived. If that is \
                     right, import an export of it with --replace=all",
                    self.platform.address()
                );
                self.health.raise(ConditionKind::SyncHeldBack, "", detail);
            }
        }
    }

    async fn round(&mut self) -> Result<RoundEnd, RoundError> {
        if !self.take_lease().await? {
            return Ok(RoundEnd::Elsewhere);
        }
        let began = self.clock.now();
        let is_whole = self.whole_at.is_none_or(|at| began.boot.since(at) >= WHOLE_EVERY);
        let mut known = KnownEntities::default();
        self.store.each_entity(|kind, stored| known.add(kind, stored.id, &stored.document)).await?;

        let mut read = RoundRead::default();
        // What refers to others comes first, so everything that it refers to is there when its list is read.
        for kind in EntityKind::ALL.into_iter().rev() {
            let since = if is_whole { None } else { known.cursor(kind) };
            self.list(kind, since.as_deref(), &known, &mut read).await?;
        }
        for (key, changed) in read.cut() {
            let record = self.record(key, changed).await?;
            read.whole(key, record);
        }
        let orphans = read.drop_orphans(&known);
        if orphans != self.orphans {
            tracing::info!(orphans, "passes whose holder or kind the platform does not list are left out");
            self.orphans = orphans;
        }

        let replace = if is_whole { Replace::Tenth } else { Replace::No };
        let held_back = self.write(&read, replace).await?;
        self.again = read.fresh(self.clock.now().wall);
        self.kept.clear();
        if !is_whole {
            return Ok(RoundEnd::Changes);
        }
        self.whole_at = Some(began.boot);
        Ok(held_back.map_or(RoundEnd::Whole, |(gone, people)| RoundEnd::HeldBack(gone, people)))
    }

    /// Reads a list, or what has changed of it since a time.
    async fn list(
        &mut self,
        kind: EntityKind,
        since: Option<&str>,
        known: &KnownEntities,
        read: &mut RoundRead,
    ) -> Result<(), RoundError> {
        let path = place_of(kind).0;
        let (mut found, mut totals) = (0, BTreeSet::new());
        for page in 1..=MOST_PAGES {
            let answer: Option<ListPageRead> = self.ask(&list_path(kind, page, since)).await?;
            let Some(ListPageRead { records, total_items, has_next_page }) = answer else {
                return Err(RoundError::Record(format!("it has no {path}")));
            };
            found += records.len();
            totals.extend(total_items);
            let is_empty = records.is_empty();
            for record in records {
                read.list(kind, record, known, &self.again).map_err(RoundError::Record)?;
            }
            if has_next_page && !is_empty {
                continue;
            }
            // A row that is deleted meanwhile moves another one from a page to come to one that was read.
            let is_complete = match totals.first() {
                Some(total) => totals.len() == 1 && *total == found,
                None => true,
            };
            return if is_complete || since.is_some() { Ok(()) } else { Err(RoundError::Moving(path)) };
        }
        Err(RoundError::TooLong(path))
    }

    /// One record, from here if it was read before and has not changed since.
    async fn record(&mut self, key: EntityKey, changed: Option<String>) -> Result<Option<PlatformRecord>, RoundError> {
        if let Some((known, record)) = self.kept.get(&key)
            && changed.is_some()
            && *known == changed
            && !self.again.contains(&key)
        {
            return Ok(Some(record.clone()));
        }
        self.pace.tick().await;
        let (kind, id) = key;
        let record: Option<PlatformRecord> = self.ask(&format!("{}/{id}", place_of(kind).0)).await?;
        if let Some(record) = &record {
            self.kept.insert(key, (updated_on(record).map(str::to_owned), record.clone()));
        }
        Ok(record)
    }

    /// Asks, and waits as long as the platform wants.
    async fn ask<T: for<'de> serde::Deserialize<'de>>(&mut self, path: &str) -> Result<Option<T>, RoundError> {
        let mut waits = 0;
        loop {
            self.turn.works();
            if self.renewed.is_none_or(|at| self.clock.now().boot.since(at) >= RENEW_EVERY)
                && !self.take_lease().await?
            {
                return Err(RoundError::LeaseLost);
            }
            match self.platform.get(path).await {
                Ok(answer) => return Ok(answer),
                Err(AskError::Throttled(wait)) if waits < MOST_WAITS => {
                    waits += 1;
                    tracing::info!(seconds = wait.as_secs(), "the platform asks the sync to wait");
                    self.turn.rests(wait);
                    sleep(wait).await;
                }
                Err(
                    error @ (AskError::Throttled(_)
                    | AskError::Unreachable(_)
                    | AskError::SignedOut(_)
                    | AskError::Refused { .. }
                    | AskError::Unusable { .. }),
                ) => return Err(error.into()),
            }
        }
    }

    async fn take_lease(&mut self) -> Result<bool, StoreError> {
        let now = self.clock.now().boot;
        let is_ours = self.store.take_lease(LEASE, "sync", self.instance).await?;
        self.renewed = is_ours.then_some(now);
        Ok(is_ours)
    }

    /// Imports what was read. If more than a tenth of the people are gone, nothing is archived, and how many of how many is
    /// returned.
    async fn write(&self, read: &RoundRead, replace: Replace) -> Result<Option<(usize, usize)>, RoundError> {
        let (mut replace, mut held_back) = (replace, None);
        for _ in 0..TRIES {
            self.turn.works();
            let version = self.store.directory_version().await?;
            let mut plan = self.compare(read, replace).await?;
            if let Some(gone) = plan.asks_for_all {
                (replace, held_back) = (Replace::No, Some(gone));
                plan = self.compare(read, replace).await?;
            }
            let Changes { documents, added, changed, archived, .. } = plan;
            if documents.is_empty() {
                return Ok(held_back);
            }
            match self.store.import(&documents, version, self.clock.now().wall, |_| self.turn.works()).await {
                Ok(()) => {
                    let (added, changed, archived) = (added.len(), changed.len(), archived.len());
                    tracing::info!(added, changed, archived, "the directory was read from the platform");
                    return Ok(held_back);
                }
                Err(StoreError::Conflict) => {}
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Refused { .. }
                    | StoreError::Unfit(_)
                    | StoreError::Unusable { .. }),
                ) => return Err(error.into()),
            }
        }
        Err(RoundError::Overtaken)
    }

    async fn compare(&self, read: &RoundRead, replace: Replace) -> Result<Changes, RoundError> {
        let faulty = |ImportFaults(lines): ImportFaults| {
            for line in &lines {
                tracing::debug!(fault = line, "the platform's directory cannot be imported");
            }
            let mut places: Vec<String> =
                lines.iter().take(FAULTS_SHOWN).map(|line| read.place_of_fault(line)).collect();
            if lines.len() > FAULTS_SHOWN {
                places.push(format!("{} more", lines.len() - FAULTS_SHOWN));
            }
            RoundError::Faults(places.join("; "))
        };
        let mut draft = Draft::new(replace, self.store.pin_key().await?);
        draft.keep_own();
        draft.json("platform", &read.import_file());
        let mut draft = draft.read().map_err(faulty)?;
        self.store.each_entity(|kind, stored| draft.stored(kind, stored.id, stored.archived, &stored.document)).await?;
        draft.finish().map_err(faulty)
    }
}
