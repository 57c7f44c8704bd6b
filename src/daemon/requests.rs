//! Requests to stop or to reload: signals, and the caller's token.

use std::{ffi::c_int, future};

use anyhow::Context;
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio_util::sync::CancellationToken;

/// A request from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OutsideRequest {
    /// SIGHUP: read the settings again.
    Reload,
    /// SIGTERM or SIGINT.
    StopBySignal(c_int),
    /// The caller cancelled its token.
    StopByCaller,
}

/// Receives these requests. Every wait may be dropped at any time.
pub(super) struct Requests {
    signals: Signals,
    stop: CancellationToken,
}

impl Requests {
    /// Installs the signal handlers; `stop` is the caller's token.
    pub(super) fn new(stop: CancellationToken) -> anyhow::Result<Self> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("could not install the signal handlers")?;
        Ok(Self { signals, stop })
    }

    /// Waits for the next request.
    pub(super) async fn next(&mut self) -> OutsideRequest {
        tokio::select! {
            () = self.stop.cancelled() => OutsideRequest::StopByCaller,
            Some(signal) = self.signals.next() => match signal {
                SIGHUP => OutsideRequest::Reload,
                _ => OutsideRequest::StopBySignal(signal),
            },
        }
    }

    /// Waits for SIGTERM or SIGINT. Ignores the caller's token, which may already be cancelled during shutdown.
    pub(super) async fn stop_signal(&mut self) -> c_int {
        while let Some(signal) = self.signals.next().await {
            if signal != SIGHUP {
                return signal;
            }
        }
        future::pending().await
    }
}
