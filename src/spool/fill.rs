//! PURE. How full the spool is, and the texts of its conditions.
//!
//! A condition ends well below the size at which it begins, or it would flap.

use std::time::Duration;

/// Bytes in use, compared with the limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct SpoolFill {
    limit: u64,
    used: u64,
    is_full: bool,
}

impl SpoolFill {
    pub(super) const fn new(limit: u64, used: u64) -> Self {
        Self { limit, used, is_full: false }
    }

    pub(super) const fn used(&self) -> u64 {
        self.used
    }

    /// Whether the spool is full: from the limit on, until more than a twentieth of it is free again.
    pub(super) const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether committed rows should give way to new ones: from nine tenths of the limit on.
    pub(super) const fn is_nearly_full(&self) -> bool {
        self.used >= self.limit - self.limit / 10
    }

    /// The bytes of some of the rows, if all are of the same size.
    pub(super) fn share(&self, rows: u64, of: u64) -> u64 {
        let share = u128::from(self.used) * u128::from(rows) / u128::from(of.max(1));
        u64::try_from(share).unwrap_or(u64::MAX).min(self.used)
    }

    /// Whether the spool is filling with messages that wait: from a tenth of the limit on, until they need less than a
    /// twentieth. `waiting` is their size in bytes, and `was_filling` whether the condition is raised.
    pub(super) const fn is_filling(&self, waiting: u64, was_filling: bool) -> bool {
        waiting >= self.limit / if was_filling { 20 } else { 10 }
    }

    /// Records how many bytes of the file are in use. A full spool stays full until [`Self::update`].
    pub(super) const fn set_used(&mut self, used: u64) {
        self.used = used;
        self.is_full |= used >= self.limit;
    }

    /// Decides whether the spool is still full.
    pub(super) const fn update(&mut self) {
        let bound = if self.is_full { self.limit - self.limit / 20 } else { self.limit };
        self.is_full = self.used >= bound;
    }

    /// The text of the condition that the spool is full.
    pub(super) fn full_detail(depth: u64, oldest: Duration) -> String {
        format!(
            "the spool is full: {}; further messages stay with the broker, which may keep only a few. Bring the database \
             back, or raise spool.limit",
            waiting(depth, oldest)
        )
    }

    /// The text of the condition that the spool is filling.
    pub(super) fn filling_detail(&self, waiting_bytes: u64, depth: u64, oldest: Duration) -> String {
        let percent = waiting_bytes.saturating_mul(100) / self.limit.max(1);
        format!(
            "{percent}% of the spool is in use: {}. Nothing is lost; bring the database back",
            waiting(depth, oldest)
        )
    }
}

fn waiting(depth: u64, oldest: Duration) -> String {
    let messages = if depth == 1 { "door message waits" } else { "door messages wait" };
    let minutes = oldest.as_secs() / 60;
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    format!("{depth} {messages} for the database, the oldest for {minutes} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_ends_well_below_where_it_begins() {
        let mut fill = SpoolFill::new(1000, 0);
        let mut is_filling = false;
        for (used, full, filling) in [
            (99, false, false),
            (100, false, true),
            (50, false, true),
            (49, false, false),
            (1000, true, true),
            (950, true, true),
            (949, false, true),
            (999, false, true),
        ] {
            fill.set_used(used);
            fill.update();
            is_filling = fill.is_filling(used, is_filling);
            assert_eq!((fill.is_full(), is_filling), (full, filling), "{used} bytes");
        }
    }

    #[test]
    fn plurals_are_right() {
        let one = SpoolFill::full_detail(1, Duration::from_secs(60));
        assert!(one.contains("1 door message waits for the database, the oldest for 1 minute;"), "{one}");
        let many = SpoolFill::new(1000, 250).filling_detail(250, 20, Duration::ZERO);
        assert!(many.contains("25% of the spool is in use: 20 door messages wait"), "{many}");
    }
}
