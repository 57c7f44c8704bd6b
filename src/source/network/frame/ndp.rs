//! PURE. IPv6 neighbour discovery (RFC 4861).

use super::{
    bytes::mac_at, evidence::WhyNot, ip::IpPacket, kind::FrameKind, payload_evidence::PayloadEvidence,
    station::not_one_station,
};
use crate::base::mac::MacAddr;

/// Reads one ICMPv6 message; `None` if it is not neighbour discovery.
#[inline]
pub(super) fn neighbour_discovery(packet: &IpPacket<'_>, source: MacAddr) -> Option<PayloadEvidence> {
    const SOLICITED: u8 = 0x40;
    /// The hop limit of a packet from this link (RFC 4861 7.1): every router decrements it.
    const NEVER_FORWARDED: u8 = 255;
    let body = packet.body;
    let (kind, header) = match *body.first()? {
        133 => (FrameKind::RouterSolicitation, 8),
        134 => (FrameKind::RouterAdvertisement, 16),
        135 => (FrameKind::NeighbourSolicitation, 24),
        136 => {
            let solicited = body.get(4).is_some_and(|flags| flags & SOLICITED != 0);
            (FrameKind::NeighbourAdvertisement { solicited }, 24)
        }
        _ => return None,
    };
    let options = NdOptions::read(body.get(header..));
    let why = not_one_station(source).or(match options {
        _ if kind == FrameKind::RouterAdvertisement => Some(WhyNot::Router),
        Some(NdOptions { source: Some(link) }) if link != source => Some(WhyNot::OptionIsNotSource),
        Some(_) if !packet.short && packet.hop_limit == NEVER_FORWARDED => None,
        Some(_) | None => Some(WhyNot::Malformed),
    });
    Some(match (why, kind) {
        (Some(why), _) => PayloadEvidence::none(kind, Some(source), why),
        // A proxy or a sleeping network card may have answered.
        (None, FrameKind::NeighbourAdvertisement { solicited: true }) => PayloadEvidence::weak(kind, source),
        (None, _) => PayloadEvidence::strong(kind, source),
    })
}

struct NdOptions {
    /// The source link-layer address option.
    source: Option<MacAddr>,
}

impl NdOptions {
    /// Returns `None` if an option has length zero or extends past the end (RFC 4861 4.6).
    fn read(options: Option<&[u8]>) -> Option<Self> {
        let mut rest = options?;
        let mut found = Self { source: None };
        while let [kind, length, ..] = *rest {
            let (option, tail) = rest.split_at_checked(usize::from(length) * 8)?;
            if length == 0 {
                return None;
            }
            if kind == 1 && length == 1 {
                found.source = found.source.or(mac_at(option, 2));
            }
            rest = tail;
        }
        rest.is_empty().then_some(found)
    }
}
