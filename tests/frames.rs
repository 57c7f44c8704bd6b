//! The meaning of frames, checked against captures made by others, an independent parser, and the kernel's filter.

use std::{
    fs,
    path::{Path, PathBuf},
};

use checkind::{
    base::{clock::WallTime, mac::MacAddr},
    cli::{
        capture_file::{CaptureFile, CaptureFileError, LinkType},
        replay,
    },
    source::network::{
        filter,
        frame::{Evidence, FrameKind, Observation, VlanId, Vlans, observe},
    },
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::{prelude::*, test_runner::FileFailurePersistence};

use crate::support::{
    bpf,
    frame::{Tag, arp, bootp, ethernet, ipv4, ipv6, udp},
    shapes, skipped,
};

/// The folder with captures made by others and their expected meaning (`expected.tsv`), if configured. The captures are
/// not part of the project.
#[expect(clippy::disallowed_methods, reason = "the caller says where they are")]
fn captures_of_others() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os("CHECKIND_CAPTURES").filter(|folder| !folder.is_empty())?);
    assert!(folder.join("expected.tsv").exists(), "{} has no expected.tsv", folder.display());
    Some(folder)
}

/// The captures in a folder, by name.
fn captures_in(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder of captures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "pcap" || kind == "pcapng"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no captures in {}", folder.display());
    files
}

/// Calls `check` with every capture, those generated here and those of others.
fn with_captures(check: impl FnOnce(&[PathBuf])) {
    let ours = tempfile::tempdir().expect("a temporary directory");
    shapes::write(ours.path());
    let mut files = captures_in(ours.path());
    files.extend(captures_of_others().iter().flat_map(|folder| captures_in(folder)));
    check(&files);
}

fn print(files: &[PathBuf]) -> String {
    let mut printed = Vec::new();
    replay::print_frames(files, &mut printed).expect("all captures are whole");
    String::from_utf8(printed).expect("UTF-8")
}

fn assert_lines(printed: &str, expected: &str) {
    for (got, want) in printed.lines().zip(expected.lines()) {
        assert_eq!(got, want);
    }
    assert_eq!(printed, expected);
}

#[test]
fn every_shape_of_a_frame_means_what_it_should() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let expected = shapes::write(folder.path());
    assert_lines(&print(&captures_in(folder.path())), &expected);
}

#[test]
fn every_frame_of_the_captures_of_others_means_what_their_oracle_says() {
    let Some(folder) = captures_of_others() else {
        skipped("captures made by others", "CHECKIND_CAPTURES names no folder of them");
        return;
    };
    let expected = fs::read_to_string(folder.join("expected.tsv")).expect("expected.tsv");
    assert_lines(&print(&captures_in(&folder)), &expected);
}

/// Every Ethernet frame of the captures.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    with_captures(|files| {
        for path in files {
            let bytes = fs::read(path).expect("a capture");
            let mut file = CaptureFile::open(bytes.as_slice()).expect("a capture");
            while let Some(record) = file.next_record().expect("a whole capture") {
                if record.link == LinkType::ETHERNET {
                    frames.push(record.bytes.to_vec());
                }
            }
        }
    });
    assert!(frames.len() > 80, "only {} frames", frames.len());
    frames
}

fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(12);
    let tags = tags.iter().flat_map(|(kind, vlan)| kind.to_be_bytes().into_iter().chain(vlan.to_be_bytes()));
    addresses.iter().copied().chain(tags).chain(rest.iter().copied()).collect()
}

/// The frame and tag as the kernel passes them to the filter and the program: it removes the outermost tag if it is of
/// one of two types.
fn as_the_kernel_shows_it(frame: &[u8]) -> (Vec<u8>, Option<VlanId>) {
    match frame.get(12..16) {
        Some([0x81, 0x00, a, b] | [0x88, 0xa8, a, b]) => {
            let tag = VlanId::from_tci(u16::from_be_bytes([*a, *b]));
            (frame[..12].iter().chain(&frame[16..]).copied().collect(), Some(tag))
        }
        _ => (frame.to_vec(), None),
    }
}

/// Whether the frame is evidence, or must be counted as suspicious.
fn is_wanted(seen: &Observation) -> bool {
    match seen.evidence {
        Evidence::Strong | Evidence::Weak => true,
        Evidence::None(why) => why.is_suspicious(),
    }
}

const TAGGINGS: [&[Tag]; 6] = [
    &[],
    &[(0x8100, 10)],
    &[(0x88a8, 0xe014), (0x8100, 10)],
    &[(0x9100, 5), (0x8100, 10)],
    &[(0x88a8, 1), (0x88a8, 2), (0x8100, 3)],
    &[(0x9100, 1), (0x9100, 2), (0x9100, 3)],
];

