//! A proxy in front of a server of the stack. It can end its connections, and turn new ones away as if the server were
//! away. In front of Postgres it also counts how often a client waits: a request that is sent while an answer is still
//! under way belongs to the same round trip, and connecting does not count. Of the protocol it reads only the types and
//! lengths of messages (postgresql.org/docs/current/protocol-message-formats.html).

use std::io::{Error, ErrorKind, Result};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::task::JoinSet;
use url::Url;

/// A running proxy. Dropping it ends its connections.
pub struct Proxy {
    /// The server's address through the proxy.
    pub address: String,
    door: Arc<Mutex<Door>>,
    counts: Arc<Counts>,
    _server: JoinSet<()>,
}

/// The way in, and the connections that came through it.
#[derive(Default)]
struct Door {
    is_shut: bool,
    turned_away: usize,
    connections: JoinSet<()>,
}

/// The requests for which a client waited.
#[derive(Default)]
struct Counts {
    outside_transactions: AtomicUsize,
    within_transactions: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of this machine (0: any free one), in front of the server with this address. Requests are
    /// counted if it is one of Postgres.
    pub async fn start(server: &str, port: u16) -> Result<Self> {
        let invalid = || Error::new(ErrorKind::InvalidInput, "the server's address is none");
        let mut address = Url::parse(server).map_err(|_| invalid())?;
        let is_postgres = matches!(address.scheme(), "postgres" | "postgresql");
        let server_port = address.port_or_known_default().or(is_postgres.then_some(5432)).ok_or_else(invalid)?;
        let server = (address.host_str().ok_or_else(invalid)?.to_owned(), server_port);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let port = listener.local_addr()?.port();
        address.set_host(Some("127.0.0.1")).map_err(|_| invalid())?;
        address.set_port(Some(port)).map_err(|()| invalid())?;
        let (door, counts) = (Arc::<Mutex<Door>>::default(), Arc::<Counts>::default());
        let (guarded, counted) = (Arc::clone(&door), Arc::clone(&counts));
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                lock(&guarded).admit(client, &server, is_postgres.then(|| Arc::clone(&counted)));
            }
        });
        Ok(Self { address: address.to_string(), door, counts, _server: accepting })
    }

    /// Ends every connection, as a pooler or a restart does.
    pub fn cut(&self) {
        lock(&self.door).connections.abort_all();
    }

    /// Ends every connection and lets none in any more, as if the server were away.
    pub fn shut(&self) {
        let mut door = lock(&self.door);
        door.is_shut = true;
        door.connections.abort_all();
    }

    /// Lets connections in again, as if the server were back.
    pub fn open(&self) {
        lock(&self.door).is_shut = false;
    }

    /// The number of connections that came while it was shut.
    pub fn turned_away(&self) -> usize {
        lock(&self.door).turned_away
    }

    /// The number of round trips so far. A transaction is one, even if it arrives in pieces.
    pub fn round_trips(&self) -> usize {
        self.counts.outside_transactions.load(Ordering::SeqCst)
    }

    /// The number of round trips so far, and of requests within open transactions that came after all answers: either
    /// the client waited for these, or the transaction arrived in pieces.
    pub fn waits(&self) -> usize {
        self.round_trips() + self.counts.within_transactions.load(Ordering::SeqCst)
    }
}

fn lock(door: &Mutex<Door>) -> MutexGuard<'_, Door> {
    door.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Door {
    fn admit(&mut self, client: TcpStream, server: &(String, u16), counts: Option<Arc<Counts>>) {
        while self.connections.try_join_next().is_some() {}
        if self.is_shut {
            self.turned_away += 1;
            return;
        }
        let server = server.clone();
        self.connections.spawn(async move {
            // If either side fails, the other one sees a closed connection, as it would without the proxy.
            let _ = connect(client, &server, counts.as_deref()).await;
        });
    }
}

async fn connect(mut client: TcpStream, server: &(String, u16), counts: Option<&Counts>) -> Result<()> {
    let mut server = TcpStream::connect((server.0.as_str(), server.1)).await?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let Some(counts) = counts else {
        return tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop);
    };
    let session = Session::default();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        ended = requests(from_client, to_server, &session, counts) => ended,
        ended = answers(from_server, to_client, &session) => ended,
    }
}

/// The state of one client's connection to Postgres.
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
    counts: &Counts,
) -> Result<()> {
    // The first message has no type, and its answer ends with `ReadyForQuery` too.
    let startup = read(&mut client, 0).await?;
    session.unanswered.store(1, Ordering::SeqCst);
    server.write_all(&startup).await?;
    loop {
        let message = read(&mut client, 1).await?;
        if ASKS.contains(&message[0]) && session.unanswered.fetch_add(1, Ordering::SeqCst) == 0 {
            let in_transaction = session.in_transaction.load(Ordering::SeqCst);
            let count = if in_transaction { &counts.within_transactions } else { &counts.outside_transactions };
            count.fetch_add(1, Ordering::SeqCst);
        }
        server.write_all(&message).await?;
    }
}

