//! PURE. One file as written: its text to values that know their place, and every fault that can be seen in one file.
//!
//! Never here: which layer wins (`settings::merge`), or what the values of different keys mean together
//! (`settings::validate`).

use std::{collections::BTreeMap, ops::Range};

use config::{Map, Value, ValueKind};
use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    report::{FAULTS_SHOWN, Finding, Origins, Show, Span},
    written::{CaptureWritten, DoorWritten, SectionReader, WrittenSections},
};
use crate::mapping::{Mapping, MappingFault, MappingFragment};

/// The sections that are written once, `[section]`; later layers override their keys one by one.
pub(super) const SECTIONS: [&str; 8] =
    ["database", "spool", "site", "pay_as_you_go", "lease", "mqtt", "api", "retention"];

/// The sections that are lists, `[[section]]`; the lists of all files are put one after the other.
pub(super) const LISTS: [&str; 3] = ["source", "door", "capture"];

/// How many faults one `[[source]]` can have in its form; each costs a pass over the table.
const SOURCE_FAULTS: usize = 20;

/// One file, or one variable, as written.
#[derive(Debug, Default)]
pub(super) struct Fragment {
    /// The sections; each value's origin is its [`At`].
    pub(super) sections: Map<String, Value>,
    /// Where each section begins.
    pub(super) headers: BTreeMap<String, Span>,
    pub(super) sources: Vec<SourceWritten>,
    pub(super) doors: Vec<DoorWritten>,
    pub(super) captures: Vec<CaptureWritten>,
    /// Part of the text could not be read: what seems to be missing may stand there.
    pub(super) torn: bool,
}

/// One `[[source]]`.
#[derive(Debug)]
pub(super) struct SourceWritten {
    pub(super) place: Span,
    /// Where its name stands.
    pub(super) name: Span,
    /// Absent when it has faults.
    pub(super) mapping: Option<Mapping>,
}

/// Where a key and its value stand; travels through the layers as the origin of a [`Value`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    pub(super) key: Span,
    pub(super) value: Span,
    /// Written in the environment, where everything is text.
    pub(super) variable: bool,
}

impl At {
    fn to_origin(self) -> String {
        let Self { key, value, variable } = self;
        format!("{} {} {} {} {} {}", key.origin, key.start, key.end, value.start, value.end, u8::from(variable))
    }

    /// The place of a value; that of a shipped default when it has none.
    pub(super) fn of(value: &Value) -> Self {
        let numbers: Vec<usize> =
            value.origin().unwrap_or_default().split(' ').filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [origin, key_start, key_end, start, end, variable] => Self {
                key: Span { origin, start: key_start, end: key_end },
                value: Span { origin, start, end },
                variable: variable == 1,
            },
            _ => Self { key: Span::SHIPPED, value: Span::SHIPPED, variable: false },
        }
    }
}

/// Reads a file that `origins` holds.
pub(super) fn file(origins: &Origins, origin: usize, findings: &mut Vec<Finding>) -> Fragment {
    let text = origins.text(origin);
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut reader = FragmentReader { origin, fragment: Fragment::default(), findings: Vec::new() };
    for (key, value) in document.get_ref() {
        reader.section(key, value);
    }
    reader.fragment.torn = !errors.is_empty();
    // What stands on a torn line was guessed by the parser; its faults are echoes.
    let torn: Vec<Range<usize>> =
        errors.iter().take(FAULTS_SHOWN).map(|error| lines_around(text, &error.span().unwrap_or_default())).collect();
    let echo = |finding: &Finding| torn.iter().any(|lines| lines.contains(&finding.place.start));
    findings.extend(reader.findings.into_iter().filter(|finding| !echo(finding)));
    findings.extend(errors.iter().take(FAULTS_SHOWN).map(|error| {
        let span = error.span().unwrap_or_default();
        let place = Span { origin, start: span.start, end: span.end };
        let key = if error.message() == "duplicate key" { text.get(span).unwrap_or_default() } else { "" };
        Finding { place, show: Show::Line, key: key.to_owned(), message: error.message().replace('\n', "; ") }
    }));
    reader.fragment
}

