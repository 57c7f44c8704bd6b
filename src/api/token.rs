//! `POST /api/token`: exchanges a name and password, or a refresh token, for a pair of tokens (RFC 6749 4.3, 5, 6).

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState,
    auth::{RequestIdentity, accepted, refused, slowed},
    reply::{ErrorBody, Problem, json},
    sign_in::PasswordHolder,
    token_error::TokenError,
};
use crate::{
    access::{ACCESS_LIFETIME, TokenDigest, UserName, fresh_token},
    store::{Rotation, TokenPair},
};

/// The fields of the form. Others, such as the platform's `totp`, are ignored.
#[derive(Default)]
struct TokenForm {
    grant_type: Option<String>,
    username: Option<String>,
    password: Option<String>,
    refresh_token: Option<String>,
}

impl TokenForm {
    /// Reads a form, whatever its content type says; `None` if a field appears twice (RFC 6749 3.2).
    fn read(body: &[u8]) -> Option<Self> {
        let mut form = Self::default();
        for (name, value) in url::form_urlencoded::parse(body) {
            let field = match &*name {
                "grant_type" => &mut form.grant_type,
                "username" => &mut form.username,
                "password" => &mut form.password,
                "refresh_token" => &mut form.refresh_token,
                _ => continue,
            };
            if field.replace(value.into_owned()).is_some() {
                return None;
            }
        }
        Some(form)
    }
}

/// A pair of tokens.
#[derive(Serialize, ToSchema)]
#[schema(as = Tokens)]
pub(super) struct Granted<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    refresh_token: &'a str,
}

/// Why the request is refused: an OAuth error, or a problem that any request can have.
pub(super) enum GrantRefusal {
    OAuth(TokenError),
    Problem(Problem),
}

impl<P: Into<Problem>> From<P> for GrantRefusal {
    fn from(problem: P) -> Self {
        Self::Problem(problem.into())
    }
}

impl IntoResponse for GrantRefusal {
    fn into_response(self) -> Response {
        match self {
            Self::OAuth(error) => ErrorBody::of_token_error(error).into_response(),
            Self::Problem(problem) => problem.into_response(),
        }
    }
}

/// Issues a pair of tokens for a password or a refresh token.
pub(super) async fn grant(
    State(api): State<ApiState>,
    shown: RequestIdentity,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, GrantRefusal> {
    // Clients send forms under several content types, or none. JSON is an unknown grant type, as on the platform.
    if is_json(&headers) {
        return Err(GrantRefusal::OAuth(TokenError::UnsupportedGrantType));
    }
    let missing = GrantRefusal::OAuth(TokenError::InvalidRequest);
    let Some(asked) = TokenForm::read(&body) else { return Err(missing) };
    match asked.grant_type.as_deref().unwrap_or_default() {
        "password" => match (asked.username, asked.password) {
            (Some(name), Some(password)) => by_password(&api, &shown, &name, SecretString::from(password)).await,
            (None | Some(_), None) | (None, Some(_)) => Err(missing),
        },
        "refresh_token" => match asked.refresh_token {
            Some(token) => by_refresh_token(&api, &shown, &SecretString::from(token)).await,
            None => Err(missing),
        },
        _ => Err(GrantRefusal::OAuth(TokenError::UnsupportedGrantType)),
    }
}

async fn by_password(
    api: &ApiState,
    shown: &RequestIdentity,
    name: &str,
    password: SecretString,
) -> Result<Response, GrantRefusal> {
    let checked = api.guard.check_password(api, shown.caller, name, &password).await;
    let Some(PasswordHolder { user, stored, .. }) = checked.map_err(slowed(api, shown, "password"))? else {
        refused(api, shown, "password");
        return Err(GrantRefusal::OAuth(TokenError::InvalidGrant));
    };
    let fresh = FreshTokens::draw();
    if !api.store()?.put_tokens(&user.name, &stored, &fresh.digests(), api.clock.now().wall).await? {
        refused(api, shown, "password");
        return Err(GrantRefusal::OAuth(TokenError::InvalidGrant));
    }
    Ok(fresh.issue(api, shown, &user.name, "password"))
}

async fn by_refresh_token(
    api: &ApiState,
    shown: &RequestIdentity,
    token: &SecretString,
) -> Result<Response, GrantRefusal> {
    let fresh = FreshTokens::draw();
    let rotated = api.guard.rotate_tokens(api, shown.caller, token, &fresh.digests()).await;
    match rotated.map_err(slowed(api, shown, "refresh_token"))? {
        Rotation::Exchanged(name) => return Ok(fresh.issue(api, shown, &name, "refresh_token")),
        Rotation::Reused(name) => tracing::warn!(
            user = %name, peer = %shown,
            "a refresh token was used again; the tokens of its sign-in are revoked, because one of two clients has stolen it"
        ),
        Rotation::Unknown => {}
    }
    refused(api, shown, "refresh_token");
    Err(GrantRefusal::OAuth(TokenError::InvalidGrant))
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim().to_ascii_lowercase().starts_with("application/json")
}

/// A new pair of tokens. Only their digests are stored.
struct FreshTokens {
    access: SecretString,
    refresh: SecretString,
}

impl FreshTokens {
    fn draw() -> Self {
        Self { access: fresh_token(), refresh: fresh_token() }
    }

    fn digests(&self) -> TokenPair {
        TokenPair {
            access: TokenDigest::of(self.access.expose_secret()),
            refresh: TokenDigest::of(self.refresh.expose_secret()),
        }
    }

    fn issue(&self, api: &ApiState, shown: &RequestIdentity, name: &UserName, kind: &'static str) -> Response {
        accepted(api, shown, name, kind);
        let granted = Granted {
            access_token: self.access.expose_secret(),
            token_type: "bearer",
            expires_in: ACCESS_LIFETIME.as_secs(),
            refresh_token: self.refresh.expose_secret(),
        };
        json(StatusCode::OK, &granted)
    }
}
