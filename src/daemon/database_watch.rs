//! Asks a shared database every few seconds, for all parts of the daemon, whether it would take a write and what is new.
//!
//! A night without a tap must not hide that the database refuses writes, that its schema has become too new, or that it
//! went back in time. One task asks for all of them, because each question wakes the machine.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        clock::Clock,
        health::{ConditionKind, Health, RaisedBy},
        record::BusinessId,
        turns::Turn,
    },
    pipeline,
    store::{DatabaseNews, Store, StoreError},
};

/// How often the database is asked: an import takes effect within this time.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// How often it is asked while it refuses or does not answer, to notice the end.
const AGAIN: Duration = Duration::from_secs(2);

/// How long one answer may take, with the wait for a connection that another task uses.
const ANSWER: Duration = Duration::from_secs(8);

/// How often in a row the answer may be missing. A long read may occupy the connection once; what the database refuses is
/// named at once.
const MISSED: u32 = 2;

/// What the database has answered last; `None` until the first answer.
pub(super) type News = watch::Receiver<Option<DatabaseNews>>;

/// The task.
#[derive(Debug)]
pub(super) struct DatabaseWatch {
    pub(super) store: Store,
    /// The site of this gateway, if it has one.
    pub(super) business: Option<BusinessId>,
    /// The id of the spool, once it is open.
    pub(super) gateway: Arc<OnceLock<String>>,
    pub(super) news: watch::Sender<Option<DatabaseNews>>,
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) turn: Turn,
}

impl DatabaseWatch {
    /// Asks until stopped. Raises and clears the condition; if the pipeline has raised it too, that is shown, because the
    /// pipeline knows more than this question.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut missed = 0;
        let mut is_ours = false;
        loop {
            let pause = if is_ours { AGAIN } else { self.clock.until_beat(EVERY) };
            self.turn.rests(pause);
            if stop.run_until_cancelled(time::sleep(pause)).await.is_none() {
                return;
            }
            self.turn.works();
            let Some(answer) = stop.run_until_cancelled(time::timeout(ANSWER, self.ask())).await else { return };
            let is_named = match answer.unwrap_or(Err(StoreError::too_late())) {
                Ok(news) => {
                    missed = 0;
                    self.tell(news);
                    if is_ours {
                        self.health.clear_by(RaisedBy::Watch, ConditionKind::DatabaseUnavailable);
                        is_ours = false;
                    }
                    continue;
                }
                // It answers, and another gateway works.
                Err(StoreError::Conflict) => continue,
                Err(error @ StoreError::Unavailable(_)) => {
                    missed += 1;
                    (missed >= MISSED).then_some(error)
                }
                Err(error @ (StoreError::Refused { .. } | StoreError::Unfit(_) | StoreError::Unusable { .. })) => {
                    Some(error)
                }
            };
            if let Some(error) = is_named {
                let detail = pipeline::outage(&error, self.store.is_shared());
                self.health.raise_by(RaisedBy::Watch, ConditionKind::DatabaseUnavailable, detail);
                is_ours = true;
            }
        }
    }

    async fn ask(&self) -> Result<Option<DatabaseNews>, StoreError> {
        self.store.review_commits().await?;
        let gateway = self.gateway.get().map(String::as_str);
        self.store.news(self.business, gateway, self.clock.now().boot).await
    }

    /// Tells the others; wakes them only if something is new.
    fn tell(&self, news: Option<DatabaseNews>) {
        self.news.send_if_modified(|told| {
            let is_new = told.map(|told| told.found) != news.map(|news| news.found);
            *told = news;
            is_new
        });
    }
}
