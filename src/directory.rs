//! PURE. People, credentials, teams and plans as one immutable snapshot: who does this card or device belong to?
//!
//! Built from entity documents in the API's shape ([`Entity`]); how they come in and out of the database is
//! `directory::import` and `store`.

pub mod catalogue;
pub mod entity;
pub mod history;
pub mod import;
pub mod scoped;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::base::{
    card,
    clock::WallTime,
    fact::LONGEST_PIN,
    mac::MacAddr,
    record::{BusinessId, CoworkerId, CoworkerTimePassId, Snapshot, TariffId, TeamId, TimePassId},
    sighting::{Credential, CredentialKind},
};
use catalogue::{Business, Cycle, HeldPass, Limits, Moment, Packed, Places, Slot, Tariff, TimePass};
use entity::Entity;

/// Everything that recognises people, as it was when it was loaded.
#[derive(Debug, Default)]
pub struct Directory {
    /// Counts up with every import; a daemon that sees another number loads again.
    pub version: i64,
    businesses: BTreeMap<BusinessId, Business>,
    tariffs: BTreeMap<TariffId, Tariff>,
    time_passes: BTreeMap<TimePassId, Arc<TimePass>>,
    coworkers: Vec<Coworker>,
    /// Sorted by holder and number.
    held: Box<[HeldPass]>,
    /// The teams whose members share their passes: by member, and by team.
    sharing: Box<[(CoworkerId, TeamId)]>,
    sharers: Box<[(TeamId, CoworkerId)]>,
    /// Sorted by address; an address that two people claim stands here twice.
    macs: Vec<(MacAddr, CoworkerId)>,
    /// Lower-cased card and fob numbers as the operator wrote them.
    cards: Index,
    /// The canonical spelling of each card and fob number.
    spellings: Index,
    /// Digests of PINs.
    pins: Index,
    /// Slots of locks, user ids and names of controllers, each inside its scope ([`scoped::key`]).
    slots: Index,
    users: Index,
    names: Index,
    pin_key: Box<str>,
}

type Index = BTreeMap<Box<str>, Holder>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    One(CoworkerId),
    Several,
}

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

/// Whom a credential belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// Nobody has it.
    Nobody,
    /// This person.
    One(&'a Coworker),
    /// More than one person claims it; nobody is guessed.
    Several,
}

/// A snapshot in the making: one entity after the other, so that the documents of a large directory need not stand in
/// memory together. What is referred to comes first: businesses, plans and teams, then kinds of passes, people, passes.
#[derive(Debug, Default)]
pub struct Builder {
    directory: Directory,
    /// The credentials of archived people: whoever is archived keeps one only until somebody else has it, because cards
    /// and devices are handed on.
    former: Directory,
    teams: BTreeMap<TeamId, Arc<str>>,
    held: Vec<HeldPass>,
    /// The teams that share passes, and who is in them.
    sharing: BTreeSet<TeamId>,
    sharers: BTreeSet<(TeamId, CoworkerId)>,
    members: BTreeMap<CoworkerId, Vec<Arc<str>>>,
    /// Texts that many people share.
    shared: BTreeSet<Arc<str>>,
}

impl Builder {
    /// Nobody yet; `pin_key` is the database's own key, so that PINs are kept as digests only.
    pub fn new(version: i64, pin_key: &str) -> Self {
        let nobody = |version| Directory { version, pin_key: pin_key.into(), ..Directory::default() };
        Self { directory: nobody(version), former: nobody(version), ..Self::default() }
    }

    /// Takes in one entity. Whatever a pass has left was said before its first use.
    pub fn add(&mut self, entity: Entity) {
        self.add_as_of(entity, WallTime::from_millis(0));
    }

    /// Takes in one entity; `basis_at` is when it was said how much of a pass was left.
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
            Entity::Coworker(coworker) => self.add_coworker(coworker),
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

