//! A broker that speaks just enough MQTT 5 to do what no good broker does: it passes on any bytes as messages, and
//! delivers them again on each connection until they are acknowledged; it may lose acknowledgements.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Answers that end a connection at once, in place of a broker.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes, then the end.
    Bytes(&'static [u8]),
    /// MQTT 5.
    Messages,
}

/// A running fake broker; its threads end with the test.
#[derive(Debug)]
pub(crate) struct FakeBroker {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The packets that are not acknowledged, by packet id.
    queue: BTreeMap<u16, Vec<u8>>,
    /// What is sent once, because it has no packet id.
    once: Vec<Vec<u8>>,
    connections: usize,
    /// The packet ids that were delivered on some connection.
    delivered: BTreeSet<u16>,
    /// Whether acknowledgements are lost.
    loses: bool,
    /// The connection.
    client: Option<TcpStream>,
}

impl FakeBroker {
    /// Queues PUBLISH packets: each is the first byte, and what follows the remaining length.
    pub(crate) fn start(answer: Answer, packets: &[(Option<u16>, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let mut state = State::default();
        for (id, packet) in packets {
            match id {
                Some(id) => drop(state.queue.insert(*id, packet.clone())),
                None => state.once.push(packet.clone()),
            }
        }
        let state = Arc::new(Mutex::new(state));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                shared.lock().expect("the state").connections += 1;
                // A client that goes away is no fault.
                let _end = match &answer {
                    Answer::Bytes(bytes) => refuse(client, bytes),
                    Answer::Messages => serve(client, &shared),
                };
            }
        });
        Self { port, state }
    }

    /// The packet ids that are not acknowledged.
    pub(crate) fn unacknowledged(&self) -> Vec<u16> {
        self.state.lock().expect("the state").queue.keys().copied().collect()
    }

    /// Loses acknowledgements from now on, or no more.
    pub(crate) fn lose_acknowledgements(&self, loses: bool) {
        self.state.lock().expect("the state").loses = loses;
    }

    /// Ends the connection.
    pub(crate) fn disconnect(&self) {
        let client = self.state.lock().expect("the state").client.take().expect("a connection");
        client.shutdown(Shutdown::Both).expect("it is open");
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.state.lock().expect("the state").connections
    }
}

/// Reads something, answers, and closes.
fn refuse(mut client: TcpStream, answer: &[u8]) -> io::Result<()> {
    let mut first = [0; 1024];
    let _read = client.read(&mut first)?;
    client.write_all(answer)
}

fn serve(mut client: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    state.lock().expect("the state").client = Some(client.try_clone()?);
    loop {
        let (kind, body) = packet(&mut client)?;
        match kind >> 4 {
            // CONNECT: the session is there; no properties.
            1 => client.write_all(&[0x20, 3, 1, 0, 0])?,
            // SUBSCRIBE, with a packet id, no properties, and filters: grant each QoS 1, and deliver what is queued.
            8 => {
                let mut filters = 0;
                let mut at = 3;
                while at + 2 <= body.len() {
                    at += 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]])) + 1;
                    filters += 1;
                }
                let mut answer = vec![0x90, 3 + u8::try_from(filters).expect("few"), body[0], body[1], 0];
                answer.extend(vec![1; filters]);
                client.write_all(&answer)?;
                let mut state = state.lock().expect("the state");
                let State { queue, delivered, .. } = &mut *state;
                for (id, packet) in queue {
                    let mut packet = packet.clone();
                    if !delivered.insert(*id) {
                        // DUP (MQTT 5, 3.3.1.1).
                        packet[0] |= 8;
                    }
                    client.write_all(&framed(&packet))?;
                }
                for packet in state.once.drain(..) {
                    client.write_all(&framed(&packet))?;
                }
            }
            // PUBACK.
            4 => {
                let mut state = state.lock().expect("the state");
                if !state.loses {
                    state.queue.remove(&u16::from_be_bytes([body[0], body[1]]));
                }
            }
            12 => client.write_all(&[0xd0, 0])?,
            14 => return Ok(()),
            _ => {}
        }
    }
}

/// A packet with its remaining length.
fn framed(packet: &[u8]) -> Vec<u8> {
    let mut whole = vec![packet[0]];
    let mut length = packet.len() - 1;
    loop {
        let part = u8::try_from(length & 0x7f).expect("seven bits");
        length >>= 7;
        whole.push(if length > 0 { part | 0x80 } else { part });
        if length == 0 {
            break;
        }
    }
    whole.extend(&packet[1..]);
    whole
}

fn packet(client: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let mut byte = [0];
    client.read_exact(&mut byte)?;
    let kind = byte[0];
    let mut length = 0;
    for shift in [0, 7, 14, 21] {
        client.read_exact(&mut byte)?;
        length |= usize::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    Ok((kind, body))
}
