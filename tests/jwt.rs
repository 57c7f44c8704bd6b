//! Tokens of an identity provider, which the tests are.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::support::{
    broker::free_port,
    certificates::Certificates,
    daemon::{BINARY, Daemon, Home, now, site},
    http::Answer,
    wait_for,
};

/// What the provider answers: its keys, or nothing useful.
#[derive(Clone)]
struct Provider {
    address: SocketAddr,
    keys: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let provider = Self { address, keys: Arc::default(), asked: Arc::default() };
        provider.publish(Some(json!({ "keys": keys })));
        let served = provider.clone();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                served.asked.fetch_add(1, Ordering::Relaxed);
                let mut request = [0; 1024];
                let _read = stream.read(&mut request);
                let (status, body) = match &*served.keys.lock().expect("not poisoned") {
                    Some(keys) => ("200 OK", keys.to_string()),
                    None => ("500 Internal Server Error", String::new()),
                };
                let length = body.len();
                let _written = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
            }
        });
        provider
    }

    fn publish(&self, keys: Option<Value>) {
        *self.keys.lock().expect("not poisoned") = keys;
    }
}

/// A key of the provider.
struct SigningKey {
    id: &'static str,
    pair: EcdsaKeyPair,
}

impl SigningKey {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        Self { id, pair: EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key") }
    }

    fn public(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
        json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": x, "y": y})
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "ES256", "kid": self.id}), claims)
    }

    fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", encoded(signature.as_ref()))
    }
}

fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    [header, claims].map(|part| encoded(part.to_string().as_bytes())).join(".")
}

/// Good claims, with some replaced; null removes one.
fn claims(other: Value) -> Value {
    let seconds = now().millis() / 1000;
    let mut claims = json!({
        "iss": "https://login.example", "aud": ["other", "checkind"], "exp": seconds + 600, "nbf": seconds,
        "sub": "ada@example.com", "roles": ["desk", "unknown"], "sites": [1, "2"],
    });
    let Value::Object(other) = other else { panic!("{other}") };
    for (name, value) in other {
        if value.is_null() {
            claims.as_object_mut().expect("an object").remove(&name);
        } else {
            claims[&name] = value;
        }
    }
    claims
}

fn gateway(keys: &str) -> (Home, Daemon) {
    gateway_with(keys, &[])
}

/// The same, with environment variables.
fn gateway_with(keys: &str, environment: &[(&str, &str)]) -> (Home, Daemon) {
    let provider = format!(
        "[jwt]\nissuer = \"https://login.example\"\naudience = \"checkind\"\n{keys}\nbusinesses_claim = \"sites\"\n\
         roles = [\"desk = Checkin-List\", \"desk = Coworker-List\", \"managers = admin\"]\n{}",
        site("")
    );
    let home = Home::new(&provider);
    home.tell(&["migrate"], "");
    let daemon = home.start_by(&[BINARY], environment);
    (home, daemon)
}

fn me(daemon: &Daemon, token: &str) -> Answer {
    daemon.send("GET", "/api/auth/me", &[("Authorization", &format!("Bearer {token}"))], "")
}

#[test]
fn a_token_of_the_provider_allows_what_its_roles_are_mapped_to() {
    let key = SigningKey::new("one");
    let provider = Provider::start(&[key.public()]);
    let (_home, daemon) = gateway(&format!("jwks_url = \"http://{}/keys\"", provider.address));
    let answer = me(&daemon, &key.sign(&claims(json!({}))));
    let body = answer.json();
    assert_eq!((answer.status, &body["Email"], &body["IsAdmin"]), (200, &json!("ada@example.com"), &json!(false)));
    assert_eq!((&body["Roles"], &body["Businesses"]), (&json!(["Checkin-List", "Coworker-List"]), &json!([1, 2])));
    let manager = me(&daemon, &key.sign(&claims(json!({"roles": "managers desk"})))).json();
    assert_eq!(manager["IsAdmin"], json!(true));
    let nothing = me(&daemon, &key.sign(&claims(json!({"roles": null, "sites": null})))).json();
    assert_eq!((&nothing["Roles"], &nothing["Businesses"]), (&json!([]), &json!([])));
    let token = key.sign(&claims(json!({})));
    let get = |path: &str| daemon.send("GET", path, &[("Authorization", &format!("Bearer {token}"))], "").status;
    assert_eq!((get("/api/spaces/checkins"), get("/api/spaces/failedcheckins")), (200, 403));
    assert!(!daemon.log().contains(&token[..40]), "no token is logged");
}

#[test]
fn a_token_that_is_not_the_providers_or_not_for_now_is_refused() {
    let (key, stranger) = (SigningKey::new("one"), SigningKey::new("one"));
    let provider = Provider::start(&[key.public(), json!({"kty": "oct", "kid": "secret", "k": "c2VjcmV0"})]);
    let (_home, daemon) = gateway(&format!("jwks_url = \"http://{}/keys\"", provider.address));
    let seconds = now().millis() / 1000;
    let good = claims(json!({}));
    let mut tokens = vec![
        stranger.sign(&good),
        format!("{}.", unsigned(&json!({"alg": "none", "kid": "one"}), &good)),
        format!("{}.{}", unsigned(&json!({"alg": "HS256", "kid": "secret"}), &good), encoded(b"x")),
        key.sign_as(&json!({"alg": "HS256", "kid": "one"}), &good),
        key.sign_as(&json!({"alg": "ES384", "kid": "one"}), &good),
        key.sign_as(&json!({"alg": "ES256", "kid": "other"}), &good),
        key.sign(&claims(json!({"long": "x".repeat(9000)}))),
        format!("{}A", key.sign(&good)),
        "eyJ.e30.".to_owned(),
    ];
    for wrong in [
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"aud": "another"}),
        json!({"aud": null}),
        json!({"exp": seconds - 120}),
        json!({"exp": null}),
        json!({"exp": "never"}),
        json!({"nbf": seconds + 120}),
        json!({"nbf": "now"}),
        json!({"sub": null}),
        json!({"sub": "a\nb"}),
    ] {
        tokens.push(key.sign(&claims(wrong)));
    }
    for token in &tokens {
        let answer = me(&daemon, token);
        assert_eq!(answer.status, 401, "{token}: {answer:?}");
    }
    assert_eq!(me(&daemon, &key.sign(&good)).status, 200);
    daemon.wait_for_line("a token of the identity provider was refused reason=\"it has ended\"");
    let without = Home::new(&site(""));
    without.tell(&["migrate"], "");
    assert_eq!(me(&without.start(), &key.sign(&good)).status, 401, "no provider is configured");
}

