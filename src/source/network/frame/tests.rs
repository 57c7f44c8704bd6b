//! Builds every kind of frame by hand, and checks what it proves.

use super::{
    ip::{GRE, ICMPV6, IP_IN_IP, UDP},
    *,
};

const DEVICE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 1, 2, 3]);
const OTHER: MacAddr = MacAddr::new([0x00, 0x1b, 0x21, 4, 5, 6]);

fn ethernet(source: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &source.octets(), &ether_type.to_be_bytes(), payload].concat()
}

fn arp(operation: u8, sender: MacAddr, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender.octets(), &from, &[0; 6], &to].concat();
    ethernet(DEVICE, ARP, &body)
}

fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(20 + payload.len()).expect("short");
    let [a, b, c, d] = [total.to_be_bytes(), fragment.to_be_bytes()].concat().try_into().expect("four octets");
    [&[0x45, 0, a, b, 0, 0, c, d, 64, protocol, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1][..], payload].concat()
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("short");
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn bootp(operation: u8, options: &[u8]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(28, 0);
    message.extend(DEVICE.octets());
    message.resize(236, 0);
    message.extend([99, 130, 83, 99]);
    message.extend(options);
    message
}

/// A message as forwarded by a relay: the relay's address in the Ethernet header, the client's in the message.
fn dhcp(operation: u8, options: &[u8]) -> Vec<u8> {
    ethernet(OTHER, IPV4, &ipv4(UDP, 0, &udp(67, 67, &bootp(operation, options))))
}

fn icmpv6(source: MacAddr, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short").to_be_bytes();
    let header = [&[0x60, 0, 0, 0, length[0], length[1], ICMPV6, hop_limit][..], &[0xfe; 32]].concat();
    ethernet(source, IPV6, &[header, body.to_vec()].concat())
}

/// Neighbour discovery with one link-layer option.
fn discovery(kind: u8, flags: u8, header: usize, option: u8, link: MacAddr) -> Vec<u8> {
    let mut body = vec![kind, 0, 0, 0, flags];
    body.resize(header, 0);
    body.extend([option, 1]);
    body.extend(link.octets());
    body
}

fn says(frame: &[u8]) -> (String, Option<MacAddr>, Evidence) {
    let seen = observe(frame, None).expect("the frame concerns a device");
    (seen.kind.to_string(), seen.mac, seen.evidence)
}

#[test]
fn arp_proves_what_its_operation_allows() {
    let (mine, yours, none) = ([10, 0, 0, 9], [10, 0, 0, 1], [0; 4]);
    let group = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);
    let table = [
        (arp(1, DEVICE, mine, yours), "arp_request", Evidence::Strong),
        (arp(1, DEVICE, none, mine), "arp_probe", Evidence::Strong),
        (arp(1, DEVICE, mine, mine), "arp_announcement", Evidence::Strong),
        (arp(2, DEVICE, mine, yours), "arp_reply", Evidence::Weak),
        (arp(3, DEVICE, mine, yours), "arp_other", Evidence::None(WhyNot::Operation(3))),
        (arp(1, OTHER, mine, yours), "arp_request", Evidence::None(WhyNot::SenderIsNotSource)),
        (arp(1, group, mine, yours), "arp_request", Evidence::None(WhyNot::GroupAddress)),
        (arp(1, MacAddr::new([0; 6]), mine, yours), "arp_request", Evidence::None(WhyNot::ZeroAddress)),
        (
            arp(1, MacAddr::new([0, 0, 0x5e, 0, 1, 7]), mine, yours),
            "arp_request",
            Evidence::None(WhyNot::VirtualRouter),
        ),
        (arp(1, DEVICE, mine, yours)[..30].to_vec(), "arp_request", Evidence::None(WhyNot::Malformed)),
        (arp(1, DEVICE, mine, yours)[..24].to_vec(), "arp_request", Evidence::None(WhyNot::NoAddress)),
    ];
    for (frame, kind, evidence) in table {
        let (got, _, got_evidence) = says(&frame);
        assert_eq!((got.as_str(), got_evidence), (kind, evidence), "{frame:02x?}");
    }
}

