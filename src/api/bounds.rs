//! What holds for every request: the rules of HTTP that hyper leaves to us, the size of the body, the time to answer.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::{HeaderMap, HeaderValue, Version, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{gate::Seat, reply::Problem};

/// The largest request body, in bytes. A record has about 1 KiB. Larger bodies are refused with 413.
const BODY: usize = 64 * 1024;

/// The longest time from a request's last header to its response, reading the body and the database included; then 503.
const REQUEST: Duration = Duration::from_secs(10);

/// The paths of monitoring.
const MONITORING: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// Applies the bounds to each request.
pub(super) async fn within_bounds(request: Request, next: Next) -> Response {
    let seat = request.extensions().get::<Arc<Seat>>().cloned();
    let answered = timeout(REQUEST, answer(request, next, seat.as_deref())).await;
    if let Some(seat) = seat {
        // It is up to the client to read the response and to send the next request.
        seat.waits();
    }
    match answered {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => refuse(problem),
        Err(_) => refuse(Problem::TooSlow),
    }
}

async fn answer(request: Request, next: Next, seat: Option<&Seat>) -> Result<Response, Problem> {
    check_host(request.version(), request.headers())?;
    if seat.is_some_and(Seat::is_for_monitoring) && !MONITORING.contains(&request.uri().path()) {
        return Err(Problem::NoPlace);
    }
    // Read the body here: a client that sends it slowly is the one that is waited for.
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    if let Some(seat) = seat {
        seat.works();
    }
    Ok(next.run(Request::from_parts(parts, Body::from(body))).await)
}

/// A refusal before the request is understood. The connection ends, because what follows on it may be anything.
fn refuse(problem: Problem) -> Response {
    let mut response = problem.into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn read(body: Body) -> Result<Bytes, Problem> {
    if body.size_hint().lower() > BODY as u64 {
        return Err(Problem::TooLarge);
    }
    let mut chunks = body.into_data_stream();
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::BadRequest("The request body is cut off or malformed."))?;
        if all.len() + chunk.len() > BODY {
            return Err(Problem::TooLarge);
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all.into())
}

/// RFC 9112 3.2: a request has one valid `Host`, except in HTTP/1.0, which did not know it.
fn check_host(version: Version, headers: &HeaderMap) -> Result<(), Problem> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if version == Version::HTTP_10 => Ok(()),
        (None, _) => Err(Problem::BadRequest("The request has no Host header.")),
        (Some(_), Some(_)) => Err(Problem::BadRequest("The request has more than one Host header.")),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), None) => Err(Problem::BadRequest("The Host header is not a host name or address.")),
    }
}

/// RFC 9110 7.2: a host with an optional port, or nothing.
fn is_host(host: &HeaderValue) -> bool {
    host.is_empty() || host.to_str().is_ok_and(|host| !host.contains('@') && host.parse::<Authority>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_one_valid_host() {
        for (version, hosts, is_good) in [
            (Version::HTTP_11, &["example.com"][..], true),
            (Version::HTTP_11, &["example.com:8080"], true),
            (Version::HTTP_11, &["[::1]:8080"], true),
            (Version::HTTP_11, &["127.0.0.1"], true),
            (Version::HTTP_11, &[""], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_11, &["a", "a"], false),
            (Version::HTTP_10, &["a", "a"], false),
            (Version::HTTP_11, &["a, b"], false),
            (Version::HTTP_11, &["user@example.com"], false),
            (Version::HTTP_11, &["example.com/path"], false),
        ] {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_str(host).expect("a header"));
            }
            assert_eq!(check_host(version, &headers).is_ok(), is_good, "{version:?} {hosts:?}");
        }
    }
}
