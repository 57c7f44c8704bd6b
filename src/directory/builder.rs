//! PURE. Builds the directory from entities, one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    catalogue::{self, Business, Cycle, HeldPass, Limits, PackedMoment, Places, Slot, Tariff, TimePass},
    coworker::Coworker,
    entity::{self, Entity},
    lookup::{Directory, Holder, Index},
    pin::{DIGEST_MARK, pin_digest, pin_of_email},
    scoped,
};
use crate::base::{
    card,
    clock::WallTime,
    mac::MacAddr,
    record::{BusinessId, CoworkerId, CoworkerTimePassId, TariffId, TeamId, TimePassId},
    sighting::CredentialKind,
};

/// Builds a snapshot one entity at a time, so the documents of a large directory are never all in memory together.
/// Entities that others refer to must be added first: businesses, plans and teams, then kinds of passes, people,
/// passes.
#[derive(Debug, Default)]
pub struct Builder {
    directory: Directory,
    /// The credentials of archived people. They keep one only until another person has it, because cards and devices
    /// are passed on.
    former: Directory,
    teams: BTreeMap<TeamId, Arc<str>>,
    held: Vec<HeldPass>,
    /// The teams that share passes, and their members.
    sharing: BTreeSet<TeamId>,
    sharers: BTreeSet<(TeamId, CoworkerId)>,
    members: BTreeMap<CoworkerId, Vec<Arc<str>>>,
    /// Texts that many people share.
    shared: BTreeSet<Arc<str>>,
}

impl Builder {
    /// An empty snapshot. `pin_key` is the key of the database for digests of PINs, which are the only form in which
    /// PINs are kept.
    pub fn new(version: i64, pin_key: &str) -> Self {
        let empty = |version| Directory { version, pin_key: pin_key.into(), ..Directory::default() };
        Self { directory: empty(version), former: empty(version), ..Self::default() }
    }

