//! PURE. Pieces of the schemas in the OpenAPI document: how clients write values in queries and bodies, as this API reads
//! them.

use serde_json::Value;
use utoipa::openapi::{
    AllOfBuilder, KnownFormat, Object, ObjectBuilder, Ref, RefOr, Schema, SchemaFormat,
    schema::{AnyOfBuilder, SchemaType, Type},
};

use crate::{
    base::{listing::FieldKind, record::CheckinSource},
    directory::entity::LAST_OWN_ID,
};

/// An instant or a wall clock time without a zone, in the forms beside RFC 3339. Days after the 28th are left out: a
/// pattern cannot tell which months have them.
const PLAIN_TIME: &str = "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,9})?)?)?$";

/// A list of ids. The bound of their number is that of the API.
const ID_LIST: &str = "^\\[ *([0-9]{1,18}( *, *[0-9]{1,18}){0,999})? *\\]$";

/// A number that names a record, as text.
const ID_TEXT: &str = "^[1-9][0-9]{0,17}(\\.0)?$";

/// The same for a new record, whose id is smaller.
const NEW_ID_TEXT: &str = "^[1-9][0-9]{0,14}(\\.0)?$";

/// Always null: only the platform's own pages use it.
pub(super) fn null() -> Object {
    of_type(Type::Null).build()
}

pub(super) fn of_type(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

pub(super) fn of_types(kinds: &[Type]) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(SchemaType::Array(kinds.to_vec()))
}

/// One of these.
pub(super) fn any_of<S: Into<RefOr<Schema>>>(items: impl IntoIterator<Item = S>) -> AnyOfBuilder {
    items.into_iter().fold(AnyOfBuilder::new(), AnyOfBuilder::item)
}

/// All of these.
pub(super) fn all_of<S: Into<RefOr<Schema>>>(items: impl IntoIterator<Item = S>) -> AllOfBuilder {
    items.into_iter().fold(AllOfBuilder::new(), AllOfBuilder::item)
}

/// One of these texts.
pub(super) fn words<T: Into<Value>>(words: impl IntoIterator<Item = T>) -> ObjectBuilder {
    of_type(Type::String).enum_values(Some(words))
}

pub(super) fn reference(schema: &str) -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(schema))
}

fn matching(pattern: &str) -> ObjectBuilder {
    of_type(Type::String).pattern(Some(pattern))
}

fn whole_number() -> ObjectBuilder {
    of_type(Type::Integer).format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
}

fn formatted(format: KnownFormat) -> ObjectBuilder {
    of_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
}

/// What clients write where there is no value: an empty text, or nothing at all.
pub(super) fn empty() -> RefOr<Schema> {
    Schema::from(of_type(Type::String).max_length(Some(0))).into()
}

/// A piece of a larger schema.
fn piece(builder: impl Into<Schema>) -> RefOr<Schema> {
    RefOr::T(builder.into())
}

/// The names and numbers of the sources, as a pattern.
fn sources() -> String {
    let names = CheckinSource::ALL.map(|source| format!("{}|{}", source.name(), source.number()));
    names.join("|")
}

/// Texts that mean true or false.
const TRUTHS: &str = "[Tt]rue|[Ff]alse|1|0";

/// The schemas of what clients write, each with its name.
pub(super) fn of_values() -> Vec<(&'static str, Schema)> {
    let filters = [
        FieldKind::Number,
        FieldKind::Source,
        FieldKind::Truth,
        FieldKind::Guid,
        FieldKind::Instant,
        FieldKind::WallClock,
        FieldKind::Text,
    ];
    let filters = filters.map(|kind| (filter_of(kind), filter(kind)));
    let time = any_of([formatted(KnownFormat::DateTime), matching(PLAIN_TIME)]);
    let time = time.description(Some("A time: RFC 3339; without a zone; a date; or a date of RFC 1123."));
    let in_query = any_of([reference("ClientTime"), empty()]);
    let in_query = in_query.description(Some("An end of a range, included; empty, it asks for nothing."));
    let flag = matching(&format!("^({TRUTHS})?$")).description(Some("True or false; empty, it asks for nothing."));
    let more = [("ClientTime", time.into()), ("OptionalQueryTime", in_query.into()), ("FlagFilter", flag.into())];
    filters.into_iter().chain(more).chain(of_body_values()).collect()
}

