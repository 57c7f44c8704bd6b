//! The capture on real interfaces, in namespaces of its own: nothing of this reaches a network of the machine.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc::sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use checkind::{
    clock::Clock,
    health::{ConditionKind, Health},
    mac::MacAddr,
    settings::{Capture, CaptureBackend, MacPattern},
    sighting::Presence,
    source::{
        PRESENCES, Presences,
        network::{
            CaptureCounters, CaptureError, CaptureTask, Surroundings,
            coalesce::{KnownMacs, UNKNOWN_DEVICES},
            hearing::{Hearing, LONGEST_GAP},
        },
    },
};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::support::{
    frame::{Tag, arp, arp_request, ethernet},
    lan::{Namespace, Office, Wire},
    wait_for,
};

/// Generous: the machine that tests may be busy. What must be quick is measured by `tests/bench/capture.sh`.
const SOON: Duration = Duration::from_secs(10);

/// A capture that runs in a namespace, on a thread of its own.
struct Listener {
    presences: mpsc::Receiver<Presences>,
    /// Taken out of the queue, and not waited for yet.
    arrived: Vec<Presence>,
    known: watch::Sender<KnownMacs>,
    health: Health,
    hearing: Hearing,
    clock: Clock,
    counters: Arc<CaptureCounters>,
    stop: CancellationToken,
    /// The kernel's number of the thread.
    thread: i32,
    running: Option<JoinHandle<Result<(), CaptureError>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Capabilities {
    Kept,
    /// Dropped between opening and running, as the daemon does.
    Dropped,
}

impl Listener {
    fn on(namespace: &Namespace, capture: Capture, capabilities: Capabilities) -> Self {
        let clock = Clock::system();
        let (health, hearing, stop) = (Health::new(clock.clone()), Hearing::new(LONGEST_GAP), CancellationToken::new());
        let (sender, presences) = mpsc::channel(PRESENCES);
        let (known, known_here) = watch::channel(KnownMacs::default());
        let with = Surroundings {
            idle_limit: Duration::from_secs(45 * 60),
            clock: clock.clone(),
            presences: sender,
            known: known_here,
            health: health.clone(),
            hearing: hearing.clone(),
            stop: stop.clone(),
        };
        let (tell, told) = sync_channel(1);
        let name = namespace.name().to_owned();
        let running = thread::spawn(move || {
            Namespace::enter(&name);
            let task = CaptureTask::open(&capture, with)?;
            if capabilities == Capabilities::Dropped {
                drop_capabilities();
            }
            tell.send((task.counters(), rustix::thread::gettid().as_raw_nonzero().get())).expect("the test listens");
            task.run()
        });
        let (counters, thread) = told.recv_timeout(SOON).expect("the capture opens; it needs root");
        Self {
            presences,
            arrived: Vec::new(),
            known,
            health,
            hearing,
            clock,
            counters,
            stop,
            thread,
            running: Some(running),
        }
    }

    /// Listens on `s1` and waits until it hears.
    fn at(wire: &Wire) -> Self {
        let listener = Self::on(&wire.mirror, capture("s1"), Capabilities::Dropped);
        listener.wait_until_hearing();
        listener
    }

    fn wait_until_hearing(&self) {
        wait_for("the capture to hear", SOON, || {
            if self.hearing.is_hearing() { Ok(()) } else { Err(format!("{:?}", self.health.conditions())) }
        });
    }

    fn wait_until_blind(&self) {
        wait_for("the capture to be blind", SOON, || {
            if self.health.is_raised(ConditionKind::CaptureBlind, "s1") { Ok(()) } else { Err("no condition".into()) }
        });
        assert!(!self.hearing.is_hearing());
    }

    /// A second of blindness costs next to no processor time.
    fn stays_blind_at_no_cost(&self) {
        self.wait_until_blind();
        let used = self.processor_time();
        wait_for("a second of blindness", SOON, || {
            let since = self.health.conditions().first().expect("the condition").since;
            let blind = self.clock.now().wall.since(since);
            if blind >= Duration::from_secs(1) { Ok(()) } else { Err(format!("{blind:?}")) }
        });
        let spent = self.processor_time().saturating_sub(used);
        assert!(spent < Duration::from_millis(50), "the capture spins: {spent:?}");
    }

