//! What the rest of the program may see of the configuration: validated, typed, no option without a meaning.
//!
//! Three stages, one name each: a *fragment* is one file as written (`settings::fragment`), *merged* is all layers put
//! together (`settings::merge`), and [`Settings`] is what came through validation (`settings::validate`).
//! The key names and their meaning are a contract; `config/checkind.toml` shows every key.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

mod advice;
mod capture;
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
pub use reload::changes_needing_restart;
pub use report::{Fault, SettingsFaults};
use report::{Finding, Origins, Show, Span};
use secrets::Secrets;
pub use sections::{Api, Database, LeaseSettings, Mqtt, Retention, Settings, SpoolSettings, Tls};
pub use summary::summary;
use zones::Zones;

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
    let secrets = Secrets { credentials: folder_of(CREDENTIALS_DIRECTORY), folder };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_this_process_is_read() {
        assert!(environment().any(|(name, _)| name == "PATH"));
    }
}
