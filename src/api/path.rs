//! Paths as clients write them. The platform ignores case and a slash at the end, so clients send both; a redirect would
//! lose the body of a form.

use axum::{
    extract::Request,
    http::uri::{PathAndQuery, Uri},
};

/// The request with its path as the routes spell it: in lower case, without a slash at the end.
pub(super) async fn as_served(mut request: Request) -> Request {
    if let Some(uri) = spelled(request.uri()) {
        *request.uri_mut() = uri;
    }
    request
}

/// The address with another path, if its path is spelled differently.
fn spelled(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    let wanted = if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_ascii_lowercase() };
    if wanted == path {
        return None;
    }
    let whole = match uri.query() {
        Some(query) => format!("{wanted}?{query}"),
        None => wanted,
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(whole).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_a_slash_at_the_end_make_no_difference() {
        for (path, expected) in [
            ("/api/Spaces/Checkins/1", Some("/api/spaces/checkins/1")),
            ("/api/spaces/checkins/?id=[1,2]", Some("/api/spaces/checkins?id=[1,2]")),
            ("/API/Token/?A=B", Some("/api/token?A=B")),
            ("/api/spaces/checkins///", Some("/api/spaces/checkins")),
            ("//", Some("/")),
            ("/", None),
            ("/api/spaces/checkins?Checkin_Coworker=7", None),
            ("/api/token", None),
        ] {
            let uri: Uri = path.parse().expect("an address");
            assert_eq!(spelled(&uri).map(|uri| uri.to_string()).as_deref(), expected, "{path}");
        }
    }
}
