//! PURE. Where the pages that a client has read ended. The next page begins there: were it counted from the beginning of the
//! list, each record that came or went meanwhile would make it repeat one, or leave one out.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::base::{clock::BootTime, listing::ListPosition};

/// How long the ends of a list are kept after its last page was read.
const KEPT: Duration = Duration::from_mins(10);

/// The most lists whose ends are kept, half a kilobyte each; with one more, those of the list that was read longest ago are
/// forgotten.
const LISTS: usize = 1000;

/// How many pages of a list have their ends kept, the last ones read. A page whose answer was lost is asked for again.
const PAGES: usize = 8;

/// A list, as one client reads it.
pub(super) type ListKey = [u8; 32];

/// The key of a list: who reads it, from where, and all that it was asked for by but the page.
pub(super) fn list_key(parts: [&str; 4]) -> ListKey {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.len().to_le_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// The ends of the pages that were read lately.
#[derive(Debug, Default)]
pub(super) struct PageEnds(BTreeMap<ListKey, ListEnds>);

#[derive(Debug)]
struct ListEnds {
    read: BootTime,
    /// By page, the last one read at the end.
    ends: VecDeque<(u32, ListPosition)>,
}

impl PageEnds {
    /// Where this page begins; `None` for the first, and if the one before it was not read lately.
    pub(super) fn begin(&self, list: &ListKey, page: u32, now: BootTime) -> Option<ListPosition> {
        let known = self.0.get(list).filter(|known| now.since(known.read) < KEPT)?;
        let before = page.checked_sub(1)?;
        known.ends.iter().find(|(page, _)| *page == before).map(|(_, end)| *end)
    }

    /// Notes where a page ended.
    pub(super) fn note(&mut self, list: ListKey, page: u32, end: ListPosition, now: BootTime) {
        if self.0.len() >= LISTS && !self.0.contains_key(&list) {
            self.0.retain(|_, known| now.since(known.read) < KEPT);
            let oldest = self.0.iter().min_by_key(|(_, known)| known.read).map(|(list, _)| *list);
            if let Some(oldest) = oldest.filter(|_| self.0.len() >= LISTS) {
                self.0.remove(&oldest);
            }
        }
        let known = self.0.entry(list).or_insert_with(|| ListEnds { read: now, ends: VecDeque::new() });
        if now.since(known.read) >= KEPT {
            known.ends.clear();
        }
        known.read = now;
        known.ends.retain(|(read, _)| *read != page);
        known.ends.push_back((page, end));
        if known.ends.len() > PAGES {
            known.ends.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::listing::PositionKey;

    fn at(second: u64) -> BootTime {
        BootTime::from_duration(Duration::from_secs(second))
    }

    fn end(id: i64) -> ListPosition {
        ListPosition { key: PositionKey::Number(id), id }
    }

    #[test]
    fn a_page_begins_where_the_one_before_it_ended() {
        let mut ends = PageEnds::default();
        let [mine, yours] = ["me", "you"].map(|user| list_key([user, "", "", ""]));
        for page in 1..=10 {
            assert_eq!(ends.begin(&mine, page, at(1)), (page > 1).then(|| end(i64::from(page) - 1)), "{page}");
            ends.note(mine, page, end(page.into()), at(1));
        }
        assert_eq!(ends.begin(&yours, 2, at(1)), None, "another client");
        assert_eq!(ends.begin(&mine, 10, at(1)), Some(end(9)), "asked for again");
        assert_eq!(ends.begin(&mine, 2, at(1)), None, "long ago");
        assert_eq!(ends.begin(&mine, 12, at(1)), None, "not read");
        ends.note(mine, 1, end(100), at(2));
        assert_eq!(ends.begin(&mine, 2, at(2)), Some(end(100)), "from the beginning");
        assert_eq!(ends.begin(&mine, 2, at(602)), None, "ten minutes later");
    }

    #[test]
    fn the_list_that_was_read_longest_ago_is_forgotten() {
        let mut ends = PageEnds::default();
        let lists: Vec<ListKey> = (0..=LISTS).map(|list| list_key([&list.to_string(), "", "", ""])).collect();
        for (second, list) in (0..).zip(&lists) {
            ends.note(*list, 1, end(1), at(second / 100));
        }
        assert_eq!(ends.0.len(), LISTS);
        assert_eq!(ends.begin(&lists[LISTS], 2, at(10)), Some(end(1)));
    }

    #[test]
    fn keys_differ_wherever_their_parts_do() {
        assert_ne!(list_key(["a", "bc", "", ""]), list_key(["ab", "c", "", ""]));
    }
}
