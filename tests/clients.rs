//! Calls as real clients of the platform send them: paths, queries, forms and headers in all their spellings.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use checkind::{
    access::{Reach, Right, Rights, Role, RoleEntity},
    base::record::BusinessId,
};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};

use crate::{api::Site, support::http::Answer};

#[path = "fuzz/checks/body.rs"]
mod body_check;
#[path = "fuzz/checks/query.rs"]
mod query_check;

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
    let records =
        body.get("Records").unwrap_or(&body).as_array().unwrap_or_else(|| panic!("no list: {answer:?}")).clone();
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
        (
            "/api/spaces/checkins?from_Checkin_FromTime=2026-11-26T00:00:00Z&to_Checkin_ToTime=2026-11-26T23:59:59Z",
            &[1],
        ),
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
        "WasSuccessful": false,
        "RequestId": "r-1"
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
fn a_user_of_one_business_sees_nothing_of_others() {
    let site = site();
    let mut connection = site.connect();
    let more = "
        INSERT INTO directory (kind, id, document, updated_on) VALUES
        ('business', 2, '{\"Id\":2,\"Name\":\"Hub Two\"}', '2026-11-20T09:00:00.000Z'),
        ('coworker', 9, '{\"Id\":9,\"FullName\":\"Cy\",\"Businesses\":[{\"Id\":2}]}', '2026-11-20T09:00:00.000Z'),
        ('coworker_time_pass', 1, '{\"Id\":1,\"CoworkerId\":9,\"TimePassId\":1}', '2026-11-20T09:00:00.000Z'),
        ('coworker_time_pass', 2, '{\"Id\":2,\"CoworkerId\":7,\"TimePassId\":1}', '2026-11-20T09:00:00.000Z');
        INSERT INTO failed_checkins (id, unique_id, business_id, checkin_attempt_time, source, checkin_attempt_time_local,
          created_on, updated_on, updated_by)
        VALUES (6, 'c1b2c3d4-e5f6-7890-abcd-000000000006', 2, '2026-03-01T09:05:00.000Z', 2, '2026-03-01T10:05:00',
          '2026-03-01T09:05:00.000Z', '2026-03-01T09:05:00.000Z', 'checkind');
        INSERT INTO payg_charges (id, checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, minutes, unbounded,
          amount, currency, created_on, updated_on)
        SELECT n, 'a1b2c3d4-e5f6-7890-abcd-00000000000' || n, 7, n, 3, '2026-03-01T00:00:00.000Z', '2026-03-01T09:00:00.000Z',
          60, 1, 1, 'EUR', '2026-03-01T09:00:00.000Z', '2026-03-01T09:00:00.000Z' FROM (SELECT 1 AS n UNION ALL SELECT 2)";
    site.run(connection.execute(more)).expect("the records");
    site.run(connection.close()).expect("the end of the connection");
    for (name, reach, seen) in [("one", vec![1], 1), ("two", vec![2], 2)] {
        let reach = Reach::of(reach.into_iter().map(BusinessId));
        site.add_within(name, PASSWORD, &Rights::Administrator, &reach);
        let bearer = site.bearer(name);
        for (path, of_one, of_two) in [
            ("/api/spaces/checkins?orderBy=Id", &[1, 2][..], &[3][..]),
            ("/api/spaces/checkins?id=[1,2,3]", &[1, 2], &[3]),
            ("/api/spaces/checkins?Checkin_Business=2&orderBy=Id", &[], &[3]),
            ("/api/spaces/failedcheckins", &[5], &[6]),
            ("/api/spaces/coworkercharges", &[1], &[2]),
            ("/api/sys/businesses", &[1], &[2]),
            ("/api/spaces/coworkers", &[7, 8], &[7, 8, 9]),
            ("/api/spaces/coworkertimepasses", &[2], &[1, 2]),
            ("/api/spaces/coworkertimepasses?id=[1,2]", &[2], &[1, 2]),
        ] {
            let answer = site.get(path, &bearer);
            let expected = if seen == 1 { of_one } else { of_two };
            assert_eq!((answer.status, ids(&answer)), (200, expected.to_vec()), "{path} for {name}");
            if !path.contains("id=") && !path.contains("Checkin_Business") {
                assert_eq!(answer.json()["TotalItems"], json!(expected.len()), "{path} for {name}");
            }
        }
        // A record of another business is as if there were none, with every key of the answer.
        for (path, business) in [
            ("checkins/1", 1),
            ("checkins/3", 2),
            ("failedcheckins/5", 1),
            ("failedcheckins/6", 2),
            ("businesses/1", 1),
            ("businesses/2", 2),
            ("coworkers/9", 2),
            ("coworkertimepasses/1", 2),
        ] {
            let answer = site.get(&format!("/api/spaces/{path}"), &bearer);
            assert_eq!(answer.status, if business == seen { 200 } else { 404 }, "{path} for {name}");
            if business != seen {
                let none = path.split('/').next().expect("an entity");
                assert_eq!(answer.body, site.get(&format!("/api/spaces/{none}/404404"), &bearer).body, "{path}");
            }
        }
        assert_eq!(site.get("/api/auth/me", &bearer).json()["Businesses"], json!([seen]));
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
fn charges_are_listed_with_what_can_still_change() {
    let site = site();
    let mut connection = site.connect();
    // The clock of the site stands at 2026-03-02 09:00.
    let charges = "
        INSERT INTO payg_charges (id, checkin, coworker_id, business_id, time_pass_id, pass_day, from_time, to_time, minutes,
          unbounded, amount, currency, created_on, updated_on)
        SELECT n, 'a1b2c3d4-e5f6-7890-abcd-00000000000' || n, 7, 1, 3, '2026-02-01T00:00:00.000Z', from_time, to_time, 60, 1200,
          1000, 'EUR', from_time, from_time
        FROM (SELECT 1 AS n, '2026-02-20T09:00:00.000Z' AS from_time, '2026-02-20T10:00:00.000Z' AS to_time
              UNION ALL SELECT 2, '2026-03-01T09:00:00.000Z', '2026-03-01T10:00:00.000Z'
              UNION ALL SELECT 3, '2026-03-02T08:00:00.000Z', NULL)";
    site.run(connection.execute(charges)).expect("the charges");
    site.run(connection.close()).expect("the end of the connection");
    for (query, expected) in [
        ("", &[3, 2, 1][..]),
        ("?CoworkerCharge_Final=true", &[2, 1]),
        ("?coworkercharge_settled=True", &[1]),
        ("?CoworkerCharge_Settled=false&CoworkerCharge_Coworker=7", &[3, 2]),
        ("?from_CoworkerCharge_UpdatedOn=2026-03-01T00:00:00Z&orderBy=UpdatedOn", &[2, 3]),
    ] {
        let answer = site.get(&format!("/api/spaces/coworkercharges{query}"), &admin());
        assert_eq!((answer.status, ids(&answer)), (200, expected.to_vec()), "{query}");
    }
    let first = site.get("/api/spaces/coworkercharges?Id=1", &admin()).json()["Records"][0].clone();
    let expected = json!({
        "Id": 1, "Checkin": "a1b2c3d4-e5f6-7890-abcd-000000000001", "CoworkerId": 7, "BusinessId": 1, "TimePassId": 3,
        "PassDay": "2026-02-01T00:00:00Z", "FromTime": "2026-02-20T09:00:00Z", "ToTime": "2026-02-20T10:00:00Z",
        "Minutes": 60, "Amount": 1000, "Unbounded": 1200, "Currency": "EUR", "Final": true, "Settled": true,
        "Withdrawn": false,
        "CreatedOn": "2026-02-20T09:00:00Z", "UpdatedOn": "2026-02-20T09:00:00Z"
    });
    assert_eq!(first, expected);
    assert_eq!(site.get("/api/spaces/coworkercharges?CoworkerCharge_Final=maybe", &admin()).status, 400);
}

/// Inserts check-ins with these ids at location 1, one a minute.
fn insert_visits(site: &Site, ids: std::ops::Range<i64>) {
    let rows: Vec<String> = ids
        .map(|id| {
            let at = format!("2026-02-{:02}T{:02}:{:02}:00", 1 + id / 1440, id / 60 % 24, id % 60);
            format!(
                "({id}, 'a1b2c3d4-e5f6-7890-abcd-{id:012x}', {id}, 1, 2, '{at}.000Z', '{at}.000Z', '{at}', '{at}', \
                 '{at}.000Z', '{at}.000Z', 'checkind')"
            )
        })
        .collect();
    let text = format!(
        "INSERT INTO checkins (id, unique_id, coworker_id, business_id, source, from_time, to_time, from_time_local,
           to_time_local, created_on, updated_on, updated_by) VALUES {}",
        rows.join(",")
    );
    change(site, text);
}

fn change(site: &Site, text: String) {
    let mut connection = site.connect();
    site.run(connection.execute(sqlx::AssertSqlSafe(text))).expect("written");
    site.run(connection.close()).expect("the end of the connection");
}

/// An incremental sync, as clients do it: page after page until there is no other.
#[test]
fn a_sync_repeats_and_misses_nothing_while_visits_come_and_go() {
    let site = site();
    change(&site, "DELETE FROM checkins".to_owned());
    insert_visits(&site, 100..140);
    let (mut page, mut shown) = (1, Vec::new());
    loop {
        let path = format!("/api/spaces/checkins?size=7&page={page}&from_Checkin_UpdatedOn=2026-02-01T00:00:00Z");
        let answer = site.get(&path, &admin());
        let body = answer.json();
        shown.extend(ids(&answer));
        assert_eq!(body["CurrentPage"], json!(page));
        assert_eq!(body["FirstItem"], json!((page - 1) * 7 + 1));
        // Two visits begin, and one that has been shown is deleted.
        insert_visits(&site, 1000 + 2 * page..1002 + 2 * page);
        change(&site, format!("DELETE FROM checkins WHERE id = {}", 140 - page));
        if body["HasNextPage"] == json!(false) {
            break;
        }
        page += 1;
    }
    assert_eq!(shown, (100..140).rev().collect::<Vec<i64>>());
    // A list that begins with another page counts from its beginning.
    let third = site.get("/api/spaces/checkins?size=5&page=3", &admin());
    let all = site.get("/api/spaces/checkins?size=100", &admin());
    assert_eq!(ids(&third), ids(&all)[10..15]);
    assert_eq!(third.json()["TotalItems"], json!(ids(&all).len()));
}

/// Answers that their clients do not read are in memory, so there may be two large ones.
#[test]
fn a_third_large_list_is_refused_while_two_are_not_read() {
    use std::io::{Read, Write};
    let site = site();
    insert_visits(&site, 10_000..13_000);
    let large = "/api/spaces/checkins?size=3000";
    let unread: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(site.address()).expect("the server listens");
            let authorization = admin();
            let request = format!("GET {large} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n");
            stream.write_all(request.as_bytes()).expect("sent");
            // Its headers show that it is being sent.
            stream.read_exact(&mut [0; 12]).expect("the status");
            stream
        })
        .collect();
    let refused = site.get(large, &admin());
    assert_eq!((refused.status, refused.header("Retry-After")), (503, "5"), "{refused:?}");
    assert!(refused.json()["Message"].as_str().is_some_and(|said| said.contains("smaller size")), "{refused:?}");
    assert_eq!(site.get("/api/spaces/checkins?size=1000", &admin()).status, 200, "smaller lists are served");
    drop(unread);
    let answer = site.get(large, &admin());
    assert_eq!((answer.status, ids(&answer).len()), (200, 3000));
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

#[test]
fn bodies_and_queries_keep_their_promises_over_the_corpus_and_prefixes_of_it() {
    for (name, check, least) in [("body", body_check::check as fn(&[u8]), 7), ("query", query_check::check, 5)] {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
        let mut files = 0;
        for entry in fs::read_dir(corpus).expect("the corpus") {
            let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
            (0..=bytes.len()).for_each(|end| check(&bytes[..end]));
            files += 1;
        }
        assert!(files >= least, "the corpus of {name} is incomplete: {files}");
    }
}
