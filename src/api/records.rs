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
    access::{Right, Role, RoleEntity},
    base::record::{CheckinId, FailedCheckinId},
};

pub(super) async fn checkin(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, Problem> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Read)).await?;
    let missing = Problem::NoSuchRecord("Checkin");
    let id = number(id).map(CheckinId).ok_or(missing)?;
    let checkin =
        api.store()?.checkin(id).await?.filter(|found| user.reach.includes(found.business_id)).ok_or(missing)?;
    Ok(json(StatusCode::OK, &CheckinEntity::from(&checkin)))
}

pub(super) async fn failed_checkin(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, Problem> {
    let user = require(&api, &shown, Role::of(RoleEntity::FailedCheckin, Right::Read)).await?;
    let missing = Problem::NoSuchRecord("FailedCheckin");
    let id = number(id).map(FailedCheckinId).ok_or(missing)?;
    let failed = api.store()?.failed_checkin(id).await?;
    let failed = failed.filter(|found| user.reach.includes(found.business_id)).ok_or(missing)?;
    Ok(json(StatusCode::OK, &FailedCheckinEntity::from(&failed)))
}
