//! What became of the interface that a capture listens to: there, down, gone, back under another number, renamed.

use crate::mac::MacAddr;

/// The number of an interface (`if_nametoindex(3)`); never used again by the kernel while the machine runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkIndex(pub u32);

/// One interface of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name now.
    pub name: String,
    /// Its number.
    pub index: LinkIndex,
    /// Its own address.
    pub mac: Option<MacAddr>,
    /// Up, with a carrier: frames can arrive.
    pub running: bool,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The interface is here, by its name or, when it was renamed, by its number.
    Here(Link),
    /// Here, but down or without carrier.
    Down(Link),
    /// There is no such interface.
    Gone,
}

/// The interfaces of the network namespace that the calling thread is in.
pub fn links() -> Vec<Link> {
    pnet::datalink::interfaces()
        .into_iter()
        .map(|interface| Link {
            running: interface.is_up() && interface.is_running(),
            mac: interface.mac.map(|mac| MacAddr::new(mac.octets())).filter(|mac| mac.is_station()),
            index: LinkIndex(interface.index),
            name: interface.name,
        })
        .collect()
}

/// Where to listen for `name`. An interface of that name comes first; else the one listened to so far, renamed.
pub fn find(links: Vec<Link>, name: &str, bound: Option<LinkIndex>) -> Place {
    let by_name = links.iter().position(|link| link.name == name);
    let found = by_name.or_else(|| links.iter().position(|link| Some(link.index) == bound));
    match found.and_then(|at| links.into_iter().nth(at)) {
        Some(link) if link.running => Place::Here(link),
        Some(link) => Place::Down(link),
        None => Place::Gone,
    }
}

/// The addresses of this machine.
pub fn own_addresses(links: &[Link]) -> Vec<MacAddr> {
    links.iter().filter_map(|link| link.mac).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, index: u32, running: bool) -> Link {
        Link { name: name.to_owned(), index: LinkIndex(index), mac: None, running }
    }

    #[test]
    fn the_name_comes_first_then_the_number_listened_to_so_far() {
        let table = [
            (vec![link("eth1", 3, true)], None, Place::Here(link("eth1", 3, true))),
            (vec![link("eth1", 3, false)], Some(3), Place::Down(link("eth1", 3, false))),
            (vec![link("eth1", 9, true)], Some(3), Place::Here(link("eth1", 9, true))),
            (vec![link("span", 3, true)], Some(3), Place::Here(link("span", 3, true))),
            (vec![link("span", 3, true), link("eth1", 9, true)], Some(3), Place::Here(link("eth1", 9, true))),
            (vec![link("eth0", 2, true)], Some(3), Place::Gone),
            (vec![link("eth0", 2, true)], None, Place::Gone),
        ];
        for (links, bound, want) in table {
            assert_eq!(find(links.clone(), "eth1", bound.map(LinkIndex)), want, "{links:?} {bound:?}");
        }
    }
}
