//! `users` and `tokens`: who may call the API.
//!
//! A removal or a new password also revokes the tokens, in the same transaction.

use std::{collections::BTreeSet, time::Duration};

use super::{
    error::StoreError,
    handle::Store,
    sql::Transaction,
    statement::{Arg, Statement, statement},
    stored::Row,
};
use crate::{
    access::{Reach, Rights, Role, StoredPassword, TokenDigest, TokenKind, User, UserName},
    base::{clock::WallTime, record::BusinessId},
};

/// The maximum number of tokens of one kind per user. A client that requests a new token at every call loses its oldest
/// ones instead of filling the disk; sixteen integrations under one name, each signed in twice, still fit.
const TOKENS_PER_USER: i64 = 32;

const USERS: Statement = statement!("SELECT * FROM users ORDER BY name");
// A user is found in any case of ASCII letters, which is what both databases agree on: people type an e-mail address as
// they like. If two differ only in case, each is found by the exact name.
const USER: Statement = statement!(
    sqlite: "SELECT * FROM users WHERE lower(name) = lower($1) ORDER BY name = $1 DESC, name",
    postgres: "SELECT * FROM users WHERE lower(name COLLATE \"C\") = lower($1 COLLATE \"C\") ORDER BY name = $1 DESC, name"
);
const ADD_USER: Statement = statement!(
    "INSERT INTO users (name, password_hash, administrator, roles, businesses, created_on, updated_on) \
     VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT (name) DO NOTHING"
);
const SET_PASSWORD: Statement = statement!("UPDATE users SET password_hash = $2, updated_on = $3 WHERE name = $1");
const SET_RIGHTS: Statement =
    statement!("UPDATE users SET administrator = $2, roles = $3, businesses = $4, updated_on = $5 WHERE name = $1");
const REMOVE_USER: Statement = statement!("DELETE FROM users WHERE name = $1");
const REVOKE: Statement = statement!("DELETE FROM tokens WHERE user_name = $1");
const REVOKE_LONG_LIVED: Statement = statement!("DELETE FROM long_lived_tokens WHERE user_name = $1");
const PURGE: Statement = statement!("DELETE FROM tokens WHERE expires_at <= $1");
const PUT_TOKEN: Statement = statement!(
    "INSERT INTO tokens (hash, user_name, kind, expires_at, family, parent) VALUES ($1, $2, $3, $4, $5, nullif($6, ''))"
);
const KEEP_NEWEST: Statement = statement!(
    "DELETE FROM tokens WHERE user_name = $1 AND kind = $2 AND hash NOT IN \
     (SELECT hash FROM tokens WHERE user_name = $1 AND kind = $2 ORDER BY expires_at DESC, hash LIMIT $3)"
);
const TAKE_TOKEN: Statement = statement!(
    "DELETE FROM tokens WHERE hash = $1 AND kind = 'refresh' AND expires_at > $2 RETURNING user_name, family, expires_at"
);
/// Gateways may delete tokens and write new ones, but not change them.
const PUT_SPENT: Statement = statement!(
    "INSERT INTO tokens (hash, user_name, kind, expires_at, family, spent_at, repeated)
     VALUES ($1, $2, 'spent', $3, $4, $5, $6)"
);
const SPENT_TOKEN: Statement = statement!(
    "SELECT user_name, family, repeated, spent_at, expires_at FROM tokens
     WHERE hash = $1 AND kind = 'spent' AND expires_at > $2"
);
const TAKE_SPENT: Statement = statement!("DELETE FROM tokens WHERE hash = $1 AND kind = 'spent'");
const EXCHANGEABLE: Statement =
    statement!("SELECT hash FROM tokens WHERE hash = $1 AND kind IN ('refresh', 'spent') AND expires_at > $2");
const TAKE_BACK: Statement = statement!("DELETE FROM tokens WHERE parent = $1 AND kind = $2");
const REVOKE_FAMILY: Statement = statement!("DELETE FROM tokens WHERE user_name = $1 AND family = $2");
// The next two statements change nothing. They lock the user's row until the commit: on PostgreSQL, setting a new
// password then waits until tokens for the old one are written, and revokes them.
const HOLD_USER: Statement =
    statement!("UPDATE users SET updated_on = updated_on WHERE name = $1 AND password_hash = $2");
const HOLD_HOLDER: Statement =
    statement!("UPDATE users SET updated_on = updated_on WHERE name IN (SELECT user_name FROM tokens WHERE hash = $1)");
const HOLDER: Statement = statement!(
    "SELECT users.* FROM tokens JOIN users ON users.name = tokens.user_name \
     WHERE tokens.hash = $1 AND tokens.kind = $2 AND tokens.expires_at > $3"
);

/// How long the exchange of a refresh token may be asked for again, once: the answer may have been lost on its way.
const LOST_ANSWER: Duration = Duration::from_secs(60);

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// This user has the new pair.
    Exchanged(UserName),
    /// It had been exchanged before: two clients have it, and one of them has stolen it. All tokens that follow from the same
    /// sign-in of this user are revoked.
    Reused(UserName),
    /// It is unknown, expired or revoked.
    Unknown,
}

