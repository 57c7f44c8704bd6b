//! `checkind import` as a process: what it says, that it is all or nothing, and what the running daemon makes of it.

use std::{fmt::Write as _, fs, process::Stdio};

use crate::support::{
    broker::Broker,
    daemon::{Home, LIMIT, Way, board_event, card, doors, flat_event, next_second, people, site},
    wait_for,
};

const SITE: &str = r#"{
    "Businesses": [{"Id": 1, "Name": "Hub One"}],
    "Tariffs": [{"Id": 5, "Name": "Full time"}],
    "Coworkers": [
        {"Id": 1, "FullName": "Ada", "AccessCardId": "8165538", "AccessPincode": "4711", "TariffId": 5},
        {"Id": 2, "FullName": "Bob", "MacAddresses": "3c:22:fb:00:00:01"}
    ]
}"#;

/// A home with these files.
fn home(files: &[(&str, &str)]) -> Home {
    let home = Home::new("");
    for (name, text) in files {
        home.write(name, text);
    }
    home
}

/// What an import prints, on either stream, with its exit code.
fn import(home: &Home, arguments: &[&str]) -> String {
    let run = home.command(&[&["import"][..], arguments].concat()).current_dir(home.path(".")).output();
    let run = run.expect("the binary starts");
    let code = run.status.code().expect("it was not killed");
    format!("{}{}exit {code}", String::from_utf8_lossy(&run.stderr), String::from_utf8_lossy(&run.stdout))
}

fn documents(home: &Home) -> Vec<Vec<String>> {
    home.ledger().texts("SELECT kind, CAST(id AS TEXT), document, updated_on FROM directory ORDER BY kind, id")
}

