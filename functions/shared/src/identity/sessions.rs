//! Sessions: one for each signed-in browser, with a family of refresh tokens. A session is live while its row, its user
//! and its organisation are. Redis stores live sessions only, for a minute at most, and never a refusal.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    tokens::{Audience, Grant, Signer},
    users::{Account, Role, role_of},
};
use crate::{
    App,
    platform::{
        config::var,
        db::{ClientId, DbError, Scope, Statement, get},
        secrets::Secret,
    },
};

/// The longest life of a family of refresh tokens.
const FAMILY_LIFE: SignedDuration = SignedDuration::from_hours(60 * 24);
/// The longest life of a refresh token of the platform's admin.
const ADMIN_REFRESH_LIFE: SignedDuration = SignedDuration::from_hours(12);
/// The most sessions of a user. With one more, the oldest ends.
const MAX_SESSIONS_PER_USER: i64 = 10;
/// The time for which Redis stores that a session is live.
const CACHE_LIFE: Duration = Duration::from_mins(1);

/// A session that is about to be stored, with the data of its first tokens.
pub struct NewSession {
    /// Its id.
    pub id: Uuid,
    refresh_jti: String,
    now: Timestamp,
    access_ends: Timestamp,
    refresh_ends: Timestamp,
}

/// The tokens of a session.
pub struct Tokens {
    /// For calling the API.
    pub access: Secret,
    /// For getting new tokens.
    pub refresh: Secret,
    /// The life of the access token, seconds.
    pub expires_in: i64,
}

impl NewSession {
    /// Makes a session for a person who has just signed in.
    pub fn new(app: &App, role: Role) -> Self {
        let seconds = |variable| SignedDuration::from_secs(app.config().number(variable).unwrap_or_default());
        let now = Timestamp::now();
        let refresh_life = match role {
            Role::Admin => seconds(var::REFRESH_EXPIRES).min(ADMIN_REFRESH_LIFE),
            Role::Owner | Role::Manager => seconds(var::REFRESH_EXPIRES),
        };
        Self {
            id: Uuid::new_v4(),
            refresh_jti: Secret::random().expose().to_owned(),
            now,
            access_ends: now + seconds(var::JWT_EXPIRES),
            refresh_ends: now + refresh_life.min(FAMILY_LIFE),
        }
    }

    /// Returns the statements that open it. The first returns a row only while the user and the organisation may work.
    /// The last returns the ids of the sessions that ended because the user had too many.
    pub fn open(&self, user_id: i64) -> Vec<Statement> {
        let session = Statement::new(
            "INSERT INTO sessions (id, user_id, kind, auth_time, expires_at)
             SELECT $1, u.id, 'api', $3, $4 FROM users u LEFT JOIN tenancy_clients c ON c.client_id = u.client_id
             WHERE u.id = $2 AND u.is_active AND c.suspended_at IS NULL
             RETURNING id",
        );
        let refresh_token = Statement::new(
            "INSERT INTO refresh_tokens (jti_hash, session_id, issued_at, expires_at)
             SELECT $1, id, $3, $4 FROM sessions WHERE id = $2",
        );
        let end_oldest = Statement::new(
            "UPDATE sessions SET ended_at = now(), ended_reason = 'too_many'
             WHERE id IN (SELECT id FROM sessions
                          WHERE user_id = $1 AND id <> $2 AND ended_at IS NULL AND expires_at > now()
                          ORDER BY created_at DESC, id OFFSET $3)
             RETURNING id",
        );
        vec![
            session.bind(self.id).bind(user_id).bind(self.now).bind(self.now + FAMILY_LIFE),
            refresh_token
                .bind(Secret::new(self.refresh_jti.as_str()).hash().to_vec())
                .bind(self.id)
                .bind(self.now)
                .bind(self.refresh_ends),
            end_oldest.bind(user_id).bind(self.id).bind(MAX_SESSIONS_PER_USER - 1),
        ]
    }