    /// The same with the random id of a stored version.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.directory.id = id;
        self
    }

    /// Adds one entity. What a pass has left counts as set before its first use.
    pub fn add(&mut self, entity: Entity) {
        self.add_as_of(entity, WallTime::from_millis(0));
    }

    /// Adds one entity. `basis_at` is when the import set what a pass has left.
    pub fn add_as_of(&mut self, entity: Entity, basis_at: WallTime) {
        match entity {
            Entity::Business(business) => {
                let root = business.root_location_id.map(BusinessId);
                let named = Business { name: business.name.into(), root };
                self.directory.businesses.insert(BusinessId(business.id), named);
            }
            Entity::Team(team) => self.add_team(team),
            Entity::Tariff(tariff) => {
                self.directory.tariffs.insert(TariffId(tariff.id), plan(tariff));
            }
            Entity::TimePass(pass) => {
                let pass = self.kind_of_pass(pass);
                self.directory.time_passes.insert(pass.id, Arc::new(pass));
            }
            Entity::Coworker(coworker) => self.add_coworker(*coworker),
            Entity::CoworkerTimePass(pass) => self.add_held(&pass, basis_at),
        }
    }

    fn add_team(&mut self, team: entity::TeamEntity) {
        let name: Arc<str> = team.name.into();
        let id = TeamId(team.id);
        if team.share_time_passes {
            self.sharing.insert(id);
            self.sharers.extend(team.team_members.0.iter().map(|member| (id, CoworkerId(*member))));
        }
        for member in team.team_members.0 {
            self.members.entry(CoworkerId(member)).or_default().push(Arc::clone(&name));
        }
        self.teams.insert(id, name);
    }

    fn add_coworker(&mut self, person: entity::CoworkerEntity) {
        let id = CoworkerId(person.id);
        let claims = if person.archived { &mut self.former } else { &mut self.directory };
        claims.add_credentials(&person, id);
        let teams = team_names(&person, &self.teams, self.members.get(&id).map_or(&[], Vec::as_slice));
        let teams = teams.map(|names| self.share(names));
        let shares = person.teams.0.iter().copied().map(TeamId).filter(|team| self.sharing.contains(team));
        self.sharers.extend(shares.map(|team| (team, id)));
        let tariff_id = person.tariff_id.map(TariffId);
        let tariff = match tariff_id.and_then(|tariff| self.directory.tariffs.get(&tariff)) {
            Some(tariff) => Some(Arc::clone(&tariff.name)),
            None => person.tariff_name.map(|name| self.share(name)),
        };
        let mut businesses: Vec<BusinessId> = person.businesses.0.iter().copied().map(BusinessId).collect();
        businesses.extend(person.invoicing_business_id.map(BusinessId));
        businesses.sort_unstable();
        businesses.dedup();
        self.directory.coworkers.push(Coworker {
            id,
            full_name: person.full_name.into(),
            active: person.active,
            archived: person.archived,
            allow_network_checkin: person.allow_network_checkin,
            teams,
            tariff,
            tariff_id,
            renews: person.renewal_date.or(person.registration_date),
            businesses: businesses.into(),
        });
    }

    fn kind_of_pass(&self, pass: entity::TimePassEntity) -> TimePass {
        TimePass {
            id: TimePassId(pass.id),
            archived: pass.archived,
            minutes: pass.minutes_included,
            price: pass.price.unwrap_or_default(),
            currency: pass.currency_code,
            priority: pass.use_priority,
            counts_towards_plan_limits: pass.counts_towards_plan_limits,
            allow_network_checkin: pass.allow_network_checkin,
            only_for_members: pass.only_for_members,
            only_for_contacts: pass.only_for_contacts,
            tariffs: pass.tariffs.0.iter().copied().map(TariffId).collect(),
            places: self.places(&pass),
            slots: pass.time_slots.iter().map(slot).collect(),
            pay_as_you_go_for_members: pass.use_as_pay_as_you_go_for_members,
            pay_as_you_go_for_contacts: pass.use_as_pay_as_you_go_for_contacts,
            name: pass.name.into(),
        }
    }

    /// Where it is valid: the listed businesses; if there are none, its owner and, if that is the head of a network,
    /// the network's businesses.
    fn places(&self, pass: &entity::TimePassEntity) -> Places {
        let mut list: Vec<BusinessId> = pass.businesses.0.iter().copied().map(BusinessId).collect();
        if list.is_empty() {
            let Some(owner) = pass.business_id.map(BusinessId) else { return Places::Everywhere };
            let below = self.directory.businesses.iter().filter(|(_, business)| business.root == Some(owner));
            list = below.map(|(id, _)| *id).chain([owner]).collect();
        }
        list.sort_unstable();
        list.dedup();
        Places::Only(list.into())
    }

    fn add_held(&mut self, pass: &entity::CoworkerTimePassEntity, basis_at: WallTime) {
        let Some(kind) = self.directory.time_passes.get(&TimePassId(pass.time_pass_id)) else { return };
        // A pass that the platform charged for one visit is not valid for another.
        if pass.is_pay_as_you_go {
            return;
        }
        let granted_by =
            [&pass.tariff_time_pass_unique_id, &pass.coworker_product_unique_id, &pass.coworker_contract_unique_id];
        let (expires, expires_on_date) = PackedMoment::pack(pass.expire_date);
        let (used, used_on_date) = PackedMoment::pack(pass.used_date);
        self.held.push(HeldPass {
            id: CoworkerTimePassId(pass.id),
            guid: pass.unique_id.unwrap_or_else(|| derived_guid(pass.id)),
            holder: CoworkerId(pass.coworker_id),
            price: if pass.free { catalogue::Price(0) } else { pass.price.unwrap_or(kind.price) },
            left: left(pass, kind.minutes),
            kind: Arc::clone(kind),
            basis_at,
            expires,
            used,
            expires_on_date,
            used_on_date,
            granted: pass.is_from_tariff || granted_by.into_iter().flatten().any(|id| !id.is_empty()),
        });
    }

    fn share(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.shared.get(text.as_str()) {
            return Arc::clone(known);
        }
        let text: Arc<str> = text.into();
        self.shared.insert(Arc::clone(&text));
        text
    }

    /// Returns the snapshot.
    pub fn build(mut self) -> Directory {
        let mut directory = self.directory;
        directory.take_in(self.former);
        directory.coworkers.sort_by_key(|coworker| coworker.id);
        directory.coworkers.shrink_to_fit();
        directory.macs.sort_unstable();
        directory.macs.dedup();
        directory.macs.shrink_to_fit();
        self.held.sort_unstable_by_key(|pass| (pass.holder, pass.id));
        directory.held = self.held.into();
        let mut sharing: Vec<(CoworkerId, TeamId)> =
            self.sharers.iter().map(|(team, member)| (*member, *team)).collect();
        sharing.sort_unstable();
        directory.sharing = sharing.into();
        directory.sharers = self.sharers.into_iter().collect();
        directory
    }
}

/// What is left of a pass: days of a day pass, minutes of a time pass. A day pass without any such field is valid for
/// one day.
fn left(pass: &entity::CoworkerTimePassEntity, minutes: Option<u32>) -> u32 {
    let whole = |whole: u32| if pass.used { 0 } else { whole };
    match minutes {
        None => pass.remaining_uses.unwrap_or_else(|| whole(pass.total_uses.unwrap_or(1))),
        Some(minutes) => {
            let counted = pass.remaining_uses.filter(|_| pass.total_uses != Some(1));
            pass.remaining_minutes.or(counted).unwrap_or_else(|| whole(minutes))
        }
    }
}

