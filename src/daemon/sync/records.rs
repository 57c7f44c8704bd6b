//! PURE. What the platform says about its directory: pages of its lists, and what of them is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use chrono::{DateTime, NaiveDateTime};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    base::clock::WallTime,
    directory::{entity::EntityKind, import::draft::LEFT_OUT},
};

/// The records of a page. A server that sends fewer says whether more follow.
const PAGE: usize = 1000;

/// How long to wait if a server says that it is asked too often, but not for how long.
const SOME_TIME: Duration = Duration::from_secs(30);

/// The longest such wait; a server that asks for more is asked again after this.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

/// How far before the last change the next question begins. A change may become visible some time after its
/// `UpdatedOn`, when its transaction ends.
const OVERLAP: Duration = Duration::from_mins(10);

/// A record whose `UpdatedOn` is younger than this may change again within the same second, so it is read again.
const FRESH: Duration = Duration::from_mins(1);

/// One entity, as the platform sends it.
pub(super) type PlatformRecord = Map<String, Value>;

/// An entity: its kind and id.
pub(super) type EntityKey = (EntityKind, i64);

/// A page of a list. Older servers leave some keys out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ListPageRead {
    /// The records.
    pub(super) records: Vec<PlatformRecord>,
    /// How many there are on all pages.
    pub(super) total_items: Option<usize>,
    /// Whether another page follows.
    #[serde(default)]
    pub(super) has_next_page: bool,
}

/// Where the platform serves a kind, and what its filters begin with.
pub(super) const fn place_of(kind: EntityKind) -> (&'static str, &'static str) {
    match kind {
        EntityKind::Business => ("/api/sys/businesses", "Business"),
        EntityKind::Team => ("/api/spaces/teams", "Team"),
        EntityKind::Tariff => ("/api/billing/tariffs", "Tariff"),
        EntityKind::TimePass => ("/api/billing/timepasses", "TimePass"),
        EntityKind::Coworker => ("/api/spaces/coworkers", "Coworker"),
        EntityKind::CoworkerTimePass => ("/api/billing/coworkertimepasses", "CoworkerTimePass"),
    }
}

/// The question for a page of a list, or of what has changed since a time. In the order of ids: rows that change
/// meanwhile stay in their place.
pub(super) fn list_path(kind: EntityKind, page: usize, since: Option<&str>) -> String {
    let (path, name) = place_of(kind);
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("page", &page.to_string()).append_pair("size", &PAGE.to_string());
    query.append_pair("orderBy", "Id").append_pair("dir", "Ascending");
    if let Some(since) = since {
        query.append_pair(&format!("from_{name}_UpdatedOn"), since);
    }
    format!("{path}?{}", query.finish())
}

/// Whether lists leave out keys of this kind that matter here: cards, and what belongs to several others.
pub(super) const fn is_cut_in_lists(kind: EntityKind) -> bool {
    match kind {
        EntityKind::Team | EntityKind::TimePass | EntityKind::Coworker => true,
        EntityKind::Business | EntityKind::Tariff | EntityKind::CoworkerTimePass => false,
    }
}

/// How long a server wants us to wait: `Retry-After` in seconds, or "Wait 30 seconds" in its answer.
pub(super) fn wait_asked(retry_after: Option<&str>, body: &str) -> Duration {
    let seconds = retry_after.and_then(|text| text.trim().parse().ok()).or_else(|| {
        let lower = body.to_ascii_lowercase();
        lower.split_once("wait ")?.1.split(' ').next()?.parse().ok()
    });
    seconds.map_or(SOME_TIME, Duration::from_secs).clamp(Duration::from_secs(1), LONGEST_WAIT)
}

/// The id of a record.
pub(super) fn id_of(record: &PlatformRecord) -> Option<i64> {
    record.get("Id").and_then(Value::as_i64).filter(|id| *id > 0)
}

/// When a record last changed, as it says itself.
pub(super) fn updated_on(record: &PlatformRecord) -> Option<&str> {
    record.get("UpdatedOn").and_then(Value::as_str)
}

/// An instant as the platform writes it; without a zone, of UTC.
fn instant(text: &str) -> Option<WallTime> {
    let zoned = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    zoned.or_else(|_| text.parse::<NaiveDateTime>().map(|at| at.and_utc())).ok().map(WallTime::from)
}

/// What is stored here: when each entity had last changed when it was read from the platform.
#[derive(Debug, Default)]
pub(super) struct KnownEntities(BTreeMap<EntityKey, Option<String>>);

impl KnownEntities {
    /// Adds a stored document.
    pub(super) fn add(&mut self, kind: EntityKind, id: i64, document: &str) {
        let record: PlatformRecord = serde_json::from_str(document).unwrap_or_default();
        self.0.insert((kind, id), updated_on(&record).map(str::to_owned));
    }

    /// Where the next question about changes of this kind begins; `None` to ask for everything.
    pub(super) fn cursor(&self, kind: EntityKind) -> Option<String> {
        let all = self.0.range((kind, i64::MIN)..=(kind, i64::MAX));
        let last = all.filter_map(|(_, updated_on)| instant(updated_on.as_deref()?)).max()?;
        Some(last.minus(OVERLAP).to_rfc3339_seconds())
    }

