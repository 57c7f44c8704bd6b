//! PURE. Compiles a fragment into a mapping that cannot fail. Each fault contains the path to its key.

use std::{collections::BTreeMap, sync::Arc};

use regex::RegexBuilder;
use serde::{
    Deserialize,
    de::{IntoDeserializer, value::Error as WordError},
};
use serde_json::Value;

use crate::{
    base::{
        card::CardStep,
        sighting::{CredentialKind, Direction, DoorEventKind, Refusal},
        zone::Zone,
    },
    mapping::{
        CardPlan, DEBOUNCE, Mapping, PayloadFormat, Retained,
        fragment::{
            CardFragment, KeyFragment, MappingFault, MappingFragment, Pointers, RuleFragment, Templates, TimeFragment,
        },
        presets,
        rule::{Choice, Rule, RuleCondition, Test},
        template::Template,
        time::{TimeFormat, TimePlan, Trust, parse_offset},
        topic::{TopicPattern, is_name},
        view::FieldPlace,
    },
};

/// How much memory one compiled regular expression may use, in bytes; a larger one is a fault. Matching takes time
/// linear in the payload, whatever the expression.
const LARGEST_REGEX: usize = 64 * 1024;

impl Mapping {
    /// Overlays the fragment on its preset and checks every part. The error contains all faults.
    pub fn compile(fragment: &MappingFragment) -> Result<Self, Vec<MappingFault>> {
        let mut compiler = MappingCompiler::default();
        let merged = match fragment.preset.as_deref().map(|name| (name, presets::find(name))) {
            None => fragment.clone(),
            Some((_, Some(preset))) => overlay(fragment, preset),
            Some((name, None)) => {
                let known = presets::NAMES.join(", ");
                compiler.add(&["preset"], format!("\"{name}\" is not a preset; known: {known}"));
                fragment.clone()
            }
        };
        let mapping = compiler.mapping(&merged);
        if compiler.faults.is_empty() { Ok(mapping) } else { Err(compiler.faults) }
    }
}

/// Overlays the fragment on the preset: its values replace the preset's, and its rules are tried first.
fn overlay(own: &MappingFragment, preset: MappingFragment) -> MappingFragment {
    let mut field = preset.field;
    field.extend(own.field.clone());
    MappingFragment {
        name: own.name.clone(),
        preset: own.preset.clone(),
        topics: own.topics.clone().or(preset.topics),
        format: own.format.clone().or(preset.format),
        base: own.base.clone().or(preset.base),
        each: own.each.clone().or(preset.each),
        zip: own.zip.clone().or(preset.zip),
        retained: own.retained.clone().or(preset.retained),
        field,
        key: KeyFragment { door: own.key.door.clone().or(preset.key.door), id: own.key.id.clone().or(preset.key.id) },
        time: TimeFragment {
            parse: own.time.parse.clone().or(preset.time.parse),
            zone: own.time.zone.clone().or(preset.time.zone),
            offset: own.time.offset.clone().or(preset.time.offset),
            trust: own.time.trust.clone().or(preset.time.trust),
        },
        card: CardFragment {
            kind: own.card.kind.clone().or(preset.card.kind),
            steps: own.card.steps.clone().or(preset.card.steps),
            empty: own.card.empty.clone().or(preset.card.empty),
            scope: own.card.scope.clone().or(preset.card.scope),
        },
        rule: own.rule.iter().cloned().chain(preset.rule).collect(),
    }
}

/// Compiles part by part and collects the faults. A faulty part gets a default, to find the other faults as well.
#[derive(Default)]
struct MappingCompiler {
    faults: Vec<MappingFault>,
}

impl MappingCompiler {
    fn add(&mut self, path: &[&str], message: impl Into<String>) {
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        self.faults.push(MappingFault { path, message: message.into() });
    }

    fn mapping(&mut self, merged: &MappingFragment) -> Mapping {
        // Collect the names first: templates and conditions may use only the names of topic levels and fields.
        if !is_name(&merged.name) {
            self.add(&["name"], "a source needs a name of letters, digits, - and _");
        }
        let topics = self.topics(merged);
        let names = Self::names(merged, &topics);
        let id = self.templates(&["key", "id"], merged.key.id.as_ref(), &names);
        let of_topic: Vec<&str> = topics.iter().flat_map(TopicPattern::names).collect();
        let bound = merged.field.keys().filter(|name| of_topic.contains(&name.as_str())).cloned().collect();
        Mapping {
            name: Arc::from(merged.name.as_str()),
            format: self.format(merged.format.as_deref()),
            base: self.pointer(&["base"], merged.base.as_deref()).unwrap_or_default(),
            each: self.pointer(&["each"], merged.each.as_deref()),
            zip: self.zip(merged.zip.as_deref().unwrap_or_default(), merged.each.is_some()),
            retained: self.retained(merged.retained.as_deref(), !id.is_empty()),
            fields: self.fields(&merged.field),
            door: self.template(&["key", "door"], merged.key.door.as_deref(), &names),
            id,
            bound,
            time: self.time(merged),
            card: self.card(&merged.card, &names),
            rules: self.rules(&merged.rule, &names),
            debounce: DEBOUNCE,
            topics,
        }
    }

