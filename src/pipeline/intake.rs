//! PURE. What a batch says, as facts: whose each one is, by the directory of its time.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{DoorFact, FactDigest, LONGEST_PIN, Point, Recognised, RejectedFact, StrangeDeviceFact, Subject},
        mac::MacAddr,
        record::BusinessId,
        sighting::{Presence, Sighting},
    },
    directory::{Match, history::DirectoryHistory},
    engine::admission,
    mapping::content::{Content, Rejection},
    policy::{LATEST, SitePolicy},
    source::Delivery,
};

/// A device of somebody's was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeardDevice {
    pub(crate) subject: Subject,
    pub(crate) business: BusinessId,
    pub(crate) mac: MacAddr,
    pub(crate) interface: Arc<str>,
    pub(crate) point: Point,
}

/// A batch, or a part of it that is decided in one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    pub(super) doors: Vec<DoorFact>,
    pub(super) heard: Vec<HeardDevice>,
    pub(super) strange: Vec<StrangeDeviceFact>,
    pub(super) rejected: Vec<RejectedFact>,
    /// Devices for which the site wants no record.
    pub(super) ignored: u64,
    /// The newest version of the directory that it was read by.
    pub(super) version: i64,
}

/// What facts are made by.
#[derive(Clone, Copy, Debug)]
pub(super) struct FactReader<'a> {
    pub(super) business: BusinessId,
    pub(super) directories: &'a DirectoryHistory,
    pub(super) policy: &'a SitePolicy,
    pub(super) now: WallTime,
}

impl FactReader<'_> {
    /// The version of the directory by which something of this time is read, if only the database has it. What is too late is
    /// decided by none.
    pub(super) fn missing_at(&self, at: WallTime) -> Option<i64> {
        (at >= self.now.minus(LATEST)).then(|| self.directories.missing_at(at)).flatten()
    }

    /// A door event.
    pub(super) fn door(&self, sighting: &Sighting) -> DoorFact {
        let directory = self.directories.at(sighting.event_at);
        let credential = sighting.event.credential.as_ref().filter(|_| sighting.event.kind.names_person());
        let (subject, recognised) = match credential {
            // An attempt is one, whoever made it.
            None if sighting.event.kind.is_refusal() => {
                (Subject::unidentified_at(self.business, &sighting.event.door), Recognised::NoCredential)
            }
            None => (Subject::BUSINESS, Recognised::NoCredential),
            Some(credential) => match directory.by_credential(credential) {
                Match::One(coworker) => (Subject::coworker(coworker.id), Recognised::Coworker),
                found @ (Match::Nobody | Match::Several) => {
                    let ambiguous = found == Match::Several;
                    let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
                    (Subject::stranger(self.business, credential, directory.pin_key()), recognised)
                }
            },
        };
        let too_late = sighting.event_at < self.now.minus(LATEST);
        DoorFact { too_late, ..DoorFact::of(sighting, self.business, subject, recognised) }
    }

    /// What a capture handed over.
    pub(super) fn presence(&self, presence: &Presence, intake: &mut Intake) {
        let point = Point::of(presence);
        let (business, mac) = (self.business, presence.mac);
        let recognised = match self.directories.at(presence.last_at).by_mac(mac) {
            Match::One(coworker) => {
                let (subject, interface) = (Subject::coworker(coworker.id), Arc::clone(&presence.interface));
                intake.heard.push(HeardDevice { subject, business, mac, interface, point });
                return;
            }
            Match::Nobody if admission::wants_record(&self.policy.site, mac) => Recognised::Unknown,
            Match::Several if presence.last_strong_at.is_some() => Recognised::Ambiguous,
            Match::Nobody | Match::Several => {
                intake.ignored += 1;
                return;
            }
        };
        let interface = Arc::clone(&presence.interface);
        intake.strange.push(StrangeDeviceFact { business, mac, interface, recognised, point });
    }

    /// A message that was not understood.
    pub(super) fn rejected(&self, source: &Arc<str>, rejection: &Rejection, id: Uuid) -> RejectedFact {
        RejectedFact {
            business: self.business,
            at: self.now,
            digest: FactDigest(id.into_bytes()),
            source: Arc::clone(source),
            topic: without_numbers(&rejection.topic),
            why: rejection.why.word().to_owned(),
        }
    }
}

impl Intake {
    /// Everybody of whom it says something that is folded.
    pub(super) fn subjects(&self) -> BTreeSet<Subject> {
        let doors = self.doors.iter().map(|fact| fact.subject);
        let heard = self.heard.iter().map(|heard| heard.subject);
        doors.chain(heard).filter(|subject| *subject != Subject::BUSINESS).collect()
    }

    /// How many facts it holds.
    pub(super) fn len(&self) -> usize {
        self.doors.len() + self.heard.len() + self.strange.len() + self.rejected.len()
    }

    /// When the first thing happened that is decided.
    pub(super) fn first(&self) -> Option<WallTime> {
        let doors = self.doors.iter().map(|fact| fact.at);
        doors.chain(self.heard.iter().map(|heard| heard.point.first_at)).min()
    }

    /// In parts of at most so many facts and people. What is said of one person stays in the order in which it came.
    pub(super) fn split(mut self, facts: usize, people: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut part =
            Self { ignored: self.ignored, strange: self.strange, rejected: self.rejected, ..Self::default() };
        let mut subjects = BTreeSet::new();
        for fact in self.doors.drain(..) {
            if part.doors.len() >= facts || (subjects.len() >= people && !subjects.contains(&fact.subject)) {
                parts.push(std::mem::take(&mut part));
                subjects.clear();
            }
            subjects.insert(fact.subject);
            part.doors.push(fact);
        }
        for heard in self.heard.drain(..) {
            if part.heard.len() >= facts || (subjects.len() >= people && !subjects.contains(&heard.subject)) {
                parts.push(std::mem::take(&mut part));
                subjects.clear();
            }
            subjects.insert(heard.subject);
            part.heard.push(heard);
        }
        parts.push(part);
        parts
    }
}

/// The events of a batch, in the order in which they came.
pub(super) fn sightings(deliveries: &[Delivery]) -> impl Iterator<Item = &Sighting> {
    deliveries.iter().flat_map(|delivery| match &delivery.content {
        Content::Sightings(sightings) => sightings.as_slice(),
        Content::Ignored | Content::Rejected(_) => &[],
    })
}

/// Long numbers in a topic are card numbers or telephone numbers as often as device ids.
pub(super) fn without_numbers(topic: &str) -> String {
    let long = |level: &str| level.chars().filter(char::is_ascii_digit).count() > LONGEST_PIN;
    let masked = |level: &str| if long(level) { "…".to_owned() } else { level.to_owned() };
    topic.split('/').map(masked).collect::<Vec<_>>().join("/")
}
