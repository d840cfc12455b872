//! Every hour: forgets what was kept for its time, client by client, in short transactions.

use std::time::{Duration, Instant};

use lambda_http::Error;
use serde_json::{Value, json};
use tuberry::{App, bridge, identity::sessions};

tuberry::schedule!("forget", forget, [Database]);

/// The longest that one run begins with something new; the next one goes on.
const MAX_DURATION: Duration = Duration::from_secs(240);

async fn forget(app: &'static App, _: Value) -> Result<Value, Error> {
    let until = Instant::now() + MAX_DURATION;
    let sessions = sessions::forget_ended(app, until).await?;
    let bridge::forget::Forgotten { posts, parts, messages, chats } = bridge::forget::forget(app, until).await?;
    tracing::info!(sessions, posts, parts, messages, chats, "forgot");
    Ok(json!({ "sessions": sessions, "posts": posts, "parts": parts, "messages": messages, "chats": chats }))
}
