//! The configuration as an operator meets it: files in folders, variables, and what is printed when they are wrong.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use checkind::settings::{self, Database, DoorAction, Loaded, NetworkOpens, Settings, SettingsFaults};
use proptest::prelude::*;
use tempfile::TempDir;

const SITE: &str = "[site]\nbusiness = 1\nname = \"Hub One\"\ntime_zone = \"Europe/London\"\n";
const MQTT: &str = "[mqtt]\nurl = \"mqtt://127.0.0.1\"\n";

/// A folder with a configuration, removed when it is dropped.
struct Folder(TempDir);

impl Folder {
    fn new(main: impl AsRef<[u8]>) -> Self {
        let folder = Self(tempfile::tempdir().expect("a temporary folder"));
        folder.write("checkind.toml", main)
    }

    fn write(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(&path, content).expect("the file is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, environment: &[(&str, &str)]) -> Result<Loaded, SettingsFaults> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings::load(Some(&self.path("checkind.toml")), environment)
    }

    fn settings(&self, environment: &[(&str, &str)]) -> Settings {
        match self.load(environment) {
            Ok(Loaded { settings, .. }) => settings,
            Err(faults) => panic!("expected settings, found faults:\n{faults}"),
        }
    }

    /// The faults as printed, with the folder's name taken out.
    fn faults(&self, environment: &[(&str, &str)]) -> String {
        let faults = self.load(environment).expect_err("the configuration is wrong").to_string();
        faults.replace(&format!("{}/", self.0.path().display()), "")
    }

    /// The warnings as printed, with the folder's name taken out.
    fn warnings(&self) -> String {
        let loaded = self.load(&[]).expect("the configuration is right");
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        warnings.join("\n").replace(&format!("{}/", self.0.path().display()), "")
    }
}

#[test]
fn an_empty_file_serves_records_from_the_default_database() {
    let settings = Folder::new("").settings(&[]);
    let Database::Sqlite { path } = &settings.database else { panic!("{:?}", settings.database) };
    assert_eq!(path, Path::new("/var/lib/checkind/checkind.db"));
    assert_eq!(settings.api.map(|api| api.listen.to_string()).as_deref(), Some("127.0.0.1:8080"));
    assert!(settings.site.is_none() && settings.mqtt.is_none() && settings.captures.is_empty());
}

#[test]
fn five_faults_are_told_at_once() {
    let folder = Folder::new(
        "[site]\nbusiness = \"one\"\nname = \"Hub One\"\ntime_zone = \"Europe/Londn\"\nidle_limt = \"30m\"\nlinger = \"45x\"\n",
    )
    .write("conf.d/10.toml", "[[capture]]\ninterface = \"eth1\"\nvlans = [10, 5000]\n");
    insta::assert_snapshot!(folder.faults(&[]));
}