    fn topics(&mut self, merged: &MappingFragment) -> Vec<TopicPattern> {
        let written = merged.topics.as_deref().unwrap_or_default();
        if written.is_empty() {
            self.add(&["topics"], "a source needs the topics on which its controllers publish");
        }
        let mut topics = Vec::new();
        for (at, text) in written.iter().enumerate() {
            match text.parse() {
                Ok(topic) => topics.push(topic),
                Err(wrong) => self.add(&["topics", &at.to_string()], format!("\"{text}\": {wrong}")),
            }
        }
        topics
    }

    /// The names that templates and conditions may use.
    fn names(merged: &MappingFragment, topics: &[TopicPattern]) -> Vec<String> {
        let of_topics = topics.iter().flat_map(TopicPattern::names).map(ToOwned::to_owned);
        of_topics.chain(merged.field.keys().cloned()).collect()
    }

    fn fields(&mut self, written: &BTreeMap<String, Pointers>) -> BTreeMap<String, Vec<String>> {
        let mut fields = BTreeMap::new();
        for (name, pointers) in written {
            if !is_name(name) {
                self.add(&["field", name], "a field's name may have only letters, digits, - and _");
            }
            let pointers = match pointers {
                Pointers::One(pointer) => std::slice::from_ref(pointer),
                Pointers::FirstOf(pointers) => pointers.as_slice(),
            };
            if pointers.is_empty() {
                self.add(&["field", name], "a field needs at least one pointer");
            }
            let pointers = pointers.iter().filter_map(|pointer| self.pointer(&["field", name], Some(pointer)));
            let pointers = pointers.collect();
            fields.insert(name.clone(), pointers);
        }
        fields
    }

    fn pointer(&mut self, path: &[&str], written: Option<&str>) -> Option<String> {
        let pointer = written?;
        if pointer.is_empty() || pointer.starts_with('/') {
            return Some(pointer.to_owned());
        }
        self.add(
            path,
            format!("\"{pointer}\" is not a JSON pointer; write one that begins with /, or \"\" for the whole"),
        );
        None
    }

    fn zip(&mut self, written: &[String], has_each: bool) -> Vec<String> {
        if has_each && !written.is_empty() {
            self.add(&["zip"], "zip and each cannot be used together");
        }
        let pointers = written.iter().enumerate();
        pointers.filter_map(|(at, pointer)| self.pointer(&["zip", &at.to_string()], Some(pointer))).collect()
    }

    fn format(&mut self, written: Option<&str>) -> PayloadFormat {
        match written {
            None | Some("json") => PayloadFormat::Json,
            Some("text") => PayloadFormat::Text,
            Some("csv") => PayloadFormat::Csv,
            Some(other) => {
                self.add(&["format"], format!("\"{other}\" is not a format; write json, text or csv"));
                PayloadFormat::Json
            }
        }
    }

    fn retained(&mut self, written: Option<&str>, has_id: bool) -> Retained {
        match written {
            None | Some("ignore") => Retained::Ignore,
            Some("if_new_id") if has_id => Retained::IfNewId,
            Some("if_new_id") => {
                self.add(&["retained"], "if_new_id needs key.id: without an id, an old copy looks like a new event");
                Retained::Ignore
            }
            Some("if_fresh") => Retained::IfFresh,
            Some("accept") => Retained::Accept,
            Some(other) => {
                let message = format!("\"{other}\" is not a policy; write ignore, if_new_id, if_fresh or accept");
                self.add(&["retained"], message);
                Retained::Ignore
            }
        }
    }

