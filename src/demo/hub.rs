//! PURE. The site of the demo: its people, doors, devices and configuration, all invented.
//!
//! Its MAC addresses are reserved for documentation by RFC 7042 2.1.2, so no real device has them.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::base::{mac::MacAddr, zone::Zone};

/// The time zone of the site.
const ZONE: &str = "Europe/London";

/// The site's time zone, with the rules bundled in the program.
pub(super) fn zone() -> Zone {
    Zone::bundled(ZONE).unwrap_or_else(Zone::utc)
}

/// The end of the pass day, when everyone still in is checked out. In seconds after midnight.
pub(super) const CUT_OFF: u32 = hm(20, 0);

/// The UHPPOTE board: door 1 is the main entrance, door 2 the quiet floor.
pub(super) const BOARD: u32 = 405_419_896;

/// The site's router. It grants addresses, and is listed as infrastructure.
pub(super) const ROUTER: MacAddr = documented(0xfe);

/// A printer, listed as infrastructure.
pub(super) const PRINTER: MacAddr = documented(0xfd);

/// A time of day in seconds after midnight.
pub(super) const fn hm(hours: u32, minutes: u32) -> u32 {
    (hours * 60 + minutes) * 60
}

/// A card number as the board prints it, with facility code 81.
pub(super) const fn card(number: u32) -> u32 {
    81 * 100_000 + number
}

/// One of the 256 MAC addresses for documentation.
pub(super) const fn documented(last: u8) -> MacAddr {
    MacAddr::new([0x00, 0x00, 0x5e, 0x00, 0x53, last])
}

/// A person in the directory, and their day.
pub(super) struct DemoPerson {
    /// The number in the directory.
    pub(super) id: u8,
    /// Full name.
    pub(super) name: &'static str,
    tariff: u8,
    team: Option<u8>,
    /// What they present to readers.
    pub(super) key: HeldKey,
    phone: bool,
    laptop: bool,
    kind: PersonKind,
    /// Their visits.
    pub(super) visits: &'static [DemoVisit],
}

/// What a person presents to a reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HeldKey {
    /// A card, at the main entrance.
    Card(u32),
    /// A fob, at the garden door.
    Fob(&'static str),
    /// Nothing: they walk in with others.
    Nothing,
}

/// What is special about a person.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PersonKind {
    Member,
    Inactive,
    Elsewhere,
    NotByNetwork,
}

/// One visit, in seconds after midnight.
pub(super) struct DemoVisit {
    /// Start.
    pub(super) from: u32,
    /// Whether they use their key on the way in.
    pub(super) taps_in: bool,
    /// End.
    pub(super) to: u32,
    /// Whether they use their key on the way out.
    pub(super) taps_out: bool,
}

/// A visit with a tap in and a tap out.
const fn taps(from: u32, to: u32) -> DemoVisit {
    DemoVisit { from, taps_in: true, to, taps_out: true }
}

/// A visit with a tap in, but none on the way out.
const fn slips_out(from: u32, to: u32) -> DemoVisit {
    DemoVisit { from, taps_in: true, to, taps_out: false }
}

/// A visit that only the network can see.
const fn unseen(from: u32, to: u32) -> DemoVisit {
    DemoVisit { from, taps_in: false, to, taps_out: false }
}

impl DemoPerson {
    /// Their phone.
    pub(super) fn phone(&self) -> Option<MacAddr> {
        self.phone.then(|| documented(self.id * 2))
    }

    /// Their laptop.
    pub(super) fn laptop(&self) -> Option<MacAddr> {
        self.laptop.then(|| documented(self.id * 2 + 1))
    }

    fn entity(&self) -> Value {
        let (cards, fobs) = match self.key {
            HeldKey::Card(number) => (Some(number.to_string()), None),
            HeldKey::Fob(uid) => (None, Some(uid)),
            HeldKey::Nothing => (None, None),
        };
        let macs: Vec<String> = self.phone().into_iter().chain(self.laptop()).map(|mac| mac.to_string()).collect();
        json!({
            "Id": self.id,
            "FullName": self.name,
            "Active": self.kind != PersonKind::Inactive,
            "AllowNetworkCheckin": self.kind != PersonKind::NotByNetwork,
            "Businesses": [if self.kind == PersonKind::Elsewhere { 2 } else { 1 }],
            "TariffId": self.tariff,
            "Teams": self.team.into_iter().collect::<Vec<_>>(),
            "AccessCardId": cards,
            "KeyFobNumber": fobs,
            "MacAddresses": macs.join(","),
        })
    }
}

