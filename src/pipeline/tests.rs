//! What a step of the wall clock does to check-ins: a site on a SQLite file, whose clocks the test holds.

use std::sync::Arc;

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use tokio::sync::watch;

use super::*;
use crate::{
    clock::CONFIRMED_AFTER,
    directory::{
        Builder,
        entity::{Coworker, Entity},
    },
    engine::Visit,
    mac::MacAddr,
    settings::{Database, Door, DoorAction, NetworkOpens, Site, UnrecognisedDevices},
    sighting::{Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, SightingKey},
    source::{Receipt, network::hearing::Ear},
};

const DAY: i64 = 86_400_000;
const PHONE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 2]);

#[tokio::test]
async fn a_step_that_is_taken_back_leaves_no_trace() {
    for by in [10 * DAY, -10 * DAY, -20_000 * DAY, 3_600_000, -3_600_000] {
        let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
        site.tap(1, Direction::In).await;
        site.hear().await;
        site.step(by);
        for _ in 0..30 {
            site.pass(Duration::from_mins(1)).await;
            site.hear().await;
        }
        site.tap(3, Direction::In).await;
        site.tap(1, Direction::In).await;
        site.step_back();
        site.pass(Duration::from_mins(30)).await;
        site.tap(1, Direction::Out).await;
        let expected = ["1 12:00-13:00", "2 12:00- last 12:30", "3 12:30- last 12:30"];
        assert_eq!(site.records().await, expected, "{by}");
    }
}

#[tokio::test]
async fn open_check_ins_move_with_a_step_that_lasts_and_end_at_the_right_time() {
    for (by, date) in [(10 * DAY, "2026-03-12"), (-10 * DAY, "2026-02-20")] {
        let mut site = Gateway::new("2026-03-02T12:00:00Z").await;
        site.tap(1, Direction::In).await;
        site.hear().await;
        site.tap(3, Direction::In).await;
        site.step(by);
        site.pass(Duration::from_mins(30)).await;
        site.hear().await;
        site.pass(CONFIRMED_AFTER).await;
        site.tap(1, Direction::In).await;
        assert_eq!(site.pipeline.memory.open(), 2, "the phone was silent for an hour; nobody else is out, {by}");
        site.tap(3, Direction::Out).await;
        assert_eq!(site.records().await, ["1 12:00- last 13:30", "2 12:00-12:30 auto", "3 12:00-13:30"], "{by}");
        let visits = site.visits().await;
        assert!(visits.iter().all(|visit| visit.from.to_rfc3339_seconds().starts_with(date)), "{visits:?}");
        site.pass(Duration::from_hours(11)).await;
        assert_eq!(site.records().await[0], "1 12:00-00:00 auto", "{by}");
    }
}

#[tokio::test]
async fn a_tap_from_before_the_clock_was_set_gets_the_time_that_it_had() {
    let mut site = Gateway::new("1970-01-01T00:00:20Z").await;
    let tap = site.door(1, Direction::In);
    let heard = site.presence();
    site.clock.advance(Duration::from_secs(40));
    site.clock.step_wall(at("2026-03-02T12:00:40Z"));
    site.settle(vec![tap], vec![heard]).await;
    site.pass(Duration::from_mins(5)).await;
    assert_eq!(site.records().await, ["1 12:00- last 12:00", "2 12:00- last 12:00"]);
}

#[tokio::test]
async fn at_the_first_synchronisation_what_was_open_before_keeps_its_times_and_what_came_since_moves() {
    // Switched off in the evening of the 1st; the next noon the machine starts with the time of the evening before.
    let mut site = Gateway::after("2026-03-01T20:00:00Z", Duration::from_secs(30)).await;
    site.tap(1, Direction::In).await;
    site.pipeline.recover().await.expect("read");
    site.pass(Duration::from_mins(1)).await;
    site.tap(3, Direction::In).await;
    site.step(DAY / 24 * 16);
    site.pass(Duration::from_mins(1)).await;
    assert_eq!(site.records().await, ["1 20:00-00:00 auto", "3 12:01- last 12:01"]);
}

