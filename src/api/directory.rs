//! The directory over HTTP: people, teams, plans, passes and locations, read like check-ins.

use axum::{
    extract::{Path, RawQuery, State, rejection::PathRejection},
    http::StatusCode,
    response::Response,
};
use serde_json::Value;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    documents::{self, Document, Shown},
    list::{Envelope, PageFigures, named_ignored},
    query::AnswerForm,
    reply::{Problem, RequestRefusal, json},
};
use crate::{
    access::{Right, Role},
    directory::entity::EntityKind,
};

/// A list of the entities of a kind.
pub(super) async fn list(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
    kind: EntityKind,
) -> Result<Response, RequestRefusal> {
    require(&api, &shown, Role::of(documents::entity_of(kind), Right::List)).await?;
    let query = documents::read(kind, query.as_deref().unwrap_or_default())?;
    let found = query.apply(all(&api, kind).await?)?;
    let response = match found.form {
        AnswerForm::Bare => json(StatusCode::OK, &found.documents),
        AnswerForm::Envelope => {
            let figures = PageFigures {
                page: found.page.0,
                size: found.page.1,
                order: found.order,
                direction: found.direction,
                total: u64::try_from(found.total).unwrap_or(u64::MAX),
            };
            json(StatusCode::OK, &Envelope::of(figures, found.documents))
        }
    };
    Ok(named_ignored(response, &found.ignored))
}

/// One entity.
pub(super) async fn one(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: Result<Path<String>, PathRejection>,
    kind: EntityKind,
) -> Result<Response, Problem> {
    require(&api, &shown, Role::of(documents::entity_of(kind), Right::Read)).await?;
    let missing = Problem::NoSuchRecord(documents::entity_of(kind).name());
    let id = id.ok().and_then(|Path(id)| id.parse().ok()).ok_or(missing)?;
    let stored = api.store()?.directory_entity(kind, id).await?.ok_or(missing)?;
    let document = documents::document(kind, &stored, Shown::Whole).ok_or(missing)?;
    Ok(json(StatusCode::OK, &Value::Object(document)))
}

/// All documents of a kind. A site has some thousands of people, and they are read in portions.
async fn all(api: &ApiState, kind: EntityKind) -> Result<Vec<Document>, Problem> {
    let (mut all, mut after) = (Vec::new(), i64::MIN);
    loop {
        let page = api.store()?.directory_page(kind, after).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = last.id;
        all.extend(page.iter().filter_map(|stored| documents::document(kind, stored, Shown::WithoutCredentials)));
    }
}
