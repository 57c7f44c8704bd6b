//! A site on a SQLite file, with clocks that the test controls.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        clock::{BootTime, Clock, Now, WallTime},
        fact::EditFact,
        health::Health,
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Sighting, SightingKey,
            TimeQuality,
        },
        turns::Turn,
        zone::Zone,
    },
    directory::{
        Builder, Directory,
        entity::{CoworkerEntity, Entity},
        history::DirectoryHistory,
    },
    mapping::content::Content,
    metrics::Metrics,
    pipeline::{Context, Pipeline, edits::EditEnd, intake::NewEdit},
    policy::{
        PolicyHistory, SitePolicy,
        door::{Door, DoorAction},
        site::Site,
    },
    settings::Database,
    source::{
        Delivery, Presences, Receipt,
        network::coverage::{CaptureCoverage, SiteCoverage},
    },
    store::{Store, StoredVisit},
};

const PHONE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 2]);

/// A gateway with people 1 and 3, who have cards, and 2, who has a phone.
pub(in crate::pipeline) struct Gateway {
    pub(in crate::pipeline) pipeline: Pipeline,
    pub(in crate::pipeline) clock: Clock,
    pub(in crate::pipeline) capture: CaptureCoverage,
    taps: u32,
    senders: (watch::Sender<Arc<PolicyHistory>>, watch::Sender<Arc<DirectoryHistory>>),
    folder: Option<tempfile::TempDir>,
}

impl Gateway {
    pub(in crate::pipeline) async fn new(start: &str) -> Self {
        Self::after(start, Duration::from_secs(5000)).await
    }

    /// A gateway on a machine that has been up for `up`.
    pub(in crate::pipeline) async fn after(start: &str, up: Duration) -> Self {
        Self::in_zone(start, up, Zone::utc()).await
    }

