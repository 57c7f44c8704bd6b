//! Compares the whole pipeline with the reference model: gateways on a database get the facts of a scenario late, twice
//! and in batches, while timers run, versions come into force, gateways restart and retention deletes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use tokio::runtime::Runtime;

use super::{
    against_model::{smallest, text_of, text_of_records},
    gateway::Gateway,
    model::{
        ChargeRow, Coverage, Directory, Fact, FactKind, FailureRow, PassRow, Records, Scenario, VisitRow, records,
    },
    scenario::{
        Dice, EngineFact, MINUTE, PEOPLE, SPAN, asked, card, code_of, device, devices, engine_fact, policies, scenario,
        stored, versions,
    },
};
use crate::{
    base::{
        clock::{BootTime, Now, WallTime},
        fact::EditFact,
        record::{BusinessId, CheckinSource, CoworkerId},
        sighting::{
            Credential, CredentialKind, Direction, DoorEvent, DoorEventKind, DoorKey, Presence, Sighting, SightingKey,
            TimeQuality,
        },
    },
    directory::history::DirectoryHistory,
    mapping::content::Content,
    pipeline::Pipeline,
    policy::{HISTORY, PolicyHistory},
    source::{Delivery, Receipt},
    store::{Expired, Store, tests::Fresh},
};

/// The number of scenarios in each run; SQLite has one gateway, PostgreSQL two.
const ON_SQLITE: u64 = 250;
const ON_POSTGRES: u64 = 24;

/// How late a fact may be and still be decided, less the time for which batches wait: seven and a half days.
const LATEST: u64 = 7 * 1440 + 720;

/// How many times a failing scenario is played with one element removed.
const TRIES: usize = 60;

/// The number of scenarios on one database.
const PER_DATABASE: u64 = 100;

/// What happens to the gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// A version of the directory comes into force.
    Directory(usize),
    /// Settings of a business come into force.
    Settings(usize, usize),
    /// A fact arrives, perhaps not for the first time.
    Arrives(usize),
    /// The gateways decide what has arrived.
    Settle,
    /// A process decides and commits what has arrived, and dies before acknowledging it; the next process gets it
    /// again.
    DieBeforeAck,
    /// The captures report their coverage, and the gateways decide what has arrived.
    Turn { covered: bool },
    /// The gateways restart.
    Restart,
    /// Retention deletes.
    Forget,
}

/// The steps of a scenario. If a fact is removed, the others stay the same.
fn steps(scenario: &Scenario, seed: u64) -> Vec<(i64, Step)> {
    let mut steps = Vec::new();
    let mut starts: Vec<i64> = scenario.directories.iter().map(|directory| directory.from).collect();
    starts.sort_unstable();
    steps.extend(starts.into_iter().enumerate().map(|(index, from)| (from, Step::Directory(index))));
    for (at, business) in scenario.businesses.iter().enumerate() {
        let settings = business.settings.iter().enumerate();
        steps.extend(settings.map(|(index, settings)| (settings.from, Step::Settings(at, index))));
    }
    // The first ones are in force from the start.
    steps.retain(|(at, _)| *at > 0);
    for (index, fact) in scenario.facts.iter().enumerate() {
        let dice = &mut Dice(seed * 1000 + fact.tie);
        let late = |dice: &mut Dice| match dice.below(8) {
            0..4 => 0,
            4 | 5 => dice.minutes(90),
            6 => dice.minutes(1440),
            _ => dice.minutes(LATEST),
        };
        // An edit is made before it arrives.
        let made = if let FactKind::Edit { made, .. } = fact.kind { made } else { fact.at };
        steps.push((made.max(fact.at + late(dice)), Step::Arrives(index)));
        // Only door messages and edits are delivered twice.
        if !matches!(fact.kind, FactKind::Presence { .. }) && dice.one_in(5) {
            steps.push((made.max(fact.at + late(dice)), Step::Arrives(index)));
        }
        if dice.one_in(2) {
            let settle = if dice.one_in(8) { Step::DieBeforeAck } else { Step::Settle };
            steps.push((fact.at + dice.minutes(30), settle));
        }
    }
    let dice = &mut Dice(seed);
    let mut covered = dice.one_in(2);
    let mut at = scenario.start;
    while at < scenario.now {
        // A capture reports at least every hour. After the last step only late facts arrive.
        let longest = if at < scenario.start + SPAN.cast_signed() * MINUTE { 58 } else { 480 };
        at += MINUTE + dice.minutes(longest);
        covered ^= dice.one_in(if covered { 20 } else { 5 });
        steps.push((at, Step::Turn { covered }));
        match dice.below(60) {
            0 => steps.push((at, Step::Restart)),
            1 => steps.push((at, Step::Forget)),
            _ => {}
        }
    }
    steps.sort();
    steps
}

