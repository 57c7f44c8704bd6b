//! `checkind import` as a process: its output, that it is all or nothing, and its effect on the running daemon.

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

/// What an import prints on both streams, with its exit code.
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
    assert!(!home.path("checkind.db").exists(), "a dry run creates no database");
    insta::assert_snapshot!(import(&home, &["site.json"]), @r"
    4 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    let before = (documents(&home), home.ledger().number("SELECT version FROM directory_version"));
    insta::assert_snapshot!(import(&home, &["site.json"]), @r"
    0 added, 0 changed, 0 archived, 4 unchanged
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["people.csv", "--dry-run"]), @r"
    warning: card 8165538 belongs to Ada Lovelace (coworker 1, people.csv:2) and Eve (coworker 3, people.csv:4): it checks no one in until only one of them has it
    add     coworker 3 Eve
    change  coworker 1 Ada Lovelace: AccessCardId, FullName
    1 would be added, 1 would be changed, 0 would be archived, 1 unchanged; nothing was written
    exit 0
    ");
    home.write("one.csv", "id,full_name\n2,Robert\n");
    insta::assert_snapshot!(import(&home, &["--replace=all", "--dry-run", "--json", "one.csv"]), @r#"
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
      "PeopleLosingCredentials": 0,
      "Unchanged": 0,
      "Warnings": []
    }
    exit 0
    "#);
    assert_eq!((documents(&home), home.ledger().number("SELECT version FROM directory_version")), before);
}

