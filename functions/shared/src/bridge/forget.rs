//! Forgets what the bridge kept for its time. A client's rows go in batches of less than a second, each found by an index. What is
//! removed does not come back: the floor of a dialog rises above it, and recording ignores what lies below (`insert_messages`).

use std::time::Instant;

use rand::RngExt;

use crate::{
    App,
    platform::db::{ClientId, DbError, Scope, Statement, get},
    tenancy::chats,
};

/// The time for which the content of a finished post and a finished part stay, days. A person may still retry, edit or delete them.
const KEEP_DAYS: i32 = 30;
/// The most rows that one transaction removes.
const BATCH: i64 = 500;
/// The most clients that are read at once.
const CLIENTS: i64 = 1000;

/// The numbers of rows that were forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Posts without their content.
    pub posts: i64,
    /// Parts.
    pub parts: i64,
    /// Messages.
    pub messages: i64,
    /// Chats in which a bot was once.
    pub chats: i64,
}

/// Forgets what is due of all clients, or of as many as the time allows. It begins at a client drawn at random, so that all have their
/// turn. A client whose rows cannot be forgotten keeps none of the others from it.
pub async fn forget(app: &App, until: Instant) -> Result<Forgotten, DbError> {
    let (mut forgotten, mut clients) = (Forgotten::default(), all_clients(app).await?);
    if !clients.is_empty() {
        let first = rand::rng().random_range(0..clients.len());
        clients.rotate_left(first);
    }
    for client in clients {
        if Instant::now() >= until {
            break;
        }
        if let Err(error) = forget_of(app, client, until, &mut forgotten).await {
            tracing::error!(%error, client_id = client.0, "a client's rows could not be forgotten; the next run tries again");
        }
    }
    Ok(forgotten)
}

async fn all_clients(app: &App) -> Result<Vec<ClientId>, DbError> {
    let mut clients: Vec<ClientId> = Vec::new();
    loop {
        let after = clients.last().map_or(0, |client| client.0);
        let next =
            Statement::new("SELECT client_id FROM tenancy_clients WHERE client_id > $1 ORDER BY client_id LIMIT $2");
        let rows = app.db().query(Scope::Service, next.bind(after).bind(CLIENTS)).await?;
        if rows.is_empty() {
            return Ok(clients);
        }
        for row in &rows {
            clients.push(ClientId(get(row, "client_id")?));
        }
    }
}

/// Forgets what is due of one client.
pub async fn forget_of(app: &App, client: ClientId, until: Instant, forgotten: &mut Forgotten) -> Result<(), DbError> {
    let albums = Statement::call("forget_inside_albums").arg("limit", BATCH);
    let first = vec![forget_posts(), forget_parts(), albums, chats::forget_left_chats()];
    let results = app.db().run(Scope::Tenant(client), first).await?;
    let count = |index: usize| -> Result<i64, DbError> {
        let row = results.get(index).and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
        row.try_get(0).map_err(|_| DbError::Shape)
    };
    let (posts, parts) = (count(0)?, count(1)?);
    forgotten.posts += posts;
    forgotten.parts += parts;
    forgotten.chats += results.get(3).map_or(0, |rows| i64::try_from(rows.len()).unwrap_or(i64::MAX));
    if posts == BATCH {
        forgotten.posts += repeat(app, client, &forget_posts(), until).await?;
    }
    if parts == BATCH {
        forgotten.parts += repeat(app, client, &forget_parts(), until).await?;
    }
    let mut after = Some(0_i64);
    while let Some(after_id) = after.filter(|_| Instant::now() < until) {
        let statement = Statement::call("forget_messages").arg("after_id", after_id).arg("limit", BATCH);
        let rows = app.db().query(Scope::Tenant(client), statement).await?;
        let row = rows.first().ok_or(DbError::Shape)?;
        forgotten.messages += get::<i64>(row, "removed")?;
        after = get(row, "after_id")?;
    }
    Ok(())
}

fn forget_posts() -> Statement {
    Statement::call("forget_posts").arg("keep_days", KEEP_DAYS).arg("limit", BATCH)
}

fn forget_parts() -> Statement {
    Statement::call("forget_parts").arg("keep_days", KEEP_DAYS).arg("limit", BATCH)
}

/// Runs a statement again as long as it finds a whole batch. Returns how many rows it found.
async fn repeat(app: &App, client: ClientId, statement: &Statement, until: Instant) -> Result<i64, DbError> {
    let mut all = 0;
    while Instant::now() < until {
        let rows = app.db().query(Scope::Tenant(client), statement.clone()).await?;
        let found: i64 = rows.first().ok_or(DbError::Shape)?.try_get(0).map_err(|_| DbError::Shape)?;
        all += found;
        if found < BATCH {
            break;
        }
    }
    Ok(all)
}
