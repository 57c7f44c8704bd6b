//! Attacks on the API and on the log, run against the real binary: guessing, floods of refused tokens, clients that
//! never read, never finish or hold every connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::{
    net::{AddressFamily, SocketType, bind, socket},
    process::setpriority_process,
};

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, doors, site},
    http::{Answer, parse, send},
    lan::Namespace,
    wait_for,
};

const PASSWORD: &str = "correct horse battery";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");
const RECORD: &str = "/api/spaces/checkins/1";

/// The memory of the two passwords that may be hashed at the same time and of 48 connections, in KiB.
const TWO_HASHES: u64 = 60 * 1024;

/// A gateway without a site, with the user `ada`.
fn gateway() -> (Home, Daemon) {
    let home = Home::new("");
    home.tell(&["migrate"], "");
    let daemon = home.start();
    home.tell(&["user", "add", "ada", "--role", "Checkin-Read"], &format!("{PASSWORD}\n"));
    (home, daemon)
}

/// Asks for tokens with a password, through a proxy that says whose request it is.
fn sign_in(api: SocketAddr, from: Option<&str>, name: &str, password: &str) -> Answer {
    let form = format!("grant_type=password&username={name}&password={}", password.replace(' ', "+"));
    let mut headers = vec![FORM, ("X-Request-Id", "r-1")];
    headers.extend(from.map(|from| ("X-Forwarded-For", from)));
    send(api, "POST", "/api/token", &headers, &form)
}

/// Sends a request and returns the status of its answer; `None` if the connection ends without one.
fn status_of(api: SocketAddr, request: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(api).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    // What was read before a reset counts.
    let _end = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1)?.parse().ok()
}

/// The status of an attempt to sign in from an address.
fn status_of_sign_in(api: SocketAddr, from: &str, name: &str, password: &str) -> Option<u16> {
    let form = format!("grant_type=password&username={name}&password={}", password.replace(' ', "+"));
    let request = format!(
        "POST /api/token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Forwarded-For: {from}\r\n{}: {}\r\n\
         Content-Length: {}\r\n\r\n{form}",
        FORM.0,
        FORM.1,
        form.len()
    );
    status_of(api, &request)
}

fn read_with_basic(api: SocketAddr, from: &str, name: &str, password: &str) -> Answer {
    let authorization = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
    send(api, "GET", RECORD, &[("Authorization", &authorization), ("X-Forwarded-For", from)], "")
}

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

#[test]
fn after_some_failures_the_next_sign_in_waits_and_says_how_long() {
    let (_home, daemon) = gateway();
    let api = daemon.api();
    let mut statuses = Vec::new();
    let waits = wait_for("a wait of some seconds", LIMIT, || {
        let answer = sign_in(api, Some("203.0.113.5"), "ada", &format!("guess {}", statuses.len()));
        statuses.push(answer.status);
        if answer.status == 429 && answer.header("retry-after") == "4" {
            Ok(answer)
        } else {
            Err(format!("{answer:?}"))
        }
    });
    assert_eq!(statuses[..5], [400; 5], "the first failures are free");
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 7, "the waits were of 1, 2 and 4 seconds");
    insta::assert_snapshot!(waits.body, @r#"{"Status":429,"Message":"Too many failed sign-ins. Wait 4 seconds.","Value":null,"Errors":null,"WasSuccessful":false,"RequestId":"r-1"}"#);
    // Also the right password waits, in whichever way it is sent; otherwise guessing would go on.
    assert_eq!(sign_in(api, Some("203.0.113.5"), "ada", PASSWORD).status, 429);
    assert_eq!(read_with_basic(api, "203.0.113.5", "bob", PASSWORD).status, 429, "another name from there");
    assert_eq!(sign_in(api, Some("203.0.113.6"), "ada", PASSWORD).status, 200, "from elsewhere");
    wait_for("the wait to end", LIMIT, || match sign_in(api, Some("203.0.113.5"), "ada", PASSWORD).status {
        200 => Ok(()),
        status => Err(status.to_string()),
    });
    assert!(daemon.metric("checkind_api_signins_total", "throttled") >= 2);
    assert!(daemon.log().contains("too many failed sign-ins; the next one has to wait"), "{}", daemon.log());

    let refresh = |from: &str, letter: char| {
        let form = format!("grant_type=refresh_token&refresh_token={}", letter.to_string().repeat(43));
        send(api, "POST", "/api/token", &[FORM, ("X-Forwarded-For", from)], &form).status
    };
    let tried: Vec<u16> = "AEIMQUYcgkosw".chars().map(|letter| refresh("203.0.113.7", letter)).collect();
    assert!(tried[..5] == [400; 5] && tried.contains(&429), "{tried:?}");
    assert_eq!(refresh("203.0.113.8", 'A'), 400, "from elsewhere");
    daemon.stop();
}

