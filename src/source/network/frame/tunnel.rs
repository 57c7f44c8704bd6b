//! PURE. Detects tunnels: ARP, DHCP or neighbour discovery inside a tunnel is from another place.
//!
//! IP in IP, GRE (RFC 2784, RFC 2890), VXLAN and Geneve.

use super::{
    bytes::be16,
    ethernet::{ARP, BRIDGED_ETHERNET, IPV4, IPV6, REVERSE_ARP, is_tag},
    ip::{GRE, IP_IN_IP, IPV6_IN_IP, IpPacket, UDP},
    ip_payload::ip_payload,
};
use crate::base::mac::MacAddr;

const VXLAN_PORT: u16 = 4789;
const GENEVE_PORT: u16 = 6081;

/// Whether this packet carries ARP, DHCP or neighbour discovery from another place.
#[inline]
pub(super) fn is_tunnel(packet: &IpPacket<'_>) -> bool {
    let inner = match packet.protocol {
        IP_IN_IP => Some((IPV4, packet.body)),
        IPV6_IN_IP => Some((IPV6, packet.body)),
        GRE => gre(packet.body),
        UDP => packet.udp().and_then(|datagram| match datagram.to_port {
            VXLAN_PORT => Some((BRIDGED_ETHERNET, datagram.payload.get(8..)?)),
            GENEVE_PORT => {
                let options = usize::from(datagram.payload.first()? & 0x3f) * 4;
                Some((be16(datagram.payload, 2)?, datagram.payload.get(8 + options..)?))
            }
            _ => None,
        }),
        _ => None,
    };
    inner.is_some_and(|(ether_type, bytes)| concerns_devices(ether_type, bytes))
}

/// The protocol and payload of a GRE packet (RFC 2784, RFC 2890): each flag adds four octets to the header.
fn gre(body: &[u8]) -> Option<(u16, &[u8])> {
    let flags = be16(body, 0)?;
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|flag| flags & **flag != 0).count();
    Some((be16(body, 2)?, body.get(4 + 4 * optional..)?))
}

/// Whether the tunnel's payload is ARP, DHCP or neighbour discovery. Only one level deep: a tunnel in a tunnel counts
/// as other traffic.
fn concerns_devices(ether_type: u16, bytes: &[u8]) -> bool {
    // Here it does not matter what the packet proves, so the sender does not matter either.
    let any_source = MacAddr::new([0; 6]);
    let (ether_type, bytes) = if ether_type == BRIDGED_ETHERNET {
        let mut at = 12;
        while be16(bytes, at).is_some_and(is_tag) {
            at += 4;
        }
        match (be16(bytes, at), bytes.get(at + 2..)) {
            (Some(ether_type), Some(rest)) => (ether_type, rest),
            _ => return false,
        }
    } else {
        (ether_type, bytes)
    };
    match ether_type {
        ARP | REVERSE_ARP => true,
        IPV4 | IPV6 => {
            IpPacket::read(ether_type, bytes).is_some_and(|packet| ip_payload(&packet, any_source).is_some())
        }
        _ => false,
    }
}
