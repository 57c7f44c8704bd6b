//! PURE. People, credentials, teams and plans as one immutable snapshot: who does this card or device belong to?
//!
//! Built from entity documents in the API's shape ([`Entity`]); how they come in and out of the database is
//! `directory::import` and `store`.

pub mod entity;
pub mod import;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sha2::{Digest, Sha256};

use crate::{
    mac::MacAddr,
    record::{BusinessId, CoworkerId, Snapshot, TariffId, TeamId},
    sighting::{Credential, CredentialKind},
    source::mqtt::credential,
};
use entity::Entity;

/// Everything that recognises people, as it was when it was loaded.
#[derive(Debug, Default)]
pub struct Directory {
    /// Counts up with every import; a daemon that sees another number loads again.
    pub version: i64,
    businesses: BTreeMap<BusinessId, Arc<str>>,
    coworkers: Vec<Coworker>,
    /// Sorted by address; an address that two people claim stands here twice.
    macs: Vec<(MacAddr, CoworkerId)>,
    /// Lower-cased card and fob numbers as the operator wrote them.
    cards: Index,
    /// The canonical spelling of each card and fob number.
    spellings: Index,
    /// Digests of PINs.
    pins: Index,
    pin_key: Box<str>,
}

type Index = BTreeMap<Box<str>, Claim>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
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
/// memory together. Plans and teams come before the people who refer to them.
#[derive(Debug, Default)]
pub struct Builder {
    directory: Directory,
    /// The credentials of archived people: whoever is archived keeps one only until somebody else has it, because cards
    /// and devices are handed on.
    former: Directory,
    tariffs: BTreeMap<TariffId, Arc<str>>,
    teams: BTreeMap<TeamId, Arc<str>>,
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

    /// Takes in one entity.
    pub fn add(&mut self, entity: Entity) {
        match entity {
            Entity::Business(business) => {
                self.directory.businesses.insert(BusinessId(business.id), business.name.into());
            }
            Entity::Team(team) => self.add_team(team),
            Entity::Tariff(tariff) => {
                self.tariffs.insert(TariffId(tariff.id), tariff.name.into());
            }
            Entity::Coworker(coworker) => self.add_coworker(coworker),
            Entity::TimePass(_) | Entity::CoworkerTimePass(_) => {}
        }
    }

    fn add_team(&mut self, team: entity::Team) {
        let name: Arc<str> = team.name.into();
        for member in team.team_members.0 {
            self.members.entry(CoworkerId(member)).or_default().push(Arc::clone(&name));
        }
        self.teams.insert(TeamId(team.id), name);
    }

    fn add_coworker(&mut self, person: entity::Coworker) {
        let id = CoworkerId(person.id);
        let claims = if person.archived { &mut self.former } else { &mut self.directory };
        claims.add_credentials(&person, id);
        let teams = team_names(&person, &self.teams, self.members.get(&id).map_or(&[], Vec::as_slice));
        let teams = teams.map(|names| self.share(names));
        let tariff = match person.tariff_id.and_then(|tariff| self.tariffs.get(&TariffId(tariff))) {
            Some(name) => Some(Arc::clone(name)),
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
            businesses: businesses.into(),
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
    pub fn build(self) -> Directory {
        let mut directory = self.directory;
        directory.take_in(self.former);
        directory.coworkers.sort_by_key(|coworker| coworker.id);
        directory.coworkers.shrink_to_fit();
        directory.macs.sort_unstable();
        directory.macs.dedup();
        directory.macs.shrink_to_fit();
        directory
    }
}

impl Directory {
    /// Adds claims that give way to those that are there.
    fn take_in(&mut self, former: Self) {
        self.macs.sort_unstable();
        let free = |mac: MacAddr| self.macs.binary_search_by_key(&mac, |(known, _)| *known).is_err();
        let macs: Vec<_> = former.macs.into_iter().filter(|(mac, _)| free(*mac)).collect();
        self.macs.extend(macs);
        for (index, claims) in
            [(&mut self.cards, former.cards), (&mut self.spellings, former.spellings), (&mut self.pins, former.pins)]
        {
            for (text, claim) in claims {
                index.entry(text).or_insert(claim);
            }
        }
    }

    fn add_credentials(&mut self, person: &entity::Coworker, id: CoworkerId) {
        for mac in entity::listed(person.mac_addresses.as_deref()).filter_map(|mac| mac.parse().ok()) {
            self.macs.push((mac, id));
        }
        for card in
            entity::listed(person.access_card_id.as_deref()).chain(entity::listed(person.key_fob_number.as_deref()))
        {
            claim(&mut self.cards, card.to_lowercase(), id);
            for spelling in credential::spellings_of_card(card) {
                claim(&mut self.spellings, spelling, id);
            }
        }
        for pin in entity::listed(person.access_pincode.as_deref()) {
            let digest =
                pin.strip_prefix(import::DIGEST_MARK).map_or_else(|| pin_digest(pin, &self.pin_key), ToOwned::to_owned);
            claim(&mut self.pins, digest, id);
        }
    }

    /// The name of a business.
    pub fn business(&self, id: BusinessId) -> Option<&str> {
        self.businesses.get(&id).map(AsRef::as_ref)
    }

    /// One person.
    pub fn coworker(&self, id: CoworkerId) -> Option<&Coworker> {
        let at = self.coworkers.binary_search_by_key(&id, |coworker| coworker.id).ok()?;
        self.coworkers.get(at)
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

    /// Whose credential is this? The text as the controller sent it is tried first, then its other spellings in their
    /// order; the first that anybody has decides.
    pub fn by_credential(&self, credential: &Credential) -> Match<'_> {
        match credential.kind {
            CredentialKind::Card | CredentialKind::Slot | CredentialKind::User | CredentialKind::Name => {
                let exact = self.cards.get(credential.value.to_lowercase().as_str());
                let other = || credential.spellings.iter().find_map(|spelling| self.spellings.get(spelling.as_str()));
                self.resolve(exact.or_else(other))
            }
            CredentialKind::Pin => self.resolve(self.pins.get(pin_digest(&credential.value, &self.pin_key).as_str())),
        }
    }

    fn resolve(&self, claim: Option<&Claim>) -> Match<'_> {
        match claim {
            None => Match::Nobody,
            Some(Claim::Several) => Match::Several,
            Some(Claim::One(id)) => self.coworker(*id).map_or(Match::Nobody, Match::One),
        }
    }
}

fn claim(index: &mut Index, text: impl Into<Box<str>>, id: CoworkerId) {
    index
        .entry(text.into())
        .and_modify(|known| {
            if *known != Claim::One(id) {
                *known = Claim::Several;
            }
        })
        .or_insert(Claim::One(id));
}

/// Team names as the coworker's own record lists them, with those teams that list the coworker; each once, in the
/// alphabet's order.
fn team_names(person: &entity::Coworker, teams: &BTreeMap<TeamId, Arc<str>>, member_of: &[Arc<str>]) -> Option<String> {
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
