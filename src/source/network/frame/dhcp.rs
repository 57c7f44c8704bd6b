//! PURE. BOOTP (RFC 951) and DHCPv4 (RFC 2131, RFC 2132).

use std::{net::Ipv4Addr, time::Duration};

use super::{
    bytes::mac_at,
    evidence::WhyNot,
    kind::{DhcpType, FrameKind},
    payload_evidence::PayloadEvidence,
    station::not_one_station,
};

/// Reads one message. The client is `chaddr`, whichever station sent the frame, because a relay uses its own Ethernet
/// address.
///
/// `cut`: the rest is in other fragments, so options may end anywhere. `short`: the rest is missing.
#[inline]
pub(super) fn bootp(payload: &[u8], cut: bool, short: bool) -> Option<PayloadEvidence> {
    const ETHERNET: u8 = 1;
    const IEEE_802: u8 = 6;
    /// A lease that never ends (RFC 2131 3.3).
    const INFINITE: u32 = u32::MAX;
    let (from_client, hardware, length) = (*payload.first()? == 1, *payload.get(1)?, *payload.get(2)?);

    // Option 53 is the kind of message.
    let (options, well_formed) = DhcpOptions::of_message(payload, cut);
    let kind = match options.message {
        Some(number) if number != 0 => FrameKind::Dhcp(DhcpType::from_number(number)),
        _ if from_client => FrameKind::BootpRequest,
        _ => FrameKind::BootpReply,
    };

    // Only a client with a 48-bit Ethernet address can be one of our people's devices.
    let chaddr = mac_at(payload, 28).filter(|_| matches!(hardware, ETHERNET | IEEE_802) && length == 6);
    let Some(mac) = chaddr.filter(|_| hardware == ETHERNET) else {
        let no_address = hardware == ETHERNET && length == 6;
        return Some(PayloadEvidence::none(
            kind,
            chaddr,
            if no_address { WhyNot::NoAddress } else { WhyNot::NotEthernetClient },
        ));
    };

    // Determine what the message proves about this client.
    let proof = BootpProof::of(kind, from_client);
    let why = not_one_station(mac)
        .or((proof == BootpProof::Nothing).then_some(WhyNot::DoesNotShowTheClient))
        .or((short || !well_formed).then_some(WhyNot::Malformed));
    let lease = options.lease.filter(|seconds| *seconds != INFINITE).map(|seconds| Duration::from_secs(seconds.into()));
    let found = match (why, proof) {
        (Some(why), _) => PayloadEvidence::none(kind, Some(mac), why),
        (None, BootpProof::Answered) => PayloadEvidence { lease, ..PayloadEvidence::weak(kind, mac) },
        (None, BootpProof::Sent | BootpProof::Nothing) => PayloadEvidence::strong(kind, mac),
    };

    // `giaddr`: the relay that passed it on.
    let relay =
        payload.get(24..28).and_then(|address| address.first_chunk::<4>()).map(|octets| Ipv4Addr::from(*octets));
    Some(PayloadEvidence { relay: relay.filter(|relay| !relay.is_unspecified()), ..found })
}

/// The options of a DHCPv4 message that matter here.
#[derive(Default)]
struct DhcpOptions {
    /// Option 53.
    message: Option<u8>,
    /// Option 51, in seconds.
    lease: Option<u32>,
    /// Option 52: which of the fields `file` (bit 0) and `sname` (bit 1) contain options as well.
    overload: u8,
}

impl DhcpOptions {
    /// Reads all options of a message. Returns them, and whether the message is well-formed. `cut` as for [`bootp`].
    fn of_message(payload: &[u8], cut: bool) -> (Self, bool) {
        const COOKIE: &[u8] = &[99, 130, 83, 99];
        /// The size of the vendor area, which BOOTP without options always has.
        const VENDOR_AREA: usize = 64;
        let mut options = Self::default();
        let well_formed = match payload.get(236..240) {
            Some(COOKIE) => {
                let mut well_formed = options.read(&payload[240..]) || cut;
                if options.overload & 1 != 0 {
                    well_formed &= options.read(&payload[108..236]);
                }
                if options.overload & 2 != 0 {
                    well_formed &= options.read(&payload[44..108]);
                }
                well_formed
            }
            Some(_) => payload.len() >= 236 + VENDOR_AREA,
            None => false,
        };
        (options, well_formed)
    }

    /// Reads one field of options (RFC 2132 2). Returns false if an option extends past its end.
    fn read(&mut self, field: &[u8]) -> bool {
        const PAD: u8 = 0;
        const END: u8 = 255;
        let mut rest = field;
        while let [code, tail @ ..] = rest {
            match *code {
                END => return true,
                PAD => rest = tail,
                code => {
                    let Some((length, tail)) = tail.split_first() else { return false };
                    let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { return false };
                    self.take(code, value);
                    rest = tail;
                }
            }
        }
        true
    }

    fn take(&mut self, code: u8, value: &[u8]) {
        match (code, value) {
            (53, [message]) => self.message = self.message.or(Some(*message)),
            (51, [a, b, c, d]) => self.lease = Some(u32::from_be_bytes([*a, *b, *c, *d])),
            (52, [overload]) => self.overload = *overload,
            _ => {}
        }
    }
}

/// What a BOOTP message proves about its client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BootpProof {
    /// The client sent it.
    Sent,
    /// A server granted what the client had just requested.
    Answered,
    Nothing,
}

impl BootpProof {
    fn of(kind: FrameKind, from_client: bool) -> Self {
        let FrameKind::Dhcp(message) = kind else { return if from_client { Self::Sent } else { Self::Nothing } };
        match message {
            DhcpType::Discover | DhcpType::Request | DhcpType::Decline | DhcpType::Inform if from_client => Self::Sent,
            DhcpType::Ack if !from_client => Self::Answered,
            DhcpType::Discover
            | DhcpType::Request
            | DhcpType::Decline
            | DhcpType::Inform
            | DhcpType::Ack
            | DhcpType::Offer
            | DhcpType::Nak
            | DhcpType::Release
            | DhcpType::Other(_) => Self::Nothing,
        }
    }
}
