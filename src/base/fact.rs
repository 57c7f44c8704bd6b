//! PURE. Facts: the entries of the log. What was reported to have happened, in the form that is stored and folded.
//!
//! A fact never contains what was decided. Its key consists of its place (day, subject, instant) and a digest of its
//! content, so a fact that arrives again has the same key.

mod codec;
mod digest;
mod door;
mod edit;
mod entry;
mod order;
mod presence;
mod subject;

pub use codec::{StoredFact, UnreadableFact, decoded, decoded_by, encoded, encoded_by, pack_points, unpack_points};
pub use digest::FactDigest;
pub use door::{DoorFact, LONGEST_PIN, ShownCredential, TapId};
pub use edit::{Edit, EditFact, EditedEnd, TimeSpan};
pub use entry::{Fact, RejectedFact};
pub use order::{FactKey, FactOrder, FactRank, LogDay};
pub use presence::{LOG_SPAN, Point, PresenceFact, StrangeDeviceFact};
pub use subject::{Recognised, Subject};
