//! The order of arrival does not matter: compares any permutation, repetition, batching, delay and restart with a model
//! of a few dozen lines, which sorts by time and folds.

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use tokio::runtime::Runtime;

use super::gateway::{Gateway, at, site};
use crate::base::zone::{Zone, test_zone};
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
    engine::passes::PassKind,
    mapping::content::Content,
    policy::{
        door::{Door, DoorAction},
        passes::PayAsYouGo,
    },
    source::{Delivery, Receipt},
};

/// Two winter days in London, in seconds: all events are within them, and the decision is made after them.
const START: &str = "2026-01-10T00:00:00Z";
const END: i64 = 2 * DAY + 1800;
const DAY: i64 = 86_400;

const IDLE: i64 = 45 * 60;
const LINGER: i64 = 10 * 60;

/// The number of people in the directory of a lab: each case uses the next. After the last one a new lab is set up,
/// because a late fact reads the log of two days, which contains everyone's facts.
const PEOPLE: i64 = 400;

/// What a person does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// The phone or the laptop, first seen this many seconds before.
    Seen {
        laptop: bool,
        before: i64,
        strong: bool,
    },
    In,
    Out,
    Toggle,
    Desk,
    Denied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: i64,
    act: Act,
}

/// A record, in seconds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Visit { from: i64, to: Option<i64>, auto: bool, source: i64, last: i64, pass: Pass },
    Failed { at: i64, code: String },
    Charge { from: i64, to: Option<i64>, minutes: i64, amount: i64 },
}

/// The pass that a person holds, or that a visit uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pass {
    /// More minutes than a case needs.
    Plenty,
    /// Two hours of minutes, then pay-as-you-go at 1.50 a quarter of an hour, at most 10.00 a day.
    Minutes,
    /// One day.
    Day,
    /// Plenty of minutes, on a plan of three hours a week.
    Hours,
    PayAsYouGo,
}

impl Pass {
    fn of(person: i64) -> Self {
        [Self::Plenty, Self::Minutes, Self::Day, Self::Hours][usize::try_from(person % 4).expect("small")]
    }
}

struct Visit {
    from: i64,
    to: Option<i64>,
    auto: bool,
    network: bool,
    last: i64,
    door: Option<i64>,
    strong: Option<i64>,
    lingered: i64,
    pass: Pass,
    ends: i64,
}

fn day(at: i64) -> i64 {
    at.div_euclid(DAY)
}

/// The pass of a visit that begins now and the pass's end; otherwise the code of the refusal.
fn entitled(holds: Pass, visits: &[Visit], at: i64) -> Result<(Pass, i64), &'static str> {
    let used = |pass: Pass| -> i64 {
        visits.iter().filter(|visit| visit.pass == pass).map(|visit| visit.to.unwrap_or(at) - visit.from).sum()
    };
    let left = match holds {
        Pass::Minutes => 7200 - used(Pass::Minutes),
        Pass::Hours => 3 * 3600 - used(Pass::Hours),
        Pass::Plenty | Pass::Day | Pass::PayAsYouGo => i64::MAX / 2,
    };
    match holds {
        Pass::Minutes if left <= 0 => Ok((Pass::PayAsYouGo, i64::MAX)),
        Pass::Hours if left <= 0 => Err("plan_limit_hours_week"),
        Pass::Day if visits.iter().any(|visit| day(visit.from) != day(at)) => Err("pass_used_up"),
        Pass::Plenty | Pass::Minutes | Pass::Day | Pass::Hours | Pass::PayAsYouGo => Ok((holds, at + left)),
    }
}

/// Ends visits that end automatically, and adds a failed check-in if a pass ended and the person could not stay.
fn run_out(holds: Pass, visits: &mut Vec<Visit>, quiet: i64, until: i64, rows: &mut Vec<Row>) {
    while let Some(visit) = visits.last_mut().filter(|visit| visit.to.is_none()) {
        let (cut, tracked) = ((day(visit.from) + 1) * DAY, visit.strong.is_some());
        let end = cut.min(visit.ends);
        let silent = tracked && visit.last + IDLE < quiet && visit.last + IDLE <= end;
        if !silent && end > until {
            return;
        }
        let to = if silent || tracked { visit.last.min(end) } else { end };
        (visit.to, visit.auto) = (Some(to.max(visit.from)), true);
        if !silent && !tracked && visit.ends < cut {
            let (door, network) = (visit.door, visit.network);
            match entitled(holds, visits, end) {
                Ok((pass, ends)) => visits.push(Visit {
                    from: end,
                    to: None,
                    auto: false,
                    network,
                    last: end,
                    door,
                    strong: None,
                    lingered: i64::MIN,
                    pass,
                    ends,
                }),
                Err(code) => rows.push(Row::Failed { at: end, code: code.to_owned() }),
            }
        }
    }
}

