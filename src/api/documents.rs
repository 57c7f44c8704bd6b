//! PURE. Entities of the directory as the API shows them: the documents of an import, with the keys that every entity
//! has, filtered and sorted like other lists.
//!
//! Which keys a document has is up to the import, so fields are found by the keys of the documents themselves, and
//! values are compared by what they are.

use std::{cmp::Ordering, collections::BTreeSet};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    client_number, client_time,
    fault::FieldFault,
    listed_entity::is_named,
    query::{self, AnswerForm, Paging, Side},
};
use crate::{
    access::{Reach, RoleEntity},
    base::{clock::WallTime, listing::SortDirection, record::BusinessId},
    directory::{
        derived_guid,
        entity::{CredentialField, EntityKind},
        import::draft::LEFT_OUT,
    },
};

/// An entity as it is stored: its document, and what is known beside it.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeptDocument<'a> {
    pub(super) id: i64,
    pub(super) is_archived: bool,
    pub(super) updated_on: WallTime,
    pub(super) text: &'a str,
}

/// One entity as JSON.
pub(super) type EntityDocument = Map<String, Value>;

/// How much of a document an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// Everything but PINs, which are kept as digests only.
    Whole,
    /// As in a list of the platform: no cards and devices.
    WithoutCredentials,
}

/// The folders under which the platform's documents have named the directory. The first is ours.
pub(super) const FOLDERS: [&str; 3] = ["spaces", "billing", "sys"];

/// The path of a kind in a folder.
pub(super) fn path(folder: &str, kind: EntityKind) -> String {
    format!("/api/{folder}/{}", kind.array().to_ascii_lowercase())
}

/// The entity of the roles for this kind, whose name is also what the names of its filters begin with.
pub(super) const fn entity_of(kind: EntityKind) -> RoleEntity {
    match kind {
        EntityKind::Business => RoleEntity::Business,
        EntityKind::Team => RoleEntity::Team,
        EntityKind::Tariff => RoleEntity::Tariff,
        EntityKind::TimePass => RoleEntity::TimePass,
        EntityKind::Coworker => RoleEntity::Coworker,
        EntityKind::CoworkerTimePass => RoleEntity::CoworkerTimePass,
    }
}

/// The credentials that were assigned by hand.
const BY_HAND: &str = "ByHand";

/// The keys of an entity that only the server sets. Clients send them back with the rest of a record.
pub(super) const READ_ONLY: [&str; 9] = [
    "UniqueId",
    "CreatedOn",
    "UpdatedOn",
    "UpdatedBy",
    "IsNew",
    "ToStringText",
    "LocalizationDetails",
    BY_HAND,
    LEFT_OUT,
];

/// The keys that every entity has.
pub(super) const KEYS: [&str; 11] = [
    "Id",
    "Archived",
    "UpdatedOn",
    "CreatedOn",
    "UniqueId",
    "UpdatedBy",
    "IsNew",
    "SystemId",
    "ToStringText",
    "LocalizationDetails",
    "CustomFields",
];

/// The keys by which lists of this kind are filtered and sorted, whether an entity has them or not. Documents may have
/// others.
pub(super) fn listed_keys(kind: EntityKind) -> impl Iterator<Item = &'static str> {
    let own = own_keys(kind).filter(|key| !KEYS.contains(key));
    KEYS.into_iter().chain(own.filter(|key| !CredentialField::holds(key)))
}

/// The keys of a kind that clients may send, each in one spelling: the platform writes one of them in two.
pub(super) fn own_keys(kind: EntityKind) -> impl Iterator<Item = &'static str> {
    let keys = kind.keys();
    let is_first = |at: usize, key: &str| !keys[..at].iter().any(|before| before.eq_ignore_ascii_case(key));
    let first = keys.iter().enumerate().filter(move |(at, key)| is_first(*at, key)).map(|(_, key)| *key);
    first.filter(|key| *key == "Id" || !READ_ONLY.contains(key))
}