    /// Waits for this device, and takes its presence out of what has arrived.
    fn wait_for(&mut self, mac: MacAddr) -> Presence {
        wait_for("a device", SOON, || {
            while let Ok(list) = self.presences.try_recv() {
                self.arrived.extend(list);
            }
            match self.arrived.iter().position(|presence| presence.mac == mac) {
                Some(at) => Ok(self.arrived.remove(at)),
                None => Err(format!(
                    "{} others, counters {:?}, conditions {:?}",
                    self.arrived.len(),
                    self.counters,
                    self.health.conditions()
                )),
            }
        })
    }

    /// Processor time that the capture has used.
    fn processor_time(&self) -> Duration {
        let text =
            std::fs::read_to_string(format!("/proc/self/task/{}/schedstat", self.thread)).expect("the thread runs");
        Duration::from_nanos(text.split_whitespace().next().expect("a number").parse().expect("nanoseconds"))
    }

    fn end(mut self) -> Result<(), CaptureError> {
        self.stop.cancel();
        self.running.take().expect("runs once").join().expect("the capture does not panic")
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            let _ended = running.join();
        }
    }
}

fn drop_capabilities() {
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .expect("less is allowed");
}

fn capture(interface: &str) -> Capture {
    Capture { interface: interface.into(), vlans: Vec::new(), ignore: Vec::new(), backend: CaptureBackend::Ring }
}

fn device(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr::new([0x3c, 0x22, a, b, c, d])
}

#[test]
fn a_device_that_speaks_is_handed_over_and_the_mirror_port_stays_silent() {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    let sent_before = frames_sent(&wire);
    wire.send(&[arp_request(device(1))]);
    let presence = listener.wait_for(device(1));
    assert_eq!(&*presence.interface, "s1");
    assert_eq!((presence.since, presence.last_strong_at), (presence.first_at, Some(presence.last_at)));
    assert_eq!(presence.frames, 1);
    assert_eq!(frames_sent(&wire), sent_before);
    listener.end().expect("an orderly end");
}

/// Frames that have left by the mirror port.
fn frames_sent(wire: &Wire) -> u64 {
    let text = wire.mirror.run("cat", &["/proc/net/dev"]);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("s1:")).expect("s1 is there");
    line.split_whitespace().nth(9).expect("a column").parse().expect("a number")
}

#[test]
fn a_link_that_goes_down_is_reported_costs_nothing_and_is_heard_again_when_it_is_up() {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    wire.mirror.ip(&["link", "set", "s1", "down"]);
    listener.wait_until_blind();
    let heard = listener.hearing.heard(listener.clock.now().boot);
    listener.stays_blind_at_no_cost();
    assert_eq!(listener.hearing.heard(listener.clock.now().boot), heard, "a blind capture hears nothing");
    wire.mirror.ip(&["link", "set", "s1", "up"]);
    listener.wait_until_hearing();
    wire.send(&[arp_request(device(2))]);
    listener.wait_for(device(2));
    assert!(listener.health.conditions().is_empty());
}

#[test]
fn an_interface_that_is_deleted_and_made_anew_is_heard_again_without_any_capability() {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    for round in 1..=3 {
        wire.unplug();
        listener.wait_until_blind();
        wire.plug();
        listener.wait_until_hearing();
        wire.send(&[arp_request(device(round))]);
        listener.wait_for(device(round));
    }
}

#[test]
fn an_interface_that_appears_late_is_waited_for() {
    let wire = Wire::unplugged();
    let mut listener = Listener::on(&wire.mirror, capture("s1"), Capabilities::Dropped);
    listener.wait_until_blind();
    wire.plug();
    listener.wait_until_hearing();
    wire.send(&[arp_request(device(1))]);
    listener.wait_for(device(1));
}

