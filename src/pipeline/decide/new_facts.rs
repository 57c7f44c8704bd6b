//! PURE. Which of the facts that arrived are new, and which of those need a decision.

use std::collections::BTreeSet;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, Fact, FactDigest, RejectedFact, Subject},
    },
    engine::decision::{DecisionCode, Note, Outcome},
    pipeline::intake::Intake,
    store::{DecidedFact, Writes},
};

/// The new door facts of a sub-batch and the number of duplicates: facts that are already in the log (`known`, by their
/// index) or occurred earlier in the sub-batch.
pub(in crate::pipeline) fn new_facts(intake: &Intake, known: &BTreeSet<usize>) -> (Vec<DoorFact>, u64) {
    let mut seen: BTreeSet<(FactDigest, Option<WallTime>)> = BTreeSet::new();
    let (mut new, mut duplicates) = (Vec::new(), 0);
    for (index, fact) in intake.doors.iter().enumerate() {
        let key = (fact.digest, (!fact.has_arrival_time()).then_some(fact.at));
        if known.contains(&index) || !seen.insert(key) {
            duplicates += 1;
        } else {
            new.push(fact.clone());
        }
    }
    (new, duplicates)
}

/// Writes the facts that are only recorded: those that are too late or name no one, and rejected messages. Returns the
/// door facts left to decide, and how many are only recorded.
pub(in crate::pipeline) fn undecided(
    new: Vec<DoorFact>,
    rejected: &[RejectedFact],
    writes: &mut Writes,
) -> (Vec<DoorFact>, usize) {
    for rejected in rejected {
        let decision = DecisionCode::of(Outcome::Rejected, Some(&rejected.why));
        writes.facts.push(DecidedFact { fact: Fact::Rejected(rejected.clone()).stored(), decision });
    }
    let before = writes.facts.len();
    let mut doors = Vec::with_capacity(new.len());
    for fact in new {
        let note = if fact.too_late {
            Some(Note::Late)
        } else {
            (fact.subject == Subject::BUSINESS).then_some(Note::NamesNoOne)
        };
        match note {
            Some(note) => {
                let decision = DecisionCode::of(Outcome::Recorded, Some(note.word()));
                writes.facts.push(DecidedFact { fact: Fact::Door(fact).stored(), decision });
            }
            None => doors.push(fact),
        }
    }
    (doors, writes.facts.len() - before)
}
