//! Lets connections in, each with its place, and reports when there are no places left.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    ApiState,
    places::{CONNECTIONS, PlaceKind, PlaceTable},
};
use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
    },
    metrics::{ConnectionCut, Metrics},
};

/// The condition ends after this long without a connection that found all places taken.
const CALM: Duration = Duration::from_mins(1);

/// How often that is checked while the condition lasts.
const CHECK: Duration = Duration::from_secs(1);

/// Gives each connection its place.
#[derive(Debug)]
pub(super) struct Gate {
    places: SharedPlaces,
    state: ApiState,
    /// When a connection last found all places taken, while the condition lasts.
    exhausted: Option<BootTime>,
}

impl Gate {
    pub(super) fn new(state: ApiState) -> Self {
        Self { places: SharedPlaces::default(), state, exhausted: None }
    }

    /// How long to wait for the next connection before [`Gate::settle`]; `None` for as long as it takes.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.exhausted.map(|_| CHECK)
    }

    /// Finds a place for a connection, and cuts the one that gives way.
    pub(super) fn admit(&mut self, peer: IpAddr) -> Option<(Seat, CancellationToken)> {
        let now = self.state.clock.now().boot;
        let cut = CancellationToken::new();
        let admission = self.places.lock().admit(peer, cut.clone(), now);
        if let Some(gives_way) = admission.cut {
            gives_way.cancel();
        }
        if admission.is_exhausted {
            self.exhausted(now);
        }
        match admission.place {
            Some(place) => Some((Seat::new(place, self.state.clock.clone(), self.places.clone()), cut)),
            None => {
                self.metrics().connection_cut(ConnectionCut::Refused);
                None
            }
        }
    }

    /// Ends the condition once it has been calm for long enough, and updates the metric.
    pub(super) fn settle(&mut self) {
        self.metrics().api_connections(i64::try_from(self.places.lock().taken()).unwrap_or(i64::MAX));
        let now = self.state.clock.now().boot;
        if self.exhausted.is_some_and(|last| now.since(last) >= CALM) {
            self.exhausted = None;
            self.health().clear(ConditionKind::ApiExhausted, "");
        }
    }

    fn exhausted(&mut self, now: BootTime) {
        if self.exhausted.replace(now).is_none() {
            let detail = format!(
                "all {CONNECTIONS} connections of the API were in use; idle ones are closed to make room. If no client \
                 explains it, block the address with the most connections (`ss -tn`), or put a proxy in front of the API"
            );
            self.health().raise(ConditionKind::ApiExhausted, "", detail);
        }
    }

    fn health(&self) -> &Health {
        &self.state.health
    }

    fn metrics(&self) -> &Metrics {
        &self.state.metrics
    }
}

/// The place of one connection, which ends with it.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    kind: PlaceKind,
    clock: Clock,
    places: SharedPlaces,
}

/// The places of all connections; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedPlaces(Arc<Mutex<PlaceTable<CancellationToken>>>);

impl SharedPlaces {
    pub(super) fn lock(&self) -> MutexGuard<'_, PlaceTable<CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    pub(super) const fn new((id, kind): (u64, PlaceKind), clock: Clock, places: SharedPlaces) -> Self {
        Self { id, kind, clock, places }
    }

    /// Whether only the paths of monitoring are served here.
    pub(super) fn is_for_monitoring(&self) -> bool {
        self.kind == PlaceKind::Monitoring
    }

    /// The next step is ours.
    pub(super) fn works(&self) {
        self.places.lock().works(self.id);
    }

    /// The next step is the client's.
    pub(super) fn waits(&self) {
        self.places.lock().waits(self.id, self.clock.now().boot);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.places.lock().ended(self.id);
    }
}
