//! The HTTP API: records in the platform's shape, tokens, health, metrics.
//!
//! Every response, errors included, is JSON (except metrics: text, and refusals of what is not HTTP: no body) and must not be cached. [`shape`]
//! defines the form of the records, and `auth` who may read them. Nothing here decides about check-ins.

mod account;
mod address;
mod auth;
mod bounds;
mod checkin_body;
mod checkin_change;
mod client_number;
mod client_time;
mod command;
mod command_body;
mod connection;
mod cors;
mod directory;
mod directory_change;
mod documents;
mod entity_body;
mod every_answer;
mod failure_change;
mod fault;
mod gate;
mod hash_turns;
mod jwt;
mod health;
mod kiosk;
mod large_lists;
mod list;
mod listed_entity;
mod listener;
mod metrics_format;
pub mod openapi;
mod page_ends;
mod path;
mod path_id;
mod places;
mod query;
mod records;
mod reply;
mod request_id;
mod schema_parts;
mod server_tls;
pub mod shape;
mod sign_in;
pub mod strange_input;
mod throttle;
mod token;
mod token_error;
mod token_use;

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router, middleware,
    routing::{get, post},
};
use futures_util::FutureExt as _;
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{
        clock::{Clock, WallTime},
        health::Health,
        record::BusinessId,
    },
    directory::entity::EntityKind,
    metrics::Metrics,
    pipeline::ApiRequest,
    settings::{Api, JwtSettings, WebOrigin},
    store::Store,
};
use connection::ConnectionEnds;
use cors::AllowedOrigins;
use listener::{AcceptedSocket, ListeningSocket};
pub use listener::{ApiListener, ListenError};
use reply::Problem;
pub use server_tls::{CertificateError, CertificateReload};

/// The pause after `accept` fails (out of descriptors): retrying at once would only use CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long a client waits for the decision. Later, it is not known whether the change was made: the client should read
/// the record before it tries again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the handlers need; cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    store: StoreSlot,
    health: Health,
    metrics: Metrics,
    clock: Clock,
    ready: Ready,
    guard: Arc<sign_in::Guard>,
    probe: Arc<health::Probe>,
    /// The business of this gateway, with its name in the settings.
    site: Option<(BusinessId, Arc<str>)>,
    /// When the settings with it were read.
    started: WallTime,
    /// Changes of the directory take turns, so they do not overtake each other.
    directory_turn: Arc<tokio::sync::Mutex<()>>,
    origins: AllowedOrigins,
    token_uses: token_use::TokenUses,
    requests: RequestSlot,
    /// Whether users may write failed check-ins.
    writes_failures: bool,
    /// The kiosks that are served, if any are.
    kiosks: Option<Arc<kiosk::KioskGuard>>,
    jwt: Option<jwt::JwtCheck>,
    large_lists: Arc<large_lists::LargeLists>,
    page_ends: Arc<Mutex<page_ends::PageEnds>>,
}

impl ApiState {
    /// The state of an API that reads from the store in this slot. `/readyz` reports `starting` until [`Ready::started`]
    /// is called.
    pub fn new(store: StoreSlot, health: Health, metrics: Metrics, clock: Clock) -> Self {
        let started = clock.now().wall;
        Self {
            store,
            health,
            metrics,
            clock,
            ready: Ready::default(),
            guard: Arc::default(),
            probe: Arc::default(),
            site: None,
            started,
            directory_turn: Arc::default(),
            origins: AllowedOrigins::default(),
            token_uses: token_use::TokenUses::default(),
            requests: RequestSlot::default(),
            writes_failures: false,
            kiosks: None,
            jwt: None,
            large_lists: Arc::default(),
            page_ends: Arc::default(),
        }
    }

    /// The same for a gateway of this business, which is shown while the directory has none.
    #[must_use]
    pub fn of_site(self, business: BusinessId, name: &str) -> Self {
        Self { site: Some((business, name.into())), ..self }
    }

