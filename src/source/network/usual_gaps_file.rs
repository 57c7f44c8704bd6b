//! What is usual on a mirror, kept over restarts: a small file beside the database or the spool, one for each interface.
//!
//! Never here: anything that records need. A file that cannot be read or written costs an alarm that comes later, because
//! what is usual is learnt again.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::usual_gaps::UsualGaps;
use crate::base::disk;

/// The file of a capture.
#[derive(Debug)]
pub(super) struct UsualGapsFile(PathBuf);

impl UsualGapsFile {
    /// Of this interface, in this folder.
    pub(super) fn of(folder: &Path, interface: &str) -> Self {
        Self(folder.join(format!("usual-gaps-{interface}.json")))
    }

    /// What was kept; nothing is known where there is no such file.
    pub(super) fn read(&self) -> UsualGaps {
        let kept = match crate::settings::read_bounded(&self.0, LARGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok().and_then(UsualGaps::kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return UsualGaps::default(),
            Err(_) => None,
        };
        kept.unwrap_or_else(|| {
            let file = self.0.display();
            tracing::warn!(%file, "what is usual on this mirror cannot be read, and is learnt again in a week");
            UsualGaps::default()
        })
    }

    /// Writes it, whole or not at all: a kilobyte, once an hour.
    pub(super) fn write(&self, usual: &UsualGaps) {
        let text = serde_json::to_vec(usual).unwrap_or_default();
        if let Err(error) = disk::replace(&self.0, &text) {
            let file = self.0.display();
            tracing::warn!(%file, %error, "what is usual on this mirror could not be written down");
        }
    }
}

/// Octets; what is written has a tenth of it. A larger file is another's.
const LARGEST: u64 = 16 << 10;
