//! Notifies owners of failures, through the master bot. Tenancy stores the notices; identity knows the owners.

use std::time::{Duration, Instant};

use serde::de::IgnoredAny;
use serde_json::json;

use crate::{
    App,
    platform::{
        config::var,
        db::{ClientId, DbError, Scope, Statement, get},
        secrets::Secret,
    },
    telegram,
    tenancy::{
        bots,
        notices::{self, Notice},
    },
};

/// The time that one round may take. The next round goes on.
const MAX_ROUND_DURATION: Duration = Duration::from_secs(25);

/// Sends the notices that are due to the owners. Returns how many notices are done now.
pub async fn send_notices(app: &App) -> Result<usize, DbError> {
    let rows = app.db().query(Scope::Service, notices::claim_notices()).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let due = rows.iter().map(Notice::read).collect::<Result<Vec<_>, _>>()?;
    let owners = owners(app, due.iter().map(|notice| notice.client_id.0).collect()).await?;
    let bot = bots::telegram(app, Secret::new(app.config().text(var::MASTER_BOT_TOKEN)));
    let stop = Instant::now() + MAX_ROUND_DURATION;
    let mut done = Vec::new();
    for notice in due {
        if Instant::now() >= stop {
            break;
        }
        let chats: Vec<i64> =
            owners.iter().filter(|(client, _)| *client == notice.client_id).map(|(_, chat_id)| *chat_id).collect();
        if send_notice(&bot, &notice, &chats).await {
            done.push(notice.id);
        }
    }
    let count = done.len();
    app.db().query(Scope::Service, notices::mark_notices_sent(done)).await?;
    Ok(count)
}

/// Returns the private chats of organisations' owners. A person's private chat has the person's id.
async fn owners(app: &App, client_ids: Vec<i64>) -> Result<Vec<(ClientId, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT client_id, coalesce(telegram_chat_id, telegram_user_id) AS chat_id FROM users
         WHERE client_id = ANY($1) AND role = 'owner' AND is_active
           AND coalesce(telegram_chat_id, telegram_user_id) IS NOT NULL",
    );
    let rows = app.db().query(Scope::Identity, statement.bind(client_ids)).await?;
    rows.iter().map(|row| Ok((ClientId(get(row, "client_id")?), get(row, "chat_id")?))).collect()
}

/// Sends one notice to all owners. Returns true if it is done: an owner got it, or no owner can be reached.
async fn send_notice(bot: &telegram::Bot, notice: &Notice, chats: &[i64]) -> bool {
    let (mut is_sent, mut may_pass) = (false, false);
    for chat_id in chats {
        let params = json!({ "chat_id": chat_id, "text": notice.text });
        match bot.call::<_, IgnoredAny>("sendMessage", &params).await {
            Ok(_) | Err(telegram::Error::Unreadable) => is_sent = true,
            Err(error) => {
                tracing::warn!(notice_id = notice.id, %error, "an owner was not notified");
                may_pass |= error.retry_in().is_some();
            }
        }
    }
    if !is_sent && !may_pass {
        metrics::counter!("owners_not_reached").increment(1);
    }
    is_sent || !may_pass
}
