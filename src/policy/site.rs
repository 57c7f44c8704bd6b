//! PURE. `[site]`: the business where a gateway is installed, and its rules.

use std::time::Duration;

use chrono::NaiveTime;
use serde::{Deserialize, Serialize};

use super::passes::PassPolicy;
use crate::base::{record::BusinessId, zone::Zone};

/// `[site]`: the business where this gateway is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// `business`.
    pub business: BusinessId,
    /// `name`, used until the directory has the business.
    pub name: String,
    /// `time_zone`, an IANA name.
    pub time_zone: Zone,
    /// `cut_off`: the local time at which a pass day ends and everyone still in is checked out.
    pub cut_off: NaiveTime,
    /// `idle_limit`: a tracked check-in is closed after a silence longer than this.
    pub idle_limit: Duration,
    /// `record_every_visit`.
    pub record_every_visit: bool,
    /// `minimum_dwell`: how long a device must have been present before the network opens a check-in.
    pub minimum_dwell: Duration,
    /// `linger`: how long after an exit network evidence counts as only the phone in its owner's pocket.
    pub linger: Duration,
    /// `network_opens`.
    pub network_opens: NetworkOpens,
    /// `unrecognised_devices`.
    pub unrecognised_devices: UnrecognisedDevices,
    /// `network_checkins`: `false` switches off check-ins by network for the whole business.
    pub network_checkins: bool,
    /// `debounce`: the same credential at the same door again within this span is the same sighting.
    pub debounce: Duration,
    /// `toggle_minimum_stay`: the shortest time after the last entry before a tap at a toggle door counts as an exit,
    /// and after the last exit by toggle before a tap counts as an entry.
    pub toggle_minimum_stay: Duration,
    /// `passes`, `week_starts_on` and `[pay_as_you_go]`.
    pub passes: PassPolicy,
}

/// `network_opens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkOpens {
    /// The network may open check-ins.
    Always,
    /// Only for people a door has let in on that pass day.
    AfterDoor,
    /// The network only refreshes.
    Never,
}

/// `unrecognised_devices`: which unknown addresses cause a failed check-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnrecognisedDevices {
    /// All.
    All,
    /// Not for locally administered (randomised) addresses.
    GlobalOnly,
    /// None.
    Off,
}

/// A site in London for tests, with the defaults.
#[cfg(test)]
pub(crate) fn test_site() -> Site {
    Site {
        business: BusinessId(1),
        name: "Hub One".to_owned(),
        time_zone: crate::base::zone::test_zone("Europe/London"),
        cut_off: NaiveTime::MIN,
        idle_limit: Duration::from_mins(45),
        record_every_visit: false,
        minimum_dwell: Duration::ZERO,
        linger: Duration::from_mins(10),
        network_opens: NetworkOpens::Always,
        unrecognised_devices: UnrecognisedDevices::All,
        network_checkins: true,
        debounce: Duration::from_secs(5),
        toggle_minimum_stay: Duration::from_secs(60),
        passes: PassPolicy::default(),
    }
}
