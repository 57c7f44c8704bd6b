//! PURE. Decides one fact: judges the door event or the evidence of a device, and applies the claim that follows.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use uuid::Uuid;

use super::{
    folding::Folding,
    item::{FoldItem, What},
    records::{device_failure, door_failure},
};
use crate::{
    base::{
        fact::{DoorFact, Edit, EditFact, EditedEnd, FactDigest, Point, Subject},
        mac::MacAddr,
        record::{BusinessId, CheckinSource},
    },
    engine::{
        Admission, Claim, Decision, DoorClaim,
        admission::{self, DoorVerdict},
        decision::{Note, Reason},
        passes::Refused,
        person::{ClaimContext, PersonState, RefusedDevice},
    },
    policy::{Rules, SitePolicy, door::Door},
};

impl Folding<'_> {
    /// Picks the next item. If several have the same time, prefers one that changes whether the person is in or out. A
    /// clock that only shows minutes gives "in" and "out" the same time: a person who was out came in, then went out.
    pub(super) fn pick_among_ties(&self, items: &[FoldItem<'_>], order: &[usize]) -> usize {
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

    pub(super) fn decide(&mut self, index: usize, item: &FoldItem<'_>) -> Decision {
        let Some(mut person) = self.take(item.subject, item.place.at) else {
            return Decision::recorded(Note::NamesNoOne);
        };
        self.upcoming.passed(item, index);
        let decision = match self.world.policy(item.business, item.place.at) {
            None => Decision::recorded(Note::Late),
            Some(policy) => {
                let (policy, rules) = (Arc::clone(policy), policy.rules());
                match item.what {
                    What::Door(fact) => self.at_door(fact, &policy, &rules, &mut person),
                    What::Seen(mac, point) => self.on_network(item, mac, point, &rules, &mut person),
                    What::Edit(edit) => self.edited(edit, &mut person),
                    What::Asked(edit) => self.asked(edit, &mut person),
                }
            }
        };
        self.put(item.subject, person, item.place);
        decision
    }

    fn at_door(&mut self, fact: &DoorFact, policy: &SitePolicy, rules: &Rules, person: &mut PersonState) -> Decision {
        let verdict = admission::judge_door(fact, policy);
        if let DoorVerdict::Record(Note::NamesNoOne) = verdict {
            return Decision::recorded(Note::NamesNoOne);
        }
        // Without a credential we cannot tell a repeat from a new attempt, so each counts (someone may be guessing
        // PINs).
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
            let attempt = (fact.at, CheckinSource::DoorAccess, fact.shown_device());
            let detail = Some(door_detail(fact, policy, reason, decision.detail.as_deref()).into());
            self.fail(id, fact.subject, fact.business, attempt, Refused { reason, detail });
        }
        decision
    }

    fn on_network(
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
        // A refusal of a device is written once in a pass day.
        let day = rules.calendar.pass_day(last_at).start;
        if person.refused_before(RefusedDevice { business: item.business, day, reason, mac }) {
            return Decision::recorded(Note::FailedBefore);
        }
        let id = device_failure(item.business, day, reason, mac, item.subject);
        let attempt = (last_at, CheckinSource::NetworkActivity, Some(mac));
        self.fail(id, item.subject, item.business, attempt, Refused { reason, detail: decision.detail.clone() });
        decision
    }

    /// Decides an edit that asks for a check-in: admission decides as for a person at a door, unless they are in.
    fn asked(&mut self, edit: &EditFact, person: &mut PersonState) -> Decision {
        let (at, business) = (edit.at(), edit.business);
        let may_ignore = matches!(edit.edit, Edit::Set { overrides: true, .. });
        let joins = matches!(edit.edit, Edit::Set { end: EditedEnd::Joins, .. });
        if let Some(open) = person.open().filter(|open| joins && open.business == business) {
            let visit = open.unique_id;
            return Decision { visit: Some(visit), ..self.edited(edit, person) };
        }
        if !may_ignore {
            let mut out = person.clone();
            let continued = out.come_from_elsewhere(business, at, edit.source, Duration::ZERO).ok().flatten();
            let admission = self.at_business(edit.subject, business, at, |context, _| {
                context.map(|context| context.admission.may_come_in(at, edit.source, &out, continued))
            });
            if let Some(Admission::Refused(refused)) = admission {
                return self.refuse_edit(edit, refused);
            }
        }
        self.edited(edit, person)
    }

    /// Learns what an edit says.
    fn edited(&mut self, edit: &EditFact, person: &mut PersonState) -> Decision {
        if let Edit::Refused { reason, detail, .. } = &edit.edit {
            let Some(reason) = Reason::from_code(reason) else { return Decision::recorded(Note::Edited) };
            return self.refuse_edit(edit, Refused { reason, detail: detail.as_deref().map(Into::into) });
        }
        // What it begins, begins once all edits that say something about that instant are known.
        person.learn(edit);
        Decision { visit: Some(edit.visit), ..Decision::recorded(Note::Edited) }
    }

    fn refuse_edit(&mut self, edit: &EditFact, refused: Refused) -> Decision {
        let decision = Decision::refused(refused.clone());
        let attempt = (edit.at(), edit.source, None);
        self.fail(door_failure(edit.digest), edit.subject, edit.business, attempt, refused);
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
        let elsewhere = person.open().map_or(Duration::ZERO, |open| self.world.idle_limit(open));
        let (decision, ended) = self.at_business(subject, business, claim.at(), |context, _| match context {
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
}

/// The detail of a failed check-in: the name of the door or, if the settings do not have the door, the `match` line to
/// add to them.
fn door_detail(fact: &DoorFact, policy: &SitePolicy, reason: Reason, more: Option<&str>) -> String {
    let key = &fact.door.0;
    let known = Door::of(&policy.doors, key);
    let door = match known {
        _ if reason == Reason::DoorNotConfigured => {
            format!("match = \"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))
        }
        Some(door) if !door.pattern.contains('*') => format!("at {}", door.name),
        // A pattern may match many doors, so the key shows which one it was.
        Some(door) if door.name != door.pattern => format!("at {}, {key}", door.name),
        Some(_) | None => format!("at {key}"),
    };
    more.map_or_else(|| door.clone(), |more| format!("{more}; {door}"))
}
