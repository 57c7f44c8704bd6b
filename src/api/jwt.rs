//! JSON Web Tokens of an identity provider (RFC 7519): a person or program that has signed in there calls the API with what the
//! provider gave it.
//!
//! A token counts if the provider signed it with one of its published keys and an asymmetric algorithm, for this API and for
//! now. What it allows is only what `[jwt]` makes of its claims. It cannot be revoked here: it ends with its time.

mod provider_keys;
mod verifier;

use std::{collections::BTreeSet, sync::Arc};

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value};

use crate::{
    access::{Reach, Rights, SignedIn, UserName},
    base::{
        clock::{Clock, WallTime},
        health::Health,
        record::BusinessId,
    },
    settings::{JwtSettings, MappedRight},
};
use provider_keys::ProviderKeys;

/// The longest token, in bytes: ten times a usual one. A longer one is refused unread.
const LONGEST: usize = 8 * 1024;

/// How far the provider's clock may be from ours, in milliseconds.
const LEEWAY: f64 = 60_000.0;

/// Checks tokens; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct JwtCheck(Arc<Provider>);

#[derive(Debug)]
struct Provider {
    settings: JwtSettings,
    keys: ProviderKeys,
    clock: Clock,
}

/// Whether a bearer token has the form of a JWT: three parts, the first of which is a JSON object.
pub(super) fn looks_like_one(token: &str) -> bool {
    token.starts_with("ey") && token.bytes().filter(|byte| *byte == b'.').count() == 2
}

impl JwtCheck {
    pub(super) fn new(settings: JwtSettings, clock: Clock, health: Health) -> Self {
        verifier::install();
        let keys = ProviderKeys::new(settings.keys.clone(), health);
        Self(Arc::new(Provider { settings, keys, clock }))
    }

    /// Reads the keys before the first token comes, so the log tells early what is wrong.
    pub(super) async fn prepare(self) {
        let Provider { keys, clock, .. } = &*self.0;
        keys.prepare(clock).await;
    }

    /// Who the token is for, and what it allows; `None` if it does not count.
    pub(super) async fn signed_in(&self, token: &SecretString) -> Option<SignedIn> {
        match self.0.checked(token.expose_secret()).await {
            Ok(signed_in) => Some(signed_in),
            Err(reason) => {
                tracing::info!(reason, "a token of the identity provider was refused");
                None
            }
        }
    }
}

impl Provider {
    /// The error says why the token does not count, in words of ours.
    async fn checked(&self, token: &str) -> Result<SignedIn, &'static str> {
        if token.len() > LONGEST {
            return Err("it is too long");
        }
        let header = decode_header(token).map_err(|_| "its header cannot be read, or names an unknown algorithm")?;
        if !is_asymmetric(header.alg) {
            return Err("its algorithm is symmetric");
        }
        let key = self.keys.find(header.kid.as_deref(), &self.clock).await.ok_or("the provider has no such key")?;
        if key.common.key_algorithm.is_some_and(|alg| alg.to_string() != format!("{:?}", header.alg)) {
            return Err("its key is for another algorithm");
        }
        let key = DecodingKey::from_jwk(&key).map_err(|_| "its key cannot be used")?;
        let mut validation = Validation::new(header.alg);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["iss", "aud"]);
        // Times are compared below, with the clock of the daemon.
        validation.validate_exp = false;
        let claims = decode::<Map<String, Value>>(token, &key, &validation);
        let claims = claims.map_err(|_| "its signature, issuer or audience is wrong")?.claims;
        is_for_now(&claims, self.clock.now().wall)?;
        self.meaning(&claims)
    }

    fn meaning(&self, claims: &Map<String, Value>) -> Result<SignedIn, &'static str> {
        let JwtSettings { name_claim, roles_claim, roles, businesses_claim, .. } = &self.settings;
        let name = claim(claims, name_claim).and_then(Value::as_str).and_then(|name| name.parse::<UserName>().ok());
        let given: BTreeSet<String> = claim(claims, roles_claim).map(words).unwrap_or_default();
        let mapped = || roles.iter().filter(|(theirs, _)| given.contains(theirs)).map(|(_, right)| *right);
        let rights = if mapped().any(|right| right == MappedRight::Administrator) {
            Rights::Administrator
        } else {
            let role = |right| match right {
                MappedRight::Administrator => None,
                MappedRight::Role(role) => Some(role),
            };
            Rights::Roles(mapped().filter_map(role).collect())
        };
        let reach = match businesses_claim {
            None => Reach::All,
            // Without the claim, or with one that cannot be read, there is access to nothing rather than to everything.
            Some(path) => {
                let ids = claim(claims, path).map(words).unwrap_or_default();
                Reach::Only(ids.iter().filter_map(|id| id.parse().ok().map(BusinessId)).collect())
            }
        };
        let name = name.ok_or("the claim with the name is missing, or is no name of a user")?;
        Ok(SignedIn { name, rights, reach, source: None, token: None })
    }
}