/// A stored entity in the API's shape; `None` if it is no JSON object, or has been deleted.
pub(super) fn document(kind: EntityKind, kept: KeptDocument<'_>, shown: Shown) -> Option<EntityDocument> {
    let mut document: EntityDocument = serde_json::from_str(kept.text).ok()?;
    if document.contains_key(LEFT_OUT) {
        return None;
    }
    let pin = CredentialField::AccessPincode.key();
    document.retain(|key, _| match shown {
        Shown::Whole => key != pin,
        Shown::WithoutCredentials => !CredentialField::holds(key) && key != BY_HAND,
    });
    if let Some(Value::Object(by_hand)) = document.get_mut(BY_HAND) {
        by_hand.remove(pin);
    }
    let text = ["FullName", "Name", "TimePassName"].iter().find_map(|key| document.get(*key)?.as_str());
    let text = text.unwrap_or(entity_of(kind).name()).to_owned();
    document.insert("Id".to_owned(), json!(kept.id));
    document.insert("Archived".to_owned(), json!(kept.is_archived));
    document.insert("UpdatedOn".to_owned(), json!(kept.updated_on.to_rfc3339_seconds()));
    let unique_id = unique_id(kind, kept.id);
    for (key, value) in [
        ("CreatedOn", json!(kept.updated_on.to_rfc3339_seconds())),
        ("UniqueId", json!(unique_id)),
        ("UpdatedBy", json!("checkind")),
        ("IsNew", json!(false)),
        ("SystemId", Value::Null),
        ("ToStringText", json!(text)),
        ("LocalizationDetails", Value::Null),
        ("CustomFields", Value::Null),
    ] {
        document.entry(key).or_insert(value);
    }
    Some(document)
}

/// The identity of an entity whose document says none: the same after every import.
pub(super) fn unique_id(kind: EntityKind, id: i64) -> Uuid {
    match kind {
        // Check-ins name the pass that they use by it.
        EntityKind::CoworkerTimePass => derived_guid(id),
        EntityKind::Business | EntityKind::Team | EntityKind::Tariff | EntityKind::TimePass | EntityKind::Coworker => {
            Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("checkind/{}/{id}", kind.word()).as_bytes())
        }
    }
}

/// A query over documents.
#[derive(Debug)]
pub(super) struct DocumentQuery {
    kind: EntityKind,
    filters: Vec<DocumentFilter>,
    ids: Option<Vec<i64>>,
    paging: Paging,
}

/// A filter by a key.
#[derive(Debug)]
struct DocumentFilter {
    /// The name of the parameter.
    name: String,
    /// What it says about the key's name; `None` if that is of another entity.
    field: Option<String>,
    side: Side,
    value: String,
}

/// The documents that a query asks for.
#[derive(Debug)]
pub(super) struct FoundDocuments {
    /// Those of the page.
    pub(super) documents: Vec<EntityDocument>,
    /// How many match, on all pages.
    pub(super) total: usize,
    /// The key that they are sorted by.
    pub(super) order: String,
    /// Which way.
    pub(super) direction: SortDirection,
    /// The page, and its size.
    pub(super) page: (u32, u32),
    /// The form of the answer.
    pub(super) form: AnswerForm,
    /// The names of the parameters that mean nothing here.
    pub(super) ignored: Vec<String>,
}

