//! Active and standby: of several gateways of one site, only the holder of the lease is active.
//!
//! The lease is a row of the shared database, valid for [`LEASE_TERM`](crate::base::permit::LEASE_TERM) and renewed
//! every few seconds. A standby opens no broker session and decides nothing. It tries to take the lease every second,
//! so it takes over within [`LEASE_TERM`](crate::base::permit::LEASE_TERM) and a try of the holder's last renewal, and
//! within a second of a clean shutdown.
//!
//! **Why two are never active at once.** The database fences decisions: every transaction of the holder fails at commit
//! if another gateway has taken the lease. The broker session needs no fence: both gateways use the same client id, and
//! the broker keeps one connection per client id. A holder that cannot reach the database keeps its connection, and its
//! spool accepts the messages, because no other gateway can take the lease either. Once the lease may have expired it
//! opens no new connection, so the two never disconnect each other in turn. A holder that finds its lease taken ends
//! its process, because its state in memory is out of date. After the restart it decides what is in its spool, and
//! stands by.

use std::time::Duration;

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health, RaisedBy},
        permit::LeasePermit,
        random,
        record::BusinessId,
        turns::Turn,
    },
    store::{Store, StoreError},
};

/// How often the holder renews the lease: three attempts before it expires.
const RENEW_EVERY: Duration = Duration::from_secs(3);

/// How often a standby tries to take the lease.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// How long a standby lets the holder go first after the database was unavailable: enough for one renewal.
const HOLDER_FIRST: Duration = Duration::from_secs(8);

/// The longest one attempt may take: a server that has disappeared silently would block it forever.
const TRY: Duration = Duration::from_secs(3);

/// Why a holder stops.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Another gateway has the lease.
    #[error("the gateway {0} has taken over this site; this one must restart, as its standby")]
    Lost(String),
    /// The request cannot succeed, however often it is retried.
    #[error("the lease cannot be requested")]
    Store(#[from] StoreError),
}

/// One gateway's request for the lease of its site.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    business: BusinessId,
    holder: String,
    instance: Uuid,
    clock: Clock,
    health: Health,
    /// When the last successful request for the lease was sent.
    renewed: watch::Sender<Option<BootTime>>,
}

impl Lease {
    /// The request of a gateway called `holder`. Two processes with the same name are still told apart.
    pub fn new(store: Store, business: BusinessId, holder: String, clock: Clock, health: Health) -> Self {
        Self { store, business, holder, instance: random::uuid(), clock, health, renewed: watch::channel(None).0 }
    }

    /// What distinguishes this process from every other.
    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    /// A permit for code that starts something only the holder may do.
    pub fn permit(&self) -> LeasePermit {
        LeasePermit::new(self.renewed.subscribe())
    }

    /// Waits until this gateway holds the lease. May be dropped at any time.
    ///
    /// # Errors
    /// [`LeaseError::Store`] when retrying would not help.
    pub async fn acquire(&self) -> Result<(), LeaseError> {
        let mut holder_first_until = self.clock.now().boot;
        let mut is_first = true;
        loop {
            // After an outage the holder goes first; meanwhile only check that the database answers.
            let tried = if self.clock.now().boot < holder_first_until { self.probe().await } else { self.take().await };
            match tried {
                Ok(true) => break,
                Ok(false) => {
                    let holder = self.current_holder().await;
                    let detail =
                        format!("the gateway {holder} is active; this one is the standby and takes over when it fails");
                    self.health.raise(ConditionKind::Standby, "", detail);
                    self.health.clear_by(RaisedBy::Lease, ConditionKind::DatabaseUnavailable);
                }
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Refused { .. }
                    | StoreError::Unfit(_)
                    | StoreError::Conflict),
                ) => {
                    // A failure of the first attempt may only concern this gateway's start, so the holder gets no head
                    // start.
                    if !is_first {
                        holder_first_until = self.clock.now().boot.plus(HOLDER_FIRST);
                    }
                    let detail = format!(
                        "{}; unknown which gateway holds the lease of this site",
                        error.in_words("the database")
                    );
                    self.health.raise_by(RaisedBy::Lease, ConditionKind::DatabaseUnavailable, detail);
                }
            }
            is_first = false;
            time::sleep(TRY_EVERY).await;
        }
        self.health.clear(ConditionKind::Standby, "");
        self.health.clear_by(RaisedBy::Lease, ConditionKind::DatabaseUnavailable);
        tracing::info!(gateway = self.holder, business = self.business.0, "this gateway holds the lease and is active");
        Ok(())
    }

    /// Renews the lease until `stop` is cancelled. Reports its turns.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] as soon as another gateway has it. An unavailable database is not an error, because no
    /// gateway can take the lease then.
    pub async fn keep(&self, turn: &Turn, stop: &CancellationToken) -> Result<(), LeaseError> {
        turn.rests(RENEW_EVERY);
        while stop.run_until_cancelled(time::sleep(RENEW_EVERY)).await.is_some() {
            turn.rests(RENEW_EVERY);
            match self.take().await {
                Ok(true) => {}
                Ok(false) => return Err(LeaseError::Lost(self.current_holder().await)),
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(
                    error @ (StoreError::Unavailable(_)
                    | StoreError::Refused { .. }
                    | StoreError::Unfit(_)
                    | StoreError::Conflict),
                ) => tracing::debug!("the lease was not renewed: {}", error.in_words("the database")),
            }
        }
        Ok(())
    }

    /// Releases the lease, so a standby need not wait until it expires.
    pub async fn release(&self) {
        let released = time::timeout(TRY, self.store.release_lease(self.business, self.instance)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("could not release the lease; a standby takes over when it expires");
        }
    }

    /// Takes or renews the lease; false when another gateway has it.
    async fn take(&self) -> Result<bool, StoreError> {
        // Read before the request: the answer may be slow, and the term of the lease must not be overestimated.
        let asked = self.clock.now().boot;
        let taken = time::timeout(TRY, self.store.take_lease(self.business, &self.holder, self.instance)).await;
        let taken = taken.unwrap_or(Err(StoreError::too_late()))?;
        if taken {
            self.renewed.send_replace(Some(asked));
        }
        Ok(taken)
    }

    /// Checks that the database answers, without taking the lease.
    async fn probe(&self) -> Result<bool, StoreError> {
        let asked = time::timeout(TRY, self.store.lease_holder(self.business)).await;
        asked.unwrap_or(Err(StoreError::too_late())).map(|_| false)
    }

    async fn current_holder(&self) -> String {
        let holder = time::timeout(TRY, self.store.lease_holder(self.business)).await;
        holder.ok().and_then(Result::ok).flatten().unwrap_or_else(|| "of unknown name".to_owned())
    }
}
