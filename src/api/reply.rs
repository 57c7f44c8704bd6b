//! Responses: JSON with its charset, and problems in the platform's envelope.

use std::time::Duration;

use axum::{
    Extension,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    fault::{self, FieldFault},
    request_id::RequestId,
    schema_parts::null,
    token_error::TokenError,
};
use crate::{access::Role, store::StoreError};

/// The content type of every response but metrics.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

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
    /// The settings do not allow this; says which key does.
    SwitchedOff(&'static str),
    /// The database does not answer.
    Unavailable,
    /// No pipeline decides here now: the site has not started, another gateway has the lease, or there is no `[site]`.
    DecidesNothing,
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
/// reads `Message` after a failed command can read it here too. Then come our `RequestId` and, for a refused token request,
/// the keys of RFC 6749 5.2.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
#[schema(as = Error)]
pub(super) struct Envelope<'a> {
    status: u16,
    message: &'a str,
    #[schema(schema_with = null)]
    value: Option<()>,
    #[schema(value_type = Option<Vec<FieldFault>>)]
    errors: Option<&'a [FieldFault]>,
    was_successful: bool,
    request_id: &'a str,
    #[serde(flatten)]
    #[schema(ignore)]
    oauth: Option<OAuthKeys>,
}

/// What RFC 6749 5.2 asks for.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = TokenRefusal)]
pub(super) struct OAuthKeys {
    error: TokenError,
    error_description: &'static str,
}

/// What a failed request says. It travels beside the response until the request's id is added
/// ([`every_answer`](super::every_answer)), so there is one form of all errors.
#[derive(Clone, Debug)]
pub(super) struct ErrorBody {
    status: StatusCode,
    message: String,
    errors: Option<Vec<FieldFault>>,
    oauth: Option<OAuthKeys>,
}

impl ErrorBody {
    fn new(status: StatusCode, message: String) -> Self {
        Self { status, message, errors: None, oauth: None }
    }

    /// What a failed request says whose handler says nothing.
    pub(super) fn of(status: StatusCode) -> Self {
        let reason = status.canonical_reason().unwrap_or("unknown reason");
        Self::new(status, format!("The request cannot be answered: {reason}."))
    }

    /// What a refused token request says.
    pub(super) fn of_token_error(error: TokenError) -> Self {
        let description = error.sentence();
        let oauth = Some(OAuthKeys { error, error_description: description });
        Self { oauth, ..Self::new(StatusCode::BAD_REQUEST, description.to_owned()) }
    }

    /// The JSON, with the id of the request.
    pub(super) fn json(&self, id: &RequestId) -> String {
        let envelope = Envelope {
            status: self.status.as_u16(),
            message: &self.message,
            value: None,
            errors: self.errors.as_deref(),
            was_successful: false,
            request_id: id.as_str(),
            oauth: self.oauth,
        };
        serde_json::to_string(&envelope).expect("bodies are plain data")
    }
}

impl IntoResponse for ErrorBody {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, JSON)], Extension(self)).into_response()
    }
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
                let body = ErrorBody::new(StatusCode::BAD_REQUEST, fault::sentence(&faults));
                ErrorBody { errors: Some(faults), ..body }.into_response()
            }
        }
    }
}

impl Problem {
    /// The response as it is sent, for a connection whose request is not read.
    pub(super) fn as_whole_response(self) -> String {
        let (status, id) = (self.status(), RequestId::fresh());
        let body = ErrorBody::new(status, self.message()).json(&id);
        let (length, id) = (body.len(), id.as_str());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json; charset=utf-8\r\nretry-after: 5\r\n\
             cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: {id}\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NoSuchPath | Self::NoSuchRecord(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoCredentials | Self::BadCredentials => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::SwitchedOff(_) => StatusCode::FORBIDDEN,
            Self::Unavailable | Self::DecidesNothing | Self::Busy | Self::NoPlace | Self::Crowded | Self::TooSlow => {
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
            Self::DecidesNothing => {
                "No check-ins are decided here now: send the change to the gateway of the business, or try again later."
                    .to_owned()
            }
            Self::Busy => "Too many sign-ins at the same time; try again later.".to_owned(),
            Self::Throttled(wait) => match whole_seconds(wait) {
                1 => "Too many failed sign-ins. Wait 1 second.".to_owned(),
                seconds => format!("Too many failed sign-ins. Wait {seconds} seconds."),
            },
            Self::BadRequest(how) | Self::SwitchedOff(how) => how.to_owned(),
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
            | Self::DecidesNothing
            | Self::Busy
            | Self::Throttled(_)
            | Self::BadRequest(_)
            | Self::SwitchedOff(_)
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
        let mut response = ErrorBody::new(status, self.message()).into_response();
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
