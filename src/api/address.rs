//! PURE. Who sent a request: the address by which clients are counted.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The bits of an IPv6 address that count: a site is assigned at least a /64 and can use every address of it (RFC 6177).
const IPV6_PREFIX: u32 = 64;

/// The bits of an IPv4 address that are its network: most providers have a /16 or less.
const IPV4_NETWORK: u32 = 16;

/// The bits of an IPv6 address that are its network: a provider is assigned a /32 or more.
const IPV6_NETWORK: u32 = 32;

/// An address by which clients are counted: one IPv4 address, or one IPv6 /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address(IpAddr);

/// A network of a provider, as far as an address shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Address {
    pub(super) fn of(ip: IpAddr) -> Self {
        Self(first_bits(ip.to_canonical(), 32, IPV6_PREFIX))
    }

    /// The network that it belongs to.
    pub(super) fn network(self) -> Network {
        Network(first_bits(self.0, IPV4_NETWORK, IPV6_NETWORK))
    }

    /// The first address in the order of addresses.
    pub(super) const fn lowest() -> Self {
        Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The last address in the order of addresses.
    pub(super) const fn highest() -> Self {
        Self(IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)))
    }
}

/// An address of which only the first bits are kept.
fn first_bits(ip: IpAddr, of_v4: u32, of_v6: u32) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() >> (32 - of_v4) << (32 - of_v4))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> (128 - of_v6) << (128 - of_v6))),
    }
}

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// A client with an address of its own.
    Remote(IpAddr),
    /// A program on this machine, or any client of a proxy on this machine that does not say whose requests it passes
    /// on. They cannot be told apart, so no measure against one of them may hit all of them.
    Local,
}

impl Caller {
    /// Who sent a request that came from `peer`. A proxy on this machine is believed about its client: it appends the
    /// address to `X-Forwarded-For`, so the last one is its own observation and all before it are the client's claims.
    pub(super) fn of(peer: IpAddr, forwarded_for: Option<&str>) -> Self {
        let peer = peer.to_canonical();
        if !peer.is_loopback() {
            return Self::Remote(peer);
        }
        let last = forwarded_for.and_then(|list| list.rsplit(',').next()).and_then(ip);
        match last.map(|ip| ip.to_canonical()) {
            Some(client) if !client.is_loopback() => Self::Remote(client),
            Some(_) | None => Self::Local,
        }
    }

    /// The address itself.
    pub(super) const fn ip(self) -> IpAddr {
        match self {
            Self::Remote(ip) => ip,
            Self::Local => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// The address by which it is counted.
    pub(super) fn address(self) -> Address {
        match self {
            Self::Remote(ip) => Address::of(ip),
            Self::Local => Address(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }
}

impl fmt::Display for Caller {
    /// The whole address, for the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(ip) => fmt::Display::fmt(ip, f),
            Self::Local => f.write_str("127.0.0.1"),
        }
    }
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn ip(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_site_is_one_address_however_many_it_uses() {
        for (one, other, is_same, is_same_network) in [
            ("192.0.2.1", "192.0.2.1", true, true),
            ("192.0.2.1", "192.0.2.2", false, true),
            ("192.0.2.1", "192.1.2.1", false, false),
            ("192.0.2.1", "::ffff:192.0.2.1", true, true),
            ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", true, true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false, true),
            ("2001:db8:1:2::1", "2001:db9:1:2::1", false, false),
        ] {
            let (one, other) = (Address::of(parsed(one)), Address::of(parsed(other)));
            assert_eq!(
                (one == other, one.network() == other.network()),
                (is_same, is_same_network),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn only_a_proxy_on_this_machine_is_believed_and_only_what_it_has_seen() {
        for (peer, forwarded_for, expected) in [
            ("192.0.2.1", None, "192.0.2.1"),
            ("192.0.2.1", Some("198.51.100.1"), "192.0.2.1"),
            ("127.0.0.1", Some("198.51.100.1"), "198.51.100.1"),
            ("127.0.0.1", Some("203.0.113.9, 198.51.100.1"), "198.51.100.1"),
            ("::1", Some("203.0.113.9,2001:db8::1"), "2001:db8::1"),
            ("::ffff:127.0.0.1", Some("[2001:db8::1]:4711"), "2001:db8::1"),
            ("127.0.0.1", Some("[2001:db8::1]"), "2001:db8::1"),
            ("127.0.0.1", Some("198.51.100.1:4711"), "198.51.100.1"),
            ("127.0.0.1", None, "127.0.0.1"),
            ("127.0.0.1", Some("198.51.100.1, unknown"), "127.0.0.1"),
            ("127.0.0.1", Some("198.51.100.1, 127.0.0.1"), "127.0.0.1"),
            ("127.0.0.1", Some(""), "127.0.0.1"),
        ] {
            assert_eq!(Caller::of(parsed(peer), forwarded_for).to_string(), expected, "{peer} {forwarded_for:?}");
        }
    }
}
