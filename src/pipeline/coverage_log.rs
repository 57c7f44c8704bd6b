//! The coverage of the site as stored in the database: silence counts only while the site is covered.
//!
//! A span of coverage ends at the last frame. The next frame adds the time since then, see
//! [`coverage`](crate::source::network::coverage).

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

/// The maximum number of remembered spans; each loss of coverage ends one. Beyond that, the oldest are forgotten, and
/// silence during them does not count.
const SPANS: usize = 10_000;

/// The written spans and the current one.
#[derive(Debug, Default)]
pub(super) struct CoverageLog {
    /// Oldest first.
    written: VecDeque<(Uuid, CoverageRow)>,
    current: Option<CoverageEntry>,
    /// Whether the database is failing: then coverage does not count until it is written.
    write_failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct CoverageEntry {
    id: Uuid,
    /// The frame with which the captures' span began. If theirs begins with another one, this span has ended.
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

    /// Whether the wall clock has kept pace with the boot clock.
    fn agrees(&self, now: Now) -> bool {
        now.wall.since(self.from.wall).abs_diff(now.boot.since(self.from.boot)) < STEP
    }
}

impl CoverageLog {
    /// The log as stored, without spans in the future, which a wrong clock wrote.
    pub(super) fn read(rows: &[CoverageRow], now: WallTime) -> Self {
        let valid = rows.iter().rev().filter(|covered| covered.to <= now.plus(STEP));
        let written = valid.take(SPANS).map(|covered| (Uuid::nil(), *covered)).collect::<VecDeque<_>>();
        Self { written: written.into_iter().rev().collect(), ..Self::default() }
    }

    /// All spans up to the last frame; the time since then is unproven.
    pub(super) fn coverage(&self, now: Now) -> Coverage {
        // Spans in the future were written by a clock that was ahead.
        let written = self.written.iter().map(|(_, covered)| (covered.from, covered.to.min(now.wall)));
        let current = self.counted(now).map(|covered| (covered.from, covered.to.min(now.wall)));
        Coverage::new(written.chain(current)).and_unproven(current.map(|(_, last)| (last, now.wall)))
    }

    /// The instant up to which coverage is known: now or, while a span is open, its last frame, because the next frame
    /// may still extend it.
    pub(super) fn proven(&self, now: Now) -> WallTime {
        self.counted(now).map_or(now.wall, |covered| covered.to.min(now.wall))
    }

    fn counted(&self, now: Now) -> Option<CoverageRow> {
        self.current.filter(|span| !self.write_failed && span.agrees(now)).map(|span| span.covered())
    }

    /// Updates the current span from the captures'; begins a new one if it has ended.
    pub(super) fn update(&mut self, site: &SiteCoverage, now: Now) {
        let Some(covered) = site.span() else {
            self.current = None;
            return;
        };
        match self.current.as_mut().filter(|span| span.began == covered.from && span.agrees(now)) {
            Some(span) => span.until = covered.until,
            None => {
                let from = Now { wall: now.wall.minus(now.boot.since(covered.until)), boot: covered.until };
                let (id, began) = (random::uuid(), covered.from);
                self.current = Some(CoverageEntry { id, began, from, until: covered.until, written: now.boot });
            }
        }
    }

    /// Moves the current span by a step of the wall clock, in milliseconds.
    pub(super) fn step(&mut self, by: i64) {
        if let Some(span) = &mut self.current {
            span.id = random::uuid();
            span.from.wall = span.from.wall.moved(by);
        }
    }

    /// The current span, if it differs from what is written.
    pub(super) fn to_write(&self, now: Now) -> Option<(Uuid, CoverageRow)> {
        let span = self.current.filter(|span| span.agrees(now))?;
        Some((span.id, span.covered())).filter(|known| self.written.back() != Some(known))
    }

    /// How long ago the current span was written.
    pub(super) fn unwritten_for(&self, now: BootTime) -> Duration {
        self.current.map_or(Duration::ZERO, |span| now.since(span.written))
    }

    /// Notes that a span has been written.
    pub(super) fn mark_written(&mut self, (id, covered): (Uuid, CoverageRow), now: Now) {
        if let Some(span) = self.current.as_mut().filter(|span| span.id == id) {
            span.written = now.boot;
        }
        match self.written.back_mut().filter(|(known, _)| *known == id) {
            Some((_, known)) => *known = covered,
            None => self.written.push_back((id, covered)),
        }
        let oldest = now.wall.minus(HISTORY);
        while self.written.len() > SPANS || self.written.front().is_some_and(|(_, covered)| covered.to < oldest) {
            self.written.pop_front();
        }
    }

    /// Notes that a write failed.
    pub(super) fn note_failure(&mut self) {
        self.write_failed = true;
    }

    /// Notes that the database works. Coverage could not be written during an outage, so silence during it does not
    /// count.
    pub(super) fn note_success(&mut self) {
        if std::mem::take(&mut self.write_failed) {
            self.current = None;
        }
    }
}
