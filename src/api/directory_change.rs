//! Changes of the directory over HTTP. Each is an import of one entity, through the same draft as `checkind import`: it
//! makes a version of the directory, which running gateways take up as they take up an import.
//!
//! Like an import, a change needs no lease, and every gateway of a database may make one: the version with which it was
//! compared is checked as it is written. The pipeline and readers wait only for the moment of the write.

use std::collections::BTreeSet;

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use uuid::Uuid;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    checkin_change::read,
    command::{self, CommandRecord, Deed},
    command_body::CommandBody,
    directory::{kept, seen},
    documents::{self, EntityDocument, KeptDocument, Shown},
    entity_body::EntityFields,
    fault::FieldFault,
    path_id::{self, PathId},
    reply::{Problem, RequestRefusal},
};
use crate::{
    access::{Right, Role, SignedIn},
    base::clock::WallTime,
    directory::{
        entity::{EntityKind, FIRST_OWN_ID, LAST_OWN_ID},
        import::{
            Document, ImportFaults,
            draft::{Changes, Draft, Replace},
        },
    },
    store::{Store, StoreError, StoredEntity},
};

/// How often a change is tried if imports by other processes overtake it.
const TRIES: usize = 3;

/// The largest document, in bytes: four times the largest body. A change that would make it larger is a fault, because
/// keys that a body lacks stay.
const LARGEST_DOCUMENT: usize = 256 * 1024;

/// The fault of a change that leaves the businesses of its user.
const NOT_OWN: &str = "names a business that this user is not limited to, or none at all";

/// What a command asks for.
#[derive(Debug)]
enum Wish {
    /// A new entity, with this id or a new one.
    Create(CommandBody, Option<i64>),
    /// Other fields.
    Update(CommandBody, i64),
    /// To archive it.
    Delete(i64),
}

impl Wish {
    const fn deed(&self) -> Deed {
        match self {
            Self::Create(..) => Deed::Created,
            Self::Update(..) => Deed::Updated,
            Self::Delete(_) => Deed::Deleted,
        }
    }
}

/// A new entity.
pub(super) async fn create(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
    kind: EntityKind,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(documents::entity_of(kind), Right::Create)).await?;
    let mut body = read(&headers, &body)?;
    let mut id = body.id("Id").value();
    if id.is_some() && user.reach.only().is_some() {
        body.fault("Id", None, "is given by the server, because this user is limited to some businesses");
        // Whether it is in use is not for this user to know.
        id = None;
    }
    change(&api, &shown, &user, kind, Wish::Create(body, id)).await
}

/// Other fields of an entity. Keys that the body lacks stay as they are.
pub(super) async fn update(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
    kind: EntityKind,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(documents::entity_of(kind), Right::Edit)).await?;
    let mut body = read(&headers, &body)?;
    match body.required("Id", CommandBody::id) {
        Some(id) => change(&api, &shown, &user, kind, Wish::Update(body, id)).await,
        None => Err(body.finish(&[]).err().unwrap_or_default().into()),
    }
}

/// Archives an entity. It is kept for the visits that name it, but no longer shown.
pub(super) async fn delete(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
    kind: EntityKind,
) -> Result<Response, RequestRefusal> {
    let entity = documents::entity_of(kind);
    let user = require(&api, &shown, Role::of(entity, Right::Delete)).await?;
    let id = path_id::number(id).ok_or(Problem::NoSuchRecord(entity.name()))?;
    change(&api, &shown, &user, kind, Wish::Delete(id)).await
}

/// An entity after a change.
#[derive(Debug)]
struct ChangedEntity {
    id: i64,
    unique_id: Uuid,
    updated_on: WallTime,
    /// The names of the fields that differ; empty for a new or archived entity.
    fields: Vec<String>,
}

/// Makes the change, and answers what was done.
async fn change(
    api: &ApiState,
    shown: &RequestIdentity,
    user: &SignedIn,
    kind: EntityKind,
    mut wish: Wish,
) -> Result<Response, RequestRefusal> {
    let _turn = api.directory_turn.lock().await;
    let entity = documents::entity_of(kind).name();
    for _ in 0..TRIES {
        let changed = match attempt(api, user, kind, &mut wish).await {
            Ok(changed) => changed,
            Err(FailedAttempt::Overtaken) => continue,
            Err(FailedAttempt::Refused(refusal)) => return Err(refusal),
        };
        let ChangedEntity { id, unique_id, updated_on, fields } = changed;
        // As for sign-ins: an audit needs to know who changed what. Values are private.
        let (deed, fields) = (wish.deed().word(), fields.join(", "));
        tracing::info!(user = %user.name, peer = %shown, entity, id, deed, fields, "the directory was changed over the API");
        let updated_by = &user.name.to_string();
        return Ok(command::done(wish.deed(), CommandRecord { entity, id, unique_id, updated_on, updated_by }));
    }
    tracing::warn!(entity, "a change of the directory was overtaken by imports {TRIES} times");
    Err(Problem::Unavailable.into())
}

