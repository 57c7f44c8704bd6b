//! PURE. Merges the layers: shipped defaults, the main file, the drop-ins, the environment.
//!
//! Never here: faults of single values (`settings::value` finds them in every layer, even if a later one overrides
//! them).

use std::collections::BTreeMap;

use config::{Config, ConfigError, Map, Source, Value, ValueKind};

use crate::settings::{
    fragment::{Fragment, SourceWritten},
    report::Span,
    written::{CaptureWritten, DoorWritten, WrittenSections},
};

/// The shipped defaults, as they would be written. `config/checkind.toml` shows and explains the same values.
const DEFAULTS: [(&str, &str, Default); 29] = [
    ("database", "url", Default::Text("sqlite:/var/lib/checkind/checkind.db")),
    ("spool", "path", Default::Text("/var/lib/checkind/spool.db")),
    ("spool", "limit", Default::Text("1GB")),
    ("spool", "keep", Default::Text("1h")),
    ("site", "cut_off", Default::Text("00:00")),
    ("site", "idle_limit", Default::Text("45m")),
    ("site", "record_every_visit", Default::Boolean(false)),
    ("site", "minimum_dwell", Default::Text("0s")),
    ("site", "linger", Default::Text("10m")),
    ("site", "network_opens", Default::Text("always")),
    ("site", "unrecognised_devices", Default::Text("all")),
    ("site", "network_checkins", Default::Boolean(true)),
    ("site", "debounce", Default::Text("5s")),
    ("site", "toggle_minimum_stay", Default::Text("60s")),
    ("site", "passes", Default::Text("if-any")),
    ("site", "week_starts_on", Default::Text("monday")),
    ("pay_as_you_go", "enabled", Default::Boolean(true)),
    ("pay_as_you_go", "currency", Default::Text("GBP")),
    ("pay_as_you_go", "minimum", Default::Number(0)),
    ("pay_as_you_go", "maximum", Default::Number(0)),
    ("pay_as_you_go", "step", Default::Text("15m")),
    ("api", "listen", Default::Text("127.0.0.1:8080")),
    ("sync", "every", Default::Text("5m")),
    ("jwt", "name_claim", Default::Text("sub")),
    ("jwt", "roles_claim", Default::Text("roles")),
    ("retention", "sightings", Default::Text("30d")),
    ("retention", "checkins", Default::Text("0d")),
    ("retention", "failed_checkins", Default::Text("400d")),
    ("retention", "unrecognised", Default::Text("7d")),
];

#[derive(Clone, Copy)]
enum Default {
    Text(&'static str),
    Boolean(bool),
    Number(i64),
}

/// All layers, merged.
#[derive(Debug)]
pub(super) struct Merged {
    pub(super) written: WrittenSections,
    /// Where each section starts, in the first layer that has it.
    pub(super) headers: BTreeMap<String, Span>,
    pub(super) sources: Vec<SourceWritten>,
    pub(super) doors: Vec<DoorWritten>,
    pub(super) captures: Vec<CaptureWritten>,
    /// Part of some text could not be read, so a key that seems to be missing may be there.
    pub(super) torn: bool,
}

/// Merges the fragments over the defaults. Later layers win key by key; lists are joined in order.
pub(super) fn merge(fragments: Vec<Fragment>) -> Merged {
    let mut layers = vec![SettingsLayer(defaults())];
    let mut merged = Merged {
        written: WrittenSections::default(),
        headers: BTreeMap::new(),
        sources: Vec::new(),
        doors: Vec::new(),
        captures: Vec::new(),
        torn: false,
    };
    for fragment in fragments {
        let Fragment { sections, headers, sources, doors, captures, torn } = fragment;
        layers.push(SettingsLayer(sections));
        for (section, place) in headers {
            merged.headers.entry(section).or_insert(place);
        }
        merged.sources.extend(sources);
        merged.doors.extend(doors);
        merged.captures.extend(captures);
        merged.torn |= torn;
    }
    // Discard the findings: reading the fragments has already reported the faults of single values.
    merged.written = WrittenSections::read(&winners(layers), &mut Vec::new());
    merged
}

/// The sections, with each key's value from the last layer that sets it.
fn winners(layers: Vec<SettingsLayer>) -> Map<String, Value> {
    let mut builder = Config::builder();
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let config = builder.build().expect("layers in memory cannot fail to be collected");
    config.collect().expect("what was built from tables is a table")
}

fn defaults() -> Map<String, Value> {
    let mut sections = Map::new();
    for (section, key, value) in DEFAULTS {
        let kind = match value {
            Default::Text(text) => ValueKind::String(text.to_owned()),
            Default::Boolean(yes) => ValueKind::Boolean(yes),
            Default::Number(number) => ValueKind::I64(number),
        };
        let table =
            sections.entry(section.to_owned()).or_insert_with(|| Value::new(None, ValueKind::Table(Map::new())));
        if let ValueKind::Table(entries) = &mut table.kind {
            entries.insert(key.to_owned(), Value::new(None, kind));
        }
    }
    sections
}

/// One layer, as a source of the `config` crate.
#[derive(Debug, Clone)]
struct SettingsLayer(Map<String, Value>);

impl Source for SettingsLayer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}
