//! Authentication and authorisation. Bearer tokens and HTTP Basic are checked against the database at every request, so
//! a removed user, a new password or changed rights take effect with the next request.

use std::{
    convert::Infallible,
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    Extension,
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;

use super::{ApiState, Peer, address::Caller, jwt, reply::Problem, sign_in::PasswordHolder};
use crate::{
    access::{BearerToken, Role, SignedIn, TokenName, User, UserName},
    metrics::SignIn,
};

/// Who sent a request, as far as the request shows it.
#[derive(Debug)]
pub(super) struct RequestIdentity {
    credential: HttpCredential,
    pub(super) caller: Caller,
}

/// The parsed `Authorization` header. Its `Debug` shows no secret.
#[derive(Debug)]
enum HttpCredential {
    None,
    /// The token's digest; `None` if no token of ours looks like this.
    Bearer(Option<BearerToken>),
    /// A token of an identity provider.
    Jwt(SecretString),
    /// The user name and the password.
    Basic {
        name: String,
        password: SecretString,
    },
    /// Another scheme, several headers, or a malformed one.
    Unreadable,
}

impl FromRequestParts<ApiState> for RequestIdentity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Infallible> {
        let credential = credential(&parts.headers);
        // Without a peer (a test without a socket) the request comes from this machine.
        let peer = Extension::<Peer>::from_request_parts(parts, api).await.ok();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |Extension(Peer(address))| address);
        let forwarded_for = parts.headers.get_all("x-forwarded-for").iter().next_back();
        let caller = Caller::of(peer, forwarded_for.and_then(|list| list.to_str().ok()));
        Ok(Self { credential, caller })
    }
}

/// Returns the user who sent the request, if they have the role or are an administrator.
pub(super) async fn require(api: &ApiState, shown: &RequestIdentity, role: Role) -> Result<SignedIn, Problem> {
    let user = identify(api, shown).await?;
    if user.rights.allow(role) {
        return Ok(user);
    }
    tracing::warn!(user = %user.name, peer = %shown, %role, "API access refused: the user lacks the role");
    Err(Problem::Forbidden(role))
}

/// Returns the user whose credential the request carries.
pub(super) async fn identify(api: &ApiState, shown: &RequestIdentity) -> Result<SignedIn, Problem> {
    let user = match &shown.credential {
        HttpCredential::None => return Err(Problem::NoCredentials),
        // Not throttled: 256 random bits cannot be guessed, and a wait would hit the valid tokens of the same address.
        HttpCredential::Bearer(Some(token)) => bearer(api, token).await?,
        HttpCredential::Jwt(token) => match &api.jwt {
            Some(jwt) => jwt.signed_in(token).await,
            None => None,
        },
        HttpCredential::Unreadable | HttpCredential::Bearer(None) => None,
        HttpCredential::Basic { name, password } => basic(api, shown, name, password).await?.map(SignedIn::from),
    };
    match user {
        Some(user) => {
            let token = user.token.as_ref().map(TokenName::as_str);
            tracing::debug!(user = %user.name, token, peer = %shown, "API request accepted");
            Ok(user)
        }
        None => {
            refused(api, shown, shown.credential.kind());
            Err(Problem::BadCredentials)
        }
    }
}

/// Logs and counts a refused credential. The log names no user: the user name field may contain a mistyped password.
pub(super) fn refused(api: &ApiState, shown: &RequestIdentity, kind: &'static str) {
    api.metrics.signed_in(SignIn::Refused);
    tracing::warn!(peer = %shown, kind, "API credential refused");
}

/// Logs and counts an accepted password or refresh token. The log names the user: API users are integrations and staff,
/// not members, and an audit needs to know who signed in (OWASP ASVS 5.0, 16.3.1).
pub(super) fn accepted(api: &ApiState, shown: &RequestIdentity, name: &UserName, kind: &'static str) {
    api.metrics.signed_in(SignIn::Accepted);
    tracing::info!(user = %name, peer = %shown, kind, "API user signed in");
}

/// Logs and counts a sign-in that must wait, and passes other problems on.
pub(super) fn slowed(api: &ApiState, shown: &RequestIdentity, kind: &'static str) -> impl Fn(Problem) -> Problem {
    move |problem| {
        if let Problem::Throttled(wait) = problem {
            api.metrics.signed_in(SignIn::Throttled);
            tracing::warn!(peer = %shown, kind, seconds = wait.as_millis().div_ceil(1000), "too many failed sign-ins; the next one has to wait");
        }
        problem
    }
}

