//! PURE. Records in the platform's JSON: every key, in the order of its example bodies, nulls written out.
//!
//! Times are UTC as `YYYY-MM-DDTHH:MM:SSZ`, with fractions truncated; `…Local` values are the business's wall clock
//! without a `Z`, so they cannot be mistaken for UTC. `IsNew` is always false, and `LocalizationDetails` and
//! `CustomFields` are always null: only the platform's own pages use them.

use chrono::NaiveDateTime;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{listed_entity::settled_before, schema_parts::null};
use crate::base::{
    clock::WallTime,
    record::{Checkin, CoworkerCharge, FailedCheckin, join_macs},
};

/// The format of `…Local` values.
const LOCAL: &str = "%Y-%m-%dT%H:%M:%S";

/// A `Checkin` as `GET /api/spaces/checkins/{id}` returns it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Checkin)]
pub struct CheckinEntity<'a> {
    coworker_id: Option<i64>,
    coworker_full_name: Option<&'a str>,
    business_id: i64,
    business_name: Option<&'a str>,
    source: i64,
    #[schema(format = DateTime)]
    from_time: String,
    #[schema(format = DateTime)]
    to_time: Option<String>,
    counts_towards_plan_limits: bool,
    coworker_time_pass_guid: Option<Uuid>,
    auto_checkout: bool,
    #[schema(format = DateTime)]
    last_activity: Option<String>,
    mac_addresses: Option<String>,
    teams_at_the_time_of_checkin: Option<&'a str>,
    tariff_at_the_time_of_checkin: Option<&'a str>,
    validate_checkin_job_id: Option<&'a str>,
    from_time_local: Option<String>,
    to_time_local: Option<String>,
    #[serde(flatten)]
    common: Common<'a>,
}

impl<'a> From<&'a Checkin> for CheckinEntity<'a> {
    fn from(checkin: &'a Checkin) -> Self {
        // Destructured by name, so a new field that is missing in the body does not compile.
        let Checkin {
            id,
            unique_id,
            coworker_id,
            coworker_full_name,
            business_id,
            business_name,
            source,
            from_time,
            to_time,
            counts_towards_plan_limits,
            coworker_time_pass_guid,
            auto_checkout,
            last_activity,
            mac_addresses,
            teams_at_the_time_of_checkin,
            tariff_at_the_time_of_checkin,
            validate_checkin_job_id,
            from_time_local,
            to_time_local,
            created_on,
            updated_on,
            updated_by,
            system_id,
        } = checkin;
        Self {
            coworker_id: coworker_id.map(|id| id.0),
            coworker_full_name: coworker_full_name.as_deref(),
            business_id: business_id.0,
            business_name: business_name.as_deref(),
            source: source.number(),
            from_time: from_time.to_rfc3339_seconds(),
            to_time: to_time.map(WallTime::to_rfc3339_seconds),
            counts_towards_plan_limits: *counts_towards_plan_limits,
            coworker_time_pass_guid: *coworker_time_pass_guid,
            auto_checkout: *auto_checkout,
            last_activity: last_activity.map(WallTime::to_rfc3339_seconds),
            mac_addresses: join_macs(mac_addresses),
            teams_at_the_time_of_checkin: teams_at_the_time_of_checkin.as_deref(),
            tariff_at_the_time_of_checkin: tariff_at_the_time_of_checkin.as_deref(),
            validate_checkin_job_id: validate_checkin_job_id.as_deref(),
            from_time_local: from_time_local.map(local),
            to_time_local: to_time_local.map(local),
            common: Common {
                id: id.0,
                updated_on: updated_on.to_rfc3339_seconds(),
                created_on: created_on.to_rfc3339_seconds(),
                unique_id: *unique_id,
                updated_by,
                is_new: false,
                system_id: system_id.as_deref(),
                to_string_text: sentence("Checkin", coworker_full_name.as_deref(), business_name.as_deref()),
                localization_details: None,
                custom_fields: None,
            },
        }
    }
}

/// A `FailedCheckin` as `GET /api/spaces/failedcheckins/{id}` returns it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = FailedCheckin)]
pub struct FailedCheckinEntity<'a> {
    coworker_id: Option<i64>,
    coworker_full_name: Option<&'a str>,
    business_id: i64,
    business_name: Option<&'a str>,
    #[schema(format = DateTime)]
    checkin_attempt_time: String,
    source: i64,
    mac_addresses: Option<String>,
    teams_at_the_time_of_checkin: Option<&'a str>,
    tariff_at_the_time_of_checkin: Option<&'a str>,
    description: Option<&'a str>,
    checkin_attempt_time_local: Option<String>,
    #[serde(flatten)]
    common: Common<'a>,
}