/// Reads the query of a list of this kind.
pub(super) fn read(kind: EntityKind, query: &str) -> Result<DocumentQuery, Vec<FieldFault>> {
    let (mut faults, mut paging, mut filters, mut asked) = (Vec::new(), Paging::default(), Vec::new(), None);
    let prefix = format!("{}_", entity_of(kind).name().to_ascii_lowercase());
    for (name, lower, value) in query::parameters(query) {
        if paging.take((&name, &lower, &value), &mut faults) {
            continue;
        }
        let (side, rest) = query::sided(&lower);
        let field = if rest == "id" { Some(rest) } else { rest.strip_prefix(&prefix) };
        let is_word = ["null", "notnull"].iter().any(|word| value.eq_ignore_ascii_case(word));
        if side == Side::Exact && value.starts_with('[') && field == Some("id") {
            match query::ids(&value) {
                Some(ids) => asked.get_or_insert_with(Vec::new).extend(ids),
                None => faults.push(FieldFault::new(&name, Some(&value), query::ID_LIST)),
            }
        } else if side == Side::Exact && field == Some("id") && !is_word && client_number::whole(&value).is_none() {
            faults.push(FieldFault::new(&name, Some(&value), "is a number"));
        } else if side != Side::Exact && field.is_some() && client_time::instant(&value).is_none() {
            faults.push(FieldFault::new(&name, Some(&value), "is a time, such as 2026-11-26T19:30:00Z"));
        } else if filters.len() == query::MOST_TESTS {
            faults.push(FieldFault::new(&name, Some(&value), "is one filter too many"));
        } else {
            filters.push(DocumentFilter { name, field: field.map(ToOwned::to_owned), side, value });
        }
    }
    if faults.is_empty() { Ok(DocumentQuery { kind, filters, ids: asked, paging }) } else { Err(faults) }
}

impl DocumentQuery {
    /// Applies the query to all documents of the kind.
    pub(super) fn apply(self, mut documents: Vec<EntityDocument>) -> Result<FoundDocuments, Vec<FieldFault>> {
        let of_documents = documents.iter().flat_map(|document| document.keys().cloned());
        let keys: BTreeSet<String> = of_documents.chain(listed_keys(self.kind).map(ToOwned::to_owned)).collect();
        let key = |name: &str| keys.iter().find(|key| is_named(key, name)).cloned();
        let mut ignored = Vec::new();
        for DocumentFilter { name, field, side, value } in self.filters {
            match field.as_deref().and_then(key) {
                Some(key) => documents.retain(|document| passes(document.get(&key), side, &value)),
                None => ignored.push(name),
            }
        }
        let order = match &self.paging.order {
            None => "Id".to_owned(),
            Some((name, wanted)) => match key(wanted) {
                Some(key) => key,
                None => return Err(vec![FieldFault::new(name, Some(wanted), "is no property of this entity")]),
            },
        };
        let direction = self.paging.direction.unwrap_or(SortDirection::Ascending);
        if let Some(ids) = &self.ids {
            documents.retain(|document| id_of(document).is_some_and(|id| ids.contains(&id)));
        }
        documents.sort_by(|one, other| along(&order, direction, one, other));
        let total = documents.len();
        let (form, page) = match self.ids {
            Some(_) => (AnswerForm::Bare, (1, u32::try_from(total).unwrap_or(u32::MAX))),
            None => (AnswerForm::Envelope, (self.paging.page, self.paging.size)),
        };
        let [number, size] = [page.0, page.1].map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        let before = (number - 1).saturating_mul(size);
        let documents = documents.into_iter().skip(before).take(size).collect();
        Ok(FoundDocuments { documents, total, order, direction, page, form, ignored })
    }
}

/// Whether a user with this reach may see an entity: one of a business in it, or of no business, which belongs to the
/// whole network.
pub(super) fn is_within(kind: EntityKind, document: &EntityDocument, reach: &Reach) -> bool {
    let is_seen = |id: &Value| id.as_i64().is_some_and(|id| reach.includes(BusinessId(id)));
    if kind == EntityKind::Business {
        return document.get("Id").is_some_and(is_seen);
    }
    let own = document.get("BusinessId").filter(|id| !id.is_null());
    let several = document.get("Businesses").and_then(Value::as_array).filter(|list| !list.is_empty());
    match (own, several) {
        (None, None) => true,
        (own, several) => {
            own.is_some_and(is_seen) || several.into_iter().flatten().any(|one| is_seen(one.get("Id").unwrap_or(one)))
        }
    }
}

