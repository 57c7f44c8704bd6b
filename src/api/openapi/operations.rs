//! What each route does for each method: its parameters, its body and its answers.

use axum::http::StatusCode;
use utoipa::openapi::{
    Deprecated, HttpMethod, RefOr, Schema, SecurityRequirement,
    link::{Link, LinkBuilder},
    path::{Operation, OperationBuilder, Parameter},
    schema::{ArrayBuilder, Type},
};

use super::{
    super::{
        documents::{self, FOLDERS},
        listed_entity::{CHECKIN, COWORKER_CHARGE, FAILED_CHECKIN, ListedEntity},
        schema_parts::{all_of, any_of, of_type, reference},
    },
    answers::{self, Audience},
    bodies::{self, body, token_form},
    parameters::{self, enumeration, id},
};
use crate::{
    access::{Right, Role, RoleEntity},
    directory::entity::EntityKind,
};

/// An operation under its path and method.
pub(super) type PlacedOperation = (String, HttpMethod, Operation);

/// Every operation.
pub(super) fn all() -> Vec<PlacedOperation> {
    let mut all = checkins();
    all.extend(failed_checkins());
    all.push(kiosk());
    let (path, list) = ("/api/spaces/coworkercharges", RoleEntity::CoworkerCharge);
    all.push((
        path.to_owned(),
        HttpMethod::Get,
        listed(list, "", parameters::of_list(&COWORKER_CHARGE, list.name())).build(),
    ));
    for folder in FOLDERS {
        for kind in EntityKind::ALL {
            all.extend(directory(folder, kind));
        }
    }
    all.extend(account());
    all.extend(monitoring());
    all
}

fn checkins() -> Vec<PlacedOperation> {
    let (path, of) = ("/api/spaces/checkins", RoleEntity::Checkin);
    let mut all = records("checkins", of, &CHECKIN);
    let one = format!("{path}/{{id}}");
    let create = command(of, Right::Create, "").request_body(Some(body("NewCheckin"))).description(Some(
        "Decided like a sighting of a door. A refusal by the rules of the site is answered with 200 and \
         `WasSuccessful: false`. `IgnoreAdmission` is for administrators.",
    ));
    let update = command(of, Right::Edit, "").request_body(Some(body("ChangedCheckin")));
    all.push((path.to_owned(), HttpMethod::Post, create.build()));
    all.push((path.to_owned(), HttpMethod::Put, update.build()));
    all.push((one, HttpMethod::Delete, command(of, Right::Delete, "").parameter(id()).build()));
    let run = operation("runCheckinCommand", "Commands of the platform's pages: there are none.", of.name());
    let answer = answers::with_ignored(answers::json("It is refused.", reference("CommandAnswer")));
    let run = needing(run, Role::of(of, Right::Edit)).request_body(Some(body("Command")));
    let run = run.responses(answers::all(answer.build(), Audience::Permitted, &[]));
    all.push((format!("{path}/runcommand"), HttpMethod::Post, run.build()));
    all
}

fn failed_checkins() -> Vec<PlacedOperation> {
    let (path, of) = ("/api/spaces/failedcheckins", RoleEntity::FailedCheckin);
    let mut all = records("failedcheckins", of, &FAILED_CHECKIN);
    let off = "Refused with 403 until the settings allow it (`failed_checkin_writes`). Only what a user wrote can be \
               changed: otherwise the answer is 200 with `WasSuccessful: false`.";
    let create = command(of, Right::Create, "").request_body(Some(body("NewFailedCheckin"))).description(Some(off));
    let update = command(of, Right::Edit, "").request_body(Some(body("ChangedFailedCheckin"))).description(Some(off));
    let delete = command(of, Right::Delete, "").parameter(id()).description(Some(off));
    all.push((path.to_owned(), HttpMethod::Post, create.build()));
    all.push((path.to_owned(), HttpMethod::Put, update.build()));
    all.push((format!("{path}/{{id}}"), HttpMethod::Delete, delete.build()));
    all
}

/// What a kiosk was shown.
fn kiosk() -> PlacedOperation {
    let kiosk = operation("checkInAtKiosk", "Takes what a kiosk was shown, as a tap at a door.", "Kiosk");
    let kiosk = kiosk.description(Some(
        "Refused with 403 until the settings allow it (`kiosk_checkins`). A kiosk whose address is listed there needs no \
         token; any other needs the role `Checkin-Create`.",
    ));
    let securities = signed_in().into_iter().chain([SecurityRequirement::default()]);
    let answer = answers::with_ignored(answers::json("What was decided.", reference("CommandAnswer")));
    let kiosk = kiosk.securities(Some(securities)).request_body(Some(body("KioskCheckin")));
    let kiosk = kiosk.responses(answers::all(answer.build(), Audience::Permitted, &[]));
    ("/api/public/checkin".to_owned(), HttpMethod::Post, kiosk.build())
}

