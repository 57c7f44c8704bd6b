//! PURE. The body of a command, as clients of the platform write it: JSON or a form, keys in any case, numbers and times
//! in several spellings.
//!
//! A handler asks for the fields that it knows and collects every fault at once. What it does not ask for is left out
//! and named in the answer. An explicit null differs from an absent key: an update clears the one and keeps the other.

use std::fmt;

use chrono::NaiveDateTime;
use serde::{
    Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::{client_number, client_time, fault::FieldFault, query::truth};
use crate::base::{clock::WallTime, record::CheckinSource};

/// The most keys of a body: a whole coworker of the platform has about 200. A body with more is a fault.
const MOST_KEYS: usize = 1000;

/// What faults of the whole body are named after.
const BODY: &str = "body";

/// What a client says about a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GivenField<T> {
    /// Nothing: an update keeps what is there.
    Absent,
    /// Null, an empty text or an empty field of a form: there is no value.
    Null,
    /// This value.
    Value(T),
}

impl<T> GivenField<T> {
    /// The value, where null and an absent key mean the same.
    pub(super) fn value(self) -> Option<T> {
        match self {
            Self::Absent | Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    /// The value in force, if `kept` is what is there now.
    pub(super) fn or_kept(self, kept: Option<T>) -> Option<T> {
        match self {
            Self::Absent => kept,
            Self::Null => None,
            Self::Value(value) => Some(value),
        }
    }

    fn and_then<U>(self, read: impl FnOnce(T) -> Option<U>) -> Option<GivenField<U>> {
        Some(match self {
            Self::Absent => GivenField::Absent,
            Self::Null => GivenField::Null,
            Self::Value(value) => GivenField::Value(read(value)?),
        })
    }
}

/// The fields of a body, in its order, and the faults found so far.
#[derive(Debug)]
pub(super) struct CommandBody {
    fields: Vec<BodyField>,
    faults: Vec<FieldFault>,
}

/// One key of a body.
#[derive(Debug)]
struct BodyField {
    /// As the client wrote it.
    name: String,
    value: BodyValue,
    /// Whether a handler has asked for it.
    is_known: bool,
}

#[derive(Debug)]
enum BodyValue {
    /// Of a form.
    Text(String),
    /// As written, because a number of JSON may have more digits than are kept once it is parsed.
    Json(Box<RawValue>),
}

impl CommandBody {
    /// Reads a body. JSON is told by its first character, because tools send it under any content type; otherwise the
    /// content type decides, and without one it is a form. An empty body has no fields.
    ///
    /// # Errors
    /// One fault of the whole body.
    pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let fault = |message: String| Err(vec![FieldFault::new(BODY, None, message)]);
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
        let kind = content_type.unwrap_or_default().trim().to_ascii_lowercase();
        let fields = match body.first() {
            None => Vec::new(),
            Some(b'{' | b'[') => match json_fields(body) {
                Ok(fields) => fields,
                Err(message) => return fault(message),
            },
            Some(_) if kind.contains("json") => return fault("is not an object of JSON".to_owned()),
            Some(_) if kind.starts_with("multipart/") => {
                return fault("has several parts; send JSON or a form (application/x-www-form-urlencoded)".to_owned());
            }
            Some(_) => url::form_urlencoded::parse(body)
                .take(MOST_KEYS + 1)
                .map(|(name, value)| BodyField::new(name.into_owned(), BodyValue::Text(value.into_owned())))
                .collect(),
        };
        if fields.len() > MOST_KEYS {
            return fault(format!("has more than {MOST_KEYS} keys"));
        }
        Ok(Self { fields, faults: Vec::new() })
    }

    /// A number that names a record; 0 is null, because some clients have numbers that cannot be absent.
    pub(super) fn id(&mut self, key: &'static str) -> GivenField<i64> {
        let given = self.written(key, "is a positive number", |text| client_number::whole(text).filter(|id| *id >= 0));
        if given == GivenField::Value(0) { GivenField::Null } else { given }
    }

    /// True or false.
    pub(super) fn truth(&mut self, key: &'static str) -> GivenField<bool> {
        self.written(key, "is true or false", truth)
    }

    /// A GUID.
    pub(super) fn guid(&mut self, key: &'static str) -> GivenField<Uuid> {
        self.written(key, "is a UUID", |text| Uuid::parse_str(text).ok())
    }

    /// An instant; without a zone, of UTC.
    pub(super) fn instant(&mut self, key: &'static str) -> GivenField<WallTime> {
        self.written(key, "is a time, such as 2026-11-26T19:30:00Z", client_time::instant)
    }

    /// A time on the wall clock of the location.
    pub(super) fn wall_clock(&mut self, key: &'static str) -> GivenField<NaiveDateTime> {
        self.written(key, "is a time, such as 2026-11-26T19:30:00", client_time::wall_clock)
    }

    /// A source of check-ins, by name or number.
    pub(super) fn source(&mut self, key: &'static str) -> GivenField<CheckinSource> {
        self.written(key, "is the name or the number of an eCheckinSource", CheckinSource::from_text)
    }

    /// Text of at most `longest` characters, as it was sent. A number is text too.
    pub(super) fn text(&mut self, key: &'static str, longest: usize) -> GivenField<String> {
        let given = self.plain(key);
        if let GivenField::Value(text) = &given {
            let fault = if text.contains('\0') {
                Some("has a NUL character, which the database cannot store".to_owned())
            } else if text.chars().count() > longest {
                Some(format!("is longer than {longest} characters"))
            } else {
                None
            };
            if let Some(fault) = fault {
                self.fault(key, Some(&text.clone()), fault);
                return GivenField::Absent;
            }
        }
        given
    }

    /// Whether a field is an empty text rather than null.
    pub(super) fn is_blank(&self, key: &str) -> bool {
        let mut named = self.fields.iter().filter(|field| field.name.trim().eq_ignore_ascii_case(key));
        named.any(|field| match &field.value {
            BodyValue::Text(text) => text.trim().is_empty(),
            BodyValue::Json(raw) => raw.get() == "\"\"",
        })
    }

    /// The value of a field that must have one.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> GivenField<T>,
    ) -> Option<T> {
        let before = self.faults.len();
        let given = read(self, key).value();
        if given.is_none() && self.faults.len() == before {
            self.fault(key, None, "is a required field");
        }
        given
    }

