//! `GET /api/spaces/checkins/{id}` and `/api/spaces/failedcheckins/{id}`.
//!
//! An id that is not a number gets the same response as an unknown id, 404: to a client both mean "no such record". So does
//! a record of a business that the user may not see.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    path_id::{PathId, number},
    reply::{Problem, json},
    shape::{CheckinEntity, FailedCheckinEntity},
};
use crate::{
    access::{Right, Role, RoleEntity, SignedIn},
    base::record::{Checkin, CheckinId, FailedCheckin, FailedCheckinId},
};

pub(super) async fn checkin(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, Problem> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Read)).await?;
    let checkin = seen_checkin(&api, &user, number(id).map(CheckinId)).await?;
    Ok(json(StatusCode::OK, &CheckinEntity::from(&checkin)))
}

pub(super) async fn failed_checkin(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, Problem> {
    let user = require(&api, &shown, Role::of(RoleEntity::FailedCheckin, Right::Read)).await?;
    let failed = seen_failed_checkin(&api, &user, number(id).map(FailedCheckinId)).await?;
    Ok(json(StatusCode::OK, &FailedCheckinEntity::from(&failed)))
}

/// A check-in that the user may see; without a number there is none.
pub(super) async fn seen_checkin(api: &ApiState, user: &SignedIn, id: Option<CheckinId>) -> Result<Checkin, Problem> {
    let missing = Problem::NoSuchRecord(RoleEntity::Checkin.name());
    let found = api.store()?.checkin(id.ok_or(missing)?).await?;
    found.filter(|found| user.reach.includes(found.business_id)).ok_or(missing)
}

/// A failed check-in that the user may see; without a number there is none.
pub(super) async fn seen_failed_checkin(
    api: &ApiState,
    user: &SignedIn,
    id: Option<FailedCheckinId>,
) -> Result<FailedCheckin, Problem> {
    let missing = Problem::NoSuchRecord(RoleEntity::FailedCheckin.name());
    let found = api.store()?.failed_checkin(id.ok_or(missing)?).await?;
    found.filter(|found| user.reach.includes(found.business_id)).ok_or(missing)
}
