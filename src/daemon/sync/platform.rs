//! Asks the platform's API: one connection, one question at a time, within bounds.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use hyper::{
    Method, Request, StatusCode,
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::records::wait_asked;
use crate::{
    settings::{SyncLogin, SyncSettings},
    source::mqtt::session::tls::client_config,
};

/// How long a connection may take, with its handshake.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take. A list of a thousand records takes a server some seconds.
const ANSWER: Duration = Duration::from_secs(30);

/// The largest answer, in bytes: a thousand records of 30 KiB. A larger one is refused, and the round fails.
const LARGEST_ANSWER: usize = 32 * 1024 * 1024;

/// How much of an unexpected answer is repeated, in characters.
const REPEATED: usize = 200;

/// Why there is no answer of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// No connection, or it broke.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// The token or the password is refused.
    #[error("it refuses the login of [sync] ({0}); check token_file, or username and password_file")]
    SignedOut(StatusCode),
    /// It is asked too often.
    #[error("it asks to wait {} seconds", .0.as_secs())]
    Throttled(Duration),
    /// Another status than 200.
    #[error("it answers {path} with {status}: {said}")]
    Refused {
        /// The path.
        path: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        said: String,
    },
    /// The answer is too large, or not what it should be.
    #[error("its answer to {path} cannot be used: {fault}")]
    Unusable {
        /// The path.
        path: String,
        /// What is wrong.
        fault: String,
    },
}

/// The platform, as this gateway reaches it.
#[derive(Debug)]
pub(super) struct Platform {
    settings: SyncSettings,
    connection: Option<PlatformConnection>,
    /// What a password was exchanged for.
    token: Option<SecretString>,
}

/// An open connection; its task ends with it.
#[derive(Debug)]
struct PlatformConnection {
    sender: SendRequest<Body>,
    _task: JoinSet<()>,
}

/// An answer, whatever its status.
struct PlatformAnswer {
    status: StatusCode,
    retry_after: Option<String>,
    body: Vec<u8>,
}

#[derive(Deserialize)]
struct GrantedToken {
    access_token: String,
}

impl Platform {
    pub(super) const fn new(settings: SyncSettings) -> Self {
        Self { settings, connection: None, token: None }
    }

    /// The host and the port, for messages.
    pub(super) fn address(&self) -> String {
        let SyncSettings { host, port, .. } = &self.settings;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// The JSON at a path; `None` if there is nothing (404).
    pub(super) async fn get<T: for<'de> Deserialize<'de>>(&mut self, path: &str) -> Result<Option<T>, AskError> {
        let mut answer = self.signed_in(path).await?;
        if answer.status == StatusCode::UNAUTHORIZED && self.token.take().is_some() {
            // The token may have expired, or been revoked.
            answer = self.signed_in(path).await?;
        }
        match answer.status {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Ok(None),
            _ => return Err(Self::refusal(path, &answer)),
        }
        let read = serde_json::from_slice(&answer.body);
        read.map(Some).map_err(|fault| AskError::Unusable { path: path.to_owned(), fault: fault.to_string() })
    }

    async fn signed_in(&mut self, path: &str) -> Result<PlatformAnswer, AskError> {
        let token = match (&self.settings.login, &self.token) {
            (SyncLogin::Token(token), _) | (SyncLogin::Password(..), Some(token)) => token.clone(),
            (SyncLogin::Password(name, password), None) => {
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "password")
                    .append_pair("username", name)
                    .append_pair("password", password.expose_secret())
                    .finish();
                self.sign_in(form).await?
            }
        };
        let bearer = format!("Bearer {}", token.expose_secret());
        self.ask(Method::GET, path, Some(&bearer), Body::empty()).await
    }

    async fn sign_in(&mut self, form: String) -> Result<SecretString, AskError> {
        let path = "/api/token";
        let answer = self.ask(Method::POST, path, None, Body::from(form)).await?;
        match answer.status {
            StatusCode::OK => {}
            // RFC 6749 5.2: a wrong password is an invalid grant.
            StatusCode::BAD_REQUEST => return Err(AskError::SignedOut(answer.status)),
            _ => return Err(Self::refusal(path, &answer)),
        }
        let granted: GrantedToken = serde_json::from_slice(&answer.body)
            .map_err(|_| AskError::Unusable { path: path.to_owned(), fault: "it has no access_token".to_owned() })?;
        let token = SecretString::from(granted.access_token);
        self.token = Some(token.clone());
        Ok(token)
    }

    fn refusal(path: &str, answer: &PlatformAnswer) -> AskError {
        let body = String::from_utf8_lossy(&answer.body);
        match answer.status {
            StatusCode::TOO_MANY_REQUESTS => AskError::Throttled(wait_asked(answer.retry_after.as_deref(), &body)),
            StatusCode::UNAUTHORIZED => AskError::SignedOut(answer.status),
            status => {
                let said = body.chars().filter(|c| !c.is_control()).take(REPEATED).collect();
                AskError::Refused { path: path.to_owned(), status, said }
            }
        }
    }

    /// Sends one request and reads the whole answer. A connection that the server has closed since the last request is
    /// opened again.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        authorization: Option<&str>,
        body: Body,
    ) -> Result<PlatformAnswer, AskError> {
        // The connection is put back only after a whole answer.
        let open = match self.connection.take() {
            Some(mut open) => open.sender.ready().await.is_ok().then_some(open),
            None => None,
        };
        let mut connection = match open {
            Some(open) => open,
            None => timeout(CONNECT, self.connect())
                .await
                .unwrap_or_else(|_| Err(AskError::Unreachable("it does not answer".to_owned())))?,
        };
        let mut request = Request::builder()
            .method(method.clone())
            .uri(path)
            .header(header::HOST, self.address())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("checkind/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if method == Method::POST {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let unusable = |fault: String| AskError::Unusable { path: path.to_owned(), fault };
        let request = request.body(body).map_err(|fault| unusable(fault.to_string()))?;
        let answered = timeout(ANSWER, async {
            let response = connection.sender.send_request(request).await;
            let (parts, body) = response.map_err(|error| AskError::Unreachable(error.to_string()))?.into_parts();
            let body = to_bytes(Body::new(body), LARGEST_ANSWER).await.map_err(|error| unusable(error.to_string()))?;
            let retry_after = parts.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
            Ok(PlatformAnswer { status: parts.status, retry_after: retry_after.map(str::to_owned), body: body.into() })
        });
        let answer = answered.await.map_err(|_| AskError::Unreachable("it does not answer in time".to_owned()))??;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&self) -> Result<PlatformConnection, AskError> {
        let unreachable = |error: &dyn std::fmt::Display| AskError::Unreachable(error.to_string());
        let SyncSettings { host, port, tls, .. } = &self.settings;
        let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| unreachable(&error))?;
        let Some(tls) = tls else { return handshake(stream).await };
        let config = client_config(tls).await.map_err(|error| unreachable(&error))?;
        let name = ServerName::try_from(host.clone()).map_err(|error| unreachable(&error))?;
        let stream = TlsConnector::from(Arc::clone(&config)).connect(name, stream).await;
        handshake(stream.map_err(|error| unreachable(&error))?).await
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<PlatformConnection, AskError> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| AskError::Unreachable(error.to_string()))?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        // The one who waits for an answer learns of the error as well.
        drop(connection.await);
    });
    Ok(PlatformConnection { sender, _task: task })
}
