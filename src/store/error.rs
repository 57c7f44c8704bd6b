//! Database errors, classified by what to do next.

use std::io;

use sqlx::migrate::MigrateError;

use super::sqlstates::{SQLSTATES, SqlStateEffect};

/// A database error, classified by what to do next. Nothing was committed, except that the answer to a `COMMIT` may be
/// lost.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, is locked or full, or failed to write. Try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The database answers and refuses: a login, a right, a name, a schema, a damaged or foreign file. It is away until
    /// someone changes that, so try again later.
    #[error("the database refuses: {what}")]
    Refused {
        /// What it refuses, and how to change that.
        what: String,
        /// The error that it returned.
        #[source]
        source: sqlx::Error,
    },
    /// These rows cannot be written, however often it is tried: one holds a value that a column does not take, or
    /// together they need more memory than there is. Try with fewer.
    #[error("the database does not take these rows")]
    Unfit(#[source] sqlx::Error),
    /// Another writer was faster. Load again and decide again, at once.
    #[error("another writer changed the same records")]
    Conflict,
    /// Trying again in this process cannot help: a setting is wrong in itself, another process uses the spool, or another
    /// gateway has the lease.
    #[error("the database cannot be used: {what}")]
    Unusable {
        /// What is wrong, and how to fix it.
        what: String,
        /// The error that the database returned.
        #[source]
        source: Option<sqlx::Error>,
    },
}

impl StoreError {
    /// There was no connection, or no answer, in time.
    pub(crate) fn too_late() -> Self {
        let why = "no answer in time; it, its disk or the network hangs";
        Self::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Whether there was no answer: the connection was lost, or the time was up.
    pub(crate) const fn is_silence(&self) -> bool {
        matches!(self, Self::Unavailable(sqlx::Error::Io(_)))
    }

    /// Whether the login lacks a right.
    pub fn lacks_a_right(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if is_refused(source))
    }

    /// Whether the schema is too new for this program: then our words say everything, and the library's are not shown.
    pub(crate) fn is_too_new(&self) -> bool {
        let Self::Refused { source: sqlx::Error::Migrate(fault), .. } = self else { return false };
        matches!(**fault, MigrateError::VersionMissing(_))
    }

    /// A column contains a value that this program never writes.
    pub(super) fn damaged() -> Self {
        Self::damaged_in("a value has another form")
    }

    /// The same, saying where.
    pub(super) fn damaged_in(place: &str) -> Self {
        sqlx::Error::Decode(place.into()).into()
    }

    /// What the database or its library answered, in its own words; `None` if the error is ours alone.
    pub fn answer(&self) -> Option<String> {
        match self {
            Self::Unavailable(source) | Self::Refused { source, .. } | Self::Unfit(source) => Some(own_words(source)),
            Self::Unusable { source, .. } => source.as_ref().map(own_words),
            Self::Conflict => None,
        }
    }

    /// For conditions: what the database (or the spool, as `subject` says) answered, in its own words, and what to do.
    pub fn in_words(&self, subject: &str) -> String {
        match self {
            Self::Unavailable(source @ sqlx::Error::Database(_)) => format!("{subject} fails: {}", own_words(source)),
            Self::Unavailable(source) => {
                format!(
                    "{subject} does not answer ({}); check that it runs and is where the settings say",
                    own_words(source)
                )
            }
            Self::Refused { source: source @ sqlx::Error::Tls(_), .. } => {
                format!("{subject} cannot be reached over TLS: {}", own_words(source))
            }
            Self::Refused { what, .. } if self.is_too_new() => format!("{subject} refuses: {what}"),
            Self::Refused { what, source } => format!("{subject} refuses: {}; {what}", own_words(source)),
            Self::Unfit(source) => format!("{subject} does not take these rows: {}", own_words(source)),
            Self::Conflict => "another writer keeps changing the same records; are two gateways running for one \
                               business?"
                .to_owned(),
            Self::Unusable { what, .. } => format!("{subject} cannot be used: {what}"),
        }
    }
}

/// The database's own words, without what the library adds, and its code for a search.
#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
fn own_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(answer) => format!("{} ({})", answer.message(), answer.code().unwrap_or_default()),
        sqlx::Error::Io(fault) => fault.to_string(),
        sqlx::Error::Tls(fault) | sqlx::Error::Configuration(fault) => fault.to_string(),
        other => other.to_string(),
    }
}

