//! Filters the packets of the broker: what the client library would end the connection for is replaced by something
//! that it accepts.
//!
//! A broker keeps a QoS 1 message until we acknowledge it. If the library refuses to read the message (a topic that is
//! not UTF-8 or contains NUL or a wildcard, broken properties, an alias that we did not allow, a packet larger than we
//! allowed), it ends the connection, the broker delivers the message again, and everything behind it never arrives.
//! The standard asks for that (MQTT 5, 4.13); a building whose doors must work cannot. So the filter replaces such a
//! message by one that has the same packet id, and a topic that only this process knows. It is then rejected, recorded,
//! counted and acknowledged like any other message that cannot be understood.
//!
//! Whether a packet is good is decided by the library's own parser. Everything else passes unchanged. What is broken
//! beyond one message (a length of a packet that is none, a broken SUBACK) still ends the connection.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use rumqttc::Packet;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much of a malformed message is kept, in bytes, for its topic and for the rest: enough to recognise it.
const KEPT: usize = 1024;

/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// How much of a PUBLISH has to be there to find its packet id: the longest header and topic.
const HEAD: usize = 5 + 2 + 65_535 + 2;

/// The types of packets, in the upper four bits of the first byte (MQTT 5, 2.1.2).
const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const AUTH: u8 = 15;

/// The first byte of an alert of TLS (RFC 8446, 5.1), which answers a CONNECT without TLS.
const TLS_ALERT: u8 = 0x15;

/// Why what the broker sends cannot be read at all.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum StreamFault {
    #[error("the connection was closed during the TLS handshake")]
    ClosedInHandshake,
    #[error("the answer is an alert of TLS")]
    SpeaksTls,
    #[error("the answer is that of an earlier version of MQTT")]
    OldProtocol,
    #[error("the answer is not MQTT")]
    NotMqtt,
}

/// A connection whose incoming packets are filtered.
pub(super) struct PacketFilter<S> {
    wire: S,
    packets: PacketSieve,
    /// Filtered bytes, and how many of them were read.
    output: (Vec<u8>, usize),
    ended: bool,
}

impl<S> PacketFilter<S> {
    /// `stand_in` is the topic of replaced messages.
    pub(super) fn new(wire: S, largest: usize, stand_in: Arc<str>, encrypted: bool) -> Self {
        let packets =
            PacketSieve { largest, stand_in, encrypted, input: Vec::new(), answered: false, skip: 0, pass: 0 };
        Self { wire, packets, output: (Vec::new(), 0), ended: false }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacketFilter<S> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let (output, read) = &mut this.output;
            if *read < output.len() {
                let part = buffer.remaining().min(output.len() - *read);
                buffer.put_slice(&output[*read..*read + part]);
                *read += part;
                return Poll::Ready(Ok(()));
            }
            output.clear();
            *read = 0;
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            let mut chunk = [MaybeUninit::uninit(); CHUNK];
            let mut chunk = ReadBuf::uninit(&mut chunk);
            ready!(Pin::new(&mut this.wire).poll_read(task, &mut chunk))?;
            // What is incomplete at the end is of no use to the library.
            this.ended = chunk.filled().is_empty();
            this.packets
                .sift(chunk.filled(), output)
                .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault))?;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacketFilter<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(task, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}

/// Splits the bytes of the broker into packets. Holds at most one packet of the largest size, and one chunk.
struct PacketSieve {
    /// The largest packet that we allowed the broker to send, in bytes.
    largest: usize,
    stand_in: Arc<str>,
    encrypted: bool,
    /// The beginning of a packet that is not complete.
    input: Vec<u8>,
    /// Whether the broker has answered our CONNECT.
    answered: bool,
    /// How many bytes to discard: the rest of a message that was replaced.
    skip: usize,
    /// How many bytes to let pass: the rest of a large packet that is no message.
    pass: usize,
}

impl PacketSieve {
    /// Adds bytes, and appends what the library may read to `output`.
    fn sift(&mut self, mut bytes: &[u8], output: &mut Vec<u8>) -> Result<(), StreamFault> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        let passed = self.pass.min(bytes.len());
        self.pass -= passed;
        output.extend_from_slice(&bytes[..passed]);
        self.input.extend_from_slice(&bytes[passed..]);

