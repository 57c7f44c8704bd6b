//! A shared database that refuses is a database that is away: nothing that it says ends the process, and nothing is lost.
//! The same for a SQLite file that cannot be used.

use std::{fs, os::unix::fs::FileExt as _, process::Command, time::Duration};

use crate::support::{
    broker::{Broker, BrokerOptions, free_port},
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, now, people, site},
    ledger::Ledger,
    pooler::grants,
    postgres::Postgres,
    wait_for,
};

/// People who use the doors.
const PEOPLE: u32 = 20;

/// Taps while one refusal lasts: more than the broker would keep for a client that does not take them.
const TAPS: u32 = 1500;

/// The login of the gateway.
const LOGIN: &str = "gateway";

/// The database of the gateway.
const DATABASE: &str = "hub";

/// Something that the server refuses for a while.
struct Refusal {
    /// What an administrator does, on the database `postgres`.
    begins: &'static [&'static str],
    /// What the owner of the tables does after that, in the database of the gateway.
    inside: &'static [&'static str],
    /// How the owner and the administrator undo it, in this order.
    ends_inside: &'static [&'static str],
    ends: &'static [&'static str],
    /// What the condition says: the server's words, and what to do.
    words: [&'static str; 2],
    /// Which of the gateways notices it.
    notices: Notices,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notices {
    /// A gateway that starts cannot open the database; one that runs cannot either.
    Both,
    /// The database opens, and the first write fails.
    Writes,
}

/// Ends every session, as an administrator does to make a change take effect.
const KICK: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'hub'";

const REFUSALS: [Refusal; 9] = [
    Refusal {
        begins: &["ALTER ROLE gateway PASSWORD 'rotated'", KICK],
        inside: &[],
        ends_inside: &[],
        ends: &["ALTER ROLE gateway PASSWORD 'first'"],
        words: ["password authentication failed for user \"gateway\"", "correct database.password_file"],
        notices: Notices::Both,
    },
    Refusal {
        begins: &["ALTER ROLE gateway NOLOGIN", KICK],
        inside: &[],
        ends_inside: &[],
        ends: &["ALTER ROLE gateway LOGIN"],
        words: ["role \"gateway\" is not permitted to log in", "allow it to log in"],
        notices: Notices::Both,
    },
    Refusal {
        begins: &["ALTER DATABASE hub ALLOW_CONNECTIONS false", KICK],
        inside: &[],
        ends_inside: &[],
        ends: &["ALTER DATABASE hub ALLOW_CONNECTIONS true"],
        words: ["database \"hub\" is not currently accepting connections", "waiting for it|nothing is lost"],
        notices: Notices::Both,
    },
    Refusal {
        begins: &[
            "ALTER DATABASE hub ALLOW_CONNECTIONS false",
            KICK,
            "ALTER DATABASE hub RENAME TO hub_old",
            "ALTER DATABASE hub_old ALLOW_CONNECTIONS true",
        ],
        inside: &[],
        ends_inside: &[],
        ends: &["ALTER DATABASE hub_old RENAME TO hub"],
        words: ["database \"hub\" does not exist", "wait if it is being restored"],
        notices: Notices::Both,
    },
    Refusal {
        begins: &[],
        inside: &["REVOKE UPDATE ON standings FROM gateway"],
        ends_inside: &["GRANT UPDATE ON standings TO gateway"],
        ends: &[],
        words: ["permission denied for table standings", "the rights that the README lists"],
        notices: Notices::Writes,
    },
    Refusal {
        begins: &[],
        inside: &["ALTER TABLE facts RENAME TO elsewhere"],
        ends_inside: &["ALTER TABLE elsewhere RENAME TO facts"],
        ends: &[],
        words: ["relation \"facts\" does not exist", "its tables do not fit this program"],
        notices: Notices::Writes,
    },
    Refusal {
        begins: &[],
        inside: &["CREATE TABLE kept AS SELECT subject, state FROM standings", "UPDATE standings SET state = '\\xff'"],
        ends_inside: &[
            "UPDATE standings SET state = kept.state FROM kept WHERE kept.subject = standings.subject",
            "DROP TABLE kept",
        ],
        ends: &[],
        words: ["a value has another form", "a value that this program does not write"],
        notices: Notices::Writes,
    },
    Refusal {
        begins: &["ALTER DATABASE hub SET default_transaction_read_only = on", KICK],
        inside: &[],
        ends_inside: &[],
        // Without ending the sessions, which keep the old default.
        ends: &["ALTER DATABASE hub RESET default_transaction_read_only"],
        words: ["in a read-only transaction", "default_transaction_read_only"],
        notices: Notices::Writes,
    },
    Refusal {
        begins: &[],
        inside: &["INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
             VALUES (999999, 'of tomorrow', true, '', 0)"],
        ends_inside: &["DELETE FROM _sqlx_migrations WHERE version = 999999"],
        ends: &[],
        words: ["999999", "newer than this program"],
        notices: Notices::Both,
    },
];

fn taps(numbers: std::ops::Range<u32>) -> Vec<String> {
    let at = now();
    numbers.map(|number| flat_event(number, card(1 + number % PEOPLE), Way::In, at)).collect()
}

/// Publishes no faster than a client reads: once its queue is full, mosquitto drops what comes faster.
fn publish(broker: &Broker, numbers: std::ops::Range<u32>) {
    let portions = numbers.step_by(100).map(|first| taps(first..first + 100));
    broker.publish_portions("flat/events", portions, Duration::from_millis(95));
}

/// Waits until the condition says this. Each text has alternatives, separated by `|`.
fn wait_for_words(daemon: &mut Daemon, words: &[&str]) {
    wait_for(&format!("a condition with {words:?}"), LIMIT, || {
        daemon.still_runs();
        let conditions = daemon.conditions();
        let said = conditions.get("database_unavailable").map(String::as_str).unwrap_or_default();
        let has = |text: &&str| text.split('|').any(|choice| said.contains(choice));
        if words.iter().all(has) { Ok(()) } else { Err(format!("{conditions:?}\n{}", daemon.log())) }
    });
}

/// Checks what the API answers while the database is away: it lives, it says that it is not ready, and its metrics work.
fn answers_meanwhile(daemon: &Daemon) {
    assert_eq!(daemon.get("/healthz").status, 200);
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/metrics").status, 200);
}

/// Checks that records cannot be read now, and that clients are told to come again.
fn records_are_away(daemon: &Daemon) {
    let answer = daemon.send("GET", "/api/spaces/checkins/1", &[("Authorization", "Basic YWRhOnBhc3M=")], "");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{answer:?}");
}

fn url(server: &Postgres) -> String {
    format!("postgres://{LOGIN}@{}/{DATABASE}", server.address())
}

/// Starts a gateway with the password of that login.
fn start(home: &Home) -> Daemon {
    home.write("password", "first");
    let file = home.path("password");
    let file = file.to_str().expect("a path of ours");
    home.start_by(&[BINARY], &[("CHECKIND__DATABASE__PASSWORD_FILE", file)])
}

/// A server with the tables of their owner, and a login with a password and the rights of the README. Returns the
/// ledger of the administrator and that of the owner.
fn prepared(server: &Postgres) -> (Ledger, Ledger) {
    let admin = Ledger::of(&server.url());
    admin.execute(&format!("CREATE DATABASE {DATABASE}"));
    let owner = server.url().replace("/postgres", &format!("/{DATABASE}"));
    Home::on(&owner, &site("")).import(&people(PEOPLE, &[]));
    admin.execute(&format!("CREATE ROLE {LOGIN} LOGIN PASSWORD 'first'"));
    server.asks_for_a_password(LOGIN);
    let owner = Ledger::of(&owner);
    for grant in grants(LOGIN) {
        owner.execute(&grant);
    }
    (admin, owner)
}

#[test]
fn a_shared_database_that_refuses_is_waited_for_and_nothing_is_lost() {
    let server = Postgres::start();
    let (admin, owner) = prepared(&server);
    let broker = Broker::start(BrokerOptions { short_queue: true, ..BrokerOptions::default() });
    let home = Home::on(&url(&server), &(site("") + &doors(broker.port)));
    let mut daemon = start(&home);
    daemon.wait_until_ready();
    publish(&broker, 0..100);
    let mut published = 100;

    for refusal in REFUSALS {
        let name = refusal.words[0];
        for statement in refusal.begins {
            admin.execute(statement);
        }
        for statement in refusal.inside {
            owner.execute(statement);
        }
        let stays_open = refusal.notices == Notices::Writes;

        // A gateway of another site starts meanwhile: its API listens at once.
        let other = Home::on(&url(&server), &site("").replace("business = 1", "business = 2"));
        let mut starting = start(&other);

        // All taps of the meantime are on this gateway's disk.
        publish(&broker, published..published + TAPS);
        published += TAPS;
        daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", published.into());
        wait_for_words(&mut daemon, &refusal.words);
        answers_meanwhile(&daemon);
        // Its own words, whatever state of the people the other site's first fold needs.
        if !name.contains("another form") {
            wait_for_words(&mut starting, &refusal.words);
            answers_meanwhile(&starting);
        }
        if !stays_open {
            records_are_away(&starting);
        }

        for statement in refusal.ends_inside {
            owner.execute(statement);
        }
        for statement in refusal.ends {
            admin.execute(statement);
        }
        daemon.wait_until_ready();
        starting.wait_until_ready();
        starting.stop();
        wait_for(&format!("all taps after {name}"), LIMIT, || {
            daemon.still_runs();
            match owner.try_facts()? {
                now if now == i64::from(published) => Ok(()),
                now => Err(format!("{now} of {published}\n{}", daemon.log())),
            }
        });
    }
    assert_eq!(owner.count("checkins"), i64::from(PEOPLE));
    assert_eq!(owner.count("checkins WHERE to_time IS NOT NULL"), 0, "a person was checked out");
    daemon.adds_up();
    daemon.stop();
}

/// Faults of the settings or of the server that a gateway finds when it starts.
#[test]
fn a_start_on_a_database_that_can_never_serve_says_why_and_waits() {
    let server = Postgres::start();
    let admin = Ledger::of(&server.url());
    let latin = "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0";
    admin.execute(&format!("CREATE DATABASE {DATABASE} {latin}"));
    let on = |address: &str, rest: &str| format!("postgres://checkind@{address}/{DATABASE}{rest}");
    let server_at = server.address();
    let port = server_at.rsplit_once(':').expect("a port").1;
    let cases = [
        (on(&server_at, ""), ["its encoding is LATIN1", "ENCODING 'UTF8'"]),
        (on(&format!("db.invalid:{port}"), ""), ["failed to lookup address", "check that it runs"]),
        (on(&server_at, "").replace(DATABASE, "other"), ["\"other\" does not exist", "create it"]),
    ];
    let homes = cases.map(|(url, words)| (Home::on(&url, &site("")), words));
    let daemons = homes.map(|(home, words)| (home.start(), home, words));
    for (mut daemon, _home, words) in daemons {
        wait_for_words(&mut daemon, &words);
        answers_meanwhile(&daemon);
        records_are_away(&daemon);
        if words[0].contains("LATIN1") {
            admin.execute(&format!("DROP DATABASE {DATABASE}"));
            admin.execute(&format!("CREATE DATABASE {DATABASE} ENCODING 'UTF8' TEMPLATE template0"));
            daemon.wait_until_ready();
        }
        daemon.stop();
    }
}

/// Without a tap, no write fails, and only the watch can tell.
#[test]
fn a_server_that_turns_read_only_at_night_is_named_and_its_end_too() {
    let server = Postgres::start();
    let (admin, _owner) = prepared(&server);
    let home = Home::on(&url(&server), &site(""));
    let mut daemon = start(&home);
    daemon.wait_until_ready();
    // It applies to the sessions that exist, too.
    admin.execute("ALTER SYSTEM SET default_transaction_read_only = on");
    admin.execute("SELECT pg_reload_conf()");
    // Not by asking `/readyz`, which asks the database itself.
    daemon.wait_for_line("condition=\"database_unavailable\"");
    wait_for_words(&mut daemon, &["in a read-only transaction", "promote it"]);
    server.write_setting("default_transaction_read_only = off");
    daemon.wait_for_line("database_unavailable is over");
    daemon.wait_until_ready();
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

/// One cause, one line. A directory that cannot be read while the database works otherwise is another cause.
#[test]
fn a_directory_is_stale_only_if_the_database_is_not_away() {
    let server = Postgres::start();
    let (admin, owner) = prepared(&server);
    let home = Home::on(&url(&server), &site(""));
    let mut daemon = start(&home);
    daemon.wait_until_ready();
    admin.execute("ALTER ROLE gateway NOLOGIN");
    admin.execute(KICK);
    wait_for_words(&mut daemon, &["is not permitted to log in", "nothing is lost"]);
    // An import that would have to be read in the middle of it.
    Home::on(&server.url().replace("/postgres", "/hub"), &site("")).import(&people(PEOPLE + 1, &[]));
    admin.execute("ALTER ROLE gateway LOGIN");
    daemon.wait_until_over("database_unavailable");
    daemon.wait_for_line("the directory has changed");
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    assert_eq!(daemon.changes_of("directory_stale"), (0, 0), "{}", daemon.log());

    owner.execute("REVOKE SELECT ON directory_version FROM gateway");
    let said = daemon.wait_for_condition("directory_stale");
    assert!(said.contains("permission denied") && said.contains("the last version stays in force"), "{said}");
    assert!(!daemon.conditions().contains_key("database_unavailable"), "{}", daemon.log());
    owner.execute("GRANT SELECT ON directory_version TO gateway");
    daemon.wait_until_over("directory_stale");
    assert_eq!(daemon.changes_of("database_unavailable"), (1, 1), "{}", daemon.log());
    daemon.stop();
}

/// Asked again and again, an idle server must not write.
#[test]
fn the_question_whether_a_write_would_pass_writes_nothing() {
    let server = Postgres::start();
    let (admin, _owner) = prepared(&server);
    let home = Home::on(&url(&server), &site(""));
    let mut daemon = start(&home);
    daemon.wait_until_ready();
    let log_position = || admin.number("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint");
    let transactions = || admin.number("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint");
    // The start may still write; from here on there are only questions.
    wait_for("a quiet server", LIMIT, || {
        let before = log_position();
        (0..3).for_each(|_| assert_eq!(daemon.get("/readyz").status, 200));
        if log_position() == before { Ok(()) } else { Err("it writes".to_owned()) }
    });
    let before = transactions();
    let asked = checkind::base::clock::Clock::system();
    let began = asked.now().boot;
    wait_for("three seconds of questions", LIMIT, || {
        assert_eq!(daemon.get("/readyz").status, 200);
        if asked.now().boot.since(began) > Duration::from_secs(3) { Ok(()) } else { Err(String::new()) }
    });
    // Hundreds of questions; the server itself may take a number or two, to analyse a table.
    assert!(transactions() <= before + 2, "{before} became {}", transactions());
    daemon.stop();
}

/// A gateway with a lease cannot know whether it may work, but it can say so.
#[test]
fn a_gateway_with_a_lease_that_starts_without_its_database_says_so_at_once() {
    let broker = Broker::plain();
    let mut server = Postgres::start();
    let more = "[lease]\nholder = \"a\"\n";
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port) + more));
    home.import(&people(PEOPLE, &[]));
    server.crash();
    let daemon = home.start();
    assert_eq!(daemon.get("/healthz").status, 200);
    assert_eq!(daemon.get("/readyz").status, 503);
    records_are_away(&daemon);
    daemon.wait_for_condition("database_unavailable");
    server.resume();
    daemon.wait_for_metric("checkind_mqtt_subscribed", "", 2);
    broker.publish_lines("flat/events", taps(0..1), 1);
    wait_for("the tap", LIMIT, || match home.ledger().try_facts()? {
        1 => Ok(()),
        now => Err(format!("{now}\n{}", daemon.log())),
    });
    daemon.stop();
}

