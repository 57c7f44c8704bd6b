//! Delivers the simulated devices' frames to the daemon: over a wire into its capture, or directly through the frame
//! decoder and the coalescer if this process may not create a wire.

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

/// The most frames queued for the wire. When it is full, the day waits.
const QUEUE: usize = 256;

/// The devices' end of the wire, in the namespace.
const FAR_END: &str = "devices";

/// How long the kernel may take to bring both ends up.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// How often directly read frames are turned into presences for the pipeline.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// The way in which frames reach the daemon.
pub(super) enum Way {
    /// Over a wire.
    Wire(Wire),
    /// Directly, with the reason why there is no wire.
    Direct(String),
}

/// A veth pair: the daemon captures on one end; the other is in a network namespace.
///
/// The namespace loses its name once the wire is up. Only the sending thread keeps it alive, so the namespace and both
/// ends disappear with the process, even if it is killed.
pub(super) struct Wire {
    interface: String,
    frames: Option<mpsc::Sender<Vec<u8>>>,
    sender: Option<JoinHandle<()>>,
}

impl Wire {
    /// Creates the wire.
    ///
    /// # Errors
    /// When this process lacks a permission, or something is missing.
    pub(super) async fn make() -> anyhow::Result<Self> {
        let namespace = Namespace::add(format!("ckdemo{}", std::process::id()))?;
        let interface = namespace.0.clone();
        ip(&["link", "add", &interface, "type", "veth", "peer", "name", FAR_END, "netns", &namespace.0])?;
        let mut wire = Self { interface, frames: None, sender: None };
        // Without IPv6 addresses the interfaces send no frames of their own.
        ip(&["link", "set", &wire.interface, "addrgenmode", "none"])?;
        ip(&["-n", &namespace.0, "link", "set", FAR_END, "addrgenmode", "none"])?;
        ip(&["-n", &namespace.0, "link", "set", FAR_END, "up"])?;
        ip(&["link", "set", &wire.interface, "up"])?;
        let (frames, waiting) = mpsc::channel(QUEUE);
        let (opened, ready) = oneshot::channel();
        let name = namespace.0.clone();
        let sender = thread::Builder::new().name("devices".to_owned()).spawn(move || send_all(&name, waiting, opened));
        wire.sender = Some(sender.context("cannot start a thread")?);
        wire.frames = Some(frames);
        ready.await.context("the sending thread ended")??;
        time::timeout(TIME_LIMIT, has_carrier(&wire.interface)).await.context("the wire did not come up")?;
        Ok(wire)
    }

    /// The name of the daemon's end.
    pub(super) fn interface(&self) -> &str {
        &self.interface
    }

    /// A channel for frames to send.
    pub(super) fn frames(&self) -> Option<mpsc::Sender<Vec<u8>>> {
        self.frames.clone()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Err(error) = ip(&["link", "del", &self.interface]) {
            tracing::warn!(%error, "could not remove the interface {}", self.interface);
        }
        self.frames = None;
        if let Some(sender) = self.sender.take()
            && sender.join().is_err()
        {
            tracing::warn!("the sending thread panicked");
        }
    }
}

/// A named network namespace; the name is removed on drop.
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
            tracing::warn!(%error, "could not remove the network namespace {}", self.0);
        }
    }
}

/// Sends frames in the namespace until the channel closes. Ends at once if the wire cannot be opened.
fn send_all(namespace: &str, mut frames: mpsc::Receiver<Vec<u8>>, ready: oneshot::Sender<anyhow::Result<()>>) {
    let opened = open(namespace);
    let (mut sender, outcome) = match opened {
        Ok(sender) => (Some(sender), Ok(())),
        Err(error) => (None, Err(error)),
    };
    if ready.send(outcome).is_err() {
        return;
    }
    while let (Some(sender), Some(frame)) = (&mut sender, frames.blocking_recv()) {
        match sender.send_to(&frame, None) {
            Some(Ok(())) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "could not send a frame"),
        }
    }
}

fn open(namespace: &str) -> anyhow::Result<Box<dyn DataLinkSender>> {
    let file = File::open(Path::new("/run/netns").join(namespace)).context("cannot open the network namespace")?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .context("cannot enter the network namespace")?;
    let far_end = datalink::interfaces().into_iter().find(|interface| interface.name == FAR_END);
    let far_end = far_end.context("the far end of the wire is missing")?;
    match datalink::channel(&far_end, Config::default()).context("cannot send frames")? {
        Channel::Ethernet(sender, _) => Ok(sender),
        _ => bail!("the wire is not Ethernet"),
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
    let done = done.map_err(|error| anyhow!("cannot run `ip` (package iproute2): {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    bail!("`ip {}`: {}", args.join(" "), said.lines().next().unwrap_or("failed"));
}

/// The way without a wire: decodes frames and sends presences to the pipeline, as a capture does.
pub(super) struct Direct {
    coalescer: Coalescer,
    context: CaptureContext,
    frames: mpsc::Receiver<Vec<u8>>,
    read: Arc<AtomicU64>,
}

impl Direct {
    /// Also returns the channel for frames to send, and the counter of frames read.
    pub(super) fn new(context: CaptureContext) -> (Self, mpsc::Sender<Vec<u8>>, Arc<AtomicU64>) {
        let ignore = [hub::ROUTER, hub::PRINTER].map(|mac| MacPattern { prefix: mac.octets().to_vec() });
        let capture = Capture {
            interface: "direct".into(),
            vlans: Vec::new(),
            ignore: ignore.to_vec(),
            relays: Relays::Any,
            backend: CaptureBackend::Portable,
        };
        let (sender, frames) = mpsc::channel(QUEUE);
        let read = Arc::<AtomicU64>::default();
        let coalescer = Coalescer::new(&capture, context.idle_limit);
        (Self { coalescer, context, frames, read: Arc::clone(&read) }, sender, read)
    }

    /// Runs until dropped.
    pub(super) async fn run(mut self) {
        let capture = self.context.coverage.capture();
        loop {
            let arrived = time::timeout(SWEEP_INTERVAL, self.frames.recv()).await;
            let now = self.context.clock.now();
            capture.frame_seen(now.boot);
            if self.context.known.has_changed().unwrap_or(false) {
                let known = Arc::clone(&self.context.known.borrow_and_update());
                self.coalescer.set_known(known);
            }
            match arrived {
                Ok(Some(bytes)) => {
                    self.read.fetch_add(1, Ordering::Relaxed);
                    if let Some(seen) = frame::observe(&bytes, None) {
                        self.coalescer.merge(&seen, now);
                    }
                }
                Ok(None) => time::sleep(SWEEP_INTERVAL).await,
                Err(_quiet) => {}
            }
            self.coalescer.sweep(now);
            while self.coalescer.has_due(now)
                && let Ok(room) = self.context.presences.try_reserve()
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
