//! PURE. What one Ethernet frame says about the device that sent it.
//!
//! ARP (RFC 826, RFC 5227), DHCPv4 (RFC 2131, RFC 2132), DHCPv6 (RFC 8415) and neighbour discovery (RFC 4861), under up
//! to three VLAN tags. Nothing here allocates, panics, keeps state or trusts a length.
//! Never here: whose device it is, whether its address is listed as infrastructure, or what follows from the evidence.

use std::{fmt, net::Ipv4Addr, time::Duration};

use crate::base::mac::MacAddr;

/// A VLAN identifier (IEEE 802.1Q), 0 to 4095; 0 is a tag that carries a priority only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// From a tag control information field: its low twelve bits.
    pub const fn from_tci(tci: u16) -> Self {
        Self(tci & 0x0fff)
    }

    /// The number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The most VLAN tags that are read, the one that the kernel strips included. A frame with more says nothing: a remote
/// mirror adds one to a customer's two, and nobody adds a fourth.
pub const TAGS: usize = 3;

/// The VLAN tags of a frame, outermost first; displayed as `10,20`, or `-` when there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    ids: [VlanId; TAGS],
    count: usize,
}

impl Vlans {
    /// The tags, outermost first.
    pub fn ids(&self) -> &[VlanId] {
        &self.ids[..self.count]
    }

    /// The outermost tag, by which a capture can be limited.
    pub fn outermost(&self) -> Option<VlanId> {
        self.ids().first().copied()
    }

    fn push(&mut self, id: VlanId) -> Option<()> {
        *self.ids.get_mut(self.count)? = id;
        self.count += 1;
        Some(())
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        for (at, id) in self.ids().iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(id, f)?;
        }
        Ok(())
    }
}

/// What sort of frame it is. Displayed as the word that `checkind replay --frames` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// ARP request for another's address.
    ArpRequest,
    /// ARP request without a sender's IP address (RFC 5227 2.1.1).
    ArpProbe,
    /// ARP request for the sender's own address (RFC 5227 2.3).
    ArpAnnouncement,
    /// ARP reply.
    ArpReply,
    /// ARP for other networks, or another operation.
    ArpOther,
    /// DHCPv4, by option 53.
    Dhcp(DhcpType),
    /// BOOTP without a DHCP message type, from a client.
    BootpRequest,
    /// BOOTP without a DHCP message type, from a server.
    BootpReply,
    /// DHCPv6, by its outermost message.
    Dhcpv6(Dhcpv6Type),
    /// RFC 4861 4.1.
    RouterSolicitation,
    /// RFC 4861 4.2.
    RouterAdvertisement,
    /// RFC 4861 4.3.
    NeighbourSolicitation,
    /// RFC 4861 4.4.
    NeighbourAdvertisement {
        /// The S flag: sent because somebody asked.
        solicited: bool,
    },
    /// One of the above inside a tunnel.
    Tunnelled,
    /// One of the above on a link that is not Ethernet; only files have those.
    OtherLinkLayer,
}

impl fmt::Display for FrameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ArpRequest => f.write_str("arp_request"),
            Self::ArpProbe => f.write_str("arp_probe"),
            Self::ArpAnnouncement => f.write_str("arp_announcement"),
            Self::ArpReply => f.write_str("arp_reply"),
            Self::ArpOther => f.write_str("arp_other"),
            Self::Dhcp(kind) => write!(f, "dhcp_{kind}"),
            Self::BootpRequest => f.write_str("bootp_request"),
            Self::BootpReply => f.write_str("bootp_reply"),
            Self::Dhcpv6(kind) => write!(f, "dhcpv6_{kind}"),
            Self::RouterSolicitation => f.write_str("router_solicitation"),
            Self::RouterAdvertisement => f.write_str("router_advertisement"),
            Self::NeighbourSolicitation => f.write_str("neighbour_solicitation"),
            Self::NeighbourAdvertisement { solicited: false } => f.write_str("neighbour_advertisement"),
            Self::NeighbourAdvertisement { solicited: true } => f.write_str("neighbour_advertisement_solicited"),
            Self::Tunnelled => f.write_str("tunnelled"),
            Self::OtherLinkLayer => f.write_str("other_link_layer"),
        }
    }
}

/// DHCPv4 message types (RFC 2132 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpType {
    /// 1.
    Discover,
    /// 2.
    Offer,
    /// 3.
    Request,
    /// 4.
    Decline,
    /// 5.
    Ack,
    /// 6.
    Nak,
    /// 7.
    Release,
    /// 8.
    Inform,
    /// Any other, lease queries (RFC 4388) among them.
    Other(u8),
}

impl DhcpType {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for DhcpType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "discover",
            Self::Offer => "offer",
            Self::Request => "request",
            Self::Decline => "decline",
            Self::Ack => "ack",
            Self::Nak => "nak",
            Self::Release => "release",
            Self::Inform => "inform",
            Self::Other(number) => return write!(f, "type_{number}"),
        })
    }
}

