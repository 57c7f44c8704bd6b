//! How a connection to PostgreSQL is protected, and what to do when that fails.
//!
//! sqlx does TLS itself, with rustls. It trusts the authorities of the system, and those in `ca_file` as well. It has
//! no place for a verifier of ours, so a self-signed certificate that is an authority cannot be pinned as at the
//! broker; the error says how to make one that works.
//!
//! **No password goes to a server that refuses TLS.** Where TLS is asked for, sqlx gives up before it sends the name of
//! the user. Only on this machine is TLS a matter of what the server offers; then sqlx sends the password in clear text to
//! a server that asks for it so (`threats.md` says who could).

use std::{fs::File, io};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::{
    base::{
        machine::is_this_machine,
        tls_words::{TlsPeer, tls_error, tls_words},
    },
    settings::{DatabaseTls, Tls, TlsMode},
};

/// The options with TLS as the settings ask for it. Variables such as PGSSLMODE change nothing of it.
pub(super) fn protected(options: PgConnectOptions, tls: &DatabaseTls) -> PgConnectOptions {
    // sqlx leaves the brackets of an IPv6 address in the URL, with which it can neither connect nor check a name.
    let host = options.get_host().trim_matches(['[', ']']).to_owned();
    let is_socket = options.get_socket().is_some() || host.starts_with('/');
    let mode = match tls.mode {
        // A Unix socket crosses no network, and PostgreSQL does no TLS on it.
        _ if is_socket => PgSslMode::Disable,
        TlsMode::Off => PgSslMode::Disable,
        TlsMode::Unverified => PgSslMode::Require,
        TlsMode::IfOffered if is_this_machine(&host) => PgSslMode::Prefer,
        // A URL without a host can get another machine from the variable PGHOST.
        TlsMode::IfOffered | TlsMode::VerifyFull => PgSslMode::VerifyFull,
    };
    let Tls { ca_file, client } = &tls.files;
    let options = options.host(&host).ssl_mode(mode);
    let options = match ca_file {
        Some(file) => options.ssl_root_cert(file),
        None => options.ssl_root_cert_from_pem(Vec::new()),
    };
    match client {
        Some((certificate, key)) => options.ssl_client_cert(certificate).ssl_client_key(key),
        None => options,
    }
}

/// The error, with words for what to change if TLS is the reason.
pub(super) fn explained(error: sqlx::Error, host: &str, tls: &DatabaseTls) -> sqlx::Error {
    let Tls { ca_file, client } = &tls.files;
    let cert_file = client.as_ref().map(|(file, _)| file.as_path());
    let peer = TlsPeer {
        what: "the database server",
        host,
        ca_file: ca_file.as_deref(),
        cert_file,
        pins: false,
        plain: "correct the host and port in database.url",
    };
    let words = match (&error, tls_error(&error)) {
        (_, Some(fault)) => Some(tls_words(fault, &peer)),
        (sqlx::Error::Tls(fault), None) if fault.to_string().contains("does not support TLS") => Some(format!(
            "the database server at {host} does not offer TLS, so no password was sent to it; set ssl = on and a \
             certificate in its postgresql.conf, or, if something else protects the connection, write tls = \"off\" \
             and say in protected_by what does"
        )),
        // sqlx does not say which file it could not read.
        (sqlx::Error::Io(fault), None)
            if matches!(fault.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
        {
            let files = ca_file.iter().chain(client.iter().flat_map(|(certificate, key)| [certificate, key]));
            files
                .filter_map(|file| Some((file, File::open(file).err()?)))
                .map(|(file, fault)| format!("cannot read {}: {fault}", file.display()))
                .next()
        }
        _ => None,
    };
    words.map_or(error, |words| sqlx::Error::Tls(words.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever sqlx made of the URL and of its variables, only a server on this machine may do without TLS.
    #[test]
    fn what_a_connection_must_offer_depends_on_where_it_goes_and_not_on_variables() {
        let mode = |host: &str, mode| {
            let options = PgConnectOptions::new_without_pgpass().host(host).ssl_mode(PgSslMode::Disable);
            let options = protected(options, &DatabaseTls { mode, ..DatabaseTls::default() });
            format!("{} {:?}", options.get_host(), options.get_ssl_mode())
        };
        assert_eq!(mode("localhost", TlsMode::IfOffered), "localhost Prefer");
        assert_eq!(mode("[::1]", TlsMode::IfOffered), "::1 Prefer");
        assert_eq!(mode("db.example", TlsMode::IfOffered), "db.example VerifyFull");
        assert_eq!(mode("db.example", TlsMode::VerifyFull), "db.example VerifyFull");
        assert_eq!(mode("db.example", TlsMode::Unverified), "db.example Require");
        assert_eq!(mode("db.example", TlsMode::Off), "db.example Disable");
        assert_eq!(mode("/run/postgresql", TlsMode::VerifyFull), "/run/postgresql Disable");
    }
}
