//! Compares the fields of the structs with the columns of the tables, in both databases.

use std::collections::{BTreeMap, BTreeSet};

use crate::store::{
    columns::{Column, ColumnKind},
    statement::{Arg, Statement, statement},
    tests::fresh::{Fresh, contract},
};

contract!(the_columns_of_a_table_are_the_fields_of_its_structs);

/// The columns of a table and their types.
const TABLE: Statement = statement!(
    sqlite: "SELECT name, lower(type) AS type FROM pragma_table_info($1)",
    postgres: "SELECT CAST(column_name AS text) AS name, CAST(data_type AS text) AS type
               FROM information_schema.columns WHERE table_name = $1"
);

/// Columns without a field in any struct: only the database uses them, or an earlier version did.
const OF_NO_STRUCT: &[(&str, &str)] = &[("failed_checkins", "once_key"), ("payg_charges", "id")];

/// Columns of the API's records that no batch writes: the database numbers the rows, and the others exist only for the
/// API's format.
const NOT_WRITTEN: &[(&str, &str)] = &[
    ("checkins", "id"),
    ("checkins", "system_id"),
    ("checkins", "validate_checkin_job_id"),
    ("failed_checkins", "id"),
    ("failed_checkins", "system_id"),
];

/// Every struct that has the columns of a table.
fn structs() -> Vec<(&'static str, &'static [Column])> {
    let mut structs = crate::store::batch::tables();
    structs.extend(crate::store::checkins::tables());
    structs.extend(crate::store::adopt::tables());
    structs.extend(crate::store::set_aside::tables());
    structs.extend(crate::store::plain_checkins::tables());
    structs
}

/// The types of a column in both databases.
fn types(kind: ColumnKind) -> [&'static str; 2] {
    match kind {
        ColumnKind::Boolean => ["integer", "boolean"],
        ColumnKind::Bigint => ["integer", "bigint"],
        ColumnKind::Uuid => ["text", "uuid"],
        ColumnKind::Time => ["text", "timestamp with time zone"],
        ColumnKind::Text => ["text", "text"],
        ColumnKind::Bytes => ["blob", "bytea"],
    }
}

async fn the_columns_of_a_table_are_the_fields_of_its_structs(fresh: Fresh) {
    let mut by_table: BTreeMap<&str, Vec<&Column>> = BTreeMap::new();
    for (table, columns) in structs() {
        by_table.entry(table).or_default().extend(columns);
    }
    for (table, columns) in by_table {
        let rows = fresh.store.sql.read(TABLE, &[Arg::Text(table.to_owned())]).await.expect("read");
        let text = |row: &crate::store::stored::Row, column| row.text(column).expect("a text");
        let schema: BTreeMap<String, String> = rows.iter().map(|row| (text(row, "name"), text(row, "type"))).collect();
        for column in &columns {
            let found = schema.get(column.name).unwrap_or_else(|| panic!("{table} has no column {}", column.name));
            assert!(
                types(column.kind).contains(&found.as_str()),
                "{table}.{} is {found}, not {:?}",
                column.name,
                column.kind
            );
        }
        let fields: BTreeSet<&str> = columns.iter().map(|column| column.name).collect();
        for name in schema.keys() {
            let has_field = fields.contains(name.as_str()) || OF_NO_STRUCT.contains(&(table, name));
            assert!(has_field, "no struct has a field for {table}.{name}");
        }
    }
}

#[test]
fn a_batch_writes_every_field_of_a_record() {
    let written: BTreeSet<(&str, &str)> = crate::store::batch::written()
        .into_iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| (table, column.name)))
        .chain(NOT_WRITTEN.iter().copied())
        .collect();
    for (table, columns) in crate::store::checkins::tables() {
        for column in columns {
            assert!(written.contains(&(table, column.name)), "no batch writes {table}.{}", column.name);
        }
    }
}
