//! What the life of a check-in looks like from outside: one coworker, one day, one claim after the other.

use chrono::NaiveTime;
use chrono_tz::Tz;
use proptest::prelude::*;

use super::*;

const PHONE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 1]);
const LAPTOP: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, 2]);

#[test]
fn a_tap_in_and_a_tap_out_make_one_visit() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Entry, "09:00").outcome, Outcome::Opened);
    assert_eq!(site.door(DoorClaim::Activity, "11:00").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Exit, "17:00").outcome, Outcome::Closed);
    assert_eq!(site.visits(), ["09:00-17:00 door"]);
}

#[test]
fn a_second_entry_refreshes_and_an_exit_of_somebody_who_is_out_does_nothing() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Exit, "08:00").note, Some(Note::NotCheckedIn));
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.door(DoorClaim::Entry, "09:30").outcome, Outcome::Refreshed);
    assert_eq!(site.visits(), ["09:00- door last 09:30"]);
}

#[test]
fn a_refused_entry_fails_with_its_reason_and_opens_nothing() {
    let mut site = Site::new();
    site.admission = Admission::Refused(Reason::CoworkerInactive);
    let decision = site.door(DoorClaim::Entry, "09:00");
    assert_eq!((decision.outcome, decision.reason), (Outcome::Failed, Some(Reason::CoworkerInactive)));
    assert!(site.visits().is_empty());
}

#[test]
fn toggle_lets_in_then_out_but_not_within_the_minimum_stay() {
    let mut site = Site::new();
    assert_eq!(site.door(DoorClaim::Toggle, "09:00:00").outcome, Outcome::Opened);
    assert_eq!(site.door(DoorClaim::Toggle, "09:00:30").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Toggle, "09:01:00").outcome, Outcome::Closed);
    assert_eq!(site.door(DoorClaim::Toggle, "09:02:00").outcome, Outcome::Opened);
}

#[test]
fn the_first_toggle_tap_of_somebody_whom_the_network_let_in_is_an_entry() {
    let mut site = Site::new();
    site.strong(PHONE, "08:55");
    assert_eq!(site.door(DoorClaim::Toggle, "09:00").outcome, Outcome::Refreshed);
    assert_eq!(site.door(DoorClaim::Toggle, "12:00").outcome, Outcome::Closed);
}

#[test]
fn strong_evidence_opens_weak_evidence_only_refreshes() {
    let mut site = Site::new();
    assert_eq!(site.weak(PHONE, "08:50").note, Some(Note::WeakEvidence));
    assert_eq!(site.strong(PHONE, "09:00").outcome, Outcome::Opened);
    assert_eq!(site.weak(PHONE, "09:40").outcome, Outcome::Refreshed);
    assert_eq!(site.visits(), ["09:00- network last 09:40"]);
}

#[test]
fn weak_evidence_keeps_nobody_in_for_longer_than_two_silence_limits() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    assert_eq!(site.weak(PHONE, "10:30").outcome, Outcome::Refreshed);
    assert_eq!(site.weak(PHONE, "10:31").note, Some(Note::WeakEvidence));
}

#[test]
fn weak_evidence_does_not_make_a_card_visit_tracked() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.weak(PHONE, "09:10").note, Some(Note::WeakEvidence));
    assert_eq!(site.time_out(Timeout::Silence), None);
    assert_eq!(site.visits(), ["09:00- door last 09:00"]);
}

#[test]
fn silence_closes_a_tracked_visit_at_its_last_activity() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    site.strong(LAPTOP, "10:15");
    assert!(site.time_out(Timeout::Silence).is_some());
    assert_eq!(site.visits(), ["09:00-10:15 door auto"]);
}

#[test]
fn the_cut_off_closes_a_tracked_visit_at_its_last_activity_and_another_at_the_cut_off() {
    let mut site = Site::new();
    site.strong(PHONE, "18:00");
    site.time_out(Timeout::CutOff);
    assert_eq!(site.visits(), ["18:00-18:00 network auto"]);

    let mut site = Site::new();
    site.door(DoorClaim::Entry, "18:00");
    site.time_out(Timeout::CutOff);
    assert_eq!(site.visits(), ["18:00-24:00 door auto"]);
}

#[test]
fn a_claim_from_the_next_day_ends_the_day_of_a_visit_whose_timer_has_not_fired() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "18:00");
    assert_eq!(site.door(DoorClaim::Entry, "33:00").outcome, Outcome::Opened);
    assert_eq!(site.visits(), ["18:00-24:00 door auto", "33:00- door last 33:00"]);
}

