//! Asks the kernel which interfaces there are (`rtnetlink(7)`): names, state, and how many frames each has received.
//!
//! Of the calling thread's network namespace, which files under `/sys` need not be; without any right; one request for all
//! of it.

use std::{io, os::fd::OwnedFd, time::Duration};

use rustix::{
    io::retry_on_intr,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};

use super::link::{self, DumpAnswer, Link};

/// What one answer may have, in octets: the kernel fills at most half of it.
const ANSWER: usize = 64 << 10;

/// The kernel answers before the request returns; if not, the next look asks again.
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Interfaces come and go while they are listed: then the list is asked for again, so often.
const TRIES: u32 = 3;

/// A question that can be asked again and again.
#[derive(Debug)]
pub struct Links {
    socket: OwnedFd,
    answer: Vec<u8>,
    asked: u32,
}

impl Links {
    /// In the network namespace that the calling thread is in, for good.
    ///
    /// # Errors
    /// When the process may have no more sockets.
    pub fn open() -> io::Result<Self> {
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        // NETLINK_ROUTE is protocol 0.
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(TIME_LIMIT))?;
        Ok(Self { socket, answer: vec![0; ANSWER], asked: 0 })
    }

    /// All interfaces.
    ///
    /// # Errors
    /// When the kernel does not list them.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        for _ in 0..TRIES {
            if let Some(links) = self.ask()? {
                return Ok(links);
            }
        }
        Err(io::Error::other("they change while they are listed"))
    }

    /// None when the list changed meanwhile.
    fn ask(&mut self) -> io::Result<Option<Vec<Link>>> {
        self.asked = self.asked.wrapping_add(1);
        send(&self.socket, &link::request(self.asked), SendFlags::empty())?;
        let (mut links, mut whole) = (Vec::new(), true);
        loop {
            let (read, length) = retry_on_intr(|| recv(&self.socket, &mut self.answer[..], RecvFlags::TRUNC))?;
            if length > read {
                return Err(io::Error::other("an answer is too long"));
            }
            let answer = self.answer.get(..read).unwrap_or_default();
            let DumpAnswer { more, error, interrupted, last } = link::read(answer, self.asked);
            links.extend(more);
            whole &= !interrupted;
            if let Some(error) = error {
                return Err(io::Error::from_raw_os_error(error));
            }
            if last {
                return Ok(whole.then_some(links));
            }
        }
    }
}
