//! One capture per interface: turns the traffic of a mirror port into coalesced presences.
//!
//! A capture is one thread. It reads frames from the ring or the portable channel; [`frame`] determines what each frame
//! proves, [`coalesce`] merges that per device, and the presences go to the pipeline through a bounded queue. The
//! capture itself only waits, follows the interface, counts and delivers.
//! Nothing is ever sent on a captured interface.
//!
//! Never here: what a presence means for a check-in.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};
use tokio_util::sync::CancellationToken;

pub use self::{capture_error::CaptureError, counters::CaptureCounters};
use self::{
    coalesce::{Coalescer, KnownMacs, MergeOutcome},
    counters::BlockTally,
    coverage::SiteCoverage,
    dhcp_lease::LeaseWatch,
    frame_source::{FrameSource, Wake},
    interface_watch::InterfaceWatch,
    portable::Portable,
    ring::Ring,
};
use crate::{
    base::{
        clock::{BootTime, Clock, Now},
        health::{ConditionKind, Health},
        turns::Turn,
    },
    settings::{Capture, CaptureBackend},
    source::Presences,
};

mod capture_error;
pub mod coalesce;
mod counters;
pub mod coverage;
pub mod dhcp_lease;
pub mod filter;
pub mod frame;
mod frame_source;
mod interface_watch;
pub mod link;
pub mod mirror;
pub mod netlink;
mod portable;
mod ring;
pub mod usual_gaps;
mod usual_gaps_file;

/// How often the interface is looked for while it is gone or down: it is captured again within two seconds. As often at
/// least while frames arrive.
const WAIT: Duration = Duration::from_secs(1);

/// The longest wait for frames while the interface is there. An idle capture wakes up this often, stops within this time,
/// and notices within this time that the interface has lost its carrier. The kernel tells at once if it is deleted.
const IDLE_WAIT: Duration = Duration::from_secs(2);

/// The shortest wait, in real time, if our clock runs faster than the machine's.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// What a capture needs from the daemon.
#[derive(Clone, Debug)]
pub struct CaptureContext {
    /// The site's idle limit.
    pub idle_limit: Duration,
    /// The time.
    pub clock: Clock,
    /// The queue to the pipeline; while it is full, the capture keeps merging.
    pub presences: mpsc::Sender<Presences>,
    /// The addresses that belong to people.
    pub known: watch::Receiver<KnownMacs>,
    /// Where conditions are raised.
    pub health: Health,
    /// The coverage of the site.
    pub coverage: SiteCoverage,
    /// The folder in which the usual gaps of a mirror are kept; without one, they are learnt again after each start.
    pub usual_gaps_folder: Option<PathBuf>,
    /// Ends the capture.
    pub stop: CancellationToken,
}

/// An open capture that is not running yet.
///
/// Opening needs `CAP_NET_RAW`. With the ring, nothing after that does, so the daemon can drop all capabilities between
/// [`CaptureTask::open`] and [`CaptureTask::start`]. The portable backend needs it again for every new link.
pub struct CaptureTask {
    interface: Arc<str>,
    source: Box<dyn FrameSource>,
    context: CaptureContext,
    counters: Arc<CaptureCounters>,
    watch: InterfaceWatch,
    coalescer: Coalescer,
    leases: LeaseWatch,
    /// When the interface was last checked.
    last_check: Option<BootTime>,
    turn: Turn,
}

impl fmt::Debug for CaptureTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureTask")
            .field("interface", &self.interface)
            .field("attachment", self.watch.attachment())
            .finish_non_exhaustive()
    }
}

impl CaptureTask {
    /// Opens the capture, whether or not its interface exists yet.
    pub fn open(capture: &Capture, context: CaptureContext) -> Result<Self, CaptureError> {
        let interface = Arc::clone(&capture.interface);
        let refused = |fault| CaptureError::from_open(&interface, fault);
        let source: Box<dyn FrameSource> = match capture.backend {
            CaptureBackend::Ring => Box::new(Ring::open().map_err(refused)?),
            CaptureBackend::Portable => Box::new(Portable::new(WAIT)),
        };
        let watch = InterfaceWatch::open(
            Arc::clone(&interface),
            context.clock.clone(),
            context.health.clone(),
            &context.coverage,
            context.usual_gaps_folder.as_deref(),
        )
        .map_err(refused)?;
        let mut coalescer = Coalescer::new(capture, context.idle_limit);
        coalescer.set_known(Arc::clone(&context.known.borrow()));
        Ok(Self {
            interface,
            source,
            counters: Arc::default(),
            watch,
            coalescer,
            leases: LeaseWatch::default(),
            last_check: None,
            turn: Turn::unwatched(context.clock.clone()),
            context,
        })
    }

    /// The counters, for the metrics.
    pub fn counters(&self) -> Arc<CaptureCounters> {
        Arc::clone(&self.counters)
    }

    /// Reports its turns here.
    pub fn report_to(&mut self, turn: Turn) {
        self.turn = turn;
    }

    /// The name of the interface in the settings.
    pub fn interface(&self) -> &Arc<str> {
        &self.interface
    }

    /// Finds the interface and attaches to it, or raises [`ConditionKind::CaptureBlind`] with the reason.
    /// [`CaptureTask::run`] does so as well; call this first to know the state before the thread starts.
    pub fn attach(&mut self) -> Result<(), CaptureError> {
        self.check_interface(self.context.clock.now())
    }

