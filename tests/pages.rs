//! Web pages that call the API from a browser (CORS).

use crate::support::{
    daemon::{Daemon, Home, site},
    http::{self, Answer},
};

const PAGE: &str = "https://kiosk.example";

/// A site whose API pages of one origin may call.
fn with_pages() -> (Home, Daemon) {
    let home = Home::new(&format!("cors_origins = [\"{PAGE}\"]\n{}", site("")));
    let daemon = home.start();
    (home, daemon)
}

fn asked(daemon: &Daemon, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    http::send(daemon.api(), method, path, headers, "")
}

#[test]
fn a_listed_page_may_ask_and_read_and_no_other() {
    let (_home, daemon) = with_pages();
    let preflight = [("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "authorization")];
    let ours = [&preflight[..], &[("Origin", PAGE)]].concat();
    let answer = asked(&daemon, "OPTIONS", "/api/spaces/checkins", &ours);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""), "without a user: {answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), PAGE);
    assert!(answer.header("access-control-allow-methods").contains("PUT"), "{answer:?}");
    assert!(answer.header("access-control-allow-headers").contains("authorization"), "{answer:?}");
    assert!(answer.all("access-control-allow-credentials").is_empty(), "{answer:?}");
    for (path, status) in [("/api/spaces/checkins", 401), ("/api/nothing", 404), ("/healthz", 200)] {
        let answer = asked(&daemon, "GET", path, &[("Origin", PAGE)]);
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, PAGE), "{path}");
        assert!(answer.header("access-control-expose-headers").contains("x-request-id"), "{path}");
        assert_eq!(answer.header("vary"), "origin", "{path}");
    }
    for others in [
        &[("Origin", "https://kiosk.example.evil.example")][..],
        &[("Origin", "http://kiosk.example")],
        &[("Origin", "https://kiosk.example:8443")],
        &[("Origin", "null")],
        &[("Origin", PAGE), ("Origin", PAGE)],
        &[],
    ] {
        let answer = asked(&daemon, "OPTIONS", "/api/spaces/checkins", &[&preflight[..], others].concat());
        assert_eq!(answer.status, 405, "{others:?}: {answer:?}");
        let answers = [answer, asked(&daemon, "GET", "/healthz", others)];
        let any = |answer: &Answer| answer.all("access-control-allow-origin").len();
        assert_eq!(answers.iter().map(any).sum::<usize>(), 0, "{others:?}");
    }
    let plain = asked(&daemon, "OPTIONS", "/api/spaces/checkins", &[("Origin", PAGE)]);
    assert_eq!(plain.status, 405, "no preflight: {plain:?}");
}

#[test]
fn without_a_list_no_page_may_read() {
    let home = Home::new(&site(""));
    let daemon = home.start();
    let headers = [("Origin", PAGE), ("Access-Control-Request-Method", "GET")];
    for (method, status) in [("OPTIONS", 405), ("GET", 401)] {
        let answer = asked(&daemon, method, "/api/spaces/checkins", &headers);
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.all("access-control-allow-origin").is_empty() && answer.all("vary").is_empty(), "{answer:?}");
    }
}
