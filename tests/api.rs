//! The HTTP API as its callers see it: bodies compared with the platform's examples, errors, tokens, health, metrics.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::{
    access::{Reach, Right, Rights, Role, RoleEntity, StoredPassword, UserName},
    api::{self, ApiState, Ready},
    base::{
        clock::{BootTime, Clock, Now, WallTime},
        health::{ConditionKind, Health},
    },
    engine::decision::Outcome,
    metrics::Metrics,
    settings::Database,
    store::Store,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use tempfile::TempDir;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::support::{
    http::{Answer, parse, send},
    wait_for,
};

const PASSWORD: &str = "correct horse battery";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[test]
fn a_check_in_is_served_with_every_key_of_the_platforms_example_in_its_order() {
    let site = Site::start();
    let answer = site.get("/api/spaces/checkins/87654321", &admin());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(keys(&answer.body), names(CHECKIN));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {"CoworkerId":42,
    "CoworkerFullName":"Ada Lovelace",
    "BusinessId":1,
    "BusinessName":"Hub One",
    "Source":2,
    "FromTime":"2026-03-01T09:05:00Z",
    "ToTime":"2026-03-01T17:31:02Z",
    "CountsTowardsPlanLimits":true,
    "CoworkerTimePassGuid":"0f9e8d7c-6b5a-4321-8fed-cba987654321",
    "AutoCheckout":true,
    "LastActivity":"2026-03-01T17:31:02Z",
    "MacAddresses":"3c:22:fb:00:00:01,3c:22:fb:00:00:02",
    "TeamsAtTheTimeOfCheckin":"Engines,Analysts",
    "TariffAtTheTimeOfCheckin":"Full time",
    "ValidateCheckinJobId":null,
    "FromTimeLocal":"2026-03-01T10:05:00",
    "ToTimeLocal":"2026-03-01T18:31:02",
    "Id":87654321,
    "UpdatedOn":"2026-03-01T18:16:03Z",
    "CreatedOn":"2026-03-01T09:05:01Z",
    "UniqueId":"a1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "UpdatedBy":"checkind",
    "IsNew":false,
    "SystemId":"crm-7",
    "ToStringText":"Ada Lovelace at Hub One",
    "LocalizationDetails":null,
    "CustomFields":null}
"#);
}

#[test]
fn an_open_check_in_without_a_coworker_has_explicit_nulls() {
    let site = Site::start();
    let answer = site.get("/api/spaces/checkins/9223372036854775807", &admin());
    assert_eq!(keys(&answer.body), names(CHECKIN));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {"CoworkerId":null,
    "CoworkerFullName":null,
    "BusinessId":1,
    "BusinessName":null,
    "Source":1,
    "FromTime":"2026-03-01T09:05:00Z",
    "ToTime":null,
    "CountsTowardsPlanLimits":false,
    "CoworkerTimePassGuid":null,
    "AutoCheckout":false,
    "LastActivity":null,
    "MacAddresses":null,
    "TeamsAtTheTimeOfCheckin":null,
    "TariffAtTheTimeOfCheckin":null,
    "ValidateCheckinJobId":null,
    "FromTimeLocal":"2026-03-01T09:05:00",
    "ToTimeLocal":null,
    "Id":9223372036854775807,
    "UpdatedOn":"2026-03-01T09:05:01Z",
    "CreatedOn":"2026-03-01T09:05:01Z",
    "UniqueId":"b1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "UpdatedBy":"admin@example.com",
    "IsNew":false,
    "SystemId":null,
    "ToStringText":"Checkin",
    "LocalizationDetails":null,
    "CustomFields":null}
"#);
}

