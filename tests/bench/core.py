#!/usr/bin/env python3
"""What decisions cost in processor time, disk writes and memory, and how long a tap waits; compared with limits and another build.

usage: tests/bench/core.py [--binary target/release/checkind] [--before OTHER_BINARY] [--only NAME,NAME] [--repeat 3] [--quick]

* two_devices: 2,000 people with two devices each, ARP every 15 to 45 s: processor seconds per minute, and the slowest of
  one tap per second. Runs for 16 minutes, because the presence of a device becomes an entry of the log every fifteen.
* late_tap: a tap that arrives 1 to 8 days late in the log of 2,000 people who come five times a day; the median of 20.
* shared_pass: a tap of one of 200 people who share a pass and have used it on each of 365 days; the median of ten.
* one_card: the time to decide 1,500 messages of 64 events of one card, with 40 % of a core. Without a control group, the
  processor seconds that it takes, divided by 0.4.
* bytes_per_tap: bytes written per tap of 2,000 people with two passes each and nine days of history, with taps 20 ms and
  one second apart.
* devices: bytes written per minute for 300 devices that send every 20 to 60 s, for 16 minutes; and the size of the file
  with a million such entries.
* retention: taps in a log of ten million expired entries while these are deleted: the slowest, and by how much their 99th
  percentile exceeds that without deletion.
* memory: of all the daemon's processes, with 5,000 known devices and 2,000 people checked in with two devices each.

A tap is timed from the publisher until another connection to the database sees it. Bytes written are what the kernel counts
for the daemon, plus what it takes to checkpoint SQLite's write-ahead log afterwards. KB and MB are thousands and millions.
Prints a table; the exit code is 1 when a limit was exceeded. With --before the other build does the same, in turn with
this one; a dash marks what it cannot do. --quick is a trial: a few minutes, small numbers, no verdict.

History is real taps through the broker. Some rows are copied in SQL with other days and digests: the ten million entries of
retention (from 20,000 real ones) and the million of devices (from those of their run). The 73,000 visits of shared_pass are
generated, and migrated as from an earlier version.

Run by hand on a quiet machine; compare figures of one run only. two_devices, devices and memory need root for two network
namespaces. Needs the release build, iproute2, mosquitto, python3. A tap waits for the disk too; the disk's own time is
printed above the table. Everything takes two and a half hours, with --before five.
"""
import argparse, contextlib, json, math, os, pathlib, random, re, socket, sqlite3, statistics, struct, sys, time, uuid

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from peers import BINARY, Checkind, Place, member, sync, until
from soak import NAMESPACES, in_namespaces

DAY, HOUR = 86_400_000, 3_600_000
# Seconds; a longer run counts as endless.
LONGEST = 300
CAPTURE = '[[capture]]\ninterface = "far0"\n'
SOURCE = """
[[source]]
name = "taps"
preset = "generic-json"
topics = ["taps"]
each = "/events"
time.trust = "10d past, 2m future"
"""
# Entries with other days and digests.
COPY = """INSERT INTO main.facts (day, subject, at, digest, business_id, arrived, decision, payload)
    SELECT (at - ?1) / 86400000, subject, at - ?1, randomblob(16), business_id, arrived, decision, payload FROM once"""
# Sends ARP again and again for each device in its file; in a separate process and namespace.
ARP_SENDER = """
import heapq, random, socket, struct, sys, time
low, high = float(sys.argv[2]), float(sys.argv[3])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(("near0", 0))
macs = [bytes.fromhex(line.replace(":", "")) for line in open(sys.argv[1])]
due = [(time.monotonic() + random.uniform(0, low), mac) for mac in macs]
heapq.heapify(due)
while True:
    at, mac = due[0]
    time.sleep(max(0, at - time.monotonic()))
    request = mac + bytes([10, 0, 0, 2]) + bytes(6) + bytes([10, 0, 0, 1])
    wire.send(b"\\xff" * 6 + mac + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, 1) + request + bytes(18))
    heapq.heapreplace(due, (at + random.uniform(low, high), mac))
"""


def now():
    return time.time_ns() // 1_000_000


def mac(number, device):
    return f"3c:22:fb:{device:02x}:{number >> 8:02x}:{number & 255:02x}"