#[test]
fn a_renamed_interface_is_followed() {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    let heard = listener.hearing.heard(listener.clock.now().boot);
    wire.mirror.ip(&["link", "set", "s1", "name", "span"]);
    wait_for("the link to be looked at twice", SOON, || {
        let more = listener.hearing.heard(listener.clock.now().boot).saturating_sub(heard);
        if more > Duration::from_millis(1200) { Ok(()) } else { Err(format!("{more:?}")) }
    });
    wire.send(&[arp_request(device(1))]);
    listener.wait_for(device(1));
    assert!(listener.hearing.is_hearing());
    assert!(listener.health.conditions().is_empty());
    listener.end().expect("an orderly end");
}

#[test]
fn up_to_three_tags_are_read_and_the_outermost_limits_the_capture() {
    const TAGS: [(u32, &[Tag]); 5] = [
        (1, &[]),
        (2, &[(0x8100, 10)]),
        (3, &[(0x88a8, 20), (0x8100, 10)]),
        (4, &[(0x9100, 10), (0x88a8, 30), (0x8100, 7)]),
        (5, &[(0x8100, 20)]),
    ];
    for (vlans, wanted) in [(vec![], vec![1, 2, 3, 4, 5]), (vec![10], vec![2, 4]), (vec![20], vec![3, 5])] {
        let wire = Wire::new();
        let mut listener =
            Listener::on(&wire.mirror, Capture { vlans: vlans.clone(), ..capture("s1") }, Capabilities::Dropped);
        listener.wait_until_hearing();
        let request = |number| arp(1, device(number), [10, 0, 0, 9], [10, 0, 0, 1]);
        wire.send(&TAGS.map(|(number, tags)| ethernet(device(number), tags, 0x0806, &request(number))));
        for number in &wanted {
            listener.wait_for(device(*number));
        }
        wait_for("every frame to be read", SOON, || match listener.counters.frames.load(Relaxed) {
            5 => Ok(()),
            other => Err(format!("{other} of 5")),
        });
        assert_eq!(listener.counters.strong.load(Relaxed), wanted.len() as u64, "vlans {vlans:?}");
    }
}

#[test]
fn what_is_no_evidence_is_counted_and_not_handed_over() {
    let wire = Wire::new();
    let ignore = vec![MacPattern { prefix: device(9).octets().to_vec() }];
    let mut listener = Listener::on(&wire.mirror, Capture { ignore, ..capture("s1") }, Capabilities::Dropped);
    listener.wait_until_hearing();
    wire.send(&[
        // Somebody speaks for another.
        ethernet(device(1), &[], 0x0806, &arp(1, device(2), [10, 0, 0, 2], [10, 0, 0, 1])),
        // A reply of a device that nobody knows.
        ethernet(device(3), &[], 0x0806, &arp(2, device(3), [10, 0, 0, 3], [10, 0, 0, 1])),
        // Infrastructure.
        arp_request(device(9)),
        // Web traffic does not come past the filter.
        ethernet(device(4), &[], 0x0800, &[0x45; 100]),
        arp_request(device(5)),
    ]);
    assert_eq!(listener.wait_for(device(5)).frames, 1);
    let counters = &listener.counters;
    let counted = [&counters.frames, &counters.suspicious, &counters.weak, &counters.out_of_scope, &counters.strong];
    assert_eq!(counted.map(|counter| counter.load(Relaxed)), [4, 1, 1, 1, 1]);
    assert!(listener.arrived.is_empty() && listener.presences.try_recv().is_err());
}

#[test]
fn a_storm_of_forged_addresses_neither_fills_memory_nor_hides_a_member() {
    const FORGED: u32 = 100_000;
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    let member = device(FORGED + 1);
    listener.known.send_replace(Arc::new(BTreeSet::from([member])));
    let storm: Vec<Vec<u8>> = (0..FORGED).map(|number| arp_request(device(number))).collect();
    // Nobody takes what is handed over: the queue is full from the beginning of the storm on.
    wire.send(&storm);
    wait_for("the storm to be over", SOON, || {
        let counters = &listener.counters;
        let read = counters.frames.load(Relaxed) + counters.kernel_drops.load(Relaxed);
        if read >= u64::from(FORGED) { Ok(()) } else { Err(format!("{counters:?}")) }
    });
    let counters = Arc::clone(&listener.counters);
    let kept = counters.strong.load(Relaxed);
    assert!(kept <= UNKNOWN_DEVICES as u64, "{counters:?}");
    assert_eq!(counters.left_out.load(Relaxed) + kept, counters.frames.load(Relaxed), "{counters:?}");
    // The member speaks when table and queue are full.
    wire.send(&[arp_request(member)]);
    listener.wait_for(member);
}

