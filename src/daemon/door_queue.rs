//! The queue of door messages from the broker session to the pipeline, with or without the spool between them.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    source::{DELIVERIES, DELIVERY_BYTES, Delivery, DeliverySender, delivery_channel},
    spool::SpoolEnds,
};

/// The ends of the queue that no part has taken yet.
#[derive(Debug, Default)]
pub(super) struct DoorQueue {
    /// The session's end. `None` until the spool or the pipeline reads messages, and during shutdown.
    sender: Option<DeliverySender>,
    spool: SpoolStage,
}

/// How the spool is connected.
#[derive(Debug, Default)]
enum SpoolStage {
    /// No spool: the session sends straight to the pipeline.
    #[default]
    Absent,
    /// The spool writes messages to disk, but the pipeline that reads its output has not started.
    Filling { output: mpsc::Receiver<Delivery>, settled: CancellationToken },
    /// The pipeline reads the spool's output.
    Feeding { settled: CancellationToken },
}

impl DoorQueue {
    /// Puts the spool between the session and the pipeline; `stop` ends the spool. Returns the ends for [`Spool::run`].
    ///
    /// [`Spool::run`]: crate::spool::Spool::run
    pub(super) fn open_through_spool(&mut self, stop: CancellationToken) -> SpoolEnds {
        let (sender, input) = delivery_channel(DELIVERIES, DELIVERY_BYTES);
        let (spooled, output) = delivery_channel(DELIVERIES, DELIVERY_BYTES);
        let settled = CancellationToken::new();
        self.sender = Some(sender);
        self.spool = SpoolStage::Filling { output, settled: settled.clone() };
        SpoolEnds { input, output: spooled, settled, stop }
    }

    /// Returns the pipeline's end: of the spool's output, or of the session's queue.
    pub(super) fn open_for_pipeline(&mut self) -> mpsc::Receiver<Delivery> {
        match std::mem::take(&mut self.spool) {
            SpoolStage::Filling { output, settled } => {
                self.spool = SpoolStage::Feeding { settled };
                output
            }
            without @ (SpoolStage::Absent | SpoolStage::Feeding { .. }) => {
                let (sender, deliveries) = delivery_channel(DELIVERIES, DELIVERY_BYTES);
                self.spool = without;
                self.sender = Some(sender);
                deliveries
            }
        }
    }

    /// The session's end; `None` while no part reads door messages.
    pub(super) fn sender(&self) -> Option<&DeliverySender> {
        self.sender.as_ref()
    }

    /// Drops this copy of the session's end, so the queue closes when the session drops its own.
    pub(super) fn close(&mut self) {
        self.sender = None;
    }

    /// Cancelled once the spool will acknowledge nothing more; `None` without a spool.
    pub(super) fn spool_settled(&self) -> Option<&CancellationToken> {
        match &self.spool {
            SpoolStage::Absent => None,
            SpoolStage::Filling { settled, .. } | SpoolStage::Feeding { settled } => Some(settled),
        }
    }
}
