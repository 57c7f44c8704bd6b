//! Database errors, classified by what to do next.

use std::io;

/// A database error, classified by what to do next. Nothing was committed, except that the answer to a `COMMIT` may be
/// lost.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, is locked or full, or failed to write. Try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// The server answers and refuses: a login, a right, a name, a schema. It is away until someone changes that, so try
    /// again later.
    #[error("the database refuses: {what}")]
    Refused {
        /// What it refuses, and how to change that.
        what: String,
        /// The error that the server returned.
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
    /// Trying again cannot help: a setting that is wrong in itself, or a file of this machine that is damaged or not
    /// ours.
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
        let why = "no answer in time; it is down, hangs, or has no free connection";
        Self::Unavailable(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, why)))
    }

    /// Whether the login lacks a right.
    pub fn lacks_a_right(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if is_refused(source))
    }

    /// A column contains a value that this program never writes.
    pub(super) fn damaged() -> Self {
        Self::Unusable { what: BAD_COLUMN.to_owned(), source: None }
    }
}

const BAD_COLUMN: &str = "a column holds an unexpected value";

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

/// Classifies an error of PostgreSQL by its SQLSTATE (PostgreSQL manual, appendix A).
fn of_postgres(code: &str, source: sqlx::Error) -> StoreError {
    let refused = |what: &str, source| StoreError::Refused { what: what.to_owned(), source };
    match code {
        // Serialization failure, deadlock, unique violation.
        "40001" | "40P01" | "23505" => StoreError::Conflict,
        "42501" => refused(
            "this login lacks a right; as the owner of the tables, grant it the rights that the README lists under \
             \"PostgreSQL\"",
            source,
        ),
        "3D000" => {
            refused("there is no database of this name on the server; correct database.url or create it", source)
        }
        "25006" => refused(
            "the server is read-only: a standby, or set so; correct database.url, or promote the server",
            source,
        ),
        // Out of memory while it ran the statement.
        "53200" => StoreError::Unfit(source),
        _ => match code.get(..2) {
            Some("28") => refused(
                "the server does not accept this login; correct the user in database.url or the password in \
                 database.password_file, or create the login",
                source,
            ),
            // Syntax, missing table or column.
            Some("42") => {
                refused("its tables do not fit this program; run `checkind migrate`, or restore them", source)
            }
            // Bad value, violated constraint, a limit of the server.
            Some("22" | "23" | "54") => StoreError::Unfit(source),
            Some(_) | None => StoreError::Unavailable(source),
        },
    }
}

/// Classifies an error of SQLite by its extended result code (sqlite.org/rescode.html).
fn of_sqlite(code: &str, source: sqlx::Error) -> StoreError {
    let unusable = |what: &str, source| StoreError::Unusable { what: what.to_owned(), source: Some(source) };
    match code {
        // Unique index, primary key.
        "2067" | "1555" => StoreError::Conflict,
        // Out of memory; too big; a constraint (check, foreign key, not null); a value of the wrong type.
        "7" | "18" | "275" | "787" | "1299" | "20" => StoreError::Unfit(source),
        // Damaged file, not a database.
        "11" | "26" => unusable("the file is damaged; restore a backup made with `checkind backup`", source),
        "1" => unusable("a statement does not fit the schema", source),
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
        | sqlx::Error::TypeNotFound { .. } => StoreError::Unusable { what: BAD_COLUMN.to_owned(), source: Some(error) },
        // A value larger than the protocol can carry.
        sqlx::Error::Encode(_) => StoreError::Unfit(error),
        sqlx::Error::PoolTimedOut => StoreError::too_late(),
        other => StoreError::Unavailable(other),
    }
}

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
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            match database_code(&error).as_deref() {
                // Another gateway is creating the same tables at this moment.
                Some("42P07" | "42710" | "42701") => StoreError::Conflict,
                Some(_) | None => error.into(),
            }
        }
        other => {
            StoreError::Unusable { what: format!("its schema cannot be brought up to date: {other}"), source: None }
        }
    }
}
