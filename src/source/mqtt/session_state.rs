//! PURE. What the process remembers of its session at the broker, from one connection to the next and over reloads.
//!
//! **Arrivals.** A message without an id and a time of its own takes its key and its time from its arrival
//! ([`crate::mapping`]). When the broker delivers it again it must get the same key, or it would be decided twice, so the
//! first arrival counts. A copy is known by its packet id, which the broker keeps (MQTT 5, 4.4.0-1), together with what
//! it says. Nothing of this outlives the process.
//!
//! **Absence.** A message may have waited at the broker for as long as it is since we last had everything that was there.
//!
//! **Filters.** What an earlier session of this process subscribed to and the present settings do not want any more.
//!
//! Never here: anything that has to be true for the records to be right; what is forgotten here costs at most a duplicate.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    base::clock::{BootTime, Now},
    settings,
};

/// How long the broker keeps our session and its queue while we are away. A long weekend with a dead gateway must not
/// lose events; after a week a person will have looked anyway. Brokers may lower it, which is logged.
pub const SESSION_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long before the end of a connection an acknowledgement may have been lost with it. A dead connection is noticed
/// after two keep-alives, 40 s. What was acknowledged earlier is forgotten when the connection ends, because the broker
/// may have used its packet id again, even for a message that says the same.
const UNSURE: Duration = Duration::from_secs(60);

/// What the process remembers of its session at the broker; cheap to clone, all clones are one.
///
/// Holds at most one arrival for each of the 65,535 packet ids, 3 MB: a new message under an old id takes its place.
#[derive(Clone, Debug, Default)]
pub struct SessionState(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    /// Host, port and client id: whose session this is about.
    session: Option<(String, u16, String)>,
    arrivals: Arrivals,
    filters: BTreeSet<String>,
    absence: Absence,
}

/// Since when the broker may have kept messages for us.
#[derive(Clone, Copy, Debug)]
struct Absence {
    /// In this process.
    since: Option<BootTime>,
    /// Before that; as long as the broker may keep anything where it is not known.
    before: Duration,
}

impl Default for Absence {
    fn default() -> Self {
        Self { since: None, before: SESSION_EXPIRY }
    }
}

/// By packet id, in pages of 256 by its upper half: brokers use the ids in turn, and a tree of single ones would take twice
/// the room.
#[derive(Debug, Default)]
struct Arrivals(BTreeMap<u8, Box<[Option<MessageArrival>; 256]>>);

impl Arrivals {
    fn slot(&mut self, packet: u16) -> &mut Option<MessageArrival> {
        let [page, place] = packet.to_be_bytes();
        &mut self.0.entry(page).or_insert_with(|| Box::new([None; 256]))[usize::from(place)]
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
    said: MessageDigest,
    first: FirstArrival,
    /// When its acknowledgement was handed to the connection that is there now; none too where it may have been lost.
    acknowledged: Option<BootTime>,
}

/// When a message came for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FirstArrival {
    pub(super) at: Now,
    /// How long it may have waited at the broker before.
    pub(super) waited: Duration,
}

/// A digest of topic and payload, compared under one packet id only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageDigest([u8; 8]);

impl MessageDigest {
    pub(super) fn new(topic: &[u8], payload: &[u8]) -> Self {
        let mut digest = Sha256::new();
        digest.update((topic.len() as u64).to_be_bytes());
        digest.update(topic);
        digest.update(payload);
        let mut said = [0; 8];
        said.copy_from_slice(&digest.finalize()[..8]);
        Self(said)
    }
}

impl SessionState {
    /// Forgets everything if it is about another session than the one that these settings mean.
    pub(super) fn belongs_to(&self, settings: &settings::Mqtt) {
        let session = Some((settings.host.clone(), settings.port, settings.client_id.clone()));
        let mut remembered = self.remembered();
        if remembered.session != session {
            *remembered = Remembered { session, ..Remembered::default() };
        }
    }

    /// When a message arrived for the first time: now, unless it is a copy of one that is remembered.
    pub(super) fn arrival(&self, packet: u16, copy: bool, said: MessageDigest, now: Now) -> FirstArrival {
        let waited = self.waited(now.boot);
        let mut remembered = self.remembered();
        let slot = remembered.arrivals.slot(packet);
        let known = slot.filter(|arrival| copy && arrival.said == said);
        let first = known.map_or_else(
            || FirstArrival {
                at: now,
                // An earlier process may have had it, and since then everything else.
                waited: if copy { SESSION_EXPIRY } else { waited },
            },
            |arrival| arrival.first,
        );
        *slot = Some(MessageArrival { said, first, acknowledged: None });
        first
    }

    /// An earlier process had everything that was at the broker so long ago.
    pub(super) fn was_away(&self, before: Duration) {
        let mut remembered = self.remembered();
        if remembered.absence.since.is_none() {
            remembered.absence.before = before.min(SESSION_EXPIRY);
        }
    }

    /// The broker has nothing more for us: what comes from now on was not kept.
    pub(super) fn caught_up(&self, now: BootTime) {
        self.remembered().absence = Absence { since: Some(now), before: Duration::ZERO };
    }

    /// How long a message that comes now may have waited at the broker.
    pub(super) fn waited(&self, now: BootTime) -> Duration {
        let mut remembered = self.remembered();
        let absence = &mut remembered.absence;
        let since = *absence.since.get_or_insert(now);
        now.since(since).saturating_add(absence.before).min(SESSION_EXPIRY)
    }

