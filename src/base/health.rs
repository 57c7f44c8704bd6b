//! Named conditions: what is wrong, since when, what to do. `/readyz`, `STATUS=` and the log all read from here.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use crate::base::clock::{Clock, WallTime};

/// What can be wrong for longer than a moment. `subject` in [`Condition`] says which one (an interface, a source).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionKind {
    /// The database does not answer or refuses to write.
    DatabaseUnavailable,
    /// No connection to the broker.
    BrokerUnavailable,
    /// The broker refused a subscription.
    SubscriptionRefused,
    /// The broker had forgotten our session: messages sent while we were away are lost.
    SessionLost,
    /// Another client uses our client id.
    SessionTakenOver,
    /// A controller's clock is off by a constant: a time zone, or minutes.
    ClockOffset,
    /// A controller sends times that `time.parse` cannot read; the time of arrival is used instead.
    TimeUnreadable,
    /// A controller uses the keys of its events again, for other events.
    KeysReused,
    /// A reader has been reading the same card for two minutes.
    ReaderRepeats,
    /// An interface is missing, down, or may not be captured.
    CaptureBlind,
    /// The link is up, and no frame at all has come for longer than is usual: the mirror session may have died.
    MirrorSilent,
    /// The silence limit is too short for the DHCP leases of several of our people's devices.
    IdleLimitShort,
    /// More unrecognised devices than are recorded in a day.
    UnrecognisedFlood,
    /// A changed settings file was refused; the old settings stay in force.
    SettingsRefused,
    /// The directory could not be read; the last one stays in force.
    DirectoryStale,
    /// The wall clock was stepped.
    ClockStepped,
    /// The wall clock was not set since the machine started: it is before this program existed.
    ClockNotSet,
    /// A tenth of the spool is in use: door messages come in and the shared database does not take them.
    SpoolFilling,
    /// The spool has reached its limit: door messages stay with the broker, unacknowledged.
    SpoolFull,
    /// The spool's disk takes nothing: door messages stay with the broker, unacknowledged.
    SpoolUnavailable,
    /// Door messages wait and nothing is acknowledged, though the database works.
    AcknowledgementsStalled,
    /// The disk of the database or the spool is nearly full.
    DiskLow,
    /// Another gateway of this site holds the lease; this one waits to take over.
    Standby,
}

impl ConditionKind {
    /// Every kind, so that each gauge is present at zero.
    pub const ALL: [Self; 23] = [
        Self::DatabaseUnavailable,
        Self::BrokerUnavailable,
        Self::SubscriptionRefused,
        Self::SessionLost,
        Self::SessionTakenOver,
        Self::ClockOffset,
        Self::TimeUnreadable,
        Self::KeysReused,
        Self::ReaderRepeats,
        Self::CaptureBlind,
        Self::MirrorSilent,
        Self::IdleLimitShort,
        Self::UnrecognisedFlood,
        Self::SettingsRefused,
        Self::DirectoryStale,
        Self::ClockStepped,
        Self::ClockNotSet,
        Self::SpoolFilling,
        Self::SpoolFull,
        Self::SpoolUnavailable,
        Self::AcknowledgementsStalled,
        Self::DiskLow,
        Self::Standby,
    ];

