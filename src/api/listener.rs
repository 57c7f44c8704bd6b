//! Where the API listens: a TCP address, with TLS or without, or a Unix socket.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, send, socket_with,
    sockopt::set_socket_send_buffer_size,
};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{
    reply::Problem,
    server_tls::{CertificateError, CertificateReload, ServerCertificate},
};
use crate::{
    base::health::Health,
    settings::{Api, ListenAddress},
};

/// The send buffer of a TCP connection, in bytes; the kernel doubles it. A client that does not read holds no more than
/// this of the kernel's memory, which would otherwise grow to megabytes. A Unix socket's does not grow.
const SEND_BUFFER: usize = 64 * 1024;

/// How many connections the kernel keeps until they are accepted, as many as the runtime's own listeners; more are refused.
const BACKLOG: i32 = 1024;

/// Who may connect to the Unix socket: the daemon's user and group.
const SOCKET_MODE: u32 = 0o660;

/// The API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken or not this machine's.
    #[error("the API cannot listen on {address}; change api.listen or free the port")]
    Tcp {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The socket cannot be made.
    #[error("the API cannot listen on the Unix socket {}; change api.listen, or make its folder writable", .path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another file has the name of the socket, or another process listens on it.
    #[error("the API cannot listen on the Unix socket {}: {what}; change api.listen", .path.display())]
    Taken {
        /// The socket.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The certificate cannot be used.
    #[error("the API cannot use TLS")]
    Certificate(#[from] CertificateError),
}

/// The listening socket of the API.
#[derive(Debug)]
pub struct ApiListener {
    pub(super) socket: ListeningSocket,
    pub(super) tls: Option<ServerCertificate>,
}

#[derive(Debug)]
pub(super) enum ListeningSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) enum AcceptedSocket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl From<TcpListener> for ApiListener {
    fn from(listener: TcpListener) -> Self {
        Self { socket: ListeningSocket::Tcp(listener), tls: None }
    }
}

impl ApiListener {
    /// Listens as the settings say.
    ///
    /// # Errors
    /// The address cannot be used, or the certificate.
    pub async fn open(settings: &Api, health: Health, reload: CertificateReload) -> Result<Self, ListenError> {
        let tls = settings.tls.clone().map(|files| ServerCertificate::load(files, health, reload)).transpose()?;
        let socket = match &settings.listen {
            ListenAddress::Tcp(address) => {
                let failed = |source| ListenError::Tcp { address: *address, source };
                ListeningSocket::Tcp(TcpListener::bind(address).await.map_err(failed)?)
            }
            ListenAddress::Unix(path) => open_unix(path)?,
        };
        Ok(Self { socket, tls })
    }

    /// The TCP address.
    pub fn tcp_address(&self) -> io::Result<Option<std::net::SocketAddr>> {
        match &self.socket {
            ListeningSocket::Tcp(listener) => listener.local_addr().map(Some),
            ListeningSocket::Unix(..) => Ok(None),
        }
    }
}

impl ListeningSocket {
    /// The address, for the log.
    pub(super) fn name(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => Ok(listener.local_addr()?.to_string()),
            Self::Unix(_, file) => Ok(ListenAddress::Unix(file.path.clone()).to_string()),
        }
    }

    /// Sets what its connections inherit.
    pub(super) fn prepare(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => Ok(set_socket_send_buffer_size(listener, SEND_BUFFER)?),
            Self::Unix(..) => Ok(()),
        }
    }

    /// The next connection, and the address that it counts for. A client of the Unix socket is a program on this machine,
    /// like one that comes from loopback.
    pub(super) async fn accept(&self) -> io::Result<(AcceptedSocket, IpAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "could not switch off Nagle's algorithm for an API connection");
                }
                Ok((AcceptedSocket::Tcp(stream), peer.ip()))
            }
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((AcceptedSocket::Unix(stream), Ipv4Addr::LOCALHOST.into()))
            }
        }
    }
}

impl AcceptedSocket {
    /// Answers without having read a request, and without waiting.
    pub(super) fn turn_away(&self) {
        let answer = Problem::NoPlace.as_whole_response();
        if let Err(error) = send(self, answer.as_bytes(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            tracing::debug!(%error, "an API connection was refused without an answer");
        }
    }
}

impl AsFd for AcceptedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

/// The file of a Unix socket; removed when dropped, unless another one has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Its device and inode.
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if id_of(&self.path).is_ok_and(|id| id == self.id)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "could not remove the API's Unix socket");
        }
    }
}

fn id_of(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Listens on a Unix socket. One that a daemon left behind is removed first.
fn open_unix(path: &Path) -> Result<ListeningSocket, ListenError> {
    let failed = |source: io::Error| ListenError::Unix { path: path.to_owned(), source };
    let taken = |what| ListenError::Taken { path: path.to_owned(), what };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(taken("a file of this name exists")),
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(failed)?,
            Ok(_) => return Err(taken("another process listens on it")),
            Err(error) => return Err(failed(error)),
        },
    }
    let open = || -> io::Result<(UnixListener, SocketFile)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrUnix::new(path)?)?;
        let file = SocketFile { path: path.to_owned(), id: id_of(path)? };
        // Before it listens, no client can connect.
        fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
        listen(&socket, BACKLOG)?;
        Ok((UnixListener::from_std(socket.into())?, file))
    };
    open().map(|(listener, file)| ListeningSocket::Unix(listener, file)).map_err(failed)
}
