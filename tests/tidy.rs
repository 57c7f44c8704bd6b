//! Rules of the tree that neither the compiler nor a lint can check: what is pure, what is documented, what belongs
//! where.
//!
//! The tables of `src/docs/reference.md` and `src/docs/openapi.json` are generated from the code. If a test reports that
//! one is out of date, run `UPDATE_DOCS=1 tests/run tidy` and commit the changes.

mod structure;
mod tree;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    process::Command,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use checkind::{
    access::Role,
    base::{
        clock::{BootTime, Clock, Now, WallTime},
        disk::DiskFigures,
        health::{ConditionKind, Health},
    },
    engine::decision::Reason,
    metrics::{Figure, FigureValue, Metrics, TextFormat, figures},
    source::{
        mqtt::counters::{MqttCounters, SourceCounters},
        network::CaptureCounters,
    },
    spool::SpoolCounters,
    store::SQLSTATES,
};
use regex::Regex;

use tree::{Source, files, mentions, read, root, sources};

use crate::support::daemon::BINARY;

/// Everything that the top level may contain, apart from `target`.
const TOP_LEVEL: [&str; 14] = [
    ".ci",
    ".git",
    ".gitignore",
    ".rustfmt.toml",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "clippy.toml",
    "config",
    "deny.toml",
    "src",
    "systemd",
    "tests",
];

/// What a pure module must not use: other machines, files, the system, time, randomness, tasks, the log.
const IMPURE: [&str; 28] = [
    "tokio",
    "tokio_util",
    "futures_util",
    "sqlx",
    "rumqttc",
    "rumqttd",
    "pnet",
    "axum",
    "hyper",
    "hyper_util",
    "libc",
    "rustix",
    "signal_hook",
    "sd_notify",
    "tracing",
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "crate::base::random",
    "crate::base::clock::Clock",
];

/// Modules that decide, parse or map, and must stay pure.
const ALWAYS_PURE: &[&str] = &[
    "src/base/fact.rs",
    "src/base/fact/codec.rs",
    "src/base/fact/digest.rs",
    "src/base/fact/door.rs",
    "src/base/fact/entry.rs",
    "src/base/fact/order.rs",
    "src/base/fact/presence.rs",
    "src/base/fact/subject.rs",
    "src/base/log_budget/tally.rs",
    "src/base/minute_count.rs",
    "src/base/sighting.rs",
    "src/directory.rs",
    "src/directory/catalogue.rs",
    "src/directory/history.rs",
    "src/directory/lookup.rs",
    "src/directory/scoped.rs",
    "src/engine.rs",
    "src/engine/admission.rs",
    "src/engine/coverage.rs",
    "src/engine/fold.rs",
    "src/engine/life.rs",
    "src/engine/passes.rs",
    "src/engine/person.rs",
    "src/engine/person/claim.rs",
    "src/mapping.rs",
    "src/pipeline/adopt/old_log.rs",
    "src/pipeline/adopt/old_person.rs",
    "src/pipeline/clock_step.rs",
    "src/pipeline/decide.rs",
    "src/pipeline/decide/changes.rs",
    "src/pipeline/decide/groups.rs",
    "src/pipeline/decide/input.rs",
    "src/pipeline/decide/items.rs",
    "src/pipeline/decide/late.rs",
    "src/pipeline/decide/new_facts.rs",
    "src/pipeline/decide/presence_lines.rs",
    "src/pipeline/decide/usage.rs",
    "src/pipeline/intake.rs",
    "src/pipeline/present_people.rs",
    "src/pipeline/unknown_devices.rs",
    "src/policy.rs",
    "src/policy/calendar.rs",
    "src/source/mqtt/session/life.rs",
    "src/source/network/coalesce.rs",
    "src/source/network/coalesce/scope.rs",
    "src/source/network/coalesce/seen_device.rs",
    "src/source/network/filter.rs",
    "src/source/network/frame.rs",
    "src/source/network/frame/arp.rs",
    "src/source/network/frame/bytes.rs",
    "src/source/network/frame/dhcp.rs",
    "src/source/network/frame/dhcpv6.rs",
    "src/source/network/frame/ethernet.rs",
    "src/source/network/frame/evidence.rs",
    "src/source/network/frame/ip.rs",
    "src/source/network/frame/ip_payload.rs",
    "src/source/network/frame/kind.rs",
    "src/source/network/frame/ndp.rs",
    "src/source/network/frame/payload_evidence.rs",
    "src/source/network/frame/station.rs",
    "src/source/network/frame/tunnel.rs",
    "src/source/network/frame/vlan.rs",
    "src/spool/fill.rs",
    "src/spool/message.rs",
];