#[tokio::test]
async fn the_cut_off_comes_once_where_the_clocks_change() {
    let zone = Tz::Europe__London;
    for (start, until) in [
        ("2026-03-28T22:30:00Z", "2026-03-29T00:00:00Z"),
        ("2026-03-29T00:30:00Z", "2026-03-29T23:00:00Z"),
        ("2026-10-24T22:30:00Z", "2026-10-24T23:00:00Z"),
        ("2026-10-24T23:30:00Z", "2026-10-26T00:00:00Z"),
    ] {
        let mut site = Gateway::in_zone(start, Duration::from_secs(5000), zone).await;
        site.tap(1, Direction::In).await;
        let left = at(until).since(at(start));
        site.pass(left.saturating_sub(Duration::from_mins(1))).await;
        assert_eq!(site.pipeline.memory.open(), 1, "{start}");
        site.pass(Duration::from_mins(2)).await;
        let visits = site.visits().await;
        assert_eq!(visits.iter().map(|visit| visit.to).collect::<Vec<_>>(), [Some(at(until))], "{start}");
    }
}

/// A gateway with people 1 and 3, who have cards, and 2, who has a phone.
pub(super) struct Gateway {
    pub(super) pipeline: Pipeline,
    pub(super) clock: Clock,
    pub(super) ear: Ear,
    taps: u32,
    ends: (watch::Sender<Arc<Rulebook>>, watch::Sender<Arc<Directory>>),
    _folder: Option<tempfile::TempDir>,
}

impl Gateway {
    async fn new(start: &str) -> Self {
        Self::after(start, Duration::from_secs(5000)).await
    }

    /// On a machine that was started so long ago.
    async fn after(start: &str, up: Duration) -> Self {
        Self::in_zone(start, up, Tz::UTC).await
    }

    async fn in_zone(start: &str, up: Duration, zone: Tz) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = Now { wall: at(start), boot: BootTime::from_duration(up) };
        Self::with(folder, now, directory(), vec![door()], site(zone)).await
    }

    pub(super) async fn with(
        folder: tempfile::TempDir,
        now: Now,
        directory: Directory,
        doors: Vec<Door>,
        site: Site,
    ) -> Self {
        let database = Database::Sqlite { path: folder.path().join("checkind.db") };
        let store = Store::open(&database).await.expect("opens");
        Self { _folder: Some(folder), ..Self::on(store, now, directory, doors, site) }
    }

    /// On a database that is there.
    pub(super) fn on(store: Store, now: Now, directory: Directory, doors: Vec<Door>, site: Site) -> Self {
        let clock = Clock::manual(now);
        let health = Health::new(clock.clone());
        let hearing = Hearing::new(Duration::from_hours(1));
        let ear = hearing.ear();
        ear.hears(clock.now().boot);
        let (book_sender, book) = watch::channel(Arc::new(Rulebook { site, doors, log_kept: None }));
        let (directory_sender, directory) = watch::channel(Arc::new(directory));
        let pipeline = Pipeline::new(Surroundings {
            clock: clock.clone(),
            store,
            book,
            directory,
            hearing,
            metrics: Metrics::new(health.clone(), &[]),
            health,
            alive: watch::channel(None).0,
        });
        Self { pipeline, clock, ear, taps: 0, ends: (book_sender, directory_sender), _folder: None }
    }

    /// The daemon stops and starts again.
    pub(super) async fn restart(&mut self) {
        self.pipeline = Pipeline::new(self.pipeline.with.clone());
        self.pipeline.recover().await.expect("reads");
    }

    /// One turn of the pipeline's loop.
    pub(super) async fn settle(&mut self, mut deliveries: Vec<Delivery>, presences: Presences) {
        let never = CancellationToken::new();
        self.pipeline.watch_clock(&never).await.expect("looks");
        self.pipeline.settle(&mut deliveries, presences, &never).await.expect("settles");
        self.pipeline.turn(false, &never).await.expect("turns");
    }

    pub(super) fn change_directory(&self, directory: Directory) {
        self.ends.1.send_replace(Arc::new(directory));
    }

    pub(super) fn change_book(&self, change: impl FnOnce(&mut Rulebook)) {
        self.ends.0.send_modify(|book| change(Arc::make_mut(book)));
    }

    pub(super) async fn visits_of(&self, person: i64) -> Vec<Visit> {
        let asked = [(CoworkerId(person), WallTime::from_millis(0))].into();
        let mut batch = self.pipeline.with.store.batch().await.expect("begins");
        let standings = batch.standings(&asked, BusinessId(1), WallTime::from_millis(0)).await.expect("read");
        standings.values().flat_map(|standing| standing.visits().to_vec()).collect()
    }

    pub(super) async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let next = left.min(Duration::from_mins(1));
            left -= next;
            self.clock.advance(next);
            self.ear.hears(self.clock.now().boot);
            let never = CancellationToken::new();
            self.pipeline.watch_clock(&never).await.expect("looks");
            self.pipeline.turn(false, &never).await.expect("turns");
        }
    }

    /// Steps the machine's wall clock by so many milliseconds.
    fn step(&self, by: i64) {
        self.clock.step_wall(self.clock.now().wall.moved(by));
    }

    /// Puts the machine's wall clock right again.
    fn step_back(&self) {
        self.clock.step_wall(self.clock.now().wall);
    }

    async fn tap(&mut self, person: i64, direction: Direction) {
        let tap = self.door(person, direction);
        self.settle(vec![tap], Vec::new()).await;
    }

    async fn hear(&mut self) {
        let heard = self.presence();
        self.settle(Vec::new(), vec![heard]).await;
    }

    /// A tap now, at a controller without a clock.
    fn door(&mut self, person: i64, direction: Direction) -> Delivery {
        self.taps += 1;
        let arrived = self.clock.now();
        let credential = Credential {
            kind: CredentialKind::Card,
            scope: None,
            value: (8_165_600 + person).to_string(),
            spellings: Vec::new(),
        };
        let sighting = Sighting {
            key: SightingKey(self.taps.to_string()),
            source: "front".into(),
            event_at: arrived.wall,
            time_quality: TimeQuality::Arrival,
            arrived,
            event: DoorEvent {
                kind: DoorEventKind::Granted,
                door: DoorKey("side".to_owned()),
                direction,
                credential: Some(credential),
                refusal: None,
            },
        };
        Delivery { source: "front".into(), content: Content::Sightings(vec![sighting]), receipt: Receipt::none() }
    }

    /// The phone now.
    fn presence(&self) -> Presence {
        let arrived = self.clock.now();
        Presence {
            interface: "eth1".into(),
            mac: PHONE,
            since: arrived.wall,
            first_at: arrived.wall,
            last_at: arrived.wall,
            last_strong_at: Some(arrived.wall),
            frames: 1,
            arrived,
        }
    }

    async fn visits(&self) -> Vec<Visit> {
        let everybody = [1, 2, 3].map(|id| (CoworkerId(id), WallTime::from_millis(0))).into();
        let mut batch = self.pipeline.with.store.batch().await.expect("begins");
        let standings = batch.standings(&everybody, BusinessId(1), WallTime::from_millis(0)).await.expect("read");
        standings.values().flat_map(|standing| standing.visits().to_vec()).collect()
    }

    /// Every record: who, from when to when, by the time of day.
    async fn records(&self) -> Vec<String> {
        let time = |at: WallTime| at.utc().format("%H:%M").to_string();
        let line = |visit: &Visit| {
            let from = time(visit.from);
            let to = visit.to.map_or_else(|| format!(" last {}", time(visit.last_activity)), time);
            let auto = if visit.auto_checkout { " auto" } else { "" };
            format!("{} {from}-{to}{auto}", visit.coworker.0)
        };
        self.visits().await.iter().map(line).collect()
    }
}

