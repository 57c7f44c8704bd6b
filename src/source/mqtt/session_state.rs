//! PURE. What the process remembers about its session at the broker, across connections and reloads.
//!
//! **Arrivals.** A message with neither id nor time gets its key and its time from its arrival ([`crate::mapping`]).
//! When the broker delivers it again, it must get the same key, or it would be decided twice, so the first arrival
//! counts. We recognise a copy by its packet id, which the broker reuses for the copy (MQTT 5, 4.4.0-1), together with
//! its content. None of this outlives the process.
//!
//! **Absence.** A message may have waited at the broker since we were last caught up, that is, since we last had
//! everything.
//!
//! **Filters.** The topics that are subscribed, so we can unsubscribe from those that are no longer configured.
//!
//! **Watch.** What was observed of the controllers, so their conditions outlast a reload.
//!
//! Never here: anything that the records depend on. Losing this state costs at most a duplicate.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::watch::Watch;
use crate::{
    base::clock::{BootTime, Now},
    settings,
};

/// How long the broker keeps our session and its queue while we are disconnected. A long weekend with a dead gateway
/// must not lose events; after a week a person will have noticed. Brokers may lower it, which is logged.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// An acknowledgement sent this long before the end of its connection may have been lost. A dead connection is noticed
/// after two keep-alives, 40 s. Arrivals that were acknowledged earlier are forgotten when the connection ends, because
/// the broker may have used their packet ids again, even for a message with the same content.
const IN_DOUBT: Duration = Duration::from_secs(60);

/// What the process remembers about its session at the broker. Cheap to clone; all clones share one state.
///
/// Holds at most one arrival for each of the 65,535 packet ids, 3 MB: a new message with an old id replaces it.
#[derive(Clone, Debug, Default)]
pub struct SessionState(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// Host, port and client id of the session.
    session: Option<(String, u16, String)>,
    arrivals: Arrivals,
    filters: BTreeSet<String>,
    absence: Absence,
    /// What the last session observed of the controllers; empty while a session runs.
    watch: Watch,
}

/// How long the broker may have kept messages for us.
#[derive(Clone, Copy, Debug)]
struct Absence {
    /// When we were last caught up in this process, or when this was first needed.
    since: Option<BootTime>,
    /// How long we had not been caught up by then; if that is unknown, the longest time that the broker may keep
    /// anything.
    before: Duration,
}

impl Default for Absence {
    fn default() -> Self {
        Self { since: None, before: SESSION_EXPIRY }
    }
}

/// Arrivals by packet id, in pages of 256 by its upper byte: brokers use the ids in turn, and a tree of single ids
/// would take twice the memory.
#[derive(Debug, Default)]
struct Arrivals(BTreeMap<u8, Box<[Option<MessageArrival>; 256]>>);

impl Arrivals {
    fn slot(&mut self, packet: u16) -> &mut Option<MessageArrival> {
        let [page, index] = packet.to_be_bytes();
        &mut self.0.entry(page).or_insert_with(|| Box::new([None; 256]))[usize::from(index)]
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut MessageArrival) -> bool) {
        self.0.retain(|_, page| {
            for slot in page.iter_mut() {
                if slot.as_mut().is_some_and(|arrival| !keep(arrival)) {
                    *slot = None;
                }
            }
            page.iter().any(Option::is_some)
        });
    }
}

#[derive(Clone, Copy, Debug)]
struct MessageArrival {
    digest: MessageDigest,
    first: FirstArrival,
    /// When its acknowledgement was sent on this connection; `None` also if an earlier one may have been lost.
    acknowledged: Option<BootTime>,
}

/// When a message first arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstArrival {
    pub(super) at: Now,
    /// How long it may have waited at the broker by then.
    pub(super) waited: Duration,
}

/// A digest of topic and payload, compared under one packet id only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageDigest([u8; 8]);

impl MessageDigest {
    pub(super) fn new(topic: &[u8], payload: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update((topic.len() as u64).to_be_bytes());
        hasher.update(topic);
        hasher.update(payload);
        let mut digest = [0; 8];
        digest.copy_from_slice(&hasher.finalize()[..8]);
        Self(digest)
    }
}

