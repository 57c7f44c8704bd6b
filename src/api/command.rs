//! The answers to commands: what was created, changed or deleted, or why it was not.
//!
//! Faults of the request itself are a [`RequestRefusal`](super::reply::RequestRefusal). What the rules of the site refuse
//! is answered with 200 and `WasSuccessful: false`: clients of the platform read the reason there.

use axum::{http::StatusCode, response::Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{fault::FieldFault, reply::json, schema_parts::null};
use crate::base::clock::WallTime;

/// What a command did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// `POST`.
    Created,
    /// `PUT`.
    Updated,
    /// `DELETE`.
    Deleted,
}

impl Deed {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
        }
    }
}

/// The record that a command was about, after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommandRecord<'a> {
    /// The platform's name of its entity.
    pub(super) entity: &'a str,
    pub(super) id: i64,
    pub(super) unique_id: Uuid,
    pub(super) updated_on: WallTime,
    /// The user.
    pub(super) updated_by: &'a str,
}

/// The platform's envelope, with its keys in the order of its documents.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = CommandAnswer)]
pub(super) struct CommandEnvelope<'a> {
    status: u16,
    message: &'a str,
    value: Option<CommandValue>,
    open_in_dialog: bool,
    open_in_window: bool,
    #[serde(rename = "RedirectURL")]
    #[schema(schema_with = null)]
    redirect_url: Option<()>,
    #[schema(schema_with = null)]
    java_script: Option<()>,
    #[schema(format = DateTime)]
    updated_on: Option<String>,
    updated_by: Option<&'a str>,
    #[schema(value_type = Option<Vec<FieldFault>>)]
    errors: Option<&'a [FieldFault]>,
    was_successful: bool,
}

/// What a command brought about.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum CommandValue {
    Record(RecordValue),
    Session(SessionValue),
}

/// What clients need to read the record.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RecordValue {
    id: i64,
    unique_id: Uuid,
}

/// How long the person at a kiosk may stay; nulls if no pass says.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SessionValue {
    session_expire: Option<String>,
    /// In seconds.
    session_time_out: Option<f64>,
}

/// The answer to a command that was carried out.
pub(super) fn done(deed: Deed, record: CommandRecord<'_>) -> Response {
    let CommandRecord { entity, id, unique_id, updated_on, updated_by } = record;
    answer(&CommandEnvelope {
        message: &format!("{entity} was successfully {}.", deed.word()),
        value: Some(CommandValue::Record(RecordValue { id, unique_id })),
        updated_on: Some(updated_on.to_rfc3339_seconds()),
        updated_by: Some(updated_by),
        was_successful: true,
        ..CommandEnvelope::empty()
    })
}

/// The answer to a kiosk: the person is in, until this time if a pass says so.
pub(super) fn session(until: Option<WallTime>, now: WallTime) -> Response {
    let expire = until.map(WallTime::to_rfc3339_seconds);
    let left = until.map(|until| until.since(now).as_secs_f64());
    kiosk_answer(expire.as_deref().unwrap_or("The coworker is in."), expire.clone(), left)
}

/// The answer to a kiosk: the person is out.
pub(super) fn session_over() -> Response {
    kiosk_answer("The coworker is out.", None, None)
}

fn kiosk_answer(message: &str, session_expire: Option<String>, session_time_out: Option<f64>) -> Response {
    let value = Some(CommandValue::Session(SessionValue { session_expire, session_time_out }));
    answer(&CommandEnvelope { message, value, was_successful: true, ..CommandEnvelope::empty() })
}

/// The answer to a command that the rules of the site refuse; the sentence says why.
pub(super) fn refused(sentence: &str) -> Response {
    answer(&CommandEnvelope { message: sentence, ..CommandEnvelope::empty() })
}

impl CommandEnvelope<'_> {
    const fn empty() -> Self {
        Self {
            status: 200,
            message: "",
            value: None,
            open_in_dialog: false,
            open_in_window: false,
            redirect_url: None,
            java_script: None,
            updated_on: None,
            updated_by: None,
            errors: None,
            was_successful: false,
        }
    }
}

fn answer(envelope: &CommandEnvelope<'_>) -> Response {
    json(StatusCode::OK, envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(envelope: &CommandEnvelope<'_>) -> String {
        serde_json::to_string(envelope).expect("plain data")
    }

    #[test]
    fn keys_come_in_the_order_of_the_platforms_documents() {
        let value = CommandValue::Record(RecordValue { id: 7, unique_id: Uuid::nil() });
        let envelope = CommandEnvelope { value: Some(value), was_successful: true, ..CommandEnvelope::empty() };
        let expected = r#"{"Status":200,"Message":"","Value":{"Id":7,"UniqueId":"00000000-0000-0000-0000-000000000000"},"OpenInDialog":false,"OpenInWindow":false,"RedirectURL":null,"JavaScript":null,"UpdatedOn":null,"UpdatedBy":null,"Errors":null,"WasSuccessful":true}"#;
        assert_eq!(text(&envelope), expected);
    }

    #[tokio::test]
    async fn a_command_that_was_carried_out_says_so() {
        let record = CommandRecord {
            entity: "Checkin",
            id: 7,
            unique_id: Uuid::nil(),
            updated_on: WallTime::from_millis(0),
            updated_by: "ada@example.com",
        };
        for (response, start) in [
            (done(Deed::Created, record), r#"{"Status":200,"Message":"Checkin was successfully created.","#),
            (done(Deed::Updated, record), r#"{"Status":200,"Message":"Checkin was successfully updated.","#),
            (done(Deed::Deleted, record), r#"{"Status":200,"Message":"Checkin was successfully deleted.","#),
            (refused("Ada has no pass."), r#"{"Status":200,"Message":"Ada has no pass.","Value":null,"#),
        ] {
            assert_eq!(response.status(), StatusCode::OK);
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.expect("a body");
            let body = String::from_utf8_lossy(&body).into_owned();
            assert!(body.starts_with(start), "{body}");
        }
    }
}
