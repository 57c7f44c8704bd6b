//! PURE. The facts about a person that the engine needs.

use std::sync::Arc;

use crate::base::record::{BusinessId, CoworkerId, Snapshot, TariffId};

use super::catalogue::Moment;

/// The facts about a person that the engine needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coworker {
    /// Who.
    pub id: CoworkerId,
    /// Their name.
    pub full_name: Arc<str>,
    /// May use the space.
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
    /// A day on which one of their billing cycles begins.
    pub renews: Option<Moment>,
    /// The businesses they belong to; empty for the whole network.
    pub businesses: Box<[BusinessId]>,
}

impl Coworker {
    /// The data about them that a record keeps.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            full_name: Some(self.full_name.to_string()),
            teams: self.teams.as_deref().map(ToOwned::to_owned),
            tariff: self.tariff.as_deref().map(ToOwned::to_owned),
        }
    }

    /// Whether they have a plan. If not, they are a contact.
    pub fn is_member(&self) -> bool {
        self.tariff_id.is_some() || self.tariff.is_some()
    }

    /// Whether they may use the space.
    pub fn is_customer(&self) -> bool {
        self.active && !self.archived
    }

    /// Whether they belong to this business or to the whole network.
    pub fn belongs_to(&self, business: BusinessId) -> bool {
        self.businesses.is_empty() || self.businesses.contains(&business)
    }
}
