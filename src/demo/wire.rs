//! How the frames of the simulated devices reach the daemon: over a wire into its capture, or, where this process may
//! not make one, through the frame decoder and the coalescer directly.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use pnet::datalink::{self, Channel, Config, DataLinkSender};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::{
    sync::{mpsc, oneshot},
    time,
};

use super::hub;
use crate::{
    settings::{Capture, CaptureBackend, MacPattern, Relays},
    source::network::{CaptureContext, coalesce::Coalescer, frame, netlink::Links},
};

/// Frames on their way to the wire. When it is full, the day waits.
const WAITING: usize = 256;

/// The devices' end of the wire, inside the namespace.
const FAR_END: &str = "devices";

/// How long the kernel may take to notice that both ends are up.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How often frames that reach the daemon directly are handed over to the pipeline.
const TURN: Duration = Duration::from_millis(20);

/// The way of the frames.
pub(super) enum Way {
    /// A wire.
    Wire(Wire),
    /// Directly, and why.
    Direct(String),
}

/// A veth pair: one end is the daemon's, the other in a network namespace.
///
/// The namespace has no name once the wire is there: it lives through the thread that sends in it, and so it and both
/// ends are gone with the process, however that ends.
pub(super) struct Wire {
    interface: String,
    frames: Option<mpsc::Sender<Vec<u8>>>,
    sender: Option<JoinHandle<()>>,
}

impl Wire {
    /// Makes the wire.
    ///
    /// # Errors
    /// Says what this process may not do, or what is missing.
    pub(super) async fn make() -> anyhow::Result<Self> {
        let namespace = Namespace::add(format!("ckdemo{}", std::process::id()))?;
        let interface = namespace.0.clone();
        ip(&["link", "add", &interface, "type", "veth", "peer", "name", FAR_END, "netns", &namespace.0])?;
        let mut wire = Self { interface, frames: None, sender: None };
        // Interfaces that get no address of their own by IPv6 say nothing of their own.
        ip(&["link", "set", &wire.interface, "addrgenmode", "none"])?;
        ip(&["-n", &namespace.0, "link", "set", FAR_END, "addrgenmode", "none"])?;
        ip(&["-n", &namespace.0, "link", "set", FAR_END, "up"])?;
        ip(&["link", "set", &wire.interface, "up"])?;
        let (frames, waiting) = mpsc::channel(WAITING);
        let (said, ready) = oneshot::channel();
        let name = namespace.0.clone();
        let sender = thread::Builder::new().name("devices".to_owned()).spawn(move || send_all(&name, waiting, said));
        wire.sender = Some(sender.context("a thread cannot be started")?);
        wire.frames = Some(frames);
        ready.await.context("the sender ended")??;
        time::timeout(TIME_LIMIT, has_carrier(&wire.interface)).await.context("the wire carries nothing")?;
        Ok(wire)
    }

    /// The daemon's end.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// A handle that sends.
    pub(super) fn frames(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.frames.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Err(error) = ip(&["link", "del", &self.interface]) {
            tracing::warn!(%error, "the interface {} could not be removed", self.interface);
        }
        self.frames = None;
        if let Some(sender) = self.sender.take()
            && sender.join().is_err()
        {
            tracing::warn!("the sender of frames panicked");
        }
    }
}

/// A namespace that has a name until this is dropped.
struct Namespace(String);

impl Namespace {
    fn add(name: String) -> anyhow::Result<Self> {
        ip(&["netns", "add", &name])?;
        Ok(Self(name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = ip(&["netns", "del", &self.0]) {
            tracing::warn!(%error, "the network namespace {} could not be removed", self.0);
        }
    }
}

/// Sends in the namespace until there is nobody to send for, or no wire.
fn send_all(namespace: &str, mut frames: mpsc::Receiver<Vec<u8>>, said: oneshot::Sender<anyhow::Result<()>>) {
    let opened = open(namespace);
    let (mut sender, outcome) = match opened {
        Ok(sender) => (Some(sender), Ok(())),
        Err(error) => (None, Err(error)),
    };
    if said.send(outcome).is_err() {
        return;
    }
    while let (Some(sender), Some(frame)) = (&mut sender, frames.blocking_recv()) {
        match sender.send_to(&frame, None) {
            Some(Ok(())) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "a frame was not sent"),
        }
    }
}

fn open(namespace: &str) -> anyhow::Result<Box<dyn DataLinkSender>> {
    let file = File::open(Path::new("/run/netns").join(namespace)).context("the network namespace cannot be opened")?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .context("the network namespace cannot be entered")?;
    let far_end = datalink::interfaces().into_iter().find(|interface| interface.name == FAR_END);
    let far_end = far_end.context("the far end of the wire is missing")?;
    match datalink::channel(&far_end, Config::default()).context("frames cannot be sent")? {
        Channel::Ethernet(sender, _) => Ok(sender),
        _ => bail!("the wire is no Ethernet"),
    }
}

async fn has_carrier(interface: &str) {
    loop {
        let links = Links::open().and_then(|mut links| links.list()).unwrap_or_default();
        if links.iter().any(|link| link.name == interface && link.running) {
            return;
        }
        time::sleep(Duration::from_millis(5)).await;
    }
}

fn ip(args: &[&str]) -> anyhow::Result<()> {
    let done = Command::new("ip").args(args).stdin(Stdio::null()).output();
    let done = done.map_err(|error| anyhow!("`ip` (package iproute2) cannot be run: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    bail!("`ip {}`: {}", args.join(" "), said.lines().next().unwrap_or("failed"));
}

/// The short way: decodes frames and hands over presences as a capture does.
pub(super) struct Direct {
    coalescer: Coalescer,
    with: CaptureContext,
    frames: mpsc::Receiver<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Direct {
    /// Ready to run; with the handle that sends, and the number of frames read.
    pub(super) fn new(with: CaptureContext) -> (Self, mpsc::Sender<Vec<u8>>, Arc<AtomicU64>) {
        let ignore = [hub::ROUTER, hub::PRINTER].map(|mac| MacPattern { prefix: mac.octets().to_vec() });
        let capture = Capture {
            interface: "direct".into(),
            vlans: Vec::new(),
            ignore: ignore.to_vec(),
            relays: Relays::Any,
            backend: CaptureBackend::Portable,
        };
        let (sender, frames) = mpsc::channel(WAITING);
        let read = Arc::<AtomicU64>::default();
        let coalescer = Coalescer::new(&capture, with.idle_limit);
        (Self { coalescer, with, frames, read: Arc::clone(&read) }, sender, read)
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self) {
        let capture = self.with.coverage.capture();
        loop {
            let arrived = time::timeout(TURN, self.frames.recv()).await;
            let now = self.with.clock.now();
            capture.frame_seen(now.boot);
            if self.with.known.has_changed().unwrap_or(false) {
                let known = Arc::clone(&self.with.known.borrow_and_update());
                self.coalescer.set_known(known);
            }
            match arrived {
                Ok(Some(bytes)) => {
                    self.read.fetch_add(1, Ordering::Relaxed);
                    if let Some(seen) = frame::observe(&bytes, None) {
                        self.coalescer.merge(&seen, now);
                    }
                }
                Ok(None) => time::sleep(TURN).await,
                Err(_quiet) => {}
            }
            self.coalescer.sweep(now);
            while self.coalescer.has_due(now)
                && let Ok(room) = self.with.presences.try_reserve()
            {
                let due = self.coalescer.take_due(now);
                if due.is_empty() {
                    break;
                }
                room.send(due);
            }
        }
    }
}
