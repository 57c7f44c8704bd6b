use super::*;

const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");
const JSON: Option<&str> = Some("Application/JSON; charset=utf-8");

fn body(kind: Option<&str>, text: &str) -> CommandBody {
    CommandBody::read(kind, text.as_bytes()).expect("a body")
}

fn fault_of(kind: Option<&str>, bytes: &[u8]) -> String {
    let mut faults = CommandBody::read(kind, bytes).expect_err("a fault");
    assert_eq!(faults.len(), 1);
    let fault = faults.remove(0);
    format!("{}: {}", fault.property_name, fault.message)
}

fn at(text: &str) -> WallTime {
    client_time::instant(text).expect("a time")
}

#[test]
fn json_and_forms_say_the_same_under_any_content_type() {
    let json = r#"{"businessid": "1", "CoWorkerId": 7, "Source": "Manual", "FromTime": "2026-11-26T19:30:00Z"}"#;
    let form = "BUSINESSID=1&CoworkerId=7&source=1&fromTime=Thu%2C+26+Nov+2026+19%3A30%3A00+GMT";
    for kind in [None, FORM, JSON, Some("text/plain"), Some("")] {
        for text in [json, form] {
            if kind == JSON && text == form {
                continue;
            }
            let mut body = body(kind, text);
            assert_eq!(body.id("BusinessId"), GivenField::Value(1), "{kind:?} {text}");
            assert_eq!(body.id("CoworkerId"), GivenField::Value(7), "{kind:?} {text}");
            assert_eq!(body.source("Source"), GivenField::Value(CheckinSource::Manual), "{kind:?} {text}");
            assert_eq!(body.instant("FromTime"), GivenField::Value(at("2026-11-26T19:30:00Z")), "{kind:?} {text}");
            assert_eq!(body.finish(&[]), Ok(Vec::new()), "{kind:?} {text}");
        }
    }
}

