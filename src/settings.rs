//! What the rest of the program may see of the configuration: validated, typed, no option without a meaning.
//!
//! Three stages, one name each: a *fragment* is one file as written (`settings::fragment`), *merged* is all layers put
//! together (`settings::merge`), and [`Settings`] is what came through validation (`settings::validate`).
//! The key names and their meaning are a contract; `config/checkind.toml` shows every key.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    base::mac::{MacAddr, MacParseError},
    mapping::Mapping,
    policy::{door::Door, site::Site},
    settings::zones::Zones,
};

mod fragment;
mod merge;
mod report;
mod validate;
mod written;
pub mod zones;

use fragment::Fragment;
pub use report::{Fault, SettingsFaults};
use report::{Finding, Origins, Show, Span};

/// The main file unless `--config` names another. It may be missing: then the shipped defaults hold.
pub const MAIN_FILE: &str = "/etc/checkind/checkind.toml";

/// Beside the main file: its `*.toml` are read after it, in name order.
const DROP_INS: &str = "conf.d";

/// Variables that begin so are settings, `CHECKIND__SECTION__KEY`; no other variable is looked at, but for
/// `CREDENTIALS_DIRECTORY`.
const VARIABLES: &str = "CHECKIND__";

/// Where systemd puts the files of `LoadCredential=` (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Where the zone data is, if not where every system has it (`TZDIR`, tzset(3)).
const ZONE_DIRECTORY: &str = "TZDIR";

/// The variables that are read besides the settings.
const WANTED: [&str; 2] = [CREDENTIALS_DIRECTORY, ZONE_DIRECTORY];

/// The largest file that is read, in bytes: a hundred times a large site. A larger one is a fault.
const LARGEST_FILE: u64 = 1024 * 1024;

/// How many drop-ins are read; a folder with more is not a configuration, and a fault.
const DROP_INS_READ: usize = 256;

/// The validated configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the rules of time zones come from.
    pub zones: Zones,
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
    /// `[spool]`; absent with SQLite, whose file is as near, and on an instance that only serves records.
    pub spool: Option<SpoolSettings>,
    /// `[lease]`; absent where a site has one gateway.
    pub lease: Option<LeaseSettings>,
    /// `[api]`; absent when the API is switched off.
    pub api: Option<Api>,
    /// `[retention]`.
    pub retention: Retention,
}

/// What [`load`] found: the settings, and what is probably not meant.
#[derive(Debug, Clone)]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// Nothing here stops the daemon; each is worth a line in the log.
    pub warnings: Vec<Fault>,
}

/// The environment of this process, for [`load`]. Bytes that are not UTF-8 are replaced, so that they are refused where
/// they matter and ignored where they do not.
#[expect(clippy::disallowed_methods, reason = "this module is the sanctioned reader of the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Reads, layers and validates the configuration: the shipped defaults, `main_file` (or [`MAIN_FILE`]), `conf.d/*.toml`
/// beside it in name order, the variables `CHECKIND__SECTION__KEY`.
///
/// # Errors
/// Everything that is wrong, in all files, at once.
pub fn load(
    main_file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<LoadedSettings, SettingsFaults> {
    let environment: BTreeMap<String, String> =
        environment.filter(|(name, _)| name.starts_with(VARIABLES) || WANTED.contains(&name.as_str())).collect();
    let folder_of = |name: &str| environment.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let main = main_file.unwrap_or(Path::new(MAIN_FILE));
    let folder = main.parent().unwrap_or(Path::new("")).to_owned();
    let mut reading = LayerReading::default();
    // A file that may not even be looked for is read, for the fault to say why.
    if main_file.is_some() || !matches!(main.try_exists(), Ok(false)) {
        reading.file(main);
    }
    reading.drop_ins(&folder.join(DROP_INS));
    reading.variables(&environment);

    let LayerReading { origins, fragments, mut findings } = reading;
    let secrets = validate::Secrets { credentials: folder_of(CREDENTIALS_DIRECTORY), folder };
    let zones = Zones::open(folder_of(ZONE_DIRECTORY));
    let mut warnings = Vec::new();
    let merged = merge::merge(fragments);
    let settings = validate::validate(merged, (&secrets, zones), &origins, &mut findings, &mut warnings);
    match (report::faults(&origins, findings), settings) {
        (None, Some(settings)) => Ok(LoadedSettings { settings, warnings: report::warnings(&origins, warnings) }),
        (Some(faults), _) => Err(faults),
        (None, None) => unreachable!("settings are withheld only with a fault that says why"),
    }
}

/// The layers while they are read, in the order in which they count.
#[derive(Default)]
struct LayerReading {
    origins: Origins,
    fragments: Vec<Fragment>,
    findings: Vec<Finding>,
}

impl LayerReading {
    fn file(&mut self, path: &Path) {
        let bytes = match read_bounded(path, LARGEST_FILE) {
            Ok(bytes) => bytes,
            Err(error) => return self.fault_without_text(path, format!("cannot be read: {error}")),
        };
        let broken = std::str::from_utf8(&bytes).err().map(|error| error.valid_up_to());
        // What follows the first bad byte is read all the same: its faults are as good as those before it.
        let origin = self.origins.add_file(path.to_owned(), String::from_utf8_lossy(&bytes).into_owned());
        if let Some(at) = broken {
            self.findings.push(Finding {
                place: Span { origin, start: at, end: at + 1 },
                show: Show::Line,
                key: String::new(),
                message: "is not UTF-8 from here on; save the file in that encoding".to_owned(),
            });
        }
        self.fragments.push(fragment::file(&self.origins, origin, &mut self.findings));
    }

    fn drop_ins(&mut self, folder: &Path) {
        let mut paths = match toml_files(folder) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.fault_without_text(folder, format!("cannot be read: {error}")),
        };
        if paths.len() > DROP_INS_READ {
            return self.fault_without_text(folder, format!("has more than {DROP_INS_READ} files"));
        }
        paths.sort();
        for path in paths {
            self.file(&path);
        }
    }

    fn variables(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(VARIABLES)) {
            let origin = self.origins.add_variable(name.clone());
            self.fragments.push(fragment::variable(origin, name, value, &mut self.findings));
        }
    }

    fn fault_without_text(&mut self, path: &Path, message: String) {
        let origin = self.origins.add_file(path.to_owned(), String::new());
        let place = Span { origin, start: 0, end: 0 };
        self.findings.push(Finding { place, show: Show::Nothing, key: String::new(), message });
        // What seems to be missing may stand there.
        self.fragments.push(Fragment { torn: true, ..Fragment::default() });
    }
}