/// Whether a user with this reach may change an entity: it belongs to businesses, and all of them are in the reach. A
/// pass belongs to those of its holder.
pub(super) fn is_own(kind: EntityKind, document: &EntityDocument, reach: &Reach) -> bool {
    if reach.only().is_none() {
        return true;
    }
    let is_seen = |id: &Value| id.as_i64().is_some_and(|id| reach.includes(BusinessId(id)));
    if kind == EntityKind::Business {
        return document.get("Id").is_some_and(is_seen);
    }
    let own = document.get("BusinessId").filter(|id| !id.is_null());
    let several = document.get("Businesses").and_then(Value::as_array).into_iter().flatten();
    let mut all = own.into_iter().chain(several.map(|one| one.get("Id").unwrap_or(one))).peekable();
    (kind == EntityKind::CoworkerTimePass || all.peek().is_some()) && all.all(is_seen)
}

/// Who holds it, if it is a pass.
pub(super) fn holder(kind: EntityKind, document: &EntityDocument) -> Option<i64> {
    document.get("CoworkerId").and_then(Value::as_i64).filter(|_| kind == EntityKind::CoworkerTimePass)
}

pub(super) fn id_of(document: &EntityDocument) -> Option<i64> {
    document.get("Id").and_then(Value::as_i64)
}

/// Whether a value passes a filter.
fn passes(value: Option<&Value>, side: Side, wanted: &str) -> bool {
    let value = value.unwrap_or(&Value::Null);
    if side != Side::Exact {
        let at = |text: &str| client_time::instant(text);
        let Some((known, wanted)) = value.as_str().and_then(at).zip(at(wanted)) else { return false };
        return if side == Side::From { known >= wanted } else { known <= wanted };
    }
    match wanted.to_ascii_lowercase().as_str() {
        "null" => return value.is_null(),
        "notnull" => return !value.is_null(),
        _ => {}
    }
    match value {
        Value::Null => false,
        Value::Bool(known) => query::truth(wanted) == Some(*known),
        Value::Number(known) => match (known.as_i64(), client_number::whole(wanted)) {
            // Floating point does not tell large ids apart.
            (Some(known), Some(wanted)) => known == wanted,
            (Some(_), None) | (None, _) => wanted.parse::<f64>().ok() == known.as_f64(),
        },
        Value::String(known) => known.to_ascii_lowercase().contains(&wanted.to_ascii_lowercase()),
        // A list of references is found by an id in it.
        Value::Array(list) => list.iter().any(|one| passes(Some(one.get("Id").unwrap_or(one)), side, wanted)),
        Value::Object(object) => object.get("Id").is_some_and(|id| passes(Some(id), side, wanted)),
    }
}

/// The order of two documents: by a key, then by id; null comes last, whichever way.
fn along(key: &str, direction: SortDirection, one: &EntityDocument, other: &EntityDocument) -> Ordering {
    let value = |document: &EntityDocument| document.get(key).filter(|value| !value.is_null()).cloned();
    let turned = |order: Ordering| match direction {
        SortDirection::Ascending => order,
        SortDirection::Descending => order.reverse(),
    };
    let by_key = match (value(one), value(other)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => return Ordering::Greater,
        (Some(_), None) => return Ordering::Less,
        (Some(one), Some(other)) => match (one.as_f64(), other.as_f64()) {
            (Some(one), Some(other)) => one.total_cmp(&other),
            _ => text(&one).cmp(&text(&other)),
        },
    };
    turned(by_key.then_with(|| id_of(one).cmp(&id_of(other))))
}