/// Who holds a bearer token.
async fn bearer(api: &ApiState, token: &BearerToken) -> Result<Option<SignedIn>, Problem> {
    let (store, now) = (api.store()?, api.clock.now());
    match token {
        BearerToken::Access(digest) => Ok(store.token_holder(digest, now.wall).await?.map(SignedIn::from)),
        BearerToken::LongLived(digest) => {
            let Some(holder) = store.long_lived_holder(digest, now.wall).await? else { return Ok(None) };
            if holder.is_use_unknown {
                api.token_uses.note(store, digest, now).await;
            }
            Ok(Some(holder.signed_in))
        }
    }
}

/// The user of a Basic credential.
async fn basic(
    api: &ApiState,
    shown: &RequestIdentity,
    name: &str,
    password: &SecretString,
) -> Result<Option<User>, Problem> {
    let checked = api.guard.check_password(api, shown.caller, name, password).await;
    let Some(PasswordHolder { user, is_remembered, .. }) = checked.map_err(slowed(api, shown, "basic"))? else {
        return Ok(None);
    };
    if !is_remembered {
        accepted(api, shown, &user.name, "basic");
    }
    Ok(Some(user))
}

/// Parses the `Authorization` header.
fn credential(headers: &HeaderMap) -> HttpCredential {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        let none = headers.get(header::AUTHORIZATION).is_none();
        return if none { HttpCredential::None } else { HttpCredential::Unreadable };
    };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return HttpCredential::Unreadable;
    };
    if scheme.eq_ignore_ascii_case("Bearer") {
        let token = rest.trim();
        if jwt::looks_like_one(token) {
            return HttpCredential::Jwt(SecretString::from(token));
        }
        return HttpCredential::Bearer(BearerToken::read(token));
    }
    if scheme.eq_ignore_ascii_case("Basic") {
        return basic_credential(rest.trim()).unwrap_or(HttpCredential::Unreadable);
    }
    HttpCredential::Unreadable
}

/// RFC 7617 2: base64 of `name:password`; the first colon ends the name. The text is UTF-8, as our challenge asks. Some
/// clients send Latin-1 all the same: text that is not UTF-8 is read as that.
fn basic_credential(encoded: &str) -> Option<HttpCredential> {
    let bytes = STANDARD.decode(encoded).ok()?;
    let latin_1 = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect();
    let text = String::from_utf8(bytes).unwrap_or_else(|fault| latin_1(fault.as_bytes()));
    let (name, password) = text.split_once(':')?;
    Some(HttpCredential::Basic { name: name.to_owned(), password: SecretString::from(password) })
}

impl HttpCredential {
    const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer(_) => "bearer",
            Self::Jwt(_) => "jwt",
            Self::Basic { .. } => "basic",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for RequestIdentity {
    /// Where the request came from, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.caller, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn the_header_is_parsed_and_shows_no_secret() {
        for (values, expected) in [
            (vec![], "none"),
            (vec!["Bearer abc"], "bearer"),
            (vec!["bearer  abc "], "bearer"),
            (vec!["Basic YWRhOnBhc3M6d29yZA=="], "basic"),
            (vec!["Basic YWRh"], "unreadable"),
            (vec!["Basic !!"], "unreadable"),
            (vec!["Bearer"], "unreadable"),
            (vec!["Digest x"], "unreadable"),
            (vec!["Bearer abc", "Bearer abd"], "unreadable"),
            (vec!["Bearer ä"], "unreadable"),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("a header"));
            }
            let credential = credential(&headers);
            assert_eq!(credential.kind(), expected, "{values:?}");
            assert!(!format!("{credential:?}").contains("pass:word"), "{credential:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_and_password_come_through_basic(name in "[^:]*", password: String) {
            use secrecy::ExposeSecret;
            let encoded = STANDARD.encode(format!("{name}:{password}"));
            let Some(HttpCredential::Basic { name: read, password: shown, .. }) = basic_credential(&encoded)
            else { panic!("{name}:{password}") };
            assert_eq!((read.as_str(), shown.expose_secret()), (name.as_str(), password.as_str()));
        }

        #[test]
        fn no_header_panics(bytes: Vec<u8>) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(header::AUTHORIZATION, value);
            }
            credential(&headers);
        }
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        use secrecy::ExposeSecret;
        let credential = basic_credential("YWRhOnBhc3M6d29yZA==");
        let Some(HttpCredential::Basic { name, password, .. }) = credential else { panic!("{credential:?}") };
        assert_eq!((name.as_str(), password.expose_secret()), ("ada", "pass:word"));
    }
}
