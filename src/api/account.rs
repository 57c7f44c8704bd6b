//! What clients ask before anything else: who they are, and the names of numbers.

use std::collections::BTreeSet;

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::{RequestIdentity, identify},
    fault::FieldFault,
    query,
    reply::{RequestRefusal, json},
};
use crate::{
    access::Rights,
    base::record::{BusinessId, CheckinSource},
};

/// The user of a request, as far as clients look: is it an administrator, and what may it do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = CurrentUser)]
pub(super) struct Me<'a> {
    email: String,
    full_name: String,
    active: bool,
    is_admin: bool,
    roles: Vec<String>,
    /// The businesses whose records the user may see; null for all.
    #[schema(value_type = Option<Vec<i64>>)]
    businesses: Option<&'a BTreeSet<BusinessId>>,
}

/// `GET /api/auth/me`.
pub(super) async fn me(State(api): State<ApiState>, shown: RequestIdentity) -> Result<Response, RequestRefusal> {
    let user = identify(&api, &shown).await?;
    let (is_admin, roles) = match &user.rights {
        Rights::Administrator => (true, Vec::new()),
        Rights::Roles(roles) => (false, roles.iter().map(ToString::to_string).collect()),
    };
    let name = user.name.to_string();
    let businesses = user.reach.only();
    Ok(json(StatusCode::OK, &Me { email: name.clone(), full_name: name, active: true, is_admin, roles, businesses }))
}

/// One value of an enumeration.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EnumValue {
    id: i64,
    name: &'static str,
}

/// `GET /api/utils/enums?name=eCheckinSource`: the only enumeration of our records.
pub(super) async fn enums(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    RawQuery(query): RawQuery,
) -> Result<Response, RequestRefusal> {
    identify(&api, &shown).await?;
    let asked = query::parameters(query.as_deref().unwrap_or_default()).find(|(_, lower, _)| lower == "name");
    match asked {
        Some((_, _, name)) if name.eq_ignore_ascii_case("eCheckinSource") => {
            let values = CheckinSource::ALL.map(|source| EnumValue { id: source.number(), name: source.name() });
            Ok(json(StatusCode::OK, &values))
        }
        Some((parameter, _, name)) => {
            Err(vec![FieldFault::new(&parameter, Some(&name), "is eCheckinSource, the only enumeration here")].into())
        }
        None => Err(vec![FieldFault::new("name", None, "is a required field")].into()),
    }
}
