//! PURE. DHCPv6 (RFC 8415).

use super::{
    bytes::be16,
    evidence::WhyNot,
    kind::{Dhcpv6Type, FrameKind},
    payload_evidence::PayloadEvidence,
    station::not_one_station,
};
use crate::base::mac::MacAddr;

/// Reads one message. The client is the Ethernet source, because a relay sends only relay messages.
///
/// `malformed`: the packet around it is already known to be invalid.
#[inline]
pub(super) fn dhcpv6(payload: &[u8], source: MacAddr, malformed: bool) -> Option<PayloadEvidence> {
    const RELAY_FORWARD: u8 = 12;
    const RELAY_REPLY: u8 = 13;
    let number = *payload.first()?;
    let header = if matches!(number, RELAY_FORWARD | RELAY_REPLY) { 34 } else { 4 };
    let message = Dhcpv6Type::from_number(number);
    let kind = FrameKind::Dhcpv6(message);
    let why = not_one_station(source)
        .or((!message.shows_the_client()).then_some(WhyNot::DoesNotShowTheClient))
        .or((malformed || !are_whole(payload.get(header..))).then_some(WhyNot::Malformed));
    Some(match why {
        Some(why) => PayloadEvidence::none(kind, Some(source), why),
        None => PayloadEvidence::strong(kind, source),
    })
}

/// Whether every option ends where the next begins (RFC 8415 21.1).
fn are_whole(options: Option<&[u8]>) -> bool {
    let Some(mut rest) = options else { return false };
    while !rest.is_empty() {
        let Some(length) = be16(rest, 2) else { return false };
        let Some(tail) = rest.get(4 + usize::from(length)..) else { return false };
        rest = tail;
    }
    true
}
