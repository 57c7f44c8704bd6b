//! PURE. The one path by which records come to be: people as they were, and facts since then, to people as they are and
//! every record on the way.
//!
//! People who may use the same passes are folded together, because what one of them does decides whether the next may come
//! in. Mostly that is one person. Records are collected by their identities; what of them is new or different is for the
//! caller to find out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::NaiveDate;
use uuid::Uuid;

use super::{
    Admission, Claim, Decision, DoorClaim,
    admission::{self, DoorVerdict, SiteAdmission},
    coverage::Coverage,
    decision::{Note, Outcome, Reason},
    identity,
    life::CloseBy,
    passes::{self, Counted, PassKind, PassUse, PlanUsed, Refused, Spent, Usage, Used, payg},
    person::{AfterPass, ChargedDay, ClaimContext, EndedVisit, PersonState, RefusedDevice, Visit},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, FactDigest, FactOrder, FactRank, LogDay, Point, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId, Snapshot, TimePassId},
    },
    directory::{Directory, history::DirectoryHistory},
    policy::{PolicyHistory, Rules, SitePolicy, door::Door},
};

/// What facts are judged by.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// Who is who, and was.
    pub directories: &'a DirectoryHistory,
    /// What sites decide by, and did.
    pub policies: &'a PolicyHistory,
    /// When the captures of each business could hear.
    pub coverage: &'a BTreeMap<BusinessId, Coverage>,
    /// The time.
    pub now: WallTime,
    /// Silence before this is over: what was heard by then has been handed over.
    pub quiet_until: WallTime,
}

impl World<'_> {
    fn directory(&self, at: WallTime) -> &Directory {
        self.directories.at(at)
    }

    fn policy(&self, business: BusinessId, at: WallTime) -> Option<&Arc<SitePolicy>> {
        self.policies.at(business, at)
    }

    fn coverage(&self, business: BusinessId) -> &Coverage {
        static DEAF: Coverage = Coverage::deaf();
        self.coverage.get(&business).unwrap_or(&DEAF)
    }
}

/// One fact, or one point of a presence, in the order of time.
#[derive(Clone, Copy, Debug)]
pub struct FoldItem<'a> {
    /// Its place.
    pub place: FactOrder,
    /// Whose it is.
    pub subject: Subject,
    /// Where.
    pub business: BusinessId,
    /// What.
    pub what: What<'a>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// At a door.
    Door(&'a DoorFact),
    /// On the network.
    Heard(MacAddr, Point),
}

impl<'a> FoldItem<'a> {
    /// A door's.
    pub const fn door(fact: &'a DoorFact) -> Self {
        Self { place: fact.place(), subject: fact.subject, business: fact.business, what: What::Door(fact) }
    }

    /// A device's.
    pub fn heard(subject: Subject, business: BusinessId, mac: MacAddr, point: Point) -> Self {
        Self { place: point.place(business, mac), subject, business, what: What::Heard(mac, point) }
    }

    /// Silence ends with the first evidence, although it is decided at the last.
    pub const fn heard_at(&self) -> WallTime {
        match &self.what {
            What::Door(fact) => fact.at,
            What::Heard(_, point) => point.first_at,
        }
    }

    /// Does it come after something that has been decided already?
    pub fn is_late(&self, person: &PersonState) -> bool {
        let silent = person.silent_at.filter(|(business, _)| *business == self.business);
        // An exit in the very instant in which the visit ended by itself was in time.
        let ended_now = |visit: &Visit| visit.auto_checkout && visit.ends_at_last().0 == self.place.at;
        self.place <= person.folded
            || self.place.ties_with(&person.folded)
            || silent.is_some_and(|(_, silent)| self.heard_at() <= silent)
            || matches!(self.what, What::Door(_)) && person.visits.iter().any(ended_now)
    }
}

/// Who is folded together, as they were before the first of the items.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The people, and the credentials that belong to no one.
    pub people: BTreeMap<Subject, PersonState>,
    /// What others who are not folded have used of passes that these may use.
    pub others: BTreeMap<Uuid, Vec<Used>>,
    /// The last total towards a plan before the window of each limit, where it is final and no state has it any more.
    pub totals: BTreeMap<(CoworkerId, NaiveDate), Counted>,
}

/// What was true when a visit was opened; later edits never change it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Name, teams and plan.
    pub then: Snapshot,
    /// The location's name.
    pub business_name: Option<String>,
}

