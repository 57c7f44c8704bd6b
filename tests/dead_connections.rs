//! A connection that dies without a word, in the middle of a question: the daemon works again within seconds, says
//! meanwhile what hangs, and loses and doubles nothing. So does a `COMMIT` that the server does not answer.

use std::time::Duration;

use checkind::base::clock::{BootTime, Clock};

use crate::support::{
    broker::Broker,
    daemon::{Daemon, Home, LIMIT, Way, card, doors, flat_event, next_second, people, site},
    ledger::Ledger,
    postgres::Postgres,
    proxy::{Proxy, Trigger},
    wait_for,
};

/// After this long the daemon works as if nothing had happened.
const BACK: Duration = Duration::from_secs(15);

/// A gateway that reaches its database and its broker through proxies, and another way to the database.
struct Site {
    server: Postgres,
    broker: Broker,
    to_database: Proxy,
    to_broker: Proxy,
    /// The gateway's own folder.
    _home: Home,
    /// A folder for commands that ask the database directly.
    office: Home,
    daemon: Daemon,
    taps: u32,
}

impl Site {
    /// Person 1 is in.
    fn start() -> Self {
        let (server, broker) = (Postgres::start(), Broker::plain());
        let to_database = Proxy::start(&server.address());
        let to_broker = Proxy::start(&format!("127.0.0.1:{}", broker.port));
        let url = format!("postgres://checkind@127.0.0.1:{}/postgres", to_database.port);
        let home = Home::on(&url, &(site("") + &doors(to_broker.port)));
        let office = Home::on(&server.url(), &site(""));
        office.import(&people(20, &[]));
        let mut daemon = home.start();
        daemon.wait_until_ready();
        let mut site = Self { server, broker, to_database, to_broker, _home: home, office, daemon, taps: 0 };
        site.tap(1);
        site.wait("the first tap", now(), || site.has(1));
        site
    }

    fn ledger(&self) -> Ledger {
        Ledger::of(&self.server.url())
    }

    /// A person taps on their way in.
    fn tap(&mut self, person: u32) {
        self.taps += 1;
        self.broker.publish_lines("flat/events", [flat_event(self.taps, card(person), Way::In, next_second())], 1);
    }

    fn has(&self, facts: i64) -> Result<(), String> {
        match self.ledger().facts() {
            found if found == facts => Ok(()),
            found => Err(format!("{found} facts")),
        }
    }

    /// Waits for a state, which must come within [`BACK`] of the beginning.
    fn wait(&self, what: &str, began: BootTime, state: impl Fn() -> Result<(), String>) {
        let left = BACK.saturating_sub(now().since(began));
        wait_for(what, left, || state().map_err(|last| format!("{last}\n{}", self.daemon.log())));
    }

    /// While something hangs: person 2 taps, person 3 becomes inactive and taps. Within [`BACK`], the first is in and
    /// the other refused. Meanwhile `/readyz` has one of these conditions.
    fn works_again_after(&mut self, hangs: impl Fn(&Self) -> bool, conditions: &[&str]) {
        self.tap(2);
        wait_for("the silence", LIMIT, || if hangs(self) { Ok(()) } else { Err(self.daemon.log()) });
        let began = now();
        self.office.import(&serde_json::json!({ "Coworkers": [{ "Id": 3, "Active": false }] }));
        self.tap(3);
        wait_for("what hangs to be named", LIMIT, || {
            let raised = self.daemon.conditions();
            let is_named = conditions.iter().any(|condition| raised.contains_key(*condition));
            if is_named { Ok(()) } else { Err(self.daemon.log()) }
        });
        self.wait("both taps to be decided", began, || self.has(3));
        self.wait("the daemon to be ready", began, || match self.daemon.get("/readyz") {
            answer if answer.status == 200 => Ok(()),
            answer => Err(answer.body),
        });
        self.is_intact(2, 1);
    }

