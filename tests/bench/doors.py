#!/usr/bin/env python3
"""Door messages from a real broker to the committed decision, and memory with many known devices.

usage: tests/bench/doors.py [--messages 50000] [--coworkers 1000] [--postgres postgres://…] [--devices 100000] [--passes 0]

Starts a private mosquitto on loopback (and uses the PostgreSQL that it is given), queues the messages for the daemon's
session while the daemon is stopped, starts the release build and times it from the first commit to the last: the burst
after an outage. Then publishes 100 single messages and times each from the publisher to the log.
Run by hand on a quiet machine; compare figures of one run only. Needs mosquitto, mosquitto-clients, python3.
"""
import argparse, json, os, pathlib, signal, socket, sqlite3, subprocess, sys, tempfile, time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import free_port, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/checkind"


def config(folder, port, database):
    secret = ""
    if "@" in database and ":" in database.split("@")[0].split("//")[1]:
        login, rest = database.split("//")[1].split("@")
        name, word = login.split(":")
        (folder / "db-password").write_text(word)
        os.chmod(folder / "db-password", 0o600)
        database, secret = f"postgres://{name}@{rest}", 'password_file = "db-password"'
    (folder / "checkind.toml").write_text(f"""
[database]
url = "{database}"
{secret}
[spool]
path = "{folder}/spool.db"
[site]
business = 1
record_every_visit = true
name = "Bench"
time_zone = "UTC"
[mqtt]
url = "mqtt://127.0.0.1:{port}"
client_id = "checkind-bench"
[[source]]
name = "bench"
preset = "uhppoted"
topics = ["bench/events"]
[[door]]
match = "*"
name = "Any"
on_in = "check_in"
on_out = "check_out"
[api]
listen = "off"
""")


def event(number, coworkers):
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() - 3600 + number // 100))
    return json.dumps({"message": {"event": {"event": {
        "device-id": 405419896, "event-id": number, "event-type": 1, "event-type-text": "swipe", "access-granted": True,
        "door-id": 1, "direction": 1 + (number // coworkers) % 2, "direction-text": "in",
        "card-number": 1_000_000 + number % coworkers, "timestamp": stamp + " UTC", "event-reason": 1,
        "event-reason-text": "swipe"}}}})


def rss(pid, key="VmHWM"):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(key):
            return int(line.split()[1]) / 1024


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def site(coworkers, passes):
    """People with cards. Each holds `passes` passes, half of them for days and half for minutes, which no run uses up, and has
    a plan whose limits are checked but not reached."""
    people = [{"Id": n + 1, "FullName": f"Coworker {n}", "AccessCardId": str(1_000_000 + n)} for n in range(coworkers)]
    document = {"Businesses": [{"Id": 1, "Name": "Bench"}], "Coworkers": people}
    if passes:
        for person in people:
            person["TariffId"] = 1
        document["Tariffs"] = [{"Id": 1, "Name": "Bench", "CheckinWeekLimit": 7, "HoursMonthLimit": 1000}]
        document["TimePasses"] = [
            {"Id": n + 1, "Name": f"Pass {n}", "Price": 10 + n, "MinutesIncluded": 600 if n % 2 else None,
             "CountsTowardsPlanLimits": True} for n in range(10)]
        document["CoworkerTimePasses"] = [
            {"Id": n * passes + k + 1, "CoworkerId": n + 1, "TimePassId": (n + k) % 10 + 1, "RemainingUses": 1_000_000}
            for n in range(coworkers) for k in range(passes)]
    return document


class Rows:
    def __init__(self, folder, postgres):
        self.path, self.postgres = folder / "checkind.db", postgres

    def query(self, sql):
        if self.postgres:
            out = subprocess.run(["psql", "-XAtc", sql, self.postgres], capture_output=True, text=True)
            return out.stdout.strip()
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30) as db:
            return str(db.execute(sql).fetchone()[0])

    def count(self):
        try:
            return int(self.query("SELECT count(*) FROM facts") or 0)
        except (sqlite3.OperationalError, ValueError):
            return 0


