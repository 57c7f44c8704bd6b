//! PURE. Facts: the entries of the log. What was said to have happened, in the form in which it is stored and folded.
//!
//! A fact never says what was decided. Its key is where it belongs (day, subject, instant) and a digest of what was said,
//! so a fact that arrives again finds itself.

mod codec;
mod digest;
mod door;
mod entry;
mod order;
mod presence;
mod subject;

pub use codec::{StoredFact, UnreadableFact, decoded, encoded, pack_points, unpack_points};
pub use digest::FactDigest;
pub use door::{DoorFact, LONGEST_PIN, ShownCredential, TapId};
pub use entry::{Fact, RejectedFact};
pub use order::{FactKey, FactOrder, FactRank, LogDay};
pub use presence::{LOG_SPAN, Point, PresenceFact, StrangeDeviceFact};
pub use subject::{Recognised, Subject};