impl SessionState {
    /// Forgets everything if these settings are for another session.
    pub(super) fn belongs_to(&self, settings: &settings::Mqtt) {
        let session = Some((settings.host.clone(), settings.port, settings.client_id.clone()));
        let mut remembered = self.remembered();
        if remembered.session != session {
            // The controllers are still the same, whatever broker they use.
            let watch = std::mem::take(&mut remembered.watch);
            *remembered = Remembered { session, watch, ..Remembered::default() };
        }
    }

    /// When a message first arrived: now, unless it is a copy of a remembered message.
    pub(super) fn arrival(&self, packet: u16, is_copy: bool, digest: MessageDigest, now: Now) -> FirstArrival {
        let waited = self.waited(now.boot);
        let mut remembered = self.remembered();
        let slot = remembered.arrivals.slot(packet);
        let known = slot.filter(|arrival| is_copy && arrival.digest == digest);
        let first = known.map_or_else(
            || FirstArrival {
                at: now,
                // An earlier process may have received the original, at any time.
                waited: if is_copy { SESSION_EXPIRY } else { waited },
            },
            |arrival| arrival.first,
        );
        *slot = Some(MessageArrival { digest, first, acknowledged: None });
        first
    }

    /// Records that an earlier process was last caught up this long ago.
    pub(super) fn was_away(&self, before: Duration) {
        let mut remembered = self.remembered();
        if remembered.absence.since.is_none() {
            remembered.absence.before = before.min(SESSION_EXPIRY);
        }
    }

    /// Records that the broker's backlog is empty: messages that arrive from now on have not waited.
    pub(super) fn caught_up(&self, now: BootTime) {
        self.remembered().absence = Absence { since: Some(now), before: Duration::ZERO };
    }

    /// How long a message that arrives now may have waited at the broker.
    pub(super) fn waited(&self, now: BootTime) -> Duration {
        let mut remembered = self.remembered();
        let absence = &mut remembered.absence;
        let since = *absence.since.get_or_insert(now);
        now.since(since).saturating_add(absence.before).min(SESSION_EXPIRY)
    }

    /// Records that the acknowledgement was sent, which does not mean that it reached the broker.
    pub(super) fn acknowledged(&self, packet: u16, now: BootTime) {
        if let Some(arrival) = self.remembered().arrivals.slot(packet) {
            arrival.acknowledged = Some(now);
        }
    }

    /// Records that the connection has ended.
    pub(super) fn disconnected(&self, now: BootTime) {
        self.remembered().arrivals.retain(|arrival| {
            let acknowledged = arrival.acknowledged.take();
            acknowledged.is_none_or(|at| now.since(at) <= IN_DOUBT)
        });
    }

    /// Records that the broker has no session for us: no copies will arrive, and nothing is subscribed.
    pub(super) fn session_is_new(&self) {
        let mut remembered = self.remembered();
        remembered.arrivals = Arrivals::default();
        remembered.filters.clear();
    }

    /// Topics that are subscribed and not in `wanted`.
    pub(super) fn unwanted(&self, wanted: &[String]) -> Vec<String> {
        self.remembered().filters.iter().filter(|filter| !wanted.contains(filter)).cloned().collect()
    }

    /// Topics that are subscribed.
    pub(super) fn filters(&self) -> Vec<String> {
        self.remembered().filters.iter().cloned().collect()
    }

    /// Records that the broker has answered SUBSCRIBE: these are subscribed as well.
    pub(super) fn subscribed(&self, filters: &[String]) {
        self.remembered().filters.extend(filters.iter().cloned());
    }

    /// Records that the broker has answered UNSUBSCRIBE: these are no longer subscribed.
    pub(super) fn unsubscribed(&self, filters: &[String]) {
        self.remembered().filters.retain(|filter| !filters.contains(filter));
    }

    /// What the session before this one observed of the controllers.
    pub(super) fn take_watch(&self) -> Watch {
        std::mem::take(&mut self.remembered().watch)
    }

