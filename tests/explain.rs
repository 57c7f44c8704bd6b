//! `checkind explain` as a process: why someone was checked in, refused or charged.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    broker::Broker,
    daemon::{Home, Way, board_event, card, doors, flat_event, now, people, site},
};

/// The lines of events and check-ins, without the times.
fn lines(text: &str) -> Vec<String> {
    let untimed = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            let numeric = word.trim_end_matches([',', ']']).chars().all(|c| c.is_ascii_digit() || ":-".contains(c));
            if numeric && (word.matches(':').count() == 2 || word.matches('-').count() == 2) { "T" } else { word }
        });
        words.collect::<Vec<_>>().join(" ").replace("T T", "T")
    };
    text.lines().filter(|line| line.starts_with("  ")).map(untimed).collect()
}

#[test]
fn the_front_desk_sees_what_came_in_and_what_was_decided() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut document = people(2, &[json!({"Id": 3, "FullName": "Member 3"})]);
    document["TimePasses"] = json!([
        {"Id": 1, "Name": "10 hours", "Price": 60, "MinutesIncluded": 600},
        {"Id": 2, "Name": "Hot desk", "Price": "6.50", "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true}
    ]);
    document["CoworkerTimePasses"] = json!([{"Id": 21, "CoworkerId": 1, "TimePassId": 1, "RemainingMinutes": 90}]);
    home.import(&document);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let at = |seconds: u64| now().minus(Duration::from_secs(seconds));
    broker.publish("flat/events", flat_event(1, card(1), Way::In, at(600)).as_bytes(), 1);
    let refused = flat_event(2, card(1), Way::In, at(300)).replace("granted", "denied");
    broker.publish("flat/events", refused.as_bytes(), 1);
    let untimed = flat_event(3, card(2), Way::In, at(0));
    let untimed = untimed.split(",\"time\"").next().expect("a first part").to_owned() + "}";
    broker.publish("flat/events", untimed.as_bytes(), 1);
    broker.publish("flat/events", flat_event(4, card(9), Way::In, at(10)).as_bytes(), 1);
    broker.publish("board/events", board_event(5, card(1), Way::Out, at(10)).as_bytes(), 1);
    daemon.wait_for_metric("checkind_mqtt_events_total", "", 5);
    daemon.adds_up();

    let printed = home.ask(&["explain", &card(1).to_string()]);
    assert!(printed.starts_with("Member 1 (coworker 1), from ") && printed.contains(" at Hub One\n"), "{printed}");
    insta::assert_snapshot!(lines(&printed).join("\n"), @r#"
    T door side of flat, in: card 8165601, granted (arrived 10 min late) -> opened: checked in with the time pass "10 hours", until T when its minutes are used up
    T door side of flat, in: card 8165601, refused by the controller (arrived 5 min late) -> failed, refused_by_controller: the door controller refused and gave no reason that we recognise
    T door 405419896:4 of board, out: card 8165601, granted -> closed: checked out
    T to T 9 min, checked out at a door, opened by door, the time pass "10 hours"
    "#);
    assert_eq!(home.ask(&["explain", "member 1"]), home.ask(&["explain", "1", "--since", "2"]));
    let printed = home.ask(&["explain", "2"]);
    insta::assert_snapshot!(lines(&printed).join("\n"), @r#"
    T door side of flat, in: card 8165602, granted (arrival time used) -> opened: checked in with pay-as-you-go "Hot desk"
    T still in, until an exit, or the cut-off at T opened by door, pay-as-you-go "Hot desk", charged 1.63 GBP for 15 min so far
    "#);
    // A card without an owner, and the same card after it was assigned to a coworker.
    let stranger = home.ask(&["explain", &card(9).to_string()]);
    assert!(
        stranger.starts_with("\"8165609\", which is not the card, number or name of any coworker, from "),
        "{stranger}"
    );
    insta::assert_snapshot!(lines(&stranger).join("\n"), @r#"T door side of flat, in: card 8165609, granted -> failed, unrecognised_card: no coworker has this card, fob or PIN"#);
    home.import(&json!({"Coworkers": [{"Id": 3, "FullName": "Member 3", "AccessCardId": card(9).to_string()}]}));
    let assigned = home.ask(&["explain", &card(9).to_string()]);
    assert!(assigned.starts_with("Member 3 (coworker 3), "), "{assigned}");
    assert_eq!(lines(&assigned), lines(&stranger));
    let unseen = home.ask(&["explain", "3c:22:fb:00:00:09"]);
    assert!(unseen.starts_with("device 3c:22:fb:00:00:09, which no coworker has, from "), "{unseen}");
    assert!(unseen.ends_with("Nothing was recorded in this time: no door event and no device seen.\n"), "{unseen}");

    let printed: serde_json::Value = serde_json::from_str(&home.ask(&["explain", "1", "--json"])).expect("JSON");
    assert_eq!(
        (&printed["CoworkerId"], &printed["Checkins"][0]["TimePass"]),
        (&json!(1), &json!("the time pass \"10 hours\""))
    );
    assert_eq!(
        (&printed["Events"][1]["Outcome"], &printed["Events"][1]["Code"]),
        (&json!("failed"), &json!("refused_by_controller"))
    );

    // A change by hand is pointed out.
    home.ledger().execute("UPDATE facts SET decision = 4017 WHERE subject = 2");
    let printed = home.ask(&["explain", "2"]);
    let differs = "[the log has \"failed, no_valid_pass: ";
    assert!(printed.contains(differs) && printed.contains("instead: a bug, or a change by hand]"), "{printed}");
    daemon.stop();
    // The output is the same while the daemon is off.
    assert_eq!(lines(&home.ask(&["explain", "1"])).len(), 4);
}

#[test]
fn late_facts_and_shared_passes_are_shown_as_they_were_decided() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut document = people(2, &[]);
    document["Teams"] = json!([{"Id": 1, "Name": "Rocket", "ShareTimePasses": true, "TeamMembers": [1, 2]}]);
    document["TimePasses"] = json!([{"Id": 1, "Name": "10 hours", "Price": 60, "MinutesIncluded": 600}]);
    document["CoworkerTimePasses"] = json!([{"Id": 21, "CoworkerId": 1, "TimePassId": 1, "RemainingMinutes": 300}]);
    home.import(&document);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let at = |minutes: u64| now().minus(Duration::from_mins(minutes));
    let days = |days: u64| days * 24 * 60;
    // The first event arrives last, so the others must be decided again.
    let events = [
        (1, 2, Way::In, days(4)),
        (2, 2, Way::Out, days(4) - 60),
        (3, 2, Way::In, days(1) + 30),
        (4, 1, Way::Out, days(1)),
        (5, 2, Way::In, 5),
        (6, 1, Way::In, days(1) + 60),
    ];
    for (number, person, way, minutes) in events {
        broker.publish("flat/events", flat_event(number, card(person), way, at(minutes)).as_bytes(), 1);
        daemon.wait_for_metric("checkind_mqtt_events_total", "", number.into());
        daemon.adds_up();
    }
    for days in ["2", "6"] {
        for person in ["1", "2"] {
            let printed = home.ask(&["explain", person, "--since", days]);
            assert!(!printed.contains("[the log has"), "{printed}");
            assert!(!printed.contains("Is the daemon running?"), "{printed}");
        }
    }
    let short = lines(&home.ask(&["explain", "2"]));
    let refused = "T door side of flat, in: card 8165602, granted (arrived 24 h 30 min late) -> failed, pass_in_use: ";
    assert!(short[0].starts_with(refused), "{short:?}");
    assert!(
        short[1].contains("(arrived 5 min late) -> opened: checked in with the time pass \"10 hours\", until T"),
        "{short:?}"
    );
    assert!(short[2].starts_with("T still in, until an exit, or the end of the pass at T"), "{short:?}");
    assert_eq!(short.len(), 3, "{short:?}");
    let long = lines(&home.ask(&["explain", "2", "--since", "6"]));
    assert_eq!(long.len(), short.len() + 3, "{long:?}");
    assert!(long[0].contains("(arrived 96 h 00 min late) -> opened: checked in with the time pass"), "{long:?}");
    daemon.stop();
}

#[test]
fn wrong_questions_are_answered_with_what_to_write() {
    let home = Home::new(&site(""));
    let twice = json!({"Coworkers": [{"Id": 1, "FullName": "Ada"}, {"Id": 2, "FullName": "Ada"}]});
    home.import(&twice);
    for (arguments, code, said) in [
        (vec!["explain"], 64, "CARD|MAC|COWORKER"),
        (vec!["explain", "1", "--since", "11"], 64, "11 is not in 1..=10"),
        (vec!["explain", " "], 64, "give a card"),
        (vec!["explain", "ada"], 64, "more than one coworker is called \"ada\"; give the number instead"),
    ] {
        let answer = home.run(&arguments);
        let printed = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(printed.contains(said), "{arguments:?}: {printed}");
    }
    assert!(home.ask(&["explain", "1"]).contains("Nothing was recorded in this time"));
    assert_eq!(Home::new("").run(&["explain", "1"]).status.code(), Some(78));
}
