//! Tokens that live for months: for a display at the door, or a program that cannot sign in again.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::{Reach, Rights, Role, TokenDigest, User, UserName, fresh_token};
use crate::base::{clock::WallTime, record::CheckinSource};

/// How long a long-lived token is valid unless an end is given: a year.
pub const LONG_LIFETIME: Duration = Duration::from_hours(365 * 24);

/// The longest time a long-lived token may be valid, two years and a day: one that is forgotten ends at last.
pub const LONGEST_LIFETIME: Duration = Duration::from_hours(731 * 24);

/// The most long-lived tokens of a user: more than the displays and programs of one site. Another one is refused.
pub const LONG_LIVED_PER_USER: usize = 64;

/// The longest name of a token, in bytes: a line of a table.
const TOKEN_NAME_BYTES: usize = 80;

/// What a long-lived token begins with, so it is recognised in a place where it should not be.
const PREFIX: &str = "checkind_";

/// What a long-lived token is for, as its owner named it; each of a user's has another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenName(String);

/// The text is not a [`TokenName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a token has 1 to {TOKEN_NAME_BYTES} bytes, no control characters and no space at its ends")]
pub struct BadTokenName;

impl TokenName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TokenName {
    type Err = BadTokenName;

    fn from_str(text: &str) -> Result<Self, BadTokenName> {
        let fits = (1..=TOKEN_NAME_BYTES).contains(&text.len()) && text.trim() == text;
        if !fits || text.contains(char::is_control) {
            return Err(BadTokenName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fresh long-lived token. Printed once, never stored.
pub fn fresh_long_lived_token() -> SecretString {
    SecretString::from(format!("{PREFIX}{}", fresh_token().expose_secret()))
}

/// A source that a token may claim for the check-ins that it writes: the platform's tiles and sensors. Doors and the
/// network are what this program sees itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedSource(CheckinSource);

/// The source is none that a token may claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token may claim the source 4 (Tile) or 5 (Sensor); without one, its check-ins are Manual")]
pub struct BadSource;

impl ClaimedSource {
    /// The source of a check-in.
    pub const fn source(self) -> CheckinSource {
        self.0
    }
}

impl TryFrom<CheckinSource> for ClaimedSource {
    type Error = BadSource;

    fn try_from(source: CheckinSource) -> Result<Self, BadSource> {
        match source {
            CheckinSource::Tile | CheckinSource::Sensor => Ok(Self(source)),
            CheckinSource::None
            | CheckinSource::Manual
            | CheckinSource::DoorAccess
            | CheckinSource::NetworkActivity => Err(BadSource),
        }
    }
}

impl FromStr for ClaimedSource {
    type Err = BadSource;

    fn from_str(text: &str) -> Result<Self, BadSource> {
        CheckinSource::from_text(text).ok_or(BadSource)?.try_into()
    }
}

/// What a token allows, of what its user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenLimits {
    /// Only these roles; `None` for all that the user has.
    pub roles: Option<BTreeSet<Role>>,
    /// Only the records of these businesses.
    pub reach: Reach,
    /// The source that it may claim.
    pub source: Option<ClaimedSource>,
}

/// A long-lived token, without the token itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongLivedToken {
    /// Whose it is.
    pub user: UserName,
    /// What it is for.
    pub name: TokenName,
    /// What it allows.
    pub limits: TokenLimits,
    /// When it was made.
    pub created_on: WallTime,
    /// From when on it is not valid.
    pub ends: WallTime,
    /// When it was last used, up to an hour late.
    pub last_used: Option<WallTime>,
}

/// Who a request acts for, and what it may do: the user's rights, or less with a limited token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The user.
    pub name: UserName,
    /// What the request may do.
    pub rights: Rights,
    /// Whose records it may see.
    pub reach: Reach,
    /// The source that its token may claim for check-ins; without one they are Manual.
    pub source: Option<ClaimedSource>,
    /// Its long-lived token.
    pub token: Option<TokenName>,
}

impl From<User> for SignedIn {
    fn from(user: User) -> Self {
        Self { name: user.name, rights: user.rights, reach: user.reach, source: None, token: None }
    }
}

impl SignedIn {
    /// The user by a long-lived token, which never allows more than the user may do now.
    pub fn by_token(user: User, token: TokenName, limits: TokenLimits) -> Self {
        let rights = match (user.rights, limits.roles) {
            (rights, None) => rights,
            (rights, Some(roles)) => Rights::Roles(roles.into_iter().filter(|role| rights.allow(*role)).collect()),
        };
        let reach = user.reach.within(limits.reach);
        Self { name: user.name, rights, reach, source: limits.source, token: Some(token) }
    }
}

/// A bearer token as a client sent it, by the form that it has. Only digests are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BearerToken {
    /// An access token of a pair.
    Access(TokenDigest),
    /// A long-lived token.
    LongLived(TokenDigest),
}