#[test]
fn the_kernels_filter_lets_through_every_wanted_frame_under_up_to_three_tags() {
    let program = filter::program();
    for frame in frames() {
        let untagged = observe(&frame, None);
        for tags in TAGGINGS.into_iter().filter(|_| untagged.is_some_and(|seen| seen.vlans.ids().is_empty())) {
            let (shown, tag) = as_the_kernel_shows_it(&tagged(&frame, tags));
            let seen = observe(&shown, tag).expect("tags change nothing");
            let ids: Vec<u16> = seen.vlans.ids().iter().map(|id| id.number()).collect();
            assert_eq!(ids, tags.iter().map(|(_, tci)| tci & 0x0fff).collect::<Vec<_>>());
            assert_eq!(Some(Observation { vlans: Vlans::default(), ..seen }), untagged);
            assert!(!is_wanted(&seen) || bpf::run(&program, &shown) > 0, "{seen:?} under {tags:?}");
        }
    }
}

#[test]
fn the_kernels_filter_drops_the_bulk_of_the_traffic() {
    let program = filter::program();
    let web = udp(443, 40_000, &[7; 200]);
    let bulk = [
        ethernet(mac(1), &[], 0x0800, &ipv4(17, 5, 0, &web)),
        ethernet(mac(1), &[(0x8100, 9)], 0x0800, &ipv4(6, 5, 0, &[0; 40])),
        ethernet(mac(1), &[], 0x86dd, &ipv6(6, &[0; 40])),
        ethernet(mac(1), &[], 0x86dd, &ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0])),
        // The second fragment of a DHCP message has data in place of the ports.
        ethernet(mac(1), &[], 0x0800, &ipv4(17, 5, 0x00b9, &udp(68, 67, &[0; 100]))),
        ethernet(mac(1), &[], 0x88cc, &[2; 60]),
    ];
    for frame in bulk {
        assert_eq!(bpf::run(&program, &frame), 0, "{frame:02x?}");
    }
}

fn mac(number: u8) -> MacAddr {
    MacAddr::new([0x3c, 0x22, 0xfb, 0, 0, number])
}

/// Frames as on a mirror port, intact or damaged in one place.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let tags = prop::sample::select(TAGGINGS.to_vec());
    let port = prop::sample::select(vec![67u16, 68, 546, 547, 53, 4789]);
    let words = 5u8..=15;
    let fragment = prop::sample::select(vec![0u16, 0x4000, 0x2000, 0x2001, 0x00ff]);
    let payload = prop_oneof![
        (1u8..=9, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(message, more)| {
            bootp(1 + message % 2, mac(message), &[&[53, 1, message][..], &more].concat())
        }),
        (0u8..16).prop_map(|message| vec![message, 1, 2, 3, 0, 8, 0, 2, 0, 0]),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let ip = (port.clone(), port, words, fragment, payload, any::<bool>()).prop_map(
        |(from, to, words, fragment, payload, six)| {
            let datagram = udp(from, to, &payload);
            if six { (0x86dd, ipv6(17, &datagram)) } else { (0x0800, ipv4(17, words, fragment, &datagram)) }
        },
    );
    let arp = (0u16..4, 0u8..3, any::<[u8; 4]>(), any::<[u8; 4]>())
        .prop_map(|(operation, sender, from, to)| (0x0806, arp(operation, mac(sender), from, to)));
    let discovery = (130u8..140, prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(kind, body)| (0x86dd, ipv6(58, &[&[kind, 0, 0, 0][..], &body].concat())));
    let damage = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (tags, prop_oneof![ip, arp, discovery], any::<bool>(), damage).prop_map(|(tags, (kind, payload), snap, damage)| {
        let mut frame = if snap {
            let wrapped = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &u16::to_be_bytes(kind), &payload].concat();
            ethernet(mac(1), tags, u16::try_from(wrapped.len()).expect("a short frame"), &wrapped)
        } else {
            ethernet(mac(1), tags, kind, &payload)
        };
        if let Some((at, value)) = damage {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases * 16,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/frames.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_wanted_passes_the_kernels_filter(frame in any_frame()) {
        let (shown, tag) = as_the_kernel_shows_it(&frame);
        if observe(&shown, tag).is_some_and(|seen| is_wanted(&seen)) {
            prop_assert!(bpf::run(&filter::program(), &shown) > 0);
        }
    }

    #[test]
    fn a_tag_means_the_same_whether_or_not_the_kernel_has_stripped_it(frame in any_frame()) {
        let (shown, tag) = as_the_kernel_shows_it(&frame);
        prop_assert_eq!(observe(&shown, tag), observe(&frame, None));
    }

    #[test]
    fn an_independent_parser_sees_the_same_tags_addresses_and_ports(frame in any_frame()) {
        let Ok(packet) = SlicedPacket::from_ethernet(&frame) else { return Ok(()) };
        let seen = observe(&frame, None);
        if let Some(seen) = &seen && packet.net.is_some() {
            let ids: Vec<u16> = packet.vlan_ids().iter().map(|id| id.value()).collect();
            prop_assert_eq!(seen.vlans.ids().iter().map(|id| id.number()).collect::<Vec<_>>(), ids);
        }
        match (&packet.net, &packet.transport) {
            (Some(NetSlice::Arp(arp)), _) => {
                let seen = seen.expect("ARP always has a meaning");
                if matches!(seen.evidence, Evidence::Strong | Evidence::Weak) {
                    prop_assert_eq!(seen.mac.map(|mac| mac.octets().to_vec()), Some(arp.sender_hw_addr().to_vec()));
                    prop_assert_eq!(seen.kind == FrameKind::ArpReply, arp.operation().0 == 2);
                }
            }
            (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Udp(datagram))) if datagram.payload().len() > 2 => {
                let dhcp = |port| matches!(port, 67 | 68);
                let is_dhcp = dhcp(datagram.source_port()) || dhcp(datagram.destination_port());
                let as_dhcp = matches!(
                    seen.map(|seen| seen.kind),
                    Some(FrameKind::Dhcp(_) | FrameKind::BootpRequest | FrameKind::BootpReply)
                );
                prop_assert_eq!(is_dhcp, as_dhcp);
            }
            _ => {}
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), tag: Option<u16>) {
        let _seen = observe(&bytes, tag.map(VlanId::from_tci));
    }

    #[test]
    fn no_file_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in 0usize..4) {
        let starts: [&[u8]; 4] = [
            &[0xd4, 0xc3, 0xb2, 0xa1],
            &[0xa1, 0xb2, 0x3c, 0x4d],
            &[0x0a, 0x0d, 0x0d, 0x0a, 28, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0],
            &[],
        ];
        read_all(&[starts[start], &bytes].concat());
    }
}

