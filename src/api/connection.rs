//! One connection: its socket, and the limits of its time.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::metrics::{ConnectionCut, Metrics};

/// The read buffer of a connection, and the most bytes of a request's first line and headers; more are answered with 431.
const BUFFER: usize = 32 * 1024;

/// The most header lines of a request; more are answered with 431.
const HEADER_LINES: usize = 100;

/// How long a client may take to send the headers of its next request, idle time included, in seconds. Then the
/// connection is closed.
const HEADERS: u64 = 30;

/// How long a client may take to read a response, in seconds, counted from when its receive window and our send buffer
/// are full. Then the connection is reset. The largest response, the metrics, has about 30 KiB.
const READING: u64 = 20;

/// How long running requests may still take when the daemon stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Serves one connection until it ends, has to give way, or the daemon stops.
pub(super) async fn serve(
    stream: TcpStream,
    routes: Router,
    cut: CancellationToken,
    stop: CancellationToken,
    metrics: Metrics,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not switch off Nagle's algorithm for an API connection");
    }
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(HEADERS))
            .max_buf_size(BUFFER)
            .max_header_size(BUFFER)
            .max_headers(HEADER_LINES)
            .serve_connection(TokioIo::new(TimedWrites::new(stream)), TowerToHyperService::new(routes))
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = cut.cancelled() => return metrics.connection_cut(ConnectionCut::GaveWay),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            match timeout(LAST_REQUESTS, serving).await {
                Ok(served) => served,
                Err(_) => return tracing::warn!("an API request was cut off by the shutdown"),
            }
        }
    };
    if let Err(error) = served {
        let is_unread = error
            .source()
            .and_then(|source| source.downcast_ref::<io::Error>())
            .is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if is_unread {
            metrics.connection_cut(ConnectionCut::Unread);
        }
        tracing::debug!(%error, "an API connection ended early");
    }
}

/// A stream whose writes fail once data has been waiting to be sent for [`READING`].
struct TimedWrites {
    stream: TcpStream,
    /// Runs from the first write that had to wait until everything is sent: a client that reads now and then gets no
    /// more time.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl TimedWrites {
    const fn new(stream: TcpStream) -> Self {
        Self { stream, waiting: None }
    }

    fn within_time<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            return written;
        }
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(Duration::from_secs(READING))));
        match waiting.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for TimedWrites {
    fn drop(&mut self) {
        // Reset a connection with unsent data: the kernel would otherwise keep that data for minutes, in case the
        // client begins to read.
        if self.waiting.is_some()
            && let Err(error) = self.stream.set_zero_linger()
        {
            tracing::debug!(%error, "could not reset an API connection");
        }
    }
}

impl AsyncRead for TimedWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, into)
    }
}

impl AsyncWrite for TimedWrites {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.within_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.within_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
