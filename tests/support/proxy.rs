//! A TCP proxy on a free loopback port. A test freezes its connections: they stay open and nothing passes any more, as
//! if a cable had been cut.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A running proxy. Its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// The port on 127.0.0.1.
    pub(crate) port: u16,
    state: Arc<Mutex<ProxyState>>,
}

#[derive(Debug, Default)]
struct ProxyState {
    connections: Vec<Arc<ProxiedConnection>>,
    trigger: Option<Trigger>,
    is_over: bool,
}

/// Freezes the first connection that sends `text`, after it has sent `before`, if any. What it sent still arrives; the
/// answer does not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trigger {
    pub(crate) before: Option<&'static str>,
    pub(crate) text: &'static str,
}

#[derive(Debug)]
struct ProxiedConnection {
    client: TcpStream,
    server: TcpStream,
    is_frozen: AtomicBool,
    /// Whether it has sent the trigger's `before`.
    is_next: AtomicBool,
}

impl Proxy {
    /// Starts one in front of this address.
    pub(crate) fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::<Mutex<ProxyState>>::default();
        let (shared, target) = (Arc::clone(&state), target.to_owned());
        thread::spawn(move || {
            for client in listener.incoming() {
                if lock(&shared).is_over {
                    return;
                }
                // A target that does not listen refuses the client too.
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(&target)) else { continue };
                forward(client, server, &shared);
            }
        });
        Self { port, state }
    }

    /// Freezes the connection that next asks this.
    pub(crate) fn freeze_at(&self, trigger: Trigger) {
        let mut state = lock(&self.state);
        for connection in &state.connections {
            connection.is_next.store(trigger.before.is_none(), Ordering::Relaxed);
        }
        state.trigger = Some(trigger);
    }

    /// Freezes every connection that is open now; new ones are forwarded.
    pub(crate) fn freeze_all(&self) {
        for connection in &lock(&self.state).connections {
            connection.is_frozen.store(true, Ordering::Relaxed);
        }
    }

    /// How many connections have been frozen.
    pub(crate) fn frozen(&self) -> usize {
        let state = lock(&self.state);
        state.connections.iter().filter(|connection| connection.is_frozen.load(Ordering::Relaxed)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.is_over = true;
        for connection in state.connections.drain(..) {
            connection.end();
        }
        drop(state);
        // Wakes the thread that accepts.
        let _gone = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl ProxiedConnection {
    fn end(&self) {
        let _gone = self.client.shutdown(Shutdown::Both);
        let _gone = self.server.shutdown(Shutdown::Both);
    }
}

fn lock(state: &Mutex<ProxyState>) -> MutexGuard<'_, ProxyState> {
    state.lock().expect("no thread of the proxy panics")
}

fn forward(client: TcpStream, server: TcpStream, shared: &Arc<Mutex<ProxyState>>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).expect("a TCP socket");
    }
    let halves = [&client, &server].map(|stream| stream.try_clone().expect("a second handle"));
    let [mut from_client, mut from_server] = halves;
    let connection = Arc::new(ProxiedConnection { client, server, is_frozen: false.into(), is_next: false.into() });
    lock(shared).connections.push(Arc::clone(&connection));
    let (there, shared) = (Arc::clone(&connection), Arc::clone(shared));
    thread::spawn(move || {
        pump(&mut from_client, &there.server, &there, |data| {
            let mut state = lock(&shared);
            let Some(trigger) = state.trigger else { return };
            let sends = |text: &str| data.windows(text.len()).any(|window| window == text.as_bytes());
            if trigger.before.is_none_or(sends) {
                there.is_next.store(true, Ordering::Relaxed);
            }
            if there.is_next.load(Ordering::Relaxed) && sends(trigger.text) {
                state.trigger = None;
                there.is_frozen.store(true, Ordering::Relaxed);
            }
        });
    });
    thread::spawn(move || pump(&mut from_server, &connection.client, &connection, |_| {}));
}

/// Passes on what arrives, unless the connection is frozen. `sees` is called before, and may freeze it from the next
/// piece on.
fn pump(from: &mut TcpStream, mut to: &TcpStream, connection: &ProxiedConnection, sees: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).unwrap_or(0);
        let was_frozen = connection.is_frozen.load(Ordering::Relaxed);
        if was_frozen && length > 0 {
            continue;
        }
        if was_frozen {
            // One end has given up; the other does not learn of it.
            return;
        }
        sees(&buffer[..length]);
        if length == 0 || to.write_all(&buffer[..length]).is_err() {
            return connection.end();
        }
    }
}
