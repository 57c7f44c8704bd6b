//! PURE. A loaded directory: who a card or device belongs to, and which passes they may use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use uuid::Uuid;

use super::{
    catalogue::{Business, HeldPass, Tariff, TimePass},
    coworker::Coworker,
    pin::{pin_digest, pin_of_email},
    scoped,
};
use crate::base::{
    fact::LONGEST_PIN,
    mac::MacAddr,
    record::{BusinessId, CoworkerId, TariffId, TeamId, TimePassId},
    sighting::{Credential, CredentialKind},
    version::VersionId,
};

/// Everything needed to recognise people, as it was when it was loaded.
#[derive(Debug, Default)]
pub struct Directory {
    /// Increases with every import.
    pub version: i64,
    /// The random id of the import; see [`VersionId`].
    pub(super) id: Uuid,
    pub(super) businesses: BTreeMap<BusinessId, Business>,
    pub(super) tariffs: BTreeMap<TariffId, Tariff>,
    pub(super) time_passes: BTreeMap<TimePassId, Arc<TimePass>>,
    pub(super) coworkers: Vec<Coworker>,
    /// Sorted by holder and number.
    pub(super) held: Box<[HeldPass]>,
    /// The teams whose members share their passes: by member, and by team.
    pub(super) sharing: Box<[(CoworkerId, TeamId)]>,
    pub(super) sharers: Box<[(TeamId, CoworkerId)]>,
    /// Sorted by address; an address that two people have is here twice.
    pub(super) macs: Vec<(MacAddr, CoworkerId)>,
    /// Lower-cased card and fob numbers as the operator wrote them.
    pub(super) cards: Index,
    /// The canonical spelling of each card and fob number.
    pub(super) spellings: Index,
    /// Digests of PINs.
    pub(super) pins: Index,
    /// Slots of locks, user ids and names in controllers, each within its scope ([`scoped::key`]).
    pub(super) slots: Index,
    pub(super) users: Index,
    pub(super) names: Index,
    pub(super) pin_key: Box<str>,
}

pub(super) type Index = BTreeMap<Box<str>, Holder>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    One(CoworkerId),
    Several,
}

/// The owner of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match<'a> {
    /// No one has it.
    NoOne,
    /// This person.
    One(&'a Coworker),
    /// More than one person has it, so it matches no one.
    Several,
}

impl Directory {
    /// The version, with its random id.
    pub const fn version_id(&self) -> VersionId {
        VersionId { number: self.version, id: self.id }
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

    /// Whether any kind of pass exists, even an archived one.
    pub fn knows_passes(&self) -> bool {
        !self.time_passes.is_empty()
    }

    /// The number of passes that people hold.
    pub fn held_passes(&self) -> usize {
        self.held.len()
    }

    /// Every pass that people hold.
    pub fn all_held(&self) -> impl Iterator<Item = &HeldPass> {
        self.held.iter()
    }

    /// Card numbers that could be PINs and belong to one person.
    pub fn short_cards(&self) -> impl Iterator<Item = (CoworkerId, &str)> {
        let short = |text: &str| text.len() <= LONGEST_PIN && text.bytes().all(|byte| byte.is_ascii_digit());
        self.cards.iter().filter(move |(text, _)| short(text)).filter_map(|(text, claim)| match claim {
            Holder::One(id) => Some((*id, text.as_ref())),
            Holder::Several => None,
        })
    }

    /// Whether they are in a team that shares its passes.
    pub fn shares_passes(&self, coworker: CoworkerId) -> bool {
        !run(&self.sharing, |(member, _)| member.cmp(&coworker)).is_empty()
    }

    /// Everyone connected to this person by shared passes: the members of their teams that share passes, the members of
    /// those people's other such teams, and so on.
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

    /// The passes that a person holds.
    pub fn own_passes(&self, holder: CoworkerId) -> impl Iterator<Item = &HeldPass> {
        run(&self.held, |pass| pass.holder.cmp(&holder)).iter()
    }

    /// The key for digests of PINs.
    pub fn pin_key(&self) -> &str {
        &self.pin_key
    }

    /// The PIN credential of a person who shows their e-mail address and their PIN.
    pub fn pin_of_email(&self, email: &str, pin: &str) -> String {
        pin_of_email(email, &pin_digest(pin, &self.pin_key))
    }

    /// A pass that a coworker may use or has used before. Only for the latter are all passes searched.
    pub fn pass(&self, coworker: CoworkerId, guid: Uuid) -> Option<&HeldPass> {
        let is_it = |pass: &&HeldPass| pass.guid == guid;
        self.usable(coworker).find(is_it).or_else(|| self.held.iter().find(is_it))
    }

    /// The passes that a person may use: their own, then those of customers who are in a team with them that shares
    /// passes.
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

    /// The person with this name, ignoring case.
    pub fn by_name(&self, name: &str) -> Match<'_> {
        let name = name.to_lowercase();
        let mut found = self.coworkers.iter().filter(|coworker| coworker.full_name.to_lowercase() == name);
        match (found.next(), found.next()) {
            (Some(coworker), None) => Match::One(coworker),
            (Some(_), Some(_)) => Match::Several,
            (None, _) => Match::NoOne,
        }
    }

