//! Imports over a stored directory: what they change, and what they refuse.

use super::*;

const STORED: &str = r#"{
    "Businesses": [{"Id": 1, "Name": "Hub One"}],
    "Tariffs": [{"Id": 5, "Name": "Full time"}, {"Id": 6, "Name": "Part time"}],
    "Teams": [{"Id": 8, "Name": "Rocket"}],
    "Coworkers": [
        {"Id": 1, "FullName": "Ada", "AccessCardId": 77, "MacAddresses": "3C-22-FB-00-00-01", "Nickname": "A",
         "AccessPincode": "4711", "TariffId": 5, "Teams": [{"Id": 8}]},
        {"Id": 2, "FullName": "Bob", "Archived": true, "AccessCardId": "88"},
        {"Id": 3, "FullName": "Eve", "AccessCardId": "99"}
    ]
}"#;

#[test]
fn a_table_changes_what_it_has_columns_for() {
    let changed =
        told(Replace::No, &[("people.csv", "id,cards,macs,tariff,teams\n1,77,3c22fb000001,full TIME,Rocket\n")]);
    insta::assert_snapshot!(changed, @"unchanged 1");
    let changed = told(
        Replace::No,
        &[("people.csv", "id,full_name,email,tariff,cards\n1,Ada,a@example.com,Part time,\n2,Bob,,,88\n9,Zoe,,,5;6\n")],
    );
    insta::assert_snapshot!(changed, @r#"
    added Coworkers 9 Zoe
    changed Coworkers 1 Ada: AccessCardId, Email, TariffId, TariffName (loses a credential)
    changed Coworkers 2 Bob: Archived
    unchanged 0
    1: {"AccessCardId":null,"AccessPincode":"sha256:…","Email":"a@example.com","FullName":"Ada","Id":1,"MacAddresses":"3C-22-FB-00-00-01","Nickname":"A","TariffId":6,"TariffName":"Part time","Teams":[{"Id":8}]}
    2: {"AccessCardId":"88","Archived":false,"Email":null,"FullName":"Bob","Id":2}
    9: {"AccessCardId":"5,6","Email":null,"FullName":"Zoe","Id":9}
    "#);
}

#[test]
fn a_later_file_comes_on_top_of_an_earlier_one() {
    let json = r#"{"Tariffs": [{"Id": 7, "Name": "Night"}], "Coworkers": [{"Id": 9, "FullName": "Zoe", "KeyFobNumber": "4"}]}"#;
    let changed = told(Replace::No, &[("site.json", json), ("people.csv", "id,tariff,active\n9,Night,no\n")]);
    insta::assert_snapshot!(changed, @r#"
    added Tariffs 7 Night
    added Coworkers 9 Zoe
    unchanged 0
    7: {"Id":7,"Name":"Night"}
    9: {"Active":false,"FullName":"Zoe","Id":9,"KeyFobNumber":"4","TariffId":7,"TariffName":"Night"}
    "#);
}

#[test]
fn what_is_missing_is_archived_of_the_kinds_that_the_files_hold() {
    let json = r#"{"Teams": [], "Coworkers": [{"Id": 3, "FullName": "Eve", "AccessCardId": "99"}]}"#;
    insta::assert_snapshot!(told(Replace::All, &[("site.json", json)]), @r#"
    archived Coworkers 1 Ada
    unchanged 1
    1: {"AccessCardId":77,"AccessPincode":"sha256:…","Archived":true,"FullName":"Ada","Id":1,"LeftOutByImport":true,"MacAddresses":"3C-22-FB-00-00-01","Nickname":"A","TariffId":5,"Teams":[{"Id":8}]}
    "#);
    insta::assert_snapshot!(told(Replace::No, &[("site.json", json)]), @"unchanged 1");
}

#[test]
fn what_nothing_defines_is_a_fault_with_its_path() {
    let json = r#"{
        "Teams": [{"Id": 9, "Name": "rocket", "TeamMembers": [1, 44]}],
        "Coworkers": [
            {"Id": 4, "FullName": "Dan", "TariffId": 50, "Teams": [8, 80], "Businesses": [{"Id": 1}, {"Id": 2}]},
            {"Id": 5, "FullName": "Fay", "InvoicingBusinessId": 3}
        ],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 1, "TimePassId": 1}, {"Id": 2, "CoworkerId": 45, "TimePassId": 1}]
    }"#;
    let table = "id,full_name,tariff,teams\n6,Gus,Ful time,\n1,Ada,,Rocket\n";
    insta::assert_snapshot!(told(Replace::No, &[("site.json", json), ("people.csv", table), ("more.csv", "id,cards\n7,5\n")]), @r#"
    people.csv:3: teams: there are 2 teams called "Rocket"; import this person as JSON, with the id
    people.csv:2: tariff: there is no plan called "Ful time"; did you mean "full time"?
    more.csv:2: full_name: required, because there is no coworker with the id 7 yet
    site.json: Coworkers[0].TariffId: there is no plan 50 in Tariffs
    site.json: Coworkers[0].Teams: there is no team 80 in Teams
    site.json: Coworkers[0].Businesses: there is no business 2 in Businesses
    site.json: Coworkers[1].InvoicingBusinessId: there is no business 3 in Businesses
    site.json: CoworkerTimePasses[0].TimePassId: there is no kind of pass 1 in TimePasses
    site.json: CoworkerTimePasses[1].CoworkerId: there is no coworker 45 in Coworkers
    site.json: CoworkerTimePasses[1].TimePassId: there is no kind of pass 1 in TimePasses
    "#);
}

#[test]
fn passes_name_businesses_plans_and_each_other() {
    let json = r#"{
        "Businesses": [{"Id": 2, "Name": "Hub Two", "RootLocationId": 9}],
        "TimePasses": [
            {"Id": 1, "Name": "Day", "BusinessId": 1, "Businesses": [2, 3], "Tariffs": [5, 50]},
            {"Id": 2, "Name": "Week", "BusinessId": 4}
        ],
        "CoworkerTimePasses": [
            {"Id": 1, "CoworkerId": 1, "TimePassId": 1, "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"},
            {"Id": 2, "CoworkerId": 3, "TimePassId": 2, "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"}
        ]
    }"#;
    insta::assert_snapshot!(told(Replace::No, &[("site.json", json)]), @r#"
    site.json: CoworkerTimePasses[1].UniqueId: 5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21 is also used at site.json: CoworkerTimePasses[0].UniqueId
    site.json: TimePasses[0].Businesses: there is no business 3 in Businesses
    site.json: TimePasses[0].Tariffs: there is no plan 50 in Tariffs
    site.json: TimePasses[1].BusinessId: there is no business 4 in Businesses
    "#);
}

#[test]
fn people_alone_are_an_import_and_what_they_name_is_kept() {
    let json =
        r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5}, {"Id": 2, "FullName": "Bob", "TariffId": 6}]}"#;
    let table = "id,full_name,tariff,teams\n3,Eve,Full time,Rocket;Anvil\n";
    insta::assert_snapshot!(over("{}", Replace::No, &[("site.json", json), ("people.csv", table)]), @r#"
    added Coworkers 1 Ada
    added Coworkers 2 Bob
    added Coworkers 3 Eve
    unchanged 0
    1: {"FullName":"Ada","Id":1,"TariffId":5}
    2: {"FullName":"Bob","Id":2,"TariffId":6}
    3: {"FullName":"Eve","Id":3,"TariffId":null,"TariffName":"Full time","TeamNames":"Anvil,Rocket"}
    warning: site.json: Coworkers[0].TariffId (and 1 more): this has no effect, because the directory has no Tariffs
    "#);
    let team = r#"{"Teams": [{"Id": 9, "Name": "Anvil", "TeamMembers": [1, 44]}]}"#;
    insta::assert_snapshot!(told(Replace::No, &[("site.json", team)]), @r#"
    added Teams 9 Anvil
    unchanged 0
    9: {"Id":9,"Name":"Anvil","TeamMembers":[1,44]}
    warning: site.json: Teams[0].TeamMembers: there is no coworker 44 in Coworkers
    "#);
}

#[test]
fn a_credential_that_two_people_have_is_named_with_them_but_no_pin_is_shown() {
    let json = r#"{"Coworkers": [
        {"Id": 4, "FullName": "Dan", "AccessCardId": "12,AB", "MacAddresses": "3c:22:fb:00:00:01"},
        {"Id": 5, "FullName": "Fay", "KeyFobNumber": "ab,88", "AccessPincode": "4711", "MacAddresses": "02:00:00:00:00:05"}
    ]}"#;
    let told = told(Replace::No, &[("site.json", json), ("people.csv", "id,cards\n3,7;12\n")]);
    let warnings: Vec<&str> = told.lines().filter(|line| line.starts_with("warning")).collect();
    insta::assert_snapshot!(warnings.join("\n"), @r"
    warning: a PIN belongs to Ada (coworker 1, stored) and Fay (coworker 5, site.json: Coworkers[1]): it checks no one in until only one of them has it
    warning: card 12 belongs to Eve (coworker 3, people.csv:2) and Dan (coworker 4, site.json: Coworkers[0]): it checks no one in until only one of them has it
    warning: card ab belongs to Dan (coworker 4, site.json: Coworkers[0]) and Fay (coworker 5, site.json: Coworkers[1]): it checks no one in until only one of them has it
    warning: device 3c:22:fb:00:00:01 belongs to Ada (coworker 1, stored) and Dan (coworker 4, site.json: Coworkers[0]): it checks no one in until only one of them has it
    warning: site.json: Coworkers[1].MacAddresses: 02:00:00:00:00:05 is a randomised (locally administered) address and may change; ask for the device's fixed address on this network
    ");
}

