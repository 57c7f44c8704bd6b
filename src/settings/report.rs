//! Faults of the configuration, and how they are printed: place, key, what is wrong, the line and a caret.
//!
//! Never here: what counts as a fault (`settings::fragment`, `settings::value`, `settings::validate`).

use std::{fmt, path::PathBuf};

/// How many faults are kept and printed; the rest are only counted. More than a person fixes at once, and few enough
/// that a file of another format, specified by mistake, does not fill the journal.
pub(super) const FAULTS_SHOWN: usize = 100;

/// How many characters of a line are printed around a fault: few enough for a terminal.
const LINE_SHOWN: usize = 110;

/// All faults of a configuration, in the order of the files and their lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SettingsFaults {
    faults: Vec<Fault>,
    left_out: usize,
}

impl SettingsFaults {
    /// The faults, at most 100 of them.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for SettingsFaults {
    /// Writes each fault with its line; no line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.faults.iter().enumerate() {
            write!(f, "{}{fault}", if at == 0 { "" } else { "\n" })?;
        }
        if self.left_out > 0 {
            write!(f, "\nand {} more", self.left_out)?;
        }
        Ok(())
    }
}

/// One fault or, among the warnings, one probable mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    head: String,
    excerpt: Option<Excerpt>,
}

impl Fault {
    /// The fault without the line and the caret, for a log.
    pub fn head(&self) -> &str {
        &self.head
    }
}

impl fmt::Display for Fault {
    /// `FILE:LINE:COLUMN: key: message`, then the line and a caret; `VARIABLE: message` for the environment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head)?;
        let Some(Excerpt { number, line, before, width }) = &self.excerpt else { return Ok(()) };
        write!(f, "\n{number:>5} | {line}\n      | {:before$}{:^<width$}", "", "")
    }
}

/// A line of a file, with the faulty part marked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Excerpt {
    /// Counted from 1.
    number: usize,
    line: String,
    /// Characters before the caret.
    before: usize,
    /// Number of carets.
    width: usize,
}

/// Where something was written: bytes of a file, or a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    /// Index into [`Origins`].
    pub(super) origin: usize,
    /// First byte.
    pub(super) start: usize,
    /// One past the last byte.
    pub(super) end: usize,
}

impl Span {
    /// The place of a shipped default, which no file has.
    pub(super) const SHIPPED: Self = Self { origin: usize::MAX, start: 0, end: 0 };
}

/// The files and variables that the settings were read from; later ones override earlier ones.
#[derive(Debug, Default)]
pub(super) struct Origins(Vec<Origin>);

/// A file or a variable.
#[derive(Debug)]
enum Origin {
    File { path: PathBuf, text: String },
    Variable { name: String },
}

impl Origins {
    /// Adds a file; faults in it point into `text`.
    pub(super) fn add_file(&mut self, path: PathBuf, text: String) -> usize {
        self.0.push(Origin::File { path, text });
        self.0.len() - 1
    }

    /// Adds an environment variable.
    pub(super) fn add_variable(&mut self, name: String) -> usize {
        self.0.push(Origin::Variable { name });
        self.0.len() - 1
    }

    /// The text of a file, empty for a variable.
    pub(super) fn text(&self, origin: usize) -> &str {
        match self.0.get(origin) {
            Some(Origin::File { text, .. }) => text,
            Some(Origin::Variable { .. }) | None => "",
        }
    }

    /// The place as text, for a fault that refers to a second place: `FILE:LINE`, or the variable's name.
    pub(super) fn describe(&self, place: Span) -> String {
        match self.0.get(place.origin) {
            Some(Origin::File { path, text }) => {
                format!("{}:{}", path.display(), LineSpot::of(text, place.start).number)
            }
            Some(Origin::Variable { name }) => name.clone(),
            None => "the shipped defaults".to_owned(),
        }
    }
}

/// A fault as found, before it is rendered as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) place: Span,
    /// How much of the line is printed.
    pub(super) show: Show,
    /// The key, or the section in brackets; empty if the fault concerns the whole file.
    pub(super) key: String,
    pub(super) message: String,
}

/// How much of the line is printed. The output ends up in the journal, so it must not contain a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Show {
    /// All of it.
    Line,
    /// Up to the end of the place, because the value of an unknown key may be a password. A section header is printed
    /// whole.
    Start,
    /// Nothing: the value contains a secret, or there is no line.
    Nothing,
}

/// Sorts faults, removes duplicates and renders them. `None` if there are no faults.
pub(super) fn faults(origins: &Origins, mut findings: Vec<Finding>) -> Option<SettingsFaults> {
    findings.sort();
    findings.dedup();
    let left_out = findings.len().saturating_sub(FAULTS_SHOWN);
    let faults: Vec<Fault> = findings.iter().take(FAULTS_SHOWN).map(|finding| render(origins, finding, "")).collect();
    (!faults.is_empty()).then_some(SettingsFaults { faults, left_out })
}

