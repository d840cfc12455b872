//! Idempotency: a request that comes twice with one `Idempotency-Key` is carried out once. The key is a row that is
//! claimed in the transaction which carries the request out, so neither exists without the other. It is stored for a
//! day.

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
/// The most old keys that one sweep deletes.
const FORGET_BATCH: i64 = 10_000;

/// One request, identified by its user, its route and its key.
pub struct Request {
    user_id: i64,
    route: &'static str,
    key: String,
    digest: [u8; 32],
}

/// The outcome of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The row with this id was created, now or by the first request with the key.
    Created(i64),
    /// Nothing was created, and the key is free again.
    Nothing,
    /// The key was used for another request before.
    OtherRequest,
}

/// Reads the key from a request's headers. `None`: there is none, and the request is always carried out. 422: the
/// header cannot be a key.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_KEY_BYTES).contains(&key.len()));
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        let detail =
            text("Idempotency-Key — от 1 до 255 знаков ASCII.", "Idempotency-Key is 1 to 255 characters of ASCII.");
        Problem::invalid_field("Idempotency-Key", "invalid", detail)
    })
}

/// Returns the 422 for a key that was used for another request before.
pub fn other_request() -> Problem {
    let detail = text(
        "Этот Idempotency-Key уже использован с другим запросом.",
        "This Idempotency-Key was used with another request.",
    );
    Problem::invalid_field("Idempotency-Key", "idempotency_key_reused", detail)
}

impl Request {
    /// Makes a request with this content. Without a key it gets a random one, so that a transaction which is sent twice
    /// still acts once.
    pub fn new(user_id: i64, route: &'static str, key: Option<String>, content: &str) -> Self {
        let key = key.unwrap_or_else(|| format!("own {}", Secret::random().expose()));
        Self { user_id, route, key, digest: Sha256::digest(content.as_bytes()).into() }
    }

    /// Claims the key, unless another request has it. The statements that follow in the transaction act only if
    /// `app.claimed` is `yes`, and set `app.result_id` to the row that they create. [`Request::store_result`] comes
    /// last.
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

    /// Stores the id of the created row, or frees the key if there is none. Then reads what is stored for the key.
    pub fn store_result(&self) -> Vec<Statement> {
        let save = "UPDATE idempotency_keys SET result_id = nullif(current_setting('app.result_id', true), '')::bigint
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3
                      AND current_setting('app.claimed', true) = 'yes'";
        let free = "DELETE FROM idempotency_keys
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3 AND result_id IS NULL";
        let read = "SELECT digest, result_id, set_config('app.result_id', result_id::text, true) FROM idempotency_keys
                    WHERE client_id = current_client_id() AND user_id = $1 AND route = $2 AND key = $3";
        [save, free, read].into_iter().map(|sql| self.bind(Statement::new(sql))).collect()
    }

    /// Reads the result of [`Request::store_result`], whose last statement has this index in the transaction.
    pub fn read(&self, results: &ResultSets, index: usize) -> Result<KeyOutcome, DbError> {
        let Some(row) = results.get(index).and_then(|rows| rows.first()) else { return Ok(KeyOutcome::Nothing) };
        let same = get::<&[u8]>(row, "digest")? == self.digest;
        Ok(if same { KeyOutcome::Created(get(row, "result_id")?) } else { KeyOutcome::OtherRequest })
    }

    fn bind(&self, statement: Statement) -> Statement {
        statement.bind(self.user_id).bind(self.route).bind(self.key.clone())
    }
}

/// Deletes the keys that are older than a day.
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