/// DHCPv6 message types that clients send (RFC 8415 7.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dhcpv6Type {
    /// 1.
    Solicit,
    /// 3.
    Request,
    /// 4.
    Confirm,
    /// 5.
    Renew,
    /// 6.
    Rebind,
    /// 8.
    Release,
    /// 9.
    Decline,
    /// 11.
    InformationRequest,
    /// What servers and relays send.
    Other(u8),
}

impl Dhcpv6Type {
    const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Solicit,
            3 => Self::Request,
            4 => Self::Confirm,
            5 => Self::Renew,
            6 => Self::Rebind,
            8 => Self::Release,
            9 => Self::Decline,
            11 => Self::InformationRequest,
            other => Self::Other(other),
        }
    }

    const fn shows_the_client(self) -> bool {
        match self {
            Self::Solicit
            | Self::Request
            | Self::Confirm
            | Self::Renew
            | Self::Rebind
            | Self::Decline
            | Self::InformationRequest => true,
            Self::Release | Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Dhcpv6Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Solicit => "solicit",
            Self::Request => "request",
            Self::Confirm => "confirm",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Release => "release",
            Self::Decline => "decline",
            Self::InformationRequest => "information-request",
            Self::Other(number) => return write!(f, "type_{number}"),
        })
    }
}

/// How much a frame proves about the presence of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Sent by the device itself.
    Strong,
    /// Somebody else may have answered for it: proxy ARP, a sleep proxy, a sleeping network card, a server.
    Weak,
    /// Nothing, and why.
    None(WhyNot),
}

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strong => "strong",
            Self::Weak => "weak",
            Self::None(_) => "no",
        })
    }
}

/// Why a frame is no evidence. Displayed as `checkind replay --frames` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The link is not Ethernet.
    NotEthernet,
    /// Inside a tunnel: the device is somewhere else.
    Tunnelled,
    /// ARP for other networks.
    NotIpv4OverEthernet,
    /// An ARP operation other than request and reply.
    Operation(u16),
    /// The frame ends before the address.
    NoAddress,
    /// `00:00:00:00:00:00`.
    ZeroAddress,
    /// No station sends from a group address.
    GroupAddress,
    /// An address that routers share (VRRP, HSRP, GLBP).
    VirtualRouter,
    /// The ARP sender is not the Ethernet source: proxied, or forged.
    SenderIsNotSource,
    /// The BOOTP client has another kind of address.
    NotEthernetClient,
    /// Offers, releases, lease queries and what servers say.
    DoesNotShowTheClient,
    /// A router's advertisement.
    Router,
    /// The source link-layer option is not the Ethernet source: proxied, or forged.
    OptionIsNotSource,
    /// A length or field that its protocol forbids.
    Malformed,
}

impl WhyNot {
    /// Does the frame speak for an address that it was not sent from?
    pub const fn is_suspicious(self) -> bool {
        match self {
            Self::SenderIsNotSource | Self::OptionIsNotSource => true,
            Self::NotEthernet
            | Self::Tunnelled
            | Self::NotIpv4OverEthernet
            | Self::Operation(_)
            | Self::NoAddress
            | Self::ZeroAddress
            | Self::GroupAddress
            | Self::VirtualRouter
            | Self::NotEthernetClient
            | Self::DoesNotShowTheClient
            | Self::Router
            | Self::Malformed => false,
        }
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotEthernet => "not Ethernet",
            Self::Tunnelled => "tunnelled frame",
            Self::NotIpv4OverEthernet => "not IPv4 over Ethernet",
            Self::Operation(number) => return write!(f, "operation {number}"),
            Self::NoAddress => "no 48-bit address",
            Self::ZeroAddress => "zero address",
            Self::GroupAddress => "group address",
            Self::VirtualRouter => "virtual router",
            Self::SenderIsNotSource => "sender is not the Ethernet source",
            Self::NotEthernetClient => "not an Ethernet client",
            Self::DoesNotShowTheClient => "does not show that the client is here",
            Self::Router => "routers are infrastructure",
            Self::OptionIsNotSource => "link-layer option is not the Ethernet source",
            Self::Malformed => "malformed",
        })
    }
}

/// What one frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What sort of frame it is.
    pub kind: FrameKind,
    /// Its VLAN tags.
    pub vlans: Vlans,
    /// The device that it speaks for; none when the frame does not hold a 48-bit address.
    pub mac: Option<MacAddr>,
    /// How much it proves.
    pub evidence: Evidence,
    /// How a DHCPv4 message came; everything else comes over the link.
    pub via: Via,
    /// The lease time that a server granted (option 51 of a DHCPACK); none where it is for ever (RFC 2131 3.3), because then
    /// nothing is renewed.
    pub lease: Option<Duration>,
}

/// How a message between a client and its server came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The client is on this link, as far as the frame says.
    Link,
    /// Through the relay with this address (`giaddr`, RFC 1542 4.1), which the client is on the link of.
    Relay(Ipv4Addr),
    /// From or to a client behind a router: the frame's address is not the client's, and no relay has signed it. A client that
    /// got its lease through a relay renews it like this (RFC 2131 4.4.5).
    Router,
}

