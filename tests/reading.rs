//! Commands that read write nothing: on a disk that cannot be written, without rights, beside an older or newer daemon.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    skipped, wait_for,
};

/// The commands that only read, with what they say about member 1, who is in.
const READING: [(&[&str], &str); 4] = [
    (&["who"], "Member 1"),
    (&["admit", "1"], "already in"),
    (&["explain", "1"], "Member 1"),
    (&["user", "list"], "ada"),
];

/// A site with member 1 in, and user ada.
fn site_with_one_inside(broker: &Broker) -> (Home, Daemon) {
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(2, &[]));
    home.tell(&["user", "add", "ada", "--admin"], "correct horse battery\n");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    broker.publish("flat/events", flat_event(1, card(1), Way::In, now()).as_bytes(), 1);
    wait_for("the tap", LIMIT, || if home.ledger().facts() == 1 { Ok(()) } else { Err(daemon.log()) });
    (home, daemon)
}

/// The files of the database with what would show a write.
fn stamps(home: &Home) -> BTreeMap<String, (u64, i64, i64, u32)> {
    let stamp = |name: String| {
        let found = fs::metadata(home.path(&name)).expect("it exists");
        (name, (found.len(), found.mtime(), found.mtime_nsec(), found.mode()))
    };
    super::upgrade::files(home).into_iter().map(stamp).collect()
}

/// Every reading command works with this starter, and leaves the files as they are.
fn reads(home: &Home, starter: &[&str], is_at_rest: bool) {
    let before = stamps(home);
    for (command, expected) in READING {
        let output = home.command_of(starter, command).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && said.contains(expected),
            "{command:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        if is_at_rest {
            assert_eq!(stamps(home), before, "{command:?} wrote");
        }
    }
}

#[test]
fn commands_that_read_work_beside_a_daemon_and_after_it_and_write_nothing() {
    let broker = Broker::plain();
    let (home, daemon) = site_with_one_inside(&broker);
    assert!(home.path("checkind.db-wal").metadata().expect("a log").len() > 0);
    reads(&home, &[BINARY], false);
    daemon.stop();
    assert_eq!(super::upgrade::files(&home), ["checkind.db"]);
    reads(&home, &[BINARY], true);
    let daemon = home.start();
    daemon.kill();
    reads(&home, &[BINARY], false);
}

#[test]
fn commands_that_read_work_on_a_disk_that_cannot_be_written() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a read-only disk", "mounting needs root");
    }
    let broker = Broker::plain();
    let (home, daemon) = site_with_one_inside(&broker);
    let folder = home.path("checkind.toml").parent().expect("a folder").display().to_string();
    let mount = format!("mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} && exec \"$0\" \"$@\"");
    let starter = ["unshare", "--mount", "sh", "-c", &mount, BINARY];
    reads(&home, &starter, false);
    daemon.stop();
    reads(&home, &starter, true);
    // What a crash leaves: a log, and the file of its locks.
    home.start().kill();
    reads(&home, &starter, true);
    // Commands that write say that they cannot.
    let output = home.command_of(&starter, &["user", "remove", "ada"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(69));
}

#[test]
fn commands_that_read_need_no_right_to_write() {
    if !rustix::process::geteuid().is_root() {
        return skipped("a user without rights", "changing the user needs root");
    }
    let broker = Broker::plain();
    let (home, daemon) = site_with_one_inside(&broker);
    let let_read = || {
        let folder = home.path("checkind.toml").parent().expect("a folder").to_owned();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        set(&folder, 0o755);
        for name in super::upgrade::files(&home) {
            set(&home.path(&name), 0o644);
        }
    };
    let starter = ["setpriv", "--reuid=64125", "--regid=64125", "--clear-groups", BINARY];
    let_read();
    reads(&home, &starter, false);
    daemon.stop();
    let_read();
    reads(&home, &starter, true);
    home.start().kill();
    let_read();
    reads(&home, &starter, true);
}

#[test]
fn without_a_database_commands_say_so_and_create_none() {
    let home = Home::new(&site(""));
    for command in [
        &["who"][..],
        &["admit", "1"],
        &["explain", "1"],
        &["user", "list"],
        &["user", "remove", "ada"],
        &["user", "role", "ada", "--admin"],
        &["maintain"],
        &["backup", "/nonexistent/copy.db"],
    ] {
        let output = home.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(69 | 74)), "{command:?}: {said}");
        if command[0] != "backup" {
            assert!(said.contains("there is no file") && said.contains("`checkind migrate`"), "{command:?}: {said}");
        }
        assert_eq!(super::upgrade::files(&home), Vec::<String>::new(), "{command:?} created a file");
    }
}

#[test]
fn on_an_older_schema_commands_say_what_to_run_and_change_nothing() {
    let home = Home::new(&site(""));
    super::upgrade::make_old(&home.path("checkind.db"), 5);
    home.ledger().execute(super::upgrade::ADA);
    let before = stamps(&home);
    for command in
        [&["admit", "1"][..], &["explain", "1"], &["user", "remove", "ada"], &["user", "role", "ada", "--admin"]]
    {
        let output = home.run(command);
        assert_eq!(output.status.code(), Some(69), "{command:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = format!("its schema is version 5, and this program needs version {}", super::upgrade::newest());
        assert!(said.contains(&expected) && said.contains("run `checkind migrate`"), "{command:?}: {said}");
    }
    // What has not changed since can be read.
    assert!(home.ask(&["user", "list"]).starts_with("There are no users"));
    assert_eq!(stamps(&home).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(home.ledger().number("SELECT max(version) FROM _sqlx_migrations"), 5);
}

/// What the operating system knows is said: whose folder it is, that the disk is read-only, that a copy lacks a file.
#[test]
fn a_file_that_cannot_be_used_says_whose_it_is_or_what_is_missing() {
    let home = Home::new(&site(""));
    home.import(&people(1, &[]));
    let stranger = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", "--"];
    let said = |arguments: &[&str]| {
        let output = home.command_of(&[&stranger[..], &[BINARY]].concat(), arguments).output().expect("it starts");
        assert!(!output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let open_to_all = |name: &str, mode: u32| {
        fs::set_permissions(home.path(name), fs::Permissions::from_mode(mode)).expect("permitted");
    };
    open_to_all(".", 0o755);
    open_to_all("checkind.toml", 0o644);
    open_to_all("checkind.db", 0o644);
    let told = said(&["migrate"]);
    assert!(told.contains("belongs to the user with id 0") && told.contains("id 54321"), "{told}");
    // A copy with its log, and without the file of locks.
    fs::copy(home.path("checkind.db"), home.path("checkind.db-wal")).expect("a log");
    open_to_all("checkind.db-wal", 0o644);
    let told = said(&["who"]);
    assert!(told.contains("checkind.db-shm to read them") && told.contains("read the copy"), "{told}");
}