#[test]
fn a_phone_that_leaves_with_its_owner_opens_nothing() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    site.door(DoorClaim::Exit, "17:00");
    for at in ["17:01", "17:05", "17:14"] {
        assert_eq!(site.strong(PHONE, at).note, Some(Note::Lingering), "{at}");
    }
    assert_eq!(site.strong(PHONE, "17:25").outcome, Outcome::Opened, "more than the linger time after 17:14");
    assert_eq!(site.visits(), ["09:00-17:00 network", "17:25- network last 17:25"]);
}

#[test]
fn lingering_ends_one_silence_limit_after_the_exit() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    site.door(DoorClaim::Exit, "17:00");
    for minute in (1..=45).step_by(4) {
        let decision = site.strong(PHONE, &format!("17:{minute:02}"));
        assert_eq!(decision.note, Some(Note::Lingering), "17:{minute:02}");
    }
    assert_eq!(site.strong(PHONE, "17:46").outcome, Outcome::Opened);
    assert_eq!(site.visits(), ["09:00-17:00 network", "17:46- network last 17:46"]);
}

#[test]
fn silence_is_counted_only_while_we_could_hear() {
    for (heard, visits) in [
        (("08:00", "12:00"), vec!["09:00-09:00 network auto", "10:00- network last 10:00"]),
        (("08:00", "09:45"), vec!["09:00- network last 10:00"]),
        (("09:10", "09:56"), vec!["09:00-09:00 network auto", "10:00- network last 10:00"]),
        (("09:15", "12:00"), vec!["09:00- network last 10:00"]),
    ] {
        let mut site = Site { heard: HeardTimes::new([(at(heard.0), at(heard.1))]), ..Site::new() };
        site.strong(PHONE, "09:00");
        site.strong(PHONE, "10:00");
        assert_eq!(site.visits(), visits, "{heard:?}");
    }
}

#[test]
fn a_withdrawn_coworker_is_out() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    assert_eq!(site.claim(Claim::Withdrawn { at: at("10:00") }).outcome, Outcome::Closed);
    assert_eq!(site.visits(), ["09:00-10:00 door auto"]);
    assert_eq!(site.claim(Claim::Withdrawn { at: at("11:00") }).note, Some(Note::Late));
}

#[test]
fn devices_are_gathered() {
    let mut site = Site::new();
    site.strong(PHONE, "09:00");
    site.strong(LAPTOP, "09:20");
    let visit = site.standing.open().expect("open");
    assert_eq!(visit.macs, BTreeSet::from([PHONE, LAPTOP]));
    assert_eq!(visit.last_activity, at("09:20"));
}

#[test]
fn a_visit_opens_today_although_a_wrong_clock_wrote_one_for_tomorrow() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "24:30");
    site.door(DoorClaim::Exit, "24:40");
    site.strong(PHONE, "22:30");
    assert!(site.standing.open().is_some(), "{:?}", site.visits());
}

#[test]
fn the_network_opens_at_the_start_of_the_unbroken_presence() {
    let mut site = Site::new();
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("09:00"),
        first_at: at("09:04"),
        last_at: at("09:05"),
        strong_at: Some(at("09:05")),
    });
    assert_eq!(site.visits(), ["09:00- network last 09:05"]);
}

#[test]
fn presence_from_before_the_cut_off_opens_in_the_new_day() {
    let mut site = Site::new();
    site.strong(PHONE, "23:30");
    site.claim(Claim::Network {
        mac: PHONE,
        since: at("23:30"),
        first_at: at("23:59"),
        last_at: at("24:01"),
        strong_at: Some(at("24:01")),
    });
    assert_eq!(site.visits(), ["23:30-23:30 network auto", "24:01- network last 24:01"]);
}

#[test]
fn a_door_that_let_somebody_in_counts_for_its_pass_day_only() {
    let mut site = Site::new();
    site.door(DoorClaim::Entry, "09:00");
    let calendar = site.rules.calendar;
    assert!(site.standing.let_in_by_door(&calendar, at("23:00")));
    assert!(!site.standing.let_in_by_door(&calendar, at("08:00")));
    assert!(!site.standing.let_in_by_door(&calendar, at("25:00")));
}

