//! PURE. Several import files and the stored directory to what changes: one plan, made before anything is written.
//!
//! Files come first ([`Draft::json`], [`Draft::csv`]), then every stored entity, kind by kind in the order of
//! [`EntityKind::ALL`] ([`Draft::stored`]), so that plans and teams are known by name before the people who have them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Document, EntryPlace, ImportFaults, ReportLines,
    claims::{self, Claims},
    device,
    people::{self, PersonLine},
    read_json,
};
use crate::directory::entity::{self, CredentialField, Entity, EntityKind};

/// What becomes of that which the files leave out, of the kinds that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// It stays.
    #[default]
    No,
    /// It is archived, unless that is more than a tenth of the people: then the files are probably a part of the export.
    Tenth,
    /// It is archived, whoever it is.
    All,
}

/// The mark of what `--replace` archived: it comes back when a file holds it again, while what the platform archived stays
/// so until the platform says otherwise.
const LEFT_OUT: &str = "LeftOutByImport";

/// Keys of the platform's of which only one may stand in a document: it spells one field in two ways.
const SAME_FIELD: [&str; 2] = ["AllowNetworkCheckin", "AllowNetworkCheckIn"];

/// An import in the making.
#[derive(Debug, Default)]
pub struct Draft {
    replace: Replace,
    pin_key: String,
    files: Vec<String>,
    /// What the files say, by entity; of the same key in two files the later counts.
    entries: BTreeMap<(EntityKind, i64), Entry>,
    /// The kinds of which the files hold anything.
    listed: BTreeSet<EntityKind>,
    /// Everything that is defined, in the files or in the database.
    known: BTreeSet<(EntityKind, i64)>,
    /// Plans and teams by their lower-cased names.
    names: BTreeMap<(EntityKind, String), Vec<i64>>,
    claims: Claims,
    /// Listed people who are archived, and about whom no file says whether they are.
    still_archived: usize,
    /// How many people were stored and not archived.
    people_before: usize,
    /// The passes of the files by their identity.
    guids: BTreeMap<Uuid, (i64, EntrySpot)>,
    references: Vec<EntityReference>,
    faults: ReportLines,
    warnings: ReportLines,
    changes: Changes,
}

/// What an import does to the directory.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Changes {
    /// What is to be written.
    #[serde(skip)]
    pub documents: Vec<Document>,
    /// Entities that were not there.
    pub added: Vec<EntityChange>,
    /// Entities with another value in some field.
    pub changed: Vec<EntityChange>,
    /// Entities that the files no longer hold.
    pub archived: Vec<EntityChange>,
    /// How many entities of the files are stored as they are.
    pub unchanged: usize,
    /// How many people lose a card, fob, PIN, device, slot, user id or name.
    pub people_losing_credentials: usize,
    /// How many people `--replace` would archive, of how many, where that is more than a tenth of them and nobody said
    /// `--replace=all`.
    #[serde(skip)]
    pub asks_for_all: Option<(usize, usize)>,
    /// What is odd but no fault, with its path.
    pub warnings: Vec<String>,
}

/// One entity that is not as it was. No value of it but the name: its credentials are nobody's business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntityChange {
    /// The list that it belongs to.
    #[serde(serialize_with = "array")]
    pub kind: EntityKind,
    /// Its `Id`.
    pub id: i64,
    /// `FullName` or `Name`.
    pub name: Option<String>,
    /// The names of the fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// A credential that they had is not among those that they have now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loses_credential: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn array<S: serde::Serializer>(kind: &EntityKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.array())
}

#[derive(Debug)]
struct Entry {
    spot: EntrySpot,
    /// What each file says, in the order of the files.
    layers: Vec<ImportLayer>,
}

#[derive(Debug)]
enum ImportLayer {
    /// An entity of a JSON file.
    Document(Document),
    /// A line of a table.
    Line(PersonLine),
}

/// Which file, and where in it.
#[derive(Debug, Clone, Copy)]
struct EntrySpot {
    file: usize,
    place: EntryPlace,
}

