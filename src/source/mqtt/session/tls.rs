//! The certificates of the connection to the broker.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rumqttc::{TlsConfiguration, Transport};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::settings::Tls;

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsSetupError {
    #[error("cannot read {path}: {fault}")]
    File { path: PathBuf, fault: io::Error },
    #[error("{path} contains no usable PEM: {fault}")]
    Pem { path: PathBuf, fault: pem::Error },
    #[error("cannot use the client certificate: {0}")]
    Certificate(rustls::Error),
    #[error("cannot set up TLS: {0}")]
    Library(rumqttc::TlsError),
}

/// Reads the certificates. Called for each connection, to pick up renewed ones without a restart.
pub(super) async fn transport(tls: &Tls) -> Result<Transport, TlsSetupError> {
    let client = match &tls.client {
        Some((certificate, key)) => Some((read(certificate).await?, read(key).await?)),
        None => None,
    };
    // Trust the named authority only.
    if let Some(path) = &tls.ca_file {
        let ca = read(path).await?;
        if let Err(fault) = CertificateDer::from_pem_slice(&ca) {
            return Err(TlsSetupError::Pem { path: path.clone(), fault });
        }
        return Ok(Transport::tls(ca, client, None));
    }
    // Trust the authorities of the system. The library accepts no client certificate together with them, so add it
    // here.
    let configuration = TlsConfiguration::try_default_rustls().map_err(TlsSetupError::Library)?;
    match (configuration, client, &tls.client) {
        (TlsConfiguration::Rustls(config), Some((chain, key)), Some((chain_path, key_path))) => {
            let unusable = |path: &Path, fault| TlsSetupError::Pem { path: path.to_owned(), fault };
            let chain = CertificateDer::pem_slice_iter(&chain).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|fault| unusable(chain_path, fault))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|fault| unusable(key_path, fault))?;
            let mut config = (*config).clone();
            let certified =
                CertifiedKey::from_der(chain, key, config.crypto_provider()).map_err(TlsSetupError::Certificate)?;
            config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
            Ok(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))))
        }
        (configuration, _, _) => Ok(Transport::tls_with_config(configuration)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    tokio::fs::read(path).await.map_err(|fault| TlsSetupError::File { path: path.to_owned(), fault })
}
