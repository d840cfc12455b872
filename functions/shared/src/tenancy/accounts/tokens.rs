//! Access tokens of Avito accounts. One request for a token is made at a time per account, whichever workers need it, and after a
//! failure none for a while: the row of the account says when the next one may be made.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::keys::{Keys, secret_context, token_context};
use crate::{
    App, avito,
    platform::{
        config::var,
        db::{DbError, Scope, Statement, get},
        endings::{Duty, History, Verdict, spread},
        secrets::{Secret, SecretsError},
    },
};

/// A token this close to its end is not used any more.
const TOKEN_MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// A token younger than this is not renewed because a call was refused: another one would be refused as well.
const MIN_RENEWAL_AGE: SignedDuration = SignedDuration::from_secs(60);
/// The time that one request reserves, longer than a call to Avito takes. A worker that dies meanwhile blocks the others so long.
const REQUEST_RESERVATION: Duration = Duration::from_secs(15);
/// The pause between two readings of the row while another worker requests a token, and their number.
const READ_PAUSE: Duration = Duration::from_millis(300);
const MAX_READS: u32 = 10;

/// A reason why there is no access token. Avito's texts are never printed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Avito does not accept the keys. The text is for the account's owner.
    #[error("Avito refuses the account's keys")]
    Refused(String),
    /// Avito cannot be asked now. The next request may be made after this time.
    #[error("Avito cannot be asked for a token now")]
    Unavailable(Duration),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A stored secret does not open.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
}

/// Returns a client of Avito's API.
pub fn avito(app: &App) -> avito::Client {
    let base =
        app.config().text(var::AVITO_API_BASE).parse().expect("the address was checked when the function started");
    let client = avito::Client::new(app.outside().clone(), base);
    match app.call_timeout() {
        Some(timeout) => client.with_timeout(timeout),
        None => client,
    }
}

/// Returns an access token for the account: the stored one while it is valid, else a new one.
pub async fn access_token(app: &App, keys: &Keys) -> Result<Secret, TokenError> {
    match stored_token(app, keys)? {
        Some(token) => Ok(token),
        None => renew(app, keys).await,
    }
}

/// Returns an access token in place of one that Avito has just refused. If another worker has renewed it already, that
/// token is used, because a second renewal would end it. None: the refused token is so new that the refusal means something else.
pub async fn renewed_token(app: &App, keys: &Keys, refused: &Secret) -> Result<Option<Secret>, TokenError> {
    let StoredToken { keys, issued_at, .. } = read_again(app, keys).await?;
    match stored_token(app, &keys)? {
        Some(token) if token.expose() != refused.expose() => Ok(Some(token)),
        Some(_) if issued_at.is_some_and(|at| Timestamp::now().duration_since(at) < MIN_RENEWAL_AGE) => Ok(None),
        _ => renew(app, &keys).await.map(Some),
    }
}

fn stored_token(app: &App, keys: &Keys) -> Result<Option<Secret>, SecretsError> {
    let lives = keys.token_expires_at.is_some_and(|end| end > Timestamp::now() + TOKEN_MARGIN);
    let sealed = keys.access_token.as_ref().filter(|_| lives);
    sealed.map(|sealed| app.keyring().open(sealed, token_context(keys.client_id))).transpose()
}

/// Requests a token, if no other worker does and the last failure was long enough ago.
async fn renew(app: &App, keys: &Keys) -> Result<Secret, TokenError> {
    let secret = app.keyring().open(&keys.api_client_secret, secret_context(keys.client_id))?;
    let scope = || Scope::Tenant(keys.client_id);
    let reserved = app.db().query(scope(), reserve_request(keys)).await?;
    let Some(row) = reserved.first() else { return token_of_another_worker(app, keys).await };
    let history = History {
        attempts: get::<i32>(row, "token_attempts")?.unsigned_abs(),
        failing_for: get::<f64>(row, "failing_seconds").map(Duration::from_secs_f64)?,
        ..History::default()
    };
    match avito(app).token(&keys.api_client_id, &secret).await {
        Ok(token) => {
            let sealed = app.keyring().seal(&token.access_token, token_context(keys.client_id));
            app.db().query(scope(), store_token(keys.account_id, sealed, end_of(&token))).await?;
            Ok(token.access_token)
        }
        Err(error) => {
            let wait = match Duty::Token.after(error.outcome(), history) {
                Verdict::Wait { wait, .. } => spread(wait),
                Verdict::Plainer | Verdict::End => REQUEST_RESERVATION,
            };
            app.db().query(scope(), store_failure(keys.account_id, wait)).await?;
            Err(match error.retry_in() {
                Some(_) => TokenError::Unavailable(wait),
                None => TokenError::Refused(error.vendor_message().map_or_else(|| error.to_string(), str::to_owned)),
            })
        }
    }
}

