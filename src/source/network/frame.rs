//! PURE. What one Ethernet frame proves about the device that sent it.
//!
//! ARP (RFC 826, RFC 5227), DHCPv4 (RFC 2131, RFC 2132), DHCPv6 (RFC 8415) and neighbour discovery (RFC 4861), under up
//! to three VLAN tags. Nothing here allocates, panics, keeps state or trusts a length. The functions that read a
//! protocol are `#[inline]`: each has one caller in another file, and in a storm every call counts.
//!
//! Never here: whose device it is, whether its address is listed as infrastructure, or what follows from the evidence.

mod arp;
mod bytes;
mod dhcp;
mod dhcpv6;
mod ethernet;
mod evidence;
mod ip;
mod ip_payload;
mod kind;
mod ndp;
mod payload_evidence;
mod station;
mod tunnel;
mod vlan;

use std::{net::Ipv4Addr, time::Duration};

use self::{
    arp::arp,
    bytes::mac_at,
    ethernet::{ARP, EthernetFrame, IPV4, IPV6, REVERSE_ARP},
    ip::IpPacket,
    ip_payload::ip_payload,
    payload_evidence::PayloadEvidence,
    tunnel::is_tunnel,
};
pub use self::{
    evidence::{Evidence, WhyNot},
    kind::{DhcpType, Dhcpv6Type, FrameKind},
    vlan::{TAGS, VlanId, Vlans},
};
use crate::base::mac::MacAddr;

/// What was observed in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The kind of frame.
    pub kind: FrameKind,
    /// Its VLAN tags.
    pub vlans: Vlans,
    /// The device that it concerns; `None` if the frame does not contain a 48-bit address.
    pub mac: Option<MacAddr>,
    /// How much it proves.
    pub evidence: Evidence,
    /// The path that a DHCPv4 message took; all other frames arrive over the link.
    pub via: Via,
    /// The lease time that a server granted (option 51 of a DHCPACK); `None` for an infinite lease (RFC 2131 3.3),
    /// which is never renewed.
    pub lease: Option<Duration>,
}

/// The path that a message between a client and its server took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The client is on this link, as far as the frame shows.
    Link,
    /// Through the relay with this address (`giaddr`, RFC 1542 4.1), which is on the client's link.
    Relay(Ipv4Addr),
    /// From or to a client behind a router: the frame's address is not the client's, and no relay has inserted its
    /// address. A client that got its lease through a relay renews it like this (RFC 2131 4.4.5).
    Router,
}

/// Reads one Ethernet frame, without its frame check sequence.
///
/// `stripped` is the outermost tag, if the kernel removed it before the frame reached us. Returns `None` if the frame
/// is neither ARP, DHCP nor neighbour discovery, or has more than [`TAGS`] tags.
pub fn observe(frame: &[u8], stripped: Option<VlanId>) -> Option<Observation> {
    let EthernetFrame { source, vlans, ether_type, payload } = EthernetFrame::read(frame, stripped)?;
    let found = read(ether_type, payload, source)?;
    let via = match found.relay {
        Some(relay) => Via::Relay(relay),
        None if found.is_bootp() && found.mac.is_some_and(|client| !is_direct(frame, client, found.evidence)) => {
            Via::Router
        }
        None => Via::Link,
    };
    Some(Observation { kind: found.kind, vlans, mac: found.mac, evidence: found.evidence, via, lease: found.lease })
}

/// Whether this payload is ARP, DHCP or neighbour discovery. For links that are not Ethernet, which never provide
/// evidence.
pub fn concerns_devices(ether_type: u16, payload: &[u8]) -> bool {
    read(ether_type, payload, MacAddr::new([0; 6])).is_some()
}

/// Reads the payload of a frame from `source`.
fn read(ether_type: u16, payload: &[u8], source: MacAddr) -> Option<PayloadEvidence> {
    match ether_type {
        ARP | REVERSE_ARP => Some(arp(payload, source)),
        IPV4 | IPV6 => {
            let packet = IpPacket::read(ether_type, payload)?;
            // Check this first: a tunnel may use a port or protocol that is read below.
            if is_tunnel(&packet) {
                return Some(PayloadEvidence::none(FrameKind::Tunnelled, Some(source), WhyNot::Tunnelled));
            }
            ip_payload(&packet, source)
        }
        _ => None,
    }
}

/// Whether the frame was sent directly by the client or, if a server sent it, directly to the client or to a group.
fn is_direct(frame: &[u8], client: MacAddr, evidence: Evidence) -> bool {
    match evidence {
        Evidence::Strong => mac_at(frame, 6) == Some(client),
        Evidence::Weak | Evidence::None(_) => mac_at(frame, 0).is_some_and(|to| to == client || to.is_group()),
    }
}

#[cfg(test)]
mod tests;