const BAD_COLUMN: &str =
    "a column is missing or holds a value that this program does not write; restore the database from a backup";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match database_code(&error) {
            Some(code) if code.len() == SQLSTATE => of_postgres(&code, error),
            Some(code) => of_sqlite(&code, error),
            None => of_the_library(error),
        }
    }
}

/// The length of a code of PostgreSQL; SQLite's are shorter numbers.
const SQLSTATE: usize = 5;

/// Classifies an error of PostgreSQL by [`SQLSTATES`]. What is not in that table waits.
fn of_postgres(code: &str, source: sqlx::Error) -> StoreError {
    let whole = SQLSTATES.iter().find(|row| row.code == code);
    let row = whole.or_else(|| SQLSTATES.iter().find(|row| Some(row.code) == code.get(..2)));
    match row.map(|row| (row.effect, row.advice)) {
        Some((SqlStateEffect::DecidesAgain, _)) => StoreError::Conflict,
        Some((SqlStateEffect::SetsAside, _)) => StoreError::Unfit(source),
        Some((SqlStateEffect::Waits, "")) | None => StoreError::Unavailable(source),
        Some((SqlStateEffect::Waits, advice)) => StoreError::Refused { what: advice.to_owned(), source },
    }
}

/// What to do about a damaged SQLite file.
pub(super) const RESTORE: &str =
    "stop checkind, remove it with the -wal and -shm beside it, and restore a backup made with `checkind backup`";

/// The primary result code of an error of SQLite (sqlite.org/rescode.html).
pub(super) fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    Some(database_code(error)?.parse::<u32>().ok()? & 0xff)
}

/// Classifies an error of SQLite by its result code (sqlite.org/rescode.html), whose lowest eight bits are the primary
/// one.
fn of_sqlite(code: &str, source: sqlx::Error) -> StoreError {
    let refused = |what: &str, source| StoreError::Refused { what: what.to_owned(), source };
    let code = code.parse::<u32>().unwrap_or_default();
    match (code, code & 0xff) {
        // Unique index, primary key, row id.
        (2067 | 1555 | 2579, _) => StoreError::Conflict,
        // Out of memory; too big; a constraint; a value of the wrong type.
        (_, 7 | 18 | 19 | 20) => StoreError::Unfit(source),
        // Not permitted; read-only.
        (_, 3 | 8) => refused(
            "the disk is read-only, or this user may not write the file; give it and its folder to the service's user",
            source,
        ),
        // Damaged file; not a database.
        (_, 11 | 26) => refused(&format!("the file is damaged, or not a database; {RESTORE}"), source),
        (_, 14) => refused("the file cannot be opened; its folder must exist and be writable by this user", source),
        (_, 1) => refused("its tables do not fit this program: a statement does not fit the schema", source),
        _ => StoreError::Unavailable(source),
    }
}

/// Classifies an error that no database returned.
#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
fn of_the_library(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::ColumnNotFound(_)
        | sqlx::Error::Decode(_)
        | sqlx::Error::TypeNotFound { .. } => StoreError::Refused { what: BAD_COLUMN.to_owned(), source: error },
        sqlx::Error::Tls(_) => StoreError::Refused { what: BAD_CERTIFICATE.to_owned(), source: error },
        // A value larger than the protocol can carry.
        sqlx::Error::Encode(_) => StoreError::Unfit(error),
        sqlx::Error::PoolTimedOut => StoreError::too_late(),
        other => StoreError::Unavailable(other),
    }
}

/// The source says what to change: see `postgres_tls::explained`.
const BAD_CERTIFICATE: &str = "there is no connection over TLS";

/// Whether the login lacks a right.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    database_code(error).as_deref() == Some("42501")
}

/// The database's own code of an error.
pub(super) fn database_code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|answer| answer.code().map(std::borrow::Cow::into_owned))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
pub(super) fn migration_error(error: sqlx::migrate::MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match database_code(&error).as_deref() {
                // Another gateway is creating the same tables at this moment.
                Some("42P07" | "42710" | "42701") => StoreError::Conflict,
                Some(_) | None => error.into(),
            }
        }
        other => StoreError::Refused {
            what: "its schema cannot be brought up to date; restore it from a backup".to_owned(),
            source: other.into(),
        },
    }
}