    /// Where it is good: the listed businesses, else where its owner is, and where that one is the head of the network.
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
        // What the platform charged for a visit is no pass for another one.
        if pass.is_pay_as_you_go {
            return;
        }
        let granted_by =
            [&pass.tariff_time_pass_unique_id, &pass.coworker_product_unique_id, &pass.coworker_contract_unique_id];
        let (expires, expires_on_date) = Packed::pack(pass.expire_date);
        let (used, used_on_date) = Packed::pack(pass.used_date);
        self.held.push(HeldPass {
            id: CoworkerTimePassId(pass.id),
            guid: pass.unique_id.unwrap_or_else(|| made_of(pass.id)),
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

    /// The snapshot.
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

/// What is left of a pass: days of a day pass, minutes of a time pass. A day pass that says nothing is good for a day.
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

/// The identity of a pass that was imported without one: the same after every import.
fn made_of(id: i64) -> Uuid {
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
    // A minute before midnight is how forms write the end of the day.
    let to = if slot.to_time.minutes == DAY - 1 { DAY } else { slot.to_time.minutes };
    let to = if to <= from { to + DAY } else { to };
    Slot { weekday: slot.day_of_week, from, to, utc: slot.from_time.utc }
}

impl Directory {
    /// Adds claims that give way to those that are there.
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
                    let known = value.strip_prefix(import::DIGEST_MARK).map(ToOwned::to_owned);
                    claim(&mut self.pins, known.unwrap_or_else(|| pin_digest(value, &self.pin_key)), id);
                }
                CredentialKind::Slot => scoped.into_iter().for_each(|key| claim(&mut self.slots, key, id)),
                CredentialKind::User => scoped.into_iter().for_each(|key| claim(&mut self.users, key, id)),
                CredentialKind::Name => scoped.into_iter().for_each(|key| claim(&mut self.names, key, id)),
            }
        }
    }

    /// The name of a business.
    pub fn business(&self, id: BusinessId) -> Option<&str> {
        self.businesses.get(&id).map(|business| business.name.as_ref())
    }

    /// A plan.
    pub fn tariff(&self, id: TariffId) -> Option<&Tariff> {
        self.tariffs.get(&id)
    }

    /// A kind of pass.
    pub fn time_pass(&self, id: TimePassId) -> Option<&TimePass> {
        self.time_passes.get(&id).map(AsRef::as_ref)
    }

    /// Every kind of pass, by number.
    pub fn time_passes(&self) -> impl Iterator<Item = &TimePass> {
        self.time_passes.values().map(AsRef::as_ref)
    }

    /// Is there any kind of pass, be it an archived one?
    pub fn knows_passes(&self) -> bool {
        !self.time_passes.is_empty()
    }

    /// How many passes people hold.
    pub fn held_passes(&self) -> usize {
        self.held.len()
    }

    /// Every pass that somebody holds.
    pub fn all_held(&self) -> impl Iterator<Item = &HeldPass> {
        self.held.iter()
    }

    /// The numbers of people's cards that may be PINs, where they are one person's.
    pub fn short_cards(&self) -> impl Iterator<Item = (CoworkerId, &str)> {
        let short = |text: &str| text.len() <= LONGEST_PIN && text.bytes().all(|byte| byte.is_ascii_digit());
        self.cards.iter().filter(move |(text, _)| short(text)).filter_map(|(text, claim)| match claim {
            Holder::One(id) => Some((*id, text.as_ref())),
            Holder::Several => None,
        })
    }

    /// Are they in a team that shares its passes?
    pub fn shares_passes(&self, coworker: CoworkerId) -> bool {
        !run(&self.sharing, |(member, _)| member.cmp(&coworker)).is_empty()
    }

    /// Everybody who may use a pass that this person may use, and so on: the people of the teams that share passes, of their
    /// other such teams, and so on.
    pub fn who_share_passes_with(&self, coworker: CoworkerId) -> BTreeSet<CoworkerId> {
        let mut people = BTreeSet::from([coworker]);
        let mut teams = BTreeSet::new();
        let mut left = vec![coworker];
        while let Some(member) = left.pop() {
            for (_, team) in run(&self.sharing, |(known, _)| known.cmp(&member)) {
                if teams.insert(*team) {
                    let members = run(&self.sharers, |(of, _)| of.cmp(team)).iter().map(|(_, member)| *member);
                    left.extend(members.filter(|member| people.insert(*member)));
                }
            }
        }
        people
    }

    /// The passes that somebody holds.
    pub fn own_passes(&self, holder: CoworkerId) -> impl Iterator<Item = &HeldPass> {
        run(&self.held, |pass| pass.holder.cmp(&holder)).iter()
    }

    /// The key that PINs are digested with.
    pub fn pin_key(&self) -> &str {
        &self.pin_key
    }

    /// A pass that a coworker may use, or another's that they used before; only then are all passes looked through.
    pub fn pass(&self, coworker: CoworkerId, guid: uuid::Uuid) -> Option<&HeldPass> {
        let is_it = |pass: &&HeldPass| pass.guid == guid;
        self.usable(coworker).find(is_it).or_else(|| self.held.iter().find(is_it))
    }

    /// The passes that somebody may use: their own, then those of people who are customers and share a team with them
    /// that shares passes.
    pub fn usable(&self, coworker: CoworkerId) -> impl Iterator<Item = &HeldPass> {
        let others: BTreeSet<CoworkerId> = run(&self.sharing, |(member, _)| member.cmp(&coworker))
            .iter()
            .flat_map(|(_, team)| run(&self.sharers, |(of, _)| of.cmp(team)))
            .map(|(_, member)| *member)
            .filter(|member| *member != coworker && self.coworker(*member).is_some_and(Coworker::is_customer))
            .collect();
        [coworker].into_iter().chain(others).flat_map(|holder| run(&self.held, |pass| pass.holder.cmp(&holder)))
    }

    /// One person.
    pub fn coworker(&self, id: CoworkerId) -> Option<&Coworker> {
        let at = self.coworkers.binary_search_by_key(&id, |coworker| coworker.id).ok()?;
        self.coworkers.get(at)
    }

    /// Who has this name, whatever its capitals.
    pub fn by_name(&self, name: &str) -> Match<'_> {
        let name = name.to_lowercase();
        let mut found = self.coworkers.iter().filter(|coworker| coworker.full_name.to_lowercase() == name);
        match (found.next(), found.next()) {
            (Some(coworker), None) => Match::One(coworker),
            (Some(_), Some(_)) => Match::Several,
            (None, _) => Match::Nobody,
        }
    }

    /// How many people there are.
    pub fn coworkers(&self) -> usize {
        self.coworkers.len()
    }

    /// Every device that somebody has registered, ascending.
    pub fn known_macs(&self) -> impl Iterator<Item = MacAddr> {
        self.macs.iter().map(|(mac, _)| *mac)
    }

    /// Whose device is this?
    pub fn by_mac(&self, mac: MacAddr) -> Match<'_> {
        let from = self.macs.partition_point(|(known, _)| *known < mac);
        let mut claims = self.macs.iter().skip(from).take_while(|(known, _)| *known == mac);
        match (claims.next(), claims.next()) {
            (Some((_, id)), None) => self.coworker(*id).map_or(Match::Nobody, Match::One),
            (Some(_), Some(_)) => Match::Several,
            (None, _) => Match::Nobody,
        }
    }

    /// Whose credential is this? Only one of its own type is looked at. The text as the controller sent it is tried first,
    /// then its other spellings in their order; the first that anybody has decides.
    pub fn by_credential(&self, credential: &Credential) -> Match<'_> {
        let Credential { kind, scope, value, spellings } = credential;
        let scoped = |index: &Index| {
            let mut keys = [value].into_iter().chain(spellings);
            let found = keys.find_map(|text| index.get(scoped::key(*kind, scope.as_deref(), text)?.as_str()).copied());
            self.resolve(found.as_ref())
        };
        match kind {
            CredentialKind::Card => {
                let exact = self.cards.get(value.to_lowercase().as_str());
                let other = || spellings.iter().find_map(|spelling| self.spellings.get(spelling.as_str()));
                self.resolve(exact.or_else(other))
            }
            CredentialKind::Pin => self.resolve(self.pins.get(pin_digest(value, &self.pin_key).as_str())),
            CredentialKind::Slot => scoped(&self.slots),
            CredentialKind::User => scoped(&self.users),
            CredentialKind::Name => scoped(&self.names),
        }
    }

    /// Whose slot, user id or name is this, as an import writes it (`source/door/5`)? A text may be all three.
    pub fn by_scoped_text(&self, text: &str) -> Match<'_> {
        let mut found = Match::Nobody;
        for (kind, index) in [
            (CredentialKind::Slot, &self.slots),
            (CredentialKind::User, &self.users),
            (CredentialKind::Name, &self.names),
        ] {
            let claim = scoped::key_of_text(kind, text).and_then(|key| index.get(key.as_str()));
            found = match (found, self.resolve(claim)) {
                (found, Match::Nobody) => found,
                (Match::Nobody, one) => one,
                (Match::One(known), Match::One(other)) if known.id == other.id => found,
                (Match::One(_) | Match::Several, Match::One(_) | Match::Several) => Match::Several,
            };
        }
        found
    }

    fn resolve(&self, claim: Option<&Holder>) -> Match<'_> {
        match claim {
            None => Match::Nobody,
            Some(Holder::Several) => Match::Several,
            Some(Holder::One(id)) => self.coworker(*id).map_or(Match::Nobody, Match::One),
        }
    }
}

