//! The kernel's packet ring: `AF_PACKET` with `TPACKET_V3` (`packet(7)`, Linux `packet_mmap.rst`).
//!
//! This is the only module of the product that may use `unsafe`. Capturing a mirror port at 1 Gb/s with safe calls
//! costs a third of a core and loses frames; with the ring it costs a thousandth and loses none, and no maintained
//! library opens the ring, filters before binding and survives a deleted interface. The unsafe part is small: four
//! system calls that the safe wrappers lack, and the view of a block that the kernel has passed to us. No offset inside
//! a block is trusted. Nothing here ever transmits.
#![expect(
    unsafe_code,
    reason = "the packet ring is memory shared with the kernel; the module doc argues why it is worth it"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "the C library's constants and sizes are wider than the fields they go into"
)]

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    mm::{MapFlags, ProtFlags, mmap, munmap},
    net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt::socket_error},
};

use super::{
    filter,
    frame::VlanId,
    frame_source::{FrameSource, FrameSourceError, Losses, Wake},
    link::LinkIndex,
};

/// The size of one block, in octets. Large enough that a storm of a million frames wakes us about a thousand times, not
/// a million.
const BLOCK: usize = 128 << 10;
/// The number of blocks: 1 MiB in all, two seconds of a busy mirror port after the filter. When all are full, the
/// kernel drops frames and counts them.
const BLOCKS: usize = 8;
/// The nominal size of a frame, in octets; the kernel only checks that a block is a multiple of it.
const FRAME: usize = filter::KEPT as usize;
/// The kernel passes a block that is not full to us after this many milliseconds: the longest time by which the ring
/// delays a check-in.
const BLOCK_TIMEOUT: u32 = 100;

/// An open ring; it receives nothing until it is bound.
#[derive(Debug)]
pub(super) struct Ring {
    /// Declared before the socket, to be dropped first.
    memory: MappedRing,
    socket: OwnedFd,
    bound: Option<LinkIndex>,
    /// The block that the kernel fills next.
    current: usize,
}

impl Ring {
    /// Opens the socket, attaches the filter first, and maps the ring. Needs `CAP_NET_RAW`; nothing after that does.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        attach_filter(&socket)?;
        set(&socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, &1i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32)?;
        set(&socket, libc::SOL_PACKET, libc::PACKET_VERSION, &libc::tpacket_versions::TPACKET_V3)?;
        let request = libc::tpacket_req3 {
            tp_block_size: BLOCK as u32,
            tp_block_nr: BLOCKS as u32,
            tp_frame_size: FRAME as u32,
            tp_frame_nr: (BLOCK / FRAME * BLOCKS) as u32,
            tp_retire_blk_tov: BLOCK_TIMEOUT,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(&socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let memory = MappedRing::map(&socket)?;
        Ok(Self { memory, socket, bound: None, current: 0 })
    }

    fn is_ready(&self) -> bool {
        self.memory.belongs_to_us(self.current)
    }
}

impl FrameSource for Ring {
    /// Binds, and binds again if the interface has reappeared under another number. The socket stays the same, so
    /// filter and ring do as well, and no capability is needed.
    fn bind(&mut self, index: LinkIndex) -> Result<(), FrameSourceError> {
        if self.bound == Some(index) {
            return Ok(());
        }
        self.bound = None;
        let number = i32::try_from(index.0).map_err(io::Error::other)?;
        bind(&self.socket, number, ALL)?;
        match hardware(&self.socket)? {
            libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => {}
            other => {
                bind(&self.socket, number, NONE)?;
                return Err(FrameSourceError::NotEthernet(other));
            }
        }
        let member = libc::packet_mreq {
            mr_ifindex: number,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        set(&self.socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &member)?;
        self.bound = Some(index);
        Ok(())
    }

    fn wait(&mut self, limit: Duration) -> Wake {
        if self.is_ready() {
            return Wake::Frames;
        }
        let limit = Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        };
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        match poll(&mut sockets, Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => return Wake::Nothing,
            Ok(_) => {}
            Err(fault) => return Wake::Fault(fault.into()),
        }
        // A pending error makes every poll return immediately until the error is read.
        if sockets[0].revents().contains(PollFlags::ERR)
            && let Ok(Err(fault)) | Err(fault) = socket_error(&self.socket)
        {
            return Wake::Fault(fault.into());
        }
        if !self.is_ready() {
            match (0..BLOCKS).find(|block| self.memory.belongs_to_us(*block)) {
                Some(block) => self.current = block,
                None => return Wake::Nothing,
            }
        }
        Wake::Frames
    }

