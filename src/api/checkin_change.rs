//! `POST`, `PUT` and `DELETE` of check-ins: what a person at a desk or a client says about them goes to the pipeline,
//! which decides it as one more fact. The answer comes after the commit.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, header},
    response::Response,
};
use tokio::sync::oneshot;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    checkin_body::{ChangedCheckin, NewCheckin},
    command::{self, CommandRecord, Deed},
    command_body::{CommandBody, GivenField},
    directory::seen,
    fault::FieldFault,
    list::named_ignored,
    path_id::{PathId, number},
    records::seen_checkin,
    reply::{Problem, RequestRefusal},
};
use crate::{
    access::{ClaimedSource, Right, Rights, Role, RoleEntity, SignedIn},
    base::record::{CheckinId, CheckinSource, CoworkerId},
    directory::entity::EntityKind,
    pipeline::{ApiRequest, EditAnswer, EditFault, EditRequest, WantedEdit, WantedTimes},
};

const ENTITY: &str = "Checkin";

/// The longest name of a command, in characters.
pub(super) const KEY: usize = 200;

/// A new check-in.
pub(super) async fn create(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Create)).await?;
    let new = NewCheckin::read(read(&headers, &body)?)?;
    if new.ignores_admission && user.rights != Rights::Administrator {
        let message = "is for administrators only";
        return Err(vec![FieldFault::new("IgnoreAdmission", Some("true"), message)].into());
    }
    if new.ignores_admission {
        // An audit needs to know who let someone in against the rules.
        let (coworker, business) = (new.coworker.map(|coworker| coworker.0), new.business.0);
        tracing::info!(user = %user.name, peer = %shown, coworker, business, "admission is ignored by an administrator");
    }
    check_coworker(&api, &user, new.coworker).await?;
    let source = user.source.map_or(CheckinSource::Manual, ClaimedSource::source);
    let wanted = WantedEdit::Create {
        coworker: new.coworker,
        business: new.business,
        times: new.times,
        source,
        overrides: new.ignores_admission,
    };
    let answer = decided(&api, &shown, &user, Deed::Created, (wanted, new.system_id)).await?;
    Ok(named_ignored(answer, &new.ignored))
}

/// Another interval of a check-in. What the body lacks stays as it is.
pub(super) async fn update(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Edit)).await?;
    let changed = ChangedCheckin::read(read(&headers, &body)?)?;
    let known = seen_checkin(&api, &user, Some(changed.id)).await?;
    let mut faults = Vec::new();
    // A check-in of another person, or elsewhere, is another check-in.
    let another = "cannot be changed: delete the check-in and create another";
    if let GivenField::Value(coworker) = changed.coworker
        && known.coworker_id.map(|known| known.0) != Some(coworker)
    {
        faults.push(FieldFault::new("CoworkerId", Some(&coworker.to_string()), another));
    }
    if let Some(business) = changed.business.filter(|business| *business != known.business_id) {
        faults.push(FieldFault::new("BusinessId", Some(&business.to_string()), another));
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let times = WantedTimes { from: changed.from.unwrap_or(known.from_time), to: changed.to.or_kept(known.to_time) };
    let wanted = WantedEdit::Change { id: known.id, times };
    let answer = decided(&api, &shown, &user, Deed::Updated, (wanted, changed.system_id)).await?;
    Ok(named_ignored(answer, &changed.ignored))
}

/// Deletes a check-in: the person was not in then, whatever doors and devices report.
pub(super) async fn delete(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, RequestRefusal> {
    let user = require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Delete)).await?;
    let known = seen_checkin(&api, &user, number(id).map(CheckinId)).await?;
    decided(&api, &shown, &user, Deed::Deleted, (WantedEdit::Remove { id: known.id }, None)).await
}

/// Commands of the platform's own pages: there are none here.
pub(super) async fn run_command(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    require(&api, &shown, Role::of(RoleEntity::Checkin, Right::Edit)).await?;
    let mut body = read(&headers, &body)?;
    let _any = body.required("Key", |body, key| body.text(key, KEY));
    body.finish(&["Ids", "Parameters"])?;
    Ok(command::refused("unknown_command: checkind has no commands for check-ins; create, change or delete them"))
}

pub(super) fn read(headers: &HeaderMap, body: &[u8]) -> Result<CommandBody, Vec<FieldFault>> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    CommandBody::read(kind, body)
}

/// What the pipeline found wrong, as a client is told.
pub(super) fn field_faults(faults: Vec<EditFault>) -> Vec<FieldFault> {
    faults.into_iter().map(|EditFault { key, message }| FieldFault::new(key, None, message)).collect()
}

/// A limited user does not learn who there is elsewhere.
pub(super) async fn check_coworker(
    api: &ApiState,
    user: &SignedIn,
    coworker: Option<CoworkerId>,
) -> Result<(), RequestRefusal> {
    let Some(coworker) = coworker.filter(|_| user.reach.only().is_some()) else { return Ok(()) };
    if seen(api, EntityKind::Coworker, coworker.0, &user.reach).await?.is_some() {
        return Ok(());
    }
    Err(vec![FieldFault::new("CoworkerId", Some(&coworker.to_string()), "is no coworker")].into())
}

/// Sends what is wanted to the pipeline, and answers what became of it.
async fn decided(
    api: &ApiState,
    shown: &RequestIdentity,
    user: &SignedIn,
    deed: Deed,
    (wanted, system_id): (WantedEdit, Option<String>),
) -> Result<Response, RequestRefusal> {
    let (reply, answer) = oneshot::channel();
    let by: Arc<str> = user.name.to_string().into();
    let request = EditRequest { wanted, by: Arc::clone(&by), reach: user.reach.clone(), system_id, reply };
    match api.requests.ask(ApiRequest::Edit(request), answer).await? {
        EditAnswer::Done(checkin) => {
            let (id, unique_id) = (checkin.id.0, checkin.unique_id);
            tracing::info!(user = %by, peer = %shown, id, deed = deed.word(), "a check-in was changed over the API");
            let updated_on = if deed == Deed::Deleted { api.clock.now().wall } else { checkin.updated_on };
            Ok(command::done(deed, CommandRecord { entity: ENTITY, id, unique_id, updated_on, updated_by: &by }))
        }
        EditAnswer::Refused { reason, detail } => Ok(command::refused(&reason.description_with(detail.as_deref()))),
        // Of another business, a limited user learns no number.
        EditAnswer::Blocked { at, .. } if !user.reach.includes(at) => Ok(command::refused(
            "overlaps: another check-in of the coworker stands in the way; ask an administrator to change it",
        )),
        EditAnswer::Blocked { by: other, at } => Ok(command::refused(&format!(
            "overlaps: the coworker has check-in {other} at business {at} then; change or delete that one first"
        ))),
        EditAnswer::Missing => Err(Problem::NoSuchRecord(ENTITY).into()),
        EditAnswer::Faults(faults) => Err(field_faults(faults).into()),
    }
}
