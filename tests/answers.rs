//! What every answer of the API has in common: the id of its request, and one form of errors.

use serde_json::json;

use crate::support::{
    daemon::{Daemon, Home, site},
    http::{self, Answer},
};

fn asked(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    http::send(daemon.api(), method, path, headers, "")
}

#[test]
fn every_answer_has_the_id_of_its_request_and_so_has_the_log() {
    let home = Home::new(&site(""));
    let daemon = home.start();
    let large = "x".repeat(64 * 1024 + 1);
    for (number, (method, path, more, body, status)) in [
        ("GET", "/healthz", None, "", 200),
        ("GET", "/api/spaces/checkins", None, "", 401),
        ("GET", "/api/spaces/checkins", Some(("Authorization", "Bearer nonsense")), "", 401),
        ("GET", "/nowhere", None, "", 404),
        ("DELETE", "/api/token", None, "", 405),
        ("POST", "/api/token", None, large.as_str(), 413),
        ("POST", "/api/token", None, "grant_type=magic", 400),
        ("POST", "/api/token", Some(("Content-Type", "application/json")), "{}", 400),
        ("GET", "/healthz", Some(("Host", "second")), "", 400),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("client-{number}");
        let headers: Vec<_> = [("X-Request-Id", id.as_str())].into_iter().chain(more).collect();
        let answer = http::send(daemon.api(), method, path, &headers, body);
        assert_eq!((answer.status, answer.header("x-request-id")), (status, id.as_str()), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8", "{method} {path}");
        let said = answer.json();
        if status >= 400 {
            assert_eq!((&said["Status"], &said["RequestId"]), (&json!(status), &json!(id)), "{method} {path}");
            assert_eq!((&said["Value"], &said["Errors"]), (&json!(null), &json!(null)), "{method} {path}");
            assert!(said["Message"].as_str().is_some_and(|message| !message.is_empty()), "{said}");
        }
    }
    daemon.wait_for_line("request{id=\"client-2\"}: API credential refused");
    let refused = http::send(daemon.api(), "POST", "/api/token", &[], "grant_type=magic").json();
    assert_eq!(refused["error"], "unsupported_grant_type");
    assert_eq!(refused["Message"], refused["error_description"]);
}

#[test]
fn an_id_that_is_not_sane_is_replaced() {
    let home = Home::new(&site(""));
    let daemon = home.start();
    let long = "x".repeat(129);
    for ids in
        [&[][..], &[("X-Request-Id", "two words")], &[("X-Request-Id", long.as_str())], &[("X-Request-Id", "a"); 2]]
    {
        let answers = [asked(&daemon, "GET", "/nowhere", ids), asked(&daemon, "GET", "/nowhere", ids)];
        let [one, other] = answers.each_ref().map(|answer| answer.header("x-request-id"));
        assert!(one.len() == 36 && one != other, "{ids:?}: {one} {other}");
        assert_eq!(answers[0].json()["RequestId"], one);
    }
}

#[test]
fn the_answer_to_head_has_no_body() {
    let home = Home::new(&site(""));
    let daemon = home.start();
    for (path, status) in [("/nowhere", 404), ("/healthz", 200), ("/api/spaces/checkins", 401)] {
        let answer = asked(&daemon, "HEAD", path, &[]);
        assert_eq!((answer.status, answer.body.as_str()), (status, ""), "{path}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}
