//! `checkind demo`: a whole site on this machine, with nothing to install, and a day in a minute.
//!
//! The daemon (the same [`Supervisor`] as in `checkind run`, on a faster clock), the broker, the database and the API
//! are real, and so is the wire that carries the frames, if this process may create one. The people, door controllers,
//! phones and laptops are simulated.

mod broker;
mod controllers;
mod day;
mod folder;
mod frames;
mod hub;
mod show;
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use chrono::NaiveDate;
use futures_util::StreamExt;
use secrecy::{ExposeSecret, SecretString};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_tokio::Signals;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    time,
};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{PASSWORD_CHARACTERS, Reach, Right, Rights, Role, RoleEntity, StoredPassword, UserName},
    base::{clock::Clock, random, record::BusinessId},
    daemon::{Prepared, Running, SettingsOrigin, Supervisor},
    directory::import,
    policy::door::Door,
    settings::{self, Api, Database, ListenAddress, Settings},
    store::Store,
};
use broker::Broker;
use controllers::{ControllerConnections, Controllers};
use day::{Act, Scene};
use folder::Folder;
use show::{RecordFollower, clock_face, say};
use wire::{Direct, Way, Wire};

/// The API's default port, tried first.
const API_PORT: u16 = 8080;

/// The API user of the demo.
const API_USER: &str = "demo";

/// How often the records are read.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// How long the daemon may take to subscribe to the doors' topics.
const START_LIMIT: Duration = Duration::from_secs(15);

/// How long a request to the daemon's API may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The most bytes of a response that are read.
const MAX_RESPONSE: u64 = 1024 * 1024;

/// The options of the demo.
#[derive(Clone, Copy, Debug)]
pub struct DemoOptions {
    /// Real length of the simulated day.
    pub length: Duration,
    /// Whether to keep serving after the day, until a signal.
    pub stay: bool,
}

/// Runs the demo: until the day is over, or with `stay` until SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// When a part cannot start, the daemon fails, or the output is closed.
pub async fn run(options: DemoOptions) -> anyhow::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot handle signals")?;
    let ends = DemoStops::default();
    let asked_to_stop = async {
        while let Some(signal) = signals.next().await {
            ends.day.cancel();
            // A running daemon handles SIGINT and SIGTERM itself. Cancelling the token too would look like a second
            // signal, which ends it at once.
            if signal == SIGHUP || !ends.daemon_handles_signals.load(Ordering::Acquire) {
                ends.daemon.cancel();
            }
        }
    };
    tokio::select! {
        outcome = Box::pin(site(options, &ends)) => outcome,
        () = asked_to_stop => bail!("signals are no longer delivered"),
    }
}

/// What a signal stops.
#[derive(Default)]
struct DemoStops {
    /// Stops the simulated day and its output.
    day: CancellationToken,
    /// Stops the daemon.
    daemon: CancellationToken,
    /// Set while the daemon handles SIGINT and SIGTERM itself.
    daemon_handles_signals: AtomicBool,
}

