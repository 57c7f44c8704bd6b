//! Calls as real clients of the platform send them: paths, queries, forms and headers in all their spellings.

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::access::{Rights, Right, Role, RoleEntity};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::{api::Site, support::http::Answer};

const PASSWORD: &str = "correct horse battery";

/// Three visits of two people, one of them open, and a directory of two people.
const RECORDS: &str = "
DELETE FROM checkins;
INSERT INTO checkins (id, unique_id, coworker_id, coworker_full_name, business_id, source, from_time, to_time,
  last_activity, from_time_local, to_time_local, created_on, updated_on, updated_by) VALUES
(1, 'a1b2c3d4-e5f6-7890-abcd-000000000001', 7, 'Ada', 1, 2, '2026-11-26T09:00:00.000Z', '2026-11-26T17:00:00.000Z',
  NULL, '2026-11-26T09:00:00', '2026-11-26T17:00:00', '2026-11-26T09:00:00.000Z', '2026-11-26T17:00:00.000Z', 'checkind'),
(2, 'a1b2c3d4-e5f6-7890-abcd-000000000002', 8, 'Bob', 1, 2, '2026-11-26T18:11:50.000Z', NULL,
  NULL, '2026-11-26T18:11:50', NULL, '2026-11-26T18:11:50.000Z', '2026-11-26T18:11:50.000Z', 'checkind'),
(3, 'a1b2c3d4-e5f6-7890-abcd-000000000003', 7, 'Ada', 2, 3, '2026-11-27T09:00:00.000Z', '2026-11-27T12:00:00.000Z',
  NULL, '2026-11-27T09:00:00', '2026-11-27T12:00:00', '2026-11-27T09:00:00.000Z', '2026-11-27T12:00:00.000Z', 'checkind');
INSERT INTO directory (kind, id, document, updated_on) VALUES
('coworker', 7, '{\"Id\":7,\"FullName\":\"Ada\",\"AccessCardId\":\"100\",\"AccessPincode\":\"sha256:0\"}', '2026-11-20T09:00:00.000Z'),
('coworker', 8, '{\"Id\":8,\"FullName\":\"Bob\"}', '2026-11-21T09:00:00.000Z'),
('business', 1, '{\"Id\":1,\"Name\":\"Hub One\"}', '2026-11-20T09:00:00.000Z');
";

fn site() -> Site {
    let site = Site::start();
    let mut connection = site.connect();
    site.run(connection.execute(RECORDS)).expect("the records");
    site.run(connection.close()).expect("the end of the connection");
    site
}

fn admin() -> String {
    format!("Basic {}", STANDARD.encode(format!("admin@example.com:{PASSWORD}")))
}

/// The ids of the records of a page, or of a bare array.
fn ids(answer: &Answer) -> Vec<i64> {
    let body = answer.json();
    let records = body.get("Records").unwrap_or(&body).as_array().unwrap_or_else(|| panic!("no list: {answer:?}")).clone();
    records.iter().filter_map(|record| record["Id"].as_i64()).collect()
}