def members(count, devices=0, passes=0):
    """`count` people with devices and passes: kinds for days and for minutes in turn, none of them ever used up."""
    macs = lambda n: {"MacAddresses": ",".join(mac(n, device) for device in range(devices))} if devices else {}
    kinds = [{"Id": k + 1, "Name": f"Pass {k}", "MinutesIncluded": 1_000_000 if k % 2 else None} for k in range(passes)]
    held = [{"Id": n * passes + k + 1, "CoworkerId": n + 1, "TimePassId": k + 1, "RemainingUses": 1_000_000}
            for n in range(count) for k in range(passes)]
    return {"Coworkers": [member(n) | macs(n) for n in range(count)], "TimePasses": kinds, "CoworkerTimePasses": held}


def text_of(at):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03d}Z"


def tap(key, person, way, at):
    return {"id": key, "door": "side", "card": str(1_000_000 + person), "result": "granted", "direction": way, "time": text_of(at)}


def cpu(pid):
    fields = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def figure(file, name):
    return int(re.search(rf"^{name}: +(\d+)", open(file).read(), re.M)[1])


def written(pid):
    return figure(f"/proc/{pid}/io", "write_bytes")


def family(pid):
    """A process with all its children."""
    children = [int(word) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()]
    return [pid] + [one for child in children for one in family(child)]


def resident(pid):
    """MiB; memory shared with other processes counts proportionally."""
    return sum(figure(f"/proc/{one}/smaps_rollup", "Pss") for one in family(pid)) / 1024


