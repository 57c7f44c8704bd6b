//! PURE. Finds the interface of a capture: present, down, gone, back under another number, or renamed.
//!
//! Also reads the messages in which the kernel lists interfaces (`rtnetlink(7)`, Linux `if_link.h`); no length in them
//! is trusted.

use crate::base::mac::MacAddr;

/// The number of an interface (`if_nametoindex(3)`); the kernel does not reuse it until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIndex(pub u32);

/// One interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its current name.
    pub name: String,
    /// Its other names (`ip link property add dev eth1 altname mirror`).
    pub altnames: Vec<String>,
    /// Its number.
    pub index: LinkIndex,
    /// Its own address.
    pub mac: Option<MacAddr>,
    /// Whether it is up and has a carrier, so frames can arrive.
    pub running: bool,
    /// Frames received since it was created, including those that the filter drops.
    pub received: u64,
}

/// Where to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InterfacePlace {
    /// The interface was found, by one of its names or, if it was renamed, by its number.
    Here(Link),
    /// The interface was found, but is down or has no carrier.
    Down(Link),
    /// There is no such interface.
    Gone,
}

/// Finds the interface to capture for `name`: first an interface with that name, then one with that alternative name,
/// then the one captured so far (`bound`), which was renamed.
pub fn find(links: Vec<Link>, name: &str, bound: Option<LinkIndex>) -> InterfacePlace {
    let by_name = links.iter().position(|link| link.name == name);
    let by_altname = || links.iter().position(|link| link.altnames.iter().any(|altname| altname == name));
    let by_number = || links.iter().position(|link| Some(link.index) == bound);
    match by_name.or_else(by_altname).or_else(by_number).and_then(|at| links.into_iter().nth(at)) {
        Some(link) if link.running => InterfacePlace::Here(link),
        Some(link) => InterfacePlace::Down(link),
        None => InterfacePlace::Gone,
    }
}

/// The addresses of this machine.
pub fn own_addresses(links: &[Link]) -> Vec<MacAddr> {
    links.iter().filter_map(|link| link.mac).collect()
}

/// `struct nlmsghdr`, then `struct ifinfomsg`.
const HEADER: usize = 16;
const INFO: usize = 16;

const GET_LINK: u16 = 18;
const NEW_LINK: u16 = 16;
const FAILED: u16 = 2;
const DONE: u16 = 3;

/// The flags of a request for all interfaces, `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_ALL: u16 = 0x301;
const INTERRUPTED: u16 = 0x10;

const UP: u32 = 0x1;
const RUNNING: u32 = 0x40;

const ADDRESS: u16 = 1;
const NAME: u16 = 3;
const STATISTICS: u16 = 23;
const PROPERTIES: u16 = 52;
const ALTNAME: u16 = 53;

/// The mask for the number of an attribute, to which the kernel adds flags.
const ATTRIBUTE: u16 = 0x3fff;

