//! PURE. What the captures saw of devices, as the log stores it.

use std::sync::Arc;

use super::{
    digest::FactDigest,
    order::{FactOrder, FactRank},
    subject::{Recognised, Subject},
};
use crate::base::{clock::WallTime, mac::MacAddr, record::BusinessId, sighting::Presence};

/// The span that one entry of the log covers, in milliseconds: the presences of a device that sends a frame every
/// minute fill four entries an hour.
pub const LOG_SPAN: i64 = 15 * 60_000;

/// One presence of a device, as a capture sent it: a few seconds to a minute of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The last evidence; the point is decided as of this instant.
    pub last_at: WallTime,
    /// The first evidence, which ended the silence.
    pub first_at: WallTime,
    /// The last strong evidence; `None` when all of it was weak.
    pub strong_at: Option<WallTime>,
    /// When the unbroken presence began.
    pub since: WallTime,
    /// The number of merged frames.
    pub frames: u32,
}

impl Point {
    /// The point for a presence.
    pub fn of(presence: &Presence) -> Self {
        Self {
            last_at: presence.last_at,
            first_at: presence.first_at,
            strong_at: presence.last_strong_at,
            since: presence.since,
            frames: presence.frames,
        }
    }

    /// Its place in the order of time, and its identity.
    pub fn place(&self, business: BusinessId, mac: MacAddr) -> FactOrder {
        let times = [self.last_at, self.first_at, self.strong_at.unwrap_or(WallTime::from_millis(0)), self.since];
        let mut bytes = [0; 32];
        for (to, from) in bytes.chunks_exact_mut(8).zip(times) {
            to.copy_from_slice(&from.millis().to_be_bytes());
        }
        let digest = FactDigest::of([business.0.to_be_bytes().as_slice(), &mac.octets(), &bytes]);
        FactOrder { at: self.last_at, rank: FactRank::Network, ordinal: 0, digest }
    }

    /// The same point, moved by a step of the clock that wrote it.
    #[must_use]
    pub fn moved(&self, by: i64) -> Self {
        Self {
            last_at: self.last_at.moved(by),
            first_at: self.first_at.moved(by),
            strong_at: self.strong_at.map(|at| at.moved(by)),
            since: self.since.moved(by),
            frames: self.frames,
        }
    }
}

/// Presences of one device on one day of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceFact {
    /// Where.
    pub business: BusinessId,
    /// Whose device it is.
    pub subject: Subject,
    /// The device.
    pub mac: MacAddr,
    /// The capture's interface.
    pub interface: Arc<str>,
    /// Earliest first; never empty, never across midnight UTC.
    pub points: Vec<Point>,
}

impl PresenceFact {
    /// The instant at which its first point is decided.
    pub fn at(&self) -> WallTime {
        self.points.first().map_or(WallTime::from_millis(0), |point| point.last_at)
    }

    /// Its digest: that of its first point.
    pub fn digest(&self) -> FactDigest {
        self.points.first().map_or(FactDigest([0; 16]), |point| point.place(self.business, self.mac).digest)
    }
}

/// A device that does not belong to exactly one person. Recorded once per pass day and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StrangeDeviceFact {
    /// Where.
    pub business: BusinessId,
    /// The device.
    pub mac: MacAddr,
    /// The capture's interface.
    pub interface: Arc<str>,
    /// Unknown or ambiguous.
    pub recognised: Recognised,
    /// The evidence for the failed check-in.
    pub point: Point,
}