/// Sorts warnings, removes duplicates and renders them.
pub(super) fn warnings(origins: &Origins, mut findings: Vec<Finding>) -> Vec<Fault> {
    findings.sort();
    findings.dedup();
    findings.iter().take(FAULTS_SHOWN).map(|finding| render(origins, finding, "warning: ")).collect()
}

fn render(origins: &Origins, finding: &Finding, mark: &str) -> Fault {
    let Finding { place, show, key, message } = finding;
    let shown = if key.is_empty() { message.clone() } else { format!("{key}: {message}") };
    let (head, excerpt) = match origins.0.get(place.origin) {
        Some(Origin::File { path, text }) if *show == Show::Nothing && text.is_empty() => {
            (format!("{}: {mark}{shown}", path.display()), None)
        }
        Some(Origin::File { path, text }) => {
            let spot = LineSpot::of(text, place.start);
            let excerpt = (*show != Show::Nothing).then(|| spot.excerpt(text, place, *show));
            (format!("{}:{}:{}: {mark}{shown}", path.display(), spot.number, spot.before + 1), excerpt)
        }
        Some(Origin::Variable { name }) => (format!("{name}: {mark}{message}"), None),
        None => (format!("{mark}{shown}"), None),
    };
    Fault { head: head.chars().map(printable).collect(), excerpt }
}

/// A line and the position in it.
struct LineSpot {
    /// Counted from 1.
    number: usize,
    /// First byte of the line.
    line_start: usize,
    /// Characters of the line before the position.
    before: usize,
}

impl LineSpot {
    fn of(text: &str, at: usize) -> Self {
        let at = floor_boundary(text, at);
        let head = &text[..at];
        let line_start = head.rfind('\n').map_or(0, |newline| newline + 1);
        Self { number: head.matches('\n').count() + 1, line_start, before: text[line_start..at].chars().count() }
    }

    fn excerpt(&self, text: &str, place: &Span, show: Show) -> Excerpt {
        let line = text[self.line_start..].split('\n').next().unwrap_or_default().trim_end();
        let end = floor_boundary(text, place.end.min(self.line_start + line.len()));
        let through = text.get(self.line_start..end).unwrap_or_default().chars().count();
        let skipped = if self.before < LINE_SHOWN * 2 / 3 { 0 } else { self.before - LINE_SHOWN / 3 };
        let mut shown: String = line.chars().skip(skipped).take(LINE_SHOWN).map(printable).collect();
        let after: String = line.chars().skip(through).collect();
        if show == Show::Start && !after.is_empty() && !after.starts_with(']') {
            shown = format!("{} …", shown.chars().take(through - skipped).collect::<String>());
        }
        let width =
            through.saturating_sub(self.before).clamp(1, (LINE_SHOWN + skipped).saturating_sub(self.before).max(1));
        Excerpt { number: self.number, line: shown, before: self.before - skipped, width }
    }
}

/// The last character boundary at or before `at`.
fn floor_boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// The character to print for one from a file or a variable: control characters must not reach the terminal.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        control if control.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, needle: &str, show: Show) -> String {
        let mut origins = Origins::default();
        let origin = origins.add_file(PathBuf::from("a.toml"), text.to_owned());
        let start = text.find(needle).expect("the needle is in the text");
        let place = Span { origin, start, end: start + needle.len() };
        let finding = Finding { place, show, key: "key".to_owned(), message: "is wrong".to_owned() };
        render(&origins, &finding, "").to_string()
    }

    #[test]
    fn the_caret_is_under_the_value() {
        assert_eq!(
            shown("[site]\n\tname = \"é\"  # x\n", "\"é\"", Show::Line),
            "a.toml:2:9: key: is wrong\n    2 |  name = \"é\"  # x\n      |         ^^^"
        );
    }

    #[test]
    fn faults_that_are_too_many_to_print_are_counted() {
        let mut origins = Origins::default();
        let origin = origins.add_file(PathBuf::from("a.toml"), "x\n".repeat(500));
        let finding = |line: usize| Finding {
            place: Span { origin, start: line * 2, end: line * 2 + 1 },
            show: Show::Line,
            key: String::new(),
            message: "is wrong".to_owned(),
        };
        let faults = faults(&origins, (0..500).chain(0..500).map(finding).collect()).expect("faults");
        assert_eq!(faults.faults().len(), FAULTS_SHOWN);
        assert!(faults.to_string().ends_with("\nand 400 more"), "{faults}");
    }

    #[test]
    fn the_value_of_an_unknown_key_is_not_printed() {
        assert_eq!(
            shown("password = \"secret\"", "password", Show::Start),
            "a.toml:1:1: key: is wrong\n    1 | password …\n      | ^^^^^^^^"
        );
    }

    #[test]
    fn a_long_line_is_cut_around_the_fault() {
        let text = format!("{}NEEDLE{}", "x".repeat(500), "y".repeat(500));
        let shown = shown(&text, "NEEDLE", Show::Line);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines.iter().all(|line| line.chars().count() < 130), "{shown}");
        assert_eq!(lines[1].find("NEEDLE"), lines[2].find('^'), "{shown}");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!shown("a = \"\u{1b}[2Jx\"", "x", Show::Line).contains('\u{1b}'));
    }
}