    /// Makes the first tokens of the session, once it is open.
    pub fn tokens(&self, app: &App, account: &Account) -> Tokens {
        let signer = Signer::of(app);
        let access_jti = Uuid::new_v4().to_string();
        let grant = |jti, expires_at| Grant {
            user_id: account.user.id,
            role: account.user.role,
            client_id: account.user.client_id,
            session_id: self.id,
            jti,
            auth_time: self.now,
            issued_at: self.now,
            expires_at,
        };
        Tokens {
            access: signer.sign(Audience::Api, &grant(&access_jti, self.access_ends)),
            refresh: signer.sign(Audience::Refresh, &grant(&self.refresh_jti, self.refresh_ends)),
            expires_in: self.access_ends.as_second() - self.now.as_second(),
        }
    }
}

/// The person of a live session. This, not the token's claims, decides role and tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The person.
    pub user_id: i64,
    /// The organisation. `None`: the person is the platform's admin.
    pub client_id: Option<ClientId>,
    /// The person's role.
    pub role: Role,
}

fn cache_key(session_id: Uuid) -> String {
    format!("session:{session_id}")
}

/// Returns the session if it is live. Redis is asked first, then Postgres. `None`: the session is not live.
pub async fn live(app: &App, session_id: Uuid) -> Result<Option<Live>, DbError> {
    let key = cache_key(session_id);
    let cached = app.cache().get(&key).await;
    if let Ok(Some(text)) = &cached
        && let Ok(session) = serde_json::from_str(text)
    {
        return Ok(Some(session));
    }
    let Some(session) = stored(app, session_id).await? else { return Ok(None) };
    if cached.is_ok()
        && let Ok(text) = serde_json::to_string(&session)
    {
        _ = app.cache().set(&key, &text, CACHE_LIFE).await; // if that fails, the next request asks Postgres again
    }
    Ok(Some(session))
}

async fn stored(app: &App, session_id: Uuid) -> Result<Option<Live>, DbError> {
    let statement = Statement::new(
        "SELECT s.user_id, u.client_id, u.role
         FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN tenancy_clients c ON c.client_id = u.client_id
         WHERE s.id = $1 AND s.kind = 'api' AND s.ended_at IS NULL AND s.expires_at > now()
           AND u.is_active AND c.suspended_at IS NULL",
    );
    let rows = app.db().query(Scope::Identity, statement.bind(session_id)).await?;
    let read = |row| {
        let client_id: Option<i64> = get(row, "client_id")?;
        Ok(Live { user_id: get(row, "user_id")?, client_id: client_id.map(ClientId), role: role_of(row)? })
    };
    rows.first().map(read).transpose()
}

/// Deletes from Redis the sessions that have just ended.
pub async fn forget(app: &App, ended: &[Uuid]) {
    for session_id in ended {
        _ = app.cache().delete(&cache_key(*session_id)).await; // if that fails, the entry expires within a minute
    }
}

/// The time for which sessions and refresh tokens stay after their end, days.
const KEEP_DAYS: i32 = 7;
/// The most rows that one transaction removes.
const FORGET_BATCH: i64 = 500;

/// Forgets sessions and refresh tokens a week after their end. Returns the number of sessions.
pub async fn forget_ended(app: &App, until: Instant) -> Result<usize, DbError> {
    let tokens = Statement::new(
        "DELETE FROM refresh_tokens WHERE jti_hash = ANY(ARRAY(
             SELECT jti_hash FROM refresh_tokens WHERE expires_at < now() - make_interval(days => $1)
             ORDER BY expires_at LIMIT $2))
         RETURNING 1",
    );
    let sessions = Statement::new(
        "DELETE FROM sessions WHERE id = ANY(ARRAY(
             SELECT id FROM sessions WHERE least(ended_at, expires_at) < now() - make_interval(days => $1)
             ORDER BY least(ended_at, expires_at) LIMIT $2))
         RETURNING 1",
    );
    let mut forgotten = 0;
    let batch = usize::try_from(FORGET_BATCH).unwrap_or_default();
    while Instant::now() < until {
        let both = [&tokens, &sessions].map(|statement| statement.clone().bind(KEEP_DAYS).bind(FORGET_BATCH));
        let results = app.db().run(Scope::Identity, both.into()).await?;
        let [tokens, sessions] = [0, 1].map(|index| results.get(index).map_or(0, Vec::len));
        forgotten += sessions;
        if tokens < batch && sessions < batch {
            break;
        }
    }
    Ok(forgotten)
}
