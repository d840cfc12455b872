//! Processes of functions, with exactly the variables that the template gives them, and the system's figures of a
//! process: its memory and its share of the processor (Linux, `/proc`).

use std::fs::OpenOptions;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::Outcome;
use crate::lambda::Lambda;
use crate::plan::QUEUE;
use crate::runtime::Function;

/// The longest time until a function asks for its first event.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Clock ticks a second, as `/proc` counts them on every Linux.
const TICK_MS: f64 = 10.0;

/// A running process of a function. Dropping it ends the process.
pub(crate) struct Process {
    child: Child,
    pid: u32,
    /// The time from before its start to its first request for an event.
    pub(crate) ready: Duration,
    _api: JoinSet<()>,
}

impl Process {
    /// Starts a process and waits until it is ready. `changed` variables replace those of the template.
    pub(crate) async fn start(lambda: &Lambda, function: &Arc<Function>, changed: &[(&str, &str)]) -> Outcome<Self> {
        let (address, api, is_ready) = function.serve().await?;
        let name = function.name();
        let log = OpenOptions::new().create(true).append(true).open(lambda.plan.logs.join(format!("{name}.log")))?;
        let mut command = Command::new(lambda.plan.binaries.join(name));
        command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        for (variable, value) in &function.described.environment {
            match value.strip_prefix(QUEUE) {
                Some(queue) => command.env(variable, format!("{}/000000000000/{queue}", lambda.queues.base)),
                None => command.env(variable, value),
            };
        }
        if function.described.environment.contains_key("PUBLIC_BASE_URL") {
            command.env("PUBLIC_BASE_URL", &lambda.front);
        }
        command
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", name)
            .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", function.described.memory_mb.to_string())
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "bench")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "bench")
            .env("AWS_ENDPOINT_URL", &lambda.queues.base)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench")
            .envs(changed.iter().copied());
        let started = Instant::now();
        let child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
        let pid = child.id().ok_or("a process without a number")?;
        match tokio::time::timeout(READY_WITHIN, is_ready).await {
            Ok(Ok(at)) => Ok(Self { child, pid, ready: at - started, _api: api }),
            _ => Err(format!("{name} did not ask for an event; see its log.").into()),
        }
    }

    /// Ends it and waits for its end.
    pub(crate) async fn stop(mut self) {
        let _ = self.child.kill().await;
    }

    pub(crate) fn cpu_ms(&self) -> f64 {
        cpu_ms(self.pid)
    }

    /// Resident memory, now.
    pub(crate) fn memory_mb(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    }
}

/// The time a process has computed so far, all its threads together.
pub(crate) fn cpu_ms(pid: u32) -> f64 {
    let fields = stat(pid);
    // utime and stime, the 14th and 15th of proc(5); the first two are cut off.
    let ticks = |index: usize| fields.get(index).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) * TICK_MS
}

/// The same for the children of a process, as far as they live.
pub(crate) fn children_cpu_ms(parent: u32) -> f64 {
    let Ok(processes) = std::fs::read_dir("/proc") else { return 0.0 };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parent = parent.to_string();
    pids.filter(|pid| stat(*pid).get(1) == Some(&parent)).map(cpu_ms).sum()
}

/// The fields of `/proc/…/stat` behind the name, which may contain anything.
fn stat(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let behind = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    behind.split_whitespace().map(str::to_owned).collect()
}
