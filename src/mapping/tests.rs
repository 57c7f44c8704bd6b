use super::*;
use crate::{
    base::clock::BootTime,
    mapping::presets::{self, Expected, Preset},
};
use proptest::prelude::*;
use std::sync::LazyLock;

fn wall(text: &str) -> WallTime {
    WallTime::from(text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time in the test"))
}

fn at(text: &str) -> Now {
    Now { wall: wall(text), boot: BootTime::from_duration(Duration::from_secs(100)) }
}

const NINE: &str = "2026-03-02T09:00:00Z";

fn fragment(text: &str) -> MappingFragment {
    toml::from_str(text).expect("TOML in the test")
}

fn mapping(text: &str) -> Mapping {
    Mapping::compile(&fragment(text)).expect("a mapping without faults")
}

fn faults(text: &str) -> Vec<String> {
    let faults = Mapping::compile(&fragment(text)).expect_err("a mapping with faults");
    faults.into_iter().map(|fault| fault.path.join(".")).collect()
}

fn sightings(content: Content) -> Vec<Sighting> {
    match content {
        Content::Sightings(sightings) => sightings,
        Content::Ignored => Vec::new(),
        Content::Rejected(rejection) => panic!("rejected: {rejection:?}"),
    }
}

fn why(content: Content) -> RejectReason {
    match content {
        Content::Rejected(rejection) => rejection.why,
        Content::Sightings(sightings) => panic!("accepted: {sightings:?}"),
        Content::Ignored => panic!("ignored"),
    }
}

fn live(mapping: &Mapping, topic: &str, payload: &str) -> Content {
    mapping.map(topic, payload.as_bytes(), Meta::default(), at(NINE)).content
}

/// A reader that publishes JSON; most tests here use it.
const READER: &str = r#"
    name = "front"
    topics = ["doors/{door}"]
    field.card = "/card"
    field.id = "/id"
    field.time = "/time"
    key.door = "{door}"
    time.parse = ["unix"]
    time.trust = "2d past"
    rule = [{ kind = "read" }]
"#;

#[test]
fn every_preset_maps_its_samples_as_they_say() {
    for name in presets::NAMES {
        let preset: Preset = toml::from_str(presets::text(name).expect("its text")).expect("a preset that parses");
        assert!(!preset.sample.is_empty(), "{name} has no samples");
        let topics: Vec<String> = preset.sample.iter().map(|sample| sample.topic.clone()).collect();
        let own = MappingFragment {
            name: "front".to_owned(),
            preset: Some(name.to_owned()),
            topics: preset.mapping.topics.clone().or(Some(topics)),
            ..MappingFragment::default()
        };
        let mapping = Mapping::compile(&own).expect("a preset without faults");
        let mapping = mapping.at_site(&crate::base::zone::test_zone("America/Los_Angeles"), Duration::from_secs(5));
        for sample in &preset.sample {
            let arrived = at(&sample.arrived);
            let meta = Meta { retained: sample.retained, ..Meta::default() };
            let content = mapping.map(&sample.topic, sample.payload.as_bytes(), meta, arrived).content;
            if let Some(reason) = &sample.rejected {
                assert_eq!(why(content).word(), reason, "{name}: {}", sample.about);
                continue;
            }
            let got = sightings(content);
            assert_eq!(got.len(), sample.expect.len(), "{name}: {}: {got:?}", sample.about);
            let got: Vec<Expected> = got.into_iter().zip(&sample.expect).map(described).collect();
            assert_eq!(got, sample.expect, "{name}: {}", sample.about);
        }
    }
}

fn described((sighting, wanted): (Sighting, &Expected)) -> Expected {
    let direction = match sighting.event.direction {
        Direction::In => Some("in".to_owned()),
        Direction::Out => Some("out".to_owned()),
        Direction::Unknown => None,
    };
    let device = sighting.time_quality != TimeQuality::Arrival;
    assert!(device || sighting.event_at == sighting.arrived.wall);
    Expected {
        kind: sighting.event.kind.word().to_owned(),
        door: sighting.event.door.0,
        direction,
        card: sighting.event.credential.map(|credential| credential.value),
        reason: sighting.event.refusal.map(|refusal| refusal.word().to_owned()),
        at: device.then(|| sighting.event_at.to_rfc3339_seconds()),
        key: wanted.key.as_ref().map(|_| sighting.key.0),
    }
}

#[test]
fn every_fault_is_reported_with_its_path() {
    let got = faults(
        r#"
        name = "fr ont"
        preset = "uhpoted"
        topics = ["a/#/b"]
        format = "xml"
        base = "message"
        each = "/list"
        zip = ["/a", "b"]
        retained = "if_new_id"
        field.card = "card"
        field.time = "/time"
        key.door = "{dor}"
        time.zone = "London"
        time.offset = "2 weeks"
        time.trust = "long"
        card.type = "badge"
        card.steps = ["dec", "undo"]
        [[rule]]
        kind = "opened"
        when = { "/a" = { like = "x" }, b = 1, "/c" = { regex = "(" } }
        direction = "inwards"
        reason = { "1" = "no_rights" }
        [[rule]]
        kind = "denied"
        reason_from = "/reason"
        reason = { "1" = "forbidden" }
        "#,
    );
    for path in [
        "name",
        "preset",
        "topics.0",
        "format",
        "base",
        "zip",
        "zip.1",
        "retained",
        "field.card",
        "key.door",
        "time.parse",
        "time.zone",
        "time.offset",
        "time.trust",
        "card.type",
        "card.steps.1",
        "rule.0.kind",
        "rule.0.when./a.like",
        "rule.0.when.b",
        "rule.0.when./c.regex",
        "rule.0.direction",
        "rule.0.reason",
        "rule.1.reason.1",
    ] {
        assert!(got.iter().any(|fault| fault == path), "{path} is missing from {got:?}");
    }
    assert_eq!(got.len(), 23, "{got:?}");
}

#[test]
fn an_unknown_key_is_an_error() {
    assert!(toml::from_str::<MappingFragment>("name = \"x\"\ntopic = \"y\"").is_err());
}

#[test]
fn a_source_overrides_its_preset_piece_by_piece_and_its_rules_come_first() {
    let text = r#"
        name = "back"
        preset = "esp-rfid-v2"
        topics = ["workshop/send"]
        card.steps = ["unpadded"]
        [[rule]]
        when = { user = "Cleaner" }
        kind = "ignore"
    "#;
    let mapping = mapping(text);
    let payload_of = |user: &str| {
        format!(
            r#"{{"type":"access","isKnown":"true","access":"Always","username":"{user}","uid":"f3c624","door":"d"}}"#
        )
    };
    assert!(matches!(live(&mapping, "workshop/send", &payload_of("Cleaner")), Content::Ignored));
    let read = sightings(live(&mapping, "workshop/send", &payload_of("X")));
    let credential = read[0].event.credential.clone().expect("a card");
    assert_eq!(credential.spellings, ["#f3c624", "u:f3c624"]);
}

#[test]
fn every_condition_passes_and_fails_as_written() {
    let table = [
        (r#"{ "/v" = 1 }"#, r#"{"v":1}"#, true),
        (r#"{ "/v" = 1 }"#, r#"{"v":1.0}"#, true),
        (r#"{ "/v" = 1 }"#, r#"{"v":"1"}"#, false),
        (r#"{ "/v" = 1 }"#, r#"{"v":true}"#, false),
        (r#"{ "/v" = { text = "1" } }"#, r#"{"v":1}"#, true),
        (r#"{ "/v" = { text = ["true"] } }"#, r#"{"v":true}"#, true),
        (r#"{ "/v" = { text = ["true"] } }"#, r#"{"v":" true "}"#, true),
        (r#"{ "/v" = [1, "x"] }"#, r#"{"v":"x"}"#, true),
        (r#"{ "/v" = { not = [0, 1] } }"#, r#"{"v":2}"#, true),
        (r#"{ "/v" = { not = 0 } }"#, r#"{"v":0}"#, false),
        (r#"{ "/v" = { not = 0 } }"#, "{}", true),
        (r#"{ "/v" = { exists = true } }"#, r#"{"v":null}"#, false),
        (r#"{ "/v" = { exists = true } }"#, r#"{"v":""}"#, true),
        (r#"{ "/v" = { empty = true } }"#, r#"{"v":" "}"#, true),
        (r#"{ "/v" = { empty = false } }"#, r#"{"v":0}"#, true),
        (r#"{ "/v" = { regex = "^a+$" } }"#, r#"{"v":"aaa"}"#, true),
        (r#"{ "/v" = { regex = "^a+$", not = "aa" } }"#, r#"{"v":"aa"}"#, false),
        (r#"{ "/v/1" = "b" }"#, r#"{"v":["a","b"]}"#, true),
        (r#"{ door = "front" }"#, "{}", true),
        (r#"{ door = ["back"] }"#, "{}", false),
    ];
    for (when, payload, holds) in table {
        let text =
            format!("name = \"x\"\ntopics = [\"doors/{{door}}\"]\nrule = [{{ when = {when}, kind = \"bell\" }}]");
        let content = live(&mapping(&text), "doors/front", payload);
        assert_eq!(matches!(content, Content::Sightings(_)), holds, "{when} and {payload}: {content:?}");
    }
}

#[test]
fn a_topic_can_say_granted_and_a_payload_can_be_the_card() {
    let mapping = mapping(
        r#"
        name = "pico"
        topics = ["{prefix}/{result}"]
        format = "text"
        field.card = ""
        key.door = "{prefix}"
        rule = [
            { when = { result = "access_granted" }, kind = "granted" },
            { when = { result = "access_denied" }, kind = "denied" },
            { when = { result = "heartbeat" }, kind = "heartbeat" },
        ]
        "#,
    );
    let granted = sightings(live(&mapping, "lab/access_granted", "7748328\n\0"));
    assert_eq!(granted[0].event.credential.as_ref().expect("a card").value, "7748328");
    assert_eq!(granted[0].event.door.0, "lab");
    let denied = sightings(live(&mapping, "lab/access_denied", "7748328"));
    assert_eq!(denied[0].event.refusal, Some(Refusal::Other));
    assert_eq!(why(live(&mapping, "lab/else", "7748328")), RejectReason::NoRule);
}

#[test]
fn columns_and_lists_are_read() {
    let nuki = mapping(
        r#"
        name = "nuki"
        topics = ["nuki/{lock}/lockActionEvent"]
        format = "csv"
        field.card = "/3"
        key.door = "{lock}"
        card = { type = "slot", empty = ["0"], scope = "nuki-{lock}" }
        rule = [{ when = { "/0" = ["1", "3"], "/3" = { not = "0" } }, kind = "granted" }, { kind = "ignore" }]
        "#,
    );
    let read = sightings(live(&nuki, "nuki/1A2B/lockActionEvent", "3,0,54321,12345,1"));
    let slot = read[0].event.credential.clone().expect("a slot");
    assert_eq!((slot.value.as_str(), slot.scope.as_deref()), ("12345", Some("nuki-1A2B")));
    for (kind, scope) in [
        ("card", None),
        ("device", None),
        ("slot", Some("locks/back")),
        ("user", Some("locks")),
        ("name", Some("locks")),
    ] {
        let read = mapping(&format!(
            r#"
            name = "locks"
            topics = ["locks/{{lock}}"]
            field.card = "/who"
            key.door = "{{lock}}"
            card.type = "{kind}"
            rule = [{{ kind = "granted" }}]
            "#
        ));
        let read = sightings(live(&read, "locks/back", r#"{"who":"5"}"#));
        let credential = read[0].event.credential.clone().expect("a credential");
        assert_eq!(credential.scope.as_deref(), scope, "{kind}");
    }
    assert!(matches!(live(&nuki, "nuki/1A2B/lockActionEvent", "4,2,0,0,0"), Content::Ignored));

    let log = mapping(
        r#"
        name = "log"
        topics = ["lock/log"]
        each = "/entries"
        field = { card = "/card", index = "/index", lock = "/lock" }
        key = { door = "{lock}", id = "{index}" }
        rule = [{ when = { "/ok" = true }, kind = "granted" }]
        "#,
    );
    let text = r#"{"lock":"L1","entries":[{"index":1,"card":"A","ok":true},{"index":2,"ok":false},{"index":3,"card":"B","ok":true}]}"#;
    let keys: Vec<String> = sightings(live(&log, "lock/log", text)).into_iter().map(|read| read.key.0).collect();
    assert_eq!(keys, ["log/1", "log/3"]);
    assert_eq!(why(live(&log, "lock/log", r#"{"entries":{"a":1}}"#)), RejectReason::BadField);
    assert!(matches!(live(&log, "lock/log", r#"{"entries":[]}"#), Content::Ignored));
    let many = format!(r#"{{"entries":[{}]}}"#, vec!["{}"; MOST_EVENTS + 1].join(","));
    assert_eq!(why(live(&log, "lock/log", &many)), RejectReason::BadField);
}

#[test]
fn a_message_that_cannot_be_understood_is_rejected_with_its_reason() {
    let reader = mapping(READER);
    let deep = format!(r#"{{"card":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let long = format!(r#"{{"card":"{}"}}"#, "7".repeat(300));
    let table: [(&str, &[u8], RejectReason); 12] = [
        ("doors/front", b"", RejectReason::Empty),
        ("doors/front", b" \n\0", RejectReason::Empty),
        ("doors/front", b"\xff\xfe{}", RejectReason::NotUtf8),
        ("doors/front", b"{", RejectReason::NotInFormat),
        ("doors/front", b"{} {}", RejectReason::NotInFormat),
        ("doors/front", deep.as_bytes(), RejectReason::NotInFormat),
        ("doors/front", b"[]", RejectReason::BadField),
        ("doors/front", b"{\"card\":{}}", RejectReason::BadField),
        ("doors/front", b"{\"card\":null}", RejectReason::BadField),
        ("doors/front", b"{\"card\":\"  \"}", RejectReason::BadField),
        ("doors/front", long.as_bytes(), RejectReason::BadField),
        ("other/front", b"{\"card\":\"7\"}", RejectReason::UnknownTopic),
    ];
    for (topic, payload, want) in table {
        let content = reader.map(topic, payload, Meta::default(), at(NINE)).content;
        assert_eq!(why(content), want, "{}", String::from_utf8_lossy(payload));
    }
    let oversize = vec![b'x'; LARGEST_PAYLOAD + 1];
    assert_eq!(why(reader.map("doors/front", &oversize, Meta::default(), at(NINE)).content), RejectReason::Oversize);
}

#[test]
fn a_sample_shows_the_shape_and_hides_the_values() {
    let json =
        reject(RejectReason::NoRule, "doors/front", br#"{"user":"Alice Smith","card":8768711,"ok":true,"x2":[1.5]}"#);
    assert_eq!(json.sample, r#"{"card":#,"ok":true,"user":"…","x#":[#]}"#);
    let text = reject(RejectReason::NotInFormat, "doors/front", "Alice, 0085CCC7 \u{1}{\"pin\":1234".as_bytes());
    assert_eq!(text.sample, "xxxxx, ####xxx#  {\"xxx\":####");
    let long = reject(RejectReason::NotInFormat, &"t".repeat(300), &[b'a'; 5000]);
    assert_eq!((long.topic.chars().count(), long.sample.chars().count()), (120, 120));
}

#[test]
fn keys_are_the_same_for_the_same_event_and_differ_for_others() {
    let key = |text: &str, payload: &str, arrived: &str| {
        let got = sightings(mapping(text).map("doors/front", payload.as_bytes(), Meta::default(), at(arrived)).content);
        got[0].key.0.clone()
    };
    let with_id = format!("{READER}\nkey.id = \"{{door}}/{{id}}\"");
    assert_eq!(key(&with_id, r#"{"card":"A","id":7}"#, NINE), "front/front/7");
    // Without its id, a message gets the digest as its key.
    let digest = key(&with_id, r#"{"card":"A"}"#, NINE);
    assert!(digest.starts_with("front/") && digest.len() == "front/".len() + 32, "{digest}");
    let long = format!(r#"{{"card":"A","id":"{}"}}"#, "7".repeat(255));
    assert_eq!(key(&with_id, &long, NINE).len(), "front/".len() + 32);

    let timed = r#"{"card":"A","time":1772441990}"#;
    assert_eq!(key(READER, timed, "2026-03-02T09:00:00Z"), key(READER, timed, "2026-03-02T12:00:00Z"));
    assert_ne!(key(READER, timed, NINE), key(READER, r#"{"card":"B","time":1772441990}"#, NINE));
    assert_ne!(key(READER, timed, NINE), key(READER, r#"{"card":"A","time":1772441991}"#, NINE));

    let untimed = r#"{"card":"A"}"#;
    assert_eq!(key(READER, untimed, "2026-03-02T09:00:00.100Z"), key(READER, untimed, "2026-03-02T09:00:02.400Z"));
    assert_ne!(key(READER, untimed, "2026-03-02T09:00:00.100Z"), key(READER, untimed, "2026-03-02T09:00:02.600Z"));
}

#[test]
fn the_policy_decides_what_a_retained_copy_is_worth() {
    let table = [
        ("ignore", r#"{"card":"A","id":1,"time":1772441990}"#, false),
        ("accept", r#"{"card":"A"}"#, true),
        ("if_new_id", r#"{"card":"A","id":1,"time":1772441990}"#, true),
        ("if_new_id", r#"{"card":"A","time":1772441990}"#, false),
        ("if_new_id", r#"{"card":"A","id":1}"#, false),
        ("if_new_id", r#"{"card":"A","id":1,"time":1772000000}"#, false),
        ("if_fresh", r#"{"card":"A","time":1772441990}"#, true),
        ("if_fresh", r#"{"card":"A","time":1772441000}"#, false),
    ];
    for (policy, payload, counts) in table {
        let mapping = mapping(&format!("{READER}\nretained = \"{policy}\"\nkey.id = \"{{id}}\""));
        let content = mapping
            .map("doors/front", payload.as_bytes(), Meta { retained: true, ..Meta::default() }, at(NINE))
            .content;
        assert_eq!(matches!(content, Content::Sightings(_)), counts, "{policy} {payload}: {content:?}");
        let live = mapping.map("doors/front", payload.as_bytes(), Meta::default(), at(NINE));
        assert!(matches!(live.content, Content::Sightings(_)));
    }
}

#[test]
fn the_first_source_that_claims_a_topic_gets_it() {
    let sources = [
        Arc::new(mapping(READER)),
        Arc::new(mapping(&READER.replace("doors/{door}", "doors/#").replace("key.door = \"{door}\"", ""))),
    ];
    assert!(Arc::ptr_eq(route(&sources, "doors/front").expect("a source"), &sources[0]));
    assert!(Arc::ptr_eq(route(&sources, "doors/front/x").expect("a source"), &sources[1]));
    assert!(route(&sources, "windows/front").is_none());
}

/// JSON as broken or hostile controllers send it: the right keys with arbitrary values, and arbitrary nesting.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        "\\PC{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        let key = prop_oneof![
            "(message|event|device-id|door-id|event-id|card-number|timestamp|event-type|access-granted|direction)",
            "(type|src|uid|username|access|doorName|isKnown|time|door|card|result|id)",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..6).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

static ALL_PRESETS: LazyLock<Vec<Mapping>> = LazyLock::new(|| {
    let compiled = presets::NAMES.into_iter().map(|name| {
        let own = MappingFragment {
            name: "x".to_owned(),
            preset: Some(name.to_owned()),
            topics: Some(vec!["t/#".to_owned()]),
            ..MappingFragment::default()
        };
        Mapping::compile(&own).expect("a preset without faults")
    });
    compiled.collect()
});

proptest! {
    #[test]
    fn no_json_panics_and_mapping_it_twice_gives_the_same_keys(value in any_json(), retained: bool) {
        let payload = value.to_string();
        for mapping in ALL_PRESETS.iter() {
            let map = || match mapping.map("t/x", payload.as_bytes(), Meta { retained, ..Meta::default() }, at(NINE)).content {
                Content::Sightings(sightings) => sightings,
                Content::Ignored | Content::Rejected(_) => Vec::new(),
            };
            prop_assert_eq!(map(), map());
            prop_assert!(map().len() <= MOST_EVENTS);
        }
    }

    #[test]
    fn no_bytes_panic_and_no_digit_of_them_is_kept(payload in prop::collection::vec(any::<u8>(), 0..200)) {
        for mapping in ALL_PRESETS.iter() {
            if let Content::Rejected(rejection) = mapping.map("t/x", &payload, Meta::default(), at(NINE)).content {
                prop_assert!(!rejection.sample.chars().any(|c| c.is_ascii_digit()), "{}", rejection.sample);
            }
        }
    }
}
