//! Reads the log, for people who want to know why something was decided.

use super::{
    batch::{DecidedFact, FactRow},
    columns::sql,
    error::StoreError,
    handle::Store,
    statement::{Arg, Statement, statement},
    stored::StoredRow,
};
use crate::{
    base::{
        clock::WallTime,
        fact::{Fact, LogDay, UnreadableFact},
        mac::MacAddr,
        record::{BusinessId, CoworkerId},
        sighting::DoorKey,
    },
    engine::decision::{DecisionCode, Outcome},
};

/// The maximum number of facts that one call returns, earliest first. A busy site has some ten thousand a day.
const RETURNED: i64 = 20_000;

/// Limited by day as well as time, because the primary key begins with the day.
const BETWEEN: Statement = statement!(sql!(
    "SELECT ", [FactRow: "*"], " FROM facts
     WHERE day >= $1 AND day <= $2 AND at >= $3 AND at < $4 AND business_id = $5 ORDER BY at LIMIT $6",
));

/// A fact and the decision on it, in a form for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedFact {
    /// The `[[source]]`, or the interface.
    pub source: String,
    /// The door; `None` for the network.
    pub door: Option<DoorKey>,
    /// The word of what happened; `network` for presences.
    pub kind: &'static str,
    /// The credential as the controller sent it; never a PIN.
    pub credential: Option<String>,
    /// The device.
    pub mac: Option<MacAddr>,
    /// The person.
    pub coworker: Option<CoworkerId>,
    /// When it happened; for presences, the first evidence.
    pub event_at: WallTime,
    /// What was decided.
    pub outcome: Outcome,
    /// The word for the reason.
    pub reason: Option<&'static str>,
    /// The number of frames merged into it.
    pub frames: u32,
}

impl Store {
    /// The facts of a business from one instant until another, earliest first, at most 20,000.
    pub async fn facts_between(
        &self,
        business: BusinessId,
        from: WallTime,
        to: WallTime,
    ) -> Result<Vec<LoggedFact>, StoreError> {
        let args = [
            Arg::Int(LogDay::of(from).0),
            Arg::Int(LogDay::of(to).0),
            Arg::Int(from.millis()),
            Arg::Int(to.millis()),
            Arg::Int(business.0),
            Arg::Int(RETURNED),
        ];
        let mut found = Vec::new();
        for row in self.sql.read(BETWEEN, &args).await? {
            let decided = DecidedFact::from(FactRow::read(&row)?);
            match Fact::read(&decided.fact) {
                Ok(fact) => found.push(logged(&fact, decided.decision)),
                Err(UnreadableFact) => tracing::warn!("an entry of the log cannot be read; a newer checkind wrote it"),
            }
        }
        Ok(found)
    }
}

fn logged(fact: &Fact, decision: DecisionCode) -> LoggedFact {
    let nothing = LoggedFact {
        source: String::new(),
        door: None,
        kind: "network",
        credential: None,
        mac: None,
        coworker: None,
        event_at: WallTime::from_millis(0),
        outcome: decision.outcome(),
        reason: decision.word(),
        frames: 0,
    };
    match fact {
        Fact::Door(door) => LoggedFact {
            source: door.source.to_string(),
            door: Some(door.door.clone()),
            kind: door.kind.word(),
            credential: door.shown.as_ref().map(crate::base::fact::ShownCredential::text),
            coworker: door.subject.as_coworker(),
            event_at: door.at,
            ..nothing
        },
        Fact::Presence(presence) => LoggedFact {
            source: presence.interface.to_string(),
            mac: Some(presence.mac),
            coworker: presence.subject.as_coworker(),
            event_at: presence.points.first().map_or(presence.at(), |point| point.first_at),
            frames: presence.points.iter().map(|point| point.frames).sum(),
            ..nothing
        },
        Fact::UnknownDevice(device) => LoggedFact {
            source: device.interface.to_string(),
            mac: Some(device.mac),
            event_at: device.point.first_at,
            frames: device.point.frames,
            ..nothing
        },
        Fact::Edit(edit) => LoggedFact {
            source: edit.by.to_string(),
            kind: "edit",
            coworker: edit.subject.as_coworker(),
            event_at: edit.at(),
            ..nothing
        },
        Fact::Rejected(rejected) => LoggedFact {
            source: rejected.source.to_string(),
            door: Some(DoorKey(rejected.topic.clone())),
            kind: "rejected",
            event_at: rejected.at,
            ..nothing
        },
    }
}
