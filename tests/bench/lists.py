#!/usr/bin/env python3
"""How long a page of a list takes with 10,000 and with 1,000,000 check-ins, and what 200 lists a second cost the taps beside them.

usage: tests/bench/lists.py [--binary target/release/checkind] [--only sqlite,postgres,beside,bound] [--postgres URL] [--small 10000]
       [--large 1000000] [--rounds 2] [--slow 8] [--seconds 15] [--repeat 3] [--disk] [--before OTHER_BINARY]

* sqlite, postgres: each filter and order through the HTTP API of the running daemon, over one open connection with a bearer token,
  25 records a page, pages 1 to 100 one after another; median and 99th percentile, and the ratio of the two sizes. Requests to the two
  daemons alternate. Filters ask for as many records in both, so only what is searched differs. Rows marked `indexed` must stay below a
  ratio of 2; of the others the first pages are read --slow times. `first` is the first request to the larger one, which counts.
* beside: taps, 1,000 a second into SQLite with 100,000 check-ins, without and with 200 list requests a second from another process:
  the 99th percentile from the publisher until another connection sees the tap. Runs alternate; the medians of --repeat runs count. The
  files are in memory, with 4 ms for every fsync, so other processes' writes do not interfere; with --disk on the disk as it is.
* bound: the size of SQLite's log while lists that take long are read without a pause and taps arrive.

Two years of three locations: visits of 1 to 7 hours by 2,000 people; the last 200 are open, one in a thousand was corrected
a month later. With --before, `beside` does the same with the other build. Figures of different runs are not comparable.

`chrt -f 5` before the command gives it priority over other work on the machine.

Needs the release build, gcc, python3, mosquitto; for PostgreSQL psql and a server on which --postgres (or CHECKIND_TEST_POSTGRES) may create
databases.
"""
import argparse, contextlib, http.client, json, os, pathlib, random, sqlite3, statistics, subprocess, sys, threading, time, urllib.parse

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import peers
from peers import BINARY, Checkind, Place, member, until

YEARS = 2 * 365 * 86_400_000
PASSWORD = "correct horse battery"
# The instants of check-in ?1 of ?2, in milliseconds: the end of the history is ?3.
BEGINS = "{end} - {span} + n * ({span} / {count}) - 60000"
GUID = "'a1b2c3d4-e5f6-7890-{kind}-' || {hex}"


def text_of(at):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at // 1000)) + f".{at % 1000:03d}Z"


