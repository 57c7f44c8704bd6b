//! PURE. Turns what arrived in a batch into facts, attributing each to a person or device by the directory in force
//! when it happened.

use std::{collections::BTreeSet, sync::Arc};

use uuid::Uuid;

use crate::{
    base::{
        clock::WallTime,
        fact::{
            DoorFact, EditFact, FactDigest, LONGEST_PIN, Point, Recognised, RejectedFact, StrangeDeviceFact, Subject,
        },
        mac::MacAddr,
        record::BusinessId,
        sighting::{Presence, Sighting},
        version::VersionId,
    },
    directory::{Match, history::DirectoryHistory},
    engine::{admission, fold::FoldItem},
    mapping::content::{Content, Rejection},
    policy::{LATEST, SitePolicy},
    source::Delivery,
};

/// A presence of a coworker's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PersonPresence {
    pub(crate) subject: Subject,
    pub(crate) business: BusinessId,
    pub(crate) mac: MacAddr,
    pub(crate) interface: Arc<str>,
    pub(crate) point: Point,
}

/// An edit that has just been made.
#[derive(Clone, Debug)]
pub(crate) struct NewEdit {
    pub(crate) edit: EditFact,
    /// Whether admission has to allow it.
    pub(crate) asks: bool,
    /// The platform's free text for callers; `None` keeps what is there.
    pub(crate) system_id: Option<String>,
}

impl NewEdit {
    /// The edit as an item of the fold.
    pub(crate) fn item(&self) -> FoldItem<'_> {
        FoldItem::edit(&self.edit, self.asks)
    }
}

/// The facts of a batch, or of a sub-batch, which is decided in one transaction.
#[derive(Clone, Debug, Default)]
pub(super) struct Intake {
    pub(super) doors: Vec<DoorFact>,
    pub(super) presences: Vec<PersonPresence>,
    pub(super) unknown_devices: Vec<StrangeDeviceFact>,
    pub(super) rejected: Vec<RejectedFact>,
    pub(super) edits: Vec<NewEdit>,
    /// The number of presences of devices that the site does not record.
    pub(super) ignored: u64,
    /// The newest version of the directory when the facts were read.
    pub(super) version: VersionId,
}

/// What is needed to turn an event into a fact.
#[derive(Clone, Copy, Debug)]
pub(super) struct FactMaker<'a> {
    pub(super) business: BusinessId,
    pub(super) directories: &'a DirectoryHistory,
    pub(super) policy: &'a SitePolicy,
    pub(super) now: WallTime,
}

