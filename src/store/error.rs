//! Database errors, classified by what to do next.

use std::io;

/// A database error, classified by what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, is locked or full, or failed to write. Nothing was committed; try again later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// Another writer was faster. Nothing was committed; load again and decide again, at once.
    #[error("another writer changed the same records")]
    Conflict,
    /// The database answers, but trying again cannot help: a foreign schema, a damaged file, a refused login.
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

    /// A column contains a value that this program never writes.
    pub(super) fn damaged() -> Self {
        Self::Unusable { what: BAD_COLUMN.to_owned(), source: None }
    }
}

const BAD_COLUMN: &str = "a column holds an unexpected value";

impl From<sqlx::Error> for StoreError {
    #[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
    fn from(error: sqlx::Error) -> Self {
        match database_code(&error).as_deref() {
            // PostgreSQL: serialization failure, deadlock, unique violation. SQLite: unique index, primary key.
            Some("40001" | "40P01" | "23505" | "2067" | "1555") => Self::Conflict,
            // SQLite: damaged file, not a database.
            Some("11" | "26") => {
                let what = "the file is damaged; restore a backup made with `checkind backup`".to_owned();
                Self::Unusable { what, source: Some(error) }
            }
            // PostgreSQL: insufficient privilege.
            Some("42501") => {
                let what =
                    "this login lacks a right; as the owner of the tables, grant it the rights that the README lists \
                            under \"PostgreSQL\", and start again"
                        .to_owned();
                Self::Unusable { what, source: Some(error) }
            }
            // PostgreSQL class 42 (syntax, missing table or column, privilege), 28 (login), 3D (no such database).
            Some(code) if ["42", "28", "3D"].iter().any(|class| code.starts_with(class)) && code.len() == 5 => {
                Self::Unusable { what: "the server refuses the request".to_owned(), source: Some(error) }
            }
            Some("1") => Self::Unusable { what: "a statement does not fit the schema".to_owned(), source: Some(error) },
            Some(_) | None => match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::TypeNotFound { .. } => {
                    Self::Unusable { what: BAD_COLUMN.to_owned(), source: Some(error) }
                }
                sqlx::Error::PoolTimedOut => Self::too_late(),
                other => Self::Unavailable(other),
            },
        }
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
        MigrateError::VersionMissing(version) => StoreError::Unusable {
            what: format!("its schema (version {version}) is newer than this program; install a newer checkind"),
            source: None,
        },
        other => {
            StoreError::Unusable { what: format!("its schema cannot be brought up to date: {other}"), source: None }
        }
    }
}
