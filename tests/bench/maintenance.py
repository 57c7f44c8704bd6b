#!/usr/bin/env python3
"""How long a tap waits while a backup, a maintenance or the check after a crash goes over a large file.

usage: tests/bench/maintenance.py [--binary target/release/checkind] [--facts 200000] [--taps 300]

Taps ten a second, one at a time, on a file with that many entries of the log and as many deleted ones: first alone, then while
`checkind backup` runs again and again, then while `checkind maintain` runs. A tap is timed from the publisher until another
connection to the database sees it, so its time includes the disk's. Prints the median, the 99th percentile and the slowest, how
long the work took, and how much longer the 99th percentile is than alone; more than 20 ms fails. Last, the daemon is killed
and started again: the seconds until its first tap.

Run by hand on a quiet machine. Needs the release build, mosquitto, python3.
"""
import argparse, pathlib, sqlite3, statistics, subprocess, sys, threading, time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from core import COPY, DAY, members, site
from peers import BINARY

PEOPLE = 200
# Milliseconds.
LIMIT = 20


def percentile(times, share):
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def taps(at, count, goes_on=lambda: False):
    """`count` taps ten a second; more while `goes_on`."""
    times, number = [], 0
    while number < count or goes_on():
        began = time.monotonic()
        times.append(at.timed(number % PEOPLE, "in" if number // PEOPLE % 2 == 0 else "out"))
        number += 1
        time.sleep(max(0, 0.1 - (time.monotonic() - began)))
    return times


def beside(at, count, command, again):
    """Taps while the command runs, again and again if asked, until all of them are done."""
    config, took, stop = str(at.place.folder / "checkind.toml"), [], threading.Event()

    def work():
        while not stop.is_set():
            began = time.monotonic()
            done = subprocess.run([at.place.binary, *command(), "--config", config], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            took.append(time.monotonic() - began)
            if not again:
                return

    worker = threading.Thread(target=work)
    worker.start()
    times = taps(at, count if again else 0, lambda: not again and worker.is_alive())
    stop.set()
    worker.join()
    return times, took


def row(name, times, took, alone):
    slower = percentile(times, 0.99) - percentile(alone, 0.99)
    work = f", the work {statistics.mean(took):.1f} s × {len(took)}" if took else ""
    print(f"{name:<12} {len(times):>5} taps: median {statistics.median(times):6.1f} ms, 99th percentile {percentile(times, 0.99):6.1f} ms, "
          f"slowest {max(times):6.1f} ms{work}", flush=True)
    return slower


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, default=BINARY)
    parser.add_argument("--facts", type=int, default=200_000)
    parser.add_argument("--taps", type=int, default=300)
    arguments = parser.parse_args()
    # Retention would delete the copies.
    with site(arguments.binary.resolve(), members(PEOPLE), '[retention]\nsightings = "0d"\n', begin=False) as at:
        at.begin()
        at.history(PEOPLE, 5, 5)
        at.stop()
        # The same entries again on earlier days; half of the copies are deleted, in portions as retention does.
        with sqlite3.connect(at.path) as db:
            db.execute("CREATE TEMP TABLE once AS SELECT * FROM main.facts")
            real = db.execute("SELECT count(*) FROM once").fetchone()[0]
            copies = 2 * arguments.facts // real
            for back in range(copies):
                db.execute(COPY, ((20 + 10 * back) * DAY,))
            db.commit()
            middle = db.execute("SELECT day FROM facts ORDER BY day LIMIT 1 OFFSET ?", (arguments.facts,)).fetchone()[0]
            db.execute("DELETE FROM facts WHERE day < ?", (middle,))
            db.commit()
        print(f"{at.path.stat().st_size / 1e6:.0f} MB, {real * copies - arguments.facts:,} entries of the log", flush=True)
        at.begin()
        taps(at, 50)
        alone = taps(at, arguments.taps)
        row("alone", alone, [], alone)
        numbers = iter(range(1_000_000))
        copying = beside(at, arguments.taps, lambda: ["backup", str(at.place.folder / f"copy-{next(numbers)}.db")], True)
        worst = row("backup", *copying, alone)
        maintaining = beside(at, arguments.taps, lambda: ["maintain"], False)
        worst = max(worst, row("maintain", *maintaining, alone))
        print(f"the file has {at.path.stat().st_size / 1e6:.0f} MB")
        at.db.close()
        at.process.kill()
        at.process.wait()
        began = time.monotonic()
        at.begin()
        at.timed(1, "in")
        print(f"after a crash: {time.monotonic() - began:.1f} s until the first tap")
        at.stop()
    print(f"a tap waits at most {worst:.1f} ms longer at the 99th percentile; {LIMIT} ms are allowed")
    sys.exit(worst > LIMIT)


if __name__ == "__main__":
    main()