impl BearerToken {
    /// `None` if no token of ours looks like this, which needs no look-up.
    pub fn read(text: &str) -> Option<Self> {
        match text.strip_prefix(PREFIX) {
            Some(rest) => TokenDigest::of_token(rest).map(|_| Self::LongLived(TokenDigest::of(text))),
            None => TokenDigest::of_token(text).map(Self::Access),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Right, access::RoleEntity, base::record::BusinessId};

    fn user(rights: Rights, reach: Reach) -> User {
        let at = WallTime::from_millis(0);
        User { name: "ada".parse().expect("a name"), rights, reach, created_on: at, updated_on: at }
    }

    #[test]
    fn a_token_allows_no_more_than_its_user_may_do() {
        let (read, list) = (Role::of(RoleEntity::Checkin, Right::Read), Role::of(RoleEntity::Checkin, Right::List));
        let [one, two] = [1, 2].map(|id| Reach::of([BusinessId(id)]));
        let both = Reach::of([BusinessId(1), BusinessId(2)]);
        let only = |roles: &[Role]| Rights::Roles(roles.iter().copied().collect());
        for (rights, roles, expected) in [
            (Rights::Administrator, None, Rights::Administrator),
            (Rights::Administrator, Some(vec![read]), only(&[read])),
            (only(&[read]), None, only(&[read])),
            (only(&[read]), Some(vec![read, list]), only(&[read])),
            (only(&[read]), Some(vec![list]), only(&[])),
        ] {
            let roles = roles.map(|roles| roles.into_iter().collect());
            let limits = TokenLimits { roles, reach: Reach::All, source: None };
            let token = "display".parse::<TokenName>().expect("a name");
            assert_eq!(SignedIn::by_token(user(rights, Reach::All), token, limits).rights, expected);
        }
        for (reach, limit, expected) in [
            (Reach::All, Reach::All, Reach::All),
            (Reach::All, one.clone(), one.clone()),
            (one.clone(), Reach::All, one.clone()),
            (both, two.clone(), two.clone()),
            (one, two, Reach::Only(BTreeSet::new())),
        ] {
            assert_eq!(reach.within(limit), expected);
        }
    }

    #[test]
    fn bearer_tokens_are_told_apart_by_their_form() {
        let (short, long) = (fresh_token(), fresh_long_lived_token());
        let digest = |token: &SecretString| TokenDigest::of(token.expose_secret());
        assert_eq!(BearerToken::read(short.expose_secret()), Some(BearerToken::Access(digest(&short))));
        assert_eq!(BearerToken::read(long.expose_secret()), Some(BearerToken::LongLived(digest(&long))));
        for other in ["", "checkind_", "checkind_x", &format!("checkind_{}", long.expose_secret())] {
            assert_eq!(BearerToken::read(other), None, "{other}");
        }
    }

    #[test]
    fn only_tiles_and_sensors_can_be_claimed() {
        let claimed = |text: &str| text.parse::<ClaimedSource>().map(ClaimedSource::source);
        assert_eq!([claimed("4"), claimed("tile")], [Ok(CheckinSource::Tile); 2]);
        assert_eq!([claimed("5"), claimed("Sensor")], [Ok(CheckinSource::Sensor); 2]);
        for other in ["0", "1", "DoorAccess", "3", "6", ""] {
            assert_eq!(claimed(other), Err(BadSource), "{other}");
        }
    }
}
