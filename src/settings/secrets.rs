//! Reads the files that the configuration refers to: passwords, certificates and keys.

use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use crate::settings::files::read_bounded;

/// The largest secret or certificate file, in bytes: four times a bundle of all public roots. A larger one is a fault.
const LARGEST_SECRET: u64 = 1024 * 1024;

/// The folders that contain the files with secrets.
#[derive(Debug)]
pub(super) struct Secrets {
    /// `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<PathBuf>,
    /// The folder of the main file.
    pub(super) folder: PathBuf,
}

impl Secrets {
    /// Reads a file from the credentials directory if it exists there, else from the configuration's folder. The error
    /// contains the path.
    pub(super) fn read(&self, written: &Path) -> Result<SecretFile, String> {
        let credential = self.credentials.as_ref().map(|folder| folder.join(written));
        let path = credential.filter(|path| path.exists()).unwrap_or_else(|| self.folder.join(written));
        let bytes = read_bounded(&path, LARGEST_SECRET).map_err(|error| self.unreadable(&path, &error))?;
        let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
        Ok(SecretFile { path, bytes, mode })
    }

    fn unreadable(&self, path: &Path, error: &io::Error) -> String {
        let also = match &self.credentials {
            Some(folder) if !path.starts_with(folder) && error.kind() == io::ErrorKind::NotFound => {
                format!(", and it is not in {}", folder.display())
            }
            Some(_) | None => String::new(),
        };
        format!("{} cannot be read: {error}{also}", path.display())
    }
}

/// A file that the configuration refers to, as it was read.
pub(super) struct SecretFile {
    /// Where it was found.
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl SecretFile {
    /// Whether every user of this machine can read it.
    pub(super) const fn is_world_readable(&self) -> bool {
        self.mode & 0o004 != 0
    }

    /// The only line of the file, without the line break at its end.
    pub(super) fn password(&self) -> Result<SecretString, String> {
        let refuse = |message| Err(format!("{} {message}", self.path.display()));
        let Ok(text) = std::str::from_utf8(&self.bytes) else {
            return refuse("is not UTF-8 text");
        };
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.trim().is_empty() {
            return refuse("is empty");
        }
        if secret.contains('\n') {
            return refuse("has more than one line; it must contain only the password");
        }
        Ok(SecretString::from(secret))
    }

    /// Checks that it is a PEM file of this kind. The error explains what is missing.
    pub(super) fn check_pem(&self, kind: PemKind) -> Result<(), String> {
        let (marker, what): (&[u8], _) = match kind {
            PemKind::Certificate => (b"-----BEGIN CERTIFICATE-----", "certificate"),
            PemKind::PrivateKey => (b"PRIVATE KEY-----", "private key"),
        };
        if self.bytes.windows(marker.len()).any(|window| window == marker) {
            return Ok(());
        }
        Err(format!("{} has no {what} in PEM format", self.path.display()))
    }
}

/// What a PEM file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PemKind {
    /// Not secret.
    Certificate,
    /// Readable only by the daemon, and at most a group.
    PrivateKey,
}
