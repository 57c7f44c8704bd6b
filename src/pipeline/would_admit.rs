//! Whether someone would be let in, as the engine would decide it. Writes nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::{clock::WallTime, fact::Subject, record::CheckinSource},
    directory::{Coworker, history::DirectoryHistory},
    engine::{
        Admission, admission,
        decision::{Note, Reason},
        fold::{self, FoldGroup, World},
        passes::{PassUse, Refused, payg},
    },
    policy::{
        PolicyHistory,
        site::{NetworkOpens, Site},
    },
    store::{Store, StoreError},
};

/// What would happen to someone who comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WouldAdmit {
    /// They are already in, and need no further check.
    In {
        /// Since when.
        from: WallTime,
        /// When their pass ends; `None` if no pass is required.
        until: Option<WallTime>,
    },
    /// They would be let in.
    Admitted {
        /// By this pass, if one is required.
        pass: Option<PassUse>,
        /// What they have been charged so far in the pass day.
        charged: payg::Charged,
        /// Whether a door must let them in before the network may.
        needs_door: bool,
    },
    /// They would be refused.
    Refused(Refused),
    /// The network would not open a check-in, although it is no refusal.
    NotNow(Note),
}

/// What would happen to a coworker at a site at this time, by this source.
///
/// # Errors
/// The database failed.
pub async fn would_admit(
    store: &Store,
    (directories, policies): (&DirectoryHistory, &PolicyHistory),
    coworker: &Coworker,
    site: &Site,
    (at, by): (WallTime, CheckinSource),
) -> Result<WouldAdmit, StoreError> {
    let directory = directories.at(at);
    // Include everyone who shares passes: their visits use the same minutes.
    let sharing = directory.who_share_passes_with(coworker.id).into_iter().chain([coworker.id]);
    let people: BTreeSet<Subject> = sharing.map(Subject::coworker).collect();
    let passes = directory.usable(coworker.id).map(|held| held.guid).collect();
    let (loaded, users) = store.people(&people, &passes).await?;
    // Someone who is in here at that time needs no pass.
    let known = loaded.people.get(&Subject::coworker(coworker.id)).map(|known| &known.person);
    if let Some(open) = known.and_then(|person| person.open())
        && open.business == site.business
        && open.from <= at
        && at < open.ends_at_last().0
    {
        let until = open.pass.as_ref().map(|_| open.ends_at_last().0);
        return Ok(WouldAdmit::In { from: open.from, until });
    }
    if let Some(verdict) = before_passes(coworker, site, by) {
        return Ok(verdict);
    }
    let calendar = policies.at(site.business, at).map(|policy| policy.calendar());
    let let_in = calendar.zip(known).is_some_and(|(day, person)| person.let_in_by_door(site.business, &day, at));
    let after_door = by == CheckinSource::NetworkActivity && site.network_opens == NetworkOpens::AfterDoor;
    // Ask the engine, as for a real event at that time.
    let people = loaded.people.into_iter().map(|(subject, known)| (subject, known.person)).collect();
    let mut group = FoldGroup { people, ..FoldGroup::default() };
    for (pass, subject, used) in users {
        if !group.people.contains_key(&subject) {
            group.others.entry(pass).or_default().push(used);
        }
    }
    let coverage = BTreeMap::new();
    let epoch = WallTime::from_millis(0);
    let world = World { directories, policies, coverage: &coverage, now: at, quiet_until: epoch };
    let (admission, charged) = fold::ask(world, group, coworker.id, site.business, (at, by));
    Ok(match admission {
        Admission::Admitted(pass) => WouldAdmit::Admitted { pass, charged, needs_door: after_door && !let_in },
        Admission::Refused(refused) => WouldAdmit::Refused(refused),
        Admission::NotNow(note) => WouldAdmit::NotNow(note),
    })
}

/// The verdict if it does not depend on passes.
fn before_passes(coworker: &Coworker, site: &Site, by: CheckinSource) -> Option<WouldAdmit> {
    let refused = |reason| WouldAdmit::Refused(Refused { reason, detail: None });
    if let Some(reason) = admission::barrier(coworker, site.business) {
        return Some(refused(reason));
    }
    if by != CheckinSource::NetworkActivity {
        return None;
    }
    if !coworker.allow_network_checkin {
        return Some(refused(Reason::NetworkNotAllowed));
    }
    let opens = site.network_checkins && site.network_opens != NetworkOpens::Never;
    (!opens).then_some(WouldAdmit::NotNow(Note::NetworkMayNotOpen))
}
