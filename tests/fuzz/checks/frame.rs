//! What must hold for any bytes read as a frame.

use checkind::source::network::frame::{Evidence, FrameKind, VlanId, observe};

/// Panics when the parser breaks a promise.
pub(crate) fn check(bytes: &[u8]) {
    for stripped in [None, Some(VlanId::from_tci(0x200a))] {
        let Some(seen) = observe(bytes, stripped) else { continue };
        match seen.evidence {
            Evidence::Strong | Evidence::Weak => {
                let mac = seen.mac.expect("evidence has a device");
                assert!(mac.is_station(), "{seen:?}");
                assert!(
                    !matches!(seen.kind, FrameKind::Tunnelled | FrameKind::OtherLinkLayer | FrameKind::ArpOther),
                    "{seen:?}"
                );
            }
            Evidence::None(_) => assert_eq!(seen.lease, None, "{seen:?}"),
        }
        assert_eq!(seen.vlans.outermost(), stripped.or(seen.vlans.outermost()));
        assert!(!seen.kind.to_string().is_empty() && !seen.vlans.to_string().is_empty());
    }
}
