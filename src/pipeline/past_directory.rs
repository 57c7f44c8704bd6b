//! Reads past versions of the directory that are only in the database, limited to the people of a batch.

use std::{collections::BTreeSet, sync::Arc};

use super::decide::{self, People};
use crate::{
    base::{clock::WallTime, record::CoworkerId},
    directory::{Directory, history::DirectoryHistory},
    policy::passes::PassPolicy,
    store::{Batch, StoreError},
};

/// The groups that are folded together, according to every version in force since an instant, and a history that
/// includes these versions, limited to the people in the groups.
pub(super) async fn groups(
    directories: &Arc<DirectoryHistory>,
    subjects: &People,
    since: WallTime,
    policy: &PassPolicy,
    transaction: &mut Batch,
) -> Result<(Arc<DirectoryHistory>, Vec<People>), StoreError> {
    let mut known = Arc::clone(directories);
    let mut groups = decide::groups(subjects, &known.since(since), policy);
    if directories.missing(since).is_empty() {
        return Ok((known, groups));
    }
    let mut about = BTreeSet::new();
    loop {
        // An earlier version may contain more people who shared a pass with these, and they with others in turn: read
        // until there are no more.
        let members: BTreeSet<CoworkerId> =
            groups.iter().flatten().filter_map(|subject| subject.as_coworker()).collect();
        if members.is_subset(&about) && known.missing(since).is_empty() {
            return Ok((known, groups));
        }
        about.extend(members);
        known = load_versions(directories, &about, since, transaction).await?;
        groups = decide::groups(subjects, &known.since(since), policy);
    }
}

/// The history, with the versions in force since an instant filled in for these people. A version that changes nothing
/// about them is not read: the version before it is used.
pub(super) async fn load_versions(
    directories: &Arc<DirectoryHistory>,
    people: &BTreeSet<CoworkerId>,
    since: WallTime,
    transaction: &mut Batch,
) -> Result<Arc<DirectoryHistory>, StoreError> {
    let missing = directories.missing(since);
    let Some(first) = missing.first() else { return Ok(Arc::clone(directories)) };
    let changed = transaction.versions_about(people, *first).await?;
    let mut complete = DirectoryHistory::clone(directories);
    let mut last: Option<(i64, Arc<Directory>)> = None;
    for version in missing {
        let same = last.filter(|(before, _)| changed.range(before + 1..=version).next().is_none());
        let directory = match same {
            Some((_, directory)) => directory,
            None => Arc::new(transaction.people_of_then(version, people).await?),
        };
        complete.fill_in(version, Arc::clone(&directory));
        last = Some((version, directory));
    }
    Ok(Arc::new(complete))
}
