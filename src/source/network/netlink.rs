//! Asks the kernel which interfaces there are (`rtnetlink(7)`): names, state, and how many frames each has received.
//!
//! One request lists them all, without any capability. It is about the calling thread's network namespace, which the files
//! under `/sys` need not be.

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

/// The kernel answers before the request returns; if it does not, the next check asks again.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// How often the list is requested when interfaces come and go while they are listed.
const TRIES: u32 = 3;

/// A socket over which the interfaces can be listed again and again.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
    answer: Vec<u8>,
    /// The number of the last request.
    requests: u32,
}

impl Links {
    /// Stays in the network namespace that the calling thread is in now.
    ///
    /// # Errors
    /// When the process may open no more sockets.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIME_LIMIT))?;
        Ok(Self { socket, answer: vec![0; ANSWER], requests: 0 })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        for _ in 0..TRIES {
            if let Some(links) = self.request()? {
                return Ok(links);
            }
        }
        Err(io::Error::other("the interfaces keep changing while they are listed"))
    }

    /// None when the list changed meanwhile.
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
