//! How many records a list has, for pages that follow each other: counting many takes longer than reading a page.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};

use super::{error::StoreError, list_text::ListText};
use crate::base::clock::{BootTime, Clock};

/// A count that takes no longer is made each time.
const QUICK: Duration = Duration::from_millis(1);

/// A table with no more records is counted each time, however busy the machine is: in most sites, those of years.
pub(super) const FEW: i64 = 20_000;

/// How long a slower count is kept, in multiples of the time that it took: counting takes a hundredth of the time.
const KEPT: u32 = 100;

/// The longest time for which a count is kept.
const LONGEST: Duration = Duration::from_mins(1);

/// The most lists whose counts are kept, some hundred bytes each; with one more, all are forgotten.
const LISTS: usize = 1000;

/// The recent counts, by list.
#[derive(Default)]
pub(super) struct ListTotals(Mutex<BTreeMap<[u8; 32], SharedTotal>>);

/// A list is counted once at a time; who asks meanwhile waits for that count.
type SharedTotal = Arc<tokio::sync::Mutex<Option<RecentTotal>>>;

#[derive(Clone, Copy, Debug)]
struct RecentTotal {
    total: u64,
    until: BootTime,
}

impl fmt::Debug for ListTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ListTotals")
    }
}

impl ListTotals {
    /// The total of the list with this text, counted now unless there is a recent one. `is_large` tells whether the table has
    /// more records than [`FEW`].
    pub(super) async fn recent(
        &self,
        text: &ListText,
        counting: impl Future<Output = Result<u64, StoreError>>,
        is_large: impl Future<Output = Result<bool, StoreError>>,
    ) -> Result<u64, StoreError> {
        let shared = self.shared(digest(text));
        let mut recent = shared.lock().await;
        let began = now();
        if let Some(known) = recent.filter(|known| began < known.until) {
            return Ok(known.total);
        }
        let total = counting.await?;
        let took = now().since(began);
        *recent = match kept_for(took) {
            Some(span) if is_large.await? => Some(RecentTotal { total, until: began.plus(took + span) }),
            Some(_) | None => None,
        };
        Ok(total)
    }

    fn shared(&self, list: [u8; 32]) -> SharedTotal {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= LISTS && !lists.contains_key(&list) {
            lists.clear();
        }
        Arc::clone(lists.entry(list).or_default())
    }
}

/// How long a count that took this long is kept.
fn kept_for(took: Duration) -> Option<Duration> {
    (took > QUICK).then(|| (took * KEPT).min(LONGEST))
}

fn digest(list: &ListText) -> [u8; 32] {
    Sha256::digest(format!("{} {:?}", list.text, list.args)).into()
}

fn now() -> BootTime {
    Clock::system().now().boot
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_count_is_kept_for_a_while() {
        for (took, kept) in [(0, None), (1, None), (6, Some(600)), (100, Some(10_000)), (5000, Some(60_000))] {
            let kept = kept.map(Duration::from_millis);
            assert_eq!(kept_for(Duration::from_millis(took)), kept, "{took} ms");
        }
    }
}
