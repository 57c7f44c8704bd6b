//! PURE. What follows from each answer of PostgreSQL: one row for each class or code, from which the classification and
//! the reference are made.

/// What the gateway does after an answer of PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SqlStateEffect {
    /// Another gateway was faster: loads and decides again, at once.
    DecidesAgain,
    /// The database is away until this is over: keeps collecting, and tries again.
    Waits,
    /// These rows will never fit: tries with fewer, and sets aside a message that cannot be committed alone.
    SetsAside,
}

impl SqlStateEffect {
    /// What the reference says.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::DecidesAgain => "decides again",
            Self::Waits => "waits",
            Self::SetsAside => "sets aside",
        }
    }
}

/// A row of [`SQLSTATES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SqlState {
    /// A class, the first two characters of a code, or a whole code, which comes before its class.
    pub code: &'static str,
    /// What has happened.
    pub meaning: &'static str,
    /// What follows.
    pub effect: SqlStateEffect,
    /// What an operator should do; empty if the server's own words say it, or time alone helps.
    pub advice: &'static str,
}

const fn decides_again(code: &'static str, meaning: &'static str) -> SqlState {
    SqlState { code, meaning, effect: SqlStateEffect::DecidesAgain, advice: "" }
}

const fn waits(code: &'static str, meaning: &'static str, advice: &'static str) -> SqlState {
    SqlState { code, meaning, effect: SqlStateEffect::Waits, advice }
}

const fn sets_aside(code: &'static str, meaning: &'static str) -> SqlState {
    SqlState { code, meaning, effect: SqlStateEffect::SetsAside, advice: "" }
}

/// The codes (PostgreSQL manual, appendix A). All others wait.
pub const SQLSTATES: [SqlState; 23] = [
    waits("08", "the connection failed", ""),
    sets_aside("22", "a column cannot hold a value"),
    decides_again("23505", "another gateway wrote the same row first"),
    sets_aside("23", "a row breaks a rule of its table"),
    waits(
        "25006",
        "the server is read-only",
        "it is a standby, or `default_transaction_read_only` is on; promote it, correct database.url, or switch that off",
    ),
    waits(
        "28P01",
        "the password is wrong",
        "the password of this login is wrong; correct database.password_file and reload checkind (a credential of systemd \
         needs a restart), or set the password of the login",
    ),
    waits(
        "28",
        "the login is not accepted",
        "the server does not accept this login; correct the user in database.url and reload checkind, or create the \
         login, allow it to log in, and list it in the server's pg_hba.conf; to one that asks for a certificate, present \
         it with cert_file and key_file",
    ),
    waits(
        "3D000",
        "there is no such database",
        "the server has no database of this name; wait if it is being restored, create it, or correct database.url and \
         restart checkind",
    ),
    decides_again("40001", "another gateway changed the same rows"),
    decides_again("40P01", "two gateways waited for each other"),
    waits(
        "42501",
        "the login lacks a right",
        "this login lacks a right; as the owner of the tables, grant it the rights that the README lists under \
         \"PostgreSQL\"",
    ),
    waits(
        "42",
        "a table or column is missing",
        "its tables do not fit this program; run `checkind migrate` with the login that owns them, or restore them",
    ),
    waits("53100", "the server's disk is full", "free space on the server's disk"),
    sets_aside("53200", "the server has too little memory"),
    waits(
        "53",
        "the server has no free connection",
        "raise max_connections of the server, or CONNECTION LIMIT of this login: each gateway needs two connections",
    ),
    sets_aside("54", "a limit of the server is exceeded"),
    waits("55", "the database or a row is not in the state for it", ""),
    waits("57", "the server starts, stops, or was told to cancel", ""),
    waits("58", "the server's disk or system failed", "look into the server's log, and at its disk"),
    // A trigger that refuses says so with P0001 unless its author chose another code.
    sets_aside("P0", "a trigger or a function refuses"),
    waits(
        "XX001",
        "a page is damaged",
        "a table of the database is damaged; look into the server's log, and restore the database from a backup",
    ),
    waits(
        "XX002",
        "an index is damaged",
        "an index of the database is damaged; look into the server's log, and run REINDEX",
    ),
    waits("XX", "the server found a fault of its own", "look into the server's log"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_a_class_or_whole_and_listed_once() {
        for (place, row) in SQLSTATES.iter().enumerate() {
            assert!([2, 5].contains(&row.code.len()), "{}", row.code);
            assert!(SQLSTATES[..place].iter().all(|earlier| earlier.code != row.code), "{} is there twice", row.code);
            assert!(row.effect == SqlStateEffect::Waits || row.advice.is_empty(), "{}", row.code);
        }
    }
}
