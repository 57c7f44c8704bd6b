//! PURE. The query of a list, as clients of the platform write it: names in any case, pages, sorting, and filters named
//! `Entity_Field`, `from_Entity_Field` and `to_Entity_Field`.
//!
//! What has no meaning here is left out and named in the answer. What has one but cannot be read is a fault: a filter
//! that is ignored would answer with records that were not asked for.

use uuid::Uuid;

use super::{client_number, client_time, fault::FieldFault, listed_entity::ListedEntity};
use crate::base::{
    clock::WallTime,
    listing::{FieldKind, FieldTest, LARGEST_PAGE, ListQuery, ListedField, SortDirection},
    record::CheckinSource,
};

/// Records of a page unless asked otherwise.
const PAGE_SIZE: u32 = 25;

/// The most ids in one list; a longer list is a fault. The request line would hold some more.
const MOST_IDS: usize = 1000;

/// What a list of ids looks like, after its name.
pub(super) const ID_LIST: &str = "is a list of at most 1000 ids, such as [1,2,3]";

/// The most filters of one query. Each costs a comparison per record; further ones are a fault.
pub(super) const MOST_TESTS: usize = 32;

/// The form of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerForm {
    /// The records with some ids, as a bare array.
    Bare,
    /// A page in its envelope.
    Envelope,
}

/// A query that has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReadQuery {
    /// What it asks for.
    pub(super) query: ListQuery,
    /// How it is answered.
    pub(super) form: AnswerForm,
    /// The names of the parameters that mean nothing here.
    pub(super) ignored: Vec<String>,
    /// All parameters but the page: what the pages of one list have in common.
    pub(super) list: String,
}

/// Which side of a range, or neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Exact,
    From,
    To,
}

/// The page that a query asks for, and its order.
#[derive(Debug)]
pub(super) struct Paging {
    pub(super) page: u32,
    pub(super) size: u32,
    /// The name of the field, as the client wrote it, with the name of the parameter.
    pub(super) order: Option<(String, String)>,
    pub(super) direction: Option<SortDirection>,
}

impl Default for Paging {
    fn default() -> Self {
        Self { page: 1, size: PAGE_SIZE, order: None, direction: None }
    }
}

impl Paging {
    /// Takes a parameter, if it is about the page or its order; returns whether it was. `lower` is its name in lower
    /// case.
    pub(super) fn take(&mut self, (name, lower, value): (&str, &str, &str), faults: &mut Vec<FieldFault>) -> bool {
        let mut fault = |expected| faults.push(FieldFault::new(name, Some(value), expected));
        match lower {
            "page" => match value.parse() {
                Ok(page @ 1..) => self.page = page,
                Ok(0) | Err(_) => fault("is a number from 1"),
            },
            "size" => match value.parse::<u64>() {
                Ok(size @ 1..) => self.size = u32::try_from(size).unwrap_or(u32::MAX).min(LARGEST_PAGE),
                Ok(0) | Err(_) => fault("is a number from 1 to 10000"),
            },
            "orderby" => self.order = Some((name.to_owned(), value.to_owned())),
            "dir" => match direction(value) {
                Some(direction) => self.direction = Some(direction),
                None => fault("is 0, 1, -1, ascending or descending"),
            },
            _ => return false,
        }
        true
    }
}

/// The parameters of a query: name, name in lower case, and value. An empty field of a form asks for nothing.
pub(super) fn parameters(query: &str) -> impl Iterator<Item = (String, String, String)> {
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    let trimmed = pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
    trimmed.filter(|(_, value)| !value.is_empty()).map(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        (name, lower, value)
    })
}

/// Reads the query of a list of this entity.
pub(super) fn read(entity: &'static ListedEntity, query: &str, now: WallTime) -> Result<ReadQuery, Vec<FieldFault>> {
    let mut reading = Reading { entity, now, ids: None, tests: Vec::new(), ignored: Vec::new(), faults: Vec::new() };
    let (mut paging, mut list) = (Paging::default(), String::new());
    for (name, lower, value) in parameters(query) {
        if !paging.take((&name, &lower, &value), &mut reading.faults) {
            reading.filter(&name, &lower, &value);
        }
        if lower != "page" {
            list.extend([lower.as_str(), "\0", value.as_str(), "\0"]);
        }
    }
    reading.finish(&paging, list)
}