    /// Checks that each tap has left exactly one record, and that the daemon knows who is in.
    fn is_intact(&self, visits: u32, refused: i64) {
        let ledger = self.ledger();
        assert_eq!(ledger.facts(), i64::from(self.taps));
        assert_eq!(ledger.count("checkins WHERE to_time IS NULL"), i64::from(visits), "{}", self.daemon.log());
        assert_eq!(ledger.count("checkins"), i64::from(visits));
        assert_eq!(ledger.count("failed_checkins"), refused);
        self.daemon.wait_for_metric("checkind_open_checkins", "", visits.into());
        self.daemon.wait_for_metric("checkind_spool_depth", "", 0);
    }
}

fn now() -> BootTime {
    Clock::system().now().boot
}

#[test]
fn a_connection_that_dies_while_the_pipeline_writes_is_replaced() {
    let mut site = Site::start();
    site.to_database.freeze_at(Trigger { before: None, text: "INSERT INTO facts" });
    site.works_again_after(|site| site.to_database.frozen() > 0, &["database_silent", "database_unavailable"]);
    site.daemon.stop();
}

/// The transaction has happened, and the daemon does not learn it.
#[test]
fn a_commit_whose_answer_is_lost_counts_once() {
    let mut site = Site::start();
    site.to_database.freeze_at(Trigger { before: Some("INSERT INTO facts"), text: "COMMIT" });
    site.works_again_after(|site| site.to_database.frozen() > 0, &["commit_unanswered"]);
    site.daemon.stop();
}

#[test]
fn a_connection_that_dies_under_the_directory_watch_admits_no_person_who_became_inactive() {
    let mut site = Site::start();
    site.to_database.freeze_at(Trigger { before: None, text: "AS policy_id" });
    site.works_again_after(|site| site.to_database.frozen() > 0, &["database_silent", "database_unavailable"]);
    site.daemon.stop();
}

#[test]
fn a_connection_to_the_broker_that_dies_is_replaced() {
    let mut site = Site::start();
    site.to_broker.freeze_all();
    site.works_again_after(|site| site.to_broker.frozen() > 0, &["broker_unavailable"]);
    assert_eq!(site.daemon.changes_of("broker_unavailable"), (1, 1), "{}", site.daemon.log());
    site.daemon.stop();
}

#[test]
fn all_connections_that_die_at_once_are_replaced() {
    let mut site = Site::start();
    site.to_database.freeze_all();
    site.to_broker.freeze_all();
    site.works_again_after(|site| site.to_database.frozen() > 0, &["database_silent", "database_unavailable"]);
    site.daemon.stop();
}

#[test]
fn a_commit_that_waits_for_a_standby_is_named_and_happens_once() {
    let mut site = Site::start();
    let ledger = site.ledger();
    let standby = |change: &str| {
        ledger.execute(&format!("ALTER SYSTEM {change}"));
        ledger.number("SELECT count(*) WHERE pg_reload_conf()");
    };
    standby("SET synchronous_standby_names = 'gone'");
    site.tap(2);
    let began = now();
    let named = site.daemon.wait_for_condition("commit_unanswered");
    let took = now().since(began);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(named.contains("synchronous_standby_names"), "{named}");
    wait_for("the server to say which standby", LIMIT, || {
        let detail = site.daemon.wait_for_condition("commit_unanswered");
        if detail.contains("the synchronous standby gone") { Ok(()) } else { Err(detail) }
    });
    // Longer than a COMMIT may take: it is given up, and the next attempt waits for its locks.
    site.daemon.wait_for_condition("database_unavailable");
    for person in 3..=5 {
        site.tap(person);
    }
    site.daemon.wait_for_metric("checkind_mqtt_acknowledged_total", "", 5);
    assert_eq!(site.daemon.get("/readyz").status, 503);
    assert!(site.daemon.conditions().contains_key("commit_unanswered"), "{}", site.daemon.log());

    standby("RESET synchronous_standby_names");
    let began = now();
    site.wait("all taps", began, || site.has(5));
    site.wait("the daemon to be ready", began, || match site.daemon.get("/readyz") {
        answer if answer.status == 200 => Ok(()),
        answer => Err(answer.body),
    });
    site.is_intact(5, 0);
    assert_eq!(site.daemon.changes_of("commit_unanswered").1, 1, "it ends once: {}", site.daemon.log());
    site.daemon.stop();
}
