//! Commands that root runs on the files of another user, who tries to become root with their help. These tests run the
//! attacks, as root.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink},
    path::{Path, PathBuf},
    process::Output,
};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::support::{
    daemon::{BINARY, Home, people, site},
    skipped,
};

/// The account of the daemon, which an intruder has taken over.
const INTRUDER: u32 = 64_123;
const GROUP: u32 = 64_124;

/// How long a command may take before it counts as stuck, in seconds.
const STUCK: &str = "20";

/// What the commands of one attack may touch, and what they must not.
struct Scene {
    /// Root's folder with the configuration, readable by root only.
    home: Home,
    /// The folder of the database. The intruder owns it.
    state: TempDir,
    /// Root's folder with root's file, where the intruder would like to write.
    loot: TempDir,
}

impl Scene {
    /// `None`, reported as skipped, without root.
    fn new(name: &str) -> Option<Self> {
        if !geteuid().is_root() {
            skipped("attacks on commands that root runs", "they need root");
            return None;
        }
        let state = tempfile::tempdir().expect("a folder");
        let home = Home::on(&format!("sqlite:{}", state.path().join(name).display()), &site(""));
        fs::set_permissions(home.path("checkind.toml"), fs::Permissions::from_mode(0o600)).expect("only root's");
        home.write("site.json", &people(2, &[]).to_string());
        let loot = tempfile::tempdir().expect("a folder");
        fs::set_permissions(loot.path(), fs::Permissions::from_mode(0o755)).expect("anyone may look");
        fs::write(loot.path().join("shadow"), "root:secret").expect("root's file");
        fs::set_permissions(loot.path().join("shadow"), fs::Permissions::from_mode(0o600)).expect("root's alone");
        let scene = Self { home, state, loot };
        chown(scene.state.path(), Some(INTRUDER), Some(GROUP)).expect("the intruder's folder");
        Some(scene)
    }

    /// A file beside the database.
    fn at(&self, name: &str) -> PathBuf {
        self.state.path().join(name)
    }

    /// Root runs a command, which must come to an end.
    fn run(&self, arguments: &[&str]) -> Output {
        let output =
            self.home.command_of(&["timeout", "-s", "KILL", STUCK, BINARY], arguments).output().expect("it starts");
        assert_ne!(output.status.code(), Some(137), "{arguments:?} is stuck");
        output
    }

    /// Root runs every command on the database.
    fn run_all(&self) -> Vec<(String, Output)> {
        let import = self.home.path("site.json").display().to_string();
        let to = [self.at("backup.db"), self.loot.path().join("backup.db")].map(|path| path.display().to_string());
        let commands: [&[&str]; 10] = [
            &["who"],
            &["admit", "1"],
            &["explain", "1"],
            &["user", "list"],
            &["user", "remove", "ada"],
            &["import", &import],
            &["migrate"],
            &["maintain"],
            &["backup", &to[0]],
            &["backup", &to[1]],
        ];
        commands.iter().map(|command| (command.join(" "), self.run(command))).collect()
    }

    /// Nothing of root's has changed.
    fn is_unharmed(&self, attack: &str) {
        let shadow = self.loot.path().join("shadow");
        let found = fs::symlink_metadata(&shadow).expect("it is there");
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (0, 0, 0o600),
            "{attack}: the owner of root's file"
        );
        assert_eq!(fs::read_to_string(&shadow).expect("readable"), "root:secret", "{attack}");
        let inside: Vec<_> =
            fs::read_dir(self.loot.path()).expect("a list").map(|entry| entry.expect("one").file_name()).collect();
        assert_eq!(inside, ["shadow"], "{attack}: a file was created in root's folder");
        let folder = fs::metadata(self.loot.path()).expect("it is there");
        assert_eq!((folder.uid(), folder.mode() & 0o7777), (0, 0o755), "{attack}");
    }
}

/// Where the intruder puts something: the database, its side files, its copies, and the files that the daemon writes.
const PLACES: [&str; 9] = [
    "checkind.db",
    "checkind.db-wal",
    "checkind.db-shm",
    "checkind.db-journal",
    "checkind.db.before-5",
    "checkind.db.before-5.checkind-partial-1",
    "backup.db",
    "backup.db.checkind-partial-1",
    "checkind.db.lock",
];

/// A database with an old schema, which some commands copy and change.
fn old_database(scene: &Scene) {
    let path = scene.at("checkind.db");
    super::upgrade::make_old(&path, 5);
    chown(&path, Some(INTRUDER), Some(GROUP)).expect("the intruder's");
}

#[test]
fn no_link_beside_the_database_makes_root_change_another_file() {
    for place in PLACES {
        for target in ["shadow", "new"] {
            let Some(scene) = Scene::new("checkind.db") else { return };
            if place != "checkind.db" {
                old_database(&scene);
            }
            symlink(scene.loot.path().join(target), scene.at(place)).expect("a link");
            lchown(scene.at(place), Some(INTRUDER), Some(GROUP)).expect("the intruder's");
            scene.run_all();
            scene.is_unharmed(&format!("{place} is a link to {target}"));
        }
    }
}

#[test]
fn no_hard_link_beside_the_database_makes_root_change_another_file() {
    for place in PLACES {
        let Some(scene) = Scene::new("checkind.db") else { return };
        if place != "checkind.db" {
            old_database(&scene);
        }
        // Possible where `fs.protected_hardlinks` is 0.
        fs::hard_link(scene.loot.path().join("shadow"), scene.at(place)).expect("on one disk");
        scene.run_all();
        // The folder is the intruder's, so they can remove the entry, but nothing has happened to the file.
        scene.is_unharmed(&format!("{place} is a hard link"));
    }
}

