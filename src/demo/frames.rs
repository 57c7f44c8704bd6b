//! PURE. The frames that phones, laptops and a router send: ARP (RFC 826, RFC 5227) and DHCPv4 (RFC 2131).

use crate::base::mac::MacAddr;

/// The VLAN of the wired desks, whose frames are tagged (IEEE 802.1Q).
const DESKS: u16 = 10;

/// The duration of the router's leases, in seconds.
const LEASE: u32 = 3600;

const BROADCAST: MacAddr = MacAddr::new([0xff; 6]);
const SUBNET: [u8; 3] = [192, 0, 2];

/// How a device is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// By Wi-Fi: untagged.
    Air,
    /// By cable, in the VLAN of the desks: tagged.
    Desk,
}

/// An ARP request for the router's address, which shows that the device is awake.
pub(super) fn arp_request(device: MacAddr, port: Port) -> Vec<u8> {
    arp(Opcode::Request, device, device, address(device), router(), port)
}

/// An ARP announcement of the device's own address.
pub(super) fn announcement(device: MacAddr, port: Port) -> Vec<u8> {
    arp(Opcode::Request, device, device, address(device), address(device), port)
}

/// An ARP reply, perhaps from the network card of a sleeping computer.
pub(super) fn arp_reply(device: MacAddr, port: Port) -> Vec<u8> {
    arp(Opcode::Reply, device, device, address(device), router(), port)
}

/// A forged reply: `sender` claims the address of `victim`.
pub(super) fn forged(sender: MacAddr, victim: MacAddr) -> Vec<u8> {
    arp(Opcode::Reply, sender, victim, address(victim), router(), Port::Air)
}

/// A DHCPREQUEST: the device arrives, or renews its address.
pub(super) fn dhcp_request(device: MacAddr, port: Port) -> Vec<u8> {
    let options = [53, 1, 3, 50, 4, SUBNET[0], SUBNET[1], SUBNET[2], device.octets()[5], 255];
    bootp(1, device, BROADCAST, device, &options, port)
}

/// A DHCPACK: the router grants the address.
pub(super) fn dhcp_ack(router: MacAddr, device: MacAddr, port: Port) -> Vec<u8> {
    let [a, b, c, d] = LEASE.to_be_bytes();
    bootp(2, router, device, device, &[53, 1, 5, 51, 4, a, b, c, d, 255], port)
}

#[derive(Clone, Copy)]
enum Opcode {
    Request = 1,
    Reply = 2,
}

fn arp(opcode: Opcode, source: MacAddr, sender: MacAddr, from: [u8; 4], to: [u8; 4], port: Port) -> Vec<u8> {
    let mut body = vec![0, 1, 0x08, 0, 6, 4, 0, opcode as u8];
    body.extend(sender.octets());
    body.extend(from);
    body.extend([0; 6]);
    body.extend(to);
    ethernet(BROADCAST, source, 0x0806, &body, port)
}

fn bootp(operation: u8, source: MacAddr, to: MacAddr, client: MacAddr, options: &[u8], port: Port) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.extend(u32::from(client.octets()[5]).to_be_bytes());
    message.resize(28, 0);
    message.extend(client.octets());
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message.resize(300, 0);
    let ports = if operation == 1 { [0, 68, 0, 67] } else { [0, 67, 0, 68] };
    let addresses = if operation == 1 { [[0; 4], [255; 4]] } else { [router(), address(client)] };
    let mut datagram = ports.to_vec();
    datagram.extend(length(8 + message.len()));
    // No checksum: it is optional for UDP over IPv4.
    datagram.extend([0, 0]);
    datagram.extend(message);
    let mut packet = vec![0x45, 0];
    packet.extend(length(20 + datagram.len()));
    packet.extend([0, 0, 0, 0, 64, 17, 0, 0]);
    packet.extend(addresses.concat());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum);
    packet.extend(datagram);
    ethernet(to, source, 0x0800, &packet, port)
}

fn ethernet(to: MacAddr, from: MacAddr, ether_type: u16, payload: &[u8], port: Port) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.octets());
    frame.extend(from.octets());
    match port {
        Port::Air => {}
        Port::Desk => {
            frame.extend([0x81, 0]);
            frame.extend(DESKS.to_be_bytes());
        }
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A length field. Every message here fits into a frame.
fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes()
}

/// The checksum of RFC 1071, over whole words, with the checksum field zero.
fn checksum(header: &[u8]) -> [u8; 2] {
    let mut sum: u32 = header.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

/// An address in the network for documentation (RFC 5737).
fn address(device: MacAddr) -> [u8; 4] {
    [SUBNET[0], SUBNET[1], SUBNET[2], device.octets()[5]]
}

fn router() -> [u8; 4] {
    [SUBNET[0], SUBNET[1], SUBNET[2], 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        demo::hub::documented,
        source::network::frame::{Evidence, observe},
    };
    use std::time::Duration;

    #[test]
    fn the_decoder_reads_what_the_devices_send() {
        let (device, other) = (documented(2), documented(0xfe));
        for port in [Port::Air, Port::Desk] {
            for (frame, evidence) in [
                (arp_request(device, port), Evidence::Strong),
                (announcement(device, port), Evidence::Strong),
                (dhcp_request(device, port), Evidence::Strong),
                (arp_reply(device, port), Evidence::Weak),
                (dhcp_ack(other, device, port), Evidence::Weak),
            ] {
                let seen = observe(&frame, None).expect("a frame that is captured");
                assert_eq!((seen.mac, seen.evidence), (Some(device), evidence), "{seen:?}");
                assert_eq!(seen.vlans.outermost().is_some(), port == Port::Desk);
            }
        }
        let lease = observe(&dhcp_ack(other, device, Port::Air), None).expect("a frame that is captured").lease;
        assert_eq!(lease, Some(Duration::from_secs(3600)));
        let forged = observe(&forged(other, device), None).expect("a frame that is captured");
        assert!(matches!(forged.evidence, Evidence::None(why) if why.is_suspicious()), "{forged:?}");
    }

    #[test]
    fn the_header_checksum_adds_up() {
        let frame = dhcp_request(documented(2), Port::Air);
        assert_eq!(checksum(&frame[14..34]), [0, 0]);
    }
}