#[test]
fn a_dry_run_says_what_would_change_and_writes_nothing() {
    let table = "id,full_name,cards,macs\n1,Ada Lovelace,8165538;4242,\n2,Bob,,3C-22-FB-00-00-01\n3,Eve,8165538,\n";
    let home = home(&[("site.json", SITE), ("people.csv", table)]);
    insta::assert_snapshot!(import(&home, &["site.json", "--dry-run"]), @r"
    add     business 1 Hub One
    add     plan 5 Full time
    add     coworker 1 Ada
    add     coworker 2 Bob
    4 would be added, 0 would be changed, 0 would be archived, 0 unchanged; nothing was written
    exit 0
    ");
    assert_eq!(home.ledger().count("directory"), 0);
    insta::assert_snapshot!(import(&home, &["site.json"]), @r"
    4 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within two seconds
    exit 0
    ");
    let before = (documents(&home), home.ledger().number("SELECT version FROM directory_version"));
    insta::assert_snapshot!(import(&home, &["site.json"]), @r"
    0 added, 0 changed, 0 archived, 4 unchanged
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["people.csv", "--dry-run"]), @r"
    warning: people.csv:4: cards: the first value is also claimed by people.csv:2: cards; it checks nobody in until only one has it
    add     coworker 3 Eve
    change  coworker 1 Ada Lovelace: AccessCardId, FullName
    1 would be added, 1 would be changed, 0 would be archived, 1 unchanged; nothing was written
    exit 0
    ");
    home.write("one.csv", "id,full_name\n2,Robert\n");
    insta::assert_snapshot!(import(&home, &["--replace", "--dry-run", "--json", "one.csv"]), @r#"
    {
      "Added": [],
      "Archived": [
        {
          "Id": 1,
          "Kind": "Coworkers",
          "Name": "Ada"
        }
      ],
      "Changed": [
        {
          "Fields": [
            "FullName"
          ],
          "Id": 2,
          "Kind": "Coworkers",
          "Name": "Robert"
        }
      ],
      "DryRun": true,
      "Unchanged": 0,
      "Warnings": []
    }
    exit 0
    "#);
    assert_eq!((documents(&home), home.ledger().number("SELECT version FROM directory_version")), before);
}

#[test]
fn all_faults_of_all_files_are_told_at_once_and_nothing_is_imported() {
    let home = home(&[
        ("site.json", r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "MacAddresses": "nonsense"}], "Team": []}"#),
        ("people.csv", "id,full_name,macs\n2,Bob,3c:22:fb:00:00:01\n3,Eve,ff:ff:ff:ff:ff:ff\n"),
        ("good.csv", "id,full_name\n4,Dan\n"),
    ]);
    home.write_bytes("latin.csv", b"id,full_name\n5,J\xf6rg\n");
    insta::assert_snapshot!(import(&home, &["good.csv", "site.json", "people.csv", "latin.csv"]), @r#"
    checkind: nothing was imported
    site.json: Coworkers[0].MacAddresses: "nonsense" is not a MAC address; write it as 3c:22:fb:01:02:03, 3c-22-fb-01-02-03, 3c22.fb01.0203 or 3c22fb010203
    site.json: Team: no such list; there are Businesses, Teams, Tariffs, TimePasses, Coworkers, CoworkerTimePasses
    people.csv:3: macs: ff:ff:ff:ff:ff:ff cannot be the address of one device
    latin.csv: not UTF-8; save it as "CSV UTF-8" or JSON in UTF-8
    exit 65
    "#);
    assert_eq!(home.ledger().count("directory"), 0);
    insta::assert_snapshot!(import(&home, &["absent.json"]), @r"
    checkind: absent.json cannot be read: No such file or directory (os error 2)
    exit 74
    ");
}

#[test]
fn whom_an_import_leaves_out_is_refused_as_archived_and_comes_back_with_the_next() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(2, &[]));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let wait_for_row = |rows: &str| {
        wait_for(rows, LIMIT, || if home.ledger().count(rows) == 1 { Ok(()) } else { Err(daemon.log()) });
    };
    home.write("one.json", &people(1, &[]).to_string());
    let one = home.path("one.json");
    home.ask(&["import", "--replace", one.to_str().expect("a path of ours")]);
    wait_for("the directory to be loaded", LIMIT, || match daemon.lines("the directory has changed").len() {
        1 => Ok(()),
        _ => Err(daemon.log()),
    });
    broker.publish("flat/events", flat_event(1, card(2), Way::In, next_second()).as_bytes(), 1);
    wait_for_row("failed_checkins WHERE code = 'coworker_archived' AND coworker_id = 2");
    assert_eq!(home.ledger().count("checkins"), 0);

    home.write("two.csv", "id\n2\n");
    let two = home.path("two.csv");
    home.ask(&["import", two.to_str().expect("a path of ours")]);
    wait_for("the directory to be loaded", LIMIT, || match daemon.lines("the directory has changed").len() {
        2 => Ok(()),
        _ => Err(daemon.log()),
    });
    // At another door: a second tap at the same one is no new sighting for five seconds.
    broker.publish("board/events", board_event(1, card(2), Way::In, next_second()).as_bytes(), 1);
    wait_for_row("checkins WHERE coworker_id = 2");
    daemon.stop();
}

/// A table of this many people, with a card and a device each.
fn table(people: u32, word: &str) -> String {
    let mut text = "id,full_name,email,cards,macs\n".to_owned();
    for id in 1..=people {
        let [_, b, c, d] = id.to_be_bytes();
        writeln!(text, "{id},{word} {id},member{id}@example.com,{},3c:22:fb:{b:02x}:{c:02x}:{d:02x}", 8_000_000 + id)
            .expect("writing to a String");
    }
    text
}

#[test]
fn an_import_that_is_killed_half_way_leaves_the_old_directory_whole() {
    const PEOPLE: u32 = 40_000;
    let home = home(&[("old.csv", &table(100, "Old")), ("new.csv", &table(PEOPLE, "New"))]);
    import(&home, &["old.csv"]);
    let before = documents(&home);
    let mut command = home.command(&["import", "new.csv"]);
    let mut child = command.current_dir(home.path(".")).stdout(Stdio::null()).spawn().expect("the binary starts");
    // Pages of the open transaction are in the log already: it is in the middle of writing.
    let wal = home.path("checkind.db-wal");
    wait_for("the import to write", LIMIT, || match fs::metadata(&wal).map(|log| log.len()) {
        Ok(length) if length > 1 << 20 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let gone = child.try_wait().expect("it is ours");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(gone, None, "it was done before it could be killed");
    assert_eq!(documents(&home), before);
    insta::assert_snapshot!(import(&home, &["old.csv"]), @r"
    0 added, 0 changed, 0 archived, 100 unchanged
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["new.csv"]), @r"
    39900 added, 100 changed, 0 archived, 0 unchanged; a running daemon uses it within two seconds
    exit 0
    ");
}
