//! PURE. Turns the decisions of a fold into lines of the timeline.

use std::fmt::Write as _;

use uuid::Uuid;

use super::{
    model::{EventKind, ExplainInput, TimelineEvent, VisitSummary},
    words::{decided, door_text, edit_text, face},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{Fact, FactOrder, FactRank, Recognised},
        plain::plain,
        record::BusinessId,
    },
    cli::print::{pass_end, pass_name, span},
    engine::{
        Decision,
        decision::{DecisionCode, Outcome},
        fold::{FoldItem, Folded, Repassed, What},
        life::CloseBy,
        passes::PassUse,
        person::{AfterPass, EndedVisit, Visit},
    },
    store::SetAsideFact,
};

/// Turns the results of one fold into words.
pub(super) struct Narrator<'a> {
    pub(super) known: &'a ExplainInput,
    pub(super) folded: &'a Folded,
}

impl Narrator<'_> {
    pub(super) fn event(
        &self,
        item: &FoldItem<'_>,
        interface: &str,
        decision: &Decision,
        log: Option<DecisionCode>,
    ) -> TimelineEvent {
        let code = decision.code();
        let quiet = matches!(decision.outcome, Outcome::Refreshed | Outcome::Recorded);
        let (kind, what, seen, merge_key) = match item.what {
            What::Door(door) => (EventKind::Door, door_text(door, &self.known.policies), None, None),
            What::Edit(edit) | What::Asked(edit) => {
                (EventKind::Edit, edit_text(edit, &self.known.policies), None, None)
            }
            What::Seen(mac, point) => {
                let merge_key = quiet.then_some((item.business, mac, code));
                let seen = (point.first_at, point.last_at, 1);
                let weak = if point.strong_at.is_none() && !quiet { ", weak evidence" } else { "" };
                (EventKind::Network, format!("network {}, {mac}{weak}", plain(interface)), Some(seen), merge_key)
            }
        };
        let outcome = match (decision.outcome, decision.visit) {
            (Outcome::Opened, Some(visit)) => self.opened(item, visit),
            (Outcome::Recorded, _) if kind == EventKind::Edit => "set: doors and devices cannot change it".to_owned(),
            (Outcome::Refreshed, _) if kind == EventKind::Network => "refreshed: still here".to_owned(),
            _ => decided(code, decision.detail.as_deref()),
        };
        TimelineEvent { place: item.place, kind, business: item.business, what, seen, code, outcome, log, merge_key }
    }

    fn opened(&self, item: &FoldItem<'_>, visit: Uuid) -> String {
        let at = item.place.at;
        let mut said = "opened: checked in".to_owned();
        let Some(record) = self.folded.visits.get(&visit) else { return said };
        if !item.may_open().contains(&visit) {
            "opened: back in, continues the same visit".clone_into(&mut said);
        } else if record.visit.from < at {
            let from = face(&self.known.policies, item.business, record.visit.from, at);
            said = format!("opened: checked in from {from}");
        }
        // The pass at that time: a later directory version may have changed it.
        let changed = self.folded.repassed.iter().find(|change| change.visit == visit && change.at > at);
        let pass = changed.map_or(record.visit.pass.as_ref(), |change| change.before.as_ref());
        if let Some(pass) = pass {
            said = format!("{said} with {}", self.pass(pass, (item.business, at)));
        }
        said
    }

    pub(super) fn ended(&self, ended: &EndedVisit) -> TimelineEvent {
        let EndedVisit { visit, business, at, by, after_pass: then } = ended;
        // The recorded end may be earlier than its cause, for example the last activity before the idle limit.
        let record = self.folded.visits.get(visit).map(|record| &record.visit);
        let to = record.and_then(|visit| visit.to).filter(|to| to < at);
        let as_of =
            to.map_or_else(String::new, |to| format!(", out as of {}", face(&self.known.policies, *business, to, *at)));
        // At the same instant, new directory versions come after timers.
        let (kind, rank) = match by {
            CloseBy::Withdrawn => (EventKind::Directory, FactRank::Directory),
            CloseBy::PinnedEnd | CloseBy::Edit => (EventKind::Edit, FactRank::Timer),
            CloseBy::Silence | CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Exit | CloseBy::Elsewhere => {
                (EventKind::Timer, FactRank::Timer)
            }
        };
        let (what, why) = match by {
            CloseBy::Exit => ("exit".to_owned(), "checked out".to_owned()),
            CloseBy::Withdrawn => (self.version(*at), "no longer allowed in".to_owned()),
            CloseBy::Silence => {
                let policy = self.known.policies.at(*business, *at);
                let limit = policy.map_or_else(String::new, |policy| format!(" for {}", span(policy.site.idle_limit)));
                ("idle limit".to_owned(), format!("no device seen{limit}"))
            }
            CloseBy::CutOff => ("daily cut-off".to_owned(), "the pass day is over".to_owned()),
            CloseBy::PassEnd => ("end of the pass".to_owned(), "the pass no longer covers the visit".to_owned()),
            CloseBy::PinnedEnd => ("edit".to_owned(), "this end was set by hand".to_owned()),
            CloseBy::Edit => ("edit".to_owned(), "what was set by hand begins".to_owned()),
            CloseBy::Elsewhere => ("check-in elsewhere".to_owned(), "checked in at another business".to_owned()),
        };
        // After the end of a pass a visit continues with another pass, or fails.
        let then = match then {
            None => String::new(),
            Some(AfterPass::Refused(refused)) => {
                format!(
                    "; still there without a pass: failed, {}",
                    refused.reason.description_with(refused.detail.as_deref())
                )
            }
            Some(AfterPass::On(next)) => {
                let pass = self.folded.visits.get(next).and_then(|record| record.visit.pass.as_ref());
                let pass = pass.map_or_else(String::new, |pass| format!(" with {}", self.pass(pass, (*business, *at))));
                format!("; opened: continues{pass}")
            }
        };
        TimelineEvent {
            place: FactOrder { rank, ..FactOrder::before(*at) },
            kind,
            business: *business,
            what,
            seen: None,
            code: DecisionCode::of(Outcome::Closed, None),
            outcome: format!("closed, {}: {why}{as_of}{then}", by.word()),
            log: None,
            merge_key: None,
        }
    }

    pub(super) fn repassed(&self, change: &Repassed) -> Option<TimelineEvent> {
        let business = self.folded.visits.get(&change.visit)?.visit.business;
        let pass = self.pass(&change.now, (business, change.at));
        let lasts = if change.now.ends.is_none() { ", to the end of the day" } else { "" };
        Some(TimelineEvent {
            place: FactOrder { rank: FactRank::Directory, ..FactOrder::before(change.at) },
            kind: EventKind::Directory,
            business,
            what: self.version(change.at),
            seen: None,
            code: DecisionCode::of(Outcome::Refreshed, None),
            outcome: format!("refreshed: now {pass}{lasts}"),
            log: None,
            merge_key: None,
        })
    }

    fn pass(&self, pass: &PassUse, (business, at): (BusinessId, WallTime)) -> String {
        let kind = self.known.directories.at(at).time_pass(pass.time_pass);
        let mut said = pass_name(pass.kind, kind.map_or("", |kind| &kind.name));
        if let Some((ends, why)) = pass.ends {
            let face = face(&self.known.policies, business, ends, at);
            write!(said, ", until {face} {}", pass_end(why)).expect("a String takes everything");
        }
        said
    }

    fn version(&self, at: WallTime) -> String {
        format!("directory version {} in force", self.known.directories.at(at).version)
    }

    pub(super) fn summary(&self, visit: &Visit) -> VisitSummary {
        let pass = visit.pass.as_ref().map(|pass| {
            let kind = self.known.directories.at(visit.from).time_pass(pass.time_pass);
            pass_name(pass.kind, kind.map_or("", |kind| &kind.name))
        });
        let ends = visit.is_open().then(|| {
            let (at, by) = visit.ends_at_last();
            let at = face(&self.known.policies, visit.business, at, self.known.now);
            let by = if by == CloseBy::PassEnd { "the end of the pass" } else { "the cut-off" };
            let policy = self.known.policies.at(visit.business, visit.last_activity);
            match policy.filter(|_| visit.is_tracked()) {
                Some(policy) => format!("an exit, {} without a device, or {by} at {at}", span(policy.site.idle_limit)),
                None => format!("an exit, or {by} at {at}"),
            }
        });
        VisitSummary { visit: visit.clone(), pass, charge: self.folded.charges.get(&visit.unique_id).cloned(), ends }
    }
}

