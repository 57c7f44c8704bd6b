//! Keeps the usual gaps of a mirror across restarts: a small file beside the database or the spool, one for each
//! interface.
//!
//! Never here: anything that records depend on. If the file cannot be read or written, a dead mirror is reported later,
//! because the gaps have to be learnt again.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::usual_gaps::UsualGaps;
use crate::base::disk;

/// The largest file that is read, in octets; those that we write are a tenth of it. A larger file is not ours.
const LARGEST: u64 = 16 << 10;

/// The file of one capture.
#[derive(Debug)]
pub(super) struct UsualGapsFile(PathBuf);

impl UsualGapsFile {
    /// The file of this interface, in this folder.
    pub(super) fn of(folder: &Path, interface: &str) -> Self {
        Self(folder.join(format!("usual-gaps-{interface}.json")))
    }

    /// Reads the file; no known gaps if it does not exist or cannot be read.
    pub(super) fn read(&self) -> UsualGaps {
        let kept = match crate::settings::read_bounded(&self.0, LARGEST) {
            Ok(bytes) => serde_json::from_slice(&bytes).ok().and_then(UsualGaps::validated),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return UsualGaps::default(),
            Err(_) => None,
        };
        kept.unwrap_or_else(|| {
            let file = self.0.display();
            tracing::warn!(%file, "cannot read the usual gaps of this mirror; they are learnt again over the next week");
            UsualGaps::default()
        })
    }

    /// Replaces the file atomically: a kilobyte, once an hour.
    pub(super) fn write(&self, usual: &UsualGaps) {
        let text = serde_json::to_vec(usual).unwrap_or_default();
        if let Err(error) = disk::replace(&self.0, &text) {
            let file = self.0.display();
            tracing::warn!(%file, %error, "cannot write the usual gaps of this mirror");
        }
    }
}