/// Why an attempt made no change.
enum FailedAttempt {
    /// Another process has changed the directory meanwhile.
    Overtaken,
    Refused(RequestRefusal),
}

impl<R: Into<RequestRefusal>> From<R> for FailedAttempt {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

async fn attempt(
    api: &ApiState,
    user: &SignedIn,
    kind: EntityKind,
    wish: &mut Wish,
) -> Result<ChangedEntity, FailedAttempt> {
    let store = api.store()?;
    let missing = Problem::NoSuchRecord(documents::entity_of(kind).name());
    // Before anything is read: whatever changes from here on, the write notices.
    let version = store.directory_version().await?;
    let (id, before) = match wish {
        Wish::Create(body, given) => (new_id(store, kind, *given, body).await?, None),
        Wish::Update(_, id) | Wish::Delete(id) => {
            let stored = store.directory_entity(kind, *id).await?.ok_or(missing)?;
            let before = seen(api, kind, *id, &user.reach).await?.ok_or(missing)?;
            if !is_own(api, user, kind, &before).await? {
                return Err(not_own(kind).into());
            }
            (*id, Some((stored, before)))
        }
    };

    let mut draft = Draft::new(Replace::No, store.pin_key().await?);
    let fields = match wish {
        Wish::Create(body, _) | Wish::Update(body, _) => {
            let known: Vec<&String> = before.iter().flat_map(|(_, document)| document.keys()).collect();
            let fields = EntityFields::of(kind, body, &known);
            draft.json(EntityFields::file_name(), &fields.import_file(id));
            let mut faults = body.faults().to_vec();
            faults.extend(fields.faults(before.is_none()));
            Some((fields, faults))
        }
        Wish::Delete(_) => {
            draft.remove(kind, id);
            None
        }
    };
    let changes = drafted(store, user, draft, fields).await?;

    let Some(document) = changes.documents.first() else {
        let (stored, before) = before.ok_or(missing)?;
        return Ok(ChangedEntity {
            id,
            unique_id: shown_identity(kind, id, &before),
            updated_on: stored.updated_on,
            fields: Vec::new(),
        });
    };
    if document.body.len() > LARGEST_DOCUMENT {
        return Err(vec![FieldFault::new("body", None, "would make the record larger than 256 KiB")].into());
    }
    let now = api.clock.now().wall;
    let after = match before {
        // What is archived is no longer shown.
        Some((_, before)) if wish.deed() == Deed::Deleted => before,
        Some(_) | None => shape(document, now).ok_or(missing)?,
    };
    if !is_own(api, user, kind, &after).await? {
        return Err(not_own(kind).into());
    }
    check_members(api, user, kind, &after).await?;
    match store.import(&changes.documents, version, now, |_| ()).await {
        Ok(()) => {}
        Err(StoreError::Conflict) => return Err(FailedAttempt::Overtaken),
        Err(
            error @ (StoreError::Unavailable(_)
            | StoreError::Refused { .. }
            | StoreError::Unfit(_)
            | StoreError::Unusable { .. }),
        ) => return Err(error.into()),
    }
    let fields = changes.changed.into_iter().flat_map(|change| change.fields).collect();
    Ok(ChangedEntity { id, unique_id: shown_identity(kind, id, &after), updated_on: now, fields })
}

/// The id of a new entity: the one that the client gives, if no entity has or had it. A new entity must not begin with
/// what a deleted one had, such as its cards.
async fn new_id(
    store: &Store,
    kind: EntityKind,
    given: Option<i64>,
    body: &mut CommandBody,
) -> Result<i64, StoreError> {
    let id = match given {
        Some(given) => given,
        None => store.highest_id(kind).await?.saturating_add(1).max(FIRST_OWN_ID),
    };
    let shown = id.to_string();
    if id > LAST_OWN_ID {
        body.fault("Id", Some(&shown), "is larger than clients can read (9007199254740991)");
    } else if store.directory_entity(kind, id).await?.is_some() {
        body.fault("Id", Some(&shown), "is in use, or was before its record was deleted");
    }
    Ok(id)
}

/// Compares a draft with the stored directory, as far as the user sees it: what others have must not show in a fault.
/// `fields` are what was sent, with the faults found in it so far.
async fn drafted(
    store: &Store,
    user: &SignedIn,
    draft: Draft,
    fields: Option<(EntityFields, Vec<FieldFault>)>,
) -> Result<Changes, RequestRefusal> {
    let (fields, mut faults) = fields.map_or((None, Vec::new()), |(fields, faults)| (Some(fields), faults));
    let found = match draft.read() {
        Ok(mut draft) => {
            let mut holders = BTreeSet::new();
            store
                .each_entity(|kind, stored| {
                    if user.reach.only().is_none() || is_seen(kind, stored, user, &mut holders) {
                        draft.stored(kind, stored.id, stored.archived, &stored.document);
                    }
                })
                .await?;
            draft.finish()
        }
        Err(faults) => Err(faults),
    };
    match found {
        Ok(changes) if faults.is_empty() => Ok(changes),
        Ok(_) => Err(faults.into()),
        Err(ImportFaults(lines)) => {
            let known: BTreeSet<String> = faults.iter().map(|fault| fault.property_name.clone()).collect();
            let imported = lines.iter().filter_map(|line| Some(fields.as_ref()?.fault(line)));
            faults.extend(imported.filter(|fault| !known.contains(&fault.property_name)));
            Err(faults.into())
        }
    }
}

/// Whether a limited user sees a stored entity. `holders` are the people whom the user sees, who come before their
/// passes.
fn is_seen(kind: EntityKind, stored: &StoredEntity, user: &SignedIn, holders: &mut BTreeSet<i64>) -> bool {
    let Some(document) = documents::document(kind, kept(stored), Shown::Whole) else { return false };
    let is_seen = documents::is_within(kind, &document, &user.reach)
        && documents::holder(kind, &document).is_none_or(|holder| holders.contains(&holder));
    if is_seen && kind == EntityKind::Coworker {
        holders.insert(stored.id);
    }
    is_seen
}

/// Whether the user may change an entity. A pass is changed by those who may change its holder.
async fn is_own(api: &ApiState, user: &SignedIn, kind: EntityKind, document: &EntityDocument) -> Result<bool, Problem> {
    if !documents::is_own(kind, document, &user.reach) {
        return Ok(false);
    }
    let Some(holder) = documents::holder(kind, document).filter(|_| user.reach.only().is_some()) else {
        return Ok(true);
    };
    let holder = seen(api, EntityKind::Coworker, holder, &user.reach).await?;
    Ok(holder.is_some_and(|holder| documents::is_own(EntityKind::Coworker, &holder, &user.reach)))
}

/// A limited user puts only people into a team whom the user may change: members of a team may share their passes.
async fn check_members(
    api: &ApiState,
    user: &SignedIn,
    kind: EntityKind,
    after: &EntityDocument,
) -> Result<(), RequestRefusal> {
    const KEY: &str = "TeamMembers";
    if kind != EntityKind::Team || user.reach.only().is_none() {
        return Ok(());
    }
    let members = after.get(KEY).and_then(serde_json::Value::as_array).into_iter().flatten();
    for member in members {
        let id = member.as_i64().or_else(|| member.as_str()?.parse().ok());
        let found = match id {
            Some(id) => seen(api, EntityKind::Coworker, id, &user.reach).await?,
            None => None,
        };
        if !found.is_some_and(|found| documents::is_own(EntityKind::Coworker, &found, &user.reach)) {
            return Err(vec![FieldFault::new(KEY, Some(&member.to_string()), NOT_OWN)].into());
        }
    }
    Ok(())
}

fn not_own(kind: EntityKind) -> Vec<FieldFault> {
    let key = match kind {
        EntityKind::Business => "Id",
        EntityKind::Coworker => "Businesses",
        EntityKind::CoworkerTimePass => "CoworkerId",
        EntityKind::Team | EntityKind::Tariff | EntityKind::TimePass => "BusinessId",
    };
    vec![FieldFault::new(key, None, NOT_OWN)]
}

/// The entity as the API will show it.
fn shape(document: &Document, now: WallTime) -> Option<EntityDocument> {
    let Document { kind, id, archived, body, .. } = document;
    let kept = KeptDocument { id: *id, is_archived: *archived, updated_on: now, text: body };
    documents::document(*kind, kept, Shown::Whole)
}

fn shown_identity(kind: EntityKind, id: i64, document: &EntityDocument) -> Uuid {
    let shown = document.get("UniqueId").and_then(serde_json::Value::as_str);
    shown.and_then(|text| Uuid::parse_str(text).ok()).unwrap_or_else(|| documents::unique_id(kind, id))
}
