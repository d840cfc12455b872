//! Redis: what may vanish. Every caller must be right without it; an error here costs speed only.

use std::time::Duration;

use redis::{
    AsyncCommands,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::OnceCell;

use super::secrets::Secret;

/// Redis did not answer. Says nothing of keys and values.
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

/// The process's one Redis connection, opened on first use; it reconnects by itself.
pub struct Cache {
    address: Secret,
    connection: OnceCell<ConnectionManager>,
}

impl Cache {
    /// Describes the server; nothing is opened yet.
    pub fn new(address: Secret) -> Self {
        Self { address, connection: OnceCell::new() }
    }

    async fn connection(&self) -> Result<ConnectionManager, CacheError> {
        let open = || async {
            let config = ConnectionManagerConfig::new()
                .set_connection_timeout(Some(CONNECT_TIMEOUT))
                .set_response_timeout(Some(ANSWER_TIMEOUT))
                .set_number_of_retries(1);
            let client = redis::Client::open(self.address.expose())?;
            Ok::<_, CacheError>(ConnectionManager::new_with_config(client, config).await?)
        };
        Ok(self.connection.get_or_try_init(open).await?.clone())
    }

    /// The text under `key`, if there is one.
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

    /// Adds one to the counter under `key`, which vanishes `life` after its first count; answers the new count.
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

    /// Whether the server answers.
    pub async fn ping(&self) -> Result<(), CacheError> {
        let mut connection = self.connection().await?;
        Ok(redis::cmd("PING").query_async(&mut connection).await?)
    }
}