const FULL_TIME: u8 = 1;
const PART_TIME: u8 = 2;
const VIRTUAL: u8 = 3;
const LIGHTHOUSE: Option<u8> = Some(1);
const SAPLING: Option<u8> = Some(2);

/// Everyone in the directory.
pub(super) const PEOPLE: &[DemoPerson] = &[
    member(
        1,
        "Mara Quill",
        FULL_TIME,
        LIGHTHOUSE,
        HeldKey::Card(card(12_001)),
        &[taps(hm(7, 41), hm(12, 12)), taps(hm(12, 57), hm(17, 6))],
    ),
    member(2, "Tobin Ashgrove", FULL_TIME, LIGHTHOUSE, HeldKey::Card(card(12_002)), &[taps(hm(8, 2), hm(16, 34))]),
    member(
        3,
        "Ilse Fennimore",
        FULL_TIME,
        LIGHTHOUSE,
        HeldKey::Card(card(12_003)),
        &[taps(hm(8, 14), hm(12, 15)), taps(hm(13, 2), hm(17, 41))],
    ),
    member(4, "Dario Wexley", PART_TIME, SAPLING, HeldKey::Fob("04a1b2c4"), &[taps(hm(8, 23), hm(13, 8))]),
    member(
        5,
        "Petra Lindqvale",
        FULL_TIME,
        SAPLING,
        HeldKey::Fob("04a1b2c5"),
        &[taps(hm(8, 31), hm(12, 33)), taps(hm(13, 21), hm(18, 3))],
    ),
    member(6, "Osman Thrale", FULL_TIME, SAPLING, HeldKey::Card(card(12_006)), &[slips_out(hm(8, 36), hm(17, 22))]),
    member(7, "Junia Harrowby", FULL_TIME, None, HeldKey::Card(card(12_007)), &[taps(hm(8, 44), hm(17, 15))]),
    member(8, "Kofi Merriden", FULL_TIME, None, HeldKey::Nothing, &[unseen(hm(8, 48), hm(16, 52))]),
    member(9, "Saskia Bellweather", PART_TIME, None, HeldKey::Card(card(12_009)), &[taps(hm(8, 55), hm(12, 44))]),
    member(
        10,
        "Emil Corvane",
        FULL_TIME,
        LIGHTHOUSE,
        HeldKey::Card(card(12_010)),
        &[taps(hm(9, 1), hm(12, 31)), slips_out(hm(13, 14), hm(18, 20))],
    ),
    // Taps in, but has no known device: in until the cut-off.
    DemoPerson {
        phone: false,
        laptop: false,
        ..member(11, "Noor Tamsin", PART_TIME, None, HeldKey::Card(card(12_011)), &[slips_out(hm(9, 6), hm(15, 30))])
    },
    member(12, "Bram Oakhurst", FULL_TIME, SAPLING, HeldKey::Fob("04a1b2cc"), &[taps(hm(9, 12), hm(17, 48))]),
    member(13, "Leila Marchbank", FULL_TIME, None, HeldKey::Nothing, &[unseen(hm(9, 19), hm(14, 10))]),
    member(14, "Yuki Frostham", PART_TIME, LIGHTHOUSE, HeldKey::Card(card(12_014)), &[taps(hm(9, 24), hm(15, 55))]),
    member(
        15,
        "Otis Penhallow",
        FULL_TIME,
        None,
        HeldKey::Card(card(12_015)),
        &[taps(hm(9, 33), hm(13, 12)), taps(hm(14, 4), hm(18, 32))],
    ),
    // Leaves a laptop on the desk; its network card keeps answering.
    member(16, "Greta Stillwater", FULL_TIME, SAPLING, HeldKey::Card(card(12_016)), &[slips_out(hm(9, 42), hm(16, 5))]),
    DemoPerson {
        laptop: false,
        ..member(17, "Anselm Dray", PART_TIME, None, HeldKey::Nothing, &[unseen(hm(10, 3), hm(12, 20))])
    },
    member(18, "Vera Kestle", PART_TIME, None, HeldKey::Card(card(12_018)), &[taps(hm(10, 11), hm(16, 18))]),
    // Works late: still in at the cut-off.
    member(19, "Milo Pomfret", FULL_TIME, LIGHTHOUSE, HeldKey::Card(card(12_019)), &[taps(hm(13, 35), hm(20, 30))]),
    DemoPerson {
        kind: PersonKind::NotByNetwork,
        laptop: false,
        ..member(20, "Tamar Winslade", VIRTUAL, None, HeldKey::Nothing, &[unseen(hm(10, 40), hm(11, 5))])
    },
    // The next two have the same card.
    member(21, "Rufus Elderkin", PART_TIME, None, HeldKey::Card(card(12_021)), &[unseen(hm(9, 51), hm(15, 2))]),
    DemoPerson {
        phone: false,
        laptop: false,
        ..member(22, "Zoë Ångvale", PART_TIME, None, HeldKey::Card(card(12_021)), &[])
    },
    DemoPerson {
        kind: PersonKind::Elsewhere,
        ..member(23, "Hugo Tansley", FULL_TIME, None, HeldKey::Card(card(12_023)), &[])
    },
    DemoPerson {
        kind: PersonKind::Inactive,
        ..member(24, "Wren Castellane", PART_TIME, None, HeldKey::Card(card(12_024)), &[])
    },
    DemoPerson {
        kind: PersonKind::Inactive,
        laptop: false,
        ..member(25, "Ilya Brandreth", VIRTUAL, None, HeldKey::Nothing, &[unseen(hm(14, 30), hm(14, 50))])
    },
    member(26, "Nell Garrowby", PART_TIME, SAPLING, HeldKey::Fob("04a1b2da"), &[taps(hm(14, 16), hm(19, 12))]),
];

