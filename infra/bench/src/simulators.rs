//! The simulators' control API: plays the people outside, slows the services down, and reads the calls that arrived.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::Outcome;

/// The running simulators.
#[derive(Clone)]
pub(crate) struct Simulators {
    client: reqwest::Client,
    base: String,
}

/// A call that a simulator answered.
#[derive(Debug, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) target: String,
    pub(crate) method: String,
    pub(crate) params: Value,
    pub(crate) status: u16,
}

impl Simulators {
    pub(crate) fn new(base: &str) -> Outcome<Self> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { client, base: format!("{base}/_local") })
    }

    /// Sends a request that makes something happen.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Outcome<Value> {
        let answer = self.client.post(format!("{}/{path}", self.base)).json(body).send().await?;
        let (status, answer) = (answer.status(), answer.text().await?);
        if !status.is_success() {
            return Err(format!("/_local/{path} says {status}: {answer}").into());
        }
        Ok(serde_json::from_str(&answer)?)
    }

    /// Reads a record.
    pub(crate) async fn get(&self, path_and_query: &str) -> Outcome<Value> {
        let answer = self.client.get(format!("{}/{path_and_query}", self.base)).send().await?;
        Ok(serde_json::from_slice(&answer.bytes().await?)?)
    }

    /// The calls after `since`, and the current end of the record.
    pub(crate) async fn calls(&self, since: u64) -> Outcome<(Vec<Recorded>, u64)> {
        let mut answer = self.get(&format!("calls?since={since}")).await?;
        let next = answer["next"].as_u64().unwrap_or(since);
        Ok((serde_json::from_value(answer["calls"].take())?, next))
    }

    /// The current end of the record of calls.
    pub(crate) async fn calls_so_far(&self) -> Outcome<u64> {
        Ok(self.calls(u64::MAX).await?.1)
    }

    /// Has both services take this long for every answer.
    pub(crate) async fn set_latency(&self, milliseconds: u64) -> Outcome<()> {
        self.client.delete(format!("{}/faults", self.base)).send().await?.error_for_status()?;
        for target in ["telegram", "avito"].iter().filter(|_| milliseconds > 0) {
            let fault = json!({ "target": target, "kind": "latency", "latency_ms": milliseconds });
            self.post("faults", &fault).await?;
        }
        Ok(())
    }
}