/// The gateways of a scenario, one for each business.
struct Played<'a> {
    scenario: &'a Scenario,
    store: Store,
    gateways: Vec<Gateway>,
    waiting: Vec<BTreeSet<(i64, usize)>>,
    /// The coverage written: the end of each span, by business and beginning.
    covered_until: BTreeMap<(i64, i64), i64>,
    /// Whether the directory is imported, and read again after a restart: then only its newest version is loaded.
    imports: bool,
}

impl<'a> Played<'a> {
    async fn new(scenario: &'a Scenario, store: &Store, imports: bool) -> Self {
        let now = Now {
            wall: WallTime::from_millis(scenario.start),
            boot: BootTime::from_duration(Duration::from_hours(10)),
        };
        let known = policies(scenario);
        let first = DirectoryHistory::only(version_of(scenario, 0, store, imports).await.1);
        let mut settings = PolicyHistory::default();
        for business in &scenario.businesses {
            let policy =
                known.at(BusinessId(business.id), WallTime::from_millis(0)).expect("settings from the beginning");
            settings.add(WallTime::from_millis(0), policy.as_ref().clone());
        }
        let gateway =
            |business: i64| Gateway::of(store.clone(), now, BusinessId(business), settings.clone(), first.clone());
        let gateways: Vec<Gateway> = scenario.businesses.iter().map(|business| gateway(business.id)).collect();
        let waiting = gateways.iter().map(|_| BTreeSet::new()).collect();
        Self { scenario, store: store.clone(), gateways, waiting, covered_until: BTreeMap::new(), imports }
    }

