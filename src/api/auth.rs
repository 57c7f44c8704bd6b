//! Authentication and authorisation. Bearer tokens and HTTP Basic are checked against the database at every request, so
//! a removed user, a new password or changed rights take effect with the next request.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Extension,
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use super::{ApiState, Peer, reply::Problem};
use crate::{
    access::{Role, StoredPassword, TokenDigest, User, UserName},
    base::{clock::BootTime, random},
    metrics::SignIn,
};

/// The most passwords hashed at the same time. Each takes 19 MiB and a core for about 20 ms, so a flood of sign-ins
/// uses at most 38 MiB; further sign-ins wait.
const HASHES: usize = 2;

/// How long a sign-in waits for its turn; then 503.
const HASH_TURN: Duration = Duration::from_secs(5);

/// How long a correct Basic password is cached: a client that sends it with every request must not cost a hash each
/// time.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The most cached passwords. When the cache is full, the one that expires first is dropped.
const REMEMBERED_MOST: usize = 256;

/// Who sent a request, as far as the request shows it.
#[derive(Debug)]
pub(super) struct RequestIdentity {
    credential: HttpCredential,
    peer: Option<Peer>,
}

/// The parsed `Authorization` header. Its `Debug` shows no secret.
#[derive(Debug)]
enum HttpCredential {
    None,
    Bearer(TokenDigest),
    /// The key of the whole header in the cache, the user name and the password.
    Basic {
        key: SignInKey,
        name: String,
        password: SecretString,
    },
    /// Another scheme, several headers, or a malformed one.
    Unreadable,
}

impl FromRequestParts<ApiState> for RequestIdentity {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, api: &ApiState) -> Result<Self, Infallible> {
        let credential = credential(&parts.headers, &api.guard);
        let peer = Extension::<Peer>::from_request_parts(parts, api).await.ok().map(|peer| peer.0);
        Ok(Self { credential, peer })
    }
}

/// Returns the user who sent the request, if they have the role or are an administrator.
pub(super) async fn require(api: &ApiState, shown: &RequestIdentity, role: Role) -> Result<User, Problem> {
    let user = identify(api, shown).await?;
    if user.rights.allow(role) {
        return Ok(user);
    }
    tracing::warn!(user = %user.name, peer = %shown, role = role.name(), "API access refused: the user lacks the role");
    Err(Problem::Forbidden(role))
}

/// Returns the user whose credential the request carries.
async fn identify(api: &ApiState, shown: &RequestIdentity) -> Result<User, Problem> {
    let user = match &shown.credential {
        HttpCredential::None => return Err(Problem::NoCredentials),
        HttpCredential::Unreadable => None,
        HttpCredential::Bearer(token) => api.store()?.token_holder(token, api.clock.now().wall).await?,
        HttpCredential::Basic { key, name, password } => basic(api, shown, key, name, password).await?,
    };
    match user {
        Some(user) => {
            tracing::debug!(user = %user.name, peer = %shown, "API request accepted");
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

/// Returns the user if this is their password. Checking takes as long for an unknown user as for a wrong password.
pub(super) async fn check_password(
    api: &ApiState,
    name: &str,
    password: SecretString,
) -> Result<Option<(User, StoredPassword)>, Problem> {
    let found = match name.parse::<UserName>() {
        Ok(name) => api.store()?.user(&name).await?,
        Err(_) => None,
    };
    let stored = found.as_ref().map_or_else(StoredPassword::decoy, |(_, stored)| stored.clone());
    let turn = timeout(HASH_TURN, Arc::clone(&api.guard.hashes).acquire_owned()).await.map_err(|_| Problem::Busy)?;
    let hashing = tokio::task::spawn_blocking(move || {
        // Keep the turn until the hash is done, even if the client has disconnected and no request waits for the
        // result.
        let _turn = turn;
        stored.is(&password)
    });
    let right = hashing.await.map_err(|_| Problem::Broken)?;
    Ok(found.filter(|_| right))
}

/// The user of a Basic credential: from the cache while the stored password is unchanged, otherwise by hashing.
async fn basic(
    api: &ApiState,
    shown: &RequestIdentity,
    key: &SignInKey,
    name: &str,
    password: &SecretString,
) -> Result<Option<User>, Problem> {
    let now = api.clock.now().boot;
    if let Some(known) = api.guard.cache.find(key, now)
        && let Some((user, stored)) = api.store()?.user(&known.name).await?
        && stored == known.password
    {
        return Ok(Some(user));
    }
    let Some((user, stored)) = check_password(api, name, password.clone()).await? else { return Ok(None) };
    api.guard.cache.remember(
        key,
        CachedSignIn { name: user.name.clone(), password: stored, until: now.plus(REMEMBERED) },
        now,
    );
    accepted(api, shown, &user.name, "basic");
    Ok(Some(user))
}

/// Parses the `Authorization` header.
fn credential(headers: &HeaderMap, guard: &Guard) -> HttpCredential {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        let none = headers.get(header::AUTHORIZATION).is_none();
        return if none { HttpCredential::None } else { HttpCredential::Unreadable };
    };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return HttpCredential::Unreadable;
    };
    if scheme.eq_ignore_ascii_case("Bearer") {
        return HttpCredential::Bearer(TokenDigest::of(rest.trim()));
    }
    if scheme.eq_ignore_ascii_case("Basic") {
        return basic_credential(rest.trim(), guard).unwrap_or(HttpCredential::Unreadable);
    }
    HttpCredential::Unreadable
}

/// RFC 7617 2: base64 of `name:password` in UTF-8; the first colon ends the name.
fn basic_credential(encoded: &str, guard: &Guard) -> Option<HttpCredential> {
    let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(HttpCredential::Basic {
        key: guard.cache.key(encoded),
        name: name.to_owned(),
        password: SecretString::from(password),
    })
}

impl HttpCredential {
    const fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer(_) => "bearer",
            Self::Basic { .. } => "basic",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for RequestIdentity {
    /// Where the request came from, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(Peer(address)) => fmt::Display::fmt(&address.ip(), f),
            None => f.write_str("unknown"),
        }
    }
}

