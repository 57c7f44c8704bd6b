//! The columns of a table, declared once by the fields of a struct, and the SQL text that is built from them at compile
//! time.
//!
//! [`sql`] joins literals and lists of columns into one `&'static str`. No list of columns is written by hand, so its
//! order always matches that of the values.

/// The kind of a column's values, as far as the two databases treat them differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Boolean,
    Bigint,
    Uuid,
    Time,
    Text,
    Bytes,
}

impl ColumnKind {
    /// Its type in PostgreSQL. SQLite's columns accept values as they are.
    pub(super) const fn postgres(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Bigint => "bigint",
            Self::Uuid => "uuid",
            Self::Time => "timestamptz",
            Self::Text => "text",
            Self::Bytes => "bytea",
        }
    }

    /// The SQL around a value that makes it the same JSON in both databases: booleans are 0 or 1, bytes are hexadecimal
    /// text.
    const fn in_json(self, database: JsonOf) -> (&'static str, &'static str) {
        match (self, database) {
            (Self::Boolean, JsonOf::Sqlite | JsonOf::Postgres) => ("CAST(", " AS integer)"),
            (Self::Bytes, JsonOf::Sqlite) => ("hex(", ")"),
            (Self::Bytes, JsonOf::Postgres) => ("encode(", ", 'hex')"),
            (Self::Bigint | Self::Uuid | Self::Time | Self::Text, JsonOf::Sqlite | JsonOf::Postgres) => ("", ""),
        }
    }
}

/// The database that builds the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonOf {
    Sqlite,
    Postgres,
}

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: ColumnKind,
}

/// The kind of column in which a type is stored.
pub(crate) trait ColumnType {
    const KIND: ColumnKind;
}

impl<T: ColumnType> ColumnType for Option<T> {
    const KIND: ColumnKind = T::KIND;
}

impl<T: ColumnType + ?Sized> ColumnType for &T {
    const KIND: ColumnKind = T::KIND;
}

/// A struct whose fields are columns of a table, in the order of every list.
pub(crate) trait Columns {
    const COLUMNS: &'static [Column];
}

/// The name of a field's column: the field's own, or the one specified for it.
macro_rules! column_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $column:literal) => {
        $column
    };
}
pub(crate) use column_name;

/// A part of a statement's text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SqlPart {
    Text(&'static str),
    List(ColumnList),
}

/// Columns joined by commas, each formatted by a template in which `*` is its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ColumnList {
    pub(crate) columns: &'static [Column],
    pub(crate) chosen: ChosenColumns,
    pub(crate) template: &'static str,
    /// Set if each column is converted for JSON.
    pub(crate) json: Option<JsonOf>,
}

/// Which of the columns a list contains.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ChosenColumns {
    All,
    Only(&'static [&'static str]),
    Except(&'static [&'static str]),
}

/// SQL text, built at compile time. Its parts are literals and lists of the columns of a struct: `[Row: "*"]` are its
/// columns, `[Row, only NAMES: "* = r.*"]` some of them, `[Row, except NAMES: "…"]` all others; `[Row, json Sqlite:
/// "c.*"]` are the elements of a JSON array, as that database builds it.
macro_rules! sql {
    ($($part:tt),+ $(,)?) => {{
        const PARTS: &[$crate::store::columns::SqlPart] = &[$($crate::store::columns::sql_part!($part)),+];
        const BYTES: [u8; $crate::store::columns::length(PARTS)] = $crate::store::columns::joined(PARTS);
        const TEXT: &str = $crate::store::columns::as_text(&BYTES);
        TEXT
    }};
}
pub(crate) use sql;

/// One part of [`sql`].
macro_rules! sql_part {
    ([$row:ty: $template:literal]) => {
        $crate::store::columns::sql_part!(@ $row, All, $template, None)
    };
    ([$row:ty, only $names:ident: $template:literal]) => {
        $crate::store::columns::sql_part!(@ $row, Only($names), $template, None)
    };
    ([$row:ty, except $names:ident: $template:literal]) => {
        $crate::store::columns::sql_part!(@ $row, Except($names), $template, None)
    };
    ([$row:ty, json $database:ident: $template:literal]) => {
        $crate::store::columns::sql_part!(@ $row, All, $template, Some($crate::store::columns::JsonOf::$database))
    };
    (@ $row:ty, $chosen:ident $(($names:ident))?, $template:literal, $json:expr) => {
        $crate::store::columns::SqlPart::List($crate::store::columns::ColumnList {
            columns: <$row as $crate::store::columns::Columns>::COLUMNS,
            chosen: $crate::store::columns::ChosenColumns::$chosen $(($names))?,
            template: $template,
            json: $json,
        })
    };
    ($text:expr) => {
        $crate::store::columns::SqlPart::Text($text)
    };
}
pub(crate) use sql_part;

