//! Captures that the project generates itself: a frame of every shape seen on a mirror port, with its expected meaning.

use std::{fmt::Write as _, fs, path::Path};

use checkind::{base::mac::MacAddr, cli::capture_file::LinkType};

use super::frame::{arp, bootp, ethernet, ipv4, ipv6, udp};

const DEVICE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 1, 2, 3]);
const RELAY: MacAddr = MacAddr::new([0x00, 0x1b, 0x21, 4, 5, 6]);
/// A virtual address of VRRP (RFC 9568 7.3).
const VIRTUAL_ROUTER: MacAddr = MacAddr::new([0x00, 0x00, 0x5e, 0x00, 0x01, 5]);
const ZERO: MacAddr = MacAddr::new([0; 6]);
const GROUP: MacAddr = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);
const UNREADABLE: &str = "malformed";
const NOT_THE_CLIENT: &str = "does not show that the client is here";

/// A frame, the link on which it was captured, and the columns after its number; `None` if the frame concerns no
/// device.
pub(crate) struct Shape {
    pub(crate) link: LinkType,
    pub(crate) frame: Vec<u8>,
    pub(crate) says: Option<String>,
}

fn shape(frame: Vec<u8>, kind: &str, mac: Option<MacAddr>, evidence: &str, why: &str) -> Shape {
    let mac = mac.map_or_else(|| "-".to_owned(), |mac| mac.to_string());
    Shape { link: LinkType::ETHERNET, frame, says: Some(format!("{kind}\t-\t{mac}\t{evidence}\t{why}")) }
}

fn strong(frame: Vec<u8>, kind: &str) -> Shape {
    shape(frame, kind, Some(DEVICE), "strong", "")
}

fn weak(frame: Vec<u8>, kind: &str) -> Shape {
    shape(frame, kind, Some(DEVICE), "weak", "")
}

fn silent(link: LinkType, frame: Vec<u8>) -> Shape {
    Shape { link, frame, says: None }
}

/// DHCP as forwarded by a relay: the relay's address outside, the client's inside.
fn dhcp(operation: u8, options: &[u8]) -> Vec<u8> {
    ethernet(RELAY, &[], 0x0800, &ipv4(17, 5, 0, &udp(67, 67, &bootp(operation, DEVICE, options))))
}

fn dhcpv6(message: &[u8]) -> Vec<u8> {
    ethernet(DEVICE, &[], 0x86dd, &ipv6(17, &udp(546, 547, message)))
}

/// Neighbour discovery (RFC 4861 4) with one link-layer address option.
fn discovery(kind: u8, flags: u8, header: usize, option: u8, link: MacAddr) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags];
    body.resize(header, 0);
    body.extend([option, 1]);
    body.extend(link.octets());
    ethernet(DEVICE, &[], 0x86dd, &ipv6(58, &body))
}

fn arp_shapes() -> Vec<Shape> {
    let (mine, yours) = ([10, 0, 0, 9], [10, 0, 0, 1]);
    let from = |operation, sender, from, to| ethernet(DEVICE, &[], 0x0806, &arp(operation, sender, from, to));
    let mut token_ring = arp(1, DEVICE, mine, yours);
    token_ring[1] = 6;
    let cut = ethernet(DEVICE, &[], 0x0806, &arp(1, DEVICE, mine, yours))[..30].to_vec();
    let tagged = ethernet(DEVICE, &[(0x8100, 48)], 0x0806, &arp(1, DEVICE, mine, yours));
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &arp(1, DEVICE, mine, yours)].concat();
    let snap = ethernet(DEVICE, &[], u16::try_from(snap.len()).expect("a short frame"), &snap);
    let no = |frame, kind, mac, why| shape(frame, kind, Some(mac), "no", why);
    let virtual_router = arp(1, VIRTUAL_ROUTER, yours, yours);
    let virtual_router = ethernet(VIRTUAL_ROUTER, &[], 0x0806, &virtual_router);
    let mut under_tag = strong(tagged, "arp_request");
    under_tag.says = under_tag.says.map(|says| says.replacen("\t-\t", "\t48\t", 1));
    vec![
        strong(from(1, DEVICE, mine, yours), "arp_request"),
        strong(from(1, DEVICE, [0; 4], mine), "arp_probe"),
        strong(from(1, DEVICE, mine, mine), "arp_announcement"),
        strong(snap, "arp_request"),
        under_tag,
        weak(from(2, DEVICE, mine, yours), "arp_reply"),
        no(from(8, DEVICE, mine, yours), "arp_other", DEVICE, "operation 8"),
        no(from(1, RELAY, mine, yours), "arp_request", RELAY, "sender is not the Ethernet source"),
        no(from(1, GROUP, mine, yours), "arp_request", GROUP, "group address"),
        no(from(1, ZERO, mine, yours), "arp_request", ZERO, "zero address"),
        no(cut, "arp_request", DEVICE, UNREADABLE),
        no(virtual_router, "arp_announcement", VIRTUAL_ROUTER, "virtual router"),
        shape(ethernet(DEVICE, &[], 0x0806, &token_ring), "arp_other", Some(DEVICE), "no", "not IPv4 over Ethernet"),
    ]
}