    /// Keeps that for the next session, so a reload neither forgets nor repeats a finding.
    pub(super) fn keep_watch(&self, watch: Watch) {
        self.remembered().watch = watch;
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::WallTime;

    fn at(seconds: u64) -> Now {
        let wall = WallTime::from_millis(1_772_442_000_000).plus(Duration::from_secs(seconds));
        Now { wall, boot: BootTime::from_duration(Duration::from_secs(seconds)) }
    }

    fn digest(text: &str) -> MessageDigest {
        MessageDigest::new(b"doors/front", text.as_bytes())
    }

    #[test]
    fn only_a_copy_under_the_same_packet_id_has_arrived_before() {
        let session_state = SessionState::default();
        assert_eq!(session_state.arrival(7, false, digest("A"), at(1)).at, at(1));
        session_state.disconnected(at(2).boot);
        assert_eq!(session_state.arrival(7, true, digest("A"), at(30)).at, at(1));
        assert_eq!(session_state.arrival(7, true, digest("A"), at(60)).at, at(1), "however often it is delivered");
        assert_eq!(session_state.arrival(8, true, digest("A"), at(60)).at, at(60), "another tap of the same card");
        assert_eq!(session_state.arrival(8, true, digest("B"), at(61)).at, at(61), "another message under a used id");
        assert_eq!(session_state.arrival(7, false, digest("A"), at(62)).at, at(62), "the same card again, not a copy");
    }

    #[test]
    fn a_copy_long_after_its_acknowledgement_is_another_message() {
        let session_state = SessionState::default();
        for packet in [1, 2] {
            session_state.arrival(packet, false, digest("A"), at(0));
        }
        session_state.acknowledged(1, at(10).boot);
        session_state.acknowledged(2, at(90).boot);
        session_state.disconnected(at(100).boot);
        assert_eq!(session_state.arrival(1, true, digest("A"), at(110)).at, at(110));
        session_state.disconnected(at(500).boot);
        assert_eq!(session_state.arrival(2, true, digest("A"), at(510)).at, at(0), "however long it takes to connect");
    }

    #[test]
    fn a_message_may_have_waited_since_we_were_caught_up() {
        let session_state = SessionState::default();
        let waited = |now| session_state.waited(at(now).boot).as_secs();
        session_state.was_away(Duration::from_secs(3600));
        assert_eq!((waited(10), waited(20)), (3600, 3610));
        session_state.caught_up(at(50).boot);
        assert_eq!((waited(50), waited(80)), (0, 30));
        // From here on, what an earlier process did is irrelevant.
        session_state.was_away(Duration::from_secs(9000));
        session_state.disconnected(at(90).boot);
        assert_eq!(waited(100), 50);
        assert_eq!(SessionState::default().waited(at(0).boot), SESSION_EXPIRY);
        // A copy may have waited as long as the original.
        session_state.arrival(7, false, digest("A"), at(110));
        session_state.caught_up(at(120).boot);
        assert_eq!(session_state.arrival(7, true, digest("A"), at(130)).waited, Duration::from_secs(60));
        assert_eq!(session_state.arrival(8, true, digest("A"), at(130)).waited, SESSION_EXPIRY);
        assert_eq!(session_state.arrival(9, false, digest("A"), at(130)).waited, Duration::from_secs(10));
    }

    #[test]
    fn the_digest_separates_topic_and_payload() {
        assert_ne!(MessageDigest::new(b"ab", b"c"), MessageDigest::new(b"a", b"bc"));
    }

    #[test]
    fn another_session_starts_empty() {
        let session_state = SessionState::default();
        let (host, client_id) = ("a".to_owned(), "x".to_owned());
        let mut settings = settings::Mqtt { host, port: 1, client_id, login: None, tls: None, protected_by: None };
        session_state.belongs_to(&settings);
        session_state.subscribed(&["doors/+".to_owned(), "bells/+".to_owned()]);
        session_state.arrival(1, false, digest("A"), at(0));
        session_state.belongs_to(&settings);
        assert_eq!(session_state.unwanted(&["doors/+".to_owned()]), ["bells/+"]);
        settings.client_id = "y".to_owned();
        session_state.belongs_to(&settings);
        assert_eq!(session_state.unwanted(&[]), [""; 0]);
        assert_eq!(session_state.arrival(1, true, digest("A"), at(5)).at, at(5));
    }
}
