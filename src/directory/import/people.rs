//! PURE. A table of people (CSV, RFC 4180) to what it says about each of them.
//!
//! Columns may stand in any order; a column that is not there says nothing. What plans and teams are called is resolved
//! later, when they are known.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{BYTE_ORDER_MARK, ImportFaults, Lines, device};

/// What one line says about one person. Nothing, where there is no such column; empty, where the field is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) id: i64,
    pub(super) line: u64,
    pub(super) full_name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) active: Option<bool>,
    pub(super) tariff: Option<String>,
    pub(super) teams: Option<Vec<String>>,
    pub(super) cards: Option<Vec<String>>,
    pub(super) macs: Option<Vec<String>>,
}

/// The columns that a table may have, as they are documented.
const COLUMNS: [&str; 8] = ["id", "full_name", "email", "active", "tariff", "teams", "cards", "macs"];

/// Reads a table. Faults begin with the line: `17: macs: …`.
pub(super) fn read_csv(text: &str) -> Result<Vec<Person>, ImportFaults> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    let heading = text.lines().next().unwrap_or_default();
    // Where a comma is the decimal separator, spreadsheets write semicolons between the columns.
    let delimiter = if heading.contains(';') && !heading.contains(',') { b';' } else { b',' };
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true).trim(Trim::All);
    let mut table = builder.from_reader(text.as_bytes());
    let mut reading =
        Reading { columns: Vec::new(), people: Vec::new(), faults: Lines::default(), seen: BTreeSet::new() };
    let mut lines = LineCount { text, line: 1, byte: 0 };
    let mut record = StringRecord::new();
    loop {
        match table.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                reading.faults.push(|| format!("1: no table: {error}"));
                break;
            }
        }
        let start = record.position().map_or(0, csv::Position::byte);
        let line = lines.of(start, table.position().byte());
        if reading.columns.is_empty() {
            reading.heading(line, &record);
            if !reading.faults.is_empty() {
                break;
            }
        } else if record.iter().any(|field| !field.is_empty()) {
            reading.line(line, &record);
        }
    }
    if reading.columns.is_empty() && reading.faults.is_empty() {
        reading
            .faults
            .push(|| format!("1: the file is empty; its first line names the columns: {}", COLUMNS.join(",")));
    }
    if reading.faults.is_empty() { Ok(reading.people) } else { Err(ImportFaults(reading.faults.finish())) }
}

/// Counts lines; the reader's own count takes empty lines before a record for a part of it.
struct LineCount<'a> {
    text: &'a str,
    line: u64,
    byte: usize,
}

impl LineCount<'_> {
    /// The line on which the record begins that stands between these octets.
    fn of(&mut self, start: u64, end: u64) -> u64 {
        let octet = |at| usize::try_from(at).unwrap_or(usize::MAX).min(self.text.len());
        let record = self.text.as_bytes().get(octet(start)..octet(end)).unwrap_or_default();
        let blank = record.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let begin = octet(start) + blank;
        let passed = self.text.as_bytes().get(self.byte..begin).unwrap_or_default();
        self.line += passed.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
        self.byte = begin;
        self.line
    }
}

struct Reading {
    /// Which of [`COLUMNS`] stands in each column.
    columns: Vec<&'static str>,
    people: Vec<Person>,
    faults: Lines,
    seen: BTreeSet<i64>,
}

impl Reading {
    fn heading(&mut self, line: u64, record: &StringRecord) {
        for name in record {
            let known = COLUMNS.into_iter().find(|column| column.eq_ignore_ascii_case(name));
            match known {
                Some(column) if self.columns.contains(&column) => {
                    self.faults.push(|| format!("{line}: {column}: there are two columns of this name"));
                }
                Some(column) => self.columns.push(column),
                None => {
                    let all = COLUMNS.join(",");
                    self.faults.push(|| format!("{line}: {name}: no such column; there are {all}"));
                }
            }
        }
        if self.faults.is_empty() && !self.columns.contains(&"id") {
            self.faults.push(|| format!("{line}: id: the column is missing; people are updated by it"));
        }
    }

