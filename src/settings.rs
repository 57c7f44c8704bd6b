//! What the rest of the program may see of the configuration: validated, typed, no option without a meaning.
//!
//! Three stages, one name each: a *fragment* is one file as written (`settings::fragment`), *merged* is all layers put
//! together (`settings::merge`), and [`Settings`] is what came through validation (`settings::validate`).
//! The key names and their meaning are the contract of `design` section 7; `config/checkind.toml` shows every key.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use chrono::NaiveTime;
use chrono_tz::Tz;
use secrecy::SecretString;

use crate::{mac::MacAddr, record::BusinessId, source::mqtt::mapping::Mapping};

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `[database]`.
    pub database: Database,
    /// `[site]`; absent on an instance that only serves records.
    pub site: Option<Site>,
    /// `[mqtt]`; absent where no door controller speaks MQTT.
    pub mqtt: Option<Mqtt>,
    /// `[[source]]`, compiled with their presets, in the order of the files.
    pub sources: Vec<Arc<Mapping>>,
    /// `[[door]]`, in the order of the files; the first whose pattern matches counts.
    pub doors: Vec<Door>,
    /// `[[capture]]`.
    pub captures: Vec<Capture>,
    /// `[api]`; absent when the API is switched off.
    pub api: Option<Api>,
    /// `[retention]`.
    pub retention: Retention,
}

/// `[database]`.
#[derive(Debug, Clone)]
pub enum Database {
    /// `sqlite:PATH`.
    Sqlite {
        /// The file; its folder must exist and be writable.
        path: PathBuf,
    },
    /// `postgres://…`.
    Postgres {
        /// The URL as written, without a password.
        url: String,
        /// From `password_file`.
        password: Option<SecretString>,
    },
}

/// `[site]`: the business that this gateway stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// `business`.
    pub business: BusinessId,
    /// `name`, used until the directory has the business.
    pub name: String,
    /// `time_zone`, an IANA name.
    pub time_zone: Tz,
    /// `cut_off`: the local time at which a pass day ends and everybody still in is checked out.
    pub cut_off: NaiveTime,
    /// `idle_limit`: a tracked check-in is closed after a silence longer than this.
    pub idle_limit: Duration,
    /// `record_every_visit`.
    pub record_every_visit: bool,
    /// `minimum_dwell`: how long a device must have been present before the network opens a check-in.
    pub minimum_dwell: Duration,
    /// `linger`: how long after an exit network evidence is only the phone in its owner's pocket.
    pub linger: Duration,
    /// `network_opens`.
    pub network_opens: NetworkOpens,
    /// `unrecognised_devices`.
    pub unrecognised_devices: UnrecognisedDevices,
    /// `network_checkins`: false switches check-ins by network off for the whole business.
    pub network_checkins: bool,
    /// `debounce`: the same credential at the same door within this span is one sighting.
    pub debounce: Duration,
    /// `toggle_minimum_stay`: a second tap at a toggle door counts as an exit only after this long.
    pub toggle_minimum_stay: Duration,
}

/// `network_opens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkOpens {
    /// The network may open check-ins.
    Always,
    /// Only for people whom a door has let in that pass day.
    AfterDoor,
    /// The network only refreshes.
    Never,
}

/// `unrecognised_devices`: for which unknown addresses a failed check-in is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnrecognisedDevices {
    /// All.
    All,
    /// Not for locally administered (randomised) addresses.
    GlobalOnly,
    /// None.
    Off,
}

/// `[mqtt]`.
#[derive(Debug, Clone)]
pub struct Mqtt {
    /// Host of `url`.
    pub host: String,
    /// Port of `url`; 1883 or 8883 when it has none.
    pub port: u16,
    /// `client_id`.
    pub client_id: String,
    /// `username` with the content of `password_file`.
    pub login: Option<(String, SecretString)>,
    /// Present for `mqtts://`.
    pub tls: Option<Tls>,
}

/// TLS towards the broker; the files are read anew at each connection, so that renewed certificates are picked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `ca_file`: PEM; the system's roots when absent.
    pub ca_file: Option<PathBuf>,
    /// `cert_file` and `key_file`: PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `[[door]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Door {
    /// `match`: the source's door key; `*` stands for any text.
    pub pattern: String,
    /// `name`, for people.
    pub name: String,
    /// `on_in`.
    pub on_in: DoorAction,
    /// `on_out`.
    pub on_out: DoorAction,
}

/// What a door's grant means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DoorAction {
    /// Opens, or refreshes.
    CheckIn,
    /// Closes.
    CheckOut,
    /// Opens when out, closes when in.
    Toggle,
    /// Refreshes only.
    Activity,
    /// Writes nothing but the sighting log.
    Record,
}

/// `[[capture]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// `interface`.
    pub interface: Arc<str>,
    /// `vlans`: only these (outermost tag), or every frame when empty.
    pub vlans: Vec<u16>,
    /// `ignore`: infrastructure that is never evidence.
    pub ignore: Vec<MacPattern>,
    /// `backend`.
    pub backend: CaptureBackend,
}

/// `backend` of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureBackend {
    /// The ring on Linux (default).
    Ring,
    /// pnet's portable channel: much dearer, loses the outer VLAN tag.
    Portable,
}

/// `00:50:56:*` or a whole address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MacPattern {
    /// The leading octets that must be equal; six for a whole address.
    pub prefix: Vec<u8>,
}

impl MacPattern {
    /// Does the address begin with the pattern's octets?
    pub fn matches(&self, mac: MacAddr) -> bool {
        mac.octets().starts_with(&self.prefix)
    }
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// `listen`.
    pub listen: SocketAddr,
}

/// `[retention]`; none means kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// `sightings`.
    pub sightings: Option<Duration>,
    /// `checkins`.
    pub checkins: Option<Duration>,
    /// `failed_checkins`.
    pub failed_checkins: Option<Duration>,
    /// `unrecognised`: failed check-ins of unknown devices; then the address is erased.
    pub unrecognised: Option<Duration>,
}
