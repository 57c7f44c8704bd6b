//! The data of `checkind explain`: what it reads, and the timeline that it prints.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::{
        clock::WallTime,
        fact::{FactOrder, Subject},
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
    },
    directory::history::DirectoryHistory,
    engine::{
        coverage::Coverage,
        decision::DecisionCode,
        fold::{ChargeRecord, World},
        person::Visit,
    },
    pipeline::decide::FoldInput,
    policy::PolicyHistory,
    store::{DecidedFact, SetAsideFact},
};

/// The coworker, card or device that the operator named.
#[derive(Clone, Debug, Default)]
pub(super) struct NamedSubject {
    pub(super) coworker: Option<(CoworkerId, String)>,
    /// Their name in the heading.
    pub(super) title: String,
    /// The subjects under which the log stores their facts.
    pub(super) subjects: BTreeSet<Subject>,
}

/// Everything read from the database, ready to fold.
#[derive(Debug)]
pub struct ExplainInput {
    pub(super) who: NamedSubject,
    pub(super) business: BusinessId,
    pub(super) from: WallTime,
    pub(super) now: WallTime,
    pub(super) directories: DirectoryHistory,
    pub(super) policies: PolicyHistory,
    pub(super) coverage: BTreeMap<BusinessId, Coverage>,
    pub(super) cases: Vec<FoldInput>,
    /// Facts that are not folded: those of strange devices, and those from before the first checkpoint.
    pub(super) logged: Vec<DecidedFact>,
    /// Facts that the database did not take.
    pub(super) set_aside: Vec<SetAsideFact>,
}

/// What happened, in order of time.
#[derive(Debug)]
pub struct Explained {
    pub(super) who: NamedSubject,
    pub(super) business: BusinessId,
    pub(super) from: WallTime,
    pub(super) now: WallTime,
    pub(super) policies: PolicyHistory,
    pub(super) names: BTreeMap<BusinessId, String>,
    pub(super) events: Vec<TimelineEvent>,
    pub(super) visits: Vec<VisitSummary>,
    /// Whether the database has an open check-in that should have ended, because the daemon has not processed its end.
    pub(super) behind: bool,
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Door,
    Network,
    Timer,
    Directory,
    /// A user of the API said something about a check-in.
    Edit,
}

/// One line of the timeline.
#[derive(Clone, Debug)]
pub(super) struct TimelineEvent {
    pub(super) place: FactOrder,
    pub(super) kind: EventKind,
    pub(super) business: BusinessId,
    /// What the door or the network reported, in words.
    pub(super) what: String,
    /// For presences: the first and last evidence, and how many presences were merged.
    pub(super) seen: Option<(WallTime, WallTime, u32)>,
    pub(super) code: DecisionCode,
    /// The decision and its reason, in words.
    pub(super) outcome: String,
    /// The decision in the log, if it differs.
    pub(super) log: Option<DecisionCode>,
    /// Consecutive lines with the same key (device and decision) are merged.
    pub(super) merge_key: Option<(BusinessId, MacAddr, DecisionCode)>,
}

/// A visit in the list at the end.
#[derive(Clone, Debug)]
pub(super) struct VisitSummary {
    pub(super) visit: Visit,
    pub(super) pass: Option<String>,
    pub(super) charge: Option<ChargeRecord>,
    /// What will end it; `None` once it has ended.
    pub(super) ends: Option<String>,
}

impl ExplainInput {
    /// The engine's view of the world, for folding these cases.
    pub(super) fn world(&self) -> World<'_> {
        World {
            directories: &self.directories,
            policies: &self.policies,
            coverage: &self.coverage,
            now: self.now,
            quiet_until: self.now,
        }
    }
}