#[test]
fn a_wrong_password_that_is_sent_again_and_again_locks_no_one_out() {
    let (_home, daemon) = gateway();
    for _ in 0..40 {
        let answer = read_with_basic(daemon.api(), "203.0.113.5", "ada", "the password of last year");
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    let right = read_with_basic(daemon.api(), "203.0.113.5", "ada", PASSWORD);
    assert_eq!(right.status, 404, "the record does not exist, but the password is right: {right:?}");
    daemon.stop();
}

#[test]
fn guesses_from_everywhere_do_not_lock_out_a_user_at_a_known_address() {
    let (_home, daemon) = gateway();
    let api = daemon.api();
    assert_eq!(sign_in(api, Some("198.51.100.7"), "ada", PASSWORD).status, 200);
    let guesses: Vec<u16> = (0..24)
        .map(|number| sign_in(api, Some(&format!("203.0.113.{number}")), "ada", &format!("guess {number}")).status)
        .collect();
    assert!(guesses[..20].iter().all(|status| *status == 400), "{guesses:?}");
    assert!(guesses.contains(&429), "{guesses:?}");
    // Another password than the remembered one is checked, and the right one still gets in.
    assert_eq!(sign_in(api, Some("198.51.100.7"), "ada", "mistyped").status, 400);
    assert_eq!(sign_in(api, Some("198.51.100.7"), "ada", PASSWORD).status, 200);
    daemon.stop();
}

#[test]
fn a_good_sign_in_is_answered_at_once_while_64_clients_guess() {
    let (_home, daemon) = gateway();
    let api = daemon.api();
    // One client has signed in before through a proxy that does not say whose requests it passes on.
    assert_eq!(sign_in(api, None, "ada", PASSWORD).status, 200);
    let (stop, tries) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for client in 0..64 {
            let (stop, tries) = (&stop, &tries);
            scope.spawn(move || {
                // Sixty-four busy clients on the same machine must not take the processor from the daemon.
                setpriority_process(Some(rustix::thread::gettid()), 19).expect("a thread may be nicer");
                let from = format!("203.0.113.{client}");
                // Half of them come through that proxy too, and invent names.
                let from = (client % 2 == 0).then_some(from.as_str());
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let answer = sign_in(api, from, &format!("user-{client}-{number}"), "a guess");
                    assert!([400, 429, 503].contains(&answer.status), "{answer:?}");
                    tries.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_for("the attack to be under way", LIMIT, || match tries.load(Ordering::Relaxed) {
            few @ 0..640 => Err(few.to_string()),
            _ => Ok(()),
        });
        let attempts = [
            ("an unknown address", Some("198.51.100.7")),
            ("a known address", Some("198.51.100.7")),
            ("behind the silent proxy", None),
        ];
        let times = attempts.map(|(who, from)| {
            let (answer, took) = timed(|| sign_in(api, from, "ada", PASSWORD));
            (who, answer.status, took)
        });
        stop.store(true, Ordering::Relaxed);
        for (who, status, took) in times {
            // Other tests share the machine.
            assert!(status == 200 && took < Duration::from_millis(1500), "{who}: {status} after {took:?}; {times:?}");
        }
    });
    daemon.stop();
}

#[test]
fn guessers_with_an_address_for_each_guess_delay_no_good_sign_in_and_keep_out_no_token() {
    let (_home, daemon) = gateway();
    let api = daemon.api();
    let granted = sign_in(api, None, "ada", PASSWORD).json();
    let token = granted["access_token"].as_str().expect("a token");
    let read =
        format!("GET {RECORD} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n");
    let before = daemon.peak_memory();
    let (stop, guesses) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (mut good, mut reads) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        // More than there are places for connections.
        for network in 0..140 {
            let (stop, guesses) = (&stop, &guesses);
            scope.spawn(move || {
                setpriority_process(Some(rustix::thread::gettid()), 19).expect("a thread may be nicer");
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let from = format!("10.{network}.{}.{}", number / 250, number % 250);
                    let name = format!("user-{network}-{number}");
                    // While there are more guessers than places, some connections end without an answer.
                    let (status, took) = timed(|| status_of_sign_in(api, &from, &name, "a+guess"));
                    if status == Some(400) {
                        guesses.lock().expect("not poisoned").push(took);
                    }
                }
            });
        }
        for number in 0..5 {
            let many = 150 * (number + 1);
            wait_for("the attack to go on", LIMIT, || match guesses.lock().expect("not poisoned").len() {
                few if few < many => Err(few.to_string()),
                _ => Ok(()),
            });
            let from = format!("198.{number}.100.7");
            // A client repeats what was not answered.
            let (status, took) = timed(|| {
                (0..10).find_map(|_| status_of_sign_in(api, &from, "ada", PASSWORD).filter(|status| *status != 503))
            });
            good.push((took, status));
            for _ in 0..4 {
                reads.push((0..10).find_map(|_| status_of(api, &read).filter(|status| *status != 503)));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    let mut guesses = guesses.into_inner().expect("not poisoned");
    guesses.sort();
    good.sort();
    let (of_a_guess, (took, _)) = (guesses[guesses.len() / 2], good[good.len() / 2]);
    assert!(good.iter().all(|(_, status)| *status == Some(200)), "{good:?}");
    assert!(reads.iter().all(|status| *status == Some(404)), "{reads:?}");
    // Other tests share the machine, so compare with what the guessers wait.
    assert!(took < of_a_guess / 4, "{good:?}, and a guess took {of_a_guess:?}");
    let grown = daemon.peak_memory() - before;
    assert!(grown < TWO_HASHES, "{} guesses took {grown} KiB", guesses.len());
    daemon.stop();
}

#[test]
fn a_flood_of_refused_tokens_is_some_lines_of_the_log_and_a_number() {
    const TOKENS: usize = 2000;
    let (_home, daemon) = gateway();
    let mut stream = TcpStream::connect(daemon.api()).expect("the API listens");
    let mut answers = stream.try_clone().expect("a second handle");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..TOKENS {
                let close = if number + 1 == TOKENS { "Connection: close\r\n" } else { "" };
                let request =
                    format!("GET {RECORD} HTTP/1.1\r\nHost: x\r\n{close}Authorization: Bearer {number:043}\r\n\r\n");
                stream.write_all(request.as_bytes()).expect("it is read");
            }
        });
        let mut read = String::new();
        answers.read_to_string(&mut read).expect("answers");
        assert_eq!(read.matches("HTTP/1.1 401").count(), TOKENS);
    });
    assert_eq!(daemon.metric("checkind_api_signins_total", "refused"), TOKENS as u64);
    let lines = daemon.lines("API credential refused").len();
    // The flood may cross the end of a minute.
    assert!((30..=61).contains(&lines), "{lines}");
    let log = daemon.stop();
    let left_out: usize = log
        .lines()
        .filter(|line| line.contains("more like this in the last minute: API credential refused"))
        .map(|line| line.split("… and ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a number"))
        .map(|number| number.parse::<usize>().expect("a number"))
        .sum();
    assert_eq!(log.matches("API credential refused peer=").count() + left_out, TOKENS, "{log}");
}

