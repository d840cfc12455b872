//! The plan that `run.py` has written: the functions as `template.yaml` wires them, the running servers, and the file
//! for results.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::Outcome;

/// The plan of a run.
#[derive(Debug, Deserialize)]
pub(crate) struct Plan {
    /// The functions, the bare hello first.
    pub(crate) functions: Vec<Described>,
    /// The folder of the release binaries.
    pub(crate) binaries: PathBuf,
    /// The folder for the functions' output.
    pub(crate) logs: PathBuf,
    /// The file for the results.
    pub(crate) results: PathBuf,
    /// The committed figures.
    pub(crate) baseline: PathBuf,
    /// The database's address.
    pub(crate) database: String,
    /// Redis' address.
    pub(crate) redis: String,
    /// The simulators' control API.
    pub(crate) control: String,
    /// The token of the sign-in bot.
    pub(crate) master_bot_token: String,
    /// The process of Postgres whose children serve connections.
    pub(crate) postgres_pid: u32,
    /// The process of the simulators.
    pub(crate) simulators_pid: u32,
    /// The machine in a few words.
    pub(crate) machine: String,
}

/// A function as the template has it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Described {
    /// The name of its binary.
    pub(crate) name: String,
    /// Its memory on AWS.
    pub(crate) memory_mb: u32,
    /// Its time-out on AWS.
    pub(crate) timeout_s: u64,
    /// The events that start it.
    pub(crate) starts: Starts,
    /// Its variables; those that begin with [`QUEUE`] name a queue.
    pub(crate) environment: BTreeMap<String, String>,
    /// Its binary as it is deployed.
    pub(crate) zipped_bytes: u64,
}

/// The prefix of a queue's name where a variable holds its address on AWS.
pub(crate) const QUEUE: &str = "queue:";

/// The events that start a function.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Starts {
    /// A request.
    Http { method: String, path: String },
    /// Tasks of a queue, at most so many at once.
    Queue { queue: String, batch: usize },
    /// The clock, or a person.
    Event {},
}

impl Starts {
    /// True for an endpoint in the sense of architecture.md's budgets. All others are workers.
    pub(crate) fn is_endpoint(&self) -> bool {
        matches!(self, Self::Http { .. })
    }
}

impl Plan {
    /// Reads the plan that `run.py` has written.
    pub(crate) fn read() -> Outcome<Self> {
        let path = std::env::var_os("BENCH_PLAN").ok_or("Run `make bench`: it starts what the bench needs.")?;
        Ok(serde_json::from_slice(&std::fs::read(path)?)?)
    }

    /// The function of a name.
    pub(crate) fn function(&self, name: &str) -> Outcome<&Described> {
        let found = self.functions.iter().find(|function| function.name == name);
        found.ok_or_else(|| format!("The template has no function {name}.").into())
    }
}
