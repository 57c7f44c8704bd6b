//! PURE. Lists of records: by which fields they are filtered and sorted, and what a list may ask for.

use std::collections::BTreeSet;

use chrono::NaiveDateTime;
use uuid::Uuid;

use super::{
    clock::WallTime,
    mac::MacAddr,
    record::{
        BusinessId, CheckinId, CheckinSource, CoworkerChargeId, CoworkerId, FailedCheckinId, TimePassId, charge_fields,
        checkin_fields, failed_checkin_fields,
    },
};

/// The most records of one page. Clients ask for as many; a larger size is cut to this.
pub const LARGEST_PAGE: u32 = 10_000;

/// A field by which records are filtered and sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedField {
    /// The name of its column; in Pascal case, of its key in the API.
    pub column: &'static str,
    /// What its values are.
    pub kind: FieldKind,
    /// Whether it is never null: then nothing has to be sorted to the end.
    pub is_always_set: bool,
}

/// What the values of a field are, as clients write them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// An id or another number.
    Number,
    /// An `eCheckinSource`, by number or name.
    Source,
    /// True or false.
    Truth,
    /// A UUID.
    Guid,
    /// An instant.
    Instant,
    /// A time on the wall clock of the business.
    WallClock,
    /// Text, found by a part of it.
    Text,
}

/// The type of a field of a record that is listed.
trait FieldType {
    const KIND: FieldKind;
    const IS_ALWAYS_SET: bool = true;
}

impl<T: FieldType> FieldType for Option<T> {
    const KIND: FieldKind = T::KIND;
    const IS_ALWAYS_SET: bool = false;
}

macro_rules! listed {
    ($($kind:ty => $field:ident;)+) => {
        $(impl FieldType for $kind {
            const KIND: FieldKind = FieldKind::$field;
        })+
    };
}

listed! {
    CheckinId => Number;
    FailedCheckinId => Number;
    CoworkerId => Number;
    BusinessId => Number;
    TimePassId => Number;
    CoworkerChargeId => Number;
    i64 => Number;
    CheckinSource => Source;
    bool => Truth;
    Uuid => Guid;
    WallTime => Instant;
    NaiveDateTime => WallClock;
    String => Text;
}

/// The addresses of devices are one text in the database; without any it is null.
impl FieldType for BTreeSet<MacAddr> {
    const KIND: FieldKind = FieldKind::Text;
    const IS_ALWAYS_SET: bool = false;
}

/// Lists the fields of a record.
macro_rules! fields_of {
    ($name:ident { $($field:ident: $kind:ty),+ }) => {
        &[$(ListedField {
            column: stringify!($field),
            kind: <$kind as FieldType>::KIND,
            is_always_set: <$kind as FieldType>::IS_ALWAYS_SET,
        }),+]
    };
}

/// The fields of a check-in.
pub const CHECKIN_FIELDS: &[ListedField] = checkin_fields!(fields_of);

/// The fields of a failed check-in.
pub const FAILED_CHECKIN_FIELDS: &[ListedField] = failed_checkin_fields!(fields_of);

/// The fields of a charge.
pub const CHARGE_FIELDS: &[ListedField] = charge_fields!(fields_of);

/// What a field must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldTest {
    /// This number, or the number of this source.
    Number(i64),
    /// One of these numbers.
    AnyOf(Vec<i64>),
    /// This.
    Truth(bool),
    /// This.
    Guid(Uuid),
    /// Text that contains this; ASCII letters in any case.
    Contains(String),
    /// An instant shown as this one.
    At(WallTime),
    /// This instant or later.
    From(WallTime),
    /// This instant, as it is shown, or earlier.
    To(WallTime),
    /// This wall clock time.
    AtLocal(NaiveDateTime),
    /// This wall clock time or later.
    FromLocal(NaiveDateTime),
    /// This wall clock time or earlier.
    ToLocal(NaiveDateTime),
    /// Null.
    Null,
    /// Anything but null.
    NotNull,
    /// An instant before this one; null does not pass.
    Before(WallTime),
    /// Null, or this instant or later.
    NotBefore(WallTime),
}

/// Which way records are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortDirection {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Which records, in which order, and which page of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Every one must hold.
    pub tests: Vec<(&'static ListedField, FieldTest)>,
    /// Only records of these businesses; `None` for all.
    pub businesses: Option<BTreeSet<BusinessId>>,
    /// What they are sorted by; then by id. Null comes last.
    pub order: &'static ListedField,
    /// Which way.
    pub direction: SortDirection,
    /// From 1.
    pub page: u32,
    /// Records of a page, from 1 to [`LARGEST_PAGE`].
    pub size: u32,
    /// The end of the page before this one, where that is known: the page begins there, whatever came or went before it
    /// since. Without it, as many records are passed over as all pages before it have.
    pub after: Option<ListPosition>,
}

/// A place between two records of a sorted list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListPosition {
    /// What the record before it is sorted by.
    pub key: PositionKey,
    /// The number of that record.
    pub id: i64,
}

/// What a record is sorted by, in lists whose places are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionKey {
    /// An id or another number.
    Number(i64),
    /// An instant.
    Instant(WallTime),
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// Its records.
    pub records: Vec<T>,
    /// How many match, on all pages. While records change, a count that takes long may be up to a minute old.
    pub total: u64,
    /// Whether more records follow.
    pub has_more: bool,
    /// Its end; `None` if it has no record, or is sorted by a field whose places are not kept.
    pub end: Option<ListPosition>,
}

impl ListedField {
    /// Whether the places of a list that is sorted by it are kept: its values are never null, and the databases agree on
    /// their order.
    pub const fn has_places(&self) -> bool {
        self.is_always_set && matches!(self.kind, FieldKind::Number | FieldKind::Source | FieldKind::Instant)
    }
}

impl ListQuery {
    /// How many records are before the page.
    pub fn before(&self) -> u64 {
        u64::from(self.page.saturating_sub(1)) * u64::from(self.size)
    }
}