/// Derives the identity of a pass that was imported without one; it is the same after every import.
pub fn derived_guid(id: i64) -> Uuid {
    let bytes = Uuid::from_u64_pair(0x6368_6563_6b69_6e64, id.cast_unsigned()).into_bytes();
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

fn plan(tariff: entity::TariffEntity) -> Tariff {
    let limit = |limit: Option<u32>| limit.filter(|limit| *limit > 0);
    let cycle = match (limit(tariff.invoice_every_weeks), limit(tariff.invoice_every)) {
        (Some(weeks), _) => Cycle::Weeks(weeks),
        (None, months) => Cycle::Months(months.unwrap_or(1)),
    };
    Tariff {
        days: Limits {
            week: limit(tariff.checkin_week_limit),
            month: limit(tariff.checkin_month_limit),
            cycle: limit(tariff.checkin_price_plan_limit),
        },
        hours: Limits {
            week: limit(tariff.hours_week_limit),
            month: limit(tariff.hours_month_limit),
            cycle: limit(tariff.hours_price_plan_limit),
        },
        cycle,
        name: tariff.name.into(),
    }
}

fn slot(slot: &entity::TimeSlot) -> Slot {
    const DAY: u16 = 1440;
    let from = slot.from_time.minutes;
    // Forms write a minute before midnight for the end of the day.
    let to = if slot.to_time.minutes == DAY - 1 { DAY } else { slot.to_time.minutes };
    let to = if to <= from { to + DAY } else { to };
    Slot { weekday: slot.day_of_week, from, to, utc: slot.from_time.utc }
}

impl Directory {
    /// Adds the credentials of archived people, except those that already have an owner.
    fn take_in(&mut self, former: Self) {
        self.macs.sort_unstable();
        let free = |mac: MacAddr| self.macs.binary_search_by_key(&mac, |(known, _)| *known).is_err();
        let macs: Vec<_> = former.macs.into_iter().filter(|(mac, _)| free(*mac)).collect();
        self.macs.extend(macs);
        for (index, claims) in [
            (&mut self.cards, former.cards),
            (&mut self.spellings, former.spellings),
            (&mut self.pins, former.pins),
            (&mut self.slots, former.slots),
            (&mut self.users, former.users),
            (&mut self.names, former.names),
        ] {
            for (text, claim) in claims {
                index.entry(text).or_insert(claim);
            }
        }
    }

    fn add_credentials(&mut self, person: &entity::CoworkerEntity, id: CoworkerId) {
        for (field, value) in person.credentials() {
            let Some(kind) = field.kind() else {
                self.macs.extend(value.parse().ok().map(|mac| (mac, id)));
                continue;
            };
            let scoped = scoped::key_of_text(kind, value);
            match kind {
                CredentialKind::Card => {
                    claim(&mut self.cards, value.to_lowercase(), id);
                    for spelling in card::spellings_of_card(value) {
                        claim(&mut self.spellings, spelling, id);
                    }
                }
                CredentialKind::Pin => {
                    let known = value.strip_prefix(DIGEST_MARK).map(ToOwned::to_owned);
                    let pin = known.unwrap_or_else(|| pin_digest(value, &self.pin_key));
                    if let Some(email) = &person.email {
                        let of_email = pin_digest(&pin_of_email(email, &pin), &self.pin_key);
                        claim(&mut self.pins, of_email, id);
                    }
                    claim(&mut self.pins, pin, id);
                }
                CredentialKind::Slot => scoped.into_iter().for_each(|key| claim(&mut self.slots, key, id)),
                CredentialKind::User => scoped.into_iter().for_each(|key| claim(&mut self.users, key, id)),
                CredentialKind::Name => scoped.into_iter().for_each(|key| claim(&mut self.names, key, id)),
                CredentialKind::Device => self.macs.extend(value.parse().ok().map(|mac| (mac, id))),
            }
        }
    }
}

fn claim(index: &mut Index, text: impl Into<Box<str>>, id: CoworkerId) {
    index
        .entry(text.into())
        .and_modify(|known| {
            if *known != Holder::One(id) {
                *known = Holder::Several;
            }
        })
        .or_insert(Holder::One(id));
}

/// The team names in the coworker's own record, and the names of teams that list the coworker; each once, in
/// alphabetical order.
fn team_names(
    person: &entity::CoworkerEntity,
    teams: &BTreeMap<TeamId, Arc<str>>,
    member_of: &[Arc<str>],
) -> Option<String> {
    let mut names: Vec<&str> = entity::listed(person.team_names.as_deref()).collect();
    names.extend(person.teams.0.iter().filter_map(|team| teams.get(&TeamId(*team))).map(AsRef::as_ref));
    names.extend(member_of.iter().map(AsRef::as_ref));
    names.sort_unstable();
    names.dedup();
    (!names.is_empty()).then(|| names.join(","))
}