        let mut done = 0;
        while let Some(Header { kind, length }) = header(&self.input[done..]) {
            let rest = &self.input[done..];
            if !self.answered {
                self.answered = true;
                check_answer(rest, self.encrypted)?;
            }
            let is_large = length > self.largest;
            if kind != PUBLISH || length == usize::MAX {
                if is_large {
                    // The library names the fault.
                    output.extend_from_slice(rest);
                    self.pass = length - rest.len().min(length);
                    done = self.input.len();
                    break;
                }
                let Some(packet) = rest.get(..length) else { break };
                output.extend_from_slice(packet);
                done += length;
                continue;
            }
            if is_large {
                if rest.len() < HEAD.min(length) {
                    break;
                }
                let there = rest.len().min(length);
                output.extend(stand_in(&rest[..there], &self.stand_in));
                self.skip = length - there;
                done += there;
                continue;
            }
            let Some(packet) = rest.get(..length) else { break };
            if is_good(packet) {
                output.extend_from_slice(packet);
            } else {
                output.extend(stand_in(packet, &self.stand_in));
            }
            done += length;
        }
        self.input.drain(..done);
        Ok(())
    }
}

/// Checks whether the first bytes are an answer to CONNECT in MQTT 5, whose CONNACK is longer than two bytes.
fn check_answer(bytes: &[u8], encrypted: bool) -> Result<(), StreamFault> {
    match bytes {
        [TLS_ALERT, 3, ..] if !encrypted => Err(StreamFault::SpeaksTls),
        [first, 2, ..] if first >> 4 == CONNACK => Err(StreamFault::OldProtocol),
        [first, ..] if ![CONNACK, AUTH].contains(&(first >> 4)) => Err(StreamFault::NotMqtt),
        _ => Ok(()),
    }
}

/// The first bytes of a packet.
struct Header {
    kind: u8,
    /// The length of the whole packet; the largest number if the bytes are no length.
    length: usize,
}

/// Reads the first byte and the remaining length (MQTT 5, 2.1); `None` if they are not complete.
fn header(bytes: &[u8]) -> Option<Header> {
    let (first, rest) = bytes.split_first()?;
    let kind = first >> 4;
    let mut remaining = 0;
    for (at, byte) in rest.iter().take(4).enumerate() {
        remaining |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some(Header { kind, length: 2 + at + remaining });
        }
    }
    (rest.len() >= 4).then_some(Header { kind, length: usize::MAX })
}

/// Whether the library accepts this PUBLISH. It may have no topic alias, because we allow none, and no empty topic,
/// which is for aliases.
fn is_good(packet: &[u8]) -> bool {
    match Packet::read(&mut BytesMut::from(packet), None) {
        Ok(Packet::Publish(publish)) => {
            let has_alias = publish.properties.is_some_and(|properties| properties.topic_alias.is_some());
            !has_alias && !publish.topic.is_empty()
        }
        _ => false,
    }
}