#[test]
fn a_provider_that_is_gone_is_a_condition_and_is_asked_once_a_minute() {
    let (first, second) = (SigningKey::new("first"), SigningKey::new("second"));
    let provider = Provider::start(&[]);
    provider.publish(None);
    let (_home, daemon) = gateway(&format!("jwks_url = \"http://{}/keys\"", provider.address));
    // Not there at the start: its tokens are refused, and the condition says why.
    let detail = daemon.wait_for_condition("provider_keys_unavailable");
    assert!(detail.contains("the answer is 500") && detail.contains("refused until then"), "{detail}");
    assert_eq!(me(&daemon, &first.sign(&claims(json!({})))).status, 401);
    let asked = provider.asked.load(Ordering::Relaxed);
    provider.publish(Some(json!({"keys": [first.public()]})));
    for _ in 0..20 {
        assert_eq!(me(&daemon, &second.sign(&claims(json!({})))).status, 401);
    }
    assert_eq!((asked, provider.asked.load(Ordering::Relaxed)), (1, 1), "at most once a minute");
}

#[test]
fn keys_come_from_a_file_too_and_rsa_is_known() {
    let certificates = Certificates::new();
    certificates.self_signed("rsa", "/CN=provider", &[]);
    let key = certificates.key("rsa");
    let openssl = |arguments: &[&str], input: &[u8]| -> Vec<u8> {
        let mut command = Command::new("openssl");
        let command = command.args(arguments).arg(&key).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("openssl starts");
        child.stdin.take().expect("its input").write_all(input).expect("written");
        child.wait_with_output().expect("its output").stdout
    };
    let modulus = String::from_utf8(openssl(&["rsa", "-noout", "-modulus", "-in"], b"")).expect("text");
    let digits = modulus.trim().trim_start_matches("Modulus=").as_bytes();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hexadecimal"))
        .collect();
    let keys = json!({"keys": [{"kty": "RSA", "n": encoded(&bytes), "e": "AQAB"}]});
    let place = tempfile::tempdir().expect("a folder");
    fs::write(place.path().join("jwks.json"), keys.to_string()).expect("written");
    let (_home, daemon) = gateway(&format!("jwks_file = \"{}\"", place.path().join("jwks.json").display()));
    let signed = unsigned(&json!({"alg": "RS256"}), &claims(json!({})));
    let signature = openssl(&["dgst", "-sha256", "-sign"], signed.as_bytes());
    assert_eq!(me(&daemon, &format!("{signed}.{}", encoded(&signature))).status, 200);
    let other = unsigned(&json!({"alg": "RS256"}), &claims(json!({"roles": "managers"})));
    assert_eq!(me(&daemon, &format!("{other}.{}", encoded(&signature))).status, 401);
    assert_eq!(me(&daemon, &format!("{signed}.{}", encoded(&signature[1..]))).status, 401);
}

/// `openssl s_server -WWW`: serves the files of a folder over TLS. Stopped when dropped.
struct EncryptedProvider(Child);

impl EncryptedProvider {
    fn start(folder: &Path, certificates: &Certificates, port: u16) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-quiet", "-WWW", "-accept", &format!("127.0.0.1:{port}"), "-cert"]);
        command.arg(certificates.file("provider")).arg("-key").arg(certificates.key("provider"));
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(command.spawn().expect("openssl starts"));
        wait_for("the provider", Duration::from_secs(20), || {
            TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| error.to_string())
        });
        server
    }
}

impl Drop for EncryptedProvider {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

#[test]
fn the_provider_must_show_a_certificate_of_an_authority_of_the_system() {
    let certificates = Certificates::new();
    certificates.self_signed("ca", "/CN=ours", &[]);
    certificates.signed("ca", "provider", Some("DNS:localhost"));
    let (folder, key, port) = (tempfile::tempdir().expect("a folder"), SigningKey::new("one"), free_port());
    fs::write(folder.path().join("jwks.json"), json!({"keys": [key.public()]}).to_string()).expect("written");
    let _server = EncryptedProvider::start(folder.path(), &certificates, port);
    let place = format!("jwks_url = \"https://localhost:{port}/jwks.json\"");
    let token = key.sign(&claims(json!({})));

    let ca = certificates.file("ca").display().to_string();
    let (_home, daemon) = gateway_with(&place, &[("SSL_CERT_FILE", &ca)]);
    assert_eq!(me(&daemon, &token).status, 200, "{}", daemon.log());

    certificates.self_signed("other", "/CN=another", &[]);
    let other = certificates.file("other").display().to_string();
    let (_home, daemon) = gateway_with(&place, &[("SSL_CERT_FILE", &other)]);
    let detail = daemon.wait_for_condition("provider_keys_unavailable");
    assert!(detail.contains("certificate"), "{detail}");
    assert_eq!(me(&daemon, &token).status, 401);
}