struct Reading {
    entity: &'static ListedEntity,
    now: WallTime,
    ids: Option<Vec<i64>>,
    tests: Vec<(&'static ListedField, FieldTest)>,
    ignored: Vec<String>,
    faults: Vec<FieldFault>,
}

impl Reading {
    fn filter(&mut self, name: &str, lower: &str, value: &str) {
        let (side, rest) = sided(lower);
        let field = rest.strip_prefix(self.entity.prefix).map_or_else(
            // The id has a short name too.
            || (rest == "id" && side == Side::Exact).then(|| self.entity.id()),
            |rest| self.entity.field(rest),
        );
        let Some(field) = field else {
            self.flag(name, rest, value);
            return;
        };
        if field.column == "id" && side == Side::Exact && value.starts_with('[') {
            match ids(value) {
                Some(ids) => self.ids.get_or_insert_default().extend(ids),
                None => self.fault(name, value, ID_LIST),
            }
            return;
        }
        match test(field, side, value) {
            Ok(_) if self.tests.len() == MOST_TESTS => self.fault(name, value, "is one filter too many"),
            Ok(test) => self.tests.push((field, test)),
            Err(expected) => self.fault(name, value, expected),
        }
    }

    /// A filter by a flag; any other name means nothing.
    fn flag(&mut self, name: &str, rest: &str, value: &str) {
        let known = |is_so| self.entity.flag(rest.strip_prefix(self.entity.prefix)?, is_so, self.now);
        match (known(true), truth(value)) {
            (None, _) => self.ignored.push(name.to_owned()),
            (Some(_), None) => self.fault(name, value, "is true or false"),
            (Some(_), Some(is_so)) => self.tests.extend(known(is_so)),
        }
    }

    fn fault(&mut self, name: &str, value: &str, message: &'static str) {
        self.faults.push(FieldFault::new(name, Some(value), message));
    }

    fn finish(mut self, paging: &Paging, list: String) -> Result<ReadQuery, Vec<FieldFault>> {
        let mut order = self.entity.default_order();
        if let Some((name, wanted)) = &paging.order {
            match self.entity.field(wanted) {
                Some(field) => order = field,
                None => self.fault(name, wanted, "is no property of this entity"),
            }
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let query = ListQuery {
            tests: self.tests,
            businesses: None,
            order,
            // Sorted by a field that was asked for, the smallest comes first; by default, the newest.
            direction: paging.direction.unwrap_or(match paging.order {
                Some(_) => SortDirection::Ascending,
                None => SortDirection::Descending,
            }),
            page: paging.page,
            size: paging.size,
            after: None,
        };
        let Some(ids) = self.ids else {
            return Ok(ReadQuery { query, form: AnswerForm::Envelope, ignored: self.ignored, list });
        };
        let id = self.entity.id();
        let (order, direction) = (id, SortDirection::Ascending);
        let size = u32::try_from(ids.len()).unwrap_or(LARGEST_PAGE).clamp(1, LARGEST_PAGE);
        let mut query = ListQuery { order, direction, page: 1, size, ..query };
        query.tests.push((id, FieldTest::AnyOf(ids)));
        Ok(ReadQuery { query, form: AnswerForm::Bare, ignored: self.ignored, list })
    }
}

/// The side of a range that a filter's name asks for, and the rest of the name.
pub(super) fn sided(lower: &str) -> (Side, &str) {
    if let Some(rest) = lower.strip_prefix("from_") {
        (Side::From, rest)
    } else if let Some(rest) = lower.strip_prefix("to_") {
        (Side::To, rest)
    } else {
        (Side::Exact, lower)
    }
}

/// All spellings of three generations of the platform's documents; in the newest, 1 is descending.
fn direction(text: &str) -> Option<SortDirection> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "asc" | "ascending" => Some(SortDirection::Ascending),
        "1" | "-1" | "desc" | "descending" => Some(SortDirection::Descending),
        _ => None,
    }
}