/// Opens a visit, or reopens the block of the day.
fn open(holds: Pass, visits: &mut Vec<Visit>, at: i64, from: i64, network: bool, who: &str, rows: &mut Vec<Row>) {
    let (door, strong) = ((!network).then_some(at), network.then_some(at));
    match entitled(holds, visits, at) {
        Err(code) => {
            // By network, once a day for each device.
            let failed = Row::Failed { at, code: code.to_owned() };
            let before = |row: &Row| matches!(row, Row::Failed { at: before, code: known } if known == &format!("{who}{code}") && day(*before) == day(at));
            if !network {
                rows.push(failed);
            } else if !rows.iter().any(before) {
                rows.push(Row::Failed { at, code: format!("{who}{code}") });
            }
        }
        Ok((pass, ends)) => match visits.last_mut() {
            Some(visit) if pass == Pass::Day && visit.pass == Pass::Day && day(visit.from) == day(at) => {
                (visit.to, visit.auto, visit.lingered) = (None, false, i64::MIN);
                visit.last = visit.last.max(at);
                visit.door = door;
                visit.strong = visit.strong.max(strong);
            }
            _ => {
                // Usage counts from the beginning of the visit; the pass may be used up by now.
                let ends = if ends == i64::MAX { ends } else { ends - (at - from) };
                let over = ends <= at;
                visits.push(Visit {
                    from,
                    to: over.then_some(ends),
                    auto: over,
                    network,
                    last: at.min(ends),
                    door,
                    strong,
                    lingered: i64::MIN,
                    pass,
                    ends,
                });
                if over {
                    open(holds, visits, at, at, network, who, rows);
                }
            }
        },
    }
}

fn charges(visits: &[Visit]) -> Vec<Row> {
    let mut paid: Vec<(i64, i64, i64)> = Vec::new();
    let mut rows = Vec::new();
    for visit in visits.iter().filter(|visit| visit.pass == Pass::PayAsYouGo) {
        let quarters = ((visit.to.unwrap_or(visit.from) - visit.from + 899) / 900).max(1);
        let today = || paid.iter().filter(|(on, _, _)| *on == day(visit.from));
        let (cost, charged): (i64, i64) =
            (today().map(|(_, cost, _)| cost).sum(), today().map(|(_, _, paid)| paid).sum());
        let amount = (cost + quarters * 150).min(1000) - charged;
        paid.push((day(visit.from), quarters * 150, amount));
        rows.push(Row::Charge { from: visit.from, to: visit.to, minutes: quarters * 15, amount });
    }
    rows
}

impl Event {
    /// The beginning of its evidence.
    fn first(&self) -> i64 {
        match self.act {
            Act::Seen { before, .. } => self.at + before,
            Act::In | Act::Out | Act::Toggle | Act::Desk | Act::Denied => self.at,
        }
    }
}

/// The meaning of a tap at a toggle door for a person last let in by a door at `entered`. Other events keep their
/// meaning.
fn toggle(act: Act, (at, entered, is_in): (i64, Option<i64>, bool), toggled_out: Option<i64>) -> Act {
    match (act, entered) {
        (Act::Toggle, _) if !is_in && toggled_out.is_some_and(|left| at - left < 60) => Act::Desk,
        (Act::Toggle, Some(entered)) if at - entered >= 60 => Act::Out,
        (Act::Toggle, Some(_)) => Act::Desk,
        (Act::Toggle, None) => Act::In,
        (other, _) => other,
    }
}

/// An entry and an exit at one instant, with no numbers that determine their order.
fn is_both_at_once(events: &[Event]) -> bool {
    matches!(events, [one, other, ..] if one.act == Act::In && other.act == Act::Out && one.at == other.at)
}