#[test]
fn a_device_that_asks_for_an_address_is_seen_through_a_mirrored_port_of_a_switch() {
    let office = Office::new("2h");
    let mut listener = Listener::on(&office.mirror, capture("eth0"), Capabilities::Dropped);
    listener.wait_until_hearing();
    office.ask_for_address();
    let client: MacAddr = Office::CLIENT.parse().expect("an address");
    let presence = listener.wait_for(client);
    assert!(presence.last_strong_at.is_some(), "{}", office.describe());
    // Leases of two hours and a limit of 45 minutes: an awake phone would be checked out.
    wait_for("the lease to be noticed", SOON, || {
        if listener.health.is_raised(ConditionKind::IdleLimitShort, "eth0") {
            Ok(())
        } else {
            Err(format!("{:?}", listener.counters))
        }
    });
}

#[test]
fn a_capture_stops_soon_and_hands_over_what_it_has() {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    wire.send(&[arp_request(device(1))]);
    listener.wait_for(device(1));
    wire.send(&[arp_request(device(1)), arp_request(device(1))]);
    wait_for("two more frames", SOON, || match listener.counters.strong.load(Relaxed) {
        3 => Ok(()),
        other => Err(format!("{other} of 3")),
    });
    let asked = listener.clock.now().boot;
    listener.stop.cancel();
    listener.running.take().expect("runs once").join().expect("no panic").expect("an orderly end");
    let took = listener.clock.now().boot.since(asked);
    assert!(took < Duration::from_secs(2), "stopping took {took:?}");
    assert_eq!(listener.wait_for(device(1)).frames, 2);
    assert!(!listener.hearing.is_hearing());
}

#[test]
fn without_the_capability_opening_says_what_is_missing() {
    let fault = thread::spawn(|| {
        drop_capabilities();
        let (sender, _presences) = mpsc::channel(1);
        let clock = Clock::system();
        let with = Surroundings {
            idle_limit: Duration::from_secs(60),
            health: Health::new(clock.clone()),
            clock,
            presences: sender,
            known: watch::channel(KnownMacs::default()).1,
            hearing: Hearing::new(LONGEST_GAP),
            stop: CancellationToken::new(),
        };
        CaptureTask::open(&capture("s1"), with)
            .err()
            .map(|fault| (matches!(fault, CaptureError::NotPermitted(_)), fault.to_string()))
    });
    let (not_permitted, text) = fault.join().expect("no panic").expect("refused");
    assert!(not_permitted && text.contains("CAP_NET_RAW"), "{text}");
}

#[test]
fn the_portable_backend_hears_too_and_does_not_spin_when_the_link_is_down_or_gone() {
    let wire = Wire::new();
    let portable = Capture { backend: CaptureBackend::Portable, ..capture("s1") };
    let mut listener = Listener::on(&wire.mirror, portable, Capabilities::Kept);
    listener.wait_until_hearing();
    wire.send(&[arp_request(device(1))]);
    listener.wait_for(device(1));
    wire.mirror.ip(&["link", "set", "s1", "down"]);
    listener.stays_blind_at_no_cost();
    wire.mirror.ip(&["link", "set", "s1", "up"]);
    listener.wait_until_hearing();
    wire.send(&[arp_request(device(2))]);
    listener.wait_for(device(2));
    wire.unplug();
    listener.stays_blind_at_no_cost();
    wire.plug();
    listener.wait_until_hearing();
    wire.send(&[arp_request(device(3))]);
    listener.wait_for(device(3));
}

