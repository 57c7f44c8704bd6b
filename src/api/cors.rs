//! Which web pages may call the API from a browser (CORS, the Fetch standard 3.3). By default none may.
//!
//! Pages of the listed origins may; a page sends its token itself, so credentials that the browser keeps are not asked for.
//! A preflight of a listed origin is answered here, without a user; any other `OPTIONS` request is like every request.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use crate::settings::WebOrigin;

/// The methods that a page may use.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PUT, DELETE");

/// The headers that a page may send, beside those that need no permission.
const SENT: HeaderValue = HeaderValue::from_static("authorization, content-type, x-request-id");

/// The headers of an answer that a page may read, beside those that need no permission.
const READ: HeaderValue = HeaderValue::from_static("x-request-id, x-ignored-parameters, retry-after, www-authenticate");

/// How long a browser may remember the answer to a preflight, in seconds: an origin that is removed is out soon.
const REMEMBERED: HeaderValue = HeaderValue::from_static("600");

/// The origins whose pages may call the API; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct AllowedOrigins(Arc<[HeaderValue]>);

impl AllowedOrigins {
    pub(super) fn of(origins: &[WebOrigin]) -> Self {
        let value = |origin: &WebOrigin| HeaderValue::from_str(origin.as_str()).expect("an origin is visible ASCII");
        Self(origins.iter().map(value).collect())
    }

    /// The origin of the page that sent the request, if it is listed.
    fn listed(&self, headers: &HeaderMap) -> Option<&HeaderValue> {
        let mut sent = headers.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (sent.next(), sent.next()) else { return None };
        self.0.iter().find(|known| *known == origin)
    }
}

/// Answers a preflight of a listed origin, and lets its pages read the answers.
pub(super) async fn across_origins(State(allowed): State<AllowedOrigins>, request: Request, next: Next) -> Response {
    let listed = allowed.listed(request.headers()).cloned();
    let is_preflight =
        request.method() == Method::OPTIONS && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = match &listed {
        Some(_) if is_preflight => preflight(),
        Some(_) | None => next.run(request).await,
    };
    let headers = response.headers_mut();
    if !allowed.0.is_empty() {
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    if let Some(origin) = listed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, READ);
    }
    response
}

fn preflight() -> Response {
    let allowed = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, SENT),
        (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
    ];
    (StatusCode::NO_CONTENT, allowed).into_response()
}