#[test]
fn all_faults_of_all_files_are_listed_at_once_and_nothing_is_imported() {
    let home = home(&[
        ("site.json", r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "MacAddresses": "nonsense"}], "Team": []}"#),
        ("people.csv", "id,full_name,macs\n2,Bob,3c:22:fb:00:00:01\n3,Eve,ff:ff:ff:ff:ff:ff\n"),
        ("good.csv", "id,full_name\n4,Dan\n"),
    ]);
    home.write_bytes("latin.csv", b"id,full_name\n5,J\xf6rg\n");
    insta::assert_snapshot!(import(&home, &["good.csv", "site.json", "people.csv", "latin.csv"]), @r#"
    checkind: nothing was imported
    site.json: Coworkers[0].MacAddresses: "nonsense" is not a MAC address; write it as 3c:22:fb:01:02:03, 3c-22-fb-01-02-03, 3c22.fb01.0203 or 3c22fb010203
    site.json: Team: there is no such list; the lists are Businesses, Teams, Tariffs, TimePasses, Coworkers, CoworkerTimePasses
    people.csv:3: macs: ff:ff:ff:ff:ff:ff cannot be the address of a single device
    latin.csv: not UTF-8; save it as "CSV UTF-8" or JSON in UTF-8
    exit 65
    "#);
    assert_eq!(home.ledger().count("directory"), 0);
    insta::assert_snapshot!(import(&home, &["absent.json"]), @r"
    checkind: cannot read absent.json: No such file or directory (os error 2)
    exit 74
    ");
}

#[test]
fn people_left_out_of_an_import_are_refused_as_archived_until_the_next_import() {
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
    home.ask(&["import", "--replace=all", one.to_str().expect("a path of ours")]);
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
    // At another door, because within five seconds a second tap at the same door is no new sighting.
    broker.publish("board/events", board_event(1, card(2), Way::In, next_second()).as_bytes(), 1);
    wait_for_row("checkins WHERE coworker_id = 2");
    daemon.stop();
}

/// Locks that report slots, a camera that reports names, and a keypad with its own users.
fn locks(port: u16) -> String {
    let mut text = format!("[mqtt]\nurl = \"mqtt://127.0.0.1:{port}\"\nclient_id = \"checkind-test\"\n");
    for (name, kind, scope) in
        [("locks", "slot", ""), ("safe", "slot", "scope = \"vault\""), ("cam", "name", ""), ("pad", "user", "")]
    {
        writeln!(
            text,
            "[[source]]\nname = \"{name}\"\ntopics = [\"{name}/{{door}}\"]\nfield.card = \"/who\"\n\
             key.door = \"{{door}}\"\ncard.type = \"{kind}\"\n{}rule = [{{ kind = \"granted\" }}]",
            scope.replace("scope", "card.scope") + "\n"
        )
        .expect("writing to a String cannot fail");
    }
    text + "[[door]]\nmatch = \"*\"\non_in = \"check_in\"\non_out = \"check_out\"\n"
}

#[test]
fn slots_users_and_names_count_in_their_scope_and_are_no_cards() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &locks(broker.port)));
    home.write(
        "site.json",
        r#"{"Coworkers": [
            {"Id": 1, "FullName": "Ada \u202eevil\u0007", "Slots": "locks/back/3"},
            {"Id": 2, "FullName": "Bob", "Slots": "locks/front/3"},
            {"Id": 3, "FullName": "Eve", "KeyFobNumber": "5", "AccessCardId": "eve,9", "AccessPincode": "6"},
            {"Id": 4, "FullName": "Dan", "AccessNames": "cam/Dan Example"},
            {"Id": 5, "FullName": "Fay", "AccessUsers": "pad/17"}
        ]}"#,
    );
    home.write("people.csv", "id,full_name,slots\n6,Gus,vault/1;locks/back/9\n");
    let files = ["site.json", "people.csv"].map(|name| home.path(name));
    home.ask(&["import", files[0].to_str().expect("a path"), files[1].to_str().expect("a path")]);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let tap = |topic: &str, who: &str| broker.publish(topic, format!(r#"{{"who":"{who}"}}"#).as_bytes(), 1);
    let (known, strange) = (
        [
            ("locks/back", "3"),
            ("locks/front", "3"),
            ("safe/office", "1"),
            ("cam/hall", "dan example"),
            ("pad/hall", "17"),
        ],
        [
            ("locks/front", "5"),
            ("locks/side", "3"),
            ("locks/side", "6"),
            ("safe/office", "9"),
            ("cam/hall", "eve"),
            ("pad/hall", "9"),
            ("pad/side", "Fay"),
        ],
    );
    for (topic, who) in known.iter().chain(&strange) {
        tap(topic, who);
    }
    daemon.wait_for_metric("checkind_mqtt_events_total", "", 12);
    daemon.adds_up();
    let ledger = home.ledger();
    let in_now = ledger.texts("SELECT CAST(coworker_id AS TEXT) FROM checkins ORDER BY coworker_id");
    assert_eq!(in_now.concat(), ["1", "2", "4", "5", "6"], "{}", daemon.log());
    assert_eq!(ledger.count("failed_checkins WHERE code = 'unrecognised_card' AND coworker_id IS NULL"), 7);

    // The commands accept and print them in the form that an import uses.
    assert!(home.ask(&["admit", "locks/back/3"]).starts_with("Ada evil (coworker 1), by door, "));
    assert!(home.ask(&["admit", "Cam/Dan Example"]).contains("refused, unrecognised_card"), "scopes keep their case");
    let printed = home.ask(&["explain", "locks/front/5"]);
    assert!(printed.contains("door front of locks: slot locks/front/5, granted"), "{printed}");
    let printed = home.ask(&["explain", "4"]);
    assert!(printed.contains("name cam/dan example, granted"), "{printed}");
    // Text in messages cannot reverse a line of the log.
    broker.publish("locks/ba\u{202e}ck", b"?", 1);
    daemon.wait_for_line("a message was not understood");
    assert!(!daemon.log().contains('\u{202e}'), "{}", daemon.log());
    // Names are cleaned when printed, and kept as they are in the record.
    let printed = home.ask(&["who"]);
    assert!(printed.contains("Ada evil  "), "{printed:?}");
    assert_eq!(ledger.count("checkins WHERE coworker_full_name = 'Ada \u{202e}evil\u{7}'"), 1);
    daemon.stop();
}

#[test]
fn what_two_people_have_is_said_at_every_import() {
    let json = r#"{"Coworkers": [
        {"Id": 1, "FullName": "Ada", "AccessCardId": "8165538,85CCC7", "AccessPincode": "4711", "Slots": "locks/back/3"},
        {"Id": 2, "FullName": "Bob", "KeyFobNumber": 8165538, "AccessPincode": 4711, "Slots": "locks/back/03"},
        {"Id": 3, "FullName": "Eve", "AccessCardId": "8768711, 10", "MacAddresses": "3c:22:fb:00:00:01"},
        {"Id": 4, "FullName": "Dan", "AccessCardId": "16", "MacAddresses": "3C-22-FB-00-00-01"}
    ]}"#;
    let home = home(&[("site.json", json), ("more.csv", "id,full_name,cards\n5,Fay,8165538\n")]);
    insta::assert_snapshot!(import(&home, &["site.json"]), @r"
    warning: a PIN belongs to Ada (coworker 1, site.json: Coworkers[0]) and Bob (coworker 2, site.json: Coworkers[1]): it checks no one in until only one of them has it
    warning: card 8165538 belongs to Ada (coworker 1, site.json: Coworkers[0]) and Bob (coworker 2, site.json: Coworkers[1]): it checks no one in until only one of them has it
    warning: card 8768711, in one spelling or another, belongs to Ada (coworker 1, site.json: Coworkers[0]) and Eve (coworker 3, site.json: Coworkers[2]): it checks no one in until only one of them has it
    warning: device 3c:22:fb:00:00:01 belongs to Eve (coworker 3, site.json: Coworkers[2]) and Dan (coworker 4, site.json: Coworkers[3]): it checks no one in until only one of them has it
    warning: slot locks/back/3 belongs to Ada (coworker 1, site.json: Coworkers[0]) and Bob (coworker 2, site.json: Coworkers[1]): it checks no one in until only one of them has it
    4 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["more.csv"]), @r"
    warning: a PIN belongs to Ada (coworker 1, stored) and Bob (coworker 2, stored): it checks no one in until only one of them has it
    warning: card 8165538 belongs to Ada (coworker 1, stored), Bob (coworker 2, stored) and Fay (coworker 5, more.csv:2): it checks no one in until only one of them has it
    warning: card 8768711, in one spelling or another, belongs to Ada (coworker 1, stored) and Eve (coworker 3, stored): it checks no one in until only one of them has it
    warning: device 3c:22:fb:00:00:01 belongs to Eve (coworker 3, stored) and Dan (coworker 4, stored): it checks no one in until only one of them has it
    warning: slot locks/back/3 belongs to Ada (coworker 1, stored) and Bob (coworker 2, stored): it checks no one in until only one of them has it
    1 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
}

