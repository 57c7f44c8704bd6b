//! Reads capture files: classic pcap (microseconds or nanoseconds, either byte order) and pcapng.
//!
//! A stream is read record by record into one bounded buffer, so memory use does not depend on the size of the file.
//! Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng. Never here: what a frame means.
//!
//! No existing crate reads all of these files. pcap-parser 0.17.0 does not support clocks with a resolution in powers
//! of two, reads the time offset of big-endian files in the wrong order, drops old packet blocks, and stops at a
//! damaged statistics block. pcap-file (3.0.0-rc.3, and its last release 2.0.0) rejects a file for a comment that is
//! not UTF-8; the release candidate also rejects blocks larger than its buffer and simple packets cut by the snapshot
//! length.

use std::{
    fmt,
    io::{self, Read},
};

use crate::base::clock::WallTime;

/// The longest record that is read, in octets: the largest snapshot length that libpcap allows, plus room for the
/// fields and options of a pcapng block. A longer block is skipped if it has no frame; a longer frame or interface is
/// an error.
const MAX_RECORD: usize = 262_144 + 4096;

/// The most interfaces in one pcapng section. Real captures have far fewer, so a file with more is rejected.
const MAX_INTERFACES: usize = 1024;

/// The link layer of a frame, by its number in the registry of capture files (LINKTYPE_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IEEE 802.11.
    pub const IEEE_802_11: Self = Self(105);
    /// Linux cooked capture, version 1.
    pub const LINUX_COOKED: Self = Self(113);
    /// IEEE 802.11 behind a radiotap header.
    pub const RADIOTAP: Self = Self(127);
    /// ARCNET as Linux shows it.
    pub const ARCNET_LINUX: Self = Self(129);
    /// Linux cooked capture, version 2.
    pub const LINUX_COOKED_2: Self = Self(276);
}

/// One captured frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was captured; 1970 for simple packets, which have no time.
    pub at: WallTime,
    /// The link layer at which `bytes` starts.
    pub link: LinkType,
    /// The frame, cut to the snapshot length.
    pub bytes: &'a [u8],
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}, {:?}, {} octets)", self.at, self.link, self.bytes.len())
    }
}