/// Reads one Ethernet frame, without its frame check sequence.
///
/// `stripped` is the tag that the kernel took off before the frame reached us; it is the outermost. None when the frame
/// is neither ARP, DHCP nor neighbour discovery, or has more than [`TAGS`] tags.
pub fn observe(frame: &[u8], stripped: Option<VlanId>) -> Option<Observation> {
    let source = mac_at(frame, 6)?;
    let mut vlans = Vlans::default();
    if let Some(id) = stripped {
        vlans.push(id)?;
    }
    let mut at = 12;
    let mut ether_type = be16(frame, at)?;
    while matches!(ether_type, TAG_C | TAG_S | TAG_OLD) {
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
    let says = read(ether_type, frame.get(at..)?, source)?;
    let via = match says.relay {
        Some(relay) => Via::Relay(relay),
        None if says.is_bootp() && says.mac.is_some_and(|client| !is_of(frame, client, says.evidence)) => Via::Router,
        None => Via::Link,
    };
    Some(Observation { kind: says.kind, vlans, mac: says.mac, evidence: says.evidence, via, lease: says.lease })
}

/// Did the client send the frame, or does it go to the client or to everybody, if a server did?
fn is_of(frame: &[u8], client: MacAddr, evidence: Evidence) -> bool {
    match evidence {
        Evidence::Strong => mac_at(frame, 6) == Some(client),
        Evidence::Weak | Evidence::None(_) => mac_at(frame, 0).is_some_and(|to| to == client || to.is_group()),
    }
}

/// Is this payload ARP, DHCP or neighbour discovery? For links that are not Ethernet, which never give evidence.
pub fn concerns_devices(ether_type: u16, payload: &[u8]) -> bool {
    read(ether_type, payload, MacAddr::new([0; 6])).is_some()
}

const TAG_C: u16 = 0x8100;
const TAG_S: u16 = 0x88a8;
const TAG_OLD: u16 = 0x9100;
/// Up to here the field after the addresses is the length of an IEEE 802.3 frame.
const LONGEST_LLC: u16 = 1500;
/// LLC unnumbered information to SNAP with the Ethernet organisation (RFC 1042).
const SNAP_ETHERNET: &[u8] = &[0xaa, 0xaa, 0x03, 0, 0, 0];

const ARP: u16 = 0x0806;
const REVERSE_ARP: u16 = 0x8035;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const BRIDGED_ETHERNET: u16 = 0x6558;

/// An observation without its tags.
struct Says {
    kind: FrameKind,
    mac: Option<MacAddr>,
    evidence: Evidence,
    relay: Option<Ipv4Addr>,
    lease: Option<Duration>,
}

impl Says {
    fn strong(kind: FrameKind, mac: MacAddr) -> Self {
        Self { kind, mac: Some(mac), evidence: Evidence::Strong, relay: None, lease: None }
    }

    fn weak(kind: FrameKind, mac: MacAddr) -> Self {
        Self { kind, mac: Some(mac), evidence: Evidence::Weak, relay: None, lease: None }
    }

    fn nothing(kind: FrameKind, mac: Option<MacAddr>, why: WhyNot) -> Self {
        Self { kind, mac, evidence: Evidence::None(why), relay: None, lease: None }
    }

    fn is_bootp(&self) -> bool {
        matches!(self.kind, FrameKind::Dhcp(_) | FrameKind::BootpRequest | FrameKind::BootpReply)
    }
}

fn read(ether_type: u16, payload: &[u8], source: MacAddr) -> Option<Says> {
    match ether_type {
        ARP | REVERSE_ARP => Some(arp(payload, source)),
        IPV4 | IPV6 => {
            let packet = Packet::read(ether_type, payload)?;
            if packet.tunnels() {
                return Some(Says::nothing(FrameKind::Tunnelled, Some(source), WhyNot::Tunnelled));
            }
            packet.says(source)
        }
        _ => None,
    }
}

/// ARP over Ethernet for IPv4 is 28 octets; the frame may be padded behind them.
fn arp(body: &[u8], source: MacAddr) -> Says {
    const IPV4_OVER_ETHERNET: &[u8] = &[0, 1, 0x08, 0, 6, 4];
    if body.get(..6) != Some(IPV4_OVER_ETHERNET) {
        return Says::nothing(FrameKind::ArpOther, Some(source), WhyNot::NotIpv4OverEthernet);
    }
    let (operation, sender) = (be16(body, 6).unwrap_or(0), mac_at(body, 8));
    let addresses = body.get(14..18).zip(body.get(24..28));
    let kind = match (operation, addresses) {
        (1, Some((from, _))) if from == [0; 4] => FrameKind::ArpProbe,
        (1, Some((from, to))) if from == to => FrameKind::ArpAnnouncement,
        (1, _) => FrameKind::ArpRequest,
        (2, _) => FrameKind::ArpReply,
        (other, _) => return Says::nothing(FrameKind::ArpOther, sender, WhyNot::Operation(other)),
    };
    let Some(mac) = sender else { return Says::nothing(kind, None, WhyNot::NoAddress) };
    let why = not_one_station(mac)
        .or((mac != source).then_some(WhyNot::SenderIsNotSource))
        .or(addresses.is_none().then_some(WhyNot::Malformed));
    match (why, operation) {
        (Some(why), _) => Says::nothing(kind, Some(mac), why),
        (None, 1) => Says::strong(kind, mac),
        (None, _) => Says::weak(kind, mac),
    }
}

/// An IP packet that is whole, or the first fragment of one.
struct Packet<'a> {
    version: IpVersion,
    /// The protocol behind the header; extension headers of IPv6 are not followed, hosts send none before these.
    protocol: u8,
    hop_limit: u8,
    body: &'a [u8],
    /// More fragments follow, so that the body may end anywhere.
    cut: bool,
    /// The header promises more than there is.
    short: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum IpVersion {
    Four,
    Six,
}

const IP_IN_IP: u8 = 4;
const UDP: u8 = 17;
const IPV6_IN_IP: u8 = 41;
const GRE: u8 = 47;
const ICMPV6: u8 = 58;

impl<'a> Packet<'a> {
    fn read(ether_type: u16, bytes: &'a [u8]) -> Option<Self> {
        if ether_type == IPV4 { Self::read_four(bytes) } else { Self::read_six(bytes) }
    }

    fn read_four(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header = usize::from(first & 0x0f) * 4;
        let total = usize::from(be16(bytes, 2)?);
        let fragment = be16(bytes, 6)?;
        if first >> 4 != 4 || header < 20 || total < header || fragment & 0x1fff != 0 {
            return None;
        }
        Some(Self {
            version: IpVersion::Four,
            protocol: *bytes.get(9)?,
            hop_limit: *bytes.get(8)?,
            body: bytes.get(header..total.min(bytes.len()))?,
            cut: fragment & 0x2000 != 0,
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

    /// Source port, destination port, payload, and whether the UDP header promises more than there is.
    fn udp(&self) -> Option<(u16, u16, &'a [u8], bool)> {
        let length = usize::from(be16(self.body, 4)?);
        if self.protocol != UDP || length < 8 {
            return None;
        }
        let payload = self.body.get(8..length.min(self.body.len()))?;
        Some((be16(self.body, 0)?, be16(self.body, 2)?, payload, length > self.body.len()))
    }

    fn says(&self, source: MacAddr) -> Option<Says> {
        if self.protocol == ICMPV6 && self.version == IpVersion::Six {
            return neighbour_discovery(self, source);
        }
        let (from, to, payload, short) = self.udp()?;
        let short = (short || self.short) && !self.cut;
        if matches!(from, 67 | 68) || matches!(to, 67 | 68) {
            return (self.version == IpVersion::Four).then(|| bootp(payload, self.cut, short)).flatten();
        }
        if matches!(from, 546 | 547) || matches!(to, 546 | 547) {
            // DHCPv6 does not run over IPv4 (RFC 8415 7.1).
            return dhcpv6(payload, source, short || self.version == IpVersion::Four);
        }
        None
    }

    /// Does this packet carry ARP, DHCP or neighbour discovery of some other place?
    fn tunnels(&self) -> bool {
        let inner = match self.protocol {
            IP_IN_IP => Some((IPV4, self.body)),
            IPV6_IN_IP => Some((IPV6, self.body)),
            GRE => gre(self.body),
            UDP => self.udp().and_then(|(_, to, payload, _)| match to {
                4789 => Some((BRIDGED_ETHERNET, payload.get(8..)?)),
                6081 => {
                    let options = usize::from(payload.first()? & 0x3f) * 4;
                    Some((be16(payload, 2)?, payload.get(8 + options..)?))
                }
                _ => None,
            }),
            _ => None,
        };
        inner.is_some_and(|(ether_type, bytes)| carries(ether_type, bytes))
    }
}

/// The protocol and payload of a GRE packet (RFC 2784, RFC 2890): each flag adds four octets to the header.
fn gre(body: &[u8]) -> Option<(u16, &[u8])> {
    let flags = be16(body, 0)?;
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|flag| flags & **flag != 0).count();
    Some((be16(body, 2)?, body.get(4 + 4 * optional..)?))
}

/// One level deep: a tunnel in a tunnel says nothing at all.
fn carries(ether_type: u16, bytes: &[u8]) -> bool {
    let nobody = MacAddr::new([0; 6]);
    let (ether_type, bytes) = if ether_type == BRIDGED_ETHERNET {
        let mut at = 12;
        while be16(bytes, at).is_some_and(|tag| matches!(tag, TAG_C | TAG_S | TAG_OLD)) {
            at += 4;
        }
        match (be16(bytes, at), bytes.get(at + 2..)) {
            (Some(ether_type), Some(rest)) => (ether_type, rest),
            _ => return false,
        }
    } else {
        (ether_type, bytes)
    };
    match ether_type {
        ARP | REVERSE_ARP => true,
        IPV4 | IPV6 => Packet::read(ether_type, bytes).is_some_and(|packet| packet.says(nobody).is_some()),
        _ => false,
    }
}

/// What the options of a DHCPv4 message tell us.
#[derive(Default)]
struct DhcpOptions {
    message: Option<u8>,
    lease: Option<u32>,
    overload: u8,
}

impl DhcpOptions {
    /// Reads one field of options (RFC 2132 2); false when an option runs past the end of it.
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

/// BOOTP (RFC 951) and DHCP. The client is `chaddr`, whoever sent the frame: a relay puts its own address outside.
///
/// `cut` says that the rest is in other fragments, so that options may end anywhere; `short` that the rest is missing.
fn bootp(payload: &[u8], cut: bool, short: bool) -> Option<Says> {
    const COOKIE: &[u8] = &[99, 130, 83, 99];
    /// The vendor area that BOOTP without options always has.
    const VENDOR_AREA: usize = 64;
    const ETHERNET: u8 = 1;
    const IEEE_802: u8 = 6;
    const FOR_EVER: u32 = u32::MAX;
    let (from_client, hardware, length) = (*payload.first()? == 1, *payload.get(1)?, *payload.get(2)?);
    let mut options = DhcpOptions::default();
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
    let kind = match options.message {
        Some(number) if number != 0 => FrameKind::Dhcp(DhcpType::from_number(number)),
        _ if from_client => FrameKind::BootpRequest,
        _ => FrameKind::BootpReply,
    };
    let chaddr = mac_at(payload, 28).filter(|_| matches!(hardware, ETHERNET | IEEE_802) && length == 6);
    let Some(mac) = chaddr.filter(|_| hardware == ETHERNET) else {
        let no_address = hardware == ETHERNET && length == 6;
        return Some(Says::nothing(
            kind,
            chaddr,
            if no_address { WhyNot::NoAddress } else { WhyNot::NotEthernetClient },
        ));
    };
    let shows = Shows::by(kind, from_client);
    let why = not_one_station(mac)
        .or((shows == Shows::Nothing).then_some(WhyNot::DoesNotShowTheClient))
        .or((short || !well_formed).then_some(WhyNot::Malformed));
    let lease = options.lease.filter(|seconds| *seconds != FOR_EVER).map(|seconds| Duration::from_secs(seconds.into()));
    let says = match (why, shows) {
        (Some(why), _) => Says::nothing(kind, Some(mac), why),
        (None, Shows::Answered) => Says { lease, ..Says::weak(kind, mac) },
        (None, Shows::Client | Shows::Nothing) => Says::strong(kind, mac),
    };
    let relay =
        payload.get(24..28).and_then(|address| address.first_chunk::<4>()).map(|octets| Ipv4Addr::from(*octets));
    Some(Says { relay: relay.filter(|relay| !relay.is_unspecified()), ..says })
}

/// What a BOOTP message shows about its client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    /// The client sent it.
    Client,
    /// A server granted what the client had asked for a moment ago.
    Answered,
    Nothing,
}

impl Shows {
    fn by(kind: FrameKind, from_client: bool) -> Self {
        let FrameKind::Dhcp(message) = kind else { return if from_client { Self::Client } else { Self::Nothing } };
        match message {
            DhcpType::Discover | DhcpType::Request | DhcpType::Decline | DhcpType::Inform if from_client => {
                Self::Client
            }
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

/// DHCPv6. The client is the Ethernet source: what a relay passes on is a message of the relay's own.
fn dhcpv6(payload: &[u8], source: MacAddr, spoilt: bool) -> Option<Says> {
    const RELAY_FORWARD: u8 = 12;
    const RELAY_REPLY: u8 = 13;
    let number = *payload.first()?;
    let header = if matches!(number, RELAY_FORWARD | RELAY_REPLY) { 34 } else { 4 };
    let message = Dhcpv6Type::from_number(number);
    let kind = FrameKind::Dhcpv6(message);
    let why = not_one_station(source)
        .or((!message.shows_the_client()).then_some(WhyNot::DoesNotShowTheClient))
        .or((spoilt || !dhcpv6_options(payload.get(header..))).then_some(WhyNot::Malformed));
    Some(match why {
        Some(why) => Says::nothing(kind, Some(source), why),
        None => Says::strong(kind, source),
    })
}

/// Does every option end where the next begins (RFC 8415 21.1)?
fn dhcpv6_options(options: Option<&[u8]>) -> bool {
    let Some(mut rest) = options else { return false };
    while !rest.is_empty() {
        let Some(length) = be16(rest, 2) else { return false };
        let Some(tail) = rest.get(4 + usize::from(length)..) else { return false };
        rest = tail;
    }
    true
}

fn neighbour_discovery(packet: &Packet<'_>, source: MacAddr) -> Option<Says> {
    const SOLICITED: u8 = 0x40;
    /// A packet from this link (RFC 4861 7.1): every router lowers it.
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
        (Some(why), _) => Says::nothing(kind, Some(source), why),
        (None, FrameKind::NeighbourAdvertisement { solicited: true }) => Says::weak(kind, source),
        (None, _) => Says::strong(kind, source),
    })
}

struct NdOptions {
    /// The source link-layer address option.
    source: Option<MacAddr>,
}

impl NdOptions {
    /// None when an option has no length or runs past the end (RFC 4861 4.6).
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

fn not_one_station(mac: MacAddr) -> Option<WhyNot> {
    if mac.is_zero() {
        return Some(WhyNot::ZeroAddress);
    }
    if mac.is_group() {
        return Some(WhyNot::GroupAddress);
    }
    is_virtual_router(mac).then_some(WhyNot::VirtualRouter)
}

/// Addresses that a group of routers answers with: VRRP, and CARP, for IPv4 and IPv6 (RFC 9568 7.3); HSRP, its second version,
/// and that for IPv6; GLBP (Cisco's First Hop Redundancy Protocols guide).
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

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]))
}

fn mac_at(bytes: &[u8], at: usize) -> Option<MacAddr> {
    bytes.get(at..at + 6)?.first_chunk().copied().map(MacAddr::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: MacAddr = MacAddr::new([0x3c, 0x22, 0xfb, 1, 2, 3]);
    const OTHER: MacAddr = MacAddr::new([0x00, 0x1b, 0x21, 4, 5, 6]);

    fn ethernet(source: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &source.octets(), &ether_type.to_be_bytes(), payload].concat()
    }

    fn arp(operation: u8, sender: MacAddr, from: [u8; 4], to: [u8; 4]) -> Vec<u8> {
        let body = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &sender.octets(), &from, &[0; 6], &to].concat();
        ethernet(DEVICE, ARP, &body)
    }

    fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(20 + payload.len()).expect("short");
        let [a, b, c, d] = [total.to_be_bytes(), fragment.to_be_bytes()].concat().try_into().expect("four octets");
        [&[0x45, 0, a, b, 0, 0, c, d, 64, protocol, 0, 0, 10, 0, 0, 9, 10, 0, 0, 1][..], payload].concat()
    }

    fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + payload.len()).expect("short");
        [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
    }

    fn bootp(operation: u8, options: &[u8]) -> Vec<u8> {
        let mut message = vec![operation, 1, 6, 0];
        message.resize(28, 0);
        message.extend(DEVICE.octets());
        message.resize(236, 0);
        message.extend([99, 130, 83, 99]);
        message.extend(options);
        message
    }

    /// As a relay passes it on: the relay's own address outside, the client's inside.
    fn dhcp(operation: u8, options: &[u8]) -> Vec<u8> {
        ethernet(OTHER, IPV4, &ipv4(UDP, 0, &udp(67, 67, &bootp(operation, options))))
    }

    fn icmpv6(source: MacAddr, hop_limit: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        let header = [&[0x60, 0, 0, 0, length[0], length[1], ICMPV6, hop_limit][..], &[0xfe; 32]].concat();
        ethernet(source, IPV6, &[header, body.to_vec()].concat())
    }

    /// Neighbour discovery with one link-layer option.
    fn discovery(kind: u8, flags: u8, header: usize, option: u8, link: MacAddr) -> Vec<u8> {
        let mut body = vec![kind, 0, 0, 0, flags];
        body.resize(header, 0);
        body.extend([option, 1]);
        body.extend(link.octets());
        body
    }

    fn says(frame: &[u8]) -> (String, Option<MacAddr>, Evidence) {
        let seen = observe(frame, None).expect("the frame concerns a device");
        (seen.kind.to_string(), seen.mac, seen.evidence)
    }

    #[test]
    fn arp_proves_as_much_as_it_may() {
        let (mine, yours, none) = ([10, 0, 0, 9], [10, 0, 0, 1], [0; 4]);
        let group = MacAddr::new([1, 0, 0x5e, 0, 0, 1]);
        let table = [
            (arp(1, DEVICE, mine, yours), "arp_request", Evidence::Strong),
            (arp(1, DEVICE, none, mine), "arp_probe", Evidence::Strong),
            (arp(1, DEVICE, mine, mine), "arp_announcement", Evidence::Strong),
            (arp(2, DEVICE, mine, yours), "arp_reply", Evidence::Weak),
            (arp(3, DEVICE, mine, yours), "arp_other", Evidence::None(WhyNot::Operation(3))),
            (arp(1, OTHER, mine, yours), "arp_request", Evidence::None(WhyNot::SenderIsNotSource)),
            (arp(1, group, mine, yours), "arp_request", Evidence::None(WhyNot::GroupAddress)),
            (arp(1, MacAddr::new([0; 6]), mine, yours), "arp_request", Evidence::None(WhyNot::ZeroAddress)),
            (
                arp(1, MacAddr::new([0, 0, 0x5e, 0, 1, 7]), mine, yours),
                "arp_request",
                Evidence::None(WhyNot::VirtualRouter),
            ),
            (arp(1, DEVICE, mine, yours)[..30].to_vec(), "arp_request", Evidence::None(WhyNot::Malformed)),
            (arp(1, DEVICE, mine, yours)[..24].to_vec(), "arp_request", Evidence::None(WhyNot::NoAddress)),
        ];
        for (frame, kind, evidence) in table {
            let (got, _, got_evidence) = says(&frame);
            assert_eq!((got.as_str(), got_evidence), (kind, evidence), "{frame:02x?}");
        }
    }

    #[test]
    fn dhcp_speaks_for_the_client_behind_a_relay() {
        let no = |why| Evidence::None(why);
        let table = [
            (dhcp(1, &[53, 1, 1, 255]), "dhcp_discover", Evidence::Strong),
            (dhcp(1, &[53, 1, 3, 255]), "dhcp_request", Evidence::Strong),
            (dhcp(1, &[53, 1, 4, 255]), "dhcp_decline", Evidence::Strong),
            (dhcp(1, &[53, 1, 8, 255]), "dhcp_inform", Evidence::Strong),
            (dhcp(1, &[0, 0, 53, 1, 3]), "dhcp_request", Evidence::Strong),
            (dhcp(2, &[53, 1, 5, 255]), "dhcp_ack", Evidence::Weak),
            (dhcp(1, &[255]), "bootp_request", Evidence::Strong),
            (dhcp(2, &[255]), "bootp_reply", no(WhyNot::DoesNotShowTheClient)),
            (dhcp(2, &[53, 1, 2, 255]), "dhcp_offer", no(WhyNot::DoesNotShowTheClient)),
            (dhcp(2, &[53, 1, 1, 255]), "dhcp_discover", no(WhyNot::DoesNotShowTheClient)),
            (dhcp(1, &[53, 1, 7, 255]), "dhcp_release", no(WhyNot::DoesNotShowTheClient)),
            (dhcp(1, &[53, 1, 10, 255]), "dhcp_type_10", no(WhyNot::DoesNotShowTheClient)),
            (dhcp(1, &[53, 1, 3, 12, 200, 65]), "dhcp_request", no(WhyNot::Malformed)),
            (dhcp(1, &[53, 1, 3, 12]), "dhcp_request", no(WhyNot::Malformed)),
        ];
        for (frame, kind, evidence) in table {
            assert_eq!(says(&frame), (kind.to_owned(), Some(DEVICE), evidence));
        }
    }

    #[test]
    fn dhcp_options_are_found_in_the_overloaded_fields() {
        for (overload, at) in [(1u8, 108usize), (2, 44), (3, 44), (3, 108)] {
            let mut message = bootp(1, &[52, 1, overload, 255]);
            message[at..at + 4].copy_from_slice(&[53, 1, 3, 255]);
            let frame = ethernet(OTHER, IPV4, &ipv4(UDP, 0, &udp(68, 67, &message)));
            assert_eq!(says(&frame), ("dhcp_request".to_owned(), Some(DEVICE), Evidence::Strong), "{overload} {at}");
        }
    }

    #[test]
    fn the_first_fragment_of_a_dhcp_message_is_enough_and_the_others_mean_nothing() {
        let first = udp(68, 67, &bootp(1, &[53, 1, 3, 12, 40, 65]));
        assert_eq!(says(&ethernet(DEVICE, IPV4, &ipv4(UDP, 0x2000, &first))).2, Evidence::Strong);
        assert_eq!(observe(&ethernet(DEVICE, IPV4, &ipv4(UDP, 0x0010, &first)), None), None);
    }

    #[test]
    fn a_lease_time_is_read_from_acknowledgements_only() {
        let lease = |frame: &[u8]| observe(frame, None).and_then(|seen| seen.lease);
        let options = |message| [53, 1, message, 51, 4, 0, 0, 14, 16, 255];
        assert_eq!(lease(&dhcp(2, &options(5))), Some(Duration::from_secs(3600)));
        assert_eq!(lease(&dhcp(2, &options(2))), None);
        assert_eq!(lease(&dhcp(1, &options(3))), None);
        assert_eq!(lease(&dhcp(2, &[53, 1, 5, 51, 4, 255, 255, 255, 255, 255])), None, "for ever");
    }

    #[test]
    fn a_dhcp_message_says_how_it_came() {
        let relay = Ipv4Addr::new(10, 1, 0, 1);
        let message = |operation: u8, kind: u8, through: Option<Ipv4Addr>| {
            let mut message = bootp(operation, &[53, 1, kind, 255]);
            message[24..28].copy_from_slice(&through.map_or([0; 4], |relay| relay.octets()));
            ipv4(UDP, 0, &udp(67, 67, &message))
        };
        let via = |frame: &[u8]| observe(frame, None).map(|seen| seen.via);
        let from = |source: MacAddr, packet: Vec<u8>| ethernet(source, IPV4, &packet);
        let to = |target: MacAddr, packet: Vec<u8>| {
            let mut frame = ethernet(OTHER, IPV4, &packet);
            frame[..6].copy_from_slice(&target.octets());
            frame
        };
        let router = MacAddr::new([0x00, 0x1b, 0x21, 7, 7, 7]);
        for (frame, wanted) in [
            (from(DEVICE, message(1, 3, None)), Via::Link),
            (from(OTHER, message(1, 3, None)), Via::Router),
            (from(OTHER, message(1, 3, Some(relay))), Via::Relay(relay)),
            (to(DEVICE, message(2, 5, None)), Via::Link),
            (to(MacAddr::new([0xff; 6]), message(2, 5, None)), Via::Link),
            (to(router, message(2, 5, None)), Via::Router),
            (to(router, message(2, 5, Some(relay))), Via::Relay(relay)),
            (arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]), Via::Link),
        ] {
            assert_eq!(via(&frame), Some(wanted), "{frame:02x?}");
        }
    }

    #[test]
    fn addresses_that_routers_share_belong_to_no_member() {
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

    #[test]
    fn neighbour_discovery_speaks_for_its_sender() {
        let no = |why| Evidence::None(why);
        let table = [
            (icmpv6(DEVICE, 255, &discovery(135, 0, 24, 1, DEVICE)), "neighbour_solicitation", Evidence::Strong),
            (icmpv6(DEVICE, 255, &discovery(133, 0, 8, 1, DEVICE)), "router_solicitation", Evidence::Strong),
            (icmpv6(DEVICE, 255, &discovery(136, 0x20, 24, 2, DEVICE)), "neighbour_advertisement", Evidence::Strong),
            (
                icmpv6(DEVICE, 255, &discovery(136, 0x60, 24, 2, DEVICE)),
                "neighbour_advertisement_solicited",
                Evidence::Weak,
            ),
            (icmpv6(DEVICE, 255, &discovery(134, 0, 16, 1, DEVICE)), "router_advertisement", no(WhyNot::Router)),
            (
                icmpv6(DEVICE, 255, &discovery(135, 0, 24, 1, OTHER)),
                "neighbour_solicitation",
                no(WhyNot::OptionIsNotSource),
            ),
            (icmpv6(DEVICE, 64, &discovery(135, 0, 24, 1, DEVICE)), "neighbour_solicitation", no(WhyNot::Malformed)),
            (icmpv6(DEVICE, 255, &[135, 0, 0, 0]), "neighbour_solicitation", no(WhyNot::Malformed)),
        ];
        for (frame, kind, evidence) in table {
            assert_eq!(says(&frame), (kind.to_owned(), Some(DEVICE), evidence));
        }
        let mut without_length = discovery(135, 0, 24, 1, DEVICE);
        without_length[25] = 0;
        assert_eq!(says(&icmpv6(DEVICE, 255, &without_length)).2, no(WhyNot::Malformed));
        assert_eq!(observe(&icmpv6(DEVICE, 255, &[128, 0, 0, 0, 0, 0, 0, 0]), None), None);
    }

    #[test]
    fn what_is_inside_a_tunnel_is_no_evidence() {
        let inner = arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]);
        let asking = ipv4(UDP, 0, &udp(68, 67, &bootp(1, &[53, 1, 1, 255])));
        let vxlan = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &inner].concat());
        let geneve = udp(50_000, 6081, &[&[1, 0, 0x65, 0x58, 0, 0, 7, 0, 0, 0, 0, 0][..], &inner].concat());
        let gre = [&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7][..], &inner].concat();
        for packet in [ipv4(UDP, 0, &vxlan), ipv4(UDP, 0, &geneve), ipv4(GRE, 0, &gre), ipv4(IP_IN_IP, 0, &asking)] {
            let (kind, mac, evidence) = says(&ethernet(OTHER, IPV4, &packet));
            assert_eq!((kind.as_str(), mac, evidence), ("tunnelled", Some(OTHER), Evidence::None(WhyNot::Tunnelled)));
        }
        let web = udp(50_000, 4789, &[&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(DEVICE, 0x88cc, &[0; 40])].concat());
        assert_eq!(observe(&ethernet(OTHER, IPV4, &ipv4(UDP, 0, &web)), None), None);
    }

    #[test]
    fn a_fourth_tag_is_not_read() {
        let inner = arp(1, DEVICE, [10, 0, 0, 9], [10, 0, 0, 1]);
        let tagged = |count: usize| [&inner[..12], &[0x81, 0, 0, 7].repeat(count), &inner[12..]].concat();
        assert_eq!(observe(&tagged(3), None).map(|seen| seen.vlans.to_string()), Some("7,7,7".to_owned()));
        assert_eq!(
            observe(&tagged(2), Some(VlanId::from_tci(9))).map(|seen| seen.vlans.to_string()),
            Some("9,7,7".to_owned())
        );
        assert_eq!(observe(&tagged(4), None), None);
        assert_eq!(observe(&tagged(3), Some(VlanId::from_tci(9))), None);
    }
}
