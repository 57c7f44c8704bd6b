//! The HTTP API: records in the platform's shape, tokens, health, metrics.
//!
//! Every response, errors included, is JSON (except metrics: text, and refusals of what is not HTTP: no body) and must not be cached. [`shape`]
//! defines the form of the records, and `auth` who may read them. Nothing here decides about check-ins.

mod account;
mod address;
mod auth;
mod bounds;
mod client_time;
mod connection;
mod directory;
mod documents;
mod fault;
mod gate;
mod hash_turns;
mod health;
mod large_lists;
mod list;
mod listed_entity;
mod metrics_format;
mod page_ends;
mod path;
mod places;
mod query;
mod records;
mod reply;
pub mod shape;
mod sign_in;
mod throttle;
mod token;

use std::{
    io,
    net::SocketAddr,
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
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{clock::Clock, health::Health},
    directory::entity::EntityKind,
    metrics::Metrics,
    store::Store,
};
use reply::Problem;

/// The send buffer of a connection, in bytes; the kernel doubles it. A client that does not read holds no more than
/// this of the kernel's memory, which would otherwise grow to megabytes.
const SEND_BUFFER: usize = 64 * 1024;

/// The pause after `accept` fails (out of descriptors): retrying at once would only use CPU time.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

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
    large_lists: Arc<large_lists::LargeLists>,
    page_ends: Arc<Mutex<page_ends::PageEnds>>,
}

impl ApiState {
    /// The state of an API that reads from the store in this slot. `/readyz` reports `starting` until [`Ready::started`]
    /// is called.
    pub fn new(store: StoreSlot, health: Health, metrics: Metrics, clock: Clock) -> Self {
        let ready = Ready::default();
        Self {
            store,
            health,
            metrics,
            clock,
            ready,
            guard: Arc::default(),
            probe: Arc::default(),
            large_lists: Arc::default(),
            page_ends: Arc::default(),
        }
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
struct Peer(SocketAddr);

/// Serves until `stop` is cancelled, then gives running requests five seconds to finish.
///
/// # Errors
/// When the listener is not a listening socket. A failed connection does not affect others.
pub async fn serve(listener: TcpListener, state: ApiState, stop: CancellationToken) -> io::Result<()> {
    let address = listener.local_addr()?;
    // Its connections inherit the size.
    set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
    tracing::info!(%address, "the API is listening");
    let routes = routes(state.clone());
    let metrics = state.metrics.clone();
    let mut gate = gate::Gate::new(state);
    let mut open = JoinSet::new();
    while let Some(arrived) = stop.run_until_cancelled(next_connection(&listener, gate.patience())).await {
        if let Some((stream, peer)) = arrived
            && let Some((seat, cut)) = gate.admit(&stream, peer)
        {
            let routes = routes.clone().layer(Extension(Peer(peer))).layer(Extension(Arc::new(seat)));
            open.spawn(connection::serve(stream, routes, cut, stop.clone(), metrics.clone()));
        }
        while open.try_join_next().is_some() {}
        gate.settle();
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    tracing::info!(%address, "the API has stopped");
    Ok(())
}

/// The next connection; `None` if none comes within `patience`.
async fn next_connection(listener: &TcpListener, patience: Option<Duration>) -> Option<(TcpStream, SocketAddr)> {
    let next = async {
        loop {
            match listener.accept().await {
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

fn routes(state: ApiState) -> Router {
    let routes = Router::new()
        .route("/api/spaces/checkins", get(list::checkins))
        .route("/api/spaces/failedcheckins", get(list::failed_checkins))
        .route("/api/spaces/checkins/{id}", get(records::checkin))
        .route("/api/spaces/failedcheckins/{id}", get(records::failed_checkin))
        .route("/api/spaces/coworkercharges", get(list::charges))
        .merge(directory_routes())
        .route("/api/auth/me", get(account::me))
        .route("/api/utils/enums", get(account::enums))
        .route("/api/token", post(token::grant))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::NoSuchPath })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(middleware::from_fn(bounds::within_bounds))
        .with_state(state);
    // The layer of this outer router runs before the inner one looks at the path.
    Router::new().fallback_service(routes).layer(middleware::map_request(path::as_served))
}

/// Each kind of entity under each folder that the platform's documents have used for one.
fn directory_routes() -> Router<ApiState> {
    let mut routes = Router::new();
    for kind in EntityKind::ALL {
        let name = kind.array().to_ascii_lowercase();
        for folder in ["spaces", "billing", "sys"] {
            let path = format!("/api/{folder}/{name}");
            routes = routes
                .route(&path, get(move |api, shown, query| directory::list(api, shown, query, kind)))
                .route(&format!("{path}/{{id}}"), get(move |api, shown, id| directory::one(api, shown, id, kind)));
        }
    }
    routes
}
