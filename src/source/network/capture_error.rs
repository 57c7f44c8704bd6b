//! Why a capture cannot start or continue.

use std::{io, sync::Arc};

/// A capture cannot start or continue.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The process may not capture.
    #[error(
        "capturing on {0} is not permitted: give the process CAP_NET_RAW \
         (in a systemd unit: AmbientCapabilities=CAP_NET_RAW)"
    )]
    NotPermitted(Arc<str>),
    /// The system cannot capture.
    #[error("capturing on {interface} failed")]
    Failed {
        /// The interface.
        interface: Arc<str>,
        /// Why.
        source: io::Error,
    },
    /// The pipeline has ended.
    #[error("the pipeline no longer accepts presences from {0}")]
    PipelineGone(Arc<str>),
}

impl CaptureError {
    /// Converts an error from opening the capture.
    pub(super) fn from_open(interface: &Arc<str>, source: io::Error) -> Self {
        let interface = Arc::clone(interface);
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NotPermitted(interface)
        } else {
            Self::Failed { interface, source }
        }
    }
}