/// The reference: sort, then fold.
fn model(holds: Pass, events: &BTreeSet<Event>) -> Vec<Row> {
    let mut visits: Vec<Visit> = Vec::new();
    let mut rows = Vec::new();
    let mut taps: Vec<(Act, i64)> = Vec::new();
    let mut toggled_out: Option<i64> = None;
    let mut events: Vec<Event> = events.iter().copied().collect();
    for next in 0..events.len() {
        // A later presence may have begun earlier.
        let quiet = events[next..].iter().map(Event::first).min().unwrap_or(END);
        let at = events[next].at;
        if is_both_at_once(&events[next..]) {
            run_out(holds, &mut visits, quiet, at - 1, &mut rows);
            // A person who is in went out and came back.
            if visits.last().is_some_and(|visit| visit.to.is_none()) {
                events.swap(next, next + 1);
            }
        }
        let act = events[next].act;
        if !matches!(act, Act::Seen { .. }) {
            let repeated = taps.iter().any(|(known, before)| *known == act && at - before <= 5);
            taps.push((act, at));
            if repeated {
                continue;
            }
        }
        let first = events[next].first();
        // A refusal is not evidence of presence: evidence that began before the silence reached the limit may still
        // follow.
        if act != Act::Denied {
            run_out(holds, &mut visits, quiet, at - 1, &mut rows);
            // An exit at the instant of the end precedes it, whatever else happens then.
            let stayed = |visit: &Visit| visit.door.is_some_and(|entered| at - entered >= 60);
            let open = visits.last().filter(|visit| visit.to.is_none());
            let mut now = events[next..].iter().take_while(|event| event.at == at).map(|event| event.act);
            if !open.is_some_and(|visit| now.any(|act| act == Act::Out || act == Act::Toggle && stayed(visit))) {
                run_out(holds, &mut visits, quiet, at, &mut rows);
            }
        }
        if let Some(visit) = visits.last_mut().filter(|visit| visit.auto && visit.strong.is_some()) {
            let weak = matches!(act, Act::Seen { strong: false, .. });
            let known = !weak && act != Act::Denied && visit.last + IDLE >= first && day(at) == day(visit.from);
            if known && visit.ends <= at && visit.to.is_some_and(|to| to < visit.ends) {
                visit.to = Some(visit.ends);
            }
        }
        let is_in = visits.last().is_some_and(|visit| visit.to.is_none());
        // Only the pass has ended; no door has recorded an exit.
        let under_them = |visit: &Visit| {
            let cut = (day(visit.from) + 1) * DAY;
            let silent = visit.strong.is_some() && visit.last + IDLE < at;
            visit.auto && visit.ends < cut && visit.ends <= at && at < cut && !silent
        };
        let entered = visits.last().filter(|visit| is_in || under_them(visit)).and_then(|visit| visit.door);
        let (tap, act) = (act, toggle(act, (at, entered, is_in), toggled_out));
        if (tap, act) == (Act::Toggle, Act::Out) {
            toggled_out = Some(at);
            visits.last_mut().filter(|_| !is_in).into_iter().for_each(|visit| visit.door = None);
        }
        let first_today = visits.iter().filter(|visit| day(visit.from) == day(at)).count() <= 1;
        let others = visits.len().saturating_sub(usize::from(is_in));
        let may = entitled(holds, &visits[..others], at).is_ok();
        match (act, visits.last_mut().filter(|_| is_in)) {
            (Act::Denied, _) => rows.push(Row::Failed { at, code: "refused_no_rights".to_owned() }),
            (Act::In | Act::Toggle, None) => open(holds, &mut visits, at, at, false, "", &mut rows),
            (Act::In | Act::Toggle, Some(visit)) => (visit.last, visit.door) = (at, Some(at)),
            (Act::Desk, Some(visit)) => visit.last = at,
            (Act::Out, Some(visit)) => {
                visit.lingered = if visit.last > at { visit.last } else { i64::MIN };
                (visit.to, visit.last) = (Some(at), visit.last.max(at));
            }
            (Act::Desk | Act::Out, None) => {}
            (Act::Seen { strong: true, .. }, Some(visit)) => {
                if first_today && may && first < visit.from && day(first) == day(visit.from) {
                    visit.ends -= visit.from - first;
                    (visit.from, visit.network) = (first, true);
                }
                (visit.last, visit.strong) = (visit.last.max(at), Some(at));
            }
            (Act::Seen { strong: false, .. }, Some(visit)) => {
                if visit.strong.is_some_and(|strong| at <= strong + 2 * IDLE) {
                    visit.last = visit.last.max(at);
                }
            }
            (Act::Seen { strong, laptop, .. }, None) => {
                let previous = visits.last_mut();
                let followed = previous.as_ref().map(|visit| visit.to.unwrap_or(visit.from).max(visit.lingered));
                let left = previous.as_ref().is_some_and(|visit| !visit.auto);
                let near = left && followed.is_some_and(|followed| first <= followed + LINGER);
                if let Some(visit) = previous.filter(|visit| near && at <= visit.to.unwrap_or(0) + IDLE) {
                    visit.lingered = visit.lingered.max(at);
                } else if strong {
                    let clear = !near && day(first) == day(at) && followed.is_none_or(|followed| first > followed);
                    let device = if laptop { "laptop " } else { "phone " };
                    open(holds, &mut visits, at, if clear { first } else { at }, true, device, &mut rows);
                }
            }
        }
    }
    run_out(holds, &mut visits, END, END, &mut rows);
    rows.extend(charges(&visits));
    rows.extend(visits.into_iter().map(|visit| {
        let source = if visit.network { 3 } else { 2 };
        Row::Visit { from: visit.from, to: visit.to, auto: visit.auto, source, last: visit.last, pass: visit.pass }
    }));
    rows.sort();
    rows
}