    /// Runs the capture on a new thread.
    pub fn start(self) -> Result<thread::JoinHandle<Result<(), CaptureError>>, CaptureError> {
        let interface = Arc::clone(&self.interface);
        // The kernel limits a thread's name to fifteen characters, like an interface's.
        thread::Builder::new()
            .name(interface.chars().take(15).collect())
            .spawn(move || self.run())
            .map_err(|source| CaptureError::Failed { interface, source })
    }

    /// Runs the capture on this thread until it is stopped. Returns at most a second after that.
    pub fn run(mut self) -> Result<(), CaptureError> {
        self.check_interface(self.context.clock.now())?;
        while !self.context.stop.is_cancelled() {
            let wait = if self.watch.attachment().is_attached() { IDLE_WAIT } else { WAIT };
            let longest = self.context.clock.real(wait).max(SHORTEST_WAIT);
            self.turn.rests(longest);
            let woken = self.source.wait(longest);
            let now = self.context.clock.now();
            let idle = match woken {
                Wake::Frames => {
                    self.read_frames(now);
                    false
                }
                Wake::Nothing => true,
                Wake::Fault(fault) => {
                    tracing::debug!(interface = %self.interface, "waiting for frames failed: {fault}");
                    true
                }
            };
            // Do this at regular intervals even if frames never pause, as in a storm.
            if idle || self.last_check.is_none_or(|last| now.boot.since(last) >= WAIT) {
                self.check_interface(now)?;
                self.housekeep(now);
            }
            self.deliver_due(now)?;
        }

        // Coverage ends here; merged evidence is still delivered.
        let now = self.context.clock.now();
        self.watch.close();
        self.coalescer.finish(now);
        self.deliver_due(now)
    }

    /// Follows the interface: down and up, deleted and recreated, renamed.
    fn check_interface(&mut self, now: Now) -> Result<(), CaptureError> {
        self.last_check = Some(now.boot);
        if let Some(own) = self.watch.check(self.source.as_mut(), now)? {
            self.coalescer.set_own(own);
        }
        Ok(())
    }

    /// Reads the frames that have arrived and merges what they prove.
    fn read_frames(&mut self, now: Now) {
        self.update_known();
        let Self { source, coalescer, counters, leases, .. } = self;
        let mut tally = BlockTally::default();
        source.frames(&mut |frame, tag| {
            tally.frames += 1;
            let Some(seen) = frame::observe(frame, tag) else { return };
            let outcome = coalescer.merge(&seen, now);
            tally.count(outcome);
            // Only leases of our people's devices on this capture tell us how long such a device may be silent.
            if let (MergeOutcome::Weak, Some(lease), Some(mac)) = (outcome, seen.lease, seen.mac)
                && coalescer.knows(mac)
            {
                leases.granted(mac, lease, now.boot);
            }
        });
        counters.add(&tally);
        // Report coverage first: the time of a presence must be covered before the presence is delivered.
        if tally.frames > 0 {
            self.watch.frames_read(now);
        }
    }

    /// Updates the known addresses. Called before every block: even in a storm that fills the table, a device that has
    /// just been imported must get an entry.
    fn update_known(&mut self) {
        if self.context.known.has_changed().unwrap_or(false) {
            let known = Arc::clone(&self.context.known.borrow_and_update());
            self.coalescer.set_known(known);
        }
    }

    /// Does what is not needed for every block: losses, usual gaps, lease times, and forgetting silent devices.
    fn housekeep(&mut self, now: Now) {
        let losses = self.source.losses();
        counters::add(&self.counters.kernel_drops, losses.drops);
        counters::add(&self.counters.freezes, losses.freezes);
        let age = now.boot.since(self.watch.last_frame_at());
        self.counters.last_frame.store(age.as_secs(), Ordering::Relaxed);
        self.watch.save_usual_gaps();
        self.check_leases(now);
        self.coalescer.sweep(now);
    }

    /// Raises or clears the condition that the idle limit is too short for the DHCP leases seen.
    fn check_leases(&mut self, now: Now) {
        match self.leases.check(self.context.idle_limit, now.boot) {
            Some(short) => self.context.health.raise_once(
                ConditionKind::IdleLimitShort,
                &self.interface,
                format_args!(
                    "our people's devices get DHCP leases of {}, and an awake device renews only after half of that; set \
                     idle_limit to {} or more, or shorten the leases",
                    humantime::format_duration(short.lease),
                    humantime::format_duration(short.needed),
                ),
            ),
            None => self.context.health.clear(ConditionKind::IdleLimitShort, &self.interface),
        }
    }

    /// Sends the presences that are due to the pipeline, while its queue has room.
    fn deliver_due(&mut self, now: Now) -> Result<(), CaptureError> {
        while self.coalescer.has_due(now) {
            match self.context.presences.try_reserve() {
                Ok(room) => {
                    let due = self.coalescer.take_due(now);
                    if due.is_empty() {
                        return Ok(());
                    }
                    room.send(due);
                }
                Err(TrySendError::Full(())) => return Ok(()),
                Err(TrySendError::Closed(())) if self.context.stop.is_cancelled() => return Ok(()),
                Err(TrySendError::Closed(())) => return Err(CaptureError::PipelineGone(Arc::clone(&self.interface))),
            }
        }
        Ok(())
    }
}
