//! What every answer has, whichever part gives it: the id of its request, the common headers, and one form of errors.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};
use tracing::Instrument as _;

use super::{
    reply::{ErrorBody, JSON},
    request_id::{REQUEST_ID, RequestId},
};

/// The longest path in the log, in characters.
const PATH: usize = 100;

/// Completes each answer. Lines of the log about the request name its id.
pub(super) async fn completed(request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    // Enabled at every level: a line about the request has its id whatever the log leaves out.
    let span = tracing::error_span!("request", id = id.as_str());
    async {
        let (method, path) = (request.method().clone(), request.uri().path().chars().take(PATH).collect::<String>());
        let mut response = next.run(request).await;
        if let Some(body) = failure(&response) {
            let status = response.status();
            if status.is_server_error() {
                tracing::info!(%method, path, status = status.as_u16(), "an API request failed");
            } else {
                tracing::debug!(%method, path, status = status.as_u16(), "an API request failed");
            }
            let headers = response.headers_mut();
            headers.remove(header::CONTENT_LENGTH);
            headers.insert(header::CONTENT_TYPE, JSON);
            *response.body_mut() = Body::from(body.json(&id));
        }
        let headers = response.headers_mut();
        headers.insert(REQUEST_ID, id.header());
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
    .instrument(span)
    .await
}

/// What a failed request says. One that no handler of ours refused is a refusal of the HTTP library, whose bodies are
/// bare text. What `/readyz` answers is no failure.
fn failure(response: &Response) -> Option<ErrorBody> {
    let said = response.extensions().get::<ErrorBody>();
    said.cloned().or_else(|| is_bare(response).then(|| ErrorBody::of(response.status())))
}

fn is_bare(response: &Response) -> bool {
    let status = response.status();
    let is_failed = status.is_client_error() || status.is_server_error();
    let kind = response.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    is_failed && !kind.is_some_and(|kind| kind.starts_with(b"application/json"))
}
