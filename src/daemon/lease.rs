//! Active and standby: of several gateways of one site only the one that holds the lease works.
//!
//! The lease is a row of the shared database ([`LEASE_TERM`](crate::base::permit::LEASE_TERM)), prolonged every few seconds. A standby opens no session at the
//! broker and decides nothing; it asks every second, so that it takes over within twelve seconds of the holder's last
//! word, and at once after an orderly end.
//!
//! **What keeps two from working at once.** Every transaction of the holder's fails at its end when the lease has been
//! taken, so decisions are fenced by the database. The session at the broker is one by its nature: both gateways have the
//! same client id, and the broker keeps one connection for it. A holder that cannot reach the database keeps the
//! connection that it has, because then nobody can take the lease either, and its spool takes the messages; but once the
//! lease may have ended it opens no new one, so that two never throw each other out. A holder that finds the lease taken
//! ends its process: what it remembers is not the truth any more. Started again it hands over what is in its spool, and
//! stands by.

use std::time::Duration;

use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    base::{
        clock::{BootTime, Clock},
        health::{ConditionKind, Health},
        permit::LeasePermit,
        random,
        record::BusinessId,
    },
    store::{Store, StoreError},
};

/// How often it is prolonged: three tries before it ends.
const EVERY: Duration = Duration::from_secs(3);

/// How often a standby asks for it.
const ASK: Duration = Duration::from_secs(1);

/// How long a standby lets the holder be first when the database was away: time for one of its tries.
const AFTER_YOU: Duration = Duration::from_secs(8);

/// What one try may take: a server that has gone away without a word would hold it for ever.
const TRY: Duration = Duration::from_secs(3);

/// Why a holder stops.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// Somebody else has it.
    #[error("the gateway {0} has taken over this site; this one must start again, as its standby")]
    Lost(String),
    /// The database can never be asked.
    #[error("the lease cannot be asked for")]
    Store(#[from] StoreError),
}

/// One gateway's wish for the lease of its site.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    business: BusinessId,
    holder: String,
    instance: Uuid,
    clock: Clock,
    health: Health,
    known: watch::Sender<Option<BootTime>>,
}

impl Lease {
    /// A gateway called `holder`; two processes are told apart even if they are called alike.
    pub fn new(store: Store, business: BusinessId, holder: String, clock: Clock, health: Health) -> Self {
        Self { store, business, holder, instance: random::uuid(), clock, health, known: watch::channel(None).0 }
    }

    /// What tells this process from every other.
    pub const fn instance(&self) -> Uuid {
        self.instance
    }

    /// For whoever begins something that only the holder may do.
    pub fn permit(&self) -> LeasePermit {
        LeasePermit::new(self.known.subscribe())
    }

    /// Waits until the lease is ours. May be dropped at any time.
    ///
    /// # Errors
    /// [`LeaseError::Store`] when the database can never be asked.
    pub async fn acquire(&self) -> Result<(), LeaseError> {
        let mut waits_until = self.clock.now().boot;
        let mut first = true;
        loop {
            let tried = if self.clock.now().boot < waits_until { self.ask().await } else { self.take().await };
            match tried {
                Ok(true) => break,
                Ok(false) => {
                    let holder = self.other().await;
                    let detail = format!("the gateway {holder} works; this one stands by and takes over when it fails");
                    self.health.raise(ConditionKind::Standby, "", detail);
                    self.health.clear(ConditionKind::DatabaseUnavailable, "");
                }
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Conflict)) => {
                    if !first {
                        waits_until = self.clock.now().boot.plus(AFTER_YOU);
                    }
                    let detail = format!("{error}; it is not known who holds the lease of this site");
                    self.health.raise(ConditionKind::DatabaseUnavailable, "", detail);
                }
            }
            first = false;
            time::sleep(ASK).await;
        }
        self.health.clear(ConditionKind::Standby, "");
        self.health.clear(ConditionKind::DatabaseUnavailable, "");
        tracing::info!(gateway = self.holder, business = self.business.0, "this gateway holds the lease and works");
        Ok(())
    }

    /// Prolongs the lease until it is told to stop.
    ///
    /// # Errors
    /// [`LeaseError::Lost`] as soon as somebody else has it. That the database is away is none: then nobody can take it.
    pub async fn keep(&self, stop: &CancellationToken) -> Result<(), LeaseError> {
        while stop.run_until_cancelled(time::sleep(EVERY)).await.is_some() {
            match self.take().await {
                Ok(true) => {}
                Ok(false) => return Err(LeaseError::Lost(self.other().await)),
                Err(unusable @ StoreError::Unusable { .. }) => return Err(unusable.into()),
                Err(StoreError::Unavailable(error)) => tracing::debug!(%error, "the lease was not prolonged"),
                Err(StoreError::Conflict) => tracing::debug!("the lease was not prolonged"),
            }
        }
        Ok(())
    }

    /// Gives the lease back, so that a standby need not wait for its end.
    pub async fn release(&self) {
        let released = time::timeout(TRY, self.store.release_lease(self.business, self.instance)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!("the lease could not be given back; a standby takes over when it has ended");
        }
    }

    async fn take(&self) -> Result<bool, StoreError> {
        // Before the question: the answer may take its time, and the lease does not begin later than that.
        let asked = self.clock.now().boot;
        let taken = time::timeout(TRY, self.store.take_lease(self.business, &self.holder, self.instance)).await;
        let taken = taken.unwrap_or(Err(StoreError::too_late()))?;
        if taken {
            self.known.send_replace(Some(asked));
        }
        Ok(taken)
    }

    /// Only asks whether the database answers, so that somebody else may take the lease.
    async fn ask(&self) -> Result<bool, StoreError> {
        let asked = time::timeout(TRY, self.store.lease_holder(self.business)).await;
        asked.unwrap_or(Err(StoreError::too_late())).map(|_| false)
    }

    async fn other(&self) -> String {
        let holder = time::timeout(TRY, self.store.lease_holder(self.business)).await;
        holder.ok().and_then(Result::ok).flatten().unwrap_or_else(|| "of another name".to_owned())
    }
}
