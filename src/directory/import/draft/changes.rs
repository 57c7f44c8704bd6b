//! PURE. How an import changes the directory, and what happens to entities that its files omit.

use serde::Serialize;

use crate::directory::{entity::EntityKind, import::Document};

/// What happens to stored entities that the files omit, if the files contain others of their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// They stay.
    #[default]
    No,
    /// They are archived, unless that would be more than a tenth of the people: then the files are probably only part
    /// of an export.
    Tenth,
    /// They are archived, however many there are.
    All,
}

/// How an import changes the directory.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Changes {
    /// The documents to write.
    #[serde(skip)]
    pub documents: Vec<Document>,
    /// New entities.
    pub added: Vec<EntityChange>,
    /// Entities with another value in some field.
    pub changed: Vec<EntityChange>,
    /// Entities that the files no longer contain.
    pub archived: Vec<EntityChange>,
    /// How many entities in the files are already stored unchanged.
    pub unchanged: usize,
    /// How many people lose a card, fob, PIN, device, slot, user id or name.
    pub people_losing_credentials: usize,
    /// How many people `--replace` would archive, out of how many, if that is more than a tenth and `--replace=all` was
    /// not given.
    #[serde(skip)]
    pub asks_for_all: Option<(usize, usize)>,
    /// Oddities that are not faults, each with its path.
    pub warnings: Vec<String>,
}

/// One changed entity. It shows no value but the name, because credentials are private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EntityChange {
    /// The list that it belongs to.
    #[serde(serialize_with = "array")]
    pub kind: EntityKind,
    /// Its `Id`.
    pub id: i64,
    /// `FullName` or `Name`.
    pub name: Option<String>,
    /// The names of the fields that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// They no longer have one of their earlier credentials.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub loses_credential: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn array<S: serde::Serializer>(kind: &EntityKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.array())
}
