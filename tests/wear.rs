//! What an idle gateway costs the machine: how often it wakes up, and what it writes.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::support::{
    broker::Broker,
    daemon::{Home, doors, site},
    postgres::Postgres,
    wait_for,
};

/// The most wake-ups a second of an idle gateway.
const WAKE_UPS: u64 = 2;

/// The same with PostgreSQL: it asks whether the server would take a write, whether it went back in time, and for new
/// versions and deadlines, in four round trips each.
const WITH_POSTGRESQL: u64 = 5;

/// How long they are counted.
const COUNTED: Duration = Duration::from_secs(15);

/// How often each thread has waited for something, by its number.
fn waits(pid: u32) -> BTreeMap<u32, u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs");
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        Some((task.file_name().to_str()?.parse().ok()?, line.trim().parse().ok()?))
    };
    tasks.flatten().filter_map(of).collect()
}

/// Bytes that the process has caused to be written to the disk.
fn written(pid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/{pid}/io")).expect("the process runs");
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("a figure").parse().expect("a number")
}

fn is_at_rest(home: &Home, what: &str, most: u64) {
    let mut daemon = home.start();
    daemon.wait_until_ready();
    // The second connection to PostgreSQL closes after ten seconds without use, and the first checks are over.
    wait_for(&format!("{what} at rest"), Duration::from_secs(60), || {
        let (before, disk) = (waits(daemon.pid()), written(daemon.pid()));
        std::thread::sleep(COUNTED);
        let total: u64 = waits(daemon.pid()).iter().map(|(task, now)| now - before.get(task).unwrap_or(&0)).sum();
        let bytes = written(daemon.pid()) - disk;
        let is_rest = total <= most * COUNTED.as_secs() && bytes == 0;
        if is_rest { Ok(()) } else { Err(format!("{total} wake-ups in {COUNTED:?}, {bytes} bytes")) }
    });
    daemon.stop();
}

#[test]
fn an_idle_gateway_wakes_up_rarely_and_writes_nothing() {
    let broker = Broker::plain();
    is_at_rest(&Home::new(&(site("") + &doors(broker.port))), "a gateway on SQLite", WAKE_UPS);
    let server = Postgres::start();
    is_at_rest(&Home::on(&server.url(), &(site("") + &doors(broker.port))), "a gateway on PostgreSQL", WITH_POSTGRESQL);
}