class Publisher:
    """MQTT over one open connection, with each message acknowledged."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(b"\x10\x11\0\4MQTT\4\2\0\0\0\5bench")
        self.read(4)

    def read(self, count):
        while count:
            got = len(self.socket.recv(count))
            assert got, "the broker closed the connection"
            count -= got

    def publish(self, events, each=1):
        """Publishes the events, `each` of them in one message."""
        messages = [events[first:first + each] for first in range(0, len(events), each)]
        for first in range(0, len(messages), 500):
            part = messages[first:first + 500]
            self.socket.sendall(b"".join(self.packet(number + 1, message) for number, message in enumerate(part)))
            self.read(4 * len(part))

    def packet(self, number, events):
        body = b"\0\4taps" + struct.pack("!H", number) + json.dumps({"events": events}).encode()
        length, rest = b"", len(body)
        while rest > 127:
            length, rest = length + bytes([rest & 127 | 128]), rest >> 7
        return b"\x32" + length + bytes([rest]) + body


class Site(Checkind):
    """The daemon with its broker, its publisher, and a connection that reads the log."""

    def __init__(self, place, document, more):
        self.document = document
        super().__init__(place, document["Coworkers"], SOURCE + more)
        self.publisher, self.taps, self.drawn = Publisher(place.port), 0, random.Random(1)

    def run(self, *arguments):
        # Everything in the first import: what a later one brings is in force only from then on.
        (self.place.folder / "site.json").write_text(json.dumps(self.document))
        super().run(*arguments)

    def ready(self):
        until("the subscriptions", lambda: self.metric("checkind_mqtt_subscribed") == 2, 120)

    def begin(self):
        self.start(0)
        self.ready()
        self.pid = self.process.pid
        self.db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=30)
        # Versions before the log of facts used another table.
        self.old = not self.db.execute("SELECT 1 FROM sqlite_master WHERE name = 'facts'").fetchall()

    def stop(self):
        self.db.close()
        super().stop()

    def send(self, person, way, at=None):
        at, self.taps = at or now(), self.taps + 1
        self.publisher.publish([tap(f"t{self.taps}", person, way, at)])
        return (f"taps/side/t{self.taps}", person, at)

    def has(self, sent):
        key, person, at = sent
        if self.old:
            return bool(self.db.execute("SELECT 1 FROM sightings WHERE business_id = 1 AND key = ?", (key,)).fetchall())
        question = "SELECT 1 FROM facts WHERE day = ? AND subject = ? AND at = ?"
        return bool(self.db.execute(question, (at // DAY, person + 1, at)).fetchall())

    def seen(self, sent, began):
        """Milliseconds from `began` until the tap is in the log."""
        while not self.has(sent):
            if time.monotonic() - began > LONGEST:
                return math.inf
            time.sleep(0.0005)
        return 1e3 * (time.monotonic() - began)

    def timed(self, person, way, at=None):
        began = time.monotonic()
        return self.seen(self.send(person, way, at), began)

    def decided(self, count, every=0.1):
        """Whether `count` decisions are made in time."""
        end = time.monotonic() + LONGEST
        while (self.metric("checkind_decisions_total") or 0) < count:
            if time.monotonic() > end:
                return False
            time.sleep(every)
        return True

    def history(self, people, days, visits):
        """Visits of half an hour on each day, the earliest day first; each person's day in one go, which is quicker."""
        began, way = now(), lambda half: "out" if half % 2 else "in"
        for back in range(days, 0, -1):
            day = [(n, half) for n in range(people) for half in range(2 * visits, 0, -1)]
            self.publisher.publish([tap(f"h{back}-{half}-{n}", n, way(half), began - back * DAY - half * HOUR // 2 + n) for n, half in day])
        assert self.decided(days * len(day)), "the history took too long"

    def send_arp(self, people, devices, low, high):
        """Their devices send ARP from now on."""
        macs = self.place.folder / "macs"
        macs.write_text("\n".join(mac(n, device) for n in range(people) for device in range(devices)))
        near = os.environ[NAMESPACES].split()[0]
        command = ["ip", "netns", "exec", near, sys.executable, "-c", ARP_SENDER, str(macs), str(low), str(high)]
        self.place.start(command, dict(os.environ))

    def checkpoint(self):
        """Bytes that a checkpoint of SQLite's write-ahead log writes."""
        before = written("self")
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return written("self") - before

    def change(self, *statements):
        """Changes the database while the daemon is stopped."""
        with contextlib.closing(sqlite3.connect(self.path)) as db:
            for statement, *arguments in statements:
                db.execute(statement, arguments)
            db.commit()


@contextlib.contextmanager
def site(build, document, more="", begin=True):
    with Place(False) as place:
        place.binary = build
        daemon = Site(place, {"Businesses": [{"Id": 1, "Name": "Bench"}]} | document, more)
        if begin:
            daemon.begin()
        yield daemon


def control_group(pid, share):
    """Limits the process to this share of one core, if the kernel allows it."""
    quota = int(share * 100_000)
    for parent, file, limit in (("cpu", "cpu.cfs_quota_us", f"{quota}"), ("", "cpu.max", f"{quota} 100000")):
        group = pathlib.Path("/sys/fs/cgroup", parent, f"checkind-bench-{os.getpid()}")
        with contextlib.suppress(OSError):
            group.mkdir()
            for name, text in ((file, limit), ("cgroup.procs", str(pid))):
                # The kernel creates these files; a folder that is no control group has none.
                with open(group / name, "r+") as out:
                    out.write(text)
            return group
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def two_devices(build, quick):
    people, minutes = 2000, 1 if quick else 16
    with site(build, members(people, devices=2), CAPTURE) as at:
        at.send_arp(people, 2, 15, 45)
        # By then all are checked in and their check-ins written.
        time.sleep(75)
        used, longest, end = cpu(at.pid), 0, time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            longest = max(longest, at.timed(at.drawn.randrange(people), "in"))
            time.sleep(1)
        return (cpu(at.pid) - used) / minutes, longest


def late_tap(build, quick):
    people = 200 if quick else 2000
    with site(build, members(people)) as at:
        at.history(people, 9, 5)
        took = [at.timed(7 * n + 3, "in", now() - DAY - n * 7 * DAY // 19) for n in range(20)]
        return statistics.median(took),


def shared_pass(build, quick):
    people, days = 200, 30 if quick else 365
    guid, today = str(uuid.uuid4()), now() // DAY * DAY
    team = {"Teams": [{"Id": 1, "Name": "Team", "TeamMembers": list(range(1, people + 1)), "ShareTimePasses": True}],
            "TimePasses": [{"Id": 1, "Name": "Day"}],
            "CoworkerTimePasses": [{"Id": 1, "UniqueId": guid, "CoworkerId": 1, "TimePassId": 1, "RemainingUses": 1_000_000}]}
    visit = """INSERT INTO checkins (unique_id, coworker_id, coworker_full_name, business_id, business_name, source, from_time, to_time,
        last_activity, from_time_local, to_time_local, created_on, updated_on, updated_by, pass_day, seconds, time_pass_id, pass_kind,
        coworker_time_pass_guid) VALUES (?1, ?2, 'Member', 1, 'Bench', 2, ?3, ?4, ?4, ?3, ?4, ?3, ?4, 'checkind', ?5, 28800, 1, 'day', ?6)"""
    visits = []
    for back in range(1, days + 1):
        day = today - back * DAY
        of_day = (text_of(day + 9 * HOUR), text_of(day + 17 * HOUR), text_of(day), guid)
        visits += [(visit, str(uuid.uuid4()), n + 1, *of_day) for n in range(people)]
    with site(build, members(people) | team, begin=False) as at:
        at.change(("UPDATE directory SET basis_at = ?", text_of(today - (days + 2) * DAY)), *visits)
        at.begin()
        # The visits are migrated before the first tap.
        at.timed(0, "in")
        return statistics.median(at.timed(n, "in") for n in range(1, 11)),


def one_card(build, quick):
    count, each, share, first = 64 * (150 if quick else 1500), 64, 0.4, now() - 45 * HOUR
    events = [tap(f"c{n}", 0, "out" if n % 2 else "in", first + n * 1600) for n in range(count)]
    with site(build, members(1)) as at:
        group, used, began = control_group(at.pid, share), cpu(at.pid), time.monotonic()
        try:
            at.publisher.publish(events, each)
            took = time.monotonic() - began if at.decided(count, 0.05) else math.inf
            return (took if group else max(took, (cpu(at.pid) - used) / share)),
        finally:
            if group:
                (group.parent / "cgroup.procs").write_text(str(at.pid))
                group.rmdir()


def bytes_per_tap(build, quick):
    people = 200 if quick else 2000
    with site(build, members(people, passes=2), begin=False) as at:
        at.change(("UPDATE directory SET basis_at = ? WHERE basis IS NOT NULL", text_of(now() - 12 * DAY)))
        at.begin()
        at.history(people, 9, 1)
        order = at.drawn.sample(range(people), people)
        return paced(at, order, 0.02) / 1e3, paced(at, order[:10 if quick else 150], 1) / 1e3


def paced(at, order, apart):
    """Bytes per tap when these people come in and then leave."""
    at.checkpoint()
    before, due = written(at.pid), time.monotonic()
    for way in ("in", "out"):
        for person in order:
            time.sleep(max(0, due - time.monotonic()))
            last, due = at.send(person, way), due + apart
    at.seen(last, time.monotonic())
    return (written(at.pid) - before + at.checkpoint()) / (2 * len(order))


def devices(build, quick):
    people = 300
    minutes, count = (2, 10_000) if quick else (16, 1_000_000)
    with site(build, members(people, devices=1), CAPTURE) as at:
        at.send_arp(people, 1, 20, 60)
        time.sleep(75)
        at.checkpoint()
        before = written(at.pid)
        time.sleep(60 * minutes)
        a_minute = (written(at.pid) - before + at.checkpoint()) / minutes / 1e6
        return a_minute, None if at.old else size_of(at, count)


def size_of(at, count):
    """MB of the file with a million such entries, inserted in the order of their arrival: a quarter of an hour of all devices, then the next."""
    with contextlib.closing(sqlite3.connect(at.place.folder / "copy.db")) as db:
        db.execute("ATTACH ? AS live", [str(at.path)])
        for statement, in db.execute("SELECT sql FROM live.sqlite_master WHERE tbl_name = 'facts' AND sql IS NOT NULL").fetchall():
            db.execute(statement)
        # A visit's first entry is one presence; each of the others covers a quarter of an hour.
        db.execute("""CREATE TEMP TABLE once AS SELECT * FROM live.facts f WHERE substr(payload, 1, 2) = x'0101'
            AND EXISTS (SELECT 1 FROM live.facts e WHERE e.day = f.day AND e.subject = f.subject AND e.at < f.at) ORDER BY at""")
        real = db.execute("SELECT count(*) FROM once").fetchone()[0]
        if not real:
            return None
        for quarter in range(-(-count // real), 0, -1):
            db.execute(COPY, (quarter * HOUR // 4,))
        db.commit()
        return (at.place.folder / "copy.db").stat().st_size / db.execute("SELECT count(*) FROM facts").fetchone()[0]


def retention(build, quick):
    people, times, days = 2000, 10, 50 if quick else 500
    with site(build, members(people), '[retention]\nsightings = "0d"\n') as at:
        if at.old:
            return None, None, None, None
        at.publisher.publish([tap(f"r{k}-{n}", n, "out" if k % 2 else "in", now() - 2 * HOUR + k * 600_000 + n)
                              for k in range(times) for n in range(people)])
        assert at.decided(times * people), "the taps took too long"
        at.stop()
        at.change(("PRAGMA journal_mode = OFF",), ("CREATE TEMP TABLE once AS SELECT * FROM facts ORDER BY day, subject, at",),
                  *((COPY, back * DAY) for back in range(31 + days, 31, -1)))
        size = at.path.stat().st_size / ((days + 1) * times * people)
        # A disk that has just written a gigabyte is slow at first.
        os.sync()
        time.sleep(0 if quick else 60)
        at.begin()
        without = taps(at, people, quick)
        at.stop()
        settings = at.place.folder / "checkind.toml"
        settings.write_text(settings.read_text().replace('sightings = "0d"', 'sightings = "30d"'))
        at.begin()
        during = taps(at, people, quick)
        assert at.db.execute("SELECT 1 FROM facts WHERE day < ? LIMIT 1", (now() // DAY - 30,)).fetchall(), "the deletion ended too soon"
        p99 = lambda took: sorted(took)[int(len(took) * 0.99)]
        return max(during), max(without), p99(during) - p99(without), size


def taps(at, people, quick):
    """Ten taps a second for a minute, after the first seconds, in which everything is read for the first time."""
    time.sleep(5)
    took = []
    for _ in range(100 if quick else 600):
        took.append(at.timed(at.drawn.randrange(people), "in"))
        time.sleep(0.1)
    return took


def memory(build, quick):
    people, known = 2000, 2500
    with site(build, members(known, devices=2), CAPTURE) as at:
        at.publisher.publish([tap(f"m{n}", n, "in", now()) for n in range(people)])
        at.send_arp(people, 2, 15, 45)
        time.sleep(30 if quick else 150)
        return max(resident(at.pid) for _ in range(5)),


# For each measurement: what is measured, its limit, unit and decimals.
MEASUREMENTS = {
    two_devices: (("processor per minute", 1, "s", 2), ("slowest tap meanwhile", 30, "ms", 1)),
    late_tap: (("", 20, "ms", 1),),
    shared_pass: (("", 10, "ms", 1),),
    one_card: (("", 10, "s", 1),),
    bytes_per_tap: (("20 ms apart", 32, "KB", 1), ("a second apart", 40, "KB", 1)),
    devices: (("written per minute", 0.2, "MB", 2), ("a million entries of devices", 90, "MB", 1)),
    retention: (("slowest tap", 20, "ms", 1), ("slowest tap without deletion", None, "ms", 1), ("p99 beyond that without deletion", 15, "ms", 1),
                ("a million entries of taps", 90, "MB", 1)),
    memory: (("", 24, "MiB", 1),),
}
IN_NAMESPACES = ("two_devices", "devices", "memory")


def cell(values, unit, digits):
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(known), min(known), max(known)))
    return f"{middle} {unit} ({low}–{high})"


def compared(measure, builds, repeat, quick):
    """Prints one line of the table for each figure. Returns whether all limits were met."""
    runs = {build: [] for build in builds}
    for _ in range(repeat):
        for build in builds:
            runs[build].append(measure(build, quick))
    good = True
    for index, (what, limit, unit, digits) in enumerate(MEASUREMENTS[measure]):
        columns = [[run[index] for run in runs[build]] for build in builds]
        known = [value for value in columns[0] if value is not None]
        met = limit is None or bool(known) and statistics.median(known) <= limit
        good = good and (met or quick)
        verdict = ["–", "–"] if limit is None else [f"{limit} {unit}", "yes" if met else "**no**"]
        measured, *before = (cell(values, unit, digits) for values in columns)
        row(measure.__name__ + ", " * bool(what) + what, measured, *verdict, *before)
    return good


def row(*cells):
    print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [measure.__name__ for measure in MEASUREMENTS]
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    parser.add_argument("--before", type=pathlib.Path, help="an earlier build to compare with")
    parser.add_argument("--only", default=",".join(names))
    parser.add_argument("--repeat", type=int, default=3, help="the median counts")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    only = arguments.only.split(",")
    if unknown := set(only) - set(names):
        sys.exit(f"there is no {', '.join(unknown)}; there are {', '.join(names)}")
    builds = [build.resolve() for build in (arguments.binary, arguments.before) if build]
    if missing := [str(build) for build in builds if not build.exists()]:
        sys.exit(f"build {', '.join(missing)} first")
    if set(only) & set(IN_NAMESPACES) and NAMESPACES not in os.environ:
        sys.exit(in_namespaces() if os.geteuid() == 0 else f"{', '.join(IN_NAMESPACES)} need root; leave them out with --only")
    middle, high = sync(False)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, fdatasync of a page: median {middle:.2f} ms, 99th of 100 {high:.2f} ms\n")
    row("", "measured (lowest–highest)", "limit", "met", *["before"] * (len(builds) - 1))
    row("---", "---:", "---:", "---", *["---:"] * (len(builds) - 1))
    good = [compared(measure, builds, arguments.repeat, arguments.quick) for measure in MEASUREMENTS if measure.__name__ in only]
    print(f"\nload {os.getloadavg()[0]:.1f}")
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