    /// Whether a listed record is the one that is stored.
    fn is_same(&self, key: EntityKey, record: &PlatformRecord) -> bool {
        let known = self.0.get(&key).and_then(Option::as_deref);
        known.is_some() && known == updated_on(record)
    }

    fn contains(&self, key: EntityKey) -> bool {
        self.0.contains_key(&key)
    }
}

/// What one round has read.
#[derive(Debug, Default)]
pub(super) struct RoundRead(BTreeMap<EntityKey, RecordRead>);

/// A record of a list, and what is known of it.
#[derive(Debug)]
enum RecordRead {
    /// Stored already.
    Same,
    /// To be read whole, because lists leave keys out.
    Cut(PlatformRecord),
    /// Complete.
    Whole(PlatformRecord),
}

impl RoundRead {
    /// Adds a record of a list. `again` are entities that were read when they had just changed.
    ///
    /// # Errors
    /// The record has no id.
    pub(super) fn list(
        &mut self,
        kind: EntityKind,
        record: PlatformRecord,
        known: &KnownEntities,
        again: &BTreeSet<EntityKey>,
    ) -> Result<(), String> {
        let Some(id) = id_of(&record) else {
            return Err(format!("a record in {} has no Id", place_of(kind).0));
        };
        let key = (kind, id);
        let listed = if known.is_same(key, &record) && !again.contains(&key) {
            RecordRead::Same
        } else if is_cut_in_lists(kind) {
            RecordRead::Cut(record)
        } else {
            RecordRead::Whole(record)
        };
        self.0.insert(key, listed);
        Ok(())
    }

    /// The entities that must be read one by one, with the `UpdatedOn` of the list.
    pub(super) fn cut(&self) -> Vec<(EntityKey, Option<String>)> {
        let cut = self.0.iter().filter_map(|(key, listed)| match listed {
            RecordRead::Cut(record) => Some((*key, updated_on(record).map(str::to_owned))),
            RecordRead::Same | RecordRead::Whole(_) => None,
        });
        cut.collect()
    }

    /// Adds a record that was read by its id; `None` if it is gone meanwhile.
    pub(super) fn whole(&mut self, key: EntityKey, record: Option<PlatformRecord>) {
        match record {
            Some(record) => self.0.insert(key, RecordRead::Whole(record)),
            None => self.0.remove(&key),
        };
    }

    /// Leaves out the passes of people and kinds of pass that neither the platform lists nor the directory has, and
    /// counts them. They check no one in, and an import takes no pass without a holder.
    pub(super) fn drop_orphans(&mut self, known: &KnownEntities) -> usize {
        let there: BTreeSet<EntityKey> = self.0.keys().copied().collect();
        let before = self.0.len();
        self.0.retain(|(kind, _), listed| match listed {
            RecordRead::Whole(record) if *kind == EntityKind::CoworkerTimePass => {
                [("CoworkerId", EntityKind::Coworker), ("TimePassId", EntityKind::TimePass)].into_iter().all(
                    |(field, to)| {
                        let id = record.get(field).and_then(Value::as_i64);
                        id.is_none_or(|id| there.contains(&(to, id)) || known.contains((to, id)))
                    },
                )
            }
            RecordRead::Same | RecordRead::Cut(_) | RecordRead::Whole(_) => true,
        });
        before - self.0.len()
    }

    /// The entities that changed so lately that they may change again unseen.
    pub(super) fn fresh(&self, now: WallTime) -> BTreeSet<EntityKey> {
        let is_fresh = |record: &PlatformRecord| {
            updated_on(record).and_then(instant).is_some_and(|updated_on| updated_on > now.minus(FRESH))
        };
        let fresh = self.0.iter().filter(|(_, listed)| match listed {
            RecordRead::Whole(record) | RecordRead::Cut(record) => is_fresh(record),
            RecordRead::Same => false,
        });
        fresh.map(|(key, _)| *key).collect()
    }

    /// Which field of which entity a fault of the import is about: `Coworkers 12: MacAddresses`. The rest of the line
    /// may repeat a value, which is private.
    pub(super) fn place_of_fault(&self, line: &str) -> String {
        let found = || {
            let (list, rest) = line.split_once(": ")?.1.split_once('[')?;
            let (at, rest) = rest.split_once(']')?;
            let kind = EntityKind::ALL.into_iter().find(|kind| kind.array() == list)?;
            let mut ids = self.0.range((kind, i64::MIN)..=(kind, i64::MAX)).map(|((_, id), _)| id);
            let id = ids.nth(at.parse().ok()?)?;
            let field = rest.split(": ").next().unwrap_or_default().trim_start_matches('.');
            Some(if field.is_empty() { format!("{list} {id}") } else { format!("{list} {id}: {field}") })
        };
        found().unwrap_or_else(|| "a fault without a place; the log has it at level debug".to_owned())
    }

