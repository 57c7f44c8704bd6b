#!/usr/bin/env python3
"""checkind beside the scripts that a technician would write, in one run: durable door messages, latency, memory.

usage: tests/bench/peers.py [--only rate,latency,memory] [--repeat 3] [--million 1000000] [--asleep]
       [--alone] [--binary target/release/checkind]

* rate: door messages that queued at the broker while no client was connected, per second, from the first to the last
  durable one. A script stores a message; checkind decides it, and writes check-ins, failed check-ins and its log.
* latency: from the publisher to durable, at 50 and at 1,000 messages a second. Meanwhile a program of the lowest class
  (SCHED_IDLE) spins on each core: the host wakes a sleeping core of a virtual machine late, here by 2 ms at the 99th
  percentile, whatever is measured. Where processor time is limited by a quota, leave that out: --asleep.
* memory: resident after a million messages, as they come and as backlogs of 50,000.

Each on the disk as it is, and on one with 4 ms for every fsync, as SD cards have. The slow disk is files in memory with
tests/support/c/slowsync.c, so other processes' writes do not interfere. Prints a table and, for each limit, whether it was
met; the exit code is 1 when one was not. Figures of different runs are not comparable.
`chrt -f 5` before the command gives it priority over other work on the machine.

Needs the release build (cargo build --release --no-default-features), gcc, mosquitto, python3 with venv, node and npm.
The scripts' libraries are fetched once, into target/bench.
"""
import argparse, contextlib, json, math, os, pathlib, shutil, signal, socket, sqlite3, statistics, subprocess, sys, tempfile, time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = ROOT / "target/release/checkind"
CACHE = ROOT / "target/bench"
PYTHON = CACHE / "venv/bin/python"
PEOPLE = 1000
SLOW = 4000  # microseconds for each fsync
# mosquitto_pub exits early when more messages are in flight than there are packet ids.
AT_ONCE = 50_000

PUBLISHER = '''
import json, sys, time, paho.mqtt.client as mqtt
port, rate, count, people = map(int, sys.argv[1:5])
sent = []
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="door")
client.max_inflight_messages_set(0)
client.connect("127.0.0.1", port)
client.loop_start()
began = time.monotonic()
for number in range(count):
    pause = began + number / rate - time.monotonic()
    if pause > 0:
        time.sleep(pause)
    at = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at // 1_000_000_000))
    way = "in" if number // people % 2 == 0 else "out"
    client.publish("flat/events", json.dumps({"id": f"n{number}", "door": "side", "card": str(1_000_000 + number % people),
        "result": "granted", "direction": way, "time": stamp, "sent": at}), qos=1)
    sent.append(at)
time.sleep(2)
json.dump(sent, open(sys.argv[5], "w"))
'''


def member(number):
    return {"Id": number + 1, "FullName": f"Coworker {number}", "AccessCardId": str(1_000_000 + number)}


def event(number, at, people=PEOPLE):
    """Each person's tap in turn, in, then out."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    way = "in" if number // people % 2 == 0 else "out"
    return (f'{{"id":"n{number}","door":"side","card":"{1_000_000 + number % people}","result":"granted",'
            f'"direction":"{way}","time":"{stamp}"}}')


def events_of(db, people, since=0):
    """The numbers of these people's events in the log of yesterday and today (UTC), with their times in milliseconds."""
    today = int(time.time()) // 86_400
    asked = f"SELECT payload, at FROM facts WHERE day IN (?, ?) AND subject IN ({','.join('?' * len(people))}) AND at >= ?"
    rows = db.execute(asked, (today - 1, today, *(person + 1 for person in people), since))
    events = {number_in(payload): at for payload, at in rows}
    events.pop(None, None)
    return events