#[test]
fn dhcp_speaks_for_the_client_behind_a_relay() {
    let no = |why| Evidence::None(why);
    let table = [
        (dhcp(1, &[53, 1, 1, 255]), "dhcp_discover", Evidence::Strong),
        (dhcp(1, &[53, 1, 3, 255]), "dhcp_request", Evidence::Strong),
        (dhcp(1, &[53, 1, 4, 255]), "dhcp_decline", Evidence::Strong),
        (dhcp(1, &[53, 1, 8, 255]), "dhcp_inform", Evidence::Strong),
        (dhcp(1, &[0, 0, 53, 1, 3]), "dhcp_request", Evidence::Strong),
        (dhcp(2, &[53, 1, 5, 255]), "dhcp_ack", Evidence::Weak),
        (dhcp(1, &[255]), "bootp_request", Evidence::Strong),
        (dhcp(2, &[255]), "bootp_reply", no(WhyNot::DoesNotShowTheClient)),
        (dhcp(2, &[53, 1, 2, 255]), "dhcp_offer", no(WhyNot::DoesNotShowTheClient)),
        (dhcp(2, &[53, 1, 1, 255]), "dhcp_discover", no(WhyNot::DoesNotShowTheClient)),
        (dhcp(1, &[53, 1, 7, 255]), "dhcp_release", no(WhyNot::DoesNotShowTheClient)),
        (dhcp(1, &[53, 1, 10, 255]), "dhcp_type_10", no(WhyNot::DoesNotShowTheClient)),
        (dhcp(1, &[53, 1, 3, 12, 200, 65]), "dhcp_request", no(WhyNot::Malformed)),
        (dhcp(1, &[53, 1, 3, 12]), "dhcp_request", no(WhyNot::Malformed)),
    ];
    for (frame, kind, evidence) in table {
        assert_eq!(says(&frame), (kind.to_owned(), Some(DEVICE), evidence));
    }
}

#[test]
fn dhcp_options_are_found_in_the_overloaded_fields() {
    for (overload, at) in [(1u8, 108usize), (2, 44), (3, 44), (3, 108)] {
        let mut message = bootp(1, &[52, 1, overload, 255]);
        message[at..at + 4].copy_from_slice(&[53, 1, 3, 255]);
        let frame = ethernet(OTHER, IPV4, &ipv4(UDP, 0, &udp(68, 67, &message)));
        assert_eq!(says(&frame), ("dhcp_request".to_owned(), Some(DEVICE), Evidence::Strong), "{overload} {at}");
    }
}

#[test]
fn the_first_fragment_of_a_dhcp_message_is_enough_and_the_others_mean_nothing() {
    let first = udp(68, 67, &bootp(1, &[53, 1, 3, 12, 40, 65]));
    assert_eq!(says(&ethernet(DEVICE, IPV4, &ipv4(UDP, 0x2000, &first))).2, Evidence::Strong);
    assert_eq!(observe(&ethernet(DEVICE, IPV4, &ipv4(UDP, 0x0010, &first)), None), None);
}

#[test]
fn a_lease_time_is_read_from_acknowledgements_only() {
    let lease = |frame: &[u8]| observe(frame, None).and_then(|seen| seen.lease);
    let options = |message| [53, 1, message, 51, 4, 0, 0, 14, 16, 255];
    assert_eq!(lease(&dhcp(2, &options(5))), Some(Duration::from_secs(3600)));
    assert_eq!(lease(&dhcp(2, &options(2))), None);
    assert_eq!(lease(&dhcp(1, &options(3))), None);
    assert_eq!(lease(&dhcp(2, &[53, 1, 5, 51, 4, 255, 255, 255, 255, 255])), None, "an infinite lease");
}

