//! Logs as JSON lines and metrics in `CloudWatch`'s embedded format, both on standard output.
//! Logs contain names, ids, states and times; never a secret, a phone number or a message's text.

use std::sync::OnceLock;

use metrics_cloudwatch_embedded::Collector;
use tracing_subscriber::EnvFilter;

static COLLECTOR: OnceLock<&'static Collector> = OnceLock::new();

/// Starts logs and metrics of the function `name`. `LOG_LEVEL` (default `info`) chooses what is logged.
pub fn start(name: &'static str) {
    let filter = std::env::var("LOG_LEVEL").unwrap_or_else(|_| "info".to_owned());
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(EnvFilter::new(filter))
        .try_init();
    if started.is_err() {
        return; // a second start within one process: the first one's settings stand
    }
    let collector = metrics_cloudwatch_embedded::Builder::new()
        .cloudwatch_namespace("Tuberry")
        .with_dimension("function", name)
        .with_dimension("stack", stack(name))
        .init();
    match collector {
        Ok(collector) => _ = COLLECTOR.set(collector),
        Err(error) => tracing::warn!(%error, "metrics could not be started"),
    }
}

/// The stack that this function belongs to: the part before `-<name>` of the name that the template gives it. Metrics
/// carry it, so that two stacks of one AWS account do not trigger each other's alarms.
fn stack(name: &str) -> String {
    let deployed_as = std::env::var("AWS_LAMBDA_FUNCTION_NAME").unwrap_or_default();
    let before = deployed_as.strip_suffix(name).and_then(|before| before.strip_suffix('-'));
    before.unwrap_or("none").to_owned()
}

/// Writes out the counts since the last call; called after each invocation.
pub fn flush() {
    if let Some(collector) = COLLECTOR.get()
        && let Err(error) = collector.flush(std::io::stdout())
    {
        tracing::warn!(%error, "metrics could not be written");
    }
}