    pub(in crate::pipeline) async fn in_zone(start: &str, up: Duration, zone: Zone) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let now = Now { wall: at(start), boot: BootTime::from_duration(up) };
        let site = Site { record_every_visit: true, ..site(zone) };
        Self::with(folder, now, directory(), vec![door()], site).await
    }

    pub(in crate::pipeline) async fn with(
        folder: tempfile::TempDir,
        now: Now,
        directory: Directory,
        doors: Vec<Door>,
        site: Site,
    ) -> Self {
        let database = Database::Sqlite { path: folder.path().join("checkind.db") };
        let store = Store::open(&database).await.expect("opens");
        Self { folder: Some(folder), ..Self::on(store, now, directory, doors, site) }
    }

    /// A gateway on an existing database.
    pub(in crate::pipeline) fn on(store: Store, now: Now, directory: Directory, doors: Vec<Door>, site: Site) -> Self {
        let (business, history) = (site.business, PolicyHistory::only(SitePolicy { site, doors }));
        Self::of(store, now, business, history, DirectoryHistory::only(Arc::new(directory)))
    }

    pub(in crate::pipeline) fn of(
        store: Store,
        now: Now,
        business: BusinessId,
        policies: PolicyHistory,
        directories: DirectoryHistory,
    ) -> Self {
        let clock = Clock::manual(now);
        let health = Health::new(clock.clone());
        let coverage = SiteCoverage::new(Duration::from_hours(1));
        let capture = coverage.capture();
        capture.frame_seen(clock.now().boot);
        let (reloads, policies) = watch::channel(Arc::new(policies));
        let (imports, directories) = watch::channel(Arc::new(directories));
        let mut pipeline = Pipeline::new(Context {
            clock: clock.clone(),
            store,
            business,
            policies,
            directories,
            stale: None,
            news: None,
            spool: None,
            site_coverage: coverage,
            metrics: Metrics::new(health.clone(), &[]),
            health,
            turn: Turn::unwatched(clock.clone()),
        });
        pipeline.reviewed_version = Some(pipeline.context.directories.borrow().latest().version_id());
        Self { pipeline, clock, capture, taps: 0, senders: (reloads, imports), folder: None }
    }

    /// The daemon stops and starts again.
    pub(in crate::pipeline) async fn restart(&mut self) {
        // A daemon that stops cleanly writes what is due.
        self.pipeline.write_presences().await.expect("writes");
        self.crash().await;
    }

    /// The daemon is killed and starts again.
    pub(in crate::pipeline) async fn crash(&mut self) {
        self.pipeline = Pipeline::new(self.pipeline.context.clone());
        self.pipeline.recover(&CancellationToken::new()).await.expect("reads");
    }

    /// The database loses everything that was committed, as in a restore.
    pub(in crate::pipeline) async fn lose_everything(&self) {
        let path = self.folder.as_ref().expect("a file").path().join("checkind.db");
        let options = SqliteConnectOptions::new().filename(path);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("opens");
        for table in ["facts", "standings", "checkins", "failed_checkins", "presences", "coverage", "marks"] {
            let text = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(text).execute(&mut connection).await.expect("deleted");
        }
        connection.close().await.expect("closed");
    }

    /// One turn of the pipeline's loop.
    /// Decides an edit; one that was decided before changes nothing.
    pub(in crate::pipeline) async fn edit(&mut self, edit: EditFact) {
        let end =
            self.pipeline.commit_edit(NewEdit { edit, asks: false, system_id: None }, &CancellationToken::new()).await;
        assert!(matches!(end, Ok(EditEnd::Committed(_) | EditEnd::Known)), "{end:?}");
    }

    pub(in crate::pipeline) async fn settle(&mut self, mut deliveries: Vec<Delivery>, presences: Presences) {
        let never = CancellationToken::new();
        self.pipeline.watch_clock(&never).await.expect("reads the clock");
        self.pipeline.process_batch(&mut deliveries, presences, &never).await.expect("commits");
        self.pipeline.do_due_work(&never).await.expect("does what is due");
    }

    /// Imports a directory, a moment after everything before.
    pub(in crate::pipeline) fn change_directory(&self, directory: Directory) {
        self.clock.advance(Duration::from_millis(1));
        let from = self.pipeline.now().wall;
        self.senders.1.send_modify(|history| Arc::make_mut(history).add(from, Arc::new(directory)));
    }

    /// Loads all versions, once the pipeline asks for them.
    pub(in crate::pipeline) fn loads_when_asked(
        &self,
        directories: DirectoryHistory,
        asked: Arc<tokio::sync::Notify>,
    ) -> impl Future<Output = ()> + use<> {
        let imports = self.senders.1.clone();
        async move {
            asked.notified().await;
            imports.send_replace(Arc::new(directories));
        }
    }

    /// Replaces all versions.
    pub(in crate::pipeline) fn change_directories(&self, directories: DirectoryHistory) {
        self.senders.1.send_replace(Arc::new(directories));
    }

    /// Adds a version in force from an instant.
    pub(in crate::pipeline) fn put_directory(&self, from: WallTime, directory: &Arc<Directory>) {
        self.senders.1.send_modify(|history| Arc::make_mut(history).add(from, Arc::clone(directory)));
    }

    /// Adds settings in force from an instant.
    pub(in crate::pipeline) fn put_policy(&self, from: WallTime, policy: &SitePolicy) {
        self.senders.0.send_modify(|history| Arc::make_mut(history).add(from, policy.clone()));
    }

    pub(in crate::pipeline) fn change_policy(&self, change: impl FnOnce(&mut SitePolicy)) {
        let from = self.pipeline.now().wall;
        let mut policy = SitePolicy::clone(&self.pipeline.policy());
        change(&mut policy);
        self.senders.0.send_modify(|history| Arc::make_mut(history).add(from, policy));
    }

    /// A person's visits as stored; the last activity of an open one is that in the person's state.
    pub(in crate::pipeline) async fn visits_of(&self, person: i64) -> Vec<StoredVisit> {
        let long_ago = WallTime::from_millis(0);
        let since = [(CoworkerId(person), (long_ago, long_ago))].into();
        let mut batch = self.pipeline.context.store.batch().await.expect("begins");
        let records = batch.records(&since).await.expect("read");
        drop(batch);
        let mut visits: Vec<StoredVisit> = records.visits.into_values().collect();
        visits.sort_by_key(|visit| (visit.from, visit.unique_id));
        let open = self.pipeline.context.store.open_checkins().await.expect("read");
        for visit in visits.iter_mut().filter(|visit| visit.to.is_none()) {
            let known = open.iter().find(|open| open.unique_id == visit.unique_id);
            visit.last_activity = known.and_then(|open| open.last_activity).expect("a last activity");
        }
        visits
    }

    pub(in crate::pipeline) async fn pass(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let next = left.min(Duration::from_mins(1));
            left -= next;
            self.clock.advance(next);
            self.capture.frame_seen(self.clock.now().boot);
            let never = CancellationToken::new();
            self.pipeline.watch_clock(&never).await.expect("reads the clock");
            self.pipeline.do_due_work(&never).await.expect("does what is due");
        }
    }

    /// Steps the machine's wall clock by `by` milliseconds.
    pub(in crate::pipeline) fn step(&self, by: i64) {
        self.clock.step_wall(self.clock.now().wall.moved(by));
    }

    /// Undoes a step of the machine's wall clock.
    pub(in crate::pipeline) fn step_back(&self) {
        self.clock.step_wall(self.clock.now().wall);
    }

    pub(in crate::pipeline) async fn tap(&mut self, person: i64, direction: Direction) {
        let tap = self.door(person, direction);
        self.settle(vec![tap], Vec::new()).await;
    }

    pub(in crate::pipeline) async fn see_phone(&mut self) {
        let presence = self.presence();
        self.settle(Vec::new(), vec![presence]).await;
    }

    /// A tap now, at a controller without a clock.
    pub(in crate::pipeline) fn door(&mut self, person: i64, direction: Direction) -> Delivery {
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
        Delivery::new("front".into(), Content::Sightings(vec![sighting]), Receipt::none())
    }

    /// A presence of the phone, now.
    pub(in crate::pipeline) fn presence(&self) -> Presence {
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

    pub(in crate::pipeline) async fn visits(&self) -> Vec<StoredVisit> {
        let mut all = Vec::new();
        for person in 1..=3 {
            all.extend(self.visits_of(person).await);
        }
        all
    }

    /// Every visit: the person, and the times of day of its beginning and end.
    pub(in crate::pipeline) async fn records(&self) -> Vec<String> {
        let time = |at: WallTime| at.utc().format("%H:%M").to_string();
        let line = |visit: &StoredVisit| {
            let from = time(visit.from);
            let to = visit.to.map_or_else(|| format!(" last {}", time(visit.last_activity)), time);
            let auto = if visit.auto_checkout { " auto" } else { "" };
            format!("{} {from}-{to}{auto}", visit.coworker.0)
        };
        self.visits().await.iter().map(line).collect()
    }
}

pub(in crate::pipeline) fn at(text: &str) -> WallTime {
    WallTime::from(text.parse::<DateTime<Utc>>().expect("a time in the test"))
}

fn people() -> Vec<Entity> {
    let person = |id: i64, key: &str, value: String| {
        let person = serde_json::json!({ "Id": id, "FullName": format!("Member {id}"), key: value });
        Entity::Coworker(serde_json::from_value::<CoworkerEntity>(person).expect("a coworker"))
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

pub(in crate::pipeline) fn site(time_zone: Zone) -> Site {
    Site { time_zone, ..crate::policy::site::test_site() }
}
