//! PURE. What the engine needs to know of a person.

use std::sync::Arc;

use crate::base::record::{BusinessId, CoworkerId, Snapshot, TariffId};

use super::catalogue::Moment;

/// What the engine needs to know of a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coworker {
    /// Who.
    pub id: CoworkerId,
    /// Their name.
    pub full_name: Arc<str>,
    /// May use the space at all.
    pub active: bool,
    /// No longer a customer.
    pub archived: bool,
    /// May be checked in by network.
    pub allow_network_checkin: bool,
    /// Team names joined by `,`.
    pub teams: Option<Arc<str>>,
    /// Plan name.
    pub tariff: Option<Arc<str>>,
    /// Plan.
    pub tariff_id: Option<TariffId>,
    /// A day on which a billing cycle of theirs begins.
    pub renews: Option<Moment>,
    /// The businesses they belong to; empty for the whole network.
    pub businesses: Box<[BusinessId]>,
}

impl Coworker {
    /// What a record keeps of them.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            full_name: Some(self.full_name.to_string()),
            teams: self.teams.as_deref().map(ToOwned::to_owned),
            tariff: self.tariff.as_deref().map(ToOwned::to_owned),
        }
    }

    /// Have they a plan? Else they are a contact.
    pub fn is_member(&self) -> bool {
        self.tariff_id.is_some() || self.tariff.is_some()
    }

    /// May they use the space at all?
    pub fn is_customer(&self) -> bool {
        self.active && !self.archived
    }

    /// Do they belong to this business, or to the whole network?
    pub fn belongs_to(&self, business: BusinessId) -> bool {
        self.businesses.is_empty() || self.businesses.contains(&business)
    }
}
