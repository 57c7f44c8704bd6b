//! The configuration as an operator sees it: files in folders, variables, and the messages for faults.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use checkind::{
    base::clock::{BootTime, Now, WallTime},
    mapping::{Meta, content::Content},
    policy::{
        door::DoorAction,
        passes::{PassPolicy, PassesAsked, PayAsYouGo},
        site::NetworkOpens,
    },
    settings::{self, Database, LoadedSettings, Settings, SettingsFaults, TlsMode},
};
use chrono::{DateTime, Utc};
use proptest::{prelude::*, test_runner::FileFailurePersistence};
use tempfile::TempDir;

#[path = "fuzz/checks/settings.rs"]
mod fuzz_check;

const SITE: &str = "[site]\nbusiness = 1\nname = \"Hub One\"\ntime_zone = \"Europe/London\"\n";
const MQTT: &str = "[mqtt]\nurl = \"mqtt://127.0.0.1\"\n";

/// A `[[source]]` with this name.
fn source(name: &str) -> String {
    format!("[[source]]\nname = \"{name}\"\npreset = \"uhppoted\"\ntopics = [\"{name}/events\"]\n")
}

/// A folder with a configuration; removed when dropped.
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

    fn load(&self, environment: &[(&str, &str)]) -> Result<LoadedSettings, SettingsFaults> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings::load(Some(&self.path("checkind.toml")), environment)
    }

    fn settings(&self, environment: &[(&str, &str)]) -> Settings {
        match self.load(environment) {
            Ok(LoadedSettings { settings, .. }) => settings,
            Err(faults) => panic!("expected settings, found faults:\n{faults}"),
        }
    }

    /// The faults as printed, without the folder's name.
    fn faults(&self, environment: &[(&str, &str)]) -> String {
        let faults = self.load(environment).expect_err("the configuration is wrong").to_string();
        faults.replace(&format!("{}/", self.0.path().display()), "")
    }

    /// The warnings as printed, without the folder's name.
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

/// The shipped file, with the `#` removed from every `#key = ` and `#[section]`.
fn shipped_with_everything() -> String {
    let shipped = include_str!("../config/checkind.toml");
    let mut text = String::new();
    for line in shipped.lines() {
        let counts = line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty());
        writeln!(text, "{}", counts.unwrap_or(line)).expect("writing to a String cannot fail");
    }
    text
}

fn same(left: &Settings, right: &Settings) {
    let [left, right] = [left, right].map(|settings| format!("{settings:#?}"));
    assert_eq!(left, right);
}

#[test]
fn the_shipped_file_changes_nothing() {
    let shipped = Folder::new(include_str!("../config/checkind.toml")).settings(&[]);
    same(&shipped, &Folder::new("").settings(&[]));
}

#[test]
fn the_shipped_file_shows_every_key_with_its_default() {
    let everything: String = shipped_with_everything()
        .lines()
        .filter(|line| {
            !["password_file", "cert_file", "key_file", "ca_file", "username", "tls", "protected_by", "jwks_file"]
                .iter()
                .any(|key| line.starts_with(key))
        })
        .fold(String::new(), |text, line| text + line + "\n");
    let required = format!(
        "{SITE}[lease]\nholder = \"gateway-a\"\n\
         [mqtt]\nurl = \"mqtts://broker.example\"\nclient_id = \"checkind-hub-one\"\n\
         [[source]]\nname = \"front\"\npreset = \"uhppoted\"\n\
         topics = [\"uhppoted/gateway/events\", \"uhppoted/gateway/events/live\"]\n\
         [jwt]\nissuer = \"https://login.example\"\naudience = \"checkind\"\n\
         jwks_url = \"https://login.example/keys\"\nbusinesses_claim = \"businesses\"\n\
         roles = [\"front-desk = Checkin-List\", \"managers = admin\"]\n\
         [[door]]\nmatch = \"405419896:4\"\nname = \"Main entrance\"\n\
         [[capture]]\ninterface = \"eth1\"\nvlans = [10, 20]\nignore = [\"02:00:5e:00:00:01\", \"00:50:56:*\"]\n\
         [sync]\nurl = \"https://spaces.example\"\ntoken_file = \"sync-token\"\n"
    );
    let with_token = |text: String| Folder::new(text).write("sync-token", "a secret").settings(&[]);
    same(&with_token(everything), &with_token(required));
}

