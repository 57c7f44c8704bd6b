//! PURE. The kinds of frames, and the words that `checkind replay --frames` prints for them.

use std::fmt;

/// The kind of a frame. Displayed as the word that `checkind replay --frames` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// ARP request for another station's address.
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
        /// The S flag: the answer to a solicitation.
        solicited: bool,
    },
    /// One of the above inside a tunnel.
    Tunnelled,
    /// One of the above on a link that is not Ethernet; occurs only in files.
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
    /// Any other, including lease queries (RFC 4388).
    Other(u8),
}

impl DhcpType {
    pub(super) const fn from_number(number: u8) -> Self {
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
    /// Any other; servers and relays send these.
    Other(u8),
}

impl Dhcpv6Type {
    pub(super) const fn from_number(number: u8) -> Self {
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

    /// Whether a message of this type proves that its client is here.
    pub(super) const fn shows_the_client(self) -> bool {
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
