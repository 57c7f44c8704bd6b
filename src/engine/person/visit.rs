//! PURE. One check-in of a person: its data, its latest possible end, and how it closes.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        mac::MacAddr,
        record::{BusinessId, CheckinSource, CoworkerId},
    },
    engine::{
        DoorClaim,
        life::CloseBy,
        passes::{PassEnd, PassUse, Spent},
    },
    policy::{Rules, calendar::PassDay},
};

/// What an edit has set of a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pinned {
    /// Nothing.
    #[default]
    No,
    /// Its beginning.
    Begin,
    /// Its beginning and its end.
    Until(WallTime),
    /// Its beginning, and that it was open at this instant.
    NotBefore(WallTime),
}

/// One check-in as the engine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visit {
    /// Its identity, derived from the fact that opened it.
    pub unique_id: Uuid,
    /// Where.
    pub business: BusinessId,
    /// What opened it.
    pub source: CheckinSource,
    /// In.
    pub from: WallTime,
    /// When the check-in was decided; for the network this is later than `from`.
    pub admitted_at: WallTime,
    /// Out; `None` while open.
    pub to: Option<WallTime>,
    /// Its pass day, by the settings in force when it began.
    pub day: PassDay,
    /// Closed by checkind, not by an exit.
    pub auto_checkout: bool,
    /// Closed because its pass ended.
    pub pass_ended: bool,
    /// The last sign that the person was there.
    pub last_activity: WallTime,
    /// Devices seen during it.
    pub macs: BTreeSet<MacAddr>,
    /// The last door entry during it, which decides what a toggle means.
    pub door_in_at: Option<WallTime>,
    /// The last strong network evidence during it. If there is any, the visit is tracked.
    pub strong_at: Option<WallTime>,
    /// The last network evidence after the exit, which was only the phone leaving.
    pub lingered_at: Option<WallTime>,
    /// The pass that covers it; `None` if no pass is required.
    pub pass: Option<PassUse>,
    /// No visit at the same business began earlier in its pass day.
    pub first_of_day: bool,
    /// The start of the last stretch of presence: the last return, if the day is one block.
    pub since: WallTime,
    /// Whole seconds of presence before that stretch.
    pub before: u64,
    /// What an edit has set of it.
    pub pinned: Pinned,
}

impl Visit {
    /// An open visit that begins at `from`, of which nothing more is known.
    pub(super) const fn begun(
        unique_id: Uuid,
        (business, source): (BusinessId, CheckinSource),
        from: WallTime,
        day: PassDay,
        pass: Option<PassUse>,
    ) -> Self {
        Self {
            unique_id,
            business,
            source,
            from,
            admitted_at: from,
            to: None,
            day,
            auto_checkout: false,
            pass_ended: false,
            last_activity: from,
            macs: BTreeSet::new(),
            door_in_at: None,
            strong_at: None,
            lingered_at: None,
            pass,
            first_of_day: false,
            since: from,
            before: 0,
            pinned: Pinned::No,
        }
    }

    /// Until when nothing but the cut-off ends it, because an edit says so; `None` if it is over or no edit does.
    pub fn span_end(&self) -> Option<WallTime> {
        match self.pinned {
            Pinned::Until(at) | Pinned::NotBefore(at) => self.is_open().then_some(at),
            Pinned::No | Pinned::Begin => None,
        }
    }

    /// Whether its pinned span runs at this instant.
    pub fn runs_at(&self, at: WallTime) -> bool {
        self.span_end().is_some_and(|end| at < end)
    }

    /// Whether it is not closed yet.
    pub const fn is_open(&self) -> bool {
        self.to.is_none()
    }

    /// Whether the network has seen one of their devices during it. Only then does silence mean anything.
    pub const fn is_tracked(&self) -> bool {
        self.strong_at.is_some()
    }

    /// Whether silence ends it: a device was seen, and no edit says how long it goes on.
    pub fn may_go_silent(&self) -> bool {
        self.is_tracked() && self.span_end().is_none()
    }

    /// The held pass that it uses; `None` for pay-as-you-go.
    pub fn held_pass(&self) -> Option<Uuid> {
        self.pass.as_ref().and_then(|pass| pass.guid)
    }

    /// Whether it counts towards the limits of a plan.
    pub fn counts(&self) -> bool {
        self.pass.as_ref().is_some_and(|pass| pass.counts_towards_plan_limits)
    }

    /// What it uses of passes and limits.
    pub fn spent(&self, coworker: CoworkerId) -> Spent {
        Spent {
            coworker,
            pass: self.held_pass(),
            counts: self.counts(),
            from: self.from,
            to: self.to,
            day: self.day,
            since: self.since,
            before: self.before,
        }
    }