/// Waits for the token that another worker requests. Error: it got none, and the next request may be made later.
async fn token_of_another_worker(app: &App, keys: &Keys) -> Result<Secret, TokenError> {
    for _ in 0..MAX_READS {
        tokio::time::sleep(READ_PAUSE).await;
        let stored = read_again(app, keys).await?;
        if stored.keys.access_token != keys.access_token
            && let Some(token) = stored_token(app, &stored.keys)?
        {
            return Ok(token);
        }
        if stored.failing {
            break;
        }
    }
    let rows = app.db().query(Scope::Tenant(keys.client_id), select_wait(keys.account_id)).await?;
    let wait = rows.first().map(|row| get::<f64>(row, "wait_seconds")).transpose()?.unwrap_or_default();
    Err(TokenError::Unavailable(Duration::from_secs_f64(wait.max(1.0))))
}

/// The keys of an account as they are stored now.
struct StoredToken {
    keys: Keys,
    /// The time at which the token was stored. None: it is not known.
    issued_at: Option<Timestamp>,
    /// True if the last request for a token failed.
    failing: bool,
}

async fn read_again(app: &App, keys: &Keys) -> Result<StoredToken, TokenError> {
    let statement = Statement::new(
        "SELECT client_id, id AS avito_account_id, user_id, api_client_id, api_client_secret, access_token, token_expires_at,
                token_issued_at, token_failed_since IS NOT NULL AS failing
         FROM avito_accounts WHERE id = $1",
    );
    let rows = app.db().query(Scope::Tenant(keys.client_id), statement.bind(keys.account_id)).await?;
    let row = rows.first().ok_or_else(|| TokenError::Refused("the account was removed".to_owned()))?;
    Ok(StoredToken { keys: Keys::read(row)?, issued_at: get(row, "token_issued_at")?, failing: get(row, "failing")? })
}

/// Reserves the next request for a token. No row: another worker makes one, or has stored another token since these keys were read,
/// or the last request failed too recently.
fn reserve_request(keys: &Keys) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET token_due_at = now() + make_interval(secs => $2)
         WHERE id = $1 AND coalesce(token_due_at <= now(), true) AND access_token IS NOT DISTINCT FROM $3
         RETURNING token_attempts, coalesce(extract(epoch FROM now() - token_failed_since), 0)::float8 AS failing_seconds",
    )
    .bind(keys.account_id)
    .bind(REQUEST_RESERVATION.as_secs_f64())
    .bind(keys.access_token.clone())
}

/// Stores a new token, and ends the reservation.
fn store_token(account_id: i64, sealed: Vec<u8>, expires_at: Timestamp) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET access_token = $2, token_expires_at = $3, token_issued_at = now(), token_attempts = 0,
                token_failed_since = NULL, token_due_at = NULL
         WHERE id = $1",
    )
    .bind(account_id)
    .bind(sealed)
    .bind(expires_at)
}

/// Stores that a request for a token failed. The next one is made after `wait`.
fn store_failure(account_id: i64, wait: Duration) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET token_attempts = token_attempts + 1, token_failed_since = coalesce(token_failed_since, now()),
                token_due_at = now() + make_interval(secs => $2)
         WHERE id = $1",
    )
    .bind(account_id)
    .bind(wait.as_secs_f64())
}

/// Selects the seconds until the next request for a token may be made.
fn select_wait(account_id: i64) -> Statement {
    Statement::new(
        "SELECT coalesce(extract(epoch FROM greatest(token_due_at - now(), interval '0')), 0)::float8 AS wait_seconds
         FROM avito_accounts WHERE id = $1",
    )
    .bind(account_id)
}

pub(super) fn end_of(token: &avito::Token) -> Timestamp {
    Timestamp::now() + SignedDuration::try_from(token.expires_in).unwrap_or_default()
}
