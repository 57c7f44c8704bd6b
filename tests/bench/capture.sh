#!/bin/sh
# What the capture costs beside tcpdump: mixed traffic at 1 Gb/s and at top speed, and a storm of ARP, between two network
# namespaces. Needs root, python3, tcpreplay and tcpdump. Run by hand on a quiet machine; prints one line per run.
# usage: tests/bench/capture.sh [frames]
set -e
cd "$(dirname "$0")/../.."
mkdir -p target/tmp
[ -f target/tmp/span.pcap ] || python3 tests/bench/gen_span.py target/tmp/span.pcap "${1:-500000}" > target/tmp/span.json
cat target/tmp/span.json
[ -f target/tmp/storm.pcap ] || python3 tests/bench/gen_arpstorm.py target/tmp/storm.pcap
exec cargo test --release --test outside -- --ignored --nocapture --exact capture::what_the_capture_costs
