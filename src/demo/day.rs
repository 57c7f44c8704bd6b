//! PURE. The events of the day at the site, as messages and frames.
//!
//! Never here: what the daemon decides.

use chrono::{Days, NaiveDate, NaiveTime};
use serde_json::json;

use super::{
    frames::{self, Port},
    hub::{self, BOARD, DemoPerson, DemoVisit, HeldKey, PEOPLE, card, documented, hm, zone},
};
use crate::base::{clock::WallTime, mac::MacAddr};

/// The start of the demo's clock, in seconds after midnight.
pub(super) const BEGINS: u32 = hm(7, 28);

/// The end of the demo's clock: ten minutes after the cut-off.
pub(super) const ENDS: u32 = hm(20, 10);

/// The topics on which the board's bridge publishes each event: the live topic and the feed.
const BRIDGE_TOPICS: &[&str] = &["uhppoted/gateway/events/live", "uhppoted/gateway/events"];

/// The topic of the esp-rfid reader at the garden door.
const GARDEN_TOPICS: &[&str] = &["rfid/send"];

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    /// When it happens.
    pub(super) at: WallTime,
    /// What happens.
    pub(super) act: Act,
}

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A controller publishes one payload on each of these topics.
    Publish(Controller, &'static [&'static str], String),
    /// A device sends a frame.
    Send(Vec<u8>),
}

/// The controllers that publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controller {
    /// uhppoted-mqtt, the bridge of the board.
    Bridge,
    /// The esp-rfid reader at the garden door.
    Garden,
}

/// An instant of the day. A local time that occurs twice means the later one: the demo's day starts after the clocks
/// change.
pub(super) fn instant(date: NaiveDate, second: u32) -> WallTime {
    let (days, second) = (second / 86_400, second % 86_400);
    let time = NaiveTime::from_num_seconds_from_midnight_opt(second, 0).unwrap_or(NaiveTime::MIN);
    let local = date.checked_add_days(Days::new(days.into())).unwrap_or(date).and_time(time);
    let [_, later] = zone().occurrences(local);
    later
}

/// Everything that happens on this date, in order.
pub(super) fn scenes(date: NaiveDate) -> Vec<Scene> {
    let mut day = Day { date, scenes: Vec::new(), events: 0 };
    for person in PEOPLE {
        for visit in person.visits {
            day.visit(person, visit);
        }
    }
    day.strangers();
    day.refusals();
    day.doors();
    day.machines();
    day.left_laptop();
    day.scenes.sort_by_key(|scene| scene.at);
    day.scenes
}

struct Day {
    date: NaiveDate,
    scenes: Vec<Scene>,
    events: u32,
}

/// An event of the board.
struct BoardEvent {
    door: u8,
    outwards: bool,
    card: u32,
    granted: bool,
    /// 1 swipe, 2 door.
    kind: u8,
    reason: u8,
}

impl Day {
    fn push(&mut self, second: u32, act: Act) {
        let at = instant(self.date, second);
        self.scenes.push(Scene { at, act });
    }

    fn frame(&mut self, second: u32, frame: Vec<u8>) {
        self.push(second, Act::Send(frame));
    }

    /// Publishes an event of the board, on both topics of the bridge.
    fn board(&mut self, second: u32, event: &BoardEvent) {
        self.events += 1;
        let at = instant(self.date, second);
        let summer = if zone().ahead(at) == 0 { "GMT" } else { "BST" };
        let payload = json!({"message": {"event": {"event": {
            "device-id": BOARD,
            "event-id": self.events,
            "event-type": event.kind,
            "access-granted": event.granted,
            "door-id": event.door,
            "direction": if event.outwards { 2 } else { 1 },
            "card-number": event.card,
            "timestamp": format!("{} {summer}", zone().local(at).format("%Y-%m-%d %H:%M:%S")),
            "event-reason": event.reason,
        }}}});
        self.push(second, Act::Publish(Controller::Bridge, BRIDGE_TOPICS, payload.to_string()));
    }

    fn swipe(&mut self, second: u32, door: u8, card: u32, outwards: bool) {
        self.board(second, &BoardEvent { door, outwards, card, granted: true, kind: 1, reason: 1 });
    }

    fn garden(&mut self, second: u32, uid: &str, user: &str, known: bool) {
        let time = instant(self.date, second).millis() / 1000;
        let payload = json!({
            "type": "access", "time": time, "isKnown": known.to_string(),
            "access": if known { "Always" } else { "Denied" },
            "username": user, "uid": uid, "hostname": "esp-garden", "doorName": "Garden door",
        });
        self.push(second, Act::Publish(Controller::Garden, GARDEN_TOPICS, payload.to_string()));
    }