/// Reads a variable, `CHECKIND__SECTION__KEY`, that `origins` holds.
pub(super) fn variable(origin: usize, name: &str, text: &str, findings: &mut Vec<Finding>) -> Fragment {
    let place = Span { origin, start: 0, end: 0 };
    let mut refuse = |message: String| {
        findings.push(Finding { place, show: Show::Nothing, key: String::new(), message });
        Fragment::default()
    };
    let parts: Vec<&str> = name.split("__").collect();
    let &[_prefix, section, key] = parts.as_slice() else {
        return refuse("not the form CHECKIND__SECTION__KEY".to_owned());
    };
    if name.chars().any(|character| character.is_ascii_lowercase()) {
        return refuse(format!("variables are written in capitals: {}", name.to_ascii_uppercase()));
    }
    let (section, key) = (section.to_ascii_lowercase(), key.to_ascii_lowercase());
    if LISTS.contains(&section.as_str()) {
        return refuse(format!("[[{section}]] cannot be set by a variable; write it in a file of conf.d"));
    }
    if !SECTIONS.contains(&section.as_str()) {
        return refuse(format!("unknown section; known are {}", SECTIONS.join(", ").to_ascii_uppercase()));
    }
    let at = At { key: place, value: place, variable: true };
    let value = Value::new(Some(&at.to_origin()), ValueKind::String(text.to_owned()));
    let table = ValueKind::Table(Map::from([(key, value)]));
    let sections = Map::from([(section.clone(), Value::new(Some(&at.to_origin()), table))]);
    WrittenSections::read(&sections, findings);
    Fragment { sections, headers: BTreeMap::from([(section, place)]), ..Fragment::default() }
}

struct FragmentReader {
    origin: usize,
    fragment: Fragment,
    findings: Vec<Finding>,
}

