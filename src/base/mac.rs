//! IEEE 802 MAC addresses: the credential that a device carries.
//!
//! Never here: who owns an address (`directory`), or what a frame proves (`source::network`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A 48-bit MAC address (IEEE 802, EUI-48).
///
/// `Display` prints the form that records use: lower case with colons (`3c:22:fb:01:02:03`). `Debug` hides the last
/// three octets, because an address identifies a person's phone and debug output ends up in logs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// The address with these six octets, in transmission order.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The six octets in transmission order.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// Whether this is a group (multicast or broadcast) address: bit 0 of the first octet. No station sends from one.
    pub const fn is_group(self) -> bool {
        self.0[0] & 0x01 != 0
    }

    /// Whether the address is locally administered: bit 1 of the first octet. Set on randomised addresses, but also on
    /// most virtual machines.
    pub const fn is_local(self) -> bool {
        self.0[0] & 0x02 != 0
    }

    /// Whether this is `00:00:00:00:00:00`, which means "not known" in ARP and DHCP.
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }

    /// Whether this can be one device's own address: neither zero nor a group address.
    pub fn is_station(self) -> bool {
        !self.is_zero() && !self.is_group()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, ..] = self.0;
        write!(f, "MacAddr({a:02x}:{b:02x}:{c:02x}:..)")
    }
}

/// The text is not a MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a MAC address; write it as 3c:22:fb:01:02:03, 3c-22-fb-01-02-03, 3c22.fb01.0203 or 3c22fb010203"
)]
pub struct MacParseError(String);

impl FromStr for MacAddr {
    type Err = MacParseError;

    /// Accepts pairs joined by `:` or `-`, Cisco's groups of four joined by `.`, and twelve bare digits; any case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text.trim()).ok_or_else(|| MacParseError(text.chars().take(40).collect()))
    }
}

fn parse(text: &str) -> Option<MacAddr> {
    let (separator, group) = match text.len() {
        12 => (None, 12),
        14 => (Some(b'.'), 4),
        17 => (Some(text.as_bytes()[2]).filter(|s| matches!(s, b':' | b'-')), 2),
        _ => return None,
    };
    if text.len() == 17 && separator.is_none() {
        return None;
    }
    let mut octets = [0u8; 6];
    let mut digits = 0usize;
    for (at, &byte) in text.as_bytes().iter().enumerate() {
        if separator.is_some() && at % (group + 1) == group {
            if Some(byte) != separator {
                return None;
            }
            continue;
        }
        let digit = u8::try_from(char::from(byte).to_digit(16)?).ok()?;
        octets[digits / 2] = octets[digits / 2] << 4 | digit;
        digits += 1;
    }
    (digits == 12).then_some(MacAddr(octets))
}

impl Serialize for MacAddr {
    /// As text in human-readable formats, as six octets in binary ones.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return <[u8; 6]>::deserialize(deserializer).map(Self);
        }
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_usual_spelling_is_read() {
        let want = MacAddr::new([0x3c, 0x22, 0xfb, 0x01, 0x02, 0x0a]);
        for text in ["3c:22:fb:01:02:0a", "3C-22-FB-01-02-0A", "3c22.fb01.020a", "3C22FB01020a", " 3c:22:fb:01:02:0a "]
        {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "3c:22:fb:01:02",
            "3c:22:fb:01:02:0g",
            "3c:22-fb:01:02:0a",
            "3c:22:fb:01:02:0a:",
            "3c22.fb01:020a",
            "3c 22 fb 01 02 0a",
            "é2:22:fb:01:02:0",
        ] {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }

    #[test]
    fn debug_does_not_name_the_device() {
        let text = format!("{:?}", MacAddr::new([0x3c, 0x22, 0xfb, 0x01, 0x02, 0x03]));
        assert_eq!(text, "MacAddr(3c:22:fb:..)");
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(octets: [u8; 6]) {
            let mac = MacAddr::new(octets);
            prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _parsed = text.parse::<MacAddr>();
        }
    }
}