#[test]
fn importing_again_keeps_what_it_does_not_say_and_clears_what_it_says_is_nothing() {
    let home = home(&[
        (
            "site.json",
            r#"{"TimePasses": [{"Id": 1, "Name": "Day", "AllowNetworkCheckIn": false}],
                "Coworkers": [
                {"Id": 1, "FullName": "Ada", "AccessCardId": "8165538", "AccessPincode": "4711", "Nickname": "A",
                 "MacAddresses": "3c:22:fb:00:00:01", "Slots": "locks/back/3", "AccessNames": "cam/Ada"},
                {"Id": 2, "FullName": "Bob", "KeyFobNumber": 77, "Archived": true},
                {"Id": 3, "FullName": "Eve", "AccessCardId": "99,8165540", "MacAddresses": "3C-22-FB-00-00-03"}]}"#,
        ),
        // As in a list of the platform, and as a table.
        (
            "list.json",
            r#"{"TimePasses": [{"Id": 1, "Name": "Day", "AllowNetworkCheckin": false}],
                "Coworkers": [{"Id": 1, "FullName": "Ada", "Active": true}, {"Id": 2, "FullName": "Bob"}, {"Id": 3}]}"#,
        ),
        ("list.csv", "id,full_name,active\n1,Ada,\n3,Eve,\n"),
    ]);
    import(&home, &["site.json"]);
    insta::assert_snapshot!(import(&home, &["list.json", "list.csv"]), @r#"
    warning: 1 person in the files is still archived; "Archived": false brings them back
    0 added, 2 changed, 0 archived, 2 unchanged; a running daemon uses it within five seconds
    exit 0
    "#);
    let kept = documents(&home).concat().concat();
    for value in ["8165538", "sha256:", "3c:22:fb:00:00:01", "locks/back/3", "cam/Ada", "Nickname", "8165540", "77"] {
        assert!(kept.contains(value), "{value} in {kept}");
    }
    // Null and empty values clear a field. Another spelling of the same card does not count as losing it. A new value
    // replaces the old one.
    home.write(
        "less.json",
        r#"{"Coworkers": [
            {"Id": 1, "AccessCardId": null, "AccessPincode": "", "Slots": "locks/back/03"},
            {"Id": 3, "AccessCardId": "8165540", "MacAddresses": "3c22fb000003", "KeyFobNumber": "99"}]}"#,
    );
    home.write("less.csv", "id,macs\n1,3c:22:fb:00:00:09\n");
    insta::assert_snapshot!(import(&home, &["less.json", "less.csv", "--dry-run"]), @r"
    change  coworker 1 Ada: AccessCardId, AccessPincode, MacAddresses, Slots; loses a credential
    change  coworker 3 Eve: AccessCardId, KeyFobNumber, MacAddresses
    0 would be added, 2 would be changed, 0 would be archived, 0 unchanged; 1 person loses a credential; nothing was written
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["less.json", "less.csv"]), @r"
    0 added, 2 changed, 0 archived, 0 unchanged; 1 person loses a credential; a running daemon uses it within five seconds
    exit 0
    ");
    let kept = documents(&home).concat().concat();
    assert!(!kept.contains("8165538") && !kept.contains("sha256:") && kept.contains("3c:22:fb:00:00:09"), "{kept}");
    // Two files that each contain a part are one import.
    home.write("one.json", r#"{"Coworkers": [{"Id": 9, "FullName": "Zoe", "AccessCardId": "1234567"}]}"#);
    home.write("two.json", r#"{"Coworkers": [{"Id": 9, "MacAddresses": "3c:22:fb:00:00:07"}]}"#);
    home.write("three.json", r#"{"Coworkers": [{"Id": 10, "MacAddresses": "3c:22:fb:00:00:08"}]}"#);
    insta::assert_snapshot!(import(&home, &["one.json", "two.json", "three.json"]), @r"
    checkind: nothing was imported
    three.json: Coworkers[0].FullName: required, because there is no coworker with the id 10 yet
    exit 65
    ");
    insta::assert_snapshot!(import(&home, &["one.json", "two.json"]), @r"
    1 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    let kept = documents(&home).concat().concat();
    assert!(kept.contains("1234567") && kept.contains("3c:22:fb:00:00:07"), "{kept}");
}

#[test]
fn what_was_assigned_by_hand_is_not_an_imports_to_take() {
    let home = Home::new(&site(""));
    home.write("site.json", r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "AccessCardId": "8165538"}]}"#);
    home.write(
        "none.json",
        r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "AccessCardId": null, "MacAddresses": ""}]}"#,
    );
    home.write("brings.json", r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "ByHand": {"AccessCardId": "1"}}]}"#);
    import(&home, &["site.json"]);
    home.ledger().execute(
        "UPDATE directory SET document = '{\"Id\":1,\"FullName\":\"Ada\",\"AccessCardId\":\"8165538\",\
         \"ByHand\":{\"AccessCardId\":\"7777777\",\"MacAddresses\":\"3c:22:fb:00:00:01\"}}' WHERE id = 1",
    );
    insta::assert_snapshot!(import(&home, &["none.json"]), @r"
    0 added, 1 changed, 0 archived, 0 unchanged; 1 person loses a credential; a running daemon uses it within five seconds
    exit 0
    ");
    assert!(home.ask(&["admit", "7777777"]).starts_with("Ada (coworker 1), by door"));
    assert!(home.ask(&["admit", "3c:22:fb:00:00:01"]).starts_with("Ada (coworker 1), by network"));
    assert!(home.ask(&["admit", "8165538"]).starts_with("refused, unrecognised_card"));
    insta::assert_snapshot!(import(&home, &["brings.json"]), @r"
    checkind: nothing was imported
    brings.json: Coworkers[0].ByHand: an import cannot set what was assigned by hand; leave it out
    exit 65
    ");
}

#[test]
fn replace_asks_before_it_archives_more_than_a_tenth_of_the_people() {
    let people = |ids: std::ops::RangeInclusive<u32>| {
        let rows = ids.map(|id| format!("{id},Member {id}"));
        [String::from("id,full_name")].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    };
    let home = home(&[("all.csv", &people(1..=20)), ("most.csv", &people(1..=18)), ("part.csv", &people(1..=16))]);
    import(&home, &["all.csv"]);
    insta::assert_snapshot!(import(&home, &["--replace", "most.csv"]), @r"
    0 added, 0 changed, 2 archived, 18 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    let before = documents(&home);
    insta::assert_snapshot!(import(&home, &["--replace", "part.csv", "--dry-run"]), @r"
    archive coworker 17 Member 17
    archive coworker 18 Member 18
    0 would be added, 0 would be changed, 2 would be archived, 16 unchanged; this archives 2 of 18 people, more than a tenth: it needs --replace=all; nothing was written
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["--replace", "part.csv"]), @r"
    checkind: nothing was imported: --replace would archive 2 of 18 people, more than a tenth; list them with --dry-run, then use --replace=all if that is intended
    exit 65
    ");
    assert_eq!(documents(&home), before);
    insta::assert_snapshot!(import(&home, &["--replace=all", "part.csv"]), @r"
    0 added, 0 changed, 2 archived, 16 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    // People archived by one import return with the next import that contains them, in either format.
    home.write("back.json", r#"{"Coworkers": [{"Id": 19, "FullName": "Member 19"}]}"#);
    home.write("back.csv", "id\n20\n");
    insta::assert_snapshot!(import(&home, &["back.json", "back.csv"]), @r"
    0 added, 2 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
    assert_eq!(home.ledger().number("SELECT count(*) FROM directory WHERE archived"), 2);
    assert_eq!(home.ledger().number("SELECT count(*) FROM directory WHERE document LIKE '%LeftOut%'"), 2);
}

#[test]
fn what_spreadsheets_make_of_cards_is_undone_or_refused() {
    let broken = "id,full_name,cards\n1,Ada,1.23457E+09\n2,Bob,\"8,165,538\"\n3,Eve,8165540\n";
    let json = r#"{"Coworkers": [{"Id": 4, "FullName": "Dan", "AccessCardId": 1.23457E+09, "KeyFobNumber": "1.23457E+09"},
        {"Id": 5, "FullName": "Fay", "AccessPincode": 4.711E+05, "AccessCardId": "8,165,538"}]}"#;
    let home = Home::new(&site(""));
    home.write("broken.csv", broken);
    home.write("broken.json", json);
    insta::assert_snapshot!(import(&home, &["broken.csv", "broken.json"]), @r#"
    checkind: nothing was imported
    broken.csv:2: cards: "1.23457E+09" is a number that lost digits in a spreadsheet; format the column as text, enter the number again and export again
    broken.csv:3: cards: "8,165,538" is either one number with thousands separators or several cards; format the column as text and write ", " between cards
    broken.json: Coworkers[0].AccessCardId: "1.23457E+09" is a number that lost digits in a spreadsheet; format the column as text, enter the number again and export again
    broken.json: Coworkers[0].KeyFobNumber: "1.23457E+09" is a number that lost digits in a spreadsheet; format the column as text, enter the number again and export again
    broken.json: Coworkers[1].AccessCardId: "8,165,538" is either one number with thousands separators or several cards; format the column as text and write ", " between cards
    broken.json: Coworkers[1].AccessPincode: the value is a number that lost digits in a spreadsheet; format the column as text, enter the number again and export again
    exit 65
    "#);
    assert_eq!(home.ledger().count("directory"), 0);

    // Files as Excel and LibreOffice write them, with their separators and encodings.
    home.write(
        "excel.csv",
        "sep=;\r\nID;Full Name;Phone;Active;Cards;Company\r\n1;Ada;+44 1;;\"=\"\"0012345678\"\"\";X\r\n2;Bob;;;8165538.0;\r\n3;Eve;;no;'0012;\r\n",
    );
    let utf16: Vec<u8> =
        "\u{feff}id\tcards\tfull_name\r\n7\t1234567\tZoë\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    home.write_bytes("unicode.txt", &utf16);
    home.write("numbers.json", r#"{"Coworkers": [{"Id": 4, "FullName": "Dan", "AccessCardId": 8165541.0, "KeyFobNumber": 12345678901234567890123}]}"#);
    insta::assert_snapshot!(import(&home, &["excel.csv", "unicode.txt", "numbers.json"]), @r#"
    warning: excel.csv:2: 2 columns are ignored: "Phone", "Company"; the columns that are read are id,full_name,email,active,tariff,teams,cards,macs,slots
    5 added, 0 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    "#);
    for (card, name) in [
        ("0012345678", "Ada"),
        ("8165538", "Bob"),
        ("0012", "Eve"),
        ("8165541", "Dan"),
        ("12345678901234567890123", "Dan"),
        ("1234567", "Zoë"),
    ] {
        let printed = home.ask(&["admit", card]);
        assert!(printed.starts_with(&format!("{name} (coworker")), "{card}: {printed}");
    }
    // An empty field leaves `active` unchanged.
    import(&home, &["excel.csv"]);
    home.write("again.csv", "id,active\n3,\n1,\n");
    import(&home, &["again.csv"]);
    assert!(home.ask(&["admit", "3"]).contains("coworker_inactive"));
    assert!(home.ask(&["admit", "1"]).contains("let in"));
    // Names are cleaned only on output.
    home.write("odd.json", r#"{"Coworkers": [{"Id": 8, "FullName": "Eve\u202e\u0007 X", "AccessCardId": "8165549"}]}"#);
    let printed = import(&home, &["odd.json", "--dry-run"]);
    assert!(printed.starts_with("add     coworker 8 Eve X\n"), "{printed:?}");
    import(&home, &["odd.json"]);
    assert!(home.ask(&["admit", "8165549"]).starts_with("Eve X (coworker 8), "));
    assert!(documents(&home).concat().concat().contains("Eve\u{202e}\\u0007 X"));
}

/// A table of this many people, each with a card and a device.
fn table(people: u32, word: &str) -> String {
    let mut text = "id,full_name,email,cards,macs\n".to_owned();
    for id in 1..=people {
        let [_, b, c, d] = id.to_be_bytes();
        writeln!(text, "{id},{word} {id},member{id}@example.com,{},3c:22:fb:{b:02x}:{c:02x}:{d:02x}", 8_000_000 + id)
            .expect("writing to a String cannot fail");
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
    // Once pages of the open transaction are in the write-ahead log, the import is in the middle of writing.
    let wal = home.path("checkind.db-wal");
    wait_for("the import to write", LIMIT, || match fs::metadata(&wal).map(|log| log.len()) {
        Ok(length) if length > 1 << 20 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let gone = child.try_wait().expect("it is ours");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    assert_eq!(gone, None, "the import ended before it could be killed");
    assert_eq!(documents(&home), before);
    insta::assert_snapshot!(import(&home, &["old.csv"]), @r"
    0 added, 0 changed, 0 archived, 100 unchanged
    exit 0
    ");
    insta::assert_snapshot!(import(&home, &["new.csv"]), @r"
    39900 added, 100 changed, 0 archived, 0 unchanged; a running daemon uses it within five seconds
    exit 0
    ");
}
