//! The simulated AWS: functions by name, their processes, and the queues between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::Outcome;
use crate::plan::Plan;
use crate::processes::Process;
use crate::queues::Queues;
use crate::runtime::Function;
use crate::server;

pub(crate) struct Lambda {
    pub(crate) plan: Plan,
    pub(crate) queues: Queues,
    /// The address that Telegram and Avito get for their webhooks. It drops them: the bench itself hands over those
    /// that are measured.
    pub(crate) front: String,
    _front: JoinSet<()>,
}

/// A function with processes of its own.
pub(crate) struct Fleet {
    pub(crate) function: Arc<Function>,
    pub(crate) processes: Vec<Process>,
}

impl Lambda {
    pub(crate) async fn start(plan: Plan) -> Outcome<Self> {
        let (address, server) = server::listen(async |_| server::empty(StatusCode::OK)).await?;
        Ok(Self { plan, queues: Queues::start().await?, front: format!("http://{address}"), _front: server })
    }

    /// A function with an inbox of its own and no process yet.
    pub(crate) fn function(&self, name: &str) -> Outcome<Arc<Function>> {
        Ok(Function::new(self.plan.function(name)?.clone()))
    }

    /// A function with so many processes.
    pub(crate) async fn fleet(&self, name: &str, count: usize, changed: &[(&str, &str)]) -> Outcome<Fleet> {
        let function = self.function(name)?;
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(Process::start(self, &function, changed).await?);
        }
        Ok(Fleet { function, processes })
    }
}

impl Fleet {
    pub(crate) fn cpu_ms(&self) -> f64 {
        self.processes.iter().map(Process::cpu_ms).sum()
    }

    /// The largest of its processes.
    pub(crate) fn memory_mb(&self) -> f64 {
        self.processes.iter().map(Process::memory_mb).fold(0.0, f64::max)
    }

    pub(crate) async fn stop(self) {
        for process in self.processes {
            process.stop().await;
        }
    }
}

/// Waits until none of the functions has anything to do.
pub(crate) async fn idle(functions: &[&Arc<Function>], within: Duration) -> Outcome<()> {
    let deadline = Instant::now() + within;
    while !functions.iter().all(|function| function.is_idle()) {
        if Instant::now() > deadline {
            let names: Vec<&str> = functions.iter().map(|function| function.name()).collect();
            return Err(format!("within {within:?} not done: {}", names.join(", ")).into());
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
