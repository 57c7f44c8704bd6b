//! The contract of the API, held by programs of others: schemathesis sends what the OpenAPI document allows and what it
//! forbids, and clients from registries do the work of a desk. `tests/run` installs them.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use serde_json::json;

use crate::support::{
    daemon::{Daemon, Home, now, site},
    skipped,
};

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "pässword: with ümlaut+& 100%";

/// Random cases of each operation.
const CASES: u32 = 20;

/// Walks along the links.
const WALKS: u32 = 60;

/// A program of the environment that `tests/run` makes.
#[expect(clippy::disallowed_methods, reason = "a variable says where the programs are")]
fn program(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("CHECKIND_TEST_PROGRAMS").map(PathBuf::from);
    if folder.is_none() {
        skipped("programs of others against the API", "CHECKIND_TEST_PROGRAMS names no folder of them; use tests/run");
    }
    folder.map(|folder| folder.join("bin").join(name))
}

/// A site with a directory, records and an administrator, served by a daemon.
struct ServedSite {
    home: Home,
    daemon: Daemon,
    token: String,
}

impl ServedSite {
    fn start() -> Self {
        let home = Home::new(&site(""));
        home.import(&json!({
            "Businesses": [{"Id": 1, "Name": "Hub One"}],
            "Teams": [{"Id": 5, "Name": "Rocket"}],
            "Tariffs": [{"Id": 3, "Name": "Full"}],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "Coworkers": [
                {"Id": 7, "FullName": "Ada", "AccessCardId": "100", "TariffId": 3},
                {"Id": 8, "FullName": "Bob", "AccessCardId": "200", "TariffId": 3},
            ],
            "CoworkerTimePasses": [
                {"Id": 1, "CoworkerId": 7, "TimePassId": 1}, {"Id": 3, "CoworkerId": 8, "TimePassId": 1},
            ],
        }));
        let failed = "INSERT INTO failed_checkins (id, unique_id, business_id, checkin_attempt_time, source, \
            checkin_attempt_time_local, created_on, updated_on, updated_by) VALUES (1, \
            'c1b2c3d4-e5f6-7890-abcd-000000000001', 1, '2026-03-01T09:05:00.000Z', 2, '2026-03-01T10:05:00', \
            '2026-03-01T09:05:00.000Z', '2026-03-01T09:05:00.000Z', 'checkind')";
        home.ledger().execute(failed);
        home.tell(&["user", "add", ADMIN, "--admin"], PASSWORD);
        let told = home.ask(&["user", "token", "add", ADMIN, "--name", "contract"]);
        let token = told.split_whitespace().last().expect("a token").to_owned();
        let mut daemon = home.start();
        daemon.wait_until_ready();
        Self { home, daemon, token }
    }

    fn address(&self) -> String {
        format!("http://{}", self.daemon.api())
    }

    /// Runs a program in the folder of the site. It must succeed, and the daemon must have nothing to complain about
    /// but refused credentials.
    fn run(&self, program: &PathBuf, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.home.path("")).env("NO_COLOR", "1").stdin(Stdio::null());
        let output = command.output().unwrap_or_else(|fault| panic!("{} does not start: {fault}", program.display()));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} {}\n{said}\n{complained}", program.display(), output.status);
        let mut complaints = self.daemon.complaints();
        complaints.retain(|line| !line.contains("credential refused") && !line.contains("more like this"));
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(self.daemon.get("/readyz").status, 200, "{}", self.daemon.log());
        said
    }
}

/// What random values alone would hardly meet: ids that exist, and times of this day. And that bodies which the document
/// allows may break rules that it cannot say, such as a name of no one.
fn settings_of_schemathesis() -> String {
    let hours_ago = |hours: u64| now().minus(Duration::from_hours(hours)).to_rfc3339_seconds();
    let (starts, ends) = ([10, 9, 8].map(hours_ago), [7, 6, 5].map(hours_ago));
    format!(
        r#"
        [dictionaries]
        businesses = {{ values = [1] }}
        ids = {{ values = [1, 3, 5, 7] }}
        starts = {{ values = {starts:?} }}
        ends = {{ values = {ends:?} }}
        [parameters]
        "body.BusinessId" = {{ dictionary = "businesses", probability = 0.9 }}
        "body.FromTime" = {{ dictionary = "starts", probability = 0.9 }}
        "body.ToTime" = {{ dictionary = "ends", probability = 0.9 }}
        "path.id" = {{ dictionary = "ids", probability = 0.3 }}
        [phases.stateful]
        max-steps = 10
        # Walks follow the links of the document: a guess takes the id that a client sends for the one that it gets.
        inference.algorithms = []
        [phases.stateful.generation]
        max-examples = {WALKS}
        [[operations]]
        include-method = ["POST", "PUT"]
        [operations.checks.positive_data_acceptance]
        expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 409, 429, "5xx"]
        "#
    )
}

#[test]
fn whatever_is_sent_is_answered_as_the_document_says() {
    let Some(schemathesis) = program("schemathesis") else { return };
    let site = ServedSite::start();
    site.home.write("schemathesis.toml", &settings_of_schemathesis());
    let bearer = format!("Authorization: Bearer {}", site.token);
    let document = format!("{}/openapi.json", site.address());
    let cases = CASES.to_string();
    // The other paths of the directory are the same routes under other names, which the document calls deprecated.
    let arguments = [
        &["run", &document, "--header", &bearer, "--exclude-deprecated", "--checks", "all", "--max-examples", &cases],
        &["--generation-deterministic", "--no-shrink", "--continue-on-failure", "--request-timeout", "20"][..],
    ];
    let said = site.run(&schemathesis, &arguments.concat());
    // It ends well too if it has nothing to do.
    for phase in ["✅  Coverage", "✅  Fuzzing", "✅  Stateful"] {
        assert!(said.contains(phase), "{said}");
    }
    let answer = site.daemon.send("GET", "/api/spaces/checkins?size=1", &[("Authorization", &bearer[15..])], "");
    assert!(answer.json()["TotalItems"].as_u64() > Some(0), "no walk created a check-in: {said}");
}

#[test]
fn a_client_that_a_generator_writes_from_the_document_works() {
    let (Some(generator), Some(python)) = (program("openapi-python-client"), program("python3")) else { return };
    let site = ServedSite::start();
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/src/docs/openapi.json");
    site.run(&generator, &["generate", "--path", document, "--output-path", "generated", "--meta", "none"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/generated_client.py");
    let folder = site.home.path("");
    let folder = folder.to_str().expect("a path of ours");
    assert!(site.run(&python, &[script, folder, &site.address(), &site.token]).ends_with("done\n"));
}

#[test]
fn a_client_of_the_platform_works_once_its_address_is_changed() {
    let Some(python) = program("python3") else { return };
    let site = ServedSite::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract/nexudus_client.py");
    assert!(site.run(&python, &[script, &site.address(), ADMIN, PASSWORD]).ends_with("done\n"));
}
