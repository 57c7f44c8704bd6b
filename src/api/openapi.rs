//! `GET /openapi.json`: the contract of the API as an OpenAPI 3.1 document. It is made from what the handlers use: the
//! types of the answers, the fields of the lists, the keys of the bodies.
//!
//! A copy is committed as `src/docs/openapi.json`. Tests compare it with the code, and the code with the routes.

mod answers;
mod bodies;
mod operations;
mod parameters;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use axum::{
    body::Bytes,
    http::header,
    response::{IntoResponse, Response},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, RefOr, Schema,
        schema::{AdditionalProperties, ArrayBuilder, ObjectBuilder, SchemaType, Type},
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
        tag::TagBuilder,
    },
};

use super::{
    account::{EnumValue, Me},
    command::CommandEnvelope,
    documents,
    health::{HealthBody, Readiness},
    list::ListEnvelope,
    reply::{Envelope, JSON, OAuthKeys},
    schema_parts::{self, of_type, reference},
    shape::{ChargeEntity, CheckinEntity, FailedCheckinEntity},
    token::Granted,
};
use crate::{access::RoleEntity, directory::entity::EntityKind};

/// The document as JSON, with line breaks.
///
/// # Panics
/// Never: a document is plain data.
pub fn text() -> String {
    document().to_pretty_json().expect("plain data") + "\n"
}

/// Serves the document. It is made at the first request: few daemons are asked for it.
pub(super) async fn served() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| document().to_json().expect("plain data").into());
    ([(header::CONTENT_TYPE, JSON)], text.clone()).into_response()
}

fn document() -> OpenApi {
    let license = LicenseBuilder::new().name("MIT OR Apache-2.0").identifier(Some("MIT OR Apache-2.0")).build();
    let info = InfoBuilder::new()
        .title("checkind")
        .version(env!("CARGO_PKG_VERSION"))
        .license(Some(license))
        .description(Some(
            "Attendance of coworking sites, as a drop-in for the platform's `/api/spaces`. Paths, names of parameters and \
             keys are read in any case. Whatever fails has the form `Error`.",
        ))
        .build();
    let tags = tags().map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build());
    let paths = operations::all().into_iter().fold(Paths::new(), |mut paths, (path, method, operation)| {
        paths.add_path_operation(path, vec![method], operation);
        paths
    });
    OpenApiBuilder::new().info(info).tags(Some(tags)).paths(paths).components(Some(components())).build()
}

fn tags() -> [(&'static str, &'static str); 11] {
    [
        (RoleEntity::Checkin.name(), "Who was in, where and when."),
        (RoleEntity::FailedCheckin.name(), "Who was not let in, and why."),
        (RoleEntity::CoworkerCharge.name(), "What visits without a pass cost. The shape is our own."),
        (RoleEntity::Business.name(), "Locations."),
        (RoleEntity::Team.name(), "Teams."),
        (RoleEntity::Tariff.name(), "Plans."),
        (RoleEntity::TimePass.name(), "Kinds of passes."),
        (RoleEntity::Coworker.name(), "People."),
        (RoleEntity::CoworkerTimePass.name(), "Passes that people hold."),
        ("Account", "Tokens, and who one is."),
        ("Monitoring", "For machines that watch the daemon, without a user."),
    ]
}

fn components() -> Components {
    let mut schemas = of_answers();
    schemas.extend(schema_parts::of_values().into_iter().map(|(name, schema)| (name.to_owned(), schema.into())));
    schemas.extend(bodies::schemas().into_iter().map(|(name, schema)| (name, schema.into())));
    for kind in EntityKind::ALL {
        schemas.push((documents::entity_of(kind).name().to_owned(), entity(kind).into()));
    }
    let listed = [RoleEntity::Checkin, RoleEntity::FailedCheckin, RoleEntity::CoworkerCharge];
    for of in listed.into_iter().chain(EntityKind::ALL.map(documents::entity_of)) {
        schemas.push((format!("{}Page", of.name()), page(of.name())));
    }
    let components = ComponentsBuilder::new().schemas_from_iter(schemas);
    let components = answers::components().into_iter().fold(components, |all, (name, one)| all.response(name, one));
    let components = answers::headers().into_iter().fold(components, |all, (name, one)| all.header(name, one));
    let components = parameters::shared().into_iter().fold(components, |all, (name, one)| all.parameter(name, one));
    let scheme =
        |kind, text: &str| SecurityScheme::Http(HttpBuilder::new().scheme(kind).description(Some(text)).build());
    components
        .security_scheme("bearer", scheme(HttpAuthScheme::Bearer, "A token of `/api/token`, or a long-lived one."))
        .security_scheme("basic", scheme(HttpAuthScheme::Basic, "The name and the password of a user."))
        .build()
}

/// The types of the answers, and of what is in them.
fn of_answers() -> Vec<(String, RefOr<Schema>)> {
    let mut all = Vec::new();
    answer::<CheckinEntity>(&mut all);
    answer::<FailedCheckinEntity>(&mut all);
    answer::<ChargeEntity>(&mut all);
    answer::<CommandEnvelope>(&mut all);
    answer::<Envelope>(&mut all);
    answer::<Granted>(&mut all);
    answer::<OAuthKeys>(&mut all);
    answer::<Me>(&mut all);
    answer::<EnumValue>(&mut all);
    answer::<HealthBody>(&mut all);
    answer::<Readiness>(&mut all);
    all
}

fn answer<T: ToSchema>(all: &mut Vec<(String, RefOr<Schema>)>) {
    let mut inner = Vec::new();
    T::schemas(&mut inner);
    inner.push((T::name().into_owned(), T::schema()));
    all.extend(inner.into_iter().map(|(name, schema)| (name, with_every_key(schema))));
}

/// The schema with every key required: an answer has all of them, nulls written out.
fn with_every_key(mut schema: RefOr<Schema>) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        object.required = object.properties.keys().cloned().collect();
    }
    if let RefOr::T(Schema::AllOf(parts)) = &mut schema {
        let items = std::mem::take(&mut parts.items);
        parts.items = items.into_iter().map(with_every_key).collect();
    }
    schema
}

/// A page of records.
fn page(record: &str) -> RefOr<Schema> {
    let mut page = with_every_key(ListEnvelope::<i64>::schema());
    if let RefOr::T(Schema::Object(object)) = &mut page {
        let records = ArrayBuilder::new().items(reference(record));
        object.properties.insert("Records".to_owned(), Schema::from(records).into());
    }
    page
}

/// An entity of the directory: it has the keys of its last import, and those of every entity.
fn entity(kind: EntityKind) -> Schema {
    let anything = || ObjectBuilder::new().schema_type(SchemaType::AnyValue);
    let other = documents::listed_keys(kind).filter(|key| !documents::KEYS.contains(key));
    let entity = ObjectBuilder::new().additional_properties(Some(AdditionalProperties::FreeForm(true)));
    let entity = documents::KEYS.into_iter().fold(entity, |entity, key| {
        // The others are what an import says.
        let schema = match key {
            "Id" => of_type(Type::Integer),
            "Archived" => of_type(Type::Boolean),
            "UpdatedOn" => of_type(Type::String),
            _ => anything(),
        };
        entity.property(key, schema).required(key)
    });
    other.fold(entity, |entity, key| entity.property(key, anything())).into()
}
