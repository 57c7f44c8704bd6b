//! One connection: its socket, its TLS, and the limits of its time.

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
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::listener::AcceptedSocket;
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

/// How long a client may take for the TLS handshake, in seconds: some round trips over a bad mobile network. Then the
/// connection is closed.
const HANDSHAKE: u64 = 10;

/// How long running requests may still take when the daemon stops.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// What ends a connection from outside.
#[derive(Clone, Debug)]
pub(super) struct ConnectionEnds {
    /// It has to give way to another one.
    pub(super) cut: CancellationToken,
    /// The daemon stops.
    pub(super) stop: CancellationToken,
}

/// Serves one connection until it ends, has to give way, or the daemon stops.
pub(super) async fn serve(
    socket: AcceptedSocket,
    tls: Option<TlsAcceptor>,
    routes: Router,
    ends: ConnectionEnds,
    metrics: Metrics,
) {
    let stream = TimedWrites::new(socket);
    let Some(tls) = tls else { return serve_http(stream, routes, ends, metrics).await };
    let handshake = timeout(Duration::from_secs(HANDSHAKE), tls.accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = ends.cut.cancelled() => return metrics.connection_cut(ConnectionCut::GaveWay),
        () = ends.stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => serve_http(stream, routes, ends, metrics).await,
        // Scanners and clients that distrust the certificate: not ours to warn of.
        Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake of an API connection failed"),
        Err(_) => tracing::debug!("the TLS handshake of an API connection took too long"),
    }
}

async fn serve_http<S>(stream: S, routes: Router, ends: ConnectionEnds, metrics: Metrics)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut serving = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(HEADERS))
            .max_buf_size(BUFFER)
            .max_header_size(BUFFER)
            .max_headers(HEADER_LINES)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes))
    );
    let served = tokio::select! {
        served = serving.as_mut() => served,
        () = ends.cut.cancelled() => return metrics.connection_cut(ConnectionCut::GaveWay),
        () = ends.stop.cancelled() => {
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

/// A socket whose writes fail once data has been waiting to be sent for [`READING`].
struct TimedWrites {
    socket: AcceptedSocket,
    /// Runs from the first write that had to wait until everything is sent: a client that reads now and then gets no
    /// more time.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl TimedWrites {
    const fn new(socket: AcceptedSocket) -> Self {
        Self { socket, waiting: None }
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
            && let AcceptedSocket::Tcp(stream) = &self.socket
            && let Err(error) = stream.set_zero_linger()
        {
            tracing::debug!(%error, "could not reset an API connection");
        }
    }
}

/// Does the same with either kind of socket.
macro_rules! either {
    ($socket:expr, $stream:ident => $done:expr) => {
        match $socket {
            AcceptedSocket::Tcp($stream) => $done,
            AcceptedSocket::Unix($stream) => $done,
        }
    };
}

impl AsyncRead for TimedWrites {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, stream => Pin::new(stream).poll_read(cx, into))
    }
}

impl AsyncWrite for TimedWrites {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, stream => Pin::new(stream).poll_write(cx, bytes));
        self.within_time(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = either!(&mut self.socket, stream => Pin::new(stream).poll_write_vectored(cx, parts));
        self.within_time(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        either!(&self.socket, stream => stream.is_write_vectored())
    }

    /// hyper flushes when it has written everything that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        either!(&mut self.socket, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(&mut self.socket, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
