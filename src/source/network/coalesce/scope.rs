//! PURE. Decides which observations count for a capture: by its VLANs, its relays, and the addresses that are never
//! evidence.

use std::collections::BTreeSet;

use super::super::frame::{Via, VlanId, Vlans};
use crate::{
    base::mac::MacAddr,
    settings::{Capture, MacPattern, Relays},
};

/// The scope of one capture.
#[derive(Debug)]
pub(super) struct CaptureScope {
    /// Empty for all.
    vlans: BTreeSet<VlanId>,
    ignore: Vec<MacPattern>,
    relays: Relays,
    /// The addresses of this machine. A handful, so a list is faster than a tree.
    own: Vec<MacAddr>,
}

impl CaptureScope {
    pub(super) fn new(capture: &Capture) -> Self {
        Self {
            vlans: capture.vlans.iter().copied().map(VlanId::from_tci).collect(),
            ignore: capture.ignore.clone(),
            relays: capture.relays.clone(),
            own: Vec::new(),
        }
    }

    /// Replaces the addresses of this machine.
    pub(super) fn set_own(&mut self, own: Vec<MacAddr>) {
        self.own = own;
    }

    /// Whether the outermost tag is one of the capture's VLANs.
    #[inline]
    pub(super) fn has_vlan(&self, vlans: &Vlans) -> bool {
        self.vlans.is_empty() || vlans.outermost().is_some_and(|id| self.vlans.contains(&id))
    }

    /// Whether evidence that arrived via this path is strong; `None` if it is from another site. A client that renews
    /// through a router may be behind one of our relays or another site's: its evidence is weak, so it opens nothing.
    #[inline]
    pub(super) fn strength(&self, via: Via, strong: bool) -> Option<bool> {
        match (via, &self.relays) {
            (Via::Link, _) | (Via::Relay(_) | Via::Router, Relays::Any) => Some(strong),
            (Via::Relay(relay), Relays::Listed(relays)) => relays.contains(&relay).then_some(strong),
            (Via::Router, Relays::Listed(relays)) => (!relays.is_empty()).then_some(false),
        }
    }

    /// Whether it is an address of this machine or of listed infrastructure.
    #[inline]
    pub(super) fn excludes(&self, mac: MacAddr) -> bool {
        self.own.contains(&mac) || self.ignore.iter().any(|pattern| pattern.matches(mac))
    }
}
