//! Who may call the API: users, roles, passwords, tokens. No HTTP and no SQL here.
//!
//! Roles are the platform's (`Checkin-Read` and so on). Passwords are stored as argon2id and tokens as SHA-256, so a
//! copy of the database does not give access.

mod long_lived;

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::{
        PasswordHasher,
        phc::{Output, PasswordHash},
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};

use crate::base::{clock::WallTime, closed_list::closed_list, random, record::BusinessId};

pub use long_lived::{
    BadSource, BadTokenName, BearerToken, ClaimedSource, LONG_LIFETIME, LONG_LIVED_PER_USER, LONGEST_LIFETIME,
    LongLivedToken, SignedIn, TokenLimits, TokenName, fresh_long_lived_token,
};

/// How long an access token is valid. The platform sends `expires_in: 604799`, seven days less a second, and so do we.
pub const ACCESS_LIFETIME: Duration = Duration::from_secs(604_799);

/// How long a refresh token is valid: a client that calls at least once a month never needs the password again.
pub const REFRESH_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The shortest accepted password, in characters. There are no other rules (NIST SP 800-63B 3.1.1.2).
pub const PASSWORD_CHARACTERS: usize = 12;

/// The longest accepted password, in bytes: enough for a phrase, and its length adds nothing to the cost of argon2.
pub const PASSWORD_BYTES: usize = 1024;

/// The longest user name, in bytes: the longest e-mail address (RFC 5321 4.5.3.1.3) has 254 bytes.
const NAME_BYTES: usize = 254;

/// Memory of one argon2id hash, in KiB. With one lane and two passes this is the first choice of the OWASP Password
/// Storage Cheat Sheet (m=19456, t=2, p=1).
const ARGON2_KIB: u32 = 19_456;

/// Passes of argon2id over its memory.
const ARGON2_PASSES: u32 = 2;

/// A hash with the form and cost of a real one that matches no password. An unknown user is checked against it, so the
/// answer takes as long as for a wrong password.
const DECOY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyBpdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// The name of an API user, often an e-mail address; records contain it in `UpdatedBy`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserName(String);

/// The text is not a [`UserName`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user name has 1 to {NAME_BYTES} bytes, no colon, no control characters and no space at its ends")]
pub struct BadUserName;

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UserName {
    type Err = BadUserName;

    /// A colon would end the name in HTTP Basic (RFC 7617 2); control characters would forge log lines.
    fn from_str(text: &str) -> Result<Self, BadUserName> {
        let fits = !text.is_empty() && text.len() <= NAME_BYTES && text.trim() == text;
        if !fits || text.contains(|c: char| c == ':' || c.is_control()) {
            return Err(BadUserName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

closed_list! {
    /// An entity to which roles give access, named as on the platform.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum RoleEntity {
        /// Check-ins.
        Checkin = "Checkin",
        /// Failed check-ins.
        FailedCheckin = "FailedCheckin",
        /// Locations.
        Business = "Business",
        /// Teams.
        Team = "Team",
        /// Plans.
        Tariff = "Tariff",
        /// Kinds of passes.
        TimePass = "TimePass",
        /// People.
        Coworker = "Coworker",
        /// Passes that people hold.
        CoworkerTimePass = "CoworkerTimePass",
        /// What visits without a pass cost; not an entity of the platform.
        CoworkerCharge = "CoworkerCharge",
    }

    /// The platform's name of the entity.
    fn name;
}

closed_list! {
    /// What a role allows with its entity, named as on the platform.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Right {
        /// Lists the records.
        List = "List",
        /// Reads one record.
        Read = "Read",
        /// Creates records.
        Create = "Create",
        /// Changes records.
        Edit = "Edit",
        /// Deletes records.
        Delete = "Delete",
    }

    /// The platform's name of the right.
    fn name;
}

/// One right with one entity: `Checkin-Read`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Role {
    /// The entity.
    pub entity: RoleEntity,
    /// What is allowed.
    pub right: Right,
}

impl Role {
    /// The role for a right with an entity.
    pub const fn of(entity: RoleEntity, right: Right) -> Self {
        Self { entity, right }
    }

    /// Every role.
    pub fn all() -> impl Iterator<Item = Self> {
        RoleEntity::ALL.into_iter().flat_map(|entity| Right::ALL.map(|right| Self { entity, right }))
    }
}

/// The text is not the name of a [`Role`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown role {0:?}; a role is an entity and a right, such as Checkin-Read. The entities are {entities}, the rights \
     {rights}",
    entities = RoleEntity::ALL.map(RoleEntity::name).join(", "),
    rights = Right::ALL.map(Right::name).join(", ")
)]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    /// Ignores case, because people type role names.
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        let named = |role: &Self| role.to_string().eq_ignore_ascii_case(text);
        Self::all().find(named).ok_or_else(|| UnknownRole(text.to_owned()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.entity.name(), self.right.name())
    }
}