proptest! {
    /// Whatever is claimed: at most one open visit, no visit ends before it begins, none overlap, and `LastActivity` never
    /// moves backwards.
    #[test]
    fn visits_stay_sound(mut claims in prop::collection::vec((0i64..3 * 1440, 0u8..6, 0i64..10), 1..60)) {
        claims.sort_unstable();
        let mut site = Site { heard: always(), ..Site::new() };
        for (minute, kind, length) in claims {
            let last_at = minutes(minute);
            let first_at = last_at.minus(Duration::from_secs(u64::try_from(length).expect("small") * 6));
            let before: Vec<Visit> = site.standing.visits().to_vec();
            let decision = site.claim(some_claim(kind, first_at, last_at));
            let visits = site.standing.visits();
            prop_assert!(visits.iter().filter(|visit| visit.is_open()).count() <= 1, "{visits:?}");
            for visit in visits {
                prop_assert!(visit.to.is_none_or(|to| to >= visit.from), "{visit:?}");
                if let Some(old) = before.iter().find(|old| old.unique_id == visit.unique_id) {
                    prop_assert!(visit.last_activity >= old.last_activity);
                    prop_assert!(visit.from <= old.from);
                    prop_assert!(old.is_open() || visit.to == old.to, "a closed visit stays closed as it was");
                }
            }
            for pair in visits.windows(2) {
                prop_assert!(pair[0].to.is_some_and(|to| to <= pair[1].from), "{pair:?}");
            }
            prop_assert_eq!(decision.outcome == Outcome::Failed, decision.reason.is_some());
        }
    }

    /// What the database is asked for decides as everything would: the open visit, and those from the last one that began
    /// up to the earliest claim on.
    #[test]
    fn visits_before_the_one_before_the_earliest_claim_decide_nothing(
        mut claims in prop::collection::vec((0i64..2 * 1440, 0u8..6, 0i64..90), 2..46),
        split in 1usize..45,
    ) {
        claims.sort_unstable_by_key(|(minute, _, length)| minute + length);
        let claims: Vec<Claim> = claims
            .into_iter()
            .map(|(minute, kind, length)| some_claim(kind, minutes(minute), minutes(minute + length)))
            .collect();
        let (history, batch) = claims.split_at(split.min(claims.len() - 1));
        let mut whole = Site { heard: always(), ..Site::new() };
        for claim in history {
            whole.claim(*claim);
        }
        let earliest = batch.iter().map(|claim| claim.heard_at()).min().expect("one");
        let visits = whole.standing.visits();
        let anchor = visits.iter().map(|visit| visit.from).filter(|from| *from <= earliest).max();
        let asked = visits.iter().filter(|visit| visit.is_open() || anchor.is_none_or(|anchor| visit.from >= anchor));
        let standing = Standing::new(asked.cloned().collect());
        let mut narrow = Site { standing, next: whole.next, heard: always(), ..Site::new() };
        for claim in batch {
            prop_assert_eq!(whole.claim(*claim), narrow.claim(*claim));
        }
        let kept = narrow.standing.visits();
        let others = whole.standing.visits().iter().filter(|visit| !kept.iter().any(|known| known.unique_id == visit.unique_id));
        prop_assert!(others.clone().all(|visit| anchor.is_some_and(|anchor| visit.from < anchor)));
        prop_assert!(kept.iter().all(|visit| whole.standing.visits().contains(visit)));
    }

    /// The same claim a second time opens and closes nothing.
    #[test]
    fn a_claim_twice_is_a_claim_once(minute in 540i64..1440, kind in 0u8..3) {
        let mut site = Site::new();
        site.door(DoorClaim::Entry, "09:00");
        let action = [DoorClaim::Entry, DoorClaim::Exit, DoorClaim::Activity][usize::from(kind)];
        site.door_at(action, minutes(minute));
        let once = site.visits();
        site.door_at(action, minutes(minute));
        prop_assert_eq!(once, site.visits());
    }
}

/// 2026-01-10T00:00:00Z, in London's winter, so that local and UTC agree.
const MIDNIGHT: i64 = 1_768_003_200_000;

fn minutes(minute: i64) -> WallTime {
    WallTime::from_millis(MIDNIGHT + minute * 60_000)
}

