//! PURE. A person state as the bytes that the database stores.

use std::collections::BTreeSet;

use serde::Deserialize;
use uuid::Uuid;

use super::{
    state::{ChargedDay, PersonState, RefusedDevice},
    visit::{Pinned, Visit},
};
use crate::{
    base::{
        clock::WallTime,
        fact::{FactOrder, TapId, UnreadableFact, decoded, decoded_by, encoded_by},
        mac::MacAddr,
        record::{BusinessId, CheckinSource},
    },
    engine::passes::{PassUse, PlanTally, Used},
    policy::calendar::PassDay,
};

/// The first byte of a state with edits. One without is written by version 7 to 13 of the schema, with the byte that
/// [`decoded`] expects.
const WITH_EDITS: u8 = 2;

impl PersonState {
    /// The state as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encoded_by(WITH_EDITS, self)
    }

    /// Reverses [`PersonState::to_bytes`], also for states that an earlier version wrote.
    ///
    /// # Errors
    /// The bytes are damaged, or a newer version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, UnreadableFact> {
        if bytes.first() == Some(&WITH_EDITS) {
            return decoded_by(WITH_EDITS, bytes);
        }
        decoded(bytes).map(StateWithoutEdits::into)
    }
}

/// A [`PersonState`] before there were edits. It never changes.
#[derive(Deserialize)]
struct StateWithoutEdits {
    folded: FactOrder,
    directory: i64,
    silent_at: Option<(BusinessId, WallTime)>,
    visits: Vec<VisitWithoutEdits>,
    taps: Vec<(TapId, WallTime)>,
    let_in: Vec<(BusinessId, WallTime)>,
    refused: Vec<RefusedDevice>,
    used: Vec<(Uuid, Used)>,
    counted: PlanTally,
    charged: Vec<ChargedDay>,
    came: Vec<(BusinessId, WallTime)>,
}

/// A [`Visit`] before there were edits. It never changes.
#[derive(Deserialize)]
struct VisitWithoutEdits {
    unique_id: Uuid,
    business: BusinessId,
    source: CheckinSource,
    from: WallTime,
    admitted_at: WallTime,
    to: Option<WallTime>,
    day: PassDay,
    auto_checkout: bool,
    pass_ended: bool,
    last_activity: WallTime,
    macs: BTreeSet<MacAddr>,
    door_in_at: Option<WallTime>,
    strong_at: Option<WallTime>,
    lingered_at: Option<WallTime>,
    pass: Option<PassUse>,
    first_of_day: bool,
    since: WallTime,
    before: u64,
}

impl From<StateWithoutEdits> for PersonState {
    fn from(stored: StateWithoutEdits) -> Self {
        Self {
            folded: stored.folded,
            directory: stored.directory,
            silent_at: stored.silent_at,
            visits: stored.visits.into_iter().map(Visit::from).collect(),
            taps: stored.taps,
            let_in: stored.let_in,
            refused: stored.refused,
            used: stored.used,
            counted: stored.counted,
            charged: stored.charged,
            came: stored.came,
            edits: Vec::new(),
            absent_until: Vec::new(),
        }
    }
}

impl From<VisitWithoutEdits> for Visit {
    fn from(stored: VisitWithoutEdits) -> Self {
        Self {
            unique_id: stored.unique_id,
            business: stored.business,
            source: stored.source,
            from: stored.from,
            admitted_at: stored.admitted_at,
            to: stored.to,
            day: stored.day,
            auto_checkout: stored.auto_checkout,
            pass_ended: stored.pass_ended,
            last_activity: stored.last_activity,
            macs: stored.macs,
            door_in_at: stored.door_in_at,
            strong_at: stored.strong_at,
            lingered_at: stored.lingered_at,
            pass: stored.pass,
            first_of_day: stored.first_of_day,
            since: stored.since,
            before: stored.before,
            pinned: Pinned::No,
        }
    }
}
