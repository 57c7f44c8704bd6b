//! What the pipeline does with a fact or a person that the database does not take.
//!
//! A batch that it does not take is halved until the parts fit, so what is left in the end is one fact or one person.
//! Whose fault that is shows a rehearsal: an ordinary fact is decided and written in a transaction that is then rolled
//! back. If the database takes not even that, it is the database's fault, and the pipeline waits as for any outage.
//! Otherwise the fact is set aside: written as it is into a table of its own, where people find it. Only then is its
//! message acknowledged. If that row cannot be written either, it is an outage again.
//!
//! A person who cannot be written is left alone for a while, because nothing of theirs was received now. What comes
//! about them is tried again, fact by fact.

use std::{collections::BTreeSet, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{Attempts, LONGEST_ATTEMPT, PipelineError},
    batch_work::{Attempt, BatchWork},
    intake::Intake,
    parts::Halves as _,
    state::Pipeline,
    sub_batch::SubBatch,
};
use crate::{
    base::{
        fact::{DoorFact, Fact, FactDigest, PresenceFact, Recognised, StoredFact, Subject},
        health::ConditionKind,
        random,
        sighting::{Direction, DoorEventKind, DoorKey, TimeQuality},
    },
    engine::decision::Outcome,
    store::{SetAsideFact, StoreError},
};

/// How long a person whose state cannot be written is left alone: timers and presences are then tried again.
const LEFT_ALONE: Duration = Duration::from_mins(10);

/// How long the condition names what was set aside. After that, it is in the table only.
const NAMED_FOR: Duration = Duration::from_hours(24);

/// How often the table is counted while the condition is raised. What this gateway adds is counted at once, without
/// the table: counting after each of thousands would be slow.
const COUNT_EVERY: Duration = Duration::from_secs(30);

/// How much of the database's answer is kept, in characters: it may quote a value.
const LONGEST_ANSWER: usize = 300;

impl Pipeline {
    /// Sets the only fact of a sub-batch aside. Returns false if the database takes nothing else either; by then it has
    /// waited for the database.
    ///
    /// # Errors
    /// As [`Pipeline::wait_to_retry`].
    pub(super) async fn set_aside(
        &mut self,
        single: &SubBatch,
        error: &StoreError,
        attempts: &mut Attempts,
        deadline: &CancellationToken,
    ) -> Result<bool, PipelineError> {
        let answer = answer(error);
        if let Err(why) = self.put_aside(single, &answer).await {
            tracing::debug!(answer, "the database takes no other fact either");
            self.wait_to_retry(attempts, why, deadline).await?;
            return Ok(false);
        }
        tracing::debug!(answer, "the database does not take a fact; it was set aside");
        self.context.metrics.decided(Outcome::SetAside, single.len() as u64);
        for presence in &single.facts.presences {
            self.leave_alone(presence.subject);
        }
        self.note_success();
        self.name_set_aside().await;
        Ok(true)
    }

    /// Writes the only fact of a sub-batch into the table, if the database takes other facts.
    async fn put_aside(&mut self, single: &SubBatch, answer: &str) -> Result<(), StoreError> {
        self.rehearse().await?;
        let at = self.now().wall;
        let aside = stored(single).map(|fact| SetAsideFact { fact, at, why: answer.to_owned() }).collect();
        self.aside.facts += self.context.store.set_aside(aside).await?;
        Ok(())
    }

    /// Leaves people alone whose state the database does not take. Returns false if the database takes nothing else
    /// either; by then it has waited for it.
    ///
    /// # Errors
    /// As [`Pipeline::wait_to_retry`].
    pub(super) async fn set_people_aside(
        &mut self,
        people: &BTreeSet<Subject>,
        error: &StoreError,
        attempts: &mut Attempts,
        deadline: &CancellationToken,
    ) -> Result<bool, PipelineError> {
        if let Err(why) = self.rehearse().await {
            self.wait_to_retry(attempts, why, deadline).await?;
            return Ok(false);
        }
        tracing::debug!(?people, answer = answer(error), "the database does not take the state of a person");
        for subject in people {
            self.leave_alone(*subject);
        }
        self.note_success();
        self.name_set_aside().await;
        Ok(true)
    }

    fn leave_alone(&mut self, subject: Subject) {
        self.left_alone.insert(subject, self.context.clock.now().boot);
    }

    /// Whether a person is left alone for now.
    pub(super) fn is_left_alone(&self, subject: Subject) -> bool {
        let now = self.context.clock.now().boot;
        self.left_alone.get(&subject).is_some_and(|since| now.since(*since) < LEFT_ALONE)
    }

