//! `long_lived_tokens`: tokens that live for months. They end with their time, with a new password of their user, and with the
//! user.

use std::{collections::BTreeSet, time::Duration};

use super::{
    access::{businesses, digest_arg, name, name_arg, roles, user},
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::Row,
};
use crate::{
    access::{
        ClaimedSource, LONG_LIVED_PER_USER, LongLivedToken, Role, SignedIn, TokenDigest, TokenLimits, TokenName,
        UserName,
    },
    base::{clock::WallTime, record::CheckinSource},
};

/// How late the last use of a token may be known: a display that asks every second writes once an hour.
const USE_KNOWN: Duration = Duration::from_hours(1);

const PURGE: Statement = statement!("DELETE FROM long_lived_tokens WHERE user_name = $1 AND expires_at <= $2");
const OF_USER: Statement = statement!("SELECT * FROM long_lived_tokens WHERE user_name = $1 ORDER BY name");
const ALL: Statement = statement!("SELECT * FROM long_lived_tokens ORDER BY user_name, name");
/// Locks the user's row until the commit, so two commands at the same time count the same tokens.
const HOLD_USER: Statement = statement!("UPDATE users SET updated_on = updated_on WHERE name = $1");
const ADD: Statement = statement!(
    "INSERT INTO long_lived_tokens (hash, user_name, name, roles, businesses, source, created_on, expires_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
);
const REVOKE: Statement = statement!("DELETE FROM long_lived_tokens WHERE user_name = $1 AND name = $2");
const HOLDER: Statement = statement!(
    "SELECT users.*, token.name AS token_name, token.roles AS token_roles, token.businesses AS token_businesses, \
     token.source AS token_source, token.last_used_on AS token_last_used_on \
     FROM long_lived_tokens AS token JOIN users ON users.name = token.user_name \
     WHERE token.hash = $1 AND token.expires_at > $2"
);
const USED: Statement = statement!(
    "UPDATE long_lived_tokens SET last_used_on = $2 \
     WHERE hash = $1 AND (last_used_on IS NULL OR last_used_on < $3)"
);

/// What became of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAdded {
    /// It is stored.
    Yes,
    /// The user has a token of this name.
    NameTaken,
    /// The user has [`LONG_LIVED_PER_USER`].
    TooMany,
    /// There is no such user.
    NoUser,
}

/// Who holds a long-lived token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongLivedHolder {
    /// The user, and what the token allows.
    pub signed_in: SignedIn,
    /// Whether it is time to store that the token was used.
    pub is_use_unknown: bool,
}

impl Store {
    /// Stores a long-lived token. Deletes those of the same user that have ended, so their names are free.
    pub async fn add_long_lived_token(
        &self,
        token: &LongLivedToken,
        digest: &TokenDigest,
    ) -> Result<TokenAdded, StoreError> {
        let mut transaction = self.sql.begin().await?;
        let user = name_arg(&token.user);
        if transaction.change(HOLD_USER, std::slice::from_ref(&user)).await? == 0 {
            return Ok(TokenAdded::NoUser);
        }
        transaction.change(PURGE, &[user.clone(), Arg::Time(token.created_on)]).await?;
        let others = transaction.rows(OF_USER, std::slice::from_ref(&user)).await?;
        for other in &others {
            if other.text("name")? == token.name.as_str() {
                return Ok(TokenAdded::NameTaken);
            }
        }
        if others.len() >= LONG_LIVED_PER_USER {
            return Ok(TokenAdded::TooMany);
        }
        let TokenLimits { roles, reach, source } = &token.limits;
        let roles: Vec<String> = roles.iter().flatten().map(ToString::to_string).collect();
        let source = source.map_or(CheckinSource::None, ClaimedSource::source).number();
        let texts = [token.name.to_string(), roles.join(","), reach.to_string()].map(Arg::Text);
        let rest = [Arg::Int(source), Arg::Time(token.created_on), Arg::Time(token.ends)];
        let args: Vec<Arg> = [digest_arg(digest), user].into_iter().chain(texts).chain(rest).collect();
        transaction.change(ADD, &args).await?;
        transaction.commit().await?;
        Ok(TokenAdded::Yes)
    }

    /// The long-lived tokens of a user, or of all users, also those that have ended since the user's last new one.
    pub async fn long_lived_tokens(&self, of: Option<&UserName>) -> Result<Vec<LongLivedToken>, StoreError> {
        let rows = match of {
            Some(user) => self.sql.read(OF_USER, &[name_arg(user)]).await?,
            None => self.sql.read(ALL, &[]).await?,
        };
        rows.iter().map(token).collect()
    }

    /// Removes a long-lived token, effective from the next request. Returns false if there is none of this name.
    pub async fn revoke_long_lived_token(&self, user: &UserName, token: &TokenName) -> Result<bool, StoreError> {
        Ok(self.sql.change(REVOKE, &[name_arg(user), Arg::Text(token.to_string())]).await? == 1)
    }

    /// The holder of this long-lived token; `None` if it is unknown or has ended.
    pub async fn long_lived_holder(
        &self,
        digest: &TokenDigest,
        now: WallTime,
    ) -> Result<Option<LongLivedHolder>, StoreError> {
        let rows = self.sql.read(HOLDER, &[digest_arg(digest), Arg::Time(now)]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let limits = limits(row, "token_roles", "token_businesses", "token_source")?;
        let last_used = row.column::<Option<WallTime>>("token_last_used_on")?;
        let is_use_unknown = last_used.is_none_or(|last| now.since(last) >= USE_KNOWN);
        let signed_in = SignedIn::by_token(user(row)?, token_name(row, "token_name")?, limits);
        Ok(Some(LongLivedHolder { signed_in, is_use_unknown }))
    }

    /// Stores that a long-lived token was used, unless that is known well enough.
    pub async fn note_token_use(&self, digest: &TokenDigest, now: WallTime) -> Result<(), StoreError> {
        let args = [digest_arg(digest), Arg::Time(now), Arg::Time(now.minus(USE_KNOWN))];
        self.sql.change(USED, &args).await.map(drop)
    }
}

fn token(row: &Row) -> Result<LongLivedToken, StoreError> {
    Ok(LongLivedToken {
        user: name(row, "user_name")?,
        name: token_name(row, "name")?,
        limits: limits(row, "roles", "businesses", "source")?,
        created_on: row.time("created_on")?,
        ends: row.time("expires_at")?,
        last_used: row.column("last_used_on")?,
    })
}

fn limits(
    row: &Row,
    in_roles: &'static str,
    in_businesses: &'static str,
    in_source: &'static str,
) -> Result<TokenLimits, StoreError> {
    let text = row.text(in_roles)?;
    let only: Option<BTreeSet<Role>> = (!text.is_empty()).then(|| roles(&text));
    // A source that this version does not know claims nothing here.
    let source = CheckinSource::from_number(row.int(in_source)?).and_then(|source| source.try_into().ok());
    Ok(TokenLimits { roles: only, reach: businesses(&row.text(in_businesses)?), source })
}

fn token_name(row: &Row, column: &'static str) -> Result<TokenName, StoreError> {
    row.text(column)?.parse().map_err(|_| StoreError::damaged_in(&format!("column {column} holds no name of a token")))
}