#[test]
fn values_are_read_in_every_spelling() {
    for (json, expected) in [
        ("7", GivenField::Value(7)),
        ("7.0", GivenField::Value(7)),
        ("0", GivenField::Null),
        ("\" 7 \"", GivenField::Value(7)),
        ("\"7\"", GivenField::Value(7)),
        ("null", GivenField::Null),
        ("\"\"", GivenField::Null),
        ("\"null\"", GivenField::Null),
    ] {
        assert_eq!(body(None, &format!(r#"{{"Id": {json}}}"#)).id("Id"), expected, "{json}");
    }
    for (json, expected) in [("true", true), ("\"True\"", true), ("1", true), ("\"0\"", false), ("\"FALSE\"", false)] {
        assert_eq!(body(None, &format!(r#"{{"A": {json}}}"#)).truth("A"), GivenField::Value(expected), "{json}");
    }
    for text in
        ["2026-11-26T19:30", "2026-11-26T19:30:00", "2026-11-26T20:30:00+01:00", "Thu, 26 Nov 2026 19:30:00 GMT"]
    {
        let read = body(None, &format!(r#"{{"At": "{text}"}}"#)).instant("At");
        assert_eq!(read, GivenField::Value(at("2026-11-26T19:30:00Z")), "{text}");
    }
    let local = body(None, r#"{"At": "2026-11-26T19:30:00Z"}"#).wall_clock("At").value().map(|at| at.to_string());
    assert_eq!(local.as_deref(), Some("2026-11-26 19:30:00"));
    for (json, expected) in [
        ("2", CheckinSource::DoorAccess),
        ("\"2\"", CheckinSource::DoorAccess),
        ("\"dooraccess\"", CheckinSource::DoorAccess),
    ] {
        assert_eq!(body(None, &format!(r#"{{"S": {json}}}"#)).source("S"), GivenField::Value(expected), "{json}");
    }
    let guid = "A1B2C3D4-e5f6-7890-abcd-ef1234567890";
    assert_eq!(
        body(None, &format!("G={guid}")).guid("G"),
        GivenField::Value(Uuid::parse_str(&guid.to_lowercase()).expect("a UUID"))
    );
    // A card number with more digits than floating point holds.
    let card = body(None, r#"{"Card": 12345678901234567890123}"#).text("Card", 30);
    assert_eq!(card, GivenField::Value("12345678901234567890123".to_owned()));
}

#[test]
fn null_differs_from_absent() {
    let mut read = body(None, r#"{"ToTime": null}"#);
    assert_eq!((read.instant("ToTime"), read.instant("FromTime")), (GivenField::Null, GivenField::Absent));
    let mut read = body(FORM, "ToTime=");
    assert_eq!((read.instant("ToTime"), read.instant("FromTime")), (GivenField::Null, GivenField::Absent));
    assert_eq!(
        [GivenField::Absent, GivenField::Null, GivenField::Value(2)].map(|given| given.or_kept(Some(1))),
        [Some(1), None, Some(2)]
    );
}

#[test]
fn every_fault_is_collected_in_the_order_of_the_questions() {
    let text = r#"{"CoworkerId": "Bob", "AutoCheckout": "maybe", "ToTime": "soon", "Guid": 7, "Source": 9, "Teams": [1],
                   "fromtime": "2026-11-26T19:30:00Z", "FromTime": "2026-11-26T19:30:00Z", "SystemId": "abcd", "Nul": "\u0000",
                   "Id": -1, "Float": 7.5}"#;
    let mut read = body(JSON, text);
    assert_eq!(read.required("BusinessId", CommandBody::id), None);
    assert_eq!(read.required("CoworkerId", CommandBody::id), None);
    assert_eq!(read.truth("AutoCheckout"), GivenField::Absent);
    assert_eq!(read.instant("ToTime"), GivenField::Absent);
    assert_eq!(read.guid("Guid"), GivenField::Absent);
    assert_eq!(read.source("Source"), GivenField::Absent);
    assert_eq!(read.text("Teams", 10), GivenField::Absent);
    assert_eq!(read.required("FromTime", CommandBody::instant), None);
    assert_eq!(read.text("SystemId", 3), GivenField::Absent);
    assert_eq!(read.text("Nul", 3), GivenField::Absent);
    assert_eq!(read.id("Id"), GivenField::Absent);
    assert_eq!(read.id("Float"), GivenField::Absent);
    let faults = read.finish(&[]).expect_err("faults");
    let said: Vec<String> = faults
        .iter()
        .map(|fault| {
            format!("{}: {} ({})", fault.property_name, fault.message, fault.attempted_value.as_deref().unwrap_or("-"))
        })
        .collect();
    assert_eq!(
        said,
        [
            "BusinessId: is a required field (-)",
            "CoworkerId: is a positive number (Bob)",
            "AutoCheckout: is true or false (maybe)",
            "ToTime: is a time, such as 2026-11-26T19:30:00Z (soon)",
            "Guid: is a UUID (7)",
            "Source: is the name or the number of an eCheckinSource (9)",
            "Teams: is a single value, not a list or an object (-)",
            "FromTime: is in the body twice (-)",
            "SystemId: is longer than 3 characters (abcd)",
            "Nul: has a NUL character, which the database cannot store (\u{0})",
            "Id: is a positive number (-1)",
            "Float: is a positive number (7.5)",
        ]
    );
}

#[test]
fn keys_that_mean_nothing_are_named_and_read_only_ones_are_not() {
    let mut read = body(None, r#"{"Id": 1, "uniqueid": "x", "Colour": "red", "CreatedOn": null}"#);
    assert_eq!(read.id("Id"), GivenField::Value(1));
    let rest: Vec<(String, String)> = read.rest().map(|(name, json)| (name.to_owned(), json)).collect();
    let expected = [("uniqueid", "\"x\""), ("Colour", "\"red\""), ("CreatedOn", "null")];
    assert_eq!(rest, expected.map(|(name, json)| (name.to_owned(), json.to_owned())));
    assert_eq!(read.finish(&["UniqueId", "CreatedOn"]), Ok(vec!["Colour".to_owned()]));
}

#[test]
fn a_body_that_cannot_be_read_is_one_fault() {
    let many = format!("{{{}}}", (0..=MOST_KEYS).map(|at| format!("\"k{at}\": 1")).collect::<Vec<_>>().join(","));
    let many_fields = "a=1&".repeat(MOST_KEYS + 1);
    for (kind, bytes, expected) in [
        (JSON, &b"{\"Id\": "[..], "body: is not JSON, at line 1, column 6"),
        (JSON, b"{\"Id\": secret}", "body: is not JSON, at line 1, column 8"),
        (JSON, b"{} {}", "body: is not JSON, at line 1, column 4"),
        (JSON, b"[{\"Id\": 1}]", "body: is not one object"),
        (JSON, b"Id=1", "body: is not an object of JSON"),
        (JSON, b"{\"Id\": \"\xff\"}", "body: is not UTF-8"),
        (
            Some("multipart/form-data; boundary=x"),
            b"--x",
            "body: has several parts; send JSON or a form (application/x-www-form-urlencoded)",
        ),
        (None, many.as_bytes(), "body: has more than 1000 keys"),
        (None, many_fields.as_bytes(), "body: has more than 1000 keys"),
    ] {
        assert_eq!(fault_of(kind, bytes), expected, "{}", String::from_utf8_lossy(bytes));
    }
    for bytes in [&b""[..], b"  ", b"\xef\xbb\xbf", b"\xef\xbb\xbf{}"] {
        let mut read = CommandBody::read(JSON, bytes).expect("an empty body");
        assert_eq!(read.id("Id"), GivenField::Absent);
    }
}

proptest::proptest! {
    #[test]
    fn no_body_panics(kind: Option<String>, bytes: Vec<u8>) {
        if let Ok(mut read) = CommandBody::read(kind.as_deref(), &bytes) {
            read.id("a");
            let _ended = read.finish(&[]);
        }
    }

    #[test]
    fn text_is_read_as_it_was_sent(text: String) {
        let json = serde_json::json!({ "SystemId": &text }).to_string();
        let form = url::form_urlencoded::Serializer::new(String::new()).append_pair("SystemId", &text).finish();
        let expected = match text.as_str() {
            "" => GivenField::Null,
            text if text.contains('\0') => GivenField::Absent,
            text => GivenField::Value(text.to_owned()),
        };
        for sent in [json, form] {
            proptest::prop_assert_eq!(body(None, &sent).text("SystemId", 10_000), expected.clone());
        }
    }
}