    /// The name that `/readyz` and the log use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DatabaseUnavailable => "database_unavailable",
            Self::BrokerUnavailable => "broker_unavailable",
            Self::SubscriptionRefused => "subscription_refused",
            Self::SessionLost => "session_lost",
            Self::SessionTakenOver => "session_taken_over",
            Self::ClockOffset => "clock_offset",
            Self::TimeUnreadable => "time_unreadable",
            Self::KeysReused => "keys_reused",
            Self::ReaderRepeats => "reader_repeats",
            Self::CaptureBlind => "capture_blind",
            Self::MirrorSilent => "mirror_silent",
            Self::IdleLimitShort => "idle_limit_short",
            Self::UnrecognisedFlood => "unrecognised_flood",
            Self::SettingsRefused => "settings_refused",
            Self::DirectoryStale => "directory_stale",
            Self::ClockStepped => "clock_stepped",
            Self::ClockNotSet => "clock_not_set",
            Self::SpoolFilling => "spool_filling",
            Self::SpoolFull => "spool_full",
            Self::SpoolUnavailable => "spool_unavailable",
            Self::AcknowledgementsStalled => "acknowledgements_stalled",
            Self::DiskLow => "disk_low",
            Self::Standby => "standby",
        }
    }

    /// Does `/readyz` answer 503 while this lasts? Otherwise it is a warning.
    pub const fn blocks_readiness(self) -> bool {
        match self {
            Self::DatabaseUnavailable
            | Self::BrokerUnavailable
            | Self::SubscriptionRefused
            | Self::CaptureBlind
            | Self::ClockNotSet
            | Self::SpoolFull
            | Self::SpoolUnavailable
            | Self::AcknowledgementsStalled => true,
            Self::SessionLost
            | Self::SessionTakenOver
            | Self::ClockOffset
            | Self::TimeUnreadable
            | Self::KeysReused
            | Self::ReaderRepeats
            | Self::MirrorSilent
            | Self::IdleLimitShort
            | Self::UnrecognisedFlood
            | Self::SettingsRefused
            | Self::DirectoryStale
            | Self::ClockStepped
            | Self::SpoolFilling
            | Self::DiskLow
            | Self::Standby => false,
        }
    }
}

/// One thing that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What kind of thing.
    pub kind: ConditionKind,
    /// Which one: an interface, a source, a topic; empty when there is only one.
    pub subject: String,
    /// What is wrong and what to do, in one or two sentences.
    pub detail: String,
    /// Since when.
    pub since: WallTime,
}

/// The conditions of this process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health {
    clock: Clock,
    now: Arc<Mutex<BTreeMap<(ConditionKind, String), Condition>>>,
}

impl Health {
    /// Nothing is wrong yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, now: Arc::default() }
    }

    /// Says that something is wrong. The first time it is logged; while it lasts only its detail is brought up to date.
    pub fn raise(&self, kind: ConditionKind, subject: &str, detail: impl fmt::Display) {
        self.raise_since(kind, subject, self.clock.now().wall, detail);
    }

    /// The same of something that is found out later than it began.
    pub fn raise_since(&self, kind: ConditionKind, subject: &str, since: WallTime, detail: impl fmt::Display) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let detail = detail.to_string();
        match now.get_mut(&(kind, subject.to_owned())) {
            Some(known) => known.detail = detail,
            None => {
                tracing::warn!(condition = kind.name(), subject, "{detail}");
                let condition = Condition { kind, subject: subject.to_owned(), detail, since };
                now.insert((kind, subject.to_owned()), condition);
            }
        }
    }

    /// Says that it is over. Logged once, with how long it lasted; nothing happens when it was not raised.
    pub fn clear(&self, kind: ConditionKind, subject: &str) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(over) = now.remove(&(kind, subject.to_owned())) {
            let lasted = self.clock.now().wall.since(over.since).as_secs();
            tracing::info!(condition = kind.name(), subject, lasted_seconds = lasted, "{} is over", kind.name());
        }
    }

    /// Says that every condition of a kind is over.
    pub fn clear_kind(&self, kind: ConditionKind) {
        for over in self.conditions().into_iter().filter(|condition| condition.kind == kind) {
            self.clear(kind, &over.subject);
        }
    }

    /// Is this condition raised?
    pub fn is_raised(&self, kind: ConditionKind, subject: &str) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&(kind, subject.to_owned()))
    }

    /// All conditions now, by kind and subject.
    pub fn conditions(&self) -> Vec<Condition> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{BootTime, Now};
    use std::time::Duration;

    #[test]
    fn a_condition_keeps_its_beginning_while_its_detail_changes() {
        let clock = Clock::manual(Now {
            wall: WallTime::from_millis(1_000_000),
            boot: BootTime::from_duration(Duration::ZERO),
        });
        let health = Health::new(clock.clone());
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
        clock.advance(Duration::from_secs(60));
        health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 does not exist");
        let conditions = health.conditions();
        assert_eq!(conditions.len(), 1);
        assert_eq!(conditions[0].since, WallTime::from_millis(1_000_000));
        assert_eq!(conditions[0].detail, "eth1 does not exist");
        health.clear(ConditionKind::CaptureBlind, "eth1");
        assert!(health.conditions().is_empty());
    }
}