#[test]
fn what_strangers_send_stays_on_its_line_of_the_log_and_moves_no_cursor() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let forged = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nERROR forged line\u{9b}31m \u{202e}";
    for payload in [forged.to_owned(), format!("{{\"door\": \"{}\", \"time\": 7}}", forged.escape_default())] {
        broker.publish("flat/events", payload.as_bytes(), 1);
    }
    daemon.wait_for_line("a message was not understood");
    let authorization = format!("Basic {}", STANDARD.encode(format!("{forged}:{forged}")));
    assert_eq!(daemon.send("GET", RECORD, &[("Authorization", &authorization)], "").status, 401);
    let path = "/%1b[2J%0aERROR%20forged%20line";
    assert_eq!(daemon.send("GET", path, &[("User-Agent", "\u{9b}31m")], "").status, 404);
    let log = daemon.stop();
    let unruly = |c: char| c != '\n' && (c.is_control() || ('\u{2028}'..='\u{202e}').contains(&c));
    assert!(!log.contains(unruly), "{log:?}");
    assert!(log.lines().all(|line| !line.starts_with("ERROR forged")), "{log}");
}

/// Sends as much as the server takes without reading anything.
fn stuff(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_write_timeout(Some(Duration::from_millis(20))).expect("the time-out is set");
    while stream.write_all(bytes).is_ok() {}
}