/// The list and the single record of an entity that lists are made of in the database.
fn records(array: &str, of: RoleEntity, entity: &'static ListedEntity) -> Vec<PlacedOperation> {
    let path = format!("/api/spaces/{array}");
    let list = listed(of, "", parameters::of_list(entity, of.name()));
    let one = single(of, "");
    vec![(format!("{path}/{{id}}"), HttpMethod::Get, one.build()), (path, HttpMethod::Get, list.build())]
}

/// The operations of a kind of entity of the directory. The platform's documents name it under several folders; the
/// first one is meant to last.
fn directory(folder: &str, kind: EntityKind) -> Vec<PlacedOperation> {
    let of = documents::entity_of(kind);
    let suffix = if folder == FOLDERS[0] { String::new() } else { format!("In{}", capitalized(folder)) };
    let path = documents::path(folder, kind);
    let one = format!("{path}/{{id}}");
    let new = body(&bodies::name_of("New", kind));
    let changed = body(&bodies::name_of("Changed", kind));
    let operations = [
        (&path, HttpMethod::Get, listed(of, &suffix, parameters::of_directory(kind))),
        (&path, HttpMethod::Post, command(of, Right::Create, &suffix).request_body(Some(new))),
        (&path, HttpMethod::Put, command(of, Right::Edit, &suffix).request_body(Some(changed))),
        (&one, HttpMethod::Get, single(of, &suffix)),
        (&one, HttpMethod::Delete, command(of, Right::Delete, &suffix).parameter(id())),
    ];
    let is_alias = !suffix.is_empty();
    operations
        .into_iter()
        .map(|(path, method, operation)| {
            let operation = operation.deprecated(is_alias.then_some(Deprecated::True));
            (path.clone(), method, operation.build())
        })
        .collect()
}

fn account() -> Vec<PlacedOperation> {
    let me = operation("getCurrentUser", "The user of the request.", "Account").securities(Some(signed_in()));
    let me =
        me.responses(answers::all(answers::json("The user.", reference("CurrentUser")).build(), Audience::User, &[]));
    let enums = operation("listEnumValues", "The names of the numbers of an enumeration.", "Account");
    let values = ArrayBuilder::new().items(reference("EnumValue"));
    let answer = answers::json("The values.", Schema::from(values).into()).build();
    let enums = enums.securities(Some(signed_in())).parameter(enumeration());
    let enums = enums.responses(answers::all(answer, Audience::User, &[]));
    let token = operation("createTokens", "Tokens for a password or a refresh token (RFC 6749).", "Account");
    let refusal = all_of([reference("Error"), reference("TokenRefusal")]);
    let refusal = any_of([RefOr::from(Schema::from(refusal)), reference("Error")]);
    let refusal = answers::json("No tokens are issued; `error` says why.", Schema::from(refusal).into());
    let tokens = answers::json("The tokens.", reference("Tokens")).build();
    let failures = [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR];
    let token = token
        .request_body(Some(token_form()))
        .responses(answers::all(tokens, Audience::Anyone, &failures))
        .response(StatusCode::BAD_REQUEST.as_str(), refusal);
    vec![
        ("/api/auth/me".to_owned(), HttpMethod::Get, me.build()),
        ("/api/utils/enums".to_owned(), HttpMethod::Get, enums.build()),
        ("/api/token".to_owned(), HttpMethod::Post, token.build()),
    ]
}

fn monitoring() -> Vec<PlacedOperation> {
    let anyone = |success| answers::all(success, Audience::Anyone, &[]);
    let text = || RefOr::from(Schema::from(of_type(Type::String)));
    let health = operation("getLiveness", "Whether the process can answer.", "Monitoring");
    let health = health.responses(anyone(answers::json("It can.", reference("Liveness")).build()));
    let ready = operation("getReadiness", "Whether start-up has finished and nothing blocks.", "Monitoring");
    let blocked = any_of([reference("Readiness"), reference("Error")]);
    let blocked = answers::json("It is not ready; the conditions say why.", Schema::from(blocked).into());
    let ready = ready
        .responses(anyone(answers::json("It is ready.", reference("Readiness")).build()))
        .response(StatusCode::SERVICE_UNAVAILABLE.as_str(), blocked);
    let metrics = operation("getMetrics", "The metrics, as Prometheus reads them.", "Monitoring");
    let figures = answers::answer("The metrics.", "text/plain", text());
    let figures = figures.content("application/openmetrics-text", utoipa::openapi::Content::new(Some(text())));
    let metrics = metrics.responses(anyone(figures.build()));
    let document = operation("getDocument", "This document.", "Monitoring");
    let itself = answers::json("The document.", Schema::from(of_type(Type::Object)).into());
    let document = document.responses(anyone(itself.build()));
    [("/healthz", health), ("/readyz", ready), ("/metrics", metrics), ("/openapi.json", document)]
        .map(|(path, operation)| (path.to_owned(), HttpMethod::Get, operation.build()))
        .into()
}