/// Sets everything up, plays the day, and cleans up.
async fn site(options: DemoOptions, ends: &DemoStops) -> anyhow::Result<()> {
    // Create what the settings refer to: a folder, a broker and, if possible, a wire.
    let folder = Folder::make()?;
    let broker = Broker::start().await?;
    let mut way = Wire::make().await.map_or_else(|error| Way::Direct(format!("{error:#}")), Way::Wire);
    // Short enough to type, too long to guess while a demo runs on loopback.
    let password: String = random::uuid().simple().to_string().chars().take(PASSWORD_CHARACTERS).collect();
    let password = SecretString::from(password);
    let mut settings = settings(&folder, &broker, &way)?;
    prepare(&settings, &password).await?;

    // Use a clock that runs through the day in the requested time.
    let date = hub::zone().local(Clock::system().now().wall).date();
    let span = Duration::from_secs((day::ENDS - day::BEGINS).into());
    let rate = u32::try_from(span.as_millis() / options.length.as_millis().max(1)).unwrap_or(1).max(1);
    let clock = || Clock::accelerated(day::instant(date, day::BEGINS), rate, span);
    // A wire may exist and yet not allow a capture; then decode the frames directly.
    let (prepared, clock) = match lay(&settings, clock()) {
        Ok(laid) => laid,
        Err(error) => {
            way = Way::Direct(format!("{error:#}"));
            settings.captures.clear();
            lay(&settings, clock())?
        }
    };
    if ends.day.is_cancelled() {
        return Ok(());
    }
    let (direct, frames, read) = match &way {
        Way::Wire(wire) => (None, wire.frames().context("the wire is down")?, None),
        Way::Direct(_) => {
            let (direct, frames, read) = Direct::new(prepared.capture_context());
            (Some(direct), frames, Some(read))
        }
    };
    // Run the daemon and the day side by side; the end of one stops the other.
    let (controllers, connections) = controllers::controllers(&broker)?;
    let (started_tx, started_rx) = oneshot::channel();
    let site = DemoSite {
        options,
        way: &way,
        read,
        password,
        clock,
        date,
        doors: settings.doors.clone(),
        controllers,
        frames,
    };
    let database = settings.database.clone();
    let supervisor = Supervisor::new(settings, SettingsOrigin::Made, &prepared);
    let daemon = async {
        let started = |running: &Running| drop(started_tx.send(running.clone()));
        ends.daemon_handles_signals.store(true, Ordering::Release);
        let outcome = Box::pin(supervisor.run(prepared, ends.daemon.clone(), started)).await;
        ends.day.cancel();
        outcome
    };
    let day = async {
        let lived = ends.day.run_until_cancelled(Box::pin(site.live(database, started_rx, connections, direct))).await;
        // If the day was cancelled, the daemon has been stopped already.
        if lived.is_some() {
            ends.daemon.cancel();
        }
        lived.unwrap_or(Ok(()))
    };
    let (served, lived) = tokio::join!(daemon, day);
    served.context("the daemon failed")?;
    lived?;
    // Report the end only after everything is removed.
    drop(way);
    drop(folder);
    say("The demo has removed everything it created.")?;
    Ok(())
}

fn lay(settings: &Settings, clock: Clock) -> anyhow::Result<(Prepared, Clock)> {
    Ok((Prepared::open(settings, clock.clone())?, clock))
}

/// The settings, loaded from a configuration file like an operator's.
fn settings(folder: &Folder, broker: &Broker, way: &Way) -> anyhow::Result<Settings> {
    let interface = match way {
        Way::Wire(wire) => Some(wire.interface()),
        Way::Direct(_) => None,
    };
    folder.write("mqtt-password", broker.password.expose_secret())?;
    let file = folder.write("checkind.toml", &hub::configuration(broker.port, interface))?;
    let mut settings = settings::load(Some(&file), std::iter::empty())?.settings;
    settings.database = Database::Sqlite { path: folder.file("checkind.db") };
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, API_PORT)).is_ok();
    let listen = ListenAddress::Tcp((Ipv4Addr::LOCALHOST, if free { API_PORT } else { 0 }).into());
    settings.api = Some(Api {
        listen,
        tls: None,
        protected_by: None,
        cors_origins: Vec::new(),
        failed_checkin_writes: false,
        kiosks: None,
    });
    Ok(settings)
}

/// Imports the directory and adds the API user, as an operator would before the first start.
async fn prepare(settings: &Settings, password: &SecretString) -> anyhow::Result<()> {
    let store = Store::open(&settings.database).await?;
    let now = Clock::system().now().wall;
    let import = import::read_json(&hub::directory(), &store.pin_key().await?)?;
    store.import(&import.documents, store.directory_version().await?, now, |_| {}).await?;
    let name: UserName = API_USER.parse().context("the name of the API user")?;
    let rights = Rights::Roles(
        [Role::of(RoleEntity::Checkin, Right::Read), Role::of(RoleEntity::FailedCheckin, Right::Read)].into(),
    );
    store.add_user(&name, &StoredPassword::new(password)?, &rights, &Reach::All, now).await?;
    store.close().await;
    Ok(())
}