/// The `*.toml` of a folder, without hidden ones (an editor's copies); one more than are read when there are too many.
fn toml_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
        if paths.len() > DROP_INS_READ {
            break;
        }
    }
    Ok(paths)
}

/// The bytes of a file that has at most `limit` of them; a larger one is an error, also one that never ends.
pub(crate) fn read_bounded(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

/// What will run, for people: one line per section, no secrets.
pub fn summary(settings: &Settings) -> String {
    let mut text = String::new();
    let mut line = |label: &str, said: String| {
        let _written = writeln!(text, "{label:<10}{said}");
    };
    line(
        "database",
        match &settings.database {
            Database::Sqlite { path } => format!("SQLite, {}", path.display()),
            Database::Postgres { url, password } => {
                format!("PostgreSQL, {url}{}", if password.is_some() { ", with a password" } else { "" })
            }
        },
    );
    if let Some(SpoolSettings { path, limit }) = &settings.spool {
        line("spool", format!("{}, {} MB at most", path.display(), limit / 1_000_000));
    }
    line(
        "site",
        settings.site.as_ref().map_or("none: serves the records of all businesses".to_owned(), |site| {
            let Site { business, name, time_zone, cut_off, .. } = site;
            format!("{name} (business {business}), {time_zone}, pass day ends at {}", cut_off.format("%H:%M"))
        }),
    );
    line("zones", settings.zones.to_string());
    if let Some(LeaseSettings { holder }) = &settings.lease {
        line("lease", format!("works or stands by, as {holder}"));
    }
    line(
        "broker",
        settings.mqtt.as_ref().map_or("none".to_owned(), |mqtt| {
            let tls = if mqtt.tls.is_some() { "with TLS" } else { "without TLS" };
            let host = if mqtt.host.contains(':') { format!("[{}]", mqtt.host) } else { mqtt.host.clone() };
            format!("{host}:{} {tls}, as {}", mqtt.port, mqtt.client_id)
        }),
    );
    line("sources", counted(settings.sources.iter().map(|source| source.name.as_ref())));
    line("doors", counted(settings.doors.iter().map(|door| door.name.as_str())));
    let captures = settings.captures.iter().map(|capture| {
        let backend = match capture.backend {
            CaptureBackend::Ring => "ring",
            CaptureBackend::Portable => "portable",
        };
        format!("{} ({backend})", capture.interface)
    });
    let captures: Vec<String> = captures.collect();
    line("captures", counted(captures.iter().map(String::as_str)));
    line("api", settings.api.as_ref().map_or("off".to_owned(), |api| format!("http://{}", api.listen)));
    text
}

/// `2: Main entrance, Back door`.
fn counted<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() { "none".to_owned() } else { format!("{}: {}", names.len(), names.join(", ")) }
}

/// The sections whose change a running daemon cannot take over, so that it has to be started again: the database, whose
/// pool and schema everything holds; the business, whose check-ins are open; the silence limit that running captures
/// pace their hand-overs by; the retention; the addresses and sockets that are opened, or need a right that is given up,
/// after the start. Everything else follows a reload.
pub fn changes_needing_restart(old: &Settings, new: &Settings) -> Vec<&'static str> {
    let business = |settings: &Settings| settings.site.as_ref().map(|site| site.business);
    let idle_limit = |settings: &Settings| settings.site.as_ref().map(|site| site.idle_limit);
    let changed = [
        ("database", !same_database(&old.database, &new.database)),
        ("spool", old.spool != new.spool),
        ("lease", old.lease != new.lease),
        ("site.business", business(old) != business(new)),
        ("mqtt", !same_broker(old.mqtt.as_ref(), new.mqtt.as_ref())),
        ("site.idle_limit", !new.captures.is_empty() && idle_limit(old) != idle_limit(new)),
        ("capture", old.captures != new.captures),
        ("retention", old.retention != new.retention),
        ("api.listen", old.api != new.api),
    ];
    changed.into_iter().filter_map(|(section, changed)| changed.then_some(section)).collect()
}

