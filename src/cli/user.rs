//! `checkind user`: manages API users, their roles and passwords. Each command returns the text to print.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, IsTerminal, Read, Write},
    os::fd::{AsFd, BorrowedFd},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::print::{pretty, table};
use crate::{
    access::{
        BadPassword, LONG_LIVED_PER_USER, PASSWORD_BYTES, Reach, Rights, Role, StoredPassword, TokenName, User,
        UserName,
    },
    base::{clock::WallTime, record::BusinessId},
    store::{Store, StoreError},
};

/// Why a `user` command changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A mistake on the command line: exit code 64.
    #[error("a user needs --admin or at least one --role, and not both")]
    Rights,
    /// `add` with a name that is taken: exit code 64.
    #[error("user {0} already exists; set a new password with `checkind user password`")]
    Exists(UserName),
    /// An unknown name: exit code 64.
    #[error("there is no user {0}; `checkind user list` lists all users")]
    Unknown(UserName),
    /// The password is not acceptable: exit code 64.
    #[error(transparent)]
    Password(#[from] BadPassword),
    /// The password was typed differently the second time: exit code 64.
    #[error("the two passwords differ")]
    Differ,
    /// A token that would not be valid at all, or for too long: exit code 64.
    #[error("a token ends today at the earliest, and in two years at the latest; write --ends as 2027-01-31")]
    TokenEnd,
    /// A token may do no more than its user: exit code 64.
    #[error("user {0} lacks the role {1}, so a token of theirs cannot have it")]
    TokenRole(UserName, Role),
    /// A token may see no more than its user: exit code 64.
    #[error("user {0} does not see business {1}, so a token of theirs cannot")]
    TokenBusiness(UserName, BusinessId),
    /// The name is taken: exit code 64.
    #[error("user {0} has a token \"{1}\"; choose another name, or revoke that one first")]
    TokenExists(UserName, TokenName),
    /// The user has the most tokens: exit code 64.
    #[error("user {0} has {LONG_LIVED_PER_USER} tokens, which is the most; revoke one first")]
    TokensFull(UserName),
    /// An unknown token: exit code 64.
    #[error("user {0} has no token \"{1}\"; `checkind user token list {0}` lists them")]
    NoToken(UserName, TokenName),
    /// The terminal or standard input failed, or ended without a line: exit code 74.
    #[error("cannot read the password")]
    Input(#[from] io::Error),
    /// Exit code 69.
    #[error("cannot read or change the users")]
    Store(#[from] StoreError),
}

/// The rights given with `--admin` and `--role …`.
pub fn rights(administrator: bool, roles: &[Role]) -> Result<Rights, UserError> {
    match (administrator, roles) {
        (true, []) => Ok(Rights::Administrator),
        (false, [_, ..]) => Ok(Rights::Roles(roles.iter().copied().collect::<BTreeSet<_>>())),
        (true, [_, ..]) | (false, []) => Err(UserError::Rights),
    }
}

/// Prompts for a password twice at the terminal without echo, or reads the first line of standard input if that is not
/// a terminal. Returns its hash. Blocks.
pub fn ask_password() -> Result<StoredPassword, UserError> {
    let input = io::stdin();
    if !input.is_terminal() {
        return Ok(StoredPassword::new(&first_line(&mut input.lock())?)?);
    }
    let echo_off = EchoOff::new(input.as_fd())?;
    let password = prompted("Password: ", &mut input.lock())?;
    let stored = StoredPassword::new(&password)?;
    let again = prompted("Repeat the password: ", &mut input.lock())?;
    drop(echo_off);
    if password.expose_secret() != again.expose_secret() {
        return Err(UserError::Differ);
    }
    Ok(stored)
}

/// `user add`.
pub async fn add(
    store: &Store,
    name: &UserName,
    (rights, reach): (&Rights, &Reach),
    password: &StoredPassword,
    now: WallTime,
) -> Result<String, UserError> {
    if !store.add_user(name, password, rights, reach, now).await? {
        return Err(UserError::Exists(name.clone()));
    }
    Ok(format!("User {name} added. Roles: {}. Businesses: {}.\n", described(rights), whose(reach)))
}

/// `user list`: every user with their rights, as a table or as a JSON array.
pub async fn list(store: &Store, json: bool) -> Result<String, UserError> {
    let users = store.users().await?;
    if json {
        let listed: Vec<_> = users.iter().map(Listed::from).collect();
        return Ok(pretty(&listed));
    }
    if users.is_empty() {
        return Ok("There are no users; add one with `checkind user add`.\n".to_owned());
    }
    let row = |user: User| {
        [user.name.to_string(), described(&user.rights), whose(&user.reach), user.updated_on.to_rfc3339_seconds()]
    };
    Ok(table(["NAME", "ROLES", "BUSINESSES", "LAST CHANGED"], users.into_iter().map(row).collect()))
}

/// `user password`: sets a new password and revokes every token.
pub async fn set_password(
    store: &Store,
    name: &UserName,
    password: &StoredPassword,
    now: WallTime,
) -> Result<String, UserError> {
    if !store.set_password(name, password, now).await? {
        return Err(UserError::Unknown(name.clone()));
    }
    Ok(format!("User {name} has a new password; all tokens were revoked.\n"))
}

/// `user role`: replaces the rights, effective from the next request.
pub async fn set_rights(
    store: &Store,
    name: &UserName,
    (rights, reach): (&Rights, &Reach),
    now: WallTime,
) -> Result<String, UserError> {
    if !store.set_rights(name, rights, reach, now).await? {
        return Err(UserError::Unknown(name.clone()));
    }
    Ok(format!("User {name} updated. Roles: {}. Businesses: {}.\n", described(rights), whose(reach)))
}

/// `user remove`.
pub async fn remove(store: &Store, name: &UserName) -> Result<String, UserError> {
    if !store.remove_user(name).await? {
        return Err(UserError::Unknown(name.clone()));
    }
    Ok(format!("User {name} was removed; all tokens were revoked.\n"))
}

/// A user as `user list --json` prints them, with keys in the style of the API.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Listed<'a> {
    name: &'a str,
    administrator: bool,
    roles: Vec<String>,
    /// Null for all.
    businesses: Option<&'a BTreeSet<BusinessId>>,
    created_on: String,
    updated_on: String,
}

impl<'a> From<&'a User> for Listed<'a> {
    fn from(user: &'a User) -> Self {
        let (administrator, roles) = match &user.rights {
            Rights::Administrator => (true, Vec::new()),
            Rights::Roles(roles) => (false, roles.iter().map(ToString::to_string).collect()),
        };
        Self {
            name: user.name.as_str(),
            administrator,
            roles,
            businesses: user.reach.only(),
            created_on: user.created_on.to_rfc3339_seconds(),
            updated_on: user.updated_on.to_rfc3339_seconds(),
        }
    }
}

