//! What a gateway remembers of its broker session across restarts of both, and how it watches the free space on its
//! disk.

use crate::support::{
    broker::Broker,
    daemon::{Home, LIMIT, doors, people, site},
    wait_for,
};

const OLD_SOURCE: &str = "[[source]]\nname = \"old\"\npreset = \"generic-json\"\ntopics = [\"old/#\"]\n";

#[test]
fn a_session_that_the_broker_lost_while_the_gateway_was_off_is_named() {
    let mut broker = Broker::plain();
    let home = Home::new(&(site("") + &doors(broker.port)));
    home.import(&people(1, &[]));
    for _ in 0..2 {
        let mut daemon = home.start();
        daemon.wait_until_ready();
        assert_eq!(daemon.changes_of("session_lost"), (0, 0), "{}", daemon.log());
        daemon.stop();
    }
    broker.stop();
    broker.resume();
    let mut daemon = home.start();
    daemon.wait_until_ready();
    let detail = daemon.wait_for_condition("session_lost");
    assert!(detail.contains("persistence"), "{detail}");
    daemon.stop();
    // Another client id has a session of its own, which was not lost.
    home.configure(&(site("") + &doors(broker.port)).replace("checkind-test", "checkind-other"));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    assert_eq!(daemon.changes_of("session_lost"), (0, 0), "{}", daemon.log());
    daemon.stop();
}

#[test]
fn topics_that_were_taken_out_while_the_gateway_was_off_are_unsubscribed() {
    let broker = Broker::plain();
    let configuration = site("") + &doors(broker.port);
    let home = Home::new(&(configuration.clone() + OLD_SOURCE));
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.stop();
    home.configure(&configuration);
    let mut daemon = home.start();
    daemon.wait_until_ready();
    daemon.wait_for_line("unsubscribed from a topic that is no longer configured");
    broker.publish("old/events", b"{}", 1);
    broker.publish("flat/events", b"{}", 1);
    daemon.wait_for_metric("checkind_mqtt_messages_total", "", 1);
    assert_eq!(daemon.metric("checkind_rejected_messages_total", "unknown_topic"), 0);
    daemon.stop();
}

#[test]
fn a_disk_with_little_room_is_named_and_its_free_space_is_a_metric() {
    let broker = Broker::plain();
    let disk = tempfile::tempdir().expect("a mount point");
    let place = disk.path().to_str().expect("a path of ours").to_owned();
    let home = Home::on(&format!("sqlite:{place}/checkind.db"), &(site("") + &doors(broker.port)));
    let script = "mount -t tmpfs -o size=20m,mode=700 tmpfs \"$1\" && shift && exec \"$@\"";
    let binary = crate::support::daemon::BINARY;
    let daemon = home.start_by(&["unshare", "--mount", "sh", "-c", script, "sh", &place, binary], &[]);
    let detail = daemon.wait_for_condition("disk_low");
    assert!(
        detail.contains(&place) && detail.contains("free other space") && detail.contains("`checkind maintain`"),
        "{detail}"
    );
    wait_for("the room", LIMIT, || match daemon.metric("checkind_disk_free_bytes", "") {
        free @ 1..20_971_520 => Ok(free),
        other => Err(other.to_string()),
    });
    daemon.stop();
}