/// True or false, as clients write it.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// `[1,2,3]`, with or without spaces; an empty list asks for nothing.
pub(super) fn ids(text: &str) -> Option<Vec<i64>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let ids: Option<Vec<i64>> =
        inner.split(',').map(str::trim).filter(|id| !id.is_empty()).map(|id| id.parse().ok()).collect();
    ids.filter(|ids| ids.len() <= MOST_IDS)
}

/// What a value asks of a field; or what it should be.
fn test(field: &ListedField, side: Side, value: &str) -> Result<FieldTest, &'static str> {
    if side == Side::Exact {
        match value.to_ascii_lowercase().as_str() {
            "null" => return Ok(FieldTest::Null),
            "notnull" => return Ok(FieldTest::NotNull),
            _ => {}
        }
    }
    match (field.kind, side) {
        (FieldKind::Number, Side::Exact) => {
            if value.starts_with('[') {
                return ids(value).map(FieldTest::AnyOf).ok_or(ID_LIST);
            }
            client_number::whole(value).map(FieldTest::Number).ok_or("is a number")
        }
        (FieldKind::Source, Side::Exact) => {
            let source = CheckinSource::from_text(value).ok_or("is the name or the number of an eCheckinSource")?;
            Ok(FieldTest::Number(source.number()))
        }
        (FieldKind::Truth, Side::Exact) => truth(value).map(FieldTest::Truth).ok_or("is true or false"),
        (FieldKind::Guid, Side::Exact) => Uuid::parse_str(value).map(FieldTest::Guid).map_err(|_| "is a UUID"),
        (FieldKind::Text, Side::Exact) => Ok(FieldTest::Contains(value.to_owned())),
        (FieldKind::Instant, side) => {
            let at = client_time::instant(value).ok_or("is a time, such as 2026-11-26T19:30:00Z")?;
            Ok(match side {
                Side::Exact => FieldTest::At(at),
                Side::From => FieldTest::From(at),
                Side::To => FieldTest::To(at),
            })
        }
        (FieldKind::WallClock, side) => {
            let at = client_time::wall_clock(value).ok_or("is a time, such as 2026-11-26T19:30:00")?;
            Ok(match side {
                Side::Exact => FieldTest::AtLocal(at),
                Side::From => FieldTest::FromLocal(at),
                Side::To => FieldTest::ToLocal(at),
            })
        }
        (
            FieldKind::Number | FieldKind::Source | FieldKind::Truth | FieldKind::Guid | FieldKind::Text,
            Side::From | Side::To,
        ) => Err("has no range; only times do"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::listed_entity::CHECKIN, *};

    const NOW: WallTime = WallTime::from_millis(1_800_000_000_000);

    fn page(query: &str) -> ListQuery {
        let read = read(&CHECKIN, query, NOW).expect("a query");
        assert_eq!(read.form, AnswerForm::Envelope, "{query}");
        read.query
    }

    fn tests(query: &str) -> Vec<(&'static str, FieldTest)> {
        page(query).tests.into_iter().map(|(field, test)| (field.column, test)).collect()
    }

    #[test]
    fn a_page_and_its_order_are_read_in_every_spelling() {
        use SortDirection::{Ascending, Descending};
        for (query, order, direction, number, size) in [
            ("", "from_time", Descending, 1, 25),
            ("page=2&size=1000", "from_time", Descending, 2, 1000),
            ("Page=2&SIZE=99999", "from_time", Descending, 2, 10_000),
            ("orderBy=ToTime&dir=Descending", "to_time", Descending, 1, 25),
            ("orderby=FromTime&dir=-1", "from_time", Descending, 1, 25),
            ("orderBy=createdon&dir=1", "created_on", Descending, 1, 25),
            ("orderBy=CreatedOn&dir=0", "created_on", Ascending, 1, 25),
            ("orderBy=CreatedOn", "created_on", Ascending, 1, 25),
            ("dir=asc", "from_time", Ascending, 1, 25),
            ("orderBy=&dir=", "from_time", Descending, 1, 25),
        ] {
            let page = page(query);
            let read = (page.order.column, page.direction, page.page, page.size);
            assert_eq!(read, (order, direction, number, size), "{query}");
        }
    }

    #[test]
    fn filters_are_read_in_every_spelling() {
        let at = |text| client_time::instant(text).expect("a time");
        for (query, column, test) in [
            ("Checkin_Coworker=7", "coworker_id", FieldTest::Number(7)),
            ("checkin_coworker=[7,8]", "coworker_id", FieldTest::AnyOf(vec![7, 8])),
            ("Checkin_Coworker_FullName=B%C3%B6b", "coworker_full_name", FieldTest::Contains("Böb".to_owned())),
            ("Checkin_Source=DoorAccess", "source", FieldTest::Number(2)),
            ("Checkin_Source=3", "source", FieldTest::Number(3)),
            ("Checkin_AutoCheckout=False", "auto_checkout", FieldTest::Truth(false)),
            ("Checkin_ToTime=null", "to_time", FieldTest::Null),
            ("Checkin_ToTime=NotNull", "to_time", FieldTest::NotNull),
            ("from_Checkin_FromTime=2026-11-26T00:00:01", "from_time", FieldTest::From(at("2026-11-26T00:00:01Z"))),
            ("To_Checkin_UpdatedOn=2026-11-26T00:00", "updated_on", FieldTest::To(at("2026-11-26T00:00:00Z"))),
            ("Checkin_FromTime=2026-11-26T09:00:00Z", "from_time", FieldTest::At(at("2026-11-26T09:00:00Z"))),
            ("Id=5", "id", FieldTest::Number(5)),
            ("Id=5.0", "id", FieldTest::Number(5)),
        ] {
            assert_eq!(tests(query), [(column, test)], "{query}");
        }
        let guid = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
        let test = FieldTest::Guid(Uuid::parse_str(guid).expect("a UUID"));
        assert_eq!(tests(&format!("Checkin_UniqueId={}", guid.to_uppercase())), [("unique_id", test)]);
    }

    #[test]
    fn ids_are_read_raw_and_encoded() {
        for query in ["id=[1,2]", "Checkin_Id=%5B1,2%5D", "ID=[ 1, 2 ]", "id=[1]&id=[2]"] {
            let read = read(&CHECKIN, query, NOW).expect("a query");
            assert_eq!(read.form, AnswerForm::Bare, "{query}");
            assert_eq!(read.query.tests, [(CHECKIN.id(), FieldTest::AnyOf(vec![1, 2]))], "{query}");
        }
    }

    #[test]
    fn what_means_nothing_is_named_and_what_cannot_be_read_is_a_fault() {
        let ignored = read(&CHECKIN, "Foo=1&FailedCheckin_Id=3&PageNumber=2&from_page=3", NOW).map(|read| read.ignored);
        assert_eq!(ignored, Ok(["Foo", "FailedCheckin_Id", "PageNumber", "from_page"].map(ToOwned::to_owned).to_vec()));
        let faults = read(
            &CHECKIN,
            "page=0&size=x&orderBy=Colour&dir=up&Checkin_Coworker=Bob&Checkin_AutoCheckout=maybe&id=[1,x]\
             &Checkin_UniqueId=7&Checkin_Source=Window&from_Checkin_FromTime=now&from_Checkin_Coworker=7",
            NOW,
        );
        let faults = faults.expect_err("faults");
        let names: Vec<&str> = faults.iter().map(|fault| fault.property_name.as_str()).collect();
        let expected = [
            "page",
            "size",
            "dir",
            "Checkin_Coworker",
            "Checkin_AutoCheckout",
            "id",
            "Checkin_UniqueId",
            "Checkin_Source",
            "from_Checkin_FromTime",
            "from_Checkin_Coworker",
            "orderBy",
        ];
        assert_eq!(names, expected);
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(query: String) {
            let _read = read(&CHECKIN, &query, NOW);
        }
    }
}