    /// The same, with a pipeline that decides requests once it runs.
    #[must_use]
    pub fn with_requests(self, requests: RequestSlot) -> Self {
        Self { requests, ..self }
    }

    /// The same, for pages of these origins too.
    #[must_use]
    pub fn for_pages_of(mut self, origins: &[WebOrigin]) -> Self {
        self.origins = AllowedOrigins::of(origins);
        self
    }

    /// The same, with what the settings switch on.
    #[must_use]
    pub fn with_settings(self, settings: &Api) -> Self {
        let kiosks = settings.kiosks.clone().map(|kiosks| Arc::new(kiosk::KioskGuard::new(kiosks)));
        Self { writes_failures: settings.failed_checkin_writes, kiosks, ..self }.for_pages_of(&settings.cors_origins)
    }

    /// The same, also for tokens of an identity provider.
    #[must_use]
    pub fn with_identity_provider(mut self, settings: Option<&JwtSettings>) -> Self {
        let check =
            |settings: &JwtSettings| jwt::JwtCheck::new(settings.clone(), self.clock.clone(), self.health.clone());
        self.jwt = settings.map(check);
        self
    }

    fn page_ends(&self) -> MutexGuard<'_, page_ends::PageEnds> {
        self.page_ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database.
    ///
    /// # Errors
    /// [`Problem::Unavailable`] until it is open.
    fn store(&self) -> Result<&Store, Problem> {
        self.store.0.get().ok_or(Problem::Unavailable)
    }

    /// The handle that marks start-up as finished.
    pub fn ready(&self) -> Ready {
        self.ready.clone()
    }
}

/// The database, once it is open: the API answers before that. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StoreSlot(Arc<OnceLock<Store>>);

impl StoreSlot {
    /// The API reads from this store from now on. Only the first call has an effect.
    pub fn fill(&self, store: &Store) {
        self.0.get_or_init(|| store.serving());
    }
}

impl From<Store> for StoreSlot {
    fn from(store: Store) -> Self {
        let slot = Self::default();
        slot.fill(&store);
        slot
    }
}

/// The queue of requests, once a pipeline decides here. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct RequestSlot(Arc<OnceLock<mpsc::Sender<ApiRequest>>>);

impl RequestSlot {
    /// Requests go to this pipeline from now on. Only the first call has an effect.
    pub fn fill(&self, sender: mpsc::Sender<ApiRequest>) {
        self.0.get_or_init(|| sender);
    }

    /// Sends a request to the pipeline, and waits for its answer.
    async fn ask<T>(&self, request: ApiRequest, answer: oneshot::Receiver<T>) -> Result<T, Problem> {
        let queue = self.0.get().ok_or(Problem::DecidesNothing)?;
        match queue.try_send(request) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Err(Problem::Unavailable),
            Err(TrySendError::Closed(_)) => return Err(Problem::DecidesNothing),
        }
        timeout(PATIENCE, answer).await.ok().and_then(Result::ok).ok_or(Problem::Unavailable)
    }
}

/// Whether start-up has finished: until then `/readyz` answers 503. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ready(Arc<AtomicBool>);