/// A check-in as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VisitRecord {
    /// Who.
    pub coworker: CoworkerId,
    /// What.
    pub visit: Visit,
    /// What was true when it was opened, if that was in this fold.
    pub opened: Option<Opened>,
}

/// A failed check-in as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureRecord {
    /// Its identity.
    pub unique_id: Uuid,
    /// Who, if somebody was recognised.
    pub coworker: Option<CoworkerId>,
    /// What was true then.
    pub then: Opened,
    /// Where.
    pub business: BusinessId,
    /// When.
    pub attempt_at: WallTime,
    /// By what.
    pub source: CheckinSource,
    /// The device.
    pub mac: Option<MacAddr>,
    /// Why.
    pub refused: Refused,
}

/// A charge as it is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeRecord {
    /// The identity of the check-in.
    pub checkin: Uuid,
    /// Who.
    pub coworker: CoworkerId,
    /// Where.
    pub business: BusinessId,
    /// By which kind of pass.
    pub time_pass: TimePassId,
    /// The beginning of the pass day.
    pub pass_day: WallTime,
    /// From when.
    pub from: WallTime,
    /// Until when; none while the check-in is open: then the charge is provisional.
    pub to: Option<WallTime>,
    /// How much.
    pub charge: payg::Charge,
}

/// A version of the directory has changed how long the pass of an open visit lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repassed {
    /// Which visit.
    pub visit: Uuid,
    /// When the version came into force.
    pub at: WallTime,
    /// What the visit used before.
    pub before: Option<PassUse>,
    /// What it uses now.
    pub now: PassUse,
}

/// What a fold came to.
#[derive(Debug, Default)]
pub struct Folded {
    /// Everybody as they are now.
    pub people: BTreeMap<Subject, PersonState>,
    /// People as they were before the first event of a day.
    pub checkpoints: Vec<(Subject, LogDay, PersonState)>,
    /// Every check-in that was open, opened or changed.
    pub visits: BTreeMap<Uuid, VisitRecord>,
    /// Every failed check-in.
    pub failures: BTreeMap<Uuid, FailureRecord>,
    /// Every charge.
    pub charges: BTreeMap<Uuid, ChargeRecord>,
    /// Totals towards plan limits, up to the end of each day whose total changed.
    pub counted: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    /// What became of each item, in their order.
    pub decisions: Vec<Decision>,
    /// Visits that ended by themselves.
    pub ended: Vec<(Subject, EndedVisit)>,
    /// Open visits whose pass lasts longer, or less long, since a version of the directory.
    pub repassed: Vec<Repassed>,
}

/// Folds the items, which come in the order of their places, and the timers between them and up to now.
pub fn fold(world: World<'_>, group: Group, items: &[FoldItem<'_>]) -> Folded {
    let upcoming = Upcoming::of(items);
    let since = group.people.values().map(|person| person.folded.at).min();
    let mut versions = world.directories.between(since, world.now).into_iter().peekable();
    let mut folding = Folding::of(world, group, upcoming);
    let mut decisions: Vec<Option<Decision>> = vec![None; items.len()];
    let mut order: Vec<usize> = (0..items.len()).collect();
    for step in 0..items.len() {
        let at = items[order[step]].place.at;
        while let Some(version) = versions.next_if(|version| *version <= at) {
            folding.run_timers(version, &BTreeSet::new());
            folding.new_directory(version);
        }
        let leaving = folding.leaving(order[step..].iter().map(|index| &items[*index]), at);
        folding.run_timers(at, &leaving);
        let next = folding.next_of_tied(items, &order[step..]);
        order[step..=step + next].rotate_right(1);
        let index = order[step];
        let item = &items[index];
        decisions[index] = Some(folding.decide(index, item));
    }
    folding.folded.decisions = decisions.into_iter().flatten().collect();
    for version in versions {
        folding.run_timers(version, &BTreeSet::new());
        folding.new_directory(version);
    }
    folding.run_timers(world.now, &BTreeSet::new());
    folding.finish()
}

