//! PURE. One file or variable as written: its values with their places, and every fault that can be found in that file
//! alone.
//!
//! Never here: which layer wins (`settings::merge`), and how the values of different keys interact
//! (`settings::validate`).

use std::{collections::BTreeMap, ops::Range};

use config::{Map, Value, ValueKind};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{
    mapping::{Mapping, MappingFault, MappingFragment},
    settings::{
        advice::did_you_mean,
        form::{Misformed, form, key_of, locate},
        origin::ValueOrigin,
        reader::SectionReader,
        report::{FAULTS_SHOWN, Finding, Origins, Show, Span},
        written::{CaptureWritten, DoorWritten, SECTIONS, WrittenSections},
    },
};

/// The sections that are lists, `[[section]]`; the lists of all files are joined in order.
pub(super) const LISTS: [&str; 3] = ["source", "door", "capture"];

/// One file, or one variable, as written.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// The sections; each value's origin is its [`ValueOrigin`].
    pub(super) sections: Map<String, Value>,
    /// Where each section starts.
    pub(super) headers: BTreeMap<String, Span>,
    pub(super) sources: Vec<SourceWritten>,
    pub(super) doors: Vec<DoorWritten>,
    pub(super) captures: Vec<CaptureWritten>,
    /// Part of the text could not be read, so a key that seems to be missing may be there.
    pub(super) torn: bool,
}

/// One `[[source]]`.
#[derive(Debug)]
pub(super) struct SourceWritten {
    pub(super) place: Span,
    /// Where its name is written.
    pub(super) name: Span,
    /// Absent if it has faults.
    pub(super) mapping: Option<Mapping>,
}

/// Reads a file that is in `origins`.
pub(super) fn file(origins: &Origins, origin: usize, findings: &mut Vec<Finding>) -> Fragment {
    let text = origins.text(origin);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = FragmentReader { origin, fragment: Fragment::default(), findings: Vec::new() };
    for (key, value) in document.get_ref() {
        reader.section(key, value);
    }
    reader.fragment.torn = !errors.is_empty();

    // On a line with a syntax error the parser guesses values; drop their faults, which only repeat the error.
    let torn: Vec<Range<usize>> =
        errors.iter().take(FAULTS_SHOWN).map(|error| lines_around(text, &error.span().unwrap_or_default())).collect();
    let is_echo = |finding: &Finding| torn.iter().any(|lines| lines.contains(&finding.place.start));
    findings.extend(reader.findings.into_iter().filter(|finding| !is_echo(finding)));
    findings.extend(errors.iter().take(FAULTS_SHOWN).map(|error| {
        let span = error.span().unwrap_or_default();
        let place = Span { origin, start: span.start, end: span.end };
        let key = if error.message() == "duplicate key" { text.get(span).unwrap_or_default() } else { "" };
        Finding { place, show: Show::Line, key: key.to_owned(), message: error.message().replace('\n', "; ") }
    }));
    reader.fragment
}

/// Reads a variable, `CHECKIND__SECTION__KEY`, that is in `origins`.
pub(super) fn variable(origin: usize, name: &str, text: &str, findings: &mut Vec<Finding>) -> Fragment {
    let place = Span { origin, start: 0, end: 0 };
    let mut refuse = |message: String| {
        findings.push(Finding { place, show: Show::Nothing, key: String::new(), message });
        Fragment::default()
    };
    // The name must consist of a section and a key. Reading the section checks that it has the key.
    let parts: Vec<&str> = name.split("__").collect();
    let &[_prefix, section, key] = parts.as_slice() else {
        return refuse("does not have the form CHECKIND__SECTION__KEY".to_owned());
    };
    if name.chars().any(|character| character.is_ascii_lowercase()) {
        return refuse(format!("must be in capitals: {}", name.to_ascii_uppercase()));
    }
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    if LISTS.contains(&section.as_str()) {
        return refuse(format!("[[{section}]] cannot be set by a variable; write it in a file in conf.d"));
    }
    if !SECTIONS.contains(&section.as_str()) {
        return refuse(format!("unknown section; known: {}", SECTIONS.join(", ").to_ascii_uppercase()));
    }
    // Build a fragment with this one key.
    let at = ValueOrigin { key: place, value: place, variable: true };
    let value = Value::new(Some(&at.to_text()), ValueKind::String(text.to_owned()));
    let table = ValueKind::Table(Map::from([(key, value)]));
    let sections = Map::from([(section.clone(), Value::new(Some(&at.to_text()), table))]);
    WrittenSections::read(&sections, findings);
    Fragment { sections, headers: BTreeMap::from([(section, place)]), ..Fragment::default() }
}

/// Reads the sections of one file.
struct FragmentReader {
    origin: usize,
    fragment: Fragment,
    findings: Vec<Finding>,
}