#[test]
fn no_pipe_beside_the_database_makes_root_wait() {
    let partial = "backup.db.checkind-partial-1";
    for place in ["checkind.db", "checkind.db-wal", "checkind.db-journal", "checkind.db.before-5", partial] {
        let Some(scene) = Scene::new("checkind.db") else { return };
        if place != "checkind.db" {
            old_database(&scene);
        }
        let mode = rustix::fs::Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(rustix::fs::CWD, scene.at(place), rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
        lchown(scene.at(place), Some(INTRUDER), Some(GROUP)).expect("the intruder's");
        scene.run_all();
        scene.is_unharmed(&format!("{place} is a pipe"));
    }
}

#[test]
fn no_link_in_the_place_of_the_folder_makes_root_write_there() {
    let Some(scene) = Scene::new("data/checkind.db") else { return };
    symlink(scene.loot.path(), scene.at("data")).expect("a link");
    lchown(scene.at("data"), Some(INTRUDER), Some(GROUP)).expect("the intruder's");
    for (command, output) in scene.run_all() {
        assert!(!output.status.success(), "{command}");
    }
    scene.is_unharmed("the folder is a link");
    // The link is as dangerous where only a folder above it is the intruder's.
    fs::remove_file(scene.at("data")).expect("removed");
    fs::create_dir(scene.at("data")).expect("root's folder in the intruder's");
    for (command, output) in scene.run_all() {
        assert!(!output.status.success(), "{command}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("root ran this as user 64123, who owns the folder of the database"), "{command}: {said}");
    }
    assert_eq!(fs::read_dir(scene.at("data")).expect("a list").count(), 0, "root wrote in a folder that can be moved");
}

#[test]
fn root_refuses_a_folder_that_several_users_can_write() {
    let Some(scene) = Scene::new("checkind.db") else { return };
    chown(scene.state.path(), Some(0), Some(GROUP)).expect("root's");
    fs::set_permissions(scene.state.path(), fs::Permissions::from_mode(0o770)).expect("and the group's");
    for (command, output) in scene.run_all() {
        assert_eq!(output.status.code(), Some(77), "{command}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("can be written by others than root"), "{command}: {said}");
    }
    scene.is_unharmed("a shared folder");
    assert_eq!(fs::read_dir(scene.state.path()).expect("a list").count(), 0);
}

#[test]
fn root_puts_no_backup_where_another_user_could_replace_it() {
    let Some(scene) = Scene::new("checkind.db") else { return };
    chown(scene.state.path(), Some(0), Some(0)).expect("root's");
    scene.home.ask(&["migrate"]);
    let theirs = tempfile::tempdir().expect("a folder");
    chown(theirs.path(), Some(INTRUDER), Some(GROUP)).expect("the intruder's");
    let to = theirs.path().join("copy.db");
    let output = scene.run(&["backup", to.to_str().expect("a path of ours")]);
    assert_eq!(output.status.code(), Some(77), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!to.exists());
    let ours = scene.home.path("copy.db");
    scene.home.ask(&["backup", ours.to_str().expect("a path of ours")]);
}

/// What root runs on the daemon's files works, and leaves them to the daemon.
#[test]
fn what_root_writes_belongs_to_the_owner_of_the_folder_and_only_they_can_read_it() {
    let Some(scene) = Scene::new("checkind.db") else { return };
    let import = scene.home.path("site.json").display().to_string();
    assert!(scene.home.ask(&["import", &import]).contains("3 added"));
    scene.home.tell(&["user", "add", "ada", "--admin"], "correct horse battery\n");
    assert!(scene.home.ask(&["user", "list"]).contains("ada"));
    let copy = scene.at("copy.db");
    scene.home.ask(&["backup", copy.to_str().expect("a path of ours")]);
    let files = owned_by_intruder(scene.state.path());
    assert_eq!(files, ["checkind.db", "copy.db"]);
    // Root's own folder is not the owner's to write.
    let refused = scene.run(&["backup", scene.loot.path().join("copy.db").to_str().expect("a path of ours")]);
    assert_eq!(refused.status.code(), Some(74));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cannot be written") && said.contains("root ran this as user 64123"), "{said}");
    scene.is_unharmed("a backup");
}

#[test]
fn the_daemon_that_root_starts_is_the_owner_of_the_folder() {
    let Some(scene) = Scene::new("checkind.db") else { return };
    let daemon = scene.home.start();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let line = |name: &str| status.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert_eq!(line("Uid:").split_whitespace().skip(1).collect::<Vec<_>>(), [&INTRUDER.to_string(); 4]);
    assert_eq!(line("Gid:").split_whitespace().skip(1).collect::<Vec<_>>(), [&GROUP.to_string(); 4]);
    assert_eq!(line("Groups:").split_whitespace().count(), 1, "{status}");
    for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
        assert_eq!(line(set).split_whitespace().nth(1), Some("0000000000000000"), "{set}");
    }
    owned_by_intruder(scene.state.path());
    daemon.stop();
    scene.is_unharmed("a daemon");
}

/// The files in a folder, all of which must be the intruder's alone.
fn owned_by_intruder(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a list") {
        let entry = entry.expect("an entry");
        let found = entry.metadata().expect("its data");
        let name = entry.file_name().into_string().expect("a name of ours");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (INTRUDER, GROUP, 0o600), "{name}");
        names.push(name);
    }
    names.sort();
    names
}