#[test]
fn small_numbers_are_not_ambiguous_by_being_read_in_hexadecimal() {
    let warnings = |cards: &[&str]| {
        let rows = cards.iter().enumerate().map(|(at, card)| format!("{},P{at},{card}", at + 1));
        let rows: Vec<String> = [String::from("id,full_name,cards")].into_iter().chain(rows).collect();
        let told = over("{}", Replace::No, &[("people.csv", &rows.join("\n"))]);
        told.lines().filter(|line| line.starts_with("warning")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(warnings(&["10", "16", "99", "153"]), [""; 0]);
    for two in [["0010", "10"], ["10", "0xA"], ["0x10", "10"], ["0x10", "16"], ["16", "0x10"], ["85:CC:C7", "8768711"]]
    {
        let [first, second] = two;
        let said = warnings(&two);
        let expected = format!("warning: card {second}, in one spelling or another, belongs to P0 (");
        assert!(said.len() == 1 && said[0].starts_with(&expected), "{first} {second}: {said:?}");
    }
    let pins = r#"{"Coworkers": [
        {"Id": 1, "FullName": "A", "AccessPincode": "1111"}, {"Id": 2, "FullName": "B", "AccessPincode": "1111"},
        {"Id": 3, "FullName": "C", "AccessPincode": "2222"}, {"Id": 4, "FullName": "D", "AccessPincode": "2222"},
        {"Id": 5, "FullName": "E", "AccessCardId": "1111", "Slots": "a/1111", "AccessNames": "a/1111"}
    ]}"#;
    let told = over("{}", Replace::No, &[("site.json", pins)]);
    assert_eq!(told.matches("warning: a PIN belongs to ").count(), 2, "{told}");
    assert_eq!(told.matches("warning").count(), 2, "different types never match: {told}");
}

