//! The session file: what the next process must know about our session at the broker. A small file beside the database.
//!
//! It records three things: that there was a session, so we notice if the broker has lost it meanwhile; what it is
//! subscribed to, to unsubscribe from topics that are no longer configured; and when we were last caught up, which
//! limits how long a message may have waited.
//!
//! Never here: anything that the records depend on. A file that cannot be read or written costs only these three.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

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
    pub(super) fn write(&self, path: &Path) {
        let text = serde_json::to_vec(self).expect("plain data");
        if let Err(error) = disk::replace(path, &text) {
            tracing::warn!(%error, "could not write the session file");
        }
    }
}
