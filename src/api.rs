//! The HTTP API: records in the platform's shape, tokens, health, metrics.
//!
//! Every response, errors included, is JSON (except metrics: OpenMetrics text) and must not be cached. [`shape`]
//! defines the form of the records, and `auth` who may read them. Nothing here decides about check-ins.

mod auth;
mod health;
mod records;
mod reply;
pub mod shape;
mod token;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    base::{clock::Clock, health::Health},
    metrics::Metrics,
    store::Store,
};
use reply::Problem;

/// The most simultaneous connections. A web page and a few integrations need ten; 128 times [`BUFFER`] is 4 MiB at
/// worst. Further connections wait in the kernel's backlog until one ends.
const CONNECTIONS: usize = 128;

/// The read buffer of a connection, in bytes. The headers of a request must fit into it; otherwise hyper answers 431.
const BUFFER: usize = 32 * 1024;

/// The largest request body, in bytes. A record has about 1 KiB. Larger bodies are refused with 413.
const BODY: usize = 64 * 1024;

/// The longest time from a request's last header to its response, reading the body and the database included; then 503.
const REQUEST: Duration = Duration::from_secs(10);

/// How long a client may take to send the headers of its next request, idle time included. Then the connection is
/// closed, so silent clients cannot occupy every connection.
const HEADERS: Duration = Duration::from_secs(30);

/// How long running requests may still take when the daemon stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

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
    guard: Arc<auth::Guard>,
    probe: Arc<health::Probe>,
}

impl ApiState {
    /// The state of an API that reads from the store in this slot. `/readyz` reports `starting` until [`Ready::started`]
    /// is called.
    pub fn new(store: StoreSlot, health: Health, metrics: Metrics, clock: Clock) -> Self {
        let ready = Ready::default();
        Self { store, health, metrics, clock, ready, guard: Arc::default(), probe: Arc::default() }
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
    pub fn fill(&self, store: Store) {
        self.0.get_or_init(|| store);
    }
}

impl From<Store> for StoreSlot {
    fn from(store: Store) -> Self {
        let slot = Self::default();
        slot.fill(store);
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
    tracing::info!(%address, "the API is listening");
    let routes = routes(state);
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    while let Some((stream, peer, permit)) = next_connection(&listener, &permits, &stop).await {
        let routes = routes.clone().layer(Extension(Peer(peer)));
        let stop = stop.clone();
        open.spawn(async move {
            connection(stream, routes, stop).await;
            drop(permit);
        });
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    tracing::info!(%address, "the API has stopped");
    Ok(())
}

/// The next connection with its permit (one of [`CONNECTIONS`]); `None` once `stop` is cancelled.
async fn next_connection(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    stop.run_until_cancelled(async {
        let permit = Arc::clone(permits).acquire_owned().await.expect("the semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept connections; trying again in a second");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
    .await
}

/// Whether an error of `accept(2)` belongs to a connection that failed before it was accepted.
fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    )
}

/// Serves one connection until it ends or the daemon stops.
async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not switch off Nagle's algorithm for an API connection");
    }
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            match timeout(LAST_REQUESTS, serving).await {
                Ok(served) => served,
                Err(_) => return tracing::warn!("an API request was cut off by the shutdown"),
            }
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an API connection ended early");
    }
}

fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/api/spaces/checkins/{id}", get(records::checkin))
        .route("/api/spaces/failedcheckins/{id}", get(records::failed_checkin))
        .route("/api/token", post(token::grant))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(|| async { Problem::NoSuchPath })
        .method_not_allowed_fallback(|| async { Problem::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(BODY))
        .layer(middleware::from_fn(within_bounds))
        .with_state(state)
}

/// Applies the time limit to each request, and adds the common headers to each response.
async fn within_bounds(request: Request, next: Next) -> Response {
    let mut response = match timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::TooSlow.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
