//! Large answers: how many are in memory at the same time.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::reply::Problem;

/// An answer with more records is large: it takes some megabytes, and is put together beside the tasks of the daemon.
pub(super) const LARGE: u32 = 1000;

/// The most large answers at the same time, until their clients have read them: the largest has 10 MB and as much in
/// records. A further one waits, and is refused with 503 after [`WAIT`].
const AT_ONCE: usize = 2;

/// How long a large answer waits for its turn.
const WAIT: Duration = Duration::from_secs(5);

/// The largest part of an answer that is sent at once, in bytes.
const PART: usize = 64 * 1024;

/// The turns of large answers.
#[derive(Debug)]
pub(super) struct LargeLists(Arc<Semaphore>);

/// The turn of one large answer.
pub(super) type LargeTurn = OwnedSemaphorePermit;

impl Default for LargeLists {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl LargeLists {
    /// Waits for the turn of an answer that may have this many records; `None` if it is not large.
    pub(super) async fn turn(&self, size: u32) -> Result<Option<LargeTurn>, Problem> {
        if size <= LARGE {
            return Ok(None);
        }
        let turn = timeout(WAIT, Arc::clone(&self.0).acquire_owned()).await.map_err(|_| Problem::Crowded)?;
        turn.map(Some).map_err(|_| Problem::Crowded)
    }
}

/// A body that keeps its turn until all of it is with the kernel.
#[derive(Debug)]
pub(super) struct LargeBody {
    rest: Bytes,
    _turn: LargeTurn,
}

impl LargeBody {
    pub(super) const fn new(rest: Bytes, turn: LargeTurn) -> Self {
        Self { rest, _turn: turn }
    }
}

impl HttpBody for LargeBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.rest.len().min(PART);
        Poll::Ready((part > 0).then(|| Ok(Frame::data(self.rest.split_to(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
