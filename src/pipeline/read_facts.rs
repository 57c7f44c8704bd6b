//! Reads the facts of a batch, each with the directory in force when it happened.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{
    attempts::{PipelineError, retry},
    intake::{self, FactMaker, Intake},
    state::Pipeline,
};
use crate::{
    base::{
        clock::Now,
        fact::RejectedFact,
        random,
        sighting::{Presence, Sighting},
    },
    directory::Directory,
    engine::decision::Outcome,
    mapping::content::Content,
    source::Delivery,
};

/// The most rejected messages recorded in a minute; the rest are only counted. Enough to see what a controller sends,
/// too few to fill a disk.
const REJECTIONS_A_MINUTE: u32 = 30;

/// The time limit for loading a past version of the directory: with a hundred thousand people it takes some seconds on
/// a slow disk.
const LONGEST_LOAD: Duration = Duration::from_mins(2);

impl Pipeline {
    /// Turns a batch into facts.
    pub(super) async fn read_facts(
        &mut self,
        deliveries: &[Delivery],
        presences: &[Presence],
        now: Now,
        deadline: &CancellationToken,
    ) -> Result<Intake, PipelineError> {
        let directories = Arc::clone(&self.context.directories.borrow());
        let (business, policy) = (self.context.business, self.policy());
        let reader = FactMaker { business, directories: &directories, policy: &policy, now: now.wall };
        let mut intake = Intake { version: directories.latest().version_id(), ..Intake::default() };

        // Most facts are read with a version that is in memory. Late ones may need a version that is only in the
        // database: they are read after the others, one version at a time.
        let mut by_version: BTreeMap<i64, (Vec<&Sighting>, Vec<&Presence>)> = BTreeMap::new();
        for sighting in intake::sightings(deliveries) {
            match reader.missing_at(sighting.event_at) {
                None => intake.doors.push(reader.door(sighting)),
                Some(version) => by_version.entry(version).or_default().0.push(sighting),
            }
        }
        for presence in presences {
            match reader.missing_at(presence.last_at) {
                None => reader.presence(presence, &mut intake),
                Some(version) => by_version.entry(version).or_default().1.push(presence),
            }
        }
        if by_version.is_empty() {
            self.past_directory = None;
        }
        for (version, (sightings, presences)) in by_version {
            let directories = directories.with(version, self.load_past_directory(version, deadline).await?);
            let reader = FactMaker { business, directories: &directories, policy: &policy, now: now.wall };
            intake.doors.extend(sightings.into_iter().map(|sighting| reader.door(sighting)));
            for presence in presences {
                reader.presence(presence, &mut intake);
            }
        }
        Ok(intake)
    }

    /// Loads a version of the directory that is only in the database, to find who had which card then. It is read
    /// outside any transaction, because with a hundred thousand people this takes seconds.
    async fn load_past_directory(
        &mut self,
        version: i64,
        deadline: &CancellationToken,
    ) -> Result<Arc<Directory>, PipelineError> {
        if let Some(loaded) = self.past_directory.as_ref().filter(|loaded| loaded.version == version) {
            return Ok(Arc::clone(loaded));
        }
        // Drop the old one first: only one is kept in memory at a time.
        self.past_directory = None;
        let directory =
            Arc::new(retry!(self, deadline, self.context.store.load_directory_of(version), within LONGEST_LOAD));
        self.report_alive();
        self.past_directory = Some(Arc::clone(&directory));
        Ok(directory)
    }

    /// The rejected messages of a batch that are recorded, up to a limit per minute. The others are only counted.
    pub(super) fn read_rejected(&mut self, deliveries: &[Delivery], now: Now) -> Vec<RejectedFact> {
        let directories = Arc::clone(&self.context.directories.borrow());
        let (business, policy) = (self.context.business, self.policy());
        let reader = FactMaker { business, directories: &directories, policy: &policy, now: now.wall };
        let mut rejected = Vec::new();
        for delivery in deliveries {
            let Content::Rejected(rejection) = &delivery.content else { continue };
            self.context.metrics.rejected(rejection.why);
            self.context.metrics.decided(Outcome::Rejected, 1);
            let (why, sample) = (rejection.why.word(), &rejection.sample);
            let topic = intake::without_numbers(&rejection.topic);
            tracing::info!(source = %delivery.source, why, topic, sample, "a message was not understood");
            if self.rejections.next(now.boot) <= REJECTIONS_A_MINUTE {
                rejected.push(reader.rejected(&delivery.source, rejection, random::uuid()));
            } else {
                self.context.metrics.received(1);
            }
        }
        rejected
    }
}