/// A list of records.
fn listed(of: RoleEntity, suffix: &str, parameters: Vec<RefOr<Parameter>>) -> OperationBuilder {
    let name = of.name();
    let list = operation(&format!("list{name}s{suffix}"), &format!("A page of records of {name}."), name);
    let list = needing(list, Role::of(of, Right::List));
    let list = parameters.into_iter().fold(list, with);
    let bare = ArrayBuilder::new().items(reference(name));
    let page = any_of([reference(&format!("{name}Page")), Schema::from(bare).into()]);
    let page = answers::json("A page; a bare array, if some ids are asked for.", Schema::from(page).into());
    list.responses(answers::all(answers::with_ignored(page).build(), Audience::Permitted, &[]))
}

/// One record.
fn single(of: RoleEntity, suffix: &str) -> OperationBuilder {
    let name = of.name();
    let one = operation(&format!("get{name}{suffix}"), &format!("One record of {name}."), name);
    let one = needing(one, Role::of(of, Right::Read)).parameter(id());
    let mut record = answers::json("The record.", reference(name));
    if suffix.is_empty() {
        record = record
            .link("update", changing(of, "$response.body#/Id"))
            .link("delete", to("delete", of, "$response.body#/Id"));
    }
    one.responses(answers::all(record.build(), Audience::Permitted, &[StatusCode::NOT_FOUND]))
}

/// A command about records of an entity.
fn command(of: RoleEntity, right: Right, suffix: &str) -> OperationBuilder {
    let name = of.name();
    let (verb, summary) = match right {
        Right::Create => ("create", "Creates a record of"),
        Right::Edit => ("update", "Changes a record of"),
        Right::Delete => ("delete", "Deletes a record of"),
        Right::List | Right::Read => ("read", "Reads records of"),
    };
    let command = operation(&format!("{verb}{name}{suffix}"), &format!("{summary} {name}."), name);
    let command = needing(command, Role::of(of, right));
    let mut answer = answers::with_ignored(answers::json("What was done, or why not.", reference("CommandAnswer")));
    if suffix.is_empty() && right != Right::Delete {
        let id = "$response.body#/Value/Id";
        let list = LinkBuilder::new().operation_id(format!("list{name}s")).parameter("Id", id).build();
        answer = answer.link("get", to("get", of, id)).link("list", list).link("delete", to("delete", of, id));
        if right == Right::Create {
            answer = answer.link("update", changing(of, id));
        }
    }
    let missing: &[StatusCode] = if right == Right::Create { &[] } else { &[StatusCode::NOT_FOUND] };
    command.responses(answers::all(answer.build(), Audience::Permitted, missing))
}

/// A link to what can be done with the record with this id.
fn to(verb: &str, of: RoleEntity, id: &str) -> Link {
    LinkBuilder::new().operation_id(format!("{verb}{}", of.name())).parameter("id", id).build()
}

/// A link to the command that changes the record with this id.
fn changing(of: RoleEntity, id: &str) -> Link {
    let body = serde_json::json!({ "Id": id });
    LinkBuilder::new().operation_id(format!("update{}", of.name())).request_body(Some(body)).build()
}

fn operation(name: &str, summary: &str, tag: &str) -> OperationBuilder {
    OperationBuilder::new().operation_id(Some(name)).summary(Some(summary)).tag(tag)
}

fn with(operation: OperationBuilder, parameter: RefOr<Parameter>) -> OperationBuilder {
    match parameter {
        RefOr::T(parameter) => operation.parameter(parameter),
        RefOr::Ref(reference) => operation.parameter_ref(reference),
    }
}

/// An operation for users with a role.
fn needing(operation: OperationBuilder, role: Role) -> OperationBuilder {
    operation.securities(Some(signed_in())).description(Some(format!("Needs the role `{role}`, or an administrator.")))
}

fn signed_in() -> [SecurityRequirement; 2] {
    ["bearer", "basic"].map(|scheme| SecurityRequirement::new::<_, [&str; 0], &str>(scheme, []))
}

fn capitalized(word: &str) -> String {
    word.get(..1).unwrap_or_default().to_ascii_uppercase() + word.get(1..).unwrap_or_default()
}
