//! Named conditions: what is wrong, since when, and what to do. `/readyz`, `STATUS=` and the log all use them.

mod condition_kind;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::base::clock::{BootTime, Clock, WallTime};

/// A new cause of a condition is logged once it has lasted this long: a broker that restarts closes the connection,
/// then refuses another, and is back.
const CAUSE_LASTS: Duration = Duration::from_secs(5);

/// How many causes of one condition are logged within [`CAUSE_REMEMBERED`]. `/readyz` shows further ones at once; the
/// log names them later, if they last. A real fault rarely shows more than two.
const CAUSES_LOGGED: usize = 4;

/// A cause that comes back within this time is not logged again.
const CAUSE_REMEMBERED: Duration = Duration::from_mins(10);

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
    now: Arc<Mutex<BTreeMap<(ConditionKind, String), Raised>>>,
}

/// The part of the daemon that has raised a condition which several can raise: it lasts until each of them has cleared it.
/// Of several details, that of the first is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RaisedBy {
    /// The only one.
    Alone,
    /// The start, which waits for what it opens.
    Start,
    /// The pipeline, which has work to commit.
    Pipeline,
    /// The request for the lease.
    Lease,
    /// The question that is asked although there is no work.
    Watch,
    /// The check of a file after a crash.
    Check,
}

/// A raised condition, and which of its causes the log has named.
#[derive(Clone, Debug)]
struct Raised {
    condition: Condition,
    /// What each part says of it.
    details: BTreeMap<RaisedBy, String>,
    /// The cause that was logged last.
    logged: Cause,
    /// Another cause that is in force, and since when.
    unlogged: Option<(Cause, BootTime)>,
    /// The causes logged within [`CAUSE_REMEMBERED`], at most [`CAUSES_LOGGED`].
    lately: Vec<(Cause, BootTime)>,
}

/// What tells one cause of a condition from another: its text without digits, because ports, counts and error numbers
/// may differ although the cause is the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cause(String);

impl Cause {
    fn of(detail: &str) -> Self {
        Self(detail.replace(|c: char| c.is_ascii_digit(), ""))
    }
}

impl Raised {
    /// Shows what the first part says. Whether that is this part.
    fn shows(&mut self, part: RaisedBy) -> bool {
        let Some((first, detail)) = self.details.first_key_value() else { return false };
        self.condition.detail.clone_from(detail);
        *first == part
    }

    /// Notes which cause is in force now.
    fn note(&mut self, cause: Cause, now: BootTime) {
        let is_logged = self.logged == cause;
        let is_noted = self.unlogged.as_ref().is_some_and(|(noted, _)| *noted == cause);
        if is_logged {
            self.unlogged = None;
        } else if !is_noted {
            self.unlogged = Some((cause, now));
        }
    }

    /// Logs the cause in force if that is due.
    fn log_if_due(&mut self, now: BootTime) {
        self.lately.retain(|(_, at)| now.since(*at) < CAUSE_REMEMBERED);
        let is_due = |(cause, since): &mut (Cause, BootTime)| {
            now.since(*since) >= CAUSE_LASTS
                && self.lately.len() < CAUSES_LOGGED
                && !self.lately.iter().any(|(known, _)| known == cause)
        };
        if let Some((cause, _)) = self.unlogged.take_if(is_due) {
            let Condition { kind, subject, detail, since } = &self.condition;
            tracing::warn!(condition = kind.name(), subject, since = since.to_rfc3339_seconds(), "{detail}");
            self.logged = cause.clone();
            self.lately.push((cause, now));
        }
    }
}

