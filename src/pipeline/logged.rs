//! PURE. Sightings as lines of the log, and back: what a line must keep so that it can be decided again.

use std::borrow::Cow;

use crate::{
    clock::WallTime,
    engine::{
        Claim, DoorClaim,
        admission::Said,
        decision::{Note, Reason},
    },
    mac::MacAddr,
    sighting::{CredentialKind, Direction, DoorEvent, Presence, TimeQuality},
    store::LogLine,
};

/// The longest list of presences in one line: a quarter of an hour has at most some thirty of them with the default
/// silence limit. Beyond it, one more only lengthens the last.
const LONGEST_LIST: usize = 256;

/// What a door event says of a coworker, as the log keeps it: `entry`, `entry:coworker_archived`, `fail:duress`,
/// `record:record_only`.
pub(super) fn said_text(said: Said) -> Cow<'static, str> {
    match said {
        Said::Claim { action, barrier: None } => Cow::Borrowed(action_word(action)),
        Said::Claim { action, barrier: Some(reason) } => {
            Cow::Owned(format!("{}:{}", action_word(action), reason.code()))
        }
        Said::Fail(reason) => Cow::Owned(format!("fail:{}", reason.code())),
        Said::Record(note) => Cow::Owned(format!("record:{}", note.word())),
    }
}

/// The reverse; none for a text that no version of this program wrote.
pub(super) fn said(text: &str) -> Option<Said> {
    let (word, code) = text.split_once(':').map_or((text, None), |(word, code)| (word, Some(code)));
    let reason = code.and_then(Reason::from_code);
    match word {
        "fail" => reason.map(Said::Fail),
        "record" => (code == Some(Note::RecordOnly.word())).then_some(Said::Record(Note::RecordOnly)),
        action => {
            let action = ACTIONS.into_iter().find(|known| action_word(*known) == action)?;
            (code.is_some() == reason.is_some()).then_some(Said::Claim { action, barrier: reason })
        }
    }
}

/// What a presence says of its owner: `network`, `network:network_not_allowed`.
pub(super) fn network_text(barrier: Option<Reason>) -> Cow<'static, str> {
    barrier.map_or(Cow::Borrowed("network"), |reason| Cow::Owned(format!("network:{}", reason.code())))
}

/// A text that [`network_text`] has not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// The reverse: what was against them.
pub(super) fn network_barrier(text: &str) -> Result<Option<Reason>, Unreadable> {
    match text.strip_prefix("network").ok_or(Unreadable)? {
        "" => Ok(None),
        code => code.strip_prefix(':').and_then(Reason::from_code).map(Some).ok_or(Unreadable),
    }
}

const ACTIONS: [DoorClaim; 4] = [DoorClaim::Entry, DoorClaim::Exit, DoorClaim::Toggle, DoorClaim::Activity];

const fn action_word(action: DoorClaim) -> &'static str {
    match action {
        DoorClaim::Entry => "entry",
        DoorClaim::Exit => "exit",
        DoorClaim::Toggle => "toggle",
        DoorClaim::Activity => "activity",
    }
}

/// One presence of a device, as a line of the network keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Point {
    pub(super) last_at: WallTime,
    pub(super) first_at: WallTime,
    pub(super) strong_at: Option<WallTime>,
    pub(super) since: WallTime,
    pub(super) frames: u32,
}

impl Point {
    pub(super) fn of(presence: &Presence) -> Self {
        Self {
            last_at: presence.last_at,
            first_at: presence.first_at,
            strong_at: presence.last_strong_at,
            since: presence.since,
            frames: presence.frames,
        }
    }

    pub(super) fn claim(&self, mac: MacAddr) -> Claim {
        let Self { last_at, first_at, strong_at, since, .. } = *self;
        Claim::Network { mac, since, first_at, last_at, strong_at }
    }

    /// `last,length,last less strong,first less since,frames;` in milliseconds; the third is empty without strong
    /// evidence.
    pub(super) fn text(&self) -> String {
        let less = |later: WallTime, earlier: WallTime| later.millis() - earlier.millis();
        let strong = self.strong_at.map(|strong| less(self.last_at, strong).to_string()).unwrap_or_default();
        let (last, length, before) =
            (self.last_at.millis(), less(self.last_at, self.first_at), less(self.first_at, self.since));
        format!("{last},{length},{strong},{before},{};", self.frames)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(',');
        let mut next = || parts.next();
        let last_at = WallTime::from_millis(next()?.parse().ok()?);
        let first_at = last_at.moved(-next()?.parse::<i64>().ok()?);
        let strong_at = match next()? {
            "" => None,
            less => Some(last_at.moved(-less.parse::<i64>().ok()?)),
        };
        let since = first_at.moved(-next()?.parse::<i64>().ok()?);
        let frames = next()?.parse().ok()?;
        Some(Self { last_at, first_at, strong_at, since, frames })
    }
}

