//! The rate limit of an Avito account: Redis counts the calls that are left in this minute, once for all workers.
//! Replies come first: calls that can wait stop while some are left for replies. Without Redis every process keeps to a
//! slow pace of its own.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use crate::{
    App,
    avito::{Error, Reply},
};

/// The priority of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bridge) enum CallPriority {
    /// A person waits for it.
    Reply,
    /// It can wait: polls, marking read.
    Background,
    /// It is useful within a moment or not at all: the order within a second.
    Optional,
}

impl CallPriority {
    /// The calls of a minute that it leaves for replies.
    fn reserved(self) -> i64 {
        if self == Self::Reply { 0 } else { RESERVED_FOR_REPLIES }
    }

    /// The longest wait for a slot at the slow pace. Replies do not wait: the lease under which they are sent would
    /// expire.
    fn max_wait(self) -> Duration {
        match self {
            Self::Reply => Duration::ZERO,
            Self::Background => MAX_SLOW_WAIT,
            Self::Optional => SLOW_INTERVAL,
        }
    }
}

/// Calls a minute until Avito names another number.
const DEFAULT_CALLS_A_MINUTE: i64 = 60;
/// Calls that are left for replies; a third of all calls if Avito allows few.
const RESERVED_FOR_REPLIES: i64 = 20;
/// The longest wait for Redis before a call.
pub(in crate::bridge) const REDIS_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval between two calls for one account while Redis is away.
const SLOW_INTERVAL: Duration = Duration::from_secs(3);
/// The longest wait of a call that can wait for a slot at the slow pace.
const MAX_SLOW_WAIT: Duration = Duration::from_secs(9);

/// Takes one call. `ARGV`: calls a minute, calls reserved for replies. Returns 0, or the milliseconds until there are
/// new calls.
const TAKE: &str = "
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    local known = redis.call('HMGET', KEYS[1], 'left', 'ends', 'limit')
    local left, ends, limit = tonumber(known[1]), tonumber(known[2]), tonumber(known[3]) or tonumber(ARGV[1])
    if not left or not ends or ends <= now then left, ends = limit, now + 60000 end
    if left <= math.min(tonumber(ARGV[2]), math.floor(limit / 3)) then return ends - now end
    redis.call('HSET', KEYS[1], 'left', left - 1, 'ends', ends)
    redis.call('EXPIRE', KEYS[1], 3600)
    return 0";

/// Stores Avito's own numbers. `ARGV`: calls left, calls a minute or 0, milliseconds until there are new ones or 0.
const NOTE: &str = "
    redis.call('HSET', KEYS[1], 'left', ARGV[1])
    if tonumber(ARGV[2]) > 0 then redis.call('HSET', KEYS[1], 'limit', ARGV[2]) end
    if tonumber(ARGV[3]) > 0 then
        local time = redis.call('TIME')
        redis.call('HSET', KEYS[1], 'ends', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[3])
    end
    redis.call('EXPIRE', KEYS[1], 3600)
    return 0";

static NEXT_SLOTS: LazyLock<Mutex<HashMap<i64, Instant>>> = LazyLock::new(Mutex::default);

/// Stores the number of calls left that an answer reports. If Redis does not take it, the next answer reports it again.
pub(super) async fn note<T>(app: &App, account_id: i64, answer: &Result<Reply<T>, Error>) {
    let reported = match answer {
        Ok(Reply { rate_limit: Some(rate_limit), .. }) => {
            Some([i64::from(rate_limit.remaining), rate_limit.limit.map_or(0, i64::from), 0])
        }
        Err(Error::RateLimited { retry_after }) => Some([0, 0, milliseconds(*retry_after)]),
        _ => None,
    };
    if let Some(reported) = reported {
        let _ = tokio::time::timeout(REDIS_TIMEOUT, app.cache().script(NOTE, &key(account_id), &reported)).await;
    }
}

pub(super) async fn take(app: &App, account_id: i64, priority: CallPriority) -> Result<(), Error> {
    let (key, arguments) = (key(account_id), [DEFAULT_CALLS_A_MINUTE, priority.reserved()]);
    let taking = app.cache().script(TAKE, &key, &arguments);
    match tokio::time::timeout(REDIS_TIMEOUT, taking).await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(wait)) => {
            metrics::counter!("avito_rate_limit_reached").increment(1);
            Err(Error::RateLimited { retry_after: Duration::from_millis(wait.unsigned_abs()) })
        }
        Ok(Err(_)) | Err(_) => at_slow_pace(account_id, priority).await,
    }
}

async fn at_slow_pace(account_id: i64, priority: CallPriority) -> Result<(), Error> {
    match slot(account_id, priority.max_wait()) {
        Ok(wait) => {
            tokio::time::sleep(wait).await;
            Ok(())
        }
        Err(retry_after) => Err(Error::RateLimited { retry_after }),
    }
}

/// Takes the account's next slot, and returns the wait until then. Err: the wait would be longer than `max_wait`, and
/// no slot is taken.
fn slot(account_id: i64, max_wait: Duration) -> Result<Duration, Duration> {
    let now = Instant::now();
    let mut slots = NEXT_SLOTS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    slots.retain(|_, next| *next > now);
    let next = slots.get(&account_id).copied().unwrap_or(now);
    let wait = next.saturating_duration_since(now);
    if wait > max_wait {
        return Err(wait);
    }
    slots.insert(account_id, next + SLOW_INTERVAL);
    Ok(wait)
}

fn key(account_id: i64) -> String {
    format!("avito-rate-limit:{account_id}")
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_redis_an_account_has_a_slot_every_three_seconds_and_replies_do_not_wait_for_one() {
        assert_eq!(slot(-1, Duration::ZERO), Ok(Duration::ZERO));
        assert!(slot(-1, Duration::ZERO).is_err_and(|wait| wait <= SLOW_INTERVAL && wait > SLOW_INTERVAL / 2));
        assert_eq!(slot(-2, Duration::ZERO), Ok(Duration::ZERO), "another account");
        let second = slot(-1, MAX_SLOW_WAIT);
        assert!(second.is_ok_and(|wait| wait <= SLOW_INTERVAL && wait > SLOW_INTERVAL / 2));
        let third = slot(-1, MAX_SLOW_WAIT);
        assert!(third.is_ok_and(|wait| wait > SLOW_INTERVAL));
    }
}