/// A line for a fact that is not folded, with the decision in the log.
pub(super) fn logged(known: &ExplainInput, fact: &Fact, code: DecisionCode) -> Option<TimelineEvent> {
    let mut outcome = decided(code, None);
    let (place, kind, business, what, seen) = match fact {
        Fact::Door(door) => {
            if door.too_late {
                outcome =
                    format!("{}, late: arrived more than 8 days late, too late to be decided", code.outcome().word());
            }
            (door.place(), EventKind::Door, door.business, door_text(door, &known.policies), None)
        }
        Fact::Presence(presence) => {
            let first = presence.points.first()?;
            let last = presence.points.iter().map(|point| point.last_at).max()?;
            let many = u32::try_from(presence.points.len()).unwrap_or(u32::MAX);
            let what = format!("network {}, {}", plain(&presence.interface), presence.mac);
            let place = first.place(presence.business, presence.mac);
            (place, EventKind::Network, presence.business, what, Some((first.first_at, last, many)))
        }
        Fact::UnknownDevice(device) => {
            let owner = if device.recognised == Recognised::Ambiguous { "ambiguous" } else { "unrecognised" };
            let what = format!("network {}, {} ({owner})", plain(&device.interface), device.mac);
            let (point, place) = (&device.point, device.point.place(device.business, device.mac));
            (place, EventKind::Network, device.business, what, Some((point.first_at, point.last_at, 1)))
        }
        Fact::Edit(edit) => (edit.place(), EventKind::Edit, edit.business, edit_text(edit, &known.policies), None),
        Fact::Rejected(_) => return None,
    };
    (place.at <= known.now).then_some(TimelineEvent {
        place,
        kind,
        business,
        what,
        seen,
        code,
        outcome,
        log: None,
        merge_key: None,
    })
}

/// A line for a fact that was set aside.
pub(super) fn set_aside(known: &ExplainInput, aside: &SetAsideFact) -> Option<TimelineEvent> {
    let code = DecisionCode::of(Outcome::SetAside, None);
    let event = logged(known, &Fact::read(&aside.fact).ok()?, code)?;
    let outcome = format!("set aside, undecided: the database answered \"{}\"", plain(&aside.why));
    Some(TimelineEvent { outcome, merge_key: None, ..event })
}
