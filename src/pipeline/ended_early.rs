//! A request of the API that ends before everything that it could need is done.

use tokio::sync::oneshot;

use super::edits::EditFault;
use crate::store::StoreError;

/// Why a request ends early.
pub(super) enum EndedEarly<A> {
    /// There is an answer already.
    Answered(A),
    /// The database failed.
    Failed(StoreError),
}

impl<A: From<Vec<EditFault>>> From<Vec<EditFault>> for EndedEarly<A> {
    fn from(faults: Vec<EditFault>) -> Self {
        Self::Answered(faults.into())
    }
}

impl<A> From<StoreError> for EndedEarly<A> {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Sends the answer. After a failure the reply is dropped, which tells the client to try again. Returns whether there was
/// an answer. `what` was not done, for the log.
pub(super) fn reply<A>(to: oneshot::Sender<A>, ended: Result<A, EndedEarly<A>>, what: &'static str) -> bool {
    match ended {
        Ok(answer) | Err(EndedEarly::Answered(answer)) => {
            // A client that has gone misses only the answer.
            let _gone = to.send(answer);
            true
        }
        Err(EndedEarly::Failed(error)) => {
            tracing::warn!(error = %error.in_words("the database"), "{what}");
            false
        }
    }
}