/// Counts the frames up to the end or the first fault.
fn read_all(bytes: &[u8]) -> (usize, Option<CaptureFileError>) {
    let mut count = 0;
    let mut file = match CaptureFile::open(bytes) {
        Ok(file) => file,
        Err(fault) => return (0, Some(fault)),
    };
    loop {
        match file.next_record() {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(fault) => return (count, Some(fault)),
        }
    }
}

#[test]
fn a_cut_or_damaged_capture_ends_without_a_panic() {
    with_captures(cut_and_damage);
}

fn cut_and_damage(files: &[PathBuf]) {
    for path in files {
        let whole = fs::read(path).expect("a capture");
        let (frames, fault) = read_all(&whole);
        assert!(fault.is_none(), "{}: {fault:?}", path.display());
        for length in (0..whole.len()).step_by(whole.len() / 50 + 1) {
            let (fewer, _) = read_all(&whole[..length]);
            assert!(fewer <= frames);
        }
        for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            read_all(&damaged);
        }
    }
}

#[test]
fn both_byte_orders_and_both_resolutions_of_pcap_are_read() {
    let want = WallTime::from_millis(1_700_000_000_123);
    for (nanoseconds, magic) in [(false, 0xa1b2_c3d4u32), (true, 0xa1b2_3c4d)] {
        let part = if nanoseconds { 123_000_000u32 } else { 123_000 };
        let words = [magic, 0x0002_0004, 0, 0, 65535, 1, 1_700_000_000, part, 3, 60];
        let big: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).chain([1, 2, 3]).collect();
        let little: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).chain([1, 2, 3]).collect();
        for bytes in [big, little] {
            let mut file = CaptureFile::open(bytes.as_slice()).expect("a capture");
            let record = file.next_record().expect("whole").expect("one frame");
            assert_eq!((record.at, record.link, record.bytes), (want, LinkType::ETHERNET, &[1, 2, 3][..]));
            assert!(file.next_record().expect("whole").is_none());
        }
    }
}

#[path = "fuzz/checks/frame.rs"]
mod fuzz_check;

#[test]
fn the_corpus_of_the_fuzzer_keeps_every_promise() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/frame");
    let mut count = 0;
    for entry in fs::read_dir(corpus).expect("the corpus") {
        fuzz_check::check(&fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count >= 20, "{count} files");
}
