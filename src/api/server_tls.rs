//! The certificate of the API. It is read again when its files change and on a reload of the settings, so a renewal needs no
//! restart; a renewal that cannot be used leaves the old certificate in force.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::{sync::Notify, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    base::health::{ConditionKind, Health},
    settings::{ServerTls, read_bounded},
};

/// How often the files are looked at. A change counts once they have stayed the same for this long: a renewal writes two
/// files.
const CHECK: Duration = Duration::from_secs(10);

/// The largest certificate or key file, in bytes: a chain of a hundred certificates. A larger one is refused.
const LARGEST: u64 = 1024 * 1024;

/// The certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {fault}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path} contains no usable PEM: {fault}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        fault: pem::Error,
    },
    /// The two do not go together, or the library does not know this kind of key.
    #[error("cannot use the certificate in {path}: {fault}; tls_cert_file and tls_key_file must belong together")]
    Pair {
        /// The file of the certificate.
        path: PathBuf,
        /// Why.
        fault: rustls::Error,
    },
}

/// Asks the API to read its certificate again; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct CertificateReload(Arc<Notify>);

impl CertificateReload {
    /// Asks for it.
    pub fn ask(&self) {
        self.0.notify_one();
    }
}

/// The certificate in force, for every new connection.
struct CurrentCertificate(RwLock<Arc<CertifiedKey>>);

impl fmt::Debug for CurrentCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CurrentCertificate")
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The TLS of a listener: takes connections, and follows the files of the certificate.
#[derive(Debug)]
pub(super) struct ServerCertificate {
    files: ServerTls,
    config: Arc<ServerConfig>,
    current: Arc<CurrentCertificate>,
    /// The state of the files when they were last read.
    read: Option<FileStates>,
    health: Health,
    reload: CertificateReload,
}

/// The state of both files; `None` for one that is missing.
type FileStates = [Option<FileState>; 2];

/// What differs if a file has been written, replaced, or made readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileState {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let now = path.metadata().ok()?;
        Some(Self { device: now.dev(), inode: now.ino(), bytes: now.size(), changed: (now.ctime(), now.ctime_nsec()) })
    }
}

impl ServerCertificate {
    /// Reads the certificate.
    ///
    /// # Errors
    /// It cannot be used.
    pub(super) fn load(files: ServerTls, health: Health, reload: CertificateReload) -> Result<Self, CertificateError> {
        let read = Some(states(&files));
        let current = Arc::new(CurrentCertificate(RwLock::new(Arc::new(certified(&files)?))));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows TLS 1.2 and 1.3");
        let resolver = Arc::clone(&current);
        let mut config = config.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { files, config: Arc::new(config), current, read, health, reload })
    }

    /// What takes new connections.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }

    /// Follows the files until `stop`.
    pub(super) async fn follow(mut self, stop: CancellationToken) {
        let mut before = self.read;
        loop {
            let asked = self.reload.0.notified();
            let Some(asked) = stop.run_until_cancelled(timeout(CHECK, asked)).await else { return };
            let now = Some(states(&self.files));
            let is_settled = before == now;
            if asked.is_ok() || (is_settled && self.read != now) {
                self.read = now;
                self.renew();
            }
            before = now;
        }
    }

    fn renew(&self) {
        match certified(&self.files) {
            Ok(certified) => {
                *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
                tracing::info!(file = %self.files.cert_file.display(), "the API uses the certificate as it is now");
                self.health.clear(ConditionKind::CertificateRefused, "");
            }
            Err(error) => {
                let detail = format!("{error}. The API goes on with the certificate that it had");
                self.health.raise(ConditionKind::CertificateRefused, "", detail);
            }
        }
    }
}

fn states(files: &ServerTls) -> FileStates {
    [&files.cert_file, &files.key_file].map(|file| FileState::of(file))
}

fn certified(files: &ServerTls) -> Result<CertifiedKey, CertificateError> {
    let read = |path: &PathBuf| {
        read_bounded(path, LARGEST).map_err(|fault| CertificateError::File { path: path.clone(), fault })
    };
    let unusable = |path: &PathBuf| {
        let path = path.clone();
        move |fault| CertificateError::Pem { path, fault }
    };
    let chain = CertificateDer::pem_slice_iter(&read(&files.cert_file)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(unusable(&files.cert_file))?;
    if chain.is_empty() {
        return Err(unusable(&files.cert_file)(pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key_file)?).map_err(unusable(&files.key_file))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider())
        .map_err(|fault| CertificateError::Pair { path: files.cert_file.clone(), fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_named() {
        let files = ServerTls { cert_file: "/nowhere/cert.pem".into(), key_file: "/nowhere/key.pem".into() };
        let said = certified(&files).expect_err("missing").to_string();
        assert!(said.starts_with("cannot read /nowhere/cert.pem"), "{said}");
    }
}
