//! The relocation of dialogs: their account gets another bot, or their bot another group. The dialogs get topics there,
//! with a replay, and their pending messages are posted there. Former topics stay where they are.
//!
//! The change itself is one short transaction. The dialogs follow in batches, each of which can be repeated. A dialog that has not
//! followed yet is shown where it was, by the bot that showed it; whatever Avito reports of it has it follow at once
//! (`record_messages`).

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_postgres::Row;

use crate::{
    App,
    bridge::{
        common::{
            post_kind::PostKind,
            queue_tasks::PollTask,
            wakeups::{WAKEUPS, Wakeups},
        },
        rows::{account_work, topics},
    },
    platform::db::{ClientId, DbError, ResultSets, Scope, Statement, get},
    tenancy::accounts::{Meaning, Switch},
};

/// The most dialogs that one transaction moves. Each takes a few rows with it, and a webhook that waits for one of their locks has
/// less than a second.
pub const RELOCATION_BATCH: i64 = 100;
/// The time after which the sweep looks if a dialog was left behind: the request died, or a transaction that began before the change
/// committed after it.
const LAST_LOOK: Duration = Duration::from_secs(30);
/// The longest that one request or one sweep goes on; the next sweep takes the rest.
const MAX_DURATION: Duration = Duration::from_secs(10);
/// The most relocations that one sweep goes on with.
const SWEEP_BATCH: i64 = 100;

/// The thing whose dialogs follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relocated {
    /// An account has another bot.
    Account(i64),
    /// A bot has another group.
    Bot(i64),
}

impl Relocated {
    /// The ids of the account and of the bot, one of them none.
    fn ids(self) -> (Option<i64>, Option<i64>) {
        match self {
            Self::Account(id) => (Some(id), None),
            Self::Bot(id) => (None, Some(id)),
        }
    }

    /// Notes the relocation, in the transaction of the change.
    fn begin(self) -> Statement {
        let (account_id, bot_id) = self.ids();
        Statement::call("begin_relocation")
            .arg("account_id", account_id)
            .arg("bot_id", bot_id)
            .arg("wait_seconds", LAST_LOOK.as_secs_f64())
    }

    /// Moves one batch of dialogs, and makes the bot due that shows them from now on.
    fn move_batch(self) -> Vec<Statement> {
        let (call, account_id, bot_id) = match self {
            Self::Account(id) => (Statement::call("relocate_account").arg("account_id", id), Some(id), None),
            Self::Bot(id) => {
                let kinds = PostKind::names(PostKind::ends_with_group);
                (Statement::call("relocate_bot").arg("bot_id", id).arg("ending_kinds", kinds), None, Some(id))
            }
        };
        let make_due = Statement::new(
            "SELECT outbox.bot_id, NULL::bigint AS dialog_id, outbox.wait_seconds, NULL::timestamptz AS auto_reply_at
             FROM (SELECT b.bot_id, b.client_id FROM tenancy_bots b
                   WHERE b.bot_id = coalesce($2, (SELECT a.bot_id FROM tenancy_accounts a WHERE a.avito_account_id = $1))) AS bot
             CROSS JOIN LATERAL sql.make_outbox_due(bot.bot_id, bot.client_id, now()) AS outbox",
        );
        vec![call.arg("limit", RELOCATION_BATCH), make_due.bind(account_id).bind(bot_id).labelled(WAKEUPS)]
    }
}

/// Moves one batch of dialogs. Returns how many they were.
pub async fn move_batch(app: &App, client: ClientId, relocated: Relocated) -> Result<i64, DbError> {
    let results = app.db().run(Scope::Tenant(client), relocated.move_batch()).await?;
    wake(app, &results).await?;
    let moved = results.first().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
    moved.try_get(0).map_err(|_| DbError::Shape)
}