#[test]
fn an_entity_says_of_a_plan_or_a_spelling_what_it_says_last() {
    let stored = r#"{
        "Tariffs": [{"Id": 5, "Name": "Full time"}, {"Id": 6, "Name": "Part time"}],
        "TimePasses": [{"Id": 1, "Name": "Day", "AllowNetworkCheckIn": false}],
        "Coworkers": [{"Id": 1, "FullName": "Ada", "TariffId": 5, "TariffName": "Full time"}]
    }"#;
    let json = r#"{
        "TimePasses": [{"Id": 1, "AllowNetworkCheckin": true}],
        "Coworkers": [{"Id": 1, "TariffName": "full time"}]
    }"#;
    insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
    changed TimePasses 1 Day: AllowNetworkCheckIn, AllowNetworkCheckin
    changed Coworkers 1 Ada: TariffName
    unchanged 0
    1: {"AllowNetworkCheckin":true,"Id":1,"Name":"Day"}
    1: {"FullName":"Ada","Id":1,"TariffId":5,"TariffName":"full time"}
    "#);
    // The files contain only part of a plan. It keeps its name for the people in the same import.
    let json = r#"{"Tariffs": [{"Id": 6, "CheckinWeekLimit": 3}]}"#;
    let told = over(stored, Replace::No, &[("site.json", json), ("people.csv", "id,tariff\n1,Part time\n")]);
    assert!(told.contains("changed Coworkers 1 Ada: TariffId, TariffName"), "{told}");
    let json = r#"{"Coworkers": [{"Id": 1, "TariffName": "Night"}]}"#;
    insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
    changed Coworkers 1 Ada: TariffId, TariffName
    unchanged 0
    1: {"FullName":"Ada","Id":1,"TariffId":null,"TariffName":"Night"}
    "#);
    // Archived by the platform, not by `--replace`: it stays archived, with a warning.
    let stored = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada", "Archived": true}]}"#;
    let json = r#"{"Coworkers": [{"Id": 1, "FullName": "Ada"}]}"#;
    insta::assert_snapshot!(over(stored, Replace::No, &[("site.json", json)]), @r#"
    unchanged 1
    warning: 1 person in the files is still archived; "Archived": false brings them back
    "#);
}

