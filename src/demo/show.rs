//! Prints check-ins and failed check-ins as they happen, from the same records that the API serves.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    io::{self, Write as _},
    time::Duration,
};

use chrono::NaiveDate;

use super::{day, hub};
use crate::{
    base::{
        clock::WallTime,
        record::{BusinessId, Checkin, CheckinId, CheckinSource, CoworkerId, FailedCheckin, FailedCheckinId},
        sighting::masked,
    },
    engine::decision::{Note, Outcome},
    policy::door::Door,
    store::{LoggedFact, Store, StoreError},
};

/// Prints a line and flushes.
pub(super) fn say(line: impl fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush())
}

/// Prints new records.
pub(super) struct RecordFollower {
    store: Store,
    business: BusinessId,
    doors: Vec<Door>,
    date: NaiveDate,
    visits: BTreeMap<CheckinId, Checkin>,
    failures: BTreeMap<FailedCheckinId, FailedCheckin>,
}

/// A line and when it happened.
type ShownLine = (WallTime, String);

impl RecordFollower {
    /// A follower that has printed nothing yet.
    pub(super) fn new(store: Store, business: BusinessId, doors: Vec<Door>, date: NaiveDate) -> Self {
        Self { store, business, doors, date, visits: BTreeMap::new(), failures: BTreeMap::new() }
    }

    /// Prints what is new since the last call.
    pub(super) async fn show_new(&mut self) -> anyhow::Result<()> {
        let mut lines = Vec::new();
        self.add_visits(&mut lines).await?;
        self.add_failures(&mut lines).await?;
        lines.sort();
        for (_, line) in lines {
            say(line)?;
        }
        Ok(())
    }

    async fn add_visits(&mut self, lines: &mut Vec<ShownLine>) -> Result<(), StoreError> {
        let (begins, ends) = self.day();
        for visit in self.store.checkins_between(self.business, begins, ends).await? {
            let before = self.visits.get(&visit.id);
            let was_open = before.is_none_or(|before| before.to_time.is_none());
            if before.is_none() {
                lines.push((visit.from_time, self.opened(&visit).await?));
            }
            if visit.to_time.is_some() && was_open {
                lines.push(self.closed(&visit).await?);
            }
            self.visits.insert(visit.id, visit);
        }
        Ok(())
    }

    async fn add_failures(&mut self, lines: &mut Vec<ShownLine>) -> Result<(), StoreError> {
        let (begins, ends) = self.day();
        for failure in self.store.failed_checkins_between(self.business, begins, ends).await? {
            if !self.failures.contains_key(&failure.id) {
                lines.push((failure.checkin_attempt_time, self.refused(&failure).await?));
                self.failures.insert(failure.id, failure);
            }
        }
        Ok(())
    }

    /// The day from midnight to midnight.
    fn day(&self) -> (WallTime, WallTime) {
        (day::instant(self.date, 0), day::instant(self.date, 24 * 3600))
    }

    async fn opened(&self, visit: &Checkin) -> Result<String, StoreError> {
        let how = match visit.source {
            CheckinSource::DoorAccess => self.at_door(visit.from_time, visit.coworker_id, Outcome::Opened).await?,
            CheckinSource::NetworkActivity => {
                let device = visit.mac_addresses.first().map(|mac| format!(", device {mac}"));
                format!("by network{}", device.unwrap_or_default())
            }
            CheckinSource::None | CheckinSource::Manual | CheckinSource::Tile | CheckinSource::Sensor => {
                "by other means".to_owned()
            }
        };
        Ok(line(visit.from_time, "in", name(visit.coworker_full_name.as_deref()), &how))
    }

    async fn closed(&self, visit: &Checkin) -> Result<ShownLine, StoreError> {
        let to = visit.to_time.unwrap_or(visit.from_time);
        let stay = span(to.since(visit.from_time));
        let (at, how) = if !visit.auto_checkout {
            (to, format!("{}, after {stay}", self.at_door(to, visit.coworker_id, Outcome::Closed).await?))
        } else if visit.updated_on >= day::instant(self.date, hub::CUT_OFF) {
            (visit.updated_on, format!("by the cut-off, as of {}, after {stay}", clock_face(to)))
        } else {
            (visit.updated_on, format!("by silence, as of {}, after {stay}", clock_face(to)))
        };
        Ok((at, line(at, "out", name(visit.coworker_full_name.as_deref()), &how)))
    }

