//! PURE. The pass that a visit uses, when it ends, and why a pass is refused.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::case::PassCase;
use crate::{
    base::{clock::WallTime, closed_list::closed_list, record::TimePassId},
    engine::decision::Reason,
};

/// On what grounds a person may come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entitlement {
    /// This site does not require passes.
    Unchecked,
    /// By this pass.
    Pass(PassUse),
}

/// The pass that a visit uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassUse {
    /// `CoworkerTimePass.UniqueId`; `None` for pay-as-you-go, where no one holds a pass and the caller derives one from
    /// the visit's identity.
    pub guid: Option<Uuid>,
    /// The kind of pass.
    pub time_pass: TimePassId,
    /// How it is used.
    pub kind: PassKind,
    /// Whether the visit counts towards the limits of the plan.
    pub counts_towards_plan_limits: bool,
    /// When and why it stops covering the visit, if that is before the pass day ends.
    pub ends: Option<(WallTime, PassEnd)>,
}

closed_list! {
    /// How a pass is used. The row is the word that the database stores.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum PassKind: &'static str {
        /// The day is paid, from cut-off to cut-off.
        Day => "day",
        /// Minutes are used while the visit lasts.
        Time => "time",
        /// The visit is charged: [`payg::charge`](super::payg::charge).
        PayAsYouGo => "pay_as_you_go",
    }
}

impl PassKind {
    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        self.row()
    }

    /// The kind with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

closed_list! {
    /// Why a pass stops covering a visit. The row is the word that the database stores.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
    pub enum PassEnd: &'static str {
        /// Its minutes are used up.
        MinutesUsedUp => "minutes_used_up",
        /// The weekday's slot ends.
        SlotEnds => "slot_ends",
        /// It expires.
        Expires => "expires",
        /// A limit of the plan is reached.
        LimitReached => "limit_reached",
    }
}

impl PassEnd {
    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        self.row()
    }

    /// The end with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.word() == word)
    }
}

/// Why a person may not come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code and sentence.
    pub reason: Reason,
    /// The detail for the front desk: which pass expired when, which limit was reached.
    pub detail: Option<Arc<str>>,
}
impl PassUse {
    /// Ends it when the plan's hours end, if it counts towards them, and drops an end that is not before the cut-off.
    pub(super) fn end_within(&mut self, case: &PassCase<'_>, rest: Option<u64>) {
        if let Some(rest) = rest.filter(|_| self.counts_towards_plan_limits) {
            let end = (case.ask.from.plus(Duration::from_secs(rest)), PassEnd::LimitReached);
            self.ends = Some(self.ends.map_or(end, |known| known.min(end)));
        }
        self.ends = self.ends.filter(|(at, _)| *at < case.day.end);
    }
}