#[test]
fn a_failed_check_in_is_served_with_every_key_of_the_platforms_example_in_its_order() {
    let site = Site::start();
    let answer = site.get("/api/spaces/failedcheckins/5", &admin());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(keys(&answer.body), names(FAILED_CHECKIN));
    insta::assert_snapshot!(pretty(&answer), @r#"
    {"CoworkerId":null,
    "CoworkerFullName":null,
    "BusinessId":1,
    "BusinessName":"Hub One",
    "CheckinAttemptTime":"2026-03-01T09:05:00Z",
    "Source":3,
    "MacAddresses":"3c:22:fb:00:00:01",
    "TeamsAtTheTimeOfCheckin":null,
    "TariffAtTheTimeOfCheckin":null,
    "Description":"unrecognised_device: no coworker has a device with this MAC address",
    "CheckinAttemptTimeLocal":"2026-03-01T10:05:00",
    "Id":5,
    "UpdatedOn":"2026-03-01T09:05:01Z",
    "CreatedOn":"2026-03-01T09:05:01Z",
    "UniqueId":"c1b2c3d4-e5f6-7890-abcd-ef1234567890",
    "UpdatedBy":"checkind",
    "IsNew":false,
    "SystemId":null,
    "ToStringText":"FailedCheckin at Hub One",
    "LocalizationDetails":null,
    "CustomFields":null}
"#);
}

#[test]
fn values_are_of_the_kinds_that_the_platforms_example_shows() {
    let site = Site::start();
    for (path, example) in
        [("/api/spaces/checkins/87654321", CHECKIN), ("/api/spaces/failedcheckins/5", FAILED_CHECKIN)]
    {
        let ours = site.get(path, &admin()).json();
        for (key, theirs) in example {
            let is_same = match (&ours[key], theirs) {
                (_, Null) | (Value::Bool(_), Bool) | (Value::Number(_), Number) | (Value::String(_), Text) => true,
                (_, Bool | Number | Text) => false,
            };
            assert!(is_same, "{key} is {}, which should be {theirs:?}", ours[key]);
        }
    }
}

#[test]
fn every_answer_says_what_it_is_and_is_never_cached() {
    let site = Site::start();
    let admin = admin();
    for (method, path, status) in [
        ("GET", "/api/spaces/checkins/87654321", 200),
        ("GET", "/api/spaces/checkins/1", 404),
        ("GET", "/api/spaces/checkins/abc", 404),
        ("GET", "/api/spaces/checkins/-1", 404),
        ("GET", "/api/spaces/checkins/9223372036854775808", 404),
        ("GET", "/api/spaces/checkins/%ff", 404),
        ("GET", "/api/spaces/failedcheckins/1", 404),
        ("GET", "/api/spaces/doors/1", 404),
        ("GET", "/", 404),
        ("POST", "/api/spaces/checkins/87654321", 405),
        ("PATCH", "/api/spaces/failedcheckins/5", 405),
        ("GET", "/api/token", 405),
        ("POST", "/healthz", 405),
        ("GET", "/healthz", 200),
    ] {
        let answer = send(site.address, method, path, &[("Authorization", &admin)], "");
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8", "{method} {path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{method} {path}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{method} {path}");
        if status >= 400 {
            let body = answer.json();
            assert_eq!(body["RequestId"], answer.header("x-request-id"), "{method} {path}");
            assert_eq!((&body["Status"], &body["WasSuccessful"]), (&json!(status), &json!(false)), "{method} {path}");
            assert!(body["Message"].as_str().is_some_and(|message| !message.is_empty()), "{method} {path}: {body}");
        }
        if status == 405 {
            assert!(!answer.header("allow").is_empty(), "{method} {path}");
        }
    }
}

#[test]
fn errors_read_like_a_failed_command_of_the_platform() {
    let site = Site::start();
    let missing = site.get("/api/spaces/checkins/1", &admin());
    insta::assert_snapshot!(missing.body, @r#"{"Status":404,"Message":"There is no Checkin with this id.","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1"}"#);
    let unknown = site.get("/api/spaces/checkins/87654321", "Bearer nonsense");
    insta::assert_snapshot!(unknown.body, @r#"{"Status":401,"Message":"The bearer token or the password is wrong or has expired.","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1"}"#);
    insta::assert_debug_snapshot!(unknown.all("www-authenticate"), @r#"
    [
        "Bearer realm=\"checkind\", error=\"invalid_token\"",
        "Basic realm=\"checkind\", charset=\"UTF-8\"",
    ]
"#);
    let anonymous = send(site.address, "GET", "/api/spaces/checkins/87654321", &[("X-Request-Id", "r-1")], "");
    insta::assert_snapshot!(anonymous.body, @r#"{"Status":401,"Message":"Sign in: the request has no bearer token and no user name.","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1"}"#);
    insta::assert_debug_snapshot!(anonymous.all("www-authenticate"), @r#"
    [
        "Bearer realm=\"checkind\"",
        "Basic realm=\"checkind\", charset=\"UTF-8\"",
    ]
"#);
    site.add("reader", &Rights::Roles(BTreeSet::from([Role::of(RoleEntity::FailedCheckin, Right::Read)])));
    let lacking = site.get("/api/spaces/checkins/87654321", &basic("reader", PASSWORD));
    insta::assert_snapshot!(lacking.body, @r#"{"Status":403,"Message":"This user is not an administrator and lacks the role Checkin-Read.","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1"}"#);
    insta::assert_debug_snapshot!(lacking.all("www-authenticate"), @r#"
    [
        "Bearer realm=\"checkind\", error=\"insufficient_scope\", scope=\"Checkin-Read\"",
    ]
"#);
}

#[test]
fn each_role_opens_its_own_door_and_no_other() {
    let site = Site::start();
    for role in Role::all() {
        let name = role.to_string();
        site.add(&name, &Rights::Roles(BTreeSet::from([role])));
        let bearer = site.bearer(&name);
        let expected = |needed| if role == needed { 200 } else { 403 };
        assert_eq!(
            site.get("/api/spaces/checkins/87654321", &bearer).status,
            expected(Role::of(RoleEntity::Checkin, Right::Read)),
            "{name}"
        );
        let failed = site.get("/api/spaces/failedcheckins/5", &bearer);
        assert_eq!(failed.status, expected(Role::of(RoleEntity::FailedCheckin, Right::Read)), "{name}");
    }
    assert_eq!(site.get("/api/spaces/failedcheckins/5", &site.bearer("admin@example.com")).status, 200);
}

#[test]
fn who_may_not_read_cannot_tell_which_records_exist() {
    let site = Site::start();
    site.add("nothing", &Rights::Roles(BTreeSet::new()));
    for authorization in ["Bearer nonsense", &basic("nothing", PASSWORD)] {
        let there = site.get("/api/spaces/checkins/87654321", authorization);
        let missing = site.get("/api/spaces/checkins/1", authorization);
        assert_eq!((there.status, &there.body), (missing.status, &missing.body));
    }
}

#[test]
fn a_password_buys_a_pair_of_tokens_and_a_refresh_token_buys_the_next_once() {
    let site = Site::start();
    let first = site.token("grant_type=password&username=admin%40example.com&password=correct+horse+battery&totp=");
    assert_eq!(first.status, 200, "{first:?}");
    let body = first.json();
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 604_799);
    assert_eq!(
        site.get("/api/spaces/checkins/87654321", &format!("bearer {}", text(&body, "access_token"))).status,
        200
    );
    let refresh = format!("grant_type=refresh_token&refresh_token={}", text(&body, "refresh_token"));
    let second = site.token(&refresh);
    assert_eq!(second.status, 200, "{second:?}");
    assert_ne!(second.json()["access_token"], body["access_token"]);
    // Its answer may have been lost, once.
    let repeated = site.token(&refresh);
    assert_eq!(repeated.status, 200, "{repeated:?}");
    let lost = format!("Bearer {}", text(&second.json(), "access_token"));
    assert_eq!(site.get("/api/auth/me", &lost).status, 401, "the first answer is worth nothing now");
    let second = repeated;
    let as_access = format!("Bearer {}", text(&second.json(), "refresh_token"));
    assert_eq!(site.get("/api/spaces/checkins/87654321", &as_access).status, 401, "a refresh token reads nothing");
    let as_refresh = format!("grant_type=refresh_token&refresh_token={}", text(&second.json(), "access_token"));
    assert_eq!(site.token(&as_refresh).status, 400, "an access token refreshes nothing");
    let newest = format!("Bearer {}", text(&second.json(), "access_token"));
    assert_eq!(site.get("/api/auth/me", &newest).status, 200);
    let again = site.token(&refresh);
    assert_eq!((again.status, &again.json()["error"]), (400, &json!("invalid_grant")));
    assert_eq!(
        site.get("/api/auth/me", &newest).status,
        401,
        "two clients have it: everything after that sign-in ends"
    );
}

#[test]
fn the_token_endpoint_refuses_in_the_words_of_oauth() {
    let site = Site::start();
    let json_body = send(
        site.address,
        "POST",
        "/api/token",
        &[("Content-Type", "application/json"), ("X-Request-Id", "r-1")],
        r#"{"grant_type":"password"}"#,
    );
    insta::assert_snapshot!(json_body.body, @r#"{"Status":400,"Message":"send a form with grant_type=password or grant_type=refresh_token","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1","error":"unsupported_grant_type","error_description":"send a form with grant_type=password or grant_type=refresh_token"}"#);
    for (form, error) in [
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("", "unsupported_grant_type"),
        ("username=a&password=b", "unsupported_grant_type"),
        ("grant_type=password&username=a", "invalid_request"),
        ("grant_type=password&username=a&username=b&password=c", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=refresh_token&refresh_token=nonsense", "invalid_grant"),
        ("grant_type=password&username=admin%40example.com&password=wrong", "invalid_grant"),
        ("grant_type=password&username=nobody&password=wrong", "invalid_grant"),
        ("grant_type=password&username=&password=", "invalid_grant"),
        ("grant_type=password&username=a%00b&password=%ff", "invalid_grant"),
    ] {
        let answer = site.token(form);
        assert_eq!((answer.status, &answer.json()["error"]), (400, &json!(error)), "{form}: {answer:?}");
        assert_eq!(answer.header("cache-control"), "no-store", "{form}");
    }
    assert_eq!(json_body.status, 400);
    let flood = site.token(&format!("grant_type={}", "x".repeat(70_000)));
    assert_eq!((flood.status, &flood.json()["Status"]), (413, &json!(413)));
}

#[test]
fn tokens_end_with_their_time_a_new_password_and_the_removal_of_their_user() {
    let site = Site::start();
    let name: UserName = "integration".parse().expect("a name");
    let path = "/api/spaces/checkins/87654321";
    site.add(name.as_str(), &Rights::Administrator);
    let bearer = site.bearer(name.as_str());
    let basic = basic(name.as_str(), PASSWORD);
    assert_eq!((site.get(path, &bearer).status, site.get(path, &basic).status), (200, 200));

    let other = StoredPassword::new(&SecretString::from("another long password")).expect("a good password");
    assert!(site.run(site.store.set_password(&name, &other, site.clock.now().wall)).expect("a database"));
    assert_eq!((site.get(path, &bearer).status, site.get(path, &basic).status), (401, 401), "a new password");

    let bearer = site.bearer_with(name.as_str(), "another long password");
    assert_eq!(site.get(path, &bearer).status, 200);
    let none = Rights::Roles(BTreeSet::new());
    assert!(site.run(site.store.set_rights(&name, &none, &Reach::All, site.clock.now().wall)).expect("a database"));
    assert_eq!(site.get(path, &bearer).status, 403, "fewer rights");

    assert!(site.run(site.store.remove_user(&name)).expect("a database"));
    assert_eq!(site.get(path, &bearer).status, 401, "a removal");

    let admin = site.bearer("admin@example.com");
    site.clock.advance(Duration::from_secs(604_798));
    assert_eq!(site.get(path, &admin).status, 200, "a second before its end");
    site.clock.advance(Duration::from_secs(1));
    assert_eq!(site.get(path, &admin).status, 401, "at its end");
}

#[test]
fn a_user_keeps_the_newest_tokens_only_and_none_is_kept_in_clear() {
    let site = Site::start();
    let tokens: Vec<String> = (0..34)
        .map(|_| {
            site.clock.advance(Duration::from_secs(1));
            site.bearer("admin@example.com")
        })
        .collect();
    let status = |token: &String| site.get("/api/spaces/checkins/87654321", token).status;
    assert_eq!(tokens.iter().map(status).filter(|status| *status == 200).count(), 32);
    assert_eq!((status(&tokens[0]), status(&tokens[1]), status(&tokens[2])), (401, 401, 200));
    site.run(site.store.close());
    let file = fs::read(site.file()).expect("the database file");
    let newest = tokens[33].trim_start_matches("Bearer ").as_bytes();
    assert!(!file.windows(newest.len()).any(|window| window == newest));
    assert!(!file.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
}

#[test]
fn basic_is_checked_against_the_password_of_now() {
    let site = Site::start();
    let path = "/api/spaces/checkins/87654321";
    for (authorization, status) in [
        (basic("admin@example.com", PASSWORD), 200),
        (basic("admin@example.com", PASSWORD).replace("Basic", "bAsIc"), 200),
        (basic("admin@example.com", "wrong"), 401),
        (basic("admin@example.com", ""), 401),
        (basic("nobody", PASSWORD), 401),
        ("Basic".to_owned(), 401),
        ("Basic %%%".to_owned(), 401),
        (format!("Basic {}", STANDARD.encode("no colon")), 401),
        ("Digest username=admin".to_owned(), 401),
    ] {
        assert_eq!(site.get(path, &authorization).status, status, "{authorization}");
    }
}

#[test]
fn readiness_follows_start_up_conditions_and_the_database() {
    let site = Site::start_unready();
    let starting = site.ready();
    assert_eq!((starting.status, &starting.json()["status"]), (503, &json!("starting")));
    site.ready.started();
    assert_eq!(site.ready().body, r#"{"status":"ready","conditions":[]}"#);

    site.health.raise(ConditionKind::IdleLimitShort, "eth1", "leases of 8 h were seen");
    insta::assert_snapshot!(pretty(&site.ready()), @r#"
    {"status":"ready",
    "conditions":[{"name":"idle_limit_short",
    "subject":"eth1",
    "detail":"leases of 8 h were seen",
    "since":"2026-03-02T09:00:00Z",
    "blocking":false}]}
"#);
    assert_eq!(site.ready().status, 200, "a warning");

    site.health.raise(ConditionKind::CaptureBlind, "eth1", "eth1 is down");
    let blind = site.ready();
    assert_eq!((blind.status, &blind.json()["status"]), (503, &json!("not_ready")));
    insta::assert_snapshot!(pretty(&blind), @r#"
    {"status":"not_ready",
    "conditions":[{"name":"capture_blind",
    "subject":"eth1",
    "detail":"eth1 is down",
    "since":"2026-03-02T09:00:00Z",
    "blocking":true},{"name":"idle_limit_short",
    "subject":"eth1",
    "detail":"leases of 8 h were seen",
    "since":"2026-03-02T09:00:00Z",
    "blocking":false}]}
"#);
    site.health.clear(ConditionKind::CaptureBlind, "eth1");
    assert_eq!(site.ready().status, 200);
}

#[test]
fn a_database_that_does_not_answer_is_noticed_without_hurting_health() {
    let site = Site::start();
    let mut other = site.connect();
    site.run(other.execute("BEGIN EXCLUSIVE")).expect("the lock");
    let locked = site.ready();
    assert_eq!(locked.status, 503, "{locked:?}");
    assert_eq!(locked.json()["conditions"][0]["name"], "database_unavailable");
    assert_eq!(send(site.address, "GET", "/healthz", &[], "").status, 200);
    site.run(other.execute("ROLLBACK")).expect("the end of the lock");
    wait_for("the database to be ready again", Duration::from_secs(20), || {
        site.clock.advance(Duration::from_secs(1));
        let answer = site.ready();
        if answer.status == 200 { Ok(()) } else { Err(answer.body) }
    });
}

#[test]
fn metrics_are_ours_and_identify_no_person() {
    let site = Site::start();
    site.metrics.decided(Outcome::Opened, 1);
    site.bearer("admin@example.com");
    site.get("/api/spaces/checkins/87654321", "Bearer nonsense");
    let answer = send(site.address, "GET", "/metrics", &[("Accept", "application/openmetrics-text")], "");
    assert_eq!(answer.header("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    for line in answer.body.lines().filter(|line| *line != "# EOF") {
        let name = line.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").trim_start_matches("# UNIT ");
        assert!(name.starts_with("checkind_"), "{line}");
    }
    assert!(answer.body.contains("checkind_decisions_total{outcome=\"opened\"} 1\n"), "{}", answer.body);
    assert!(answer.body.contains("checkind_api_signins_total{result=\"refused\"} 1\n"), "{}", answer.body);
    for personal in ["Lovelace", "admin@example.com", "3c:22:fb"] {
        assert!(!answer.body.contains(personal), "{personal} in {}", answer.body);
    }
}

#[test]
fn the_log_says_who_signed_in_and_who_was_refused_and_holds_no_secret() {
    let site = Site::start();
    site.add("nothing", &Rights::Roles(BTreeSet::new()));
    let (address, log) = site.serve_logged();
    let path = "/api/spaces/checkins/87654321";
    let sign_in = |name: &str, password: &str| {
        send(
            address,
            "POST",
            "/api/token",
            &[FORM],
            &format!("grant_type=password&username={name}&password={password}"),
        )
    };
    let tokens = sign_in("nothing", &PASSWORD.replace(' ', "+")).json();
    let token = text(&tokens, "access_token");
    assert_eq!(sign_in("typed+into+the+wrong+field", "another-secret").status, 400);
    assert_eq!(send(address, "GET", path, &[("Authorization", &format!("Bearer {token}"))], "").status, 403);
    assert_eq!(send(address, "GET", path, &[("Authorization", &admin())], "").status, 200);
    assert_eq!(send(address, "GET", path, &[("Authorization", "Bearer nonsense")], "").status, 401);
    let log = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("UTF-8");
    for line in [
        "API user signed in user=nothing peer=127.0.0.1 kind=\"password\"",
        "API credential refused peer=127.0.0.1 kind=\"password\"",
        "the user lacks the role user=nothing peer=127.0.0.1 role=Checkin-Read",
        "API user signed in user=admin@example.com peer=127.0.0.1 kind=\"basic\"",
        "API credential refused peer=127.0.0.1 kind=\"bearer\"",
    ] {
        assert!(log.contains(line), "{line} in\n{log}");
    }
    let secrets = [PASSWORD, "another-secret", "wrong+field", "nonsense", token, text(&tokens, "refresh_token")];
    for secret in secrets.iter().chain(&["Lovelace", "3c:22:fb", &STANDARD.encode(PASSWORD)[4..20]]) {
        assert!(!log.contains(secret), "{secret} in\n{log}");
    }
}

#[test]
fn a_flood_of_sign_ins_leaves_the_rest_answering() {
    let site = Site::start();
    let bearer = site.bearer("admin@example.com");
    std::thread::scope(|scope| {
        let flood: Vec<_> = (0..24)
            .map(|number| {
                let form = format!("grant_type=password&username=user{number}&password=wrong");
                let site = &site;
                scope.spawn(move || site.token(&form).status)
            })
            .collect();
        assert_eq!(site.get("/api/spaces/checkins/87654321", &bearer).status, 200);
        for sign_in in flood {
            let status = sign_in.join().expect("a client");
            assert!(status == 400 || status == 503, "{status}");
        }
    });
}

#[test]
fn the_oldest_idle_connection_gives_way_and_the_condition_ends_by_itself() {
    let site = Site::start();
    let silent: Vec<_> = (0..128).map(|_| TcpStream::connect(site.address).expect("a place")).collect();
    assert_eq!(send(site.address, "GET", "/healthz", &[], "").status, 200);
    assert!(site.health.is_raised(ConditionKind::ApiExhausted, ""));
    silent[0].set_read_timeout(Some(Duration::from_secs(30))).expect("the time-out is set");
    assert_eq!((&silent[0]).read(&mut [0]).expect("an end"), 0, "the oldest one is closed");
    site.clock.advance(Duration::from_secs(59));
    assert!(site.ready().body.contains("api_exhausted"));
    drop(silent);
    wait_for("the condition to end", Duration::from_secs(20), || {
        site.clock.advance(Duration::from_secs(60));
        let is_raised = site.health.is_raised(ConditionKind::ApiExhausted, "");
        if is_raised { Err("it lasts".to_owned()) } else { Ok(()) }
    });
}

#[test]
fn monitoring_is_answered_while_every_other_place_works() {
    let site = Site::start();
    // The password is remembered, so each grant waits for nothing but the database.
    site.bearer("admin@example.com");
    let mut other = site.connect();
    site.run(other.execute("BEGIN EXCLUSIVE")).expect("the lock");
    let form = "grant_type=password&username=admin%40example.com&password=correct+horse+battery";
    let request = format!(
        "POST /api/token HTTP/1.1\r\nHost: x\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{form}",
        FORM.0,
        FORM.1,
        form.len()
    );
    let mut working = Vec::new();
    wait_for("every place to work", Duration::from_secs(8), || {
        // Until its request has arrived, a connection may have to give way to the next.
        let missing = if working.is_empty() { 128 } else { 1 };
        working.extend((0..missing).map(|_| {
            let mut stream = TcpStream::connect(site.address).expect("a place");
            stream.write_all(request.as_bytes()).expect("the request is sent");
            stream
        }));
        let answer = send(site.address, "GET", "/", &[], "");
        if answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    for (path, status) in [("/healthz", 200), ("/metrics", 200), ("/api/spaces/checkins/1", 503)] {
        let answer = send(site.address, "GET", path, &[], "");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    site.run(other.execute("ROLLBACK")).expect("the end of the lock");
    drop(working);
}

#[test]
fn a_stop_lets_a_request_that_has_begun_finish_and_takes_no_new_ones() {
    let site = Site::start();
    let mut begun = TcpStream::connect(site.address).expect("the server listens");
    let form = "grant_type=client_credentials";
    let head = format!(
        "POST /api/token HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{}: {}\r\nContent-Length: {}\r\n\r\n",
        FORM.0,
        FORM.1,
        form.len()
    );
    begun.write_all(head.as_bytes()).expect("the headers are sent");
    let mut carry_on = [0u8; 25];
    begun.read_exact(&mut carry_on).expect("the handler waits for the body");
    assert_eq!(&carry_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    site.stop.cancel();
    wait_for("the listener to close", Duration::from_secs(10), || match TcpStream::connect(site.address) {
        Ok(_) => Err("it still accepts".to_owned()),
        Err(_) => Ok(()),
    });
    begun.write_all(form.as_bytes()).expect("the body is sent");
    let mut answer = String::new();
    begun.read_to_string(&mut answer).expect("an answer");
    assert_eq!(parse(&answer).status, 400);
}

/// An API on a free port, with a few records and an administrator.
pub(crate) struct Site {
    address: SocketAddr,
    store: Store,
    health: Health,
    metrics: Metrics,
    clock: Clock,
    ready: Ready,
    stop: CancellationToken,
    runtime: Runtime,
    folder: TempDir,
}

impl Site {
    pub(crate) fn start() -> Self {
        let site = Self::start_unready();
        site.ready.started();
        site
    }

    fn start_unready() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("checkind.db");
        let store = runtime.block_on(Store::open(&Database::Sqlite { path })).expect("a new database");
        let wall = "2026-03-02T09:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().expect("a time");
        let boot = BootTime::from_duration(Duration::from_secs(100));
        let clock = Clock::manual(Now { wall: WallTime::from(wall), boot });
        let health = Health::new(clock.clone());
        let metrics = Metrics::new(health.clone(), &["unrecognised_device"]);
        let state = ApiState::new(store.clone().into(), health.clone(), metrics.clone(), clock.clone());
        let (ready, stop) = (state.ready(), CancellationToken::new());
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("its address");
        runtime.spawn(api::serve(listener, state, stop.clone()));
        let site = Self { address, store, health, metrics, clock, ready, stop, runtime, folder };
        site.fill();
        site
    }

    /// Serves the same site on a second port, in one thread whose log the test can read.
    fn serve_logged(&self) -> (SocketAddr, Log) {
        let state =
            ApiState::new(self.store.clone().into(), self.health.clone(), self.metrics.clone(), self.clock.clone());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket for the runtime");
        let address = listener.local_addr().expect("its address");
        let (log, stop) = (Log::default(), self.stop.clone());
        let writer = log.clone();
        std::thread::spawn(move || {
            let subscriber = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::TRACE)
                .with_writer(move || writer.clone())
                .finish();
            // With a single subscriber, log statements that other threads reach first stay disabled for this one too.
            let second = tracing::Dispatch::new(tracing_subscriber::registry());
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            tracing::subscriber::with_default(subscriber, || {
                runtime.block_on(async {
                    let listener = TcpListener::from_std(listener).expect("a listener");
                    api::serve(listener, state, stop).await.expect("a listener");
                });
            });
            drop(second);
        });
        (address, log)
    }

    fn fill(&self) {
        self.add("admin@example.com", &Rights::Administrator);
        let mut connection = self.connect();
        self.run(connection.execute(RECORDS)).expect("the records");
        self.run(connection.close()).expect("the end of the connection");
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("checkind.db")
    }

    pub(crate) fn connect(&self) -> SqliteConnection {
        self.run(SqliteConnectOptions::new().filename(self.file()).connect()).expect("a second connection")
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn add(&self, name: &str, rights: &Rights) {
        self.add_with(name, PASSWORD, rights);
    }

    pub(crate) fn add_with(&self, name: &str, password: &str, rights: &Rights) {
        self.add_within(name, password, rights, &Reach::All);
    }

    pub(crate) fn add_within(&self, name: &str, password: &str, rights: &Rights, reach: &Reach) {
        let name = name.parse().expect("a name");
        let password = StoredPassword::new(&SecretString::from(password)).expect("a good password");
        let added = self.run(self.store.add_user(&name, &password, rights, reach, self.clock.now().wall));
        assert!(added.expect("a database"), "{name} is new");
    }

    pub(crate) fn bearer(&self, name: &str) -> String {
        self.bearer_with(name, PASSWORD)
    }

    fn bearer_with(&self, name: &str, password: &str) -> String {
        let password = password.replace(' ', "+");
        let answer = self.token(&format!("grant_type=password&username={name}&password={password}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        format!("Bearer {}", text(&answer.json(), "access_token"))
    }

    pub(crate) fn get(&self, path: &str, authorization: &str) -> Answer {
        send(self.address, "GET", path, &[("Authorization", authorization), ("X-Request-Id", "r-1")], "")
    }

    pub(crate) fn token(&self, form: &str) -> Answer {
        send(self.address, "POST", "/api/token", &[FORM], form)
    }

    fn ready(&self) -> Answer {
        send(self.address, "GET", "/readyz", &[], "")
    }
}

/// A log that a test reads.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const RECORDS: &str = "
INSERT INTO checkins (id, unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time,
  to_time, counts_towards_plan_limits, coworker_time_pass_guid, auto_checkout, last_activity, mac_addresses,
  teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin, from_time_local, to_time_local, created_on, updated_on,
  updated_by, system_id)
VALUES (87654321, 'a1b2c3d4-e5f6-7890-abcd-ef1234567890', 42, 'Ada Lovelace', 1, 'Hub One', 2,
  '2026-03-01T09:05:00.999Z', '2026-03-01T17:31:02.000Z', 1, '0f9e8d7c-6b5a-4321-8fed-cba987654321', 1,
  '2026-03-01T17:31:02.000Z', '3c:22:fb:00:00:01,3c:22:fb:00:00:02', 'Engines,Analysts', 'Full time',
  '2026-03-01T10:05:00', '2026-03-01T18:31:02', '2026-03-01T09:05:01.000Z', '2026-03-01T18:16:03.000Z', 'checkind',
  'crm-7');
INSERT INTO checkins (id, unique_id, business_id, source, from_time, from_time_local, created_on, updated_on,
  updated_by)
VALUES (9223372036854775807, 'b1b2c3d4-e5f6-7890-abcd-ef1234567890', 1, 1, '2026-03-01T09:05:00.000Z',
  '2026-03-01T09:05:00', '2026-03-01T09:05:01.000Z', '2026-03-01T09:05:01.000Z', 'admin@example.com');
INSERT INTO failed_checkins (id, unique_id, business_id, business_name, checkin_attempt_time, source, mac_addresses,
  description, checkin_attempt_time_local, created_on, updated_on, updated_by, code)
VALUES (5, 'c1b2c3d4-e5f6-7890-abcd-ef1234567890', 1, 'Hub One', '2026-03-01T09:05:00.000Z', 3, '3c:22:fb:00:00:01',
  'unrecognised_device: no coworker has a device with this MAC address', '2026-03-01T10:05:00',
  '2026-03-01T09:05:01.000Z', '2026-03-01T09:05:01.000Z', 'checkind', 'unrecognised_device');
";

fn admin() -> String {
    basic("admin@example.com", PASSWORD)
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

fn text<'a>(body: &'a Value, key: &str) -> &'a str {
    body[key].as_str().unwrap_or_else(|| panic!("no text {key} in {body}"))
}

/// The type of a key in the platform's example of an entity. A key that is null there may have any type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Null,
    Bool,
    Number,
    Text,
}
use Shown::{Bool, Null, Number, Text};

/// The keys of a check-in, in the platform's order.
const CHECKIN: &[(&str, Shown)] = &[
    ("CoworkerId", Null),
    ("CoworkerFullName", Null),
    ("BusinessId", Number),
    ("BusinessName", Null),
    ("Source", Number),
    ("FromTime", Text),
    ("ToTime", Null),
    ("CountsTowardsPlanLimits", Bool),
    ("CoworkerTimePassGuid", Null),
    ("AutoCheckout", Bool),
    ("LastActivity", Null),
    ("MacAddresses", Null),
    ("TeamsAtTheTimeOfCheckin", Null),
    ("TariffAtTheTimeOfCheckin", Null),
    ("ValidateCheckinJobId", Null),
    ("FromTimeLocal", Null),
    ("ToTimeLocal", Null),
    ("Id", Number),
    ("UpdatedOn", Text),
    ("CreatedOn", Text),
    ("UniqueId", Text),
    ("UpdatedBy", Text),
    ("IsNew", Bool),
    ("SystemId", Null),
    ("ToStringText", Text),
    ("LocalizationDetails", Null),
    ("CustomFields", Null),
];

/// The keys of a failed check-in, in the platform's order.
const FAILED_CHECKIN: &[(&str, Shown)] = &[
    ("CoworkerId", Null),
    ("CoworkerFullName", Null),
    ("BusinessId", Number),
    ("BusinessName", Null),
    ("CheckinAttemptTime", Text),
    ("Source", Number),
    ("MacAddresses", Null),
    ("TeamsAtTheTimeOfCheckin", Null),
    ("TariffAtTheTimeOfCheckin", Null),
    ("Description", Null),
    ("CheckinAttemptTimeLocal", Null),
    ("Id", Number),
    ("UpdatedOn", Text),
    ("CreatedOn", Text),
    ("UniqueId", Text),
    ("UpdatedBy", Text),
    ("IsNew", Bool),
    ("SystemId", Null),
    ("ToStringText", Text),
    ("LocalizationDetails", Null),
    ("CustomFields", Null),
];

fn names(entity: &[(&str, Shown)]) -> Vec<String> {
    entity.iter().map(|(name, _)| (*name).to_owned()).collect()
}

/// The keys of a flat JSON object, in the order written.
fn keys(body: &str) -> Vec<String> {
    struct Keys(Vec<String>);
    impl<'de> serde::Deserialize<'de> for Keys {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_map(Keys(Vec::new()))
        }
    }
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = Self;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
            while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                self.0.push(key);
            }
            Ok(self)
        }
    }
    serde_json::from_str::<Keys>(body).unwrap_or_else(|error| panic!("no object ({error}): {body}")).0
}

/// A body with one key per line, in the order sent.
fn pretty(answer: &Answer) -> String {
    answer.body.replace(",\"", ",\n\"")
}
