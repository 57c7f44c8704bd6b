//! `POST`, `PUT` and `DELETE` of failed check-ins: rows that users write by hand, where the settings allow it. What
//! checkind has written follows from facts, and stays as it is.

use std::{collections::BTreeSet, sync::Arc};

use axum::{body::Bytes, extract::State, http::HeaderMap, response::Response};
use tokio::sync::oneshot;

use super::{
    ApiState,
    auth::{RequestIdentity, require},
    checkin_change::{check_coworker, field_faults, read},
    command::{self, CommandRecord, Deed},
    command_body::{CommandBody, GivenField},
    fault::FieldFault,
    list::named_ignored,
    path_id::{PathId, number},
    records::seen_failed_checkin,
    reply::{Problem, RequestRefusal},
};
use crate::{
    access::{ClaimedSource, Right, Role, RoleEntity, SignedIn},
    base::{
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, FailedCheckinId},
    },
    pipeline::{ApiRequest, FailureAnswer, FailureRequest, WantedFailure, WrittenFailure},
};

const ENTITY: &str = "FailedCheckin";

/// The longest text of a field, in characters.
const LONGEST: usize = 1000;

/// The most devices of one failed check-in. More is a fault.
const DEVICES: usize = 100;

/// The keys of a record that a client may send back and that a command does not change.
pub(super) const READ_ONLY: &[&str] = &[
    "BusinessName",
    "CheckinAttemptTimeLocal",
    "CoworkerFullName",
    "CreatedOn",
    "CustomFields",
    "IsNew",
    "LocalizationDetails",
    "ToStringText",
    "UniqueId",
    "UpdatedBy",
    "UpdatedOn",
];

const OFF: &str = "The settings do not let users write failed check-ins: set failed_checkin_writes = true in [api].";

/// The fields that a client gives; absent ones stay as they are.
struct GivenFields {
    macs: GivenField<BTreeSet<MacAddr>>,
    description: GivenField<String>,
    teams: GivenField<String>,
    tariff: GivenField<String>,
    system_id: Option<String>,
}

impl GivenFields {
    fn read(body: &mut CommandBody) -> Self {
        let _accepted: GivenField<CheckinSource> = body.source("Source");
        Self {
            macs: devices(body),
            description: body.text("Description", LONGEST),
            teams: body.text("TeamsAtTheTimeOfCheckin", LONGEST),
            tariff: body.text("TariffAtTheTimeOfCheckin", LONGEST),
            system_id: body.text("SystemId", LONGEST).value(),
        }
    }
}

/// The devices, separated by `,`, `;` or spaces.
fn devices(body: &mut CommandBody) -> GivenField<BTreeSet<MacAddr>> {
    const KEY: &str = "MacAddresses";
    let text = match body.text(KEY, DEVICES * 18) {
        GivenField::Absent => return GivenField::Absent,
        GivenField::Null => return GivenField::Null,
        GivenField::Value(text) => text,
    };
    let each = text.split(|between: char| between == ',' || between == ';' || between.is_whitespace());
    match each.filter(|mac| !mac.is_empty()).map(str::parse).collect::<Result<BTreeSet<MacAddr>, _>>() {
        Ok(macs) => GivenField::Value(macs),
        Err(_) => {
            body.fault(KEY, Some(&text), "is a list of MAC addresses, such as 00:50:56:ab:cd:ef");
            GivenField::Absent
        }
    }
}

/// A new failed check-in.
pub(super) async fn create(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    let user = permitted(&api, &shown, Right::Create).await?;
    let mut body = read(&headers, &body)?;
    let business = body.required("BusinessId", CommandBody::id).map(BusinessId);
    let coworker = body.id("CoworkerId").value().map(CoworkerId);
    let at = body.required("CheckinAttemptTime", CommandBody::instant);
    let given = GivenFields::read(&mut body);
    let _given_by_the_server = body.id("Id");
    let ignored = body.finish(READ_ONLY)?;
    let (Some(business), Some(at)) = (business, at) else { return Err(Vec::new().into()) };
    let fields = WrittenFailure {
        at,
        macs: given.macs.value().unwrap_or_default(),
        description: given.description.value(),
        teams: given.teams.value(),
        tariff: given.tariff.value(),
        system_id: given.system_id,
    };
    check_coworker(&api, &user, coworker).await?;
    let source = user.source.map_or(CheckinSource::Manual, ClaimedSource::source);
    let wanted = WantedFailure::Create { coworker, business, source, fields };
    Ok(named_ignored(written(&api, &shown, &user, Deed::Created, wanted).await?, &ignored))
}

