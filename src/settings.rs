//! The configuration: reads all layers, merges them and validates the result.
//!
//! There are three stages: a *fragment* is one file or variable as written (`settings::fragment`), *merged* is all
//! layers together (`settings::merge`), and [`Settings`] is the validated result (`settings::validate`). The rest of
//! the program sees only the last. The keys and their meaning are a contract; `config/checkind.toml` shows every key.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

mod advice;
mod capture;
mod connections;
mod files;
mod form;
mod fragment;
mod merge;
mod origin;
mod reader;
mod reload;
mod report;
mod secrets;
mod sections;
mod summary;
mod url;
mod validate;
mod value;
mod written;
pub mod zones;

pub use capture::{Capture, CaptureBackend, MacPattern, MacPatternError, Relays};
pub(crate) use files::read_bounded;
use files::{DROP_INS_READ, toml_files};
use fragment::Fragment;
pub use reload::{changes_needing_restart, connection_changed};
pub use report::{Fault, SettingsFaults};
use report::{Finding, Origins, Show, Span};
use secrets::Secrets;
pub use secrets::{StoredCredentials, UNIT_CREDENTIALS};
pub use sections::{
    Api, Database, DatabaseTls, JwtSettings, KeysPlace, LeaseSettings, ListenAddress, MappedRight, Mqtt, Retention,
    ServerTls, Settings, SpoolSettings, SyncLogin, SyncSettings, Tls, TlsMode, WebOrigin,
};
pub use summary::summary;
use zones::Zones;

/// The main file, unless `--config` specifies another. If it is missing, the shipped defaults apply.
pub const MAIN_FILE: &str = "/etc/checkind/checkind.toml";

/// The folder beside the main file whose `*.toml` files are read after it, in name order.
const DROP_INS: &str = "conf.d";

/// Variables with this prefix are settings, `CHECKIND__SECTION__KEY`.
const VARIABLES: &str = "CHECKIND__";

/// The variable that contains the folder with the files of systemd's `LoadCredential=` (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The variable that contains the folder with the zone data, if that is not in the usual place (tzset(3)).
const ZONE_DIRECTORY: &str = "TZDIR";

/// The other variables that are read.
const OTHER_VARIABLES: [&str; 2] = [CREDENTIALS_DIRECTORY, ZONE_DIRECTORY];

/// The largest configuration file, in bytes: a hundred times that of a large site. A larger one is a fault.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What [`load`] returns: the settings, and warnings of probable mistakes in them.
#[derive(Debug, Clone)]
pub struct LoadedSettings {
    /// The settings.
    pub settings: Settings,
    /// Probable mistakes. They do not stop the daemon; each gets a line in the log.
    pub warnings: Vec<Fault>,
}