/// Why a capture file could not be read further.
#[derive(Debug, thiserror::Error)]
pub enum CaptureFileError {
    /// Not a capture file, or one of an unknown version.
    #[error("this is neither a pcap nor a pcapng file")]
    Unknown,
    /// The file ends inside a record, for example because the capture program was killed. All records before it were
    /// read.
    #[error("the file was cut short in the middle of a frame")]
    CutShort,
    /// A length or a reference in the file is impossible.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// The file could not be read.
    #[error("read error")]
    Io(#[from] io::Error),
}

/// A capture file, read one record at a time.
pub struct CaptureFile<R> {
    input: R,
    format: CaptureFormat,
    buffer: Vec<u8>,
}

enum CaptureFormat {
    Classic { order: Order, per_second: u64, link: LinkType },
    Blocks { order: Order, interfaces: Vec<Interface> },
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

/// An interface of a pcapng section.
#[derive(Clone, Copy)]
struct Interface {
    link: LinkType,
    per_second: u64,
    /// Seconds to add to every timestamp.
    offset: i64,
}

impl<R> fmt::Debug for CaptureFile<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CaptureFile")
    }
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const PACKET: u32 = 6;

impl<R: Read> CaptureFile<R> {
    /// Reads the file header and detects the format. `input` should be buffered.
    pub fn open(mut input: R) -> Result<Self, CaptureFileError> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic).map_err(|fault| ended(fault, CaptureFileError::Unknown))?;
        let (order, per_second) = match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => {
                let mut file = Self {
                    input,
                    format: CaptureFormat::Blocks { order: Order::Little, interfaces: Vec::new() },
                    buffer: Vec::new(),
                };
                file.section().map_err(|fault| match fault {
                    CaptureFileError::CutShort => CaptureFileError::Unknown,
                    other @ (CaptureFileError::Unknown | CaptureFileError::Damaged(_) | CaptureFileError::Io(_)) => {
                        other
                    }
                })?;
                return Ok(file);
            }
            [0xa1, 0xb2, 0xc3, 0xd4] => (Order::Big, 1_000_000),
            [0xd4, 0xc3, 0xb2, 0xa1] => (Order::Little, 1_000_000),
            [0xa1, 0xb2, 0x3c, 0x4d] => (Order::Big, 1_000_000_000),
            [0x4d, 0x3c, 0xb2, 0xa1] => (Order::Little, 1_000_000_000),
            _ => return Err(CaptureFileError::Unknown),
        };
        // Classic pcap: the rest of its one header.
        let mut header = [0; 20];
        input.read_exact(&mut header).map_err(|fault| ended(fault, CaptureFileError::Unknown))?;
        // The upper half of the last field is the length of the frame check sequence.
        let link = LinkType(low_half(order.u32(&header, 16)?));
        Ok(Self { input, format: CaptureFormat::Classic { order, per_second, link }, buffer: Vec::new() })
    }

    /// The next frame, or `None` at the end of the file.
    pub fn next_record(&mut self) -> Result<Option<Record<'_>>, CaptureFileError> {
        match self.format {
            CaptureFormat::Classic { order, per_second, link } => self.next_classic(order, per_second, link),
            CaptureFormat::Blocks { .. } => self.next_block(),
        }
    }

    fn next_classic(
        &mut self,
        order: Order,
        per_second: u64,
        link: LinkType,
    ) -> Result<Option<Record<'_>>, CaptureFileError> {
        let mut header = [0; 16];
        if !fill_or_end(&mut self.input, &mut header)? {
            return Ok(None);
        }
        let length = as_size(order.u32(&header, 8)?);
        if length > MAX_RECORD {
            return Err(CaptureFileError::Damaged("a frame is longer than any capture program writes"));
        }
        self.fill(length)?;
        let ticks = u64::from(order.u32(&header, 0)?) * per_second + u64::from(order.u32(&header, 4)?);
        Ok(Some(Record { at: time(ticks, per_second, 0), link, bytes: &self.buffer }))
    }

    fn next_block(&mut self) -> Result<Option<Record<'_>>, CaptureFileError> {
        loop {
            let mut kind = [0; 4];
            if !fill_or_end(&mut self.input, &mut kind)? {
                return Ok(None);
            }
            let CaptureFormat::Blocks { order, .. } = &self.format else { return Ok(None) };
            let order = *order;
            // This kind is a palindrome, the same in either byte order; the section header tells which order follows.
            if u32::from_be_bytes(kind) == SECTION {
                self.section()?;
                continue;
            }
            let kind = order.u32(&kind, 0)?;
            // The length is checked before the buffer grows: a damaged file may claim 4 GB.
            let length = self.block_length(order)?;
            if length > MAX_RECORD && !matches!(kind, PACKET | SIMPLE_PACKET | OLD_PACKET | INTERFACE) {
                self.skip(length + 4)?;
                continue;
            }
            if length > MAX_RECORD {
                return Err(CaptureFileError::Damaged("a block is longer than any capture program writes"));
            }
            self.fill(length)?;
            self.skip(4)?;
            match kind {
                INTERFACE => self.interface(order)?,
                PACKET | SIMPLE_PACKET | OLD_PACKET => return self.packet(order, kind).map(Some),
                _ => {}
            }
        }
    }

    /// The number of octets between the two lengths of a block, whose kind has been read.
    fn block_length(&mut self, order: Order) -> Result<usize, CaptureFileError> {
        let mut total = [0; 4];
        self.input.read_exact(&mut total).map_err(|fault| ended(fault, CaptureFileError::CutShort))?;
        let total = as_size(order.u32(&total, 0)?);
        if total < 12 || !total.is_multiple_of(4) {
            return Err(CaptureFileError::Damaged("a block has an impossible length"));
        }
        Ok(total - 12)
    }

    /// Reads a section header after its kind. Sets the byte order and clears the interfaces.
    fn section(&mut self) -> Result<(), CaptureFileError> {
        let mut begin = [0; 8];
        self.input.read_exact(&mut begin).map_err(|fault| ended(fault, CaptureFileError::CutShort))?;
        let order = match begin[4..] {
            [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
            [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
            _ => return Err(CaptureFileError::Unknown),
        };
        let total = as_size(order.u32(&begin, 0)?);
        if total < 28 || !total.is_multiple_of(4) {
            return Err(CaptureFileError::Damaged("a section header has an impossible length"));
        }
        self.skip(total - 12)?;
        self.format = CaptureFormat::Blocks { order, interfaces: Vec::new() };
        Ok(())
    }

    /// Adds the interface in the buffer to the section.
    fn interface(&mut self, order: Order) -> Result<(), CaptureFileError> {
        const RESOLUTION: u16 = 9;
        const OFFSET: u16 = 14;
        let mut new = Interface { link: LinkType(order.u16(&self.buffer, 0)?), per_second: 1_000_000, offset: 0 };
        let mut rest = self.buffer.get(8..).unwrap_or_default();
        while rest.len() >= 4 {
            let (code, length) = (order.u16(rest, 0)?, usize::from(order.u16(rest, 2)?));
            let value = rest.get(4..4 + length).ok_or(CaptureFileError::Damaged("an option runs past its block"))?;
            match (code, value) {
                (RESOLUTION, [exponent]) => new.per_second = resolution(*exponent)?,
                (OFFSET, [_, _, _, _, _, _, _, _]) => new.offset = order.i64(value)?,
                _ => {}
            }
            rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
        }
        let CaptureFormat::Blocks { interfaces, .. } = &mut self.format else { return Ok(()) };
        if interfaces.len() == MAX_INTERFACES {
            return Err(CaptureFileError::Damaged("a section has more interfaces than any machine has"));
        }
        interfaces.push(new);
        Ok(())
    }

    /// The frame in the buffer. `kind` is one of the three kinds of packet blocks.
    fn packet(&self, order: Order, kind: u32) -> Result<Record<'_>, CaptureFileError> {
        let CaptureFormat::Blocks { interfaces, .. } = &self.format else { return Err(CaptureFileError::Unknown) };
        let block = self.buffer.as_slice();
        let (number, header) = match kind {
            PACKET => (as_size(order.u32(block, 0)?), 20),
            OLD_PACKET => (usize::from(order.u16(block, 0)?), 20),
            _ => (0, 4),
        };
        let interface = interfaces
            .get(number)
            .ok_or(CaptureFileError::Damaged("a frame names an interface that does not exist"))?;
        let (ticks, length) = if header == 4 {
            (None, as_size(order.u32(block, 0)?).min(block.len().saturating_sub(4)))
        } else {
            let ticks = u64::from(order.u32(block, 4)?) << 32 | u64::from(order.u32(block, 8)?);
            (Some(ticks), as_size(order.u32(block, 12)?))
        };
        let bytes = block
            .get(header..)
            .and_then(|rest| rest.get(..length))
            .ok_or(CaptureFileError::Damaged("a frame runs past its block"))?;
        let at = ticks.map_or(WallTime::from_millis(0), |ticks| time(ticks, interface.per_second, interface.offset));
        Ok(Record { at, link: interface.link, bytes })
    }

    fn fill(&mut self, length: usize) -> Result<(), CaptureFileError> {
        self.buffer.resize(length, 0);
        self.input.read_exact(&mut self.buffer).map_err(|fault| ended(fault, CaptureFileError::CutShort))
    }

    fn skip(&mut self, length: usize) -> Result<(), CaptureFileError> {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(CaptureFileError::CutShort) }
    }
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Result<u16, CaptureFileError> {
        let two = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(TOO_SHORT)?;
        Ok(match self {
            Self::Big => u16::from_be_bytes(*two),
            Self::Little => u16::from_le_bytes(*two),
        })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Result<u32, CaptureFileError> {
        let four = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(TOO_SHORT)?;
        Ok(match self {
            Self::Big => u32::from_be_bytes(*four),
            Self::Little => u32::from_le_bytes(*four),
        })
    }

    fn i64(self, bytes: &[u8]) -> Result<i64, CaptureFileError> {
        let eight = bytes.first_chunk().ok_or(TOO_SHORT)?;
        Ok(match self {
            Self::Big => i64::from_be_bytes(*eight),
            Self::Little => i64::from_le_bytes(*eight),
        })
    }
}