#[test]
fn clients_that_never_read_or_never_finish_keep_no_one_out() {
    let (_home, daemon) = gateway();
    let api = daemon.api();
    let mut held = Vec::new();
    let many = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    for number in 0..140 {
        let mut stream = TcpStream::connect(api).expect("the API accepts");
        match number % 3 {
            // Pipelines requests and never reads.
            0 => stuff(&mut stream, many.as_bytes()),
            // Never finishes its headers, or its body.
            1 => stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").expect("the first bytes are sent"),
            _ => stream
                .write_all(b"POST /api/token HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ngrant")
                .expect("the first bytes are sent"),
        }
        held.push(stream);
    }
    for path in ["/healthz", "/readyz", "/metrics", RECORD] {
        let (answer, took) = timed(|| daemon.get(path));
        assert!([200, 401].contains(&answer.status) && took < Duration::from_secs(1), "{path}: {took:?} {answer:?}");
    }
    assert!(daemon.conditions()["api_exhausted"].contains("all 128 connections"), "{:?}", daemon.conditions());
    assert!(daemon.metric("checkind_api_connections_cut_total", "gave_way") >= 12);
    assert!(daemon.metric("checkind_api_connections", "") <= 136);
    // Those that do not read are cut also when no one else needs their place.
    wait_for("unread responses to be cut", LIMIT, || {
        let cut = daemon.metric("checkind_api_connections_cut_total", "unread");
        if cut > 0 { Ok(()) } else { Err(daemon.get("/metrics").body) }
    });
    drop(held);
    daemon.stop();
}

/// Connects from one of several addresses of this machine.
fn connect(from: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddr::from((from, 0))).expect("an address of this machine");
    rustix::net::connect(&socket, &to).expect("the API accepts");
    TcpStream::from(socket)
}

#[test]
fn one_address_holds_half_of_the_connections_and_makes_room_for_itself_only() {
    const API: [u8; 4] = [192, 0, 2, 1];
    const GREEDY: [u8; 4] = [192, 0, 2, 2];
    const OTHER: [u8; 4] = [192, 0, 2, 3];
    let namespace = Namespace::new("places");
    for address in [API, GREEDY, OTHER] {
        namespace.ip(&["addr", "add", &format!("{}/32", Ipv4Addr::from(address)), "dev", "lo"]);
    }
    let home = Home::new("");
    let text = std::fs::read_to_string(home.path("checkind.toml")).expect("its settings");
    let listen = "listen = \"192.0.2.1:0\"\nprotected_by = \"a test\"";
    home.write("checkind.toml", &text.replace("listen = \"127.0.0.1:0\"", listen));
    let daemon = home.start_by(&["ip", "netns", "exec", namespace.name(), BINARY], &[]).inside(namespace.name());
    let api = daemon.api();
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            Namespace::enter(namespace.name());
            let ask = |path: &str| {
                let mut stream = connect(OTHER, api);
                let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                stream.write_all(request.as_bytes()).expect("it is read");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("an answer");
                parse(&answer)
            };
            let other = connect(OTHER, api);
            let greedy: Vec<TcpStream> = (0..70).map(|_| connect(GREEDY, api)).collect();
            for old in &greedy[..6] {
                old.set_read_timeout(Some(LIMIT)).expect("a limit");
                assert_eq!((&mut &*old).read(&mut [0]).expect("an end"), 0, "the oldest ones give way");
            }
            assert_eq!(ask("/healthz").status, 200);
            for kept in greedy[6..].iter().chain([&other]) {
                kept.set_nonblocking(true).expect("set");
                let fault = (&mut &*kept).read(&mut [0]).expect_err("nothing to read");
                assert_eq!(fault.kind(), ErrorKind::WouldBlock, "it is still open");
            }
            let ready = ask("/readyz");
            assert!(!ready.body.contains("api_exhausted"), "{ready:?}");
        });
        clients.join().expect("what the clients see");
    });
    assert_eq!(daemon.metric("checkind_api_connections_cut_total", "gave_way"), 6);
    daemon.stop();
}

