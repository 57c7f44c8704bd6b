//! PURE. Why no tokens are issued, in the words of RFC 6749.

use serde::Serialize;
use utoipa::ToSchema;

/// Why no tokens are issued: the error codes of RFC 6749 5.2 that can occur here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TokenError {
    InvalidRequest,
    InvalidGrant,
    UnsupportedGrantType,
}

impl TokenError {
    /// What to tell the client.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::InvalidRequest => "a field that this grant needs is missing or appears twice",
            Self::InvalidGrant => "the user name, the password or the refresh token is not valid",
            Self::UnsupportedGrantType => "send a form with grant_type=password or grant_type=refresh_token",
        }
    }
}