#[test]
fn the_shipped_file_shows_every_known_key() {
    let everything = shipped_with_everything();
    let mut shown: Vec<&str> =
        everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    shown.retain(|key| !key.starts_with('#'));
    // The fault for an unknown key lists all known keys.
    for section in [
        "[database]",
        "[spool]",
        "[site]",
        "[lease]",
        "[mqtt]",
        "[api]",
        "[sync]",
        "[jwt]",
        "[retention]",
        "[[door]]",
        "[[capture]]",
    ] {
        let faults = Folder::new(format!("{section}\nxxxxxxxxxx = 1\n")).faults(&[]);
        let known = faults.lines().find_map(|line| line.split_once("known: ")).expect("the known keys").1;
        for key in known.split(", ") {
            assert!(shown.contains(&key), "config/checkind.toml does not show {key} of {section}");
        }
    }
}

#[test]
fn the_example_of_a_drop_in_works() {
    let folder = Folder::new("").write("conf.d/50-site.toml", include_str!("../config/conf.d/50-site.toml.example"));
    let settings = folder.settings(&[]);
    assert_eq!(settings.captures.len(), 1);
    assert_eq!(settings.site.map(|site| site.name).as_deref(), Some("Hub One"));
}

#[test]
fn the_later_layer_wins_key_by_key() {
    let folder = Folder::new(format!("{SITE}idle_limit = \"30m\"\nlinger = \"1m\"\n"))
        .write("conf.d/20.toml", "[site]\nlinger = \"3m\"\ndebounce = \"3s\"\n")
        .write("conf.d/10.toml", "[site]\nlinger = \"2m\"\ndebounce = \"2s\"\nminimum_dwell = \"2m\"\n")
        .write("conf.d/30.toml.bak", "[site]\nlinger = \"9m\"\n")
        .write("conf.d/.30.toml", "[site]\nlinger = \"9m\"\n");
    let site = folder.settings(&[("CHECKIND__SITE__DEBOUNCE", "4s")]).site.expect("a site");
    assert_eq!(site.idle_limit, Duration::from_secs(30 * 60), "the main file over the default");
    assert_eq!(site.linger, Duration::from_secs(3 * 60), "the last drop-in by name");
    assert_eq!(site.minimum_dwell, Duration::from_secs(2 * 60), "keys that later layers do not set");
    assert_eq!(site.debounce, Duration::from_secs(4), "the environment over all");
    assert_eq!(site.toggle_minimum_stay, Duration::from_secs(60), "the default");
}

#[test]
fn lists_of_several_files_are_put_one_after_the_other() {
    let folder = Folder::new(format!("{SITE}{MQTT}{}[[door]]\nmatch = \"1\"\n", source("a")))
        .write("conf.d/10.toml", format!("[[door]]\nmatch = \"2*\"\non_in = \"toggle\"\n{}", source("b")))
        .write("conf.d/20.toml", "[[door]]\nmatch = \"*\"\n");
    let settings = folder.settings(&[]);
    let doors: Vec<&str> = settings.doors.iter().map(|door| door.pattern.as_str()).collect();
    assert_eq!(doors, ["1", "2*", "*"]);
    let sources: Vec<&str> = settings.sources.iter().map(|source| source.name.as_ref()).collect();
    assert_eq!(sources, ["a", "b"]);
    assert_eq!((settings.doors[1].on_in, settings.doors[1].on_out), (DoorAction::Toggle, DoorAction::CheckOut));
    assert!(settings.doors[1].matches("23") && !settings.doors[1].matches("32"));
}

#[test]
fn a_source_takes_the_zone_of_its_site() {
    let main = format!(
        "{SITE}{MQTT}[[source]]\nname = \"a\"\npreset = \"generic-json\"\ntopics = [\"a\"]\n\
         [source.time]\nparse = [\"%Y-%m-%d %H:%M:%S\"]\n"
    );
    let settings = Folder::new(main).settings(&[("CHECKIND__SITE__TIME_ZONE", "Europe/Paris")]);
    let wall = WallTime::from("2026-07-01T08:00:10Z".parse::<DateTime<Utc>>().expect("a time"));
    let now = Now { wall, boot: BootTime::from_duration(Duration::from_secs(100)) };
    let payload = br#"{"door": "1", "card": "85CCC7", "result": "granted", "time": "2026-07-01 10:00:00"}"#;
    let Content::Sightings(sightings) = settings.sources[0].map("a", payload, Meta::default(), now).content else {
        panic!("the message is understood")
    };
    assert_eq!(sightings[0].event_at.to_rfc3339_seconds(), "2026-07-01T08:00:00Z");
}

