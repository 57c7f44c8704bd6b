//! One capture per interface: what the mirror port shows, as coalesced presences.
//!
//! A capture is one thread. Frames come from the ring (or the portable channel), [`frame`] says what each
//! proves, [`coalesce`] merges that per device, and presences leave through the bounded queue of the pipeline. Here is
//! only the shell around those: waiting, following the link, counting, handing over.
//! Never here: what a presence means for a check-in. Nothing is ever sent on a captured interface.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::{
    mpsc::{self, error::TrySendError},
    watch,
};
use tokio_util::sync::CancellationToken;

use self::{
    coalesce::{Coalescer, KnownMacs, MergeOutcome},
    coverage::{CaptureCoverage, SiteCoverage},
    dhcp_lease::LeaseWatch,
    frame::WhyNot,
    frame_source::{FrameSource, FrameSourceError, Wake},
    link::{InterfacePlace, Link, LinkIndex},
    netlink::Links,
    portable::Portable,
    ring::Ring,
    usual_gaps::{Mirror, MirrorState, UsualGaps},
    usual_gaps_file::UsualGapsFile,
};
use crate::{
    base::{
        clock::{BootTime, Clock, Now},
        health::{ConditionKind, Health},
    },
    settings::{Capture, CaptureBackend},
    source::Presences,
};

pub mod coalesce;
pub mod filter;
pub mod frame;
pub mod coverage;
pub mod dhcp_lease;
mod frame_source;
pub mod link;
pub mod netlink;
mod portable;
mod ring;
pub mod usual_gaps;
mod usual_gaps_file;

/// The longest wait for frames: two wake-ups a second when nothing happens, a stop within half a second, and a link
/// that is looked at often enough to be heard again within a second.
const WAIT: Duration = Duration::from_millis(500);

/// The shortest, in the machine's time, when the clock runs faster than the machine's.
const SHORTEST_WAIT: Duration = Duration::from_millis(20);

/// What a capture needs from the daemon.
#[derive(Clone, Debug)]
pub struct CaptureContext {
    /// The site's silence limit.
    pub idle_limit: Duration,
    /// The time.
    pub clock: Clock,
    /// The queue to the pipeline; when it is full, presences go on merging here.
    pub presences: mpsc::Sender<Presences>,
    /// The addresses that belong to people.
    pub known: watch::Receiver<KnownMacs>,
    /// Where blindness is reported.
    pub health: Health,
    /// When the site could hear.
    pub coverage: SiteCoverage,
    /// The folder in which what is usual on a mirror is kept; where there is none, it is learnt again after each start.
    pub memory: Option<PathBuf>,
    /// Ends the capture.
    pub stop: CancellationToken,
}

/// What one capture has counted since it was opened.
#[derive(Debug, Default)]
pub struct CaptureCounters {
    /// Frames that the kernel's filter let through.
    pub frames: AtomicU64,
    /// Frames that were strong evidence.
    pub strong: AtomicU64,
    /// Frames that were weak evidence.
    pub weak: AtomicU64,
    /// ARP, DHCP and neighbour discovery that is no evidence.
    pub no_evidence: AtomicU64,
    /// Those of them that speak for an address that they were not sent from.
    pub suspicious: AtomicU64,
    /// Those of them that their protocol forbids.
    pub malformed: AtomicU64,
    /// Frames of other VLANs, of this machine and of listed infrastructure.
    pub out_of_scope: AtomicU64,
    /// Strong evidence of unknown devices for which there was no room.
    pub left_out: AtomicU64,
    /// Frames that the kernel dropped because the ring was full.
    pub kernel_drops: AtomicU64,
    /// How often the ring was full.
    pub freezes: AtomicU64,
    /// Seconds since the last frame of any kind, those that the filter drops included; where none has come, since the start.
    pub last_frame: AtomicU64,
}

/// What one block of frames adds to the counters: a storm would spend a tenth of its time on shared counters.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    strong: u64,
    weak: u64,
    no_evidence: u64,
    suspicious: u64,
    malformed: u64,
    out_of_scope: u64,
    left_out: u64,
}

impl Tally {
    fn count(&mut self, outcome: MergeOutcome) {
        match outcome {
            MergeOutcome::Strong => self.strong += 1,
            MergeOutcome::Weak => self.weak += 1,
            MergeOutcome::OutOfScope => self.out_of_scope += 1,
            MergeOutcome::LeftOut => self.left_out += 1,
            MergeOutcome::Nothing(why) => {
                self.no_evidence += 1;
                self.suspicious += u64::from(why.is_suspicious());
                self.malformed += u64::from(why == WhyNot::Malformed);
            }
        }
    }
}