    fn frames(&mut self, each: &mut dyn FnMut(&[u8], Option<VlanId>)) {
        if !self.is_ready() {
            return;
        }
        for (frame, tag) in Frames::of(self.memory.block(self.current)) {
            each(frame, tag);
        }
        self.memory.give_back(self.current);
        self.current = (self.current + 1) % BLOCKS;
    }

    /// The kernel sets its counters to zero when they are read.
    fn losses(&mut self) -> Losses {
        statistics(&self.socket)
            .map(|counted| Losses { drops: counted.tp_drops.into(), freezes: counted.tp_freeze_q_cnt.into() })
            .unwrap_or_default()
    }
}

/// The mapped ring.
#[derive(Debug)]
struct MappedRing(NonNull<u8>);

// SAFETY: the mapping belongs to this value alone, and is used through `&self` and `&mut self` of its owner; no
// thread keeps anything about it elsewhere.
unsafe impl Send for MappedRing {}

impl MappedRing {
    /// The offset of a block's status word, in octets.
    const STATUS: usize = 8;

    fn map(socket: &OwnedFd) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe {
            mmap(std::ptr::null_mut(), BLOCK * BLOCKS, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, socket, 0)
        }?;
        NonNull::new(start.cast()).map(Self).ok_or_else(|| io::Error::other("the ring was mapped at address zero"))
    }

    fn start_of(&self, block: usize) -> NonNull<u8> {
        assert!(block < BLOCKS, "there is no block {block}");
        // SAFETY: block < BLOCKS, so the result stays inside the mapping of BLOCK * BLOCKS octets.
        unsafe { self.0.add(block * BLOCK) }
    }

    fn status(&self, block: usize) -> &AtomicU32 {
        // SAFETY: the status word is inside the block, is aligned to four (a block is aligned to the page), lives as
        // long as the mapping, and both sides change it atomically.
        unsafe { self.start_of(block).add(Self::STATUS).cast::<AtomicU32>().as_ref() }
    }

    /// Whether the kernel has filled the block and passed it to us.
    fn belongs_to_us(&self, block: usize) -> bool {
        self.status(block).load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
    }

    /// The octets of a block if it belongs to us; empty if it does not.
    fn block(&self, block: usize) -> &[u8] {
        if !self.belongs_to_us(block) {
            return &[];
        }
        // SAFETY: the range is one block of the mapping and lives as long as `self`. While its status marks it as ours,
        // the kernel does not write to it, and only `give_back`, which takes `&mut self`, changes the status.
        unsafe { std::slice::from_raw_parts(self.start_of(block).as_ptr(), BLOCK) }
    }

