//! Reference model: how check-ins, failed check-ins and charges of coworking sites follow from facts.
//!
//! All facts are sorted by time and folded over one `State` of everyone. Nothing is cached, and a hypothetical question
//! ("would they be admitted if ...") is answered with a copy of the whole state. Slow and plain.
//!
//! CHOICES made where the documents leave something open:
//!  C1  Without any pass (passes not required) the day is one record, as with a held day pass; with all others every
//!      visit is its own.
//!  C2  A return reopens a block only if it is the person's latest visit anywhere, with the same held pass, and an import
//!      has not changed since whether it counts towards the plan: the record keeps what was true when it was opened.
//!  C3  A reopened visit stays tracked (it is the same record), but its door entries are forgotten (toggle).
//!  C4  Plan hours count presence: the time away inside a block is not counted.
//!  C5  A presence is admitted as of its `at` (slots, expiry, remaining use), whatever its FromTime is.
//!  C6  Strong evidence opens a visit in the pass day of `at`. Strong evidence of an earlier pass day, or from before the previous
//!      visit's end or last lingering evidence, opens nothing (and is no failure): only strong evidence opens.
//!  C7  A silence depends only on the next evidence in fold order. If that does not reach back far enough, the visit is
//!      closed at the instant at which the silence exceeds the limit (others may use its time pass from then on).
//!  C8  Idle limit: that of the settings in force at the last activity; for a bridge that at the evidence's `at`.
//!  C9  A read that the controller refused and a repetition are not activity and do not bridge.
//!  C10 Weak presences bridge nothing, open nothing and do not extend lingering. Exit and activity taps bridge (ToTime
//!      becomes the end of the pass) and do nothing else.
//!  C11 Bridging: the new visit's FromTime is the first evidence after the pass's end, not the end itself.
//!      The bridged record's LastActivity stays; where the same presence spans the end it is cut to the end.
//!  C12 After the end of a pass of a person without devices, the new visit's LastActivity is its start, its source is
//!      that of the visit before (the failure's is door), and toggles still use the earlier door entry (there was no exit). If no pass lets them continue, the
//!      next toggle of that pass day is their exit, unless a silence has ended the visit before.
//!  C13 At one instant: exits, then ends that an edit pinned, then cut-offs, then pass ends, then silences, then all other facts; of several people by id.
//!      A pass that ends with the pass day is a cut-off: no visit continues.
//!  C14 Lingering is per business; other businesses' exits only bound FromTime. It may cross the cut-off.
//!  C15 When a person moves to another business, the idle limit is that of the open visit's business, in plain, not covered, time.
//!  C16 The pass that continues after a move also continues when the network shows that the person moved.
//!  C17 AfterDoor: a door of this business let them in (entry admitted or refreshed) in the pass day of `at`.
//!      Dwell and network_opens stop silently: no failure.
//!  C18 A FromTime before the door that opened the visit also needs minimum dwell, network_opens Always, and that first_at is after the person's previous visit
//!      anywhere and not lingering. It is checked as of `at`; by any pass.
//!  C19 "Any entry at least toggle_minimum_stay ago" is an exit: the last entry of the visit counts.
//!  C20 The tap of an exit is activity: LastActivity is not before the exit.
//!  C21 Network failures are dated `at`, failures after a pass's end at that end (source door).
//!  C22 Facts about people whom the directory does not know do nothing, save `refused_denied`; if they are in when a
//!      directory without them comes, they are treated as archived. Facts and versions after `now` are ignored.
//!  C23 Limits are checked in the order days week, month, cycle, hours week, month, cycle; also if no pass is required,
//!      but a visit without a pass does not count.
//!  C24 Day of use "began" with its first visit; it is taken off if that is not before basis_at. A visit's minutes are
//!      taken off, all of them, if its ToTime is not before basis_at. "More left" compares milliseconds, not minutes.
//!      For a person who came before basis_at, all visits count.
//!  C25 only_members, only_contacts and tariffs must all be met, by the person who comes (not the holder).
//!  C26 The nearest miss is over own and shared passes together. Passes of an unknown kind do not exist.
//!  C27 Of two kinds that cost the same per minute pay-as-you-go takes the smaller id. It is ended by the kind's slots
//!      and plan hours, never by its minutes.
//!  C28 A pass is "gone" in a new directory if it, its kind, its sharing or its business is gone, its kind archived, or
//!      it is outside its slots, or no longer for this person, this business or the network.
//!      A visit keeps its plan, with the limits and the renewal date at its beginning (or when it was reopened).
//!  C29 Charge: `minutes` are the charged ones (whole steps), also for a day pass. Each day kind is paid once per pass
//!      day and business. A closed charge is final. If kind or settings did not exist at FromTime, those at admission.
//!  C30 Cycles without a renewal date: months from January 1970, weeks from the week of 1970-01-01.
//!  C31 A wall clock time that does not exist is the first instant after the gap; one that exists twice is the first.
//!  C32 A cut-off that is found late (the settings changed) still cuts ToTime and LastActivity to the cut-off.
//!
//! Edits by hand:
//!  C33 A fact is inside a span or an absence by its instant and the interval alone, which includes its beginning and not
//!      its end. So an exit at the beginning of either is no exit. An exit at the end of a span is one: it comes before
//!      all else at that instant, also before the end of a pass that ended in the span.
//!  C34 Each absence begins by itself, also inside or right after another one. It ends what is open then, unless a span
//!      is running. A visit that goes on into an absence whose beginning it missed stays open.
//!  C35 The end of an absence bounds FromTime like the end of the previous visit: the first evidence must be after it,
//!      strong evidence not before it. Strong evidence from before it is no failure.
//!  C36 A directory that came in a span is not made up for at its end: the visit keeps its pass, and its person, until
//!      the next directory.
//!  C37 A pass that ended in a span of `NotBefore` ends the visit at `n` as if it ended at `n`: bridging, another pass and
//!      the failed check-in follow as always.
//!  C38 A pinned visit of a person whom the directory does not know exists, without a pass. C22 holds for their facts:
//!      they refresh nothing.
//!  C39 An edit that begins after `now`, or at an unknown business, does not exist, also for the question which edit of a
//!      label is the latest. An edit begins with the earlier of what was and what is set.
//!  C40 Taps in an absence or a span also count as the next evidence for a silence, as C9 says. A weak presence counts
//!      if it would refresh the visit by itself.
//!  C41 Only a visit with a pinned end is never reopened. One that an absence or another pinned visit ended may be, if C2
//!      allows it, and so may one that was pinned without an end.
//!  C42 Absences do not stop what is no fact: ends of passes (and the failed check-in after one), silences and cut-offs.
//!      Bridging does not look at absences either, only at the evidence's own instant.
//!  C43 After a pinned end there is no minimum absence for toggles, as after any exit at a door that is no toggle.
//!  C44 If an absence begins at the very instant of a pinned visit, it ends the open visit first, and the pass of that visit
//!      does not go on by itself.
//!  C45 A pinned visit that admission refuses does not count towards the plan. The person is let in (AfterDoor) all the
//!      same.
//!  C46 A directory that comes into force at the instant of an edit's beginning or end is one of the "other facts": it comes
//!      after it. (Admission at that instant asks the new directory.)
//!  C47 Of edits that only say that a person came in at an instant, the first one counts; any other edit goes before it.
//!  C48 An edit that only says that a person came in at an instant does not count if a later edit of the same business has a `was`
//!      that contains the instant.
//!  C49 An absence counts at the business of its edit only (against E1). A later edit that sets a visit there without an end
//!      (NotBefore, Free, Joins) cuts it where that visit begins.

#![allow(
    clippy::struct_excessive_bools,
    clippy::option_option,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::unused_self,
    reason = "plain, and never built into the product"
)]

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Datelike, Days, Duration, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Weekday};
use chrono_tz::Tz;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

// ------------------------------------------------------------------------------------------------ input

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkOpens {
    Always,
    AfterDoor,
    Never,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(dead_code, reason = "the model knows more than the scenarios ask")]
pub(super) enum PassesAsked {
    IfAny,
    Required,
    Off,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(dead_code, reason = "the model knows more than the scenarios ask")]
pub(super) enum Direction {
    In,
    Out,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    CheckIn,
    CheckOut,
    Toggle,
    Activity,
}

#[derive(Clone, Debug)]
pub(super) struct PayAsYouGo {
    pub step_minutes: i64,
    pub minimum: i64,
    pub maximum: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub from: i64,
    pub zone: Tz,
    pub cut_off: NaiveTime,
    pub idle_limit: i64,
    pub linger: i64,
    pub debounce: i64,
    pub toggle_minimum_stay: i64,
    pub minimum_dwell: i64,
    pub record_every_visit: bool,
    pub network_opens: NetworkOpens,
    pub week_starts_on: Weekday,
    pub pay_as_you_go: Option<PayAsYouGo>,
}

