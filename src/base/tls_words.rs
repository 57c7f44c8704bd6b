//! Says what an operator has to change when TLS fails: a file, a name, a clock or a port.

use std::{error::Error, io, path::Path};

use chrono::DateTime;
use rustls::{AlertDescription, CertificateError, pki_types::UnixTime};

/// The server at the other end, and what the settings say of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsPeer<'a> {
    /// What it is: "the broker", "the database server".
    pub(crate) what: &'a str,
    /// Its name or address in `url`, which its certificate must contain.
    pub(crate) host: &'a str,
    /// `ca_file`; `None` if the system's authorities are trusted.
    pub(crate) ca_file: Option<&'a Path>,
    /// `cert_file`.
    pub(crate) cert_file: Option<&'a Path>,
    /// Whether exactly the certificate in `ca_file` is trusted, also if it is no authority.
    pub(crate) pins: bool,
    /// What to do if the port does not speak TLS.
    pub(crate) plain: &'a str,
}

/// Finds the error of the TLS library among the causes of another error.
pub(crate) fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    cause(error)
}

/// Finds an error of a type among the causes of another one. An I/O error hides the error that it was made from.
pub(crate) fn cause<'e, E: Error + 'static>(error: &'e (dyn Error + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// What went wrong, and what to do.
#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
pub(crate) fn tls_words(error: &rustls::Error, peer: &TlsPeer<'_>) -> String {
    let TlsPeer { what, plain, .. } = peer;
    match error {
        rustls::Error::InvalidCertificate(fault) => certificate_words(fault, peer),
        rustls::Error::NoCertificatesPresented => format!("{what} presents no certificate"),
        rustls::Error::InconsistentKeys(_) => "cert_file and key_file must belong together".to_owned(),
        rustls::Error::AlertReceived(alert) => alert_words(*alert, peer),
        rustls::Error::InvalidMessage(_) => format!("{what} does not speak TLS on this port; {plain}"),
        rustls::Error::PeerIncompatible(why) => {
            format!(
                "{what} and checkind have no version of TLS or cipher in common ({why:?}); allow TLS 1.2 or 1.3 there"
            )
        }
        other => format!("TLS with {what} failed: {other}"),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
fn certificate_words(fault: &CertificateError, peer: &TlsPeer<'_>) -> String {
    let TlsPeer { what, host, .. } = peer;
    match fault {
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the certificate of {what} expired on {}, and this machine's clock says {}; renew it on the server",
            day(*not_after),
            day(*time)
        ),
        CertificateError::Expired => format!("the certificate of {what} has expired; renew it on the server"),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the certificate of {what} is valid from {} on, and this machine's clock says {}; set the clock",
            day(*not_before),
            day(*time)
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = names(presented);
            if names.is_empty() {
                format!(
                    "the certificate of {what} contains no subjectAltName, and the name in its CN does not count; \
                     make one for {host}{}",
                    making(host)
                )
            } else {
                format!(
                    "the certificate of {what} is for {}, and url says {host}; write a name of the certificate in url, \
                     or make a certificate for {host}",
                    names.join(", ")
                )
            }
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => unknown_issuer(peer),
        CertificateError::InvalidPurposeContext { .. } | CertificateError::InvalidPurpose => {
            format!("the certificate of {what} is not for servers: its extendedKeyUsage lacks serverAuth")
        }
        CertificateError::BadEncoding => format!("the certificate of {what} is damaged"),
        // An authority that stands for itself: what `openssl req -x509` makes.
        other if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            if peer.pins {
                let file = peer.ca_file.map_or("a file, and set ca_file to it".to_owned(), |file| {
                    format!("{}, which holds another one", file.display())
                });
                return format!("{what} presents a certificate that it signed itself; copy exactly that one to {file}");
            }
            format!(
                "{what} presents a certificate that it signed itself and that is an authority, which is not accepted \
                 even in ca_file; make one that is no authority{}, and set ca_file to it",
                making(host)
            )
        }
        other if format!("{other:?}").contains("UnsupportedCertVersion") => {
            format!("the certificate of {what} is of X.509 version 1; make one of version 3{}", making(host))
        }
        other => format!("the certificate of {what} is not accepted: {other:?}"),
    }
}

fn unknown_issuer(peer: &TlsPeer<'_>) -> String {
    let TlsPeer { what, pins, .. } = peer;
    let own = if *pins { ", or exactly its own if no authority signed it" } else { "" };
    match peer.ca_file {
        Some(file) => format!(
            "the certificate of {what} is not signed by an authority in {}; put the certificate of its authority \
             there{own}",
            file.display()
        ),
        None => format!(
            "the certificate of {what} is not signed by an authority that this system trusts; set ca_file to a file \
             with the certificate of its authority{own}"
        ),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of a foreign enum that may grow, all others are treated alike")]
fn alert_words(alert: AlertDescription, peer: &TlsPeer<'_>) -> String {
    let TlsPeer { what, host, .. } = peer;
    match (alert, peer.cert_file) {
        (AlertDescription::CertificateRequired | AlertDescription::NoCertificate, _) => {
            format!("{what} requires a client certificate; set cert_file and key_file")
        }
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError,
            Some(file),
        ) => {
            let why = match alert {
                AlertDescription::UnknownCA => "it does not know the authority that signed it",
                AlertDescription::CertificateExpired => "it has expired",
                AlertDescription::CertificateRevoked => "it is revoked",
                _ => "see its log",
            };
            format!("{what} refuses the client certificate in {} ({why}); set cert_file to another", file.display())
        }
        (AlertDescription::HandshakeFailure | AlertDescription::BadCertificate, None) => format!(
            "{what} refuses the TLS handshake; if it requires a client certificate, set cert_file and key_file, else \
             allow TLS 1.2 or 1.3 there"
        ),
        (AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity, _) => {
            format!("{what} and checkind have no version of TLS in common; allow TLS 1.2 or 1.3 there")
        }
        (AlertDescription::UnrecognisedName, _) => format!("{what} does not know the name {host}; correct url"),
        (other, _) => format!("{what} ended TLS with the alert {other:?}; see its log"),
    }
}

/// How to make a certificate for a host.
fn making(host: &str) -> String {
    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
    format!(" (openssl req -x509 with -addext basicConstraints=critical,CA:FALSE -addext subjectAltName={kind}:{host})")
}

/// The names in a certificate. The library shows them as `DnsName("broker.example")` and `IpAddress(…)`.
fn names(presented: &[String]) -> Vec<String> {
    let name = |shown: &String| match shown.split_once('(') {
        Some((_, rest)) => rest.trim_end_matches(')').trim_matches('"').to_owned(),
        None => shown.clone(),
    };
    presented.iter().map(name).collect()
}

/// A day in UTC.
fn day(time: UnixTime) -> String {
    let at = i64::try_from(time.as_secs()).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map_or("an unknown day".to_owned(), |at| at.format("%Y-%m-%d").to_string())
}
