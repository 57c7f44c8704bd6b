//! What a capture needs from whatever hands it frames: the ring or the portable channel.

use std::{io, time::Duration};

use super::{frame::VlanId, link::LinkIndex};

/// Hands over the frames of one interface. It never transmits.
pub(super) trait FrameSource: Send {
    /// Listens to this interface from now on; nothing happens when it already does.
    fn bind(&mut self, index: LinkIndex) -> Result<(), FrameSourceError>;

    /// Waits for frames, for at most `limit`.
    fn wait(&mut self, limit: Duration) -> Wake;

    /// Hands over what has arrived, each frame with the VLAN tag that the kernel took off.
    fn frames(&mut self, each: &mut dyn FnMut(&[u8], Option<VlanId>));

    /// What was lost since it was last asked.
    fn losses(&mut self) -> Losses;
}

/// Why a wait ended.
#[derive(Debug)]
pub(super) enum Wake {
    /// Frames have arrived.
    Frames,
    /// Nothing has.
    Nothing,
    /// The interface went down or away, or the tap failed; the link has to be looked at.
    Fault(io::Error),
}

/// An interface cannot be listened to.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameSourceError {
    /// Its frames have no Ethernet header (the number is the kernel's `ARPHRD_*`).
    #[error("the interface is not Ethernet (hardware type {0})")]
    NotEthernet(u16),
    /// The system refused.
    #[error("the interface cannot be listened to")]
    Io(#[from] io::Error),
}

/// Frames that passed the filter and were lost for want of room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Frames.
    pub(super) drops: u64,
    /// How often the ring was full.
    pub(super) freezes: u64,
}