#[derive(Clone, Debug)]
pub(super) struct Business {
    pub id: i64,
    pub settings: Vec<Settings>,
}

#[derive(Clone, Debug)]
pub(super) struct Person {
    pub id: i64,
    pub active: bool,
    pub archived: bool,
    pub businesses: Vec<i64>,
    pub allow_network: bool,
    pub tariff: Option<i64>,
    pub renews: Option<NaiveDate>,
}

#[derive(Clone, Debug)]
pub(super) struct Tariff {
    pub id: i64,
    pub days_week: Option<u32>,
    pub days_month: Option<u32>,
    pub days_cycle: Option<u32>,
    pub hours_week: Option<u32>,
    pub hours_month: Option<u32>,
    pub hours_cycle: Option<u32>,
    pub invoice_every_months: u32,
    pub invoice_every_weeks: Option<u32>,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub weekday: Weekday,
    pub from_minute: u16,
    pub to_minute: u16,
}

#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub id: i64,
    pub minutes: Option<u32>,
    pub price: i64,
    pub priority: u8,
    pub counts: bool,
    pub allow_network: bool,
    pub archived: bool,
    pub only_members: bool,
    pub only_contacts: bool,
    pub tariffs: Vec<i64>,
    pub businesses: Vec<i64>,
    pub slots: Vec<Slot>,
    pub payg_members: bool,
    pub payg_contacts: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Held {
    pub id: i64,
    pub holder: i64,
    pub kind: i64,
    pub left: u32,
    pub basis_at: i64,
    pub expires: Option<NaiveDate>,
    pub price: Option<i64>,
    pub granted: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub from: i64,
    pub people: Vec<Person>,
    pub tariffs: Vec<Tariff>,
    pub kinds: Vec<Kind>,
    pub held: Vec<Held>,
    pub sharing: Vec<Vec<i64>>,
    pub passes_asked: PassesAsked,
}

/// How a visit ends that an edit by hand begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EditEnd {
    /// At this instant.
    At(i64),
    /// It is open, and no fact from before this instant ends it.
    NotBefore(i64),
    /// As facts decide.
    Free,
    /// They came in: if they are in there already, the edit only refreshes that visit; else it is like `Free` (C47).
    Joins,
}