    fn line(&mut self, line: u64, record: &StringRecord) {
        let (fields, columns) = (record.len(), self.columns.len());
        if fields != columns {
            let hint = if fields > columns { "; a field with a comma in it needs quotes" } else { "" };
            self.faults.push(|| format!("{line}: {fields} fields under {columns} columns{hint}"));
            return;
        }
        let mut person = Person { line, ..Person::default() };
        let before = self.faults.all;
        for (column, field) in self.columns.iter().zip(record) {
            if let Err(fault) = person.take(column, field) {
                self.faults.push(|| format!("{line}: {column}: {fault}"));
            }
        }
        if self.faults.all > before {
            return;
        }
        if self.seen.insert(person.id) {
            self.people.push(person);
        } else {
            self.faults.push(|| format!("{line}: id: {} stands in this file twice", person.id));
        }
    }
}

impl Person {
    fn take(&mut self, column: &str, field: &str) -> Result<(), String> {
        if field.contains('\0') {
            return Err("the text holds a NUL character, which no database can keep".to_owned());
        }
        match column {
            "id" => {
                let id = field.parse().ok().filter(|id: &i64| *id > 0);
                self.id = id.ok_or_else(|| format!("\"{field}\" is not a positive number"))?;
            }
            "full_name" if field.is_empty() => return Err("a name is needed".to_owned()),
            "full_name" => self.full_name = Some(field.to_owned()),
            "email" => self.email = Some(field.to_owned()),
            "active" => self.active = Some(yes_or_no(field)?),
            "tariff" => self.tariff = Some(field.to_owned()),
            "teams" => self.teams = Some(several(field)),
            "cards" => self.cards = Some(several(field)),
            _ => {
                let macs = several(field).into_iter().map(|mac| device(&mac).map(|mac| mac.to_string()));
                self.macs = Some(macs.collect::<Result<_, _>>()?);
            }
        }
        Ok(())
    }
}

/// An empty field says what a new person without the column would be: active.
fn yes_or_no(field: &str) -> Result<bool, String> {
    match field.to_lowercase().as_str() {
        "" | "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("\"{field}\" is neither true nor false")),
    }
}

/// Several values in one field: separated by `,` as in the JSON fields, or by `;`, which needs no quotes.
fn several(field: &str) -> Vec<String> {
    field.split([',', ';']).map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_in_any_order_and_fields_are_quoted_or_not() {
        let text = "\u{feff}macs,ID,full_name,cards\r\n\
                    \"3C-22-FB-00-00-01, 3c22fb000002\",7,\"Lovelace, Ada\",1;2\r\n\r\n,8,Bob \"B\" Example,\r\n";
        let people = read_csv(text).expect("reads");
        let texts = |values: &[&str]| Some(values.iter().map(|&value| value.to_owned()).collect());
        let ada = Person {
            id: 7,
            line: 2,
            full_name: Some("Lovelace, Ada".to_owned()),
            cards: texts(&["1", "2"]),
            macs: texts(&["3c:22:fb:00:00:01", "3c:22:fb:00:00:02"]),
            ..Person::default()
        };
        let name = Some("Bob \"B\" Example".to_owned());
        let bob = Person { id: 8, line: 4, full_name: name, cards: texts(&[]), macs: texts(&[]), ..Person::default() };
        assert_eq!(people, [ada, bob]);
        let semicolons = read_csv("id;full_name;teams\n7;Ada;A,B\n").expect("reads");
        assert_eq!(semicolons[0].teams, texts(&["A", "B"]));
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let all = COLUMNS.join(",");
        let empty = format!("1: the file is empty; its first line names the columns: {all}");
        let name = format!("1: name: no such column; there are {all}");
        for (text, expected) in [
            ("", &[empty.as_str()][..]),
            ("full_name\nAda\n", &["1: id: the column is missing; people are updated by it"]),
            ("id,name,ID\n", &[&name, "1: id: there are two columns of this name"]),
            (
                "id,full_name,active,macs\n1,\"A\nB\",maybe,ff:ff:ff:ff:ff:ff\n\nx,Bob,no,\n3,,,\n4,Lovelace, Ada,,\n\
                 5,E,,\n5,F,,\n",
                &[
                    "2: active: \"maybe\" is neither true nor false",
                    "2: macs: ff:ff:ff:ff:ff:ff cannot be the address of one device",
                    "5: id: \"x\" is not a positive number",
                    "6: full_name: a name is needed",
                    "7: 5 fields under 4 columns; a field with a comma in it needs quotes",
                    "9: id: 5 stands in this file twice",
                ],
            ),
        ] {
            let ImportFaults(faults) = read_csv(text).expect_err("faults");
            assert_eq!(faults, expected, "{text}");
        }
    }
}