impl CaptureCounters {
    /// `frames` goes last: whoever has seen it has seen what the frames were.
    fn add(&self, tally: &Tally) {
        add(&self.strong, tally.strong);
        add(&self.weak, tally.weak);
        add(&self.no_evidence, tally.no_evidence);
        add(&self.suspicious, tally.suspicious);
        add(&self.malformed, tally.malformed);
        add(&self.out_of_scope, tally.out_of_scope);
        add(&self.left_out, tally.left_out);
        self.frames.fetch_add(tally.frames, Ordering::Release);
    }
}

/// One writer per counter, and readers that do not mind being a block late.
fn add(counter: &AtomicU64, more: u64) {
    if more > 0 {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// A capture cannot start, or not go on.
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
    /// The pipeline has gone.
    #[error("nobody takes the presences of {0} any more")]
    NobodyListens(Arc<str>),
}

/// An open capture that is not running yet.
///
/// Opening needs `CAP_NET_RAW`; with the ring nothing later does, so that the daemon can drop every capability between
/// [`CaptureTask::open`] and [`CaptureTask::start`]. The portable backend needs it again for every new link.
pub struct CaptureTask {
    interface: Arc<str>,
    tap: Box<dyn FrameSource>,
    with: CaptureContext,
    counters: Arc<CaptureCounters>,
    coverage: CaptureCoverage,
    links: Links,
    mirror: Mirror,
    memory: Option<UsualGapsFile>,
    coalescer: Coalescer,
    leases: LeaseWatch,
    state: Listening,
    last_look: Option<BootTime>,
    /// When the kernel last said which interfaces there are.
    listed: BootTime,
    /// Of any kind; where none has come, the start.
    last_frame: BootTime,
}

impl fmt::Debug for CaptureTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureTask")
            .field("interface", &self.interface)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

/// What the capture listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Listening {
    /// Nothing; the last interface, if there was one.
    No(Option<LinkIndex>),
    /// This interface, under this name.
    To(LinkIndex, String),
}

impl Listening {
    fn index(&self) -> Option<LinkIndex> {
        match self {
            Self::No(index) => *index,
            Self::To(index, _) => Some(*index),
        }
    }
}

impl CaptureTask {
    /// Opens the capture, whether or not its interface exists yet.
    pub fn open(capture: &Capture, with: CaptureContext) -> Result<Self, CaptureError> {
        let interface = Arc::clone(&capture.interface);
        let tap: Box<dyn FrameSource> = match capture.backend {
            CaptureBackend::Ring => Box::new(Ring::open().map_err(|fault| refused(&interface, fault))?),
            CaptureBackend::Portable => Box::new(Portable::new(WAIT)),
        };
        let now = with.clock.now().boot;
        let links = Links::open().map_err(|fault| refused(&interface, fault))?;
        let mut coalescer = Coalescer::new(capture, with.idle_limit);
        coalescer.set_known(Arc::clone(&with.known.borrow()));
        let memory = with.memory.as_deref().map(|folder| UsualGapsFile::of(folder, &interface));
        Ok(Self {
            tap,
            counters: Arc::default(),
            coverage: with.coverage.capture(),
            links,
            mirror: Mirror::new(
                memory.as_ref().map_or_else(UsualGaps::default, UsualGapsFile::read),
                with.clock.passing_in(usual_gaps::MOMENT),
            ),
            memory,
            coalescer,
            leases: LeaseWatch::default(),
            state: Listening::No(None),
            last_look: None,
            listed: now,
            last_frame: now,
            interface,
            with,
        })
    }

    /// The counters, for the metrics.
    pub fn counters(&self) -> Arc<CaptureCounters> {
        Arc::clone(&self.counters)
    }

    /// The interface that was asked for.
    pub fn interface(&self) -> &Arc<str> {
        &self.interface
    }

    /// Looks for the interface: when this is done the capture listens to it, or [`ConditionKind::CaptureBlind`] says why
    /// not. [`CaptureTask::run`] does so too; doing it before lets a caller know where it stands.
    pub fn look(&mut self) -> Result<(), CaptureError> {
        self.look_at_link(self.with.clock.now())
    }

    /// Runs the capture on a thread of its own.
    pub fn start(self) -> Result<thread::JoinHandle<Result<(), CaptureError>>, CaptureError> {
        let interface = Arc::clone(&self.interface);
        // The kernel keeps fifteen characters of a thread's name, as it does of an interface's.
        thread::Builder::new()
            .name(interface.chars().take(15).collect())
            .spawn(move || self.run())
            .map_err(|source| CaptureError::Failed { interface, source })
    }

