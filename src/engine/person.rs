//! PURE. One coworker, at all businesses: where they are checked in, and how a claim or a timer changes that.
//!
//! A [`PersonState`] holds everything about a person that later decisions depend on, and no more. A checkpoint stores
//! it, and its size does not depend on the length of the history.

mod amend;
mod claim;
mod context;
mod edits;
mod elsewhere;
mod known_edits;
mod opening;
mod stored;
mod state;
mod timers;
mod visit;

pub use amend::{AmendedTotals, Amendment};
pub use context::{AdmissionCheck, AfterPass, ClaimContext, EndedVisit};
pub use edits::{EditBoundary, PinnedVisit};
pub use state::{ChargedDay, PersonState, RefusedDevice, STILL_OPEN_TO_CHANGE, visit_of, visits_of};
pub use visit::{Pinned, Visit};
