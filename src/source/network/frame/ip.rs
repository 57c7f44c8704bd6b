//! PURE. The headers of IPv4, IPv6 and UDP.

use super::{bytes::be16, ethernet::IPV4};

/// A whole IP packet, or the first fragment of one.
pub(super) struct IpPacket<'a> {
    pub(super) version: IpVersion,
    /// The protocol after the header. IPv6 extension headers are not followed: hosts send none before the protocols
    /// that we read.
    pub(super) protocol: u8,
    pub(super) hop_limit: u8,
    pub(super) body: &'a [u8],
    /// More fragments follow, so the body may end anywhere.
    pub(super) cut: bool,
    /// The header promises more octets than the frame has.
    pub(super) short: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    Four,
    Six,
}

/// A UDP datagram.
pub(super) struct UdpDatagram<'a> {
    pub(super) from_port: u16,
    pub(super) to_port: u16,
    pub(super) payload: &'a [u8],
    /// The UDP header promises more octets than the packet has.
    pub(super) short: bool,
}

pub(super) const IP_IN_IP: u8 = 4;
pub(super) const UDP: u8 = 17;
pub(super) const IPV6_IN_IP: u8 = 41;
pub(super) const GRE: u8 = 47;
pub(super) const ICMPV6: u8 = 58;

impl<'a> IpPacket<'a> {
    /// Reads a packet; `None` if the header is invalid, and for every fragment except the first.
    pub(super) fn read(ether_type: u16, bytes: &'a [u8]) -> Option<Self> {
        if ether_type == IPV4 { Self::read_four(bytes) } else { Self::read_six(bytes) }
    }

    fn read_four(bytes: &'a [u8]) -> Option<Self> {
        const MORE_FRAGMENTS: u16 = 0x2000;
        const FRAGMENT_OFFSET: u16 = 0x1fff;
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0f) * 4;
        let total = usize::from(be16(bytes, 2)?);
        let fragment = be16(bytes, 6)?;
        if first >> 4 != 4 || header < 20 || total < header || fragment & FRAGMENT_OFFSET != 0 {
            return None;
        }
        Some(Self {
            version: IpVersion::Four,
            protocol: *bytes.get(9)?,
            hop_limit: *bytes.get(8)?,
            body: bytes.get(header..total.min(bytes.len()))?,
            cut: fragment & MORE_FRAGMENTS != 0,
            short: total > bytes.len(),
        })
    }

    fn read_six(bytes: &'a [u8]) -> Option<Self> {
        let body = bytes.get(40..)?;
        let length = usize::from(be16(bytes, 4)?);
        if bytes[0] >> 4 != 6 {
            return None;
        }
        Some(Self {
            version: IpVersion::Six,
            protocol: bytes[6],
            hop_limit: bytes[7],
            body: &body[..length.min(body.len())],
            cut: false,
            short: length > body.len(),
        })
    }

    /// The UDP datagram in it; `None` for another protocol.
    pub(super) fn udp(&self) -> Option<UdpDatagram<'a>> {
        const HEADER: usize = 8;
        let length = usize::from(be16(self.body, 4)?);
        if self.protocol != UDP || length < HEADER {
            return None;
        }
        Some(UdpDatagram {
            from_port: be16(self.body, 0)?,
            to_port: be16(self.body, 2)?,
            payload: self.body.get(HEADER..length.min(self.body.len()))?,
            short: length > self.body.len(),
        })
    }
}
