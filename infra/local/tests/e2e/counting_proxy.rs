//! A proxy in front of Postgres that can be shut, and that counts round trips: a query that is sent while an answer is
//! still under way belongs to the same round trip. Of the protocol it reads only the types and lengths of messages
//! (postgresql.org/docs/current/protocol-message-formats.html).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::task::AbortHandle;

use super::support::variable;

/// The proxy: its own address, and what it has counted.
pub(crate) struct CountingProxy {
    pub(crate) address: String,
    round_trips: Arc<AtomicUsize>,
    door: Arc<Door>,
    connections: Arc<Mutex<Vec<AbortHandle>>>,
}

/// The proxy's door: while it is shut, connections are turned away and counted.
#[derive(Default)]
struct Door {
    is_shut: AtomicBool,
    turned_away: AtomicUsize,
}

/// The number of queries of one connection that still wait for their answer.
#[derive(Default)]
struct Connection {
    unanswered: AtomicUsize,
}

impl CountingProxy {
    pub(crate) async fn to_the_database() -> Self {
        let mut address: url::Url = variable("DATABASE_URL").parse().expect("an address");
        let upstream = (address.host_str().expect("a host").to_owned(), address.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        address.set_host(Some("127.0.0.1")).expect("a host");
        address.set_port(Some(port)).expect("a port");
        let round_trips = Arc::new(AtomicUsize::new(0));
        let connections = Arc::<Mutex<Vec<AbortHandle>>>::default();
        let door = Arc::<Door>::default();
        let (counted, opened, guarded) = (Arc::clone(&round_trips), Arc::clone(&connections), Arc::clone(&door));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if guarded.is_shut.load(Ordering::SeqCst) {
                    guarded.turned_away.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                let server = TcpStream::connect(&upstream).await.expect("the database");
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                let connection = Arc::new(Connection::default());
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asking = requests(from_client, to_server, Arc::clone(&connection), Arc::clone(&counted));
                let asking = tokio::spawn(asking).abort_handle();
                let answering = tokio::spawn(answers(from_server, to_client, connection)).abort_handle();
                opened.lock().expect("a lock").extend([asking, answering]);
            }
        });
        Self { address: address.to_string(), round_trips, door, connections }
    }

    /// Ends every connection, as a pooler or a restart does.
    pub(crate) fn cut(&self) {
        self.connections.lock().expect("a lock").drain(..).for_each(|connection| connection.abort());
    }

    /// Ends every connection and lets none in any more, as if Postgres were away.
    pub(crate) fn shut(&self) {
        self.door.is_shut.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Lets connections in again, as if Postgres were back.
    pub(crate) fn open(&self) {
        self.door.is_shut.store(false, Ordering::SeqCst);
    }

    /// Returns how many connections came while it was shut.
    pub(crate) fn turned_away(&self) -> usize {
        self.door.turned_away.load(Ordering::SeqCst)
    }

    /// Returns how many round trips there were, without those of connecting.
    pub(crate) fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

/// A query, or the end of an extended one: the server answers each with one `ReadyForQuery`.
const ASKS: [u8; 2] = [b'Q', b'S'];
const READY: u8 = b'Z';

async fn requests(
    mut client: tcp::OwnedReadHalf,
    mut server: tcp::OwnedWriteHalf,
    connection: Arc<Connection>,
    round_trips: Arc<AtomicUsize>,
) {
    // The first message has no type, and its answer ends with `ReadyForQuery` too.
    let Some(startup) = read(&mut client, 0).await else { return };
    connection.unanswered.store(1, Ordering::SeqCst);
    if server.write_all(&startup).await.is_err() {
        return;
    }
    while let Some(message) = read(&mut client, 1).await {
        if ASKS.contains(&message[0]) && connection.unanswered.fetch_add(1, Ordering::SeqCst) == 0 {
            round_trips.fetch_add(1, Ordering::SeqCst);
        }
        if server.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn answers(mut server: tcp::OwnedReadHalf, mut client: tcp::OwnedWriteHalf, connection: Arc<Connection>) {
    while let Some(message) = read(&mut server, 1).await {
        if message[0] == READY {
            connection.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
        if client.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// Reads one message: `typed` bytes of type, four of length (which count themselves), the content. None: the end.
async fn read(from: &mut tcp::OwnedReadHalf, typed: usize) -> Option<Vec<u8>> {
    let mut message = vec![0; typed + 4];
    from.read_exact(&mut message).await.ok()?;
    let length = u32::from_be_bytes(message[typed..].try_into().ok()?);
    message.resize(typed + usize::try_from(length).ok()?, 0);
    from.read_exact(&mut message[typed + 4..]).await.ok()?;
    Some(message)
}