/// Other fields of a failed check-in that a user wrote.
pub(super) async fn update(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, RequestRefusal> {
    let user = permitted(&api, &shown, Right::Edit).await?;
    let mut body = read(&headers, &body)?;
    let id = body.required("Id", CommandBody::id);
    let business = body.id("BusinessId").value();
    let coworker = body.id("CoworkerId");
    let at = body.instant("CheckinAttemptTime").value();
    let given = GivenFields::read(&mut body);
    let ignored = body.finish(READ_ONLY)?;
    let known = seen_failed_checkin(&api, &user, id.map(FailedCheckinId)).await?;
    let mut faults = Vec::new();
    let another = "cannot be changed: delete the failed check-in and create another";
    if let GivenField::Value(coworker) = coworker
        && known.coworker_id.map(|known| known.0) != Some(coworker)
    {
        faults.push(FieldFault::new("CoworkerId", Some(&coworker.to_string()), another));
    }
    if let Some(business) = business.filter(|business| *business != known.business_id.0) {
        faults.push(FieldFault::new("BusinessId", Some(&business.to_string()), another));
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let fields = WrittenFailure {
        at: at.unwrap_or(known.checkin_attempt_time),
        macs: given.macs.or_kept(Some(known.mac_addresses)).unwrap_or_default(),
        description: given.description.or_kept(known.description),
        teams: given.teams.or_kept(known.teams_at_the_time_of_checkin),
        tariff: given.tariff.or_kept(known.tariff_at_the_time_of_checkin),
        system_id: given.system_id,
    };
    let wanted = WantedFailure::Change { id: known.id, fields };
    Ok(named_ignored(written(&api, &shown, &user, Deed::Updated, wanted).await?, &ignored))
}

/// Deletes a failed check-in that a user wrote.
pub(super) async fn delete(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    id: PathId,
) -> Result<Response, RequestRefusal> {
    let user = permitted(&api, &shown, Right::Delete).await?;
    let known = seen_failed_checkin(&api, &user, number(id).map(FailedCheckinId)).await?;
    written(&api, &shown, &user, Deed::Deleted, WantedFailure::Remove { id: known.id }).await
}

/// The user, if they have the role and the settings allow it.
async fn permitted(api: &ApiState, shown: &RequestIdentity, right: Right) -> Result<SignedIn, Problem> {
    let user = require(api, shown, Role::of(RoleEntity::FailedCheckin, right)).await?;
    if api.writes_failures { Ok(user) } else { Err(Problem::SwitchedOff(OFF)) }
}

/// Sends what is wanted to the pipeline, and answers what became of it.
async fn written(
    api: &ApiState,
    shown: &RequestIdentity,
    user: &SignedIn,
    deed: Deed,
    wanted: WantedFailure,
) -> Result<Response, RequestRefusal> {
    let (reply, answer) = oneshot::channel();
    let by: Arc<str> = user.name.to_string().into();
    let request = FailureRequest { wanted, by: Arc::clone(&by), reach: user.reach.clone(), reply };
    match api.requests.ask(ApiRequest::Failure(request), answer).await? {
        FailureAnswer::Done(failure) => {
            let (id, unique_id) = (failure.id.0, failure.unique_id);
            tracing::info!(user = %by, peer = %shown, id, deed = deed.word(), "a failed check-in was written over the API");
            let updated_on = if deed == Deed::Deleted { api.clock.now().wall } else { failure.updated_on };
            Ok(command::done(deed, CommandRecord { entity: ENTITY, id, unique_id, updated_on, updated_by: &by }))
        }
        FailureAnswer::Missing => Err(Problem::NoSuchRecord(ENTITY).into()),
        FailureAnswer::NotByHand => Ok(command::refused(
            "not_by_hand: checkind wrote this failed check-in because of what happened; only those that users have \
             written can be changed or deleted",
        )),
        FailureAnswer::Faults(faults) => Err(field_faults(faults).into()),
    }
}
