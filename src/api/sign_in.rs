//! Checks passwords and refresh tokens, at a bounded cost and a bounded rate.
//!
//! A password costs one hash, however often it is sent: requests with the same one at the same time share the hash, and
//! the answer is remembered for some minutes. So a page that sends Basic with each of ten requests costs one hash,
//! and an integration with an old password counts as one failure and locks no one out. [`throttle`](super::throttle)
//! says who must wait after failures, [`hash_turns`](super::hash_turns) who is next.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::{
    ApiState,
    address::Caller,
    hash_turns::HashTurns,
    reply::Problem,
    throttle::{SignInAttempt, Throttle, UserKey},
};
use crate::{
    access::{StoredPassword, TokenDigest, User, UserName},
    base::{bounded_table::BoundedTable, clock::BootTime, random},
    store::{Rotation, StoreError, TokenPair},
};

/// How long a sign-in waits for its turn; then 503.
const HASH_TURN: Duration = Duration::from_secs(5);

/// How long an answer is remembered: a client that sends a password with every request must not cost a hash each time.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The most answers of a kind that are remembered. When there are more, the one that expires first is dropped.
const REMEMBERED_MOST: usize = 256;

/// The guards of the API's sign-ins.
#[derive(Debug)]
pub(super) struct Guard {
    /// Random for each process, so the keys are useless elsewhere.
    salt: [u8; 32],
    turns: HashTurns,
    throttle: Mutex<Throttle>,
    /// The stored password that each was right for.
    right: RecentAnswers<StoredPassword>,
    /// The stored password, or the decoy, that each was wrong for.
    wrong: RecentAnswers<StoredPassword>,
    /// Refresh tokens that are not valid. None ever becomes valid again.
    spent: RecentAnswers<()>,
    /// The passwords that are being checked.
    checked: Mutex<BTreeMap<SignInKey, Weak<tokio::sync::Mutex<()>>>>,
}

/// A user whose password was right.
#[derive(Debug)]
pub(super) struct PasswordHolder {
    pub(super) user: User,
    /// The stored password that it was right for.
    pub(super) stored: StoredPassword,
    /// Whether the answer was remembered: this is no new sign-in.
    pub(super) is_remembered: bool,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            salt: random::secret(),
            turns: HashTurns::default(),
            throttle: Mutex::default(),
            right: RecentAnswers::default(),
            wrong: RecentAnswers::default(),
            spent: RecentAnswers::default(),
            checked: Mutex::default(),
        }
    }
}

impl Guard {
    /// Returns the user if this is their password. Checking takes as long for an unknown user as for a wrong password.
    ///
    /// # Errors
    /// [`Problem::Throttled`] after too many failures, and what can happen to any request.
    pub(super) async fn check_password(
        &self,
        api: &ApiState,
        caller: Caller,
        name: &str,
        password: &SecretString,
    ) -> Result<Option<PasswordHolder>, Problem> {
        let secret = password.expose_secret();
        // Remembered answers hold for this address only: elsewhere they would answer guesses that should have waited.
        let key = self.key(&["password", &format!("{:?}", caller.address()), name, secret]);
        // All spellings of a name are one user.
        let user_key: UserKey = self.key(&["user", &name.to_ascii_lowercase()]).0;
        self.permit(Some(user_key), caller, api.clock.now().boot)?;

        let same = self.same(&key);
        let _only = same.lock().await;

        let found = match name.parse::<UserName>() {
            Ok(name) => api.store()?.user(&name).await?,
            Err(_) => None,
        };
        let stored = found.as_ref().map_or_else(StoredPassword::decoy, |(_, stored)| stored.clone());
        let now = api.clock.now().boot;
        if self.wrong.find(&key, now).is_some_and(|known| known == stored) {
            return Ok(None);
        }
        if self.right.find(&key, now).is_some_and(|known| known == stored) {
            return Ok(found.map(|(user, stored)| PasswordHolder { user, stored, is_remembered: true }));
        }

        let attempt = self.throttle().begin(Some(user_key), caller, now).map_err(Problem::Throttled)?;
        let is_right = match self.hash(user_key, caller, now, (stored.clone(), password.clone())).await {
            Ok(is_right) => is_right,
            Err(problem) => {
                self.throttle().undecided(attempt);
                return Err(problem);
            }
        };
        let now = api.clock.now().boot;
        if is_right && let Some((user, stored)) = found {
            self.right.remember(key, stored.clone(), now);
            self.throttle().right(attempt, now);
            return Ok(Some(PasswordHolder { user, stored, is_remembered: false }));
        }
        self.wrong.remember(key, stored, now);
        Ok(None)
    }

    /// Exchanges a refresh token for a new pair.
    ///
    /// # Errors
    /// [`Problem::Throttled`] after too many failures, and what can happen to any request.
    pub(super) async fn rotate_tokens(
        &self,
        api: &ApiState,
        caller: Caller,
        refresh: &SecretString,
        pair: &TokenPair,
    ) -> Result<Rotation, Problem> {
        let Some(digest) = TokenDigest::of_token(refresh.expose_secret()) else { return Ok(Rotation::Unknown) };
        let now = api.clock.now();
        self.permit(None, caller, now.boot)?;
        let key = self.key(&["refresh", refresh.expose_secret()]);
        if self.spent.find(&key, now.boot).is_some() {
            return Ok(Rotation::Unknown);
        }
        let attempt = self.throttle().begin(None, caller, now.boot).map_err(Problem::Throttled)?;
        let rotated = api.store()?.rotate_tokens(&digest, pair, now.wall).await;
        self.refreshed(attempt, key, &rotated, now.boot);
        Ok(rotated?)
    }

