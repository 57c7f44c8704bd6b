//! Reads the files that the configuration refers to: passwords, certificates and keys.

use std::{
    collections::BTreeMap,
    fmt, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use crate::settings::files::read_bounded;

/// The largest secret or certificate file, in bytes: four times a bundle of all public roots. A larger one is a fault.
const LARGEST_SECRET: u64 = 1024 * 1024;

/// The credentials that the shipped unit loads (`LoadCredential=NAME:checkind.NAME`).
pub const UNIT_CREDENTIALS: [&str; 6] =
    ["db-password", "mqtt-password", "client-key.pem", "db-client-key.pem", "sync-token", "sync-password"];

/// Where systemd looks for them (systemd.exec(5), `LoadCredential=`), the first one first.
const CREDENTIAL_STORES: [&str; 3] = ["/etc/credstore", "/run/credstore", "/usr/lib/credstore"];

/// The unit's credentials as they are stored on this machine. Usually only root can read them; systemd does that and
/// passes them to the service.
#[derive(Clone, Debug, Default)]
pub struct StoredCredentials(BTreeMap<&'static str, SecretFile>);

impl StoredCredentials {
    /// Reads those that exist and that this process may read.
    pub fn read() -> Self {
        let stored = |name: &'static str| {
            let file = CREDENTIAL_STORES
                .iter()
                .find_map(|store| SecretFile::read(Path::new(store).join(format!("checkind.{name}"))).ok())?;
            Some((name, file))
        };
        Self(UNIT_CREDENTIALS.into_iter().filter_map(stored).collect())
    }
}

/// The folders that contain the files with secrets.
#[derive(Debug)]
pub(super) struct Secrets<'s> {
    /// `$CREDENTIALS_DIRECTORY`.
    pub(super) credentials: Option<PathBuf>,
    /// What systemd would put there. Used when a person runs a command, outside the unit.
    pub(super) stored: &'s StoredCredentials,
    /// The folder of the main file.
    pub(super) folder: PathBuf,
}

impl Secrets<'_> {
    /// Reads a file from the credentials directory if it exists there (without that directory, from the stored
    /// credentials), else from the configuration's folder. The error contains the path.
    pub(super) fn read(&self, written: &Path) -> Result<SecretFile, String> {
        if self.credentials.is_none()
            && let Some(stored) = written.to_str().and_then(|name| self.stored.0.get(name))
        {
            return Ok(stored.clone());
        }
        let credential = self.credentials.as_ref().map(|folder| folder.join(written));
        let path = credential.filter(|path| path.exists()).unwrap_or_else(|| self.folder.join(written));
        SecretFile::read(path.clone()).map_err(|error| self.unreadable(&path, &error))
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
#[derive(Clone)]
pub(super) struct SecretFile {
    /// Where it was found.
    pub(super) path: PathBuf,
    bytes: Vec<u8>,
    mode: u32,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SecretFile {
    fn read(path: PathBuf) -> io::Result<Self> {
        let bytes = read_bounded(&path, LARGEST_SECRET)?;
        let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
        Ok(Self { path, bytes, mode })
    }

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
