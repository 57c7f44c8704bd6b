//! What outlives the process of its session at the broker: that there is one, and what it is subscribed to. A small file
//! beside the database, so that a session which the broker has lost while we were away is noticed, and topics that are
//! not wanted any more are unsubscribed; and until when we had everything, which tells how long a message may have waited.
//!
//! Never here: anything that the records need. A file that cannot be read or written costs only these.

use std::{io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    base::{clock::WallTime, disk},
    settings,
};

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SessionFile {
    host: String,
    port: u16,
    client_id: String,
    /// What was subscribed to.
    pub(super) filters: Vec<String>,
    /// When everything that the broker had was here, about; none where that is not known.
    #[serde(default)]
    pub(super) caught_up: Option<WallTime>,
}

impl SessionFile {
    pub(super) fn new(settings: &settings::Mqtt, filters: &[String], caught_up: Option<WallTime>) -> Self {
        let settings::Mqtt { host, port, client_id, .. } = settings;
        let (host, client_id) = (host.clone(), client_id.clone());
        Self { host, port: *port, client_id, filters: filters.to_vec(), caught_up }
    }

    /// What an earlier session of the same name left; none when there was none.
    pub(super) async fn read(path: &Path, settings: &settings::Mqtt) -> Option<Self> {
        let kept: Self = match tokio::fs::read(path).await {
            Ok(bytes) => serde_json::from_slice(&bytes).ok()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(%error, "it is not known whether the broker should have a session for us");
                return None;
            }
        };
        let settings::Mqtt { host, port, client_id, .. } = settings;
        (kept.host == *host && kept.port == *port && kept.client_id == *client_id).then_some(kept)
    }

    /// Writes it, whole or not at all. A few hundred bytes, for each new session and every ten minutes.
    pub(super) fn write(&self, path: &Path) {
        let text = serde_json::to_vec(self).expect("plain data");
        if let Err(error) = disk::replace(path, &text) {
            tracing::warn!(%error, "the session at the broker could not be written down");
        }
    }
}
