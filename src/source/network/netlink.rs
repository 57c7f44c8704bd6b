//! Lists the interfaces that the kernel knows (`rtnetlink(7)`): names, state, and how many frames each has received.
//!
//! One request lists them all, without any capability. It covers the calling thread's network namespace; the files
//! under `/sys` may belong to another one.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::link::{self, DumpAnswer, Link};

/// The largest answer, in octets; the kernel fills at most half of it.
const ANSWER: usize = 64 << 10;

/// How long to wait for an answer. The kernel answers before the request returns; if it does not, the next check tries
/// again.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// How often the list is requested if interfaces appear or disappear while they are listed.
const TRIES: u32 = 3;

/// A socket for listing the interfaces repeatedly.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
    answer: Vec<u8>,
    /// The number of the last request.
    requests: u32,
}

impl Links {
    /// Opens the socket. It stays in the network namespace that the calling thread is in now.
    ///
    /// # Errors
    /// If the process cannot open another socket.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIME_LIMIT))?;
        Ok(Self { socket, answer: vec![0; ANSWER], requests: 0 })
    }

    /// Lists all interfaces.
    ///
    /// # Errors
    /// If the kernel does not list them.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        for _ in 0..TRIES {
            if let Some(links) = self.request()? {
                return Ok(links);
            }
        }
        Err(io::Error::other("the interfaces keep changing while they are listed"))
    }

    /// Requests the list once; `None` if it changed meanwhile.
    fn request(&mut self) -> io::Result<Option<Vec<Link>>> {
        self.requests = self.requests.wrapping_add(1);
        send(&self.socket, &link::request(self.requests), SendFlags::empty())?;
        let (mut links, mut complete) = (Vec::new(), true);
        loop {
            let (read, length) = retry_on_intr(|| recv(&self.socket, &mut self.answer[..], RecvFlags::TRUNC))?;
            if length > read {
                return Err(io::Error::other("an answer is too long"));
            }
            let answer = self.answer.get(..read).unwrap_or_default();
            let DumpAnswer { more, error, interrupted, last } = link::read(answer, self.requests);
            links.extend(more);
            complete &= !interrupted;
            if let Some(error) = error {
                return Err(io::Error::from_raw_os_error(error));
            }
            if last {
                return Ok(complete.then_some(links));
            }
        }
    }
}