/// Moves the dialogs batch by batch, until none is left or the time is over. True: none is left.
pub async fn move_all(app: &App, client: ClientId, relocated: Relocated, until: Instant) -> Result<bool, DbError> {
    while Instant::now() < until {
        if move_batch(app, client, relocated).await? < RELOCATION_BATCH {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves the dialogs of an account or a bot that just changed. What fails or takes too long here, the sweep goes on with.
pub async fn follow(app: &App, client: ClientId, relocated: Relocated) {
    if let Err(error) = move_all(app, client, relocated, Instant::now() + MAX_DURATION).await {
        tracing::warn!(%error, ?relocated, "a relocation broke off; the sweep goes on with it");
    }
}

/// Goes on with the relocations that are due, and ends those that left no dialog behind. Returns how many it ended.
pub async fn finish_relocations(app: &App) -> Result<usize, DbError> {
    let due = Statement::new(
        "SELECT id, client_id, avito_account_id, bot_id, changed_at FROM relocations WHERE due_at <= now()
         ORDER BY due_at LIMIT $1",
    );
    let (until, mut ended) = (Instant::now() + MAX_DURATION, 0);
    for row in app.db().query(Scope::Service, due.bind(SWEEP_BATCH)).await? {
        match finish(app, &row, until).await {
            Ok(is_ended) => ended += usize::from(is_ended),
            Err(error) => tracing::warn!(%error, "a relocation broke off; the next sweep goes on with it"),
        }
    }
    Ok(ended)
}

/// Goes on with one relocation, which comes behind the others the next time. True: it ended.
async fn finish(app: &App, row: &Row, until: Instant) -> Result<bool, DbError> {
    let (id, client): (i64, i64) = (get(row, "id")?, get(row, "client_id")?);
    let (account_id, bot_id): (Option<i64>, Option<i64>) = (get(row, "avito_account_id")?, get(row, "bot_id")?);
    let Some(relocated) = account_id.map(Relocated::Account).or(bot_id.map(Relocated::Bot)) else { return Ok(false) };
    let client = ClientId(client);
    let later = Statement::new("UPDATE relocations SET due_at = now() + make_interval(secs => $2) WHERE id = $1");
    app.db().query(Scope::Tenant(client), later.bind(id).bind(LAST_LOOK.as_secs_f64())).await?;
    if !move_all(app, client, relocated, until).await? {
        return Ok(false);
    }
    // It moved again meanwhile: that is looked after anew.
    let end = Statement::new("DELETE FROM relocations WHERE id = $1 AND changed_at = $2");
    app.db().query(Scope::Tenant(client), end.bind(id).bind(get::<Timestamp>(row, "changed_at")?)).await?;
    Ok(true)
}

/// Returns the statements that run before and after a bot gets another group. A topic that is being created is not waited for: if it
/// comes, it stands in the former group, and its dialog follows as all others.
pub fn group_change_statements(bot_id: i64) -> (Vec<Statement>, Vec<Statement>) {
    let forget_creating = Statement::new(
        "UPDATE dialogs SET topic_state = 'none' WHERE id IN (
             SELECT id FROM dialogs WHERE bot_id = $1 AND topic_state = 'creating' ORDER BY id FOR NO KEY UPDATE)",
    );
    let make_due = "UPDATE bot_outboxes SET topics_off = false, due_at = now(), broken_until = NULL WHERE bot_id = $1
                RETURNING bot_id, NULL::bigint AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at";
    let before = vec![forget_creating.bind(bot_id), Statement::new(make_due).bind(bot_id).labelled(WAKEUPS)];
    (before, vec![Relocated::Bot(bot_id).begin()])
}

/// Makes a bot's outbox due now, so that the bot retries what it could not post.
pub fn make_due_now(bot_id: i64) -> Vec<Statement> {
    let make_due = "UPDATE bot_outboxes SET due_at = now(), broken_until = NULL WHERE bot_id = $1
                RETURNING bot_id, NULL::bigint AS dialog_id, 0::bigint AS wait_seconds, NULL::timestamptz AS auto_reply_at";
    vec![topics::try_topics_again(bot_id, None), Statement::new(make_due).bind(bot_id).labelled(WAKEUPS)]
}

/// Returns the statements that run before and after the change of an account. Dialogs are locked before their account, as in every
/// transaction.
pub fn account_change_statements(account_id: i64, meaning: Meaning) -> (Vec<Statement>, Vec<Statement>) {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    if meaning.resumes {
        before.push(account_work::resume_dialogs(account_id));
    }
    if meaning.moves {
        after.push(Relocated::Account(account_id).begin());
    }
    if meaning.monitoring == Some(Switch::Off) {
        before.push(cancel_auto_replies(account_id));
    }
    if meaning.monitoring == Some(Switch::On) {
        after.push(begin_polls_anew(account_id));
    }
    if meaning.resumes {
        let poll = "UPDATE account_polls SET next_poll_at = now() WHERE avito_account_id = $1";
        after.push(Statement::new(poll).bind(account_id));
    }
    (before, after)
}

/// Cancels the scheduled auto-replies of an account that is no longer followed. Only their dialogs are locked.
fn cancel_auto_replies(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = NULL
         WHERE id IN (SELECT id FROM dialogs WHERE avito_account_id = $1 AND auto_reply_scheduled_at IS NOT NULL ORDER BY id
                      FOR NO KEY UPDATE)",
    )
    .bind(account_id)
}

/// Begins the polls of an account that is followed again: as after its connection, of what was written before only the
/// unread messages are shown.
fn begin_polls_anew(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE account_polls SET started_at = now(), unread_list_at = now(), page_digest = NULL, unread_digest = NULL,
                attempts = 0, failed_since = NULL, error = NULL
         WHERE avito_account_id = $1",
    )
    .bind(account_id)
}

/// Wakes the bots and dialogs that a relocation made due, after its commit.
pub async fn wake(app: &App, results: &ResultSets) -> Result<(), DbError> {
    Wakeups::read(results)?.wake(app).await;
    Ok(())
}

/// Sends the task that polls an account now.
pub async fn poll(app: &App, account_id: i64) {
    app.wake(&PollTask::V1 { account_ids: vec![account_id], due: Timestamp::now() }, Duration::ZERO).await;
}