/// The digests of an access token and a refresh token that are issued together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPair {
    /// Calls the API.
    pub access: TokenDigest,
    /// Is exchanged for the next pair.
    pub refresh: TokenDigest,
}

impl Store {
    /// Adds an API user. Returns false, and changes nothing, if the name is taken.
    pub async fn add_user(
        &self,
        name: &UserName,
        password: &StoredPassword,
        rights: &Rights,
        reach: &Reach,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let (administrator, roles) = rights_columns(rights);
        let password = Arg::Text(password.as_phc().to_owned());
        let args = [name_arg(name), password, administrator, roles, Arg::Text(reach.to_string()), Arg::Time(now)];
        Ok(self.sql.change(ADD_USER, &args).await? == 1)
    }

    /// Every API user, by name.
    pub async fn users(&self) -> Result<Vec<User>, StoreError> {
        self.sql.read(USERS, &[]).await?.iter().map(user).collect()
    }

    /// One API user, with the stored password. The name may be in another case, if it is that of one user only.
    pub async fn user(&self, name: &UserName) -> Result<Option<(User, StoredPassword)>, StoreError> {
        let rows = self.sql.read(USER, &[name_arg(name)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let found = user(row)?;
        if rows.len() > 1 && found.name != *name {
            return Ok(None);
        }
        Ok(Some((found, StoredPassword::from_phc(row.text("password_hash")?))))
    }

    /// Replaces the password and revokes every token. Returns false if there is no such user.
    pub async fn set_password(
        &self,
        name: &UserName,
        password: &StoredPassword,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.sql.begin().await?;
        let password = Arg::Text(password.as_phc().to_owned());
        let changed = transaction.change(SET_PASSWORD, &[name_arg(name), password, Arg::Time(now)]).await?;
        transaction.change(REVOKE, &[name_arg(name)]).await?;
        transaction.change(REVOKE_LONG_LIVED, &[name_arg(name)]).await?;
        transaction.commit().await?;
        Ok(changed == 1)
    }

    /// Replaces the rights and the reach, effective from the next request. Returns false if there is no such user.
    pub async fn set_rights(
        &self,
        name: &UserName,
        rights: &Rights,
        reach: &Reach,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let (administrator, roles) = rights_columns(rights);
        let args = [name_arg(name), administrator, roles, Arg::Text(reach.to_string()), Arg::Time(now)];
        Ok(self.sql.change(SET_RIGHTS, &args).await? == 1)
    }

    /// Removes a user with every token. Returns false if there is no such user.
    pub async fn remove_user(&self, name: &UserName) -> Result<bool, StoreError> {
        let mut transaction = self.sql.begin().await?;
        transaction.change(REVOKE, &[name_arg(name)]).await?;
        transaction.change(REVOKE_LONG_LIVED, &[name_arg(name)]).await?;
        let removed = transaction.change(REMOVE_USER, &[name_arg(name)]).await?;
        transaction.commit().await?;
        Ok(removed == 1)
    }

    /// Stores a pair of tokens for a user whose password was correct. Returns false if the password has been replaced,
    /// or the user removed, since `password` was read.
    ///
    /// Also deletes expired tokens of all users, and this user's oldest ones beyond the maximum number.
    pub async fn put_tokens(
        &self,
        name: &UserName,
        password: &StoredPassword,
        pair: &TokenPair,
        now: WallTime,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.sql.begin().await?;
        let args = [name_arg(name), Arg::Text(password.as_phc().to_owned())];
        if transaction.change(HOLD_USER, &args).await? == 0 {
            return Ok(false);
        }
        let family = TokenFamily { family: pair.refresh.as_hex().to_owned(), parent: String::new() };
        put_pair(&mut transaction, name.as_str(), pair, &family, now).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Exchanges a refresh token for a new pair. It may be exchanged once, and once more within a minute if the first new pair
    /// has not been used meanwhile.
    pub async fn rotate_tokens(
        &self,
        refresh: &TokenDigest,
        pair: &TokenPair,
        now: WallTime,
    ) -> Result<Rotation, StoreError> {
        let args = [digest_arg(refresh), Arg::Time(now)];
        // Read first, so a client that only guesses never occupies the one connection that writes.
        if self.sql.read(EXCHANGEABLE, &args).await?.is_empty() {
            return Ok(Rotation::Unknown);
        }
        let mut transaction = self.sql.begin().await?;
        transaction.change(HOLD_HOLDER, &[digest_arg(refresh)]).await?;
        let (holder, family, expires, is_repeated) =
            if let Some(row) = transaction.rows(TAKE_TOKEN, &args).await?.first() {
                // A token of an earlier version begins a family when it is used.
                let family = Some(row.text("family")?).filter(|family| !family.is_empty());
                let family = family.unwrap_or_else(|| refresh.as_hex().to_owned());
                (name(row, "user_name")?, family, row.time("expires_at")?, false)
            } else {
                let rows = transaction.rows(SPENT_TOKEN, &args).await?;
                let Some(row) = rows.first() else { return Ok(Rotation::Unknown) };
                let (holder, family) = (name(row, "user_name")?, row.text("family")?);
                let is_lost = !row.bool("repeated")? && now.since(row.time("spent_at")?) <= LOST_ANSWER;
                // The pair of the lost answer ends. If it has been used, the answer was not lost.
                if !is_lost
                    || transaction.change(TAKE_BACK, &[digest_arg(refresh), kind_arg(TokenKind::Refresh)]).await? == 0
                {
                    transaction.change(REVOKE_FAMILY, &[name_arg(&holder), Arg::Text(family)]).await?;
                    transaction.commit().await?;
                    return Ok(Rotation::Reused(holder));
                }
                transaction.change(TAKE_BACK, &[digest_arg(refresh), kind_arg(TokenKind::Access)]).await?;
                transaction.change(TAKE_SPENT, &[digest_arg(refresh)]).await?;
                (holder, family, row.time("expires_at")?, true)
            };
        let times = [Arg::Time(expires), Arg::Text(family.clone()), Arg::Time(now), Arg::Bool(is_repeated)];
        let spent: Vec<Arg> = [digest_arg(refresh), name_arg(&holder)].into_iter().chain(times).collect();
        transaction.change(PUT_SPENT, &spent).await?;
        let family = TokenFamily { family, parent: refresh.as_hex().to_owned() };
        put_pair(&mut transaction, holder.as_str(), pair, &family, now).await?;
        transaction.commit().await?;
        Ok(Rotation::Exchanged(holder))
    }

    /// The user who holds this access token; `None` if it is unknown or expired.
    pub async fn token_holder(&self, access: &TokenDigest, now: WallTime) -> Result<Option<User>, StoreError> {
        let args = [digest_arg(access), kind_arg(TokenKind::Access), Arg::Time(now)];
        self.sql.read(HOLDER, &args).await?.first().map(user).transpose()
    }
}

/// From which sign-in a pair follows, and for which refresh token it was exchanged.
struct TokenFamily {
    family: String,
    /// Empty for the first pair.
    parent: String,
}

async fn put_pair(
    transaction: &mut Transaction,
    name: &str,
    pair: &TokenPair,
    TokenFamily { family, parent }: &TokenFamily,
    now: WallTime,
) -> Result<(), StoreError> {
    transaction.change(PURGE, &[Arg::Time(now)]).await?;
    for (kind, digest) in [(TokenKind::Access, &pair.access), (TokenKind::Refresh, &pair.refresh)] {
        let name = Arg::Text(name.to_owned());
        let expires = Arg::Time(now.plus(kind.lifetime()));
        let (family, parent) = (Arg::Text(family.clone()), Arg::Text(parent.clone()));
        let args = [digest_arg(digest), name.clone(), kind_arg(kind), expires, family, parent];
        transaction.change(PUT_TOKEN, &args).await?;
        transaction.change(KEEP_NEWEST, &[name, kind_arg(kind), Arg::Int(TOKENS_PER_USER)]).await?;
    }
    let spent = [Arg::Text(name.to_owned()), Arg::Text("spent".to_owned()), Arg::Int(TOKENS_PER_USER)];
    transaction.change(KEEP_NEWEST, &spent).await?;
    Ok(())
}

pub(super) fn user(row: &Row) -> Result<User, StoreError> {
    let roles = roles(&row.text("roles")?);
    Ok(User {
        reach: businesses(&row.text("businesses")?),
        name: name(row, "name")?,
        rights: if row.bool("administrator")? { Rights::Administrator } else { Rights::Roles(roles) },
        created_on: row.time("created_on")?,
        updated_on: row.time("updated_on")?,
    })
}

/// The roles in a column. A role that this version does not know, granted by a newer one, confers no right here.
pub(super) fn roles(text: &str) -> BTreeSet<Role> {
    text.split(',').filter_map(|role| role.parse::<Role>().ok()).collect()
}

/// The businesses in a column. A list that cannot be read gives access to nothing rather than to everything.
pub(super) fn businesses(ids: &str) -> Reach {
    let only = ids.split(',').filter_map(|id| id.parse().ok().map(BusinessId)).collect();
    if ids.is_empty() { Reach::All } else { Reach::Only(only) }
}

pub(super) fn name(row: &Row, column: &'static str) -> Result<UserName, StoreError> {
    row.text(column)?.parse().map_err(|_| StoreError::damaged_in(&format!("column {column} holds no user name")))
}

fn rights_columns(rights: &Rights) -> (Arg, Arg) {
    let join = |roles: &BTreeSet<Role>| roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    match rights {
        Rights::Administrator => (Arg::Bool(true), Arg::Text(String::new())),
        Rights::Roles(roles) => (Arg::Bool(false), Arg::Text(join(roles))),
    }
}

pub(super) fn name_arg(name: &UserName) -> Arg {
    Arg::Text(name.as_str().to_owned())
}

pub(super) fn digest_arg(digest: &TokenDigest) -> Arg {
    Arg::Text(digest.as_hex().to_owned())
}

fn kind_arg(kind: TokenKind) -> Arg {
    Arg::Text(kind.word().to_owned())
}