#[test]
fn a_sqlite_file_that_cannot_be_used_is_a_condition_until_it_can() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let (file, aside) = (home.path("checkind.db"), home.path("aside.db"));
    let run = |begin: &dyn Fn(), words: &[&str], end: &dyn Fn()| {
        begin();
        let mut daemon = home.start();
        wait_for_words(&mut daemon, words);
        answers_meanwhile(&daemon);
        records_are_away(&daemon);
        end();
        daemon.wait_until_ready();
        daemon.stop();
    };
    // A clean stop leaves the whole database in this one file.
    home.start().stop();
    let back = || fs::rename(&aside, &file).expect("back");
    run(
        &|| {
            fs::rename(&file, &aside).expect("away");
            fs::write(&file, "not a database, but long enough to have a header".repeat(100)).expect("written");
        },
        &["not a database", "restore a backup made with `checkind backup`"],
        &back,
    );
    run(
        &|| {
            fs::copy(&file, &aside).expect("a copy");
            let damaged = fs::File::options().write(true).open(&file).expect("the file");
            damaged.write_all_at(&[0xa5; 2000], 100).expect("written");
        },
        &["malformed", "restore a backup"],
        &back,
    );
    run(
        &|| {
            fs::rename(&file, &aside).expect("away");
            fs::create_dir(&file).expect("a folder of that name");
        },
        &["is not an ordinary file", "remove it"],
        &|| {
            fs::remove_dir(&file).expect("removed");
            back();
        },
    );
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (999999, 'of tomorrow', true, '', 0)";
    run(&|| home.ledger().execute(newer), &["999999", "newer than this program"], &|| {
        home.ledger().execute("DELETE FROM _sqlx_migrations WHERE version = 999999");
    });
}

