//! PURE. Reads a table of people (CSV, RFC 4180).
//!
//! Columns may be in any order; a missing column changes nothing. The names of plans and teams are resolved later, when
//! they are known.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord, Trim};

use super::{BYTE_ORDER_MARK, ImportFaults, ReportLines, device, spelled, spreadsheet};
use crate::directory::entity::CredentialField;

/// The fields of one person, from one line. `None` if the column is missing; empty if the field is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PersonLine {
    pub(super) id: i64,
    pub(super) line: u64,
    pub(super) full_name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) active: Option<bool>,
    pub(super) tariff: Option<String>,
    pub(super) teams: Option<Vec<String>>,
    pub(super) cards: Option<Vec<String>>,
    pub(super) macs: Option<Vec<String>>,
    pub(super) slots: Option<Vec<String>>,
}

/// The contents of a table.
#[derive(Debug, Default)]
pub(super) struct PeopleTable {
    pub(super) people: Vec<PersonLine>,
    /// Oddities that are not faults, each with its line.
    pub(super) notes: Vec<String>,
}

/// The columns that a table may have, as documented.
const COLUMNS: [&str; 9] = ["id", "full_name", "email", "active", "tariff", "teams", "cards", "macs", "slots"];

/// The most ignored columns that a note names: a whole export has hundreds, and the first few show what it is.
const NAMED: usize = 5;

/// What may separate the values of one field in addition to a comma: a semicolon needs no quotes, and spreadsheets
/// break lines inside cells.
const BETWEEN: [char; 3] = [';', '\n', '\r'];

/// Reads a table. Faults begin with the line: `17: macs: …`.
pub(super) fn read_csv(text: &str) -> Result<PeopleTable, ImportFaults> {
    let text = text.trim_start_matches(BYTE_ORDER_MARK);
    let (text, first, delimiter) = delimited(text);
    let mut builder = ReaderBuilder::new();
    builder.delimiter(delimiter).has_headers(false).flexible(true).trim(Trim::All);
    let mut table = builder.from_reader(text.as_bytes());
    let mut reading = TableReading::default();
    let mut lines = LineCount { text, line: first, byte: 0 };
    let mut record = StringRecord::new();
    loop {
        match table.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => {}
            Err(error) => {
                reading.faults.push(|| format!("1: not a table: {error}"));
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
            .push(|| format!("1: the file is empty; the first line must name the columns: {}", COLUMNS.join(",")));
    }
    if reading.faults.is_empty() { Ok(reading.table) } else { Err(ImportFaults(reading.faults.finish())) }
}

/// The table, the number of its first line, and the delimiter of its columns. The delimiter is taken from the line
/// `sep=;` that some spreadsheets write, or else is the most frequent one in the heading, because spreadsheets write
/// semicolons if a comma is the decimal separator, and tabs when saving as text.
fn delimited(text: &str) -> (&str, u64, u8) {
    let (heading, rest) = text.split_once('\n').unwrap_or((text, ""));
    let said = heading.trim_end_matches('\r').trim_matches('"');
    let said = said.get(..4).filter(|word| word.eq_ignore_ascii_case("sep=")).and_then(|_| said.as_bytes().get(4));
    if let Some(said) = said {
        return (rest, 2, *said);
    }
    let outside = heading.split('"').step_by(2);
    let count = |delimiter: char| outside.clone().map(|part| part.matches(delimiter).count()).sum::<usize>();
    let (_, delimiter) = [('\t', b'\t'), (';', b';'), (',', b',')]
        .into_iter()
        .map(|(delimiter, byte)| (count(delimiter), byte))
        .reduce(|most, next| if next.0 >= most.0 { next } else { most })
        .unwrap_or((0, b','));
    (text, 1, delimiter)
}

/// Counts lines. The reader's own count treats empty lines before a record as part of it.
struct LineCount<'a> {
    text: &'a str,
    line: u64,
    byte: usize,
}

impl LineCount<'_> {
    /// The line on which the record between these octets begins.
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

#[derive(Default)]
struct TableReading {
    /// Which of [`COLUMNS`] each column is; `None` if it is ignored.
    columns: Vec<Option<&'static str>>,
    table: PeopleTable,
    faults: ReportLines,
    seen: BTreeSet<i64>,
}

