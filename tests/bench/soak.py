#!/usr/bin/env python3
"""Door messages, a mirror port and random faults: nothing is lost or doubled, the counters add up, memory stays flat.

usage: tests/bench/soak.py [--seconds 600] [--seed 1] [--people 100000] [--frames 15000] [--binary target/release/checkind]

Publishes to a private broker as fast as the daemon accepts: each person's tap in turn, in, then out, with the current time.
Meanwhile --frames frames a second from the phones of 2,000 people arrive at a mirror port, a veth pair between two network
namespaces. Every few seconds one of these happens: the daemon is killed (SIGKILL) or ended (SIGTERM) and started again; its
settings are reloaded; the broker pauses for some seconds (SIGSTOP) or is restarted; the disk is slow, hangs, or fails at
every sync. At the end the disk works again. Then every published message must be one fact, and every tap of a person
without a phone a check-in or its end. The exit code is 1 when one of the four fails.

Root. Needs gcc, iproute2, mosquitto, python3, tcpreplay.
"""
import argparse, os, random, signal, sqlite3, sys, threading, time, pathlib

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from peers import BINARY, Checkind, Place, event, events_of, member, number_in, resident, subprocess, until

NAMESPACES = "CHECKIND_SOAK_NAMESPACES"
CHUNK = 10_000
PHONES = 2_000
# MiB by which resident memory may grow: twice what the queue in front of a stalled disk holds.
GROWTH = 40
# Seconds; shorter runs are not checked for growth.
LONG = 300


def sh(*command):
    subprocess.run([str(word) for word in command], check=True)


def phone(number):
    """The addresses that gen_arpstorm.py generates."""
    return f"3C:22:FB:{number >> 8:02X}:{number & 255:02X}:{number & 255:02X}"


