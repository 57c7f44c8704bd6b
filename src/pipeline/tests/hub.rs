//! A site with one door and one coworker, Ada, whose time passes minute by minute.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::gateway::{Gateway, at, site};
use crate::base::zone::Zone;
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Refusal, Sighting,
            SightingKey, TimeQuality,
        },
    },
    directory::{
        Builder, Directory,
        entity::{Entity, EntityKind},
    },
    engine::{decision::Reason, passes::PassKind},
    mapping::content::Content,
    policy::{
        SitePolicy,
        door::{Door, DoorAction},
        site::Site,
    },
    source::{Delivery, Receipt},
    store::{StoredVisit, tests::Fresh},
};

/// A Monday.
pub(in crate::pipeline) const START: &str = "2026-03-02T09:00:00Z";
pub(in crate::pipeline) const PHONE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 7]);

pub(in crate::pipeline) enum Act {
    Tap(&'static str),
    Out(&'static str),
    Elsewhere,
    Event(DoorEventKind, Option<Refusal>),
    /// Ada's phone.
    Seen,
    /// Minutes.
    Wait(u64),
}

/// A site whose directory and clock the test controls.
pub(in crate::pipeline) struct Hub {
    pub(in crate::pipeline) gateway: Gateway,
    version: i64,
    taps: u32,
    elapsed: u64,
}

impl Hub {
    pub(in crate::pipeline) async fn new(entities: Vec<(EntityKind, Value)>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (now, site, doors) = beginning(&entities);
        Self::of(Gateway::with(folder, now, directory(1, entities), doors, site).await)
    }

    /// The site on an existing database.
    pub(in crate::pipeline) fn on(fresh: &Fresh, entities: Vec<(EntityKind, Value)>) -> Self {
        let (now, site, doors) = beginning(&entities);
        Self::of(Gateway::on(fresh.store.clone(), now, directory(1, entities), doors, site))
    }

    pub(in crate::pipeline) fn of(gateway: Gateway) -> Self {
        Self { gateway, version: 1, taps: 0, elapsed: 0 }
    }

    pub(in crate::pipeline) async fn act(&mut self, act: &Act) {
        match *act {
            Act::Tap(card) => self.door(card, "main", Direction::In, DoorEventKind::Granted, None).await,
            Act::Out(card) => self.door(card, "main", Direction::Out, DoorEventKind::Granted, None).await,
            Act::Elsewhere => self.door("700", "back", Direction::In, DoorEventKind::Granted, None).await,
            Act::Event(kind, refusal) => self.door("700", "main", Direction::In, kind, refusal).await,
            Act::Seen => {
                let presence = self.phone();
                self.gateway.settle(Vec::new(), vec![presence]).await;
            }
            Act::Wait(minutes) => {
                self.elapsed += minutes;
                self.gateway.pass(Duration::from_mins(minutes)).await;
            }
        }
    }

    /// A presence of the phone, now.
    pub(in crate::pipeline) fn phone(&self) -> Presence {
        let arrived = self.gateway.clock.now();
        let seen = arrived.wall;
        Presence {
            interface: "eth1".into(),
            mac: PHONE,
            since: seen,
            first_at: seen,
            last_at: seen,
            last_strong_at: Some(seen),
            frames: 1,
            arrived,
        }
    }

    /// Ada's taps: minutes after the start, and whether she enters.
    pub(in crate::pipeline) async fn taps(&mut self, taps: &[(u64, bool)]) {
        for &(minute, inwards) in taps {
            self.act(&Act::Wait(minute - self.elapsed)).await;
            self.act(&if inwards { Act::Tap("700") } else { Act::Out("700") }).await;
        }
    }

    /// Ada's exit at `minute` after the start, which arrives only now.
    pub(in crate::pipeline) async fn late_exit(&mut self, minute: i64) {
        let when = at(START).moved(minute * 60_000);
        self.deliver("700", "main", (Direction::Out, DoorEventKind::Granted, None), when).await;
    }

    pub(in crate::pipeline) async fn door(
        &mut self,
        card: &str,
        door: &str,
        way: Direction,
        kind: DoorEventKind,
        refusal: Option<Refusal>,
    ) {
        let when = self.gateway.clock.now().wall;
        self.deliver(card, door, (way, kind, refusal), when).await;
    }

    pub(in crate::pipeline) async fn deliver(
        &mut self,
        card: &str,
        door: &str,
        what: (Direction, DoorEventKind, Option<Refusal>),
        event_at: WallTime,
    ) {
        let delivery = self.delivery(card, door, what, event_at);
        self.gateway.settle(vec![delivery], Vec::new()).await;
    }

    pub(in crate::pipeline) fn delivery(
        &mut self,
        card: &str,
        door: &str,
        (direction, kind, refusal): (Direction, DoorEventKind, Option<Refusal>),
        event_at: WallTime,
    ) -> Delivery {
        self.taps += 1;
        let credential =
            Credential { kind: CredentialKind::Card, scope: None, value: card.to_owned(), spellings: Vec::new() };
        let event =
            DoorEvent { kind, door: DoorKey(door.to_owned()), direction, credential: Some(credential), refusal };
        let sighting = Sighting {
            key: SightingKey(self.taps.to_string()),
            source: Arc::from("front"),
            event_at,
            time_quality: TimeQuality::Device,
            arrived: self.gateway.clock.now(),
            event,
        };
        let content = Content::Sightings(vec![sighting]);
        Delivery::new("front".into(), content, Receipt::none())
    }

    pub(in crate::pipeline) async fn import(&mut self, entities: Vec<(EntityKind, Value)>) {
        self.version += 1;
        self.gateway.change_directory(directory(self.version, entities));
        self.gateway.settle(Vec::new(), Vec::new()).await;
    }

    pub(in crate::pipeline) fn change_site(&mut self, change: impl FnOnce(&mut SitePolicy)) {
        self.gateway.change_policy(change);
    }

    pub(in crate::pipeline) fn description(code: &str) -> String {
        let reason = Reason::from_code(code).expect("a reason");
        reason.description_with(Some("\"Hours\""))
    }

    pub(in crate::pipeline) async fn failed(&self) -> Vec<String> {
        let (from, to) = (WallTime::from_millis(0), at("2026-04-01T00:00:00Z"));
        let failed = self.gateway.pipeline.context.store.failed_checkins_between(BusinessId(1), from, to).await;
        failed.expect("read").into_iter().filter_map(|failed| failed.description).collect()
    }

    pub(in crate::pipeline) async fn visits(&self) -> Vec<String> {
        self.visits_of(7).await
    }

    pub(in crate::pipeline) async fn visits_of(&self, person: i64) -> Vec<String> {
        let face = |at: WallTime| at.utc().format("%H:%M").to_string();
        let line = |visit: &StoredVisit| {
            let kind = visit.pass.as_ref().map_or("None", |pass| match pass.kind {
                PassKind::Day => "Day",
                PassKind::Time => "Time",
                PassKind::PayAsYouGo => "PayAsYouGo",
            });
            let auto = if visit.auto_checkout { " auto" } else { "" };
            format!("{}-{} {kind}{auto}", face(visit.from), visit.to.map(face).unwrap_or_default())
        };
        self.gateway.visits_of(person).await.iter().map(line).collect()
    }

    pub(in crate::pipeline) async fn charges(&self) -> Vec<String> {
        let charges = self.gateway.pipeline.context.store.charges(CoworkerId(7)).await.expect("read");
        let line = |(minutes, amount, _, to): &(i64, i64, WallTime, Option<WallTime>)| {
            let last = if to.is_some() { " final" } else { "" };
            format!("{minutes} min {amount}{last}")
        };
        charges.iter().map(line).collect()
    }
}

/// A site with one door, on the morning of [`START`]. Without passes every visit is recorded, which lets tests
/// distinguish visits.
fn beginning(entities: &[(EntityKind, Value)]) -> (Now, Site, Vec<Door>) {
    let now = Now { wall: at(START), boot: BootTime::from_duration(Duration::from_hours(10)) };
    let door = Door {
        pattern: "main".to_owned(),
        name: "Main".to_owned(),
        on_in: DoorAction::CheckIn,
        on_out: DoorAction::CheckOut,
    };
    let passes = entities.iter().any(|(kind, _)| *kind == EntityKind::TimePass);
    (now, Site { record_every_visit: !passes, ..site(Zone::utc()) }, vec![door])
}

pub(in crate::pipeline) fn directory(version: i64, entities: Vec<(EntityKind, Value)>) -> Directory {
    let mut entities = entities;
    entities.sort_by_key(|(kind, _)| *kind);
    let mut builder = Builder::new(version, "key");
    for (kind, document) in entities {
        let entity: Entity = kind.read(document).expect("an entity");
        builder.add_as_of(entity, at(START));
    }
    builder.build()
}

pub(in crate::pipeline) fn merged(mut document: Value, more: Value) -> Value {
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    document
}

pub(in crate::pipeline) fn coworker() -> (EntityKind, Value) {
    (EntityKind::Coworker, json!({"Id": 7, "FullName": "Ada", "AccessCardId": "700", "MacAddresses": PHONE}))
}

pub(in crate::pipeline) fn held() -> (EntityKind, Value) {
    (EntityKind::CoworkerTimePass, json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1}))
}

pub(in crate::pipeline) fn day_pass() -> Vec<(EntityKind, Value)> {
    vec![coworker(), (EntityKind::TimePass, json!({"Id": 1, "Name": "Day"})), held()]
}

/// A directory in which Ada has a time pass with `left` minutes.
pub(in crate::pipeline) fn minutes(left: u32) -> Vec<(EntityKind, Value)> {
    let held = json!({"Id": 1, "CoworkerId": 7, "TimePassId": 1, "RemainingMinutes": left});
    let kind = json!({"Id": 1, "Name": "Hours", "MinutesIncluded": 600});
    vec![coworker(), (EntityKind::TimePass, kind), (EntityKind::CoworkerTimePass, held)]
}
