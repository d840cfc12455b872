//! The master bot tells owners what broke. Tenancy keeps what there is to tell; who the owners are is known here.

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

/// How long one round tells; the next goes on.
const ROUND: Duration = Duration::from_secs(25);

/// Tells the owners what is due. ResultSets how many notices are told now.
pub async fn tell(app: &App) -> Result<usize, DbError> {
    let rows = app.db().query(Scope::Service, notices::claim_notices()).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let due = rows.iter().map(Notice::read).collect::<Result<Vec<_>, _>>()?;
    let owners = owners(app, due.iter().map(|notice| notice.client_id.0).collect()).await?;
    let bot = bots::telegram(app, Secret::new(app.config().text(var::MASTER_BOT_TOKEN)));
    let stop = Instant::now() + ROUND;
    let mut told = Vec::new();
    for notice in due {
        if Instant::now() >= stop {
            break;
        }
        let chats: Vec<i64> =
            owners.iter().filter(|(client, _)| *client == notice.client_id).map(|(_, chat_id)| *chat_id).collect();
        if tell_one(&bot, &notice, &chats).await {
            told.push(notice.id);
        }
    }
    let count = told.len();
    app.db().query(Scope::Service, notices::mark_notices_sent(told)).await?;
    Ok(count)
}

/// The private chats of organisations' owners: with a person, the chat has the person's id.
async fn owners(app: &App, client_ids: Vec<i64>) -> Result<Vec<(ClientId, i64)>, DbError> {
    let statement = Statement::new(
        "SELECT client_id, coalesce(telegram_chat_id, telegram_user_id) AS chat_id FROM users
         WHERE client_id = ANY($1) AND role = 'owner' AND is_active
           AND coalesce(telegram_chat_id, telegram_user_id) IS NOT NULL",
    );
    let rows = app.db().query(Scope::Identity, statement.bind(client_ids)).await?;
    rows.iter().map(|row| Ok((ClientId(get(row, "client_id")?), get(row, "chat_id")?))).collect()
}

/// Tells one notice to all owners. Whether that is settled: somebody knows, or nobody can be reached.
async fn tell_one(bot: &telegram::Bot, notice: &Notice, chats: &[i64]) -> bool {
    let (mut knows, mut later) = (false, false);
    for chat_id in chats {
        let params = json!({ "chat_id": chat_id, "text": notice.text });
        match bot.call::<_, IgnoredAny>("sendMessage", &params).await {
            Ok(_) | Err(telegram::Error::Unreadable) => knows = true,
            Err(error) => {
                tracing::warn!(notice_id = notice.id, %error, "an owner was not told");
                later |= error.retry_in().is_some();
            }
        }
    }
    if !knows && !later {
        metrics::counter!("owners_not_reached").increment(1);
    }
    knows || !later
}
