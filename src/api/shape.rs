//! PURE. Records in the platform's JSON: every key, in the order of its example bodies, nulls written out.
//!
//! Times are UTC as `YYYY-MM-DDTHH:MM:SSZ`, fractions cut; `…Local` values are the business's wall clock without a
//! `Z`, so that nobody mistakes them for UTC. `IsNew` is false and `LocalizationDetails` and `CustomFields` are null:
//! they belong to the platform's own pages.

use chrono::NaiveDateTime;
use serde::Serialize;
use uuid::Uuid;

use crate::base::{
    clock::WallTime,
    record::{Checkin, FailedCheckin, join_macs},
};

/// How `…Local` values are written.
const LOCAL: &str = "%Y-%m-%dT%H:%M:%S";

/// A `Checkin` as `GET /api/spaces/checkins/{id}` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckinEntity<'a> {
    coworker_id: Option<i64>,
    coworker_full_name: Option<&'a str>,
    business_id: i64,
    business_name: Option<&'a str>,
    source: i64,
    from_time: String,
    to_time: Option<String>,
    counts_towards_plan_limits: bool,
    coworker_time_pass_guid: Option<Uuid>,
    auto_checkout: bool,
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
        Self {
            coworker_id: checkin.coworker.map(|id| id.0),
            coworker_full_name: checkin.then.full_name.as_deref(),
            business_id: checkin.business.0,
            business_name: checkin.business_name.as_deref(),
            source: checkin.source.number(),
            from_time: checkin.from.to_rfc3339_seconds(),
            to_time: checkin.to.map(WallTime::to_rfc3339_seconds),
            counts_towards_plan_limits: checkin.counts_towards_plan_limits,
            coworker_time_pass_guid: checkin.coworker_time_pass,
            auto_checkout: checkin.auto_checkout,
            last_activity: checkin.last_activity.map(WallTime::to_rfc3339_seconds),
            mac_addresses: join_macs(&checkin.macs),
            teams_at_the_time_of_checkin: checkin.then.teams.as_deref(),
            tariff_at_the_time_of_checkin: checkin.then.tariff.as_deref(),
            validate_checkin_job_id: checkin.validate_checkin_job.as_deref(),
            from_time_local: checkin.from_local.map(local),
            to_time_local: checkin.to_local.map(local),
            common: Common {
                id: checkin.id.0,
                updated_on: checkin.updated_on.to_rfc3339_seconds(),
                created_on: checkin.created_on.to_rfc3339_seconds(),
                unique_id: checkin.unique_id,
                updated_by: &checkin.updated_by,
                is_new: false,
                system_id: checkin.system_id.as_deref(),
                to_string_text: sentence(
                    "Checkin",
                    checkin.then.full_name.as_deref(),
                    checkin.business_name.as_deref(),
                ),
                localization_details: None,
                custom_fields: None,
            },
        }
    }
}

/// A `FailedCheckin` as `GET /api/spaces/failedcheckins/{id}` answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FailedCheckinEntity<'a> {
    coworker_id: Option<i64>,
    coworker_full_name: Option<&'a str>,
    business_id: i64,
    business_name: Option<&'a str>,
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
        Self {
            coworker_id: failed.coworker.map(|id| id.0),
            coworker_full_name: failed.then.full_name.as_deref(),
            business_id: failed.business.0,
            business_name: failed.business_name.as_deref(),
            checkin_attempt_time: failed.attempt_at.to_rfc3339_seconds(),
            source: failed.source.number(),
            mac_addresses: join_macs(&failed.macs),
            teams_at_the_time_of_checkin: failed.then.teams.as_deref(),
            tariff_at_the_time_of_checkin: failed.then.tariff.as_deref(),
            description: failed.description.as_deref(),
            checkin_attempt_time_local: failed.attempt_local.map(local),
            common: Common {
                id: failed.id.0,
                updated_on: failed.updated_on.to_rfc3339_seconds(),
                created_on: failed.created_on.to_rfc3339_seconds(),
                unique_id: failed.unique_id,
                updated_by: &failed.updated_by,
                is_new: false,
                system_id: failed.system_id.as_deref(),
                to_string_text: sentence(
                    "FailedCheckin",
                    failed.then.full_name.as_deref(),
                    failed.business_name.as_deref(),
                ),
                localization_details: None,
                custom_fields: None,
            },
        }
    }
}

/// The keys that every entity ends with.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Common<'a> {
    id: i64,
    updated_on: String,
    created_on: String,
    unique_id: Uuid,
    updated_by: &'a str,
    is_new: bool,
    system_id: Option<&'a str>,
    to_string_text: String,
    localization_details: Option<()>,
    custom_fields: Option<()>,
}

/// `ToStringText`, the record in a few words: `Ada Lovelace at Hub One`. The entity's name stands in for a person whom
/// nobody knows, and the place is left out when the record has none.
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
    fn a_record_says_in_a_few_words_what_it_is() {
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
