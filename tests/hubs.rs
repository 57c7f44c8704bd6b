//! Two gateways of a network on one PostgreSQL: a person can be in only one place.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use serde_json::json;

use crate::support::{
    broker::Broker,
    daemon::{BINARY, Daemon, Home, LIMIT, Way, card, doors, flat_event, next_second, site},
    frame::arp_request,
    lan::{Namespace, Wire},
    postgres::Postgres,
    wait_for,
};

const DEVICE: &str = "02:aa:00:00:00:01";

/// Forwards connections to a loopback port in a namespace to a server outside it, until the test ends.
fn brought_in(namespace: &Namespace, server: String) -> SocketAddr {
    let (tell, listens) = mpsc::sync_channel(1);
    let (accepted, connections) = mpsc::sync_channel::<TcpStream>(1);
    let name = namespace.name().to_owned();
    thread::spawn(move || {
        Namespace::enter(&name);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        tell.send(listener.local_addr().expect("its address")).expect("the test waits");
        listener.incoming().flatten().try_for_each(|connection| accepted.send(connection))
    });
    thread::spawn(move || {
        for inside in connections {
            let Ok(outside) = TcpStream::connect(&server) else { continue };
            let both = (inside.try_clone().expect("a handle"), outside.try_clone().expect("a handle"));
            thread::spawn(move || carry(both.0, both.1));
            thread::spawn(move || carry(outside, inside));
        }
    });
    listens.recv().expect("it listens")
}

fn carry(mut from: TcpStream, mut to: TcpStream) -> io::Result<()> {
    let mut room = [0; 16 * 1024];
    loop {
        let read = from.read(&mut room)?;
        if read == 0 {
            return to.shutdown(Shutdown::Write);
        }
        to.write_all(&room[..read])?;
    }
}

/// Ada has a pass of eight hours, valid at both hubs. Without a pass she may pay as she goes.
fn network() -> serde_json::Value {
    json!({
        "Businesses": [{"Id": 1, "Name": "Hub One"}, {"Id": 2, "Name": "Hub Two"}],
        "TimePasses": [
            {"Id": 1, "Name": "Hours", "MinutesIncluded": 480, "AllowNetworkCheckin": true},
            {"Id": 2, "Name": "Desk", "Price": 6, "MinutesIncluded": 60, "UseAsPayAsYouGoForContacts": true},
        ],
        "Coworkers": [{"Id": 7, "FullName": "Ada", "AccessCardId": card(7).to_string(), "MacAddresses": DEVICE}],
        "CoworkerTimePasses": [{"Id": 1, "CoworkerId": 7, "TimePassId": 1,
            "UniqueId": "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21"}],
    })
}

/// The check-ins: where, their source, whether they have ended and automatically, and their pass.
fn visits(home: &Home) -> Vec<Vec<String>> {
    home.ledger().texts(
        "SELECT CAST(business_id AS TEXT), CAST(source AS TEXT), CASE WHEN to_time IS NULL THEN 'in' ELSE 'out' END, \
         CASE WHEN auto_checkout THEN 'auto' ELSE '' END, coalesce(CAST(coworker_time_pass_guid AS TEXT), '') \
         FROM checkins ORDER BY from_time",
    )
}

fn wait_for_visits(home: &Home, daemons: &[&Daemon], expected: &[[&str; 5]]) {
    wait_for(&format!("{expected:?}"), LIMIT, || {
        let found = visits(home);
        let logs = || daemons.iter().map(|daemon| daemon.log()).collect::<Vec<_>>().join("\n---\n");
        if found == expected { Ok(()) } else { Err(format!("{found:?}\n{}", logs())) }
    });
}

#[test]
fn whom_a_door_lets_in_at_another_hub_has_left_the_first_and_the_same_pass_goes_on() {
    const HOURS: &str = "5d2c7a06-6c2f-4a4e-9f0f-7d8f5b1c9e21";
    let (server, wire, broker) = (Postgres::start(), Wire::new(), Broker::plain());
    let one = Home::on(&server.url(), &site(""));
    one.import(&network());
    let inside = brought_in(&wire.mirror, server.address());
    let capture = "[[capture]]\ninterface = \"s1\"\n";
    let first = Home::on(&server.url().replace(&server.address(), &inside.to_string()), &(site("") + capture));
    let second = site("").replace("business = 1", "business = 2").replace("Hub One", "Hub Two");
    let second = Home::on(&server.url(), &(second + &doors(broker.port)));

    let mut hub_one =
        first.start_by(&["ip", "netns", "exec", wire.mirror.name(), BINARY], &[]).inside(wire.mirror.name());
    hub_one.wait_until_ready();
    let mut hub_two = second.start();
    hub_two.wait_until_ready();
    let daemons = [&hub_one, &hub_two];

    wire.send(&[arp_request(DEVICE.parse().expect("an address"))]);
    wait_for_visits(&one, &daemons, &[["1", "3", "in", "", HOURS]]);
    let at = next_second();
    broker.publish("flat/events", flat_event(1, card(7), Way::In, at).as_bytes(), 1);
    wait_for_visits(&one, &daemons, &[["1", "3", "out", "auto", HOURS], ["2", "2", "in", "", HOURS]]);
    // Her minutes are charged once.
    let ledger = one.ledger();
    assert_eq!(ledger.count("payg_charges"), 0);
    assert_eq!(ledger.count("failed_checkins"), 0);

    // A frame of her phone at the first hub is no evidence: it may be from before she left.
    wire.send(&[arp_request(DEVICE.parse().expect("an address"))]);
    broker.publish("flat/events", flat_event(2, card(7), Way::Out, next_second()).as_bytes(), 1);
    let out = [["1", "3", "out", "auto", HOURS], ["2", "2", "out", "", HOURS]];
    wait_for_visits(&one, &daemons, &out);
    hub_two.stop();
    hub_one.stop();
}
