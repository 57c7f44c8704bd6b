//! Waiting for PostgreSQL's answers: each wait has a limit, and while one is late a condition says what is asked.

use std::{
    io,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time;

use crate::base::health::{ConditionKind, Health};

/// After this long without an answer, a condition says so: three times what counts as a slow statement, and less than
/// the five seconds within which a `COMMIT` that waits is named.
const NOTICE: Duration = Duration::from_secs(3);

/// What the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// To accept a connection and a login.
    Connect,
    /// A statement, or the beginning or the end of a transaction that wrote nothing.
    Statement,
    /// The `COMMIT` of a transaction that wrote.
    Commit,
}

/// The answers that this process waits for; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<AnswerState>);

#[derive(Debug, Default)]
struct AnswerState {
    /// Where conditions are raised; unset in commands.
    health: OnceLock<Health>,
    /// How many statements are late.
    late_statements: AtomicUsize,
    /// How many `COMMIT`s are late.
    late_commits: AtomicUsize,
    /// Whether a `COMMIT` was late, and no later one has been answered.
    is_unconfirmed: AtomicBool,
}

/// A question whose answer is late. When dropped, the question is answered or given up.
struct LateAnswer<'a> {
    state: &'a AnswerState,
    question: Question,
}

impl Answers {
    /// Raises conditions here from now on.
    pub(super) fn report_to(&self, health: &Health) {
        // Set once: all handles of a process report to the same place.
        let _unchanged = self.0.health.set(health.clone());
    }

    /// Waits for an answer, at most until the limit.
    ///
    /// # Errors
    /// At the limit. The connection must then be discarded: its next answer would be that to this question.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        question: Question,
        answer: impl Future<Output = T>,
    ) -> Result<T, sqlx::Error> {
        let mut answer = pin!(answer);
        if let Ok(answer) = time::timeout(NOTICE.min(limit), answer.as_mut()).await {
            return Ok(answer);
        }
        let _late = LateAnswer::new(&self.0, question);
        time::timeout(limit.saturating_sub(NOTICE), answer).await.map_err(|_| {
            let text = format!("{} for {} s", silence(question), limit.as_secs());
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
        })
    }

    /// Notes that the server has confirmed a `COMMIT` that wrote.
    pub(super) fn confirmed(&self) {
        if self.0.is_unconfirmed.swap(false, Ordering::Relaxed)
            && let Some(health) = self.0.health.get()
        {
            health.clear(ConditionKind::CommitUnanswered, "");
        }
    }

    /// Whether a `COMMIT` was given up, or is late, and no later one has been answered.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.0.is_unconfirmed.load(Ordering::Relaxed)
    }

    /// Notes what the server says about the `COMMIT`s of this login: whether any of them waits for a synchronous
    /// standby, and for which.
    pub(super) fn reviewed(&self, standbys: Option<&str>) {
        match standbys {
            Some(names) if self.is_unconfirmed() => {
                if let Some(health) = self.0.health.get() {
                    health.raise(
                        ConditionKind::CommitUnanswered,
                        "",
                        format!(
                            "COMMIT waits for the synchronous standby {names}, which does not answer: bring it back, or \
                             take it out of synchronous_standby_names and run SELECT pg_reload_conf(). Nothing is lost \
                             meanwhile"
                        ),
                    );
                }
            }
            Some(_) => {}
            // What was given up has ended, and what is late waits for something else.
            None if self.0.late_commits.load(Ordering::Relaxed) == 0 => self.confirmed(),
            None => {}
        }
    }
}

/// What the server has not done.
const fn silence(question: Question) -> &'static str {
    match question {
        Question::Connect => "the server has not accepted a connection",
        Question::Statement => "the server has not answered",
        Question::Commit => "the server has not answered a COMMIT",
    }
}

impl<'a> LateAnswer<'a> {
    /// Raises the condition.
    fn new(state: &'a AnswerState, question: Question) -> Self {
        let seconds = NOTICE.as_secs();
        let (kind, late, advice) = match question {
            Question::Connect | Question::Statement => (
                ConditionKind::DatabaseSilent,
                &state.late_statements,
                "it, its disk or the network hangs, or another session holds a lock (see pg_stat_activity). The work is \
                 tried again on a new connection",
            ),
            Question::Commit => {
                state.is_unconfirmed.store(true, Ordering::Relaxed);
                (
                    ConditionKind::CommitUnanswered,
                    &state.late_commits,
                    "it waits for a synchronous standby that is gone (see synchronous_standby_names and \
                     pg_stat_replication), or its disk or the network hangs. Nothing is lost meanwhile",
                )
            }
        };
        late.fetch_add(1, Ordering::Relaxed);
        if let Some(health) = state.health.get() {
            health.raise(kind, "", format!("{} for {seconds} s: {advice}", silence(question)));
        }
        Self { state, question }
    }
}

impl Drop for LateAnswer<'_> {
    fn drop(&mut self) {
        match self.question {
            Question::Connect | Question::Statement => {
                if self.state.late_statements.fetch_sub(1, Ordering::Relaxed) == 1
                    && let Some(health) = self.state.health.get()
                {
                    health.clear(ConditionKind::DatabaseSilent, "");
                }
            }
            // The condition outlasts a `COMMIT` that was given up: the next attempt may wait for its locks.
            Question::Commit => {
                self.state.late_commits.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}