    /// The import file. What is stored already is only named, so it is not left out; credentials assigned by hand are
    /// of the gateway that assigned them.
    pub(super) fn import_file(&self) -> String {
        let mut lists: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for ((kind, id), listed) in &self.0 {
            let entity = match listed {
                RecordRead::Same => json!({ "Id": id }),
                RecordRead::Cut(record) | RecordRead::Whole(record) => {
                    let mut record = record.clone();
                    record.retain(|key, _| key != "ByHand" && key != LEFT_OUT);
                    Value::Object(record)
                }
            };
            lists.entry(kind.array()).or_default().push(entity);
        }
        serde_json::to_string(&lists).expect("plain data")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Value) -> PlatformRecord {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn a_server_says_how_long_to_wait_in_a_header_or_in_words() {
        for (header, body, seconds) in [
            (Some("7"), "Wait 9 seconds", 7),
            (None, "Too many requests. Wait 9 seconds.", 9),
            (Some("Thu, 26 Nov 2026 19:30:00 GMT"), "", 30),
            (None, "slow down", 30),
            (Some("0"), "", 1),
            (Some("999999"), "", 3600),
        ] {
            assert_eq!(wait_asked(header, body).as_secs(), seconds, "{header:?} {body}");
        }
    }

    #[test]
    fn changes_are_asked_for_from_a_while_before_the_last_one() {
        let mut known = KnownEntities::default();
        assert_eq!(known.cursor(EntityKind::Coworker), None);
        for (id, updated_on) in [(1, "2026-11-26T19:30:00Z"), (2, "2026-11-26T19:40:05"), (3, "soon")] {
            known.add(EntityKind::Coworker, id, &json!({ "UpdatedOn": updated_on }).to_string());
        }
        known.add(EntityKind::Coworker, 4, "{}");
        known.add(EntityKind::Team, 1, r#"{"UpdatedOn": "2027-01-01T00:00:00Z"}"#);
        assert_eq!(known.cursor(EntityKind::Coworker).as_deref(), Some("2026-11-26T19:30:05Z"));
    }

    #[test]
    fn only_what_has_changed_is_read_whole_and_imported() {
        let mut known = KnownEntities::default();
        known.add(EntityKind::Coworker, 1, r#"{"UpdatedOn": "2026-11-26T19:30:00Z"}"#);
        known.add(EntityKind::Coworker, 2, r#"{"UpdatedOn": "2026-11-26T19:30:00Z"}"#);
        let again = BTreeSet::from([(EntityKind::Coworker, 2)]);
        let mut read = RoundRead::default();
        for (kind, listed) in [
            (EntityKind::Coworker, json!({"Id": 1, "UpdatedOn": "2026-11-26T19:30:00Z"})),
            (EntityKind::Coworker, json!({"Id": 2, "UpdatedOn": "2026-11-26T19:30:00Z"})),
            (EntityKind::Coworker, json!({"Id": 3, "UpdatedOn": "2026-11-26T19:31:00Z"})),
            (EntityKind::Coworker, json!({"Id": 4})),
            (EntityKind::Business, json!({"Id": 1, "Name": "Hub One"})),
            (EntityKind::CoworkerTimePass, json!({"Id": 1, "CoworkerId": 3, "TimePassId": 9})),
            (EntityKind::CoworkerTimePass, json!({"Id": 2, "CoworkerId": 1})),
        ] {
            read.list(kind, record(listed), &known, &again).expect("an id");
        }
        assert!(read.list(EntityKind::Team, record(json!({"Id": "x"})), &known, &again).is_err());
        let cut: Vec<i64> = read.cut().into_iter().map(|((_, id), _)| id).collect();
        assert_eq!(cut, [2, 3, 4]);
        let now = instant("2026-11-26T19:31:30Z").expect("a time");
        assert_eq!(read.fresh(now), BTreeSet::from([(EntityKind::Coworker, 3)]));
        read.whole((EntityKind::Coworker, 2), Some(record(json!({"Id": 2, "FullName": "Bob", "ByHand": {}}))));
        read.whole((EntityKind::Coworker, 3), Some(record(json!({"Id": 3, "FullName": "Cy"}))));
        read.whole((EntityKind::Coworker, 4), None);
        assert_eq!(read.drop_orphans(&known), 1);
        for (line, expected) in [
            ("platform: Coworkers[2].MacAddresses: \"x\" is no address", "Coworkers 3: MacAddresses"),
            ("platform: Coworkers[1]: a text contains a NUL", "Coworkers 2"),
            ("platform: Coworkers[9].X: y", "a fault without a place; the log has it at level debug"),
        ] {
            assert_eq!(read.place_of_fault(line), expected);
        }
        let expected = json!({
            "Businesses": [{"Id": 1, "Name": "Hub One"}],
            "Coworkers": [{"Id": 1}, {"FullName": "Bob", "Id": 2}, {"FullName": "Cy", "Id": 3}],
            "CoworkerTimePasses": [{"CoworkerId": 1, "Id": 2}],
        });
        assert_eq!(serde_json::from_str::<Value>(&read.import_file()).expect("JSON"), expected);
    }
}
