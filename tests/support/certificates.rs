//! Certificates as operators make them, with the `openssl` program.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use super::faketime::WallClock;

/// A folder with certificates `NAME.crt` and keys `NAME.key`.
#[derive(Debug)]
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The certificate with this name.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.crt"))
    }

    /// Its key.
    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.0.path().join(format!("{name}.key"))
    }

    /// Makes a certificate that signs itself, as every how-to tells, with more options.
    pub(crate) fn self_signed(&self, name: &str, subject: &str, more: &[&str]) {
        self.self_signed_at(None, name, subject, &[&["-days", "365"], more].concat());
    }

    /// The same, but expired yesterday.
    pub(crate) fn self_signed_and_expired(&self, name: &str, subject: &str) {
        self.self_signed_at(Some(&two_days_ago()), name, subject, &["-days", "1"]);
    }

    fn self_signed_at(&self, clock: Option<&WallClock>, name: &str, subject: &str, more: &[&str]) {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
        let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate];
        self.run(clock, &[&request[..], &["-subj", subject], more].concat());
    }

    /// Makes a certificate signed by another one, with this subjectAltName, or none.
    pub(crate) fn signed(&self, authority: &str, name: &str, names: Option<&str>) {
        self.signed_at(None, authority, name, names, "30");
    }

    /// The same, but expired yesterday.
    pub(crate) fn signed_and_expired(&self, authority: &str, name: &str, names: Option<&str>) {
        self.signed_at(Some(&two_days_ago()), authority, name, names, "1");
    }

    fn signed_at(&self, clock: Option<&WallClock>, authority: &str, name: &str, names: Option<&str>, days: &str) {
        let extensions =
            names.map_or("basicConstraints=CA:FALSE".to_owned(), |names| format!("subjectAltName={names}"));
        std::fs::write(self.0.path().join("extensions"), extensions).expect("the file is written");
        let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
        let (ca, ca_key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let asks =
            ["req", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &request, "-subj", "/CN=localhost"];
        self.run(None, &asks);
        let signs = ["x509", "-req", "-in", &request, "-out", &certificate, "-CA", &ca, "-CAkey", &ca_key];
        self.run(clock, &[&signs[..], &["-CAcreateserial", "-extfile", "extensions", "-days", days]].concat());
    }

    fn run(&self, clock: Option<&WallClock>, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.0.path());
        command.envs(clock.iter().flat_map(|clock| clock.environment()));
        let output = command.output().unwrap_or_else(|fault| panic!("{command:?} does not start: {fault}; install it"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn two_days_ago() -> WallClock {
    WallClock::off_by(-2 * 24 * 3600)
}
