#!/usr/bin/env python3
"""Many door messages and random faults: nothing is lost, nothing doubled, the counters add up, memory stays flat.

usage: tests/bench/soak.py [--seconds 600] [--seed 1] [--binary target/release/checkind]

Publishes to a private broker as fast as the daemon takes it. Every few seconds one of these happens: the daemon is killed
(SIGKILL) or ended (SIGTERM) and started again; its settings are reloaded; the broker stops for a while (SIGSTOP) or is
restarted; the disk is slow, hangs, or fails at every sync. At the end the disk is well, and every message that was
published must be one row. Exit code 1 when one of the four is not so.

Needs gcc, mosquitto, python3.
"""
import argparse, random, signal, sqlite3, sys, threading, time, pathlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import BINARY, PEOPLE, Checkind, Place, event, resident, subprocess, until

CHUNK = 20_000
# The event times of all messages lie within two hours, far from the daily cut-off.
A_SECOND = 5000
# MiB that may be resident at the end beyond the beginning: twice what the queue before a stalled disk holds.
GROWTH = 40
# Seconds from which on that is asked for.
LONG = 300


class Soak:
    def __init__(self, place, seed):
        self.place, self.random = place, random.Random(seed)
        self.daemon, self.began = Checkind(place), time.time() - 7000
        self.published, self.faults, self.over = 0, {}, False
        self.memory, self.added_up, self.broker_free = [], 0, threading.Lock()
        self.order("ok")

    def order(self, order):
        new = self.place.folder / "orders.new"
        new.write_text(order)
        new.rename(self.place.folder / "orders")

    def start(self):
        self.daemon.start(0)

    def publish(self):
        """Never more than two chunks ahead of what is durable, so that no fault is followed by minutes of backlog."""
        db = None
        while not self.over:
            first = self.published
            lines = "\n".join(event(n, self.began, A_SECOND) for n in range(first, first + CHUNK)) + "\n"
            command = ["mosquitto_pub", "-p", str(self.place.port), "-q", "1", "-t", "flat/events", "-l"]
            # A second time is harmless: the messages have ids.
            with self.broker_free:
                while subprocess.run(command, input=lines, text=True, stderr=subprocess.DEVNULL).returncode:
                    time.sleep(0.2)
            self.published += CHUNK
            while not self.over and first >= 2 * CHUNK and not self.is_durable(first - CHUNK):
                time.sleep(0.05)

    def is_durable(self, number):
        try:
            with sqlite3.connect(f"file:{self.daemon.path}?mode=ro", uri=True, timeout=5) as db:
                key = db.execute("SELECT key FROM sightings LIMIT 1").fetchone()
                if not key:
                    return False
                # Every key ends alike: the id of the message.
                head = key[0][: key[0].rindex("n") + 1]
                return db.execute("SELECT 1 FROM sightings WHERE business_id = 1 AND key = ?", (f"{head}{number}",)).fetchone() is not None
        except sqlite3.Error:
            return False

    def fault(self):
        name = self.random.choice(["kill", "kill", "end", "reload", "broker stops", "broker restarts", "disk slow", "disk hangs", "disk fails"])
        self.faults[name] = self.faults.get(name, 0) + 1
        pause = self.random.uniform(0.5, 4)
        process = self.daemon.process
        if name == "kill":
            process.kill()
            process.wait()
            self.start()
        elif name == "end":
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            self.start()
        elif name == "reload":
            process.send_signal(signal.SIGHUP)
        elif name == "broker stops":
            self.place.broker.send_signal(signal.SIGSTOP)
            time.sleep(pause)
            self.place.broker.send_signal(signal.SIGCONT)
        elif name == "broker restarts":
            with self.broker_free:
                self.place.broker.terminate()
                self.place.broker.wait(60)
                self.place.start_broker()
        else:
            self.order({"disk slow": "slow 20000", "disk hangs": "hang", "disk fails": "fail"}[name])
            time.sleep(pause)
            self.order("ok")

    def watch(self):
        if self.daemon.process.poll() is not None:
            sys.exit(f"the daemon ended: {self.daemon.process.returncode}\n{(self.place.folder / 'log').read_text()[-5000:]}")
        self.memory.append(resident(self.daemon.process.pid, "VmRSS") or 0)

    def adds_up(self):
        """Of the process that runs now; nobody publishes."""
        names = ("decisions", "mqtt_events", "mqtt_messages", "mqtt_acknowledged", "mqtt_stale_receipts", "mqtt_shed", "mqtt_redelivered")
        for _ in range(100):
            counts = {name: int(self.daemon.metric(f"checkind_{name}_total") or 0) for name in names}
            done = sum(counts[name] for name in ("mqtt_acknowledged", "mqtt_stale_receipts", "mqtt_shed"))
            if counts["decisions"] == counts["mqtt_events"] and counts["mqtt_messages"] == done:
                print("counters:", counts)
                return
            time.sleep(0.5)
        sys.exit(f"the counters do not add up: {counts}\n{(self.place.folder / 'log').read_text()[-3000:]}")

    def run(self, seconds):
        self.start()
        self.daemon.ready()
        publisher = threading.Thread(target=self.publish, daemon=True)
        publisher.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            calm = min(time.monotonic() + self.random.uniform(1, 8), end)
            while time.monotonic() < calm:
                self.watch()
                time.sleep(0.25)
            self.fault()
        self.over = True
        publisher.join(60)
        until("the last message", lambda: self.is_durable(self.published - 1) or self.watch(), 300, 0.5)
        self.adds_up()
        self.daemon.leave()
        with sqlite3.connect(f"file:{self.daemon.path}?mode=ro", uri=True, timeout=30) as db:
            rows = db.execute("SELECT count(*) FROM sightings").fetchone()[0]
            doubled = db.execute("SELECT count(*) FROM (SELECT coworker_id FROM checkins WHERE to_time IS NULL GROUP BY coworker_id HAVING count(*) > 1)").fetchone()[0]
            whole = db.execute("PRAGMA quick_check").fetchone()[0]
        quarter = max(1, len(self.memory) // 4)
        first, last = max(self.memory[:quarter]), max(self.memory[-quarter:])
        print(f"{self.published:,} messages, {rows:,} rows, {doubled} people in twice, file {whole}")
        print("faults:", ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items())))
        log = (self.place.folder / "log").read_text()
        raised = sorted(set(part.split('"')[0] for part in log.split('condition="')[1:]))
        counts = {name: log.count(f'condition="{name}"') - log.count(f'{name} is over') for name in raised}
        print("conditions:", ", ".join(f"{count} × {name}" for name, count in counts.items()))
        print(f"resident: {first:.1f} MiB at most in the first quarter, {last:.1f} MiB in the last")
        # In less, the beginning is not what the daemon settles to.
        flat = last <= first + GROWTH or seconds < LONG
        return rows == self.published and not doubled and whole == "ok" and flat


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        sys.exit(f"build {arguments.binary} first")
    lines = "user root\npersistence true\nautosave_interval 5\nautosave_on_changes false\nmax_inflight_messages 1000\n"
    Place.binary = arguments.binary.resolve()
    with Place(True, lines) as place:
        good = Soak(place, arguments.seed).run(arguments.seconds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