const TOO_SHORT: CaptureFileError = CaptureFileError::Damaged("a block is shorter than its fields");

/// Ticks per second of `if_tsresol`: a power of two if the top bit is set, otherwise of ten.
fn resolution(exponent: u8) -> Result<u64, CaptureFileError> {
    let base: u64 = if exponent & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(u32::from(exponent & 0x7f))
        .ok_or(CaptureFileError::Damaged("a clock is finer than a timestamp can hold"))
}

fn time(ticks: u64, per_second: u64, offset: i64) -> WallTime {
    let (whole, part) = (ticks / per_second, ticks % per_second);
    let millis = u128::from(whole) * 1000 + u128::from(part) * 1000 / u128::from(per_second);
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    WallTime::from_millis(millis.saturating_add(offset.saturating_mul(1000)))
}

/// Fills the buffer; false if the file ends before the first octet. A file that ends later was cut short.
fn fill_or_end(input: &mut impl Read, buffer: &mut [u8]) -> Result<bool, CaptureFileError> {
    let (first, rest) = buffer.split_at_mut(1);
    loop {
        match input.read(first) {
            Ok(0) => return Ok(false),
            Ok(_) => break,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(fault.into()),
        }
    }
    input.read_exact(rest).map_err(|fault| ended(fault, CaptureFileError::CutShort))?;
    Ok(true)
}