/// Prints what the capture costs; `tests/bench/capture.sh` makes the traffic and says what is in it.
#[test]
#[ignore = "a measurement, not a check: run tests/bench/capture.sh"]
fn what_the_capture_costs() {
    println!("idle for 5 s: {}", idle());
    println!("from frame to hand-over, 50 devices: {}", latency());
    println!("from up to hearing, and from made anew to hearing, longest of 5: {:?}", recovery());
    // Three times 500,000 frames at 1 Gb/s take 12.6 s.
    for (file, speed, times) in
        [("span", "--mbps=1000", "--loop=3"), ("span", "--topspeed", "--loop=1"), ("storm", "--topspeed", "--loop=1")]
    {
        let traffic = format!("{}/{file}.pcap", env!("CARGO_TARGET_TMPDIR"));
        assert!(std::path::Path::new(&traffic).exists(), "run tests/bench/capture.sh, which makes {traffic}");
        println!("{file} {speed} {times}: {}", under_load(&traffic, speed, times));
    }
}

fn idle() -> String {
    let wire = Wire::new();
    let listener = Listener::at(&wire);
    let wakes = || {
        let path = format!("/proc/self/task/{}/status", listener.thread);
        let text = std::fs::read_to_string(path).expect("the thread runs");
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).expect("a line");
        line.trim().parse::<u64>().expect("a number")
    };
    let (used, woken, from) = (listener.processor_time(), wakes(), listener.clock.now().boot);
    wait_for("five seconds", SOON, || {
        if listener.clock.now().boot.since(from) >= Duration::from_secs(5) { Ok(()) } else { Err(String::new()) }
    });
    format!("{:?} of processor time, {} wake-ups", listener.processor_time().saturating_sub(used), wakes() - woken)
}

fn latency() -> String {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    let mut all: Vec<Duration> = (0..50)
        .map(|number| {
            wire.send(&[arp_request(device(number))]);
            let sent = listener.clock.now().wall;
            listener.wait_for(device(number)).arrived.wall.since(sent)
        })
        .collect();
    all.sort();
    format!("median {:?}, longest {:?}", all[25], all[49])
}

fn recovery() -> (Duration, Duration) {
    let wire = Wire::new();
    let listener = Listener::at(&wire);
    let longest = |lose: &dyn Fn(), regain: &dyn Fn()| {
        let times = (0..5).map(|_| {
            lose();
            listener.wait_until_blind();
            let from = listener.clock.now().boot;
            regain();
            listener.wait_until_hearing();
            listener.clock.now().boot.since(from)
        });
        times.max().expect("five times")
    };
    let link = |state: &'static str| wire.mirror.ip(&["link", "set", "s1", state]);
    let down_and_up = longest(&|| drop(link("down")), &|| drop(link("up")));
    (down_and_up, longest(&|| wire.unplug(), &|| wire.plug()))
}

fn under_load(traffic: &str, speed: &str, times: &str) -> String {
    let wire = Wire::new();
    let mut listener = Listener::at(&wire);
    let beside = wire.mirror.start("tcpdump", &["-i", "s1", "-w", "/dev/null", "arp or udp port 67 or udp port 68"]);
    let (before, start) = (listener.processor_time(), listener.clock.now().boot);
    wire.sender.run("tcpreplay", &["-q", "--preload-pcap", speed, times, "-i", "s0", traffic]);
    let took = listener.clock.now().boot.since(start);
    let mut devices = BTreeSet::new();
    let (mut last, mut quiet_since) = (u64::MAX, start);
    wait_for("the capture to have read everything", SOON, || {
        while let Ok(list) = listener.presences.try_recv() {
            devices.extend(list.into_iter().map(|presence| presence.mac));
        }
        let (frames, now) = (listener.counters.frames.load(Relaxed), listener.clock.now().boot);
        if std::mem::replace(&mut last, frames) != frames {
            quiet_since = now;
        }
        if now.since(quiet_since) > Duration::from_secs(1) { Ok(()) } else { Err(format!("{frames} frames")) }
    });
    drop(beside);
    let used = listener.processor_time().saturating_sub(before);
    format!("{took:?}, {used:?} of processor time, {} devices handed over, {:?}", devices.len(), listener.counters)
}