    fn time(&mut self, merged: &MappingFragment) -> TimePlan {
        let written = &merged.time;
        let mut plan = TimePlan::default();
        for (at, word) in written.parse.iter().flatten().enumerate() {
            match TimeFormat::parse(word) {
                Ok(format) => plan.parse.push(format),
                Err(wrong) => self.add(&["time", "parse", &at.to_string()], wrong),
            }
        }
        if merged.field.contains_key("time") && plan.parse.is_empty() {
            self.add(&["time", "parse"], "is missing: it says how to read the field time");
        }
        if let Some(zone) = &written.zone {
            match Zone::bundled(zone) {
                Some(zone) => plan.zone = Some(zone),
                None => self.add(
                    &["time", "zone"],
                    format!("\"{zone}\" is not a time zone; write an IANA name such as Europe/London"),
                ),
            }
        }
        if let Some(offset) = &written.offset {
            match parse_offset(offset) {
                Ok(offset) => plan.offset = offset,
                Err(wrong) => self.add(&["time", "offset"], wrong),
            }
        }
        if let Some(trust) = &written.trust {
            match Trust::parse(trust) {
                Ok(trust) => plan.trust = trust,
                Err(wrong) => self.add(&["time", "trust"], wrong),
            }
        }
        plan
    }

    fn card(&mut self, written: &CardFragment, names: &[String]) -> CardPlan {
        let kind = match written.kind.as_deref().map(|text| (text, word::<CredentialKind>(text))) {
            None => CredentialKind::Card,
            Some((_, Ok(kind))) => kind,
            Some((text, Err(known))) => {
                let message = format!("\"{text}\" is not a type of credential; write one of {known}");
                self.add(&["card", "type"], message);
                CredentialKind::Card
            }
        };
        let mut steps = Vec::new();
        for (at, text) in written.steps.iter().flatten().enumerate() {
            match text.parse::<CardStep>() {
                Ok(step) => steps.push(step),
                Err(wrong) => self.add(&["card", "steps", &at.to_string()], wrong.to_string()),
            }
        }
        let mut empty: Vec<String> = written.empty.iter().flatten().map(|text| text.trim().to_owned()).collect();
        empty.push(String::new());
        let slash = written.scope.as_deref().is_some_and(|scope| scope.contains('/'));
        if slash && matches!(kind, CredentialKind::User | CredentialKind::Name) {
            self.add(
                &["card", "scope"],
                "must not contain a /: for users and names, an import reads the text before the first / as the scope",
            );
        }
        CardPlan { kind, steps, empty, scope: self.template(&["card", "scope"], written.scope.as_deref(), names) }
    }

    fn template(&mut self, path: &[&str], written: Option<&str>, names: &[String]) -> Option<Template> {
        match Template::parse(written?, names) {
            Ok(template) => Some(template),
            Err(wrong) => {
                self.add(path, wrong);
                None
            }
        }
    }

    fn templates(&mut self, path: &[&str], written: Option<&Templates>, names: &[String]) -> Vec<Template> {
        match written {
            None => Vec::new(),
            Some(Templates::One(text)) => self.template(path, Some(text), names).into_iter().collect(),
            Some(Templates::FirstOf(several)) => {
                let template = |(at, text): (usize, &String)| {
                    let at = at.to_string();
                    let path: Vec<&str> = path.iter().copied().chain([at.as_str()]).collect();
                    self.template(&path, Some(text), names)
                };
                several.iter().enumerate().filter_map(template).collect()
            }
        }
    }

    fn rules(&mut self, written: &[RuleFragment], names: &[String]) -> Vec<Rule> {
        if written.is_empty() {
            self.add(&["rule"], "a source without a preset needs at least one rule");
        }
        written.iter().enumerate().map(|(at, rule)| self.rule(&at.to_string(), rule, names)).collect()
    }

    fn rule(&mut self, at: &str, written: &RuleFragment, names: &[String]) -> Rule {
        let kind = match written.kind.as_str() {
            "ignore" => None,
            text => match word::<DoorEventKind>(text) {
                Ok(kind) => Some(kind),
                Err(known) => {
                    let message = format!("\"{text}\" is not a kind of event; write ignore or one of {known}");
                    self.add(&["rule", at, "kind"], message);
                    None
                }
            },
        };
        let when = written.when.iter().filter_map(|(place, test)| self.condition(at, place, test, names)).collect();
        let from = written.direction_from.as_deref();
        let direction = self.choice(at, "direction", written.direction.as_ref(), from, names, word::<Direction>);
        let from = written.reason_from.as_deref();
        let refusal = self.choice(at, "reason", written.reason.as_ref(), from, names, refusal_word);
        Rule { when, kind, direction: direction.unwrap_or(Choice::Always(Direction::Unknown)), refusal }
    }

