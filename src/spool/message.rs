//! PURE. Encodes a delivery for the spool, and decodes it again, perhaps after a reboot.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    base::clock::{BootTime, Now, STEP},
    mapping::content::{Content, RejectReason, Rejection},
};

#[derive(Serialize)]
struct WrittenMessage<'a> {
    source: &'a str,
    content: &'a Content,
}

#[derive(Deserialize)]
struct StoredMessage {
    source: Arc<str>,
    content: Content,
}

/// Encodes a delivery as the text to store.
pub(super) fn encode(source: &str, content: &Content) -> String {
    serde_json::to_string(&WrittenMessage { source, content }).expect("a delivery is plain data")
}

/// Decodes a stored delivery; `None` if it cannot be read because another version of checkind wrote it. For a message
/// that an earlier process wrote, `began` is when this process began to use the spool.
pub(super) fn decode(text: &str, began: Option<Now>) -> Option<(Arc<str>, Content)> {
    let StoredMessage { source, mut content } = serde_json::from_str(text).ok()?;
    if let (Some(began), Content::Sightings(sightings)) = (began, &mut content) {
        for sighting in sightings {
            sighting.arrived = arrival(sighting.arrived, began);
        }
    }
    Some((source, content))
}

/// The replacement for a row that cannot be read: it is counted, and does not block the rows after it.
pub(super) fn placeholder() -> (Arc<str>, Content) {
    let rejection = Rejection { why: RejectReason::NotInFormat, topic: "spool".to_owned(), sample: String::new() };
    (Arc::from("spool"), Content::Rejected(rejection))
}

/// When a message of an earlier process arrived, by the clocks of this process.
///
/// If both clocks have advanced by the same time since then, the machine has not rebooted, or it makes no difference.
/// Otherwise it has rebooted, or its wall clock was stepped while no process of ours ran. Then the wall time is kept,
/// and the boot time is replaced by one that lies before this boot.
fn arrival(arrived: Now, began: Now) -> Now {
    let expected = arrived.wall.plus(began.boot.since(arrived.boot));
    if arrived.boot <= began.boot && expected.distance(began.wall) <= STEP {
        return arrived;
    }
    Now { boot: BootTime::earlier(arrived.wall), ..arrived }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{
        clock::WallTime,
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Sighting, SightingKey,
            TimeQuality,
        },
    };
    use std::time::Duration;

    /// Seconds since 1970, and since boot.
    fn at(wall: i64, boot: u64) -> Now {
        Now { wall: WallTime::from_millis(wall * 1000), boot: BootTime::from_duration(Duration::from_secs(boot)) }
    }

    fn content(arrived: Now) -> Content {
        Content::Sightings(vec![Sighting {
            key: SightingKey("side/4711".to_owned()),
            source: Arc::from("side"),
            event_at: arrived.wall,
            time_quality: TimeQuality::Arrival,
            arrived,
            event: DoorEvent {
                kind: DoorEventKind::Granted,
                door: DoorKey("side".to_owned()),
                direction: Direction::In,
                credential: Some(Credential {
                    kind: CredentialKind::Card,
                    scope: None,
                    value: "8165538".to_owned(),
                    spellings: vec!["8165538".to_owned()],
                }),
                refusal: None,
            },
        }])
    }

    #[test]
    fn a_delivery_comes_back_as_it_was_with_its_key() {
        let rejected = Content::Rejected(Rejection {
            why: RejectReason::NoRule,
            topic: "doors/side".to_owned(),
            sample: "{\"a\":#}\u{0}".to_owned(),
        });
        for content in [content(at(1_772_442_000, 50)), rejected] {
            assert_eq!(decode(&encode("side", &content), None), Some((Arc::from("side"), content)));
        }
    }

    #[test]
    fn what_cannot_be_read_is_rejected() {
        assert_eq!(decode("{\"source\":\"side\",\"content\":{\"levitated\":[]}}", None), None);
        assert!(matches!(placeholder().1, Content::Rejected(_)));
    }

    #[test]
    fn an_arrival_keeps_its_boot_time_only_until_a_reboot() {
        for (why, arrived, began, kept) in [
            ("the process was restarted", at(10_000, 50), at(10_600, 650), true),
            ("the machine has rebooted", at(10_000, 5000), at(10_600, 60), false),
            ("the machine has rebooted and has been up for longer than then", at(10_000, 50), at(10_600, 300), false),
            ("the wall clock was stepped meanwhile", at(10_000, 50), at(96_400, 650), false),
            ("the wall clock went back", at(10_000, 50), at(9_000, 650), false),
        ] {
            let Some((_, Content::Sightings(sightings))) = decode(&encode("side", &content(arrived)), Some(began))
            else {
                panic!("{why}: it cannot be read");
            };
            assert_eq!(sightings[0].arrived.wall, arrived.wall, "{why}");
            assert_eq!(sightings[0].event_at, arrived.wall, "{why}");
            let boot = if kept { arrived.boot } else { BootTime::earlier(arrived.wall) };
            assert_eq!(sightings[0].arrived.boot, boot, "{why}");
        }
    }
}
