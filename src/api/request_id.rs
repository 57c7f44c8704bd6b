//! The id of a request: it joins an answer, the lines of the log about it, and the client's own log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::base::random;

/// Where clients send it, and every answer has it.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a client that is kept, in bytes: three times a UUID. A longer one is replaced by ours, because each
/// line of the log repeats it.
const LONGEST: usize = 128;

/// The id of a request: visible ASCII.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequestId(HeaderValue);

impl RequestId {
    /// A new one.
    pub(super) fn fresh() -> Self {
        let id = random::uuid().to_string();
        Self(HeaderValue::from_str(&id).expect("a UUID is visible ASCII"))
    }

    /// The client's, if it sent a sane one; else a new one.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let mut sent = headers.get_all(REQUEST_ID).iter();
        match (sent.next(), sent.next()) {
            (Some(id), None) if is_sane(id) => Self(id.clone()),
            (Some(_) | None, _) => Self::fresh(),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.to_str().expect("visible ASCII")
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

fn is_sane(id: &HeaderValue) -> bool {
    (1..=LONGEST).contains(&id.len()) && id.as_bytes().iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sane_id_of_the_client_is_kept_and_any_other_is_replaced() {
        for (sent, is_kept) in [
            (&["r-1"][..], true),
            (&["{\"a\":1}"], true),
            (&[&"x".repeat(128)], true),
            (&[&"x".repeat(129)], false),
            (&[""], false),
            (&["two words"], false),
            (&["tab\there"], false),
            (&["ä"], false),
            (&["a", "b"], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for id in sent {
                headers.append(REQUEST_ID, HeaderValue::from_bytes(id.as_bytes()).expect("a header"));
            }
            let id = RequestId::of(&headers);
            assert_eq!(sent.first() == Some(&id.as_str()), is_kept, "{sent:?}");
            assert!(is_sane(&id.header()));
        }
        assert_ne!(RequestId::fresh(), RequestId::fresh());
    }
}
