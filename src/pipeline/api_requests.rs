//! What the API asks the pipeline for. Every request waits for its answer.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{
    attempts::PipelineError, edits::EditRequest, hand_failures::FailureRequest, kiosk::KioskRequest, state::Pipeline,
};

/// The most requests that wait to be decided. Each is one person at a desk or a kiosk, or one call of a client that
/// waits for its answer; when the queue is full, the API answers that it is busy.
pub const WAITING_REQUESTS: usize = 64;

/// The most requests that are decided before doors and captures have their turn again.
const REQUESTS_A_TURN: usize = 16;

/// A request that waits to be decided.
#[derive(Debug)]
pub enum ApiRequest {
    /// About a check-in.
    Edit(EditRequest),
    /// About a failed check-in that is written by hand.
    Failure(FailureRequest),
    /// A kiosk was shown something.
    Kiosk(KioskRequest),
}

impl ApiRequest {
    /// Whether the client has gone: then nothing is done.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Edit(request) => request.reply.is_closed(),
            Self::Failure(request) => request.reply.is_closed(),
            Self::Kiosk(request) => request.reply.is_closed(),
        }
    }
}

impl Pipeline {
    /// Decides the requests that wait, up to [`REQUESTS_A_TURN`].
    pub(super) async fn answer_api(
        &mut self,
        first: Option<ApiRequest>,
        waiting: &mut mpsc::Receiver<ApiRequest>,
        deadline: &CancellationToken,
    ) -> Result<(), PipelineError> {
        let mut next = first;
        for _ in 0..REQUESTS_A_TURN {
            let Some(request) = next.take().or_else(|| waiting.try_recv().ok()) else { return Ok(()) };
            if request.is_abandoned() {
                continue;
            }
            match request {
                ApiRequest::Edit(request) => Box::pin(self.answer_edit(request, deadline)).await?,
                ApiRequest::Failure(request) => Box::pin(self.answer_failure(request)).await,
                ApiRequest::Kiosk(request) => Box::pin(self.answer_kiosk(request, deadline)).await?,
            }
        }
        Ok(())
    }
}
