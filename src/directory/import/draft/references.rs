//! PURE. The references of an imported entity, and what happens if one is undefined.

use super::spot::EntrySpot;
use crate::directory::entity::{Entity, EntityKind};

/// A reference from one entity to another.
#[derive(Debug)]
pub(super) struct EntityReference {
    pub(super) from: EntityKind,
    pub(super) spot: EntrySpot,
    pub(super) field: &'static str,
    pub(super) to: (EntityKind, i64),
    pub(super) if_undefined: UndefinedReference,
}

/// How a reference to an undefined entity is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UndefinedReference {
    /// Always a fault.
    Fault,
    /// A fault if any entity of that kind is known, because exports with only people are legitimate.
    FaultAmongOthers,
    /// Only a warning, because exports contain references to people of other locations.
    Warning,
}

/// A field and the entity that it refers to.
type ReferencingField = (&'static str, (EntityKind, i64));

/// Every entity that this one refers to.
pub(super) fn references_of(entity: &Entity, spot: EntrySpot) -> Vec<EntityReference> {
    let (from, if_undefined, fields): (EntityKind, UndefinedReference, Vec<ReferencingField>) = match entity {
        Entity::Tariff(_) => return Vec::new(),
        Entity::Business(business) => {
            // Exports of one location refer to a head that is not among them.
            let root = business.root_location_id.map(|id| ("RootLocationId", (EntityKind::Business, id)));
            (EntityKind::Business, UndefinedReference::Warning, root.into_iter().collect())
        }
        Entity::TimePass(pass) => {
            let owner = pass.business_id.map(|id| ("BusinessId", (EntityKind::Business, id)));
            let businesses = pass.businesses.0.iter().map(|id| ("Businesses", (EntityKind::Business, *id)));
            let tariffs = pass.tariffs.0.iter().map(|id| ("Tariffs", (EntityKind::Tariff, *id)));
            let fields = owner.into_iter().chain(businesses).chain(tariffs).collect();
            (EntityKind::TimePass, UndefinedReference::FaultAmongOthers, fields)
        }
        Entity::Team(team) => {
            let members = team.team_members.0.iter().map(|id| ("TeamMembers", (EntityKind::Coworker, *id)));
            (EntityKind::Team, UndefinedReference::Warning, members.collect())
        }
        Entity::CoworkerTimePass(pass) => {
            let holder = ("CoworkerId", (EntityKind::Coworker, pass.coworker_id));
            let kind = ("TimePassId", (EntityKind::TimePass, pass.time_pass_id));
            (EntityKind::CoworkerTimePass, UndefinedReference::Fault, vec![holder, kind])
        }
        Entity::Coworker(coworker) => {
            let tariff = coworker.tariff_id.map(|id| ("TariffId", (EntityKind::Tariff, id)));
            let teams = coworker.teams.0.iter().map(|id| ("Teams", (EntityKind::Team, *id)));
            let businesses = coworker.businesses.0.iter().map(|id| ("Businesses", (EntityKind::Business, *id)));
            let home = coworker.invoicing_business_id.map(|id| ("InvoicingBusinessId", (EntityKind::Business, id)));
            let fields = tariff.into_iter().chain(teams).chain(businesses).chain(home).collect();
            (EntityKind::Coworker, UndefinedReference::FaultAmongOthers, fields)
        }
    };
    let reference = |(field, to)| EntityReference { from, spot, field, to, if_undefined };
    fields.into_iter().map(reference).collect()
}
