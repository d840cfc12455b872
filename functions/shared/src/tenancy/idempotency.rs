//! What is asked twice with one `Idempotency-Key` is done once. The key is a row, claimed in the transaction that makes what was
//! asked for, so there is never one without the other; it is kept for a day.

use axum::http::HeaderMap;
use sha2::{Digest, Sha256};

use crate::{
    App,
    platform::{
        db::{DbError, ResultSets, Scope, Statement, get},
        http::{Problem, text},
        secrets::Secret,
    },
};

/// The longest key.
const MAX_KEY_BYTES: usize = 255;
/// How many old keys one sweep forgets.
const FORGET_BATCH: i64 = 10_000;

/// One request, by whoever asks, the route and the key.
pub struct Request {
    user_id: i64,
    route: &'static str,
    key: String,
    digest: [u8; 32],
}

/// What a claim found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// This row was made, now or when the key came first.
    Created(i64),
    /// Nothing was made, and the key is free.
    Nothing,
    /// The key came first with another request.
    OtherRequest,
}

/// The key of a request's header; none: every request is one of its own. 422 when it cannot be a key.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let detail =
            text("Idempotency-Key — от 1 до 255 знаков ASCII.", "Idempotency-Key is 1 to 255 characters of ASCII.");
        Problem::invalid_field("Idempotency-Key", "invalid", detail)
    })
}

/// 422 for a key that came with another request.
pub fn other_request() -> Problem {
    let detail = text(
        "Этот Idempotency-Key уже использован с другим запросом.",
        "This Idempotency-Key was used with another request.",
    );
    Problem::invalid_field("Idempotency-Key", "idempotency_key_reused", detail)
}

impl Request {
    /// A request that says `content`. Without a key it gets one of its own, so that a transaction which is sent twice still
    /// acts once.
    pub fn new(user_id: i64, route: &'static str, key: Option<String>, content: &str) -> Self {
        let key = key.unwrap_or_else(|| format!("own {}", Secret::random().expose()));
        Self { user_id, route, key, digest: Sha256::digest(content.as_bytes()).into() }
    }

    /// Claims the key, unless it is somebody's. What follows in the transaction acts only where
    /// `app.claimed` is `yes`, and sets `app.result_id` to the row it made; [`Request::store_result`] comes last.
    pub fn claim(&self) -> Statement {
        let claim = Statement::new(
            "WITH claimed AS (
                 INSERT INTO idempotency_keys AS k (client_id, user_id, route, key, digest)
                 SELECT current_client_id(), $1, $2, $3, $4
                 ON CONFLICT (client_id, user_id, route, key) DO UPDATE
                 SET digest = excluded.digest, result_id = NULL, created_at = now()
                 WHERE k.created_at < now() - interval '24 hours'
                 RETURNING k.key
             )
             SELECT set_config('app.claimed', CASE WHEN EXISTS (SELECT FROM claimed) THEN 'yes' ELSE '' END, true),
                    set_config('app.result_id', '', true)",
        );
        self.bind(claim).bind(self.digest.to_vec())
    }

    /// Writes down what was made, or frees the key when nothing was; then says what the key stands for.
    pub fn store_result(&self) -> Vec<Statement> {
        let made = "UPDATE idempotency_keys SET result_id = nullif(current_setting('app.result_id', true), '')::bigint
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3
                      AND current_setting('app.claimed', true) = 'yes'";
        let free = "DELETE FROM idempotency_keys
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3 AND result_id IS NULL";
        let read = "SELECT digest, result_id, set_config('app.result_id', result_id::text, true) FROM idempotency_keys
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3";
        [made, free, read].into_iter().map(|sql| self.bind(Statement::new(sql))).collect()
    }

    /// Reads the answers of [`Request::store_result`], of which the last stands at `place` of the transaction.
    pub fn read(&self, results: &ResultSets, index: usize) -> Result<KeyOutcome, DbError> {
        let Some(row) = results.get(index).and_then(|rows| rows.first()) else { return Ok(KeyOutcome::Nothing) };
        let same = get::<&[u8]>(row, "digest")? == self.digest;
        Ok(if same { KeyOutcome::Created(get(row, "result_id")?) } else { KeyOutcome::OtherRequest })
    }

    fn bind(&self, statement: Statement) -> Statement {
        statement.bind(self.user_id).bind(self.route).bind(self.key.clone())
    }
}

/// Forgets the keys of the day before.
pub async fn forget_old(app: &App) -> Result<(), DbError> {
    let forget = Statement::new(
        "DELETE FROM idempotency_keys WHERE (client_id, user_id, route, key) IN (
             SELECT client_id, user_id, route, key FROM idempotency_keys
             WHERE created_at < now() - interval '24 hours' ORDER BY created_at LIMIT $1)
           AND created_at < now() - interval '24 hours'",
    );
    app.db().query(Scope::Service, forget.bind(FORGET_BATCH)).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn key_of(value: &[u8]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_bytes(value).ok()?);
        key(&headers).ok().flatten()
    }

    #[test]
    fn a_key_is_short_ascii_and_may_be_left_out() {
        assert_eq!(key(&HeaderMap::new()).ok(), Some(None));
        assert_eq!(key_of(b" 7f3a "), Some("7f3a".to_owned()));
        let long = "k".repeat(256);
        for wrong in [b"".as_slice(), b"  ", "ключ".as_bytes(), long.as_bytes()] {
            assert_eq!(key_of(wrong), None);
        }
    }

    #[test]
    fn requests_without_a_key_are_never_the_same() {
        let one = || Request::new(1, "r", None, "x").key;
        assert_ne!(one(), one());
    }
}
