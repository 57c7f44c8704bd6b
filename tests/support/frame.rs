//! Builds the frames that tests send and parse.

use checkind::base::mac::MacAddr;

/// A tag: its type and its VLAN.
pub(crate) type Tag = (u16, u16);

/// A broadcast Ethernet frame, padded to the minimum length on a wire.
pub(crate) fn ethernet(source: MacAddr, tags: &[Tag], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source.octets());
    for (kind, vlan) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame.resize(frame.len().max(60), 0);
    frame
}

/// ARP for IPv4 over Ethernet.
pub(crate) fn arp(operation: u16, sender: MacAddr, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let mut body = vec![0, 1, 0x08, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(sender.octets());
    body.extend(from);
    body.extend([0; 6]);
    body.extend(to);
    body
}

/// An untagged ARP request from this device.
pub(crate) fn arp_request(mac: MacAddr) -> Vec<u8> {
    ethernet(mac, &[], 0x0806, &arp(1, mac, [10, 20, 0, 2], [10, 20, 0, 1]))
}

/// IPv4 with a header of `words` × four octets, and the given fragment field.
pub(crate) fn ipv4(protocol: u8, words: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let header = usize::from(words) * 4;
    let total = u16::try_from(header + payload.len()).expect("a short packet");
    let mut packet = vec![0x40 | words, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1]);
    packet.resize(header, 1);
    packet.extend(payload);
    packet
}

/// IPv6 from the local link.
pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(payload.len()).expect("a short packet").to_be_bytes());
    packet.extend([next, 255]);
    packet.extend([0xfe; 32]);
    packet.extend(payload);
    packet
}

/// UDP without a checksum.
pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend(u16::try_from(8 + payload.len()).expect("a short packet").to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

/// BOOTP with a cookie and these options. `operation` is 1 from clients and 2 from servers.
pub(crate) fn bootp(operation: u8, client: MacAddr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(28, 0);
    message.extend(client.octets());
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message
}
