//! Named conditions: what is wrong, since when, and what to do. `/readyz`, `STATUS=` and the log all use them.

mod condition_kind;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::base::clock::{Clock, WallTime};

pub use condition_kind::ConditionKind;

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What kind of condition.
    pub kind: ConditionKind,
    /// What it concerns: an interface, a source, a topic. Empty if there can be only one.
    pub subject: String,
    /// What is wrong and what to do, in one or two sentences.
    pub detail: String,
    /// When it began.
    pub since: WallTime,
}

/// The conditions of this process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Clock,
    now: Arc<Mutex<BTreeMap<(ConditionKind, String), Condition>>>,
}

impl Health {
    /// No conditions yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, now: Arc::default() }
    }

    /// Raises a condition. Logs it once; while the condition lasts, this only updates its detail.
    pub fn raise(&self, kind: ConditionKind, subject: &str, detail: impl fmt::Display) {
        self.raise_since(kind, subject, self.clock.now().wall, detail);
    }

    /// Raises a condition that began before it was noticed.
    pub fn raise_since(&self, kind: ConditionKind, subject: &str, since: WallTime, detail: impl fmt::Display) {
        let mut now = self.lock();
        let detail = detail.to_string();
        match now.get_mut(&(kind, subject.to_owned())) {
            Some(known) => known.detail = detail,
            None => {
                tracing::warn!(condition = kind.name(), subject, "{detail}");
                let condition = Condition { kind, subject: subject.to_owned(), detail, since };
                now.insert((kind, subject.to_owned()), condition);
            }
        }
    }

    /// Clears a condition and logs how long it lasted. Does nothing if it was not raised.
    pub fn clear(&self, kind: ConditionKind, subject: &str) {
        let mut now = self.lock();
        if let Some(cleared) = now.remove(&(kind, subject.to_owned())) {
            let lasted = self.clock.now().wall.since(cleared.since).as_secs();
            tracing::info!(condition = kind.name(), subject, lasted_seconds = lasted, "{} is over", kind.name());
        }
    }

    /// Clears every condition of a kind.
    pub fn clear_kind(&self, kind: ConditionKind) {
        for raised in self.conditions().into_iter().filter(|condition| condition.kind == kind) {
            self.clear(kind, &raised.subject);
        }
    }

    /// Whether this condition is raised.
    pub fn is_raised(&self, kind: ConditionKind, subject: &str) -> bool {
        self.lock().contains_key(&(kind, subject.to_owned()))
    }

    /// All raised conditions, by kind and subject.
    pub fn conditions(&self) -> Vec<Condition> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ConditionKind, String), Condition>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootTime, Now};
    use std::time::Duration;

    #[test]
    fn a_condition_keeps_its_beginning_while_its_detail_changes() {
        let clock = Clock::manual(Now {
            wall: WallTime::from_millis(1_000_000),
            boot: BootTime::from_duration(Duration::ZERO),
        });
        let health = Health::new(clock.clone());
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
        clock.advance(Duration::from_secs(60));
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 does not exist");
        let conditions = health.conditions();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].since, WallTime::from_millis(1_000_000));
        assert_eq!(conditions[0].detail, "eth1 does not exist");
        health.clear(ConditionKind::CaptureBlind, "eth1");
        assert!(health.conditions().is_empty());
    }
}
