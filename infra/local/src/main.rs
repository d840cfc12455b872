//! The simulators as a process of the local stack: settings come from the environment, one JSON line says where they
//! listen, and SIGTERM or SIGINT saves the state and ends them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tuberry_local::{Simulators, SimulatorsConfig};

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), String> {
    let config = SimulatorsConfig {
        telegram_port: port("TELEGRAM_PORT")?,
        avito_port: port("AVITO_PORT")?,
        queues_port: port("QUEUES_PORT")?,
        queues_server: std::env::var("QUEUES_SERVER").unwrap_or_default(),
        control_port: port("SIMULATORS_CONTROL_PORT")?.unwrap_or(0),
        state_file: std::env::var_os("SIMULATORS_STATE").filter(|path| !path.is_empty()).map(PathBuf::from),
    };
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| text(&error))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| text(&error))?;
    let simulators = Simulators::start(config).await.map_err(|error| text(&error))?;
    let listening = serde_json::json!({
        "listening": {
            "telegram": simulators.telegram_base(),
            "avito": simulators.avito_base(),
            "control": simulators.control_base(),
        }
    });
    let _ = writeln!(std::io::stdout(), "{listening}");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    simulators.stop().map_err(|error| text(&error))
}

/// A port from the environment; unset, empty and 0 all mean "not started".
fn port(name: &str) -> Result<Option<u16>, String> {
    match std::env::var(name).unwrap_or_default().as_str() {
        "" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| format!("{name} has to be a port, not \"{text}\".")),
    }
}
