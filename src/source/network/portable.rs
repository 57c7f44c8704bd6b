//! pnet's channel, for systems on which the ring does not work.
//!
//! It reads every frame of the mirror port one by one, loses the outermost VLAN tag, has no drop counter, and needs its
//! privilege again whenever the interface reappears. After an error, its receiver fails immediately on every call, so a
//! failed channel is closed, and opened again only after the link has been checked.

use std::{io, time::Duration};

use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};

use super::{
    frame::VlanId,
    frame_source::{FrameSource, FrameSourceError, Losses, Wake},
    link::LinkIndex,
};

/// How many octets of a frame are kept; the same as with the ring's filter.
const KEPT: usize = super::filter::KEPT as usize;

/// A channel that is closed until it is bound.
pub(super) struct Portable {
    channel: Option<OpenChannel>,
    frame: Vec<u8>,
    limit: Duration,
}

struct OpenChannel {
    index: LinkIndex,
    receiver: Box<dyn DataLinkReceiver>,
    /// Shares the socket with the receiver; nothing is ever sent.
    _sender: Box<dyn DataLinkSender>,
}

impl Portable {
    /// `limit` is the longest wait that will be requested: the channel's timeout is set when it is opened.
    pub(super) fn new(limit: Duration) -> Self {
        Self { channel: None, frame: Vec::with_capacity(KEPT), limit }
    }
}

impl FrameSource for Portable {
    fn bind(&mut self, index: LinkIndex) -> Result<(), FrameSourceError> {
        if self.channel.as_ref().is_some_and(|open| open.index == index) {
            return Ok(());
        }
        self.channel = None;
        let interface = datalink::interfaces()
            .into_iter()
            .find(|interface| interface.index == index.0)
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        let config = Config { read_timeout: Some(self.limit), ..Config::default() };
        if let Channel::Ethernet(sender, receiver) = datalink::channel(&interface, config)? {
            self.channel = Some(OpenChannel { index, receiver, _sender: sender });
        }
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Wake {
        let Some(open) = &mut self.channel else {
            std::thread::sleep(limit);
            return Wake::Nothing;
        };
        self.frame.clear();
        match open.receiver.next() {
            Ok(frame) => {
                self.frame.extend_from_slice(&frame[..frame.len().min(KEPT)]);
                Wake::Frames
            }
            Err(fault) if matches!(fault.kind(), io::ErrorKind::TimedOut | io::ErrorKind::Interrupted) => Wake::Nothing,
            Err(fault) => {
                self.channel = None;
                Wake::Fault(fault)
            }
        }
    }

    fn frames(&mut self, each: &mut dyn FnMut(&[u8], Option<VlanId>)) {
        each(&self.frame, None);
    }

    fn losses(&mut self) -> Losses {
        Losses::default()
    }
}