class History:
    """What a database is filled with: the same for both kinds."""

    def __init__(self, count, end, first_person=1, still_open=200):
        self.count, self.end, self.first, self.open = count, end, first_person, still_open

    def begin(self, number):
        return self.end - YEARS + number * (YEARS // self.count) - 60_000

    def statements(self, postgres):
        """INSERT … SELECT for check-ins, and a tenth as many failed ones and charges."""
        at = (lambda ms: f"timestamptz 'epoch' + ({ms}) * interval '1 ms'") if postgres else \
            (lambda ms: f"strftime('%Y-%m-%dT%H:%M:%S', ({ms}) / 1000, 'unixepoch') || printf('.%03dZ', ({ms}) % 1000)")
        local = (lambda ms: f"to_char(timestamp 'epoch' + ({ms}) * interval '1 ms', 'YYYY-MM-DD\"T\"HH24:MI:SS')") if postgres else \
            (lambda ms: f"strftime('%Y-%m-%dT%H:%M:%S', ({ms}) / 1000, 'unixepoch')")
        guid = (lambda kind: f"('a1b2c3d4-e5f6-7890-{kind}-' || lpad(to_hex(n), 12, '0'))::uuid") if postgres else \
            (lambda kind: f"'a1b2c3d4-e5f6-7890-{kind}-' || printf('%012x', n)")
        truth = (lambda test: f"({test})") if postgres else (lambda test: f"(({test}) + 0)")
        rows = (lambda count: f"FROM generate_series(1, {count}::bigint) AS n") if postgres else \
            (lambda count: f"FROM (WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s LIMIT {count}) SELECT n FROM s)")
        end, span = self.end, YEARS
        hour = 3_600_000

        def common(begins, last, count):
            # One person has 500 records in each size.
            every = max(count // 500, 1)
            person = f"CASE WHEN n % {every} = 0 AND n <= {count - self.open} THEN {self.first} ELSE {self.first + 1} + n * 7919 % 1999 END"
            return (f"{person}, 'Member ' || (n * 7919 % 1999), n % 3 + 1, 'Hub ' || (n % 3 + 1), CASE WHEN n % 4 = 0 THEN 3 ELSE 2 END, "
                    f"{at(begins)}, {at(last)}, 'checkind', 'Engines,Analysts', 'Full time'")

        whole = "coworker_id, coworker_full_name, business_id, business_name, source, created_on, updated_on, updated_by, " \
            "teams_at_the_time_of_checkin, tariff_at_the_time_of_checkin"
        begins = BEGINS.format(end=end, span=span, count=self.count)
        ends = f"{begins} + {hour} + n * 7919 % 7 * {hour}"
        is_open = f"n > {self.count - self.open}"
        last = f"CASE WHEN {is_open} THEN {begins} WHEN n % 1000 = 0 THEN {ends} + {30 * 24 * hour} ELSE {ends} END"
        yield (f"INSERT INTO checkins (unique_id, {whole}, from_time, to_time, from_time_local, to_time_local, last_activity, auto_checkout, "
               f"counts_towards_plan_limits, coworker_time_pass_guid, mac_addresses) SELECT {guid('0001')}, {common(begins, last, self.count)}, "
               f"{at(begins)}, CASE WHEN {is_open} THEN NULL ELSE {at(ends)} END, {local(begins)}, CASE WHEN {is_open} THEN NULL ELSE {local(ends)} END, "
               f"{at(begins)}, {truth('n % 5 = 0')}, {truth('n % 2 = 0')}, CASE WHEN n % 3 = 0 THEN {guid('0009')} END, "
               f"'3c:22:fb:00:00:01' {rows(self.count)}")
        few = self.count // 10
        begins = BEGINS.format(end=end, span=span, count=few)
        yield (f"INSERT INTO failed_checkins (unique_id, {whole}, checkin_attempt_time, checkin_attempt_time_local, description, code) "
               f"SELECT {guid('0002')}, {common(begins, begins, few)}, {at(begins)}, {local(begins)}, 'unrecognised_card: no coworker has this card', "
               f"'unrecognised_card' {rows(few)}")
        yield (f"INSERT INTO payg_charges (checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes, unbounded, amount, "
               f"currency, created_on, updated_on) SELECT {guid('0001')}, n * 7919 % 2000 + 1, n % 3 + 1, 1, {at(begins)}, {at(begins)}, {at(f'{begins} + {hour}')}, "
               f"60, 1000, 1000, 'GBP', {at(begins)}, {at(f'{begins} + {hour}')} {rows(few)}")

    def into_sqlite(self, path):
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA synchronous = OFF")
            for statement in self.statements(False):
                db.execute(statement)
            db.commit()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def into_postgres(self, url):
        psql(url, *self.statements(True), "VACUUM ANALYZE")


def psql(url, *statements):
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url]
    for statement in statements:
        subprocess.run([*command, "-c", statement], check=True, stdout=subprocess.DEVNULL)


class Client:
    """One open connection with a bearer token."""

    def __init__(self, port, user="bench@example.com"):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = urllib.parse.urlencode({"grant_type": "password", "username": user, "password": PASSWORD})
        token = json.loads(self.ask("POST", "/api/token", body, {"Content-Type": "application/x-www-form-urlencoded"}))
        self.headers = {"Authorization": f"Bearer {token['access_token']}"}

    def ask(self, method, path, body=None, headers=None):
        self.connection.request(method, path, body, headers or self.headers)
        answer = self.connection.getresponse()
        text = answer.read()
        assert answer.status == 200, (path, answer.status, text[:500])
        return text

    def get(self, path):
        return self.ask("GET", path)


class Reader:
    """A daemon that only serves records."""

    def __init__(self, place, url):
        self.place, self.config = place, place.folder / "checkind.toml"
        more, parts = "", urllib.parse.urlsplit(url)
        if parts.scheme == "postgres":
            more = f'[spool]\npath = "{place.folder}/spool.db"\n'
        if parts.password:
            (place.folder / "password").write_text(urllib.parse.unquote(parts.password))
            (place.folder / "password").chmod(0o600)
            url, more = url.replace(f":{parts.password}@", "@"), f'password_file = "{place.folder}/password"\n' + more
        self.config.write_text(f'[database]\nurl = "{url}"\n{more}[api]\nlisten = "127.0.0.1:{place.api}"\n')

    def run(self, *arguments, line=None):
        command = [self.place.binary, *arguments, "--config", self.config]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, input=line, text=True)

    def add_users(self):
        self.run("user", "add", "bench@example.com", "--admin", line=PASSWORD + "\n")
        roles = [word for entity in ("Checkin", "FailedCheckin", "CoworkerCharge") for word in ("--role", f"{entity}-List")]
        self.run("user", "add", "one@example.com", *roles, "--business", "2", line=PASSWORD + "\n")

    def start(self):
        self.process = self.place.start([self.place.binary, "run", "--config", self.config])
        until("the API", lambda: self.is_ready(), 60)

    def is_ready(self):
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", self.place.api, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        return False