    async fn play(mut self, steps: &[(i64, Step)]) -> Played<'a> {
        for (number, &(at, step)) in steps.iter().enumerate() {
            if at > self.scenario.now {
                break;
            }
            for gateway in &self.gateways {
                let now = gateway.clock.now().wall;
                gateway.clock.advance(WallTime::from_millis(at).since(now));
            }
            self.step(number, WallTime::from_millis(at), step).await;
        }
        let end = WallTime::from_millis(self.scenario.now);
        self.settle_all().await;
        for gateway in &mut self.gateways {
            gateway.clock.advance(end.since(gateway.clock.now().wall));
            gateway.settle(Vec::new(), Vec::new()).await;
            Self::restart(gateway, self.imports).await;
            gateway.settle(Vec::new(), Vec::new()).await;
        }
        self.note_coverage().await;
        self
    }

    async fn restart(gateway: &mut Gateway, imports: bool) {
        gateway.restart().await;
        if imports {
            gateway.change_directories(gateway.pipeline.context.store.load_directories().await.expect("loaded"));
        }
    }

    async fn step(&mut self, number: usize, at: WallTime, step: Step) {
        match step {
            Step::Directory(index) => {
                let (from, version) = version_of(self.scenario, index, &self.store, self.imports).await;
                self.gateways.iter().for_each(|gateway| gateway.put_directory(from, &version));
            }
            Step::Settings(business, index) => {
                let business = &self.scenario.businesses[business];
                let from = WallTime::from_millis(business.settings[index].from);
                let policy = policies(self.scenario);
                let policy = policy.at(BusinessId(business.id), from).expect("settings");
                self.gateways.iter().for_each(|gateway| gateway.put_policy(from, policy));
            }
            Step::Arrives(index) => {
                let fact = &self.scenario.facts[index];
                let gateway = self.scenario.businesses.iter().position(|business| business.id == fact.business);
                self.waiting[gateway.expect("a business")].insert((number.try_into().expect("small"), index));
            }
            Step::Settle => self.settle_all().await,
            Step::DieBeforeAck => {
                for (gateway, waiting) in self.gateways.iter().zip(&self.waiting) {
                    let mut deliveries: Vec<Delivery> = Vec::new();
                    for (_, index) in waiting {
                        deliveries.extend(delivery(&self.scenario.facts[*index], gateway.clock.now()));
                    }
                    let mut crashed = Pipeline::new(gateway.pipeline.context.clone());
                    let never = tokio_util::sync::CancellationToken::new();
                    crashed.recover(&never).await.expect("reads");
                    crashed.process_batch(&mut deliveries, Vec::new(), &never).await.expect("settles");
                }
                self.settle_all().await;
            }
            Step::Turn { covered } => {
                for gateway in &mut self.gateways {
                    let now = gateway.clock.now().boot;
                    if covered { gateway.capture.frame_seen(now) } else { gateway.capture.lost() }
                }
                self.settle_all().await;
            }
            Step::Restart => {
                self.settle_all().await;
                for gateway in &mut self.gateways {
                    Self::restart(gateway, self.imports).await;
                }
            }
            Step::Forget => {
                self.note_coverage().await;
                for business in &self.scenario.businesses {
                    for what in [Expired::Facts, Expired::Checkpoints, Expired::Coverage] {
                        let before = at.minus(HISTORY);
                        self.store.forget(what, BusinessId(business.id), before).await.expect("forgotten");
                    }
                }
            }
        }
    }

    /// Each gateway decides what has arrived.
    async fn settle_all(&mut self) {
        for (gateway, waiting) in self.gateways.iter_mut().zip(&mut self.waiting) {
            let (mut deliveries, mut presences, mut edits) = (Vec::new(), Vec::new(), Vec::new());
            let now = gateway.clock.now();
            for (_, index) in std::mem::take(waiting) {
                let fact = &self.scenario.facts[index];
                deliveries.extend(delivery(fact, now));
                presences.extend(presence(fact, now));
                edits.extend(edit(fact));
            }
            gateway.settle(deliveries, presences).await;
            for edit in edits {
                gateway.edit(edit).await;
            }
        }
    }

    async fn note_coverage(&mut self) {
        for business in &self.scenario.businesses {
            let known =
                self.store.coverage(BusinessId(business.id), false, WallTime::from_millis(0)).await.expect("read");
            for covered in known.into_values().flatten() {
                let to = self.covered_until.entry((business.id, covered.from.millis())).or_default();
                *to = covered.to.millis().max(*to);
            }
        }
    }

    /// The scenario with the coverage as written, and the records.
    async fn outcome(&self) -> (Scenario, Records) {
        let mut scenario = self.scenario.clone();
        let spans = self.covered_until.iter().map(|(&(business, from), &to)| Coverage { business, from, to });
        scenario.coverage = spans.collect();
        let (mut visits, mut failures, mut charges) = (Vec::new(), Vec::new(), Vec::new());
        let millis = |at: WallTime| at.millis();
        for gateway in &self.gateways {
            let business = gateway.pipeline.context.business;
            let far = WallTime::from_millis(i64::MAX / 2);
            let failed = self.store.failed_checkins_between(business, WallTime::from_millis(0), far).await;
            failures.extend(failed.expect("read").into_iter().map(|failure| FailureRow {
                person: failure.coworker_id.map_or(0, |id| id.0),
                business: failure.business_id.0,
                at: millis(failure.checkin_attempt_time),
                code: code_of(failure.description.as_deref().unwrap_or_default()),
                by_network: failure.source == CheckinSource::NetworkActivity,
            }));
        }
        for person in &self.scenario.directories[0].people {
            for visit in self.gateways[0].visits_of(person.id).await {
                visits.push(VisitRow {
                    person: person.id,
                    business: visit.business.0,
                    from: millis(visit.from),
                    to: visit.to.map(millis),
                    auto_checkout: visit.auto_checkout,
                    last_activity: millis(visit.last_activity),
                    macs: devices(&visit.macs),
                    by_network: visit.source == CheckinSource::NetworkActivity,
                    pass: visit.pass.as_ref().map(PassRow::of),
                });
            }
            for (minutes, amount, from, to) in self.store.charges(CoworkerId(person.id)).await.expect("read") {
                let of = visits.iter().find(|visit| visit.person == person.id && visit.from == millis(from));
                charges.push(ChargeRow {
                    person: person.id,
                    business: of.map_or(0, |visit| visit.business),
                    from: millis(from),
                    minutes,
                    amount,
                    is_final: to.is_some(),
                });
            }
        }
        (scenario, Records { visits, failures, charges }.sorted())
    }
}

