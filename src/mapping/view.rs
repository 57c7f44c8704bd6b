//! PURE. One event inside a message, as rules and templates see it: topic levels, fields and pointers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::mapping::{
    content::RejectReason,
    limits::MOST_EVENTS,
    value::{bounded, card_text, is_empty, scalar_text},
};

/// The field that holds the credential.
pub(super) const CARD: &str = "card";

/// Where a rule finds a value.
#[derive(Debug)]
pub(super) enum FieldPlace {
    Pointer(String),
    Name(String),
}

/// One event inside a message, as conditions and templates see it.
pub(super) struct View<'a> {
    pub(super) levels: &'a [(&'a str, &'a str)],
    pub(super) fields: &'a BTreeMap<String, Vec<String>>,
    /// Texts of the field `card` that mean "nothing was presented".
    pub(super) no_card: &'a [String],
    pub(super) base: &'a Value,
    pub(super) element: &'a Value,
    pub(super) zipped: Vec<(&'a str, &'a Value)>,
}

impl<'a> View<'a> {
    /// One view for each position of the arrays at these pointers, which must have the same length.
    pub(super) fn unzipped(self, zip: &'a [String]) -> Result<Vec<Self>, RejectReason> {
        let arrays: Vec<(&'a str, &'a Vec<Value>)> = zip
            .iter()
            .filter_map(|pointer| Some((pointer.as_str(), self.element.pointer(pointer)?.as_array()?)))
            .collect();
        let Some((_, first)) = arrays.first() else {
            return Ok(vec![self]);
        };
        let length = first.len();
        if length == 0 || length > MOST_EVENTS || arrays.iter().any(|(_, array)| array.len() != length) {
            return Err(RejectReason::BadField);
        }
        let at = |position: usize| arrays.iter().map(|(pointer, array)| (*pointer, &array[position])).collect();
        Ok((0..length).map(|position| Self { zipped: at(position), ..self }).collect())
    }

    /// The value at a pointer; null counts as absent.
    pub(super) fn value(&self, pointer: &str) -> Option<&'a Value> {
        let zipped = self.zipped.iter().find(|(zipped, _)| *zipped == pointer).map(|(_, value)| *value);
        let found = zipped.or_else(|| self.element.pointer(pointer)).or_else(|| self.base.pointer(pointer));
        found.filter(|value| !value.is_null())
    }

    /// The value of a field: the first of its pointers with a value that is not blank, else the first with any value.
    pub(super) fn named_value(&self, name: &str) -> Option<&'a Value> {
        let pointers = self.fields.get(name)?;
        let present = || pointers.iter().filter_map(|pointer| self.value(pointer));
        let no_card = |value: &Value| {
            name == CARD && card_text(value).is_ok_and(|text| text.is_some_and(|text| self.no_card.contains(&text)))
        };
        if pointers.len() > 1
            && let Some(value) = present().find(|value| !is_empty(value) && !no_card(value))
        {
            return Some(value);
        }
        present().next()
    }

    /// The topic level of that name.
    pub(super) fn level(&self, name: &str) -> Option<&'a str> {
        self.levels.iter().find(|(level, _)| *level == name).map(|(_, text)| *text)
    }

    /// The text of a topic level or field.
    pub(super) fn named_text(&self, name: &str) -> Result<Option<String>, RejectReason> {
        if let Some(level) = self.level(name) {
            return bounded(level.to_owned()).map(Some);
        }
        self.named_value(name).map_or(Ok(None), |value| scalar_text(value).map(Some))
    }

    pub(super) fn text_at(&self, place: &FieldPlace) -> Option<String> {
        match place {
            FieldPlace::Pointer(pointer) => scalar_text(self.value(pointer)?).ok(),
            FieldPlace::Name(name) => self.named_text(name).ok().flatten(),
        }
    }
}