    /// Adds a fault that follows from several fields.
    pub(super) fn fault(
        &mut self,
        key: &'static str,
        value: Option<&str>,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        self.faults.push(FieldFault::new(key, value, message));
    }

    /// The faults found so far.
    pub(super) fn faults(&self) -> &[FieldFault] {
        &self.faults
    }

    /// The fields that were not asked for, as they were written, in the order of the body: keys and JSON.
    pub(super) fn rest(&self) -> impl Iterator<Item = (&str, String)> {
        self.fields.iter().filter(|field| !field.is_known).map(|field| (field.name.as_str(), field.value.as_json()))
    }

    /// Ends the reading: the names of the keys that mean nothing here. `read_only` are keys of an echoed record that
    /// clients need not leave out.
    ///
    /// # Errors
    /// Every fault, in the order in which the fields were asked for.
    pub(super) fn finish(self, read_only: &[&str]) -> Result<Vec<String>, Vec<FieldFault>> {
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let is_read_only = |name: &str| read_only.iter().any(|key| key.eq_ignore_ascii_case(name));
        let unknown = self.fields.into_iter().filter(|field| !field.is_known && !is_read_only(&field.name));
        Ok(unknown.map(|field| field.name).collect())
    }

    /// A field that is read from the text of its value. On a fault it counts as absent.
    fn written<T>(
        &mut self,
        key: &'static str,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> GivenField<T> {
        let given = match self.plain(key) {
            // A form has no other way to say it.
            GivenField::Value(text) if text.trim().is_empty() || text.trim().eq_ignore_ascii_case("null") => {
                GivenField::Null
            }
            given @ (GivenField::Absent | GivenField::Null | GivenField::Value(_)) => given,
        };
        let shown = given.clone().value();
        given.and_then(|text| read(text.trim())).unwrap_or_else(|| {
            self.fault(key, shown.as_deref(), expected);
            GivenField::Absent
        })
    }

    /// The text of a field. Two fields with one name are a fault: which of them counts is a guess.
    fn plain(&mut self, key: &'static str) -> GivenField<String> {
        let mut found = self.fields.iter_mut().filter(|field| field.name.trim().eq_ignore_ascii_case(key));
        let Some(first) = found.next() else { return GivenField::Absent };
        first.is_known = true;
        let is_repeated = found.map(|field| field.is_known = true).count() > 0;
        let given = first.value.plain();
        match (is_repeated, given) {
            (true, _) => self.fault(key, None, "is in the body twice"),
            (false, Some(given)) => return given,
            (false, None) => self.fault(key, None, "is a single value, not a list or an object"),
        }
        GivenField::Absent
    }
}

impl BodyField {
    fn new(name: String, value: BodyValue) -> Self {
        Self { name, value, is_known: false }
    }
}

impl BodyValue {
    /// The value as text; `None` if it is a list or an object.
    fn plain(&self) -> Option<GivenField<String>> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::Json(raw) => match serde_json::from_str(raw.get()).ok()? {
                Value::Null => return Some(GivenField::Null),
                Value::Bool(is_so) => is_so.to_string(),
                Value::Number(_) => raw.get().to_owned(),
                Value::String(text) => text,
                Value::Array(_) | Value::Object(_) => return None,
            },
        };
        Some(if text.is_empty() { GivenField::Null } else { GivenField::Value(text) })
    }

    fn as_json(&self) -> String {
        match self {
            Self::Text(text) if text.is_empty() => Value::Null.to_string(),
            Self::Text(text) => Value::from(text.as_str()).to_string(),
            Self::Json(raw) => raw.get().to_owned(),
        }
    }
}

/// The keys and values of an object of JSON; or what is wrong with it. What was sent is not repeated.
fn json_fields(body: &[u8]) -> Result<Vec<BodyField>, String> {
    let text = std::str::from_utf8(body).map_err(|_| "is not UTF-8".to_owned())?;
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_map(JsonFields).and_then(|fields| json.end().map(|()| fields));
    read.map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Data => "is not one object".to_owned(),
            serde_json::error::Category::Io
            | serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof => format!("is not JSON, at line {line}, column {column}"),
        }
    })
}

/// Keeps the order of the keys, and keys that differ only in case.
struct JsonFields;

impl<'de> Visitor<'de> for JsonFields {
    type Value = Vec<BodyField>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, raw)) = map.next_entry::<String, Box<RawValue>>()? {
            // One above the bound tells that it is reached; the rest is read, but not kept.
            if fields.len() <= MOST_KEYS {
                fields.push(BodyField::new(name, BodyValue::Json(raw)));
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
