//! `checkind replay`: decodes the frames of capture files, without a site, a database or a network.

use std::{
    fs::File,
    io::{self, BufReader, Write},
    path::{Path, PathBuf},
};

use crate::{
    cli::capture_file::{CaptureFile, CaptureFileError, LinkType, Record},
    source::network::frame::{self, Evidence, FrameKind, Observation, Via, Vlans, WhyNot},
};

/// Why a file could not be read, or the output not written.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The path that the operator gave.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be read further. Everything before this point was printed.
    #[error("cannot read {} past frame {after}", path.display())]
    Read {
        /// The path that the operator gave.
        path: PathBuf,
        /// The number of the last frame that was read, counted from 1; 0 if none was.
        after: u64,
        /// The cause.
        source: CaptureFileError,
    },
    /// The output cannot be written.
    #[error("cannot write the output")]
    Write(#[from] io::Error),
}

/// Prints what each frame means: a heading and one line per frame, in columns separated by tabs.
///
/// Columns: file name, frame number from 1, kind, VLAN ids (outermost first, `-` for none), the address that the frame
/// is evidence for (`-` for none), evidence (`strong`, `weak`, `no`), and why not. Frames that are neither ARP, DHCP
/// nor neighbour discovery have no line.
pub fn print_frames(files: &[PathBuf], out: &mut impl Write) -> Result<(), ReplayError> {
    writeln!(out, "file\tframe\tkind\tvlans\tmac\tevidence\twhy")?;
    for path in files {
        print_file(path, out)?;
    }
    out.flush()?;
    Ok(())
}

fn print_file(path: &Path, out: &mut impl Write) -> Result<(), ReplayError> {
    let file = File::open(path).map_err(|source| ReplayError::Open { path: path.to_owned(), source })?;
    let unreadable = |after| move |source| ReplayError::Read { path: path.to_owned(), after, source };
    let mut capture = CaptureFile::open(BufReader::new(file)).map_err(unreadable(0))?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let mut number = 0u64;
    while let Some(record) = capture.next_record().map_err(unreadable(number))? {
        number += 1;
        if let Some(seen) = observe(&record) {
            print_frame(&name, number, &seen, out)?;
        }
    }
    Ok(())
}

fn print_frame(name: &str, number: u64, seen: &Observation, out: &mut impl Write) -> io::Result<()> {
    write!(out, "{name}\t{number}\t{}\t{}\t", seen.kind, seen.vlans)?;
    match seen.mac {
        Some(mac) => write!(out, "{mac}")?,
        None => write!(out, "-")?,
    }
    write!(out, "\t{}\t", seen.evidence)?;
    match seen.evidence {
        Evidence::None(why) => writeln!(out, "{why}"),
        Evidence::Strong | Evidence::Weak => writeln!(out),
    }
}

/// The meaning of a captured frame on any link layer; `None` if it concerns no device.
pub fn observe(record: &Record<'_>) -> Option<Observation> {
    if record.link == LinkType::ETHERNET {
        return frame::observe(record.bytes, None);
    }
    let (ether_type, payload) = payload_of_other_link(record.link, record.bytes)?;
    frame::concerns_devices(ether_type, payload).then_some(Observation {
        kind: FrameKind::OtherLinkLayer,
        vlans: Vlans::default(),
        mac: None,
        evidence: Evidence::None(WhyNot::NotEthernet),
        via: Via::Link,
        lease: None,
    })
}

/// The Ethernet type and payload of a frame on another link layer found in office captures; `None` for all others.
fn payload_of_other_link(link: LinkType, bytes: &[u8]) -> Option<(u16, &[u8])> {
    let be16 = |at: usize| Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
    match link {
        LinkType::LINUX_COOKED => Some((be16(14)?, bytes.get(16..)?)),
        LinkType::LINUX_COOKED_2 => Some((be16(0)?, bytes.get(20..)?)),
        LinkType::ARCNET_LINUX => arcnet(bytes),
        LinkType::IEEE_802_11 => wireless(bytes),
        LinkType::RADIOTAP => {
            let header = u16::from_le_bytes(*bytes.get(2..)?.first_chunk()?);
            wireless(bytes.get(usize::from(header)..)?)
        }
        _ => None,
    }
}

/// ARCNET: addresses and offset in four octets, then the protocol as in RFC 1051 or, with three more octets, RFC 1201.
fn arcnet(bytes: &[u8]) -> Option<(u16, &[u8])> {
    match *bytes.get(4)? {
        0xf0 => Some((0x0800, bytes.get(5..)?)),
        0xf1 => Some((0x0806, bytes.get(5..)?)),
        0xd4 => Some((0x0800, bytes.get(8..)?)),
        0xd5 => Some((0x0806, bytes.get(8..)?)),
        _ => None,
    }
}

/// IEEE 802.11 (9.3.2): only unencrypted data frames carry LLC and SNAP.
fn wireless(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (kind, flags) = (*bytes.first()?, *bytes.get(1)?);
    let (is_data, has_no_data, is_qos) = (kind & 0x0c == 0x08, kind & 0x40 != 0, kind & 0x80 != 0);
    let (four_addresses, encrypted, ordered) = (flags & 0x03 == 0x03, flags & 0x40 != 0, flags & 0x80 != 0);
    if !is_data || has_no_data || encrypted {
        return None;
    }
    let header =
        24 + if four_addresses { 6 } else { 0 } + if is_qos { 2 } else { 0 } + if is_qos && ordered { 4 } else { 0 };
    let body = bytes.get(header..)?;
    let snap: &[u8; 8] = body.first_chunk()?;
    (snap[..6] == [0xaa, 0xaa, 0x03, 0, 0, 0]).then_some((u16::from_be_bytes([snap[6], snap[7]]), &body[8..]))
}
