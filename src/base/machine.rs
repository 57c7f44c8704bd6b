//! PURE. Which host names mean this machine: what is sent there crosses no network.

use std::net::IpAddr;

/// Whether a host, as written in a URL, is this machine: `localhost`, or a loopback address (RFC 6890). Any other name
/// may belong to another machine, even if it resolves to a loopback address now.
pub(crate) fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(is_loopback)
}

/// Whether it is a loopback address, also one of IPv4 in the form of IPv6.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_localhost_and_loopback_addresses_are_this_machine() {
        for here in ["localhost", "LocalHost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert!(is_this_machine(here), "{here}");
        }
        for other in ["", "localhost.example", "db", "0.0.0.0", "::", "10.0.0.1", "127.1", "128.0.0.1", "fe80::1"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