#[test]
fn lists_are_served_however_clients_ask_for_them() {
    let site = site();
    for (path, expected) in [
        ("/api/Spaces/Checkins?size=100", &[3, 2, 1][..]),
        ("/api/spaces/checkins/?id=[1,2]", &[1, 2]),
        ("/api/spaces/checkins?Checkin_Id=%5B1,2%5D", &[1, 2]),
        ("/api/spaces/checkins?id=[2,404]", &[2]),
        ("/api/spaces/checkins?Checkin_Coworker=7", &[3, 1]),
        ("/api/spaces/checkins?page=1&size=1&orderBy=ToTime&dir=Descending&Checkin_Coworker=7", &[3]),
        ("/api/spaces/checkins?orderBy=ToTime&dir=1", &[3, 1, 2]),
        ("/api/spaces/checkins?orderBy=ToTime&dir=0", &[1, 3, 2]),
        ("/api/spaces/checkins?Checkin_Coworker=8&from_Checkin_FromTime=2026-11-26T00:00:01", &[2]),
        (
            "/api/spaces/checkins?Checkin_Coworker=7&from_Checkin_FromTime=2026-11-26T01:00:00Z\
             &to_Checkin_FromTime=2026-11-26T23:00:00Z",
            &[1],
        ),
        ("/api/spaces/checkins?from_Checkin_FromTime=2026-11-26T00:00:00Z&to_Checkin_ToTime=2026-11-26T23:59:59Z", &[1]),
        ("/api/spaces/checkins?size=1000&page=1&from_Checkin_UpdatedOn=2026-11-26T18:11:50Z", &[3, 2]),
        ("/api/spaces/checkins?orderby=FromTime&dir=-1", &[3, 2, 1]),
        ("/api/spaces/checkins?Checkin_ToTime=null", &[2]),
        ("/api/spaces/checkins?Checkin_ToTime=notnull", &[3, 1]),
        ("/api/spaces/checkins?Checkin_Business=1&Checkin_AutoCheckout=False&Checkin_Coworker_FullName=Bob", &[2]),
        ("/api/spaces/failedcheckins?page=1&size=25&orderBy=CheckinAttemptTime&dir=1", &[5]),
        ("/api/spaces/coworkers?Coworker_FullName=ada", &[7]),
        ("/api/spaces/Coworkers/?id=[8]", &[8]),
        ("/api/sys/businesses", &[1]),
        ("/api/spaces/teams?orderBy=Name", &[]),
    ] {
        let answer = site.get(path, &admin());
        assert_eq!((answer.status, ids(&answer)), (200, expected.to_vec()), "{path}");
    }
}

#[test]
fn a_page_says_where_it_is() {
    let site = site();
    let page = |query: &str| {
        let mut body = site.get(&format!("/api/spaces/checkins?{query}"), &admin()).json();
        body["Records"] = json!(body["Records"].as_array().map(Vec::len));
        body
    };
    let expected = json!({
        "Records": 2, "CurrentPage": 1, "CurrentPageSize": 2, "CurrentOrderField": "FromTime", "CurrentSortDirection": 1,
        "FirstItem": 1, "LastItem": 2, "TotalItems": 3, "TotalPages": 2, "HasNextPage": true, "HasPreviousPage": false,
        "PageNumber": 1, "PageSize": 2
    });
    assert_eq!(page("size=2"), expected);
    let expected = json!({
        "Records": 1, "CurrentPage": 2, "CurrentPageSize": 2, "CurrentOrderField": "Id", "CurrentSortDirection": 0,
        "FirstItem": 3, "LastItem": 3, "TotalItems": 3, "TotalPages": 2, "HasNextPage": false, "HasPreviousPage": true,
        "PageNumber": 2, "PageSize": 2
    });
    assert_eq!(page("size=2&page=2&orderBy=id"), expected);
    let beyond = page("size=2&page=7");
    assert_eq!((&beyond["FirstItem"], &beyond["LastItem"], &beyond["TotalItems"]), (&json!(0), &json!(0), &json!(3)));
    assert_eq!(beyond["HasNextPage"], json!(false));
}

#[test]
fn what_a_query_should_not_say_is_told() {
    let site = site();
    let answer = site.get("/api/spaces/checkins?page=0&Checkin_Coworker=Bob", &admin());
    let expected = json!({
        "Status": 400,
        "Message": "page: is a number from 1; Checkin_Coworker: is a number",
        "Value": null,
        "Errors": [
            {"AttemptedValue": "0", "Message": "is a number from 1", "PropertyName": "page"},
            {"AttemptedValue": "Bob", "Message": "is a number", "PropertyName": "Checkin_Coworker"}
        ],
        "WasSuccessful": false
    });
    assert_eq!((answer.status, answer.json()), (400, expected));
    let answer = site.get("/api/spaces/checkins?Colour=red&Checkin_Coworker=8&PageNumber=1", &admin());
    assert_eq!((ids(&answer), answer.header("X-Ignored-Parameters")), (vec![2], "Colour, PageNumber"));
    let answer = site.get("/api/spaces/checkins?%0d%0aSet-Cookie:%20a=1,", &admin());
    assert_eq!(answer.status, 200);
    assert_eq!(answer.all("Set-Cookie"), [""; 0]);
}