    fn place(&mut self, path: &[&str], written: &str, names: &[String]) -> Option<FieldPlace> {
        if written.is_empty() || written.starts_with('/') {
            return Some(FieldPlace::Pointer(written.to_owned()));
        }
        if names.iter().any(|name| name == written) {
            return Some(FieldPlace::Name(written.to_owned()));
        }
        self.add(
            path,
            format!("\"{written}\" is neither a pointer, which begins with /, nor the name of a field or topic level"),
        );
        None
    }

    fn condition(&mut self, at: &str, place: &str, written: &Value, names: &[String]) -> Option<RuleCondition> {
        let path = ["rule", at, "when", place];
        let found = self.place(&path, place, names);
        let tests = match written {
            Value::Object(tests) => {
                if tests.is_empty() {
                    self.add(&path, "a condition needs a test: is, not, text, exists, empty or regex");
                }
                tests.iter().filter_map(|(name, wanted)| self.test(&path, name, wanted)).collect()
            }
            Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Null => {
                vec![Test::Is(one_or_many(written))]
            }
        };
        Some(RuleCondition { place: found?, tests })
    }

    fn test(&mut self, path: &[&str], name: &str, wanted: &Value) -> Option<Test> {
        let test = match (name, wanted) {
            ("is", _) => Some(Test::Is(one_or_many(wanted))),
            ("not", _) => Some(Test::Not(one_or_many(wanted))),
            ("text", _) => one_or_many(wanted)
                .iter()
                .map(|text| text.as_str().map(str::to_owned))
                .collect::<Option<_>>()
                .map(Test::Text),
            ("exists", Value::Bool(wanted)) => Some(Test::Exists(*wanted)),
            ("empty", Value::Bool(wanted)) => Some(Test::Empty(*wanted)),
            ("regex", Value::String(pattern)) => {
                RegexBuilder::new(pattern).size_limit(LARGEST_REGEX).build().ok().map(Test::Regex)
            }
            _ => None,
        };
        if test.is_none() {
            let path: Vec<&str> = path.iter().copied().chain([name]).collect();
            self.add(
                &path,
                "is not a valid test; write is, not, text = \"…\", exists = true, empty = true or regex = \"…\"",
            );
        }
        test
    }

    /// Compiles a word under `key`, or a table of words in which to look up the value at `key_from`.
    fn choice<T>(
        &mut self,
        at: &str,
        key: &str,
        written: Option<&Value>,
        from: Option<&str>,
        names: &[String],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Choice<T>> {
        let from_key = format!("{key}_from");
        let place = from.and_then(|from| self.place(&["rule", at, &from_key], from, names));
        match (written?, place) {
            (Value::String(text), _) => match read(text) {
                Ok(chosen) => Some(Choice::Always(chosen)),
                Err(known) => {
                    self.add(&["rule", at, key], format!("\"{text}\" is not a {key}; write one of {known}"));
                    None
                }
            },
            // A table: check every word; "*" is for all texts that are not in the table.
            (Value::Object(table), Some(place)) => {
                let mut words = BTreeMap::new();
                for (from, text) in table {
                    match read(text.as_str().unwrap_or_default()) {
                        Ok(chosen) => drop(words.insert(from.clone(), chosen)),
                        Err(known) => {
                            let message = format!("{text} is not a {key}; write one of {known}");
                            self.add(&["rule", at, key, from], message);
                        }
                    }
                }
                let other = words.remove("*");
                Some(Choice::By { place, words, other })
            }
            (Value::Object(_), None) => {
                self.add(&["rule", at, key], format!("a table needs {from_key}, the value to look up in it"));
                None
            }
            (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_), _) => {
                self.add(&["rule", at, key], format!("must be a word, or a table of words together with {from_key}"));
                None
            }
        }
    }
}

fn one_or_many(written: &Value) -> Vec<Value> {
    written.as_array().cloned().unwrap_or_else(|| vec![written.clone()])
}

/// The variant with this word, as spelled in records. The error lists the known words.
fn word<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, String> {
    let reader: serde::de::value::StrDeserializer<'_, WordError> = text.into_deserializer();
    T::deserialize(reader).map_err(|error| {
        // serde's message is "unknown variant `x`, expected one of `a`, `b`".
        let message = error.to_string();
        let known = message.rsplit_once(", expected ").map_or("", |(_, known)| known);
        known.trim_start_matches("one of ").replace('`', "")
    })
}

/// The refusal with this word. The error lists the known words.
fn refusal_word(text: &str) -> Result<Refusal, String> {
    Refusal::from_word(text).ok_or_else(|| Refusal::ALL.map(Refusal::word).join(", "))
}
