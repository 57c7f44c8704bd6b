//! PURE. Combines several import files with the stored directory into one plan of changes, made before anything is
//! written.
//!
//! Files are added first ([`Draft::json`], [`Draft::csv`]), then every stored entity, kind by kind in the order of
//! [`EntityKind::ALL`] ([`Draft::stored`]), so plans and teams are known by name before the people who have them.

mod body;
mod changes;
mod references;
mod spot;

pub use body::LEFT_OUT;
pub use changes::{Changes, EntityChange, Replace};

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use body::{SAME_FIELD, bring_back, differences, name_of, object, set_list, text_or_null};
use references::{EntityReference, UndefinedReference, references_of};
use serde_json::{Map, Value};
use spot::{EntrySpot, column};
use uuid::Uuid;

use super::{
    Document, EntryPlace, ImportFaults, ReportLines,
    claims::{self, Claims},
    device,
    people::{self, PersonLine},
    read_json,
};
use crate::directory::entity::{self, CredentialField, Entity, EntityKind, FIRST_OWN_ID};

/// An import in progress.
#[derive(Debug, Default)]
pub struct Draft {
    replace: Replace,
    pin_key: String,
    files: Vec<String>,
    /// The entities in the files; if two files have the same key, the later one takes precedence.
    entries: BTreeMap<(EntityKind, i64), Entry>,
    /// What is archived by name.
    removed: BTreeSet<(EntityKind, i64)>,
    /// Whether entities that were created here stay, although the files leave them out.
    keeps_own: bool,
    /// The kinds that the files contain.
    listed: BTreeSet<EntityKind>,
    /// Everything that is defined in the files or in the database.
    known: BTreeSet<(EntityKind, i64)>,
    /// Plans and teams by their lower-cased names.
    names: BTreeMap<(EntityKind, String), Vec<i64>>,
    claims: Claims,
    /// How many people in the files are archived, although no file contains `Archived` for them.
    still_archived: usize,
    /// How many stored people were not archived.
    people_before: usize,
    /// The passes in the files, by identity.
    guids: BTreeMap<Uuid, (i64, EntrySpot)>,
    references: Vec<EntityReference>,
    faults: ReportLines,
    warnings: ReportLines,
    changes: Changes,
}

#[derive(Debug)]
struct Entry {
    spot: EntrySpot,
    /// The contents of each file about it, in the order of the files.
    layers: Vec<ImportLayer>,
}

#[derive(Debug)]
enum ImportLayer {
    /// An entity of a JSON file.
    Document(Document),
    /// A line of a table.
    Line(PersonLine),
}

impl Draft {
    /// An empty import.
    pub fn new(replace: Replace, pin_key: String) -> Self {
        Self { replace, pin_key, ..Self::default() }
    }

    /// Adds a file in the shape of the API, which messages call `name`.
    pub fn json(&mut self, name: &str, text: &str) {
        let file = self.file(name);
        match read_json(text, &self.pin_key) {
            Ok(read) => {
                for document in read.documents {
                    let spot = EntrySpot { file, place: document.place };
                    self.layer((document.kind, document.id), spot, ImportLayer::Document(document));
                }
            }
            Err(ImportFaults(faults)) => self.refuse(faults.into_iter().map(|fault| format!("{name}: {fault}"))),
        }
    }

    /// Adds a table of people.
    pub fn csv(&mut self, name: &str, text: &str) {
        let file = self.file(name);
        match people::read_csv(text) {
            Ok(table) => {
                for note in table.notes {
                    self.warnings.push(|| format!("{name}:{note}"));
                }
                for person in table.people {
                    let spot = EntrySpot { file, place: EntryPlace::Line(person.line) };
                    self.layer((EntityKind::Coworker, person.id), spot, ImportLayer::Line(person));
                }
            }
            Err(ImportFaults(faults)) => self.refuse(faults.into_iter().map(|fault| format!("{name}:{fault}"))),
        }
    }

    /// From now on, what was created here does not count as left out.
    pub fn keep_own(&mut self) {
        self.keeps_own = true;
    }

    /// Archives an entity, as if files with all others of its kind replaced what is stored. Nothing happens if it is
    /// archived already.
    pub fn remove(&mut self, kind: EntityKind, id: i64) {
        self.removed.insert((kind, id));
    }

