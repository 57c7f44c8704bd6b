//! What requests are answered with: every status, with its body and its headers.

use axum::http::StatusCode;
use utoipa::openapi::{
    Content, HeaderBuilder, Ref, RefOr, Response, ResponseBuilder, Responses, ResponsesBuilder, Schema, header::Header,
    schema::Type,
};

use super::super::schema_parts::{of_type, reference};

const JSON: &str = "application/json";

/// Who may send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    Anyone,
    /// Any user.
    User,
    /// A user with a role, or an administrator.
    Permitted,
}

/// The failures that have the common form of errors, each with what it means and the headers that it adds.
const FAILURES: [(StatusCode, &str, &[&str]); 8] = [
    (StatusCode::BAD_REQUEST, "The request cannot be understood; `Errors` says what is wrong with each field.", &[]),
    (
        StatusCode::UNAUTHORIZED,
        "There is no bearer token and no password, or they are wrong or have expired.",
        &["WWW-Authenticate"],
    ),
    (StatusCode::FORBIDDEN, "The user lacks the role that the challenge names.", &["WWW-Authenticate"]),
    (StatusCode::NOT_FOUND, "There is no such record that the user may see.", &[]),
    (StatusCode::PAYLOAD_TOO_LARGE, "The body is larger than 64 KiB.", &[]),
    (StatusCode::TOO_MANY_REQUESTS, "Too many failed sign-ins.", &["Retry-After"]),
    (StatusCode::INTERNAL_SERVER_ERROR, "The request cannot be answered; the daemon's log says why.", &[]),
    (
        StatusCode::SERVICE_UNAVAILABLE,
        "The database, a place for the connection or the part that decides is not available now.",
        &["Retry-After"],
    ),
];

/// What the HTTP library refuses before it knows the request: there is no body and no id.
const BARE: [(StatusCode, &str); 2] = [
    (StatusCode::URI_TOO_LONG, "The path with its query is longer than 65,534 bytes."),
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too many or too large."),
];

/// The failures as components.
pub(super) fn components() -> Vec<(String, Response)> {
    let failures = FAILURES.map(|(status, description, headers)| {
        let answer = answer(description, JSON, reference("Error"));
        let answer = headers.iter().fold(answer, |answer, name| answer.header_ref(*name, header_reference(name)));
        (name_of(status), answer.build())
    });
    let bare =
        BARE.map(|(status, description)| (name_of(status), ResponseBuilder::new().description(description).build()));
    failures.into_iter().chain(bare).collect()
}

/// The headers as components.
pub(super) fn headers() -> [(&'static str, Header); 4] {
    let text = |description: &str| {
        HeaderBuilder::new().schema(Some(of_type(Type::String))).description(Some(description)).build()
    };
    let seconds = of_type(Type::Integer).minimum(Some(1));
    [
        ("X-Request-Id", text("The id of the request: that of the client, or a new one.")),
        ("X-Ignored-Parameters", text("The names of parameters and keys that mean nothing here, separated by commas.")),
        ("WWW-Authenticate", text("How to sign in (RFC 6750, RFC 7617).")),
        (
            "Retry-After",
            HeaderBuilder::new()
                .schema(Some(seconds))
                .description(Some("Seconds to wait before the next try."))
                .build(),
        ),
    ]
}

pub(super) fn header_reference(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// An answer with a body.
pub(super) fn answer(description: &str, kind: &str, schema: RefOr<Schema>) -> ResponseBuilder {
    let answer = ResponseBuilder::new().description(description).content(kind, Content::new(Some(schema)));
    answer.header_ref("X-Request-Id", header_reference("X-Request-Id"))
}

/// An answer with JSON.
pub(super) fn json(description: &str, schema: RefOr<Schema>) -> ResponseBuilder {
    answer(description, JSON, schema)
}

/// The same, for requests whose parameters or keys may mean nothing.
pub(super) fn with_ignored(answer: ResponseBuilder) -> ResponseBuilder {
    answer.header_ref("X-Ignored-Parameters", header_reference("X-Ignored-Parameters"))
}

/// All answers to a request: the one when it succeeds, and the failures that it can have. `more` are those that depend
/// on what it asks for.
pub(super) fn all(success: Response, caller: Audience, more: &[StatusCode]) -> Responses {
    let callers: &[StatusCode] = match caller {
        Audience::Anyone => &[],
        Audience::User => &[StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR],
        Audience::Permitted => &[
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::INTERNAL_SERVER_ERROR,
        ],
    };
    let any = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYLOAD_TOO_LARGE,
        StatusCode::URI_TOO_LONG,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        StatusCode::SERVICE_UNAVAILABLE,
    ];
    let failures = callers.iter().chain(more).chain(&any);
    let all = ResponsesBuilder::new().response(StatusCode::OK.as_str(), success);
    failures.fold(all, |all, status| all.response(status.as_str(), Ref::from_response_name(name_of(*status)))).build()
}

/// The name of a failure in the components: `NotFound`.
fn name_of(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or(status.as_str()).replace(' ', "")
}
