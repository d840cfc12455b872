//! Records the webhooks that were buffered in the intake queue while Postgres was away. One that our own SQL refuses holds up its chat
//! no longer than two receipts.

use std::time::{Duration, Instant};

use super::{
    avito_webhook::{Content, send_in_chat_order},
    incoming::IncomingBatch,
    record::record,
};
use crate::{
    App,
    bridge::common::{
        queue_tasks::{IntakeDeadLetter, IntakeTask},
        wakeups::Wakeups,
    },
    platform::{
        db::{DbError, Scope},
        queue::QueueError,
    },
    tenancy::accounts,
};

/// The delay between two attempts to record a buffered webhook.
const INTAKE_RETRY_DELAY: Duration = Duration::from_secs(1);
/// The receipt of a buffered webhook from which on it is not to be repeated as it came if our own SQL refuses it.
const LAST_RECEIPT: u32 = 3;

/// Records a webhook from the intake queue. Its secret was checked before it was buffered. `receipt` counts how often SQS has
/// delivered it. At the third time one that our own SQL refuses is recorded with its words alone, so that it does not hold up its chat;
/// if that is refused too, it goes to the dead letters. An error: the task is to go back to the queue.
pub async fn record_from_intake(
    app: &App,
    task: &IntakeTask,
    receipt: u32,
    deadline: Instant,
) -> Result<(), IntakeError> {
    let IntakeTask::V1 { account_id, payload } = task;
    let Content::Message(batch) = Content::read(*account_id, payload.as_bytes()) else { return Ok(()) };
    let refused = match record_until(app, &batch, deadline).await {
        Err(error) if !error.is_away() && receipt >= LAST_RECEIPT => error,
        outcome => return Ok(outcome?),
    };
    metrics::counter!("rows_set_aside").increment(1);
    tracing::error!(account_id, error = %refused, "a buffered webhook is refused; its words are recorded alone");
    match record_until(app, &batch.words_alone(), deadline).await {
        Err(error) if !error.is_away() => {
            tracing::error!(account_id, %error, "so are its words; it goes to the dead letters");
            Ok(send_in_chat_order(app, &IntakeDeadLetter(task.clone()), &batch, payload.as_bytes()).await?)
        }
        outcome => Ok(outcome?),
    }
}

/// A reason for which a buffered webhook stays in the queue.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// Postgres.
    #[error(transparent)]
    Db(#[from] DbError),
    /// The dead letters did not take it.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Records a batch. While Postgres is away, this retries until `deadline`: back in the queue, the webhook would wait longer than
/// later ones that need no queue any more.
async fn record_until(app: &App, batch: &IncomingBatch, deadline: Instant) -> Result<(), DbError> {
    let attempts = async {
        loop {
            let scope = Scope::TenantOf(accounts::find_tenant_of_account(batch.account_id));
            match app.db().run(scope, vec![record(app, batch)]).await {
                Err(DbError::Unavailable(_)) => tokio::time::sleep(INTAKE_RETRY_DELAY).await,
                outcome => return outcome,
            }
        }
    };
    let too_long = || DbError::Unavailable("it is still away");
    let results = tokio::time::timeout_at(deadline.into(), attempts).await.map_err(|_| too_long())??;
    Wakeups::read(&results)?.wake(app).await;
    Ok(())
}
