//! The directory over HTTP: people, teams, plans, passes and locations, read like check-ins.

use std::collections::BTreeSet;

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde_json::Value;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    documents::{self, EntityDocument, KeptDocument, Shown},
    list::{ListEnvelope, PageFigures, named_ignored},
    path_id::{self, PathId},
    query::AnswerForm,
    reply::{Problem, RequestRefusal, json},
};
use crate::{
    access::{Reach, Right, Role},
    directory::entity::EntityKind,
    store::StoredEntity,
};

/// A list of the entities of a kind.
pub(super) async fn list(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
    kind: EntityKind,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(documents::entity_of(kind), Right::List)).await?;
    let query = documents::read(kind, query.as_deref().unwrap_or_default())?;
    let found = query.apply(all(&api, kind, &user.reach).await?)?;
    let response = match found.form {
        AnswerForm::Bare => json(StatusCode::OK, &found.documents),
        AnswerForm::Envelope => {
            let total = u64::try_from(found.total).unwrap_or(u64::MAX);
            let up_to = u64::from(found.page.0) * u64::from(found.page.1);
            let figures = PageFigures {
                page: found.page.0,
                size: found.page.1,
                order: found.order,
                direction: found.direction,
                total,
                has_next: up_to < total,
            };
            json(StatusCode::OK, &ListEnvelope::of(figures, found.documents))
        }
    };
    Ok(named_ignored(response, &found.ignored))
}

/// One entity.
pub(super) async fn one(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
    kind: EntityKind,
) -> Result<Response, Problem> {
    let user = require(&api, &shown, Role::of(documents::entity_of(kind), Right::Read)).await?;
    let missing = Problem::NoSuchRecord(documents::entity_of(kind).name());
    let id = path_id::number(id).ok_or(missing)?;
    let document = seen(&api, kind, id, &user.reach).await?.ok_or(missing)?;
    Ok(json(StatusCode::OK, &Value::Object(document)))
}

/// The document of an entity; `None` if there is none that a user with this reach may see.
pub(super) async fn seen(
    api: &ApiState,
    kind: EntityKind,
    id: i64,
    reach: &Reach,
) -> Result<Option<EntityDocument>, Problem> {
    let document = match api.store()?.directory_entity(kind, id).await? {
        Some(stored) => documents::document(kind, kept(&stored), Shown::Whole),
        None => own_site(api, kind).await?.filter(|site| documents::id_of(site) == Some(id)),
    };
    let Some(document) = document else { return Ok(None) };
    Ok(is_within(api, kind, &document, reach).await?.then_some(document))
}

/// The business of this gateway, while the directory has none.
async fn own_site(api: &ApiState, kind: EntityKind) -> Result<Option<EntityDocument>, Problem> {
    let Some((business, name)) = api.site.as_ref().filter(|_| kind == EntityKind::Business) else { return Ok(None) };
    if api.store()?.highest_id(kind).await? > 0 {
        return Ok(None);
    }
    let text = serde_json::json!({ "Name": **name }).to_string();
    let kept = KeptDocument { id: business.0, is_archived: false, updated_on: api.started, text: &text };
    Ok(documents::document(kind, kept, Shown::Whole))
}

/// Whether a user with this reach may see an entity. A pass is seen by those who see its holder.
pub(super) async fn is_within(
    api: &ApiState,
    kind: EntityKind,
    document: &EntityDocument,
    reach: &Reach,
) -> Result<bool, Problem> {
    if !documents::is_within(kind, document, reach) {
        return Ok(false);
    }
    let Some(holder) = documents::holder(kind, document).filter(|_| reach.only().is_some()) else { return Ok(true) };
    let stored = api.store()?.directory_entity(EntityKind::Coworker, holder).await?;
    let holder = stored.and_then(|stored| documents::document(EntityKind::Coworker, kept(&stored), Shown::Whole));
    Ok(holder.is_some_and(|holder| documents::is_within(EntityKind::Coworker, &holder, reach)))
}

/// The documents of a kind that a user with this reach may see. A site has some thousands of people, and they are read in portions.
async fn all(api: &ApiState, kind: EntityKind, reach: &Reach) -> Result<Vec<EntityDocument>, Problem> {
    let mut all = every(api, kind).await?;
    if all.is_empty() {
        all.extend(own_site(api, kind).await?);
    }
    if reach.only().is_some() {
        all.retain(|document| documents::is_within(kind, document, reach));
        if kind == EntityKind::CoworkerTimePass {
            let holders = every(api, EntityKind::Coworker).await?;
            let seen: BTreeSet<i64> = holders
                .iter()
                .filter(|holder| documents::is_within(EntityKind::Coworker, holder, reach))
                .filter_map(documents::id_of)
                .collect();
            all.retain(|pass| documents::holder(kind, pass).is_none_or(|holder| seen.contains(&holder)));
        }
    }
    Ok(all)
}

async fn every(api: &ApiState, kind: EntityKind) -> Result<Vec<EntityDocument>, Problem> {
    let (mut all, mut after) = (Vec::new(), i64::MIN);
    loop {
        let page = api.store()?.directory_page(kind, after).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.id;
        all.extend(page.iter().filter_map(|stored| documents::document(kind, kept(stored), Shown::WithoutCredentials)));
    }
}

pub(super) fn kept(stored: &StoredEntity) -> KeptDocument<'_> {
    KeptDocument { id: stored.id, is_archived: stored.archived, updated_on: stored.updated_on, text: &stored.document }
}
