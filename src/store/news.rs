//! What a gateway asks a shared database every few seconds, all in one question: whether it would take a write, whether
//! its schema still suits this program, and what is new.

use sqlx::{AssertSqlSafe, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    batch::NEXT_DEADLINE,
    directory::{NEWEST, newest},
    error::StoreError,
    handle::Store,
    marks::{CommitMark, FIND},
    postgres::{WOULD_WRITE, steps},
    schema::{AppliedMigration, compare},
    sql::Sql,
    stored::Row,
};
use crate::base::{
    clock::{BootTime, WallTime},
    record::BusinessId,
    version::VersionId,
};

/// The first columns of the rows of the answer, by which they are told apart. `AS policy_id` is in the last.
const MIGRATION: &str = "migration";
const WOULD: &str = "would_write";
const DEADLINE: &str = "deadline";
const TURN: &str = "turn";

/// The latest answer of a shared database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseNews {
    /// Before the question was sent: what was committed by then is in the answer.
    pub asked_at: BootTime,
    /// `None` if the database would take a write and could not be read.
    pub found: Option<Found>,
}

/// What is new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The newest version of the directory.
    pub directory: VersionId,
    /// The newest policy of any business.
    pub policy: VersionId,
    /// The mark of the gateway, if it has one.
    pub(crate) mark: Option<CommitMark>,
    /// The next instant at which something happens to a person of the business without a fact.
    pub next_deadline: Option<WallTime>,
}

/// What has been read of an answer.
#[derive(Debug, Default)]
struct PartialAnswer {
    /// The migrations that this program does not know.
    migrations: Vec<AppliedMigration>,
    would_write: bool,
    found: Found,
}

impl PartialAnswer {
    fn take(&mut self, row: PgRow) -> Result<(), StoreError> {
        let first = row.columns().first().map_or("", |column| sqlx::Column::name(column)).to_owned();
        let row = Row::Postgres(row);
        match first.as_str() {
            MIGRATION => self.migrations.push(AppliedMigration {
                version: row.int(MIGRATION)?,
                description: row.text("description")?,
                finished: true,
                checksum: Vec::new(),
            }),
            WOULD => self.would_write = true,
            DEADLINE => self.found.next_deadline = row.opt_int(DEADLINE)?.map(WallTime::from_millis),
            TURN => self.found.mark = Some(CommitMark::read(&row)?),
            _ => (self.found.directory, self.found.policy) = newest(&row)?,
        }
        Ok(())
    }
}

impl Store {
    /// Asks a shared database, in two round trips, whether it would take a write, and what is new for this business and
    /// the gateway whose spool has this id. Writes nothing, not even to its disk. `None` with SQLite.
    ///
    /// # Errors
    /// The error that a write would meet. If the schema has become too new for this program, [`StoreError::Refused`]; from
    /// then on every transaction fails like that, until an answer shows that the schema suits again.
    pub async fn news(
        &self,
        business: Option<BusinessId>,
        gateway: Option<&str>,
        asked_at: BootTime,
    ) -> Result<Option<DatabaseNews>, StoreError> {
        let Sql::Postgres(connections) = &self.sql else { return Ok(None) };
        let steps = steps();
        let known = steps.iter().map(|step| step.version).max().unwrap_or(0);
        // In one text, arguments cannot be bound: both are checked to be what they are.
        let with = |text: &str, argument: String| text.replace("$1", &argument);
        let deadline = business.map(|business| with(NEXT_DEADLINE.postgres, business.0.to_string()));
        let gateway = gateway.and_then(|id| Uuid::parse_str(id).ok());
        let mark = gateway.map(|id| with(FIND.postgres, format!("'{id}'")));
        let question: Vec<String> = [
            // What does not suit is the cause of what fails after it.
            Some(format!("SELECT version AS {MIGRATION}, description FROM _sqlx_migrations WHERE version > {known}")),
            Some(WOULD_WRITE.to_owned()),
            Some(format!("SELECT true AS {WOULD}")),
            deadline,
            mark,
            Some(NEWEST.postgres.to_owned()),
            Some("COMMIT".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();

        let mut answer = PartialAnswer::default();
        let asked = connections.ask(AssertSqlSafe(question.join("; ")), |row| answer.take(row)).await;
        match compare(&steps, &answer.migrations) {
            Ok(_) if asked.is_err() && !answer.would_write => {}
            Ok(_) => connections.suits(),
            Err(newer) => {
                connections.suits_no_more(answer.migrations.iter().map(|step| step.version).max().unwrap_or(0), known);
                return Err(newer);
            }
        }
        match asked {
            Ok(()) => Ok(Some(DatabaseNews { asked_at, found: Some(answer.found) })),
            Err(StoreError::Unavailable(silence)) => Err(StoreError::Unavailable(silence)),
            // Who needs what cannot be read finds out why.
            Err(_) if answer.would_write => Ok(Some(DatabaseNews { asked_at, found: None })),
            Err(error) => Err(error),
        }
    }
}