impl FragmentReader {
    /// Reads a `[section]`; a `[[section]]` is read by [`Self::list`].
    fn section(&mut self, key: &Spanned<impl AsRef<str>>, value: &Spanned<DeValue<'_>>) {
        let name = key.get_ref().as_ref();
        let place = self.place(&key.span());
        if LISTS.contains(&name) {
            return self.list(name, place, value);
        }
        if !SECTIONS.contains(&name) {
            let advice = if self.findings.len() < FAULTS_SHOWN { advice_on_section(name) } else { String::new() };
            return self.fault(place, Show::Start, name, format!("unknown section; {advice}"));
        }
        let DeValue::Table(_) = value.get_ref() else {
            return self.fault(place, Show::Start, name, format!("is a section; write [{name}] above its keys"));
        };
        let at = self.at(&key.span(), &value.span());
        let sections = Map::from([(name.to_owned(), self.value(at, value.get_ref()))]);
        WrittenSections::read(&sections, &mut self.findings);
        self.fragment.sections.extend(sections);
        self.fragment.headers.insert(name.to_owned(), place);
    }

    /// Reads the entries of a `[[section]]`.
    fn list(&mut self, name: &str, place: Span, value: &Spanned<DeValue<'_>>) {
        let items = match value.get_ref() {
            DeValue::Array(items) if items.iter().all(|item| item.get_ref().is_table()) => items,
            DeValue::Array(_)
            | DeValue::Table(_)
            | DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                let message = format!("is a list; write [[{name}]], with two brackets, above the keys of each");
                return self.fault(place, Show::Start, name, message);
            }
        };
        for item in items {
            let place = self.place(&item.span());
            if name == "source" {
                let mapping = self.source(item, place);
                let name = locate(item, &["name".to_owned()]).map_or(place, |span| self.place(&span));
                self.fragment.sources.push(SourceWritten { place, name, mapping });
                continue;
            }
            let value = self.value(self.at(&item.span(), &item.span()), item.get_ref());
            let label = if name == "door" { "[[door]]" } else { "[[capture]]" };
            let table = SectionReader::open(label, place, &value, &mut self.findings);
            if name == "door" {
                self.fragment.doors.push(DoorWritten::read(table));
            } else {
                self.fragment.captures.push(CaptureWritten::read(table));
            }
        }
    }

    /// Compiles a `[[source]]`. Each fault is reported at its key.
    fn source(&mut self, item: &Spanned<DeValue<'_>>, place: Span) -> Option<Mapping> {
        let mut faults = Vec::new();
        let fragment: Option<MappingFragment> = form(item, &mut faults);
        for Misformed { span, path, message } in faults {
            let show = if message.starts_with("unknown key") { Show::Start } else { Show::Line };
            self.fault(self.place(&span), show, &key_of(&path), message);
        }
        let fragment = fragment?;
        let faults = match Mapping::compile(&fragment) {
            Ok(mapping) => return Some(mapping),
            Err(faults) => faults,
        };
        for MappingFault { path, message } in faults {
            let place = locate(item, &path).map_or(place, |span| self.place(&span));
            self.fault(place, Show::Line, &key_of(&path), message);
        }
        None
    }

    /// Converts a value, with its place, to the type of the `config` crate.
    fn value(&self, at: ValueOrigin, value: &DeValue<'_>) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            // If it is out of range, it becomes a number that no key accepts.
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(ValueKind::I128(i128::MAX), ValueKind::I64)
            }
            DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => ValueKind::Boolean(*yes),
            // No key accepts a date, and TOML has no nil, so nil can represent a date.
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Array(items) => ValueKind::Array(
                items
                    .iter()
                    .map(|item| self.value(ValueOrigin { value: self.place(&item.span()), ..at }, item.get_ref()))
                    .collect(),
            ),
            DeValue::Table(entries) => ValueKind::Table(
                entries
                    .iter()
                    .map(|(key, value)| {
                        let at = self.at(&key.span(), &value.span());
                        (key.get_ref().to_string(), self.value(at, value.get_ref()))
                    })
                    .collect(),
            ),
        };
        Value::new(Some(&at.to_text()), kind)
    }

    fn place(&self, span: &Range<usize>) -> Span {
        Span { origin: self.origin, start: span.start, end: span.end }
    }

    fn at(&self, key: &Range<usize>, value: &Range<usize>) -> ValueOrigin {
        ValueOrigin { key: self.place(key), value: self.place(value), variable: false }
    }

    fn fault(&mut self, place: Span, show: Show, key: &str, message: String) {
        self.findings.push(Finding { place, show, key: key.to_owned(), message });
    }
}

/// Suggests the section that was probably meant, in its brackets.
fn advice_on_section(name: &str) -> String {
    let known = SECTIONS.iter().chain(&LISTS).copied();
    did_you_mean(
        name,
        known,
        |known| {
            if LISTS.contains(&known) { format!("[[{known}]]") } else { format!("[{known}]") }
        },
    )
}

/// The byte range of the whole lines that a span touches.
fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.as_bytes()[..span.start.min(text.len())].iter().rposition(|byte| *byte == b'\n');
    let end = text.as_bytes()[span.end.min(text.len())..].iter().position(|byte| *byte == b'\n');
    start.map_or(0, |at| at + 1)..end.map_or(text.len() + 1, |at| span.end + at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)(\\[\\[?(site|source|door|capture|mqtt)\\]\\]?|[a-z_]+ ?= ?|[\\[\\]{}\"'.,#=\n 0-9:]|\\PC){0,60}") {
            let mut origins = Origins::default();
            let origin = origins.add_file("a.toml".into(), text);
            let _fragment = file(&origins, origin, &mut Vec::new());
        }
    }
}
