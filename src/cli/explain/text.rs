//! PURE. Prints the timeline, for people and for programs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    model::{EventKind, Explained, TimelineEvent, VisitSummary},
    words::{decided, face, local},
};
use crate::{
    base::{clock::WallTime, record::BusinessId},
    cli::print::{by, money, pretty, span},
    engine::person::Pinned,
};

/// The timeline as text: a line for each event under its date, then the visits.
pub fn text(explained: &Explained) -> String {
    let Explained { who, business, from, now, policies, names, events, visits, behind } = explained;
    let name = |place: BusinessId| names.get(&place).map_or("", String::as_str);
    let minute = |at: WallTime| local(policies, *business, at).format("%Y-%m-%d %H:%M");
    let mut lines = vec![format!("{}, from {} to {} at {}", who.title, minute(*from), minute(*now), name(*business))];
    if events.is_empty() {
        lines.push("Nothing was recorded in this time: no door event and no device seen.".to_owned());
    }
    let mut date = None;
    for event in events {
        let at = local(policies, event.business, event.place.at);
        if date != Some(at.date()) {
            date = Some(at.date());
            lines.push(at.format("%a %Y-%m-%d").to_string());
        }
        let face = |instant: WallTime| face(policies, event.business, instant, event.place.at);
        let seen = match event.seen {
            Some((first, last, 1)) if last.since(first) < Duration::from_secs(1) => ": seen".to_owned(),
            Some((first, _, 1)) => format!(": seen since {}", face(first)),
            Some((first, last, many)) => format!(": seen {many} times from {} to {}", face(first), face(last)),
            None => String::new(),
        };
        let place = if event.business == *business { String::new() } else { format!("at {}, ", name(event.business)) };
        let log = event.log.map_or_else(String::new, |code| {
            format!(" [the log has \"{}\" instead: a bug, or a change by hand]", decided(code, None))
        });
        lines.push(format!("  {}  {place}{}{seen} -> {}{log}", at.format("%H:%M:%S"), event.what, event.outcome));
    }
    if !visits.is_empty() {
        lines.push("Check-ins".to_owned());
        lines.extend(visits.iter().map(|summary| summary_text(summary, explained)));
    }
    if *behind {
        lines.push(
            "The database still has an open check-in that should have ended. Is the daemon running? It closes it."
                .to_owned(),
        );
    }
    lines.join("\n") + "\n"
}

fn summary_text(summary: &VisitSummary, explained: &Explained) -> String {
    let VisitSummary { visit, pass, charge, ends } = summary;
    let face = |at: WallTime, line: WallTime| face(&explained.policies, visit.business, at, line);
    let from = local(&explained.policies, visit.business, visit.from).format("%Y-%m-%d %H:%M:%S");
    let stay = match visit.to {
        Some(to) => {
            let out = match visit.pinned {
                _ if visit.auto_checkout => "closed automatically",
                Pinned::Until(at) if visit.to == Some(at) => "checked out by hand",
                Pinned::No | Pinned::Begin | Pinned::Until(_) | Pinned::NotBefore(_) => "checked out at a door",
            };
            format!("{from} to {}, {}, {out}", face(to, visit.from), span(to.since(visit.from)))
        }
        None => format!("{from}, still in, until {}", ends.as_deref().unwrap_or("an exit")),
    };
    let place = if visit.business == explained.business {
        String::new()
    } else {
        explained.names.get(&visit.business).map_or_else(String::new, |name| format!(", at {name}"))
    };
    let pass = pass.as_ref().map_or_else(String::new, |pass| format!(", {pass}"));
    let charge = charge.as_ref().map_or_else(String::new, |record| {
        let amount = money(record.charge.amount, record.charge.currency);
        let so_far = if record.to.is_none() { " so far" } else { "" };
        format!(", charged {amount} for {} min{so_far}", record.charge.minutes)
    });
    format!("  {stay}, opened by {}{place}{pass}{charge}", by(visit.source))
}

/// The timeline as JSON.
pub fn json(explained: &Explained) -> String {
    let Explained { who, business, from, now, policies, events, visits, behind, .. } = explained;
    let time = |at: WallTime| at.to_rfc3339_seconds();
    // Keys are in the style of the API.
    let event = |event: &TimelineEvent| {
        let seen = event.seen;
        json!({
            "At": time(event.place.at),
            "AtLocal": local(policies, event.business, event.place.at).format("%Y-%m-%dT%H:%M:%S").to_string(),
            "BusinessId": event.business,
            "Kind": match event.kind {
                EventKind::Door => "door",
                EventKind::Network => "network",
                EventKind::Timer => "timer",
                EventKind::Directory => "directory",
                EventKind::Edit => "edit",
            },
            "What": event.what,
            "HeardFrom": seen.map(|(first, ..)| time(first)),
            "HeardTo": seen.map(|(_, last, _)| time(last)),
            "HeardTimes": seen.map(|(.., many)| many),
            "Outcome": event.code.outcome().word(),
            "Code": event.code.word(),
            "Description": event.outcome,
            "LogSays": event.log.map(|code| decided(code, None)),
        })
    };
    let visit = |summary: &VisitSummary| {
        let VisitSummary { visit, pass, charge, .. } = summary;
        json!({
            "UniqueId": visit.unique_id.to_string(),
            "BusinessId": visit.business,
            "Source": visit.source.number(),
            "FromTime": time(visit.from),
            "ToTime": visit.to.map(time),
            "AutoCheckout": visit.auto_checkout,
            "TimePass": pass,
            "PassEnds": visit.pass.as_ref().and_then(|pass| pass.ends).map(|(at, _)| time(at)),
            "Charge": charge.as_ref().map(|record| json!({
                "Minutes": record.charge.minutes, "Amount": record.charge.amount,
                "Currency": record.charge.currency.to_string(), "Final": record.to.is_some(),
            })),
        })
    };
    let value = json!({
        "CoworkerId": who.coworker.as_ref().map(|(id, _)| id),
        "CoworkerFullName": who.coworker.as_ref().map(|(_, name)| name),
        "BusinessId": business,
        "From": time(*from),
        "To": time(*now),
        "Events": events.iter().map(event).collect::<Vec<Value>>(),
        "Checkins": visits.iter().map(visit).collect::<Vec<Value>>(),
        "DatabaseBehind": behind,
    });
    pretty(&value)
}
