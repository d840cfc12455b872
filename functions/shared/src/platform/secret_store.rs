//! Secrets Manager, where a deployment keeps its secrets: reads them by their names, all in one call.

use std::{collections::HashMap, time::Duration};

use aws_sdk_secretsmanager::{
    Client,
    config::{retry::RetryConfig, timeout::TimeoutConfig},
    error::ProvideErrorMetadata,
};

/// A secret could not be read. The texts name secrets and codes, never a value.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The call failed.
    #[error("Secrets Manager did not answer ({0})")]
    Unavailable(String),
    /// These secrets do not exist, have no text, or the function's role may not read them.
    #[error("Secrets Manager gives no text for {0}")]
    Refused(String),
}

/// The sender of a webhook waits 2 s in all.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(600);
const CALL_TIMEOUT: Duration = Duration::from_millis(1300);

/// The texts of secrets, by their names; at most 20 of them, which is what one call takes.
pub async fn read(names: Vec<String>) -> Result<HashMap<String, String>, StoreError> {
    let answer = Box::pin(client().await.batch_get_secret_value().set_secret_id_list(Some(names.clone())).send()).await;
    let answer = answer.map_err(|error| StoreError::Unavailable(error.code().unwrap_or("no answer").to_owned()))?;
    let texts: HashMap<String, String> = answer
        .secret_values()
        .iter()
        .filter_map(|secret| Some((secret.name()?.to_owned(), secret.secret_string()?.trim().to_owned())))
        .collect();
    let code_of = |name: &str| {
        let refusal = answer.errors().iter().find(|refusal| refusal.secret_id() == Some(name));
        refusal.and_then(|refusal| refusal.error_code()).unwrap_or("not there").to_owned()
    };
    let missing = names.iter().filter(|name| !texts.contains_key(*name));
    let missing: Vec<_> = missing.map(|name| format!("{name} ({})", code_of(name))).collect();
    if missing.is_empty() { Ok(texts) } else { Err(StoreError::Refused(missing.join(", "))) }
}

/// A client for one call: between two of them its connection would be closed anyway.
async fn client() -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(ATTEMPT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT)
        .operation_timeout(CALL_TIMEOUT)
        .build();
    let shared = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(50)))
        .load()
        .await;
    Client::new(&shared)
}