fn is_asymmetric(algorithm: Algorithm) -> bool {
    match algorithm.family() {
        AlgorithmFamily::Rsa | AlgorithmFamily::Ec | AlgorithmFamily::Ed => true,
        AlgorithmFamily::Hmac => false,
    }
}

/// RFC 7519 4.1.4 and 4.1.5: times are numbers of seconds, with or without a fraction. An end is required.
#[expect(clippy::cast_precision_loss, reason = "a time in milliseconds has fewer than 53 bits")]
fn is_for_now(claims: &Map<String, Value>, now: WallTime) -> Result<(), &'static str> {
    let now = now.millis() as f64;
    let time = |name: &str| claims.get(name).map(|time| time.as_f64().map(|seconds| seconds * 1000.0));
    match time("exp") {
        Some(Some(ends)) if now - LEEWAY < ends => {}
        Some(Some(_)) => return Err("it has ended"),
        Some(None) | None => return Err("it has no end"),
    }
    match time("nbf") {
        None => Ok(()),
        Some(Some(begins)) if begins <= now + LEEWAY => Ok(()),
        Some(Some(_)) => Err("it is not valid yet"),
        Some(None) => Err("its beginning is no number"),
    }
}

/// A claim by its name, or by a path of names: `realm_access.roles`.
fn claim<'c>(claims: &'c Map<String, Value>, path: &str) -> Option<&'c Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let (first, rest) = path.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// The words of a claim: a text separates them by spaces, as in `scope` (RFC 8693 4.2); a list has texts or numbers.
fn words(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Number(number) => BTreeSet::from([number.to_string()]),
        Value::Array(items) => {
            let word = |item: &Value| match item {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            };
            items.iter().filter_map(word).collect()
        }
        Value::Null | Value::Bool(_) | Value::Object(_) => BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("{value}") };
        map
    }

    #[test]
    fn a_token_is_valid_from_its_beginning_to_its_end_give_or_take_a_minute() {
        let now = WallTime::from_millis(1_000_000_000);
        for (claims, is_valid) in [
            (json!({"exp": 1_000_001}), true),
            (json!({"exp": 999_941.5}), true),
            (json!({"exp": 999_940}), false),
            (json!({"exp": "1000001"}), false),
            (json!({"exp": null}), false),
            (json!({}), false),
            (json!({"exp": 1_000_001, "nbf": 1_000_060}), true),
            (json!({"exp": 1_000_100, "nbf": 1_000_061}), false),
            (json!({"exp": 1_000_001, "nbf": "0"}), false),
        ] {
            assert_eq!(is_for_now(&object(claims.clone()), now).is_ok(), is_valid, "{claims}");
        }
    }

    #[test]
    fn claims_are_found_by_path_and_read_in_their_forms() {
        let claims = object(json!({"scope": "a b", "realm": {"roles": ["c", 1, null]}, "x.y": [2], "x": {"y": [3]}}));
        for (path, expected) in [
            ("scope", &["a", "b"][..]),
            ("realm.roles", &["1", "c"]),
            ("x.y", &["2"]),
            ("realm", &[]),
            ("none.at", &[]),
        ] {
            let found = claim(&claims, path).map(words).unwrap_or_default();
            assert!(found.iter().map(String::as_str).eq(expected.iter().copied()), "{path}: {found:?}");
        }
    }

    #[test]
    fn a_bearer_token_of_ours_is_no_jwt() {
        for (token, is_one) in
            [("eyJhbGciOiJFUzI1NiJ9.e30.AA", true), ("checkind_abc", false), ("ey.ey", false), ("", false)]
        {
            assert_eq!(looks_like_one(token), is_one, "{token}");
        }
    }
}