    fn refreshed(&self, attempt: SignInAttempt, key: SignInKey, rotated: &Result<Rotation, StoreError>, now: BootTime) {
        match rotated {
            Ok(Rotation::Exchanged(_)) => self.throttle().right(attempt, now),
            Ok(Rotation::Reused(_) | Rotation::Unknown) => self.spent.remember(key, (), now),
            Err(_) => self.throttle().undecided(attempt),
        }
    }

    /// Hashes a password when it is its turn.
    async fn hash(
        &self,
        user: UserKey,
        caller: Caller,
        now: BootTime,
        (stored, password): (StoredPassword, SecretString),
    ) -> Result<bool, Problem> {
        let class = self.throttle().class(user, caller, now);
        let turn = timeout(HASH_TURN, self.turns.take(class, caller.address())).await;
        let Ok(Ok(mut turn)) = turn else { return Err(Problem::Busy) };
        // The hash keeps its turn until it is done, even if the client has disconnected and no request waits for the
        // result.
        let hashing = tokio::task::spawn_blocking(move || stored.is(&password, turn.memory()));
        hashing.await.map_err(|_| Problem::Broken)
    }

    fn permit(&self, user: Option<UserKey>, caller: Caller, now: BootTime) -> Result<(), Problem> {
        match self.throttle().wait(user, caller, now) {
            Duration::ZERO => Ok(()),
            wait => Err(Problem::Throttled(wait)),
        }
    }

    /// The lock that requests with this key share. The first one holds it while it checks; the others then find its
    /// answer.
    fn same(&self, key: &SignInKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = checked.get(key).and_then(Weak::upgrade) {
            return same;
        }
        // Bounded by the number of connections.
        checked.retain(|_, lock| lock.strong_count() > 0);
        let same = Arc::default();
        checked.insert(*key, Arc::downgrade(&same));
        same
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A digest of these texts, each with its length.
    fn key(&self, texts: &[&str]) -> SignInKey {
        let mut digest = Sha256::new().chain_update(self.salt);
        for text in texts {
            digest.update(text.len().to_le_bytes());
            digest.update(text);
        }
        SignInKey(digest.finalize().into())
    }
}

/// SHA-256 of the salt of this process and what a client sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SignInKey([u8; 32]);

impl fmt::Debug for SignInKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignInKey")
    }
}

/// Recent answers, each with its end.
#[derive(Debug)]
struct RecentAnswers<V>(Mutex<BoundedTable<SignInKey, (V, BootTime)>>);

impl<V> Default for RecentAnswers<V> {
    fn default() -> Self {
        Self(Mutex::new(BoundedTable::new(REMEMBERED_MOST)))
    }
}

impl<V: Clone> RecentAnswers<V> {
    fn find(&self, key: &SignInKey, now: BootTime) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, until)| *until > now).map(|(value, _)| value.clone())
    }

    fn remember(&self, key: SignInKey, value: V, now: BootTime) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, until)| *until > now);
        known.insert(key, (value, now.plus(REMEMBERED)), |(_, until)| *until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(seconds))
    }

    #[test]
    fn answers_expire_and_stay_within_the_bound() {
        let guard = Guard::default();
        let first = guard.key(&["first"]);
        guard.spent.remember(first, (), at(0));
        assert_eq!(guard.spent.find(&first, at(299)), Some(()));
        assert_eq!(guard.spent.find(&first, at(300)), None);
        assert_eq!(guard.spent.find(&guard.key(&["other"]), at(0)), None);
        for number in 0..REMEMBERED_MOST {
            guard.spent.remember(guard.key(&[&number.to_string()]), (), at(1));
        }
        assert_eq!(guard.spent.0.lock().expect("not poisoned").len(), REMEMBERED_MOST);
        assert_eq!(guard.spent.find(&first, at(1)), None, "the one that expires first makes room");
    }

    #[test]
    fn keys_tell_the_parts_apart_and_show_nothing() {
        let guard = Guard::default();
        assert_ne!(guard.key(&["ab", "c"]), guard.key(&["a", "bc"]));
        assert_ne!(guard.key(&["a"]), Guard::default().key(&["a"]), "salted");
        assert_eq!(format!("{:?}", guard.key(&["a"])), "SignInKey");
    }

    #[test]
    fn requests_with_the_same_password_share_one_lock() {
        let guard = Guard::default();
        let (one, other) = (guard.key(&["one"]), guard.key(&["other"]));
        let first = guard.same(&one);
        assert!(Arc::ptr_eq(&first, &guard.same(&one)) && !Arc::ptr_eq(&first, &guard.same(&other)));
        drop(first);
        drop(guard.same(&other));
        assert_eq!(guard.checked.lock().expect("not poisoned").len(), 1, "those that ended are forgotten");
    }
}
