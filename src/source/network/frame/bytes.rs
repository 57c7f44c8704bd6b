//! PURE. Reads fields of a frame; `None` for a field that extends past the end.

use crate::base::mac::MacAddr;

/// A 16-bit field in network byte order.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

/// A 48-bit hardware address.
pub(super) fn mac_at(bytes: &[u8], at: usize) -> Option<MacAddr> {
    bytes.get(at..at + 6)?.first_chunk().copied().map(MacAddr::new)
}
