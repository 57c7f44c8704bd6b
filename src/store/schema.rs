//! Which version the schema of a database has, and whether this program can work with it.
//!
//! Versions are numbers of migrations. A gateway must be able to work beside a newer one that has already changed the
//! schema of their shared database, so every migration says in its name how old a program may be that works on its
//! result: `0009_since_0008_set_aside.sql` suits every program that knows version 8 or a later one. `upgrading.md` has
//! the rules for authors.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use sqlx::migrate::{MigrateError, Migration, Migrator};

use super::error::{StoreError, migration_error};

/// The word in the name of a migration before the oldest version that suits its result.
const SINCE: &str = "since ";

/// What opening a database, or `checkind migrate`, did to its schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaChange {
    /// The version found; 0 if there were no tables.
    pub from: i64,
    /// The version now.
    pub to: i64,
    /// The copy of the SQLite file as it was before.
    pub copy: Option<PathBuf>,
    /// How long it took, with the copy.
    pub took: Duration,
}

/// Whether the SQLite file is copied before its schema changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFirst {
    /// It is; without room for the copy nothing changes.
    Yes,
    /// It is not; the operator has another copy.
    No,
}

/// The tables in which sqlx's own migrator records the applied migrations; databases of earlier versions have them.
macro_rules! notes {
    ($now:literal, $time:literal, $bytes:literal) => {
        concat!(
            "CREATE TABLE IF NOT EXISTS _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on ",
            $time,
            " NOT NULL DEFAULT ",
            $now,
            ",
    success BOOLEAN NOT NULL,
    checksum ",
            $bytes,
            " NOT NULL,
    execution_time BIGINT NOT NULL
)"
        )
    };
}

pub(super) const SQLITE_NOTES: &str = notes!("CURRENT_TIMESTAMP", "TIMESTAMP", "BLOB");
pub(super) const POSTGRES_NOTES: &str = notes!("now()", "TIMESTAMPTZ", "BYTEA");

/// Records that a migration has been applied.
pub(super) const NOTE: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
    VALUES ($1, $2, TRUE, $3, -1)";

/// Reads which migrations have been applied.
pub(super) const APPLIED: &str = "SELECT version, description, success, checksum FROM _sqlx_migrations";

/// A migration that a database has recorded as applied.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct AppliedMigration {
    pub(super) version: i64,
    pub(super) description: String,
    #[sqlx(rename = "success")]
    pub(super) finished: bool,
    pub(super) checksum: Vec<u8>,
}

/// The schema of a database, compared with what this program knows.
#[derive(Debug)]
pub(super) struct Schema<'a> {
    /// The version of the database; 0 if it has no tables.
    pub(super) version: i64,
    /// The newest version that this program knows.
    pub(super) known: i64,
    /// The migrations that the database lacks, in order.
    pub(super) missing: Vec<&'a Migration>,
}

/// Compares what a database has recorded with the migrations of this program.
///
/// # Errors
/// [`StoreError::Refused`] if this program cannot work with it: a newer schema that does not suit it, or another one.
pub(super) fn compare<'a>(steps: &'a Migrator, applied: &[AppliedMigration]) -> Result<Schema<'a>, StoreError> {
    let known = steps.iter().map(|step| step.version).max().unwrap_or(0);
    let version = applied.iter().map(|step| step.version).max().unwrap_or(0);
    for AppliedMigration { version: number, description, finished, checksum } in applied {
        let fault = match steps.iter().find(|step| step.version == *number) {
            None if *number > known && oldest_that_suits(description).is_some_and(|oldest| oldest <= known) => continue,
            None => return Err(newer(version, known)),
            Some(_) if !finished => MigrateError::Dirty(*number),
            Some(step) if step.checksum.as_ref() != checksum => MigrateError::VersionMismatch(*number),
            Some(_) => continue,
        };
        return Err(migration_error(fault));
    }
    let is_missing = |step: &&Migration| !applied.iter().any(|applied| applied.version == step.version);
    Ok(Schema { version, known, missing: steps.iter().filter(is_missing).collect() })
}

/// The oldest version that a program must know to work on the result of this migration; `None` if only programs that
/// have the migration can.
fn oldest_that_suits(description: &str) -> Option<i64> {
    description.strip_prefix(SINCE)?.split(' ').next()?.parse().ok()
}

pub(super) fn newer(version: i64, known: i64) -> StoreError {
    StoreError::Refused {
        what: format!(
            "its schema is version {version}, newer than this program, which knows version {known}; install a newer \
             checkind"
        ),
        source: MigrateError::VersionMissing(version).into(),
    }
}

