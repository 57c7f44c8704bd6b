//! The session file: what the next process must know about our session at the broker. A small file beside the database.
//!
//! It records three things: that there was a session, so we notice if the broker has lost it meanwhile; what it is
//! subscribed to, to unsubscribe from topics that are no longer configured; and when we were last caught up, which
//! limits how long a message may have waited.
//!
//! Never here: anything that the records depend on. A file that cannot be read or written costs only these three.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{task::JoinHandle, time::timeout};

use crate::{
    base::{clock::WallTime, disk},
    settings,
};

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionFile {
    host: String,
    port: u16,
    client_id: String,
    /// The topics that the session is subscribed to.
    pub(super) filters: Vec<String>,
    /// About when we last had everything that the broker had for us; `None` if that is unknown.
    #[serde(default)]
    pub(super) caught_up: Option<WallTime>,
}

impl SessionFile {
    pub(super) fn new(settings: &settings::Mqtt, filters: &[String], caught_up: Option<WallTime>) -> Self {
        let settings::Mqtt { host, port, client_id, .. } = settings;
        let (host, client_id) = (host.clone(), client_id.clone());
        Self { host, port: *port, client_id, filters: filters.to_vec(), caught_up }
    }

    /// Reads the file; `None` unless it is of a session with the same host, port and client id.
    pub(super) fn read(path: &Path, settings: &settings::Mqtt) -> Option<Self> {
        let saved: Self = match disk::read_small(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "could not read the session file; if the broker has lost our session, that goes unnoticed"
                );
                return None;
            }
        };
        let settings::Mqtt { host, port, client_id, .. } = settings;
        (saved.host == *host && saved.port == *port && saved.client_id == *client_id).then_some(saved)
    }

    /// Replaces the file atomically. A few hundred bytes, for each new session and every ten minutes.
    fn write(&self, path: &Path) {
        let text = serde_json::to_vec(self).expect("plain data");
        if let Err(error) = disk::replace(path, &text) {
            tracing::warn!(%error, "could not write the session file");
        }
    }
}

/// How long the end of a session waits for its file. A disk that takes longer hangs; the file of an earlier time then only
/// makes the next process accept older times for what the broker queued.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Writes the file on a thread of its own: a disk that hangs must stop neither the session nor the threads that everything
/// else runs on.
#[derive(Debug)]
pub(super) struct SessionFileWriter {
    path: PathBuf,
    /// The content that the file has, or will have when the thread is done.
    given: Option<SessionFile>,
    /// Set if the content has changed while the thread was at work.
    is_outdated: bool,
    thread: Option<JoinHandle<()>>,
}

impl SessionFileWriter {
    /// For a file that has this content.
    pub(super) fn new(path: PathBuf, content: Option<SessionFile>) -> Self {
        Self { path, given: content, is_outdated: false, thread: None }
    }

    /// The content that was given last.
    pub(super) fn given(&self) -> Option<&SessionFile> {
        self.given.as_ref()
    }

    /// Writes this content, unless the file has it. While an earlier write is under way, only the newest content is
    /// kept, for the next call.
    pub(super) fn write(&mut self, content: SessionFile) {
        if self.given.as_ref() != Some(&content) {
            self.given = Some(content);
            self.is_outdated = true;
        }
        if self.is_outdated && self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            self.start();
        }
    }

    /// Waits until the file has the last content, at most [`LAST_WRITE`].
    pub(super) async fn finish(&mut self) {
        let done = async {
            while let Some(thread) = self.thread.take() {
                // A panic of the thread leaves the file as it was.
                let _ended = thread.await;
                if self.is_outdated {
                    self.start();
                }
            }
        };
        if timeout(LAST_WRITE, done).await.is_err() {
            tracing::warn!(path = %self.path.display(), "the session file is not written: the disk does not answer");
        }
    }

    fn start(&mut self) {
        let Some(content) = self.given.clone() else { return };
        self.is_outdated = false;
        let path = self.path.clone();
        self.thread = Some(tokio::task::spawn_blocking(move || content.write(&path)));
    }
}