/// How a case arrives.
#[derive(Clone, Debug)]
struct Arrival {
    /// Indices of the events, some twice, in the order of arrival.
    order: Vec<usize>,
    /// For each of them, whether a batch ends after it, and whether the daemon then restarts.
    batches: Vec<(bool, bool)>,
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (any::<bool>(), -60i64..=0, prop::bool::weighted(0.8)).prop_map(|(laptop, before, strong)| Act::Seen { laptop, before, strong }),
        3 => Just(Act::In),
        3 => Just(Act::Out),
        3 => Just(Act::Toggle),
        1 => Just(Act::Desk),
        1 => Just(Act::Denied),
    ]
}

/// Instants close together, and near the boundaries: cut-off, silence, linger, debounce.
fn instants() -> impl Strategy<Value = i64> {
    let hours = prop::sample::select(vec![0i64, 8, 9, 17, 23, 24, 33, 47]);
    let minutes = prop_oneof![0i64..60, Just(0), Just(10), Just(45)];
    let seconds = prop::sample::select(vec![0i64, 1, 3, 5, 30, 59]);
    (hours, minutes, seconds).prop_map(|(hour, minute, second)| hour * 3600 + minute * 60 + second)
}

fn histories() -> impl Strategy<Value = (Vec<Event>, Arrival)> {
    let event = (instants(), acts()).prop_map(|(at, act)| Event { at, act });
    prop::collection::btree_set(event, 1..14).prop_flat_map(|events| {
        let mut events: Vec<Event> = events.into_iter().collect();
        // Two devices seen at the same instant have no order.
        let is_presence = |event: &Event| matches!(event.act, Act::Seen { .. });
        events.dedup_by(|later, earlier| later.at == earlier.at && is_presence(later) && is_presence(earlier));
        let doors: Vec<usize> =
            (0..events.len()).filter(|&index| !matches!(events[index].act, Act::Seen { .. })).collect();
        let again =
            prop::collection::vec(prop::sample::select(if doors.is_empty() { vec![0] } else { doors.clone() }), 0..3);
        let all = again.prop_map({
            let events = events.len();
            move |again| {
                let mut order: Vec<usize> = (0..events).collect();
                order.extend(again.into_iter().filter(|index| doors.contains(index)));
                order
            }
        });
        let order = all.prop_flat_map(|order| Just(order).prop_shuffle());
        let batches = prop::collection::vec((prop::bool::weighted(0.5), prop::bool::weighted(0.1)), events.len() + 3);
        (Just(events), (order, batches).prop_map(|(order, batches)| Arrival { order, batches }))
    })
}

/// A gateway for a hundred cases; each case uses another person.
struct Lab {
    runtime: Runtime,
    gateway: Gateway,
    next: i64,
}

thread_local! {
    static LAB: RefCell<Option<Lab>> = const { RefCell::new(None) };
}