/// Limits the cost of checking passwords.
#[derive(Debug)]
pub(super) struct Guard {
    hashes: Arc<Semaphore>,
    cache: SignInCache,
}

impl Default for Guard {
    fn default() -> Self {
        Self { hashes: Arc::new(Semaphore::new(HASHES)), cache: SignInCache::new(random::secret()) }
    }
}

/// SHA-256 of the cache's salt and a Basic credential.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SignInKey([u8; 32]);

impl fmt::Debug for SignInKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInKey")
    }
}

/// A correct Basic credential, valid while the user's stored password is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CachedSignIn {
    name: UserName,
    password: StoredPassword,
    until: BootTime,
}

/// Recent correct passwords. The salt is random for each process, so the keys are useless elsewhere.
#[derive(Debug)]
struct SignInCache {
    salt: [u8; 32],
    known: Mutex<BTreeMap<SignInKey, CachedSignIn>>,
}

impl SignInCache {
    fn new(salt: [u8; 32]) -> Self {
        Self { salt, known: Mutex::default() }
    }

    fn key(&self, credential: &str) -> SignInKey {
        SignInKey(Sha256::new().chain_update(self.salt).chain_update(credential).finalize().into())
    }

    fn find(&self, key: &SignInKey, now: BootTime) -> Option<CachedSignIn> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|known| known.until > now).cloned()
    }

    fn remember(&self, key: &SignInKey, new: CachedSignIn, now: BootTime) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, known| known.until > now);
        if known.len() >= REMEMBERED_MOST
            && let Some(first) = known.iter().min_by_key(|(_, known)| known.until).map(|(key, _)| *key)
        {
            known.remove(&first);
        }
        known.insert(*key, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    fn known(until: u64) -> CachedSignIn {
        let name = "ada".parse().expect("a name");
        CachedSignIn { name, password: StoredPassword::decoy(), until: at(until) }
    }

    #[test]
    fn the_header_is_parsed_and_shows_no_secret() {
        let guard = Guard::default();
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
            let credential = credential(&headers, &guard);
            assert_eq!(credential.kind(), expected, "{values:?}");
            assert!(!format!("{credential:?}").contains("pass:word"), "{credential:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_name_and_password_come_through_basic(name in "[^:]*", password: String) {
            use secrecy::ExposeSecret;
            let encoded = STANDARD.encode(format!("{name}:{password}"));
            let Some(HttpCredential::Basic { name: read, password: shown, .. }) = basic_credential(&encoded, &Guard::default())
            else { panic!("{name}:{password}") };
            assert_eq!((read.as_str(), shown.expose_secret()), (name.as_str(), password.as_str()));
        }

        #[test]
        fn no_header_panics(bytes: Vec<u8>) {
            let mut headers = HeaderMap::new();
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                headers.insert(header::AUTHORIZATION, value);
            }
            credential(&headers, &Guard::default());
        }
    }

    #[test]
    fn the_first_colon_ends_the_name() {
        use secrecy::ExposeSecret;
        let credential = basic_credential("YWRhOnBhc3M6d29yZA==", &Guard::default());
        let Some(HttpCredential::Basic { name, password, .. }) = credential else { panic!("{credential:?}") };
        assert_eq!((name.as_str(), password.expose_secret()), ("ada", "pass:word"));
    }

    #[test]
    fn correct_passwords_expire_and_stay_within_the_bound() {
        let cache = SignInCache::new([7; 32]);
        let first = cache.key("first");
        cache.remember(&first, known(10), at(0));
        assert_eq!(cache.find(&first, at(9)), Some(known(10)));
        assert_eq!(cache.find(&first, at(10)), None);
        assert_eq!(cache.find(&cache.key("other"), at(0)), None);
        for number in 0..REMEMBERED_MOST {
            cache.remember(&cache.key(&number.to_string()), known(20), at(0));
        }
        assert_eq!(cache.known.lock().expect("not poisoned").len(), REMEMBERED_MOST);
        assert_eq!(cache.find(&first, at(0)), None, "the one that expires first makes room");
    }
}