def number_in(payload):
    """The number of the event in an entry of a door; none for other entries. As src/base/fact/codec.rs packs it: the codec, the kind
    of entry, the length and text of the source's name, and the number in groups of seven bits, the lowest ones first."""
    if payload[:2] != b"\x01\x00":
        return None
    number = 0
    for place, byte in enumerate(payload[3 + payload[2]:]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(what, probe, seconds=600, every=0.01):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = probe()
        if got:
            return got
        time.sleep(every)
    sys.exit(f"waited {seconds} s for {what}")


class Place:
    """A broker, a folder, and a disk that may be slow; everything started here ends with it."""

    binary = BINARY

    def __init__(self, slow, broker=""):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="checkind-bench-", dir="/dev/shm" if slow else None))
        self.port, self.api, self.started = free_port(), free_port(), []
        (self.folder / "m.conf").write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
            f"persistence_location {self.folder}/\n{broker}")
        self.environment = dict(os.environ)
        if slow:
            # At each sync the library reads how the disk is to behave.
            library = self.folder / "slowsync.so"
            subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, ROOT / "tests/support/c/slowsync.c", "-ldl"], check=True)
            (self.folder / "orders").write_text(f"slow {SLOW}")
            self.environment |= {"LD_PRELOAD": str(library), "SLOWSYNC_ORDERS": str(self.folder / "orders")}

    def __enter__(self):
        self.start_broker()
        return self

    def start_broker(self):
        self.broker = self.start(["mosquitto", "-c", self.folder / "m.conf"], dict(os.environ))
        until("the broker", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 10)

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
                process.wait()
        subprocess.run(["rm", "-rf", self.folder], check=True)

    def start(self, command, environment=None, out=None):
        log = open(self.folder / "log", "a")
        process = subprocess.Popen(command, env=environment or self.environment, stdout=out or log, stderr=log, text=True)
        self.started.append(process)
        return process

    def publish(self, first, count):
        at = time.time() - 7200
        for begin in range(first, first + count, AT_ONCE):
            lines = "\n".join(event(n, at + n // 1000) for n in range(begin, min(begin + AT_ONCE, first + count))) + "\n"
            subprocess.run(["mosquitto_pub", "-p", str(self.port), "-q", "1", "-t", "flat/events", "-l"], input=lines, text=True, check=True)


class Checkind:
    name = "checkind"

    def __init__(self, place, people=None, more=""):
        self.place, self.path = place, place.folder / "checkind.db"
        (place.folder / "checkind.toml").write_text(f"""
[database]
url = "sqlite:{self.path}"
[site]
business = 1
record_every_visit = true
name = "Bench"
time_zone = "UTC"
cut_off = "{time.strftime("%H:%M", time.gmtime(time.time() + 6 * 3600))}"
[mqtt]
url = "mqtt://127.0.0.1:{place.port}"
client_id = "peer"
[[source]]
name = "flat"
preset = "generic-json"
topics = ["flat/events"]
[[door]]
match = "*"
on_in = "check_in"
on_out = "check_out"
[api]
listen = "127.0.0.1:{place.api}"
{more}""")
        people = people or [member(n) for n in range(PEOPLE)]
        (place.folder / "site.json").write_text(json.dumps({"Businesses": [{"Id": 1, "Name": "Bench"}], "Coworkers": people}))
        self.run("import", str(place.folder / "site.json"))

    def run(self, *arguments):
        subprocess.run([self.place.binary, *arguments, "--config", self.place.folder / "checkind.toml"], check=True, stdout=subprocess.DEVNULL)

    def start(self, wanted):
        # As under systemd.
        unit = (ROOT / "systemd/checkind.service").read_text().splitlines()
        words = [line.removeprefix("Environment=").split("=", 1) for line in unit if line.startswith("Environment=")]
        command = [self.place.binary, "run", "--config", self.place.folder / "checkind.toml"]
        self.process = self.place.start(command, self.place.environment | dict(words))

    def ready(self):
        until("the subscription", lambda: self.metric("checkind_mqtt_subscribed") == 1, 30)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def metric(self, name):
        try:
            text = urllib.request.urlopen(f"http://127.0.0.1:{self.place.api}/metrics", timeout=5).read().decode()
        except OSError:
            return None
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name]
        return sum(values) if values else None

    def rate(self, wanted):
        # Counted after the commit.
        decided = lambda: self.metric("checkind_decisions_total") or 0
        before = until("the first commit", decided, 60)
        began = time.monotonic()
        until("the last commit", lambda: decided() >= wanted, 600, 0.02)
        took = time.monotonic() - began
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30) as db:
            # An earlier version, for comparison, has another name for its log.
            log = db.execute("SELECT name FROM sqlite_master WHERE name IN ('facts', 'sightings')").fetchone()[0]
            stored = db.execute(f"SELECT count(*) FROM {log}").fetchone()[0]
        assert stored == wanted, f"{stored} of {wanted}"
        return (wanted - before) / took

    def latencies(self, sent_file, count, publisher):
        """Latencies until another connection, which polls for the next message all the time, sees each message."""
        durable = []
        db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        since, deadline, seen = 0, time.monotonic() + 120, 0
        while len(durable) < count and time.monotonic() < deadline:
            # First one, then those that were committed with it: few queries disturb the daemon little.
            ahead = range(len(durable), min(len(durable) + (50 if seen else 1), count))
            events = events_of(db, [number % PEOPLE for number in ahead], since)
            seen = next((index for index, number in enumerate(ahead) if number not in events), len(ahead))
            durable += [time.time_ns()] * seen
            if seen:
                since = events[ahead[seen - 1]]
            else:
                time.sleep(0.0003)
        publisher.wait()
        sent = json.loads(sent_file.read_text())
        latencies = sorted((seen - at) / 1e6 for seen, at in zip(durable, sent))
        return {"committed": len(latencies), "p50": latencies[len(latencies) // 2], "p99": latencies[int(len(latencies) * 0.99) - 1]}


class Script:
    def __init__(self, place, name, command):
        self.place, self.name, self.command = place, name, command

    def start(self, wanted):
        command = [*self.command[:2], str(self.place.port), str(self.place.folder / "peer.db"), str(wanted), *self.command[2:]]
        environment = self.place.environment | {"NODE_PATH": str(CACHE / "node/node_modules")}
        self.process = self.place.start(command, environment, subprocess.PIPE)

    def ready(self):
        while (line := self.process.stdout.readline()) != "ready\n":
            assert line, (self.place.folder / "log").read_text()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def outcome(self):
        output = [line for line in self.process.stdout if line.startswith("{")]
        assert output, (self.place.folder / "log").read_text()
        return json.loads(output[-1])

    def rate(self, wanted):
        outcome = self.outcome()
        assert outcome["committed"] == wanted, outcome
        return outcome["rate"]

    def latencies(self, sent_file, count, publisher):
        return self.outcome()


def systems():
    """Name, constructor, and the numbers of messages for the rate on the raw and on the slow disk."""
    paho, node = [str(PYTHON), str(HERE / "peer_paho.py")], ["node", str(HERE / "peer_node.js")]
    found = [("checkind", Checkind, 100_000, 100_000)]
    if has_paho():
        found += [("paho-mqtt + sqlite3", lambda place: Script(place, "paho", paho), 8_000, 400),
                  ("paho-mqtt + sqlite3, WAL", lambda place: Script(place, "paho", [*paho, "wal"]), 20_000, 1_500)]
    if has_node():
        found += [("mqtt.js + better-sqlite3", lambda place: Script(place, "node", node), 8_000, 400),
                  ("mqtt.js + better-sqlite3, WAL", lambda place: Script(place, "node", [*node, "wal"]), 30_000, 1_500)]
    return found


def fetched(what, probe, *commands):
    def works():
        there = pathlib.Path(probe[0]).exists() or shutil.which(probe[0])
        return bool(there) and subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=CACHE).returncode == 0

    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        if works():
            return True
        print(f"fetching {what} into {CACHE}", file=sys.stderr)
        for command in commands:
            subprocess.run(command, check=True, cwd=CACHE, stdout=subprocess.DEVNULL, timeout=600)
        return works()
    except (OSError, subprocess.SubprocessError) as fault:
        print(f"\n!! SKIPPED: {what}: {fault}\n", file=sys.stderr)
        return False


def has_paho():
    return fetched("paho-mqtt", [PYTHON, "-c", "import paho.mqtt.client"], [sys.executable, "-m", "venv", "venv"],
                   [PYTHON, "-m", "pip", "install", "--quiet", "paho-mqtt==2.1.0"])


def has_node():
    probe = ["node", "-e", "module.paths.push(process.cwd() + '/node/node_modules'); require('mqtt'); new (require('better-sqlite3'))(':memory:')"]
    # nodedir: the headers of Debian's node, for when those of nodejs.org cannot be fetched.
    return fetched("mqtt.js and better-sqlite3", probe, ["mkdir", "-p", "node"],
                   ["env", "npm_config_nodedir=/usr", "npm", "--prefix", "node", "install", "--silent", "mqtt@5", "better-sqlite3@12"])


def rate(make, wanted, slow):
    with Place(slow) as place:
        system = make(place)
        system.start(wanted)
        system.ready()
        system.stop()
        place.publish(0, wanted)
        system.start(wanted)
        return system.rate(wanted)


SAMPLER = '''
import os, sys, time
file, took = os.open("sample", os.O_CREAT | os.O_RDWR), []
print("ready", flush=True)
while os.path.exists("sample"):
    os.pwrite(file, b"x" * 4096, 4096 * len(took))
    at = time.monotonic()
    os.fdatasync(file)
    took.append(1e3 * (time.monotonic() - at))
    time.sleep(0.05)
took.sort()
print(took[int(len(took) * 0.99)])
'''


@contextlib.contextmanager
def awake():
    """Keeps every core awake."""
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nos.sched_setaffinity(0, {%d})\nwhile os.getppid() == %d: pass"
    spinning = [subprocess.Popen([sys.executable, "-c", spin % (core, os.getpid())]) for core in os.sched_getaffinity(0)]
    try:
        yield
        assert all(process.poll() is None for process in spinning), "the cores were not kept awake; use --asleep to do without"
    finally:
        for process in spinning:
            process.kill()
            process.wait()


# For a system that did not make everything durable.
NEVER = {"p50": math.inf, "p99": math.inf}


def latency(make, per_second, count, slow, kept=awake):
    with Place(slow) as place, kept():
        system = make(place)
        system.start(count)
        system.ready()
        sent = place.folder / "sent.json"
        # How long a sync of another process takes meanwhile, 20 times a second.
        sampler = subprocess.Popen([sys.executable, "-c", SAMPLER], cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, text=True)
        sampler.stdout.readline()
        publisher = place.start([str(PYTHON), "-c", PUBLISHER, str(place.port), str(per_second), str(count), str(PEOPLE), str(sent)], dict(os.environ))
        latencies = system.latencies(sent, count, publisher)
        (place.folder / "sample").unlink()
        latencies["sync"] = float(sampler.communicate()[0])
        return latencies if latencies["committed"] == count else latencies | NEVER


def sync(slow):
    """One fdatasync of a page, in milliseconds: median and 99th of 100."""
    with Place(slow) as place:
        code = ("import os, time\nfile = os.open('f', os.O_CREAT | os.O_RDWR)\ntook = []\nfor n in range(300):\n"
                "    os.pwrite(file, b'x' * 4096, 4096 * n)\n    at = time.monotonic()\n    os.fdatasync(file)\n"
                "    took.append(1e3 * (time.monotonic() - at))\ntook.sort()\nprint(took[150], took[296])")
        output = subprocess.run([sys.executable, "-c", code], cwd=place.folder, env=place.environment, capture_output=True, text=True, check=True)
        return [float(word) for word in output.stdout.split()]


def resident(pid, key):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(key + ":"):
            return int(line.split()[1]) / 1024


def memory(messages, at_once):
    """Idle, and after `messages` messages in parts of `at_once`; each part waits until the one before it was decided."""
    with Place(False) as place:
        daemon = Checkind(place)
        daemon.start(messages)
        daemon.ready()
        idle = resident(daemon.process.pid, "VmRSS")
        for done in range(0, messages, at_once):
            place.publish(done, at_once)
            until("the decisions", lambda: (daemon.metric("checkind_decisions_total") or 0) >= done + at_once)
        return idle, resident(daemon.process.pid, "VmRSS")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="rate,latency,memory")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each rate and of checkind's latencies (a script's latency runs once); the median counts")
    parser.add_argument("--asleep", action="store_true", help="do not keep the cores awake for the latency")
    parser.add_argument("--alone", action="store_true", help="without the scripts")
    parser.add_argument("--million", type=int, default=1_000_000)
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        sys.exit("build first: cargo build --release --no-default-features")
    Place.binary = arguments.binary.resolve()
    only, limits, row = arguments.only.split(","), [], lambda *cells: print("| " + " | ".join(cells) + " |", flush=True)
    head = lambda first, *cells: (print(), row(first, *cells), row("---", *["---:"] * len(cells)))
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    syncs = {slow: sync(slow) for slow in (False, True)}
    for slow, (middle, high) in syncs.items():
        print(f"fdatasync of a page{' on the slow disk' if slow else ''}: median {middle:.2f} ms, 99th of 100 {high:.2f} ms")
    found = systems()[:1] if arguments.alone else systems()
    if "rate" in only:
        head("durable messages/s", "disk as it is", "4 ms per fsync")
        rates = {}
        for name, make, raw, few in found:
            for slow, wanted in ((False, raw), (True, few)):
                rates[name, slow] = statistics.median(rate(make, wanted, slow) for _ in range(arguments.repeat))
            row(name, f"{rates[name, False]:,.0f}", f"{rates[name, True]:,.0f}")
        for peer, slow, times in (("paho-mqtt + sqlite3", False, 10), ("paho-mqtt + sqlite3", True, 100), ("mqtt.js + better-sqlite3", False, 2),
                                  ("mqtt.js + better-sqlite3, WAL", False, 2), ("mqtt.js + better-sqlite3, WAL", True, 2)):
            if (peer, slow) in rates:
                ratio = rates["checkind", slow] / rates[peer, slow]
                limits.append((f"{times} times {peer}{', 4 ms per fsync' if slow else ''}", f"{ratio:.1f} times", ratio >= times))
    if "latency" in only and has_paho():
        kept = contextlib.nullcontext if arguments.asleep else awake
        head("milliseconds to durable", "50/s median", "50/s p99", "1,000/s median", "1,000/s p99")
        for slow in (False, True):
            for name, make, *_ in found:
                cells, sets = [], ((50, 1000), (1000, 15_000))
                for per_second, count in sets:
                    # Waiting for a script that does not keep up would take minutes.
                    hopeless = per_second == 1000 and slow and name != "checkind"
                    runs = [NEVER] if hopeless else [latency(make, per_second, count, slow, kept) for _ in range(arguments.repeat if name == "checkind" else 1)]
                    # Sorted by what the limit is for; a run that lost something counts.
                    runs.sort(key=lambda latencies: latencies["p99"] - (latencies["sync"] if per_second == 50 else 0))
                    latencies = runs[-1] if runs[-1]["p99"] == math.inf else runs[len(runs) // 2]
                    cells += ["does not keep up" if latencies[key] == math.inf else f"{latencies[key]:.2f}" for key in ("p50", "p99")]
                    if name == "checkind":
                        most = 25 if per_second == 1000 else latencies["sync"] + 3
                        if slow or per_second == 50:
                            output = "" if per_second == 1000 else " (p99 of an fsync meanwhile, plus 3)"
                            limits.append((f"p99 at {per_second:,}/s{', 4 ms per fsync' if slow else ''} at most {most:.1f} ms{output}", f"{latencies['p99']:.2f} ms", latencies["p99"] <= most))
                row(name + (", 4 ms per fsync" if slow else ""), *cells)
    if "memory" in only:
        print()
        for at_once in (1000, AT_ONCE):
            idle, after = memory(arguments.million, at_once)
            print(f"checkind, resident: {idle:.1f} MiB idle, {after:.1f} MiB after {arguments.million:,} messages, {at_once:,} at once")
            limits.append((f"at most 40 MiB after {arguments.million:,} messages, {at_once:,} at once", f"{after:.1f} MiB", after <= 40))
    head("limit", "measured", "met")
    for limit, measured, met in limits:
        row(limit, measured, "yes" if met else "**no**")
    print(f"load {os.getloadavg()[0]:.1f}")
    sys.exit(0 if all(met for *_, met in limits) else 1)


if __name__ == "__main__":
    main()
