//! Networks made of namespaces: a wire with a sender on one end, and a small office with a mirror port.
//!
//! Everything is gone when the value is dropped, also when the test fails. Names carry the process id, and what a killed
//! test run has left behind is removed by the next one.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use checkind::base::mac::MacAddr;
use pnet::datalink::{self, Channel, Config, DataLinkSender};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{
    frame::ethernet,
    http::{self, Answer},
};

/// A network namespace of its own.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        remove_leftovers();
        let name = Self::next_name(role);
        ip(&["netns", "add", &name]);
        let made = Self(name);
        // A namespace that talks IPv6 by itself would be heard by the test.
        made.run("sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]);
        made.ip(&["link", "set", "lo", "up"]);
        made
    }

    /// The one that a process is in; the name goes with the value, the network with the process.
    pub(crate) fn of_process(process: u32) -> Self {
        let name = Self::next_name("process");
        ip(&["netns", "attach", &name, &process.to_string()]);
        Self(name)
    }

    fn next_name(role: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("ckd-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(name: &str) {
        let file = File::open(Path::new("/run/netns").join(name)).expect("the namespace");
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).expect("setns needs root");
    }

    pub(crate) fn ip(&self, args: &[&str]) -> String {
        ip(&[&["-n", &self.0], args].concat())
    }

    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        ip(&[&["netns", "exec", &self.0, program], args].concat())
    }

    /// What an HTTP server in the namespace answers; none while no server listens.
    pub(crate) fn http(&self, server: SocketAddr, path: &str) -> Option<Answer> {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                Self::enter(&self.0);
                TcpStream::connect(server).ok().map(|_| http::send(server, "GET", path, &[], ""))
            });
            asking.join().expect("asking")
        })
    }

    /// A process in the namespace, ended with the guard.
    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap_or_else(|fault| panic!("{program}: {fault}; install iproute2 and {program}")))
    }

    /// Lets a frame leave by this interface ten times a second that concerns no device, as switches and access points do, until
    /// the value is dropped.
    pub(crate) fn chatters(&self, interface: &str) -> Chatter {
        let (namespace, interface) = (self.0.clone(), interface.to_owned());
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = thread::spawn(move || {
            Self::enter(&namespace);
            let mut sender = sender(&interface);
            let frame = ethernet(MacAddr::new([0x02, 0xcc, 0, 0, 0, 1]), &[], 0x88cc, &[0; 46]);
            while stopped.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                // The wire may be unplugged.
                let _sent = sender.send_to(&frame, None);
            }
        });
        Chatter { stop: Some(stop), thread: Some(thread) }
    }

    /// Sends frames out of an interface, as they are.
    pub(crate) fn send(&self, interface: &str, frames: &[Vec<u8>]) {
        thread::scope(|scope| {
            let sending = scope.spawn(|| {
                Self::enter(&self.0);
                let mut sender = sender(interface);
                for frame in frames {
                    sender.send_to(frame, None).expect("room for one frame").expect("sent");
                }
            });
            sending.join().expect("sending");
        });
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _status = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Sends on an interface of the namespace that the calling thread is in.
fn sender(interface: &str) -> Box<dyn DataLinkSender> {
    let found = datalink::interfaces().into_iter().find(|found| found.name == interface);
    let found = found.unwrap_or_else(|| panic!("{interface} is missing"));
    let Channel::Ethernet(sender, _receiver) =
        datalink::channel(&found, Config::default()).expect("a channel needs root")
    else {
        panic!("no Ethernet channel")
    };
    sender
}

/// A network's own chatter; it falls silent with this value.
pub(crate) struct Chatter {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Chatter {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A process that ends with this value.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Two namespaces and a wire between them: `s0` sends, `s1` is the mirror port.
pub(crate) struct Wire {
    pub(crate) sender: Namespace,
    pub(crate) mirror: Namespace,
}

impl Wire {
    pub(crate) fn new() -> Self {
        let wire = Self::unplugged();
        wire.plug();
        wire
    }

    /// Both ends are there, the wire is not.
    pub(crate) fn unplugged() -> Self {
        Self { sender: Namespace::new("a"), mirror: Namespace::new("b") }
    }

    /// Makes the wire; again after [`Wire::unplug`], with new interface numbers.
    pub(crate) fn plug(&self) {
        let (sender, mirror) = (self.sender.name(), self.mirror.name());
        ip(&["link", "add", "s0", "netns", sender, "type", "veth", "peer", "name", "s1", "netns", mirror]);
        self.sender.ip(&["link", "set", "s0", "up"]);
        self.mirror.ip(&["link", "set", "s1", "up"]);
    }

    pub(crate) fn unplug(&self) {
        self.sender.ip(&["link", "del", "s0"]);
    }

    pub(crate) fn send(&self, frames: &[Vec<u8>]) {
        self.sender.send("s0", frames);
    }
}

/// An office: a switch, a DHCP server, clients, and a mirror port `eth0` in `mirror`.
pub(crate) struct Office {
    switch: Namespace,
    pub(crate) mirror: Namespace,
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
    _dhcp: Process,
    _leases: tempfile::TempDir,
}

impl Office {
    /// The client's address.
    pub(crate) const CLIENT: &str = "02:c0:00:00:00:01";

    /// `lease` as dnsmasq writes it.
    pub(crate) fn new(lease: &str) -> Self {
        let [switch, mirror, server, client] = ["sw", "mon", "srv", "cl"].map(Namespace::new);
        switch.ip(&["link", "add", "br0", "type", "bridge"]);
        switch.ip(&["link", "set", "br0", "up"]);
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            mirror.name(),
            "type",
            "veth",
            "peer",
            "name",
            "span0",
            "netns",
            switch.name(),
        ]);
        switch.ip(&["link", "set", "span0", "up"]);
        mirror.ip(&["link", "set", "eth0", "up"]);
        for (end, port) in [(&server, "p_srv"), (&client, "p_cl")] {
            ip(&[
                "link",
                "add",
                "eth0",
                "netns",
                end.name(),
                "type",
                "veth",
                "peer",
                "name",
                port,
                "netns",
                switch.name(),
            ]);
            switch.ip(&["link", "set", port, "master", "br0", "up"]);
            mirror_port(&switch, port);
        }
        client.ip(&["link", "set", "eth0", "address", Self::CLIENT]);
        client.ip(&["link", "set", "eth0", "up"]);
        server.ip(&["addr", "add", "10.30.0.1/24", "dev", "eth0"]);
        server.ip(&["link", "set", "eth0", "up"]);
        let leases = tempfile::tempdir().expect("a folder");
        let dhcp = server.start(
            "dnsmasq",
            &[
                "--no-daemon",
                "--conf-file=/dev/null",
                "--port=0",
                "--interface=eth0",
                "--bind-interfaces",
                "--except-interface=lo",
                "--no-ping",
                "--user=root",
                &format!("--dhcp-leasefile={}", leases.path().join("leases").display()),
                &format!("--dhcp-range=10.30.0.50,10.30.0.200,255.255.255.0,{lease}"),
            ],
        );
        Self { switch, mirror, server, client, _dhcp: dhcp, _leases: leases }
    }

    /// The client asks for an address, and sets it.
    pub(crate) fn ask_for_address(&self) {
        let args = ["-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1", "-s", "/bin/true"];
        self.client.run("udhcpc", &args);
    }

    /// What went where, for a test that failed.
    pub(crate) fn describe(&self) -> String {
        format!("switch:\n{}server:\n{}", self.switch.ip(&["-s", "link"]), self.server.ip(&["-s", "link"]))
    }
}

/// What enters the switch by this port also leaves it by the mirror port.
fn mirror_port(switch: &Namespace, port: &str) {
    switch.run("tc", &["qdisc", "add", "dev", port, "clsact"]);
    let filter = ["filter", "add", "dev", port, "ingress", "protocol", "all", "prio", "1"];
    let action = ["u32", "match", "u32", "0", "0", "action", "mirred", "egress", "mirror", "dev", "span0"];
    switch.run("tc", &[&filter[..], &action[..]].concat());
}

fn ip(args: &[&str]) -> String {
    let done = Command::new("ip").args(args).output().unwrap_or_else(|fault| panic!("ip: {fault}; install iproute2"));
    assert!(
        done.status.success(),
        "ip {} failed (it needs root, iproute2 and what it calls): {}",
        args.join(" "),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Namespaces of test runs that were killed.
fn remove_leftovers() {
    let list = ip(&["netns", "list"]);
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix("ckd-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _status = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}