async fn answers(mut server: tcp::OwnedReadHalf, mut client: tcp::OwnedWriteHalf, session: &Session) -> Result<()> {
    loop {
        let message = read(&mut server, 1).await?;
        if message[0] == READY {
            session.in_transaction.store(message.get(5) != Some(&IDLE), Ordering::SeqCst);
            session.unanswered.fetch_sub(1, Ordering::SeqCst);
        }
        client.write_all(&message).await?;
    }
}

/// Reads one message: `typed` bytes of type, four of length (which count themselves), the content.
async fn read(from: &mut tcp::OwnedReadHalf, typed: usize) -> Result<Vec<u8>> {
    let mut message = vec![0; typed + 4];
    from.read_exact(&mut message).await?;
    let length = message[typed..].iter().fold(0_usize, |length, byte| length << 8 | usize::from(*byte));
    message.resize(typed + length.max(4), 0);
    from.read_exact(&mut message[typed + 4..]).await?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Starts a server that answers each request with the status that the request carries, as Postgres would.
    async fn server(scheme: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("{scheme}://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = client.into_split();
                    let mut typed = 0;
                    while let Ok(message) = read(&mut from, typed).await {
                        let answer = [READY, 0, 0, 0, 5, *message.last().expect("a status")];
                        typed = 1;
                        if to.write_all(&answer).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        address
    }

    async fn client(proxy: &Proxy) -> TcpStream {
        let url = Url::parse(&proxy.address).expect("an address");
        let mut stream = TcpStream::connect(("127.0.0.1", url.port().expect("a port"))).await.expect("a proxy");
        stream.write_all(&[0, 0, 0, 5, IDLE]).await.expect("it takes the startup");
        stream
    }

    /// Sends queries after which the connection has these states, in one go, and reads the answers.
    async fn ask(stream: &mut TcpStream, states: &[u8]) -> Result<()> {
        let queries: Vec<u8> = states.iter().flat_map(|state| [b'Q', 0, 0, 0, 5, *state]).collect();
        stream.write_all(&queries).await?;
        answers_to(stream, states.len()).await
    }

    async fn answers_to(stream: &mut TcpStream, queries: usize) -> Result<()> {
        let answers = async {
            let mut answers = vec![0; queries * 6];
            stream.read_exact(&mut answers).await
        };
        tokio::time::timeout(Duration::from_secs(5), answers).await.map_err(|_| Error::from(ErrorKind::TimedOut))??;
        Ok(())
    }

    #[tokio::test]
    async fn requests_sent_together_are_one_round_trip_and_connecting_is_none() {
        let proxy = Proxy::start(&server("postgres").await, 0).await.expect("a free port");
        let mut client = client(&proxy).await;
        answers_to(&mut client, 1).await.expect("the answer to the startup");
        assert_eq!((proxy.round_trips(), proxy.waits()), (0, 0));

        ask(&mut client, b"I").await.expect("an answer");
        ask(&mut client, b"TTI").await.expect("three answers");
        assert_eq!((proxy.round_trips(), proxy.waits()), (2, 2));
    }

    #[tokio::test]
    async fn a_request_of_its_own_within_a_transaction_is_a_wait_and_no_round_trip() {
        let proxy = Proxy::start(&server("postgres").await, 0).await.expect("a free port");
        let mut client = client(&proxy).await;
        answers_to(&mut client, 1).await.expect("the answer to the startup");

        for state in [b"T", b"T", b"I", b"I"] {
            ask(&mut client, state).await.expect("an answer");
        }
        assert_eq!((proxy.round_trips(), proxy.waits()), (2, 4));
    }

    #[tokio::test]
    async fn a_shut_proxy_turns_connections_away_until_it_is_open_again() {
        for scheme in ["postgres", "http"] {
            let proxy = Proxy::start(&server(scheme).await, 0).await.expect("a free port");
            let mut before = client(&proxy).await;
            answers_to(&mut before, 1).await.expect("the answer to the startup");

            proxy.shut();
            let mut meanwhile = client(&proxy).await;
            assert!(ask(&mut before, b"I").await.is_err() && answers_to(&mut meanwhile, 1).await.is_err());
            assert_eq!(proxy.turned_away(), 1);

            proxy.open();
            let mut after = client(&proxy).await;
            answers_to(&mut after, 1).await.expect("the answer to the startup");
            proxy.cut();
            assert!(ask(&mut after, b"I").await.is_err());
            assert_eq!(proxy.turned_away(), 1);
        }
    }
}
