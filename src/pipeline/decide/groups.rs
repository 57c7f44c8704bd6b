//! PURE. Who must be folded together: people who can use the same passes, because one person's use can leave none for
//! another.

use std::collections::BTreeSet;

use crate::{
    base::{fact::Subject, record::CoworkerId},
    directory::Directory,
    policy::passes::PassPolicy,
};

/// People who are folded together because they may use the same passes; usually one person.
pub(crate) type People = BTreeSet<Subject>;

/// Groups these people with everyone who may use the same passes, transitively, according to any of these versions of
/// the directory: a late fact is judged by an earlier version.
pub(crate) fn groups(subjects: &People, versions: &[&Directory], policy: &PassPolicy) -> Vec<People> {
    let versions: Vec<&Directory> = versions.iter().copied().filter(|version| policy.asks(version)).collect();
    let mut left = subjects.clone();
    let mut groups = Vec::new();
    while let Some(first) = left.pop_first() {
        let mut group = People::from([first]);
        let mut visited = vec![BTreeSet::new(); versions.len()];
        let mut members: Vec<CoworkerId> = first.as_coworker().into_iter().collect();
        while let Some(member) = members.pop() {
            for (version, visited) in
                versions.iter().zip(&mut visited).filter(|(_, visited)| !visited.contains(&member))
            {
                let sharing = version.who_share_passes_with(member);
                members.extend(sharing.iter().copied().filter(|other| group.insert(Subject::coworker(*other))));
                visited.extend(sharing);
            }
        }
        for member in &group {
            left.remove(member);
        }
        groups.push(group);
    }
    groups
}
