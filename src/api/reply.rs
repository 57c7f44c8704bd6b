//! Responses: JSON with its charset, and problems in the platform's envelope.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::fault::{self, FieldFault};
use crate::{access::Role, store::StoreError};

/// The content type of every response but metrics.
const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// `Retry-After` in seconds: a database needs about this long to restart.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// A response with a JSON body.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    json_body(status, json_bytes(body).into())
}

/// A response whose body is JSON already.
pub(super) fn json_body(status: StatusCode, body: Body) -> Response {
    (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
}

/// A JSON body.
pub(super) fn json_bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("bodies are plain data")
}

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The path does not exist.
    NoSuchPath,
    /// The path exists, but this entity has no record with the id.
    NoSuchRecord(&'static str),
    /// The path does not support this method.
    MethodNotAllowed,
    /// The body is larger than the API accepts.
    TooLarge,
    /// No `Authorization` header.
    NoCredentials,
    /// A credential that is wrong, unknown, revoked or expired; the caller does not learn which.
    BadCredentials,
    /// A valid credential of a user without this role.
    Forbidden(Role),
    /// The database does not answer.
    Unavailable,
    /// Too many passwords are being checked.
    Busy,
    /// Too many failed sign-ins; the next one must wait this long.
    Throttled(Duration),
    /// The request breaks the rules of HTTP; says how.
    BadRequest(&'static str),
    /// All places for connections are taken. The rest are for the paths of monitoring.
    NoPlace,
    /// Too many large answers are being sent.
    Crowded,
    /// The request took too long.
    TooSlow,
    /// A fault that a retry will not fix.
    Broken,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) | StoreError::Refused { .. } | StoreError::Conflict => {
                tracing::debug!(%error, "the database did not answer an API request");
                Self::Unavailable
            }
            StoreError::Unfit(_) | StoreError::Unusable { .. } => {
                tracing::error!(%error, "an API request cannot be answered from this database");
                Self::Broken
            }
        }
    }
}

/// The platform's command envelope for errors (`Status`, `Message`, `Value`, `Errors`, `WasSuccessful`): a client that
/// reads `Message` after a failed command can read it here too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope<'a> {
    status: u16,
    message: &'a str,
    value: Option<()>,
    errors: Option<&'a [FieldFault]>,
    was_successful: bool,
}

/// Why a request is refused: for what it says, or for a problem that any request can have.
pub(super) enum RequestRefusal {
    Faults(Vec<FieldFault>),
    Problem(Problem),
}

impl From<Vec<FieldFault>> for RequestRefusal {
    fn from(faults: Vec<FieldFault>) -> Self {
        Self::Faults(faults)
    }
}

impl From<Problem> for RequestRefusal {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<StoreError> for RequestRefusal {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

impl IntoResponse for RequestRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(problem) => problem.into_response(),
            Self::Faults(faults) => {
                let (status, message) = (StatusCode::BAD_REQUEST, fault::sentence(&faults));
                let envelope = Envelope {
                    status: status.as_u16(),
                    message: &message,
                    value: None,
                    errors: Some(&faults),
                    was_successful: false,
                };
                json(status, &envelope)
            }
        }
    }
}

impl Problem {
    /// The response as it is sent, for a connection whose request is not read.
    pub(super) fn as_whole_response(self) -> String {
        let body = serde_json::to_string(&self.envelope(&self.message())).expect("bodies are plain data");
        let (status, length) = (self.status(), body.len());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\nretry-after: 5\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    fn envelope(self, message: &str) -> Envelope<'_> {
        Envelope { status: self.status().as_u16(), message, value: None, errors: None, was_successful: false }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoSuchPath | Self::NoSuchRecord(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoCredentials | Self::BadCredentials => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::Unavailable | Self::Busy | Self::NoPlace | Self::Crowded | Self::TooSlow => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Broken => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn message(self) -> String {
        match self {
            Self::NoSuchPath => "This path does not exist.".to_owned(),
            Self::NoSuchRecord(entity) => format!("There is no {entity} with this id."),
            Self::MethodNotAllowed => "This path does not support this method.".to_owned(),
            Self::TooLarge => "The request body is too large.".to_owned(),
            Self::NoCredentials => "Sign in: the request has no bearer token and no user name.".to_owned(),
            Self::BadCredentials => "The bearer token or the password is wrong or has expired.".to_owned(),
            Self::Forbidden(role) => format!("This user is not an administrator and lacks the role {role}."),
            Self::Unavailable => "The database is not available; try again later.".to_owned(),
            Self::Busy => "Too many sign-ins at the same time; try again later.".to_owned(),
            Self::Throttled(wait) => match whole_seconds(wait) {
                1 => "Too many failed sign-ins. Wait 1 second.".to_owned(),
                seconds => format!("Too many failed sign-ins. Wait {seconds} seconds."),
            },
            Self::BadRequest(how) => how.to_owned(),
            Self::NoPlace => "Every connection is in use; try again later.".to_owned(),
            Self::Crowded => {
                "Too many large lists at the same time; try again later, or ask for a smaller size.".to_owned()
            }
            Self::TooSlow => "The request took too long; try again later.".to_owned(),
            Self::Broken => "The request cannot be answered; see the daemon's log.".to_owned(),
        }
    }

    /// The `WWW-Authenticate` values (RFC 6750 3, RFC 7617 2). A request without credentials gets no error code.
    fn challenges(self) -> Vec<String> {
        let basic = "Basic realm=\"checkind\", charset=\"UTF-8\"".to_owned();
        match self {
            Self::NoCredentials => vec!["Bearer realm=\"checkind\"".to_owned(), basic],
            Self::BadCredentials => vec!["Bearer realm=\"checkind\", error=\"invalid_token\"".to_owned(), basic],
            Self::Forbidden(role) => {
                vec![format!("Bearer realm=\"checkind\", error=\"insufficient_scope\", scope=\"{role}\"")]
            }
            Self::NoSuchPath
            | Self::NoSuchRecord(_)
            | Self::MethodNotAllowed
            | Self::TooLarge
            | Self::Unavailable
            | Self::Busy
            | Self::Throttled(_)
            | Self::BadRequest(_)
            | Self::NoPlace
            | Self::Crowded
            | Self::TooSlow
            | Self::Broken => Vec::new(),
        }
    }
}

/// Rounded up: a client that waits this long does not come too early.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = json(status, &self.envelope(&self.message()));
        for challenge in self.challenges() {
            let value = HeaderValue::from_str(&challenge).expect("role names are visible ASCII");
            response.headers_mut().append(header::WWW_AUTHENTICATE, value);
        }
        if let Self::Throttled(wait) = self {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}