impl TableReading {
    fn heading(&mut self, line: u64, record: &StringRecord) {
        let mut unread = Vec::new();
        for name in record {
            let known = COLUMNS.into_iter().find(|column| letters(column).eq(letters(name)));
            match known {
                Some(column) if self.columns.contains(&known) => {
                    self.faults.push(|| format!("{line}: {column}: two columns have this name"));
                }
                Some(_) => {}
                None => unread.push(name),
            }
            self.columns.push(known);
        }
        if self.faults.is_empty() && !self.columns.contains(&Some("id")) {
            let all = COLUMNS.join(",");
            self.faults.push(|| {
                format!("{line}: id: this column is missing and is required to update people; the columns are {all}")
            });
        }
        if !unread.is_empty() {
            let named = unread.iter().filter(|name| !name.is_empty()).take(NAMED);
            let named: Vec<String> = named.map(|name| format!("\"{name}\"")).collect();
            let dots = if named.len() < unread.len() { ", …" } else { "" };
            let (count, all) = (unread.len(), COLUMNS.join(","));
            let noun = if count == 1 { "column is" } else { "columns are" };
            self.table.notes.push(format!(
                "{line}: {count} {noun} ignored: {}{dots}; the columns that are read are {all}",
                named.join(", ")
            ));
        }
    }

    fn line(&mut self, line: u64, record: &StringRecord) {
        let (fields, columns) = (record.len(), self.columns.len());
        if fields != columns {
            let hint = if fields > columns { "; a field that contains a comma needs quotes" } else { "" };
            let counted = |count, noun| if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") };
            let (fields, columns) = (counted(fields, "field"), counted(columns, "column"));
            self.faults.push(|| format!("{line}: {fields} for {columns}{hint}"));
            return;
        }
        let mut person = PersonLine { line, ..PersonLine::default() };
        let before = self.faults.all;
        let read = self.columns.iter().zip(record).filter_map(|(column, field)| Some(((*column)?, field)));
        for (column, field) in read {
            if let Err(fault) = person.take(column, field) {
                self.faults.push(|| format!("{line}: {column}: {fault}"));
            }
        }
        if self.faults.all > before {
            return;
        }
        if self.seen.insert(person.id) {
            self.table.people.push(person);
        } else {
            self.faults.push(|| format!("{line}: id: {} is in this file twice", person.id));
        }
    }
}

impl PersonLine {
    fn take(&mut self, column: &str, field: &str) -> Result<(), String> {
        if field.contains('\0') {
            return Err("the text contains a NUL character, which the database cannot store".to_owned());
        }
        let text = spreadsheet::cell(field);
        match column {
            "id" => {
                let code = spreadsheet::code(field);
                let whole = code.split_once('.').filter(|(_, part)| part.bytes().all(|byte| byte == b'0'));
                let id = whole.map_or(code.as_ref(), |(whole, _)| whole).parse().ok().filter(|id: &i64| *id > 0);
                self.id = id.ok_or_else(|| format!("\"{field}\" is not a positive number"))?;
            }
            "full_name" if text.is_empty() => return Err("a name is required".to_owned()),
            "full_name" => self.full_name = Some(text.to_owned()),
            "email" => self.email = Some(text.to_owned()),
            "active" => self.active = yes_or_no(&spreadsheet::code(field))?,
            "tariff" => self.tariff = Some(text.to_owned()),
            "teams" => {
                let teams = text.split([',', ';']).map(str::trim).filter(|team| !team.is_empty());
                self.teams = Some(teams.map(str::to_owned).collect());
            }
            "cards" => self.cards = Some(spelled(CredentialField::AccessCardId, field, &BETWEEN)?),
            "slots" => self.slots = Some(spelled(CredentialField::Slots, field, &BETWEEN)?),
            _ => {
                let macs = spelled(CredentialField::MacAddresses, field, &BETWEEN)?;
                let macs = macs.iter().map(|mac| device(mac).map(|mac| mac.to_string()));
                self.macs = Some(macs.collect::<Result<_, _>>()?);
            }
        }
        Ok(())
    }
}

/// The letters of a column's name, because exports write `Full Name` or `FullName`.
fn letters(name: &str) -> impl Iterator<Item = char> {
    let name = spreadsheet::code(name).to_lowercase();
    name.chars().filter(|c| c.is_alphanumeric()).collect::<Vec<_>>().into_iter()
}

