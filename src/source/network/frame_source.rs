//! What a capture needs from a source of frames: the ring or the portable channel.

use std::{io, time::Duration};

use super::{frame::VlanId, link::LinkIndex};

/// Delivers the frames of one interface. It never transmits.
pub(super) trait FrameSource: Send {
    /// Captures on this interface from now on; has no effect if it already does.
    fn bind(&mut self, index: LinkIndex) -> Result<(), FrameSourceError>;

    /// Waits for frames, for at most `limit`.
    fn wait(&mut self, limit: Duration) -> Wake;

    /// Calls `each` for every frame that has arrived, with the VLAN tag that the kernel stripped.
    fn frames(&mut self, each: &mut dyn FnMut(&[u8], Option<VlanId>));

    /// The frames lost since the last call.
    fn losses(&mut self) -> Losses;
}

/// Why a wait ended.
#[derive(Debug)]
pub(super) enum Wake {
    /// Frames have arrived.
    Frames,
    /// No frame has arrived.
    Nothing,
    /// The interface went down or disappeared, or the source failed; the link must be checked.
    Fault(io::Error),
}

/// An interface cannot be captured.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameSourceError {
    /// Its frames have no Ethernet header (the number is the kernel's `ARPHRD_*`).
    #[error("the interface is not Ethernet (hardware type {0})")]
    NotEthernet(u16),
    /// The system refused.
    #[error("cannot capture on the interface")]
    Io(#[from] io::Error),
}

/// Frames that passed the filter and were dropped because there was no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Losses {
    /// Frames.
    pub(super) drops: u64,
    /// How often the ring was full.
    pub(super) freezes: u64,
}
