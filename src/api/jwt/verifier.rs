//! PURE. Checks signatures with ring, which rustls uses too: the providers that come with the crate of the tokens need a C
//! compiler with CMake, or an RSA implementation with a known timing weakness.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{self, Verifier},
};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    // This program signs no tokens.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: |algorithm, key| verifier(*algorithm, key),
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes the crate of the tokens use it. Only the first call has an effect.
pub(super) fn install() {
    let _is_new = PROVIDER.install_default().is_ok();
}

/// A public key, for one algorithm.
struct RingVerifier {
    algorithm: Algorithm,
    key: PublicKey,
}

enum PublicKey {
    Rsa { parameters: &'static RsaParameters, n: Vec<u8>, e: Vec<u8> },
    Point(UnparsedPublicKey<Vec<u8>>),
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match &self.key {
            PublicKey::Rsa { parameters, n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature)
            }
            PublicKey::Point(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn verifier(algorithm: Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = match algorithm {
        Algorithm::RS256 => rsa(key, &RSA_PKCS1_2048_8192_SHA256)?,
        Algorithm::RS384 => rsa(key, &RSA_PKCS1_2048_8192_SHA384)?,
        Algorithm::RS512 => rsa(key, &RSA_PKCS1_2048_8192_SHA512)?,
        Algorithm::PS256 => rsa(key, &RSA_PSS_2048_8192_SHA256)?,
        Algorithm::PS384 => rsa(key, &RSA_PSS_2048_8192_SHA384)?,
        Algorithm::PS512 => rsa(key, &RSA_PSS_2048_8192_SHA512)?,
        Algorithm::ES256 => point(key, &ECDSA_P256_SHA256_FIXED)?,
        Algorithm::ES384 => point(key, &ECDSA_P384_SHA384_FIXED)?,
        Algorithm::EdDSA => point(key, &ED25519)?,
        // Symmetric ones, and those that the crate does not know yet.
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 | _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    Ok(Box::new(RingVerifier { algorithm, key }))
}

fn rsa(key: &DecodingKey, parameters: &'static RsaParameters) -> Result<PublicKey> {
    match key.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => Ok(PublicKey::Rsa { parameters, n: n.clone(), e: e.clone() }),
        DecodingKeyKind::SecretOrDer(_) => Err(ErrorKind::InvalidKeyFormat.into()),
    }
}

fn point(key: &DecodingKey, algorithm: &'static dyn VerificationAlgorithm) -> Result<PublicKey> {
    Ok(PublicKey::Point(UnparsedPublicKey::new(algorithm, key.try_get_as_bytes()?.to_vec())))
}
