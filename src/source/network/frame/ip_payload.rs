//! PURE. Reads the payload of an IP packet: neighbour discovery, DHCPv4 or DHCPv6.

use super::{
    dhcp::bootp,
    dhcpv6::dhcpv6,
    ip::{ICMPV6, IpPacket, IpVersion},
    ndp::neighbour_discovery,
    payload_evidence::PayloadEvidence,
};
use crate::base::mac::MacAddr;

/// Reads the payload; `None` for all other traffic.
#[inline]
pub(super) fn ip_payload(packet: &IpPacket<'_>, source: MacAddr) -> Option<PayloadEvidence> {
    if packet.protocol == ICMPV6 && packet.version == IpVersion::Six {
        return neighbour_discovery(packet, source);
    }
    let datagram = packet.udp()?;
    // The rest of a cut packet is in the other fragments, so nothing is missing.
    let short = (datagram.short || packet.short) && !packet.cut;
    let (from, to) = (datagram.from_port, datagram.to_port);
    if matches!(from, 67 | 68) || matches!(to, 67 | 68) {
        return (packet.version == IpVersion::Four).then(|| bootp(datagram.payload, packet.cut, short)).flatten();
    }
    if matches!(from, 546 | 547) || matches!(to, 546 | 547) {
        // DHCPv6 does not run over IPv4 (RFC 8415 7.1).
        return dhcpv6(datagram.payload, source, short || packet.version == IpVersion::Four);
    }
    None
}