fn dhcp_shapes() -> Vec<Shape> {
    let typed = |message| [53, 1, message, 255];
    let client = [(1, "discover"), (3, "request"), (4, "decline"), (8, "inform")];
    let mut shapes: Vec<Shape> =
        client.map(|(message, word)| strong(dhcp(1, &typed(message)), &format!("dhcp_{word}"))).into();
    let others = [(2, 2, "dhcp_offer"), (2, 6, "dhcp_nak"), (1, 7, "dhcp_release"), (1, 10, "dhcp_type_10")];
    shapes.extend(others.map(|(operation, message, kind)| {
        shape(dhcp(operation, &typed(message)), kind, Some(DEVICE), "no", NOT_THE_CLIENT)
    }));
    shapes.push(weak(dhcp(2, &typed(5)), "dhcp_ack"));
    shapes.push(strong(dhcp(1, &[255]), "bootp_request"));
    shapes.push(shape(dhcp(2, &[255]), "bootp_reply", Some(DEVICE), "no", NOT_THE_CLIENT));
    // An option that extends beyond the end.
    shapes.push(shape(dhcp(1, &[53, 1, 3, 12, 200, 65]), "dhcp_request", Some(DEVICE), "no", UNREADABLE));
    // The message type is in the field for a file name (RFC 2131 4.1).
    let mut overloaded = bootp(1, DEVICE, &[52, 1, 1, 255]);
    overloaded[108..112].copy_from_slice(&[53, 1, 3, 255]);
    let overloaded = ethernet(RELAY, &[], 0x0800, &ipv4(17, 6, 0, &udp(68, 67, &overloaded)));
    shapes.push(strong(overloaded, "dhcp_request"));
    let mut infiniband = bootp(2, DEVICE, &[255]);
    infiniband[1] = 32;
    let infiniband = ethernet(RELAY, &[], 0x0800, &ipv4(17, 5, 0, &udp(67, 68, &infiniband)));
    shapes.push(shape(infiniband, "bootp_reply", None, "no", "not an Ethernet client"));
    // The first fragment is enough; later ones have no ports.
    let first = udp(68, 67, &bootp(1, DEVICE, &[53, 1, 3, 12, 40, 65]));
    shapes.push(strong(ethernet(DEVICE, &[], 0x0800, &ipv4(17, 5, 0x2000, &first)), "dhcp_request"));
    shapes.push(silent(LinkType::ETHERNET, ethernet(DEVICE, &[], 0x0800, &ipv4(17, 5, 0x0010, &first))));
    shapes
}

fn ipv6_shapes() -> Vec<Shape> {
    let client = [
        (1, "solicit"),
        (3, "request"),
        (4, "confirm"),
        (5, "renew"),
        (6, "rebind"),
        (9, "decline"),
        (11, "information-request"),
    ];
    let message = |kind: u8| vec![kind, 1, 2, 3, 0, 8, 0, 2, 0, 0];
    let mut shapes: Vec<Shape> =
        client.map(|(kind, word)| strong(dhcpv6(&message(kind)), &format!("dhcpv6_{word}"))).into();
    let others = [(8, "release"), (2, "type_2"), (7, "type_7"), (12, "type_12"), (13, "type_13")];
    shapes.extend(others.map(|(kind, word)| {
        shape(dhcpv6(&message(kind)), &format!("dhcpv6_{word}"), Some(DEVICE), "no", NOT_THE_CLIENT)
    }));
    shapes.push(strong(discovery(135, 0, 24, 1, DEVICE), "neighbour_solicitation"));
    shapes.push(strong(discovery(133, 0, 8, 1, DEVICE), "router_solicitation"));
    shapes.push(strong(discovery(136, 0x20, 24, 2, DEVICE), "neighbour_advertisement"));
    shapes.push(weak(discovery(136, 0x60, 24, 2, DEVICE), "neighbour_advertisement_solicited"));
    let router = "routers are infrastructure";
    shapes.push(shape(discovery(134, 0, 16, 1, DEVICE), "router_advertisement", Some(DEVICE), "no", router));
    let option = "link-layer option is not the Ethernet source";
    shapes.push(shape(discovery(135, 0, 24, 1, RELAY), "neighbour_solicitation", Some(DEVICE), "no", option));
    let cut = ethernet(DEVICE, &[], 0x86dd, &ipv6(58, &[135, 0, 0, 0]));
    shapes.push(shape(cut, "neighbour_solicitation", Some(DEVICE), "no", UNREADABLE));
    // An echo request.
    shapes.push(silent(LinkType::ETHERNET, ethernet(DEVICE, &[], 0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0]))));
    shapes
}

