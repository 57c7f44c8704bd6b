//! When the captures could hear, written down in stretches: silence is counted only inside them.
//!
//! A stretch ends at the last frame. The time since then becomes part of it with the next one, see
//! [`hearing`](crate::source::network::coverage).

use std::{collections::VecDeque, time::Duration};

use uuid::Uuid;

use crate::{
    base::{
        clock::{BootTime, Now, STEP, WallTime},
        random,
    },
    engine::coverage::Coverage,
    policy::HISTORY,
    source::network::coverage::SiteCoverage,
    store::CoverageRow,
};

/// Stretches that are remembered, at most: one ends with every blindness. Of more the oldest are forgotten, so that silence in
/// their time is not counted.
const STRETCHES: usize = 10_000;

/// The stretches that are written down, and the one that goes on.
#[derive(Debug, Default)]
pub(super) struct CoverageLog {
    /// The oldest first.
    written: VecDeque<(Uuid, CoverageRow)>,
    going_on: Option<CoverageEntry>,
    /// The database takes nothing: what is heard meanwhile does not count before it is written.
    refused: bool,
}

#[derive(Clone, Copy, Debug)]
struct CoverageEntry {
    id: Uuid,
    /// The frame that what is heard began with: when it is another one, this stretch is over.
    began: BootTime,
    from: Now,
    /// The last frame.
    until: BootTime,
    written: BootTime,
}

impl CoverageEntry {
    fn covered(&self) -> CoverageRow {
        CoverageRow { from: self.from.wall, to: self.from.wall.plus(self.until.since(self.from.boot)) }
    }

    /// Has the wall clock gone on as the other one has?
    fn agrees(&self, now: Now) -> bool {
        now.wall.since(self.from.wall).abs_diff(now.boot.since(self.from.boot)) < STEP
    }
}

impl CoverageLog {
    /// What the database has; what was written in a time that was not right is left out.
    pub(super) fn read(stretches: &[CoverageRow], now: WallTime) -> Self {
        let right = stretches.iter().rev().filter(|covered| covered.to <= now.plus(STEP));
        let written = right.take(STRETCHES).map(|covered| (Uuid::nil(), *covered)).collect::<VecDeque<_>>();
        Self { written: written.into_iter().rev().collect(), ..Self::default() }
    }

    /// All of it, up to the last frame; what follows is not proven.
    pub(super) fn coverage(&self, now: Now) -> Coverage {
        // What was written by a clock that was ahead is of a time to come.
        let written = self.written.iter().map(|(_, covered)| (covered.from, covered.to.min(now.wall)));
        let going_on = self.counted(now).map(|covered| (covered.from, covered.to.min(now.wall)));
        Coverage::new(written.chain(going_on)).and_unproven(going_on.map(|(_, last)| (last, now.wall)))
    }

    /// Up to when it is known what was heard: the last frame, where the next one may still add to it.
    pub(super) fn proven(&self, now: Now) -> WallTime {
        self.counted(now).map_or(now.wall, |covered| covered.to.min(now.wall))
    }

    fn counted(&self, now: Now) -> Option<CoverageRow> {
        self.going_on.filter(|stretch| !self.refused && stretch.agrees(now)).map(|stretch| stretch.covered())
    }

    /// Takes over what was heard since the last look; begins a stretch where the one before is over.
    pub(super) fn look(&mut self, hearing: &SiteCoverage, now: Now) {
        let Some(heard) = hearing.span() else {
            self.going_on = None;
            return;
        };
        match self.going_on.as_mut().filter(|stretch| stretch.began == heard.from && stretch.agrees(now)) {
            Some(stretch) => stretch.until = heard.until,
            None => {
                let from = Now { wall: now.wall.minus(now.boot.since(heard.until)), boot: heard.until };
                let (id, began) = (random::uuid(), heard.from);
                self.going_on = Some(CoverageEntry { id, began, from, until: heard.until, written: now.boot });
            }
        }
    }

    /// The wall clock was stepped: what was heard in the stretch that goes on was heard so much later, or earlier.
    pub(super) fn step(&mut self, by: i64) {
        if let Some(stretch) = &mut self.going_on {
            stretch.id = random::uuid();
            stretch.from.wall = stretch.from.wall.moved(by);
        }
    }

    /// The stretch that goes on, to be written down, unless it is.
    pub(super) fn to_write(&self, now: Now) -> Option<(Uuid, CoverageRow)> {
        let stretch = self.going_on.filter(|stretch| stretch.agrees(now))?;
        Some((stretch.id, stretch.covered())).filter(|known| self.written.back() != Some(known))
    }

    /// How long ago the stretch was written down.
    pub(super) fn unwritten_for(&self, now: BootTime) -> Duration {
        self.going_on.map_or(Duration::ZERO, |stretch| now.since(stretch.written))
    }

    /// It is written.
    pub(super) fn written(&mut self, (id, covered): (Uuid, CoverageRow), now: Now) {
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
