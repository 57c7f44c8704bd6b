//! PURE. Deserializes a `[[source]]` with serde, and reports every structural fault rather than only the first.

use std::ops::Range;

use serde::{Deserialize, de::IntoDeserializer};
use toml::{Spanned, de::DeValue};

use crate::settings::advice::did_you_mean;

/// How many structural faults of one `[[source]]` are reported; each costs a pass over the table.
const SOURCE_FAULTS: usize = 20;

/// A fault that the deserializer found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Misformed {
    pub(super) span: Range<usize>,
    /// The keys that lead to the value; empty for the whole `[[source]]`.
    pub(super) path: Vec<String>,
    pub(super) message: String,
}

/// Deserializes a `[[source]]`. The deserializer stops at the first fault, so we remove the faulty value and read the
/// rest again, until there are no more faults.
pub(super) fn form<'d, T: Deserialize<'d>>(item: &Spanned<DeValue<'d>>, faults: &mut Vec<Misformed>) -> Option<T> {
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
            // It is missing only because we removed it, so remove its parent as well, or insert a placeholder.
            if take_out(&mut rest, &span).is_some() || stand_in(&mut rest, &fault.path) {
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

/// Where the value at `path` is written, or the deepest table on the way to it.
pub(super) fn locate(item: &Spanned<DeValue<'_>>, path: &[String]) -> Option<Range<usize>> {
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

/// Removes the entry whose key or value is at `span`, and returns the keys that lead to it.
fn take_out(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    let path = |step: String, rest: Vec<String>| std::iter::once(step).chain(rest).collect();
    match value.get_mut() {
        DeValue::Table(table) => {
            let found = table.iter().find(|(key, value)| key.span() == *span || value.span() == *span);
            if let Some(key) = found.map(|(key, _)| key.get_ref().to_string()) {
                table.remove(key.as_str());
                return Some(vec![key]);
            }
            table.iter_mut().find_map(|(key, value)| Some(path(key.get_ref().to_string(), take_out(value, span)?)))
        }
        DeValue::Array(items) => {
            if let Some(at) = items.iter().position(|item| item.span() == *span) {
                let kept = items.clone().into_iter().enumerate().filter(|(other, _)| *other != at);
                *items = kept.map(|(_, item)| item).collect();
                return Some(vec![at.to_string()]);
            }
            items.iter_mut().enumerate().find_map(|(at, item)| Some(path(at.to_string(), take_out(item, span)?)))
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}

/// Inserts a placeholder for a required value that was removed; returns false if one is there already.
fn stand_in(value: &mut Spanned<DeValue<'_>>, path: &[String]) -> bool {
    let (DeValue::Table(table), [key]) = (value.get_mut(), path) else { return false };
    let text = Spanned::new(0..0, DeValue::String("-".into()));
    table.insert(Spanned::new(0..0, key.clone().into()), text).is_none()
}

/// Rewords the deserializer's message like the other faults; for an unknown field, suggests the most similar known key.
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

/// Rewords `invalid type: integer `1`, expected a string` to put the expected type first.
fn wrong_kind(message: &str) -> String {
    if message.starts_with("data did not match any variant") {
        return "has a type that this key does not accept".to_owned();
    }
    match message.split_once(": ").and_then(|(_, rest)| rest.split_once(", expected ")) {
        Some((found, expected)) if message.starts_with("invalid ") => format!("expected {expected}, found {found}"),
        Some(_) | None => message.replace('\n', "; "),
    }
}

/// The path inside a `[[source]]`, as shown to people.
pub(super) fn key_of(path: &[String]) -> String {
    if path.is_empty() { "[[source]]".to_owned() } else { path.join(".") }
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

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
                "wen: rule.1.wen: unknown key; known: kind",
            ]
        );
    }

    #[test]
    fn a_source_without_its_name_says_so() {
        assert_eq!(faults_of("[[source]]\nnumber = 2\n"), ["[[source]]: [[source]]: name is missing"]);
    }
}