/// A PUBLISH that stands in for a malformed one. It has the same packet id and quality of service, if the malformed one
/// has them. Its payload is the [`MalformedMessage`].
fn stand_in(packet: &[u8], topic: &str) -> Vec<u8> {
    let first = packet.first().copied().unwrap_or_default();
    let header_length = 1 + packet.iter().skip(1).take(4).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let body = packet.get(header_length..).unwrap_or_default();
    let (bad_topic, rest) = match body {
        [high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
            rest.split_at(length)
        }
        _ => (body, &[][..]),
    };
    let quality = (first >> 1) & 3;
    let id = match rest {
        [high, low, ..] if matches!(quality, 1 | 2) => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let rest = if matches!(quality, 1 | 2) { rest.get(2..).unwrap_or_default() } else { rest };

    // A message without a packet id cannot be acknowledged: to the library, it has quality 0 and is no repetition.
    let first = if id == 0 { PUBLISH << 4 | first & 1 } else { first };
    let mut body = Vec::new();
    put_text(&mut body, topic.as_bytes());
    if id != 0 {
        body.extend(id.to_be_bytes());
    }
    body.push(0);
    put_text(&mut body, &bad_topic[..bad_topic.len().min(KEPT)]);
    body.extend_from_slice(&rest[..rest.len().min(KEPT)]);

    let mut whole = vec![first];
    let mut remaining = body.len();
    while remaining >= 0x80 {
        whole.push(u8::try_from(remaining & 0x7f).unwrap_or_default() | 0x80);
        remaining >>= 7;
    }
    whole.push(u8::try_from(remaining).unwrap_or_default());
    whole.extend(body);
    whole
}

fn put_text(body: &mut Vec<u8>, text: &[u8]) {
    body.extend(u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    body.extend_from_slice(text);
}

/// A message that was replaced: what is left of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MalformedMessage<'p> {
    /// The first bytes of its topic.
    pub(super) topic: &'p [u8],
    /// The first bytes of what follows: properties and payload.
    pub(super) rest: &'p [u8],
}

impl<'p> MalformedMessage<'p> {
    /// From the payload of the message that stands in for it.
    pub(super) fn of(payload: &'p [u8]) -> Self {
        let (topic, rest) = match payload {
            [high, low, rest @ ..] => rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len())),
            _ => (&[][..], payload),
        };
        Self { topic, rest }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::{Publish, QoS};

    use super::*;

    const STAND_IN: &str = "checkind/malformed/1";

    /// A CONNACK of MQTT 5.
    const ACCEPTED: [u8; 5] = [0x20, 3, 0, 0, 0];

    fn sieve(largest: usize) -> PacketSieve {
        let stand_in = Arc::from(STAND_IN);
        PacketSieve { largest, stand_in, encrypted: false, input: Vec::new(), answered: false, skip: 0, pass: 0 }
    }

    /// A PUBLISH with any topic and properties.
    fn publish(first: u8, topic: &[u8], id: Option<u16>, properties: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, topic);
        body.extend(id.into_iter().flat_map(u16::to_be_bytes));
        body.extend_from_slice(properties);
        body.extend_from_slice(payload);
        let mut whole = vec![first];
        let mut length = body.len();
        while length >= 0x80 {
            whole.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
            length >>= 7;
        }
        whole.push(u8::try_from(length).expect("seven bits"));
        whole.extend(body);
        whole
    }

    /// What the library reads of the bytes, which arrive in parts of this size.
    fn read(largest: usize, bytes: &[u8], part: usize) -> Vec<Packet> {
        let (mut sieve, mut output) = (sieve(largest), Vec::new());
        sieve.sift(&ACCEPTED, &mut output).expect("MQTT 5");
        output.clear();
        for part in bytes.chunks(part.max(1)) {
            sieve.sift(part, &mut output).expect("MQTT 5");
        }
        let mut output = BytesMut::from(output.as_slice());
        let mut packets = Vec::new();
        while !output.is_empty() {
            packets
                .push(Packet::read(&mut output, Some(u32::try_from(largest).expect("small"))).expect("a good packet"));
        }
        packets
    }

    fn message(packet: &Packet) -> &Publish {
        let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
        publish
    }

    /// What is wrong, the packet, and the packet id, topic and rest that are left of it.
    type BadPacket<'c> = (&'c str, Vec<u8>, Option<u16>, &'c [u8], &'c [u8]);

    /// Each is a message that the library would end the connection for.
    #[test]
    fn what_the_library_refuses_becomes_a_message_with_the_same_id() {
        let good = publish(0x32, b"doors/front", Some(8), &[0], b"{}");
        let table: [BadPacket<'_>; 15] = [
            ("NUL", publish(0x32, b"doors/\0", Some(7), &[0], b"x"), Some(7), b"doors/\0", b"\0x"),
            ("not UTF-8", publish(0x3a, b"doors/\xff", Some(7), &[0], b"x"), Some(7), b"doors/\xff", b"\0x"),
            ("a surrogate", publish(0x32, b"\xed\xa0\x80", Some(7), &[0], b""), Some(7), b"\xed\xa0\x80", b"\0"),
            ("a wildcard", publish(0x32, b"doors/+", Some(7), &[0], b"x"), Some(7), b"doors/+", b"\0x"),
            ("all topics", publish(0x33, b"#", Some(7), &[0], b"x"), Some(7), b"#", b"\0x"),
            ("no topic", publish(0x32, b"", Some(7), &[0], b"x"), Some(7), b"", b"\0x"),
            ("an alias", publish(0x32, b"a", Some(7), &[3, 35, 0, 1], b"x"), Some(7), b"a", b"\x03\x23\0\x01x"),
            ("an unknown property", publish(0x32, b"a", Some(7), &[1, 99], b"x"), Some(7), b"a", b"\x01\x63x"),
            (
                "properties longer than the packet",
                publish(0x32, b"a", Some(7), &[90, 1], b""),
                Some(7),
                b"a",
                b"\x5a\x01",
            ),
            ("no properties", publish(0x32, b"a", Some(7), &[], b""), Some(7), b"a", b""),
            ("QoS 2", publish(0x34, b"a/+", Some(7), &[0], b""), Some(7), b"a/+", b"\0"),
            ("packet id 0", publish(0x32, b"a", Some(0), &[0], b"x"), None, b"a", b"\0x"),
            ("QoS 3", publish(0x36, b"a", Some(7), &[0], b"x"), None, b"a", b"\0\x07\0x"),
            ("a repetition of QoS 0", publish(0x38, b"a", None, &[0], b"x"), None, b"a", b"\0x"),
            ("nothing", vec![0x30, 0], None, b"", b""),
        ];
        for (what, bad, id, topic, rest) in table {
            let stream = [good.clone(), bad, good.clone()].concat();
            for part in [1, 3, 1000] {
                let packets = read(4096, &stream, part);
                assert_eq!(packets.len(), 3, "{what}");
                assert_eq!(&message(&packets[0]).topic[..], b"doors/front", "{what}");
                let replaced = message(&packets[1]);
                assert_eq!(&replaced.topic[..], STAND_IN.as_bytes(), "{what}");
                assert_eq!((replaced.qos != QoS::AtMostOnce).then_some(replaced.pkid), id, "{what}");
                assert_eq!(MalformedMessage::of(&replaced.payload), MalformedMessage { topic, rest }, "{what}");
                assert_eq!(message(&packets[2]), message(&packets[0]), "{what}");
            }
        }
    }

    #[test]
    fn a_message_larger_than_we_allowed_is_replaced_and_what_follows_is_read() {
        let large = publish(0x32, &[b'a'; 300], Some(9), &[0], &vec![b'x'; 200_000]);
        let good = publish(0x32, b"doors/front", Some(8), &[0], b"{}");
        for part in [1000, 70_000, 1_000_000] {
            let packets = read(100_000, &[large.clone(), good.clone()].concat(), part);
            let (replaced, after) = (message(&packets[0]), message(&packets[1]));
            assert_eq!((&replaced.topic[..], replaced.pkid), (STAND_IN.as_bytes(), 9));
            assert_eq!((&after.topic[..], after.pkid, packets.len()), (&b"doors/front"[..], 8, 2));
        }
    }

    #[test]
    fn an_answer_that_is_not_mqtt_5_is_named() {
        let answer = |bytes: &[u8], encrypted| {
            let mut sieve = PacketSieve { encrypted, ..sieve(4096) };
            sieve.sift(bytes, &mut Vec::new()).err()
        };
        assert_eq!(answer(&[0x15, 3, 1, 0, 2, 2, 70], false), Some(StreamFault::SpeaksTls));
        assert_eq!(answer(&[0x20, 2, 0, 1], false), Some(StreamFault::OldProtocol));
        assert_eq!(answer(&[0x20, 2, 0, 1], true), Some(StreamFault::OldProtocol));
        assert_eq!(answer(b"HTTP/1.1 400 Bad Request", false), Some(StreamFault::NotMqtt));
        assert_eq!(answer(&ACCEPTED, false), None);
    }

    #[test]
    fn what_is_broken_beyond_a_message_reaches_the_library() {
        let mut sieve = sieve(4096);
        let mut output = Vec::new();
        let no_length = [0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        sieve.sift(&[&ACCEPTED[..], &no_length].concat(), &mut output).expect("MQTT 5");
        assert_eq!(output, [&ACCEPTED[..], &no_length].concat());
    }

    proptest! {
        /// Whatever arrives, in whatever parts: the library accepts every message, and memory is bounded.
        #[test]
        fn no_message_makes_the_library_end_the_connection(
            messages in prop::collection::vec((0x30_u8..0x40, prop::collection::vec(any::<u8>(), 0..40)), 1..8),
            part in 1_usize..50,
        ) {
            let mut bytes = Vec::new();
            for (first, body) in &messages {
                bytes.extend([*first, u8::try_from(body.len()).expect("short")]);
                bytes.extend(body);
            }
            prop_assert_eq!(read(4096, &bytes, part).len(), messages.len());
        }

        #[test]
        fn what_is_good_passes_unchanged(
            messages in prop::collection::vec(("[a-zé/]{1,20}", 1_u16.., prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            part in 1_usize..500,
        ) {
            let (mut sieve, mut output, mut stream) = (sieve(4096), Vec::new(), ACCEPTED.to_vec());
            for (topic, id, payload) in &messages {
                stream.extend(publish(0x32, topic.as_bytes(), Some(*id), &[0], payload));
                stream.extend([0xd0, 0]);
            }
            for part in stream.chunks(part) {
                sieve.sift(part, &mut output).expect("MQTT 5");
                prop_assert!(sieve.input.len() <= 4096);
            }
            prop_assert_eq!(output, stream);
        }
    }
}