/// While it waits, taps stay with the broker, and a table that comes back is enough.
#[test]
fn a_table_that_is_gone_is_a_condition_until_it_is_back() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(PEOPLE, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    home.ledger().execute("ALTER TABLE facts RENAME TO elsewhere");
    broker.publish_lines("flat/events", taps(0..PEOPLE), 1);
    wait_for_words(&mut daemon, &["no such table", "does not fit the schema", "nothing is acknowledged meanwhile"]);
    assert_eq!(daemon.metric("checkind_mqtt_acknowledged_total", ""), 0);
    home.ledger().execute("ALTER TABLE elsewhere RENAME TO facts");
    daemon.wait_until_ready();
    daemon.adds_up();
    assert_eq!(home.ledger().facts(), i64::from(PEOPLE));
    daemon.stop();
}

#[test]
fn a_sqlite_disk_that_is_full_at_the_start_is_a_condition_until_there_is_room() {
    let disk = tempfile::tempdir().expect("a mount point");
    let place = disk.path().to_str().expect("a path of ours").to_owned();
    let home = Home::on(&format!("sqlite:{place}/checkind.db"), &site(""));
    // Only the daemon sees the small disk, which disappears when it ends.
    let script = "mount -t tmpfs -o size=64k,mode=700 tmpfs \"$1\" && shift && exec \"$@\"";
    let mut daemon = home.start_by(&["unshare", "--mount", "sh", "-c", script, "sh", &place, BINARY], &[]);
    wait_for_words(&mut daemon, &["full"]);
    answers_meanwhile(&daemon);
    records_are_away(&daemon);
    let mut grow = Command::new("nsenter");
    grow.args(["--mount", "--target", &daemon.pid().to_string(), "mount", "-o", "remount,size=64m", &place]);
    assert!(grow.status().expect("nsenter of util-linux").success());
    daemon.wait_until_ready();
    daemon.stop();
}

/// What is wrong in the settings themselves still ends the process: no time changes that.
#[test]
fn a_spool_that_another_process_uses_ends_the_process() {
    let address = format!("127.0.0.1:{}", free_port());
    let home = Home::on(&format!("postgres://checkind@{address}/postgres"), &site(""));
    let first = home.start();
    wait_for("the spool", LIMIT, || if home.path("spool.db").exists() { Ok(()) } else { Err(first.log()) });
    let second = home.run(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(69), "{said}");
    assert!(said.contains("another checkind uses the spool"), "{said}");
    first.stop();
}