    async fn refused(&self, failure: &FailedCheckin) -> Result<String, StoreError> {
        let said = failure.description.as_deref().unwrap_or_default();
        let sentence = said.split_once(": ").map_or(said, |(_, sentence)| sentence);
        let sighting = self.sighting(failure.checkin_attempt_time, failure.coworker_id, Outcome::Failed).await?;
        let card = sighting.and_then(|sighting| sighting.credential).map(|card| format!("card {}", masked(&card)));
        let device = failure.mac_addresses.first().map(|mac| format!("device {mac}"));
        let who = failure.coworker_full_name.clone().or(card).or(device).unwrap_or_else(|| "(unknown)".to_owned());
        // The sentence ends with the door.
        Ok(line(failure.checkin_attempt_time, "refused", &who, sentence))
    }

    async fn at_door(
        &self,
        at: WallTime,
        coworker: Option<CoworkerId>,
        outcome: Outcome,
    ) -> Result<String, StoreError> {
        let sighting = self.sighting(at, coworker, outcome).await?;
        let door = sighting.as_ref().and_then(|sighting| self.door(sighting));
        Ok(door.map_or_else(|| "by card".to_owned(), |door| format!("by card at {door}")))
    }

    async fn sighting(
        &self,
        at: WallTime,
        coworker: Option<CoworkerId>,
        outcome: Outcome,
    ) -> Result<Option<LoggedFact>, StoreError> {
        let sightings = self.store.facts_between(self.business, at, at.plus(Duration::from_millis(1))).await?;
        Ok(sightings.into_iter().find(|sighting| sighting.coworker == coworker && sighting.outcome == outcome))
    }

    fn door(&self, sighting: &LoggedFact) -> Option<&str> {
        let key = &sighting.door.as_ref()?.0;
        Door::of(&self.doors, key).map(|door| door.name.as_str())
    }

    /// The totals of the day.
    pub(super) async fn summary(&self) -> Result<String, StoreError> {
        // Visits, by what opened and what ended them.
        let visits: Vec<&Checkin> = self.visits.values().collect();
        let count = |which: &dyn Fn(&Checkin) -> bool| visits.iter().filter(|visit| which(visit)).count();
        let people: BTreeSet<_> = visits.iter().map(|visit| visit.coworker_id).collect();
        let cut_off = day::instant(self.date, hub::CUT_OFF);
        let by_door = count(&|visit| visit.source == CheckinSource::DoorAccess);
        let by_exit = count(&|visit| visit.to_time.is_some() && !visit.auto_checkout);
        let at_cut_off = count(&|visit| visit.auto_checkout && visit.updated_on >= cut_off);
        let still_open = count(&|visit| visit.to_time.is_none());
        let at_idle_limit = visits.len() - by_exit - at_cut_off - still_open;
        let mut text = format!(
            "  visits            {} by {} people: {by_door} opened by a door, {} by the network;\n\
             {:20}{by_exit} ended by a door, {at_idle_limit} by silence, {at_cut_off} by the cut-off, {still_open} still open\n",
            visits.len(),
            people.len(),
            visits.len() - by_door,
            "",
        );
        // Failed check-ins, by code.
        let mut codes: BTreeMap<&str, usize> = BTreeMap::new();
        for failure in self.failures.values() {
            let code = failure.description.as_deref().and_then(|said| said.split(':').next()).unwrap_or_default();
            *codes.entry(code).or_default() += 1;
        }
        let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{count} {code}")).collect();
        // Writing to a String cannot fail.
        let _written =
            write!(text, "  failed check-ins  {}: {}", self.failures.len(), codes.join(",\n                      "));
        // Facts that changed nothing, by reason.
        let (begins, ends) = self.day();
        let log = self.store.facts_between(self.business, begins, ends).await?;
        let noted = |note: Note| log.iter().filter(|line| line.reason == Some(note.word())).count();
        let _written = write!(
            text,
            "\n  no effect         {} buttons, door contacts and heartbeats; {} sightings of phones whose owners had just left",
            noted(Note::NamesNoOne),
            noted(Note::Lingering),
        );
        Ok(text)
    }
}

fn line(at: WallTime, what: &str, who: &str, how: &str) -> String {
    format!("{}  {what:<8} {who:<24} {how}", clock_face(at))
}

fn name(name: Option<&str>) -> &str {
    name.unwrap_or("(unknown)")
}

/// `09:05` on the site's wall clock.
pub(super) fn clock_face(at: WallTime) -> String {
    hub::zone().local(at).format("%H:%M").to_string()
}

/// `3 h 05 min`; seconds are truncated.
fn span(span: Duration) -> String {
    let minutes = span.as_secs() / 60;
    if minutes < 60 { format!("{minutes} min") } else { format!("{} h {:02} min", minutes / 60, minutes % 60) }
}