fn same_database(old: &Database, new: &Database) -> bool {
    match (old, new) {
        (Database::Sqlite { path: old }, Database::Sqlite { path: new }) => old == new,
        (
            Database::Postgres { url: old, password: old_password },
            Database::Postgres { url: new, password: new_password },
        ) => old == new && same_secret(old_password.as_ref(), new_password.as_ref()),
        (Database::Sqlite { .. }, Database::Postgres { .. }) | (Database::Postgres { .. }, Database::Sqlite { .. }) => {
            false
        }
    }
}

fn same_broker(old: Option<&Mqtt>, new: Option<&Mqtt>) -> bool {
    let (Some(old), Some(new)) = (old, new) else { return old.is_none() && new.is_none() };
    let user = |mqtt: &Mqtt| mqtt.login.as_ref().map(|(user, _)| user.clone());
    let secret = |mqtt: &Mqtt| mqtt.login.as_ref().map(|(_, secret)| secret.clone());
    old.host == new.host
        && old.port == new.port
        && old.client_id == new.client_id
        && old.tls == new.tls
        && user(old) == user(new)
        && same_secret(secret(old).as_ref(), secret(new).as_ref())
}

fn same_secret(old: Option<&SecretString>, new: Option<&SecretString>) -> bool {
    old.map(ExposeSecret::expose_secret) == new.map(ExposeSecret::expose_secret)
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

/// `[[capture]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// `interface`.
    pub interface: Arc<str>,
    /// `vlans`: only these (outermost tag), or every frame when empty.
    pub vlans: Vec<u16>,
    /// `ignore`: infrastructure that is never evidence.
    pub ignore: Vec<MacPattern>,
    /// `relays`.
    pub relays: Relays,
    /// `backend`.
    pub backend: CaptureBackend,
}

/// `relays` of a capture: whose clients are at this site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relays {
    /// Everybody's (default).
    Any,
    /// Those of the relays with these addresses; none where there are none.
    Listed(Vec<Ipv4Addr>),
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

/// The text is neither an address nor the beginning of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is neither a MAC address nor the beginning of one; write 3c:22:fb:01:02:03 or 00:50:56:*")]
pub struct MacPatternError(String);

impl FromStr for MacPattern {
    type Err = MacPatternError;

    /// A whole address in any usual spelling, or one to five octets, joined by `:` or `-`, with `*` for the rest.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || MacPatternError(text.chars().take(40).collect());
        if !text.contains('*') {
            let mac: MacAddr = text.parse().map_err(|_: MacParseError| refuse())?;
            return Ok(Self { prefix: mac.octets().to_vec() });
        }
        let mut parts: Vec<&str> = text.trim().split([':', '-']).collect();
        while parts.last() == Some(&"*") {
            parts.pop();
        }
        let octet = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let prefix: Vec<u8> = parts.into_iter().map(octet).collect::<Option<_>>().ok_or_else(refuse)?;
        if (1..=5).contains(&prefix.len()) { Ok(Self { prefix }) } else { Err(refuse()) }
    }
}

impl MacPattern {
    /// Does the address begin with the pattern's octets?
    pub fn matches(&self, mac: MacAddr) -> bool {
        mac.octets().starts_with(&self.prefix)
    }
}

/// `[spool]`: where door messages wait for a shared database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// `path`: a SQLite file; its folder must exist and be writable.
    pub path: PathBuf,
    /// `limit`: the bytes that may be in use.
    pub limit: u64,
}

/// `[lease]`: this gateway works only while it holds the lease of its site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// `holder`: what this gateway is called.
    pub holder: String,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_pattern_is_an_address_or_the_beginning_of_one() {
        let mac = MacAddr::new([0x00, 0x50, 0x56, 0xab, 0xcd, 0xef]);
        for (text, fits) in [
            ("00:50:56:*", true),
            ("00-50-56-*", true),
            ("00:50:56:AB:*:*", true),
            ("0050.56ab.cdef", true),
            ("00:50:57:*", false),
            ("00:50:56:ab:cd:ee", false),
        ] {
            let pattern: MacPattern = text.parse().expect("a pattern");
            assert_eq!(pattern.matches(mac), fits, "{text}");
        }
        for text in ["", "*", "00:50:56", "00:50:5*", "00:*:56", "00:50:56:ab:cd:ef:*", "+0:50:*", "é*"] {
            assert!(text.parse::<MacPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_environment_of_this_process_is_read() {
        assert!(environment().any(|(name, _)| name == "PATH"));
    }
}
