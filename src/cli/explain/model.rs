//! What `checkind explain` reads, and the timeline that it prints.

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
    pipeline::decide::GroupCase,
    policy::PolicyHistory,
    store::DecidedFact,
};

/// Who is asked about.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub(super) coworker: Option<(CoworkerId, String)>,
    /// For people.
    pub(super) title: String,
    /// What the log files their facts under.
    pub(super) subjects: BTreeSet<Subject>,
}

/// Everything that is read: what [`explain`] folds.
#[derive(Debug)]
pub struct ExplainInput {
    pub(super) who: Who,
    pub(super) business: BusinessId,
    pub(super) from: WallTime,
    pub(super) now: WallTime,
    pub(super) directories: DirectoryHistory,
    pub(super) policies: PolicyHistory,
    pub(super) coverage: BTreeMap<BusinessId, Coverage>,
    pub(super) cases: Vec<GroupCase>,
    /// Facts that are not folded: of strange devices, and from before the first checkpoint.
    pub(super) logged: Vec<DecidedFact>,
}

/// What happened, in the order of time.
#[derive(Debug)]
pub struct Explained {
    pub(super) who: Who,
    pub(super) business: BusinessId,
    pub(super) from: WallTime,
    pub(super) now: WallTime,
    pub(super) policies: PolicyHistory,
    pub(super) names: BTreeMap<BusinessId, String>,
    pub(super) events: Vec<TimelineEvent>,
    pub(super) visits: Vec<Summary>,
    /// The database has a check-in open that is over: the daemon has not looked.
    pub(super) behind: bool,
}

/// What sort of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Door,
    Network,
    Timer,
    Directory,
}

/// One line.
#[derive(Clone, Debug)]
pub(super) struct TimelineEvent {
    pub(super) place: FactOrder,
    pub(super) kind: EventKind,
    pub(super) business: BusinessId,
    /// What was said to have happened.
    pub(super) what: String,
    /// Of presences: first and last evidence, and how many were merged.
    pub(super) heard: Option<(WallTime, WallTime, u32)>,
    pub(super) code: DecisionCode,
    /// What was decided, and why.
    pub(super) said: String,
    /// What the log says was decided, where that is something else.
    pub(super) log: Option<DecisionCode>,
    /// Lines of one device that say the same become one.
    pub(super) same: Option<(BusinessId, MacAddr, DecisionCode)>,
}

/// A visit at the end.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) visit: Visit,
    pub(super) pass: Option<String>,
    pub(super) charge: Option<ChargeRecord>,
    /// While it is open: what ends it.
    pub(super) ends: Option<String>,
}

impl ExplainInput {
    /// What the engine needs to know about the world to fold these cases.
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
