//! Long-lived tokens, from the command line to the wire.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, Home, site},
    http::Answer,
    wait_for,
};

const PASSWORD: &str = "correct horse battery";

fn gateway() -> (Home, Daemon) {
    let home = Home::new(&site(""));
    home.tell(&["migrate"], "");
    let daemon = home.start();
    home.tell(
        &[
            "user",
            "add",
            "ada",
            "--role",
            "Checkin-List",
            "--role",
            "Business-List",
            "--business",
            "1",
            "--business",
            "2",
        ],
        &format!("{PASSWORD}\n"),
    );
    (home, daemon)
}

/// Makes a token of ada.
fn token(home: &Home, name: &str, more: &[&str]) -> String {
    let printed = home.ask(&[&["user", "token", "add", "ada", "--name", name][..], more].concat());
    printed.lines().last().expect("the token").to_owned()
}

fn get(daemon: &Daemon, path: &str, token: &str) -> Answer {
    daemon.send("GET", path, &[("Authorization", &format!("Bearer {token}"))], "")
}

fn listed(home: &Home) -> Value {
    serde_json::from_str(&home.ask(&["user", "token", "list", "--json"])).expect("JSON")
}

#[test]
fn a_token_works_until_it_is_revoked_and_allows_what_it_says() {
    let (home, daemon) = gateway();
    let all = token(&home, "everything", &[]);
    let door = token(&home, "door display", &["--role", "checkin-list", "--business", "2", "--source", "tile"]);
    assert!(door.starts_with("checkind_") && door.len() == 52 && door != all, "{door}");
    for (token, roles, businesses) in
        [(&all, json!(["Checkin-List", "Business-List"]), json!([1, 2])), (&door, json!(["Checkin-List"]), json!([2]))]
    {
        let me = get(&daemon, "/api/auth/me", token).json();
        assert_eq!((&me["Email"], &me["Roles"], &me["Businesses"]), (&json!("ada"), &roles, &businesses));
    }
    let statuses = |path: &str| [&all, &door].map(|token| get(&daemon, path, token).status);
    assert_eq!(statuses("/api/spaces/checkins"), [200, 200]);
    assert_eq!(statuses("/api/spaces/businesses"), [200, 403]);

    let said = wait_for("the uses to be stored", Duration::from_secs(20), || {
        // A use is stored beside the request; one that finds another being stored is not.
        statuses("/api/spaces/checkins");
        let said = listed(&home);
        if said.as_array().expect("a list").iter().all(|token| token["LastUsedOn"].is_string()) {
            Ok(said)
        } else {
            Err(said.to_string())
        }
    });
    assert_eq!(
        (&said[0]["Name"], &said[0]["Roles"], &said[0]["Businesses"], &said[0]["Source"]),
        (&json!("door display"), &json!(["Checkin-List"]), &json!([2]), &json!("Tile"))
    );
    assert_eq!((&said[1]["Roles"], &said[1]["Source"]), (&Value::Null, &Value::Null));
    let table = home.ask(&["user", "token", "list", "ada"]);
    assert!(table.starts_with("USER  TOKEN ") && table.contains("door display"), "{table}");
    let file = std::fs::read(home.path("checkind.db")).expect("the database");
    let (printed, wal) =
        ([table, said.to_string()].concat(), std::fs::read(home.path("checkind.db-wal")).unwrap_or_default());
    for kept in [file, wal, printed.into_bytes()] {
        assert!(!kept.windows(door.len() - 9).any(|part| part == &door.as_bytes()[9..]), "only its digest is kept");
    }

    let revoked = home.ask(&["user", "token", "revoke", "ada", "--name", "door display"]);
    assert_eq!(revoked, "Token \"door display\" of user ada was revoked.\n");
    assert_eq!(statuses("/api/spaces/checkins"), [200, 401]);
    home.tell(&["user", "password", "ada"], "another good password\n");
    assert_eq!(statuses("/api/spaces/checkins"), [401, 401], "a new password ends all tokens");
    assert_eq!(listed(&home), json!([]));
    assert!(!daemon.log().contains(&door[9..]) && !daemon.log().contains(&all[9..]));
}

#[test]
fn a_token_that_cannot_be_made_is_refused_with_what_to_do() {
    let (home, _daemon) = gateway();
    token(&home, "door", &[]);
    let day = "a token ends today at the earliest, and in two years at the latest";
    for (arguments, why) in [
        (&["add", "bob", "--name", "door"][..], "there is no user bob"),
        (&["add", "ada", "--name", "door"], "user ada has a token \"door\"; choose another name"),
        (&["add", "ada", "--name", "other", "--role", "Checkin-Delete"], "user ada lacks the role Checkin-Delete"),
        (&["add", "ada", "--name", "other", "--business", "3"], "user ada does not see business 3"),
        (&["add", "ada", "--name", "other", "--ends", "2020-01-31"], day),
        (&["add", "ada", "--name", "other", "--ends", "2099-01-31"], day),
        (&["list", "bob"], "there is no user bob"),
        (&["revoke", "ada", "--name", "other"], "user ada has no token \"other\"; `checkind user token list ada`"),
    ] {
        let output = home.run(&[&["user", "token"][..], arguments].concat());
        let said = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.code() == Some(64) && said.contains(why), "{arguments:?}: {said}");
    }
    for wrong in [&["--source", "DoorAccess"][..], &["--ends", "soon"], &["--name", " "]] {
        let output = home.run(&[&["user", "token", "add", "ada"][..], wrong].concat());
        assert_eq!(output.status.code(), Some(64), "{wrong:?}");
    }
}