/// A version of the directory, and when it comes into force. An imported one is read from the database.
async fn version_of(
    scenario: &Scenario,
    index: usize,
    store: &Store,
    imports: bool,
) -> (WallTime, Arc<crate::directory::Directory>) {
    let (from, version) = versions(scenario).remove(index);
    if !imports {
        return (from, version);
    }
    let documents = stored(scenario, index);
    let before = store.directory_version().await.expect("answered");
    store.import(&documents, before, from, |_| {}).await.expect("imported");
    let basis_at = scenario.directories.iter().map(|directory| (directory.from, &directory.held));
    let (_, held) = basis_at.into_iter().find(|(known, _)| *known == from.millis()).expect("a version");
    let basis_at = held.first().map_or(0, |held| held.basis_at);
    store.set_pass_basis(WallTime::from_millis(basis_at)).await;
    (from, Arc::new(store.load_directory().await.expect("loaded")))
}

fn delivery(fact: &Fact, arrived: Now) -> Option<Delivery> {
    let FactKind::Door { person, door, refused, .. } = &fact.kind else { return None };
    let credential =
        Credential { kind: CredentialKind::Card, scope: None, value: card(*person), spellings: Vec::new() };
    let sighting = Sighting {
        key: SightingKey(format!("{}/{:03}", fact.business, fact.tie)),
        source: Arc::from("front"),
        event_at: WallTime::from_millis(fact.at),
        time_quality: TimeQuality::Device,
        arrived,
        event: DoorEvent {
            kind: if *refused { DoorEventKind::Denied } else { DoorEventKind::Granted },
            door: DoorKey(door.clone()),
            direction: Direction::In,
            credential: Some(credential),
            refusal: None,
        },
    };
    let content = Content::Sightings(vec![sighting]);
    Some(Delivery::new("front".into(), content, Receipt::none()))
}

fn edit(fact: &Fact) -> Option<EditFact> {
    match engine_fact(fact) {
        EngineFact::Edit(edit) => Some(edit),
        EngineFact::Door(_) | EngineFact::Presence(..) => None,
    }
}

fn presence(fact: &Fact, arrived: Now) -> Option<Presence> {
    let FactKind::Presence { person, mac, since, first_at, strong_at } = &fact.kind else { return None };
    let at = WallTime::from_millis;
    Some(Presence {
        interface: "eth1".into(),
        mac: device(*person, *mac),
        since: at(*since),
        first_at: at(*first_at),
        last_at: at(fact.at),
        last_strong_at: strong_at.map(at),
        frames: 1,
        arrived,
    })
}