#[test]
fn a_list_needs_its_own_role() {
    let site = site();
    let lists: Vec<(Role, &str)> = vec![
        (Role::of(RoleEntity::Checkin, Right::List), "/api/spaces/checkins"),
        (Role::of(RoleEntity::FailedCheckin, Right::List), "/api/spaces/failedcheckins"),
        (Role::of(RoleEntity::Coworker, Right::List), "/api/spaces/coworkers"),
        (Role::of(RoleEntity::Coworker, Right::Read), "/api/spaces/coworkers/7"),
        (Role::of(RoleEntity::Business, Right::List), "/api/sys/businesses"),
    ];
    for (number, (role, _)) in lists.iter().enumerate() {
        let name = format!("user{number}");
        site.add(&name, &Rights::Roles([*role].into()));
        let bearer = site.bearer(&name);
        for (needed, path) in &lists {
            let expected = if needed == role { 200 } else { 403 };
            assert_eq!(site.get(path, &bearer).status, expected, "{path} with {role}");
        }
        let me = site.get("/api/auth/me", &bearer).json();
        assert_eq!((&me["Email"], &me["Roles"]), (&json!(name), &json!([role.to_string()])));
    }
}

#[test]
fn people_are_shown_without_pins_and_listed_without_cards() {
    let site = site();
    let whole = site.get("/api/spaces/coworkers/7", &admin()).json();
    assert_eq!((&whole["FullName"], &whole["AccessCardId"]), (&json!("Ada"), &json!("100")));
    assert_eq!(whole.get("AccessPincode"), None);
    let listed = site.get("/api/spaces/coworkers", &admin()).json();
    assert_eq!(listed["Records"][0].get("AccessCardId"), None);
    for path in ["/api/spaces/coworkers/9", "/api/spaces/coworkers/x", "/api/spaces/coworkers/-9223372036854775808"] {
        assert_eq!(site.get(path, &admin()).status, 404, "{path}");
    }
}

#[test]
fn the_names_of_sources_are_served() {
    let site = site();
    let answer = site.get("/api/utils/enums?name=echeckinsource", &admin()).json();
    assert_eq!(answer[2], json!({"Id": 2, "Name": "DoorAccess"}));
    assert_eq!(site.get("/api/utils/enums?name=eColour", &admin()).status, 400);
    assert_eq!(site.get("/api/utils/enums", &admin()).status, 400);
    assert_eq!(site.get("/api/utils/enums?name=eCheckinSource", "").status, 401);
}

#[test]
fn a_token_is_given_whatever_the_content_type_and_the_case_of_the_name() {
    let site = site();
    site.add("Reader@example.com", &Rights::Administrator);
    let form = format!("grant_type=password&username=reader@EXAMPLE.com&password={}", PASSWORD.replace(' ', "%20"));
    for headers in [
        &[][..],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[("Content-Type", "Application/X-WWW-Form-Urlencoded; charset=utf-8")],
        &[("Content-Type", "text/plain")],
        &[("Content-Type", "x-www-form-urlencoded"), ("client_id", "reader@example.com")],
    ] {
        let answer = crate::support::http::send(site.address(), "POST", "/api/Token/", headers, &form);
        assert_eq!((answer.status, &answer.json()["token_type"]), (200, &json!("bearer")), "{headers:?}");
    }
    let json_type = [("Content-Type", "application/json")];
    let answer = crate::support::http::send(site.address(), "POST", "/api/token", &json_type, "{}");
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("unsupported_grant_type")));
    // Two users whose names differ only in case are told apart.
    site.add("reader@example.com", &Rights::Roles([].into()));
    let me = |name: &str| {
        let basic = format!("Basic {}", STANDARD.encode(format!("{name}:{PASSWORD}")));
        site.get("/api/auth/me", &basic)
    };
    assert_eq!(me("reader@example.com").json()["IsAdmin"], json!(false));
    assert_eq!(me("Reader@example.com").json()["IsAdmin"], json!(true));
    assert_eq!(me("READER@example.com").status, 401);
}

#[test]
fn a_password_in_latin_1_is_read() {
    let site = site();
    let password = "pässword: with ümlaut+& 100%";
    site.add_with("latin@example.com", password, &Rights::Administrator);
    let text = format!("latin@example.com:{password}");
    let latin_1: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    for bytes in [text.as_bytes(), &latin_1] {
        let answer = site.get("/api/auth/me", &format!("Basic {}", STANDARD.encode(bytes)));
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: Value = answer.json();
        assert_eq!(body["Email"], json!("latin@example.com"));
    }
}
