//! PURE. `[[capture]]`: an interface with mirrored traffic, and the addresses that are never evidence.

use std::{net::Ipv4Addr, str::FromStr, sync::Arc};

use crate::base::mac::{MacAddr, MacParseError};

/// `[[capture]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// `interface`.
    pub interface: Arc<str>,
    /// `vlans`: only frames with these outermost tags, or every frame if empty.
    pub vlans: Vec<u16>,
    /// `ignore`: infrastructure that is never evidence.
    pub ignore: Vec<MacPattern>,
    /// `relays`.
    pub relays: Relays,
    /// `backend`.
    pub backend: CaptureBackend,
}

/// `relays` of a capture: the DHCP relays whose clients are at this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relays {
    /// All (default).
    Any,
    /// Only those with these addresses; none if empty.
    Listed(Vec<Ipv4Addr>),
}

/// `backend` of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureBackend {
    /// The ring on Linux (default).
    Ring,
    /// pnet's portable channel, which costs much more and loses the outer VLAN tag.
    Portable,
}

/// `00:50:56:*` or a whole address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacPattern {
    /// The leading octets that must match; six for a whole address.
    pub prefix: Vec<u8>,
}

/// The text is neither an address nor the start of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a MAC address nor the start of one; write for example 3c:22:fb:01:02:03 or 00:50:56:*")]
pub struct MacPatternError(String);

impl FromStr for MacPattern {
    type Err = MacPatternError;

    /// Parses a whole address in any usual spelling, or one to five octets, joined by `:` or `-`, with `*` for the
    /// rest.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || MacPatternError(text.chars().take(40).collect());
        if !text.contains('*') {
            let mac: MacAddr = text.parse().map_err(|_: MacParseError| refuse())?;
            return Ok(Self { prefix: mac.octets().to_vec() });
        }
        let mut parts: Vec<&str> = text.trim().split([':', '-']).collect();
        while parts.last() == Some(&"*") {
            parts.pop();
        }
        let octet = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let prefix: Vec<u8> = parts.into_iter().map(octet).collect::<Option<_>>().ok_or_else(refuse)?;
        if (1..=5).contains(&prefix.len()) { Ok(Self { prefix }) } else { Err(refuse()) }
    }
}

impl MacPattern {
    /// Whether the address starts with the pattern's octets.
    pub fn matches(&self, mac: MacAddr) -> bool {
        mac.octets().starts_with(&self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_pattern_is_an_address_or_the_start_of_one() {
        let mac = MacAddr::new([0x00, 0x50, 0x56, 0xab, 0xcd, 0xef]);
        for (text, fits) in [
            ("00:50:56:*", true),
            ("00-50-56-*", true),
            ("00:50:56:AB:*:*", true),
            ("0050.56ab.cdef", true),
            ("00:50:57:*", false),
            ("00:50:56:ab:cd:ee", false),
        ] {
            let pattern: MacPattern = text.parse().expect("a pattern");
            assert_eq!(pattern.matches(mac), fits, "{text}");
        }
        for text in ["", "*", "00:50:56", "00:50:5*", "00:*:56", "00:50:56:ab:cd:ef:*", "+0:50:*", "é*"] {
            assert!(text.parse::<MacPattern>().is_err(), "{text}");
        }
    }
}
