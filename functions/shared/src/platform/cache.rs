//! Redis, for data that may vanish. Every caller must be right without it; an error here costs speed only.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis::{
    AsyncCommands,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Mutex;

use super::{
    idle::{MAX_STORE_IDLE, Moment},
    secrets::Secret,
};

/// Redis did not answer. Names no keys and values.
#[derive(Debug, thiserror::Error)]
#[error("Redis did not answer")]
pub struct CacheError;

impl From<redis::RedisError> for CacheError {
    fn from(_: redis::RedisError) -> Self {
        metrics::counter!("cache_errors").increment(1);
        Self
    }
}

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);

/// The process's one Redis connection, opened on first use and after it was idle for long; it reconnects by itself.
pub struct Cache {
    address: Secret,
    /// With the moment of its last use.
    connection: Mutex<Option<(ConnectionManager, Moment)>>,
    round_trips: AtomicU64,
}

impl Cache {
    /// Describes the server; nothing is opened yet.
    pub fn new(address: Secret) -> Self {
        Self { address, connection: Mutex::new(None), round_trips: AtomicU64::new(0) }
    }

    /// The number of times that this process waited for Redis, without those for connecting.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Relaxed)
    }

    /// The connection, for one command.
    async fn connection(&self) -> Result<ConnectionManager, CacheError> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.connection.lock().await;
        if let Some((connection, used)) = kept.as_mut().filter(|(_, used)| used.elapsed() < MAX_STORE_IDLE) {
            *used = Moment::now();
            return Ok(connection.clone());
        }
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_number_of_retries(1);
        let client = redis::Client::open(self.address.expose())?;
        let connection = ConnectionManager::new_with_config(client, config).await?;
        *kept = Some((connection.clone(), Moment::now()));
        Ok(connection)
    }

    /// The text under `key`. None: there is no such key.
    pub async fn get(&self, key: &str) -> Result<Option<String>, CacheError> {
        Ok(self.connection().await?.get(key).await?)
    }

    /// Puts `text` under `key` for `life`.
    pub async fn set(&self, key: &str, text: &str, life: Duration) -> Result<(), CacheError> {
        Ok(self.connection().await?.set_ex(key, text, life.as_secs().max(1)).await?)
    }

    /// Removes `key`.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        Ok(self.connection().await?.del(key).await?)
    }

    /// Adds one to the counter under `key` and returns the new count. The counter vanishes `life` after its first
    /// count.
    pub async fn count(&self, key: &str, life: Duration) -> Result<i64, CacheError> {
        let mut connection = self.connection().await?;
        let (count, _): (i64, i64) = redis::pipe()
            .atomic()
            .incr(key, 1)
            .cmd("EXPIRE")
            .arg(key)
            .arg(life.as_secs().max(1))
            .arg("NX")
            .query_async(&mut connection)
            .await?;
        Ok(count)
    }

    /// Runs a script on `key`; the script returns a number.
    pub async fn script(&self, text: &'static str, key: &str, arguments: &[i64]) -> Result<i64, CacheError> {
        let mut connection = self.connection().await?;
        Ok(redis::cmd("EVAL").arg(text).arg(1).arg(key).arg(arguments).query_async(&mut connection).await?)
    }

    /// Adds a member to the set under `key`, unless it has `most` members. The set vanishes `life` after the last call.
    pub async fn add(&self, key: &str, member: &str, most: i64, life: Duration) -> Result<(), CacheError> {
        const ADD: &str = "
            if redis.call('SCARD', KEYS[1]) < tonumber(ARGV[2]) then redis.call('SADD', KEYS[1], ARGV[1]) end
            redis.call('EXPIRE', KEYS[1], ARGV[3])";
        let mut connection = self.connection().await?;
        let mut command = redis::cmd("EVAL");
        command.arg(ADD).arg(1).arg(key).arg(member).arg(most).arg(life.as_secs().max(1));
        Ok(command.query_async(&mut connection).await?)
    }

    /// The members of the set under `key`.
    pub async fn members(&self, key: &str) -> Result<Vec<String>, CacheError> {
        Ok(self.connection().await?.smembers(key).await?)
    }

    /// Removes members from the set under `key`.
    pub async fn remove(&self, key: &str, members: &[String]) -> Result<(), CacheError> {
        Ok(self.connection().await?.srem(key, members).await?)
    }

    /// Checks that the server answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        let mut connection = self.connection().await?;
        Ok(redis::cmd("PING").query_async(&mut connection).await?)
    }
}