impl Health {
    /// No conditions yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, now: Arc::default() }
    }

    /// Raises a condition and logs it. While it lasts, this updates its detail. A detail that differs in more than its
    /// digits is another cause, and is logged once it has lasted for some seconds.
    pub fn raise(&self, kind: ConditionKind, subject: &str, detail: impl fmt::Display) {
        let detail = detail.to_string();
        let cause = Cause::of(&detail);
        self.put((kind, subject, self.clock.now().wall), RaisedBy::Alone, detail, Some(cause));
    }

    /// The same for a condition that several parts can raise. Its beginning is that of the first.
    pub fn raise_by(&self, part: RaisedBy, kind: ConditionKind, detail: impl fmt::Display) {
        let detail = detail.to_string();
        let cause = Cause::of(&detail);
        self.put((kind, "", self.clock.now().wall), part, detail, Some(cause));
    }

    /// Raises a condition that has only one cause, although its text changes: it has counts and ages, or the log has
    /// the rest. Only its beginning is logged.
    pub fn raise_once(&self, kind: ConditionKind, subject: &str, detail: impl fmt::Display) {
        self.raise_since(kind, subject, self.clock.now().wall, detail);
    }

    /// The same for a condition that began before it was noticed.
    pub fn raise_since(&self, kind: ConditionKind, subject: &str, since: WallTime, detail: impl fmt::Display) {
        self.put((kind, subject, since), RaisedBy::Alone, detail.to_string(), None);
    }

    fn put(&self, what: (ConditionKind, &str, WallTime), part: RaisedBy, detail: String, cause: Option<Cause>) {
        let (kind, subject, since) = what;
        let boot = self.clock.now().boot;
        let mut now = self.lock();
        if let Some(known) = now.get_mut(&(kind, subject.to_owned())) {
            known.details.insert(part, detail);
            if !known.shows(part) {
                return;
            }
            if let Some(cause) = cause {
                known.note(cause, boot);
                known.log_if_due(boot);
            } else {
                known.unlogged = None;
            }
            return;
        }
        tracing::warn!(condition = kind.name(), subject, "{detail}");
        let logged = cause.unwrap_or_else(|| Cause::of(&detail));
        let details = BTreeMap::from([(part, detail.clone())]);
        let condition = Condition { kind, subject: subject.to_owned(), detail, since };
        let raised = Raised { condition, details, lately: vec![(logged.clone(), boot)], logged, unlogged: None };
        now.insert((kind, subject.to_owned()), raised);
    }

    /// Logs the new causes that have lasted. Called every few seconds, because a condition is raised again only when
    /// the part that is in trouble tries again.
    pub fn log_new_causes(&self) {
        let boot = self.clock.now().boot;
        for raised in self.lock().values_mut() {
            raised.log_if_due(boot);
        }
    }

    /// Clears a condition and logs how long it lasted. Does nothing if it was not raised.
    pub fn clear(&self, kind: ConditionKind, subject: &str) {
        let mut now = self.lock();
        if let Some(cleared) = now.remove(&(kind, subject.to_owned())) {
            let lasted = self.clock.now().wall.since(cleared.condition.since).as_secs();
            tracing::info!(condition = kind.name(), subject, lasted_seconds = lasted, "{} is over", kind.name());
        }
    }

    /// Clears a condition for one part; it is over when no other has it raised.
    pub fn clear_by(&self, part: RaisedBy, kind: ConditionKind) {
        let boot = self.clock.now().boot;
        let mut now = self.lock();
        let Some(raised) = now.get_mut(&(kind, String::new())) else { return };
        let is_other = |known: &RaisedBy| *known != part;
        if !raised.details.keys().any(is_other) {
            drop(now);
            self.clear(kind, "");
        } else if raised.details.remove(&part).is_some()
            && let Some((first, _)) = raised.details.first_key_value()
        {
            let first = *first;
            raised.shows(first);
            raised.note(Cause::of(&raised.condition.detail), boot);
        }
    }

    /// Whether this part has the condition raised.
    pub fn is_raised_by(&self, part: RaisedBy, kind: ConditionKind) -> bool {
        self.lock().get(&(kind, String::new())).is_some_and(|raised| raised.details.contains_key(&part))
    }

    /// Clears the conditions of a kind whose subject does not exist any more.
    pub fn retain(&self, kind: ConditionKind, exists: impl Fn(&str) -> bool) {
        for raised in self.conditions() {
            if raised.kind == kind && !exists(&raised.subject) {
                self.clear(kind, &raised.subject);
            }
        }
    }

    /// When a raised condition began.
    pub fn since(&self, kind: ConditionKind, subject: &str) -> Option<WallTime> {
        self.lock().get(&(kind, subject.to_owned())).map(|raised| raised.condition.since)
    }

    /// Whether this condition is raised.
    pub fn is_raised(&self, kind: ConditionKind, subject: &str) -> bool {
        self.lock().contains_key(&(kind, subject.to_owned()))
    }

    /// All raised conditions, by kind and subject.
    pub fn conditions(&self) -> Vec<Condition> {
        self.lock().values().map(|raised| raised.condition.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(ConditionKind, String), Raised>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Now;

    fn manual() -> (Clock, Health) {
        let start = Now { wall: WallTime::from_millis(1_000_000), boot: BootTime::from_duration(Duration::ZERO) };
        let clock = Clock::manual(start);
        (clock.clone(), Health::new(clock))
    }

    #[test]
    fn a_condition_keeps_its_beginning_while_its_detail_changes() {
        let (clock, health) = manual();
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

    /// The causes of `broker_unavailable` that have been logged last.
    fn logged(health: &Health) -> (String, usize) {
        let raised = health.lock();
        let of = &raised[&(ConditionKind::BrokerUnavailable, String::new())];
        (of.logged.0.clone(), of.lately.len())
    }

    #[test]
    fn a_new_cause_is_logged_once_it_has_lasted_and_figures_are_not_news() {
        let (clock, health) = manual();
        let raise = |detail: &str| health.raise(ConditionKind::BrokerUnavailable, "", detail);
        let last = || logged(&health).0;
        raise("refused (error 111)");
        assert_eq!(last(), "refused (error )");
        raise("wrong password");
        assert_eq!(last(), "refused (error )", "it may be over in a moment");
        raise("refused (error 112)");
        clock.advance(CAUSE_LASTS);
        health.log_new_causes();
        assert_eq!(logged(&health), ("refused (error )".to_owned(), 1), "it was");
        raise("wrong password");
        clock.advance(CAUSE_LASTS);
        health.log_new_causes();
        assert_eq!(last(), "wrong password", "nothing has raised it again");
        raise("refused (error 111)");
        clock.advance(CAUSE_LASTS);
        raise("refused (error 111)");
        assert_eq!(logged(&health), ("wrong password".to_owned(), 2), "known, and only seconds ago");
        clock.advance(CAUSE_REMEMBERED);
        health.log_new_causes();
        assert_eq!(last(), "refused (error )", "it lasts, and the log still names the other cause");
    }

    #[test]
    fn a_condition_of_several_parts_lasts_from_the_first_to_the_last() {
        let (clock, health) = manual();
        let kind = ConditionKind::DatabaseUnavailable;
        let shown = || health.conditions().into_iter().map(|raised| (raised.since.millis(), raised.detail)).next();
        let told = |detail: &str| assert_eq!(shown(), Some((1_000_000, detail.to_owned())));
        health.raise_by(RaisedBy::Watch, kind, "read-only");
        clock.advance(Duration::from_secs(9));
        health.raise_by(RaisedBy::Pipeline, kind, "read-only, and taps wait");
        told("read-only, and taps wait");
        health.raise_by(RaisedBy::Watch, kind, "still read-only");
        told("read-only, and taps wait");
        health.clear_by(RaisedBy::Start, kind);
        health.clear_by(RaisedBy::Pipeline, kind);
        told("still read-only");
        assert!(health.is_raised_by(RaisedBy::Watch, kind) && !health.is_raised_by(RaisedBy::Pipeline, kind));
        health.raise_by(RaisedBy::Pipeline, kind, "taps wait again");
        told("taps wait again");
        health.clear_by(RaisedBy::Watch, kind);
        health.clear_by(RaisedBy::Pipeline, kind);
        assert_eq!(shown(), None);
        health.clear_by(RaisedBy::Pipeline, kind);
    }

    #[test]
    fn what_is_raised_once_shows_its_latest_text() {
        let (_, health) = manual();
        for text in ["1 message waits", "20 messages wait"] {
            health.raise_once(ConditionKind::DiskLow, "", text);
            assert_eq!(health.conditions()[0].detail, text);
        }
    }

    #[test]
    fn causes_that_alternate_do_not_flood_the_log() {
        for (causes, every) in [(2, 1), (100, 1), (2, 10), (100, 10)] {
            let (clock, health) = manual();
            let mut lines = 0;
            let mut last = String::new();
            for second in 0..24 * 3600 {
                let cause = "x".repeat(second / every % causes);
                health.raise(ConditionKind::BrokerUnavailable, "", &cause);
                let now = logged(&health).0;
                lines += usize::from(now != last);
                last = now;
                clock.advance(Duration::from_secs(1));
            }
            let most = if every == 1 { 0 } else { CAUSES_LOGGED.min(causes) * 24 * 6 };
            assert!((most / 2..=most).contains(&lines), "{lines} lines a day for {causes} causes, {every} s each");
        }
    }
}