/// Would somebody be let in, by which pass? And what was charged them in the pass day so far.
pub fn ask(
    world: World<'_>,
    group: Group,
    coworker: CoworkerId,
    business: BusinessId,
    (at, by): (WallTime, CheckinSource),
) -> (Admission, payg::Charged) {
    let mut folding = Folding::of(world, group, Upcoming::default());
    folding.run_timers(at, &BTreeSet::new());
    let subject = Subject::coworker(coworker);
    let mut person = folding.folded.people.remove(&subject).unwrap_or_default();
    let refused = Admission::Refused(Refused { reason: Reason::CoworkerArchived, detail: None });
    let idle = person.open().map_or(std::time::Duration::ZERO, |open| idle_limit(&world, open));
    let admission = match person.come_from_elsewhere(business, at, by, idle) {
        Ok(continued) => folding.at_gate(subject, business, at, |_, gate| {
            gate.map_or(refused, |gate| gate.entitled((at, at), by, &person, continued))
        }),
        Err(note) => Admission::Held(note),
    };
    let mut charged = person.charged.clone();
    for visit in &person.visits {
        if let Some(charge) = folding.charge(coworker, visit, &charged) {
            add_charge(&mut charged, &charge);
        }
    }
    let day = world.policy(business, at).map(|policy| policy.calendar().pass_day(at).start);
    let of_day = charged.into_iter().find(|known| known.business == business && Some(known.day) == day);
    (admission, of_day.map(|known| known.charged).unwrap_or_default())
}