impl FactMaker<'_> {
    /// The version of the directory in force at this time, if it has to be loaded from the database. `None` if a fact
    /// of this time is too late: it is not decided, so it needs no version.
    pub(super) fn missing_at(&self, at: WallTime) -> Option<i64> {
        (at >= self.now.minus(LATEST)).then(|| self.directories.missing_at(at)).flatten()
    }

    /// Turns a door event into a fact.
    pub(super) fn door(&self, sighting: &Sighting) -> DoorFact {
        let directory = self.directories.at(sighting.event_at);
        let credential = sighting.event.credential.as_ref().filter(|_| sighting.event.kind.names_person());
        let (subject, recognised) = match credential {
            // A refusal without a credential is still a failed check-in of an unknown person at that door.
            None if sighting.event.kind.is_refusal() => {
                (Subject::unidentified_at(self.business, &sighting.event.door), Recognised::NoCredential)
            }
            None => (Subject::BUSINESS, Recognised::NoCredential),
            Some(credential) => match directory.by_credential(credential) {
                Match::One(coworker) => (Subject::coworker(coworker.id), Recognised::Coworker),
                found @ (Match::NoOne | Match::Several) => {
                    let ambiguous = found == Match::Several;
                    let recognised = if ambiguous { Recognised::Ambiguous } else { Recognised::Unknown };
                    (Subject::unknown_credential(self.business, credential, directory.pin_key()), recognised)
                }
            },
        };
        let too_late = sighting.event_at < self.now.minus(LATEST);
        DoorFact { too_late, ..DoorFact::of(sighting, self.business, subject, recognised) }
    }

    /// Adds a presence to the facts about coworkers or unknown devices, or only to the ignored ones if the site does
    /// not record it.
    pub(super) fn presence(&self, presence: &Presence, intake: &mut Intake) {
        let point = Point::of(presence);
        let (business, mac) = (self.business, presence.mac);
        let recognised = match self.directories.at(presence.last_at).by_mac(mac) {
            Match::One(coworker) => {
                let (subject, interface) = (Subject::coworker(coworker.id), Arc::clone(&presence.interface));
                intake.presences.push(PersonPresence { subject, business, mac, interface, point });
                return;
            }
            Match::NoOne if admission::wants_record(&self.policy.site, mac) => Recognised::Unknown,
            Match::Several if presence.last_strong_at.is_some() => Recognised::Ambiguous,
            Match::NoOne | Match::Several => {
                intake.ignored += 1;
                return;
            }
        };
        let interface = Arc::clone(&presence.interface);
        intake.unknown_devices.push(StrangeDeviceFact { business, mac, interface, recognised, point });
    }

    /// Turns a rejected message into a fact.
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
    /// Everyone with a fact that may be folded.
    pub(super) fn subjects(&self) -> BTreeSet<Subject> {
        let doors = self.doors.iter().map(|fact| fact.subject);
        let presences = self.presences.iter().map(|presence| presence.subject);
        let edits = self.edits.iter().map(|new| new.edit.subject);
        doors.chain(presences).chain(edits).filter(|subject| *subject != Subject::BUSINESS).collect()
    }

    /// The number of facts.
    pub(super) fn len(&self) -> usize {
        self.doors.len() + self.presences.len() + self.unknown_devices.len() + self.rejected.len() + self.edits.len()
    }

    /// The time of the earliest fact that may be folded.
    pub(super) fn first(&self) -> Option<WallTime> {
        let doors = self.doors.iter().map(|fact| fact.at);
        let edits = self.edits.iter().map(|new| new.edit.at());
        doors.chain(self.presences.iter().map(|presence| presence.point.first_at)).chain(edits).min()
    }

    /// Splits the facts into sub-batches of at most `facts` facts of each kind and `people` people. The facts about
    /// each person keep their order.
    pub(super) fn split(mut self, facts: usize, people: usize) -> Vec<Self> {
        let mut sub_batches = Vec::new();
        // Unknown devices, rejected messages and edits go into the first: all are limited, so they are few.
        let mut sub_batch = Self {
            ignored: self.ignored,
            unknown_devices: self.unknown_devices,
            rejected: self.rejected,
            edits: self.edits,
            ..Self::default()
        };
        let mut subjects = BTreeSet::new();
        for fact in self.doors.drain(..) {
            if sub_batch.doors.len() >= facts || (subjects.len() >= people && !subjects.contains(&fact.subject)) {
                sub_batches.push(std::mem::take(&mut sub_batch));
                subjects.clear();
            }
            subjects.insert(fact.subject);
            sub_batch.doors.push(fact);
        }
        for presence in self.presences.drain(..) {
            let is_full = subjects.len() >= people && !subjects.contains(&presence.subject);
            if sub_batch.presences.len() >= facts || is_full {
                sub_batches.push(std::mem::take(&mut sub_batch));
                subjects.clear();
            }
            subjects.insert(presence.subject);
            sub_batch.presences.push(presence);
        }
        sub_batches.push(sub_batch);
        sub_batches
    }
}

/// The door events of a batch, in the order of arrival.
pub(super) fn sightings(deliveries: &[Delivery]) -> impl Iterator<Item = &Sighting> {
    deliveries.iter().flat_map(|delivery| match &delivery.content {
        Content::Sightings(sightings) => sightings.as_slice(),
        Content::Ignored | Content::Rejected(_) => &[],
    })
}

/// The topic with its long numbers masked: they may be card or telephone numbers rather than device ids.
pub(super) fn without_numbers(topic: &str) -> String {
    let long = |level: &str| level.chars().filter(char::is_ascii_digit).count() > LONGEST_PIN;
    let masked = |level: &str| if long(level) { "…".to_owned() } else { level.to_owned() };
    topic.split('/').map(masked).collect::<Vec<_>>().join("/")
}