#[test]
fn passes_and_pay_as_you_go_are_rules_of_the_site() {
    let defaults = Folder::new(SITE).settings(&[]).site.expect("a site").passes;
    assert_eq!(defaults, PassPolicy::default());
    let more = "passes = \"required\"\nweek_starts_on = \"sunday\"\n[pay_as_you_go]\ncurrency = \"JPY\"\nminimum = 100\n\
                maximum = 900\nstep = \"1h\"\n";
    let set = Folder::new(format!("{SITE}{more}")).settings(&[]).site.expect("a site").passes;
    let currency = "JPY".parse().expect("a currency");
    let rules = PayAsYouGo { currency, minimum: 100, maximum: Some(900), step: Duration::from_hours(1) };
    let (asked, week_starts_on) = (PassesAsked::Required, chrono::Weekday::Sun);
    assert_eq!(set, PassPolicy { asked, week_starts_on, pay_as_you_go: Some(rules) });
    let off = Folder::new(SITE).settings(&[("CHECKIND__PAY_AS_YOU_GO__ENABLED", "false")]).site.expect("a site");
    assert_eq!(off.passes.pay_as_you_go, None);
    let wrong = "passes = \"maybe\"\nweek_starts_on = \"Mon\"\n[pay_as_you_go]\ncurrency = \"pounds\"\nminimum = -1\n\
                 step = \"90s\"\n";
    insta::assert_snapshot!(Folder::new(format!("{SITE}{wrong}")).faults(&[]), @r#"
    checkind.toml:5:10: passes: "maybe" is not one of "if-any", "required", "off"
        5 | passes = "maybe"
          |          ^^^^^^^
    checkind.toml:6:18: week_starts_on: "Mon" is not one of "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"
        6 | week_starts_on = "Mon"
          |                  ^^^^^
    checkind.toml:8:12: currency: "pounds" is not a currency; write its three capital letters, for example "GBP"
        8 | currency = "pounds"
          |            ^^^^^^^^
    checkind.toml:9:11: minimum: -1 is out of range; write 0 to 1000000000000
        9 | minimum = -1
          |           ^^
    checkind.toml:10:8: step: must be whole minutes, for example "15m"
       10 | step = "90s"
          |        ^^^^^
    "#);
    let crossed = format!("{SITE}[pay_as_you_go]\nminimum = 100\nmaximum = 99\n");
    insta::assert_snapshot!(Folder::new(crossed).faults(&[]), @r"
    checkind.toml:7:11: maximum: is less than minimum (100); write 0 for no maximum
        7 | maximum = 99
          |           ^^
    ");
    insta::assert_snapshot!(Folder::new("[pay_as_you_go]\nminimum = 1\n").warnings(), @r"
    checkind.toml:1:2: warning: pay_as_you_go: is never used: there is no [site]
        1 | [pay_as_you_go]
          |  ^^^^^^^^^^^^^
    ");
}

#[test]
fn a_drop_in_is_masked_by_a_link_to_nothing() {
    let folder = Folder::new("").write("conf.d/10.toml", "");
    fs::remove_file(folder.path("conf.d/10.toml")).expect("removed");
    symlink("/dev/null", folder.path("conf.d/10.toml")).expect("linked");
    folder.settings(&[]);
}

#[test]
fn variables_set_what_files_can() {
    let environment = [
        ("CHECKIND__SITE__BUSINESS", "7"),
        ("CHECKIND__SITE__NAME", "12"),
        ("CHECKIND__SITE__TIME_ZONE", "Europe/Paris"),
        ("CHECKIND__SITE__RECORD_EVERY_VISIT", "true"),
        ("CHECKIND__SITE__NETWORK_OPENS", "never"),
        ("CHECKIND__API__LISTEN", "off"),
        ("CHECKIN_UNRELATED", "x"),
        ("PATH", "/bin"),
    ];
    let settings = Folder::new("").settings(&environment);
    let site = settings.site.expect("a site");
    assert_eq!((site.business.0, site.name.as_str(), site.record_every_visit), (7, "12", true));
    assert_eq!(site.network_opens, NetworkOpens::Never);
    assert!(settings.api.is_none());
}

#[test]
fn five_faults_are_reported_at_once() {
    let folder = Folder::new(
        "[site]\nbusiness = \"one\"\nname = \"Hub One\"\ntime_zone = \"Europe/Londn\"\nidle_limt = \"30m\"\nlinger = \"45x\"\n",
    )
    .write("conf.d/10.toml", "[[capture]]\ninterface = \"eth1\"\nvlans = [10, 5000]\n[site]\nlinger = \"10m\"\n");
    insta::assert_snapshot!(folder.faults(&[("CHECKIND__SITE__CUT_OFF", "24:00"), ("CHECKIND__SITE__LINGR", "1m")]));
}

/// Main files with faults; the snapshot has what is printed for each.
const BROKEN: &[(&str, &str)] = &[
    ("not TOML", "[site\nname = \"Hub One\n= 3\n"),
    ("torn in one place, wrong in another", "[site]\nname = \"Hub\nlinger = \"45x\"\n"),
    ("the same key twice", "[api]\nlisten = \"off\"\nlisten = \"off\"\n"),
    ("unknown sections", "[sites]\n[[doors]]\n[xyz]\n"),
    ("brackets", "[source]\nname = \"a\"\n[[site]]\nbusiness = 1\n"),
    ("a value in place of a section", "mqtt = \"mqtt://broker\"\ndoor = []\ncapture = [1]\n"),
    ("a password where it would be printed", "[mqtt]\nurl = \"mqtt://b\"\nclient_id = \"c\"\npassword = \"hunter2\"\n"),
    (
        "a password in the url",
        "[database]\nurl = \"postgres://u:hunter2@db/x\"\n[mqtt]\nurl = \"mqtts://u:hunter2@b\"\nclient_id = \"c\"\n",
    ),
    ("nothing of a site", "[site]\n"),
    (
        "types",
        "[site]\nbusiness = 1.5\nname = 1\ntime_zone = 2026-01-01\ncut_off = 00:00:00\nrecord_every_visit = \"yes\"\nlinger = 10\nnetwork_opens = true\nidle_limit = { minutes = 45 }\n",
    ),
    (
        "values",
        "[site]\nbusiness = 0\nname = \" \"\ntime_zone = \"BST+1\"\ncut_off = \"24:00\"\nidle_limit = \"0s\"\nlinger = \"500ms\"\nminimum_dwell = \"200y\"\nnetwork_opens = \"after_door\"\nunrecognised_devices = \"none\"\ndebounce = \"0d\"\ntoggle_minimum_stay = \"1\"\n",
    ),
    ("databases", "[database]\nurl = \"mysql://root@db/x\"\n"),
    (
        "a spool",
        "[site]\nbusiness = 1\nname = \"n\"\ntime_zone = \"UTC\"\n[database]\nurl = \"postgres://checkind@db/checkind\"\n\
         [spool]\nkeep = \"9d\"\nlimit = \"1KB\"\nkeeps = \"1h\"\n",
    ),
    ("how long a spool keeps", "[spool]\nkeep = 3600\n"),
    ("a password for SQLite", "[database]\npassword_file = \"db-password\"\n"),
    ("a broker's url", "[mqtt]\nurl = \"http://broker:1883\"\nclient_id = \"c\"\n"),
    ("parameters of a database", "[database]\nurl = \"postgres://u@db/x?sslmode=disable\"\n"),
    ("several databases", "[database]\nurl = \"postgres://u@a,b/x\"\n"),
    ("a database's host as a parameter", "[database]\nurl = \"postgres://u@localhost/x?host=db.example\"\n"),
    ("a database's certificate as a parameter", "[database]\nurl = \"postgres://u@db/x?sslrootcert=ca.pem\"\n"),
    (
        "an unknown parameter of a database",
        "[database]\nurl = \"postgres://u@db/x?options=-cx%3D1&connect_timeout=5\"\n",
    ),
    ("a sync without a login", "[sync]\nurl = \"https://u:hunter2@spaces.example\"\n"),
    ("a sync over plain HTTP", "[sync]\nurl = \"http://spaces.example\"\nusername = \"u\"\n"),
    (
        "a sync with everything",
        "[sync]\nurl = \"http://localhost/api\"\ntoken_file = \"x\"\nusername = \"u\"\nevery = \"0s\"\nca_file = \"x\"\ntoken = \"hunter2\"\n",
    ),
    ("a database without TLS", "[database]\nurl = \"postgres://u@db/x\"\ntls = \"off\"\n"),
    (
        "a database that any server can be",
        "[database]\nurl = \"postgres://u@10.0.0.1/x\"\ntls = \"unverified\"\nca_file = \"ca.pem\"\n",
    ),
    (
        "TLS that a server may refuse",
        "[database]\nurl = \"postgres://u@db/x\"\ntls = \"if-offered\"\nprotected_by = \"vpn\"\n",
    ),
    ("an unknown protection", "[database]\nurl = \"postgres://u@db/x\"\ntls = \"require\"\nprotected_by = \"\"\n"),
    ("TLS for SQLite", "[database]\nurl = \"sqlite:/x\"\ntls = \"verify-full\"\nca_file = \"ca.pem\"\n"),
    ("half a client certificate", "[database]\nurl = \"postgres://u@db/x\"\ncert_file = \"nowhere.pem\"\n"),
    (
        "a client certificate without TLS",
        "[database]\nurl = \"postgres://u@localhost/x\"\ntls = \"off\"\nkey_file = \"nowhere.pem\"\n",
    ),
    ("an open API", "[api]\nlisten = \"0.0.0.0:8080\"\n"),
    ("half a certificate of the API", "[api]\nlisten = \"0.0.0.0:8080\"\ntls_cert_file = \"nowhere.pem\"\n"),
    (
        "a socket with TLS",
        "[api]\nlisten = \"unix:/run/api.sock\"\ntls_cert_file = \"nowhere.pem\"\ntls_key_file = \"nowhere.key\"\n",
    ),
    ("a socket without a place", "[api]\nlisten = \"unix:api.sock\"\n"),
    ("a provider without anything", "[jwt]\n"),
    (
        "a provider",
        "[jwt]\nissuer = \"i\"\naudience = \"a\"\njwks_url = \"http://login.example/keys\"\njwks_file = \"nowhere.json\"\n\
         roles = [\"managers\", \"= admin\", \"desk = Checkin-Fly\", 7]\n",
    ),
    (
        "pages",
        "[api]\ncors_origins = [\"*\", \"null\", \"kiosk.example\", \"https://kiosk.example/\", \"https://Kiosk.example\", \
         \"https://kiosk.example:443\", \"https://kiosk.example\", \"ftp://kiosk.example\", 7]\n",
    ),
    ("a broker's path", "[mqtt]\nurl = \"mqtt://broker:1883/topic\"\nclient_id = \"c\"\n"),
    ("halves of pairs", "[mqtt]\nurl = \"mqtts://broker\"\npassword_file = \"nowhere\"\ncert_file = \"nowhere.pem\"\n"),
    (
        "certificates without TLS",
        "[mqtt]\nurl = \"mqtt://broker\"\nclient_id = \"c\"\nusername = \"u\"\nca_file = \"nowhere.pem\"\n",
    ),
    (
        "sources and captures of no site",
        "[[source]]\nname = \"a\"\npreset = \"uhppoted\"\ntopics = [\"t\"]\n[[capture]]\ninterface = \"eth1\"\n",
    ),
    (
        "doors",
        "[[door]]\nname = \"nameless\"\n[[door]]\nmatch = \"1:*\"\non_in = \"open\"\n[[door]]\nmatch = \"1:4\"\n",
    ),
    (
        "captures",
        "[site]\nbusiness = 1\nname = \"n\"\ntime_zone = \"UTC\"\n[[capture]]\ninterface = \"eth1\"\nvlans = [0, 4095, \"10\", 10]\nignore = [\"00:50:56:*\", \"00:50:5*\", \"*\", \"00:50:56\"]\nbackend = \"pcap\"\n[[capture]]\ninterface = \"eth1\"\n[[capture]]\ninterface = \"a/b\"\nvlans = 10\n",
    ),
    (
        "what a capture cannot do",
        "[site]\nbusiness = 1\nname = \"n\"\ntime_zone = \"UTC\"\n[[capture]]\ninterface = \"eth1\"\nvlans = [10]\nbackend = \"portable\"\n[[capture]]\ninterface = \"eth2\"\nrelays = [\"10.1.0.1\", \"0.0.0.0\", \"fe80::1\", 10]\n[[capture]]\ninterface = \"eth3\"\nrelays = \"all\"\n[[capture]]\ninterface = \"eth4\"\nrelays = []\n[[capture]]\ninterface = \"eth5\"\nrelays = true\n",
    ),
    (
        "sources",
        "[site]\nbusiness = 1\nname = \"n\"\ntime_zone = \"UTC\"\n[mqtt]\nurl = \"mqtt://127.0.0.1\"\n\
         [[source]]\nname = \"a\"\npreset = \"uhppoted\"\ntopics = [\"a\"]\n\
         [[source]]\nname = \"a\"\npreset = \"uhppoted\"\ntopics = [\"b\"]\n\
         [[source]]\nname = \"c\"\npreset = \"uhpoted\"\ntopics = [\"c\"]\n\
         [[source]]\nname = \"d\"\n\
         [[source]]\nname = 3\nnaem = \"a\"\ntopics = [\"d\", 5]\nretained = true\n\
         [source.field]\ncard = 7\n[source.time]\nzone = \"Europe/London\"\nprase = [\"unix\"]\n\
         [[source.rule]]\nkind = 1\n[[source.rule]]\nkidn = \"granted\"\n\
         [[source]]\nname = \"e\"\ntopics = [\"e/#/f\"]\nformat = \"xml\"\n\
         [source.time]\nzone = \"Mars/Olympus\"\nparse = [\"epoch\"]\n[source.card]\nsteps = [\"hexx\"]\n\
         [[source.rule]]\nkind = \"exit\"\n[[source.rule]]\nkind = \"grantd\"\n",
    ),
    ("the api", "[api]\nlisten = \"localhost:8080\"\n[retention]\nsightings = \"forever\"\ncheckin = \"0d\"\n"),
];

#[test]
fn every_fault_is_printed_with_its_line() {
    let mut printed = String::new();
    for (what, text) in BROKEN {
        writeln!(printed, "=== {what}\n{}\n", Folder::new(text).faults(&[])).expect("writing to a String cannot fail");
    }
    insta::assert_snapshot!(printed);
}

#[test]
fn faults_of_variables_name_the_variable() {
    let folder = Folder::new(SITE);
    insta::assert_snapshot!(folder.faults(&[
        ("CHECKIND__SITE__IDLE_LIMIT", "45x"),
        ("CHECKIND__SITE__IDLE_LIMT", "45m"),
        ("CHECKIND__SITE__BUSINESS", "one"),
        ("CHECKIND__SITE__RECORD_EVERY_VISIT", "yes"),
        ("CHECKIND__SITES__NAME", "x"),
        ("CHECKIND__CAPTURE__INTERFACE", "eth1"),
        ("CHECKIND__SITE", "x"),
        ("CHECKIND__site__name", "x"),
        ("CHECKIND__MQTT__URL", "mqtt://u:hunter2@broker"),
    ]));
}

#[test]
fn files_that_cannot_be_read_are_faults() {
    let folder = Folder::new(b"[site]\nname = \"Caf\xe9\"\nlinger = \"45x\"\n").write("conf.d/10.toml/x", "");
    insta::assert_snapshot!(folder.faults(&[]));
    let gone = settings::load(Some(Path::new("/nonexistent/checkind.toml")), std::iter::empty());
    let faults = gone.expect_err("the file is not there").to_string();
    assert_eq!(faults, "/nonexistent/checkind.toml: cannot be read: No such file or directory (os error 2)");
}

/// A configuration whose broker needs `password_file = "secret"`.
fn with_secret(content: impl AsRef<[u8]>) -> Folder {
    Folder::new(format!("{SITE}{MQTT}username = \"u\"\npassword_file = \"secret\"\n")).write("secret", content)
}

#[test]
fn a_secret_is_the_line_in_its_file() {
    use secrecy::ExposeSecret as _;
    let login = with_secret("hunter 2 \r\n").settings(&[]).mqtt.and_then(|mqtt| mqtt.login).expect("a login");
    assert_eq!((login.0.as_str(), login.1.expose_secret()), ("u", "hunter 2 "));
}

#[test]
fn a_secret_of_the_credentials_directory_comes_first() {
    use secrecy::ExposeSecret as _;
    let folder = with_secret("of the folder").write("credentials/secret", "of the service");
    let credentials = folder.path("credentials").display().to_string();
    let secret = |settings: Settings| settings.mqtt.and_then(|mqtt| mqtt.login).expect("a login").1;
    let environment = [("CREDENTIALS_DIRECTORY", credentials.as_str())];
    assert_eq!(secret(folder.settings(&environment)).expose_secret(), "of the service");
    fs::remove_file(folder.path("credentials/secret")).expect("removed");
    assert_eq!(secret(folder.settings(&environment)).expose_secret(), "of the folder");
}

#[test]
fn a_secret_that_cannot_be_used_is_a_fault() {
    for (content, message) in [
        (b"".as_slice(), "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"hunter\ntwo\n", "has more than one line; it must contain only the password"),
    ] {
        let faults = with_secret(content).faults(&[]);
        assert!(faults.contains(&format!("secret {message}")) && !faults.contains("hunter"), "{faults}");
    }
    let folder = with_secret("x");
    fs::remove_file(folder.path("secret")).expect("removed");
    assert!(folder.faults(&[]).contains("secret cannot be read: No such file"), "{}", folder.faults(&[]));
}

#[test]
fn a_client_certificate_is_two_pem_files() {
    let main =
        format!("{SITE}[mqtt]\nurl = \"mqtts://broker\"\nca_file = \"ca\"\ncert_file = \"cert\"\nkey_file = \"key\"\n");
    let certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
    let folder = Folder::new(&main).write("ca", certificate).write("cert", certificate).write("key", key);
    let tls = folder.settings(&[]).mqtt.and_then(|mqtt| mqtt.tls).expect("TLS");
    assert_eq!(tls.client, Some((folder.path("cert"), folder.path("key"))));
    assert_eq!(tls.ca_file, Some(folder.path("ca")));
    let folder = Folder::new(&main).write("cert", key).write("key", certificate);
    insta::assert_snapshot!(folder.faults(&[]));
}

#[test]
fn a_probable_mistake_is_a_warning() {
    let folder = Folder::new(format!(
        "[database]\nurl = \"sqlite:here.db\"\n{SITE}network_opens = \"after-door\"\nnetwork_checkins = false\n\
         toggle_minimum_stay = \"1m\"\n[mqtt]\nurl = \"mqtts://broker.example\"\nusername = \"u\"\n\
         protected_by = \"vpn\"\npassword_file = \"secret\"\n[[door]]\nmatch = \"*\"\n[[capture]]\ninterface = \"eth1\"\n"
    ))
    .write("secret", "x");
    fs::set_permissions(folder.path("secret"), fs::Permissions::from_mode(0o644)).expect("made readable");
    insta::assert_snapshot!(folder.warnings());
    let loaded = folder.load(&[]).expect("the configuration is right");
    assert!(loaded.warnings.iter().all(|warning| warning.head().lines().count() == 1));
    assert_eq!(Folder::new(format!("{SITE}{MQTT}")).warnings(), "");
}

#[test]
fn the_summary_shows_what_will_run_and_no_secret() {
    let folder = Folder::new(format!(
        "{SITE}[mqtt]\nurl = \"mqtts://[::1]:8884\"\nusername = \"u\"\npassword_file = \"secret\"\n\
         {}[[door]]\nmatch = \"1\"\nname = \"Main entrance\"\n[[door]]\nmatch = \"2\"\n\
         [[capture]]\ninterface = \"eth1\"\n[database]\nurl = \"postgres://checkind@db/checkind\"\npassword_file = \"secret\"\n\
         [spool]\nkeep = \"30m\"\n",
        source("front")
    ))
    .write("secret", "hunter2");
    let read = folder.settings(&[]);
    let summary = settings::summary(&read);
    let smallest = settings::summary(&Folder::new("[api]\nlisten = \"off\"").settings(&[]));
    // The version of the zone data depends on the machine.
    let summaries =
        format!("{summary}\n{smallest}").replace(&read.zones.to_string(), "/usr/share/zoneinfo, version 2026a");
    insta::assert_snapshot!(summaries);
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let folder = |text: &str| Folder::new(text).write("secret", "x").settings(&[]);
    let before = folder(SITE);
    let needing = |text: &str| settings::changes_needing_restart(&before, &folder(text));
    assert_eq!(needing(&format!("{SITE}linger = \"1m\"\n")), Vec::<&str>::new());
    assert_eq!(
        needing(
            "[retention]\nsightings = \"1d\"\n[site]\nbusiness = 2\nname = \"Hub\"\ntime_zone = \"Europe/London\"\n"
        )
        .last(),
        Some(&"retention")
    );
    assert_eq!(needing(&SITE.replace("= 1", "= 2")), ["site.business"]);
    assert_eq!(
        needing(&format!(
            "{SITE}{MQTT}[database]\nurl = \"sqlite:/x\"\n[api]\nlisten = \"off\"\n[[capture]]\ninterface = \"e\"\n"
        )),
        ["database", "mqtt", "capture", "api.listen"]
    );
    // Another way to the same database is taken at a reload; another database needs a restart.
    let database = |more: &str| folder(&format!("{SITE}[database]\nurl = \"postgres://u@db/x\"\n{more}"));
    let needing = |old: &str, new: &str| settings::changes_needing_restart(&database(old), &database(new));
    let off = |words: &str| format!("tls = \"off\"\nprotected_by = \"{words}\"\n");
    assert_eq!(needing("", &off("vpn")), Vec::<&str>::new());
    assert_eq!(needing(&off("vpn"), &off("WireGuard")), Vec::<&str>::new());
    let other = folder(&format!("{SITE}[database]\nurl = \"postgres://u@db/y\"\n"));
    assert_eq!(settings::changes_needing_restart(&database(""), &other), ["database"]);
}

#[test]
fn to_another_machine_everything_is_verified_unless_words_say_what_protects_it() {
    let good = |text: &str| Folder::new(text).settings(&[]);
    let mode = |url: &str| match good(&format!("[database]\nurl = \"{url}\"\n")).database {
        Database::Postgres { tls, .. } => tls.mode,
        Database::Sqlite { .. } => panic!("{url} is PostgreSQL"),
    };
    for local in ["localhost", "127.0.0.1:5433", "[::1]", "%2Frun%2Fpostgresql", ""] {
        let user = if local.is_empty() { "" } else { "u@" };
        assert_eq!(mode(&format!("postgres://{user}{local}/x")), TlsMode::IfOffered, "{local}");
    }
    assert_eq!(mode("postgres://u@db.example/x?host=/run/postgresql"), TlsMode::IfOffered);
    for other in ["db", "10.0.0.1", "[fe80::1]", "localhost.example"] {
        assert_eq!(mode(&format!("postgres://u@{other}/x")), TlsMode::VerifyFull, "{other}");
    }
    let folder = Folder::new(format!(
        "{SITE}[database]\nurl = \"postgres://u@db/x\"\ntls = \"off\"\nprotected_by = \"WireGuard\"\n[mqtt]\n\
         url = \"mqtt://broker\"\nprotected_by = \"its own VLAN\"\n[api]\nlisten = \"[::]:80\"\nprotected_by = \"nginx\"\n"
    ));
    let summary = settings::summary(&folder.settings(&[]));
    for words in ["without TLS (protected by: WireGuard)", "(protected by: its own VLAN)", "(protected by: nginx)"] {
        assert!(summary.contains(words), "{summary}");
    }
    assert_eq!(folder.warnings(), "");
    // Words where nothing needs them may be a misunderstanding.
    let unused = "[database]\nurl = \"postgres://u@db/x\"\nprotected_by = \"vpn\"\n[api]\nprotected_by = \"nginx\"\n";
    assert_eq!(Folder::new(unused).warnings().matches("protected_by: is never used").count(), 2);
}

/// Even files of the largest size must load quickly, or be refused in a few lines that explain why.
#[test]
fn files_of_another_kind_are_refused_in_a_screenful() {
    for piece in ["[site]\n", "= \"\n", "[[door]]\nmatch = \"*\"\n", "[[source]]\n", "[", "\u{1f6aa}"] {
        let faults = Folder::new(piece.repeat(1024 * 1024 / piece.len())).faults(&[]);
        assert!(faults.lines().count() <= 301, "{piece}: {} lines", faults.lines().count());
    }
    for section in ["", "[site]\n"] {
        let keys: String = (0..50_000).fold(String::new(), |text, key| text + &format!("k{key} = 1\n"));
        let faults = Folder::new(section.to_owned() + &keys).faults(&[]);
        assert!(faults.ends_with(" more"), "{}", faults.len());
    }
    let faults = Folder::new(vec![b'#'; 1024 * 1024 + 1]).faults(&[]);
    assert_eq!(faults, "checkind.toml: cannot be read: larger than 1048576 bytes");
}

/// Arbitrary bytes, and text that often looks like a configuration.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        "\\[\\[?(database|site|mqtt|api|retention|source|door|capture)\\]?\\]\n",
        "(url|name|business|time_zone|idle_limit|match|vlans|ignore|interface|password_file|listen) = ",
        "\"(UTC|1s|mqtt://b|off|sqlite:x|[a-z0-9:*]{0,12})\"?\n",
        "[0-9{}\\[\\]=.,\"#\n]{0,4}",
        "\\PC{0,4}",
    ];
    let text = proptest::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![proptest::collection::vec(any::<u8>(), 0..200), text]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/regressions/settings.txt"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_file_and_no_variable_panics(bytes in hostile(), value: String) {
        if let Err(faults) = Folder::new(&bytes).load(&[("CHECKIND__SITE__NAME", &value)]) {
            prop_assert!(!faults.faults().is_empty());
            prop_assert!(!faults.to_string().contains(char::from(27)));
        }
    }
}

#[test]
fn the_settings_keep_their_promises_over_the_corpus_and_prefixes_of_it() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/settings");
    let file = Path::new("/nowhere/checkind.toml");
    let mut files = 0;
    for entry in fs::read_dir(corpus).expect("the corpus") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
        for end in (0..bytes.len()).step_by(7).chain([bytes.len()]) {
            fuzz_check::check(&bytes[..end], file);
        }
        files += 1;
    }
    assert!(files >= 7, "the corpus is incomplete: {files}");
}
