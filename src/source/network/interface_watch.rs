//! Follows the interface of a capture: finds it, binds the frame source to it, and reports coverage.
//!
//! An interface can be missing, go down, reappear under another number or be renamed; a mirror can die while its link
//! stays up. The watch raises and clears [`ConditionKind::CaptureBlind`] and [`ConditionKind::MirrorSilent`] for it.
//!
//! Never here: the content of frames.

use std::{io, path::Path, sync::Arc};

use super::{
    capture_error::CaptureError,
    coverage::{self, CaptureCoverage, SiteCoverage},
    frame_source::{FrameSource, FrameSourceError},
    link::{self, InterfacePlace, Link, LinkIndex},
    mirror::{Mirror, MirrorState},
    netlink::Links,
    usual_gaps::{self, UsualGaps},
    usual_gaps_file::UsualGapsFile,
};
use crate::base::{
    clock::{BootTime, Clock, Now},
    health::{ConditionKind, Health},
    mac::MacAddr,
};

/// The interface of one capture.
pub(super) struct InterfaceWatch {
    /// Its name in the settings.
    interface: Arc<str>,
    clock: Clock,
    health: Health,
    coverage: CaptureCoverage,
    links: Links,
    /// When the kernel last listed the interfaces.
    listed_at: BootTime,
    attachment: Attachment,
    mirror: Mirror,
    /// Where the usual gaps of the mirror are kept; `None` if they are learnt again after each start.
    usual_gaps_file: Option<UsualGapsFile>,
    /// When the last frame of any kind arrived; the start if there was none.
    last_frame_at: BootTime,
}

/// What the frame source is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    /// Nothing. Contains the number of the last interface, if there was one.
    Detached(Option<LinkIndex>),
    /// This interface, under this name.
    Attached(LinkIndex, String),
}

impl Attachment {
    /// Whether frames can arrive.
    pub(super) const fn is_attached(&self) -> bool {
        matches!(self, Self::Attached(..))
    }

    fn index(&self) -> Option<LinkIndex> {
        match self {
            Self::Detached(index) => *index,
            Self::Attached(index, _) => Some(*index),
        }
    }
}

impl InterfaceWatch {
    /// Opens the socket to the kernel and reads the usual gaps. Does not attach yet.
    pub(super) fn open(
        interface: Arc<str>,
        clock: Clock,
        health: Health,
        site_coverage: &SiteCoverage,
        usual_gaps_folder: Option<&Path>,
    ) -> io::Result<Self> {
        let links = Links::open()?;
        let usual_gaps_file = usual_gaps_folder.map(|folder| UsualGapsFile::of(folder, &interface));
        let now = clock.now().boot;
        Ok(Self {
            coverage: site_coverage.capture(),
            links,
            listed_at: now,
            attachment: Attachment::Detached(None),
            mirror: Mirror::new(
                usual_gaps_file.as_ref().map_or_else(UsualGaps::default, UsualGapsFile::read),
                clock.passing_in(usual_gaps::MACHINE_PAUSE),
            ),
            usual_gaps_file,
            last_frame_at: now,
            interface,
            clock,
            health,
        })
    }

    pub(super) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    /// When the last frame of any kind arrived; the start if there was none.
    pub(super) fn last_frame_at(&self) -> BootTime {
        self.last_frame_at
    }

    /// Finds the interface and attaches `source` to it. Returns the addresses of this machine; `None` if the kernel
    /// could not list its interfaces.
    pub(super) fn check(
        &mut self,
        source: &mut dyn FrameSource,
        now: Now,
    ) -> Result<Option<Vec<MacAddr>>, CaptureError> {
        let links = match self.links.list() {
            Ok(links) => links,
            Err(fault) => {
                // One failure is harmless: all interfaces may be changing.
                if now.boot.since(self.listed_at) > self.clock.passing_in(coverage::LONGEST_GAP) {
                    self.go_blind(self.attachment.index(), &format!("cannot list the network interfaces: {fault}"));
                }
                return Ok(None);
            }
        };
        self.listed_at = now.boot;
        let own = link::own_addresses(&links);
        let name = Arc::clone(&self.interface);
        match link::find(links, &name, self.attachment.index()) {
            InterfacePlace::Here(link) => self.attach(source, link, now)?,
            InterfacePlace::Down(link) => {
                let why = format!("{} is down or has no carrier; connect the cable or bring the link up", link.name);
                self.go_blind(Some(link.index), &why);
            }
            InterfacePlace::Gone => {
                self.go_blind(None, &format!("there is no interface {name}; check the name in [[capture]]"));
            }
        }
        Ok(Some(own))
    }