def run(name, arguments, postgres):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkind-bench-"))
    port = free_port()
    (folder / "m.conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nmax_inflight_messages 1000\n")
    broker = subprocess.Popen(["mosquitto", "-c", folder / "m.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    database = postgres or f"sqlite:{folder}/checkind.db"
    config(folder, port, database)
    rows = Rows(folder, postgres)
    checkind = [BINARY, "--config", folder / "checkind.toml"]
    daemon = None
    try:
        until("the broker", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)
        (folder / "site.json").write_text(json.dumps(site(arguments.coworkers, arguments.passes)))
        subprocess.run([*checkind, "import", folder / "site.json"], check=True, stdout=subprocess.DEVNULL)

        def start():
            log = open(folder / "log", "a")
            return subprocess.Popen([*checkind, "run"], stdout=log, stderr=log)

        def stop(process):
            process.send_signal(signal.SIGTERM)
            process.wait(30)

        daemon = start()
        until("the subscription", lambda: "subscribed" in (folder / "log").read_text(), 20)
        stop(daemon)
        lines = "\n".join(event(n, arguments.coworkers) for n in range(arguments.messages)) + "\n"
        publish = ["mosquitto_pub", "-p", str(port), "-q", "1", "-t", "bench/events", "-l"]
        subprocess.run(publish, input=lines, text=True, check=True)
        before = rows.count()
        daemon = start()
        first = until("the first commit", lambda: rows.count() - before and time.monotonic(), 60)
        seen_first, used_first = rows.count() - before, cpu(daemon.pid)
        until("the last commit", lambda: rows.count() - before >= arguments.messages, 300, 0.25 if postgres else 0.05)
        took = time.monotonic() - first
        used, peak = cpu(daemon.pid), rss(daemon.pid)
        left = arguments.messages - seen_first
        rate = left / took
        decisions = rows.query("SELECT count(*) FROM checkins")
        print(f"{name}: {rate:,.0f} messages/s to committed decision, {1e6 * (used - used_first) / left:.0f} µs CPU each "
              f"({used_first:.1f} s before the first, most of it to load the directory), "
              f"peak {peak:.1f} MiB, {decisions} check-ins", flush=True)

        latencies = []
        for n in range(500):
            number = arguments.messages + n
            at = time.monotonic()
            subprocess.run(["mosquitto_pub", "-p", str(port), "-q", "1", "-t", "bench/events", "-m", event(number, arguments.coworkers)], check=True)
            until("a single message", lambda: rows.count() - before > number, 10)
            latencies.append(time.monotonic() - at)
            if n == 99:
                break
        latencies.sort()
        print(f"{name}: one message at a time, publisher started to row seen: median {1e3 * latencies[50]:.1f} ms, "
              f"90th of 100 {1e3 * latencies[90]:.1f} ms (mosquitto_pub's own start included)", flush=True)
        stop(daemon)

        devices = [{"Id": n + 1, "FullName": f"Coworker {n}", "MacAddresses": ":".join(f"{(0x3C22FB000000 + n).to_bytes(6, 'big')[i]:02x}" for i in range(6))}
                   for n in range(arguments.devices)]
        (folder / "devices.json").write_text(json.dumps({"Coworkers": devices}))
        began = time.monotonic()
        subprocess.run([*checkind, "import", folder / "devices.json"], check=True, stdout=subprocess.DEVNULL)
        imported = time.monotonic() - began
        (folder / "log").write_text("")
        daemon = start()
        until("the subscription", lambda: "subscribed" in (folder / "log").read_text(), 30)
        print(f"{name}: {arguments.devices} known devices: imported in {imported:.1f} s, "
              f"resident {rss(daemon.pid, 'VmRSS'):.1f} MiB, peak {rss(daemon.pid):.1f} MiB", flush=True)
    finally:
        for process in (daemon, broker):
            if process and process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--coworkers", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=100_000)
    parser.add_argument("--passes", type=int, default=0, help="passes that each coworker holds; for the figure with passes: "
                        "--coworkers 100000 --passes 3")
    parser.add_argument("--postgres", help="an empty database")
    parser.add_argument("--only-postgres", action="store_true")
    arguments = parser.parse_args()
    if not BINARY.exists():
        sys.exit("build first: cargo build --release")
    if not arguments.only_postgres:
        run("SQLite", arguments, None)
    if arguments.postgres:
        run("PostgreSQL", arguments, arguments.postgres)


main()
