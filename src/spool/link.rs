//! What the spool and the pipeline tell each other about the shared database: the pipeline, what the database has; the
//! spool, what it still keeps.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    base::{
        clock::WallTime,
        health::{ConditionKind, Health},
    },
    source::SpoolPlace,
    store::{Store, StoreError, WentBack},
};

/// The connection between a spool and the pipeline that it feeds; cheap to clone.
#[derive(Clone, Debug)]
pub struct SpoolLink(Arc<SharedLink>);

#[derive(Debug)]
struct SharedLink {
    id: String,
    state: Mutex<LinkState>,
    /// Notified when messages must be delivered again.
    again: Notify,
}

#[derive(Debug)]
struct LinkState {
    /// Increases when messages are delivered again; see [`SpoolPlace`].
    round: u32,
    /// Everything after this place must be delivered again.
    after: Option<i64>,
    /// The database is known to have everything up to here.
    marked: i64,
    /// Everything up to here is deleted.
    deleted: i64,
    /// The last row.
    written: i64,
    /// What the condition `database_went_back` says.
    went_back: Option<WentBack>,
    /// Whether the file has that too.
    is_noted: bool,
}

/// What is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveredAgain {
    /// The number of messages.
    pub messages: u64,
    /// The number of messages that the database does not have either, but that the spool no longer keeps.
    pub gone: u64,
}

/// How long the condition `database_went_back` is shown, also after a restart: until the operator has looked, on a day
/// when someone is there.
const SHOWN: Duration = Duration::from_hours(24);

impl DeliveredAgain {
    /// The text of the condition that the database went back in time, noticed `now`.
    fn detail(self, now: WallTime) -> String {
        let messages = match self.messages {
            0 => "No door message was lost".to_owned(),
            1 => "The spool delivers 1 door message again".to_owned(),
            messages => format!("The spool delivers {messages} door messages again"),
        };
        let gone = match self.gone {
            0 => String::new(),
            1 => "; 1 earlier one is lost, because spool.keep is over for it".to_owned(),
            gone => format!("; {gone} earlier ones are lost, because spool.keep is over for them"),
        };
        format!(
            "at {} the database lacked what this gateway had committed: it was restored, or a failover discarded commits. \
             {messages}{gone}. Manual changes and imports of that time are lost too: repeat them. Presences of devices are \
             lost until the devices send again",
            now.to_rfc3339_millis()
        )
    }
}

impl SpoolLink {
    /// The link of a spool with this id, whose rows begin after `deleted` and end with `written`.
    pub(crate) fn new(id: String, deleted: i64, marked: i64, written: i64) -> Self {
        let state = LinkState { round: 0, after: None, marked, deleted, written, went_back: None, is_noted: true };
        Self(Arc::new(SharedLink { id, state: Mutex::new(state), again: Notify::new() }))
    }

    /// The random id of the spool.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The database is known to have everything up to this place.
    pub fn marked(&self) -> i64 {
        self.state().marked
    }

