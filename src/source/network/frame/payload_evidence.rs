//! PURE. What the payload of a frame proves: an observation without the tags of the frame.

use std::{net::Ipv4Addr, time::Duration};

use super::{
    evidence::{Evidence, WhyNot},
    kind::FrameKind,
};
use crate::base::mac::MacAddr;

/// What one payload proves.
pub(super) struct PayloadEvidence {
    pub(super) kind: FrameKind,
    /// The device that it concerns.
    pub(super) mac: Option<MacAddr>,
    pub(super) evidence: Evidence,
    /// The relay that a DHCPv4 message passed through.
    pub(super) relay: Option<Ipv4Addr>,
    /// The lease time that a DHCPACK grants.
    pub(super) lease: Option<Duration>,
}

impl PayloadEvidence {
    pub(super) fn strong(kind: FrameKind, mac: MacAddr) -> Self {
        Self { kind, mac: Some(mac), evidence: Evidence::Strong, relay: None, lease: None }
    }

    pub(super) fn weak(kind: FrameKind, mac: MacAddr) -> Self {
        Self { kind, mac: Some(mac), evidence: Evidence::Weak, relay: None, lease: None }
    }

    pub(super) fn none(kind: FrameKind, mac: Option<MacAddr>, why: WhyNot) -> Self {
        Self { kind, mac, evidence: Evidence::None(why), relay: None, lease: None }
    }

    /// Whether it is DHCPv4 or BOOTP.
    pub(super) fn is_bootp(&self) -> bool {
        matches!(self.kind, FrameKind::Dhcp(_) | FrameKind::BootpRequest | FrameKind::BootpReply)
    }
}