    /// When its pass stops covering it, if that is before the pass day ends.
    pub fn pass_ends(&self) -> Option<WallTime> {
        self.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| at.max(self.from))
    }

    /// Its latest possible end and the reason; silence may end it before.
    pub fn ends_at_last(&self) -> (WallTime, CloseBy) {
        if let Some(end) = self.span_end() {
            return if self.day.end < end { (self.day.end, CloseBy::CutOff) } else { (end, CloseBy::PinnedEnd) };
        }
        let pass_end = self.pass_ends().filter(|at| *at < self.day.end).map(|at| (at, CloseBy::PassEnd));
        pass_end.unwrap_or((self.day.end, CloseBy::CutOff))
    }

    /// The same visit, moved by `by` milliseconds after a step of the clock that dated it.
    #[must_use]
    pub fn moved(&self, by: i64, day: PassDay) -> Self {
        let moved = |at: Option<WallTime>| at.map(|at| at.moved(by));
        Self {
            from: self.from.moved(by),
            to: moved(self.to),
            day,
            last_activity: self.last_activity.moved(by),
            door_in_at: moved(self.door_in_at),
            strong_at: moved(self.strong_at),
            lingered_at: moved(self.lingered_at),
            pass: self.pass.clone().map(|pass| PassUse {
                ends: pass.ends.map(|(at, why)| match why {
                    PassEnd::MinutesUsedUp | PassEnd::LimitReached => (at.moved(by), why),
                    PassEnd::SlotEnds | PassEnd::Expires => (at, why),
                }),
                ..pass
            }),
            since: self.since.moved(by),
            ..self.clone()
        }
    }

    /// Moves its start to an earlier instant; its use of a pass starts then too.
    pub(super) fn begin_at(&mut self, from: WallTime) {
        let earlier = self.from.since(from);
        if self.since == self.from {
            self.since = from;
        }
        self.from = from;
        if let Some(pass) = &mut self.pass {
            pass.ends = pass.ends.map(|(at, why)| match why {
                PassEnd::MinutesUsedUp | PassEnd::LimitReached => (at.minus(earlier), why),
                PassEnd::SlotEnds | PassEnd::Expires => (at, why),
            });
        }
    }

    /// The end of its pass, if that end closed a tracked visit at an earlier last activity.
    pub(super) fn cut_short(&self) -> Option<WallTime> {
        let end = self.pass_ends().filter(|_| self.pass_ended && self.is_tracked())?;
        self.to.is_some_and(|to| to < end).then_some(end)
    }

    /// What a tap at a toggle door means during it. A toggle reverses what a *door* reported last; a tap within the
    /// minimum stay after the last entry changes nothing.
    pub(super) fn toggled(&self, at: WallTime, rules: &Rules) -> DoorClaim {
        match self.door_in_at {
            Some(entered) if at >= entered.plus(rules.toggle_minimum_stay) => DoorClaim::Exit,
            Some(_) => DoorClaim::Activity,
            None => DoorClaim::Entry,
        }
    }

    pub(super) fn left_by_exit(&self) -> bool {
        self.to.is_some() && !self.auto_checkout
    }

    /// Network evidence up to this instant belongs to the exit: it is the phone in its owner's pocket.
    pub(super) fn followed_until(&self, rules: &Rules) -> WallTime {
        self.to.max(self.lingered_at).unwrap_or(self.from).plus(rules.linger)
    }

    pub(super) fn close(&mut self, by: CloseBy, at: WallTime) {
        let to = match by {
            CloseBy::Silence => self.last_activity,
            CloseBy::CutOff | CloseBy::PassEnd | CloseBy::Withdrawn | CloseBy::Elsewhere | CloseBy::Edit
                if self.is_tracked() =>
            {
                self.last_activity.min(at)
            }
            CloseBy::Exit
            | CloseBy::PinnedEnd
            | CloseBy::CutOff
            | CloseBy::PassEnd
            | CloseBy::Withdrawn
            | CloseBy::Elsewhere
            | CloseBy::Edit => at,
        };
        self.to = Some(to.max(self.from));
        self.pass_ended = by == CloseBy::PassEnd;
        let left = matches!(by, CloseBy::Exit | CloseBy::PinnedEnd);
        self.auto_checkout = !left;
        if left {
            self.lingered_at = (self.last_activity > at).then_some(self.last_activity);
            self.last_activity = self.last_activity.max(at);
        }
    }
}
