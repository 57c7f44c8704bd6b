//! When the captures could hear, written down in stretches: silence is counted only inside them.

use std::{collections::VecDeque, time::Duration};

use uuid::Uuid;

use crate::{
    clock::{BootTime, Now, STEP, WallTime},
    engine::coverage::Coverage,
    policy::HISTORY,
    random,
    source::network::hearing::Hearing,
    store::Covered,
};

/// Stretches that are remembered, at most: one ends with every blindness. Of more the oldest are forgotten, so that silence in
/// their time is not counted.
const STRETCHES: usize = 10_000;

/// The stretches that are written down, and the one that goes on.
#[derive(Debug, Default)]
pub(super) struct CoverageLog {
    /// The oldest first.
    written: VecDeque<(Uuid, Covered)>,
    going_on: Option<Stretch>,
    /// The database takes nothing: what is heard meanwhile does not count before it is written.
    refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct Stretch {
    id: Uuid,
    from: Now,
    heard_from: Duration,
    written: BootTime,
}

impl CoverageLog {
    /// What the database has; what was written in a time that was not right is left out.
    pub(super) fn read(stretches: &[Covered], now: WallTime) -> Self {
        let right = stretches.iter().rev().filter(|covered| covered.to <= now.plus(STEP));
        let written = right.take(STRETCHES).map(|covered| (Uuid::nil(), *covered)).collect::<VecDeque<_>>();
        Self { written: written.into_iter().rev().collect(), ..Self::default() }
    }

    /// All of it, up to now.
    pub(super) fn coverage(&self, hearing: &Hearing, now: Now) -> Coverage {
        // What was written by a clock that was ahead is of a time to come.
        let written = self.written.iter().map(|(_, covered)| (covered.from, covered.to.min(now.wall)));
        let going_on = self.going_on.filter(|stretch| !self.refused && is_unbroken(stretch, hearing, now));
        Coverage::new(written.chain(going_on.map(|stretch| (stretch.from.wall, now.wall))))
    }

    /// Looks whether the stretch goes on; begins one where it does not.
    pub(super) fn look(&mut self, hearing: &Hearing, now: Now) {
        if !self.going_on.is_some_and(|stretch| is_unbroken(&stretch, hearing, now)) {
            let heard_from = hearing.heard(now.boot);
            let begin = || Stretch { id: random::uuid(), from: now, heard_from, written: now.boot };
            self.going_on = hearing.is_hearing().then(begin);
        }
    }

    /// The wall clock was stepped: what was heard in the stretch that goes on was heard so much later, or earlier.
    pub(super) fn step(&mut self, by: i64) {
        if let Some(stretch) = &mut self.going_on {
            stretch.id = random::uuid();
            stretch.from.wall = stretch.from.wall.moved(by);
        }
    }

    /// The stretch that goes on, to be written down.
    pub(super) fn to_write(&self, hearing: &Hearing, now: Now) -> Option<(Uuid, Covered)> {
        let stretch = self.going_on.filter(|stretch| is_unbroken(stretch, hearing, now))?;
        Some((stretch.id, Covered { from: stretch.from.wall, to: now.wall.max(stretch.from.wall) }))
    }

    /// How long ago the stretch was written down.
    pub(super) fn unwritten_for(&self, now: BootTime) -> Duration {
        self.going_on.map_or(Duration::ZERO, |stretch| now.since(stretch.written))
    }

    /// It is written.
    pub(super) fn written(&mut self, (id, covered): (Uuid, Covered), now: Now) {
        if let Some(stretch) = self.going_on.as_mut().filter(|stretch| stretch.id == id) {
            stretch.written = now.boot;
        }
        match self.written.back_mut().filter(|(known, _)| *known == id) {
            Some((_, known)) => *known = covered,
            None => self.written.push_back((id, covered)),
        }
        let oldest = now.wall.minus(HISTORY);
        while self.written.len() > STRETCHES || self.written.front().is_some_and(|(_, covered)| covered.to < oldest) {
            self.written.pop_front();
        }
    }

    /// The database refuses what we write.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }

    /// The database takes what we write. What the captures heard while it did not could not be written, so nobody's silence in
    /// that time is known.
    pub(super) fn taken(&mut self) {
        if std::mem::take(&mut self.refused) {
            self.going_on = None;
        }
    }
}

fn is_unbroken(stretch: &Stretch, hearing: &Hearing, now: Now) -> bool {
    let heard = hearing.heard(now.boot).saturating_sub(stretch.heard_from);
    let passed = now.boot.since(stretch.from.boot);
    passed.saturating_sub(heard) < STEP && now.wall.since(stretch.from.wall).abs_diff(passed) < STEP
}