pub(super) fn described(rights: &Rights) -> String {
    match rights {
        Rights::Administrator => "administrator".to_owned(),
        Rights::Roles(roles) if roles.is_empty() => "no roles".to_owned(),
        Rights::Roles(roles) => roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

pub(super) fn whose(reach: &Reach) -> String {
    match reach {
        Reach::All => "all".to_owned(),
        Reach::Only(_) => reach.to_string(),
    }
}

fn prompted(prompt: &str, input: &mut impl BufRead) -> Result<SecretString, UserError> {
    let mut terminal = io::stderr();
    terminal.write_all(prompt.as_bytes())?;
    terminal.flush()?;
    let line = first_line(input);
    // The line end was not echoed either.
    terminal.write_all(b"\n")?;
    line
}

/// Reads a line without its line end, but no more bytes than a password may have plus a line end. A longer password is
/// then rejected for its length.
fn first_line(input: &mut impl BufRead) -> Result<SecretString, UserError> {
    const MAX_BYTES: u64 = PASSWORD_BYTES as u64 + 2;
    let mut line = String::new();
    if input.take(MAX_BYTES).read_line(&mut line)? == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if line.ends_with('\n') {
        line.pop();
    }
    if line.ends_with('\r') {
        line.pop();
    }
    Ok(SecretString::from(line))
}

/// Turns off the terminal's echo until dropped.
///
/// Also turns off signals from the keyboard, as getpass(3) does: an interrupt would end the program and leave the
/// terminal without echo. Ctrl-C becomes a character that no password may contain.
struct EchoOff<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> EchoOff<'a> {
    fn new(terminal: BorrowedFd<'a>) -> Result<Self, UserError> {
        let before = tcgetattr(terminal).map_err(io::Error::from)?;
        let mut modes = before.clone();
        modes.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(terminal, OptionalActions::Flush, &modes).map_err(io::Error::from)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Flush, &self.before) {
            tracing::warn!(%error, "could not turn the terminal's echo back on; run `stty echo`");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::{Right, RoleEntity},
        settings::Database,
    };

    #[test]
    fn a_user_is_either_an_administrator_or_has_roles() {
        assert!(matches!(rights(true, &[]), Ok(Rights::Administrator)));
        let reader = Role::of(RoleEntity::Checkin, Right::Read);
        assert!(matches!(rights(false, &[reader, reader]), Ok(Rights::Roles(roles)) if roles.len() == 1));
        assert!(matches!(rights(false, &[]), Err(UserError::Rights)));
        assert!(matches!(rights(true, &[reader]), Err(UserError::Rights)));
    }

    #[test]
    fn the_first_line_is_the_password() {
        for (input, expected) in [
            ("correct horse battery\nnext", Some("correct horse battery")),
            ("correct horse battery\r\n", Some("correct horse battery")),
            (" no end ", Some(" no end ")),
            ("\n", Some("")),
            ("", None),
        ] {
            let line = first_line(&mut input.as_bytes()).ok();
            assert_eq!(line.as_ref().map(ExposeSecret::expose_secret), expected, "{input:?}");
        }
        let long = first_line(&mut "x".repeat(1 << 20).as_bytes()).expect("a line");
        assert!(matches!(StoredPassword::new(&long), Err(BadPassword::Long)));
    }

    #[tokio::test]
    async fn users_are_added_listed_changed_and_removed() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let path = folder.path().join("checkind.db");
        let store = Store::open(&Database::Sqlite { path }).await.expect("a new database");
        let now = WallTime::from_millis(1_772_442_000_000);
        let password = StoredPassword::new(&SecretString::from("correct horse battery")).expect("a good password");
        let (ada, bot): (UserName, UserName) = ("ada@example.com".parse().expect("ok"), "bot".parse().expect("ok"));
        let reader = rights(
            false,
            &[Role::of(RoleEntity::FailedCheckin, Right::Read), Role::of(RoleEntity::Checkin, Right::Read)],
        )
        .expect("rights");
        assert!(list(&store, false).await.expect("a list").starts_with("There are no users"));
        add(&store, &ada, (&Rights::Administrator, &Reach::All), &password, now).await.expect("new");
        let some = Reach::of([BusinessId(3), BusinessId(1)]);
        let said = add(&store, &bot, (&reader, &some), &password, now).await.expect("new");
        assert_eq!(said, "User bot added. Roles: Checkin-Read, FailedCheckin-Read. Businesses: 1,3.\n");
        insta::assert_snapshot!(list(&store, false).await.expect("a list"), @r"
        NAME             ROLES                             BUSINESSES  LAST CHANGED
        ada@example.com  administrator                     all         2026-03-02T09:00:00Z
        bot              Checkin-Read, FailedCheckin-Read  1,3         2026-03-02T09:00:00Z
");
        insta::assert_snapshot!(list(&store, true).await.expect("a list"), @r#"
        [
          {
            "Name": "ada@example.com",
            "Administrator": true,
            "Roles": [],
            "Businesses": null,
            "CreatedOn": "2026-03-02T09:00:00Z",
            "UpdatedOn": "2026-03-02T09:00:00Z"
          },
          {
            "Name": "bot",
            "Administrator": false,
            "Roles": [
              "Checkin-Read",
              "FailedCheckin-Read"
            ],
            "Businesses": [
              1,
              3
            ],
            "CreatedOn": "2026-03-02T09:00:00Z",
            "UpdatedOn": "2026-03-02T09:00:00Z"
          }
        ]
"#);
        let taken = add(&store, &bot, (&Rights::Administrator, &Reach::All), &password, now).await;
        assert!(matches!(taken, Err(UserError::Exists(name)) if name == bot));
        set_password(&store, &bot, &password, now).await.expect("known");
        set_rights(&store, &bot, (&Rights::Administrator, &Reach::All), now).await.expect("known");
        assert_eq!(store.user(&bot).await.expect("a database").expect("known").0.rights, Rights::Administrator);
        remove(&store, &bot).await.expect("known");
        assert!(matches!(remove(&store, &bot).await, Err(UserError::Unknown(name)) if name == bot));
        assert!(matches!(set_rights(&store, &bot, (&reader, &Reach::All), now).await, Err(UserError::Unknown(_))));
        assert!(matches!(set_password(&store, &bot, &password, now).await, Err(UserError::Unknown(_))));
    }
}
