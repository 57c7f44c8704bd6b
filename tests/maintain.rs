//! `checkind maintain`: gives the space of deleted rows back, beside a daemon that keeps taking taps.

use std::fs;

use crate::support::{
    broker::Broker,
    daemon::{Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    wait_for,
};

/// Rows of about a kilobyte.
pub(crate) const FILL: &str = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 20000)
    INSERT INTO facts (day, subject, at, digest, business_id, arrived, decision, payload)
    SELECT 1, n, n, randomblob(16), 1, 0, 0, zeroblob(1000) FROM r";

#[test]
fn a_file_shrinks_while_the_daemon_takes_taps() {
    const TAPS: u32 = 300;
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(20, &[]));
    home.ledger().execute(FILL);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    home.ledger().execute("DELETE FROM facts WHERE day = 1");
    let at = now();
    let taps = (0..TAPS).map(|number| flat_event(number, card(1 + number % 20), Way::In, at));
    let said: serde_json::Value = std::thread::scope(|scope| {
        scope.spawn(|| broker.publish_lines("flat/events", taps, 1));
        serde_json::from_str(&home.ask(&["maintain", "--json"])).expect("JSON")
    });
    let (before, after) = (said["BytesBefore"].as_u64().expect("bytes"), said["BytesAfter"].as_u64().expect("bytes"));
    assert!(before > 20_000_000 && after < 3_000_000, "{said}");
    wait_for("all taps", LIMIT, || match home.ledger().facts() {
        now if now == i64::from(TAPS) => Ok(()),
        now => Err(format!("{now}\n{}", daemon.log())),
    });
    // What is left in the log is given back, too.
    home.import(&people(21, &[]));
    let size = |name: &str| fs::metadata(home.path(name)).map_or(0, |found| found.len());
    assert!(size("checkind.db-wal") > 0);
    let both = size("checkind.db") + size("checkind.db-wal");
    let said: serde_json::Value = serde_json::from_str(&home.ask(&["maintain", "--json"])).expect("JSON");
    assert_eq!(said["BytesBefore"], both);
    assert_eq!((size("checkind.db-wal"), said["BytesAfter"].as_u64()), (0, Some(size("checkind.db"))));
    assert!(daemon.complaints().is_empty(), "{:?}", daemon.complaints());
    daemon.stop();
    assert!(fs::metadata(home.path("checkind.db")).expect("it exists").len() < 3_000_000);
    assert_eq!(home.ledger().texts("PRAGMA integrity_check"), [["ok"]]);
    assert!(home.ask(&["maintain"]).contains("Every page of the database is in use"));
}

/// A file of an earlier version can only be rewritten, which is refused while a daemon uses it.
#[test]
fn a_file_of_an_earlier_version_is_rewritten_once_while_no_daemon_runs() {
    let home = Home::new(&site(""));
    super::upgrade::make_old(&home.path("checkind.db"), 5);
    home.ask(&["migrate"]);
    home.ledger().execute(FILL);
    home.ledger().execute("DELETE FROM facts WHERE day = 1");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let refused = home.run(&["maintain"]);
    assert_eq!(refused.status.code(), Some(69));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("Stop the daemon, run `checkind maintain`, and start it again"), "{said}");
    daemon.stop();
    let said = home.ask(&["maintain"]);
    assert!(said.contains("bytes were given back"), "{said}");
    assert!(fs::metadata(home.path("checkind.db")).expect("it exists").len() < 3_000_000);
    assert_eq!(home.ledger().texts("PRAGMA integrity_check"), [["ok"]]);
    // From now on it shrinks beside a daemon.
    home.ledger().execute(FILL);
    home.ledger().execute("DELETE FROM facts WHERE day = 1");
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert!(home.ask(&["maintain"]).contains("bytes were given back"));
    daemon.stop();
}

#[test]
fn with_postgresql_there_is_nothing_to_maintain() {
    let home = Home::on("postgres://checkind@127.0.0.1/none", &site(""));
    let output = home.run(&["maintain"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("autovacuum"));
}