impl Lab {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let gateway = runtime.block_on(async {
            let now = Now { wall: at(START), boot: BootTime::from_duration(Duration::from_hours(10)) };
            let mut site = site(Zone::utc());
            site.time_zone = test_zone("Europe/London");
            site.passes.pay_as_you_go =
                site.passes.pay_as_you_go.map(|rules| PayAsYouGo { maximum: Some(1000), ..rules });
            let folder = folder.expect("a temporary folder");
            let mut gateway = Gateway::with(folder, now, everyone(), doors(), site).await;
            // Covered without a gap until the end.
            gateway.settle(Vec::new(), Vec::new()).await;
            for _ in 0..=END / 1800 {
                gateway.clock.advance(Duration::from_mins(30));
                gateway.capture.frame_seen(gateway.clock.now().boot);
                gateway.settle(Vec::new(), Vec::new()).await;
            }
            gateway
        });
        Self { runtime, gateway, next: 0 }
    }

    /// Plays a case with the next person who holds this pass.
    fn play(&mut self, like: i64, events: &[Event], arrival: &Arrival) -> (i64, Vec<Row>) {
        // Another four people.
        if self.next + 4 + 3 > PEOPLE {
            *self = Self::new();
        }
        self.next += 4;
        let person = self.next + like;
        let gateway = &mut self.gateway;
        self.runtime.block_on(async {
            let (mut deliveries, mut presences) = (Vec::new(), Vec::new());
            let last = arrival.order.len() - 1;
            for (place, &index) in arrival.order.iter().enumerate() {
                match message(person, index, events[index], gateway.clock.now()) {
                    Message::Door(delivery) => deliveries.push(delivery),
                    Message::Network(presence) => presences.push(presence),
                }
                let (ends, restarts) = arrival.batches[place % arrival.batches.len()];
                if ends || place == last {
                    gateway.settle(std::mem::take(&mut deliveries), std::mem::take(&mut presences)).await;
                    if restarts {
                        gateway.restart().await;
                    }
                }
            }
            (person, gateway.rows(CoworkerId(person)).await)
        })
    }
}

impl Gateway {
    async fn rows(&self, person: CoworkerId) -> Vec<Row> {
        let seconds = |at: WallTime| (at.millis() - self::at(START).millis()) / 1000;
        let (long_ago, far) = (WallTime::from_millis(0), WallTime::from_millis(i64::MAX));
        let store = &self.pipeline.context.store;
        let mut rows: Vec<Row> = self
            .visits_of(person.0)
            .await
            .iter()
            .map(|visit| Row::Visit {
                from: seconds(visit.from),
                to: visit.to.map(seconds),
                auto: visit.auto_checkout,
                source: visit.source.number(),
                last: seconds(visit.last_activity),
                pass: match visit.pass.as_ref().map(|pass| pass.kind) {
                    Some(PassKind::PayAsYouGo) => Pass::PayAsYouGo,
                    Some(PassKind::Day | PassKind::Time) | None => Pass::of(person.0),
                },
            })
            .collect();
        let failures = store.failed_checkins_between(BusinessId(1), long_ago, far).await.expect("read");
        rows.extend(failures.iter().filter(|failure| failure.coworker_id == Some(person)).map(|failure| {
            let device = match failure.mac_addresses.first() {
                Some(mac) if *mac == device(person.0, true) => "laptop ",
                Some(_) => "phone ",
                None => "",
            };
            let code = failure.description.as_deref().and_then(|text| text.split(':').next()).unwrap_or_default();
            Row::Failed { at: seconds(failure.checkin_attempt_time), code: format!("{device}{code}") }
        }));
        let charges = store.charges(person).await.expect("read");
        rows.extend(charges.iter().map(|(minutes, amount, from, to)| Row::Charge {
            from: seconds(*from),
            to: to.map(seconds),
            minutes: *minutes,
            amount: *amount,
        }));
        rows.sort();
        rows
    }
}

enum Message {
    Door(Delivery),
    Network(Presence),
}

