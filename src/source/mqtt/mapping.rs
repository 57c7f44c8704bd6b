//! PURE. Topic and payload to sightings, by rules that are data (`reference/doors.md` 6.2).

use serde::Deserialize;

/// One `[[source]]` as written; everything a preset gives may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingFragment {
    /// The source's name.
    pub name: String,
}

/// A fault of one `[[source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFault {
    /// The keys that lead to the value inside the `[[source]]` table, arrays by index (`["rule", "2", "kind"]`).
    pub path: Vec<String>,
    /// What is wrong with it and what would be right.
    pub message: String,
}

/// A compiled `[[source]]`.
#[derive(Debug)]
pub struct Mapping {
    /// The source's name.
    pub name: std::sync::Arc<str>,
}

impl Mapping {
    /// Puts the fragment on top of its preset and checks every part; all faults at once.
    pub fn compile(fragment: &MappingFragment) -> Result<Self, Vec<MappingFault>> {
        Ok(Self { name: fragment.name.as_str().into() })
    }
}