/// What a failed check-in tells the front desk besides its reason: the door by its name; one that the settings do not know by its
/// key, as it must be written there.
fn at_which_door(fact: &DoorFact, policy: &SitePolicy, reason: Reason, more: Option<&str>) -> String {
    let key = &fact.door.0;
    let known = Door::of(&policy.doors, key);
    let door = match known {
        _ if reason == Reason::DoorNotConfigured => {
            format!("match = \"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Some(door) if !door.pattern.contains('*') => format!("at {}", door.name),
        // One entry of the settings that means many doors does not say which.
        Some(door) if door.name != door.pattern => format!("at {}, {key}", door.name),
        Some(_) | None => format!("at {key}"),
    };
    more.map_or_else(|| door.clone(), |more| format!("{more}; {door}"))
}

/// When a person's open visit ends, if nothing more is heard: never later than it really does.
pub fn deadline(person: &PersonState, world: &World<'_>) -> Option<(BusinessId, WallTime)> {
    let open = person.open()?;
    let (last, _) = open.ends_at_last();
    let silence = open.is_tracked().then(|| {
        let coverage = world.coverage(open.business);
        let limit = idle_limit(world, open);
        let known = coverage.run_out(open.last_activity, limit).map(|at| at.moved(1));
        // Covered since the last frame and from now on, it would be then; where it is deaf, it is looked at again in a while.
        let left = limit.saturating_sub(coverage.at_most_since(open.last_activity)).max(SOONEST);
        known.filter(|known| *known >= world.quiet_until).unwrap_or_else(|| world.now.plus(left).moved(1))
    });
    Some((open.business, silence.map_or(last, |silence| silence.min(last))))
}

/// The first silence that is known only now, although something that comes after it has been decided: with somebody in who
/// was out, a pass that others may use was not free.
pub fn silence_behind<'p>(people: impl IntoIterator<Item = &'p PersonState>, world: &World<'_>) -> Option<WallTime> {
    let people: Vec<&PersonState> = people.into_iter().collect();
    let decided = people.iter().map(|person| person.folded.at).max()?;
    let silence = |open: &Visit| {
        let limit = idle_limit(world, open);
        match world.coverage.get(&open.business) {
            Some(coverage) => coverage.run_out(open.last_activity, limit),
            // It may be as early as this.
            None => Some(open.last_activity.plus(limit)),
        }
    };
    let open = people.iter().filter_map(|person| person.open()).filter(|open| open.is_tracked());
    open.filter_map(silence).filter(|at| *at <= decided && *at < world.quiet_until).min()
}

/// How soon a silence that cannot be known yet is looked at again.
const SOONEST: std::time::Duration = std::time::Duration::from_secs(1);

fn idle_limit(world: &World<'_>, visit: &Visit) -> std::time::Duration {
    world.policy(visit.business, visit.last_activity).map_or(std::time::Duration::MAX, |policy| policy.site.idle_limit)
}

/// The first evidence of each at each business that is still to come, at every point of the fold.
#[derive(Debug, Default)]
struct Upcoming {
    /// By item: the earliest evidence of that item and all later ones, last item first.
    heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>>,
}

impl Upcoming {
    fn of(items: &[FoldItem<'_>]) -> Self {
        let mut heard: BTreeMap<(Subject, BusinessId), Vec<(usize, WallTime)>> = BTreeMap::new();
        for (index, item) in items.iter().enumerate().rev() {
            let of = heard.entry((item.subject, item.business)).or_default();
            let earliest = of.last().map_or(item.heard_at(), |(_, later)| item.heard_at().min(*later));
            of.push((index, earliest));
        }
        Self { heard }
    }

    fn next(&self, subject: Subject, business: BusinessId) -> Option<WallTime> {
        self.heard.get(&(subject, business)).and_then(|of| of.last()).map(|(_, at)| *at)
    }

    fn passed(&mut self, item: &FoldItem<'_>, index: usize) {
        if let Some(of) = self.heard.get_mut(&(item.subject, item.business)) {
            while of.last().is_some_and(|(known, _)| *known <= index) {
                of.pop();
            }
        }
    }
}

struct Folding<'w> {
    world: World<'w>,
    others: BTreeMap<Uuid, Vec<Used>>,
    /// Totals towards plan limits: what is known of them, and what the fold has changed.
    totals: BTreeMap<(CoworkerId, NaiveDate), Counted>,
    folded: Folded,
    upcoming: Upcoming,
}

impl<'w> Folding<'w> {
    fn of(world: World<'w>, group: Group, upcoming: Upcoming) -> Self {
        let Group { people, others, mut totals } = group;
        for (coworker, person) in people.iter().filter_map(|(subject, person)| Some((subject.as_coworker()?, person))) {
            totals.extend(person.counted.days().iter().map(|(date, total)| ((coworker, *date), *total)));
        }
        let folded = Folded { people, ..Folded::default() };
        Self { world, others, totals, folded, upcoming }
    }

    /// Who leaves by a door in this instant, in which their visit may end by itself: that is in time, and
    /// controllers whose clocks show minutes only say it of everybody who leaves in the last one.
    fn leaving<'i>(&mut self, rest: impl Iterator<Item = &'i FoldItem<'i>>, at: WallTime) -> BTreeSet<Subject> {
        let mut leaving = BTreeSet::new();
        for item in rest.take_while(|item| item.place.at == at) {
            let What::Door(fact) = item.what else { continue };
            let open = self.folded.people.get(&item.subject).and_then(PersonState::open);
            if open.is_none_or(|open| open.ends_at_last().0 > at) {
                continue;
            }
            let Some(policy) = self.world.policy(item.business, at).map(Arc::clone) else { continue };
            let DoorVerdict::Claim(action) = admission::judge_door(fact, &policy) else { continue };
            self.run_timers(at.moved(-1), &BTreeSet::new());
            let person = self.folded.people.get(&item.subject);
            if person.is_some_and(|person| person.would_leave(item.business, action, (fact.tap(), at), &policy.rules()))
            {
                leaving.insert(item.subject);
            }
        }
        leaving
    }

    /// Ends what runs out by itself up to an instant, the earliest first; who leaves in that instant has done so before.
    fn run_timers(&mut self, until: WallTime, leaving: &BTreeSet<Subject>) {
        while let Some((at, subject, by)) = self.next_timer(until, leaving).filter(|(at, ..)| *at <= until) {
            let Some(mut person) = self.take(subject, at) else { return };
            let Some(open) = person.open().cloned() else { return };
            let ended = self.at_gate(subject, open.business, at, |context, _| {
                // Of a business whose settings are not known, no one can say whether they may stay.
                person.end(context, by, at)
            });
            if let Some(ended) = ended {
                self.note_ended(subject, &person, ended);
            }
            self.put(subject, person, FactOrder::before(at));
        }
    }

    /// The timer that runs out first, where all that run out up to an instant are asked for.
    fn next_timer(&self, until: WallTime, leaving: &BTreeSet<Subject>) -> Option<(WallTime, Subject, CloseBy)> {
        let timer = |(subject, person): (&Subject, &PersonState)| {
            let open = person.open()?;
            let (last, by) = open.ends_at_last();
            let is_quiet = |at: WallTime| match self.upcoming.next(*subject, open.business) {
                Some(heard) => at < heard,
                // Where the visit ends anyway there is nothing to wait for: what is heard after all is late.
                None => at < self.world.quiet_until || last <= until,
            };
            let silence = open
                .is_tracked()
                .then(|| self.world.coverage(open.business).run_out(open.last_activity, idle_limit(&self.world, open)))
                .flatten()
                .filter(|at| *at < last && is_quiet(*at));
            Some(silence.map_or((last, *subject, by), |at| (at, *subject, CloseBy::Silence)))
        };
        let in_time = |(at, subject, _): &(WallTime, Subject, CloseBy)| *at == until && leaving.contains(subject);
        let timers = self.folded.people.iter().filter_map(timer).filter(|timer| !in_time(timer));
        timers.min_by_key(|(at, subject, _)| (*at, *subject))
    }

    /// A version of the directory comes into force: who may no longer be in is out, and passes last as long as they do now.
    fn new_directory(&mut self, at: WallTime) {
        let place = FactOrder { rank: FactRank::Directory, ..FactOrder::before(at) };
        let is_in = |(subject, person): (&Subject, &PersonState)| {
            person.open().filter(|open| place > person.folded && open.from < at).map(|open| (*subject, open.clone()))
        };
        let open: Vec<(Subject, Visit)> = self.folded.people.iter().filter_map(is_in).collect();
        for (subject, open) in open {
            let Some(mut person) = self.take(subject, at) else { continue };
            let (mut ended, mut repassed) = (None, None);
            self.at_gate(subject, open.business, at, |context, gate| {
                let (Some(context), Some(gate)) = (context, gate) else { return };
                if gate.barrier().is_some() {
                    let (decision, _) = person.decide(context, &Claim::Withdrawn { at }, FactDigest([0; 16]));
                    ended = (decision.outcome == Outcome::Closed).then_some(EndedVisit {
                        visit: open.unique_id,
                        business: open.business,
                        at,
                        by: CloseBy::Withdrawn,
                        after_pass: None,
                    });
                } else if let Some(pass) = gate.lasts(&open, &person, at)
                    && let Some(visit) = person.visits.iter_mut().find(|visit| visit.is_open())
                {
                    let before = visit.pass.replace(pass.clone());
                    repassed = Some(Repassed { visit: visit.unique_id, at, before, now: pass });
                }
            });
            self.folded.repassed.extend(repassed);
            if let Some(ended) = ended {
                self.note_ended(subject, &person, ended);
            }
            self.put(subject, person, place);
        }
    }

    /// Which of these is decided next: the first, or of those that it ties with the first that changes where the person stands.
    /// A clock that shows minutes only says "in" and "out" at once: for somebody who is out it was in, then out.
    fn next_of_tied(&self, items: &[FoldItem<'_>], order: &[usize]) -> usize {
        let first = &items[order[0]];
        let ties = |item: &FoldItem<'_>| item.place.ties_with(&first.place);
        if !order.get(1).is_some_and(|index| ties(&items[*index])) {
            return 0;
        }
        let open = self.folded.people.get(&first.subject).and_then(PersonState::open);
        let changes = |item: &FoldItem<'_>| {
            let (What::Door(fact), Some(policy)) = (item.what, self.world.policy(item.business, item.place.at)) else {
                return false;
            };
            let is_in = open.is_some_and(|open| open.business == item.business);
            let wanted = if is_in { DoorClaim::Exit } else { DoorClaim::Entry };
            item.subject == first.subject && admission::judge_door(fact, policy) == DoorVerdict::Claim(wanted)
        };
        let alike = order.iter().map(|index| &items[*index]).take_while(|item| ties(item));
        alike.enumerate().find(|(_, item)| changes(item)).map_or(0, |(next, _)| next)
    }

    fn decide(&mut self, index: usize, item: &FoldItem<'_>) -> Decision {
        let Some(mut person) = self.take(item.subject, item.place.at) else {
            return Decision::recorded(Note::NamesNobody);
        };
        self.upcoming.passed(item, index);
        let decision = match self.world.policy(item.business, item.place.at) {
            None => Decision::recorded(Note::Late),
            Some(policy) => {
                let (policy, rules) = (Arc::clone(policy), policy.rules());
                match item.what {
                    What::Door(fact) => self.at_door(fact, &policy, &rules, &mut person),
                    What::Heard(mac, point) => self.heard(item, mac, point, &rules, &mut person),
                }
            }
        };
        self.put(item.subject, person, item.place);
        decision
    }

    fn at_door(&mut self, fact: &DoorFact, policy: &SitePolicy, rules: &Rules, person: &mut PersonState) -> Decision {
        let verdict = admission::judge_door(fact, policy);
        if let DoorVerdict::Record(Note::NamesNobody) = verdict {
            return Decision::recorded(Note::NamesNobody);
        }
        // Who shows nothing cannot be known again: each attempt is one, as when somebody guesses PINs.
        let is_known_again = fact.shown.is_some() || !fact.kind.is_refusal();
        if is_known_again && person.repeats(fact.tap(), fact.at, rules) {
            return Decision::recorded(Note::RepeatedTap);
        }
        let decision = match verdict {
            DoorVerdict::Claim(action) => {
                let claim = Claim::Door { action, at: fact.at };
                self.claim(fact.subject, fact.business, &claim, fact.digest, person)
            }
            DoorVerdict::Fail(reason) => Decision::failed(reason),
            DoorVerdict::Record(note) => Decision::recorded(note),
        };
        if let Some(reason) = decision.reason {
            let id = door_failure(fact.digest);
            let attempt = (fact.at, CheckinSource::DoorAccess, None);
            let detail = Some(at_which_door(fact, policy, reason, decision.detail.as_deref()).into());
            self.fail(id, fact.subject, fact.business, attempt, Refused { reason, detail });
        }
        decision
    }

    fn heard(
        &mut self,
        item: &FoldItem<'_>,
        mac: MacAddr,
        point: Point,
        rules: &Rules,
        person: &mut PersonState,
    ) -> Decision {
        let Point { last_at, first_at, strong_at, since, .. } = point;
        let claim = Claim::Network { mac, since, first_at, last_at, strong_at };
        let decision = self.claim(item.subject, item.business, &claim, item.place.digest, person);
        let Some(reason) = decision.reason else { return decision };
        let day = rules.calendar.pass_day(last_at).start;
        if person.refused_before(RefusedDevice { business: item.business, day, reason, mac }) {
            return Decision::recorded(Note::FailedBefore);
        }
        let id = device_failure(item.business, day, reason, mac, item.subject);
        let attempt = (last_at, CheckinSource::NetworkActivity, Some(mac));
        self.fail(id, item.subject, item.business, attempt, Refused { reason, detail: decision.detail.clone() });
        decision
    }

    fn claim(
        &mut self,
        subject: Subject,
        business: BusinessId,
        claim: &Claim,
        id: FactDigest,
        person: &mut PersonState,
    ) -> Decision {
        let before: BTreeSet<Uuid> = person.visits.iter().map(|visit| visit.unique_id).collect();
        let elsewhere = person.open().map_or(std::time::Duration::ZERO, |open| idle_limit(&self.world, open));
        let (decision, ended) = self.at_gate(subject, business, claim.at(), |context, _| match context {
            Some(context) => person.decide(&ClaimContext { idle_elsewhere: elsewhere, ..*context }, claim, id),
            None => (Decision::recorded(Note::Late), None),
        });
        if let Some(ended) = ended {
            self.note_ended(subject, person, ended);
        }
        for visit in person.visits.iter().filter(|visit| !before.contains(&visit.unique_id)) {
            self.note_opened(subject, visit, claim.at());
        }
        decision
    }

    /// Does something where a business's gate stands as it was at an instant.
    fn at_gate<T>(
        &self,
        subject: Subject,
        business: BusinessId,
        at: WallTime,
        then: impl FnOnce(Option<&ClaimContext<'_>>, Option<&SiteAdmission<'_>>) -> T,
    ) -> T {
        let (Some(policy), Some(coworker)) = (self.world.policy(business, at), subject.as_coworker()) else {
            return then(None, None);
        };
        let rules = policy.rules();
        let usage = |person: &PersonState| self.usage(coworker, person);
        let gate = SiteAdmission {
            site: &policy.site,
            calendar: rules.calendar.clone(),
            directory: self.world.directory(at),
            coworker,
            usage: &usage,
        };
        let context = ClaimContext {
            business,
            rules: &rules,
            coverage: self.world.coverage(business),
            gate: &gate,
            idle_elsewhere: rules.idle_limit,
        };
        then(Some(&context), Some(&gate))
    }

    /// What this person, taken out of the group, and everybody else in it have used.
    fn usage(&self, coworker: CoworkerId, person: &PersonState) -> (Usage, Vec<Spent>) {
        let mut usage = Usage::default();
        let mut also: Vec<Spent> = Vec::new();
        for (pass, used) in &person.used {
            usage.passes.entry(*pass).or_default().push(*used);
        }
        also.extend(person.visits.iter().map(|visit| visit.spent(coworker)));
        for (subject, other) in &self.folded.people {
            let Some(id) = subject.as_coworker() else { continue };
            for (pass, used) in &other.used {
                usage.passes.entry(*pass).or_default().push(*used);
            }
            also.extend(other.visits.iter().map(|visit| visit.spent(id)));
        }
        for (pass, others) in &self.others {
            usage.passes.entry(*pass).or_default().extend(others);
        }
        let totals = self.totals.range((coworker, NaiveDate::MIN)..=(coworker, NaiveDate::MAX));
        usage.plans.insert(coworker, PlanUsed(totals.map(|((_, date), total)| (*date, *total)).collect()));
        (usage, also)
    }

    /// Takes somebody out of the group for an event; a new day begins with a checkpoint.
    fn take(&mut self, subject: Subject, at: WallTime) -> Option<PersonState> {
        let person = self.folded.people.remove(&subject)?;
        let day = LogDay::of(at);
        if day > LogDay::of(person.folded.at) {
            self.folded.checkpoints.push((subject, day, person.clone()));
        }
        Some(person)
    }

    /// Puts them back; visits that nothing can change any more are counted.
    fn put(&mut self, subject: Subject, mut person: PersonState, place: FactOrder) {
        person.folded = person.folded.max(place);
        if let Some(coworker) = subject.as_coworker() {
            while let Some(visit) = person.settled() {
                self.settle(coworker, &mut person, visit, place.at);
            }
        }
        self.folded.people.insert(subject, person);
    }

    /// Counts a visit that nothing can change any more.
    fn settle(&mut self, coworker: CoworkerId, person: &mut PersonState, visit: Visit, at: WallTime) {
        let date = visit.day.date;
        if let Some(pass) = visit.held_pass() {
            let directory = self.world.directory(at);
            let usable: BTreeSet<Uuid> = directory.usable(coworker).map(|held| held.guid).collect();
            // A pass that is gone is not asked about any more; its use is forgotten once nothing late can ask either.
            let old = |day: Option<NaiveDate>| day.is_none_or(|day| (date - day).num_days() > 10);
            person.used.retain(|(known, used)| usable.contains(known) || !old(used.last_day));
            let known = person.used.iter().position(|(known, _)| *known == pass);
            let before = known.map(|at| person.used.remove(at).1);
            // Others may still use what they may use no more.
            let basis_at = directory.pass(coworker, pass).map(|held| held.basis_at);
            let basis_at = basis_at.or(before.map(|used| used.basis_at)).unwrap_or(WallTime::from_millis(0));
            let mut used = before.unwrap_or(Used::nothing(coworker, basis_at)).based_on(basis_at);
            used.add(&visit.spent(coworker));
            person.used.push((pass, used));
        }
        if visit.counts() {
            for (date, total) in person.counted.add(date, visit.spent(coworker).present(visit.from)) {
                self.totals.insert((coworker, date), total);
                self.folded.counted.insert((coworker, date), total);
            }
        }
        if let Some(charge) = self.charge(coworker, &visit, &person.charged) {
            add_charge(&mut person.charged, &charge);
            self.folded.charges.insert(charge.checkin, charge);
        }
        self.record(coworker, visit);
    }

    fn charge(&self, coworker: CoworkerId, visit: &Visit, before: &[ChargedDay]) -> Option<ChargeRecord> {
        let pass = visit.pass.as_ref().filter(|pass| pass.kind == PassKind::PayAsYouGo)?;
        // By what held when they came; where that knew nothing of it, by what let them in.
        let instants = [visit.from, visit.admitted_at];
        let rules_at = |at| self.world.policy(visit.business, at)?.site.passes.pay_as_you_go.as_ref();
        let rules = instants.into_iter().find_map(rules_at)?;
        let kind = instants.into_iter().find_map(|at| self.world.directory(at).time_pass(pass.time_pass))?;
        let of_day = before.iter().find(|known| known.business == visit.business && known.day == visit.day.start);
        let already = of_day.map(|known| known.charged.clone()).unwrap_or_default();
        Some(ChargeRecord {
            checkin: visit.unique_id,
            coworker,
            business: visit.business,
            time_pass: pass.time_pass,
            pass_day: visit.day.start,
            from: visit.from,
            to: visit.to,
            charge: payg::charge(kind, rules, visit.from, visit.to, &already),
        })
    }

    fn record(&mut self, coworker: CoworkerId, visit: Visit) {
        let opened = self.folded.visits.remove(&visit.unique_id).and_then(|known| known.opened);
        self.folded.visits.insert(visit.unique_id, VisitRecord { coworker, visit, opened });
    }

    fn note_opened(&mut self, subject: Subject, visit: &Visit, at: WallTime) {
        let Some(coworker) = subject.as_coworker() else { return };
        let opened = Some(self.opened(subject, visit.business, at));
        self.folded.visits.insert(visit.unique_id, VisitRecord { coworker, visit: visit.clone(), opened });
    }

    fn opened(&self, subject: Subject, business: BusinessId, at: WallTime) -> Opened {
        let directory = self.world.directory(at);
        let coworker = subject.as_coworker().and_then(|id| directory.coworker(id));
        let policy = self.world.policy(business, at);
        let name = directory.business(business).or_else(|| policy.map(|policy| policy.site.name.as_str()));
        Opened {
            then: coworker.map(crate::directory::Coworker::snapshot).unwrap_or_default(),
            business_name: name.map(ToOwned::to_owned),
        }
    }

    fn note_ended(&mut self, subject: Subject, person: &PersonState, ended: EndedVisit) {
        match &ended.after_pass {
            Some(AfterPass::On(next)) => {
                if let Some(visit) = person.visit(*next) {
                    self.note_opened(subject, visit, ended.at);
                }
            }
            Some(AfterPass::Refused(refused)) => {
                let id = identity([ended.visit.as_bytes().as_slice(), b"stay", &ended.at.millis().to_be_bytes()]);
                let attempt = (ended.at, CheckinSource::DoorAccess, None);
                self.fail(id, subject, ended.business, attempt, refused.clone());
            }
            None => {}
        }
        self.folded.ended.push((subject, ended));
    }

    fn fail(
        &mut self,
        unique_id: Uuid,
        subject: Subject,
        business: BusinessId,
        (attempt_at, source, mac): (WallTime, CheckinSource, Option<MacAddr>),
        refused: Refused,
    ) {
        let failure = FailureRecord {
            unique_id,
            coworker: subject.as_coworker(),
            then: self.opened(subject, business, attempt_at),
            business,
            attempt_at,
            source,
            mac,
            refused,
        };
        self.folded.failures.insert(unique_id, failure);
    }

    /// The visits that may still change are records too, as they are now.
    fn finish(mut self) -> Folded {
        let version = self.world.directories.latest().version;
        let mut people = std::mem::take(&mut self.folded.people);
        for (subject, person) in &mut people {
            person.directory = version;
            let Some(coworker) = subject.as_coworker() else { continue };
            let mut charged = person.charged.clone();
            for visit in &person.visits {
                if let Some(charge) = self.charge(coworker, visit, &charged) {
                    add_charge(&mut charged, &charge);
                    self.folded.charges.insert(charge.checkin, charge);
                }
                self.record(coworker, visit.clone());
            }
        }
        Folded { people, ..self.folded }
    }
}

