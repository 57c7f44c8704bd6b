//! PURE. How much a frame proves about the presence of a device, or why it proves nothing.

use std::fmt;

/// How much a frame proves about the presence of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Sent by the device itself.
    Strong,
    /// Another station may have answered for it: proxy ARP, a sleep proxy, a sleeping network card, a server.
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
    /// It is inside a tunnel: the device is somewhere else.
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
    /// The BOOTP client has an address of another kind.
    NotEthernetClient,
    /// Offers, releases, lease queries and most messages of servers.
    DoesNotShowTheClient,
    /// A router's advertisement.
    Router,
    /// The source link-layer option is not the Ethernet source: proxied, or forged.
    OptionIsNotSource,
    /// A length or field that the protocol forbids.
    Malformed,
}

impl WhyNot {
    /// Whether the frame contains an address that it was not sent from.
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