impl FragmentReader {
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
            return self.fault(place, Show::Start, name, format!("this is a section: write [{name}] above its keys"));
        };
        let at = self.at(&key.span(), &value.span());
        let sections = Map::from([(name.to_owned(), self.value(at, value.get_ref()))]);
        WrittenSections::read(&sections, &mut self.findings);
        self.fragment.sections.extend(sections);
        self.fragment.headers.insert(name.to_owned(), place);
    }

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
                let message = format!("there may be several: write [[{name}]], with two brackets, above its keys");
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

    /// Compiles a `[[source]]`; its faults are put at the keys that they name.
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

    fn value(&self, at: At, value: &DeValue<'_>) -> Value {
        let kind = match value {
            DeValue::String(text) => ValueKind::String(text.to_string()),
            // Out of range: kept as a number that no key accepts.
            DeValue::Integer(number) => {
                i64::from_str_radix(number.as_str(), number.radix()).map_or(ValueKind::I128(i128::MAX), ValueKind::I64)
            }
            DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(yes) => ValueKind::Boolean(*yes),
            // No key holds a date; TOML has no nil, so that its place is free.
            DeValue::Datetime(_) => ValueKind::Nil,
            DeValue::Array(items) => ValueKind::Array(
                items
                    .iter()
                    .map(|item| self.value(At { value: self.place(&item.span()), ..at }, item.get_ref()))
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
        Value::new(Some(&at.to_origin()), kind)
    }

    fn place(&self, span: &Range<usize>) -> Span {
        Span { origin: self.origin, start: span.start, end: span.end }
    }

    fn at(&self, key: &Range<usize>, value: &Range<usize>) -> At {
        At { key: self.place(key), value: self.place(value), variable: false }
    }

    fn fault(&mut self, place: Span, show: Show, key: &str, message: String) {
        self.findings.push(Finding { place, show, key: key.to_owned(), message });
    }
}

/// The keys inside a `[[source]]`, for people.
fn key_of(path: &[String]) -> String {
    if path.is_empty() { "[[source]]".to_owned() } else { path.join(".") }
}

/// A fault that the deserializer found.
#[derive(Debug, PartialEq, Eq)]
struct Misformed {
    span: Range<usize>,
    /// The keys that lead to it; none for the whole `[[source]]`.
    path: Vec<String>,
    message: String,
}

/// Reads a `[[source]]` into its type. The deserializer stops at the first fault; what it complains of is taken out and
/// the rest read again, until nothing is left to complain of.
fn form<'d, T: Deserialize<'d>>(item: &Spanned<DeValue<'d>>, faults: &mut Vec<Misformed>) -> Option<T> {
    let mut rest = item.clone();
    for _ in 0..SOURCE_FAULTS {
        let error = match T::deserialize(rest.clone().into_deserializer()) {
            Ok(read) => return faults.is_empty().then_some(read),
            Err(error) => error,
        };
        let span = error.span().unwrap_or_else(|| item.span());
        let missing = |fault: &&Misformed| {
            fault.path.last().is_some_and(|key| error.message() == format!("missing field `{key}`"))
        };
        if let Some(fault) = faults.iter().find(missing) {
            // Missing only because it was taken out: then what it belongs to goes, or text takes its place.
            let gone = take_out(&mut rest, &span).is_some() || stand_in(&mut rest, &fault.path);
            if gone {
                continue;
            }
            return None;
        }
        let path = take_out(&mut rest, &span).unwrap_or_default();
        let stuck = path.is_empty();
        faults.push(Misformed { span, path, message: reworded(error.message()) });
        if stuck {
            return None;
        }
    }
    None
}

/// Where the value at the end of `path` stands, or the deepest table on the way to it.
fn locate(item: &Spanned<DeValue<'_>>, path: &[String]) -> Option<Range<usize>> {
    let (step, rest) = path.split_first()?;
    let child = match item.get_ref() {
        DeValue::Table(table) => table.get(step.as_str()),
        DeValue::Array(items) => step.parse().ok().and_then(|at: usize| items.get(at)),
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    };
    match child {
        Some(child) => locate(child, rest).or_else(|| Some(child.span())),
        None => Some(item.span()),
    }
}

/// Removes the entry of which `span` is the key or the value, and tells the keys that led to it.
fn take_out(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    let led = |step: String, rest: Vec<String>| std::iter::once(step).chain(rest).collect();
    match value.get_mut() {
        DeValue::Table(table) => {
            let found = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
            if let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) {
                table.remove(key.as_str());
                return Some(vec![key]);
            }
            table.iter_mut().find_map(|(key, value)| Some(led(key.get_ref().to_string(), take_out(value, span)?)))
        }
        DeValue::Array(items) => {
            if let Some(at) = items.iter().position(|item| item.span() == *span) {
                let kept = items.clone().into_iter().enumerate().filter(|(other, _)| *other != at);
                *items = kept.map(|(_, item)| item).collect();
                return Some(vec![at.to_string()]);
            }
            items.iter_mut().enumerate().find_map(|(at, item)| Some(led(at.to_string(), take_out(item, span)?)))
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}

/// Puts text where a required value was taken out, once.
fn stand_in(value: &mut Spanned<DeValue<'_>>, path: &[String]) -> bool {
    let (DeValue::Table(table), [key]) = (value.get_mut(), path) else { return false };
    let text = Spanned::new(0..0, DeValue::String("-".into()));
    table.insert(Spanned::new(0..0, key.clone().into()), text).is_none()
}

/// The deserializer's words in those of the other faults: an unknown field gets its nearest known key.
fn reworded(message: &str) -> String {
    let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match names.split_first() {
        Some((unknown, known)) if message.starts_with("unknown field") => {
            format!("unknown key; {}", did_you_mean(unknown, known.iter().copied(), str::to_owned))
        }
        Some((unknown, known)) if message.starts_with("unknown variant") => {
            format!("\"{unknown}\" is not one of {}", known.join(", "))
        }
        Some((missing, _)) if message.starts_with("missing field") => format!("{missing} is missing"),
        _ => wrong_kind(message),
    }
}

/// `invalid type: integer `1`, expected a string`, the other way round.
fn wrong_kind(message: &str) -> String {
    if message.starts_with("data did not match any variant") {
        return "is of a kind that this key does not take".to_owned();
    }
    match message.split_once(": ").and_then(|(_, rest)| rest.split_once(", expected ")) {
        Some((found, expected)) if message.starts_with("invalid ") => format!("expected {expected}, found {found}"),
        Some(_) | None => message.replace('\n', "; "),
    }
}

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

/// `did you mean X?`, or all that is known when nothing is near.
pub(super) fn did_you_mean<'k>(
    written: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    spell: impl Fn(&'k str) -> String,
) -> String {
    match nearest(written, known.clone()) {
        Some(near) => format!("did you mean {}?", spell(near)),
        None => format!("known are {}", known.map(spell).collect::<Vec<_>>().join(", ")),
    }
}

/// The known word that is most like the written one, if any is like it at all.
pub(super) fn nearest<'k>(written: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // The length bounds the work that a hostile key can cause; no known word is longer.
    let written: String = written.chars().take(60).collect::<String>().to_lowercase();
    known
        .map(|known| {
            let near = strsim::normalized_damerau_levenshtein(&written, &known.to_lowercase());
            // `password` for `password_file`: half of a name is a likelier slip than any misspelling.
            let part = written.len() > 3 && known.starts_with(&written);
            (if part { near.max(0.9) } else { near }, known)
        })
        .filter(|(near, _)| *near > 0.6)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map(|(_, known)| known)
}

/// The whole lines that a span touches.
fn lines_around(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = text.as_bytes()[..span.start.min(text.len())].iter().rposition(|byte| *byte == b'\n');
    let end = text.as_bytes()[span.end.min(text.len())..].iter().position(|byte| *byte == b'\n');
    start.map_or(0, |at| at + 1)..end.map_or(text.len() + 1, |at| span.end + at + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form is tested")]
    struct Outer {
        name: String,
        number: Option<u8>,
        topics: Option<Vec<String>>,
        #[serde(default)]
        inner: Option<Inner>,
        #[serde(default)]
        rule: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its form is tested")]
    struct Inner {
        kind: Kind,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Exit,
        Ignore,
    }

    /// Each fault as `text it points to: key: message`.
    fn faults_of(text: &str) -> Vec<String> {
        let document = DeTable::parse(text).expect("the test's text is TOML");
        let Some(DeValue::Array(items)) = document.get_ref().get("source").map(Spanned::get_ref) else {
            panic!("the test's text has a [[source]]")
        };
        let mut faults = Vec::new();
        let read: Option<Outer> = form(&items[0], &mut faults);
        assert_eq!(read.is_none(), !faults.is_empty());
        faults.sort_by_key(|fault| fault.span.start);
        faults
            .iter()
            .map(|fault| format!("{}: {}: {}", &text[fault.span.clone()], key_of(&fault.path), fault.message))
            .collect()
    }

    #[test]
    fn every_fault_in_the_form_of_a_source_is_found() {
        let text = "[[source]]\nname = 1\nnumbr = 2\ntopics = [\"a\", 2]\n[source.inner]\nkind = \"exti\"\n\
                    [[source.rule]]\nkind = \"exit\"\n[[source.rule]]\nkind = \"ignore\"\nwen = 1\n";
        assert_eq!(
            faults_of(text),
            [
                "1: name: expected a string, found integer `1`",
                "numbr: numbr: unknown key; did you mean number?",
                "2: topics.1: expected a string, found integer `2`",
                "\"exti\": inner.kind: \"exti\" is not one of exit, ignore",
                "wen: rule.1.wen: unknown key; known are kind",
            ]
        );
    }

    #[test]
    fn a_source_without_its_name_says_so() {
        assert_eq!(faults_of("[[source]]\nnumber = 2\n"), ["[[source]]: [[source]]: name is missing"]);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)(\\[\\[?(site|source|door|capture|mqtt)\\]\\]?|[a-z_]+ ?= ?|[\\[\\]{}\"'.,#=\n 0-9:]|\\PC){0,60}") {
            let mut origins = Origins::default();
            let origin = origins.add_file("a.toml".into(), text);
            let _fragment = file(&origins, origin, &mut Vec::new());
        }
    }
}