#[derive(Clone, Debug)]
pub(super) enum FactKind {
    Door {
        person: i64,
        door: String,
        direction: Direction,
        action: Action,
        refused: bool,
    },
    Presence {
        person: i64,
        mac: u64,
        since: i64,
        first_at: i64,
        strong_at: Option<i64>,
    },
    /// An edit by hand.
    Edit {
        person: i64,
        /// Edits with the same label are about the same visit.
        label: u32,
        /// When the operator made it.
        made: i64,
        /// The interval of the visit just before, if it existed. That of an open visit ends at `made`.
        was: Option<(i64, i64)>,
        /// The beginning and the end that it sets; none if it deletes the visit.
        set: Option<(i64, EditEnd)>,
        by_network: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Fact {
    pub business: i64,
    /// For an edit, the beginning of what was or of what is set, whichever is earlier.
    pub at: i64,
    pub tie: u64,
    pub kind: FactKind,
}

#[derive(Clone, Debug)]
pub(super) struct Coverage {
    pub business: i64,
    pub from: i64,
    pub to: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub start: i64,
    pub businesses: Vec<Business>,
    pub directories: Vec<Directory>,
    pub facts: Vec<Fact>,
    pub coverage: Vec<Coverage>,
    pub now: i64,
}

// ------------------------------------------------------------------------------------------------ output

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PassRow {
    pub held: Option<i64>,
    pub kind: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct VisitRow {
    pub person: i64,
    pub business: i64,
    pub from: i64,
    pub to: Option<i64>,
    pub auto_checkout: bool,
    pub last_activity: i64,
    pub macs: BTreeSet<u64>,
    pub by_network: bool,
    pub pass: Option<PassRow>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FailureRow {
    pub person: i64,
    pub business: i64,
    pub at: i64,
    pub code: String,
    pub by_network: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ChargeRow {
    pub person: i64,
    pub business: i64,
    pub from: i64,
    pub minutes: i64,
    pub amount: i64,
    pub is_final: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Records {
    pub visits: Vec<VisitRow>,
    pub failures: Vec<FailureRow>,
    pub charges: Vec<ChargeRow>,
}

// ------------------------------------------------------------------------------------------------ the calendar

/// The instant at which the wall clock shows a time (C31).
fn instant(zone: Tz, wall: NaiveDateTime) -> i64 {
    let mut wall = wall;
    // The longest gap ever is a whole day (Samoa, 2011).
    for _ in 0..(2 * 24 * 60) {
        match zone.from_local_datetime(&wall) {
            LocalResult::Single(t) | LocalResult::Ambiguous(t, _) => return t.timestamp_millis(),
            LocalResult::None => wall += Duration::minutes(1),
        }
    }
    panic!("no such wall clock time within two days of {wall}")
}

fn wall_clock(zone: Tz, at: i64) -> NaiveDateTime {
    DateTime::from_timestamp_millis(at).expect("an instant that chrono can hold").with_timezone(&zone).naive_local()
}

fn plus_days(date: NaiveDate, days: i64) -> NaiveDate {
    date + Duration::days(days)
}

/// The pass day, from one cut-off to the next. Its date is the day on which it begins or, with a cut-off at noon or
/// later, the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PassDay {
    start: i64,
    end: i64,
    date: NaiveDate,
}

fn pass_day(settings: &Settings, at: i64) -> PassDay {
    let near = wall_clock(settings.zone, at).date();
    let cut_off = |days: i64| instant(settings.zone, plus_days(near, days).and_time(settings.cut_off));
    let days = (-2..=2).rev().find(|d| cut_off(*d) <= at).expect("a cut-off in the last two days");
    let evening = i64::from(settings.cut_off >= NaiveTime::from_hms_opt(12, 0, 0).expect("noon"));
    PassDay { start: cut_off(days), end: cut_off(days + 1), date: plus_days(near, days + evening) }
}

/// The end of the pass day with this date, which is one of the two that overlap it.
fn end_of_pass_day(settings: &Settings, date: NaiveDate) -> i64 {
    let cut_offs = [0, 1].map(|days| instant(settings.zone, plus_days(date, days).and_time(settings.cut_off)));
    let ends = cut_offs.map(|end| pass_day(settings, end - 1));
    ends.iter().find(|day| day.date == date).map_or(cut_offs[1], |day| day.end)
}

/// The end of the current slot: `None` outside all slots, `Some(None)` if there are no slots.
fn slot_end(kind: &Kind, settings: &Settings, at: i64) -> Option<Option<i64>> {
    if kind.slots.is_empty() {
        return Some(None);
    }
    let today = wall_clock(settings.zone, at).date();
    let mut open: Vec<(i64, i64)> = Vec::new();
    for days in -9..=9 {
        let date = plus_days(today, days);
        for slot in kind.slots.iter().filter(|s| s.weekday == date.weekday()) {
            let minute = |m: i64| instant(settings.zone, date.and_time(NaiveTime::MIN) + Duration::minutes(m));
            let mut to = i64::from(slot.to_minute);
            if to <= i64::from(slot.from_minute) {
                to += 1440;
            }
            if to == 1439 {
                to = 1440; // 23:59 is the end of the day
            }
            open.push((minute(i64::from(slot.from_minute)), minute(to)));
        }
    }
    joined(open).into_iter().find(|(from, to)| *from <= at && at < *to).map(|(_, to)| Some(to))
}

/// Joins spans of time that touch or overlap.
fn joined(mut spans: Vec<(i64, i64)>) -> Vec<(i64, i64)> {
    spans.sort_unstable();
    let mut all: Vec<(i64, i64)> = Vec::new();
    for (from, to) in spans {
        match all.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => all.push((from, to)),
        }
    }
    all
}

fn plus_months(date: NaiveDate, months: i64) -> NaiveDate {
    let count = i64::from(date.year()) * 12 + i64::from(date.month0()) + months;
    let (year, month) = (count.div_euclid(12) as i32, count.rem_euclid(12) as u32 + 1);
    // In a shorter month, a cycle that begins on the 31st begins on the last day.
    (1..=date.day())
        .rev()
        .find_map(|day| NaiveDate::from_ymd_opt(year, month, day))
        .expect("every month has a first day")
}

fn week(date: NaiveDate, starts_on: Weekday) -> NaiveDate {
    date - Days::new(u64::from(date.weekday().days_since(starts_on)))
}

/// The billing cycle of a date: its first day, and the first day of the next one.
fn cycle(plan: &Plan, date: NaiveDate, starts_on: Weekday) -> (NaiveDate, NaiveDate) {
    let epoch = NaiveDate::from_ymd_opt(1970, 1, 1).expect("a date");
    if let Some(weeks) = plan.tariff.invoice_every_weeks.filter(|w| *w > 0) {
        let anchor = plan.renews.unwrap_or(week(epoch, starts_on));
        let days = 7 * i64::from(weeks);
        let start = plus_days(anchor, (date - anchor).num_days().div_euclid(days) * days);
        return (start, plus_days(start, days));
    }
    let months = i64::from(plan.tariff.invoice_every_months.max(1));
    let anchor = plan.renews.unwrap_or(epoch);
    let apart = i64::from(date.year() - anchor.year()) * 12 + i64::from(date.month0()) - i64::from(anchor.month0());
    let mut n = apart.div_euclid(months) + 1;
    while plus_months(anchor, n * months) > date {
        n -= 1;
    }
    (plus_months(anchor, n * months), plus_months(anchor, (n + 1) * months))
}

// ------------------------------------------------------------------------------------------------ the state

/// A plan as it was when a visit began.
#[derive(Clone, Debug)]
struct Plan {
    tariff: Tariff,
    renews: Option<NaiveDate>,
}

#[derive(Clone, Debug)]
struct Visit {
    person: i64,
    business: i64,
    from: i64,
    to: Option<i64>,
    auto_checkout: bool,
    last_activity: i64,
    macs: BTreeSet<u64>,
    by_network: bool,
    pass: Option<PassRow>,
    counts: bool,
    plan: Option<Plan>,
    day: PassDay,
    /// The time between leaving and coming back, if the day is one block.
    away: i64,
    /// The last strong evidence; the visit is tracked if there is any.
    strong: Option<i64>,
    /// The first entry at a door, as toggles need it.
    door_entry: Option<i64>,
    /// The end of the pass by minutes or plan hours, which depends on FromTime.
    end_used: Option<i64>,
    /// The end of the pass by slots or expiry, which does not.
    end_fixed: Option<i64>,
    /// The instant of an exit.
    exit: Option<i64>,
    /// The last evidence that still lingers (not before the exit).
    lingering: i64,
    /// The instant at which the pass ended: the visit was closed at LastActivity and may still be bridged.
    pass_ended: Option<i64>,
    /// Whether it ended because its pass did, rather than because the person left.
    pass_ran_out: bool,
    asked_at: i64,
    /// The end that an edit gave it, if an edit began it.
    pinned: Option<EditEnd>,
    /// The end of its pinned span, while that is running.
    span_until: Option<i64>,
}

impl Visit {
    fn tracked(&self) -> bool {
        self.strong.is_some()
    }
    /// The end of its pass; one in a pinned span takes effect at the span's end.
    fn pass_end(&self) -> Option<i64> {
        let end = [self.end_used, self.end_fixed].into_iter().flatten().min();
        match self.pinned {
            Some(EditEnd::At(span) | EditEnd::NotBefore(span)) => end.map(|end| end.max(span)),
            Some(EditEnd::Free | EditEnd::Joins) | None => end,
        }
    }
    fn close(&mut self, to: i64) {
        self.to = Some(to.max(self.from));
        self.auto_checkout = true;
        self.span_until = None;
    }
    /// The person leaves, by a door or because an edit says so.
    fn leave(&mut self, at: i64) {
        (self.to, self.auto_checkout, self.exit) = (Some(at), false, Some(at));
        self.last_activity = self.last_activity.max(at);
        self.lingering = self.last_activity;
        self.span_until = None;
    }
    /// Closes the visit at `at`. If the person has a device, the network determines how long they stayed.
    fn close_seen(&mut self, at: i64) {
        self.last_activity = self.last_activity.min(at);
        self.close(if self.tracked() { self.last_activity } else { at });
    }
    fn presence(&self, at: i64) -> i64 {
        (self.to.unwrap_or(at) - self.from - self.away).max(0)
    }
    /// A later visit begins no earlier.
    fn bound(&self) -> i64 {
        let end = self.to.unwrap_or(self.last_activity);
        if self.exit.is_some() { end.max(self.lingering) } else { end }
    }
}

#[derive(Clone, Debug, Default)]
struct State {
    /// In the order in which they began; a person's latest is the current or the last one.
    visits: Vec<Visit>,
    failures: Vec<FailureRow>,
    network_failed: BTreeSet<(i64, u64, String, i64, i64)>,
    /// The person, business and instant of each entry by a door.
    let_in: Vec<(i64, i64, i64)>,
    /// By person and business: until when a toggle after an exit is ignored.
    absent_until: BTreeMap<(i64, i64), i64>,
    /// The numbers of the pinned absences and of the pinned visits that have begun.
    absences_begun: BTreeSet<usize>,
    pins_begun: BTreeSet<usize>,
}

impl State {
    fn latest(&self, person: i64) -> Option<usize> {
        self.visits.iter().rposition(|v| v.person == person)
    }
    fn latest_at(&self, person: i64, business: i64) -> Option<usize> {
        self.visits.iter().rposition(|v| v.person == person && v.business == business)
    }
    fn open(&self, person: i64) -> Option<usize> {
        self.latest(person).filter(|i| self.visits[*i].to.is_none())
    }
    /// The open visit, if its pinned span is running and includes this instant.
    fn in_span(&self, person: i64, at: i64) -> Option<usize> {
        self.open(person).filter(|i| self.visits[*i].span_until.is_some_and(|until| at < until))
    }
    fn fail_door(&mut self, person: i64, business: i64, at: i64, code: &str) {
        self.failures.push(FailureRow { person, business, at, code: code.to_string(), by_network: false });
    }
}

struct Admitted {
    /// Whether the visit is a record of its own in any case: the person never left (one pass ended, and another covers
    /// them), or an edit began it.
    apart: bool,
    pass: Option<PassRow>,
    counts: bool,
    plan: Option<Plan>,
}

/// From the farthest miss to the nearest.
const MISSES: [&str; 8] = [
    "pass_archived",
    "pass_not_for_customer",
    "pass_other_business",
    "pass_expired",
    "pass_used_up",
    "pass_outside_hours",
    "pass_no_network",
    "pass_in_use",
];

/// A visit that an edit begins.
#[derive(Clone, Copy, Debug)]
struct Pin {
    person: i64,
    business: i64,
    from: i64,
    end: EditEnd,
    by_network: bool,
}

/// A time in which, an edit says, a person was not in at its business.
#[derive(Clone, Copy, Debug)]
struct Absence {
    person: i64,
    business: i64,
    from: i64,
    to: i64,
}

/// An edit is later than another.
fn order_of(edit: &Fact) -> (i64, u64) {
    match edit.kind {
        FactKind::Edit { made, .. } => (made, edit.tie),
        FactKind::Door { .. } | FactKind::Presence { .. } => unreachable!("only edits are asked for"),
    }
}

/// The latest edit of each label, without those that only say that a person came in while they were in a visit that a
/// later edit, which knew of both, has changed (C48).
fn latest_of_labels(edits: &[Fact]) -> Vec<&Fact> {
    let mut latest: BTreeMap<u32, &Fact> = BTreeMap::new();
    let mut sorted: Vec<&Fact> = edits.iter().collect();
    sorted.sort_by_key(|edit| order_of(edit));
    for edit in sorted {
        if let FactKind::Edit { label, .. } = edit.kind {
            latest.insert(label, edit);
        }
    }
    let overruled = |edit: &Fact| {
        let FactKind::Edit { person: who, set: Some((at, EditEnd::Joins)), .. } = edit.kind else { return false };
        edits.iter().any(|other| {
            let FactKind::Edit { person, was: Some((from, to)), .. } = other.kind else { return false };
            person == who
                && other.business == edit.business
                && order_of(other) > order_of(edit)
                && from <= at
                && at < to
        })
    };
    let mut all: Vec<&Fact> = latest.into_values().filter(|edit| !overruled(edit)).collect();
    all.sort_by_key(|edit| order_of(edit));
    all
}

/// The parts of what was that are not in what the same edit sets, cut where a later edit says that the person came in
/// and not when they left (C49).
fn absences(edits: &[Fact]) -> Vec<Absence> {
    let latest = latest_of_labels(edits);
    let mut all = Vec::new();
    for edit in edits {
        let FactKind::Edit { person, was: Some((from, to)), set, .. } = edit.kind else { continue };
        let (stays_from, stays_to) = match set {
            None => (to, to),
            Some((begins, EditEnd::At(ends))) => (begins, ends),
            Some((begins, EditEnd::NotBefore(_) | EditEnd::Free | EditEnd::Joins)) => (begins, i64::MAX),
        };
        let opens = latest.iter().filter_map(|other| match other.kind {
            FactKind::Edit { person: who, set: Some((begins, end)), .. }
                if who == person
                    && other.business == edit.business
                    && order_of(other) > order_of(edit)
                    && !matches!(end, EditEnd::At(_)) =>
            {
                Some(begins)
            }
            FactKind::Edit { .. } | FactKind::Door { .. } | FactKind::Presence { .. } => None,
        });
        let cut = opens.min().unwrap_or(i64::MAX);
        let parts = [(from, stays_from.min(to)), (stays_to.max(from), to)].map(|(from, to)| (from, to.min(cut)));
        let business = edit.business;
        all.extend(parts.into_iter().filter(|(from, to)| from < to).map(|(from, to)| Absence {
            person,
            business,
            from,
            to,
        }));
    }
    all
}

/// The visits that the latest edit of each label begins; of two that begin at one instant, that of the later edit.
fn pins(edits: &[Fact]) -> Vec<Pin> {
    let mut pins: BTreeMap<(i64, i64), Pin> = BTreeMap::new();
    for edit in latest_of_labels(edits) {
        if let FactKind::Edit { person, set: Some((from, end)), by_network, .. } = edit.kind {
            let pin = Pin { person, business: edit.business, from, end, by_network };
            // Who only came in gives way to what another edit says of that instant.
            let there = pins.entry((person, from)).or_insert(pin);
            if end != EditEnd::Joins {
                *there = pin;
            }
        }
    }
    pins.into_values().collect()
}

/// What happens by itself, in the order at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The pinned span of a visit with a pinned end is over.
    PinnedEnd,
    CutOff,
    PassEnds,
    Silence,
    /// The pinned span of another visit is over.
    SpanEnds,
    AbsenceBegins,
    PinnedVisitBegins,
}

/// A presence, as the rules use it.
#[derive(Clone, Copy)]
struct Seen {
    person: i64,
    business: i64,
    at: i64,
    mac: u64,
    since: i64,
    first_at: i64,
    strong_at: Option<i64>,
}

// ------------------------------------------------------------------------------------------------ constants of a
// scenario

struct World {
    businesses: BTreeMap<i64, Vec<Settings>>,
    directories: Vec<Directory>,
    coverage: BTreeMap<i64, Vec<(i64, i64)>>,
    /// All facts but edits.
    facts: Vec<Fact>,
    /// What the edits say.
    absences: Vec<Absence>,
    pins: Vec<Pin>,
    /// The facts that are repetitions of a read.
    repeated: Vec<bool>,
    now: i64,
}

impl World {
    fn new(scenario: &Scenario) -> World {
        let mut businesses = BTreeMap::new();
        for b in scenario.businesses.iter().filter(|b| !b.settings.is_empty()) {
            let mut settings = b.settings.clone();
            settings.sort_by_key(|s| s.from);
            businesses.insert(b.id, settings);
        }
        let mut directories = scenario.directories.clone();
        directories.sort_by_key(|d| d.from);
        let mut coverage: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        for c in &scenario.coverage {
            coverage.entry(c.business).or_default().push((c.from, c.to));
        }
        let coverage = coverage.into_iter().map(|(b, c)| (b, joined(c))).collect();
        let mut facts: Vec<Fact> = scenario.facts.iter().filter(|f| f.at <= scenario.now).cloned().collect();
        facts.retain(|f| businesses.contains_key(&f.business) && !directories.is_empty());
        let (edits, mut facts): (Vec<Fact>, Vec<Fact>) =
            facts.into_iter().partition(|f| matches!(f.kind, FactKind::Edit { .. }));
        let (absences, pins) = (absences(&edits), pins(&edits));
        // Presences before doors: at the same instant, the presence comes first.
        facts.sort_by_key(|f| (f.at, matches!(f.kind, FactKind::Door { .. }), f.tie));
        let repeated = Vec::new();
        let mut world = World { businesses, directories, coverage, facts, absences, pins, repeated, now: scenario.now };
        world.repeated = world.repetitions();
        world
    }

    /// Each read is compared with the previous one like it, even if that is itself a repetition.
    fn repetitions(&self) -> Vec<bool> {
        let mut last: BTreeMap<(i64, i64, String, Direction, bool), i64> = BTreeMap::new();
        let mut repeated = Vec::new();
        for fact in &self.facts {
            repeated.push(false);
            if let FactKind::Door { person, door, direction, refused, .. } = &fact.kind {
                let key = (fact.business, *person, door.clone(), *direction, *refused);
                let before = last.insert(key, fact.at);
                *repeated.last_mut().expect("just pushed") =
                    before.is_some_and(|t| fact.at - t <= self.settings(fact.business, t).debounce);
            }
        }
        repeated
    }

    fn settings(&self, business: i64, at: i64) -> &Settings {
        let all = &self.businesses[&business];
        all.iter().rev().find(|s| s.from <= at).unwrap_or(&all[0])
    }

    /// Whether an edit says that the person is at no business.
    fn absent(&self, person: i64, business: i64, at: i64) -> bool {
        self.absences.iter().any(|a| a.person == person && a.business == business && a.from <= at && at < a.to)
    }

    /// The end of the person's last pinned absence before this instant.
    fn absent_before(&self, person: i64, business: i64, at: i64) -> i64 {
        let before = self.absences.iter().filter(|a| a.person == person && a.business == business && a.to <= at);
        before.map(|a| a.to).max().unwrap_or(i64::MIN)
    }

    fn directory(&self, at: i64) -> &Directory {
        self.directories.iter().rev().find(|d| d.from <= at).unwrap_or(&self.directories[0])
    }

    /// How much of this time is covered.
    fn covered(&self, business: i64, from: i64, to: i64) -> i64 {
        let spans = self.coverage.get(&business).map_or(&[][..], Vec::as_slice);
        spans.iter().map(|(a, b)| (to.min(*b) - from.max(*a)).max(0)).sum()
    }

    /// Whether the silence until then has been too long.
    fn silent(&self, v: &Visit, until: i64, limit: i64) -> bool {
        v.tracked() && self.covered(v.business, v.last_activity, until) > limit
    }

    /// The first instant at which a silence since the last activity is too long.
    fn silence_at(&self, v: &Visit) -> Option<i64> {
        let mut wanted = self.settings(v.business, v.last_activity).idle_limit + 1;
        for (from, to) in self.coverage.get(&v.business)? {
            let from = v.last_activity.max(*from);
            if *to > from {
                if *to - from >= wanted {
                    return Some(from + wanted);
                }
                wanted -= *to - from;
            }
        }
        None
    }

    /// Whether weak evidence at this instant would refresh the visit.
    fn weak_refreshes(&self, v: &Visit, at: i64) -> bool {
        let limit = self.settings(v.business, at).idle_limit;
        v.strong.is_some_and(|strong| at <= strong + 2 * limit)
    }

    /// Whether the next evidence began before the silence was too long. If so, the visit continues.
    fn seen_in_time(&self, v: &Visit, next: usize) -> bool {
        for (n, fact) in self.facts.iter().enumerate().skip(next).filter(|(_, f)| f.business == v.business) {
            let begins = match &fact.kind {
                FactKind::Door { person, refused, .. } if *person == v.person && !refused && !self.repeated[n] => {
                    fact.at
                }
                FactKind::Presence { person, first_at, strong_at, .. }
                    if *person == v.person && (strong_at.is_some() || self.weak_refreshes(v, fact.at)) =>
                {
                    *first_at
                }
                FactKind::Door { .. } | FactKind::Presence { .. } | FactKind::Edit { .. } => continue,
            };
            return !self.silent(v, begins, self.settings(v.business, v.last_activity).idle_limit);
        }
        false
    }
}

// ------------------------------------------------------------------------------------------------ admission

impl Directory {
    fn person(&self, id: i64) -> Option<&Person> {
        self.people.iter().find(|p| p.id == id)
    }
    fn kind(&self, id: i64) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.id == id)
    }
    fn may_use(&self, person: i64, held: &Held) -> bool {
        let shares = |p: &Person| p.active && !p.archived;
        held.holder == person
            || self.person(held.holder).is_some_and(shares)
                && self.sharing.iter().any(|team| team.contains(&person) && team.contains(&held.holder))
    }
}

fn good_for(kind: &Kind, person: &Person) -> bool {
    (!kind.only_members || person.tariff.is_some())
        && (!kind.only_contacts || person.tariff.is_none())
        && (kind.tariffs.is_empty() || person.tariff.is_some_and(|t| kind.tariffs.contains(&t)))
}

fn good_at(kind: &Kind, business: i64) -> bool {
    kind.businesses.is_empty() || kind.businesses.contains(&business)
}

/// Days (dates) and presence that count towards the plan's limits in a period, excluding visit number `except`.
fn counted(
    state: &State,
    person: i64,
    (from, to): (NaiveDate, NaiveDate),
    at: i64,
    except: Option<usize>,
) -> (BTreeSet<NaiveDate>, i64) {
    let mut days = BTreeSet::new();
    let mut time = 0;
    for (i, v) in state.visits.iter().enumerate() {
        if v.person == person && v.counts && Some(i) != except && from <= v.day.date && v.day.date < to {
            days.insert(v.day.date);
            time += v.presence(at);
        }
    }
    (days, time)
}

/// The periods of the plan's limits that include a date: name, span, days, hours.
type Period = (&'static str, (NaiveDate, NaiveDate), Option<u32>, Option<u32>);
fn periods(plan: &Plan, date: NaiveDate, starts_on: Weekday) -> [Period; 3] {
    let t = &plan.tariff;
    let monday = week(date, starts_on);
    let first = date.with_day(1).expect("every month has a first day");
    let limit = |l: Option<u32>| l.filter(|l| *l > 0);
    [
        ("week", (monday, plus_days(monday, 7)), limit(t.days_week), limit(t.hours_week)),
        ("month", (first, plus_months(first, 1)), limit(t.days_month), limit(t.hours_month)),
        ("cycle", cycle(plan, date, starts_on), limit(t.days_cycle), limit(t.hours_cycle)),
    ]
}

/// The usage of a time pass by visits since the import that set what is left.
fn used_time(state: &State, held: &Held, at: i64, except: Option<usize>) -> i64 {
    let visits = state.visits.iter().enumerate().filter(|(i, v)| {
        Some(*i) != except
            && v.pass.as_ref().is_some_and(|p| p.held == Some(held.id))
            && v.to.is_none_or(|to| to >= held.basis_at || at < held.basis_at)
    });
    visits.map(|(_, v)| v.presence(at)).sum()
}

/// The people and pass days for which a day pass was used, and when each of these uses began.
fn used_days(state: &State, held: i64) -> BTreeMap<(i64, NaiveDate), i64> {
    let mut uses = BTreeMap::new();
    for v in state.visits.iter().filter(|v| v.pass.as_ref().is_some_and(|p| p.held == Some(held))) {
        let began = uses.entry((v.person, v.day.date)).or_insert(v.from);
        *began = v.from.min(*began);
    }
    uses
}

/// The order of preference among valid passes: the smallest is used.
type Choice = (bool, u8, bool, i64, bool, usize, i64, bool, i64);

impl World {
    /// Whether the person may come in, here and now, and by which pass.
    fn ask(
        &self,
        state: &State,
        person: i64,
        business: i64,
        at: i64,
        network: bool,
        goes_on: Option<i64>,
    ) -> Result<Admitted, String> {
        let directory = self.directory(at);
        let settings = self.settings(business, at);
        let today = pass_day(settings, at).date;
        if let Some(code) = self.against(person, business, at, network) {
            return Err(code);
        }
        let person = directory.person(person).expect("the person is admissible");

        // The plan's limits are hard, whatever passes the person holds.
        let tariff = person.tariff.and_then(|t| directory.tariffs.iter().find(|x| x.id == t));
        let plan = tariff.map(|t| Plan { tariff: t.clone(), renews: person.renews });
        if let Some(plan) = &plan {
            let periods = periods(plan, today, settings.week_starts_on);
            for (name, span, days, _) in &periods {
                let (used, _) = counted(state, person.id, *span, at, None);
                if days.is_some_and(|d| used.len() >= d as usize) && !used.contains(&today) {
                    return Err(format!("plan_limit_days_{name}"));
                }
            }
            for (name, span, _, hours) in &periods {
                let (_, used) = counted(state, person.id, *span, at, None);
                if hours.is_some_and(|h| used >= i64::from(h) * HOUR) {
                    return Err(format!("plan_limit_hours_{name}"));
                }
            }
        }

        let asked = match directory.passes_asked {
            PassesAsked::Off => false,
            PassesAsked::Required => true,
            PassesAsked::IfAny => !directory.kinds.is_empty(),
        };
        if !asked {
            return Ok(Admitted { apart: false, pass: None, counts: false, plan });
        }

        let mut best: Option<(Choice, &Held, &Kind)> = None;
        let mut miss: Option<usize> = None;
        let mut good_at_a_door = false;
        for held in directory.held.iter().filter(|h| directory.may_use(person.id, h)) {
            let Some(kind) = directory.kind(held.kind) else { continue };
            match self.judge(state, person, (held, kind), business, at, network) {
                Ok(choice) if goes_on == Some(held.id) => {
                    best = Some((choice, held, kind));
                    break; // the same pass goes on
                }
                Ok(choice) => {
                    if best.as_ref().is_none_or(|(b, ..)| choice < *b) {
                        best = Some((choice, held, kind));
                    }
                }
                Err(how) => {
                    miss = miss.max(Some(how));
                    good_at_a_door |= network && self.judge(state, person, (held, kind), business, at, false).is_ok();
                }
            }
        }
        if let Some((_, held, kind)) = best {
            return Ok(Admitted {
                apart: false,
                pass: Some(PassRow { held: Some(held.id), kind: kind.id }),
                counts: kind.counts,
                plan,
            });
        }
        if good_at_a_door {
            return Err(MISSES[miss.expect("one was not valid")].to_string());
        }
        if settings.pay_as_you_go.is_some() {
            let kinds = directory.kinds.iter().filter(|k| {
                let flag = if person.tariff.is_some() { k.payg_members } else { k.payg_contacts };
                flag && !k.archived
                    && good_for(k, person)
                    && good_at(k, business)
                    && slot_end(k, settings, at).is_some()
                    && (!network || k.allow_network)
            });
            let minutes = |k: &Kind| i128::from(k.minutes.unwrap_or(1440).max(1));
            // a/m < b/n without fractions
            let cheapest = kinds.min_by(|a, b| {
                (i128::from(a.price) * minutes(b)).cmp(&(i128::from(b.price) * minutes(a))).then(a.id.cmp(&b.id))
            });
            if let Some(kind) = cheapest {
                let pass = Some(PassRow { held: None, kind: kind.id });
                return Ok(Admitted { apart: false, pass, counts: kind.counts, plan });
            }
        }
        Err(miss.map_or("no_valid_pass", |how| MISSES[how]).to_string())
    }

    /// The reason to refuse this person, whatever passes they hold.
    fn against(&self, person: i64, business: i64, at: i64, network: bool) -> Option<String> {
        let Some(person) = self.directory(at).person(person).filter(|p| !p.archived) else {
            return Some("coworker_archived".to_string());
        };
        if !person.active {
            return Some("coworker_inactive".to_string());
        }
        if !person.businesses.is_empty() && !person.businesses.contains(&business) {
            return Some("other_business".to_string());
        }
        (network && !person.allow_network).then(|| "network_not_allowed".to_string())
    }

    /// Whether this pass is valid, here and now: its place in the order of preference, or the first check that it fails
    /// (an index of `MISSES`).
    fn judge(
        &self,
        state: &State,
        person: &Person,
        (held, kind): (&Held, &Kind),
        business: i64,
        at: i64,
        network: bool,
    ) -> Result<Choice, usize> {
        let settings = self.settings(business, at);
        let today = pass_day(settings, at).date;
        let uses = used_days(state, held.id);
        let begun = kind.minutes.is_none() && uses.contains_key(&(person.id, today));
        let left = match kind.minutes {
            Some(_) => i64::from(held.left) * MINUTE - used_time(state, held, at, None),
            None => i64::from(held.left) - uses.values().filter(|began| **began >= held.basis_at).count() as i64,
        };
        let in_use = kind.minutes.is_some()
            && state.visits.iter().any(|v| v.to.is_none() && v.pass.as_ref().is_some_and(|p| p.held == Some(held.id)));
        let fails = [
            kind.archived,
            !good_for(kind, person),
            !good_at(kind, business),
            held.expires.is_some_and(|date| at >= end_of_pass_day(settings, date)),
            left <= 0 && !begun,
            slot_end(kind, settings, at).is_none(),
            network && !kind.allow_network,
            in_use,
        ];
        if let Some(how) = fails.iter().position(|f| *f) {
            return Err(how);
        }
        let locations = if kind.businesses.is_empty() { usize::MAX } else { kind.businesses.len() };
        let price = held.price.unwrap_or(kind.price);
        let shared = held.holder != person.id;
        Ok((!begun, kind.priority, kind.minutes.is_some(), price, !held.granted, locations, -left, shared, held.id))
    }

    /// The ends of the pass of an open visit: when it is used up, and by slots and expiry.
    fn reckon(&self, state: &State, i: usize, at: i64) -> (Option<i64>, Option<i64>) {
        let v = &state.visits[i];
        let (directory, settings) = (self.directory(at), self.settings(v.business, at));
        let Some(pass) = &v.pass else { return (None, None) };
        let held = pass.held.and_then(|id| directory.held.iter().find(|h| h.id == id));
        let kind = directory.kind(held.map_or(pass.kind, |h| h.kind));
        let mut used = Vec::new();
        let mut fixed = Vec::new();
        if let (Some(held), Some(Kind { minutes: Some(_), .. })) = (held, kind) {
            used.push(v.from + v.away + i64::from(held.left) * MINUTE - used_time(state, held, at, Some(i)));
        }
        if let Some(plan) = v.plan.as_ref().filter(|_| v.counts) {
            for (_, span, _, hours) in periods(plan, v.day.date, settings.week_starts_on) {
                let (_, others) = counted(state, v.person, span, at, Some(i));
                used.extend(hours.map(|h| v.from + v.away + i64::from(h) * HOUR - others));
            }
        }
        if let Some(kind) = kind {
            fixed.extend(slot_end(kind, settings, at).unwrap_or(Some(at)));
        }
        fixed.extend(held.and_then(|h| h.expires).map(|date| end_of_pass_day(settings, date)));
        (used.into_iter().min(), fixed.into_iter().min())
    }

    // -------------------------------------------------------------------------------------------- coming in

    /// Admits a person: a visit begins, or the block of the day continues. Returns the visit's number.
    fn begin(
        &self,
        state: &mut State,
        person: i64,
        business: i64,
        (from, at): (i64, i64),
        seen: Option<&Seen>,
        by: Admitted,
    ) -> usize {
        let begins = self.settings(business, at);
        let day = pass_day(begins, from);
        let directory = self.directory(at);
        let by_the_day = by
            .pass
            .as_ref()
            .is_none_or(|p| p.held.is_some() && directory.kind(p.kind).is_some_and(|k| k.minutes.is_none()));
        let block = state.latest(person).filter(|i| {
            let v = &state.visits[*i];
            by_the_day
                && !by.apart
                && !matches!(v.pinned, Some(EditEnd::At(_)))
                && !self.settings(business, at).record_every_visit
                && v.business == business
                && v.day.start <= at
                && at < v.day.end
                && v.pass == by.pass
                && v.counts == by.counts
        });
        let i = match block {
            Some(i) => {
                let v = &mut state.visits[i];
                let left = v.to.take().expect("the person was out");
                v.away += (from - left).max(0);
                v.auto_checkout = false;
                v.last_activity = v.last_activity.max(at);
                (v.exit, v.pass_ended, v.pass_ran_out, v.door_entry) = (None, None, false, None);
                (v.counts, v.plan, v.asked_at) = (by.counts, by.plan, at);
                i
            }
            None => {
                state.visits.push(Visit {
                    person,
                    business,
                    from,
                    to: None,
                    auto_checkout: false,
                    last_activity: at,
                    macs: BTreeSet::new(),
                    by_network: seen.is_some(),
                    pass: by.pass,
                    counts: by.counts,
                    plan: by.plan,
                    day,
                    away: 0,
                    strong: None,
                    door_entry: None,
                    end_used: None,
                    end_fixed: None,
                    exit: None,
                    lingering: 0,
                    pass_ended: None,
                    pass_ran_out: false,
                    asked_at: at,
                    pinned: None,
                    span_until: None,
                });
                state.visits.len() - 1
            }
        };
        match seen {
            Some(seen) => {
                state.visits[i].macs.insert(seen.mac);
                state.visits[i].strong = state.visits[i].strong.max(seen.strong_at);
            }
            None => state.visits[i].door_entry = Some(at),
        }
        let (used, fixed) = self.reckon(state, i, at);
        (state.visits[i].end_used, state.visits[i].end_fixed) = (used, fixed);
        i
    }

    /// There is evidence of the person after the pass ended, so they were present until then.
    fn bridge(&self, state: &mut State, person: i64, business: i64, begins: i64, at: i64) {
        let Some(i) = state.latest(person) else { return };
        let v = &state.visits[i];
        let Some(end) = v.pass_ended else { return };
        let limit = self.settings(business, at).idle_limit;
        if v.business == business && at < v.day.end && !self.silent(v, begins, limit) {
            state.visits[i].to = Some(end);
            state.visits[i].pass_ended = None;
        }
    }

    // -------------------------------------------------------------------------------------------- facts

    fn door(&self, state: &mut State, business: i64, at: i64, person: i64, action: Action, refused: bool) {
        if refused {
            return state.fail_door(person, business, at, "refused_denied");
        }
        if self.directory(at).person(person).is_none() {
            return;
        }
        if let Some(i) = state.in_span(person, at) {
            let v = &mut state.visits[i];
            if v.business == business {
                v.last_activity = v.last_activity.max(at);
                if matches!(action, Action::CheckIn | Action::Toggle) {
                    v.door_entry = Some(at);
                    state.let_in.push((person, business, at));
                }
            }
            return;
        }
        if self.absent(person, business, at) {
            return;
        }
        self.bridge(state, person, business, at, at);
        let open = state.open(person);
        let here = open.filter(|i| state.visits[*i].business == business);
        let action = if action == Action::Toggle { self.toggled(state, person, business, at) } else { action };
        match (action, here) {
            (Action::CheckOut, Some(i)) => state.visits[i].leave(at),
            (Action::CheckIn | Action::Activity, Some(i)) => {
                let v = &mut state.visits[i];
                v.last_activity = v.last_activity.max(at);
                if action == Action::CheckIn {
                    v.door_entry = Some(at);
                    state.let_in.push((person, business, at));
                }
            }
            (Action::CheckIn, None) => {
                // The person is here now and therefore no longer at the other site, whether admitted or not.
                let goes_on = open.and_then(|i| {
                    state.visits[i].close_seen(at);
                    state.visits[i].pass.as_ref().and_then(|p| p.held)
                });
                match self.ask(state, person, business, at, false, goes_on) {
                    Ok(by) => {
                        self.begin(state, person, business, (at, at), None, by);
                        state.let_in.push((person, business, at));
                    }
                    Err(code) => state.fail_door(person, business, at, &code),
                }
            }
            _ => {} // not checked in here
        }
    }

    /// The meaning of a tap at a toggle door, by the person's door events so far.
    fn toggled(&self, state: &mut State, person: i64, business: i64, at: i64) -> Action {
        let minimum = self.settings(business, at).toggle_minimum_stay;
        let in_here = state.open(person).is_some_and(|i| state.visits[i].business == business);
        if !in_here && state.absent_until.get(&(person, business)).is_some_and(|until| at < *until) {
            return Action::Activity;
        }
        let Some(i) = state.latest(person) else { return Action::CheckIn };
        let v = &state.visits[i];
        let limit = self.settings(business, v.last_activity).idle_limit;
        let without_pass = v.business == business && v.pass_ran_out && at < v.day.end && !self.silent(v, at, limit);
        match v.door_entry.filter(|_| in_here || without_pass) {
            None => Action::CheckIn,
            Some(entered) if at - entered < minimum => Action::Activity,
            Some(_) => {
                state.absent_until.insert((person, business), at + minimum);
                if !in_here {
                    state.visits[i].door_entry = None; // doors have said now that they left
                }
                Action::CheckOut
            }
        }
    }

    /// People who leave by a door at the very instant of the next fact: their exit precedes everything else at that
    /// instant.
    fn leaving(&self, state: &State, next: usize) -> Vec<i64> {
        let at = self.facts[next].at;
        let now = self.facts.iter().enumerate().skip(next).take_while(|(_, fact)| fact.at == at);
        let leaves = now.filter_map(|(n, fact)| match &fact.kind {
            FactKind::Door { person, action, refused: false, .. } if !self.repeated[n] => {
                let span_begins = |pin: &Pin| {
                    let empty = match pin.end {
                        EditEnd::At(until) | EditEnd::NotBefore(until) => until <= at,
                        EditEnd::Free | EditEnd::Joins => true,
                    };
                    pin.person == *person && pin.from == at && !empty
                };
                let inside = state.in_span(*person, at).is_some() || self.pins.iter().any(span_begins);
                if inside || self.absent(*person, fact.business, at) {
                    return None;
                }
                let open = state.open(*person).filter(|i| state.visits[*i].business == fact.business)?;
                let minimum = self.settings(fact.business, at).toggle_minimum_stay;
                let stayed = state.visits[open].door_entry.is_some_and(|entered| at - entered >= minimum);
                (*action == Action::CheckOut || *action == Action::Toggle && stayed).then_some(*person)
            }
            FactKind::Door { .. } | FactKind::Presence { .. } | FactKind::Edit { .. } => None,
        });
        leaves.collect()
    }

    fn presence(&self, state: &mut State, seen: &Seen) {
        if self.directory(seen.at).person(seen.person).is_none() {
            return;
        }
        if let Some(i) = state.in_span(seen.person, seen.at) {
            let v = &mut state.visits[i];
            if v.business == seen.business {
                v.last_activity = v.last_activity.max(seen.at);
                v.strong = v.strong.max(seen.strong_at);
                v.macs.insert(seen.mac);
            }
            return;
        }
        if self.absent(seen.person, seen.business, seen.at) {
            return;
        }
        if let Some(i) = state.latest_at(seen.person, seen.business).filter(|i| Some(*i) == state.latest(seen.person)) {
            if seen.strong_at.is_none() && !self.weak_refreshes(&state.visits[i], seen.at) {
                return;
            }
            if state.visits[i].to.is_none() {
                let v = &state.visits[i];
                if !self.silent(v, seen.first_at, self.settings(v.business, v.last_activity).idle_limit) {
                    return self.refresh(state, i, seen);
                }
                let last = state.visits[i].last_activity;
                state.visits[i].close(last);
            }
            if seen.strong_at.is_some() {
                self.bridge(state, seen.person, seen.business, seen.first_at, seen.at);
            }
        }
        self.network_opens(state, seen);
    }

    fn refresh(&self, state: &mut State, i: usize, seen: &Seen) {
        if seen.strong_at.is_some() && self.was_here_before(state, i, seen) {
            let v = &mut state.visits[i];
            v.end_used = v.end_used.map(|end| end - (v.from - seen.first_at));
            v.from = seen.first_at;
            v.by_network = true;
        }
        let v = &mut state.visits[i];
        v.last_activity = v.last_activity.max(seen.at);
        v.strong = v.strong.max(seen.strong_at);
        v.macs.insert(seen.mac);
        self.ended_meanwhile(state, i, seen);
    }

    /// The pass ended before this presence did: the person was present until then, and must be admitted again.
    fn ended_meanwhile(&self, state: &mut State, i: usize, seen: &Seen) {
        let v = &mut state.visits[i];
        if let Some(end) = v.pass_end().filter(|end| *end <= seen.at) {
            v.last_activity = v.last_activity.min(end);
            v.close(end);
            v.pass_ran_out = true;
            self.network_opens(state, seen);
        }
    }

    /// Whether the network saw the person before the door that opened this visit.
    fn was_here_before(&self, state: &State, i: usize, seen: &Seen) -> bool {
        let (v, settings) = (&state.visits[i], self.settings(seen.business, seen.at));
        let strong = seen.strong_at.unwrap_or(i64::MIN);
        let first_of_day = !state.visits[..i]
            .iter()
            .any(|o| o.person == v.person && o.business == v.business && o.day.start == v.day.start);
        let earlier = state.visits[..i].iter().filter(|o| o.person == v.person);
        let free = earlier.clone().all(|o| {
            let lingers = if o.business == v.business && o.exit.is_some() { settings.linger } else { 0 };
            seen.first_at > o.bound() + lingers
        });
        let free = free && seen.first_at > self.absent_before(v.person, seen.business, seen.at);
        if v.pinned.is_some() || v.by_network {
            return false;
        }
        if seen.first_at >= v.from || seen.first_at < v.day.start || !first_of_day || !free {
            return false;
        }
        if settings.network_opens != NetworkOpens::Always || strong - seen.since < settings.minimum_dwell {
            return false;
        }
        let mut without = state.clone();
        without.visits.remove(i);
        self.ask(&without, seen.person, seen.business, seen.at, true, None).is_ok()
    }

    /// Rules 3, 4 and 8: evidence of a person who is not in here.
    fn network_opens(&self, state: &mut State, seen: &Seen) {
        let Seen { person, business, at, first_at, .. } = *seen;
        let Some(strong) = seen.strong_at else { return };
        let settings = self.settings(business, at);
        let day = pass_day(settings, at);

        let mut bound = i64::MIN;
        let mut just_left = false;
        if let Some(v) = state.latest_at(person, business).map(|i| &mut state.visits[i]) {
            if let Some(exit) = v.exit {
                just_left = first_at <= v.lingering + settings.linger;
                if just_left && at <= exit + settings.idle_limit {
                    v.lingering = v.lingering.max(at);
                    return;
                }
            }
            bound = v.bound();
        }
        let elsewhere = state.open(person);
        let heard_there =
            |v: &Visit| first_at <= v.last_activity + self.settings(v.business, v.last_activity).idle_limit;
        if elsewhere.is_some_and(|i| heard_there(&state.visits[i])) {
            return;
        }
        bound = bound.max(state.latest(person).map_or(i64::MIN, |i| state.visits[i].bound()));
        // Evidence that opened nothing because the person was in elsewhere does not date the visit either.
        if let Some(v) = elsewhere.map(|i| &state.visits[i]) {
            bound = bound.max(v.last_activity + self.settings(v.business, v.last_activity).idle_limit);
        }

        bound = bound.max(self.absent_before(person, business, at));

        let first = [seen.since, first_at].into_iter().find(|t| *t >= day.start && *t > bound);
        let from = first.filter(|_| !just_left).unwrap_or(strong);
        if from < day.start || from < bound {
            return;
        }
        if let Some(code) = self.against(person, business, at, true) {
            self.fail_network(state, seen, code, day.start);
            return;
        }
        match settings.network_opens {
            NetworkOpens::Never => return,
            NetworkOpens::AfterDoor => {
                let let_in =
                    |(p, b, t): &(i64, i64, i64)| *p == person && *b == business && day.start <= *t && *t < day.end;
                if !state.let_in.iter().any(let_in) {
                    return;
                }
            }
            NetworkOpens::Always => {}
        }
        if strong - seen.since < settings.minimum_dwell {
            return;
        }
        let mut then = state.clone();
        let mut goes_on = None;
        if let Some(v) = elsewhere.map(|i| &mut then.visits[i]) {
            v.close_seen(from);
            goes_on = v.pass.as_ref().and_then(|p| p.held);
        }
        match self.ask(&then, person, business, at, true, goes_on) {
            Ok(by) => {
                *state = then;
                let i = self.begin(state, person, business, (from, at), Some(seen), by);
                self.ended_meanwhile(state, i, seen);
            }
            Err(code) => {
                self.fail_network(state, seen, code, day.start);
            }
        }
    }

    /// Adds a network failure: one for each device, reason and pass day.
    fn fail_network(&self, state: &mut State, seen: &Seen, code: String, day: i64) {
        let Seen { person, business, at, .. } = *seen;
        if state.network_failed.insert((person, seen.mac, code.clone(), business, day)) {
            state.failures.push(FailureRow { person, business, at, code, by_network: true });
        }
    }

    /// The effect of a new directory on people who are in.
    fn new_directory(&self, state: &mut State, at: i64) {
        let directory = self.directory(at);
        for i in 0..state.visits.len() {
            let v = &state.visits[i];
            if v.to.is_some() || v.span_until.is_some() {
                continue;
            }
            let stays = directory.person(v.person).is_some_and(|p| {
                p.active && !p.archived && (p.businesses.is_empty() || p.businesses.contains(&v.business))
            });
            if !stays {
                state.visits[i].close_seen(at);
                continue;
            }
            let asked = directory.passes_asked != PassesAsked::IfAny || !directory.kinds.is_empty();
            let Some(pass) = &v.pass else { continue };
            if !asked {
                state.visits[i].end_used = None;
                state.visits[i].end_fixed = None;
                continue;
            }
            let held = pass.held.map(|id| directory.held.iter().find(|h| h.id == id && directory.may_use(v.person, h)));
            let kind = match held {
                Some(held) => held.and_then(|h| directory.kind(h.kind)),
                None => directory.kind(pass.kind),
            };
            let person = directory.person(v.person).expect("they stay");
            let charged = self.settings(v.business, at).pay_as_you_go.is_some();
            let as_agreed = pass.held.is_none() && !charged;
            let offered = |k: &Kind| {
                pass.held.is_some() || if person.tariff.is_some() { k.payg_members } else { k.payg_contacts }
            };
            let gone = kind.is_none_or(|k| {
                k.archived
                    || !as_agreed
                        && (!good_at(k, v.business)
                            || !good_for(k, person)
                            || v.by_network && !k.allow_network
                            || !offered(k))
            });
            if as_agreed && !gone {
                continue;
            }
            let (used, fixed) = if gone { (None, Some(at)) } else { self.reckon(state, i, at) };
            // A pass that was valid until now stays.
            state.visits[i].end_used = used.map(|t| t.max(at));
            state.visits[i].end_fixed = fixed.map(|t| t.max(at));
        }
    }

    // -------------------------------------------------------------------------------------------- timers

    /// Runs all timers up to and including this instant. `next` is the first fact that has not been folded yet.
    fn timers(&self, state: &mut State, until: i64, next: usize) {
        self.timers_but(state, until, next, &[]);
    }

    /// The same, except for timers at this very instant of people who leave at it.
    fn timers_but(&self, state: &mut State, until: i64, next: usize, leaving: &[i64]) {
        loop {
            let mut due: Vec<(i64, Timer, i64, usize)> = Vec::new();
            for (i, v) in state.visits.iter().enumerate().filter(|(_, v)| v.to.is_none()) {
                due.push((v.day.end, Timer::CutOff, v.person, i));
                if let Some(until) = v.span_until {
                    let closes = matches!(v.pinned, Some(EditEnd::At(_)));
                    due.push((until, if closes { Timer::PinnedEnd } else { Timer::SpanEnds }, v.person, i));
                    continue;
                }
                due.extend(v.pass_end().map(|t| (t, Timer::PassEnds, v.person, i)));
                if v.tracked() {
                    let silence = self.silence_at(v).filter(|t| *t <= until && !self.seen_in_time(v, next));
                    due.extend(silence.map(|t| (t, Timer::Silence, v.person, i)));
                }
            }
            let absences = self.absences.iter().enumerate().filter(|(i, _)| !state.absences_begun.contains(i));
            due.extend(absences.map(|(i, a)| (a.from, Timer::AbsenceBegins, a.person, i)));
            let pins = self.pins.iter().enumerate().filter(|(i, _)| !state.pins_begun.contains(i));
            due.extend(pins.map(|(i, pin)| (pin.from, Timer::PinnedVisitBegins, pin.person, i)));
            due.retain(|d| d.0 < until || d.0 == until && !leaving.contains(&d.2));
            let Some((at, what, person, i)) = due.into_iter().min() else { return };
            match what {
                Timer::CutOff => state.visits[i].close_seen(at),
                Timer::PassEnds => self.pass_ends(state, i, at),
                Timer::Silence => {
                    let last = state.visits[i].last_activity;
                    state.visits[i].close(last);
                }
                Timer::PinnedEnd => state.visits[i].leave(at),
                Timer::SpanEnds => {
                    let v = &mut state.visits[i];
                    v.last_activity = v.last_activity.max(at);
                    v.span_until = None;
                }
                Timer::AbsenceBegins => {
                    let absence = i;
                    state.absences_begun.insert(absence);
                    let open = state.open(person).map(|i| &mut state.visits[i]);
                    let place = self.absences[absence].business;
                    if let Some(v) = open.filter(|v| v.span_until.is_none() && v.business == place) {
                        v.close_seen(at);
                    }
                }
                Timer::PinnedVisitBegins => {
                    state.pins_begun.insert(i);
                    self.pinned_begins(state, self.pins[i]);
                }
            }
        }
    }

    fn pass_ends(&self, state: &mut State, i: usize, at: i64) {
        let v = &mut state.visits[i];
        v.pass_ran_out = true;
        if v.tracked() {
            v.close_seen(at);
            v.pass_ended = Some(at);
            return;
        }
        // There was no exit: the person continues by another pass, or the front desk gets a failed check-in.
        v.close(at);
        let (person, business, entered, by_network) = (v.person, v.business, v.door_entry, v.by_network);
        match self.ask(state, person, business, at, by_network, None) {
            Ok(by) => {
                // A separate visit, even by the same pass, if a cut-off was moved meanwhile.
                let new = self.begin(state, person, business, (at, at), None, Admitted { apart: true, ..by });
                (state.visits[new].door_entry, state.visits[new].by_network) = (entered, by_network);
            }
            Err(code) => state.fail_door(person, business, at, &code),
        }
    }

    /// A pinned visit begins, whatever is open and whatever admission says.
    fn pinned_begins(&self, state: &mut State, pin: Pin) {
        let Pin { person, business, from, end, by_network } = pin;
        if end == EditEnd::Joins
            && let Some(i) = state.open(person).filter(|i| state.visits[*i].business == business)
        {
            let v = &mut state.visits[i];
            v.last_activity = v.last_activity.max(from);
            return;
        }
        let mut goes_on = None;
        if let Some(v) = state.open(person).map(|i| &mut state.visits[i]) {
            v.close_seen(from);
            goes_on = v.pass.as_ref().and_then(|p| p.held).filter(|_| v.business != business);
        }
        let refused = Admitted { apart: true, pass: None, counts: false, plan: None };
        let by = self.ask(state, person, business, from, by_network, goes_on).unwrap_or(refused);
        let i = self.begin(state, person, business, (from, from), None, Admitted { apart: true, ..by });
        let v = &mut state.visits[i];
        (v.by_network, v.door_entry, v.pinned) = (by_network, None, Some(end));
        v.span_until = match end {
            EditEnd::At(until) | EditEnd::NotBefore(until) => Some(until),
            EditEnd::Free | EditEnd::Joins => None,
        };
        if !by_network {
            state.let_in.push((person, business, from));
        }
    }

    // -------------------------------------------------------------------------------------------- money

    fn charges(&self, state: &State) -> Vec<ChargeRow> {
        let mut days: BTreeMap<(i64, i64, i64), Vec<&Visit>> = BTreeMap::new();
        for v in state.visits.iter().filter(|v| v.pass.as_ref().is_some_and(|p| p.held.is_none())) {
            days.entry((v.person, v.business, v.day.start)).or_default().push(v);
        }
        let mut rows = Vec::new();
        for ((person, business, _), mut visits) in days {
            visits.sort_by_key(|v| v.from);
            let (mut sum, mut charged) = (0, 0);
            let mut paid_kinds = BTreeSet::new();
            for v in visits {
                let id = v.pass.as_ref().map_or(0, |p| p.kind);
                let kinds = [v.from, v.asked_at].map(|t| self.directory(t).kind(id));
                let prices = [v.from, v.asked_at].map(|t| self.settings(business, t).pay_as_you_go.as_ref());
                let (Some(kind), Some(payg)) = (kinds[0].or(kinds[1]), prices[0].or(prices[1])) else { continue };
                let step = payg.step_minutes.max(1);
                let stay = v.to.map_or(0, |to| to - v.from);
                let steps = ((stay + step * MINUTE - 1) / (step * MINUTE)).max(1);
                let minutes = steps * step;
                sum += match kind.minutes {
                    // Ten-thousandths of the unit are hundredths of the minor unit.
                    Some(m) => round_up(i128::from(kind.price) * i128::from(minutes), i128::from(m.max(1)) * 100),
                    None if paid_kinds.insert(id) => round_up(i128::from(kind.price), 100),
                    None => 0,
                };
                let bounded = sum.max(payg.minimum).min(payg.maximum.unwrap_or(i64::MAX));
                let amount = (bounded - charged).max(0); // nothing is given back
                charged += amount;
                rows.push(ChargeRow { person, business, from: v.from, minutes, amount, is_final: v.to.is_some() });
            }
        }
        rows
    }
}

fn round_up(amount: i128, by: i128) -> i64 {
    i64::try_from((amount + by - 1).div_euclid(by)).expect("an amount of money that fits")
}

// ------------------------------------------------------------------------------------------------ the fold

/// The pass day of an instant at a business: its beginning and its end.
pub(super) fn day_around(scenario: &Scenario, business: i64, at: i64) -> (i64, i64) {
    let day = pass_day(World::new(scenario).settings(business, at), at);
    (day.start, day.end)
}

pub(super) fn records(scenario: &Scenario) -> Records {
    let world = World::new(scenario);
    let mut state = State::default();
    // The first directory is in force from the beginning, so it is not an event.
    let mut versions = world.directories.iter().skip(1).map(|d| d.from).filter(|from| *from <= world.now).peekable();
    for (n, fact) in world.facts.iter().enumerate() {
        while let Some(at) = versions.next_if(|from| *from <= fact.at) {
            world.timers(&mut state, at, n);
            world.new_directory(&mut state, at);
        }
        world.timers(&mut state, fact.at - 1, n);
        let leaving = world.leaving(&state, n);
        world.timers_but(&mut state, fact.at, n, &leaving);
        match &fact.kind {
            FactKind::Door { person, action, refused, .. } => {
                if !world.repeated[n] {
                    world.door(&mut state, fact.business, fact.at, *person, *action, *refused);
                }
            }
            FactKind::Presence { person, mac, since, first_at, strong_at } => {
                let seen = Seen {
                    person: *person,
                    business: fact.business,
                    at: fact.at,
                    mac: *mac,
                    since: *since,
                    first_at: *first_at,
                    strong_at: *strong_at,
                };
                world.presence(&mut state, &seen);
            }
            FactKind::Edit { .. } => {} // they are not among these facts
        }
    }
    for at in versions {
        world.timers(&mut state, at, world.facts.len());
        world.new_directory(&mut state, at);
    }
    world.timers(&mut state, world.now, world.facts.len());

    let mut charges = world.charges(&state);
    let mut failures = state.failures;
    let mut visits: Vec<VisitRow> = state
        .visits
        .into_iter()
        .map(|v| VisitRow {
            person: v.person,
            business: v.business,
            from: v.from,
            to: v.to,
            auto_checkout: v.auto_checkout,
            last_activity: v.last_activity,
            macs: v.macs,
            by_network: v.by_network,
            pass: v.pass,
        })
        .collect();
    visits.sort();
    failures.sort();
    charges.sort();
    Records { visits, failures, charges }
}

// ------------------------------------------------------------------------------------------------ tests