#[test]
fn a_dhcp_message_says_which_way_it_took() {
    let relay = Ipv4Addr::new(10, 1, 0, 1);
    let message = |operation: u8, kind: u8, through: Option<Ipv4Addr>| {
        let mut message = bootp(operation, &[53, 1, kind, 255]);
        message[24..28].copy_from_slice(&through.map_or([0; 4], |relay| relay.octets()));
        ipv4(UDP, 0, &udp(67, 67, &message))
    };
    let via = |frame: &[u8]| observe(frame, None).map(|seen| seen.via);
    let from = |source: MacAddr, packet: Vec<u8>| ethernet(source, IPV4, &packet);
    let to = |target: MacAddr, packet: Vec<u8>| {
        let mut frame = ethernet(OTHER, IPV4, &packet);
        frame[..6].copy_from_slice(&target.octets());
        frame
    };
    let router = MacAddr::new([0x00, 0x1b, 0x21, 7, 7, 7]);
    for (frame, wanted) in [
        (from(DEVICE, message(1, 3, None)), Via::Link),
        (from(OTHER, message(1, 3, None)), Via::Router),
        (from(OTHER, message(1, 3, Some(relay))), Via::Relay(relay)),
        (to(DEVICE, message(2, 5, None)), Via::Link),
        (to(MacAddr::new([0xff; 6]), message(2, 5, None)), Via::Link),
        (to(router, message(2, 5, None)), Via::Router),
        (to(router, message(2, 5, Some(relay))), Via::Relay(relay)),
        (arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]), Via::Link),
    ] {
        assert_eq!(via(&frame), Some(wanted), "{frame:02x?}");
    }
}
#[test]
fn neighbour_discovery_speaks_for_its_sender() {
    let no = |why| Evidence::None(why);
    let table = [
        (icmpv6(DEVICE, 255, &discovery(135, 0, 24, 1, DEVICE)), "neighbour_solicitation", Evidence::Strong),
        (icmpv6(DEVICE, 255, &discovery(133, 0, 8, 1, DEVICE)), "router_solicitation", Evidence::Strong),
        (icmpv6(DEVICE, 255, &discovery(136, 0x20, 24, 2, DEVICE)), "neighbour_advertisement", Evidence::Strong),
        (
            icmpv6(DEVICE, 255, &discovery(136, 0x60, 24, 2, DEVICE)),
            "neighbour_advertisement_solicited",
            Evidence::Weak,
        ),
        (icmpv6(DEVICE, 255, &discovery(134, 0, 16, 1, DEVICE)), "router_advertisement", no(WhyNot::Router)),
        (
            icmpv6(DEVICE, 255, &discovery(135, 0, 24, 1, OTHER)),
            "neighbour_solicitation",
            no(WhyNot::OptionIsNotSource),
        ),
        (icmpv6(DEVICE, 64, &discovery(135, 0, 24, 1, DEVICE)), "neighbour_solicitation", no(WhyNot::Malformed)),
        (icmpv6(DEVICE, 255, &[135, 0, 0, 0]), "neighbour_solicitation", no(WhyNot::Malformed)),
    ];
    for (frame, kind, evidence) in table {
        assert_eq!(says(&frame), (kind.to_owned(), Some(DEVICE), evidence));
    }
    let mut without_length = discovery(135, 0, 24, 1, DEVICE);
    without_length[25] = 0;
    assert_eq!(says(&icmpv6(DEVICE, 255, &without_length)).2, no(WhyNot::Malformed));
    assert_eq!(observe(&icmpv6(DEVICE, 255, &[128, 0, 0, 0, 0, 0, 0, 0]), None), None);
}

#[test]
fn what_is_inside_a_tunnel_is_no_evidence() {
    let inner = arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]);
    let asking = ipv4(UDP, 0, &udp(68, 67, &bootp(1, &[53, 1, 1, 255])));
    let vxlan = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat());
    let geneve = udp(50_000, 6081, &[&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 0, 0, 0, 0][..], &inner].concat());
    let gre = [&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7][..], &inner].concat();
    for packet in [ipv4(UDP, 0, &vxlan), ipv4(UDP, 0, &geneve), ipv4(GRE, 0, &gre), ipv4(IP_IN_IP, 0, &asking)] {
        let (kind, mac, evidence) = says(&ethernet(OTHER, IPV4, &packet));
        assert_eq!((kind.as_str(), mac, evidence), ("tunnelled", Some(OTHER), Evidence::None(WhyNot::Tunnelled)));
    }
    let web = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(DEVICE, 0x88cc, &[0; 40])].concat());
    assert_eq!(observe(&ethernet(OTHER, IPV4, &ipv4(UDP, 0, &web)), None), None);
}

#[test]
fn a_fourth_tag_is_not_read() {
    let inner = arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]);
    let tagged = |count: usize| [&inner[..12], &[0x81, 0, 0, 7].repeat(count), &inner[12..]].concat();
    assert_eq!(observe(&tagged(3), None).map(|seen| seen.vlans.to_string()), Some("7,7,7".to_owned()));
    assert_eq!(
        observe(&tagged(2), Some(VlanId::from_tci(9))).map(|seen| seen.vlans.to_string()),
        Some("9,7,7".to_owned())
    );
    assert_eq!(observe(&tagged(4), None), None);
    assert_eq!(observe(&tagged(3), Some(VlanId::from_tci(9))), None);
}
