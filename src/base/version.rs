//! PURE. Which version of the directory or of the settings something is.

use uuid::Uuid;

/// One version. After the database has been restored, another version may get the same number; the ids differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VersionId {
    /// Counts the versions.
    pub number: i64,
    /// Random. Zero for a version that was never stored.
    pub id: Uuid,
}

impl VersionId {
    /// A stored version. An id that is no UUID counts as zero: then only the numbers are compared.
    pub fn read(number: i64, id: &str) -> Self {
        Self { number, id: Uuid::parse_str(id).unwrap_or_default() }
    }
}
