//! PURE. The Ethernet header: addresses, VLAN tags, LLC and SNAP, and the type of the payload.

use super::{
    bytes::{be16, mac_at},
    vlan::{VlanId, Vlans},
};
use crate::base::mac::MacAddr;

pub(super) const ARP: u16 = 0x0806;
pub(super) const REVERSE_ARP: u16 = 0x8035;
pub(super) const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
/// A whole Ethernet frame inside a tunnel (Transparent Ethernet Bridging).
pub(super) const BRIDGED_ETHERNET: u16 = 0x6558;

/// IEEE 802.1Q: the customer's tag.
const TAG_C: u16 = 0x8100;
/// IEEE 802.1ad: the provider's tag.
const TAG_S: u16 = 0x88a8;
/// The provider's tag before IEEE 802.1ad.
const TAG_OLD: u16 = 0x9100;
/// Up to this value, the field after the addresses is the length of an IEEE 802.3 frame.
const LONGEST_LLC: u16 = 1500;
/// LLC unnumbered information to SNAP with the Ethernet organisation (RFC 1042).
const SNAP_ETHERNET: &[u8] = &[0xaa, 0xaa, 0x03, 0, 0, 0];

/// A frame whose headers up to the payload have been read.
pub(super) struct EthernetFrame<'a> {
    pub(super) source: MacAddr,
    pub(super) vlans: Vlans,
    /// The type of the payload, after tags and SNAP.
    pub(super) ether_type: u16,
    pub(super) payload: &'a [u8],
}

impl<'a> EthernetFrame<'a> {
    /// Reads the headers. `stripped` is the outermost tag, if the kernel removed it. Returns `None` if the frame has
    /// more than [`super::vlan::TAGS`] tags, is cut inside its headers, or has no EtherType.
    #[inline]
    pub(super) fn read(frame: &'a [u8], stripped: Option<VlanId>) -> Option<Self> {
        let source = mac_at(frame, 6)?;
        let mut vlans = Vlans::default();
        if let Some(id) = stripped {
            vlans.push(id)?;
        }
        let mut at = 12;
        let mut ether_type = be16(frame, at)?;
        while is_tag(ether_type) {
            vlans.push(VlanId::from_tci(be16(frame, at + 2)?))?;
            at += 4;
            ether_type = be16(frame, at)?;
        }
        at += 2;
        if ether_type <= LONGEST_LLC {
            if frame.get(at..at + 6)? != SNAP_ETHERNET {
                return None;
            }
            ether_type = be16(frame, at + 6)?;
            at += 8;
        }
        Some(Self { source, vlans, ether_type, payload: frame.get(at..)? })
    }
}

/// Whether this type indicates a VLAN tag.
#[inline]
pub(super) fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, TAG_C | TAG_S | TAG_OLD)
}
