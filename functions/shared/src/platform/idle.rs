//! Connections that were idle for long are closed by us, before a server, a gateway or a pooler closes them: of a
//! request that is sent on such a connection nobody knows if it was done. Lambda freezes a process between two events,
//! and its timers may stand still meanwhile, so the wall clock counts as well.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// The longest that a connection for HTTP may be idle; Telegram closes after some 75 s.
pub const MAX_HTTP_IDLE: Duration = Duration::from_secs(50);
/// The longest that a connection to Postgres or Redis may be idle.
pub const MAX_STORE_IDLE: Duration = Duration::from_secs(60);

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    wall: SystemTime,
    running: Instant,
}

impl Moment {
    /// The present.
    pub fn now() -> Self {
        Self { wall: SystemTime::now(), running: Instant::now() }
    }

    /// The time that has passed since, by the clock that says more: one may stand still, the other may be set back.
    pub fn elapsed(self) -> Duration {
        let now = Self::now();
        now.since(self).max(now.running.saturating_duration_since(self.running))
    }

    /// The time since `earlier` for which the process was frozen and its timers stood still.
    fn frozen_since(self, earlier: Self) -> Duration {
        self.since(earlier).saturating_sub(self.running.saturating_duration_since(earlier.running))
    }

    fn since(self, earlier: Self) -> Duration {
        self.wall.duration_since(earlier.wall).unwrap_or_default()
    }
}

/// An HTTP client, none of whose connections is used after it was idle for a time.
pub struct HttpClient {
    describe: Box<dyn Fn() -> reqwest::ClientBuilder + Send + Sync>,
    max_idle: Duration,
    made: Mutex<Option<(reqwest::Client, Moment)>>,
}

impl HttpClient {
    /// Describes the client, which is made on first use. `max_idle`: its connections may be idle for so long.
    pub fn new(max_idle: Duration, describe: impl Fn() -> reqwest::ClientBuilder + Send + Sync + 'static) -> Self {
        Self { describe: Box::new(describe), max_idle, made: Mutex::new(None) }
    }

    /// The client, for one piece of work.
    pub fn get(&self) -> reqwest::Client {
        self.at(Moment::now())
    }

    /// The client at this moment. Its own timers see how long a connection was idle while the process ran; once it was
    /// frozen for a fifth of the limit in all, another client takes its place. The two add up to the limit.
    fn at(&self, now: Moment) -> reqwest::Client {
        let max_frozen = self.max_idle / 5;
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, since)) = &*made
            && now.frozen_since(*since) < max_frozen
        {
            return client.clone();
        }
        let client = (self.describe)().pool_idle_timeout(self.max_idle.checked_sub(max_frozen)).build();
        let client = client.expect("the HTTP client's settings are constants");
        *made = Some((client.clone(), now));
        client
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_millis(500);

    /// Starts a server that keeps its connections open. Returns its address and the count of its connections.
    async fn server() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}/", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    while client.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        let _ = client.write_all(answer).await;
                    }
                });
            }
        });
        (address, connections)
    }

    async fn ask(client: &reqwest::Client, address: &str) {
        let answer = client.get(address).send().await.expect("an answer");
        answer.bytes().await.expect("its body");
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_for_less_than_the_limit_is_used_again_and_a_longer_one_is_not() {
        let (address, connections) = server().await;
        let client = HttpClient::new(LIMIT, reqwest::Client::builder);
        for (pause, wanted) in [(Duration::ZERO, 1), (LIMIT / 10, 1), (LIMIT, 2)] {
            tokio::time::sleep(pause).await;
            ask(&client.get(), &address).await;
            assert_eq!(connections.load(Ordering::SeqCst), wanted, "after {pause:?}");
        }
    }

    #[tokio::test]
    async fn connections_from_before_the_process_was_frozen_are_not_used_again() {
        let (address, connections) = server().await;
        let client = HttpClient::new(LIMIT, reqwest::Client::builder);
        let now = Moment::now();
        let frozen_for = |time: Duration| Moment { wall: now.wall + time, ..now };
        for (frozen, wanted) in [(Duration::ZERO, 1), (LIMIT / 10, 1), (LIMIT, 2)] {
            ask(&client.at(frozen_for(frozen)), &address).await;
            assert_eq!(connections.load(Ordering::SeqCst), wanted, "frozen for {frozen:?}");
        }
    }

    #[test]
    fn time_passes_by_whichever_clock_goes_on() {
        let now = Moment::now();
        let hour = Duration::from_secs(3600);
        let frozen = Moment { wall: now.wall - hour, ..now };
        let set_back = Moment { wall: now.wall + hour, running: now.running.checked_sub(LIMIT).expect("uptime") };
        assert!(frozen.elapsed() >= hour && now.frozen_since(frozen) == hour);
        assert!((LIMIT..hour).contains(&set_back.elapsed()) && now.frozen_since(set_back).is_zero());
    }
}