/// The presences of a line; none when it does not keep them.
pub(super) fn points(line: &LogLine) -> Option<Vec<Point>> {
    let text = line.points.as_deref()?;
    text.split_terminator(';').map(Point::parse).collect()
}

/// Adds a presence to a line of its device.
pub(super) fn merge(line: &mut LogLine, point: Point) {
    let mut list = points(line).unwrap_or_default();
    let full = list.len() >= LONGEST_LIST;
    match list.last_mut().filter(|_| full) {
        Some(longest) => {
            longest.last_at = longest.last_at.max(point.last_at);
            longest.strong_at = longest.strong_at.max(point.strong_at);
            longest.frames = longest.frames.saturating_add(point.frames);
            line.points = Some(list.iter().map(Point::text).collect());
        }
        None => line.points.get_or_insert_default().push_str(&point.text()),
    }
    line.event_at = line.event_at.min(point.first_at);
    line.last_at = line.last_at.max(point.last_at);
    line.strong_at = line.strong_at.max(point.strong_at);
    line.frames = line.frames.saturating_add(point.frames);
}

pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::In => "in",
        Direction::Out => "out",
        Direction::Unknown => "unknown",
    }
}

pub(super) fn quality(quality: TimeQuality) -> &'static str {
    match quality {
        TimeQuality::Device => "device",
        TimeQuality::Corrected => "corrected",
        TimeQuality::Arrival => "arrival",
    }
}

/// Long numbers in a topic are card numbers or telephone numbers as often as device ids.
pub(super) fn without_numbers(topic: &str) -> String {
    let long = |level: &str| level.chars().filter(char::is_ascii_digit).count() > LONGEST_PIN;
    let masked = |level: &str| if long(level) { "…".to_owned() } else { level.to_owned() };
    topic.split('/').map(masked).collect::<Vec<_>>().join("/")
}

/// The most digits of a PIN, and of a number that may be one: some keypads send the PIN where the card number stands.
const LONGEST_PIN: usize = 6;

fn may_be_pin(value: &str) -> bool {
    value.len() <= LONGEST_PIN && !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Card numbers are kept, so that an unknown card can be given to somebody in one step; PINs never are.
pub(super) fn credential(event: &DoorEvent) -> Option<String> {
    event.credential.as_ref().map(|credential| match credential.kind {
        CredentialKind::Pin => "PIN".to_owned(),
        CredentialKind::Card if may_be_pin(&credential.value) => "PIN or short number".to_owned(),
        CredentialKind::Card | CredentialKind::Slot | CredentialKind::User | CredentialKind::Name => {
            credential.value.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_door_said_is_read_back() {
        let mut all = vec![Said::Record(Note::RecordOnly)];
        all.extend(Reason::all().map(Said::Fail));
        for action in ACTIONS {
            all.push(Said::Claim { action, barrier: None });
            all.extend(Reason::all().map(|reason| Said::Claim { action, barrier: Some(reason) }));
        }
        for what in all {
            assert_eq!(said(&said_text(what)), Some(what));
        }
        for text in ["", "entry:", "entry:no_such_reason", "fail", "fail:", "record:late", "knock"] {
            assert_eq!(said(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_against_a_device_s_owner_is_read_back() {
        for barrier in [None, Some(Reason::NetworkNotAllowed)] {
            assert_eq!(network_barrier(&network_text(barrier)), Ok(barrier));
        }
        assert_eq!(network_barrier("entry"), Err(Unreadable));
        assert_eq!(network_barrier("network:"), Err(Unreadable));
    }

    proptest! {
        #[test]
        fn presences_are_read_back(list in prop::collection::vec((0i64..2_000_000_000_000, 0i64..100_000, prop::option::of(0i64..100_000), 0i64..100_000_000, 0u32..9), 1..20)) {
            let list: Vec<Point> = list.into_iter().map(|(last, length, strong, before, frames)| {
                let last_at = WallTime::from_millis(last + 200_000_000);
                let first_at = last_at.moved(-length);
                Point { last_at, first_at, strong_at: strong.map(|less| last_at.moved(-less)), since: first_at.moved(-before), frames }
            }).collect();
            let text: String = list.iter().map(Point::text).collect();
            let read: Option<Vec<Point>> = text.split_terminator(';').map(Point::parse).collect();
            prop_assert_eq!(read, Some(list));
        }
    }
}