/// The values of a body.
fn of_body_values() -> [(&'static str, Schema); 7] {
    let id = |highest: i64, text: &str| {
        let number = of_type(Type::Integer).minimum(Some(1)).maximum(Some(highest));
        any_of([piece(number), piece(matching(text))]).description(Some("A number that names a record, also as text."))
    };
    let none = || [piece(of_type(Type::Null)), piece(matching("^(null)?$"))];
    // Some clients have numbers that cannot be absent.
    let zero = || of_type(Type::Integer).minimum(Some(0)).maximum(Some(0));
    let no_id = || [piece(of_type(Type::Null)), piece(zero()), piece(matching("^(0|null)?$"))];
    let or = |one: RefOr<Schema>, none: Vec<RefOr<Schema>>| any_of([one].into_iter().chain(none)).into();
    let truth = of_type(Type::Integer).minimum(Some(0)).maximum(Some(1));
    let truth = [piece(of_type(Type::Boolean)), piece(truth), piece(matching(&format!("^({TRUTHS}|null)?$")))];
    let highest = CheckinSource::ALL.iter().map(|source| source.number()).max();
    let source = of_type(Type::Integer).minimum(Some(0)).maximum(highest);
    let source = [piece(source), piece(matching(&format!("^({}|null)?$", sources())))];
    [
        ("NewId", or(piece(id(LAST_OWN_ID, NEW_ID_TEXT)), no_id().into())),
        ("ClientId", id(i64::MAX, ID_TEXT).into()),
        ("OptionalClientId", or(reference("ClientId"), no_id().into())),
        ("OptionalClientTime", or(reference("ClientTime"), none().into())),
        ("ClientTruth", or(piece(of_type(Type::Null)), truth.into())),
        ("ClientSource", or(piece(of_type(Type::Null)), source.into())),
        ("ClientName", matching("^[^\\u0000]+$").into()),
    ]
}

/// The schema of a filter by a field of this kind.
pub(super) const fn filter_of(kind: FieldKind) -> &'static str {
    match kind {
        FieldKind::Number => "NumberFilter",
        FieldKind::Source => "SourceFilter",
        FieldKind::Truth => "TruthFilter",
        FieldKind::Guid => "GuidFilter",
        FieldKind::Instant => "InstantFilter",
        FieldKind::WallClock => "WallClockFilter",
        FieldKind::Text => "TextFilter",
    }
}

fn filter(kind: FieldKind) -> Schema {
    let any = |items: Vec<RefOr<Schema>>, text: &str| {
        let items = items.into_iter().chain([piece(matching("^(null|notnull)?$"))]);
        any_of(items).description(Some(format!("{text}; `null` or `notnull`; empty, it asks for nothing."))).into()
    };
    match kind {
        FieldKind::Number => {
            let number = whole_number().minimum(Some(i64::MIN)).maximum(Some(i64::MAX));
            any(vec![piece(number), piece(matching(ID_LIST))], "A number, or a list of ids such as `[1,2]`")
        }
        FieldKind::Source => {
            any(vec![piece(matching(&format!("^({})$", sources())))], "The name or the number of a source")
        }
        FieldKind::Truth => any(vec![piece(matching(&format!("^({TRUTHS})$")))], "True or false"),
        FieldKind::Guid => any(vec![piece(formatted(KnownFormat::Uuid))], "A UUID"),
        FieldKind::Instant => any(vec![reference("ClientTime")], "A time; without a zone, of UTC; to the second"),
        FieldKind::WallClock => any(vec![reference("ClientTime")], "A time on the wall clock; a zone means nothing"),
        FieldKind::Text => of_type(Type::String)
            .description(Some("A part of the text, ASCII letters in any case; `null` or `notnull`."))
            .into(),
    }
}
