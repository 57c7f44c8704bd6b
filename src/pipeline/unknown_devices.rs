//! PURE. Failed check-ins of unknown devices: one per device, reason and pass day, up to a daily limit.

use std::collections::BTreeSet;

use crate::{
    base::{
        clock::WallTime,
        fact::{Fact, Recognised, StrangeDeviceFact, Subject},
        mac::MacAddr,
        record::{CheckinSource, Snapshot},
    },
    directory::history::DirectoryHistory,
    engine::{
        decision::{DecisionCode, Outcome, Reason},
        fold::{self, FailureRecord, Opened},
        passes::Refused,
    },
    policy::{SitePolicy, calendar::PassDay},
    store::DecidedFact,
};

/// The maximum number of unrecognised devices for which a failed check-in is written, per business and pass day. A busy
/// open network sees a few hundred strangers' phones a day; any beyond this limit are only counted, and raise a
/// condition.
pub const UNRECOGNISED_A_DAY: usize = 1000;

/// The unknown devices of the pass day.
#[derive(Debug, Default)]
pub(super) struct UnknownDevices {
    /// Devices that have a record.
    reported: BTreeSet<(Reason, MacAddr)>,
    day: Option<PassDay>,
}

/// What to write about the unknown devices of a batch.
#[derive(Debug, Default)]
pub(super) struct UnknownDeviceRecords {
    /// A failed check-in and a fact for each new device.
    pub(super) records: Vec<(FailureRecord, DecidedFact)>,
    /// The number of presences of devices that already have a record, or get none.
    pub(super) skipped: u64,
    /// The number of skipped presences whose device gets no record because there are too many.
    pub(super) left_out: u64,
}

/// Whether a device has a record in its pass day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnknownDeviceStatus {
    New,
    Reported,
    /// It gets no record, because there are too many.
    LeftOut,
}

impl UnknownDevices {
    /// Starts a pass day with the devices already reported in it.
    pub(super) fn begin_day(&mut self, day: PassDay, reported: BTreeSet<(Reason, MacAddr)>) {
        self.reported = reported;
        self.day = Some(day);
    }

    /// Notes that a device has a record.
    pub(super) fn mark_reported(&mut self, reason: Reason, mac: MacAddr) {
        self.reported.insert((reason, mac));
    }

    /// Creates the records of a batch. They count as reported only once they are committed.
    pub(super) fn records(
        &mut self,
        facts: Vec<StrangeDeviceFact>,
        policy: &SitePolicy,
        directories: &DirectoryHistory,
        now: WallTime,
    ) -> UnknownDeviceRecords {
        let mut result = UnknownDeviceRecords::default();
        let today = policy.calendar().pass_day(now);
        let mut new: BTreeSet<(Reason, MacAddr)> = BTreeSet::new();
        for fact in facts {
            let reason = match fact.recognised {
                Recognised::Ambiguous => Reason::AmbiguousDevice,
                Recognised::Unknown | Recognised::Coworker | Recognised::NoCredential => Reason::UnrecognisedDevice,
            };
            let status = if new.contains(&(reason, fact.mac)) {
                UnknownDeviceStatus::Reported
            } else {
                self.status(reason, fact.mac, today, new.len())
            };
            match status {
                UnknownDeviceStatus::New => {
                    new.insert((reason, fact.mac));
                    let failure = failed_checkin(&fact, reason, policy, directories);
                    let decision = DecisionCode::of(Outcome::Failed, Some(reason.code()));
                    let stored = DecidedFact { fact: Fact::UnknownDevice(fact).stored(), decision };
                    result.records.push((failure, stored));
                }
                UnknownDeviceStatus::Reported => result.skipped += 1,
                UnknownDeviceStatus::LeftOut => {
                    result.skipped += 1;
                    result.left_out += 1;
                }
            }
        }
        result
    }

    /// The status of a device on a pass day; `uncommitted` more devices are about to be reported.
    fn status(&mut self, reason: Reason, mac: MacAddr, day: PassDay, uncommitted: usize) -> UnknownDeviceStatus {
        if self.day.is_none_or(|known| known.start < day.start) {
            self.begin_day(day, BTreeSet::new());
        }
        if self.reported.contains(&(reason, mac)) {
            UnknownDeviceStatus::Reported
        } else if self.reported.len() + uncommitted >= UNRECOGNISED_A_DAY {
            UnknownDeviceStatus::LeftOut
        } else {
            UnknownDeviceStatus::New
        }
    }
}

fn failed_checkin(
    fact: &StrangeDeviceFact,
    reason: Reason,
    policy: &SitePolicy,
    directories: &DirectoryHistory,
) -> FailureRecord {
    let (business, at) = (fact.business, fact.point.last_at);
    // Its identity includes the pass day, so even after a restart the same record is not written twice.
    let day = policy.calendar().pass_day(at);
    let subject = Subject::unknown_device(business, fact.mac);
    let name = directories.at(at).business(business).unwrap_or(&policy.site.name).to_owned();
    FailureRecord {
        unique_id: fold::device_failure(business, day.start, reason, fact.mac, subject),
        coworker: None,
        then: Opened { then: Snapshot::default(), business_name: Some(name) },
        business,
        attempt_at: at,
        source: CheckinSource::NetworkActivity,
        mac: Some(fact.mac),
        refused: Refused { reason, detail: None },
    }
}