/// The first days of the windows that somebody's plan is counted in at an instant.
pub fn window_starts(
    world: &World<'_>,
    coworker: CoworkerId,
    business: BusinessId,
    at: WallTime,
) -> BTreeSet<NaiveDate> {
    let Some(policy) = world.policy(business, at) else { return BTreeSet::new() };
    let directory = world.directory(at);
    let Some(known) = directory.coworker(coworker).filter(|known| known.tariff_id.is_some()) else {
        return BTreeSet::new();
    };
    let calendar = policy.calendar();
    let today = calendar.pass_day(at).date;
    passes::window_starts(directory, &policy.site.passes, &calendar, known, today)
}

/// The identity of a failed check-in at a door: one per attempt.
pub fn door_failure(attempt: FactDigest) -> Uuid {
    identity([attempt.0.as_slice(), b"failure"])
}

/// The identity of a device's failed check-in: one per business, pass day, reason and device.
pub fn device_failure(business: BusinessId, day: WallTime, reason: Reason, mac: MacAddr, subject: Subject) -> Uuid {
    identity([
        b"device".as_slice(),
        &business.0.to_be_bytes(),
        &day.millis().to_be_bytes(),
        reason.code().as_bytes(),
        &mac.octets(),
        &subject.0.to_be_bytes(),
    ])
}

fn add_charge(charged: &mut Vec<ChargedDay>, charge: &ChargeRecord) {
    charged.retain(|known| known.business != charge.business || known.day >= charge.pass_day);
    let of_day = charged.iter().position(|known| known.business == charge.business && known.day == charge.pass_day);
    let index = of_day.unwrap_or_else(|| {
        let charged_day =
            ChargedDay { business: charge.business, day: charge.pass_day, charged: payg::Charged::default() };
        charged.push(charged_day);
        charged.len() - 1
    });
    if let Some(known) = charged.get_mut(index) {
        known.charged.add(charge.time_pass, charge.charge.unbounded, charge.charge.amount);
    }
}