/// What a user may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything: the platform's full unrestricted administrator.
    Administrator,
    /// What these roles allow, and nothing else.
    Roles(BTreeSet<Role>),
}

impl Rights {
    /// Whether these rights include the role.
    pub fn allow(&self, role: Role) -> bool {
        match self {
            Self::Administrator => true,
            Self::Roles(roles) => roles.contains(&role),
        }
    }
}

/// The businesses whose records a user may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All.
    All,
    /// These.
    Only(BTreeSet<BusinessId>),
}

impl Reach {
    /// The reach that consists of these businesses; all, if there are none.
    pub fn of(businesses: impl IntoIterator<Item = BusinessId>) -> Self {
        let only: BTreeSet<BusinessId> = businesses.into_iter().collect();
        if only.is_empty() { Self::All } else { Self::Only(only) }
    }

    /// Whether it includes this business.
    pub fn includes(&self, business: BusinessId) -> bool {
        self.only().is_none_or(|only| only.contains(&business))
    }

    /// What both include.
    #[must_use]
    pub fn within(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, reach) | (reach, Self::All) => reach,
            (Self::Only(one), Self::Only(other)) => Self::Only(&one & &other),
        }
    }

    /// The businesses, if they are limited.
    pub const fn only(&self) -> Option<&BTreeSet<BusinessId>> {
        match self {
            Self::All => None,
            Self::Only(only) => Some(only),
        }
    }
}

impl fmt::Display for Reach {
    /// As stored: ids joined by `,`; empty for all.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.only().into_iter().flatten().map(ToString::to_string).collect();
        f.write_str(&ids.join(","))
    }
}

/// An API user, without the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name to sign in with.
    pub name: UserName,
    /// What the user may do.
    pub rights: Rights,
    /// Whose records the user may see.
    pub reach: Reach,
    /// When the user was added.
    pub created_on: WallTime,
    /// When the rights or the password were last changed.
    pub updated_on: WallTime,
}

/// A password as stored: an argon2id PHC string. Its `Debug` shows nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(String);

/// Why a password is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPassword {
    /// Fewer than [`PASSWORD_CHARACTERS`].
    #[error("the password is too short; it needs at least {PASSWORD_CHARACTERS} characters")]
    Short,
    /// More than [`PASSWORD_BYTES`].
    #[error("the password is too long; the longest has {PASSWORD_BYTES} bytes")]
    Long,
    /// It contains a control character, which no client can send.
    #[error("the password contains a control character")]
    Control,
}

