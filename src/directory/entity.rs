//! PURE. The directory's entities in the shape of the platform's API: what an import file holds.
//!
//! Only the fields that we use are named; the document is stored whole, so that nothing of it is lost.

use serde::{Deserialize, Deserializer};

/// One entity of an import.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are coworkers, the largest")]
pub enum Entity {
    /// `Businesses`.
    Business(Business),
    /// `Teams`.
    Team(Team),
    /// `Tariffs`.
    Tariff(Tariff),
    /// `TimePasses`; stored, their rules come with admission by passes.
    TimePass(TimePass),
    /// `Coworkers`.
    Coworker(Coworker),
    /// `CoworkerTimePasses`; stored, their rules come with admission by passes.
    CoworkerTimePass(CoworkerTimePass),
}

/// Which kind of entity: the arrays of an import file, in the order in which they refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EntityKind {
    /// `Businesses`.
    Business,
    /// `Teams`.
    Team,
    /// `Tariffs`.
    Tariff,
    /// `TimePasses`.
    TimePass,
    /// `Coworkers`.
    Coworker,
    /// `CoworkerTimePasses`.
    CoworkerTimePass,
}

impl EntityKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Business, Self::Team, Self::Tariff, Self::TimePass, Self::Coworker, Self::CoworkerTimePass];

    /// The array's name in an import file.
    pub const fn array(self) -> &'static str {
        match self {
            Self::Business => "Businesses",
            Self::Team => "Teams",
            Self::Tariff => "Tariffs",
            Self::TimePass => "TimePasses",
            Self::Coworker => "Coworkers",
            Self::CoworkerTimePass => "CoworkerTimePasses",
        }
    }

    /// The word that the database stores.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Team => "team",
            Self::Tariff => "tariff",
            Self::TimePass => "time_pass",
            Self::Coworker => "coworker",
            Self::CoworkerTimePass => "coworker_time_pass",
        }
    }

    /// From the database's word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    /// Reads a document of this kind, from a value or from text.
    ///
    /// # Errors
    /// Says which field is missing or has a wrong type.
    pub fn read<'de, D: Deserializer<'de>>(self, document: D) -> Result<Entity, D::Error> {
        Ok(match self {
            Self::Business => Entity::Business(Business::deserialize(document)?),
            Self::Team => Entity::Team(Team::deserialize(document)?),
            Self::Tariff => Entity::Tariff(Tariff::deserialize(document)?),
            Self::TimePass => Entity::TimePass(TimePass::deserialize(document)?),
            Self::Coworker => Entity::Coworker(Coworker::deserialize(document)?),
            Self::CoworkerTimePass => Entity::CoworkerTimePass(CoworkerTimePass::deserialize(document)?),
        })
    }

    /// Reads the text of a document of this kind.
    ///
    /// # Errors
    /// No JSON, or which field is missing or has a wrong type.
    pub fn read_text(self, document: &str) -> Result<Entity, serde_json::Error> {
        let mut text = serde_json::Deserializer::from_str(document);
        let entity = self.read(&mut text)?;
        text.end()?;
        Ok(entity)
    }

    /// One entity of it, for people: `coworker`.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Business => "business",
            Self::Team => "team",
            Self::Tariff => "plan",
            Self::TimePass => "kind of pass",
            Self::Coworker => "coworker",
            Self::CoworkerTimePass => "pass",
        }
    }
}

/// A location.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Business {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
}

/// A team of coworkers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Team {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
    /// `TeamMembers`: ids of coworkers, or objects that have one.
    #[serde(default)]
    pub team_members: Ids,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tariff {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
}

/// A kind of pass.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TimePass {
    /// `Id`.
    pub id: i64,
    /// `Name`.
    pub name: String,
}

/// A pass that somebody holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CoworkerTimePass {
    /// `Id`.
    pub id: i64,
    /// `CoworkerId`.
    pub coworker_id: i64,
    /// `TimePassId`.
    pub time_pass_id: i64,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Coworker {
    /// `Id`.
    pub id: i64,
    /// `FullName`.
    pub full_name: String,
    /// `Active`; true when absent.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub active: bool,
    /// `Archived`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub archived: bool,
    /// `AllowNetworkCheckin`; true when absent, because whoever registers a device wants it to count.
    #[serde(default = "yes", deserialize_with = "null_is_yes")]
    pub allow_network_checkin: bool,
    /// `AccessCardId`: card numbers, separated by `,`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub access_card_id: Option<String>,
    /// `KeyFobNumber`: fob numbers, separated by `,`.
    #[serde(default, deserialize_with = "text_or_number")]
    pub key_fob_number: Option<String>,
    /// `AccessPincode`: PINs, separated by `,`; stored as digests only.
    #[serde(default, deserialize_with = "text_or_number")]
    pub access_pincode: Option<String>,
    /// `MacAddresses` (our addition): devices, separated by `,`.
    #[serde(default)]
    pub mac_addresses: Option<String>,
    /// `TariffId`.
    #[serde(default)]
    pub tariff_id: Option<i64>,
    /// `TariffName`, used when `TariffId` names no known plan.
    #[serde(default)]
    pub tariff_name: Option<String>,
    /// `TeamNames`: separated by `,`.
    #[serde(default)]
    pub team_names: Option<String>,
    /// `Teams`: ids, or objects that have one.
    #[serde(default)]
    pub teams: Ids,
    /// `Businesses`: ids, or objects that have one; empty for the whole network.
    #[serde(default)]
    pub businesses: Ids,
    /// `InvoicingBusinessId`.
    #[serde(default)]
    pub invoicing_business_id: Option<i64>,
}

/// A list of references: `[1, 2]`, `[{"Id": 1}]` or null.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids(pub Vec<i64>);

impl<'de> Deserialize<'de> for Ids {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "an id, or an object with an Id")]
        enum Reference {
            Id(i64),
            Object {
                #[serde(rename = "Id")]
                id: i64,
            },
        }
        let list = Option::<Vec<Reference>>::deserialize(deserializer)?.unwrap_or_default();
        let id = |reference| match reference {
            Reference::Id(id) | Reference::Object { id } => id,
        };
        Ok(Self(list.into_iter().map(id).collect()))
    }
}

/// The values of a `,`-separated field, trimmed, empty ones left out.
pub fn listed(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|value| !value.is_empty())
}

fn yes() -> bool {
    true
}

fn null_is_yes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(|value| value.unwrap_or(true))
}

fn null_is_default<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Card numbers are often exported as numbers; their text is what counts.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a number")]
    enum Either {
        Text(String),
        Number(serde_json::Number),
    }
    let text = |either| match either {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    };
    Ok(Option::<Either>::deserialize(deserializer)?.map(text))
}
