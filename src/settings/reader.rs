//! PURE. Reads a section key by key. A key that is never requested is unknown, which is a fault.

use config::{Map, Value, ValueKind};

use crate::settings::{
    advice::did_you_mean,
    origin::ValueOrigin,
    report::{FAULTS_SHOWN, Finding, Show, Span},
};

/// The value of a key.
#[derive(Debug, Clone, Default)]
pub(super) enum Given<T> {
    /// Not written.
    #[default]
    Absent,
    /// Written, but with a fault that has been reported.
    Faulty,
    /// Written, and valid.
    Good(T, Span),
}

impl<T> Given<T> {
    /// The value, if it is written and valid.
    pub(super) fn good(self) -> Option<T> {
        match self {
            Self::Good(value, _) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// Where the operator wrote it, if it is valid; a shipped default has no place.
    pub(super) fn place(&self) -> Option<Span> {
        match self {
            Self::Good(_, place) if *place != Span::SHIPPED => Some(*place),
            Self::Good(..) | Self::Absent | Self::Faulty => None,
        }
    }

    /// Whether it is not written at all, not even with a fault.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A section that is being read.
#[derive(Debug)]
pub(super) struct SectionReader<'t> {
    label: &'static str,
    pub(super) place: Span,
    entries: Option<&'t Map<String, Value>>,
    /// The keys that were requested.
    known: Vec<&'static str>,
    findings: &'t mut Vec<Finding>,
}

impl<'t> SectionReader<'t> {
    /// Starts to read a section; a value that is not a table has no keys.
    pub(super) fn open(label: &'static str, place: Span, value: &'t Value, findings: &'t mut Vec<Finding>) -> Self {
        let entries = if let ValueKind::Table(entries) = &value.kind { Some(entries) } else { None };
        Self { label, place, entries, known: Vec::new(), findings }
    }

    /// Reads a key. Its faults become findings.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value) -> Result<T, ValueFaults>,
    ) -> Given<T> {
        self.known.push(key);
        let Some(value) = self.entries.and_then(|entries| entries.get(key)) else { return Given::Absent };
        let place = ValueOrigin::of(value).value;
        let ValueFaults(refused) = match read(value) {
            Ok(good) => return Given::Good(good, place),
            Err(refused) => refused,
        };
        for ValueFault { at, show, message } in refused {
            let place = at.unwrap_or(place);
            self.findings.push(Finding { place, show, key: key.to_owned(), message });
        }
        Given::Faulty
    }

    /// Reports the keys that were never requested.
    pub(super) fn close(self) {
        let mut unknown: Vec<(ValueOrigin, &String)> = self
            .entries
            .into_iter()
            .flatten()
            .filter(|(key, _)| !self.known.contains(&key.as_str()))
            .map(|(key, value)| (ValueOrigin::of(value), key))
            .collect();
        unknown.sort_by_key(|(at, _)| at.key);
        for (count, (ValueOrigin { key: place, variable, .. }, key)) in unknown.into_iter().enumerate() {
            let section = self.label.trim_matches(['[', ']']);
            let spell = |known: &str| {
                if variable { format!("CHECKIND__{section}__{known}").to_uppercase() } else { known.to_owned() }
            };
            // A fault that will not be printed needs no advice, and finding similar names is expensive.
            let printed = count < FAULTS_SHOWN;
            let advice = if printed { did_you_mean(key, self.known.iter().copied(), spell) } else { String::new() };
            let message = format!("unknown key of {}; {advice}", self.label);
            self.findings.push(Finding { place, show: Show::Start, key: key.clone(), message });
        }
    }
}

/// Why a value is refused. For a list, there may be several reasons.
pub(super) struct ValueFaults(pub(super) Vec<ValueFault>);

/// One reason why a value is refused.
pub(super) struct ValueFault {
    /// The item of a list that it applies to; the whole value if absent.
    pub(super) at: Option<Span>,
    pub(super) show: Show,
    pub(super) message: String,
}

/// Refuses a value; its line is printed.
pub(super) fn refused<T>(message: impl Into<String>) -> Result<T, ValueFaults> {
    Err(ValueFaults(vec![ValueFault { at: None, show: Show::Line, message: message.into() }]))
}

/// Refuses a value that may contain a secret; its line is not printed.
pub(super) fn refused_unseen<T>(message: impl Into<String>) -> Result<T, ValueFaults> {
    Err(ValueFaults(vec![ValueFault { at: None, show: Show::Nothing, message: message.into() }]))
}

/// Refuses a value of another type; the message contains the type found.
pub(super) fn wrong_type<T>(wanted: &str, value: &Value) -> Result<T, ValueFaults> {
    if let Some(text) = from_variable(value) {
        return refused(format!("expected {wanted}, found \"{}\"", short(text)));
    }
    let found = match &value.kind {
        ValueKind::Nil => "a date or a time without quotes",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::U64(_) => "a number",
        ValueKind::I128(_) | ValueKind::U128(_) => "a number out of range",
        ValueKind::Float(_) => "a fraction",
        ValueKind::String(_) => "text in quotes",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    };
    refused(format!("expected {wanted}, found {found}"))
}

/// The text of a value from the environment, where every value is text; `None` for a value from a file.
pub(super) fn from_variable(value: &Value) -> Option<&str> {
    let ValueKind::String(text) = &value.kind else { return None };
    ValueOrigin::of(value).variable.then_some(text.trim())
}

/// A value, cut to a length at which it is still recognisable.
pub(super) fn short(text: &str) -> String {
    if text.chars().count() <= 60 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(60).collect::<String>())
    }
}