    /// The acknowledgement was handed to the connection, which does not mean that it reached the broker.
    pub(super) fn acknowledged(&self, packet: u16, now: BootTime) {
        if let Some(arrival) = self.remembered().arrivals.slot(packet) {
            arrival.acknowledged = Some(now);
        }
    }

    /// The connection is gone.
    pub(super) fn disconnected(&self, now: BootTime) {
        self.remembered().arrivals.retain(|arrival| {
            let acknowledged = arrival.acknowledged.take();
            acknowledged.is_none_or(|at| now.since(at) <= UNSURE)
        });
    }

    /// The broker has no session for us: no copies will come, no filters stand.
    pub(super) fn session_is_new(&self) {
        let mut remembered = self.remembered();
        remembered.arrivals = Arrivals::default();
        remembered.filters.clear();
    }

    /// What is subscribed to and not wanted any more.
    pub(super) fn unwanted(&self, wanted: &[String]) -> Vec<String> {
        self.remembered().filters.iter().filter(|filter| !wanted.contains(filter)).cloned().collect()
    }

    /// What is subscribed to.
    pub(super) fn filters(&self) -> Vec<String> {
        self.remembered().filters.iter().cloned().collect()
    }

    /// The broker has answered: these are the session's filters, apart from those that are still unwanted.
    pub(super) fn subscribed(&self, filters: &[String]) {
        self.remembered().filters.extend(filters.iter().cloned());
    }

    /// The broker has answered: these are gone.
    pub(super) fn unsubscribed(&self, filters: &[String]) {
        self.remembered().filters.retain(|filter| !filters.contains(filter));
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

    fn said(text: &str) -> MessageDigest {
        MessageDigest::new(b"doors/front", text.as_bytes())
    }

    #[test]
    fn only_a_copy_under_the_same_packet_id_has_arrived_before() {
        let session_state = SessionState::default();
        assert_eq!(session_state.arrival(7, false, said("A"), at(1)).at, at(1));
        session_state.disconnected(at(2).boot);
        assert_eq!(session_state.arrival(7, true, said("A"), at(30)).at, at(1));
        assert_eq!(session_state.arrival(7, true, said("A"), at(60)).at, at(1), "as often as it comes");
        assert_eq!(session_state.arrival(8, true, said("A"), at(60)).at, at(60), "another tap of the same card");
        assert_eq!(session_state.arrival(8, true, said("B"), at(61)).at, at(61), "another message under a used id");
        assert_eq!(session_state.arrival(7, false, said("A"), at(62)).at, at(62), "the same card again, not a copy");
    }

    #[test]
    fn a_copy_after_an_acknowledgement_that_was_surely_received_is_another_message() {
        let session_state = SessionState::default();
        for packet in [1, 2] {
            session_state.arrival(packet, false, said("A"), at(0));
        }
        session_state.acknowledged(1, at(10).boot);
        session_state.acknowledged(2, at(90).boot);
        session_state.disconnected(at(100).boot);
        assert_eq!(session_state.arrival(1, true, said("A"), at(110)).at, at(110));
        session_state.disconnected(at(500).boot);
        assert_eq!(session_state.arrival(2, true, said("A"), at(510)).at, at(0), "however long it takes to connect");
    }

    #[test]
    fn a_message_may_have_waited_since_everything_was_here() {
        let session_state = SessionState::default();
        let waited = |now| session_state.waited(at(now).boot).as_secs();
        session_state.was_away(Duration::from_secs(3600));
        assert_eq!((waited(10), waited(20)), (3600, 3610));
        session_state.caught_up(at(50).boot);
        assert_eq!((waited(50), waited(80)), (0, 30));
        // What an earlier process did says nothing any more.
        session_state.was_away(Duration::from_secs(9000));
        session_state.disconnected(at(90).boot);
        assert_eq!(waited(100), 50);
        assert_eq!(SessionState::default().waited(at(0).boot), SESSION_EXPIRY);
        // A copy may have waited for as long as the first one.
        session_state.arrival(7, false, said("A"), at(110));
        session_state.caught_up(at(120).boot);
        assert_eq!(session_state.arrival(7, true, said("A"), at(130)).waited, Duration::from_secs(60));
        assert_eq!(session_state.arrival(8, true, said("A"), at(130)).waited, SESSION_EXPIRY);
        assert_eq!(session_state.arrival(9, false, said("A"), at(130)).waited, Duration::from_secs(10));
    }

    #[test]
    fn topic_and_payload_are_told_apart() {
        assert_ne!(MessageDigest::new(b"ab", b"c"), MessageDigest::new(b"a", b"bc"));
    }

    #[test]
    fn another_session_knows_nothing() {
        let session_state = SessionState::default();
        let mut settings =
            settings::Mqtt { host: "a".to_owned(), port: 1, client_id: "x".to_owned(), login: None, tls: None };
        session_state.belongs_to(&settings);
        session_state.subscribed(&["doors/+".to_owned(), "bells/+".to_owned()]);
        session_state.arrival(1, false, said("A"), at(0));
        session_state.belongs_to(&settings);
        assert_eq!(session_state.unwanted(&["doors/+".to_owned()]), ["bells/+"]);
        settings.client_id = "y".to_owned();
        session_state.belongs_to(&settings);
        assert_eq!(session_state.unwanted(&[]), [""; 0]);
        assert_eq!(session_state.arrival(1, true, said("A"), at(5)).at, at(5));
    }
}