const fn member(
    id: u8,
    name: &'static str,
    tariff: u8,
    team: Option<u8>,
    key: HeldKey,
    visits: &'static [DemoVisit],
) -> DemoPerson {
    DemoPerson { id, name, tariff, team, key, phone: true, laptop: true, kind: PersonKind::Member, visits }
}

/// The directory as an import file.
pub(super) fn directory() -> String {
    json!({
        "Businesses": [{"Id": 1, "Name": "Harbour Hub"}, {"Id": 2, "Name": "Hill Hub"}],
        "Teams": [{"Id": 1, "Name": "Lighthouse"}, {"Id": 2, "Name": "Sapling"}],
        "Tariffs": [
            {"Id": FULL_TIME, "Name": "Full time"},
            {"Id": PART_TIME, "Name": "Part time"},
            {"Id": VIRTUAL, "Name": "Virtual office"},
        ],
        "Coworkers": PEOPLE.iter().map(DemoPerson::entity).collect::<Vec<_>>(),
    })
    .to_string()
}

/// The configuration file, without the database and the API's address. Captures on `interface` if given. The broker's
/// password is in `mqtt-password`.
pub(super) fn configuration(broker_port: u16, interface: Option<&str>) -> String {
    let mut text = format!(
        r#"[site]
business = 1
name = "Harbour Hub"
time_zone = "{ZONE}"
cut_off = "{:02}:{:02}"
record_every_visit = true

[mqtt]
url = "mqtt://127.0.0.1:{broker_port}"
client_id = "checkind-demo"
username = "demo"
password_file = "mqtt-password"

[[source]]
name = "entrance"
preset = "uhppoted"
topics = ["uhppoted/gateway/events", "uhppoted/gateway/events/live"]

[[source]]
name = "garden"
preset = "esp-rfid-v2"
topics = ["rfid/send"]
# An hour of the demo's clock takes a few seconds, so a message seems to take minutes to arrive.
time.trust = "2h past"

[[door]]
match = "{BOARD}:1"
name = "Main entrance"
on_in = "check_in"
on_out = "check_out"

[[door]]
match = "{BOARD}:2"
name = "Quiet floor"
on_in = "activity"
on_out = "activity"

[[door]]
match = "Garden door"
on_in = "toggle"
on_out = "toggle"
"#,
        CUT_OFF / 3600,
        CUT_OFF / 60 % 60,
    );
    if let Some(interface) = interface {
        // Writing to a String cannot fail.
        let _written =
            write!(text, "\n[[capture]]\ninterface = \"{interface}\"\nignore = [\"{ROUTER}\", \"{PRINTER}\"]\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::import::read_json;

    #[test]
    fn the_directory_is_imported_without_a_fault() {
        let import = read_json(&directory(), "key").expect("no fault");
        assert_eq!(import.documents.len(), PEOPLE.len() + 2 + 2 + 3);
    }

    #[test]
    fn every_device_has_one_owner_and_visits_are_in_order() {
        let mut macs: Vec<MacAddr> =
            PEOPLE.iter().flat_map(|person| person.phone().into_iter().chain(person.laptop())).collect();
        let all = macs.len();
        macs.sort_unstable();
        macs.dedup();
        assert_eq!(macs.len(), all);
        assert!(!macs.contains(&ROUTER) && !macs.contains(&PRINTER));
        for person in PEOPLE {
            assert!(person.visits.iter().all(|visit| visit.from < visit.to), "{}", person.name);
            assert!(person.visits.is_sorted_by(|one, next| one.to < next.from), "{}", person.name);
        }
    }
}
