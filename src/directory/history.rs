//! PURE. The directory, now and in the past: a fact is judged by the version in force at its time.

use std::sync::Arc;

use super::lookup::Directory;
use crate::base::{clock::WallTime, version::VersionId};

/// The most versions kept in memory: about a week of nightly imports. Earlier ones are loaded when something late needs
/// them.
const RESIDENT: usize = 8;

/// One version.
#[derive(Clone, Debug)]
struct DirectoryVersion {
    from: WallTime,
    id: VersionId,
    /// `None` if only the database has it.
    directory: Option<Arc<Directory>>,
}

/// The versions that a fold may need, earliest first; never empty, and the last is always in memory.
#[derive(Clone, Debug)]
pub struct DirectoryHistory(Vec<DirectoryVersion>);

impl DirectoryHistory {
    /// One version, in force from the beginning.
    pub fn only(directory: Arc<Directory>) -> Self {
        Self(vec![DirectoryVersion {
            from: WallTime::from_millis(0),
            id: directory.version_id(),
            directory: Some(directory),
        }])
    }

    /// The newest version in memory, and the earlier ones, each with the time when it came into force.
    pub fn new(versions: &[(VersionId, WallTime)], newest: Arc<Directory>) -> Self {
        let mut history = Self::only(newest);
        let number = history.latest().version;
        let known = versions.iter().filter(|(known, _)| known.number < number);
        let earlier: Vec<DirectoryVersion> =
            known.map(|&(id, from)| DirectoryVersion { from, id, directory: None }).collect();
        if !earlier.is_empty() {
            let from = versions
                .iter()
                .find(|(known, _)| known.number == number)
                .map_or(WallTime::from_millis(0), |(_, from)| *from);
            let last = DirectoryVersion { from, ..history.0.remove(0) };
            history.0 = earlier;
            history.0.push(last);
        }
        history
    }

    /// The same history with a newer version, and with the versions between, which only the database has; `versions`
    /// contains when each came into force.
    #[must_use]
    pub fn followed_by(&self, newest: Arc<Directory>, versions: &[(VersionId, WallTime)]) -> Self {
        let mut history = Self::new(versions, newest);
        let last = history.0.len().saturating_sub(RESIDENT);
        for version in history.0.iter_mut().skip(last) {
            let known = self.0.iter().find(|known| known.id == version.id);
            version.directory = version.directory.take().or_else(|| known.and_then(|known| known.directory.clone()));
        }
        history
    }

    /// Adds a version that comes into force after all others. The first version that is not empty is in force from the
    /// beginning.
    pub fn add(&mut self, from: WallTime, directory: Arc<Directory>) {
        if self.0.iter().all(|known| known.id.number == 0) {
            *self = Self::only(directory);
            return;
        }
        self.0.push(DirectoryVersion { from, id: directory.version_id(), directory: Some(directory) });
        let old = self.0.len().saturating_sub(RESIDENT);
        for version in self.0.iter_mut().take(old) {
            version.directory = None;
        }
    }

    /// The index of the version in force at an instant; before all of them, the first.
    fn in_force(&self, at: WallTime) -> usize {
        self.0.partition_point(|version| version.from <= at).saturating_sub(1)
    }

    /// The version in force at an instant; before the first known version, that version.
    pub fn at(&self, at: WallTime) -> &Directory {
        let from = self.in_force(at);
        // A version that is not in memory was not loaded in time. The next best is the one after it.
        let at_hand = self.0.iter().skip(from).find_map(|version| version.directory.as_ref());
        at_hand.unwrap_or_else(|| self.latest())
    }

    /// The newest version.
    pub fn latest(&self) -> &Arc<Directory> {
        self.0.last().and_then(|version| version.directory.as_ref()).expect("the last version is at hand")
    }

    /// The versions in force since an instant that are in memory, including the newest.
    pub fn since(&self, since: WallTime) -> Vec<&Directory> {
        self.0.iter().skip(self.in_force(since)).filter_map(|version| version.directory.as_deref()).collect()
    }

    /// The versions in force since an instant that only the database has.
    pub fn missing(&self, since: WallTime) -> Vec<i64> {
        self.0
            .iter()
            .skip(self.in_force(since))
            .filter(|version| version.directory.is_none())
            .map(|version| version.id.number)
            .collect()
    }

    /// The version in force at an instant, if only the database has it.
    pub fn missing_at(&self, at: WallTime) -> Option<i64> {
        let version = self.0.get(self.in_force(at))?;
        version.directory.is_none().then_some(version.id.number)
    }

    /// The same history with a version loaded into memory.
    #[must_use]
    pub fn with(&self, number: i64, directory: Arc<Directory>) -> Self {
        let mut history = self.clone();
        history.fill_in(number, directory);
        history
    }

    /// Adds the loaded directory of a version.
    pub fn fill_in(&mut self, number: i64, directory: Arc<Directory>) {
        if let Some(version) = self.0.iter_mut().find(|version| version.id.number == number) {
            version.directory = Some(directory);
        }
    }

    /// When versions came into force between two instants, both included. The first version does not count.
    pub fn between(&self, after: Option<WallTime>, until: WallTime) -> Vec<WallTime> {
        let after = after.unwrap_or(WallTime::from_millis(0));
        let starts = self.0.iter().skip(1).map(|version| version.from);
        starts.filter(|from| *from >= after && *from <= until).collect()
    }

    /// When the first version newer than `number` came into force, if there is one.
    pub fn newer_than(&self, number: i64) -> Option<WallTime> {
        self.0.iter().skip(1).filter(|version| version.id.number > number).map(|version| version.from).min()
    }

    /// Forgets versions that were in force only before an instant.
    pub fn forget(&mut self, before: WallTime) {
        self.0.drain(..self.in_force(before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Builder;
    use uuid::Uuid;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_millis(seconds * 1000)
    }

    fn version(number: i64) -> Arc<Directory> {
        Arc::new(Builder::new(number, "key").build())
    }

    #[test]
    fn a_version_in_memory_is_not_taken_for_another_with_its_number() {
        let stored = |number, id| VersionId { number, id: Uuid::from_u128(id) };
        let with_id = |number, id| Arc::new(Builder::new(number, "key").with_id(Uuid::from_u128(id)).build());
        let history = DirectoryHistory::new(&[(stored(1, 1), at(0))], with_id(1, 1));
        let versions = [(stored(1, 7), at(0)), (stored(2, 8), at(20))];
        assert_eq!(
            history.followed_by(with_id(2, 8), &versions).missing(at(0)),
            [1],
            "it was imported after a restore"
        );
        let versions = [(stored(1, 1), at(0)), (stored(2, 8), at(20))];
        assert_eq!(history.followed_by(with_id(2, 8), &versions).missing(at(0)), [0; 0]);
    }

    #[test]
    fn what_was_before_the_first_version_is_judged_by_it() {
        let mut history = DirectoryHistory::only(version(0));
        history.add(at(10), version(1));
        history.add(at(20), version(2));
        let found = [0, 10, 19, 20, 99].map(|second| history.at(at(second)).version);
        assert_eq!(found, [1, 1, 1, 2, 2]);
        assert_eq!(history.between(None, at(30)), [at(20)]);
        history.forget(at(25));
        assert_eq!(history.at(at(0)).version, 2);
    }
}