impl<'a> From<&'a FailedCheckin> for FailedCheckinEntity<'a> {
    fn from(failed: &'a FailedCheckin) -> Self {
        // Destructured by name, so a new field that is missing in the body does not compile.
        let FailedCheckin {
            id,
            unique_id,
            coworker_id,
            coworker_full_name,
            business_id,
            business_name,
            checkin_attempt_time,
            source,
            mac_addresses,
            teams_at_the_time_of_checkin,
            tariff_at_the_time_of_checkin,
            description,
            checkin_attempt_time_local,
            created_on,
            updated_on,
            updated_by,
            system_id,
        } = failed;
        Self {
            coworker_id: coworker_id.map(|id| id.0),
            coworker_full_name: coworker_full_name.as_deref(),
            business_id: business_id.0,
            business_name: business_name.as_deref(),
            checkin_attempt_time: checkin_attempt_time.to_rfc3339_seconds(),
            source: source.number(),
            mac_addresses: join_macs(mac_addresses),
            teams_at_the_time_of_checkin: teams_at_the_time_of_checkin.as_deref(),
            tariff_at_the_time_of_checkin: tariff_at_the_time_of_checkin.as_deref(),
            description: description.as_deref(),
            checkin_attempt_time_local: checkin_attempt_time_local.map(local),
            common: Common {
                id: id.0,
                updated_on: updated_on.to_rfc3339_seconds(),
                created_on: created_on.to_rfc3339_seconds(),
                unique_id: *unique_id,
                updated_by,
                is_new: false,
                system_id: system_id.as_deref(),
                to_string_text: sentence("FailedCheckin", coworker_full_name.as_deref(), business_name.as_deref()),
                localization_details: None,
                custom_fields: None,
            },
        }
    }
}

/// A `CoworkerCharge`: what a visit without a pass costs. The shape is our own; the platform has none for it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = CoworkerCharge)]
pub struct ChargeEntity<'a> {
    id: i64,
    /// The `UniqueId` of the check-in.
    checkin: Uuid,
    coworker_id: i64,
    business_id: i64,
    time_pass_id: i64,
    #[schema(format = DateTime)]
    pass_day: String,
    #[schema(format = DateTime)]
    from_time: String,
    #[schema(format = DateTime)]
    to_time: Option<String>,
    minutes: i64,
    /// In minor units of the currency.
    amount: i64,
    /// The same without the minimum and maximum of the day.
    unbounded: i64,
    currency: &'a str,
    r#final: bool,
    settled: bool,
    /// The check-in no longer exists or costs nothing.
    withdrawn: bool,
    #[schema(format = DateTime)]
    created_on: String,
    #[schema(format = DateTime)]
    updated_on: String,
}

impl<'a> ChargeEntity<'a> {
    /// The charge as it stands now.
    pub(super) fn of(charge: &'a CoworkerCharge, now: WallTime) -> Self {
        Self {
            id: charge.id.0,
            checkin: charge.checkin,
            coworker_id: charge.coworker_id.0,
            business_id: charge.business_id.0,
            time_pass_id: charge.time_pass_id.0,
            pass_day: charge.pass_day.to_rfc3339_seconds(),
            from_time: charge.from_time.to_rfc3339_seconds(),
            to_time: charge.to_time.map(WallTime::to_rfc3339_seconds),
            minutes: charge.minutes,
            amount: charge.amount,
            unbounded: charge.unbounded,
            currency: &charge.currency,
            r#final: charge.to_time.is_some(),
            settled: charge.to_time.is_some_and(|to| to < settled_before(now)),
            withdrawn: charge.withdrawn,
            created_on: charge.created_on.to_rfc3339_seconds(),
            updated_on: charge.updated_on.to_rfc3339_seconds(),
        }
    }
}

/// The keys at the end of every entity.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = CommonKeys)]
pub(super) struct Common<'a> {
    id: i64,
    #[schema(format = DateTime)]
    updated_on: String,
    #[schema(format = DateTime)]
    created_on: String,
    unique_id: Uuid,
    updated_by: &'a str,
    is_new: bool,
    system_id: Option<&'a str>,
    to_string_text: String,
    #[schema(schema_with = null)]
    localization_details: Option<()>,
    #[schema(schema_with = null)]
    custom_fields: Option<()>,
}

/// `ToStringText`, the record in a few words: `Ada Lovelace at Hub One`. The entity's name replaces an unknown person,
/// and a record without a location ends there.
fn sentence(entity: &str, who: Option<&str>, place: Option<&str>) -> String {
    let who = who.unwrap_or(entity);
    place.map_or_else(|| who.to_owned(), |place| format!("{who} at {place}"))
}

fn local(at: NaiveDateTime) -> String {
    at.format(LOCAL).to_string()
}

#[cfg(test)]
mod tests {
    use super::sentence;

    #[test]
    fn a_record_is_described_in_a_few_words() {
        for (who, place, expected) in [
            (Some("Ada Lovelace"), Some("Hub One"), "Ada Lovelace at Hub One"),
            (Some("Ada Lovelace"), None, "Ada Lovelace"),
            (None, Some("Hub One"), "FailedCheckin at Hub One"),
            (None, None, "FailedCheckin"),
        ] {
            assert_eq!(sentence("FailedCheckin", who, place), expected);
        }
    }
}