/// The length of the parts together, in bytes.
pub(crate) const fn length(parts: &[SqlPart]) -> usize {
    write_parts(parts, &mut [])
}

/// The parts, one after the other.
pub(crate) const fn joined<const LENGTH: usize>(parts: &[SqlPart]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    write_parts(parts, &mut bytes);
    bytes
}

/// The result of [`joined`] as text. It is valid because its parts are.
pub(crate) const fn as_text(bytes: &'static [u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(_) => panic!("text that was cut within a character"),
    }
}

/// Writes into `out`, or only counts if it is empty.
const fn write_parts(parts: &[SqlPart], out: &mut [u8]) -> usize {
    let (mut at, mut next) = (0, 0);
    while next < parts.len() {
        at = match &parts[next] {
            SqlPart::Text(text) => write_text(text, out, at),
            SqlPart::List(list) => write_list(list, out, at),
        };
        next += 1;
    }
    at
}

const fn write_list(list: &ColumnList, out: &mut [u8], mut at: usize) -> usize {
    check_names(list);
    let (mut first, mut next) = (true, 0);
    while next < list.columns.len() {
        let column = list.columns[next];
        next += 1;
        let chosen = match list.chosen {
            ChosenColumns::All => true,
            ChosenColumns::Only(names) => has(names, column.name),
            ChosenColumns::Except(names) => !has(names, column.name),
        };
        if !chosen {
            continue;
        }
        if !first {
            at = write_text(", ", out, at);
        }
        first = false;
        let (before, after) = match list.json {
            Some(database) => column.kind.in_json(database),
            None => ("", ""),
        };
        at = write_text(before, out, at);
        at = write_template(list.template, column.name, out, at);
        at = write_text(after, out, at);
    }
    at
}

/// Fails to compile if a chosen or excluded name is not a column.
const fn check_names(list: &ColumnList) {
    let names = match list.chosen {
        ChosenColumns::All => return,
        ChosenColumns::Only(names) | ChosenColumns::Except(names) => names,
    };
    let mut name = 0;
    while name < names.len() {
        let (mut found, mut next) = (false, 0);
        while next < list.columns.len() {
            found = found || is_same(list.columns[next].name, names[name]);
            next += 1;
        }
        assert!(found, "a name that is no column of the row");
        name += 1;
    }
}

const fn write_template(template: &str, name: &str, out: &mut [u8], mut at: usize) -> usize {
    let template = template.as_bytes();
    let mut next = 0;
    while next < template.len() {
        if template[next] == b'*' {
            at = write_text(name, out, at);
        } else {
            if !out.is_empty() {
                out[at] = template[next];
            }
            at += 1;
        }
        next += 1;
    }
    at
}

const fn write_text(text: &str, out: &mut [u8], at: usize) -> usize {
    let text = text.as_bytes();
    let mut next = 0;
    while next < text.len() && !out.is_empty() {
        out[at + next] = text[next];
        next += 1;
    }
    at + text.len()
}

const fn has(names: &[&str], name: &str) -> bool {
    let mut next = 0;
    while next < names.len() {
        if is_same(names[next], name) {
            return true;
        }
        next += 1;
    }
    false
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut next = 0;
    while next < one.len() {
        if one[next] != other[next] {
            return false;
        }
        next += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair;

    impl Columns for Pair {
        const COLUMNS: &'static [Column] = &[
            Column { name: "id", kind: ColumnKind::Bigint },
            Column { name: "open", kind: ColumnKind::Boolean },
            Column { name: "state", kind: ColumnKind::Bytes },
        ];
    }

    const KEYS: &[&str] = &["id"];

    #[test]
    fn text_is_made_of_literals_and_lists_of_columns() {
        const PUT: &str = sql!(
            "INSERT INTO t (", [Pair: "*"], ") SELECT ", [Pair: "r.*"], " ON CONFLICT (", [Pair, only KEYS: "*"],
            ") DO UPDATE SET ", [Pair, except KEYS: "* = excluded.*"],
        );
        let expected = "INSERT INTO t (id, open, state) SELECT r.id, r.open, r.state \
                        ON CONFLICT (id) DO UPDATE SET open = excluded.open, state = excluded.state";
        assert_eq!(PUT, expected);
    }

    #[test]
    fn json_is_the_same_from_both_databases() {
        let sqlite = sql!("json_array(", [Pair, json Sqlite: "c.*"], ")");
        assert_eq!(sqlite, "json_array(c.id, CAST(c.open AS integer), hex(c.state))");
        let postgres = sql!([Pair, json Postgres: "c.*"]);
        assert_eq!(postgres, "c.id, CAST(c.open AS integer), encode(c.state, 'hex')");
    }
}
