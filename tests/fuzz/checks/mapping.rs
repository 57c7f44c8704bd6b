//! What must hold for any bytes read as a door's message. The first byte chooses the preset and the retained flag; the
//! rest is the payload.

use std::{sync::LazyLock, time::Duration};

use checkind::{
    base::{
        card::LONGEST_CREDENTIAL,
        clock::{BootTime, Now, WallTime},
        sighting::{Sighting, TimeQuality},
    },
    mapping::{MOST_EVENTS, Mapping, MappingFragment, Meta, content::Content, presets},
};

static PRESETS: LazyLock<Vec<Mapping>> = LazyLock::new(|| {
    let compiled = presets::NAMES.into_iter().map(|name| {
        let fragment = MappingFragment {
            name: "door".to_owned(),
            preset: Some(name.to_owned()),
            topics: Some(vec!["doors/#".to_owned()]),
            ..MappingFragment::default()
        };
        Mapping::compile(&fragment).expect("a preset without faults")
    });
    compiled.collect()
});

/// Panics when the mapping breaks a promise.
pub(crate) fn check(bytes: &[u8]) {
    let Some((choice, payload)) = bytes.split_first() else { return };
    let mapping = &PRESETS[usize::from(choice >> 1) % PRESETS.len()];
    let meta = Meta { retained: choice & 1 == 1, ..Meta::default() };
    // 2026-03-02T09:00:00Z
    let arrived =
        Now { wall: WallTime::from_millis(1_772_442_000_000), boot: BootTime::from_duration(Duration::from_secs(100)) };
    match mapping.map("doors/front", payload, meta, arrived).content {
        Content::Sightings(sightings) => {
            assert!((1..=MOST_EVENTS).contains(&sightings.len()));
            for sighting in &sightings {
                check_sighting(mapping, sighting, arrived);
            }
            let Content::Sightings(again) = mapping.map("doors/front", payload, meta, arrived).content else {
                panic!("the second reading differs from the first");
            };
            assert_eq!(sightings, again);
        }
        Content::Ignored => {}
        Content::Rejected(rejection) => {
            assert!(rejection.sample.chars().count() <= 120 && rejection.topic.chars().count() <= 120);
            assert!(!rejection.sample.chars().any(|c| c.is_numeric() || c.is_control()), "{}", rejection.sample);
        }
    }
}

fn check_sighting(mapping: &Mapping, sighting: &Sighting, arrived: Now) {
    assert!(sighting.key.0.starts_with("door/") && sighting.key.0.chars().count() <= 1000, "{}", sighting.key);
    assert_eq!(sighting.arrived, arrived);
    let ahead = sighting.event_at.since(arrived.wall);
    let behind = arrived.wall.since(sighting.event_at);
    assert!(ahead <= Duration::from_secs(120) && behind <= mapping.lateness(), "{}", sighting.event_at);
    assert!(sighting.time_quality != TimeQuality::Arrival || sighting.event_at == arrived.wall);
    assert!(!sighting.event.door.0.is_empty());
    if let Some(credential) = &sighting.event.credential {
        assert!(sighting.event.kind.names_person());
        assert!(!credential.value.is_empty() && credential.value.chars().count() <= LONGEST_CREDENTIAL);
        assert!(!credential.spellings.contains(&credential.value));
    }
}
