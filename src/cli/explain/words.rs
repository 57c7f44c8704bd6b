//! PURE. Words for decisions, door events and times.

use std::time::Duration;

use chrono::NaiveDateTime;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Edit, EditFact, EditedEnd},
        plain::plain,
        record::BusinessId,
        sighting::{CredentialKind, Direction, DoorEventKind, Refusal, TimeQuality},
    },
    cli::print::span,
    engine::decision::{DecisionCode, Note, Outcome, Reason},
    pipeline::calendar_of,
    policy::{PolicyHistory, door::Door},
};

/// The shortest delay of a message, or lead of a controller's clock, that is mentioned.
const MIN_MENTIONED: Duration = Duration::from_mins(1);

/// The outcome, with the code and sentence of its reason.
pub(super) fn decided(code: DecisionCode, detail: Option<&str>) -> String {
    let outcome = code.outcome();
    let why = code.word().map(|word| {
        let note = || Note::from_word(word).map(|note| format!("{word}: {}", note.sentence()));
        let reason = Reason::from_code(word).map(|reason| reason.description_with(detail));
        reason.or_else(note).unwrap_or_else(|| word.to_owned())
    });
    match (why, outcome) {
        (Some(why), _) => format!("{}, {why}", outcome.word()),
        (None, Outcome::Opened) => "opened: checked in".to_owned(),
        (None, Outcome::Refreshed) => "refreshed: already in".to_owned(),
        (None, Outcome::Closed) => "closed: checked out".to_owned(),
        (None, Outcome::Failed | Outcome::Recorded | Outcome::Duplicate | Outcome::Rejected | Outcome::SetAside) => {
            outcome.word().to_owned()
        }
    }
}

/// A door event: the door and direction, the credential, the controller's answer, and remarks on its time.
pub(super) fn door_text(fact: &DoorFact, policies: &PolicyHistory) -> String {
    let way = match fact.direction {
        Direction::In => ", in",
        Direction::Out => ", out",
        Direction::Unknown => "",
    };
    let shown = fact.shown.as_ref().map_or_else(String::new, |shown| {
        // As in an import file.
        let scope = shown.scope.as_ref().map_or_else(String::new, |scope| format!("{}/", plain(scope)));
        match (shown.kind, shown.value.as_deref().map(plain)) {
            (_, None) => format!("{}, ", shown.text()),
            (CredentialKind::Card, Some(value)) => format!("card {value}, "),
            (CredentialKind::Pin, Some(_)) => "PIN, ".to_owned(),
            (CredentialKind::Slot, Some(value)) => format!("slot {scope}{value}, "),
            (CredentialKind::User, Some(value)) => format!("user {scope}{value}, "),
            (CredentialKind::Name, Some(value)) => format!("name {scope}{value}, "),
        }
    });
    // `Refusal::Other` adds nothing to the answer.
    let answer = match (fact.kind, fact.refusal) {
        (DoorEventKind::Granted, _) => "granted".to_owned(),
        (DoorEventKind::Read, _) => "read".to_owned(),
        (DoorEventKind::Denied, Some(refusal)) if refusal != Refusal::Other => {
            format!("refused by the controller, {}", refusal.word().replace('_', " "))
        }
        (DoorEventKind::Denied, _) => "refused by the controller".to_owned(),
        (DoorEventKind::UnknownCredential, _) => "unknown to the controller".to_owned(),
        (kind, _) => kind.word().replace('_', " "),
    };
    // Small differences between the clocks are normal, so they are not mentioned.
    let timing = match fact.quality {
        TimeQuality::Arrival => " (arrival time used)".to_owned(),
        TimeQuality::Device | TimeQuality::Corrected => {
            let corrected = (fact.quality == TimeQuality::Corrected).then(|| "controller's clock corrected".to_owned());
            let (late, ahead) = (fact.arrived.since(fact.at), fact.at.since(fact.arrived));
            let late = (late >= MIN_MENTIONED).then(|| format!("arrived {} late", span(late)));
            let ahead = (ahead >= MIN_MENTIONED).then(|| format!("controller's clock {} ahead", span(ahead)));
            let marks: Vec<String> = [corrected, late, ahead].into_iter().flatten().collect();
            if marks.is_empty() { String::new() } else { format!(" ({})", marks.join(", ")) }
        }
    };
    // A door without a configured name is printed by its key alone.
    let doors = policies.at(fact.business, fact.at).map_or(&[][..], |policy| &policy.doors);
    let configured = Door::of(doors, &fact.door.0);
    let name = configured.filter(|door| door.name != door.pattern).map(|door| &door.name);
    let key = format!("{} of {}", plain(&fact.door.0), plain(&fact.source));
    let door = name.map_or_else(|| key.clone(), |name| format!("\"{}\" ({key})", plain(name)));
    format!("door {door}{way}: {shown}{answer}{timing}")
}

/// What a user of the API said, and when.
pub(super) fn edit_text(fact: &EditFact, policies: &PolicyHistory) -> String {
    let clock = |at: WallTime| face(policies, fact.business, at, fact.at());
    let was = fact.was.map_or_else(String::new, |was| format!(" (was {} to {})", clock(was.from), clock(was.to)));
    let said = match &fact.edit {
        Edit::Set { from, end, overrides } => {
            let end = match end {
                EditedEnd::At(to) => format!("from {} to {}", clock(*from), clock(*to)),
                EditedEnd::NotBefore(at) => format!("from {}, still in at {}", clock(*from), clock(*at)),
                EditedEnd::Unset => format!("from {}", clock(*from)),
                EditedEnd::Joins => format!("came in at {}", clock(*from)),
            };
            format!("{end}{}", if *overrides { ", whatever the passes say" } else { "" })
        }
        Edit::Removed => "was not here".to_owned(),
        Edit::Refused { from, .. } => format!("asked to come in at {}", clock(*from)),
    };
    format!("by hand, {} at {}: {said}{was}", plain(&fact.by), clock(fact.made))
}

/// An instant in a business's local time.
pub(super) fn local(policies: &PolicyHistory, business: BusinessId, at: WallTime) -> NaiveDateTime {
    calendar_of(policies, business, at).local(at)
}

/// An instant in a business's local time, with its date if that differs from the line's.
pub(super) fn face(policies: &PolicyHistory, business: BusinessId, at: WallTime, line: WallTime) -> String {
    let (at, line) = (local(policies, business, at), local(policies, business, line));
    at.format(if at.date() == line.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}
