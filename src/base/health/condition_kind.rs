//! PURE. The kinds of conditions: one row each, from which the enum, the list, the names and the reference are
//! generated.

/// Declares [`ConditionKind`]. A row has the meaning (one line, also shown in the reference), the variant, the name,
/// and whether the condition `blocks` readiness or only `warns`.
macro_rules! condition_kinds {
    ($(#[doc = $meaning:literal] $variant:ident = $name:literal, $effect:ident;)+) => {
        /// What can be wrong for longer than a moment. `subject` in [`Condition`](super::Condition) names what it
        /// concerns (an interface, a source).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ConditionKind {
            $(#[doc = $meaning] $variant,)+
        }

        impl ConditionKind {
            /// Every kind, so each gauge is exported even at zero.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name that `/readyz` and the log use.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// What a condition of this kind means, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning.trim_ascii(),)+
                }
            }

            /// Whether `/readyz` answers 503 while this lasts. Otherwise it is a warning.
            pub const fn blocks_readiness(self) -> bool {
                match self {
                    $(Self::$variant => condition_kinds!(@ $effect),)+
                }
            }
        }
    };
    (@ blocks) => { true };
    (@ warns) => { false };
}

condition_kinds! {
    /// The database does not answer or refuses writes.
    DatabaseUnavailable = "database_unavailable", blocks;
    /// A question to the database has had no answer for some seconds.
    DatabaseSilent = "database_silent", blocks;
    /// A `COMMIT` waits: for a synchronous standby that is gone, or because the server or the network hangs.
    CommitUnanswered = "commit_unanswered", blocks;
    /// A part of the daemon has not turned for longer than any of its waits may last.
    PartStalled = "part_stalled", blocks;
    /// There is no connection to the broker.
    BrokerUnavailable = "broker_unavailable", blocks;
    /// The broker refused a subscription.
    SubscriptionRefused = "subscription_refused", blocks;
    /// The broker had forgotten our session: messages sent while we were disconnected are lost.
    SessionLost = "session_lost", warns;
    /// Another client uses our client id.
    SessionTakenOver = "session_taken_over", warns;
    /// A controller's clock is off by a constant: a time zone, or minutes.
    ClockOffset = "clock_offset", warns;
    /// A controller sends times that `time.parse` cannot read; the time of arrival is used instead.
    TimeUnreadable = "time_unreadable", warns;
    /// A controller reuses the keys of its events for other events.
    KeysReused = "keys_reused", warns;
    /// A reader has been reading the same card for two minutes.
    ReaderRepeats = "reader_repeats", warns;
    /// An interface is missing, down, or may not be captured.
    CaptureBlind = "capture_blind", blocks;
    /// The link is up, but no frame at all has arrived for longer than usual: the mirror session may have died.
    MirrorSilent = "mirror_silent", warns;
    /// The idle limit is too short for the DHCP leases of several members' devices.
    IdleLimitShort = "idle_limit_short", warns;
    /// There are more unrecognised devices than are recorded in a day.
    UnrecognisedFlood = "unrecognised_flood", warns;
    /// The database did not take some facts of the last 24 hours: they were set aside, undecided.
    SetAside = "set_aside", warns;
    /// Changed settings were refused, or cannot be recorded yet; the old ones stay in force.
    SettingsRefused = "settings_refused", warns;
    /// The database answers, but the directory or the settings of the sites cannot be read; the last versions stay in force.
    DirectoryStale = "directory_stale", warns;
    /// The wall clock was stepped.
    ClockStepped = "clock_stepped", warns;
    /// The wall clock has not been set since the machine started: it shows a time before this program existed.
    ClockNotSet = "clock_not_set", blocks;
    /// A tenth of the spool is in use: door messages arrive and the shared database does not take them.
    SpoolFilling = "spool_filling", warns;
    /// The spool has reached its limit: door messages stay with the broker, unacknowledged.
    SpoolFull = "spool_full", blocks;
    /// The spool's disk cannot be written: door messages stay with the broker, unacknowledged.
    SpoolUnavailable = "spool_unavailable", blocks;
    /// Door messages wait and none is acknowledged, although the database works.
    AcknowledgementsStalled = "acknowledgements_stalled", blocks;
    /// The shared database lost what this gateway had committed: it was restored, or a failover discarded commits. Shown for 24 hours, also after a restart.
    DatabaseWentBack = "database_went_back", warns;
    /// The disk of the database or the spool is nearly full.
    DiskLow = "disk_low", warns;
    /// All connections of the API were in use within the last minute: clients may be refused.
    ApiExhausted = "api_exhausted", warns;
    /// The changed certificate of the API cannot be used; the one before stays in force.
    CertificateRefused = "certificate_refused", warns;
    /// The directory cannot be read from the platform; what was read before stays in force.
    SyncFailing = "sync_failing", warns;
    /// The platform no longer lists more than a tenth of the people; they were not archived.
    SyncHeldBack = "sync_held_back", warns;
    /// The keys of the identity provider cannot be read; those of before stay in force.
    ProviderKeysUnavailable = "provider_keys_unavailable", warns;
    /// Another gateway of this site holds the lease; this one waits to take over.
    Standby = "standby", warns;
}
