//! PURE. The parameters of requests. Those of lists follow from the fields that lists are filtered and sorted by.

use utoipa::openapi::{
    ObjectBuilder, Ref, RefOr, Required, Schema,
    path::{Parameter, ParameterBuilder, ParameterIn},
    schema::Type,
};

use super::super::{
    documents,
    listed_entity::{ListedEntity, key_of},
    schema_parts::{any_of, empty, filter_of, of_type, reference, words},
};
use crate::{base::listing::FieldKind, directory::entity::EntityKind};

/// The last page that can be asked for.
const LAST_PAGE: usize = u32::MAX as usize;

/// The parameters that every list has, and those of the lists of the directory, by their names in the components: the
/// directory has several paths for each list.
pub(super) fn shared() -> Vec<(String, Parameter)> {
    let number = |maximum: usize| or_empty(of_type(Type::Integer).minimum(Some(1)).maximum(Some(maximum)));
    let directions = or_empty(words(["0", "1", "-1", "asc", "desc", "ascending", "descending"]));
    let of_every_list = [
        ("Page", query("page", "The page, from 1.", number(LAST_PAGE))),
        (
            "Size",
            query(
                "size",
                "Records of a page: 25 unless asked otherwise. More than 10,000 are cut to that.",
                number(usize::MAX),
            ),
        ),
        ("Dir", query("dir", "Which way: 0, asc or ascending; 1, -1, desc or descending.", directions)),
        (
            "Id",
            query(
                "Id",
                "One id as a filter; a list such as `[1,2,3]` is answered with a bare array.",
                reference(filter_of(FieldKind::Number)),
            ),
        ),
    ];
    let of_every_list = of_every_list.map(|(name, parameter)| (name.to_owned(), parameter));
    of_every_list.into_iter().chain(EntityKind::ALL.into_iter().flat_map(directory)).collect()
}

/// A parameter of the components.
pub(super) fn shared_reference(name: &str) -> RefOr<Parameter> {
    RefOr::Ref(Ref::new(format!("#/components/parameters/{name}")))
}

/// What a list of these records is filtered and sorted by.
pub(super) fn of_list(entity: &'static ListedEntity, name: &str) -> Vec<RefOr<Parameter>> {
    let fields = || entity.fields().iter();
    let keys = fields().map(key_of).collect::<Vec<_>>();
    let order = ordering(keys, &key_of(entity.default_order()));
    let exact = fields().filter(|field| field.column != "id").map(|field| (key_of(field), filter_of(field.kind)));
    let flags = entity.flags().map(|flag| (flag.to_owned(), "FlagFilter"));
    let filters = exact.chain(flags).map(|(key, schema)| (format!("{name}_{key}"), schema));
    let times = fields().filter(|field| matches!(field.kind, FieldKind::Instant | FieldKind::WallClock));
    let ranges = times
        .flat_map(|field| ["from", "to"].map(|side| (format!("{side}_{name}_{}", key_of(field)), "OptionalQueryTime")));
    let filters = filters.chain(ranges).map(|(name, schema)| filtering(&name, schema));
    paging().into_iter().chain([order].into_iter().chain(filters).map(RefOr::T)).collect()
}

/// The same for a kind of entity of the directory.
pub(super) fn of_directory(kind: EntityKind) -> Vec<RefOr<Parameter>> {
    let own = directory(kind).into_iter().map(|(name, _)| shared_reference(&name));
    paging().into_iter().chain(own).collect()
}

/// The parameters of the lists of a kind beside those of every list.
fn directory(kind: EntityKind) -> Vec<(String, Parameter)> {
    let name = documents::entity_of(kind).name();
    let keys = || documents::listed_keys(kind);
    let order = ordering(keys().map(ToOwned::to_owned).collect(), "Id");
    let filters = keys().filter(|key| *key != "Id").map(|key| (format!("{name}_{key}"), "TextFilter"));
    let ranges = ["CreatedOn", "UpdatedOn"]
        .into_iter()
        .flat_map(|key| ["from", "to"].map(|side| (format!("{side}_{name}_{key}"), "OptionalQueryTime")));
    let filters = filters.chain(ranges).map(|(name, schema)| (name.clone(), filtering(&name, schema)));
    [(format!("{name}_Order"), order)].into_iter().chain(filters).collect()
}

/// The id in a path.
pub(super) fn id() -> Parameter {
    let id = of_type(Type::Integer).minimum(Some(i64::MIN)).maximum(Some(i64::MAX));
    let parameter = ParameterBuilder::new().name("id").parameter_in(ParameterIn::Path).required(Required::True);
    parameter.schema(Some(id)).build()
}

/// The name of an enumeration.
pub(super) fn enumeration() -> Parameter {
    let mut name = query("name", "The enumeration, in any case.", RefOr::T(words(["eCheckinSource"]).into()));
    name.required = Required::True;
    name
}

fn paging() -> [RefOr<Parameter>; 4] {
    ["Page", "Size", "Dir", "Id"].map(shared_reference)
}

fn ordering(keys: Vec<String>, default: &str) -> Parameter {
    let description = format!("A property, in any case; {default} unless asked otherwise.");
    query("orderBy", &description, or_empty(words(keys)))
}

fn filtering(name: &str, schema: &str) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.schema(Some(reference(schema))).build()
}

/// An empty parameter asks for nothing.
fn or_empty(schema: ObjectBuilder) -> RefOr<Schema> {
    Schema::from(any_of([Schema::from(schema).into(), empty()])).into()
}

fn query(name: &str, description: &str, schema: RefOr<Schema>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
    parameter.description(Some(description)).schema(Some(schema)).build()
}
