#!/usr/bin/env python3
"""An earlier version beside this one, on one PostgreSQL, as in an upgrade of many gateways one by one.

usage: tests/bench/previous_release.py REVISION [--binary target/release/checkind] [--earlier BINARY] [--taps 200]

Builds the revision, in the development profile, in a work tree of its own; or uses a binary of it. It makes the database, and its gateway takes taps.
Then this version migrates the schema, the earlier gateway goes on, and a gateway of this version works for another business
beside it. Both restart once. In the end every tap must be in the log once, with a visit for each two, and neither may have
logged a warning or an error. REVISION is usually the last release; $CARGO_TARGET_DIR is used for both.

Run by hand before a release. Needs this version's build, PostgreSQL, mosquitto, python3.
"""
import argparse, json, os, pathlib, re, shutil, signal, socket, struct, subprocess, sys, tempfile, time, urllib.request

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from core import Publisher, tap
from peers import BINARY, ROOT, free_port, member, until

PEOPLE = 20
# Milliseconds.
START = int(time.time() - 3 * 3600) * 1000


def build(revision, folder):
    """The binary of a revision."""
    tree = folder / "tree"
    subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", "--quiet", tree, revision], check=True)
    try:
        target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
        subprocess.run(["cargo", "build", "--quiet", "--no-default-features"], cwd=tree, env=os.environ | {"CARGO_TARGET_DIR": target}, check=True)
        # The next build into the same folder would replace it.
        return pathlib.Path(shutil.copy(pathlib.Path(target) / "debug/checkind", folder / "earlier"))
    finally:
        subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


class Server:
    """A private PostgreSQL."""

    def __init__(self, folder):
        self.data, self.port = folder / "data", free_port()
        programs = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])).parent
        # It refuses to run as root.
        self.user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"] if os.geteuid() == 0 else []
        if self.user:
            self.data.mkdir()
            shutil.chown(self.data, "postgres")
            folder.chmod(0o755)
        self.run([programs / "initdb", "-A", "trust", "-U", "checkind", "-E", "UTF8", "--no-locale", "--no-sync", "-D", self.data])
        command = [programs / "postgres", "-D", self.data, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        self.process = subprocess.Popen([*self.user, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        self.url = f"postgres://checkind@127.0.0.1:{self.port}/postgres"
        until("PostgreSQL", lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, 30)

    def run(self, command):
        subprocess.run([*self.user, *command], check=True, stdout=subprocess.DEVNULL, cwd="/")

    def ask(self, question):
        done = subprocess.run(["psql", "-XAtc", question, self.url], capture_output=True, text=True)
        return done.stdout.strip()

    def stop(self):
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()


class Gateway:
    """A gateway of one version, for its own business."""

    def __init__(self, folder, business, binary, server, broker):
        self.folder, self.business, self.binary, self.api, self.sent = folder / f"gateway-{business}", business, binary, free_port(), 0
        self.folder.mkdir()
        (self.folder / "checkind.toml").write_text(f"""
[database]
url = "{server.url}"
[spool]
path = "{self.folder}/spool.db"
[site]
business = {business}
record_every_visit = true
name = "Hub {business}"
time_zone = "UTC"
cut_off = "{time.strftime("%H:%M", time.gmtime(time.time() + 6 * 3600))}"
[mqtt]
url = "mqtt://127.0.0.1:{broker}"
client_id = "gateway-{business}"
[[source]]
name = "taps"
preset = "generic-json"
topics = ["taps-{business}"]
each = "/events"
time.trust = "8d past"
[[door]]
match = "*"
on_in = "check_in"
on_out = "check_out"
[api]
listen = "127.0.0.1:{self.api}"
""")

    def run(self, *arguments):
        command = [self.binary, *arguments, "--config", self.folder / "checkind.toml"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def start(self):
        log = open(self.folder / "log", "a")
        self.process = subprocess.Popen([self.binary, "run", "--config", self.folder / "checkind.toml"], stderr=log, stdout=log)
        until(f"gateway {self.business}", self.is_ready, 60)

    def is_ready(self):
        assert self.process.poll() is None, self.log()
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.api}/readyz", timeout=5).status == 200
        except OSError:
            return False

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log()

    def log(self):
        return (self.folder / "log").read_text()

    def tap(self, publisher, count):
        """Each person in turn, in and then out, a tap a second since three hours ago; a person is only at one business."""
        publisher.topic = f"taps-{self.business}".encode()
        for number in range(self.sent, self.sent + count):
            person = (self.business - 1) * PEOPLE + number % PEOPLE
            way = "out" if number // PEOPLE % 2 else "in"
            publisher.publish([tap(f"t{number}", person, way, START + number * 1000)])
        self.sent += count


class Doors(Publisher):
    """The publisher, for the topic of any business."""

    topic = b""

    def packet(self, number, events):
        body = struct.pack("!H", len(self.topic)) + self.topic + struct.pack("!H", number) + json.dumps({"events": events}).encode()
        length, rest = b"", len(body)
        while rest > 127:
            length, rest = length + bytes([rest & 127 | 128]), rest >> 7
        return b"\x32" + length + bytes([rest]) + body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision")
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    parser.add_argument("--earlier", type=pathlib.Path, help="a binary of that revision")
    parser.add_argument("--taps", type=int, default=200, help="for each gateway and phase; a multiple of 40")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkind-previous-"))
    server, broker, gateways = None, None, []
    try:
        earlier = arguments.earlier or build(arguments.revision, folder)
        server, port = Server(folder), free_port()
        (folder / "m.conf").write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        broker = subprocess.Popen(["mosquitto", "-c", folder / "m.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the broker", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)
        old = Gateway(folder, 1, earlier, server, port)
        new = Gateway(folder, 2, arguments.binary.resolve(), server, port)
        gateways = [old, new]
        people = {"Businesses": [{"Id": 1, "Name": "Hub 1"}, {"Id": 2, "Name": "Hub 2"}], "Coworkers": [member(n) for n in range(2 * PEOPLE)]}
        (folder / "site.json").write_text(json.dumps(people))
        old.run("import", str(folder / "site.json"))
        of_old = server.ask("SELECT max(version) FROM _sqlx_migrations")
        doors = Doors(port)
        old.start()
        old.tap(doors, arguments.taps)
        print(new.run("migrate"), end="")
        of_new = server.ask("SELECT max(version) FROM _sqlx_migrations")
        old.tap(doors, arguments.taps)
        new.start()
        for gateway in gateways:
            gateway.tap(doors, arguments.taps)
            gateway.stop()
            gateway.start()
            gateway.tap(doors, arguments.taps)
        wanted = old.sent + new.sent
        count = lambda: int(server.ask("SELECT count(*) FROM facts WHERE subject > 0") or 0)
        until("all taps", lambda: count() >= wanted, 60)
        for gateway in gateways:
            gateway.run("who")
            gateway.stop()
        visits, over = (int(server.ask(f"SELECT count({what}) FROM checkins")) for what in ("*", "to_time"))
        complaints = [line for gateway in gateways for line in gateway.log().splitlines() if re.search(" WARN | ERROR ", line)]
        print(f"schema of {arguments.revision}: {of_old}, now {of_new}; {count()} of {wanted} taps in the log, {visits} visits, {over} of them over")
        print("\n".join(complaints) or "no warning and no error")
        sys.exit(not (count() == wanted and visits == over == wanted // 2 and not complaints))
    finally:
        for process in [gateway.process for gateway in gateways if hasattr(gateway, "process")] + ([broker] if broker else []):
            if process.poll() is None:
                process.kill()
                process.wait()
        if server:
            server.stop()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