/// A value as text for sorting, ASCII letters in lower case.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn people() -> Vec<EntityDocument> {
        let documents = [
            r#"{"FullName": "Ada", "Email": "ada@example.com", "Active": true, "TariffId": 3, "Teams": [{"Id": 5}],
               "AccessCardId": "100", "AccessPincode": "sha256:1"}"#,
            r#"{"FullName": "Bob", "Active": false, "TariffId": 12, "Teams": []}"#,
            r#"{"FullName": "adam", "Email": null, "Active": true}"#,
        ];
        let kept = documents.iter().zip(7..).map(|(text, id)| KeptDocument {
            id,
            is_archived: id == 8,
            updated_on: WallTime::from_millis(id * 1000),
            text,
        });
        kept.filter_map(|kept| document(EntityKind::Coworker, kept, Shown::WithoutCredentials)).collect()
    }

    fn found(query: &str) -> FoundDocuments {
        read(EntityKind::Coworker, query).expect("a query").apply(people()).expect("known names")
    }

    #[test]
    fn documents_are_filtered_by_what_they_hold() {
        for (query, ids) in [
            ("", &[7, 8, 9][..]),
            ("Coworker_FullName=ADA", &[7, 9]),
            ("coworker_email=ada@example.com", &[7]),
            ("Coworker_Email=null", &[8, 9]),
            ("Coworker_Active=True", &[7, 9]),
            ("Coworker_Tariff=12", &[8]),
            ("Coworker_Teams=5", &[7]),
            ("Coworker_Archived=false", &[7, 9]),
            ("from_Coworker_UpdatedOn=1970-01-01T00:00:08", &[8, 9]),
            ("to_Coworker_UpdatedOn=1970-01-01T00:00:08Z", &[7, 8]),
            ("orderBy=FullName&dir=1", &[8, 9, 7]),
            ("orderBy=TariffId&dir=desc", &[8, 7, 9]),
            ("Id=9", &[9]),
            ("id=[9,7]", &[7, 9]),
            ("Coworker_RegistrationDate=2026", &[]),
            ("orderBy=RegistrationDate", &[7, 8, 9]),
            ("size=2&page=2", &[9]),
            ("size=2&page=9", &[]),
        ] {
            let found = found(query);
            assert_eq!(found.documents.iter().filter_map(id_of).collect::<Vec<_>>(), ids, "{query}");
        }
        assert_eq!(found("Coworker_Colour=red").ignored, ["Coworker_Colour"]);
        let unknown = read(EntityKind::Coworker, "orderBy=Colour").expect("a query").apply(people());
        assert_eq!(unknown.map(|found| found.total).expect_err("unknown").len(), 1);
        let faulty = "page=x&id=[a]&Coworker_Id=7x&from_Coworker_UpdatedOn=soon";
        assert_eq!(read(EntityKind::Coworker, faulty).expect_err("faults").len(), 4);
    }

    #[test]
    fn an_entity_has_the_common_keys_and_no_pin() {
        let kept = KeptDocument {
            id: 7,
            is_archived: false,
            updated_on: WallTime::from_millis(0),
            text: r#"{"FullName": "Ada", "AccessCardId": "100", "AccessPincode": "sha256:1", "UniqueId": "u"}"#,
        };
        let whole = document(EntityKind::Coworker, kept, Shown::Whole).expect("an object");
        let expected = r#"{"AccessCardId":"100","Archived":false,"CreatedOn":"1970-01-01T00:00:00Z","CustomFields":null,"FullName":"Ada","Id":7,"IsNew":false,"LocalizationDetails":null,"SystemId":null,"ToStringText":"Ada","UniqueId":"u","UpdatedBy":"checkind","UpdatedOn":"1970-01-01T00:00:00Z"}"#;
        assert_eq!(Value::Object(whole).to_string(), expected);
        let listed = document(EntityKind::Coworker, kept, Shown::WithoutCredentials).expect("an object");
        assert!(!listed.contains_key("AccessCardId"));
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query: String) {
            if let Ok(query) = read(EntityKind::Coworker, &query) {
                let _found = query.apply(people());
            }
        }
    }
}
