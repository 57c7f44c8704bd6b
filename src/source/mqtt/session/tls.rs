//! The certificates of the connections to the broker and to the platform.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rumqttc::TlsConfiguration;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem, pem::PemObject},
    sign::{CertifiedKey, SingleCertAndKey},
};

use crate::settings::Tls;

/// The certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsSetupError {
    #[error("cannot read {path}: {fault}")]
    File { path: PathBuf, fault: io::Error },
    #[error("{path} contains no usable PEM: {fault}")]
    Pem { path: PathBuf, fault: pem::Error },
    #[error("{path} contains no usable certificate: {fault}")]
    Authority { path: PathBuf, fault: String },
    #[error("cannot use the client certificate in {path}: {fault}; cert_file and key_file must belong together")]
    Certificate { path: PathBuf, fault: rustls::Error },
    #[error("\"{0}\" in url cannot be the name in a certificate; write a host name or an address")]
    Host(String),
    #[error("cannot set up TLS: {0}")]
    Library(rumqttc::TlsError),
}

/// Reads the certificates. Called for each connection, to pick up renewed ones without a restart.
pub(crate) async fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>, TlsSetupError> {
    // Trust the authorities of the system, or what is in the named file and nothing else.
    let mut config = match &tls.ca_file {
        None => {
            let system = TlsConfiguration::try_default_rustls().map_err(TlsSetupError::Library)?;
            let TlsConfiguration::Rustls(system) = system else {
                unreachable!("the library's default for rustls is of rustls");
            };
            (*system).clone()
        }
        Some(path) => {
            let trusted = read_certificates(path).await?;
            let verifier =
                FileVerifier::new(trusted).map_err(|fault| TlsSetupError::Authority { path: path.clone(), fault })?;
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
            let config = config.with_safe_default_protocol_versions();
            let config = config.map_err(|fault| TlsSetupError::Library(fault.into()))?;
            config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth()
        }
    };
    if let Some((certificate, key)) = &tls.client {
        let chain = read_certificates(certificate).await?;
        let unusable = |fault| TlsSetupError::Pem { path: key.clone(), fault };
        let key = PrivateKeyDer::from_pem_slice(&read(key).await?).map_err(unusable)?;
        let unfit = |fault| TlsSetupError::Certificate { path: certificate.clone(), fault };
        let certified = CertifiedKey::from_der(chain, key, config.crypto_provider()).map_err(unfit)?;
        config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    }
    Ok(Arc::new(config))
}

async fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let unusable = |fault| TlsSetupError::Pem { path: path.to_owned(), fault };
    let certificates = CertificateDer::pem_slice_iter(&read(path).await?).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(unusable(pem::Error::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(fault) => Err(unusable(fault)),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    tokio::fs::read(path).await.map_err(|fault| TlsSetupError::File { path: path.to_owned(), fault })
}

/// Accepts a server whose certificate is in `ca_file`, or signed by an authority that is.
///
/// *A certificate that is in the file* is accepted whatever names, dates and uses it states: the operator has named
/// this very key, as one does for SSH, and the server proves in the handshake that it holds it. Names and dates matter
/// when an authority vouches for a server; here none does. So a certificate made with `openssl req -x509` works, with
/// or without a name, and the doors do not stop on the day on which it expires, or on a machine that starts without a
/// clock. A key that was stolen is revoked by replacing the file.
///
/// *Any other certificate* must be valid now, for the host in `url`, and signed by a certificate in the file. One that
/// `openssl req -x509` made is an authority too, so its key can also sign others; only the broker has that key.
#[derive(Debug)]
struct FileVerifier {
    trusted: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl FileVerifier {
    /// The error says what is wrong with the certificates.
    fn new(trusted: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        let (_, unusable) = roots.add_parsable_certificates(trusted.iter().cloned());
        if unusable == trusted.len() {
            return Err("no certificate in it can be read".to_owned());
        }
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
        let authorities = authorities.map_err(|fault| fault.to_string())?;
        Ok(Self { trusted, authorities, provider })
    }
}

impl ServerCertVerifier for FileVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let answer = self.authorities.verify_server_cert(certificate, intermediates, name, ocsp, now);
        if !self.trusted.contains(certificate) {
            return answer;
        }
        if let Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { .. })) = answer {
            tracing::warn!(
                "the server's certificate has expired; it is accepted because exactly this one is in ca_file, but \
                 other clients will refuse it"
            );
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