/// An entity that another one names.
#[derive(Debug)]
struct EntityReference {
    from: EntityKind,
    spot: EntrySpot,
    field: &'static str,
    to: (EntityKind, i64),
    lack: UndefinedReference,
}

/// What it means that the entity is defined nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UndefinedReference {
    /// Always a fault.
    Fault,
    /// A fault where entities of that kind are known at all: exports of people alone are legitimate.
    FaultAmongOthers,
    /// Exports name people of other locations.
    Warning,
}

impl Draft {
    /// An empty import.
    pub fn new(replace: Replace, pin_key: String) -> Self {
        Self { replace, pin_key, ..Self::default() }
    }

    /// Takes in a file in the shape of the API; `name` is how messages call it.
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

    /// Takes in a table of people.
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

    /// Takes in a file that is no text, and why.
    pub fn unreadable(&mut self, name: &str, why: &str) {
        self.refuse([format!("{name}: {why}")]);
    }

    /// The files are all there; their plans and teams are known by name from here on.
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

    /// Compares with one stored entity.
    pub fn stored(&mut self, kind: EntityKind, id: i64, archived: bool, document: &str) {
        self.known.insert((kind, id));
        if kind == EntityKind::Coworker && !archived {
            self.people_before += 1;
        }
        if let Some(entry) = self.entries.remove(&(kind, id)) {
            self.weigh(kind, id, entry, Some(document));
            return;
        }
        if archived {
            return;
        }
        let body = object(document);
        if self.replace != Replace::No && self.listed.contains(&kind) {
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

    /// Everything stored has been compared: what is left is new.
    ///
    /// # Errors
    /// What the files name and nothing defines, with its path.
    pub fn finish(mut self) -> Result<Changes, ImportFaults> {
        for ((kind, id), entry) in mem::take(&mut self.entries) {
            self.weigh(kind, id, entry, None);
        }
        self.check_references();
        if !self.faults.is_empty() {
            return Err(ImportFaults(self.faults.finish()));
        }
        // With a bound of their own: a hundred randomised addresses do not hide what checks nobody in.
        let mut shared = ReportLines::default();
        for line in mem::take(&mut self.claims).shared() {
            shared.push(|| line);
        }
        let still = self.still_archived;
        if still > 0 {
            let stay = if still == 1 { "person in the files stays" } else { "people in the files stay" };
            self.warnings.push(|| format!("{still} {stay} archived; \"Archived\": false brings them back"));
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

    /// One entity of the files against what is stored of it.
    fn weigh(&mut self, kind: EntityKind, id: i64, Entry { spot, layers }: Entry, stored: Option<&str>) {
        let before = stored.map(object).unwrap_or_default();
        let mut body = before.clone();
        let mut says_archived = false;
        for layer in layers {
            match layer {
                ImportLayer::Document(document) => {
                    let said = object(&document.body);
                    says_archived |= said.contains_key("Archived");
                    self.put(said, &mut body);
                }
                ImportLayer::Line(line) => self.apply(&line, spot, &mut body),
            }
        }
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
        let archived = body.get("Archived").and_then(Value::as_bool).unwrap_or(false);
        let lacking = kind.needed().iter().find(|name| !body.contains_key(**name));
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
                self.look(&entity, spot);
            }
            Err(error) => {
                let path = self.path(kind, spot, lacking.unwrap_or(&"Id"));
                let fault = match (stored, lacking) {
                    (None, Some(_)) => format!("{path}: needed, because no {} with the id {id} is known", kind.noun()),
                    (None | Some(_), _) => {
                        format!("{path}: what is stored of {id} cannot be read ({error}); import all of it as JSON")
                    }
                };
                self.refuse([fault]);
            }
        }
        let there = stored.is_some();
        if there && change.fields.is_empty() {
            self.changes.unchanged += 1;
            return;
        }
        self.changes.documents.push(document);
        if there {
            self.changes.people_losing_credentials += usize::from(change.loses_credential);
            self.changes.changed.push(change);
        } else {
            self.changes.added.push(EntityChange { fields: Vec::new(), ..change });
        }
    }

    /// What an entity of a file says, onto its document: what it does not say stays.
    fn put(&self, said: Map<String, Value>, body: &mut Map<String, Value>) {
        bring_back(body, said.contains_key("Archived"));
        for name in SAME_FIELD {
            if said.contains_key(name) {
                body.retain(|known, _| !SAME_FIELD.contains(&known.as_str()));
            }
        }
        // The number of a plan goes before its name: a file that only names another plan would change nothing.
        if let Some(Value::String(plan)) = said.get("TariffName")
            && !said.contains_key("TariffId")
            && let Some(known) = body.get("TariffId").and_then(Value::as_i64)
            && !self.named(EntityKind::Tariff, plan).contains(&known)
        {
            body.insert("TariffId".to_owned(), Value::Null);
        }
        body.extend(said);
    }

    /// What a line of a table says, onto the document of its person; whoever is named is no longer archived.
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
        // Where teams are known, their own names are what a record keeps; a name beside them would outlive a renaming.
        let names = if ids.is_empty() { names } else { BTreeSet::new() };
        if before != names {
            let names: Vec<&str> = names.into_iter().collect();
            body.insert("TeamNames".to_owned(), text_or_null(&names.join(",")));
        }
    }

    /// The plan or team of this name. Where none of its kind is known at all, the name alone is kept.
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
            format!("no {} is called \"{name}\"{near}", kind.noun())
        } else {
            format!("{} {}s are called \"{name}\"; import this person as JSON, with its id", found.len(), kind.noun())
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

    /// What an entity of the files claims and refers to.
    fn look(&mut self, entity: &Entity, spot: EntrySpot) {
        match entity {
            Entity::Tariff(_) => {}
            Entity::Business(business) => {
                let from = EntityKind::Business;
                let root = business.root_location_id.map(|id| (EntityKind::Business, id));
                self.references.extend(root.map(|to| {
                    // Exports of one location name a head that is not among them.
                    EntityReference { from, spot, field: "RootLocationId", to, lack: UndefinedReference::Warning }
                }));
            }
            Entity::TimePass(pass) => {
                let (from, lack) = (EntityKind::TimePass, UndefinedReference::FaultAmongOthers);
                let owner = pass.business_id.map(|id| ("BusinessId", (EntityKind::Business, id)));
                let businesses = pass.businesses.0.iter().map(|id| ("Businesses", (EntityKind::Business, *id)));
                let tariffs = pass.tariffs.0.iter().map(|id| ("Tariffs", (EntityKind::Tariff, *id)));
                for (field, to) in owner.into_iter().chain(businesses).chain(tariffs) {
                    self.references.push(EntityReference { from, spot, field, to, lack });
                }
            }
            Entity::Team(team) => {
                let from = EntityKind::Team;
                for member in &team.team_members.0 {
                    let to = (EntityKind::Coworker, *member);
                    self.references.push(EntityReference {
                        from,
                        spot,
                        field: "TeamMembers",
                        to,
                        lack: UndefinedReference::Warning,
                    });
                }
            }
            Entity::CoworkerTimePass(pass) => {
                self.identify(pass, spot);
                let (from, lack) = (EntityKind::CoworkerTimePass, UndefinedReference::Fault);
                let to = (EntityKind::Coworker, pass.coworker_id);
                self.references.push(EntityReference { from, spot, field: "CoworkerId", to, lack });
                let to = (EntityKind::TimePass, pass.time_pass_id);
                self.references.push(EntityReference { from, spot, field: "TimePassId", to, lack });
            }
            Entity::Coworker(coworker) => {
                let (from, lack) = (EntityKind::Coworker, UndefinedReference::FaultAmongOthers);
                let tariff = coworker.tariff_id.map(|id| ("TariffId", (EntityKind::Tariff, id)));
                let teams = coworker.teams.0.iter().map(|id| ("Teams", (EntityKind::Team, *id)));
                let businesses = coworker.businesses.0.iter().map(|id| ("Businesses", (EntityKind::Business, *id)));
                let home = coworker.invoicing_business_id.map(|id| ("InvoicingBusinessId", (EntityKind::Business, id)));
                for (field, to) in tariff.into_iter().chain(teams).chain(businesses).chain(home) {
                    self.references.push(EntityReference { from, spot, field, to, lack });
                }
                self.claim(coworker, spot);
            }
        }
    }

    /// Two passes of one identity would use up each other.
    fn identify(&mut self, pass: &entity::CoworkerTimePassEntity, spot: EntrySpot) {
        let Some(guid) = pass.unique_id else { return };
        if let Some((other, elsewhere)) = self.guids.insert(guid, (pass.id, spot))
            && other != pass.id
        {
            let path = |spot| self.path(EntityKind::CoworkerTimePass, spot, "UniqueId");
            let fault = format!("{}: {guid} is also that of {}", path(spot), path(elsewhere));
            self.refuse([fault]);
        }
    }

    /// Whose credentials these are; whoever is archived gives way (`directory`).
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
                    "{path}: {mac} is a randomised (locally administered) address; it may change, ask for the device's \
                     fixed address on this network"
                )
            });
        }
    }

    fn check_references(&mut self) {
        // Of a kind of which nothing is known at all, one line says as much as thousands.
        let mut without: BTreeMap<(EntityKind, &'static str, EntityKind), (usize, EntrySpot)> = BTreeMap::new();
        for EntityReference { from, spot, field, to, lack } in mem::take(&mut self.references) {
            if self.known.contains(&to) {
                continue;
            }
            let path = self.path(from, spot, field);
            let (noun, list, id) = (to.0.noun(), to.0.array(), to.1);
            match (lack, self.any(to.0)) {
                (UndefinedReference::Fault, _) | (UndefinedReference::FaultAmongOthers, true) => {
                    self.refuse([format!("{path}: there is no {noun} {id} in {list}")]);
                }
                (UndefinedReference::Warning, true) => {
                    self.warnings.push(|| format!("{path}: there is no {noun} {id} in {list}"))
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
                .push(|| format!("{path}{more}: no {} are known at all, so that it means nothing", to.array()));
        }
    }

    /// `site.json: Coworkers[3].MacAddresses`, `people.csv:17: macs`.
    fn path(&self, kind: EntityKind, spot: EntrySpot, field: &str) -> String {
        let place = self.place(kind, spot);
        match spot.place {
            EntryPlace::Item(_) => format!("{place}.{field}"),
            EntryPlace::Line(_) => format!("{place}: {}", column(field)),
            EntryPlace::Stored => place,
        }
    }

    /// `site.json: Coworkers[3]`, `people.csv:17`.
    fn place(&self, kind: EntityKind, spot: EntrySpot) -> String {
        let file = self.files.get(spot.file).map_or("", String::as_str);
        match spot.place {
            EntryPlace::Item(at) => format!("{file}: {}[{at}]", kind.array()),
            EntryPlace::Line(line) => format!("{file}:{line}"),
            EntryPlace::Stored => "stored".to_owned(),
        }
    }
}

/// A table's column for a field; fields without one keep their names.
fn column(field: &str) -> &str {
    match field {
        "FullName" => "full_name",
        "TariffId" => "tariff",
        "Teams" => "teams",
        "AccessCardId" => "cards",
        "MacAddresses" => "macs",
        "Slots" => "slots",
        _ => field,
    }
}

/// Whatever `--replace` archived is not archived any more once a file holds it, unless the file says that it is.
fn bring_back(body: &mut Map<String, Value>, says_archived: bool) {
    if body.remove(LEFT_OUT).is_some() && !says_archived {
        body.remove("Archived");
    }
}

fn text_or_null(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn object(document: &str) -> Map<String, Value> {
    serde_json::from_str(document).unwrap_or_default()
}

fn name_of(body: &Map<String, Value>) -> Option<String> {
    let name = body.get("FullName").or_else(|| body.get("Name")).or_else(|| body.get("TimePassName"));
    name.and_then(Value::as_str).map(str::to_owned)
}

/// The names of the fields that differ; null is as good as none.
fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    fn value<'a>(of: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
        of.get(name).filter(|value| !value.is_null())
    }
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names.into_iter().filter(|name| value(before, name) != value(after, name)).cloned().collect()
}

/// Sets a `,`-separated field, unless it holds the same values already, perhaps spelled otherwise.
fn set_list(body: &mut Map<String, Value>, field: &str, values: &[String], spelled: impl Fn(&str) -> String) {
    let before = match body.get(field) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => String::new(),
    };
    if !entity::listed(Some(&before)).map(&spelled).eq(values.iter().map(|value| spelled(value))) {
        body.insert(field.to_owned(), text_or_null(&values.join(",")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORED: &str = r#"{
        "Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Tariffs": [{"Id": 5, "Name": "Full time"}, {"Id": 6, "Name": "Part time"}],
        "Teams": [{"Id": 8, "Name": "Rocket"}],
        "Coworkers": [
            {"Id": 1, "FullName": "Ada", "AccessCardId": 77, "MacAddresses": "3C-22-FB-00-00-01", "Nickname": "A",
             "AccessPincode": "4711", "TariffId": 5, "Teams": [{"Id": 8}]},
            {"Id": 2, "FullName": "Bob", "Archived": true, "AccessCardId": "88"},
            {"Id": 3, "FullName": "Eve", "AccessCardId": "99"}
        ]
    }"#;

    #[test]
    fn a_table_changes_what_it_has_columns_for() {
        let changed =
            told(Replace::No, &[("people.csv", "id,cards,macs,tariff,teams\n1,77,3c22fb000001,full TIME,Rocket\n")]);
        insta::assert_snapshot!(changed, @"unchanged 1");
        let changed = told(
            Replace::No,
            &[(
                "people.csv",
                "id,full_name,email,tariff,cards\n1,Ada,a@example.com,Part time,\n2,Bob,,,88\n9,Zoe,,,5;6\n",
            )],
        );
        insta::assert_snapshot!(changed, @r#"
        added Coworkers 9 Zoe
        changed Coworkers 1 Ada: AccessCardId, Email, TariffId, TariffName (loses a credential)
        changed Coworkers 2 Bob: Archived
        unchanged 0
        1: {"AccessCardId":null,"AccessPincode":"sha256:…","Email":"a@example.com","FullName":"Ada","Id":1,"MacAddresses":"3C-22-FB-00-00-01","Nickname":"A","TariffId":6,"TariffName":"Part time","Teams":[{"Id":8}]}
        2: {"AccessCardId":"88","Archived":false,"Email":null,"FullName":"Bob","Id":2}
        9: {"AccessCardId":"5,6","Email":null,"FullName":"Zoe","Id":9}
        "#);
    }

    #[test]
    fn a_later_file_comes_on_top_of_an_earlier_one() {
        let json = r#"{"Tariffs": [{"Id": 7, "Name": "Night"}], "Coworkers": [{"Id": 9, "FullName": "Zoe", "KeyFobNumber": "4"}]}"#;
        let changed = told(Replace::No, &[("site.json", json), ("people.csv", "id,tariff,active\n9,Night,no\n")]);
        insta::assert_snapshot!(changed, @r#"
        added Tariffs 7 Night
        added Coworkers 9 Zoe
        unchanged 0
        7: {"Id":7,"Name":"Night"}
        9: {"Active":false,"FullName":"Zoe","Id":9,"KeyFobNumber":"4","TariffId":7,"TariffName":"Night"}
        "#);
    }

    #[test]
    fn what_is_missing_is_archived_of_the_kinds_that_the_files_hold() {
        let json = r#"{"Teams": [], "Coworkers": [{"Id": 3, "FullName": "Eve", "AccessCardId": "99"}]}"#;
        insta::assert_snapshot!(told(Replace::All, &[("site.json", json)]), @r#"
        archived Coworkers 1 Ada
        unchanged 1
        1: {"AccessCardId":77,"AccessPincode":"sha256:…","Archived":true,"FullName":"Ada","Id":1,"LeftOutByImport":true,"MacAddresses":"3C-22-FB-00-00-01","Nickname":"A","TariffId":5,"Teams":[{"Id":8}]}
        "#);
        insta::assert_snapshot!(told(Replace::No, &[("site.json", json)]), @"unchanged 1");
    }

    #[test]
    fn what_nothing_defines_is_a_fault_with_its_path() {
        let json = r#"{
            "Teams": [{"Id": 9, "Name": "rocket", "TeamMembers": [1, 44]}],
            "Coworkers": [
                {"Id": 4, "FullName": "Dan", "TariffId": 50, "Teams": [8, 80], "Businesses": [{"Id": 1}, {"Id": 2}]},
                {"Id": 5, "FullName": "Fay", "InvoicingBusinessId": 3}
            ],
            "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}, {"Id": 2, "CoworkerId": 45, "TimePassId": 1}]
        }"#;
        let table = "id,full_name,tariff,teams\n6,Gus,Ful time,\n1,Ada,,Rocket\n";
        insta::assert_snapshot!(told(Replace::No, &[("site.json", json), ("people.csv", table), ("more.csv", "id,cards\n7,5\n")]), @r#"
        people.csv:3: teams: 2 teams are called "Rocket"; import this person as JSON, with its id
        people.csv:2: tariff: no plan is called "Ful time"; did you mean "full time"?
        more.csv:2: full_name: needed, because no coworker with the id 7 is known
        site.json: Coworkers[0].TariffId: there is no plan 50 in Tariffs
        site.json: Coworkers[0].Teams: there is no team 80 in Teams
        site.json: Coworkers[0].Businesses: there is no business 2 in Businesses
        site.json: Coworkers[1].InvoicingBusinessId: there is no business 3 in Businesses
        site.json: CoworkerTimePasses[0].TimePassId: there is no kind of pass 1 in TimePasses
        site.json: CoworkerTimePasses[1].CoworkerId: there is no coworker 45 in Coworkers
        site.json: CoworkerTimePasses[1].TimePassId: there is no kind of pass 1 in TimePasses
        "#);
    }

    #[test]
    fn passes_name_businesses_plans_and_each_other() {
        let json = r#"{
            "Businesses": [{"Id": 2, "Name": "Hub Two", "RootLocationId": 9}],
            "TimePasses": [
                {"Id": 1, "Name": "Day", "BusinessId": 1, "Businesses": [2, 3], "Tariffs": [5, 50]},
                {"Id": 2, "Name": "Week", "BusinessId": 4}
            ],
            "CoworkerTimePasses": [
                {"Id": 1, "CoworkerId": 1, "TimePassId": 1, "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"},
                {"Id": 2, "CoworkerId": 3, "TimePassId": 2, "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"}
            ]
        }"#;
        insta::assert_snapshot!(told(Replace::No, &[("site.json", json)]), @r#"
        site.json: CoworkerTimePasses[1].UniqueId: 5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21 is also that of site.json: CoworkerTimePasses[0].UniqueId
        site.json: TimePasses[0].Businesses: there is no business 3 in Businesses
        site.json: TimePasses[0].Tariffs: there is no plan 50 in Tariffs
        site.json: TimePasses[1].BusinessId: there is no business 4 in Businesses
        "#);
    }

    #[test]
    fn people_alone_are_an_import_and_what_they_name_is_kept() {
        let json = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob", "TariffId": 6}]}"#;
        let table = "id,full_name,tariff,teams\n3,Eve,Full time,Rocket;Anvil\n";
        insta::assert_snapshot!(over("{}", Replace::No, &[("site.json", json), ("people.csv", table)]), @r#"
        added Coworkers 1 Ada
        added Coworkers 2 Bob
        added Coworkers 3 Eve
        unchanged 0
        1: {"FullName":"Ada","Id":1,"TariffId":5}
        2: {"FullName":"Bob","Id":2,"TariffId":6}
        3: {"FullName":"Eve","Id":3,"TariffId":null,"TariffName":"Full time","TeamNames":"Anvil,Rocket"}
        warning: site.json: Coworkers[0].TariffId (and 1 more): no Tariffs are known at all, so that it means nothing
        "#);
        let team = r#"{"Teams": [{"Id": 9, "Name": "Anvil", "TeamMembers": [1, 44]}]}"#;
        insta::assert_snapshot!(told(Replace::No, &[("site.json", team)]), @r#"
        added Teams 9 Anvil
        unchanged 0
        9: {"Id":9,"Name":"Anvil","TeamMembers":[1,44]}
        warning: site.json: Teams[0].TeamMembers: there is no coworker 44 in Coworkers
        "#);
    }

    #[test]
    fn a_credential_that_two_people_have_is_named_with_them_but_no_pin_is_shown() {
        let json = r#"{"Coworkers": [
            {"Id": 4, "FullName": "Dan", "AccessCardId": "12,AB", "MacAddresses": "3c:22:fb:00:00:01"},
            {"Id": 5, "FullName": "Fay", "KeyFobNumber": "ab,88", "AccessPincode": "4711", "MacAddresses": "02:00:00:00:00:05"}
        ]}"#;
        let told = told(Replace::No, &[("site.json", json), ("people.csv", "id,cards\n3,7;12\n")]);
        let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("warning")).collect();
        insta::assert_snapshot!(warnings.join("\n"), @r"
        warning: a PIN belongs to Ada (coworker 1, stored) and Fay (coworker 5, site.json: Coworkers[1]): it checks nobody in until only one of them has it
        warning: card 12 belongs to Eve (coworker 3, people.csv:2) and Dan (coworker 4, site.json: Coworkers[0]): it checks nobody in until only one of them has it
        warning: card ab belongs to Dan (coworker 4, site.json: Coworkers[0]) and Fay (coworker 5, site.json: Coworkers[1]): it checks nobody in until only one of them has it
        warning: device 3c:22:fb:00:00:01 belongs to Ada (coworker 1, stored) and Dan (coworker 4, site.json: Coworkers[0]): it checks nobody in until only one of them has it
        warning: site.json: Coworkers[1].MacAddresses: 02:00:00:00:00:05 is a randomised (locally administered) address; it may change, ask for the device's fixed address on this network
        ");
    }

    #[test]
    fn small_numbers_are_not_ambiguous_by_being_read_in_hexadecimal() {
        let warnings = |cards: &[&str]| {
            let rows = cards.iter().enumerate().map(|(at, card)| format!("{},P{at},{card}", at + 1));
            let rows: Vec<String> = [String::from("id,full_name,cards")].into_iter().chain(rows).collect();
            let told = over("{}", Replace::No, &[("people.csv", &rows.join("\n"))]);
            told.lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(warnings(&["10", "16", "99", "153"]), [""; 0]);
        for two in
            [["0010", "10"], ["10", "0xA"], ["0x10", "10"], ["0x10", "16"], ["16", "0x10"], ["85:CC:C7", "8768711"]]
        {
            let [first, second] = two;
            let said = warnings(&two);
            let expected = format!("warning: card {second}, in one spelling or another, belongs to P0 (");
            assert!(said.len() == 1 && said[0].starts_with(&expected), "{first} {second}: {said:?}");
        }
        let pins = r#"{"Coworkers": [
            {"Id": 1, "FullName": "A", "AccessPincode": "1111"}, {"Id": 2, "FullName": "B", "AccessPincode": "1111"},
            {"Id": 3, "FullName": "C", "AccessPincode": "2222"}, {"Id": 4, "FullName": "D", "AccessPincode": "2222"},
            {"Id": 5, "FullName": "E", "AccessCardId": "1111", "Slots": "a/1111", "AccessNames": "a/1111"}
        ]}"#;
        let told = over("{}", Replace::No, &[("site.json", pins)]);
        assert_eq!(told.matches("warning: a PIN belongs to ").count(), 2, "{told}");
        assert_eq!(told.matches("warning").count(), 2, "types do not meet: {told}");
    }

    #[test]
    fn an_entity_says_of_a_plan_or_a_spelling_what_it_says_last() {
        let stored = r#"{
            "Tariffs": [{"Id": 5, "Name": "Full time"}, {"Id": 6, "Name": "Part time"}],
            "TimePasses": [{"Id": 1, "Name": "Day", "AllowNetworkCheckIn": false}],
            "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5, "TariffName": "Full time"}]
        }"#;
        let json = r#"{
            "TimePasses": [{"Id": 1, "AllowNetworkCheckin": true}],
            "Coworkers": [{"Id": 1, "TariffName": "full time"}]
        }"#;
        insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
        changed TimePasses 1 Day: AllowNetworkCheckIn, AllowNetworkCheckin
        changed Coworkers 1 Ada: TariffName
        unchanged 0
        1: {"AllowNetworkCheckin":true,"Id":1,"Name":"Day"}
        1: {"FullName":"Ada","Id":1,"TariffId":5,"TariffName":"full time"}
        "#);
        // A plan of which a file says but a part keeps its name for the people of the same import.
        let json = r#"{"Tariffs": [{"Id": 6, "CheckinWeekLimit": 3}]}"#;
        let told = over(stored, Replace::No, &[("site.json", json), ("people.csv", "id,tariff\n1,Part time\n")]);
        assert!(told.contains("changed Coworkers 1 Ada: TariffId, TariffName"), "{told}");
        let json = r#"{"Coworkers": [{"Id": 1, "TariffName": "Night"}]}"#;
        insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
        changed Coworkers 1 Ada: TariffId, TariffName
        unchanged 0
        1: {"FullName":"Ada","Id":1,"TariffId":null,"TariffName":"Night"}
        "#);
        // Archived by the platform, not by `--replace`: it stays, and is told.
        let stored = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "Archived": true}]}"#;
        let json = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada"}]}"#;
        insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
        unchanged 1
        warning: 1 person in the files stays archived; "Archived": false brings them back
        "#);
    }

    /// What an import over [`STORED`] says.
    fn told(replace: Replace, files: &[(&str, &str)]) -> String {
        over(STORED, replace, files)
    }

    fn over(stored: &str, replace: Replace, files: &[(&str, &str)]) -> String {
        let mut draft = Draft::new(replace, "key".to_owned());
        for (name, text) in files {
            if name.ends_with("csv") { draft.csv(name, text) } else { draft.json(name, text) }
        }
        let changes = draft.read().and_then(|mut draft| {
            let there: BTreeMap<String, Vec<Map<String, Value>>> = serde_json::from_str(stored).expect("JSON");
            for kind in EntityKind::ALL {
                for body in there.get(kind.array()).into_iter().flatten() {
                    let id = body["Id"].as_i64().expect("a number");
                    let archived = body.get("Archived") == Some(&Value::Bool(true));
                    let mut body = body.clone();
                    super::super::hide_pins(&mut body, "key");
                    draft.stored(kind, id, archived, &Value::Object(body).to_string());
                }
            }
            draft.finish()
        });
        let changes = match changes {
            Ok(changes) => changes,
            Err(faults) => return faults.to_string(),
        };
        let mut lines = Vec::new();
        for (word, list) in [("added", &changes.added), ("changed", &changes.changed), ("archived", &changes.archived)]
        {
            for EntityChange { kind, id, name, fields, loses_credential } in list {
                let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
                let loses = if *loses_credential { " (loses a credential)" } else { "" };
                lines.push(format!("{word} {} {id} {}{fields}{loses}", kind.array(), name.as_deref().unwrap_or("?")));
            }
        }
        lines.push(format!("unchanged {}", changes.unchanged));
        let digest = regex::Regex::new("sha256:[0-9a-f]+").expect("a pattern");
        let body = |document: &Document| digest.replace_all(&document.body, "sha256:…").into_owned();
        lines.extend(changes.documents.iter().map(|document| format!("{}: {}", document.id, body(document))));
        lines.extend(changes.warnings.iter().map(|warning| format!("warning: {warning}")));
        lines.join("\n")
    }
}