/// The result of an import over [`STORED`].
fn told(replace: Replace, files: &[(&str, &str)]) -> String {
    over(STORED, replace, files)
}

fn over(stored: &str, replace: Replace, files: &[(&str, &str)]) -> String {
    let mut draft = Draft::new(replace, "key".to_owned());
    for (name, text) in files {
        if name.ends_with("csv") { draft.csv(name, text) } else { draft.json(name, text) }
    }
    let changes = draft.read().and_then(|mut draft| {
        let there: BTreeMap<String, Vec<Map<String, Value>>> = serde_json::from_str(stored).expect("JSON");
        for kind in EntityKind::ALL {
            for body in there.get(kind.array()).into_iter().flatten() {
                let id = body["Id"].as_i64().expect("a number");
                let archived = body.get("Archived") == Some(&Value::Bool(true));
                let mut body = body.clone();
                super::super::hide_pins(&mut body, "key");
                draft.stored(kind, id, archived, &Value::Object(body).to_string());
            }
        }
        draft.finish()
    });
    let changes = match changes {
        Ok(changes) => changes,
        Err(faults) => return faults.to_string(),
    };
    let mut lines = Vec::new();
    for (word, list) in [("added", &changes.added), ("changed", &changes.changed), ("archived", &changes.archived)] {
        for EntityChange { kind, id, name, fields, loses_credential } in list {
            let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
            let loses = if *loses_credential { " (loses a credential)" } else { "" };
            lines.push(format!("{word} {} {id} {}{fields}{loses}", kind.array(), name.as_deref().unwrap_or("?")));
        }
    }
    lines.push(format!("unchanged {}", changes.unchanged));
    let digest = regex::Regex::new("sha256:[0-9a-f]+").expect("a pattern");
    let body = |document: &Document| digest.replace_all(&document.body, "sha256:…").into_owned();
    lines.extend(changes.documents.iter().map(|document| format!("{}: {}", document.id, body(document))));
    lines.extend(changes.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n")
}
