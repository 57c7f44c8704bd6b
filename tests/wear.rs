//! What an idle gateway costs the machine: how often it wakes up, and what it writes.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, doors, site},
    lan::Wire,
    postgres::Postgres,
    wait_for,
};

/// The most wake-ups a second of an idle gateway.
const WAKE_UPS: u64 = 2;

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

fn is_at_rest(mut daemon: Daemon, what: &str) {
    daemon.wait_until_ready();
    // The second connection to PostgreSQL closes after ten seconds without use, and the first checks are over.
    wait_for(&format!("{what} at rest"), Duration::from_secs(60), || {
        let (before, disk) = (waits(daemon.pid()), written(daemon.pid()));
        std::thread::sleep(COUNTED);
        let total: u64 = waits(daemon.pid()).iter().map(|(task, now)| now - before.get(task).unwrap_or(&0)).sum();
        let bytes = written(daemon.pid()) - disk;
        let is_rest = total <= WAKE_UPS * COUNTED.as_secs() && bytes == 0;
        if is_rest { Ok(()) } else { Err(format!("{total} wake-ups in {COUNTED:?}, {bytes} bytes")) }
    });
    daemon.stop();
}

#[test]
fn an_idle_gateway_wakes_up_rarely_and_writes_nothing() {
    let broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    is_at_rest(home.start(), "a gateway on SQLite");
    let server = Postgres::start();
    let home = Home::on(&server.url(), &(site("") + &doors(broker.port)));
    is_at_rest(home.start(), "a gateway on PostgreSQL");
    // An empty building.
    let wire = Wire::new();
    let port = 18_830;
    let _broker = wire.mirror.start("mosquitto", &["-p", &port.to_string()]);
    let home = Home::new(&(site("") + &doors(port) + "[[capture]]\ninterface = \"s1\"\n"));
    let inside = home.start_by(&["ip", "netns", "exec", wire.mirror.name(), BINARY], &[]).inside(wire.mirror.name());
    is_at_rest(inside, "a gateway with a capture");
}