impl Schema<'_> {
    /// Refuses a database without tables.
    pub(super) fn exists(&self) -> Result<(), StoreError> {
        if self.version > 0 {
            return Ok(());
        }
        Err(unusable("it has no tables yet; `checkind run`, `checkind import` and `checkind migrate` create them"))
    }

    /// Refuses a schema that lacks a migration.
    pub(super) fn is_current(&self) -> Result<(), StoreError> {
        self.exists()?;
        if self.missing.is_empty() { Ok(()) } else { Err(older(self.version, self.known)) }
    }
}

/// The error of a command that needs a newer schema and may not change it.
pub(super) fn older(version: i64, known: i64) -> StoreError {
    unusable(format!(
        "its schema is version {version}, and this program needs version {known}; run `checkind migrate` (with \
         PostgreSQL by the login that owns the tables), or start the new version of the daemon"
    ))
}

pub(super) fn unusable(what: impl Into<Cow<'static, str>>) -> StoreError {
    StoreError::Unusable { what: what.into().into_owned(), source: None }
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::MigrationType;

    use super::*;

    /// The migrations with these numbers and names, as a program has them.
    fn program(steps: &[(i64, &'static str)]) -> Migrator {
        let step = |(version, name): &(i64, &'static str)| {
            let sql = sqlx::SqlSafeStr::into_sql_str("SELECT 1");
            Migration::new(*version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
        };
        Migrator { migrations: steps.iter().map(step).collect(), ..Migrator::DEFAULT }
    }

    /// The same, as a database has recorded them.
    fn database(steps: &[(i64, &'static str)]) -> Vec<AppliedMigration> {
        let steps = program(steps);
        let applied = |step: &Migration| AppliedMigration {
            version: step.version,
            description: step.description.to_string(),
            finished: true,
            checksum: step.checksum.to_vec(),
        };
        steps.iter().map(applied).collect()
    }

    const SEVEN: (i64, &str) = (7, "holders");

    #[test]
    fn a_program_works_on_a_newer_schema_only_if_every_newer_migration_suits_it() {
        let cases: [(&[(i64, &str)], bool); 8] = [
            (&[], true),
            (&[(8, "since 0007 set aside")], true),
            (&[(8, "since 7 set aside")], true),
            (&[(8, "set aside")], false),
            (&[(8, "since 0008 set aside")], false),
            (&[(8, "since 0006 set aside"), (9, "since 0007 more")], true),
            // Expand, then contract: a program of 7 does not suit the second.
            (&[(8, "since 0007 set aside"), (9, "since 0008 drop the old column")], false),
            (&[(8, "since the beginning")], false),
        ];
        let steps = program(&[SEVEN]);
        for (newer, suits) in cases {
            let mut found = vec![SEVEN];
            found.extend(newer);
            match compare(&steps, &database(&found)) {
                Ok(schema) => {
                    assert!(suits, "{newer:?}");
                    assert_eq!((schema.missing.len(), schema.known), (0, 7));
                    assert_eq!(schema.version, found.last().expect("one").0);
                }
                Err(said) => {
                    assert!(!suits, "{newer:?}: {said}");
                    let version = found.last().expect("one").0;
                    let expected =
                        format!("its schema is version {version}, newer than this program, which knows version 7");
                    assert!(said.to_string().contains(&expected), "{said}");
                }
            }
        }
    }

    #[test]
    fn what_is_missing_is_named_and_another_schema_is_refused() {
        let steps = program(&[SEVEN, (8, "since 0007 set aside")]);
        let old = database(&[SEVEN]);
        let schema = compare(&steps, &old).expect("an older schema");
        assert_eq!((schema.version, schema.known, schema.missing.len()), (7, 8, 1));
        assert!(schema.is_current().expect_err("older").to_string().contains("run `checkind migrate`"));
        let none = compare(&steps, &[]).expect("no tables");
        assert!(none.exists().expect_err("no tables").to_string().contains("it has no tables yet"));
        let changed = AppliedMigration { checksum: vec![1], ..old[0].clone() };
        compare(&steps, &[changed]).expect_err("another schema");
        let half = AppliedMigration { finished: false, ..old[0].clone() };
        compare(&steps, &[half]).expect_err("half a migration");
        compare(&steps, &database(&[(3, "of another program")])).expect_err("a foreign one");
    }
}
