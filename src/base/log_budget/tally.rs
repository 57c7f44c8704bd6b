//! PURE. Counts the lines of each kind, and remembers how many were left out.

use std::{collections::BTreeMap, mem};

use crate::base::{clock::BootTime, minute_count::MinuteCount};

/// The most lines of one kind in a minute. Enough to see what happens and to whom; at 200 bytes a line, all kinds that
/// a stranger can cause together stay below a line per millisecond.
const LINES_A_MINUTE: u32 = 30;

/// The most kinds that are counted separately: about 120 statements, and each condition. Further kinds share one
/// budget.
const KINDS: usize = 512;

/// What lines have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    /// The statement that writes them: its file and line.
    pub(super) statement: &'static str,
    /// The name of the condition they are about; empty if they are about none.
    pub(super) condition: String,
}

/// What happens to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineVerdict {
    Write,
    LeaveOut,
    /// The first line of this kind that is left out: its text stands for all of them, see [`Tally::quote`].
    LeaveOutFirst(Kind),
}

/// A summary: lines that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut<L> {
    pub(super) level: L,
    pub(super) lines: u64,
    /// The text of the first of them.
    pub(super) like: String,
}

/// The lines of this minute by kind. `L` is the type of a level.
#[derive(Debug)]
pub(super) struct Tally<L>(BTreeMap<Kind, Count<L>>);

#[derive(Debug)]
struct Count<L> {
    level: L,
    minute: MinuteCount,
    left_out: u64,
    like: String,
}

impl<L> Default for Tally<L> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<L: Copy> Tally<L> {
    /// Counts a line.
    pub(super) fn next(&mut self, kind: Kind, level: L, now: BootTime) -> LineVerdict {
        let kind = if self.0.len() < KINDS || self.0.contains_key(&kind) { kind } else { Kind::default() };
        let fresh = || Count { level, minute: MinuteCount::default(), left_out: 0, like: String::new() };
        let count = self.0.entry(kind.clone()).or_insert_with(fresh);
        if count.minute.next(now) <= LINES_A_MINUTE {
            return LineVerdict::Write;
        }
        count.left_out += 1;
        if count.left_out == 1 { LineVerdict::LeaveOutFirst(kind) } else { LineVerdict::LeaveOut }
    }

    /// Sets the text that stands for the lines of this kind that were left out.
    pub(super) fn quote(&mut self, kind: &Kind, like: String) {
        if let Some(count) = self.0.get_mut(kind) {
            count.like = like;
        }
    }

    /// When the next summary is due; `None` while nothing has been left out.
    pub(super) fn next_summary(&self) -> Option<BootTime> {
        self.0.values().filter(|count| count.left_out > 0).filter_map(|count| count.minute.ends()).min()
    }

    /// Takes the summaries whose minute has ended.
    pub(super) fn due(&mut self, now: BootTime) -> Vec<LeftOut<L>> {
        self.take(|count| count.minute.ends().is_some_and(|end| end <= now))
    }

    /// Takes all summaries.
    pub(super) fn rest(&mut self) -> Vec<LeftOut<L>> {
        self.take(|_| true)
    }

    fn take(&mut self, is_due: impl Fn(&Count<L>) -> bool) -> Vec<LeftOut<L>> {
        let left_out = self.0.values_mut().filter(|count| count.left_out > 0 && is_due(count));
        left_out
            .map(|count| LeftOut {
                level: count.level,
                lines: mem::take(&mut count.left_out),
                like: mem::take(&mut count.like),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(second))
    }

    fn kind(condition: &str) -> Kind {
        Kind { statement: "event src/api.rs:1", condition: condition.to_owned() }
    }

    #[test]
    fn a_summary_is_due_at_the_end_of_its_minute_and_comes_once() {
        let mut tally = Tally::<u8>::default();
        for _ in 0..LINES_A_MINUTE {
            assert_eq!(tally.next(kind(""), 1, at(5)), LineVerdict::Write);
        }
        assert_eq!(tally.next_summary(), None);
        assert_eq!(tally.next(kind(""), 1, at(6)), LineVerdict::LeaveOutFirst(kind("")));
        tally.quote(&kind(""), "refused".to_owned());
        assert_eq!(tally.next(kind(""), 1, at(64)), LineVerdict::LeaveOut);
        assert_eq!((tally.next_summary(), tally.due(at(64))), (Some(at(65)), vec![]));
        assert_eq!(
            tally.next(kind(""), 1, at(65)),
            LineVerdict::Write,
            "the next minute, before the summary was taken"
        );
        assert_eq!(tally.rest(), [LeftOut { level: 1, lines: 2, like: "refused".to_owned() }]);
        assert_eq!((tally.next_summary(), tally.rest()), (None, vec![]));
    }

    #[test]
    fn kinds_beyond_the_bound_share_one_budget() {
        let mut tally = Tally::<u8>::default();
        for number in 0..10_000 {
            tally.next(kind(&number.to_string()), 1, at(0));
        }
        assert_eq!(tally.0.len(), KINDS + 1);
        assert_eq!(tally.next(kind("0"), 1, at(0)), LineVerdict::Write, "known kinds keep their own");
        assert_eq!(tally.next(kind("another"), 1, at(0)), LineVerdict::LeaveOut);
    }
}