/// The part of a sorted list that compares as equal.
fn run<T>(sorted: &[T], compare: impl Fn(&T) -> std::cmp::Ordering) -> &[T] {
    let from = sorted.partition_point(|item| compare(item).is_lt());
    let rest = sorted.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|item| compare(item).is_eq())).unwrap_or_default()
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

/// Team names as the coworker's own record lists them, with those teams that list the coworker; each once, in the
/// alphabet's order.
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

/// A PIN as it is kept: short numbers are tried through in a moment, so this hides them from a reader of the database,
/// not from somebody who has the key beside it.
pub(crate) fn pin_digest(pin: &str, key: &str) -> String {
    let digest =
        Sha256::new().chain_update(key.as_bytes()).chain_update(b"/pin/").chain_update(pin.as_bytes()).finalize();
    format!("{:032x}", digest.iter().take(16).fold(0u128, |number, byte| number << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(json: &str) -> Directory {
        let import = import::read_json(json, "key").expect("imports");
        let mut builder = Builder::new(1, "key");
        for document in import.documents {
            builder.add(document.kind.read_text(&document.body).expect("reads"));
        }
        builder.build()
    }

    fn card(value: &str, spellings: &[&str]) -> Credential {
        Credential {
            kind: CredentialKind::Card,
            scope: None,
            value: value.to_owned(),
            spellings: spellings.iter().map(|&spelling| spelling.to_owned()).collect(),
        }
    }

    fn name(found: Match<'_>) -> &str {
        match found {
            Match::Nobody => "nobody",
            Match::One(coworker) => &coworker.full_name,
            Match::Several => "several",
        }
    }

    const SITE: &str = r#"{
        "Businesses": [{"Id": 1, "Name": "Hub One"}],
        "Tariffs": [{"Id": 5, "Name": "Full time"}],
        "Teams": [{"Id": 8, "Name": "Rocket", "TeamMembers": [1]}, {"Id": 9, "Name": "Anvil"}],
        "Coworkers": [
            {"Id": 2, "FullName": "Bob", "AccessCardId": "85CCC7, DEAD01", "AccessPincode": "4711", "Businesses": [{"Id": 1}]},
            {"Id": 1, "FullName": "Ada", "AccessCardId": "8165538", "KeyFobNumber": 99, "TariffId": 5, "Teams": [9],
             "MacAddresses": "3c:22:fb:00:00:01,3c:22:fb:00:00:02"},
            {"Id": 3, "FullName": "Eve", "AccessCardId": "dead01", "MacAddresses": "3c:22:fb:00:00:02", "InvoicingBusinessId": 4}
        ]
    }"#;

    #[test]
    fn a_card_is_found_as_written_then_by_its_other_spellings() {
        let site = directory(SITE);
        assert_eq!(name(site.by_credential(&card("8165538", &[]))), "Ada");
        assert_eq!(name(site.by_credential(&card("85ccc7", &[]))), "Bob");
        assert_eq!(name(site.by_credential(&card("8768711", &["#85ccc7"]))), "Bob");
        assert_eq!(name(site.by_credential(&card("99", &[]))), "Ada");
        assert_eq!(name(site.by_credential(&card("1", &["#1"]))), "nobody");
    }

    #[test]
    fn nobody_is_guessed_when_two_people_claim_the_same() {
        let site = directory(SITE);
        assert_eq!(name(site.by_credential(&card("DEAD01", &[]))), "several");
        assert_eq!(name(site.by_mac("3c:22:fb:00:00:02".parse().expect("mac"))), "several");
        assert_eq!(name(site.by_mac("3c:22:fb:00:00:01".parse().expect("mac"))), "Ada");
        assert_eq!(name(site.by_mac("3c:22:fb:00:00:03".parse().expect("mac"))), "nobody");
    }

    #[test]
    fn a_pin_is_found_by_its_digest() {
        let site = directory(SITE);
        let pin = Credential { kind: CredentialKind::Pin, ..card("4711", &[]) };
        assert_eq!(name(site.by_credential(&pin)), "Bob");
    }

    #[test]
    fn a_type_never_matches_another_and_a_slot_only_in_its_scope() {
        use CredentialKind::{Card, Name, Pin, Slot, User};
        let people = r#"[
            {"Id": 1, "FullName": "Ada", "Slots": "locks/back/3, locks/back/04", "AccessPincode": "5"},
            {"Id": 2, "FullName": "Bob", "Slots": "locks/front/3", "AccessNames": "cam/Bob", "AccessUsers": "cam/5"},
            {"Id": 3, "FullName": "Eve", "KeyFobNumber": "5", "AccessCardId": "cam/bob", "ByHand": {"Slots": "safe/1"}},
            {"Id": 4, "FullName": "Dan", "Slots": "locks/front/7", "AccessNames": "locks/front/7"},
            {"Id": 5, "FullName": "Fay", "AccessUsers": "locks/front/7", "Slots": "locks/side/1"},
            {"Id": 6, "FullName": "Gus", "Slots": "locks/side/01"},
            {"Id": 7, "FullName": "Old", "Slots": "locks/front/3,locks/old/1", "Archived": true}
        ]"#;
        let mut builder = Builder::new(1, "key");
        for person in serde_json::from_str::<Vec<serde_json::Value>>(people).expect("JSON") {
            builder.add(entity::EntityKind::Coworker.read(person).expect("reads"));
        }
        let site = builder.build();
        let owner = |kind, scope: &str, value: &str| {
            let scope = (!scope.is_empty()).then(|| scope.to_owned());
            name(site.by_credential(&Credential { kind, scope, ..card(value, &[]) }))
        };
        for (kind, scope, value, expected) in [
            (Slot, "locks/back", "3", "Ada"),
            (Slot, "locks/back", "4", "Ada"),
            (Slot, "locks/front", "03", "Bob"),
            (Slot, "locks", "3", "nobody"),
            (Slot, "locks/front", "5", "nobody"),
            (Slot, "", "5", "nobody"),
            (Slot, "safe", "1", "Eve"),
            (Slot, "locks/side", "1", "several"),
            (Slot, "locks/old", "1", "Old"),
            (Card, "", "5", "Eve"),
            (Card, "cam", "5", "Eve"),
            (Card, "", "3", "nobody"),
            (Card, "locks/back", "3", "nobody"),
            (Pin, "keypad", "5", "Ada"),
            (User, "cam", "5", "Bob"),
            (User, "door", "5", "nobody"),
            (Name, "cam", "BOB", "Bob"),
            (Name, "door", "Bob", "nobody"),
            (User, "cam", "Bob", "nobody"),
        ] {
            assert_eq!(owner(kind, scope, value), expected, "{kind:?} {scope} {value}");
        }
        let written = ["locks/back/3", "cam/bob", "cam/5", "locks/front/7", "5", "locks/side/1"];
        let found = written.map(|text| name(site.by_scoped_text(text)));
        assert_eq!(found, ["Ada", "Bob", "Bob", "several", "nobody", "several"]);
    }

    #[test]
    fn what_a_record_keeps_of_a_person_is_joined_here() {
        let site = directory(SITE);
        let ada = site.coworker(CoworkerId(1)).expect("Ada");
        assert_eq!(ada.snapshot().teams.as_deref(), Some("Anvil,Rocket"));
        assert_eq!(ada.snapshot().tariff.as_deref(), Some("Full time"));
        assert!(ada.belongs_to(BusinessId(1)) && ada.belongs_to(BusinessId(77)), "of the whole network");
        let bob = site.coworker(CoworkerId(2)).expect("Bob");
        assert!(bob.belongs_to(BusinessId(1)) && !bob.belongs_to(BusinessId(4)));
        assert_eq!(site.business(BusinessId(1)), Some("Hub One"));
    }
}
