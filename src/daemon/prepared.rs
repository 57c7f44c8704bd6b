//! What is created before the runtime starts, while the process still has the capability to capture.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{clock::Clock, health::Health},
    settings::Settings,
    source::{
        PRESENCES, Presences,
        network::{
            CaptureContext, CaptureError, CaptureTask,
            coalesce::KnownMacs,
            coverage::{LONGEST_GAP, SiteCoverage},
        },
    },
};

/// The open captures, and what they share with the rest of the daemon.
#[derive(Debug)]
pub struct Prepared {
    pub(super) clock: Clock,
    pub(super) health: Health,
    pub(super) coverage: SiteCoverage,
    /// Ends the captures, and with them the whole intake.
    pub(super) intake: CancellationToken,
    /// Tells the captures which MAC addresses belong to people.
    pub(super) known_macs: watch::Sender<KnownMacs>,
    /// The pipeline's end of the captures' queue.
    pub(super) presences: mpsc::Receiver<Presences>,
    pub(super) captures: Vec<CaptureTask>,
    capture_context: CaptureContext,
}

impl Prepared {
    /// Opens every capture.
    ///
    /// # Errors
    /// [`CaptureError::NotPermitted`] without `CAP_NET_RAW`.
    pub fn open(settings: &Settings, clock: Clock) -> Result<Self, CaptureError> {
        let health = Health::new(clock.clone());
        let coverage = SiteCoverage::new(clock.passing_in(LONGEST_GAP));
        let intake = CancellationToken::new();
        let (known_macs, known_reader) = watch::channel(KnownMacs::default());
        let (sender, presences) = mpsc::channel(PRESENCES);
        let idle_limit = settings.site.as_ref().map_or(Duration::ZERO, |site| site.idle_limit);
        let capture_context = CaptureContext {
            idle_limit,
            clock: clock.clone(),
            presences: sender,
            known: known_reader,
            health: health.clone(),
            coverage: coverage.clone(),
            usual_gaps_folder: (!settings.captures.is_empty()).then(|| data_folder(settings)),
            stop: intake.clone(),
        };
        let open = |capture| CaptureTask::open(capture, capture_context.clone());
        let captures = settings.captures.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { clock, health, coverage, intake, known_macs, presences, captures, capture_context })
    }

    /// The context of the captures, for frames that reach the daemon without an interface.
    pub fn capture_context(&self) -> CaptureContext {
        self.capture_context.clone()
    }
}

/// The folder on this machine for data that must not be lost.
pub(super) fn data_folder(settings: &Settings) -> PathBuf {
    settings.data_file().and_then(|(_, file)| file.parent()).unwrap_or(Path::new("")).to_owned()
}