pub(super) fn at(text: &str) -> WallTime {
    WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
}

fn people() -> Vec<Entity> {
    let person = |id: i64, key: &str, value: String| {
        let person = serde_json::json!({ "Id": id, "FullName": format!("Member {id}"), key: value });
        Entity::Coworker(serde_json::from_value::<Coworker>(person).expect("a coworker"))
    };
    vec![
        person(1, "AccessCardId", "8165601".to_owned()),
        person(2, "MacAddresses", PHONE.to_string()),
        person(3, "AccessCardId", "8165603".to_owned()),
    ]
}

fn directory() -> Directory {
    let mut builder = Builder::new(1, "key");
    for person in people() {
        builder.add(person);
    }
    builder.build()
}

fn door() -> Door {
    Door {
        pattern: "side".to_owned(),
        name: "Side".to_owned(),
        on_in: DoorAction::CheckIn,
        on_out: DoorAction::CheckOut,
    }
}

pub(super) fn site(time_zone: Tz) -> Site {
    Site {
        business: BusinessId(1),
        name: "Hub One".to_owned(),
        time_zone,
        cut_off: NaiveTime::MIN,
        idle_limit: Duration::from_mins(45),
        record_every_visit: false,
        minimum_dwell: Duration::ZERO,
        linger: Duration::from_mins(10),
        network_opens: NetworkOpens::Always,
        unrecognised_devices: UnrecognisedDevices::All,
        network_checkins: true,
        debounce: Duration::from_secs(5),
        toggle_minimum_stay: Duration::from_secs(60),
        passes: crate::engine::passes::PassPolicy::default(),
    }
}
