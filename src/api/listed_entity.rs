//! PURE. The entities of the API, and how clients name their fields.

use crate::{
    base::{
        clock::WallTime,
        listing::{CHARGE_FIELDS, CHECKIN_FIELDS, FAILED_CHECKIN_FIELDS, FieldTest, ListedField},
    },
    policy::LATEST,
};

/// An entity: by which fields lists are filtered and sorted by.
#[derive(Debug)]
pub(super) struct ListedEntity {
    /// What the names of its filters begin with, in lower case.
    pub(super) prefix: &'static str,
    fields: &'static [ListedField],
    /// The column that lists are sorted by unless asked otherwise.
    sorted_by: &'static str,
    /// What is no field, but follows from one.
    flags: &'static [Flag],
}

/// Something that is true or false of a record and follows from a field of it.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its key in the API.
    name: &'static str,
    /// The column of the field.
    column: &'static str,
    /// What the field must be for the flag to be true, or not; the time is now.
    test: fn(bool, WallTime) -> FieldTest,
}

/// `Checkin`.
pub(super) static CHECKIN: ListedEntity =
    ListedEntity { prefix: "checkin_", fields: CHECKIN_FIELDS, sorted_by: "from_time", flags: &[] };

/// `FailedCheckin`.
pub(super) static FAILED_CHECKIN: ListedEntity = ListedEntity {
    prefix: "failedcheckin_",
    fields: FAILED_CHECKIN_FIELDS,
    sorted_by: "checkin_attempt_time",
    flags: &[],
};

/// `CoworkerCharge`.
pub(super) static COWORKER_CHARGE: ListedEntity = ListedEntity {
    prefix: "coworkercharge_",
    fields: CHARGE_FIELDS,
    sorted_by: "from_time",
    flags: &[
        Flag {
            name: "Final",
            column: "to_time",
            test: |is_so, _| if is_so { FieldTest::NotNull } else { FieldTest::Null },
        },
        Flag {
            name: "Settled",
            column: "to_time",
            test: |is_so, now| {
                let before = settled_before(now);
                if is_so { FieldTest::Before(before) } else { FieldTest::NotBefore(before) }
            },
        },
    ],
};

/// A visit that ended before this can no longer change: a fact that comes later decides nothing.
pub(super) fn settled_before(now: WallTime) -> WallTime {
    now.minus(LATEST)
}

impl ListedEntity {
    /// The field of this name: its key in the API, in any case and with or without underscores. A reference has a short
    /// name (`Coworker` for `CoworkerId`) and one for its text (`Coworker_FullName`).
    pub(super) fn field(&self, name: &str) -> Option<&'static ListedField> {
        self.fields.iter().find(|field| is_named(field.column, name))
    }

    /// The field and the test of a flag with this name.
    pub(super) fn flag(&self, name: &str, is_so: bool, now: WallTime) -> Option<(&'static ListedField, FieldTest)> {
        let flag = self.flags.iter().find(|flag| plain(flag.name) == plain(name))?;
        Some((self.column(flag.column), (flag.test)(is_so, now)))
    }

    /// Every field.
    pub(super) const fn fields(&self) -> &'static [ListedField] {
        self.fields
    }

    /// The keys of the flags.
    pub(super) fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.iter().map(|flag| flag.name)
    }

    /// The number of the record.
    pub(super) fn id(&self) -> &'static ListedField {
        self.column("id")
    }

    /// The field that lists are sorted by unless asked otherwise.
    pub(super) fn default_order(&self) -> &'static ListedField {
        self.column(self.sorted_by)
    }

    fn column(&self, column: &str) -> &'static ListedField {
        self.fields.iter().find(|field| field.column == column).expect("a field of this entity")
    }
}

/// The name of a field in the API: its column in Pascal case.
pub(super) fn key_of(field: &ListedField) -> String {
    let words = field.column.split('_');
    words
        .map(|word| word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default())
        .collect()
}

/// Whether a field has this name: its own, in any case, with or without underscores; a reference also without `Id`.
pub(super) fn is_named(own: &str, name: &str) -> bool {
    let (own, name) = (plain(own), plain(name));
    own == name || (own != "id" && own.strip_suffix("id") == Some(&name))
}

/// A name in lower case, without underscores.
fn plain(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_the_names_that_clients_use() {
        for (name, column) in [
            ("Coworker", Some("coworker_id")),
            ("CoworkerId", Some("coworker_id")),
            ("coworker_fullname", Some("coworker_full_name")),
            ("Coworker_FullName", Some("coworker_full_name")),
            ("Business_Name", Some("business_name")),
            ("FROMTIME", Some("from_time")),
            ("FromTimeLocal", Some("from_time_local")),
            ("CoworkerTimePassGuid", Some("coworker_time_pass_guid")),
            ("Id", Some("id")),
            ("UniqueId", Some("unique_id")),
            ("Unique", Some("unique_id")),
            ("", None),
            ("_", None),
            ("Colour", None),
        ] {
            assert_eq!(CHECKIN.field(name).map(|field| field.column), column, "{name}");
        }
        for entity in [&CHECKIN, &FAILED_CHECKIN] {
            assert_eq!(entity.default_order().column, entity.sorted_by);
        }
    }

    #[test]
    fn a_column_has_its_key_in_pascal_case() {
        let keys: Vec<String> = CHECKIN.fields.iter().take(3).map(key_of).collect();
        assert_eq!(keys, ["Id", "UniqueId", "CoworkerId"]);
    }
}