/// The message that requests all interfaces; answers contain its number.
pub(super) fn request(number: u32) -> Vec<u8> {
    let length = u32::try_from(HEADER + INFO).unwrap_or(0);
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(GET_LINK.to_ne_bytes());
    message.extend(REQUEST_ALL.to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.resize(HEADER + INFO, 0);
    message
}

/// The content of one answer.
#[derive(Debug, Default)]
pub(super) struct DumpAnswer {
    pub(super) more: Vec<Link>,
    /// The request failed (`errno`).
    pub(super) error: Option<i32>,
    /// The list changed while the kernel compiled it.
    pub(super) interrupted: bool,
    /// There are no further answers.
    pub(super) last: bool,
}

/// Reads one answer; skips messages that answer another request.
pub(super) fn read(answer: &[u8], number: u32) -> DumpAnswer {
    let mut read = DumpAnswer::default();
    let mut rest = answer;
    while let (Some(length), Some(kind), Some(flags)) = (word(rest, 0), half(rest, 4), half(rest, 6)) {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(body) = rest.get(HEADER..length) else { break };
        if word(rest, 8) == Some(number) {
            read.interrupted |= flags & INTERRUPTED != 0;
            match kind {
                NEW_LINK => read.more.extend(read_link(body)),
                DONE => read.last = true,
                FAILED => read.error = word(body, 0).map(|code| code.cast_signed().saturating_neg()),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    read
}

fn read_link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (word(body, 4)?, word(body, 8)?);
    let mut link = Link {
        name: String::new(),
        altnames: Vec::new(),
        index: LinkIndex(index),
        mac: None,
        running: flags & UP != 0 && flags & RUNNING != 0,
        received: 0,
    };
    for (kind, value) in attributes(body.get(INFO..)?) {
        match kind {
            NAME => link.name = text(value),
            ADDRESS => {
                let mac = <[u8; 6]>::try_from(value).ok().map(MacAddr::new);
                link.mac = mac.filter(|mac| mac.is_station());
            }
            STATISTICS => link.received = value.first_chunk().copied().map_or(0, u64::from_ne_bytes),
            PROPERTIES => {
                let names = attributes(value).filter(|(kind, _)| *kind == ALTNAME);
                link.altnames.extend(names.map(|(_, name)| text(name)));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// The attributes (`struct rtattr`), with their numbers.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, kind) = (usize::from(half(rest, 0)?), half(rest, 2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & ATTRIBUTE, value))
    })
}

/// A name up to its terminating zero.
fn text(value: &[u8]) -> String {
    let end = value.iter().position(|octet| *octet == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn link(name: &str, index: u32, running: bool) -> Link {
        let (name, altnames) = (name.to_owned(), Vec::new());
        Link { name, altnames, index: LinkIndex(index), mac: None, running, received: 0 }
    }

    #[test]
    fn the_name_comes_first_then_the_number_captured_so_far() {
        let table = [
            (vec![link("eth1", 3, true)], None, InterfacePlace::Here(link("eth1", 3, true))),
            (vec![link("eth1", 3, false)], Some(3), InterfacePlace::Down(link("eth1", 3, false))),
            (vec![link("eth1", 9, true)], Some(3), InterfacePlace::Here(link("eth1", 9, true))),
            (vec![link("span", 3, true)], Some(3), InterfacePlace::Here(link("span", 3, true))),
            (vec![link("span", 3, true), link("eth1", 9, true)], Some(3), InterfacePlace::Here(link("eth1", 9, true))),
            (vec![link("eth0", 2, true)], Some(3), InterfacePlace::Gone),
            (vec![link("eth0", 2, true)], None, InterfacePlace::Gone),
        ];
        for (links, bound, want) in table {
            assert_eq!(find(links.clone(), "eth1", bound.map(LinkIndex)), want, "{links:?} {bound:?}");
        }
    }

    #[test]
    fn another_name_of_an_interface_finds_it_after_the_name_itself() {
        let also = |name: &str, index| Link {
            altnames: vec!["uplink".to_owned(), "mirror".to_owned()],
            ..link(name, index, true)
        };
        let found = |links| find(links, "mirror", None);
        assert_eq!(found(vec![link("eth0", 2, true), also("eth1", 3)]), InterfacePlace::Here(also("eth1", 3)));
        assert_eq!(
            found(vec![also("eth1", 3), link("mirror", 4, true)]),
            InterfacePlace::Here(link("mirror", 4, true))
        );
    }

    /// A message as the kernel sends it.
    fn message(kind: u16, number: u32, body: &[u8]) -> Vec<u8> {
        let mut message = u32::try_from(HEADER + body.len()).expect("short").to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), [0, 0]].concat());
        message.extend([number.to_ne_bytes(), [0; 4]].concat());
        message.extend(body);
        message.resize(message.len().next_multiple_of(4), 0);
        message
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    #[test]
    fn an_answer_of_the_kernel_is_read() {
        let properties = [attribute(ALTNAME, b"mirror\0"), attribute(ALTNAME, b"uplink\0")].concat();
        let info = [&[0, 0, 1, 0][..], &3u32.to_ne_bytes(), &(UP | RUNNING).to_ne_bytes(), &[0; 4]].concat();
        let body = [
            info,
            attribute(NAME, b"eth1\0"),
            attribute(ADDRESS, &[0x3c, 0x22, 0xfb, 1, 2, 3]),
            attribute(STATISTICS, &[&77u64.to_ne_bytes()[..], &[1; 16]].concat()),
            attribute(PROPERTIES | 0x8000, &properties),
        ];
        let other = message(NEW_LINK, 8, &body.concat());
        let answer = [other, message(NEW_LINK, 9, &body.concat()), message(DONE, 9, &[0; 4])].concat();
        let got = read(&answer, 9);
        let wanted = Link {
            altnames: vec!["mirror".to_owned(), "uplink".to_owned()],
            mac: Some(MacAddr::new([0x3c, 0x22, 0xfb, 1, 2, 3])),
            received: 77,
            ..link("eth1", 3, true)
        };
        assert_eq!((got.more, got.error, got.interrupted, got.last), (vec![wanted], None, false, true));
        assert_eq!(read(&message(FAILED, 9, &(-1i32).to_ne_bytes()), 9).error, Some(1));
    }

    proptest! {
        #[test]
        fn no_answer_makes_us_read_outside_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0usize..16) {
            let info = [0; INFO];
            let body = [&info[..], &bytes].concat();
            let mut answer = message(NEW_LINK, 9, &body);
            prop_assert!(read(&answer, 9).more.len() <= 1);
            answer.truncate(answer.len().saturating_sub(at));
            prop_assert!(read(&answer, 9).more.len() <= 1);
            prop_assert!(read(&bytes, 9).more.len() <= bytes.len() / HEADER);
        }
    }
}
