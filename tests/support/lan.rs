//! Networks made of namespaces: a wire with a sender on one end, and a small office with a mirror port.
//!
//! Everything is removed when the value is dropped, even if the test fails. Names contain the process id, and the next
//! run removes what a killed test run has left behind.

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

/// A network namespace.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        remove_leftovers();
        let name = Self::next_name(role);
        ip(&["netns", "add", &name]);
        let made = Self(name);
        // IPv6 frames that the namespace sends by itself would disturb the tests.
        made.run("sysctl", &["-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]);
        made.ip(&["link", "set", "lo", "up"]);
        made
    }

    /// The namespace of a process. Dropping the value removes only the name; the network ends with the process.
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

    /// Moves the calling thread into the namespace permanently.
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

    /// Sends a request to an HTTP server in the namespace; `None` while no server listens.
    pub(crate) fn http(&self, server: SocketAddr, path: &str) -> Option<Answer> {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                Self::enter(&self.0);
                TcpStream::connect(server).ok().map(|_| http::send(server, "GET", path, &[], ""))
            });
            asking.join().expect("asking")
        })
    }

    /// Starts a process in the namespace, which ends when the guard is dropped.
    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Process {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0, program]).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap_or_else(|fault| panic!("{program}: {fault}; install iproute2 and {program}")))
    }

    /// Sends a frame that concerns no device out of this interface ten times a second, as switches and access points
    /// do, until the value is dropped.
    pub(crate) fn chatters(&self, interface: &str) -> Chatter {
        let (namespace, interface) = (self.0.clone(), interface.to_owned());
        let (stop, stopped) = sync_channel::<()>(0);
        let thread = thread::spawn(move || {
            Self::enter(&namespace);
            let mut sender = sender(&interface);
            let frame = ethernet(MacAddr::new([0x02, 0xcc, 0, 0, 0, 1]), &[], 0x88cc, &[0; 46]);
            while stopped.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                // Sending may fail, because the wire may be unplugged.
                let _sent = sender.send_to(&frame, None);
            }
        });
        Chatter { stop: Some(stop), thread: Some(thread) }
    }

    /// Sends frames unchanged out of an interface.
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

/// A sender on an interface in the calling thread's namespace.
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

/// A network's own chatter, until dropped.
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

/// A process that ends when dropped.
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

    /// Two namespaces without a wire yet.
    pub(crate) fn unplugged() -> Self {
        Self { sender: Namespace::new("a"), mirror: Namespace::new("b") }
    }

    /// Creates the wire. Creating it again after [`Wire::unplug`] gives it new interface numbers.
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
    /// The client's MAC address.
    pub(crate) const CLIENT: &str = "02:c0:00:00:00:01";

    /// Builds the office. `lease` is in dnsmasq's format.
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

    /// Makes the client request an address and configure it.
    pub(crate) fn ask_for_address(&self) {
        let args = ["-i", "eth0", "-f", "-q", "-n", "-t", "10", "-T", "1", "-s", "/bin/true"];
        self.client.run("udhcpc", &args);
    }

    /// The traffic counters, for the message of a failed test.
    pub(crate) fn describe(&self) -> String {
        format!("switch:\n{}server:\n{}", self.switch.ip(&["-s", "link"]), self.server.ip(&["-s", "link"]))
    }
}

/// Copies what enters the switch at this port to the mirror port.
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

/// Removes the namespaces of killed test runs.
fn remove_leftovers() {
    let list = ip(&["netns", "list"]);
    for name in list.lines().filter_map(|line| line.split_whitespace().next()) {
        let owner = name.strip_prefix("ckd-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _status = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}