/// Other contents of captures: tunnels, and links that are not Ethernet.
fn other_shapes() -> Vec<Shape> {
    let request = arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]);
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(DEVICE, &[], 0x0806, &request)].concat();
    let vxlan = ethernet(RELAY, &[], 0x0800, &ipv4(17, 5, 0, &udp(50_000, 4789, &vxlan)));
    let other_link = |link, header: &[u8]| Shape {
        link,
        frame: [header, &request].concat(),
        says: Some("other_link_layer\t-\t-\tno\tnot Ethernet".to_owned()),
    };
    let cooked = [&[0, 0, 0, 1, 0, 6][..], &DEVICE.octets(), &[0, 0, 8, 6]].concat();
    let cooked_2 = [&[8, 6, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6][..], &DEVICE.octets(), &[0, 0]].concat();
    let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 6];
    let wireless = [&[8, 1][..], &[0; 22], &snap].concat();
    let quality = [&[0x88, 1][..], &[0; 24], &snap].concat();
    let radiotap = [&[0, 0, 8, 0, 0, 0, 0, 0][..], &wireless].concat();
    let encrypted = [&[8, 0x41][..], &[0; 22], &snap, &request].concat();
    vec![
        shape(vxlan, "tunnelled", Some(RELAY), "no", "tunnelled frame"),
        other_link(LinkType::LINUX_COOKED, &cooked),
        other_link(LinkType::LINUX_COOKED_2, &cooked_2),
        // RFC 1051, and RFC 1201 with three more octets.
        other_link(LinkType::ARCNET_LINUX, &[1, 2, 0, 0, 0xf1]),
        other_link(LinkType::ARCNET_LINUX, &[1, 2, 0, 0, 0xd5, 0, 0, 1]),
        other_link(LinkType::IEEE_802_11, &wireless),
        other_link(LinkType::IEEE_802_11, &quality),
        other_link(LinkType::RADIOTAP, &radiotap),
        silent(LinkType::IEEE_802_11, encrypted),
        silent(LinkType::ETHERNET, ethernet(DEVICE, &[], 0x88cc, &[2; 60])),
        silent(LinkType::ETHERNET, vec![0xff; 7]),
    ]
}

/// Every shape.
pub(crate) fn all() -> Vec<Shape> {
    [arp_shapes(), dhcp_shapes(), ipv6_shapes(), other_shapes()].into_iter().flatten().collect()
}

/// Writes the shapes as captures: a pcap file for each link, and all of them in one pcapng file. Returns what
/// `replay --frames` must print for the files, in the order of their names.
pub(crate) fn write(folder: &Path) -> String {
    let shapes = all();
    let mut expected = "file\tframe\tkind\tvlans\tmac\tevidence\twhy\n".to_owned();
    let mut tell = |name: &str, shapes: &[&Shape]| {
        for (number, shape) in (1..).zip(shapes) {
            if let Some(says) = &shape.says {
                writeln!(expected, "{name}\t{number}\t{says}").expect("writing to a String cannot fail");
            }
        }
    };
    let every: Vec<&Shape> = shapes.iter().collect();
    fs::write(folder.join("all.pcapng"), pcapng(&every)).expect("the file is written");
    tell("all.pcapng", &every);
    let mut links: Vec<u16> = shapes.iter().map(|shape| shape.link.0).collect();
    links.sort_unstable();
    links.dedup();
    for link in links {
        let of_link: Vec<&Shape> = shapes.iter().filter(|shape| shape.link.0 == link).collect();
        let name = format!("link-{link:03}.pcap");
        fs::write(folder.join(&name), pcap(link, &of_link)).expect("the file is written");
        tell(&name, &of_link);
    }
    expected
}

fn pcap(link: u16, shapes: &[&Shape]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let words = |bytes: &mut Vec<u8>, words: &[u32]| bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    words(&mut bytes, &[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link.into()]);
    for (second, shape) in (1_772_442_000..).zip(shapes) {
        let length = u32::try_from(shape.frame.len()).expect("a short frame");
        words(&mut bytes, &[second, 0, length, length]);
        bytes.extend(&shape.frame);
    }
    bytes
}

/// One section with an interface for each link.
fn pcapng(shapes: &[&Shape]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let padded = body.len().next_multiple_of(4);
        let length = u32::try_from(padded + 12).expect("a short block").to_be_bytes();
        bytes.extend(kind.to_be_bytes());
        bytes.extend(length);
        bytes.extend(body);
        bytes.resize(bytes.len() + padded - body.len(), 0);
        bytes.extend(length);
    };
    block(0x0a0d_0d0a, &[&0x1a2b_3c4d_u32.to_be_bytes()[..], &[0, 1, 0, 0], &[0xff; 8]].concat());
    let mut links: Vec<u16> = Vec::new();
    for shape in shapes {
        let interface = links.iter().position(|link| *link == shape.link.0).unwrap_or_else(|| {
            block(1, &[&shape.link.0.to_be_bytes()[..], &[0, 0], &65_535_u32.to_be_bytes()].concat());
            links.push(shape.link.0);
            links.len() - 1
        });
        let length = u32::try_from(shape.frame.len()).expect("a short frame").to_be_bytes();
        let interface = u32::try_from(interface).expect("a small number").to_be_bytes();
        // 2026-03-02T09:00:00Z, in microseconds.
        let time = 1_772_442_000_000_000_u64.to_be_bytes();
        block(6, &[&interface[..], &time, &length, &length, &shape.frame].concat());
    }
    bytes
}
