//! Names the parts of the daemon that no longer turn.

use std::{collections::BTreeSet, time::Duration};

use crate::base::{
    health::{ConditionKind, Health},
    turns::{OverduePart, STALL},
};

/// A part that has not turned for this long will not turn again: the watchdog is no longer fed, and systemd restarts
/// the daemon. Nothing is lost by that.
const STUCK: Duration = Duration::from_secs(60);

/// The parts that are named now.
#[derive(Debug, Default)]
pub(super) struct StallWatch {
    named: BTreeSet<String>,
    is_stuck: bool,
}

impl StallWatch {
    /// Raises a condition for each part that is overdue, and clears those of parts that turn again or have ended.
    pub(super) fn check(&mut self, overdue: &[OverduePart], health: &Health) {
        let names: BTreeSet<String> = overdue.iter().map(|part| part.name.clone()).collect();
        for over in self.named.difference(&names) {
            health.clear(ConditionKind::PartStalled, over);
        }
        for OverduePart { name, .. } in overdue {
            let seconds = STALL.as_secs();
            let detail = format!(
                "{name} has not turned for more than {seconds} s, longer than any of its waits may last; restart \
                 checkind, which loses nothing, and report it with its log"
            );
            health.raise(ConditionKind::PartStalled, name, detail);
        }
        self.is_stuck = overdue.iter().any(|part| part.silent >= STUCK);
        self.named = names;
    }

    /// Whether a part has been stalled for so long that only a restart would help.
    pub(super) const fn is_stuck(&self) -> bool {
        self.is_stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::Clock;

    #[test]
    fn a_part_is_named_while_it_does_not_turn_and_stops_the_watchdog_after_a_minute() {
        let health = Health::new(Clock::system());
        let mut stalls = StallWatch::default();
        let overdue = |name: &str, seconds| OverduePart { name: name.to_owned(), silent: Duration::from_secs(seconds) };
        let (pipeline, directory) = ("the pipeline", "the directory watch");
        for (parts, named, stuck) in [
            (vec![], vec![], false),
            (vec![overdue(pipeline, 46)], vec![pipeline], false),
            (vec![overdue(pipeline, 60), overdue(directory, 45)], vec![directory, pipeline], true),
            (vec![overdue(directory, 50)], vec![directory], false),
            (vec![], vec![], false),
        ] {
            stalls.check(&parts, &health);
            let conditions = health.conditions();
            let subjects: Vec<&str> = conditions.iter().map(|condition| condition.subject.as_str()).collect();
            assert_eq!((subjects, stalls.is_stuck()), (named, stuck), "{parts:?}");
        }
    }
}
