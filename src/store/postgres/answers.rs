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
#[derive(Clone, Debug)]
pub(super) struct Answers(Arc<AnswerState>);

#[derive(Debug)]
struct AnswerState {
    /// [`NOTICE`], except in tests.
    notice: Duration,
    /// Where conditions are raised; unset in commands.
    health: OnceLock<Health>,
    /// How many questions other than `COMMIT`s are late.
    late_questions: AtomicUsize,
    /// How many `COMMIT`s are late.
    late_commits: AtomicUsize,
    /// Whether a question was late, and no later one has been answered.
    is_silent: AtomicBool,
    /// Whether a `COMMIT` was late, and no later one has been answered.
    is_unconfirmed: AtomicBool,
}

/// A question whose answer is late. When dropped, the question is answered or given up.
struct LateAnswer<'a> {
    state: &'a AnswerState,
    question: Question,
}

impl Default for Answers {
    fn default() -> Self {
        Self::named_after(NOTICE)
    }
}

impl Answers {
    fn named_after(notice: Duration) -> Self {
        Self(Arc::new(AnswerState {
            notice,
            health: OnceLock::new(),
            late_questions: AtomicUsize::new(0),
            late_commits: AtomicUsize::new(0),
            is_silent: AtomicBool::new(false),
            is_unconfirmed: AtomicBool::new(false),
        }))
    }

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
        let notice = self.0.notice.min(limit);
        if let Ok(answer) = time::timeout(notice, answer.as_mut()).await {
            self.note_answer();
            return Ok(answer);
        }
        let late = LateAnswer::new(&self.0, question);
        let answer = time::timeout(limit.saturating_sub(notice), answer).await;
        drop(late);
        let answer = answer.map_err(|_| {
            let text = format!("{} for {} s", silence(question), limit.as_secs());
            sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, text))
        })?;
        self.note_answer();
        Ok(answer)
    }

    /// Notes that the server answers. The condition outlasts a question that was given up until this: while a server is
    /// away, each attempt is late, and the log must not tell of each.
    fn note_answer(&self) {
        let state = &self.0;
        if state.is_silent.load(Ordering::Relaxed)
            && state.late_questions.load(Ordering::Relaxed) == 0
            && state.is_silent.swap(false, Ordering::Relaxed)
            && let Some(health) = state.health.get()
        {
            health.clear(ConditionKind::DatabaseSilent, "");
        }
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
        if let Some(names) = standbys {
            if self.is_unconfirmed()
                && let Some(health) = self.0.health.get()
            {
                let detail = format!(
                    "COMMIT waits for the synchronous standby {names}, which does not answer: bring it back, or take it out \
                     of synchronous_standby_names and run SELECT pg_reload_conf(). Nothing is lost meanwhile"
                );
                health.raise(ConditionKind::CommitUnanswered, "", detail);
            }
        } else if self.0.late_commits.load(Ordering::Relaxed) == 0 {
            // What was given up has ended.
            self.confirmed();
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
        let (kind, advice) = match question {
            Question::Connect | Question::Statement => {
                state.late_questions.fetch_add(1, Ordering::Relaxed);
                // Such a statement probably waits for the locks of the `COMMIT`, which has been named.
                if state.is_unconfirmed.load(Ordering::Relaxed) {
                    return Self { state, question };
                }
                state.is_silent.store(true, Ordering::Relaxed);
                (
                    ConditionKind::DatabaseSilent,
                    "it, its disk or the network hangs, or another session holds a lock (see pg_stat_activity). The work is \
                     tried again on a new connection",
                )
            }
            Question::Commit => {
                state.late_commits.fetch_add(1, Ordering::Relaxed);
                if state.is_unconfirmed.swap(true, Ordering::Relaxed) {
                    // It has been named, perhaps with more than we know here.
                    return Self { state, question };
                }
                (
                    ConditionKind::CommitUnanswered,
                    "it waits for a synchronous standby that is gone (see synchronous_standby_names and \
                     pg_stat_replication), or its disk or the network hangs. Nothing is lost meanwhile",
                )
            }
        };
        if let Some(health) = state.health.get() {
            health.raise(kind, "", format!("{} for {} s: {advice}", silence(question), NOTICE.as_secs()));
        }
        Self { state, question }
    }
}

impl Drop for LateAnswer<'_> {
    fn drop(&mut self) {
        let late = match self.question {
            Question::Connect | Question::Statement => &self.state.late_questions,
            Question::Commit => &self.state.late_commits,
        };
        late.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future;

    use super::*;
    use crate::base::clock::Clock;

    const NAMED: Duration = Duration::from_millis(100);

    /// A question that is never answered, or at once.
    async fn ask(answers: &Answers, question: Question, is_answered: bool) -> bool {
        let answer = async {
            if !is_answered {
                future::pending::<()>().await;
            }
        };
        answers.within(NAMED * 4, question, answer).await.is_ok()
    }

    #[tokio::test]
    async fn a_late_answer_is_named_until_the_server_answers_again() {
        use Question::{Commit, Connect, Statement};
        let (answers, health) = (Answers::named_after(NAMED), Health::new(Clock::system()));
        answers.report_to(&health);
        let raised = || health.conditions().into_iter().map(|condition| condition.kind).collect::<Vec<_>>();
        for question in [Statement, Connect] {
            let mut late = pin!(ask(&answers, question, false));
            assert!(time::timeout(NAMED / 4, &mut late).await.is_err());
            assert_eq!(raised(), [], "{question:?}");
            assert!(time::timeout(NAMED * 2, &mut late).await.is_err());
            assert_eq!(raised(), [ConditionKind::DatabaseSilent], "{question:?}");
            assert!(ask(&answers, Statement, true).await, "on the other connection");
            assert_eq!(raised(), [ConditionKind::DatabaseSilent], "{question:?}");
            assert!(!late.await);
            assert_eq!(raised(), [ConditionKind::DatabaseSilent], "given up, and no answer since");
            assert!(ask(&answers, Statement, true).await);
            assert_eq!(raised(), [], "{question:?}");
        }
        // The statements after a `COMMIT` that was given up wait for its locks.
        assert!(!ask(&answers, Commit, false).await);
        assert!(!ask(&answers, Statement, false).await);
        assert!(ask(&answers, Statement, true).await);
        assert_eq!(raised(), [ConditionKind::CommitUnanswered]);
        answers.reviewed(Some("gone"));
        assert!(health.conditions()[0].detail.contains("the synchronous standby gone"));
        answers.reviewed(None);
        assert_eq!(raised(), []);
        assert!(!ask(&answers, Commit, false).await);
        answers.confirmed();
        assert_eq!(raised(), []);
    }
}