    fn garden_log(&mut self, second: u32, kind: &str, source: &str, said: &str) {
        let time = instant(self.date, second).millis() / 1000;
        let payload = json!({"type": kind, "src": source, "desc": said, "data": "", "time": time, "cmd": "event", "hostname": "esp-garden"});
        self.push(second, Act::Publish(Controller::Garden, GARDEN_TOPICS, payload.to_string()));
    }

    fn tap(&mut self, second: u32, person: &DemoPerson, outwards: bool) {
        match person.key {
            HeldKey::Card(number) => self.swipe(second, 1, number, outwards),
            HeldKey::Fob(uid) => self.garden(second, uid, &format!("member-{}", person.id), true),
            HeldKey::Nothing => {}
        }
    }

    /// A visit: in, stay, out. The phone stays in range a little longer than its owner.
    fn visit(&mut self, person: &DemoPerson, visit: &DemoVisit) {
        let own = u32::from(person.id);
        if visit.taps_in {
            self.tap(visit.from, person, false);
        }
        if let Some(phone) = person.phone() {
            let first = visit.from + 25 + own * 7 % 60;
            // An idle phone sends a frame every 12 to 26 minutes.
            self.stay(phone, Port::Air, first, visit.to, 12 * 60 + own * 97 % (14 * 60));
            if visit.taps_out {
                self.frame(visit.to + 40, frames::arp_request(phone, Port::Air));
                self.frame(visit.to + 215, frames::arp_request(phone, Port::Air));
            }
        }
        if let Some(laptop) = person.laptop() {
            let port = if own.is_multiple_of(3) { Port::Desk } else { Port::Air };
            self.stay(laptop, port, visit.from + 180 + own * 13 % 240, visit.to, 4 * 60 + own * 31 % 300);
        }
        if let HeldKey::Card(number) = person.key
            && own.is_multiple_of(4)
            && visit.to - visit.from > hm(3, 0)
        {
            self.swipe(visit.from + hm(1, 10), 2, number, false);
        }
        if visit.taps_out {
            self.tap(visit.to, person, true);
        }
    }

    /// A device gets an address, renews it at half its lease, and sends ARP requests for the router.
    fn stay(&mut self, device: MacAddr, port: Port, from: u32, to: u32, every: u32) {
        for (at, renewal) in (from..to).step_by(30 * 60).zip(0u32..) {
            self.frame(at, frames::dhcp_request(device, port));
            self.frame(at + 1, frames::dhcp_ack(hub::ROUTER, device, port));
            if renewal == 0 {
                self.frame(at + 2, frames::announcement(device, port));
            }
        }
        for at in (from + every..to).step_by(every as usize) {
            self.frame(at, frames::arp_request(device, port));
        }
    }

    /// Devices without a known owner.
    fn strangers(&mut self) {
        // A visitor with a randomised address stays for a meeting; two people walk past with Wi-Fi on.
        let visitor = MacAddr::new([0x06, 0x1d, 0x5a, 0x33, 0x40, 0x9e]);
        self.stay(visitor, Port::Air, hm(10, 31), hm(11, 44), 9 * 60);
        for (at, last) in [(hm(11, 52), 0xa1), (hm(15, 26), 0xa2)] {
            self.frame(at, frames::arp_request(documented(last), Port::Air));
        }
    }

    /// Cards that are refused.
    fn refusals(&mut self) {
        let refused = |door, card| BoardEvent { door, outwards: false, card, granted: false, kind: 1, reason: 6 };
        // An unknown card, tried twice; a coworker without rights to the quiet floor; an inactive coworker's card; a
        // member of the other hub, let in by the board; a card assigned to two people.
        self.board(hm(10, 22), &refused(1, card(64_123)));
        self.board(hm(10, 22) + 21, &refused(1, card(64_123)));
        self.board(hm(11, 17), &refused(2, card(12_018)));
        self.swipe(hm(9, 37), 1, card(12_024), false);
        self.swipe(hm(11, 33), 1, card(12_023), false);
        self.swipe(hm(9, 50), 1, card(12_021), false);
        self.garden(hm(13, 5), "9f00c3d1", "Unknown", false);
        self.garden_log(hm(13, 5), "WARN", "rfid", "Unknown rfid tag is scanned");
    }