impl Ready {
    /// Marks start-up as finished.
    pub fn started(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether start-up has finished.
    pub fn is_started(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The client's address.
#[derive(Clone, Copy, Debug)]
struct Peer(IpAddr);

/// Serves until `stop` is cancelled, then gives running requests five seconds to finish.
///
/// # Errors
/// When the listener is not a listening socket. A failed connection does not affect others.
pub async fn serve(listener: impl Into<ApiListener>, state: ApiState, stop: CancellationToken) -> io::Result<()> {
    let ApiListener { socket, tls } = listener.into();
    let address = socket.name()?;
    socket.prepare()?;
    let mut open = JoinSet::new();
    let tls = tls.map(|certificate| {
        let acceptor = certificate.acceptor();
        open.spawn(certificate.follow(stop.clone()));
        acceptor
    });
    if let Some(jwt) = state.jwt.clone() {
        open.spawn(stop.clone().run_until_cancelled_owned(jwt.prepare()).map(drop));
    }
    tracing::info!(tls = tls.is_some(), %address, "the API is listening");
    let routes = routes(state.clone());
    let metrics = state.metrics.clone();
    let mut gate = gate::Gate::new(state);
    while let Some(arrived) = stop.run_until_cancelled(next_connection(&socket, gate.patience())).await {
        if let Some((stream, peer)) = arrived {
            match gate.admit(peer) {
                Some((seat, cut)) => {
                    let routes = routes.clone().layer(Extension(Peer(peer))).layer(Extension(Arc::new(seat)));
                    let ends = ConnectionEnds { cut, stop: stop.clone() };
                    open.spawn(connection::serve(stream, tls.clone(), routes, ends, metrics.clone()));
                }
                // Over TLS an answer would need a handshake first.
                None if tls.is_some() => {}
                None => stream.turn_away(),
            }
        }
        while open.try_join_next().is_some() {}
        gate.settle();
    }
    drop(socket);
    while open.join_next().await.is_some() {}
    tracing::info!(%address, "the API has stopped");
    Ok(())
}

/// The next connection; `None` if none comes within `patience`.
async fn next_connection(socket: &ListeningSocket, patience: Option<Duration>) -> Option<(AcceptedSocket, IpAddr)> {
    let next = async {
        loop {
            match socket.accept().await {
                Ok(arrived) => return arrived,
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept connections; trying again in a second");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    match patience {
        None => Some(next.await),
        Some(patience) => timeout(patience, next).await.ok(),
    }
}

/// Whether an error of `accept(2)` belongs to a connection that failed before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Every route. The document in [`openapi`] describes each.
fn served_routes() -> Router<ApiState> {
    Router::new()
        .route("/api/spaces/checkins", get(list::checkins).post(checkin_change::create).put(checkin_change::update))
        .route("/api/spaces/checkins/runcommand", post(checkin_change::run_command))
        .route(
            "/api/spaces/failedcheckins",
            get(list::failed_checkins).post(failure_change::create).put(failure_change::update),
        )
        .route("/api/spaces/checkins/{id}", get(records::checkin).delete(checkin_change::delete))
        .route("/api/spaces/failedcheckins/{id}", get(records::failed_checkin).delete(failure_change::delete))
        .route("/api/spaces/coworkercharges", get(list::charges))
        .merge(directory_routes())
        .route("/api/auth/me", get(account::me))
        .route("/api/utils/enums", get(account::enums))
        .route("/api/token", post(token::grant))
        .route("/api/public/checkin", post(kiosk::check_in))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::served))
}

fn routes(state: ApiState) -> Router {
    let origins = state.origins.clone();
    let routes = served_routes()
        .fallback(|| async { Problem::NoSuchPath })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn(bounds::within_bounds))
        .with_state(state);
    // The layers of this outer router run before the inner one looks at the path; the last one here is the first to run.
    Router::new()
        .fallback_service(routes)
        .layer(middleware::map_request(path::as_served))
        .layer(middleware::from_fn_with_state(origins, cors::across_origins))
        .layer(middleware::from_fn(every_answer::completed))
}

/// Each kind of entity under each folder that the platform's documents have used for one.
fn directory_routes() -> Router<ApiState> {
    let mut routes = Router::new();
    for kind in EntityKind::ALL {
        for folder in documents::FOLDERS {
            let path = documents::path(folder, kind);
            let all = get(move |api, shown, query| directory::list(api, shown, query, kind))
                .post(move |api, shown, headers, body| directory_change::create(api, shown, headers, body, kind))
                .put(move |api, shown, headers, body| directory_change::update(api, shown, headers, body, kind));
            let one = get(move |api, shown, id| directory::one(api, shown, id, kind))
                .delete(move |api, shown, id| directory_change::delete(api, shown, id, kind));
            routes = routes.route(&path, all).route(&format!("{path}/{{id}}"), one);
        }
    }
    routes
}