fn message(person: i64, index: usize, event: Event, arrived: Now) -> Message {
    let wall = |seconds: i64| at(START).moved(seconds * 1000);
    let (door, direction, kind) = match event.act {
        Act::Seen { laptop, before, strong } => {
            return Message::Network(Presence {
                interface: "eth1".into(),
                mac: device(person, laptop),
                since: wall(event.at + before),
                first_at: wall(event.at + before),
                last_at: wall(event.at),
                last_strong_at: strong.then(|| wall(event.at)),
                frames: 1,
                arrived,
            });
        }
        Act::In => ("main", Direction::In, DoorEventKind::Granted),
        Act::Out => ("main", Direction::Out, DoorEventKind::Granted),
        Act::Toggle => ("side", Direction::In, DoorEventKind::Granted),
        Act::Desk => ("desk", Direction::In, DoorEventKind::Granted),
        Act::Denied => ("main", Direction::In, DoorEventKind::Denied),
    };
    let credential = Credential {
        kind: CredentialKind::Card,
        scope: None,
        value: (8_000_000 + person).to_string(),
        spellings: Vec::new(),
    };
    let key = match event.act {
        Act::In | Act::Out => format!("front/of {person}x/without a number {index}x"),
        Act::Toggle | Act::Desk | Act::Denied | Act::Seen { .. } => format!("front/{person}/{index:03}"),
    };
    let sighting = Sighting {
        key: SightingKey(key),
        source: Arc::from("front"),
        event_at: wall(event.at),
        time_quality: TimeQuality::Device,
        arrived,
        event: DoorEvent {
            kind,
            door: DoorKey(door.to_owned()),
            direction,
            credential: Some(credential),
            refusal: (kind == DoorEventKind::Denied).then_some(Refusal::NoRights),
        },
    };
    Message::Door(Delivery::new("front".into(), Content::Sightings(vec![sighting]), Receipt::none()))
}

fn device(person: i64, laptop: bool) -> MacAddr {
    let [.., a, b, c, d] = person.to_be_bytes();
    MacAddr::new([0x3c, u8::from(laptop), a, b, c, d])
}

fn everyone() -> Directory {
    let mut builder = Builder::new(1, "key");
    let mut add = |kind: EntityKind, document: serde_json::Value| {
        let entity: Entity = kind.read(document).expect("an entity");
        builder.add_as_of(entity, at(START));
    };
    add(EntityKind::Tariff, serde_json::json!({"Id": 1, "Name": "Free"}));
    add(EntityKind::Tariff, serde_json::json!({"Id": 2, "Name": "Three hours", "HoursWeekLimit": 3}));
    add(EntityKind::TimePass, serde_json::json!({"Id": 1, "Name": "Minutes", "MinutesIncluded": 600_000}));
    add(EntityKind::TimePass, serde_json::json!({"Id": 2, "Name": "Day"}));
    add(
        EntityKind::TimePass,
        serde_json::json!({
            "Id": 3, "Name": "Plan", "MinutesIncluded": 600_000, "CountsTowardsPlanLimits": true,
        }),
    );
    add(
        EntityKind::TimePass,
        serde_json::json!({
            "Id": 4, "Name": "As you go", "MinutesIncluded": 60, "Price": 6, "UseAsPayAsYouGoForContacts": true,
        }),
    );
    for id in 1..=PEOPLE {
        let devices = format!("{},{}", device(id, true), device(id, false));
        let (tariff, kind, uses, minutes) = match Pass::of(id) {
            Pass::Plenty => (Some(1), 1, None, Some(600_000)),
            Pass::Minutes => (None, 1, None, Some(120)),
            Pass::Day => (Some(1), 2, Some(1), None),
            Pass::Hours | Pass::PayAsYouGo => (Some(2), 3, None, Some(600_000)),
        };
        add(
            EntityKind::Coworker,
            serde_json::json!({
                "Id": id, "FullName": "Ada", "AccessCardId": (8_000_000 + id).to_string(), "MacAddresses": devices,
                "TariffId": tariff,
            }),
        );
        add(
            EntityKind::CoworkerTimePass,
            serde_json::json!({
                "Id": id, "CoworkerId": id, "TimePassId": kind, "RemainingUses": uses, "RemainingMinutes": minutes,
            }),
        );
    }
    builder.build()
}

fn doors() -> Vec<Door> {
    [("main", DoorAction::CheckIn), ("side", DoorAction::Toggle), ("desk", DoorAction::Activity)]
        .map(|(name, on_in)| Door {
            pattern: name.to_owned(),
            name: name.to_owned(),
            on_in,
            on_out: DoorAction::CheckOut,
        })
        .into()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 2,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/order.txt"))),
        max_shrink_time: 60_000,
        ..ProptestConfig::default()
    })]

    /// In whatever order the sightings of two days arrive, the records are those of the model.
    #[test]
    fn any_order_gives_the_same_records(person in 0i64..4, (events, arrival) in histories()) {
        let (person, rows) = LAB.with_borrow_mut(|lab| lab.get_or_insert_with(Lab::new).play(person, &events, &arrival));
        prop_assert_eq!(rows, model(Pass::of(person), &events.iter().copied().collect()));
    }
}
