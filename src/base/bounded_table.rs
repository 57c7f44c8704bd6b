//! PURE. A map with a limit. When it is full, the entry that is worth least makes room for a new one.
//!
//! To find that entry takes a look at all others, so this is for tables of at most some thousand entries.

use std::{
    collections::BTreeMap,
    ops::{Deref, RangeBounds},
};

/// A map of at most so many entries; see the module. Reads like a [`BTreeMap`].
#[derive(Clone, Debug)]
pub struct BoundedTable<K, V> {
    entries: BTreeMap<K, V>,
    most: usize,
}

impl<K: Copy + Ord, V> BoundedTable<K, V> {
    /// An empty table of at most `most` entries.
    pub const fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), most }
    }

    /// Inserts an entry, or replaces the one of the same key.
    pub fn insert<W: Ord>(&mut self, key: K, value: V, worth: impl Fn(&V) -> W) {
        self.make_room(&key, worth);
        self.entries.insert(key, value);
    }

    /// The entry of a key, which is `new` if there was none.
    pub fn get_or_insert<W: Ord>(&mut self, key: K, new: V, worth: impl Fn(&V) -> W) -> &mut V {
        self.make_room(&key, worth);
        self.entries.entry(key).or_insert(new)
    }

    /// The entry of a key, to change it.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    /// Keeps only the entries that `stays` selects.
    pub fn retain(&mut self, stays: impl FnMut(&K, &mut V) -> bool) {
        self.entries.retain(stays);
    }

    /// Removes the entry that is worth least among these keys; of several, the one with the lowest key.
    pub fn drop_least<W: Ord>(&mut self, keys: impl RangeBounds<K>, worth: impl Fn(&V) -> W) {
        let least = self.entries.range(keys).min_by_key(|(_, value)| worth(value)).map(|(key, _)| *key);
        least.and_then(|key| self.entries.remove(&key));
    }

    fn make_room<W: Ord>(&mut self, key: &K, worth: impl Fn(&V) -> W) {
        if self.entries.len() >= self.most && !self.entries.contains_key(key) {
            self.drop_least(.., worth);
        }
    }
}

impl<K, V> Deref for BoundedTable<K, V> {
    type Target = BTreeMap<K, V>;

    fn deref(&self) -> &BTreeMap<K, V> {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_drops_what_is_worth_least() {
        let mut table = BoundedTable::new(3);
        for (key, worth) in [("a", 3), ("b", 1), ("c", 2)] {
            table.insert(key, worth, |worth| *worth);
        }
        table.insert("b", 4, |worth| *worth);
        assert_eq!(table.len(), 3, "a known key needs no room");
        *table.get_or_insert("d", 0, |worth| *worth) += 5;
        assert_eq!(table.keys().copied().collect::<String>(), "abd");
        assert_eq!(*table.get_or_insert("d", 0, |worth| *worth), 5);
        table.drop_least("b".., |worth| *worth);
        assert_eq!(table.keys().copied().collect::<String>(), "ad");
    }

    proptest::proptest! {
        #[test]
        fn it_never_has_more_entries_than_its_limit(most in 1usize..6, keys: Vec<(u8, u8)>) {
            let mut table = BoundedTable::new(most);
            for (key, worth) in keys {
                table.insert(key, worth, |worth| *worth);
                assert!(table.len() <= most && table.contains_key(&key));
            }
        }
    }
}
