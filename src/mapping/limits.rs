//! PURE. The limits on one message and its fields.

/// The largest payload, in bytes; we also announce it to the broker as the largest packet. A door event has a few
/// hundred bytes, one with a picture tens of thousands. A larger one is rejected as `oversize`.
pub const LARGEST_PAYLOAD: usize = 256 * 1024;

/// How many events one message may contain; the longest list that a known controller sends has five. A message with
/// more is rejected as `bad_field`.
pub const MOST_EVENTS: usize = 64;

/// The longest text of one field, in characters; door names and ids are far shorter. A longer one is a `bad_field`.
pub const LONGEST_TEXT: usize = 256;
