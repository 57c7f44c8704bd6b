//! PURE. Rules: conditions on a message, and its meaning if they hold.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use crate::{
    base::sighting::{Direction, DoorEventKind, Refusal},
    mapping::{
        value::{is_empty, same, scalar_text},
        view::{FieldPlace, View},
    },
};

/// One `[[source.rule]]`, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) when: Vec<RuleCondition>,
    /// `None` for `ignore`.
    pub(super) kind: Option<DoorEventKind>,
    pub(super) direction: Choice<Direction>,
    pub(super) refusal: Option<Choice<Refusal>>,
}

/// A fixed word, or one looked up by a text in the message.
#[derive(Debug)]
pub(super) enum Choice<T> {
    Always(T),
    By { place: FieldPlace, words: BTreeMap<String, T>, other: Option<T> },
}

/// One entry of `when`: a value and the tests that it must pass.
#[derive(Debug)]
pub(super) struct RuleCondition {
    pub(super) place: FieldPlace,
    pub(super) tests: Vec<Test>,
}

/// A test of one value.
#[derive(Debug)]
pub(super) enum Test {
    Is(Vec<Value>),
    Not(Vec<Value>),
    Text(Vec<String>),
    Exists(bool),
    Empty(bool),
    Regex(Regex),
}

impl Rule {
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        self.when.iter().all(|condition| condition.holds(view))
    }
}

impl RuleCondition {
    pub(super) fn holds(&self, view: &View<'_>) -> bool {
        let level;
        let value = match &self.place {
            FieldPlace::Pointer(pointer) => view.value(pointer),
            FieldPlace::Name(name) => match view.level(name) {
                Some(text) => {
                    level = Value::from(text);
                    Some(&level)
                }
                None => view.named_value(name),
            },
        };
        self.tests.iter().all(|test| test.holds(value))
    }
}

impl Test {
    pub(super) fn holds(&self, value: Option<&Value>) -> bool {
        let text = || value.and_then(|value| scalar_text(value).ok());
        match self {
            Self::Is(wanted) => value.is_some_and(|value| wanted.iter().any(|want| same(want, value))),
            Self::Not(unwanted) => !value.is_some_and(|value| unwanted.iter().any(|not| same(not, value))),
            Self::Text(wanted) => text().is_some_and(|text| wanted.contains(&text)),
            Self::Exists(wanted) => value.is_some() == *wanted,
            Self::Empty(wanted) => value.is_none_or(is_empty) == *wanted,
            Self::Regex(pattern) => text().is_some_and(|text| pattern.is_match(&text)),
        }
    }
}

impl<T: Copy> Choice<T> {
    pub(super) fn choose(&self, view: &View<'_>) -> Option<T> {
        match self {
            Self::Always(word) => Some(*word),
            Self::By { place, words, other } => {
                view.text_at(place).and_then(|text| words.get(&text).copied()).or(*other)
            }
        }
    }
}