    /// Runs the capture on this thread, until it is stopped. Ends at most half a second after that.
    pub fn run(mut self) -> Result<(), CaptureError> {
        self.look_at_link(self.with.clock.now())?;
        while !self.with.stop.is_cancelled() {
            let woken = self.tap.wait(self.with.clock.real(WAIT).max(SHORTEST_WAIT));
            let now = self.with.clock.now();
            let look = match woken {
                Wake::Frames => {
                    self.read(now);
                    false
                }
                Wake::Nothing => true,
                Wake::Fault(fault) => {
                    tracing::debug!(interface = %self.interface, "the capture woke up with an error: {fault}");
                    true
                }
            };
            if look || self.last_look.is_none_or(|last| now.boot.since(last) >= WAIT) {
                self.look_at_link(now)?;
                self.look_at_the_rest(now);
            }
            self.hand_over(now)?;
        }
        let now = self.with.clock.now();
        self.coverage.lost();
        self.mirror.usual().finish();
        self.remember();
        self.coalescer.finish(now);
        self.hand_over(now)
    }

    fn read(&mut self, now: Now) {
        self.take_over_known();
        let Self { tap, coalescer, counters, leases, .. } = self;
        let mut tally = Tally::default();
        tap.frames(&mut |frame, tag| {
            tally.frames += 1;
            let Some(seen) = frame::observe(frame, tag) else { return };
            let outcome = coalescer.merge(&seen, now);
            tally.count(outcome);
            // An address that is not of this capture, or nobody's, says nothing of the silence of our people.
            if let (MergeOutcome::Weak, Some(lease), Some(mac)) = (outcome, seen.lease, seen.mac)
                && coalescer.knows(mac)
            {
                leases.granted(mac, lease, now.boot);
            }
        });
        counters.add(&tally);
        // What was read of a link that is down by now shows nothing.
        if tally.frames > 0 && matches!(self.state, Listening::To(..)) {
            // Before anything of it is handed over: whoever is heard was heard.
            let standing = self.mirror.frame(now);
            self.stand(standing, now);
        }
    }

    /// Before every block, so that whoever has just been imported is not left out by a storm that fills the table.
    fn take_over_known(&mut self) {
        if self.with.known.has_changed().unwrap_or(false) {
            let known = Arc::clone(&self.with.known.borrow_and_update());
            self.coalescer.set_known(known);
        }
    }

    /// Follows the interface: down and up, deleted and made again, renamed.
    fn look_at_link(&mut self, now: Now) -> Result<(), CaptureError> {
        self.last_look = Some(now.boot);
        let links = match self.links.list() {
            Ok(links) => links,
            Err(fault) => {
                // Once is nothing: they may all be changing.
                if now.boot.since(self.listed) > self.with.clock.passing_in(coverage::LONGEST_GAP) {
                    self.go_deaf(self.state.index(), &format!("the interfaces cannot be listed: {fault}"));
                }
                return Ok(());
            }
        };
        self.listed = now.boot;
        self.coalescer.set_own(link::own_addresses(&links));
        let name = Arc::clone(&self.interface);
        match link::find(links, &name, self.state.index()) {
            InterfacePlace::Here(link) => self.listen_to(link, now),
            InterfacePlace::Down(link) => {
                self.go_deaf(Some(link.index), &format!("{} is down or has no carrier; plug it in", link.name));
                Ok(())
            }
            InterfacePlace::Gone => {
                self.go_deaf(None, &format!("there is no interface {name}; check the name in [[capture]]"));
                Ok(())
            }
        }
    }

    fn listen_to(&mut self, link: Link, now: Now) -> Result<(), CaptureError> {
        if !self.bind(link.index)? {
            return Ok(());
        }
        self.look_at_mirror(&link, now);
        let next = Listening::To(link.index, link.name);
        if self.state == next {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.state, next);
        let Listening::To(_, name) = &self.state else { return Ok(()) };
        self.with.health.clear(ConditionKind::CaptureBlind, &self.interface);
        match before {
            Listening::No(_) => tracing::info!(interface = %self.interface, "listening on {name}"),
            Listening::To(old, _) if old != link.index => {
                tracing::info!(interface = %self.interface, "{name} was made anew; listening on it again");
            }
            Listening::To(_, old) => {
                tracing::info!(interface = %self.interface, "{old} is now called {name}; still listening");
            }
        }
        Ok(())
    }