#[test]
fn what_breaks_the_rules_of_http_is_refused_and_its_connection_ends() {
    let (_home, daemon) = gateway();
    let lines = |number: usize| (0..number).fold(String::new(), |lines, n| lines + "X-" + &n.to_string() + ": 1\r\n");
    let long = |bytes: usize| format!("X-Long: {}\r\n", "a".repeat(bytes));
    let token = "POST /api/token HTTP/1.1\r\nHost: x\r\n";
    for (what, request, statuses) in [
        ("no host", "GET /healthz HTTP/1.1\r\n\r\n".to_owned(), &[400][..]),
        ("two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), &[400]),
        ("no host in HTTP/1.0", "GET /healthz HTTP/1.0\r\n\r\n".to_owned(), &[200]),
        (
            "100 header lines",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", lines(98)),
            &[200],
        ),
        (
            "101 header lines",
            format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", lines(99)),
            &[431],
        ),
        ("31 KiB", format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", long(31 * 1024)), &[200]),
        ("32 KiB", format!("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}\r\n", long(32 * 1024)), &[431]),
        ("no request", "\u{16}\u{3}\u{1} TLS\r\n\r\n".to_owned(), &[400]),
        ("a space before the colon", "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), &[400]),
        ("two lengths", format!("{token}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"), &[400]),
        ("a length with a sign", format!("{token}Content-Length: +4\r\n\r\nabcd"), &[400]),
        ("a list of lengths", format!("{token}Content-Length: 4, 4\r\n\r\nabcd"), &[400]),
        ("an unknown coding", format!("{token}Transfer-Encoding: gzip\r\n\r\nabcd"), &[400]),
        ("chunked, but not last", format!("{token}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), &[400]),
        (
            "chunks in HTTP/1.0",
            "POST /api/token HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            &[400],
        ),
        ("a bad chunk size", format!("{token}Transfer-Encoding: chunked\r\n\r\nzz\r\nabcd\r\n0\r\n\r\n"), &[400]),
        ("a huge chunk size", format!("{token}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcd"), &[400]),
        ("a chunk without its end", format!("{token}Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"), &[400]),
        ("a length that lies", format!("{token}Content-Length: 70000\r\n\r\nabcd"), &[413]),
        // The length is ignored (RFC 9112 6.1), and what follows the body is not taken for a request.
        (
            "a length and chunks",
            format!(
                "{token}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            ),
            &[400],
        ),
        (
            "chunks and a length",
            format!(
                "{token}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
            ),
            &[400],
        ),
    ] {
        let mut stream = TcpStream::connect(daemon.api()).expect("the API listens");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("the time-out is set");
        // The server may close before it has read everything.
        let _early = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let got: Vec<u16> = answer.match_indices("HTTP/1.").map(|(at, _)| parse(&answer[at..]).status).collect();
        assert_eq!(got, statuses, "{what}: {answer}");
    }
    daemon.stop();
}

#[test]
fn the_metrics_come_in_the_format_that_is_asked_for() {
    let (_home, daemon) = gateway();
    for (accept, content_type, line) in [
        (None, "text/plain; version=0.0.4; charset=utf-8", "# TYPE checkind_decisions_total counter"),
        (Some("text/plain"), "text/plain; version=0.0.4; charset=utf-8", "# TYPE checkind_build_info gauge"),
        (
            Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "# TYPE checkind_decisions counter",
        ),
    ] {
        let headers: Vec<(&str, &str)> = accept.map(|accept| ("Accept", accept)).into_iter().collect();
        let answer = daemon.send("GET", "/metrics", &headers, "");
        assert_eq!(answer.header("content-type"), content_type, "{accept:?}");
        assert!(answer.body.lines().any(|known| known == line), "{line} in {}", answer.body);
        assert_eq!(answer.body.ends_with("# EOF\n"), content_type.contains("openmetrics"), "{accept:?}");
    }
    daemon.stop();
}
