//! A proxy in front of Postgres that counts how often a client waits for it. A request that is sent while an answer is
//! still under way belongs to the same round trip. So does a request within an open transaction: a transaction is sent
//! in one go, but may arrive in pieces. Connecting does not count. The proxy reads no more of the protocol than where a
//! message begins (postgresql.org/docs/current/protocol-message-formats.html).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::task::JoinSet;

use crate::Outcome;

/// The proxy. Dropping it ends its connections.
pub(crate) struct CountingProxy {
    /// The database's address through it.
    pub(crate) address: String,
    round_trips: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl CountingProxy {
    pub(crate) async fn start(database: &str) -> Outcome<Self> {
        let mut address: url::Url = database.parse()?;
        let upstream = (address.host_str().unwrap_or("127.0.0.1").to_owned(), address.port().unwrap_or(5432));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        if address.set_host(Some("127.0.0.1")).is_err() || address.set_port(Some(port)).is_err() {
            return Err("the database's address is none".into());
        }
        let round_trips = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&round_trips);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&upstream).await {
                    let _ = (client.set_nodelay(true), server.set_nodelay(true));
                    connections.spawn(connect(client, server, Arc::clone(&counted)));
                }
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address: address.to_string(), round_trips, _server: server })
    }

    /// The number of round trips so far.
    pub(crate) fn round_trips(&self) -> usize {
        self.round_trips.load(Ordering::SeqCst)
    }
}

async fn connect(client: TcpStream, server: TcpStream, round_trips: Arc<AtomicUsize>) {
    let session = Session::default();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = requests(from_client, to_server, &session, &round_trips) => {}
        _ = answers(from_server, to_client, &session) => {}
    }
}

/// The state of one client's connection.
#[derive(Default)]
struct Session {
    unanswered: AtomicUsize,
    in_transaction: AtomicBool,
}

/// A query, or the end of an extended one: the server answers each with one `ReadyForQuery`.
const ASKS: [u8; 2] = [b'Q', b'S'];
const READY: u8 = b'Z';
/// The status in `ReadyForQuery` outside a transaction.
const IDLE: u8 = b'I';

async fn requests(
    mut client: tcp::OwnedReadHalf,
    mut server: tcp::OwnedWriteHalf,
    session: &Session,
    round_trips: &AtomicUsize,
) -> std::io::Result<()> {
    // The first message has no type, and its answer ends with `ReadyForQuery` too.
    let startup = read(&mut client, 0).await?;
    session.unanswered.store(1, Ordering::SeqCst);
    server.write_all(&startup).await?;
    loop {
        let message = read(&mut client, 1).await?;
        if ASKS.contains(&message[0])
            && session.unanswered.fetch_add(1, Ordering::SeqCst) == 0
            && !session.in_transaction.load(Ordering::SeqCst)
        {
            round_trips.fetch_add(1, Ordering::SeqCst);
        }
        server.write_all(&message).await?;
    }
}

async fn answers(
    mut server: tcp::OwnedReadHalf,
    mut client: tcp::OwnedWriteHalf,
    session: &Session,
) -> std::io::Result<()> {
    loop {
        let message = read(&mut server, 1).await?;
        if message[0] == READY {
            session.in_transaction.store(message.get(5) != Some(&IDLE), Ordering::SeqCst);
            session.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
        client.write_all(&message).await?;
    }
}

/// One message: `typed` bytes of type, four of length (which count themselves), the rest.
async fn read(from: &mut tcp::OwnedReadHalf, typed: usize) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; typed + 4];
    from.read_exact(&mut message).await?;
    let length = message[typed..].iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    message.resize(typed + length.max(4), 0);
    from.read_exact(&mut message[typed + 4..]).await?;
    Ok(message)
}