/// The value of the field; `None` if it is empty, which leaves the person as they are.
fn yes_or_no(field: &str) -> Result<Option<bool>, String> {
    match field.to_lowercase().as_str() {
        "" => Ok(None),
        "true" | "yes" | "1" => Ok(Some(true)),
        "false" | "no" | "0" => Ok(Some(false)),
        _ => Err(format!("\"{field}\" is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_come_in_any_order_and_fields_are_quoted_or_not() {
        let text = "\u{feff}macs,ID,full_name,cards\r\n\
                    \"3C-22-FB-00-00-01, 3c22fb000002\",7,\"Lovelace, Ada\",1;2\r\n\r\n,8,Bob \"B\" Example,\r\n";
        let people = read_csv(text).expect("reads").people;
        let texts = |values: &[&str]| Some(values.iter().map(|&value| value.to_owned()).collect());
        let ada = PersonLine {
            id: 7,
            line: 2,
            full_name: Some("Lovelace, Ada".to_owned()),
            cards: texts(&["1", "2"]),
            macs: texts(&["3c:22:fb:00:00:01", "3c:22:fb:00:00:02"]),
            ..PersonLine::default()
        };
        let name = Some("Bob \"B\" Example".to_owned());
        let bob = PersonLine {
            id: 8,
            line: 4,
            full_name: name,
            cards: texts(&[]),
            macs: texts(&[]),
            ..PersonLine::default()
        };
        assert_eq!(people, [ada, bob]);
        for text in [
            "id;full_name;teams\n7;Ada;A,B\n",
            "sep=;\r\nid;full_name;teams\r\n7;Ada;A,B\r\n",
            "\"sep=\t\"\nid\tfull_name\tteams\n7\tAda\tA,B\n",
            "ID\tFull Name\tTeams\n=\"7\"\tAda\t\"A,B\"\n",
            "\"id\";\"a, b, c and d\";\"FullName\";teams\n7.0;x;Ada;A,B\n",
        ] {
            let read = read_csv(text).expect(text).people;
            let said = (read[0].id, read[0].full_name.as_deref(), read[0].teams.clone());
            assert_eq!(said, (7, Some("Ada"), texts(&["A", "B"])), "{text}");
        }
    }

    #[test]
    fn an_export_is_read_by_its_known_columns_with_one_note() {
        let read = read_csv("\nsep=;\n").expect_err("no line of columns").0;
        assert!(read[0].starts_with("2: id: this column is missing"), "{read:?}");
        let read = read_csv("sep=;\nPhone;ID;Email 2;;Fax;A;B;C\n1;7;;;;;;\n").expect("reads");
        assert_eq!((read.people[0].id, read.people[0].line), (7, 3));
        let all = COLUMNS.join(",");
        assert_eq!(
            read.notes,
            [format!(
                "2: 7 columns are ignored: \"Phone\", \"Email 2\", \"Fax\", \"A\", \"B\", …; the columns that are read are {all}"
            )]
        );
    }

    #[test]
    fn cells_of_spreadsheets_are_unwrapped_and_an_empty_one_leaves_active_alone() {
        let text = "id,full_name,active,cards,macs,slots\n\
                    '7,\"=\"\"'t Hart \u{202e}\"\"\",,\"=\"\"0012\"\",8165538.0\",\u{200e}3C22FB000001,'locks/back/3\n";
        let ada = read_csv(text).expect("reads").people.remove(0);
        let texts = |value: &str| Some(vec![value.to_owned()]);
        assert_eq!((ada.id, ada.full_name.as_deref(), ada.active), (7, Some("'t Hart \u{202e}"), None));
        assert_eq!(ada.cards, Some(vec!["0012".to_owned(), "8165538".to_owned()]));
        assert_eq!((ada.macs, ada.slots), (texts("3c:22:fb:00:00:01"), texts("locks/back/3")));
    }

    #[test]
    fn every_fault_is_named_with_its_line() {
        let all = COLUMNS.join(",");
        let empty = format!("1: the file is empty; the first line must name the columns: {all}");
        let id = format!("1: id: this column is missing and is required to update people; the columns are {all}");
        for (text, expected) in [
            ("", &[empty.as_str()][..]),
            ("full_name\nAda\n", &[&id]),
            ("id,name,ID\n", &["1: id: two columns have this name"]),
            (
                "id,full_name,active,macs\n1,\"A\nB\",maybe,ff:ff:ff:ff:ff:ff\n\nx,Bob,no,\n3,,,\n4,Lovelace, Ada,,\n\
                 5,E,,\n5,F,,\n",
                &[
                    "2: active: \"maybe\" is neither true nor false",
                    "2: macs: ff:ff:ff:ff:ff:ff cannot be the address of a single device",
                    "5: id: \"x\" is not a positive number",
                    "6: full_name: a name is required",
                    "7: 5 fields for 4 columns; a field that contains a comma needs quotes",
                    "9: id: 5 is in this file twice",
                ],
            ),
            (
                "id,cards,slots\n1,1.23457E+09,\n2,\"8,165,538\",5\n3.5,,\n",
                &[
                    "2: cards: \"1.23457E+09\" is a number that lost digits in a spreadsheet; format the column as text, \
                     enter the number again and export again",
                    "3: cards: \"8,165,538\" is either one number with thousands separators or several cards; format the column \
                     as text and write \", \" between cards",
                    "3: slots: \"5\" has no scope; for example, write source/door/5",
                    "4: id: \"3.5\" is not a positive number",
                ],
            ),
        ] {
            let ImportFaults(faults) = read_csv(text).expect_err("faults");
            assert_eq!(faults, expected, "{text}");
        }
    }
}
