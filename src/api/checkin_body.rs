//! PURE. The body of a command about a check-in.

use super::{
    command_body::{CommandBody, GivenField},
    fault::FieldFault,
};
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinId, CheckinSource, CoworkerId},
    },
    pipeline::WantedTimes,
};

/// The keys of a record that a client may send back and that a command does not change: the record computes them.
pub(super) const READ_ONLY: &[&str] = &[
    "AutoCheckout",
    "BusinessName",
    "CountsTowardsPlanLimits",
    "CoworkerFullName",
    "CoworkerTimePassGuid",
    "CreatedOn",
    "CustomFields",
    "FromTimeLocal",
    "IsNew",
    "LastActivity",
    "LocalizationDetails",
    "MacAddresses",
    "TariffAtTheTimeOfCheckin",
    "TeamsAtTheTimeOfCheckin",
    "ToStringText",
    "ToTimeLocal",
    "UniqueId",
    "UpdatedBy",
    "UpdatedOn",
    "ValidateCheckinJobId",
];

/// The longest `SystemId`, in characters.
pub(super) const SYSTEM_ID: usize = 200;

/// What a client says about a new check-in.
#[derive(Debug)]
pub(super) struct NewCheckin {
    pub(super) coworker: Option<CoworkerId>,
    pub(super) business: BusinessId,
    pub(super) times: WantedTimes,
    pub(super) system_id: Option<String>,
    /// Whether it exists whatever admission says.
    pub(super) ignores_admission: bool,
    /// Keys that mean nothing here.
    pub(super) ignored: Vec<String>,
}

impl NewCheckin {
    /// Reads a body. A source is accepted, because clients send one; what the record names follows from who sends it.
    pub(super) fn read(mut body: CommandBody) -> Result<Self, Vec<FieldFault>> {
        let business = body.required("BusinessId", CommandBody::id);
        let coworker = body.id("CoworkerId").value();
        let _accepted: GivenField<CheckinSource> = body.source("Source");
        let from = body.required("FromTime", CommandBody::instant);
        let to = body.instant("ToTime").value();
        let system_id = body.text("SystemId", SYSTEM_ID).value();
        let ignores_admission = body.truth("IgnoreAdmission").value().unwrap_or(false);
        let _given_by_the_server = body.id("Id");
        match (business, from) {
            (Some(business), Some(from)) => Ok(Self {
                coworker: coworker.map(CoworkerId),
                business: BusinessId(business),
                times: WantedTimes { from, to },
                system_id,
                ignores_admission,
                ignored: body.finish(READ_ONLY)?,
            }),
            (None, _) | (_, None) => Err(body.finish(READ_ONLY).err().unwrap_or_default()),
        }
    }
}

/// What a client says about a check-in that exists.
#[derive(Debug)]
pub(super) struct ChangedCheckin {
    pub(super) id: CheckinId,
    /// Absent, it stays.
    pub(super) coworker: GivenField<i64>,
    pub(super) business: Option<BusinessId>,
    pub(super) from: Option<WallTime>,
    /// Null, the check-in is open; absent, its end stays.
    pub(super) to: GivenField<WallTime>,
    pub(super) system_id: Option<String>,
    /// Keys that mean nothing here.
    pub(super) ignored: Vec<String>,
}

impl ChangedCheckin {
    pub(super) fn read(mut body: CommandBody) -> Result<Self, Vec<FieldFault>> {
        let id = body.required("Id", CommandBody::id);
        let coworker = body.id("CoworkerId");
        let business = body.id("BusinessId").value().map(BusinessId);
        let _accepted: GivenField<CheckinSource> = body.source("Source");
        let from = body.instant("FromTime").value();
        // A client that sends empty fields of a form does not mean to check the person in again.
        let is_blank = body.is_blank("ToTime");
        let to = body.instant("ToTime");
        let to = if is_blank { GivenField::Absent } else { to };
        let system_id = body.text("SystemId", SYSTEM_ID).value();
        match id {
            Some(id) => Ok(Self {
                id: CheckinId(id),
                coworker,
                business,
                from,
                to,
                system_id,
                ignored: body.finish(READ_ONLY)?,
            }),
            None => Err(body.finish(READ_ONLY).err().unwrap_or_default()),
        }
    }
}
