//! PURE. The part of a batch that one transaction decides, and how it is halved.

use super::{intake::Intake, parts::Halves};
use crate::{engine::fold::FailureRecord, store::DecidedFact};

/// The facts that one transaction decides.
#[derive(Debug, Default)]
pub(super) struct SubBatch {
    pub(super) facts: Intake,
    /// Failed check-ins of unknown devices, and their facts.
    pub(super) unknown_devices: Vec<(FailureRecord, DecidedFact)>,
}

impl Halves for SubBatch {
    fn len(&self) -> usize {
        self.facts.len() + self.unknown_devices.len()
    }

    fn split_off(&mut self, first: usize) -> Self {
        let mut left = first;
        let mut first_of = |kind: usize| {
            let first = kind.min(left);
            left -= first;
            first
        };
        let facts = &mut self.facts;
        let second = Intake {
            doors: facts.doors.split_off(first_of(facts.doors.len())),
            presences: facts.presences.split_off(first_of(facts.presences.len())),
            unknown_devices: Vec::new(),
            rejected: facts.rejected.split_off(first_of(facts.rejected.len())),
            edits: facts.edits.split_off(first_of(facts.edits.len())),
            ignored: 0,
            version: facts.version,
        };
        let unknown_devices = self.unknown_devices.split_off(first_of(self.unknown_devices.len()));
        Self { facts: second, unknown_devices }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::WallTime, fact::FactDigest, fact::RejectedFact, record::BusinessId};
    use crate::pipeline::parts::WorkParts;

    fn of(facts: u8) -> SubBatch {
        let rejected = |number| RejectedFact {
            business: BusinessId(1),
            at: WallTime::from_millis(0),
            digest: FactDigest([number; 16]),
            source: "front".into(),
            topic: "doors".to_owned(),
            why: "no_rule".to_owned(),
        };
        SubBatch {
            facts: Intake { rejected: (0..facts).map(rejected).collect(), ..Intake::default() },
            ..SubBatch::default()
        }
    }

    #[test]
    fn halves_contain_everything_in_its_order_down_to_one_fact() {
        let mut parts = WorkParts::of([of(11)]);
        let mut seen = Vec::new();
        while let Some(next) = parts.next() {
            match parts.halve(next) {
                Ok(()) => {}
                Err(single) => seen.push(single.facts.rejected[0].digest.0[0]),
            }
        }
        assert!(seen.into_iter().eq(0..11));
    }
}
