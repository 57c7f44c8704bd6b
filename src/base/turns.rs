//! Whether each part of the daemon still turns: a part that hangs must be named, because no error comes from it.
//!
//! Each part says by when it will turn again: within [`STALL`] while it works, later while it rests. That costs it one
//! atomic store and no wake-up. One watcher compares the times with the present (`daemon::systemd`).
//!
//! The time is [`Clock::uptime`], in which timers run: a suspended machine's parts are not late.

use std::{
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::clock::Clock;

/// A part that works and has not turned for this long is stalled. Each wait for a database, a disk or the broker has a
/// limit below this; the longest is 30 seconds for a disk.
pub const STALL: Duration = Duration::from_secs(45);

/// The parts that are watched; cheap to clone.
#[derive(Clone, Debug)]
pub struct Turns {
    clock: Clock,
    parts: Arc<Mutex<Vec<WatchedPart>>>,
}

#[derive(Debug)]
struct WatchedPart {
    name: String,
    /// By when the part turns again, in milliseconds of uptime. Gone when the part has ended.
    due: Weak<AtomicU64>,
}

/// A part that is overdue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverduePart {
    /// Its name.
    pub name: String,
    /// How long it has not turned.
    pub silent: Duration,
}

/// One part's reports; cheap to clone.
#[derive(Clone, Debug)]
pub struct Turn {
    clock: Clock,
    due: Arc<AtomicU64>,
}

impl Turns {
    /// No parts yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, parts: Arc::default() }
    }

    /// Watches a part from now on, until its last handle is dropped.
    pub fn watch(&self, name: impl Into<String>) -> Turn {
        let turn = Turn::unwatched(self.clock.clone());
        turn.works();
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.due.strong_count() > 0);
        parts.push(WatchedPart { name: name.into(), due: Arc::downgrade(&turn.due) });
        turn
    }

    /// The parts that should have turned by now.
    pub fn overdue(&self) -> Vec<OverduePart> {
        let now = millis(self.clock.uptime());
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = |part: &WatchedPart| {
            let late = now.checked_sub(part.due.upgrade()?.load(Relaxed))?;
            Some(OverduePart { name: part.name.clone(), silent: STALL + Duration::from_millis(late) })
        };
        parts.iter().filter_map(overdue).collect()
    }
}

impl Turn {
    /// The reports of a part that is not watched: a command's, or a test's.
    pub fn unwatched(clock: Clock) -> Self {
        Self { clock, due: Arc::new(AtomicU64::new(u64::MAX)) }
    }

    /// The part works; it turns again within [`STALL`].
    pub fn works(&self) {
        self.rests(Duration::ZERO);
    }

    /// The part waits; it turns again within this time and [`STALL`]. [`Duration::MAX`] if it waits for an event that
    /// may never come.
    pub fn rests(&self, at_most: Duration) {
        self.due.store(millis(self.clock.uptime().saturating_add(at_most).saturating_add(STALL)), Relaxed);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootTime, Now, WallTime};

    fn names(turns: &Turns) -> Vec<(String, u64)> {
        turns.overdue().into_iter().map(|part| (part.name, part.silent.as_secs())).collect()
    }

    #[test]
    fn a_part_is_overdue_from_its_limit_until_it_turns_or_ends() {
        let start = Now { wall: WallTime::from_millis(0), boot: BootTime::from_duration(Duration::from_secs(100)) };
        let clock = Clock::manual(start);
        let turns = Turns::new(clock.clone());
        let (pipeline, retention, api) = (turns.watch("pipeline"), turns.watch("retention"), turns.watch("api"));
        retention.rests(Duration::from_hours(1));
        api.rests(Duration::MAX);
        clock.advance(STALL.saturating_sub(Duration::from_millis(1)));
        assert_eq!(names(&turns), []);
        clock.advance(Duration::from_millis(1001));
        assert_eq!(names(&turns), [("pipeline".to_owned(), 46)]);
        pipeline.works();
        assert_eq!(names(&turns), []);
        clock.advance(Duration::from_hours(2));
        assert_eq!(names(&turns).iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["pipeline", "retention"]);
        drop((pipeline, retention));
        assert_eq!(names(&turns), []);
    }
}