impl StoredPassword {
    /// Hashes a password, in about 20 ms and 19 MiB. Blocks; must not run on the runtime's own threads.
    pub fn new(password: &SecretString) -> Result<Self, BadPassword> {
        let password = password.expose_secret();
        if password.chars().count() < PASSWORD_CHARACTERS {
            return Err(BadPassword::Short);
        }
        if password.len() > PASSWORD_BYTES {
            return Err(BadPassword::Long);
        }
        if password.contains(char::is_control) {
            return Err(BadPassword::Control);
        }
        let hash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params())
            .hash_password_with_salt(password.as_bytes(), &random::secret()[..16])
            .expect("argon2 accepts any password of this length with a 16-byte salt");
        Ok(Self(hash.to_string()))
    }

    /// From the text in the database.
    pub fn from_phc(text: String) -> Self {
        Self(text)
    }

    /// The text for the database.
    pub fn as_phc(&self) -> &str {
        &self.0
    }

    /// Whether this is the password. As slow as [`StoredPassword::new`]; blocks. A damaged hash matches no password, and
    /// neither does one that needs more memory than ours.
    pub fn is(&self, password: &SecretString, memory: &mut HashMemory) -> bool {
        let Ok(stored) = PasswordHash::new(&self.0) else { return false };
        memory.output(&stored, password).is_some_and(|output| stored.hash == Some(output))
    }

    /// The hash that an unknown user's password is compared with, at the same cost; no password matches it.
    pub fn decoy() -> Self {
        Self(DECOY_HASH.to_owned())
    }
}

/// The memory of one hash, 19 MiB from the first one on. To use it again costs less than to get it from the system, and
/// leaves the allocator nothing to keep.
#[derive(Clone, Default)]
pub struct HashMemory(Vec<Block>);

impl HashMemory {
    /// The hash of a password with the salt and the costs of a stored one. `None` if that is no argon2 hash.
    fn output(&mut self, stored: &PasswordHash, password: &SecretString) -> Option<Output> {
        let algorithm = Algorithm::try_from(stored.algorithm.as_str()).ok()?;
        let version = Version::try_from(stored.version?).ok()?;
        let argon2 = Argon2::new(algorithm, version, Params::try_from(stored).ok()?);
        let mut output = [0; Output::MAX_LENGTH];
        let output = output.get_mut(..stored.hash?.len())?;
        self.0.resize(params().block_count(), Block::new());
        let password = password.expose_secret().as_bytes();
        argon2.hash_password_into_with_memory(password, &stored.salt?, output, &mut self.0).ok()?;
        Output::new(output).ok()
    }
}

impl fmt::Debug for HashMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashMemory")
    }
}

impl fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredPassword")
    }
}

fn params() -> Params {
    Params::new(ARGON2_KIB, ARGON2_PASSES, 1, None).expect("constants inside argon2's limits")
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenKind {
    /// To call the API.
    Access,
    /// To be exchanged for a new pair, once.
    Refresh,
}

impl TokenKind {
    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Refresh => "refresh",
        }
    }

    /// How long a token of this kind is valid.
    pub const fn lifetime(self) -> Duration {
        match self {
            Self::Access => ACCESS_LIFETIME,
            Self::Refresh => REFRESH_LIFETIME,
        }
    }
}

/// A fresh token: 256 random bits as base64url, 43 characters. Sent to the client once, never stored.
pub fn fresh_token() -> SecretString {
    SecretString::from(URL_SAFE_NO_PAD.encode(random::secret()))
}

/// All that is stored of a token: its SHA-256 in hexadecimal. With 256 random bits, it needs no salt and no slow hash.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenDigest(String);

impl TokenDigest {
    /// The digest of a token as a client sent it; `None` if no token of ours looks like this, which needs no look-up.
    pub fn of_token(token: &str) -> Option<Self> {
        let is_ours = token.len() == 43 && URL_SAFE_NO_PAD.decode(token).is_ok();
        is_ours.then(|| Self::of(token))
    }

    /// The digest of a token as a client sent it.
    pub fn of(token: &str) -> Self {
        use fmt::Write as _;
        let mut hex = String::with_capacity(64);
        for byte in Sha256::digest(token.as_bytes()) {
            write!(hex, "{byte:02x}").expect("writing to a String cannot fail");
        }
        Self(hex)
    }