    fn give_back(&mut self, block: usize) {
        self.status(block).store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

impl Drop for MappedRing {
    fn drop(&mut self) {
        // SAFETY: the mapping was made with this length and no view of it outlives `self`.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), BLOCK * BLOCKS) };
        debug_assert!(unmapped.is_ok(), "the ring is our mapping");
    }
}

/// The frames of one block, with the tag that the kernel stripped. Ends early at an invalid header.
struct Frames<'a> {
    block: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Frames<'a> {
    /// Reads `struct tpacket_block_desc`: the number of frames and the offset of the first.
    fn of(block: &'a [u8]) -> Self {
        let (left, at) = (word(block, 12).unwrap_or(0), word(block, 16).and_then(offset).unwrap_or(usize::MAX));
        Self { block, at, left }
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = (&'a [u8], Option<VlanId>);

    /// Reads `struct tpacket3_hdr`.
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let header = self.block.get(self.at..)?.get(..48)?;
        let (next, length, status) = (offset(word(header, 0)?)?, offset(word(header, 12)?)?, word(header, 20)?);
        let from = self.at + usize::from(half(header, 24)?);
        let frame = self.block.get(from..)?.get(..length)?;
        let tag = (status & libc::TP_STATUS_VLAN_VALID != 0)
            .then(|| word(header, 32).map(|tci| VlanId::from_tci((tci & 0xffff) as u16)))
            .flatten();
        self.at = if next == 0 { usize::MAX } else { self.at.checked_add(next)? };
        Some((frame, tag))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn offset(word: u32) -> Option<usize> {
    usize::try_from(word).ok()
}

fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    let mut program: Vec<libc::sock_filter> = filter::program()
        .into_iter()
        .map(|line| libc::sock_filter { code: line.code, jt: line.jump_true, jf: line.jump_false, k: line.operand })
        .collect();
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    // The kernel copies the program before the call returns.
    set(
        socket,
        libc::SOL_SOCKET,
        libc::SO_ATTACH_FILTER,
        &libc::sock_fprog { len: length, filter: program.as_mut_ptr() },
    )
}

/// Calls `setsockopt(2)` with a plain C value.
fn set<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel only reads it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn statistics(socket: &OwnedFd) -> io::Result<libc::tpacket_stats_v3> {
    let mut counted = libc::tpacket_stats_v3 { tp_packets: 0, tp_drops: 0, tp_freeze_q_cnt: 0 };
    let mut length = size_of_val(&counted) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `counted`, which is three plain integers and outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            std::ptr::from_mut(&mut counted).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(counted) } else { Err(io::Error::last_os_error()) }
}

/// Frames of every protocol.
const ALL: u16 = libc::ETH_P_ALL as u16;
/// Frames of no protocol: bound, but receiving nothing.
const NONE: u16 = 0;

fn address(index: i32, protocol: u16) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn bind(socket: &OwnedFd, index: i32, protocol: u16) -> io::Result<()> {
    let address = address(index, protocol);
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which outlives the call; the kernel only reads it.
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The hardware type of the interface that the socket is bound to (`ARPHRD_*`).
fn hardware(socket: &OwnedFd) -> io::Result<u16> {
    let mut address = address(0, NONE);
    let mut length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, plain integers that outlive the call.
    let result =
        unsafe { libc::getsockname(socket.as_raw_fd(), std::ptr::from_mut(&mut address).cast(), &raw mut length) };
    if result == 0 { Ok(address.sll_hatype) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A block as the kernel writes it.
    fn block(frames: &[(&[u8], Option<u16>)]) -> Vec<u8> {
        let mut block = vec![0; 48];
        block[12..16].copy_from_slice(&(frames.len() as u32).to_ne_bytes());
        block[16..20].copy_from_slice(&48u32.to_ne_bytes());
        for (at, (frame, tci)) in frames.iter().enumerate() {
            let next = (64 + frame.len()).next_multiple_of(16);
            let mut header = vec![0; next];
            let further = if at + 1 == frames.len() { 0 } else { next as u32 };
            header[0..4].copy_from_slice(&further.to_ne_bytes());
            header[12..16].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
            header[20..24].copy_from_slice(&tci.map_or(1, |_| 1 | libc::TP_STATUS_VLAN_VALID).to_ne_bytes());
            header[24..26].copy_from_slice(&64u16.to_ne_bytes());
            header[32..36].copy_from_slice(&u32::from(tci.unwrap_or(0)).to_ne_bytes());
            header[64..64 + frame.len()].copy_from_slice(frame);
            block.extend(header);
        }
        block
    }

    #[test]
    fn the_frames_of_a_block_come_in_order_with_the_tag_that_was_stripped() {
        let block = block(&[(&[1; 60], None), (&[2; 61], Some(0x600a)), (&[3; 1514], Some(0))]);
        let got: Vec<_> =
            Frames::of(&block).map(|(frame, tag)| (frame[0], frame.len(), tag.map(VlanId::number))).collect();
        assert_eq!(got, [(1, 60, None), (2, 61, Some(10)), (3, 1514, Some(0))]);
    }

    proptest! {
        #[test]
        fn no_block_makes_us_read_outside_it(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            count: u32,
            first in 0u32..128,
        ) {
            for (at, value) in [(12, count), (16, first)] {
                if let Some(field) = bytes.get_mut(at..at + 4) {
                    field.copy_from_slice(&value.to_ne_bytes());
                }
            }
            prop_assert!(Frames::of(&bytes).take(10_000).all(|(frame, _)| frame.len() <= bytes.len()));
        }
    }
}
