//! `checkind user token`: long-lived tokens of API users. Each command returns the text to print.

use std::collections::BTreeSet;

use chrono::{Days, NaiveDate, NaiveTime};
use secrecy::ExposeSecret as _;
use serde::Serialize;

use super::{
    print::{pretty, table},
    user::{UserError, described, whose},
};
use crate::{
    access::{
        ClaimedSource, LONG_LIFETIME, LONGEST_LIFETIME, LongLivedToken, Rights, Role, TokenDigest, TokenLimits,
        TokenName, UserName, fresh_long_lived_token,
    },
    base::{
        clock::WallTime,
        record::{BusinessId, CheckinSource},
    },
    store::{Store, TokenAdded},
};

/// From when on a token is not valid that is valid until the end of this day, in UTC; without a day, a year from now.
///
/// # Errors
/// The day is over, or too far away.
pub fn end(last_day: Option<NaiveDate>, now: WallTime) -> Result<WallTime, UserError> {
    let Some(last_day) = last_day else { return Ok(now.plus(LONG_LIFETIME)) };
    let midnight = last_day.checked_add_days(Days::new(1)).map(|day| day.and_time(NaiveTime::MIN).and_utc());
    match midnight.map(WallTime::from) {
        Some(end) if end > now && end <= now.plus(LONGEST_LIFETIME) => Ok(end),
        Some(_) | None => Err(UserError::TokenEnd),
    }
}

/// `user token add`. The text has the token, which is shown only here.
pub async fn add(
    store: &Store,
    (user, token): (&UserName, &TokenName),
    limits: TokenLimits,
    (end, now): (WallTime, WallTime),
) -> Result<String, UserError> {
    let (holder, _) = store.user(user).await?.ok_or_else(|| UserError::Unknown(user.clone()))?;
    if let Some(lacking) = limits.roles.iter().flatten().find(|role| !holder.rights.allow(**role)) {
        return Err(UserError::TokenRole(holder.name, *lacking));
    }
    if let Some(unseen) = limits.reach.only().into_iter().flatten().find(|business| !holder.reach.includes(**business))
    {
        return Err(UserError::TokenBusiness(holder.name, *unseen));
    }
    let secret = fresh_long_lived_token();
    let digest = TokenDigest::of(secret.expose_secret());
    let made = LongLivedToken {
        user: holder.name.clone(),
        name: token.clone(),
        limits,
        created_on: now,
        ends: end,
        last_used: None,
    };
    match store.add_long_lived_token(&made, &digest).await? {
        TokenAdded::Yes => {}
        TokenAdded::NameTaken => return Err(UserError::TokenExists(holder.name, token.clone())),
        TokenAdded::TooMany => return Err(UserError::TokensFull(holder.name)),
        TokenAdded::NoUser => return Err(UserError::Unknown(holder.name)),
    }
    Ok(format!(
        "Token \"{token}\" of user {} is valid until {}. It is shown only now:\n{}\n",
        holder.name,
        end.to_rfc3339_seconds(),
        secret.expose_secret()
    ))
}

/// `user token list`: the tokens of a user, or of all, as a table or as a JSON array.
pub async fn list(store: &Store, of: Option<&UserName>, now: WallTime, json: bool) -> Result<String, UserError> {
    if let Some(user) = of
        && store.user(user).await?.is_none()
    {
        return Err(UserError::Unknown(user.clone()));
    }
    let tokens = store.long_lived_tokens(of).await?;
    if json {
        let listed: Vec<_> = tokens.iter().map(ListedToken::from).collect();
        return Ok(pretty(&listed));
    }
    if tokens.is_empty() {
        return Ok("There are no long-lived tokens; make one with `checkind user token add`.\n".to_owned());
    }
    let row = |token: LongLivedToken| {
        let LongLivedToken { user, name, limits, created_on, ends, last_used } = token;
        let over = if ends <= now { " (over)" } else { "" };
        [
            user.to_string(),
            name.to_string(),
            limits.roles.map_or_else(|| "the user's".to_owned(), |roles| described(&Rights::Roles(roles))),
            limits.reach.only().map_or_else(|| "the user's".to_owned(), |_| whose(&limits.reach)),
            limits.source.map_or("-", |source| source.source().name()).to_owned(),
            created_on.to_rfc3339_seconds(),
            last_used.map_or_else(|| "never".to_owned(), WallTime::to_rfc3339_seconds),
            format!("{}{over}", ends.to_rfc3339_seconds()),
        ]
    };
    let heading = ["USER", "TOKEN", "ROLES", "BUSINESSES", "SOURCE", "MADE", "LAST USED", "ENDS"];
    Ok(table(heading, tokens.into_iter().map(row).collect()))
}

/// `user token revoke`, effective from the next request.
pub async fn revoke(store: &Store, user: &UserName, token: &TokenName) -> Result<String, UserError> {
    let (holder, _) = store.user(user).await?.ok_or_else(|| UserError::Unknown(user.clone()))?;
    if !store.revoke_long_lived_token(&holder.name, token).await? {
        return Err(UserError::NoToken(holder.name, token.clone()));
    }
    Ok(format!("Token \"{token}\" of user {} was revoked.\n", holder.name))
}

/// A token as `user token list --json` prints it, with keys in the style of the API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedToken<'a> {
    user: &'a str,
    name: &'a str,
    /// Null for all of the user's.
    roles: Option<Vec<String>>,
    /// Null for all of the user's.
    businesses: Option<&'a BTreeSet<BusinessId>>,
    /// Null for none.
    source: Option<&'static str>,
    created_on: String,
    last_used_on: Option<String>,
    expires_on: String,
}

impl<'a> From<&'a LongLivedToken> for ListedToken<'a> {
    fn from(token: &'a LongLivedToken) -> Self {
        Self {
            user: token.user.as_str(),
            name: token.name.as_str(),
            roles: token.limits.roles.as_ref().map(|roles| roles.iter().map(Role::to_string).collect()),
            businesses: token.limits.reach.only(),
            source: token.limits.source.map(ClaimedSource::source).map(CheckinSource::name),
            created_on: token.created_on.to_rfc3339_seconds(),
            last_used_on: token.last_used.map(WallTime::to_rfc3339_seconds),
            expires_on: token.ends.to_rfc3339_seconds(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_until_the_end_of_its_last_day() {
        let at = |text: &str| WallTime::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time"));
        let now = at("2026-03-02T09:00:00Z");
        let day = |text: &str| Some(text.parse::<NaiveDate>().expect("a day"));
        assert_eq!(end(None, now).ok(), Some(at("2027-03-02T09:00:00Z")));
        assert_eq!(end(day("2027-01-31"), now).ok(), Some(at("2027-02-01T00:00:00Z")));
        assert_eq!(end(day("2026-03-02"), now).ok(), Some(at("2026-03-03T00:00:00Z")));
        assert_eq!(end(day("2028-03-01"), now).ok(), Some(at("2028-03-02T00:00:00Z")));
        for bad in ["2026-03-01", "2028-03-03", "+262142-12-31"] {
            assert!(matches!(end(day(bad), now), Err(UserError::TokenEnd)), "{bad}");
        }
    }
}
