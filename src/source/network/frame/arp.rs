//! PURE. ARP (RFC 826, RFC 5227) over Ethernet for IPv4.

use super::{
    bytes::{be16, mac_at},
    evidence::WhyNot,
    kind::FrameKind,
    payload_evidence::PayloadEvidence,
    station::not_one_station,
};
use crate::base::mac::MacAddr;

/// Reads one ARP message. It is 28 octets long; padding may follow.
#[inline]
pub(super) fn arp(body: &[u8], source: MacAddr) -> PayloadEvidence {
    const IPV4_OVER_ETHERNET: &[u8] = &[0, 1, 0x08, 0, 6, 4];
    if body.get(..6) != Some(IPV4_OVER_ETHERNET) {
        return PayloadEvidence::none(FrameKind::ArpOther, Some(source), WhyNot::NotIpv4OverEthernet);
    }
    let (operation, sender) = (be16(body, 6).unwrap_or(0), mac_at(body, 8));
    let addresses = body.get(14..18).zip(body.get(24..28));
    let kind = match (operation, addresses) {
        (1, Some((from, _))) if from == [0; 4] => FrameKind::ArpProbe,
        (1, Some((from, to))) if from == to => FrameKind::ArpAnnouncement,
        (1, _) => FrameKind::ArpRequest,
        (2, _) => FrameKind::ArpReply,
        (other, _) => return PayloadEvidence::none(FrameKind::ArpOther, sender, WhyNot::Operation(other)),
    };
    let Some(mac) = sender else { return PayloadEvidence::none(kind, None, WhyNot::NoAddress) };
    let why = not_one_station(mac)
        .or((mac != source).then_some(WhyNot::SenderIsNotSource))
        .or(addresses.is_none().then_some(WhyNot::Malformed));
    match (why, operation) {
        (Some(why), _) => PayloadEvidence::none(kind, Some(mac), why),
        (None, 1) => PayloadEvidence::strong(kind, mac),
        // A reply may come from a proxy.
        (None, _) => PayloadEvidence::weak(kind, mac),
    }
}