    /// The number of people.
    pub fn coworkers(&self) -> usize {
        self.coworkers.len()
    }

    /// Every registered device, ascending.
    pub fn known_macs(&self) -> impl Iterator<Item = MacAddr> {
        self.macs.iter().map(|(mac, _)| *mac)
    }

    /// The owner of a device.
    pub fn by_mac(&self, mac: MacAddr) -> Match<'_> {
        let from = self.macs.partition_point(|(known, _)| *known < mac);
        let mut claims = self.macs.iter().skip(from).take_while(|(known, _)| *known == mac);
        match (claims.next(), claims.next()) {
            (Some((_, id)), None) => self.coworker(*id).map_or(Match::NoOne, Match::One),
            (Some(_), Some(_)) => Match::Several,
            (None, _) => Match::NoOne,
        }
    }

    /// The owner of a credential. Only credentials of the same type are searched. The text that the controller sent is
    /// tried first, then its other spellings in order; the first match decides.
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
            CredentialKind::Device => value.parse().map_or(Match::NoOne, |mac| self.by_mac(mac)),
        }
    }

    /// The owner of a slot, user id or name in the form of an import (`source/door/5`). The text may be any of the
    /// three.
    pub fn by_scoped_text(&self, text: &str) -> Match<'_> {
        let mut found = Match::NoOne;
        for (kind, index) in [
            (CredentialKind::Slot, &self.slots),
            (CredentialKind::User, &self.users),
            (CredentialKind::Name, &self.names),
        ] {
            let claim = scoped::key_of_text(kind, text).and_then(|key| index.get(key.as_str()));
            found = match (found, self.resolve(claim)) {
                (found, Match::NoOne) => found,
                (Match::NoOne, one) => one,
                (Match::One(known), Match::One(other)) if known.id == other.id => found,
                (Match::One(_) | Match::Several, Match::One(_) | Match::Several) => Match::Several,
            };
        }
        found
    }

    fn resolve(&self, claim: Option<&Holder>) -> Match<'_> {
        match claim {
            None => Match::NoOne,
            Some(Holder::Several) => Match::Several,
            Some(Holder::One(id)) => self.coworker(*id).map_or(Match::NoOne, Match::One),
        }
    }
}

/// The part of a sorted list that compares as equal.
fn run<T>(sorted: &[T], compare: impl Fn(&T) -> std::cmp::Ordering) -> &[T] {
    let from = sorted.partition_point(|item| compare(item).is_lt());
    let rest = sorted.get(from..).unwrap_or_default();
    rest.get(..rest.partition_point(|item| compare(item).is_eq())).unwrap_or_default()
}
