//! `checkind backup`, and what a start after a crash reports about the SQLite file.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt},
};

use crate::support::{
    broker::Broker,
    daemon::{Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    disk::Disk,
    ledger::Ledger,
    wait_for,
};

#[test]
fn a_backup_during_a_stream_of_taps_is_whole_and_a_daemon_starts_on_it() {
    const TAPS: u32 = 5000;
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(20, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let at = now();
    let copy = home.path("copy.db");
    let taps = (0..TAPS).map(|number| flat_event(number, card(1 + number % 20), Way::In, at));
    let (before, after) = std::thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", taps, 1));
        wait_for("the first taps", LIMIT, || match home.ledger().facts() {
            0 => Err(daemon.log()),
            _ => Ok(()),
        });
        let before = home.ledger().facts();
        home.ask(&["backup", copy.to_str().expect("a path of ours")]);
        (before, home.ledger().facts())
    });
    wait_for("all taps", LIMIT, || match home.ledger().facts() {
        now if now == i64::from(TAPS) => Ok(()),
        now => Err(format!("{now}\n{}", daemon.log())),
    });
    assert!(daemon.complaints().is_empty(), "{:?}", daemon.complaints());
    assert_eq!(fs::metadata(&copy).expect("the file exists").permissions().mode() & 0o777, 0o600);
    let ledger = Ledger::of(&format!("sqlite:{}", copy.display()));
    let kept = ledger.facts();
    assert!((before..=after).contains(&kept), "{before} to {after}, the copy has {kept}");
    assert_eq!(ledger.texts("PRAGMA integrity_check"), [["ok"]]);
    daemon.stop();

    let restored = Home::new(&(site("") + &doors(broker.port)));
    fs::copy(&copy, restored.path("checkind.db")).expect("copied");
    let mut daemon = restored.start();
    daemon.wait_until_ready();
    assert_eq!(restored.ledger().facts(), kept);
    daemon.stop();
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_behind() {
    let home = Home::new(&site(""));
    home.import(&people(1, &[]));
    home.write("old.db", "precious");
    let old = home.path("old.db");
    let refused = home.run(&["backup", old.to_str().expect("a path of ours")]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("overwrites nothing"));
    assert_eq!(fs::read_to_string(&old).expect("the file exists"), "precious");
    assert_eq!(home.run(&["backup", "/proc/nowhere/copy.db"]).status.code(), Some(74));
    // To SQLite this looks like a full disk: no file may grow beyond 8 KiB.
    let copy = home.path("copy.db");
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\"", crate::support::daemon::BINARY];
    let failed = home.command_of(&limited, &["backup", copy.to_str().expect("a path of ours")]).output().expect("runs");
    assert_eq!(failed.status.code(), Some(69), "{}", String::from_utf8_lossy(&failed.stderr));
    let names = fs::read_dir(home.path(".")).expect("a folder").flatten().map(|entry| entry.file_name());
    let left: Vec<_> = names.filter(|name| name.to_string_lossy().contains("copy.db")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn postgresql_is_backed_up_with_pg_dump() {
    let home = Home::on("postgres://checkind@127.0.0.1:1/checkind", &site(""));
    let refused = home.run(&["backup", "copy.db"]);
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("pg_dump"));
}

#[test]
fn a_damaged_file_is_found_after_a_crash_and_a_good_end_costs_no_check() {
    const CHECKED: &str = "the database was checked and is sound";
    let home = Home::new(&site(""));
    home.import(&people(200, &[]));
    home.ledger().execute(super::maintain::FILL);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.stop();

    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert!(daemon.lines(CHECKED).is_empty(), "the last end was good");
    home.import(&people(210, &[]));
    daemon.kill();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_line(CHECKED);
    home.import(&people(220, &[]));
    daemon.kill();

    let backup = home.path("backup.db");
    home.ask(&["backup", backup.to_str().expect("a path of ours")]);
    let file = File::options().write(true).open(home.path("checkind.db")).expect("the file exists");
    // Among rows that no one reads at a start.
    let length = file.metadata().expect("it has a length").len();
    file.write_all_at(&[0xa5; 3 * 2048], length / 4096 * 2048).expect("written");
    drop(file);
    // It does not go on with a damaged file, and the next process does not either.
    for _ in 0..2 {
        let daemon = home.start();
        let said = daemon.wait_for_condition("database_unavailable");
        assert!(said.contains("the file is damaged") && said.contains("checkind backup"), "{said}");
        daemon.kill();
    }
    for side in ["checkind.db-wal", "checkind.db-shm"] {
        fs::remove_file(home.path(side)).expect("left by the kill");
    }
    fs::rename(backup, home.path("checkind.db")).expect("restored");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.stop();

    // Damage in a file that was closed well is found by the first part that reads there, and stays a condition.
    let file = File::options().write(true).open(home.path("checkind.db")).expect("the file exists");
    let length = usize::try_from(file.metadata().expect("it has a length").len()).expect("a small file");
    file.write_all_at(&vec![0xa5; length - 8192], 8192).expect("written");
    drop(file);
    let daemon = home.start();
    let said = daemon.wait_for_condition("database_unavailable");
    assert!(said.contains("the file is damaged") && said.contains("-wal and -shm"), "{said}");
    assert_eq!(daemon.get("/readyz").status, 503);
    daemon.kill();
}

#[test]
fn what_an_interrupted_backup_left_is_removed_and_what_another_is_writing_stays() {
    let home = Home::new(&site(""));
    home.import(&people(100, &[]));
    let disk = Disk::new(&home.path("."));
    let partials = || -> Vec<String> {
        let names = fs::read_dir(home.path(".")).expect("a folder").flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).filter(|name| name.contains("partial")).collect()
    };
    disk.is("hang");
    let name = |name: &str| home.path(name).display().to_string();
    let mut stuck = home.command(&["backup", &name("stuck.db")]);
    let mut stuck = stuck.envs(disk.environment()).spawn().expect("it starts");
    let partial = wait_for("a copy that waits for its disk", LIMIT, || match &partials()[..] {
        [one, _] => Ok(one.strip_suffix("-journal").unwrap_or(one).to_owned()),
        found => Err(format!("{found:?}")),
    });
    // Names of others are theirs.
    let foreign = ["film.partial-12", "x.checkind-partial-", "x.checkind-partial-1a"];
    for name in foreign {
        home.write(name, "not ours");
    }
    home.ask(&["backup", &name("second.db")]);
    // The copy that is being written, with its journal.
    assert_eq!(partials().iter().filter(|name| name.starts_with("stuck.db")).count(), 2, "{:?}", partials());
    stuck.kill().expect("it runs");
    stuck.wait().expect("it ends");
    assert!(home.path(&partial).exists());
    home.ask(&["backup", &name("third.db")]);
    let mut left = partials();
    left.sort();
    assert_eq!(left, foreign);
}