    /// Door events other than taps.
    fn doors(&mut self) {
        let button = BoardEvent { door: 1, outwards: true, card: 8, granted: true, kind: 2, reason: 20 };
        for at in [hm(15, 3), hm(16, 5), hm(17, 22)] {
            self.board(at, &button);
        }
        self.garden_log(hm(12, 38), "WARN", "tamper", "Door wasn't closed within max open time!");
        self.garden_log(hm(12, 41), "INFO", "door", "Door Closed");
        // A card held to the reader until the light changed: two reads, one tap.
        self.swipe(hm(8, 2) + 3, 1, card(12_002), false);
        // A message cut off in the middle.
        let torn = r#"{"type":"access","time":16"#.to_owned();
        self.push(hm(14, 44), Act::Publish(Controller::Garden, GARDEN_TOPICS, torn));
        for at in (BEGINS..ENDS).step_by(30 * 60) {
            let time = instant(self.date, at).millis() / 1000;
            let payload = json!({"type": "heartbeat", "time": time, "ip": "192.0.2.31", "door": "esp-garden"});
            self.push(at, Act::Publish(Controller::Garden, GARDEN_TOPICS, payload.to_string()));
        }
    }

    /// Infrastructure, and one machine that forges ARP for another.
    fn machines(&mut self) {
        // Frequent enough that the capture never seems dead.
        for at in (BEGINS..ENDS).step_by(2 * 60) {
            self.frame(at, frames::arp_request(hub::ROUTER, Port::Air));
        }
        for at in (BEGINS..ENDS).step_by(10 * 60) {
            self.frame(at + 60, frames::arp_request(hub::PRINTER, Port::Desk));
        }
        let victim = documented(2);
        for step in 0..3 {
            self.frame(hm(18, 10) + step * 20, frames::forged(documented(0xa3), victim));
        }
    }

    /// A sleeping laptop left on a desk: its network card answers all evening, but its owner is checked out
    /// nevertheless.
    fn left_laptop(&mut self) {
        let Some(person) = PEOPLE.iter().find(|person| person.id == 16) else { return };
        let (Some(laptop), Some(visit)) = (person.laptop(), person.visits.last()) else { return };
        for at in (visit.to..ENDS).step_by(11 * 60) {
            self.frame(at, frames::arp_reply(laptop, Port::Air));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        settings::{self, Settings},
        source::network::frame::observe,
    };

    fn date() -> NaiveDate {
        NaiveDate::from_ymd_opt(2026, 3, 2).expect("a date")
    }

    #[test]
    fn the_day_is_in_order_and_within_its_hours() {
        let scenes = scenes(date());
        assert!(scenes.is_sorted_by_key(|scene| scene.at));
        let (begins, ends) = (instant(date(), BEGINS), instant(date(), ENDS));
        let last = scenes.iter().filter(|scene| scene.at > ends).count();
        assert!(scenes.first().is_some_and(|scene| scene.at >= begins));
        assert!(last < 40, "only devices that stay after the end continue: {last}");
        assert!(scenes.len() < 6000, "{}", scenes.len());
    }

    #[test]
    fn every_frame_is_of_a_protocol_that_is_captured() {
        for scene in scenes(date()) {
            match scene.act {
                Act::Send(frame) => assert!(observe(&frame, None).is_some(), "{frame:02x?}"),
                Act::Publish(_, topics, payload) => assert!(!topics.is_empty() && !payload.is_empty()),
            }
        }
    }

    #[test]
    fn the_clocks_may_change_on_the_day() {
        for (month, day) in [(3, 29), (10, 25)] {
            let date = NaiveDate::from_ymd_opt(2026, month, day).expect("a date");
            let begins = zone().local(instant(date, BEGINS));
            assert_eq!(begins.format("%H:%M").to_string(), "07:28");
        }
    }

    #[test]
    fn the_configuration_is_valid_and_takes_every_topic() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("checkind.toml");
        std::fs::write(&file, hub::configuration(1883, Some("eth1"))).expect("written");
        std::fs::write(folder.path().join("mqtt-password"), "secret").expect("written");
        let Settings { sources, doors, captures, .. } =
            settings::load(Some(&file), std::iter::empty()).expect("no fault").settings;
        assert_eq!((sources.len(), doors.len(), captures.len()), (2, 3, 1));
        for topic in BRIDGE_TOPICS.iter().chain(GARDEN_TOPICS) {
            let taken = sources.iter().flat_map(|source| source.filters()).any(|filter| filter == *topic);
            assert!(taken, "{topic}");
        }
    }
}