/// The only module that may contain unsafe code, see `Cargo.toml`.
const UNSAFE: &str = "src/source/network/ring.rs";

const REFERENCE: &str = "src/docs/reference.md";

#[test]
fn the_top_level_holds_nothing_else() {
    let found: BTreeSet<String> = fs::read_dir(root())
        .expect("the top level")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .filter(|name| name != "target")
        .collect();
    let allowed: BTreeSet<String> = TOP_LEVEL.map(str::to_owned).into();
    let stray: Vec<&String> = found.difference(&allowed).collect();
    assert!(stray.is_empty(), "not in the list of the top level: {stray:?}");
    let missing: Vec<&String> = allowed.difference(&found).collect();
    assert!(missing.is_empty(), "in the list of the top level, but missing: {missing:?}");
}

#[test]
fn pure_modules_import_nothing_impure() {
    let pure: Vec<Source> = sources("src").into_iter().filter(|source| source.text.starts_with("//! PURE")).collect();
    let names: BTreeSet<&str> = pure.iter().map(|source| source.name.as_str()).collect();
    for must in ALWAYS_PURE {
        assert!(names.contains(must), "{must} does not begin with \"//! PURE\"");
    }
    let mut found = Vec::new();
    for source in &pure {
        for (number, line) in source.code() {
            for word in IMPURE.iter().filter(|word| mentions(line, word)) {
                found.push(format!("{}:{number} uses {word}: {}", source.name, line.trim()));
            }
        }
        // Grouped imports too: `use std::{fs, …}`, `use crate::{clock::{Clock, …}}`.
        for path in source.imports() {
            for word in IMPURE.iter().filter(|word| path == **word || path.starts_with(&format!("{word}::"))) {
                found.push(format!("{} imports {path}, part of {word}", source.name));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_code_is_in_one_module() {
    let word = Regex::new(r"\bunsafe\b").expect("a pattern");
    for source in sources("src") {
        let has = source.code().any(|(_, line)| word.is_match(line) && !line.contains("deny(unsafe"));
        assert_eq!(has, source.name == UNSAFE, "{}", source.name);
    }
}

#[test]
fn only_the_pipeline_writes_records() {
    let put = Regex::new(r"\.write\(&writes\b").expect("a pattern");
    let writers: Vec<String> = sources("src")
        .into_iter()
        .filter(|source| source.code().any(|(_, line)| put.is_match(line)))
        .map(|source| source.name)
        .filter(|name| !name.starts_with("src/store"))
        .collect();
    assert_eq!(
        writers,
        [
            "src/pipeline/adopt.rs",
            "src/pipeline/due_work.rs",
            "src/pipeline/edits/old.rs",
            "src/pipeline/transaction.rs"
        ]
    );
}

#[test]
fn every_file_says_what_lives_in_it() {
    for source in sources("src") {
        let first = source.text.lines().next().unwrap_or_default();
        let part = source.name.ends_with("/tests.rs");
        assert!(first.starts_with("//! ") || part, "{} does not begin with a line about its contents", source.name);
    }
}

#[test]
fn no_file_names_a_place_of_one_machine() {
    let places = Regex::new(r"/home/[a-z]|/root/|/Users/|/work/").expect("a pattern");
    for folder in ["src", "tests", "config", "systemd", ".ci"] {
        for source in files(folder) {
            for (number, line) in source.text.lines().enumerate() {
                let ours = source.name == "tests/tidy.rs" && line.contains("Regex::new");
                assert!(ours || !places.is_match(line), "{}:{}: {line}", source.name, number + 1);
            }
        }
    }
}

#[test]
fn every_preset_that_is_shipped_can_be_named() {
    let mut shipped: Vec<String> = files("config/presets").into_iter().map(|file| file.name).collect();
    let mut named: Vec<String> =
        checkind::mapping::presets::NAMES.iter().map(|name| format!("config/presets/{name}.toml")).collect();
    shipped.sort();
    named.sort();
    assert_eq!(shipped, named);
}

#[test]
fn the_table_of_reasons_is_the_codes() {
    let mut table = "| code | sentence |\n|---|---|\n".to_owned();
    for reason in Reason::all() {
        // In the documentation double brackets would be a link.
        let sentence = reason.sentence().replace("[[door]]", "`[[door]]`");
        writeln!(table, "| `{}` | {sentence} |", reason.code()).expect("writing to a String cannot fail");
    }
    holds(REFERENCE, "reasons", &table);
}

#[test]
fn the_table_of_conditions_is_the_codes() {
    let mut table = "| condition | `/readyz` | means |\n|---|---|---|\n".to_owned();
    for kind in ConditionKind::ALL {
        let answer = if kind.blocks_readiness() { "503" } else { "warns" };
        writeln!(table, "| `{}` | {answer} | {} |", kind.name(), kind.meaning()).expect("a String is writable");
    }
    holds(REFERENCE, "conditions", &table);
}

#[test]
fn the_table_of_sqlstates_is_the_codes() {
    let mut table = "| SQLSTATE | means | checkind |\n|---|---|---|\n".to_owned();
    for row in SQLSTATES {
        let what = if row.code.len() == 2 { "class " } else { "" };
        let effect = row.effect.sentence();
        writeln!(table, "| {what}`{}` | {} | {effect} |", row.code, row.meaning).expect("a String is writable");
    }
    holds(REFERENCE, "sqlstates", &table);
}

#[test]
fn the_table_of_roles_is_the_codes() {
    let roles: Vec<String> = Role::all().map(|role| format!("`{role}`")).collect();
    holds(REFERENCE, "roles", &format!("{}\n", roles.join(", ")));
}

#[test]
fn the_table_of_metrics_is_the_codes() {
    let mut metrics = registered_metrics();
    metrics.extend(watched_figures());
    let mut table = "| metric | what it counts or shows |\n|---|---|\n".to_owned();
    for (name, help) in metrics {
        writeln!(table, "| `{name}` | {help} |").expect("writing to a String cannot fail");
    }
    holds(REFERENCE, "metrics", &table);
}

/// Each row of the table of bounds names a constant, whose value is the first number of the row.
#[test]
fn the_bounds_of_the_documentation_are_those_of_the_code() {
    let row = Regex::new(r"(?m)^\| [^|]* \| ([^|]*) \| [^|]* \| `(src/[^`]*) ([A-Z_]+)` \|$").expect("a pattern");
    let number = Regex::new(r"[0-9][0-9_]*").expect("a pattern");
    let page = read(REFERENCE);
    let mut rows = 0;
    for found in row.captures_iter(&page) {
        rows += 1;
        let (bound, file, name) = (&found[1], &found[2], &found[3]);
        let constant = Regex::new(&format!(r"const {name}: [^=]* = ([^;]*);")).expect("a pattern");
        let text = read(file);
        let value = &constant.captures(&text).unwrap_or_else(|| panic!("{file} has no constant {name}"))[1];
        let written = number.find(value).unwrap_or_else(|| panic!("{name} has no number: {value}")).as_str();
        let said: String = bound.chars().filter(|c| *c != ',').take_while(|c| *c != ' ').collect();
        assert_eq!(said, written.replace('_', ""), "{file} {name} is {value}, but the page has {bound}");
    }
    assert!(rows >= 15, "only {rows} rows of the table of bounds can be read");
}

/// The documents name the tests that prove their claims: `proof: area::name`.
#[test]
fn every_proof_that_the_documents_name_exists() {
    let mut known = BTreeSet::new();
    let function = Regex::new(r"\bfn ([a-z_0-9]+)").expect("a pattern");
    for source in sources("src").into_iter().chain(sources("tests")) {
        known.extend(function.captures_iter(&source.text).map(|found| found[1].to_owned()));
    }
    let proof = Regex::new(r"`proof: ([a-z_0-9]+)`").expect("a pattern");
    let mut named = 0;
    for page in files("src/docs") {
        for found in proof.captures_iter(&page.text) {
            named += 1;
            assert!(known.contains(&found[1]), "{} names the test {}, which does not exist", page.name, &found[1]);
        }
    }
    assert!(named >= 30, "only {named} proofs are named");
}

/// A reader has only the repository.
#[test]
fn nothing_cites_a_document_that_is_not_here() {
    let elsewhere = Regex::new(concat!(
        "`des",
        r"ign`|des",
        r"ign\.md|\bDesi",
        r"gn [0-9]|refer",
        r"ence/[a-z-]+\.md|\.\./sha",
        "red"
    ))
    .expect("a pattern");
    for page in ["config", "systemd", "src", "tests"].into_iter().flat_map(files) {
        let found = elsewhere.find(&page.text).map(|found| found.as_str());
        assert_eq!(found, None, "{} cites something that is not in the repository", page.name);
    }
}

/// Commands that the pages tell people to run must exist.
#[test]
fn every_command_that_is_named_exists() {
    let help = Command::new(BINARY).arg("--help").output().expect("the binary starts");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let listed = Regex::new(r"(?m)^  ([a-z][a-z-]+) ").expect("a pattern");
    let known: BTreeSet<&str> = listed.captures_iter(&help).map(|found| found.extract::<1>().1[0]).collect();
    assert!(known.contains("run") && known.contains("who"), "{known:?}");
    // In text the command is in backticks, in a line to copy it follows the account that runs it, in a unit its path.
    let named = Regex::new(r"(?:`|sudo -u checkind |/usr/bin/)checkind ([a-z][a-z-]+)").expect("a pattern");
    let pages = ["config", "systemd", "src", "tests/support"].into_iter().flat_map(files);
    let mut count = 0;
    for page in pages.chain([Source { name: "README.md".to_owned(), text: read("README.md") }]) {
        for found in named.captures_iter(&page.text) {
            count += 1;
            assert!(known.contains(&found[1]), "{} names `checkind {}`, which does not exist", page.name, &found[1]);
        }
    }
    assert!(count >= 5, "only {count} commands are named");
}

/// The name and help of every metric that `Metrics` registers itself, taken from its text.
fn registered_metrics() -> BTreeMap<String, String> {
    let start = Now { wall: WallTime::from_millis(0), boot: BootTime::from_duration(Duration::ZERO) };
    let codes: Vec<&str> = Reason::all().map(Reason::code).collect();
    let text = Metrics::new(Health::new(Clock::manual(start)), &codes).text(TextFormat::OpenMetrics);
    let help = Regex::new(r"(?m)^# HELP (\S+) (.*?)\.?$").expect("a pattern");
    let kind = |name: &str| {
        let line = format!("# TYPE {name} ");
        text.lines().find_map(|text| text.strip_prefix(&line)).expect("every metric has a type").to_owned()
    };
    help.captures_iter(&text)
        .map(|found| {
            let suffix = match kind(&found[1]).as_str() {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            (format!("{}{suffix}", &found[1]), found[2].to_owned())
        })
        .collect()
}

/// The name and help of every figure that is read at scrape.
fn watched_figures() -> Vec<(String, String)> {
    let all = figures::capture(&CaptureCounters::default())
        .into_iter()
        .chain(figures::session(&MqttCounters::default()))
        .chain(figures::source(&SourceCounters::default()))
        .chain(figures::spool(&SpoolCounters::default()))
        .chain(figures::disk(&DiskFigures::default()));
    let named = |figure: Figure| {
        let suffix = match figure.value {
            FigureValue::Counter(_) => "_total",
            FigureValue::Gauge(_) => "",
        };
        (format!("checkind_{}{suffix}", figure.name), figure.help.to_owned())
    };
    all.map(named).collect()
}

#[test]
fn the_committed_document_of_the_api_is_that_of_the_code() {
    const PAGE: &str = "src/docs/openapi.json";
    let document = checkind::api::openapi::text();
    if read(PAGE) == document {
        return;
    }
    assert!(is_update_asked_for(), "{PAGE} differs from the code; run UPDATE_DOCS=1 tests/run tidy");
    fs::write(root().join(PAGE), document).expect("the page");
}

/// Whether generated pages may be rewritten.
#[expect(clippy::disallowed_methods, reason = "a variable asks for the tables to be rewritten")]
fn is_update_asked_for() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// Compares the text between the markers of a page with the table from the code. With `UPDATE_DOCS` it replaces the
/// text.
fn holds(page: &str, name: &str, table: &str) {
    // Tests of the same page must not overwrite each other's tables.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = read(page);
    let (begin, end) = (format!("<!-- {name}: made from the code -->\n"), format!("<!-- end of {name} -->"));
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?)));
    let (before, (now, after)) = parts.unwrap_or_else(|| panic!("{page} has no markers of {name}"));
    if now.trim() == table.trim() {
        return;
    }
    assert!(is_update_asked_for(), "{page}: {name} differs from the code; run UPDATE_DOCS=1 tests/run tidy\n{table}");
    let text = format!("{before}{begin}\n{table}\n{end}{after}");
    fs::write(root().join(page), text).expect("the page");
}
