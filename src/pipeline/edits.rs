//! Decides and commits what users of the API say about check-ins.
//!
//! An edit is a fact like any other, so it takes the same path: it is folded with everything else that is known about
//! the person, and committed with its decision.

use tokio_util::sync::CancellationToken;

use super::{
    attempts::PipelineError,
    batch_work::{BatchWork, CommitEnd},
    decide::NewEdit,
    intake::Intake,
    state::Pipeline,
};
use crate::{engine::Decision, store::StoreError};

/// What became of an edit.
#[derive(Debug)]
pub(super) enum EditEnd {
    /// It is committed with this decision.
    Committed(Decision),
    /// It was committed before.
    Known,
    /// The database does not take it.
    Unfit(StoreError),
}

impl Pipeline {
    /// Decides and commits one edit, however long the database is away.
    pub(super) async fn commit_edit(
        &mut self,
        new: NewEdit,
        deadline: &CancellationToken,
    ) -> Result<EditEnd, PipelineError> {
        let digest = new.edit.digest;
        let mut facts = Intake { edits: vec![new], ..Intake::default() };
        let no_people = std::collections::BTreeSet::new();
        loop {
            facts.version = self.directory_version();
            let work = BatchWork { read_by: Some(facts.version), ..BatchWork::fold_now(&facts, &no_people) };
            match self.try_commit(work, deadline).await? {
                CommitEnd::Stale => {}
                CommitEnd::Unfit(error) => return Ok(EditEnd::Unfit(error)),
                CommitEnd::Committed(result) => {
                    let decisions = result.decided.into_iter().flat_map(|decided| decided.edits);
                    let decision = decisions.into_iter().find(|(known, _)| *known == digest);
                    return Ok(decision.map_or(EditEnd::Known, |(_, decision)| EditEnd::Committed(decision)));
                }
            }
        }
    }
}
