//! PURE. The bodies of commands: which keys they have, and what may be in them. Keys are read in any case, and others are
//! left out.

use utoipa::openapi::{
    Content, RefOr, Schema,
    request_body::{RequestBody, RequestBodyBuilder},
    schema::{ObjectBuilder, SchemaType, Type},
};

use super::super::{
    checkin_body::{READ_ONLY, SYSTEM_ID},
    checkin_change::KEY,
    documents, failure_change,
    schema_parts::{any_of, of_type, of_types, reference, words},
};
use crate::directory::entity::EntityKind;

/// The media types of a command. It is read under any other, too.
const KINDS: [&str; 2] = ["application/json", "application/x-www-form-urlencoded"];

/// The schemas of the bodies, each with its name.
pub(super) fn schemas() -> Vec<(String, Schema)> {
    let own = [
        ("NewCheckin".to_owned(), new_checkin()),
        ("ChangedCheckin".to_owned(), changed_checkin()),
        ("NewFailedCheckin".to_owned(), new_failed_checkin()),
        ("ChangedFailedCheckin".to_owned(), changed_failed_checkin()),
        ("KioskCheckin".to_owned(), kiosk_checkin()),
        ("Command".to_owned(), command()),
        ("PasswordGrant".to_owned(), grant("password", &["username", "password"])),
        ("RefreshGrant".to_owned(), grant("refresh_token", &["refresh_token"])),
    ];
    let entities = EntityKind::ALL
        .into_iter()
        .flat_map(|kind| [(name_of("New", kind), entity(kind, true)), (name_of("Changed", kind), entity(kind, false))]);
    own.into_iter().chain(entities).collect()
}

/// `NewCoworker`.
pub(super) fn name_of(what: &str, kind: EntityKind) -> String {
    format!("{what}{}", documents::entity_of(kind).name())
}

/// A body in JSON or as a form.
pub(super) fn body(schema: &str) -> RequestBody {
    let body = RequestBodyBuilder::new().required(Some(utoipa::openapi::Required::True));
    KINDS.into_iter().fold(body, |body, kind| body.content(kind, Content::new(Some(reference(schema))))).build()
}

/// The form of a token request.
pub(super) fn token_form() -> RequestBody {
    let grants = any_of([reference("PasswordGrant"), reference("RefreshGrant")]);
    let body = RequestBodyBuilder::new().required(Some(utoipa::openapi::Required::True));
    body.content(KINDS[1], Content::new(Some(grants))).build()
}

fn new_checkin() -> Schema {
    let body = keys([
        ("BusinessId", reference("ClientId")),
        ("CoworkerId", reference("OptionalClientId")),
        ("Source", reference("ClientSource")),
        ("FromTime", reference("ClientTime")),
        ("ToTime", reference("OptionalClientTime")),
        ("SystemId", system_id()),
        ("IgnoreAdmission", reference("ClientTruth")),
        ("Id", reference("OptionalClientId")),
    ]);
    read_only(body).required("BusinessId").required("FromTime").into()
}

fn changed_checkin() -> Schema {
    let body = keys([
        ("Id", reference("ClientId")),
        ("CoworkerId", reference("OptionalClientId")),
        ("BusinessId", reference("OptionalClientId")),
        ("Source", reference("ClientSource")),
        ("FromTime", reference("OptionalClientTime")),
        ("ToTime", reference("OptionalClientTime")),
        ("SystemId", system_id()),
    ]);
    let body = body.description(Some("Keys that are absent stay as they are; a null `ToTime` opens the check-in."));
    read_only(body).required("Id").into()
}

fn new_failed_checkin() -> Schema {
    let body = keys([
        ("BusinessId", reference("ClientId")),
        ("CoworkerId", reference("OptionalClientId")),
        ("Source", reference("ClientSource")),
        ("CheckinAttemptTime", reference("ClientTime")),
        ("Id", reference("OptionalClientId")),
    ]);
    failure_fields(body).required("BusinessId").required("CheckinAttemptTime").into()
}