    /// Requests what a database no longer has, if it lacks anything that it is known to have had.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn compare_with(&self, store: &Store) -> Result<Option<DeliveredAgain>, StoreError> {
        let place = store.mark(self.id()).await?.unwrap_or_default().place;
        Ok((place < self.marked()).then(|| self.deliver_again(place)))
    }

    /// Notes that the database has everything up to this place.
    pub fn mark(&self, place: i64) {
        let mut state = self.state();
        state.marked = state.marked.max(place);
    }

    /// Everything up to the last of these places is committed with them: the spool sends its messages in order. `None`
    /// if they were sent before the last call of [`Self::deliver_again`].
    pub fn last_of(&self, places: impl Iterator<Item = SpoolPlace>) -> Option<i64> {
        let round = self.state().round;
        places.filter(|place| place.round == round).map(|place| place.seq).max()
    }

    /// Requests that everything after `place` is delivered again, because the database has only what is up to there.
    pub fn deliver_again(&self, place: i64) -> DeliveredAgain {
        let mut state = self.state();
        state.round = state.round.wrapping_add(1);
        state.after = Some(place);
        state.marked = state.marked.min(place);
        self.0.again.notify_one();
        let count = |from: i64, to: i64| u64::try_from(to - from).unwrap_or(0);
        DeliveredAgain { messages: count(place.max(state.deleted), state.written), gone: count(place, state.deleted) }
    }

    /// Raises the condition that the database went back in time, noticed `now`, and has the spool note it.
    pub fn report_went_back(&self, again: DeliveredAgain, health: &Health, now: WallTime) {
        let detail = again.detail(now);
        health.raise(ConditionKind::DatabaseWentBack, "", &detail);
        let mut state = self.state();
        (state.went_back, state.is_noted) = (Some(WentBack { at: now, detail }), false);
        drop(state);
        self.0.again.notify_one();
    }

    /// Raises the condition again that an earlier process has noted.
    pub(super) fn remember_went_back(&self, noted: WentBack, health: &Health, now: WallTime) {
        if now.since(noted.at) < SHOWN {
            health.raise_since(ConditionKind::DatabaseWentBack, "", noted.at, &noted.detail);
            self.state().went_back = Some(noted);
        }
    }

    /// Ends the condition after its time.
    pub fn forget_went_back(&self, health: &Health, now: WallTime) {
        if self.state().went_back.take_if(|known| now.since(known.at) >= SHOWN).is_some() {
            health.clear(ConditionKind::DatabaseWentBack, "");
        }
    }

    /// What the file lacks of this.
    pub(super) fn unnoted(&self) -> Option<WentBack> {
        let state = self.state();
        if state.is_noted { None } else { state.went_back.clone() }
    }

    /// Notes that the file has it.
    pub(super) fn noted(&self, noted: &WentBack) {
        let mut state = self.state();
        state.is_noted |= state.went_back.as_ref() == Some(noted);
    }

    /// Waits for a request.
    pub(super) async fn requested(&self) {
        self.0.again.notified().await;
    }

    /// The request, if there is one: the place, and the new round.
    pub(super) fn take_request(&self) -> Option<(i64, u32)> {
        let mut state = self.state();
        let round = state.round;
        state.after.take().map(|place| (place, round))
    }

    /// Notes which rows the spool has.
    pub(super) fn set_rows(&self, deleted: i64, written: i64) {
        let mut state = self.state();
        (state.deleted, state.written) = (deleted, written);
    }

    fn state(&self) -> MutexGuard<'_, LinkState> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_delivered_again_is_counted_and_earlier_deliveries_commit_nothing_more() {
        let link = SpoolLink::new("x".to_owned(), 100, 300, 420);
        let place = |round, seq| SpoolPlace { round, seq };
        assert_eq!(link.last_of([place(0, 301), place(0, 302)].into_iter()), Some(302));
        link.mark(302);
        assert_eq!(link.deliver_again(250), DeliveredAgain { messages: 170, gone: 0 });
        assert_eq!(link.marked(), 250);
        assert_eq!(link.last_of([place(0, 303), place(1, 251)].into_iter()), Some(251));
        assert_eq!(link.last_of([place(0, 304)].into_iter()), None);
        assert_eq!((link.take_request(), link.take_request()), (Some((250, 1)), None));
        assert_eq!(link.deliver_again(90), DeliveredAgain { messages: 320, gone: 10 });
    }

    #[test]
    fn the_text_says_what_happened_and_what_is_lost() {
        let detail = |messages, gone| DeliveredAgain { messages, gone }.detail(WallTime::from_millis(0));
        assert!(detail(212, 0).contains("delivers 212 door messages again. Manual"), "{}", detail(212, 0));
        assert!(detail(1, 35).contains("1 door message again; 35 earlier ones are lost"), "{}", detail(1, 35));
        assert!(detail(0, 0).contains("No door message was lost. Manual"), "{}", detail(0, 0));
    }
}