fn ended(fault: io::Error, at_end: CaptureFileError) -> CaptureFileError {
    if fault.kind() == io::ErrorKind::UnexpectedEof { at_end } else { fault.into() }
}

fn as_size(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

fn low_half(word: u32) -> u16 {
    let [.., a, b] = word.to_be_bytes();
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pcapng block in little-endian order.
    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let padded = body.len().next_multiple_of(4);
        let total = u32::try_from(12 + padded).expect("short").to_le_bytes();
        let mut block = [&kind.to_le_bytes()[..], &total, body].concat();
        block.resize(8 + padded, 0);
        block.extend(total);
        block
    }

    fn section() -> Vec<u8> {
        block(SECTION, &[&[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0][..], &[0xff; 8]].concat())
    }

    fn interface(link: u8, options: &[u8]) -> Vec<u8> {
        block(INTERFACE, &[&[link, 0, 0, 0, 0, 0, 4, 0][..], options].concat())
    }

    fn packet(interface: u8, ticks: u64, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short").to_le_bytes();
        let (high, low) = ((ticks >> 32) as u32, (ticks & 0xffff_ffff) as u32);
        let times = [high.to_le_bytes(), low.to_le_bytes()].concat();
        block(PACKET, &[&[interface, 0, 0, 0][..], &times, &length, &length, bytes].concat())
    }

    fn all(bytes: &[u8]) -> Result<Vec<(i64, u16, Vec<u8>)>, CaptureFileError> {
        let mut file = CaptureFile::open(bytes)?;
        let mut all = Vec::new();
        while let Some(record) = file.next_record()? {
            all.push((record.at.millis(), record.link.0, record.bytes.to_vec()));
        }
        Ok(all)
    }

    #[test]
    fn each_interface_of_a_section_has_its_own_link_and_clock() {
        let bytes = [
            section(),
            interface(1, &[]),
            interface(113, &[9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0]),
            interface(1, &[9, 0, 1, 0, 0x8a, 0, 0, 0, 14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0]),
            packet(0, 1_700_000_000_123_456, &[1, 2, 3]),
            block(5, &[0; 40]),
            packet(1, 1_700_000_000_123_456_789, &[4]),
            packet(2, 5 * 1024 + 512, &[5, 6]),
            block(SIMPLE_PACKET, &[2, 0, 0, 0, 7, 8]),
            section(),
            interface(127, &[]),
            packet(0, 1_000_000, &[9]),
        ];
        let want = [
            (1_700_000_000_123, 1, vec![1, 2, 3]),
            (1_700_000_000_123, 113, vec![4]),
            (105_500, 1, vec![5, 6]),
            (0, 1, vec![7, 8]),
            (1000, 127, vec![9]),
        ];
        assert_eq!(all(&bytes.concat()).expect("a capture"), want);
    }

    #[test]
    fn impossible_lengths_and_references_are_rejected() {
        let start = [section(), interface(1, &[])].concat();
        let with = |more: Vec<u8>| all(&[start.clone(), more].concat());
        assert!(matches!(all(b"a letter"), Err(CaptureFileError::Unknown)));
        assert!(matches!(all(b""), Err(CaptureFileError::Unknown)));
        assert!(matches!(with(packet(1, 0, &[1])), Err(CaptureFileError::Damaged(_))), "no such interface");
        assert!(matches!(with(vec![6, 0, 0, 0, 13, 0, 0, 0]), Err(CaptureFileError::Damaged(_))), "odd length");
        assert!(matches!(with(vec![6, 0, 0, 0, 0, 0, 0, 0x10]), Err(CaptureFileError::Damaged(_))), "huge packet");
        assert!(matches!(with(packet(0, 0, &[1, 2, 3])[..20].to_vec()), Err(CaptureFileError::CutShort)));
        let mut runs_over = packet(0, 0, &[1, 2, 3]);
        runs_over[20] = 200;
        assert!(matches!(with(runs_over), Err(CaptureFileError::Damaged(_))));
    }

    #[test]
    fn a_large_block_without_a_frame_is_skipped_without_filling_the_memory() {
        let bytes = [section(), interface(1, &[]), block(10, &vec![0; MAX_RECORD * 2]), packet(0, 0, &[1])].concat();
        assert_eq!(all(&bytes).expect("a capture").len(), 1);
    }

    #[test]
    fn damage_outside_of_frames_and_clocks_is_skipped() {
        let comment = [1, 0, 2, 0, 0xff, 0xfe, 0, 0];
        let bytes = [
            section(),
            interface(1, &comment),
            block(5, &[1, 0, 0, 0]),
            block(4, &[1, 0, 200, 0, 1, 2, 3, 4]),
            block(OLD_PACKET, &[&[0; 12][..], &[3, 0, 0, 0, 60, 0, 0, 0, 1, 2, 3]].concat()),
            block(SIMPLE_PACKET, &[200, 0, 0, 0, 7, 8, 9, 9]),
        ];
        assert_eq!(all(&bytes.concat()).expect("a capture"), [(0, 1, vec![1, 2, 3]), (0, 1, vec![7, 8, 9, 9])]);
        let huge = [section(), interface(1, &[]), vec![77, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff, 0, 0, 0, 0]].concat();
        assert!(matches!(all(&huge), Err(CaptureFileError::CutShort)));
    }

    #[test]
    fn a_big_endian_section_has_big_endian_options() {
        let bytes = [
            &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..],
            &[0xff; 8],
            &[0, 0, 0, 28],
            &[0, 0, 0, 1, 0, 0, 0, 32, 0, 1, 0, 0, 0, 4, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 32],
            &[0, 0, 0, 6, 0, 0, 0, 36, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x1e, 0x84, 0x80],
            &[0, 0, 0, 1, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0, 0, 36],
        ];
        assert_eq!(all(&bytes.concat()).expect("a capture"), [(102_000, 1, vec![7])]);
    }
}
