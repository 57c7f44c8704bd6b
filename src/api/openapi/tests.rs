//! The document against the routes of the API, and against itself.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::Value;

use super::super::{
    checkin_body::{ChangedCheckin, NewCheckin},
    command_body::CommandBody,
    served_routes,
};

fn document() -> Value {
    serde_json::from_str(&super::text()).expect("JSON")
}

/// Method and path of each operation of the document.
fn documented() -> BTreeSet<(String, String)> {
    let document = document();
    let paths = document["paths"].as_object().expect("paths");
    let operations = |(path, item): (&String, &Value)| {
        let methods: Vec<String> = item.as_object().expect("a path item").keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(operations).collect()
}

/// Method and path of each route, as the router shows itself: it has no list of them.
fn served() -> BTreeSet<(String, String)> {
    let shown = format!("{:?}", served_routes());
    let (routes, paths) = shown.split_once("node: Node { paths: {").expect("a router shows its paths");
    let path = Regex::new(r#"RouteId\((\d+)\): "([^"]+)""#).expect("a pattern");
    let paths = paths.split_once('}').map_or(paths, |_| paths.split(" } }").next().unwrap_or(paths));
    let paths: BTreeMap<&str, &str> = path.captures_iter(paths).map(|found| found.extract().1.into()).collect();
    let route = Regex::new(r"RouteId\((\d+)\): MethodRouter\(MethodRouter \{([^}]*)").expect("a pattern");
    let method = Regex::new(r"(get|delete|patch|post|put): BoxedHandler").expect("a pattern");
    let mut all = BTreeSet::new();
    for found in route.captures_iter(routes) {
        let (_, [id, methods]) = found.extract();
        for served in method.captures_iter(methods) {
            all.insert((served[1].to_owned(), paths[id].to_owned()));
        }
    }
    all
}

#[test]
fn every_route_is_in_the_document_and_nothing_else() {
    let (served, documented) = (served(), documented());
    assert!(served.len() > 90, "the router shows itself in another way: {served:?}");
    assert_eq!(served.difference(&documented).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not documented");
    assert_eq!(documented.difference(&served).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "not served");
}

#[test]
fn what_the_document_refers_to_is_in_it() {
    let text = super::text();
    let document = document();
    let reference = Regex::new(r##""\$ref": "#([^"]+)""##).expect("a pattern");
    for found in reference.captures_iter(&text) {
        assert!(document.pointer(&found[1]).is_some(), "{} is missing", &found[1]);
    }
    let name = Regex::new(r#""operationId": "([^"]+)""#).expect("a pattern");
    let names: Vec<String> = name.captures_iter(&text).map(|found| found[1].to_owned()).collect();
    let operations: BTreeSet<String> = {
        let paths = document["paths"].as_object().expect("paths").values();
        let items = paths.flat_map(|item| item.as_object().expect("a path item").values());
        items.map(|operation| operation["operationId"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(operations.len(), documented().len(), "a name occurs twice");
    for name in &names {
        assert!(operations.contains(name), "a link leads to {name}");
    }
}

#[test]
fn the_documented_keys_of_a_body_are_those_that_are_read() {
    let document = document();
    for (name, read) in [
        ("NewCheckin", (|body| NewCheckin::read(body).map(|new| new.ignored)) as fn(CommandBody) -> Result<_, _>),
        ("ChangedCheckin", |body| ChangedCheckin::read(body).map(|changed| changed.ignored)),
    ] {
        let properties = document["components"]["schemas"][name]["properties"].as_object().expect("properties");
        // A list is no value of any key that is read.
        let lists: Vec<String> = properties.keys().map(|key| format!("\"{key}\":[]")).collect();
        let body = format!("{{{}}}", lists.join(","));
        let faults = read(CommandBody::read(None, body.as_bytes()).expect("a body")).expect_err("nothing is readable");
        let asked: BTreeSet<&str> = faults.iter().map(|fault| fault.property_name.as_str()).collect();
        let left_out = |schema: &Value| schema["description"] == "Left out.";
        let documented = properties.iter().filter(|(_, schema)| !left_out(schema)).map(|(key, _)| key.as_str());
        assert_eq!(asked, documented.collect(), "{name}");
    }
}