class Soak:
    def __init__(self, place, seed, people, frames):
        self.place, self.random, self.people, self.frames = place, random.Random(seed), people, frames
        members = [member(n) | ({"MacAddresses": phone(n)} if n < PHONES else {}) for n in range(people)]
        more = '[[capture]]\ninterface = "far0"\n' if frames else ""
        self.daemon = Checkind(place, members, more)
        self.published, self.faults, self.stopping = 0, {}, False
        self.memory, self.broker_free = [], threading.Lock()
        self.phone_frames, self.phone_frames_before, self.sampled_at = 0, 0, 0
        self.order("ok")

    def order(self, order):
        new = self.place.folder / "orders.new"
        new.write_text(order)
        new.rename(self.place.folder / "orders")

    def start(self):
        self.daemon.start(0)
        self.phone_frames_before, self.phone_frames = self.phone_frames_before + self.phone_frames, 0

    def replay(self, seconds):
        """Sends frames for at most this many seconds."""
        capture = self.place.folder / "phones.pcap"
        sh(sys.executable, HERE / "gen_arpstorm.py", capture, 100_000, PHONES)
        near = os.environ[NAMESPACES].split()[0]
        command = ["ip", "netns", "exec", near, "tcpreplay", "-q", "--preload-pcap", "--loop=0", f"--pps={self.frames}",
                   f"--duration={seconds}", "-i", "near0", str(capture)]
        return self.place.start(command, dict(os.environ), subprocess.DEVNULL)

    def counts(self, *names):
        return {name: int(self.daemon.metric(f"checkind_{name}_total") or 0) for name in names}

    def publish(self):
        """Publishes, never more than two chunks ahead of what is durable: otherwise minutes of backlog would follow a fault."""
        db = None
        while not self.stopping:
            first = self.published
            lines = "\n".join(event(n, time.time(), self.people) for n in range(first, first + CHUNK)) + "\n"
            command = ["mosquitto_pub", "-p", str(self.place.port), "-q", "1", "-t", "flat/events", "-l"]
            # Publishing again is harmless: the messages have ids.
            with self.broker_free:
                while subprocess.run(command, input=lines, text=True, stderr=subprocess.DEVNULL).returncode:
                    time.sleep(0.2)
            self.published += CHUNK
            while not self.stopping and first >= 2 * CHUNK and not self.is_durable(first - CHUNK):
                time.sleep(0.05)

    def is_durable(self, number):
        try:
            with sqlite3.connect(f"file:{self.daemon.path}?mode=ro", uri=True, timeout=5) as db:
                return number in events_of(db, [number % self.people])
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
        if self.frames and time.monotonic() > self.sampled_at + 1:
            self.sampled_at = time.monotonic()
            self.phone_frames = max(self.phone_frames, sum(self.counts("capture_strong", "capture_weak").values()))

    def adds_up(self):
        """Checks the counters of the current process; nothing is published now, and no phone sends."""
        arrived = ("mqtt_events", "presences")
        messages, done = "mqtt_messages", ("mqtt_acknowledged", "mqtt_stale_receipts", "mqtt_shed")
        frames, seen = "capture_frames", ("capture_strong", "capture_weak", "capture_no_evidence", "capture_out_of_scope", "capture_left_out")
        for _ in range(200):
            counts = self.counts("decisions", *arrived, messages, *done, frames, *seen, "mqtt_redelivered", "decided_again")
            total = lambda names: sum(counts[name] for name in names)
            if counts["decisions"] == total(arrived) and counts[messages] == total(done) and counts[frames] == total(seen):
                print("counters of the last process:", counts)
                return
            time.sleep(0.5)
        sys.exit(f"the counters do not add up: {counts}\n{(self.place.folder / 'log').read_text()[-3000:]}")

    def run(self, seconds):
        self.start()
        self.daemon.ready()
        replayed = self.replay(seconds + 60) if self.frames else None
        publisher = threading.Thread(target=self.publish, daemon=True)
        publisher.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            calm = min(time.monotonic() + self.random.uniform(1, 8), end)
            while time.monotonic() < calm:
                self.watch()
                time.sleep(0.25)
            self.fault()
        self.stopping = True
        if replayed:
            replayed.terminate()
            replayed.wait()
        publisher.join(60)
        until("the last message", lambda: self.is_durable(self.published - 1) or self.watch(), 300, 0.5)
        self.adds_up()
        self.daemon.stop()
        return self.judge(seconds)

    def judge(self, seconds):
        with sqlite3.connect(f"file:{self.daemon.path}?mode=ro", uri=True, timeout=30) as db:
            one = lambda question: db.execute(question).fetchone()[0]
            rows, missing = 0, bytearray(b"\x01" * self.published)
            for payload, in db.execute("SELECT payload FROM facts"):
                number = number_in(payload)
                if number is not None:
                    rows, missing[number] = rows + 1, 0
            open_twice = one("SELECT count(*) FROM (SELECT 1 FROM checkins WHERE to_time IS NULL GROUP BY coworker_id HAVING count(*) > 1)")
            visits, ended = db.execute("SELECT count(*), count(to_time) FROM checkins WHERE coworker_id > ?", (PHONES,)).fetchone()
            whole = one("PRAGMA quick_check")
        taps = [0, 0]
        for number in range(self.published):
            if number % self.people >= PHONES:
                taps[number // self.people % 2] += 1
        quarter = max(1, len(self.memory) // 4)
        first, last = max(self.memory[:quarter]), max(self.memory[-quarter:])
        phone_frames = self.phone_frames_before + self.phone_frames
        print(f"{self.published:,} messages, {rows:,} facts of doors, {sum(missing):,} missing, {open_twice} people checked in twice, file {whole}; {phone_frames:,} frames of phones seen")
        print(f"without a phone: {visits:,} check-ins for {taps[0]:,} taps in, {ended:,} check-outs for {taps[1]:,} taps out")
        print("faults:", ", ".join(f"{count} × {name}" for name, count in sorted(self.faults.items())))
        log = (self.place.folder / "log").read_text()
        raised = sorted(set(part.split('"')[0] for part in log.split('condition="')[1:]))
        counts = {name: log.count(f'condition="{name}"') - log.count(f'{name} is over') for name in raised}
        print("conditions:", ", ".join(f"{count} × {name}" for name, count in counts.items()))
        print(f"resident: at most {first:.1f} MiB in the first quarter, {last:.1f} MiB in the last")
        # In a shorter run, memory has not settled yet in the first quarter.
        flat = last <= first + GROWTH or seconds < LONG
        right = rows == self.published and not any(missing) and not open_twice and [visits, ended] == taps
        return right and whole == "ok" and flat


def in_namespaces():
    """Runs this program again with a mirror port, far0, whose other end is near0."""
    near, far = f"ck-soak-near-{os.getpid()}", f"ck-soak-far-{os.getpid()}"
    try:
        for namespace in (near, far):
            sh("ip", "netns", "add", namespace)
            sh("ip", "-n", namespace, "link", "set", "lo", "up")
        sh("ip", "link", "add", "near0", "netns", near, "type", "veth", "peer", "name", "far0", "netns", far)
        for namespace, link in ((near, "near0"), (far, "far0")):
            sh("ip", "netns", "exec", namespace, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1")
            sh("ip", "-n", namespace, "link", "set", link, "up")
        command = ["ip", "netns", "exec", far, sys.executable, *sys.argv]
        return subprocess.run(command, env=os.environ | {NAMESPACES: f"{near} {far}"}).returncode
    finally:
        for namespace in (near, far):
            subprocess.run(["ip", "netns", "del", namespace])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=15_000, help="per second at the mirror port; 0 for no mirror port")
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        sys.exit(f"build {arguments.binary} first")
    if arguments.frames and NAMESPACES not in os.environ:
        sys.exit(in_namespaces())
    lines = "user root\npersistence true\nautosave_interval 5\nautosave_on_changes false\nmax_inflight_messages 1000\n"
    Place.binary = arguments.binary.resolve()
    with Place(True, lines) as place:
        good = Soak(place, arguments.seed, arguments.people, arguments.frames).run(arguments.seconds)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
