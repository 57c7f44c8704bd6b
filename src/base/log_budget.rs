//! The budget of the log: at most thirty lines a minute of each kind, then one line that says how many more
//! there were.
//!
//! A stranger who can cause a line can cause thousands a second: a refused token, a broken message, a connection that
//! ends. The journal then drops lines of every kind (`RateLimitBurst=` in journald.conf(5)) and its oldest entries. The
//! kind of a line is the statement that writes it, so every statement has a budget and none can be forgotten.
//! Conditions share a statement; there the name of the condition belongs to the kind.
//!
//! Lines at debug level and below are not limited: they appear only where an operator asks for them.

mod tally;

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError},
    thread,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::{clock::Clock, plain::plain};
use tally::{Kind, LeftOut, LineVerdict, Tally};

/// The longest text quoted in a summary, in characters.
const QUOTED: usize = 160;

/// The target of the summaries, which have no budget themselves.
const SUMMARY: &str = "checkind::log_budget";

/// Limits the lines of a subscriber; see the module. A thread writes the summaries, also when nothing else is logged.
/// It sleeps while no line has been left out.
#[derive(Debug)]
pub struct LogBudget(Arc<BudgetState>);

/// Writes the last summaries when it is dropped, at the end of the program.
#[derive(Debug)]
pub struct LastSummaries(Arc<BudgetState>);

#[derive(Debug)]
struct BudgetState {
    clock: Clock,
    tally: Mutex<Tally<Level>>,
    left_out: Condvar,
    thread: Once,
}

impl LogBudget {
    /// A budget whose minutes pass on this clock.
    pub fn new(clock: Clock) -> (Self, LastSummaries) {
        let shared = BudgetState { clock, tally: Mutex::default(), left_out: Condvar::new(), thread: Once::new() };
        let shared = Arc::new(shared);
        (Self(Arc::clone(&shared)), LastSummaries(shared))
    }

    /// Starts the thread with the first line that is left out: a process that changes its user must not have threads
    /// before. If it cannot start, the budget holds all the same, and the summaries come at the end.
    fn start_thread(&self) {
        self.0.thread.call_once(|| {
            let summaries = Arc::clone(&self.0);
            drop(thread::Builder::new().name("log-budget".to_owned()).spawn(move || summaries.summarise()));
        });
    }
}

impl BudgetState {
    fn tally(&self) -> MutexGuard<'_, Tally<Level>> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes each summary at the end of its minute.
    fn summarise(&self) {
        let mut tally = self.tally();
        loop {
            let now = self.clock.now().boot;
            tally = match tally.next_summary() {
                None => self.left_out.wait(tally).unwrap_or_else(PoisonError::into_inner),
                Some(due) if due > now => {
                    let waited = self.left_out.wait_timeout(tally, due.since(now));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    let due = tally.due(now);
                    // Writing a line asks the budget, which locks the tally.
                    drop(tally);
                    due.iter().for_each(write);
                    self.tally()
                }
            };
        }
    }
}

impl Drop for LastSummaries {
    fn drop(&mut self) {
        let rest = self.0.tally().rest();
        rest.iter().for_each(write);
    }
}

/// Writes the summary at the level of its lines.
fn write(LeftOut { level, lines, like }: &LeftOut<Level>) {
    if *level == Level::ERROR {
        tracing::error!(target: SUMMARY, "… and {lines} more like this in the last minute: {like}");
    } else if *level == Level::WARN {
        tracing::warn!(target: SUMMARY, "… and {lines} more like this in the last minute: {like}");
    } else {
        tracing::info!(target: SUMMARY, "… and {lines} more like this in the last minute: {like}");
    }
}

impl<S: Subscriber> Layer<S> for LogBudget {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let about = event.metadata();
        if *about.level() > Level::INFO || about.target() == SUMMARY {
            return true;
        }
        let condition = about.fields().field("condition").map(|_| read(event, "condition")).unwrap_or_default();
        let kind = Kind { statement: about.name(), condition };
        let BudgetState { clock, tally, left_out, thread: _ } = &*self.0;
        let now = clock.now().boot;
        let verdict = tally.lock().unwrap_or_else(PoisonError::into_inner).next(kind, *about.level(), now);
        match verdict {
            LineVerdict::Write => true,
            LineVerdict::LeaveOut => false,
            LineVerdict::LeaveOutFirst(kind) => {
                let like = read(event, "message");
                tally.lock().unwrap_or_else(PoisonError::into_inner).quote(&kind, like);
                self.start_thread();
                left_out.notify_one();
                false
            }
        }
    }
}

/// A field of an event as text, cleaned and cut to [`QUOTED`].
fn read(event: &Event<'_>, name: &'static str) -> String {
    let mut reader = Reader { name, text: String::new() };
    event.record(&mut reader);
    reader.text
}

struct Reader {
    name: &'static str,
    text: String,
}

impl Visit for Reader {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.name {
            self.text = plain(value).chars().take(QUOTED).collect();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == self.name {
            self.text = plain(&format!("{value:?}")).chars().take(QUOTED).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        time::Duration,
    };

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::base::clock::{BootTime, Now, WallTime};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `work` runs on a manual clock, and the summaries at its end.
    fn logged(work: impl FnOnce(&Clock)) -> String {
        let start = Now { wall: WallTime::from_millis(0), boot: BootTime::from_duration(Duration::ZERO) };
        let clock = Clock::manual(start);
        let lines = Lines::default();
        let writer = lines.clone();
        let (budget, last) = LogBudget::new(clock.clone());
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_target(false)
            .with_max_level(Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish()
            .with(budget);
        // With a single subscriber, statements that other tests reach first stay disabled for this one too.
        let _second = tracing::Dispatch::new(tracing_subscriber::registry());
        tracing::subscriber::with_default(subscriber, || {
            work(&clock);
            drop(last);
        });
        let bytes = lines.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_flood_is_some_lines_and_a_number_and_silences_no_other_line() {
        let log = logged(|_| {
            for number in 0..11_772 {
                tracing::warn!(number, "a token was refused");
                tracing::debug!("asked for");
            }
            tracing::warn!("something else");
        });
        assert_eq!(log.matches("WARN a token was refused number=").count(), 30);
        assert_eq!(log.matches("WARN … and 11742 more like this in the last minute: a token was refused").count(), 1);
        assert_eq!(log.matches("asked for").count(), 11_772);
        assert_eq!(log.matches("something else").count(), 1);
    }

    #[test]
    fn each_minute_and_each_condition_has_its_own_lines() {
        let log = logged(|clock| {
            for minute in 0..3 {
                for condition in ["clock_offset", "keys_reused"] {
                    for _ in 0..31 {
                        tracing::info!(condition, minute, "{condition} is over");
                    }
                }
                clock.advance(Duration::from_secs(60));
            }
        });
        for minute in 0..3 {
            for condition in ["clock_offset", "keys_reused"] {
                let line = format!("{condition} is over condition=\"{condition}\" minute={minute}");
                assert_eq!(log.matches(&line).count(), 30, "{line}");
            }
        }
    }

    #[test]
    fn a_summary_quotes_no_control_characters_and_is_short() {
        let log = logged(|_| {
            for _ in 0..32 {
                tracing::info!("{}", "\u{1b}[2Jevil\nline ".repeat(100));
            }
        });
        let summary = log.lines().last().expect("a line");
        assert!(summary.contains("… and 2 more like this in the last minute: [2Jevilline [2Jevil"), "{summary}");
        assert!(summary.chars().count() < 260, "{summary}");
    }
}