    /// The link is up; do frames come? The interface counts them all, so that none has to be read for this.
    fn look_at_mirror(&mut self, link: &Link, now: Now) {
        let standing = self.mirror.look(link.index, link.received, now);
        self.stand(standing, now);
        let MirrorState::Silent { since, longest } = standing else {
            return self.with.health.clear(ConditionKind::MirrorSilent, &self.interface);
        };
        self.with.health.raise_since(
            ConditionKind::MirrorSilent,
            &self.interface,
            since.wall,
            format_args!(
                "no frame has reached {} since {}, and at this hour there is one every {} at least; look at the mirror \
                 session on the switch. Nobody is checked out for silence meanwhile",
                link.name,
                since.wall.to_rfc3339_seconds(),
                humantime::format_duration(longest),
            ),
        );
    }

    /// What the site hears by it.
    fn stand(&mut self, standing: MirrorState, now: Now) {
        match standing {
            MirrorState::Heard => self.coverage.frame_seen(now.boot),
            MirrorState::Back => {
                self.coverage.lost();
                self.coverage.frame_seen(now.boot);
            }
            MirrorState::Quiet => self.coverage.listening(now.boot),
            MirrorState::Silent { .. } => self.coverage.lost(),
        }
        if matches!(standing, MirrorState::Heard | MirrorState::Back) {
            self.last_frame = now.boot;
        }
    }

    /// Keeps what was learnt.
    fn remember(&mut self) {
        if let Some(memory) = self.memory.as_ref().filter(|_| self.mirror.usual().has_news()) {
            memory.write(self.mirror.usual());
        }
    }

    /// False when the interface cannot be listened to now.
    fn bind(&mut self, index: LinkIndex) -> Result<bool, CaptureError> {
        let why = match self.tap.bind(index) {
            Ok(()) => return Ok(true),
            Err(FrameSourceError::Io(fault)) if fault.kind() == io::ErrorKind::PermissionDenied => {
                self.coverage.lost();
                return Err(CaptureError::NotPermitted(Arc::clone(&self.interface)));
            }
            Err(FrameSourceError::Io(fault)) => format!("{} cannot be listened to: {fault}", self.interface),
            Err(not_ethernet @ FrameSourceError::NotEthernet(_)) => {
                format!("{}: {not_ethernet}; name a wired interface in [[capture]]", self.interface)
            }
        };
        self.go_deaf(None, &why);
        Ok(false)
    }

    fn go_deaf(&mut self, last: Option<LinkIndex>, why: &str) {
        self.coverage.lost();
        self.mirror.leave();
        self.state = Listening::No(last);
        // One alarm is enough, and this one knows more.
        self.with.health.clear(ConditionKind::MirrorSilent, &self.interface);
        self.with.health.raise(ConditionKind::CaptureBlind, &self.interface, why);
    }

    /// What need not be done for every block: losses, lease times, forgetting.
    fn look_at_the_rest(&mut self, now: Now) {
        let losses = self.tap.losses();
        add(&self.counters.kernel_drops, losses.drops);
        add(&self.counters.freezes, losses.freezes);
        self.counters.last_frame.store(now.boot.since(self.last_frame).as_secs(), Ordering::Relaxed);
        self.remember();
        match self.leases.check(self.with.idle_limit, now.boot) {
            Some(short) => self.with.health.raise(
                ConditionKind::IdleLimitShort,
                &self.interface,
                format_args!(
                    "DHCP leases of {} are granted to our people, and an awake device is heard only every half of one; \
                     set idle_limit to {} or more, or shorten the leases",
                    humantime::format_duration(short.lease),
                    humantime::format_duration(short.needed),
                ),
            ),
            None => self.with.health.clear(ConditionKind::IdleLimitShort, &self.interface),
        }
        self.coalescer.sweep(now);
    }

    fn hand_over(&mut self, now: Now) -> Result<(), CaptureError> {
        while self.coalescer.has_due(now) {
            match self.with.presences.try_reserve() {
                Ok(room) => {
                    let due = self.coalescer.take_due(now);
                    if due.is_empty() {
                        return Ok(());
                    }
                    room.send(due);
                }
                Err(TrySendError::Full(())) => return Ok(()),
                Err(TrySendError::Closed(())) if self.with.stop.is_cancelled() => return Ok(()),
                Err(TrySendError::Closed(())) => return Err(CaptureError::NobodyListens(Arc::clone(&self.interface))),
            }
        }
        Ok(())
    }
}

fn refused(interface: &Arc<str>, source: io::Error) -> CaptureError {
    let interface = Arc::clone(interface);
    if source.kind() == io::ErrorKind::PermissionDenied {
        CaptureError::NotPermitted(interface)
    } else {
        CaptureError::Failed { interface, source }
    }
}
