//! PURE. Checks whether a MAC address belongs to one station. Zero, group and shared router addresses do not.

use super::evidence::WhyNot;
use crate::base::mac::MacAddr;

/// Why the address cannot belong to one device; `None` if it can.
pub(super) fn not_one_station(mac: MacAddr) -> Option<WhyNot> {
    if mac.is_zero() {
        return Some(WhyNot::ZeroAddress);
    }
    if mac.is_group() {
        return Some(WhyNot::GroupAddress);
    }
    is_virtual_router(mac).then_some(WhyNot::VirtualRouter)
}

/// Whether routers share this address: VRRP and CARP, for IPv4 and IPv6 (RFC 9568 7.3); HSRP, HSRP version 2, and HSRP
/// for IPv6; GLBP (Cisco's First Hop Redundancy Protocols guide).
const fn is_virtual_router(mac: MacAddr) -> bool {
    matches!(
        mac.octets(),
        [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
            | [0x00, 0x00, 0x0c, 0x07, 0xac, _]
            | [0x00, 0x00, 0x0c, 0x9f, 0xf0..=0xff, _]
            | [0x00, 0x05, 0x73, 0xa0, 0x00..=0x0f, _]
            | [0x00, 0x07, 0xb4, _, _, _]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_routers_share_belong_to_no_device() {
        let table = [
            ("00:00:5e:00:01:01", true),
            ("00:00:5e:00:02:ff", true),
            ("00:00:5e:00:03:01", false),
            ("00:00:0c:07:ac:0a", true),
            ("00:00:0c:07:ad:0a", false),
            ("00:00:0c:9f:f0:01", true),
            ("00:00:0c:9f:ff:ff", true),
            ("00:00:0c:9f:ef:ff", false),
            ("00:05:73:a0:0f:ff", true),
            ("00:05:73:a0:10:00", false),
            ("00:07:b4:00:01:02", true),
            ("00:07:b5:00:01:02", false),
        ];
        for (mac, shared) in table {
            assert_eq!(is_virtual_router(mac.parse().expect("an address")), shared, "{mac}");
        }
    }
}