fn changed_failed_checkin() -> Schema {
    let body = keys([
        ("Id", reference("ClientId")),
        ("CoworkerId", reference("OptionalClientId")),
        ("BusinessId", reference("OptionalClientId")),
        ("Source", reference("ClientSource")),
        ("CheckinAttemptTime", reference("OptionalClientTime")),
    ]);
    failure_fields(body.description(Some("Keys that are absent stay as they are."))).required("Id").into()
}

/// What a user may write of a failed check-in, and the keys of an echoed one.
fn failure_fields(body: ObjectBuilder) -> ObjectBuilder {
    let text = || RefOr::T(Schema::from(of_types(&[Type::String, Type::Null])));
    let written = ["MacAddresses", "Description", "TeamsAtTheTimeOfCheckin", "TariffAtTheTimeOfCheckin", "SystemId"];
    let body = written.into_iter().fold(body, |body, key| body.property(key, text()));
    failure_change::READ_ONLY.iter().fold(body, |body, key| {
        body.property(*key, ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Left out.")))
    })
}

fn kiosk_checkin() -> Schema {
    let text = || RefOr::T(Schema::from(of_types(&[Type::String, Type::Null])));
    let body = ["mac", "accessCardId", "pincode", "email"]
        .into_iter()
        .fold(ObjectBuilder::new(), |body, key| body.property(key, text()));
    ["toggle", "disconnect", "doNotCheckIn"]
        .into_iter()
        .fold(body, |body, key| body.property(key, reference("ClientTruth")))
        .into()
}

fn command() -> Schema {
    let key = of_types(&[Type::String, Type::Number, Type::Boolean]).min_length(Some(1)).max_length(Some(KEY));
    let anything = || RefOr::T(ObjectBuilder::new().schema_type(SchemaType::AnyValue).into());
    let body = keys([("Key", RefOr::T(key.into())), ("Ids", anything()), ("Parameters", anything())]);
    body.required("Key").into()
}

fn grant(kind: &str, fields: &[&str]) -> Schema {
    let form = keys([("grant_type", RefOr::T(words([kind]).into()))]).required("grant_type");
    let text = || RefOr::T(Schema::from(of_type(Type::String)));
    fields.iter().fold(form, |form, field| form.property(*field, text()).required(*field)).into()
}

/// The keys that are read, and those that a record needs. Any other key is kept.
fn entity(kind: EntityKind, is_new: bool) -> Schema {
    let required: Vec<&str> = kind.required().iter().copied().filter(|key| *key != "Id" && is_new).collect();
    let other = documents::own_keys(kind).filter(|key| !kind.required().contains(key));
    let id = if is_new { "NewId" } else { "ClientId" };
    let body = ObjectBuilder::new().property("Id", reference(id));
    let typed = kind.required().iter().copied().filter(|key| *key != "Id");
    let body = typed.fold(body, |body, key| {
        let schema = if key.ends_with("Id") { "ClientId" } else { "ClientName" };
        body.property(key, reference(schema))
    });
    let body = other.fold(body, |body, key| body.property(key, ObjectBuilder::new().schema_type(SchemaType::AnyValue)));
    let body = body.description(Some("The keys of an import file. Others are kept."));
    let body = required.into_iter().fold(body, ObjectBuilder::required);
    if is_new { body.into() } else { body.required("Id").into() }
}

fn keys<const N: usize>(keys: [(&str, RefOr<Schema>); N]) -> ObjectBuilder {
    keys.into_iter().fold(ObjectBuilder::new(), |body, (key, schema)| body.property(key, schema))
}

/// The keys of an echoed record, which a command does not change.
fn read_only(body: ObjectBuilder) -> ObjectBuilder {
    READ_ONLY.iter().fold(body, |body, key| {
        body.property(*key, ObjectBuilder::new().schema_type(SchemaType::AnyValue).description(Some("Left out.")))
    })
}

fn system_id() -> RefOr<Schema> {
    let text = of_types(&[Type::String, Type::Number, Type::Boolean, Type::Null]);
    RefOr::T(text.pattern(Some("^[^\\u0000]*$")).max_length(Some(SYSTEM_ID)).into())
}