/// The running site.
struct DemoSite<'a> {
    options: DemoOptions,
    way: &'a Way,
    /// The number of frames read directly; `None` with a wire.
    read: Option<Arc<AtomicU64>>,
    password: SecretString,
    clock: Clock,
    date: NaiveDate,
    doors: Vec<Door>,
    controllers: Controllers,
    frames: mpsc::Sender<Vec<u8>>,
}

impl DemoSite<'_> {
    async fn live(
        self,
        database: Database,
        started: oneshot::Receiver<Running>,
        connections: ControllerConnections,
        direct: Option<Direct>,
    ) -> anyhow::Result<()> {
        let Ok(running) = started.await else { return Ok(()) };
        let api = running.api.context("the API is disabled")?;
        let store = Store::open(&database).await?;
        let background = async {
            let direct = async {
                match direct {
                    Some(direct) => direct.run().await,
                    None => std::future::pending().await,
                }
            };
            tokio::join!(connections.drive(), direct);
        };
        tokio::select! {
            outcome = Box::pin(self.day(&store, api)) => outcome,
            () = background => bail!("the simulated devices stopped"),
        }
    }

    async fn day(&self, store: &Store, api: SocketAddr) -> anyhow::Result<()> {
        time::timeout(START_LIMIT, ready(api)).await.context("the daemon did not subscribe in time")??;
        self.introduce(api)?;
        let scenes = day::scenes(self.date);
        let mut watcher = RecordFollower::new(store.clone(), BusinessId(1), self.doors.clone(), self.date);
        {
            let mut played = pin!(self.play(&scenes));
            loop {
                tokio::select! {
                    outcome = &mut played => break outcome?,
                    () = time::sleep(POLL_INTERVAL) => watcher.show_new().await?,
                }
            }
        }
        watcher.show_new().await?;
        self.conclude(&watcher, api).await?;
        if self.options.stay {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    /// Plays every scene at its time, until the end of the day.
    async fn play(&self, scenes: &[Scene]) -> anyhow::Result<()> {
        let end = day::instant(self.date, day::ENDS);
        for scene in scenes.iter().take_while(|scene| scene.at < end) {
            time::sleep(self.clock.real(scene.at.since(self.clock.now().wall))).await;
            match &scene.act {
                Act::Publish(from, topics, payload) => self.controllers.publish(*from, topics, payload).await?,
                Act::Send(frame) => self.frames.send(frame.clone()).await.context("the wire is down")?,
            }
        }
        time::sleep(self.clock.real(end.since(self.clock.now().wall))).await;
        Ok(())
    }

    fn introduce(&self, api: SocketAddr) -> io::Result<()> {
        let wire = match self.way {
            Way::Wire(wire) => format!(
                "through a real wire: a veth pair,\n            from a network namespace to {}, which the daemon captures",
                wire.interface()
            ),
            Way::Direct(why) => format!(
                "directly through the frame decoder, because\n            this process cannot create a wire ({why}); run as root for one"
            ),
        };
        say(format_args!(
            "A day at Harbour Hub, a small coworking site, in about {}. All people are invented.\n\n\
             Doors       a UHPPOTE board behind uhppoted-mqtt and an esp-rfid, publishing over MQTT 5 to an embedded broker\n\
             Network     ARP and DHCP frames of phones and laptops, {wire}\n\
             API         http://{api}, user {API_USER}, password {password}\n\
             Try         curl -s -u {API_USER}:{password} http://{api}/api/spaces/checkins/1\n",
            humantime::format_duration(self.options.length),
            password = self.password.expose_secret(),
        ))
    }

    async fn conclude(&self, watcher: &RecordFollower, api: SocketAddr) -> anyhow::Result<()> {
        let figures = Figures(get(api, "/metrics").await?);
        let now = clock_face(self.clock.now().wall);
        say(format_args!("\n{now}  The day is over.\n\n{}", watcher.summary().await?))?;
        say(format_args!(
            "  door messages     {} received, {} acknowledged, {} duplicates, {} not understood",
            figures.sum("checkind_mqtt_messages_total", ""),
            figures.sum("checkind_mqtt_acknowledged_total", ""),
            figures.sum("checkind_decisions_total", "duplicate"),
            figures.sum("checkind_decisions_total", "rejected"),
        ))?;
        let frames = match &self.read {
            Some(read) => format!("{} read directly", read.load(Ordering::Relaxed)),
            None => format!(
                "{} captured, {} strong and {} weak evidence, {} suspicious, {} lost",
                figures.sum("checkind_capture_frames_total", ""),
                figures.sum("checkind_capture_strong_total", ""),
                figures.sum("checkind_capture_weak_total", ""),
                figures.sum("checkind_capture_suspicious_total", ""),
                figures.sum("checkind_capture_kernel_drops_total", ""),
            ),
        };
        let presences = figures.sum("checkind_presences_total", "");
        say(format_args!("  frames            {frames}; merged into {presences} presences\n"))?;
        let password = self.password.expose_secret();
        if self.options.stay {
            say(format_args!(
                "The daemon keeps running at normal speed until Ctrl-C. Try:\n\
                 \x20 curl -s -u {API_USER}:{password} http://{api}/api/spaces/checkins/1\n\
                 \x20 curl -s -u {API_USER}:{password} http://{api}/api/spaces/failedcheckins/1\n\
                 \x20 curl -s http://{api}/readyz\n\
                 \x20 curl -s http://{api}/metrics"
            ))?;
        }
        Ok(())
    }
}

/// Waits until the daemon has subscribed; messages published before that would be lost.
async fn ready(api: SocketAddr) -> anyhow::Result<()> {
    loop {
        let figures = Figures(get(api, "/metrics").await?);
        let (wanted, granted) = (figures.sum("checkind_mqtt_topics", ""), figures.sum("checkind_mqtt_subscribed", ""));
        if wanted > 0 && granted == wanted {
            return Ok(());
        }
        time::sleep(Duration::from_millis(10)).await;
    }
}

/// Returns the body of a response of the daemon's API.
async fn get(api: SocketAddr, path: &str) -> anyhow::Result<String> {
    let request = async {
        let mut stream = TcpStream::connect(api).await?;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut response = String::new();
        stream.take(MAX_RESPONSE).read_to_string(&mut response).await?;
        io::Result::Ok(response)
    };
    let response = time::timeout(REQUEST_LIMIT, request).await.context("the API does not respond")??;
    let body = response.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    body.context("the API's response has no end of headers")
}

/// The metrics page.
struct Figures(String);

impl Figures {
    /// The sum of a family's values whose labels contain this text.
    fn sum(&self, family: &str, label: &str) -> u64 {
        let of_family = |line: &&str| {
            line.strip_prefix(family).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        };
        let value = |line: &str| line.rsplit(' ').next()?.parse::<u64>().ok();
        self.0.lines().filter(of_family).filter_map(value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_by_family_and_label() {
        let figures = Figures("# HELP a A\na{x=\"one\"} 2\na{x=\"two\"} 3\na_total 7\nb 1\n".to_owned());
        assert_eq!(figures.sum("a", ""), 5);
        assert_eq!(figures.sum("a", "two"), 3);
        assert_eq!(figures.sum("b", ""), 1);
        assert_eq!(figures.sum("c", ""), 0);
    }
}