    /// Adds the fault of a file that is not text.
    pub fn unreadable(&mut self, name: &str, why: &str) {
        self.refuse([format!("{name}: {why}")]);
    }

    /// Call after the last file. Registers the plans and teams of all files by name.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn read(mut self) -> Result<Self, ImportFaults> {
        if !self.faults.is_empty() {
            return Err(ImportFaults(self.faults.finish()));
        }
        let mut names = Vec::new();
        for kind in [EntityKind::Team, EntityKind::Tariff] {
            for ((_, id), entry) in self.entries.range((kind, i64::MIN)..=(kind, i64::MAX)) {
                let name = entry.layers.iter().rev().find_map(|layer| match layer {
                    ImportLayer::Document(document) => name_of(&object(&document.body)),
                    ImportLayer::Line(_) => None,
                });
                names.extend(name.map(|name| (kind, *id, name)));
            }
        }
        for (kind, id, name) in names {
            self.name(kind, id, &name);
        }
        Ok(self)
    }

    /// Compares the files with one stored entity.
    pub fn stored(&mut self, kind: EntityKind, id: i64, archived: bool, document: &str) {
        self.known.insert((kind, id));
        if kind == EntityKind::Coworker && !archived {
            self.people_before += 1;
        }
        // The files contain it: compare.
        if let Some(entry) = self.entries.remove(&(kind, id)) {
            self.compare(kind, id, entry, Some(document));
            return;
        }
        // The files omit it: it stays, or `--replace` archives it.
        if archived {
            return;
        }
        let body = object(document);
        let is_kept = self.keeps_own && id >= FIRST_OWN_ID;
        let is_left_out = self.replace != Replace::No && self.listed.contains(&kind) && !is_kept;
        if is_left_out || self.removed.contains(&(kind, id)) {
            self.archive(kind, id, body);
            return;
        }
        if let Some(name) = name_of(&body) {
            self.name(kind, id, &name);
        }
        if let Ok(Entity::Coworker(coworker)) = kind.read(Value::Object(body)) {
            self.claim(&coworker, EntrySpot { file: 0, place: EntryPlace::Stored });
        }
    }

    /// Call after the last stored entity. What is left in the files is new.
    ///
    /// # Errors
    /// Every reference in the files to an undefined entity, with its path.
    pub fn finish(mut self) -> Result<Changes, ImportFaults> {
        for ((kind, id), entry) in mem::take(&mut self.entries) {
            self.compare(kind, id, entry, None);
        }
        self.check_references();
        if !self.faults.is_empty() {
            return Err(ImportFaults(self.faults.finish()));
        }
        // These have their own bound, so a hundred randomised addresses do not hide a credential that checks no one in.
        let mut shared = ReportLines::default();
        for line in mem::take(&mut self.claims).shared() {
            shared.push(|| line);
        }
        let still = self.still_archived;
        if still > 0 {
            let stay = if still == 1 { "person in the files is" } else { "people in the files are" };
            self.warnings.push(|| format!("{still} {stay} still archived; \"Archived\": false brings them back"));
        }
        let archived = self.changes.archived.iter().filter(|change| change.kind == EntityKind::Coworker).count();
        if self.replace == Replace::Tenth && archived * 10 > self.people_before {
            self.changes.asks_for_all = Some((archived, self.people_before));
        }
        self.changes.warnings = shared.finish();
        self.changes.warnings.extend(self.warnings.finish());
        Ok(self.changes)
    }

    fn file(&mut self, name: &str) -> usize {
        self.files.push(name.to_owned());
        self.files.len() - 1
    }

    fn layer(&mut self, key: (EntityKind, i64), spot: EntrySpot, layer: ImportLayer) {
        self.listed.insert(key.0);
        self.known.insert(key);
        let entry = self.entries.entry(key).or_insert(Entry { spot, layers: Vec::with_capacity(1) });
        entry.spot = spot;
        entry.layers.push(layer);
    }

    fn refuse(&mut self, faults: impl IntoIterator<Item = String>) {
        for fault in faults {
            self.faults.push(|| fault);
        }
    }

    fn name(&mut self, kind: EntityKind, id: i64, name: &str) {
        if matches!(kind, EntityKind::Team | EntityKind::Tariff) {
            let ids = self.names.entry((kind, name.trim().to_lowercase())).or_default();
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }

    /// Compares one entity in the files with its stored document.
    fn compare(&mut self, kind: EntityKind, id: i64, Entry { spot, layers }: Entry, stored: Option<&str>) {
        // Start from the stored document and apply each file, in the order of the files.
        let before = stored.map(object).unwrap_or_default();
        let mut body = before.clone();
        let mut says_archived = false;
        for layer in layers {
            match layer {
                ImportLayer::Document(document) => {
                    let fields = object(&document.body);
                    says_archived |= fields.contains_key("Archived");
                    self.merge(fields, &mut body);
                }
                ImportLayer::Line(line) => self.apply(&line, spot, &mut body),
            }
        }
        // What differs, for the report. People in the same import may refer to a plan or team by its new name.
        let mut change = EntityChange {
            kind,
            id,
            name: name_of(&body),
            fields: differences(&before, &body),
            loses_credential: false,
        };
        if let Some(name) = &change.name {
            self.name(kind, id, name);
        }
        // Only the merged document shows whether a required field is missing: a file may contain just a part.
        let archived = body.get("Archived").and_then(Value::as_bool).unwrap_or(false);
        let missing = kind.required().iter().find(|name| !body.contains_key(**name));
        let document = Document::of(kind, (id, archived), body.clone(), spot.place);
        match kind.read(Value::Object(body)) {
            Ok(entity) => {
                let differs = change.fields.iter().any(|name| CredentialField::holds(name));
                if let Entity::Coworker(after) = &entity
                    && stored.is_some()
                    && differs
                    && !after.archived
                {
                    change.loses_credential = match kind.read(Value::Object(before)) {
                        Ok(Entity::Coworker(before)) => claims::loses(&before, after),
                        Ok(_) | Err(_) => false,
                    };
                }
                self.still_archived += usize::from(kind == EntityKind::Coworker && archived && !says_archived);
                self.register(&entity, spot);
            }
            Err(error) => {
                let path = self.path(kind, spot, missing.unwrap_or(&"Id"));
                let fault = match (stored, missing) {
                    (None, Some(_)) => {
                        format!("{path}: required, because there is no {} with the id {id} yet", kind.noun())
                    }
                    (None | Some(_), _) => {
                        format!("{path}: the stored record of {id} cannot be read ({error}); import it in full as JSON")
                    }
                };
                self.refuse([fault]);
            }
        }
        // An entity that is already stored unchanged is only counted.
        let is_stored = stored.is_some();
        if is_stored && change.fields.is_empty() {
            self.changes.unchanged += 1;
            return;
        }
        self.changes.documents.push(document);
        if is_stored {
            self.changes.people_losing_credentials += usize::from(change.loses_credential);
            self.changes.changed.push(change);
        } else {
            self.changes.added.push(EntityChange { fields: Vec::new(), ..change });
        }
    }

    /// Merges the fields of an entity into its document; other fields stay.
    fn merge(&self, fields: Map<String, Value>, body: &mut Map<String, Value>) {
        bring_back(body, fields.contains_key("Archived"));
        for name in SAME_FIELD {
            if fields.contains_key(name) {
                body.retain(|known, _| !SAME_FIELD.contains(&known.as_str()));
            }
        }
        // The id of a plan takes precedence over its name, so a file that only contains another plan's name would
        // change nothing.
        if let Some(Value::String(plan)) = fields.get("TariffName")
            && !fields.contains_key("TariffId")
            && let Some(known) = body.get("TariffId").and_then(Value::as_i64)
            && !self.named(EntityKind::Tariff, plan).contains(&known)
        {
            body.insert("TariffId".to_owned(), Value::Null);
        }
        body.extend(fields);
    }

    /// Merges a line of a table into the document of its person, who is then no longer archived.
    fn apply(&mut self, line: &PersonLine, spot: EntrySpot, body: &mut Map<String, Value>) {
        let spot = EntrySpot { place: EntryPlace::Line(line.line), ..spot };
        body.insert("Id".to_owned(), line.id.into());
        bring_back(body, false);
        if body.get("Archived") == Some(&Value::Bool(true)) {
            body.insert("Archived".to_owned(), false.into());
        }
        if let Some(name) = &line.full_name {
            body.insert("FullName".to_owned(), name.as_str().into());
        }
        if let Some(email) = &line.email {
            body.insert("Email".to_owned(), text_or_null(email));
        }
        if let Some(active) = line.active
            && body.get("Active").and_then(Value::as_bool).unwrap_or(true) != active
        {
            body.insert("Active".to_owned(), active.into());
        }
        if let Some(cards) = &line.cards {
            set_list(body, "AccessCardId", cards, str::to_owned);
        }
        if let Some(macs) = &line.macs {
            let spelled = |mac: &str| device(mac).map_or_else(|_| mac.to_owned(), |mac| mac.to_string());
            set_list(body, "MacAddresses", macs, spelled);
        }
        if let Some(slots) = &line.slots {
            set_list(body, "Slots", slots, str::to_owned);
        }
        if let Some(tariff) = &line.tariff {
            self.set_tariff(tariff, spot, body);
        }
        if let Some(teams) = &line.teams {
            self.set_teams(teams, spot, body);
        }
    }

    fn set_tariff(&mut self, tariff: &str, spot: EntrySpot, body: &mut Map<String, Value>) {
        let id = if tariff.is_empty() { None } else { self.called(EntityKind::Tariff, tariff, spot, "TariffId") };
        let same = body.get("TariffId").and_then(Value::as_i64) == id;
        let named = body.get("TariffName").and_then(Value::as_str).unwrap_or_default();
        if same && (id.is_some() || named == tariff) {
            return;
        }
        body.insert("TariffId".to_owned(), id.map_or(Value::Null, Value::from));
        body.insert("TariffName".to_owned(), text_or_null(tariff));
    }

    fn set_teams(&mut self, teams: &[String], spot: EntrySpot, body: &mut Map<String, Value>) {
        let ids: BTreeSet<i64> =
            teams.iter().filter_map(|team| self.called(EntityKind::Team, team, spot, "Teams")).collect();
        let before = body.get("Teams").and_then(|teams| serde_json::from_value::<entity::Ids>(teams.clone()).ok());
        if before.unwrap_or_default().0.into_iter().collect::<BTreeSet<i64>>() != ids {
            body.insert("Teams".to_owned(), ids.iter().copied().collect());
        }
        let names: BTreeSet<&str> = teams.iter().map(String::as_str).collect();
        let before: BTreeSet<&str> = entity::listed(body.get("TeamNames").and_then(Value::as_str)).collect();
        // If teams are known, a record only keeps their ids: a name would outlive a renaming of its team.
        let names = if ids.is_empty() { names } else { BTreeSet::new() };
        if before != names {
            let names: Vec<&str> = names.into_iter().collect();
            body.insert("TeamNames".to_owned(), text_or_null(&names.join(",")));
        }
    }

    /// The plan or team with this name. If nothing of its kind is known, only the name is kept.
    fn called(&mut self, kind: EntityKind, name: &str, spot: EntrySpot, field: &'static str) -> Option<i64> {
        if !self.any(kind) {
            return None;
        }
        let found = self.named(kind, name);
        if let [only] = found {
            return Some(*only);
        }
        let fault = if found.is_empty() {
            let near = self.nearest(kind, name).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"));
            format!("there is no {} called \"{name}\"{near}", kind.noun())
        } else {
            format!(
                "there are {} {}s called \"{name}\"; import this person as JSON, with the id",
                found.len(),
                kind.noun()
            )
        };
        let path = self.path(EntityKind::Coworker, spot, field);
        self.refuse([format!("{path}: {fault}")]);
        None
    }

    fn named(&self, kind: EntityKind, name: &str) -> &[i64] {
        self.names.get(&(kind, name.trim().to_lowercase())).map_or(&[], Vec::as_slice)
    }

    fn nearest(&self, kind: EntityKind, name: &str) -> Option<&str> {
        let name = name.to_lowercase();
        let known = self.names.keys().filter(|(of, _)| *of == kind).map(|(_, known)| known.as_str());
        let steps = known.map(|known| (strsim::damerau_levenshtein(&name, known), known));
        steps.filter(|(steps, _)| *steps <= 3).min().map(|(_, known)| known)
    }

    fn any(&self, kind: EntityKind) -> bool {
        self.known.range((kind, i64::MIN)..=(kind, i64::MAX)).next().is_some()
    }

    fn archive(&mut self, kind: EntityKind, id: i64, mut body: Map<String, Value>) {
        body.insert("Archived".to_owned(), true.into());
        body.insert(LEFT_OUT.to_owned(), true.into());
        let change = EntityChange { kind, id, name: name_of(&body), fields: Vec::new(), loses_credential: false };
        self.changes.archived.push(change);
        self.changes.documents.push(Document::of(kind, (id, true), body, EntryPlace::Stored));
    }

    /// Registers what an entity in the files refers to, and the credentials and identity that it claims.
    fn register(&mut self, entity: &Entity, spot: EntrySpot) {
        self.references.extend(references_of(entity, spot));
        match entity {
            Entity::CoworkerTimePass(pass) => self.identify(pass, spot),
            Entity::Coworker(coworker) => self.claim(coworker, spot),
            Entity::Business(_) | Entity::Team(_) | Entity::Tariff(_) | Entity::TimePass(_) => {}
        }
    }

    /// Registers the identity of a pass. Two passes with one identity would use up each other.
    fn identify(&mut self, pass: &entity::CoworkerTimePassEntity, spot: EntrySpot) {
        let Some(guid) = pass.unique_id else { return };
        if let Some((other, elsewhere)) = self.guids.insert(guid, (pass.id, spot))
            && other != pass.id
        {
            let path = |spot| self.path(EntityKind::CoworkerTimePass, spot, "UniqueId");
            let fault = format!("{}: {guid} is also used at {}", path(spot), path(elsewhere));
            self.refuse([fault]);
        }
    }

    /// Registers the owner of credentials. Those of archived people do not count, because they may be passed on
    /// (`directory`).
    fn claim(&mut self, coworker: &entity::CoworkerEntity, spot: EntrySpot) {
        if coworker.archived {
            return;
        }
        self.claims.add(coworker, &self.place(EntityKind::Coworker, spot));
        if spot.place == EntryPlace::Stored {
            return;
        }
        let macs = entity::listed(coworker.mac_addresses.as_deref()).filter_map(|text| device(text).ok());
        for mac in macs.filter(|mac| mac.is_local()) {
            let path = self.path(EntityKind::Coworker, spot, "MacAddresses");
            self.warnings.push(|| {
                format!(
                    "{path}: {mac} is a randomised (locally administered) address and may change; ask for the device's \
                     fixed address on this network"
                )
            });
        }
    }

    fn check_references(&mut self) {
        // If no entity of a kind is known, one line is as useful as thousands.
        let mut without: BTreeMap<(EntityKind, &'static str, EntityKind), (usize, EntrySpot)> = BTreeMap::new();
        for EntityReference { from, spot, field, to, if_undefined } in mem::take(&mut self.references) {
            if self.known.contains(&to) {
                continue;
            }
            let path = self.path(from, spot, field);
            let (noun, list, id) = (to.0.noun(), to.0.array(), to.1);
            match (if_undefined, self.any(to.0)) {
                (UndefinedReference::Fault, _) | (UndefinedReference::FaultAmongOthers, true) => {
                    self.refuse([format!("{path}: there is no {noun} {id} in {list}")]);
                }
                (UndefinedReference::Warning, true) => {
                    self.warnings.push(|| format!("{path}: there is no {noun} {id} in {list}"));
                }
                (UndefinedReference::FaultAmongOthers | UndefinedReference::Warning, false) => {
                    without.entry((from, field, to.0)).or_insert((0, spot)).0 += 1;
                }
            }
        }
        for ((from, field, to), (count, spot)) in without {
            let path = self.path(from, spot, field);
            let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            self.warnings
                .push(|| format!("{path}{more}: this has no effect, because the directory has no {}", to.array()));
        }
    }

    /// The path of a field: `site.json: Coworkers[3].MacAddresses`, `people.csv:17: macs`.
    fn path(&self, kind: EntityKind, spot: EntrySpot, field: &str) -> String {
        let place = self.place(kind, spot);
        match spot.place {
            EntryPlace::Item(_) => format!("{place}.{field}"),
            EntryPlace::Line(_) => format!("{place}: {}", column(field)),
            EntryPlace::Stored => place,
        }
    }

    /// The place of an entity: `site.json: Coworkers[3]`, `people.csv:17`.
    fn place(&self, kind: EntityKind, spot: EntrySpot) -> String {
        let file = self.files.get(spot.file).map_or("", String::as_str);
        match spot.place {
            EntryPlace::Item(at) => format!("{file}: {}[{at}]", kind.array()),
            EntryPlace::Line(line) => format!("{file}:{line}"),
            EntryPlace::Stored => "stored".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
