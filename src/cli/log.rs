//! Where log lines and complaints go: standard error. Under systemd each line begins with its priority (sd-daemon(3)),
//! so `journalctl --priority=warning` finds the warnings.
//!
//! The journal's native protocol would make fields of `condition=` and the others, but takes them out of the message,
//! where `journalctl` shows them, and would need a second way to the journal beside standard error.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use crate::{
    base::{
        clock::Clock,
        log_budget::{LastSummaries, LogBudget},
        plain::is_unruly,
    },
    settings,
};

/// How urgent a complaint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Fault,
    Warning,
}

/// Logs to standard error, filtered by `RUST_LOG`, at most some lines a minute of each kind.
#[must_use = "dropping this writes how many lines were left out"]
pub(super) fn log_to_stderr(default: &str) -> LastSummaries {
    let filter = tracing_subscriber::EnvFilter::new(variable("RUST_LOG").as_deref().unwrap_or(default));
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| PlainLines(io::stderr())).with_target(false);
    let (budget, last) = LogBudget::new(Clock::system());
    if !goes_to_journal() {
        lines.with_ansi(io::stderr().is_terminal()).finish().with(budget).init();
        return last;
    }
    // The journal adds the time, and the priority replaces the level.
    let line = tracing_subscriber::fmt::format().without_time().with_level(false).with_target(false).with_ansi(false);
    lines.with_ansi(false).event_format(JournalLines(line)).finish().with(budget).init();
    // By default a panic would be several lines of ordinary priority.
    std::panic::set_hook(Box::new(|panic| tracing::error!("a bug in checkind: {panic}")));
    last
}

/// Prints what is wrong, outside of the log. The text may have several lines.
pub(super) fn complain(urgency: Urgency, text: &str) {
    let priority = match (goes_to_journal(), urgency) {
        (false, _) => "",
        (true, Urgency::Fault) => "<3>",
        (true, Urgency::Warning) => "<4>",
    };
    // The text quotes files and databases; only its line ends are ours.
    for line in text.lines() {
        let line = line.replace(is_unruly, "");
        // If standard error is closed, there is nowhere left to report to.
        drop(writeln!(io::stderr(), "{priority}{line}"));
    }
}

/// Whether standard error is the journal's stream: `JOURNAL_STREAM` has its device and inode (systemd.exec(5)). A
/// program that redirects standard error leaves the variable as it is.
fn goes_to_journal() -> bool {
    let stream = rustix::fs::fstat(io::stderr()).map(|stat| format!("{}:{}", stat.st_dev, stat.st_ino));
    stream.is_ok_and(|stream| variable("JOURNAL_STREAM") == Some(stream))
}

fn variable(name: &str) -> Option<String> {
    settings::environment().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// One line for each event, with its priority. Control characters in it are escaped: a line end in quoted input would
/// begin a line of another priority, and the journal shows a line with other control characters as a blob.
struct JournalLines<F>(F);

impl<S, N, F> FormatEvent<S, N> for JournalLines<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.0.format_event(context, Writer::new(&mut text), event)?;
        out.write_str(priority(*event.metadata().level()))?;
        for c in text.trim().chars() {
            if c.is_control() {
                write!(out, "{}", c.escape_default())?;
            } else {
                out.write_char(c)?;
            }
        }
        out.write_char('\n')
    }
}

/// The prefix for a level (sd-daemon(3)).
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}

/// Makes each entry of the log one line without characters that would reorder text on a terminal, because logs quote
/// input. Keeps the control characters that carry the colours; tracing-subscriber escapes those of the input.
struct PlainLines<W>(W);

impl<W: Write> Write for PlainLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (text, end) = match line {
            [text @ .., b'\n'] => (text, "\n"),
            text => (text, ""),
        };
        let text = String::from_utf8_lossy(text);
        // An escape begins each colour; the log's own text has no other control character.
        let unruly = |c: char| is_unruly(c) && c != '\u{1b}';
        let text = text.replace('\n', "\\n").replace(unruly, "");
        self.0.write_all(format!("{text}{end}").as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