/// The scenario of a seed; with one gateway it has only the first business.
fn of_seed(seed: u64, gateways: usize) -> Scenario {
    let mut found = scenario(&mut Dice(seed * 7919 + 1));
    found.businesses.truncate(gateways);
    let known: Vec<i64> = found.businesses.iter().map(|business| business.id).collect();
    found.facts.retain(|fact| known.contains(&fact.business));
    found.coverage.clear();
    found.now += 8 * 1440 * MINUTE;
    found
}

/// Played scenarios, and the databases for them.
struct Stage {
    runtime: Runtime,
    postgres: bool,
    database: Option<Fresh>,
    played: u64,
}

impl Stage {
    fn new(postgres: bool) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { runtime, postgres, database: None, played: 0 }
    }

    /// The records that the model and the gateways produce from a scenario. Each scenario has its own people and
    /// businesses.
    fn play(&mut self, scenario: &Scenario, seed: u64) -> (Scenario, Records) {
        // A version of the directory belongs to the whole database.
        if !self.postgres || self.played.is_multiple_of(PER_DATABASE) {
            let fresh = async { if self.postgres { Fresh::postgres().await } else { Fresh::in_memory().await } };
            self.database = Some(self.runtime.block_on(fresh));
        }
        self.played += 1;
        let number = self.played.cast_signed() * PEOPLE;
        let scenario = scenario.clone().renumbered(number);
        let steps = steps(&scenario, seed);
        let store = self.database.as_ref().expect("a database").store.clone();
        self.runtime.block_on(async {
            let (scenario, records) =
                Played::new(&scenario, &store, !self.postgres).await.play(&steps).await.outcome().await;
            (scenario.renumbered(-number), records.renumbered(-number))
        })
    }

    fn differs(&mut self, scenario: &Scenario, seed: u64) -> bool {
        // An import deletes nothing; it only archives.
        let kept = |directory: &Directory| {
            let (people, kinds) = (&directory.people, &directory.kinds);
            let ids = people.iter().map(|person| person.id).chain(kinds.iter().map(|kind| -kind.id));
            ids.chain(directory.tariffs.iter().map(|tariff| 1000 + tariff.id)).collect::<BTreeSet<i64>>()
        };
        let first = scenario.directories.first().map(kept);
        if !self.postgres && scenario.directories.iter().any(|directory| Some(kept(directory)) != first) {
            return false;
        }
        let (covered, played) = self.play(scenario, seed);
        played != records(&covered)
    }
}

fn play_all(postgres: bool, cases: std::ops::Range<u64>) {
    let mut stage = Stage::new(postgres);
    let many = cases.end - cases.start;
    let mut wrong = 0;
    for seed in cases {
        let scenario = of_seed(seed, if postgres { 2 } else { 1 });
        if stage.differs(&scenario, seed) {
            wrong += 1;
            eprintln!("seed {seed} differs");
            if wrong <= 3 {
                let small = smallest(scenario, TRIES, |scenario| stage.differs(scenario, seed));
                let (covered, played) = stage.play(&small, seed);
                let (engine, model) = (text_of_records(&played), text_of_records(&records(&covered)));
                let steps: Vec<String> = steps(&small, seed)
                    .iter()
                    .filter(|(_, step)| !matches!(step, Step::Turn { .. }))
                    .map(|(at, step)| format!("  {} {step:?}", WallTime::from_millis(*at).to_rfc3339_seconds()))
                    .collect();
                let steps = steps.join("\n");
                eprintln!("seed {seed}\n{}\n{steps}\npipeline\n{engine}\nmodel\n{model}", text_of(&covered));
            }
        }
    }
    assert_eq!(wrong, 0, "of {many} scenarios");
}

#[test]
fn a_gateway_makes_the_records_of_the_model() {
    play_all(false, asked(ON_SQLITE));
}

#[test]
fn two_gateways_on_one_database_make_the_records_of_the_model() {
    play_all(true, asked(ON_POSTGRES));
}