/// The environment of this process, for [`load`]. Bytes that are not UTF-8 are replaced; after that, they are refused
/// in a setting and ignored elsewhere.
#[expect(clippy::disallowed_methods, reason = "this module is the sanctioned reader of the environment")]
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// Reads, merges and validates the layers of the configuration: the shipped defaults, `main_file` (or [`MAIN_FILE`]),
/// `conf.d/*.toml` beside it in name order, and the variables `CHECKIND__SECTION__KEY`.
///
/// # Errors
/// Contains all faults of all layers.
pub fn load(
    main_file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<LoadedSettings, SettingsFaults> {
    load_with(main_file, environment, &StoredCredentials::read())
}

/// The same with stored credentials that were read before, perhaps by another user.
///
/// # Errors
/// Contains all faults of all layers.
pub fn load_with(
    main_file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    stored: &StoredCredentials,
) -> Result<LoadedSettings, SettingsFaults> {
    // Keep only the variables that matter, in name order.
    let environment: BTreeMap<String, String> = environment
        .filter(|(name, _)| name.starts_with(VARIABLES) || OTHER_VARIABLES.contains(&name.as_str()))
        .collect();
    let folder_of = |name: &str| environment.get(name).filter(|path| !path.is_empty()).map(PathBuf::from);
    let main = main_file.unwrap_or(Path::new(MAIN_FILE));
    let folder = main.parent().unwrap_or(Path::new("")).to_owned();

    // Read the layers. If we may not even check that the main file exists, reading it returns the error that explains
    // why.
    let mut reading = LayerReading::default();
    if main_file.is_some() || !matches!(main.try_exists(), Ok(false)) {
        reading.file(main);
    }
    reading.drop_ins(&folder.join(DROP_INS));
    reading.variables(&environment);

    let secrets = Secrets { credentials: folder_of(CREDENTIALS_DIRECTORY), stored, folder };
    reading.validated(&secrets, Zones::open(folder_of(ZONE_DIRECTORY)))
}

/// Validates these bytes as the content of `main_file`, which is not read. There are no other layers and no credentials.
///
/// # Errors
/// Contains all faults.
pub fn load_bytes(main_file: &Path, bytes: &[u8], zones: Zones) -> Result<LoadedSettings, SettingsFaults> {
    let mut reading = LayerReading::default();
    reading.bytes(main_file, bytes);
    let stored = StoredCredentials::default();
    let folder = main_file.parent().unwrap_or(Path::new("")).to_owned();
    reading.validated(&Secrets { credentials: None, stored: &stored, folder }, zones)
}

/// The layers that have been read; later ones override earlier ones.
#[derive(Default)]
struct LayerReading {
    origins: Origins,
    fragments: Vec<Fragment>,
    findings: Vec<Finding>,
}

impl LayerReading {
    /// Reads a file as the next layer.
    fn file(&mut self, path: &Path) {
        match read_bounded(path, LARGEST_FILE) {
            Ok(bytes) => self.bytes(path, &bytes),
            Err(error) => self.fault_without_text(path, format!("cannot be read: {error}")),
        }
    }

    /// Reads the bytes of a file as the next layer.
    fn bytes(&mut self, path: &Path, bytes: &[u8]) {
        let broken = std::str::from_utf8(bytes).err().map(|error| error.valid_up_to());
        // Read the rest as well: its faults are as useful as those before the bad byte.
        let origin = self.origins.add_file(path.to_owned(), String::from_utf8_lossy(bytes).into_owned());
        if let Some(at) = broken {
            self.findings.push(Finding {
                place: Span { origin, start: at, end: at + 1 },
                show: Show::Line,
                key: String::new(),
                message: "is not UTF-8 from here on; save the file as UTF-8".to_owned(),
            });
        }
        self.fragments.push(fragment::file(&self.origins, origin, &mut self.findings));
    }

    /// Reads the drop-ins, each as a layer.
    fn drop_ins(&mut self, folder: &Path) {
        let mut paths = match toml_files(folder) {
            Ok(paths) => paths,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.fault_without_text(folder, format!("cannot be read: {error}")),
        };
        if paths.len() > DROP_INS_READ {
            return self.fault_without_text(folder, format!("has more than {DROP_INS_READ} *.toml files"));
        }
        paths.sort();
        for path in paths {
            self.file(&path);
        }
    }

    /// Reads the variables, each as a layer.
    fn variables(&mut self, environment: &BTreeMap<String, String>) {
        for (name, value) in environment.iter().filter(|(name, _)| name.starts_with(VARIABLES)) {
            let origin = self.origins.add_variable(name.clone());
            self.fragments.push(fragment::variable(origin, name, value, &mut self.findings));
        }
    }

    /// Merges and validates the layers. There are warnings only for settings without faults.
    fn validated(self, secrets: &Secrets<'_>, zones: Zones) -> Result<LoadedSettings, SettingsFaults> {
        let Self { origins, fragments, mut findings } = self;
        let mut warnings = Vec::new();
        let merged = merge::merge(fragments);
        let settings = validate::validate(merged, (secrets, zones), &origins, &mut findings, &mut warnings);
        match (report::faults(&origins, findings), settings) {
            (None, Some(settings)) => Ok(LoadedSettings { settings, warnings: report::warnings(&origins, warnings) }),
            (Some(faults), _) => Err(faults),
            (None, None) => unreachable!("without settings there is a fault that says why"),
        }
    }

    /// Reports a fault of a whole file or folder.
    fn fault_without_text(&mut self, path: &Path, message: String) {
        let origin = self.origins.add_file(path.to_owned(), String::new());
        let place = Span { origin, start: 0, end: 0 };
        self.findings.push(Finding { place, show: Show::Nothing, key: String::new(), message });
        // A key that seems to be missing may be in the part that could not be read.
        self.fragments.push(Fragment { torn: true, ..Fragment::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_this_process_is_read() {
        assert!(environment().any(|(name, _)| name == "PATH"));
    }
}
