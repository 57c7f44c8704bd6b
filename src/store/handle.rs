//! The handle to an open database for the rest of the program.

use std::sync::Arc;

use super::{
    error::{StoreError, database_code},
    fence::Fence,
    postgres,
    postgres::Connections,
    schema::{self, CopyFirst, SchemaChange},
    sql::Sql,
    sqlite::{SqliteFile, WriteStamp},
    totals::ListTotals,
};
use crate::{base::health::Health, settings::Database};

/// An open database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) sql: Sql,
    /// Set if batches may commit only while this gateway holds a lease.
    pub(super) fence: Option<Fence>,
    /// The version of a schema that is older than this program, and the version that the program knows.
    pub(super) older: Option<(i64, i64)>,
    /// The recent counts of lists.
    pub(super) totals: Arc<ListTotals>,
}

impl Store {
    /// Opens or creates the database and brings its schema up to date. A SQLite file is copied first, if its schema
    /// changes.
    ///
    /// # Errors
    /// [`StoreError::Unusable`] if the URL is wrong in itself; after any other error, such as no room for the copy,
    /// another attempt may succeed.
    pub async fn open(database: &Database) -> Result<Self, StoreError> {
        Ok(Self::migrate(database, CopyFirst::Yes).await?.0)
    }

    /// The same; tells what became of the schema.
    pub async fn migrate(database: &Database, first: CopyFirst) -> Result<(Self, SchemaChange), StoreError> {
        let (sql, change) = match database {
            Database::Sqlite { path } => Sql::open_sqlite(path, first).await?,
            Database::Postgres { url, password, tls } => {
                let connections = Connections::open(url, password.as_ref(), tls)?;
                let change = connections.bring_up_to_date().await?;
                (Sql::Postgres(connections), change)
            }
        };
        Ok((Self { sql, fence: None, older: None, totals: Arc::default() }, change))
    }

    /// Opens an existing database to write to it. Creates no file and changes no schema.
    ///
    /// # Errors
    /// As [`open`](Self::open); also if there is no database, or its schema is older than this program.
    pub async fn open_existing(database: &Database) -> Result<Self, StoreError> {
        let sql = match database {
            Database::Sqlite { path } => Sql::Sqlite(SqliteFile::open_existing(path).await?),
            Database::Postgres { url, password, tls } => {
                let connections = Connections::open(url, password.as_ref(), tls)?;
                schema::compare(&postgres::steps(), &connections.applied().await?)?.is_current()?;
                Sql::Postgres(connections)
            }
        };
        Ok(Self { sql, fence: None, older: None, totals: Arc::default() })
    }

    /// Opens an existing database to read it, beside any daemon. Writes nothing, and needs no right to. The schema may
    /// be older than this program: see [`explained`](Self::explained).
    ///
    /// # Errors
    /// As [`open`](Self::open); also if there is no database.
    pub async fn open_to_read(database: &Database) -> Result<Self, StoreError> {
        let (sql, (version, known)) = match database {
            Database::Sqlite { path } => {
                let (file, versions) = SqliteFile::open_to_read(path).await?;
                (Sql::Sqlite(file), versions)
            }
            Database::Postgres { url, password, tls } => {
                let connections = Connections::open(url, password.as_ref(), tls)?.only_to_read();
                let steps = postgres::steps();
                let schema = schema::compare(&steps, &connections.applied().await?)?;
                schema.exists()?;
                (Sql::Postgres(connections), (schema.version, schema.known))
            }
        };
        Ok(Self { sql, fence: None, older: (version < known).then_some((version, known)), totals: Arc::default() })
    }

    /// Connects to the same PostgreSQL database in another way from now on: with another login or password, or with other
    /// files for TLS. Changes nothing with SQLite.
    ///
    /// # Errors
    /// If the URL is wrong in itself.
    pub fn connect_by(&self, database: &Database) -> Result<(), StoreError> {
        match (&self.sql, database) {
            (Sql::Postgres(connections), Database::Postgres { url, password, tls }) => {
                connections.connect_by(url, password.as_ref(), tls)
            }
            (Sql::Postgres(_) | Sql::Sqlite(_), Database::Postgres { .. } | Database::Sqlite { .. }) => Ok(()),
        }
    }

    /// Connects once with these settings, to see what the server says to them. With SQLite there is nothing to try.
    ///
    /// # Errors
    /// What the server says.
    pub async fn try_connection(&self, database: &Database) -> Result<(), StoreError> {
        match (&self.sql, database) {
            (Sql::Postgres(_), Database::Postgres { url, password, tls }) => {
                Connections::try_by(url, password.as_ref(), tls).await
            }
            (Sql::Postgres(_) | Sql::Sqlite(_), Database::Postgres { .. } | Database::Sqlite { .. }) => Ok(()),
        }
    }

    /// The same database for the pipeline, which does not wait for reads by other tasks. Call once per process.
    ///
    /// # Errors
    /// If the connections have been closed.
    pub async fn deciding(&self) -> Result<Self, StoreError> {
        Ok(Self { sql: self.sql.deciding().await?, ..self.clone() })
    }

    /// The same database for the API, which has connections of its own: its reads wait for each other only.
    #[must_use]
    pub fn serving(&self) -> Self {
        Self { sql: self.sql.serving(), ..self.clone() }
    }

    /// The error to show instead of this one: in an older schema, a missing table or column means that the command
    /// needs a newer one.
    pub fn explained(&self, error: StoreError) -> StoreError {
        let lacks = |source: &sqlx::Error| {
            // SQLite: a statement that does not fit the schema. PostgreSQL: no such table, no such column.
            database_code(source).is_some_and(|code| ["1", "42P01", "42703"].contains(&code.as_str()))
        };
        match (self.older, error) {
            (
                Some((version, known)),
                StoreError::Unusable { source: Some(source), .. } | StoreError::Refused { source, .. },
            ) if lacks(&source) => schema::older(version, known),
            (_, error) => error,
        }
    }

    /// Whether everything that a database opened to be read has said is of one time: no daemon began to write to a file
    /// that was taken to be at rest.
    pub fn was_left_alone(&self) -> bool {
        match &self.sql {
            Sql::Sqlite(file) => file.was_left_alone(),
            Sql::Postgres(_) => true,
        }
    }

    /// Checks that the database answers and would take a write. Writes nothing, not even to its disk.
    pub async fn probe(&self) -> Result<(), StoreError> {
        self.sql.probe().await
    }

    /// From now on, raises conditions while an answer of the database is late.
    pub fn report_to(&self, health: &Health) {
        self.sql.report_to(health);
    }

    /// If a `COMMIT` was not answered in time, finds out what it waits for, and names it or clears the condition.
    ///
    /// # Errors
    /// If the server does not say it.
    pub async fn review_commits(&self) -> Result<(), StoreError> {
        self.sql.review_commits().await
    }

    /// When a SQLite file was last written to, by this process or another; `None` with PostgreSQL.
    pub(crate) fn write_stamp(&self) -> Option<WriteStamp> {
        match &self.sql {
            Sql::Sqlite(file) => Some(file.write_stamp()),
            Sql::Postgres(_) => None,
        }
    }

    /// Whether the database is PostgreSQL: other gateways share it over the network, so door messages wait for it in a
    /// spool.
    pub const fn is_shared(&self) -> bool {
        matches!(self.sql, Sql::Postgres(_))
    }

    /// Closes the connections cleanly.
    pub async fn close(&self) {
        self.sql.close().await;
    }
}