    /// Records that the frame source has read frames that passed the filter.
    pub(super) fn frames_read(&mut self, now: Now) {
        // Frames from a link that is down by now do not prove coverage.
        if self.attachment.is_attached() {
            let state = self.mirror.frame_seen(now);
            self.report(state, now);
        }
    }

    /// Writes the usual gaps if they have changed.
    pub(super) fn save_usual_gaps(&mut self) {
        if let Some(file) = self.usual_gaps_file.as_ref().filter(|_| self.mirror.usual_gaps().take_changed()) {
            file.write(self.mirror.usual_gaps());
        }
    }

    /// Called when the capture ends: ends its coverage, and keeps what was learnt in the current hour.
    pub(super) fn close(&mut self) {
        self.coverage.lost();
        self.mirror.usual_gaps().finish();
        self.save_usual_gaps();
    }

    /// Attaches to a link that is up, and checks its mirror.
    fn attach(&mut self, source: &mut dyn FrameSource, link: Link, now: Now) -> Result<(), CaptureError> {
        if !self.bind(source, link.index)? {
            return Ok(());
        }
        self.check_mirror(&link, now);

        // Log only a change, and clear the condition only then.
        let index = link.index;
        let attached = Attachment::Attached(index, link.name.clone());
        if self.attachment == attached {
            return Ok(());
        }
        let name = link.name;
        let before = std::mem::replace(&mut self.attachment, attached);
        self.health.clear(ConditionKind::CaptureBlind, &self.interface);
        match before {
            Attachment::Detached(_) => tracing::info!(interface = %self.interface, "capturing on {name}"),
            Attachment::Attached(old, _) if old != index => {
                tracing::info!(interface = %self.interface, "{name} was recreated; capturing on it again");
            }
            Attachment::Attached(_, old) => {
                tracing::info!(interface = %self.interface, "{old} was renamed to {name}; still capturing");
            }
        }
        Ok(())
    }

    /// Binds the source; returns false if it cannot capture on the interface now.
    fn bind(&mut self, source: &mut dyn FrameSource, index: LinkIndex) -> Result<bool, CaptureError> {
        let why = match source.bind(index) {
            Ok(()) => return Ok(true),
            Err(FrameSourceError::Io(fault)) if fault.kind() == io::ErrorKind::PermissionDenied => {
                self.coverage.lost();
                return Err(CaptureError::NotPermitted(Arc::clone(&self.interface)));
            }
            Err(FrameSourceError::Io(fault)) => format!("cannot capture on {}: {fault}", self.interface),
            Err(not_ethernet @ FrameSourceError::NotEthernet(_)) => {
                format!("{}: {not_ethernet}; name a wired interface in [[capture]]", self.interface)
            }
        };
        self.go_blind(None, &why);
        Ok(false)
    }

    /// Checks whether frames arrive on the link. The interface counts them all, so we need not read any for this.
    fn check_mirror(&mut self, link: &Link, now: Now) {
        let state = self.mirror.check(link.index, link.received, now);
        self.report(state, now);
        let MirrorState::Silent { since, longest } = state else {
            return self.health.clear(ConditionKind::MirrorSilent, &self.interface);
        };
        self.health.raise_since(
            ConditionKind::MirrorSilent,
            &self.interface,
            since.wall,
            format_args!(
                "no frame has reached {} since {}; at this hour one normally arrives at least every {}. Check the mirror \
                 session on the switch. No visit is closed for silence until frames arrive again",
                link.name,
                since.wall.to_rfc3339_seconds(),
                humantime::format_duration(longest),
            ),
        );
    }

    /// Reports to the site what the state of the mirror means for coverage.
    fn report(&mut self, state: MirrorState, now: Now) {
        match state {
            MirrorState::Receiving => self.coverage.frame_seen(now.boot),
            MirrorState::Resumed => {
                // The silence before this frame is not covered.
                self.coverage.lost();
                self.coverage.frame_seen(now.boot);
            }
            MirrorState::Quiet => self.coverage.listening(now.boot),
            MirrorState::Silent { .. } => self.coverage.lost(),
        }
        if matches!(state, MirrorState::Receiving | MirrorState::Resumed) {
            self.last_frame_at = now.boot;
        }
    }

    /// Records that no frame can arrive; `last` is the interface to look for.
    fn go_blind(&mut self, last: Option<LinkIndex>, why: &str) {
        self.coverage.lost();
        self.mirror.detach();
        self.attachment = Attachment::Detached(last);
        // One condition is enough, and this one is more specific.
        self.health.clear(ConditionKind::MirrorSilent, &self.interface);
        self.health.raise(ConditionKind::CaptureBlind, &self.interface, why);
    }
}