    /// Decides and writes a refused attempt at a door that does not exist, and rolls it back.
    async fn rehearse(&mut self) -> Result<(), StoreError> {
        let (business, now) = (self.context.business, self.now());
        let door = DoorKey("checkind/rehearsal".to_owned());
        let refused = DoorFact {
            business,
            at: now.wall,
            quality: TimeQuality::Arrival,
            arrived: now.wall,
            subject: Subject::unidentified_at(business, &door),
            recognised: Recognised::NoCredential,
            digest: FactDigest(random::uuid().into_bytes()),
            ordinal: 0,
            source: "checkind".into(),
            kind: DoorEventKind::Denied,
            door,
            direction: Direction::In,
            shown: None,
            refusal: None,
            too_late: false,
        };
        let (facts, people) = (Intake { doors: vec![refused], ..Intake::default() }, [].into());
        let work = BatchWork { is_rehearsal: true, ..BatchWork::fold_now(&facts, &people) };
        let mark = self.mark.next(None);
        let attempt = tokio::time::timeout(LONGEST_ATTEMPT, self.try_transaction(work, mark, now)).await;
        match attempt.unwrap_or(Err(StoreError::too_late()))? {
            Attempt::Committed(_) => Ok(()),
            // Not decided, because a newer directory has to be loaded first, or the database went back.
            Attempt::Stale | Attempt::WentBack => Err(StoreError::Conflict),
        }
    }

    /// Counts what was set aside lately, and names it. If the database cannot be asked, the last count stands.
    pub(super) async fn count_set_aside(&mut self) {
        let now = self.now();
        self.aside.counted_at = Some(now.boot);
        match self.context.store.set_aside_since(self.context.business, now.wall.minus(NAMED_FOR)).await {
            Ok(facts) => self.aside.facts = facts,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "cannot count what was set aside");
            }
        }
        self.raise_set_aside();
    }

    /// Counts again now and then while the condition is raised: what was set aside a day ago is no longer named, nor
    /// are people who are no longer left alone. Other gateways of this business may have added something.
    pub(super) async fn recount_set_aside(&mut self) {
        let now = self.context.clock.now().boot;
        let is_due = self.aside.counted_at.is_none_or(|at| now.since(at) >= COUNT_EVERY);
        if is_due && self.context.health.is_raised(ConditionKind::SetAside, "") {
            self.count_set_aside().await;
        }
    }

    /// Names what was set aside just now.
    async fn name_set_aside(&mut self) {
        if self.context.health.is_raised(ConditionKind::SetAside, "") {
            self.raise_set_aside();
        } else {
            self.count_set_aside().await;
        }
    }

    /// Raises or clears the condition.
    fn raise_set_aside(&mut self) {
        let now = self.context.clock.now().boot;
        self.left_alone.retain(|_, since| now.since(*since) < LEFT_ALONE);
        let (facts, people) = (self.aside.facts, self.left_alone.len());
        if facts == 0 && people == 0 {
            return self.context.health.clear(ConditionKind::SetAside, "");
        }
        self.context.health.raise(ConditionKind::SetAside, "", detail(facts, people));
    }
}

fn detail(facts: u64, people: usize) -> String {
    let facts = match facts {
        0 => None,
        1 => Some("the database did not take 1 fact of the last 24 hours, which was set aside".to_owned()),
        many => Some(format!("the database did not take {many} facts of the last 24 hours, which were set aside")),
    };
    let people = match people {
        0 => None,
        1 => Some("it does not take the state of 1 person, whose check-in stays as it is".to_owned()),
        many => Some(format!("it does not take the state of {many} people, whose check-ins stay as they are")),
    };
    let what: Vec<String> = facts.into_iter().chain(people).collect();
    format!(
        "{}; everything else is decided. `checkind explain --set-aside` lists the facts, with what the database answered; \
         correct the records by hand",
        what.join("; ")
    )
}

/// The facts to set aside, as the log would hold them. An unknown device is only counted: it will be seen again.
fn stored(single: &SubBatch) -> impl Iterator<Item = StoredFact> {
    let doors = single.facts.doors.iter().map(|fact| Fact::Door(fact.clone()));
    let rejected = single.facts.rejected.iter().map(|fact| Fact::Rejected(fact.clone()));
    let presences = single.facts.presences.iter().map(|presence| {
        Fact::Presence(PresenceFact {
            business: presence.business,
            subject: presence.subject,
            mac: presence.mac,
            interface: std::sync::Arc::clone(&presence.interface),
            points: vec![presence.point],
        })
    });
    doors.chain(rejected).chain(presences).map(|fact| fact.stored())
}

/// What the database answered, on one line of limited length.
fn answer(error: &StoreError) -> String {
    let words = error.answer().unwrap_or_else(|| error.to_string());
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_ANSWER).collect()
}
