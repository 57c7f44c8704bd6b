//! An open connection, and a transaction on it.

use std::{sync::Arc, time::Duration};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, Execute, Executor, PgConnection, Postgres, Row, postgres::PgRow};
use tokio::{
    runtime::Handle,
    sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit},
    time,
};

use super::{
    answers::{Answers, Question},
    connection_way::ConnectionWay,
};
use crate::{
    base::clock::{BootTime, Clock},
    store::{error::StoreError, limits::ANSWER},
};

/// How long the beginning of a transaction may take. It asks nothing of the server's disk and waits for no lock, so a
/// connection that is silent for this long is dead, and there is time for a new one within the limit of the whole.
const BEGIN: Duration = Duration::from_secs(5);

/// How long the server may take to abandon a transaction that its caller has dropped. Then the connection is discarded.
const ROLLBACK: Duration = Duration::from_secs(5);

/// How long closing a connection may take; a server that does not answer ends it by itself.
const CLOSE: Duration = Duration::from_secs(1);

/// An open connection.
pub(super) struct OpenConnection {
    pub(super) connection: PgConnection,
    /// How it was made.
    pub(super) way: Arc<ConnectionWay>,
    pub(super) since: BootTime,
    /// When its last transaction ended; `None` while it is new.
    pub(super) used: Option<BootTime>,
}

/// The slot for a connection; empty until it is needed.
pub(super) type ConnectionSlot = Arc<Mutex<Option<OpenConnection>>>;

/// The exclusive right to a slot.
pub(super) type SlotGuard = OwnedMutexGuard<Option<OpenConnection>>;

pub(super) fn now() -> BootTime {
    Clock::system().now().boot
}

impl OpenConnection {
    pub(super) async fn close(self) {
        match time::timeout(CLOSE, self.connection.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "could not close a connection to the database"),
            Err(_) => tracing::debug!("a connection to the database did not close in time"),
        }
    }
}

/// A slot during a transaction.
struct HeldSlot {
    place: SlotGuard,
    /// `None` once the server did not answer in time.
    open: Option<OpenConnection>,
    turn: OwnedSemaphorePermit,
}

/// A transaction. Unless it is committed, nothing of it remains.
pub(crate) struct PgTransaction {
    /// `None` once it is over.
    held: Option<HeldSlot>,
    answers: Answers,
    /// How long the server may be silent after each statement.
    limit: Duration,
    /// Whether any row was changed.
    wrote: bool,
}

impl PgTransaction {
    pub(super) fn at(mut place: SlotGuard, turn: OwnedSemaphorePermit, answers: Answers, limit: Duration) -> Self {
        let open = place.take();
        Self { held: Some(HeldSlot { place, open, turn }), answers, limit, wrote: false }
    }

    /// Sends the statement that begins it.
    pub(super) async fn begin(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        self.ask(BEGIN, Question::Statement, text).await
    }

    /// The slot without its connection, if the connection had been used before or did not answer in time.
    pub(super) fn give_up(mut self) -> Option<(SlotGuard, OwnedSemaphorePermit)> {
        let HeldSlot { place, open, turn } = self.held.take()?;
        open.is_none_or(|open| open.used.is_some()).then_some((place, turn))
    }

    /// Runs one statement; returns how many rows it changed.
    pub(crate) async fn execute<'q>(&mut self, query: impl Execute<'q, Postgres> + 'q) -> Result<u64, sqlx::Error> {
        let (answers, limit) = (self.answers.clone(), self.limit);
        let answer = answers.within(limit, Question::Statement, self.connection()?.execute(query)).await;
        let changed = self.answered(answer)?.rows_affected();
        self.wrote |= changed > 0;
        Ok(changed)
    }

    /// The rows of one statement.
    pub(crate) async fn fetch_all<'q>(
        &mut self,
        query: impl Execute<'q, Postgres> + 'q,
    ) -> Result<Vec<PgRow>, StoreError> {
        let mut rows = Vec::new();
        let each = |row| {
            rows.push(row);
            Ok(())
        };
        self.fetch_each(query, each).await?;
        Ok(rows)
    }

    /// Passes the rows of one statement to `each` one by one. The limit applies to the wait for each row.
    pub(crate) async fn fetch_each<'q>(
        &mut self,
        query: impl Execute<'q, Postgres> + 'q,
        mut each: impl FnMut(PgRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (answers, limit) = (self.answers.clone(), self.limit);
        let mut rows = self.connection()?.fetch(query);
        let end = loop {
            match answers.within(limit, Question::Statement, rows.try_next()).await {
                Ok(Ok(Some(row))) => each(row)?,
                Ok(Ok(None)) => break Ok(Ok(())),
                Ok(Err(fault)) => break Ok(Err(fault)),
                Err(late) => break Err(late),
            }
        };
        drop(rows);
        Ok(self.answered(end)?)
    }

    /// Commits; everything is durable then.
    pub(crate) async fn commit(mut self) -> Result<(), StoreError> {
        let question = if self.wrote { Question::Commit } else { Question::Statement };
        self.ask(self.limit.max(ANSWER), question, "COMMIT").await?;
        if self.wrote {
            self.answers.confirmed();
        }
        self.end();
        Ok(())
    }

    /// Sends the last statements of the transaction and its `COMMIT` as one text, and passes the rows of all of them to
    /// `each`. It must have written nothing.
    pub(super) async fn finish(
        mut self,
        rest: AssertSqlSafe<String>,
        each: impl FnMut(PgRow) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.fetch_each(sqlx::raw_sql(rest), each).await?;
        self.end();
        Ok(())
    }

    /// Frees the slot, once the transaction is over.
    fn end(&mut self) {
        if let Some(HeldSlot { mut place, open: Some(open), turn: _ }) = self.held.take() {
            *place = Some(OpenConnection { used: Some(now()), ..open });
        }
    }

    /// Runs a statement that has no arguments and returns no rows.
    async fn ask(&mut self, limit: Duration, question: Question, text: &'static str) -> Result<(), sqlx::Error> {
        let answers = self.answers.clone();
        let answer = answers.within(limit, question, self.connection()?.execute(sqlx::raw_sql(text))).await;
        self.answered(answer).map(drop)
    }

    /// The connection on which its statements run.
    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let open = self.held.as_mut().and_then(|held| held.open.as_mut());
        open.map(|open| &mut open.connection).ok_or(sqlx::Error::PoolClosed)
    }

    /// The answer to a question. Discards the connection if there was none in time.
    fn answered<T>(&mut self, answer: Result<Result<T, sqlx::Error>, sqlx::Error>) -> Result<T, sqlx::Error> {
        answer.unwrap_or_else(|late| {
            if let Some(held) = &mut self.held {
                held.open = None;
            }
            Err(late)
        })
    }
}

/// Rolls back, and asks whether this session can write at all. A server that has become a standby keeps its sessions,
/// and a changed default applies to new ones only.
const UNDO: &str = "ROLLBACK; SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean";

impl Drop for PgTransaction {
    /// Rolls back and waits for the server's answer before freeing the slot, so there are never more connections than
    /// slots. Discards a connection that does not answer, or is read-only: the next one may reach the new primary.
    fn drop(&mut self) {
        let Some(HeldSlot { mut place, open: Some(mut open), turn: _ }) = self.held.take() else { return };
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let undone = time::timeout(ROLLBACK, open.connection.fetch_one(sqlx::raw_sql(UNDO))).await;
            let read_only = undone.map(|row| row.and_then(|row| row.try_get::<bool, _>(0)));
            if let Ok(Ok(false)) = read_only {
                *place = Some(OpenConnection { used: Some(now()), ..open });
            }
        });
    }
}