/// `HH:MM` or `HH:MM:SS` after midnight of the first day; hours above 23 are the next day's.
fn at(text: &str) -> WallTime {
    let parts: Vec<i64> = text.split(':').map(|part| part.parse().expect("a number")).collect();
    let seconds = parts.first().unwrap_or(&0) * 3600 + parts.get(1).unwrap_or(&0) * 60 + parts.get(2).unwrap_or(&0);
    WallTime::from_millis(MIDNIGHT + seconds * 1000)
}

/// Captures that heard all the time.
fn always() -> HeardTimes {
    HeardTimes::new([(minutes(-1440), minutes(10 * 1440))])
}

fn some_claim(kind: u8, first_at: WallTime, last_at: WallTime) -> Claim {
    let door = |action| Claim::Door { action, at: last_at };
    let network = |strong_at| Claim::Network { mac: PHONE, since: first_at, first_at, last_at, strong_at };
    match kind {
        0 => door(DoorClaim::Entry),
        1 => door(DoorClaim::Exit),
        2 => door(DoorClaim::Toggle),
        3 => door(DoorClaim::Activity),
        4 => network(Some(last_at)),
        _ => network(None),
    }
}

/// Answers the same to everybody.
#[derive(Debug)]
struct Always(Admission);

impl Gate for Always {
    fn admission(&self, _: &Told, _: &Standing) -> Admission {
        self.0.clone()
    }
}

struct Site {
    standing: Standing,
    rules: Rules,
    heard: HeardTimes,
    admission: Admission,
    next: u128,
}

impl Site {
    fn new() -> Self {
        let calendar = Calendar { zone: Tz::Europe__London, cut_off: NaiveTime::MIN };
        Self {
            standing: Standing::default(),
            rules: Rules {
                calendar,
                idle_limit: Duration::from_mins(45),
                linger: Duration::from_mins(10),
                toggle_minimum_stay: Duration::from_secs(60),
            },
            heard: HeardTimes::default(),
            admission: Admission::Admitted,
            next: 0,
        }
    }

    fn door(&mut self, action: DoorClaim, text: &str) -> Decision {
        self.door_at(action, at(text))
    }

    fn door_at(&mut self, action: DoorClaim, at: WallTime) -> Decision {
        self.claim(Claim::Door { action, at })
    }

    fn strong(&mut self, mac: MacAddr, text: &str) -> Decision {
        let at = at(text);
        self.claim(Claim::Network { mac, since: at, first_at: at, last_at: at, strong_at: Some(at) })
    }

    fn weak(&mut self, mac: MacAddr, text: &str) -> Decision {
        let at = at(text);
        self.claim(Claim::Network { mac, since: at, first_at: at, last_at: at, strong_at: None })
    }

    fn claim(&mut self, claim: Claim) -> Decision {
        self.next += 1;
        let new_visit = Uuid::from_u128(self.next);
        self.walk(|timeline| timeline.decide(&Told { claim, barrier: None }, new_visit))
    }

    fn time_out(&mut self, timeout: Timeout) -> Option<Uuid> {
        self.walk(|timeline| {
            let from = timeline.standing().open()?.from;
            timeline.time_out(timeout, timeline.rules.calendar.pass_day(from).end)
        })
    }

    fn walk<T>(&mut self, step: impl FnOnce(&mut Timeline<'_>) -> T) -> T {
        let person =
            Person { coworker: CoworkerId(7), then: Snapshot::default(), business: BusinessId(1), business_name: None };
        let gate = Always(self.admission.clone());
        let standing = std::mem::take(&mut self.standing);
        let mut timeline = Timeline::new(&person, &self.rules, &self.heard, &gate, standing);
        let done = step(&mut timeline);
        self.standing = timeline.into_standing();
        done
    }

    /// `09:00-17:00 door auto`, or `09:00- door last 11:00` while open.
    fn visits(&self) -> Vec<String> {
        let clock = |at: WallTime| {
            let minutes = (at.millis() - MIDNIGHT) / 60_000;
            format!("{:02}:{:02}", minutes / 60, minutes % 60)
        };
        let show = |visit: &Visit| {
            let source = if visit.source == CheckinSource::DoorAccess { "door" } else { "network" };
            match visit.to {
                Some(to) => format!(
                    "{}-{} {source}{}",
                    clock(visit.from),
                    clock(to),
                    if visit.auto_checkout { " auto" } else { "" }
                ),
                None => format!("{}- {source} last {}", clock(visit.from), clock(visit.last_activity)),
            }
        };
        self.standing.visits().iter().map(show).collect()
    }
}
