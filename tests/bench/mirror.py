#!/usr/bin/env python3
"""CPU seconds of the whole daemon on mirror traffic at 1 Gb/s, beside tcpdump in the same run.

usage: tests/bench/mirror.py [--frames 2000000] [--mbps 1000]

Creates two network namespaces with a veth pair, starts the release build (capture, database, API) and tcpdump on the far
end, replays the generated traffic into the near end, and prints what both used and saw. Needs root, iproute2, tcpreplay,
tcpdump and python3. Run by hand on a quiet machine.
"""
import argparse, json, os, pathlib, signal, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = ROOT / "target/release/checkind"
NEAR, FAR = f"ckb-near-{os.getpid()}", f"ckb-far-{os.getpid()}"


def sh(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def inside(namespace, *command):
    return ["ip", "netns", "exec", namespace, *map(str, command)]


def cpu(pid):
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(open(f"/proc/{pid}/task/{task}/schedstat").read().split()[0])
    return total / 1e9


def metrics():
    text = subprocess.run(inside(FAR, "curl", "-s", "http://127.0.0.1:18080/metrics"), capture_output=True, text=True).stdout
    found = {}
    for line in text.splitlines():
        if line.startswith("checkind_capture_"):
            name, value = line.rsplit(" ", 1)
            found[name.split("{")[0].removeprefix("checkind_capture_").removesuffix("_total")] = int(float(value))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2_000_000)
    parser.add_argument("--mbps", type=int, default=1000)
    arguments = parser.parse_args()
    if not BINARY.exists():
        sys.exit("build first: cargo build --release")
    capture = ROOT / f"target/tmp/span-{arguments.frames}.pcap"
    capture.parent.mkdir(parents=True, exist_ok=True)
    if not capture.exists():
        truth = sh(sys.executable, str(ROOT / "tests/bench/gen_span.py"), str(capture), str(arguments.frames))
        capture.with_suffix(".json").write_text(truth)
    print("truth:", capture.with_suffix(".json").read_text().strip())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkind-bench-"))
    (folder / "checkind.toml").write_text(f"""
[database]
url = "sqlite:{folder}/checkind.db"
[site]
business = 1
name = "Bench"
time_zone = "UTC"
[[capture]]
interface = "far0"
[api]
listen = "127.0.0.1:18080"
""")
    running = []
    try:
        for namespace in (NEAR, FAR):
            sh("ip", "netns", "add", namespace)
            sh(*inside(namespace, "ip", "link", "set", "lo", "up"))
        sh("ip", "link", "add", "near0", "netns", NEAR, "type", "veth", "peer", "name", "far0", "netns", FAR)
        for namespace, link in ((NEAR, "near0"), (FAR, "far0")):
            sh(*inside(namespace, "sysctl", "-qw", f"net.ipv6.conf.{link}.disable_ipv6=1"))
            sh("ip", "-n", namespace, "link", "set", link, "up")
        log = open(folder / "log", "w")
        daemon = subprocess.Popen(inside(FAR, BINARY, "--config", folder / "checkind.toml", "run"), stdout=log, stderr=log)
        running.append(daemon)
        peer = subprocess.Popen(
            inside(FAR, "tcpdump", "-i", "far0", "-nU", "-w", "/dev/null", "arp or port 67 or port 68 or (vlan and (arp or port 67 or port 68))"),
            stdout=subprocess.DEVNULL, stderr=open(folder / "tcpdump", "w"))
        running.append(peer)
        end = time.monotonic() + 20
        while not metrics() and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(2)
        before = {"checkind": cpu(daemon.pid), "tcpdump": cpu(peer.pid)}
        replay = subprocess.run(inside(NEAR, "tcpreplay", "--preload-pcap", f"--mbps={arguments.mbps}", "-i", "near0", capture),
                                capture_output=True, text=True)
        time.sleep(2)
        used = {name: cpu(process.pid) - before[name] for name, process in (("checkind", daemon), ("tcpdump", peer))}
        for line in open(f"/proc/{daemon.pid}/status"):
            if line.startswith("VmHWM"):
                peak = int(line.split()[1]) / 1024
        print(next((line for line in replay.stdout.splitlines() if line.startswith("Rated")), replay.stderr.strip()))
        print(f"checkind, whole daemon: {used['checkind']:.3f} CPU s, peak {peak:.1f} MiB, {json.dumps(metrics())}")
        print(f"tcpdump: {used['tcpdump']:.3f} CPU s, ratio {used['checkind'] / used['tcpdump']:.2f}")
    finally:
        for process in running:
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        for namespace in (NEAR, FAR):
            subprocess.run(["ip", "netns", "del", namespace])


main()