def cases(history):
    """Name, path, user, and whether it is found by an index. `at(n)` is when the n-th check-in from the end began."""
    at = lambda back: text_of(history.begin(history.count - back))[:19] + "Z"
    recent, middle = at(3000), history.begin(history.count // 2)
    some = lambda number: text_of(history.begin(history.count // 2 + number))[:19] + "Z"
    ids = ",".join(str(history.count // 2 + n) for n in range(25))
    visits, failed, charges = ("/api/spaces/" + name for name in ("checkins", "failedcheckins", "coworkercharges"))
    guid = f"a1b2c3d4-e5f6-7890-0001-{history.count // 2:012x}"
    anyone, one = "bench@example.com", "one@example.com"
    indexed = [
        ("default order", visits, "", anyone),
        ("default order, user of one location", visits, "", one),
        ("orderBy=FromTime&dir=0", visits, "orderBy=FromTime&dir=0", anyone),
        ("orderBy=Id", visits, "orderBy=Id", anyone),
        ("orderBy=Id&dir=1", visits, "orderBy=Id&dir=1", anyone),
        ("size=1000, 3 pages", visits, "size=1000", anyone),
        ("Checkin_Business", visits, "Checkin_Business=1", anyone),
        ("Checkin_Coworker", visits, "Checkin_Coworker=1", anyone),
        ("Checkin_Coworker, orderBy=ToTime", visits, "Checkin_Coworker=1&orderBy=ToTime&dir=Descending", anyone),
        ("Checkin_Coworker, a list", visits, "Checkin_Coworker=[1,900001,900002]", anyone),
        ("Checkin_ToTime=null", visits, "Checkin_ToTime=null", anyone),
        ("Checkin_ToTime=null, user of one location", visits, "Checkin_ToTime=null", one),
        ("from_Checkin_FromTime", visits, f"from_Checkin_FromTime={recent}", anyone),
        ("from_ and to_Checkin_FromTime", visits, f"from_Checkin_FromTime={some(0)}&to_Checkin_FromTime={some(3000)}", anyone),
        ("from_ and to_Checkin_FromTimeLocal", visits, f"from_Checkin_FromTimeLocal={recent[:19]}", anyone),
        ("from_Checkin_FromTime, to_Checkin_ToTime", visits, f"from_Checkin_FromTime={some(0)}&to_Checkin_ToTime={some(3000)}", anyone),
        ("from_Checkin_UpdatedOn, 3,000 records", visits, f"from_Checkin_UpdatedOn={recent}", anyone),
        ("from_Checkin_UpdatedOn, the last ones", visits, f"from_Checkin_UpdatedOn={at(20)}", anyone),
        ("from_Checkin_UpdatedOn, orderBy=UpdatedOn", visits, f"from_Checkin_UpdatedOn={recent}&orderBy=UpdatedOn", anyone),
        ("from_Checkin_CreatedOn", visits, f"from_Checkin_CreatedOn={recent}", anyone),
        ("Checkin_UniqueId", visits, f"Checkin_UniqueId={guid}", anyone),
        ("Checkin_Id", visits, f"Checkin_Id={history.count // 2}", anyone),
        ("id=[25 ids]", visits, f"id=[{ids}]", anyone),
        ("failed: default order", failed, "", anyone),
        ("failed: FailedCheckin_Coworker", failed, "FailedCheckin_Coworker=1", anyone),
        ("failed: from_FailedCheckin_UpdatedOn", failed, f"from_FailedCheckin_UpdatedOn={recent}", anyone),
        ("charges: default order", charges, "", anyone),
        ("charges: from_CoworkerCharge_UpdatedOn", charges, f"from_CoworkerCharge_UpdatedOn={recent}", anyone),
    ]
    others = [
        ("to_Checkin_FromTime alone", visits, f"to_Checkin_FromTime={some(0)}", anyone),
        ("to_Checkin_UpdatedOn alone", visits, f"to_Checkin_UpdatedOn={some(0)}", anyone),
        ("to_Checkin_ToTime alone", visits, f"to_Checkin_ToTime={some(0)}", anyone),
        ("from_Checkin_ToTime", visits, f"from_Checkin_ToTime={recent}", anyone),
        ("from_Checkin_LastActivity", visits, f"from_Checkin_LastActivity={recent}", anyone),
        ("from_Checkin_ToTimeLocal", visits, f"from_Checkin_ToTimeLocal={recent[:19]}", anyone),
        ("Checkin_ToTime=notnull", visits, "Checkin_ToTime=notnull", anyone),
        ("Checkin_Source", visits, "Checkin_Source=3", anyone),
        ("Checkin_AutoCheckout", visits, "Checkin_AutoCheckout=true", anyone),
        ("Checkin_CountsTowardsPlanLimits", visits, "Checkin_CountsTowardsPlanLimits=true", anyone),
        ("Checkin_Coworker_FullName", visits, "Checkin_Coworker_FullName=member%2017", anyone),
        ("Checkin_MacAddresses", visits, "Checkin_MacAddresses=00:00:02", anyone),
        ("Checkin_CoworkerTimePassGuid", visits, f"Checkin_CoworkerTimePassGuid={guid}", anyone),
        ("orderBy=CreatedOn&dir=1", visits, "orderBy=CreatedOn&dir=1", anyone),
        ("orderBy=UpdatedOn&dir=1", visits, "orderBy=UpdatedOn&dir=1", anyone),
        ("orderBy=ToTime&dir=1", visits, "orderBy=ToTime&dir=1", anyone),
        ("orderBy=CoworkerFullName", visits, "orderBy=CoworkerFullName", anyone),
        ("orderBy=LastActivity", visits, "orderBy=LastActivity", anyone),
    ]
    return [(*case, True) for case in indexed] + [(*case, False) for case in others]


def percentile(times, share):
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]


@contextlib.contextmanager
def readers(kind, arguments):
    """Two daemons, each with the history of its size."""
    end = int(time.time()) * 1000
    with contextlib.ExitStack() as stack:
        found = []
        for count in (arguments.small, arguments.large):
            place, history = stack.enter_context(Place(False)), History(count, end)
            if kind == "postgres":
                name = f"bench_{os.getpid()}_{count}"
                psql(f"{arguments.postgres}/postgres", f"CREATE DATABASE {name}")
                stack.callback(psql, f"{arguments.postgres}/postgres", f"DROP DATABASE {name} WITH (FORCE)")
                url = f"{arguments.postgres}/{name}"
            else:
                url = f"sqlite:{place.folder}/checkind.db"
            reader = Reader(place, url)
            reader.run("migrate")
            reader.add_users()
            began = time.monotonic()
            if kind == "postgres":
                history.into_postgres(url)
            else:
                history.into_sqlite(place.folder / "checkind.db")
            print(f"{kind}: {count:,} check-ins in {time.monotonic() - began:.0f} s", file=sys.stderr)
            reader.start()
            clients = {user: Client(place.api, user) for user in ("bench@example.com", "one@example.com")}
            found.append((history, clients))
        yield found


def pages(kind, arguments, row):
    print(f"\n{kind}, milliseconds, by number of check-ins")
    row("list", f"{arguments.small:,}: median", "p99", f"{arguments.large:,}: median", "p99", "ratio of medians", "of p99", "first", "")
    row("---", *["---:"] * 7, "---")
    missed = []
    with readers(kind, arguments) as found:
        for number, (name, *_, is_indexed) in enumerate(cases(found[0][0])):
            if arguments.match and arguments.match not in name:
                continue
            times, first = [[], []], 0
            deep = 3 if "3 pages" in name else 100
            asked = range(arguments.rounds * deep) if is_indexed else range(arguments.slow)
            for request in [-1, *asked]:
                for size, (history, clients) in enumerate(found):
                    _, path, query, user, _ = cases(history)[number]
                    began = time.perf_counter()
                    clients[user].get(f"{path}?page={max(request, 0) % deep + 1}&{query}")
                    took = 1e3 * (time.perf_counter() - began)
                    if request >= 0:
                        times[size].append(took)
                    else:
                        first = took
            (small, small_high), (large, large_high) = ((statistics.median(some), percentile(some, 0.99)) for some in times)
            ratio, high = large / small, large_high / small_high
            row(name, f"{small:.2f}", f"{small_high:.2f}", f"{large:.2f}", f"{large_high:.2f}", f"{ratio:.2f}", f"{high:.2f}", f"{first:.0f}",
                ("indexed" if ratio < 2 else "**not met**") if is_indexed else "")
            if is_indexed and ratio >= 2:
                missed.append(f"{kind}: {name}")
    return missed


LISTER = '''
import http.client, json, sys, threading, time
port, token, rate, queries = int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), json.loads(sys.argv[4])
workers, began, took, failed = 8, time.monotonic(), [], []
def ask(worker):
    connection, number = http.client.HTTPConnection("127.0.0.1", port, timeout=30), worker
    while True:
        pause = began + number / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        at = time.monotonic()
        connection.request("GET", queries[number % len(queries)], headers={"Authorization": "Bearer " + token})
        answer = connection.getresponse()
        answer.read()
        (took if answer.status == 200 else failed).append(time.monotonic() - at)
        number += workers
for worker in range(workers):
    threading.Thread(target=ask, args=(worker,), daemon=True).start()
sys.stdin.read()
span = time.monotonic() - began
took.sort()
print(json.dumps({"rate": len(took) / span, "failed": len(failed), "p50": took[len(took) // 2] * 1e3, "p99": took[int(len(took) * 0.99)] * 1e3}))
'''


@contextlib.contextmanager
def listing(place, rate, queries):
    """Another process that reads lists; yields a function that ends it and returns its figures."""
    token = Client(place.api).headers["Authorization"].split()[1]
    command = [sys.executable, "-c", LISTER, str(place.api), token, str(rate), json.dumps(queries)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield lambda: json.loads(process.communicate()[0])
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def site(binary, count, slow):
    """A daemon that decides, with a history of people who do not come any more."""
    with Place(slow) as place:
        place.binary = binary
        daemon, history = Checkind(place), History(count, int(time.time()) * 1000, first_person=1_000_000, still_open=0)
        command = [binary, "user", "add", "bench@example.com", "--admin", "--config", place.folder / "checkind.toml"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, input=PASSWORD + "\n", text=True)
        history.into_sqlite(daemon.path)
        daemon.start(0)
        daemon.ready()
        # What the filling and the start have left to the disk and to the daemon would count as the first taps'.
        os.sync()
        time.sleep(5)
        yield place, daemon, history


def mix(history):
    since = text_of(history.begin(history.count - 50))[:19] + "Z"
    first = "/api/spaces/checkins?"
    return [first, first + "Checkin_ToTime=null", first + f"from_Checkin_UpdatedOn={since}", first + "page=3", first + "Checkin_Coworker=1000000"]


def taps(binary, lists, arguments):
    """Latencies of 1,000 taps a second, with this many lists a second beside them."""
    with site(binary, 100_000, not arguments.disk) as (place, daemon, history), contextlib.ExitStack() as stack:
        figures = stack.enter_context(listing(place, lists, mix(history))) if lists else lambda: None
        sent, count = place.folder / "sent.json", 1000 * arguments.seconds
        command = [str(peers.PYTHON), "-c", peers.PUBLISHER, str(place.port), "1000", str(count), str(peers.PEOPLE), str(sent)]
        found = daemon.latencies(sent, count, place.start(command, dict(os.environ)))
        assert found["committed"] == count, found
        return found, figures()


def beside(arguments, row):
    missed, builds = [], [("this build", arguments.binary)] + ([("the other build", arguments.before)] if arguments.before else [])
    print("\nmilliseconds from the publisher until a tap is committed, 1,000 a second")
    row("", "median", "p99", "p99 of the runs", "lists/s", "refused", "p99 of a list")
    row("---", *["---:"] * 6)
    for name, binary in builds:
        runs = {0: [], 200: []}
        for _ in range(arguments.repeat):
            for lists in runs:
                runs[lists].append(taps(binary, lists, arguments))
        middle = {}
        for lists, found in runs.items():
            high = [latencies["p99"] for latencies, _ in found]
            middle[lists] = statistics.median(high)
            figures = [figure for _, figure in found if figure]
            of = lambda key: f"{statistics.median(figure[key] for figure in figures):,.1f}" if figures else ""
            row(f"{name}, {'with' if lists else 'without'} lists", f"{statistics.median(latencies['p50'] for latencies, _ in found):.2f}",
                f"{middle[lists]:.2f}", " ".join(f"{one:.1f}" for one in high), of("rate"), of("failed"), of("p99"))
        change = middle[200] / middle[0] - 1
        print(f"{name}: p99 of a tap {change:+.0%} (at most +20 %)")
        if change > 0.2 and binary == arguments.binary:
            missed.append("taps beside lists")
    return missed


def bound(arguments):
    """The largest size of the log while slow lists follow each other without a pause."""
    with site(arguments.binary, 200_000, False) as (place, daemon, history):
        queries = [f"/api/spaces/checkins?size=1&Checkin_Coworker_FullName=member%20{n}x" for n in range(50)]
        with listing(place, 1000, queries) as figures:
            sent, largest = place.folder / "sent.json", 0
            count = 1000 * arguments.seconds
            command = [str(peers.PYTHON), "-c", peers.PUBLISHER, str(place.port), "1000", str(count), str(peers.PEOPLE), str(sent)]
            publisher = place.start(command, dict(os.environ))
            while publisher.poll() is None:
                largest = max(largest, os.stat(f"{daemon.path}-wal").st_size)
                time.sleep(0.05)
            print(f"\nSQLite's log beside slow lists without a pause: at most {largest / 1e6:.0f} MB; lists: {figures()}")
        return []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="sqlite,postgres,beside,bound")
    parser.add_argument("--postgres", default=os.environ.get("CHECKIND_TEST_POSTGRES", ""))
    parser.add_argument("--small", type=int, default=10_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=2, help="how often the hundred pages of a list are read")
    parser.add_argument("--slow", type=int, default=8, help="how many pages of a list that is not indexed are read")
    parser.add_argument("--seconds", type=int, default=15, help="of taps in each run")
    parser.add_argument("--disk", action="store_true", help="taps on the disk as it is")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--match", default="", help="only lists with this in their name")
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    parser.add_argument("--before", type=pathlib.Path)
    arguments = parser.parse_args()
    if not arguments.binary.exists():
        sys.exit("build first: cargo build --release --no-default-features")
    Place.binary = arguments.binary = arguments.binary.resolve()
    arguments.before = arguments.before and arguments.before.resolve()
    only, missed = arguments.only.split(","), []
    row = lambda *cells: print("| " + " | ".join(cells) + " |", flush=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for kind in ("sqlite", "postgres"):
        if kind in only:
            if kind == "postgres" and not arguments.postgres:
                sys.exit("--postgres names no server")
            missed += pages(kind, arguments, row)
    if {"beside", "bound"} & set(only) and not peers.has_paho():
        sys.exit("paho-mqtt is missing")
    if "beside" in only:
        missed += beside(arguments, row)
    if "bound" in only:
        missed += bound(arguments)
    print(f"load {os.getloadavg()[0]:.1f}")
    if missed:
        sys.exit("not met: " + "; ".join(missed))


if __name__ == "__main__":
    main()