    /// The text for the database.
    pub fn as_hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenDigest")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn a_password_is_kept_as_argon2id_with_the_stated_cost_and_is_recognised() {
        let kept = StoredPassword::new(&secret("correct horse battery")).expect("a good password");
        assert!(kept.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", kept.as_phc());
        let mut memory = HashMemory::default();
        // What one hash leaves in the memory does not change the next.
        for _ in 0..2 {
            assert!(kept.is(&secret("correct horse battery"), &mut memory));
            assert!(!kept.is(&secret("correct horse batterz"), &mut memory));
        }
        assert_ne!(kept, StoredPassword::new(&secret("correct horse battery")).expect("a good password"), "salted");
        assert!(!format!("{kept:?}").contains("argon2"));
    }

    #[test]
    fn the_decoy_hash_is_parsed_and_costs_as_much_as_a_real_one() {
        let hash = PasswordHash::new(DECOY_HASH).expect("a PHC string");
        assert_eq!(Params::try_from(&hash).expect("params").m_cost(), ARGON2_KIB);
        assert_eq!(Params::try_from(&hash).expect("params").t_cost(), ARGON2_PASSES);
        let mut memory = HashMemory::default();
        let larger = DECOY_HASH.replace("m=19456", "m=2000000000");
        for hash in [DECOY_HASH, "damaged", "$argon2id$v=19$m=19456,t=2,p=1", &larger] {
            assert!(!StoredPassword::from_phc(hash.to_owned()).is(&secret(""), &mut memory), "{hash}");
        }
    }

    #[test]
    fn passwords_outside_the_bounds_are_refused() {
        for (password, why) in [
            ("elevenchars".to_owned(), BadPassword::Short),
            ("äöü".to_owned(), BadPassword::Short),
            ("x".repeat(PASSWORD_BYTES + 1), BadPassword::Long),
            ("twelve chars\u{3}".to_owned(), BadPassword::Control),
        ] {
            assert_eq!(StoredPassword::new(&secret(&password)), Err(why), "{password}");
        }
    }

    #[test]
    fn user_names_fit_basic_authentication_and_one_log_line() {
        for good in ["ada@example.com", "front desk", "a"] {
            assert_eq!(good.parse::<UserName>().expect("a name").as_str(), good);
        }
        for bad in ["", " ada", "ada ", "a:b", "a\nb", &"x".repeat(255)] {
            assert_eq!(bad.parse::<UserName>(), Err(BadUserName), "{bad:?}");
        }
    }

    #[test]
    fn role_names_are_parsed_in_any_case() {
        for role in Role::all() {
            assert_eq!(role.to_string().parse(), Ok(role));
            assert_eq!(role.to_string().to_lowercase().parse(), Ok(role));
        }
        assert_eq!("Checkin-Fly".parse::<Role>(), Err(UnknownRole("Checkin-Fly".to_owned())));
    }

    #[test]
    fn rights_allow_their_roles_only_and_an_administrator_everything() {
        let reader = Rights::Roles(BTreeSet::from([Role::of(RoleEntity::Checkin, Right::Read)]));
        assert!(reader.allow(Role::of(RoleEntity::Checkin, Right::Read)));
        assert!(!reader.allow(Role::of(RoleEntity::FailedCheckin, Right::Read)));
        assert!(Role::all().all(|role| Rights::Administrator.allow(role)));
    }

    #[test]
    fn tokens_are_long_and_only_their_digest_is_kept() {
        let token = fresh_token();
        assert_eq!(token.expose_secret().len(), 43);
        assert_ne!(token.expose_secret(), fresh_token().expose_secret());
        assert_eq!(TokenDigest::of_token(token.expose_secret()), Some(TokenDigest::of(token.expose_secret())));
        for other in ["", "nonsense", &"!".repeat(43), &"a".repeat(44)] {
            assert_eq!(TokenDigest::of_token(other), None, "{other}");
        }
        assert_eq!(TokenDigest::of("abc").as_hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
