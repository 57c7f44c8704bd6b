//! PURE. `checkind who`: lists who is in, since when, and why they are still in.

use chrono::{NaiveDateTime, TimeDelta};

use super::print::{by, pretty, span, table};
use crate::{
    api::shape::CheckinEntity,
    base::{clock::WallTime, record::Checkin},
    policy::site::Site,
};

/// Open check-ins as a table, in the order given. Times are local to the business. `site` has the limits of this
/// gateway's own business; only their own gateways know the limits of other businesses.
pub fn text(open: &[Checkin], site: Option<&Site>, now: WallTime) -> String {
    if open.is_empty() {
        return "No one is checked in.\n".to_owned();
    }
    let rows = open.iter().map(|checkin| row(checkin, site.filter(|site| site.business == checkin.business_id), now));
    table(["NAME", "AT", "SINCE", "LAST ACTIVITY", "BY", "STILL IN BECAUSE"], rows.collect())
}

/// Open check-ins as a JSON array, as the API returns them.
pub fn json(open: &[Checkin]) -> String {
    let entities: Vec<_> = open.iter().map(CheckinEntity::from).collect();
    pretty(&entities)
}

fn row(checkin: &Checkin, site: Option<&Site>, now: WallTime) -> [String; 6] {
    let when = |at| clock_face(local(checkin, site, at), local(checkin, site, now));
    [
        checkin.coworker_full_name.clone().unwrap_or_else(|| "(unknown)".to_owned()),
        checkin.business_name.clone().unwrap_or_else(|| format!("business {}", checkin.business_id)),
        when(checkin.from_time),
        checkin.last_activity.map_or_else(|| "-".to_owned(), when),
        by(checkin.source).to_owned(),
        because(checkin, site, now),
    ]
}

/// Why a check-in is still open: a tracked check-in ends at the idle limit, any other with an exit or at the cut-off.
fn because(checkin: &Checkin, site: Option<&Site>, now: WallTime) -> String {
    if checkin.mac_addresses.is_empty() {
        let until = site.map_or_else(String::new, |site| format!(" at {}", site.cut_off.format("%H:%M")));
        return format!("no device seen: in until an exit or the cut-off{until}");
    }
    let idle = now.since(checkin.last_activity.unwrap_or(checkin.from_time));
    let ago = span(idle);
    match site.map(|site| site.idle_limit) {
        None => format!("device seen {ago} ago"),
        Some(limit) if idle <= limit => {
            format!("device seen {ago} ago; out after {} without it", span(limit))
        }
        Some(limit) => format!("device seen {ago} ago; out after {} of coverage without it", span(limit)),
    }
}

/// An instant in the business's local time. The settings have no zone for other businesses, so their offset comes from
/// the record, as of the start of the check-in. It is right until the clocks change.
fn local(checkin: &Checkin, site: Option<&Site>, at: WallTime) -> NaiveDateTime {
    if let Some(site) = site {
        return site.time_zone.local(at);
    }
    let from = checkin.from_time_local.unwrap_or_else(|| checkin.from_time.utc().naive_utc());
    from.checked_add_signed(TimeDelta::milliseconds(at.millis() - checkin.from_time.millis())).unwrap_or(from)
}

/// `09:05` if today, with the date on other days.
fn clock_face(at: NaiveDateTime, now: NaiveDateTime) -> String {
    let today = at.date() == now.date();
    at.format(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::record::{BusinessId, CheckinSource, test_checkin},
        policy::site::{NetworkOpens, UnrecognisedDevices},
    };
    use chrono::{DateTime, NaiveTime, Utc};
    use std::{collections::BTreeSet, time::Duration};

    #[test]
    fn the_table_says_who_is_in_since_when_and_why() {
        let tracked = Checkin {
            source: CheckinSource::NetworkActivity,
            last_activity: Some(at("2026-07-01T10:48:00Z")),
            mac_addresses: BTreeSet::from(["3c:22:fb:00:00:01".parse().expect("an address")]),
            ..checkin("Ada Lovelace", "2026-06-30T22:30:00Z")
        };
        let unseen = Checkin { last_activity: Some(at("2026-07-01T09:00:00Z")), ..tracked.clone() };
        let elsewhere = Checkin { business_id: BusinessId(2), business_name: None, ..tracked.clone() };
        let open = [tracked, unseen, checkin("Zoë Ångström", "2026-07-01T08:05:59Z"), elsewhere];
        insta::assert_snapshot!(text(&open, Some(&site()), at("2026-07-01T11:00:00Z")), @r"
        NAME          AT          SINCE             LAST ACTIVITY  BY       STILL IN BECAUSE
        Ada Lovelace  Hub One     2026-06-30 23:30  11:48          network  device seen 12 min ago; out after 45 min without it
        Ada Lovelace  Hub One     2026-06-30 23:30  10:00          network  device seen 2 h 00 min ago; out after 45 min of coverage without it
        Zoë Ångström  Hub One     09:05             -              door     no device seen: in until an exit or the cut-off at 00:00
        Ada Lovelace  business 2  2026-06-30 23:30  11:48          network  device seen 12 min ago
");
        assert_eq!(text(&[], Some(&site()), at("2026-07-01T11:00:00Z")), "No one is checked in.\n");
    }

    #[test]
    fn json_is_the_apis_shape() {
        let text = json(&[checkin("Ada Lovelace", "2026-07-01T08:05:59Z")]);
        let value: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(value[0]["CoworkerFullName"], "Ada Lovelace");
        assert_eq!(value[0]["FromTime"], "2026-07-01T08:05:59Z");
        assert_eq!(json(&[]), "[]\n");
    }

    fn checkin(name: &str, from: &str) -> Checkin {
        let from = at(from);
        Checkin {
            coworker_full_name: Some(name.to_owned()),
            from_time_local: Some(crate::base::zone::test_zone("Europe/London").local(from)),
            ..test_checkin(from)
        }
    }

    fn site() -> Site {
        Site {
            business: BusinessId(1),
            name: "Hub One".to_owned(),
            time_zone: crate::base::zone::test_zone("Europe/London"),
            cut_off: NaiveTime::MIN,
            idle_limit: Duration::from_secs(45 * 60),
            record_every_visit: false,
            minimum_dwell: Duration::ZERO,
            linger: Duration::from_secs(600),
            network_opens: NetworkOpens::Always,
            unrecognised_devices: UnrecognisedDevices::All,
            network_checkins: true,
            debounce: Duration::from_secs(5),
            toggle_minimum_stay: Duration::from_secs(60),
            passes: crate::policy::passes::PassPolicy::default(),
        }
    }

    fn at(text: &str) -> WallTime {
        WallTime::from(text.parse::<DateTime<Utc>>().expect("a time"))
    }
}
