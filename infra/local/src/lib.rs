//! Strict simulators of the Telegram Bot API and of Avito, for the local stack and the tests. They have state, refuse
//! what the real services refuse, send webhooks, and fail on request. The control API under `/_local/` steers them.

mod answer_bytes;
mod attempts;
mod avito;
mod calls;
mod control;
mod faults;
mod files;
mod persistence;
mod pictures;
pub mod proxy;
mod server;
mod telegram;
mod world;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use proxy::Proxy;
use world::World;

/// The servers to start, and their ports. Port 0 is any free one.
#[derive(Clone, Debug, Default)]
pub struct SimulatorsConfig {
    /// The Telegram Bot API; `None`: not started.
    pub telegram_port: Option<u16>,
    /// Avito; `None`: not started.
    pub avito_port: Option<u16>,
    /// The proxy in front of the queues, by which functions reach them; `None`: not started.
    pub queues_port: Option<u16>,
    /// The address of the queues behind the proxy.
    pub queues_server: String,
    /// The control API.
    pub control_port: u16,
    /// A JSON file that stores the state between two runs; `None`: nothing is stored.
    pub state_file: Option<PathBuf>,
}

impl SimulatorsConfig {
    /// Both simulators on free ports, without a state file: for tests.
    pub fn on_free_ports() -> Self {
        Self { telegram_port: Some(0), avito_port: Some(0), ..Self::default() }
    }
}

/// An error while the simulators start or stop.
#[derive(Debug, thiserror::Error)]
pub enum SimulatorsError {
    /// A port is not free, or cannot serve what it is for.
    #[error("Port {port} of {name} cannot be opened: {source}.")]
    Port {
        /// The server that needs the port.
        name: &'static str,
        /// The port.
        port: u16,
        /// The system's error.
        source: std::io::Error,
    },
    /// The state cannot be read or written.
    #[error("{0}")]
    State(String),
    /// The client that sends webhooks cannot be built.
    #[error("The HTTP client cannot be built: {0}.")]
    Client(#[from] reqwest::Error),
}

/// Running simulators. They stop when dropped; `stop` also saves their state.
pub struct Simulators {
    telegram: Option<SocketAddr>,
    avito: Option<SocketAddr>,
    control: SocketAddr,
    state_file: Option<PathBuf>,
    world: Arc<World>,
    servers: Vec<JoinHandle<()>>,
}

impl Simulators {
    /// Starts the simulators on loopback; they listen when this returns.
    pub async fn start(config: SimulatorsConfig) -> Result<Self, SimulatorsError> {
        let telegram = listen("the Telegram simulator", config.telegram_port).await?;
        let avito = listen("the Avito simulator", config.avito_port).await?;
        let control = listen("the simulators' control API", Some(config.control_port)).await?;
        let state = config.state_file.as_deref().map_or_else(|| Ok(world::State::default()), persistence::load);
        let state = state.map_err(SimulatorsError::State)?;
        let address = |listener: &Option<TcpListener>| listener.as_ref().and_then(|it| it.local_addr().ok());
        let (telegram_address, avito_address) = (address(&telegram), address(&avito));
        let queues = queues_proxy(&config).await?;
        let avito_base = avito_address.map(|address| format!("http://{address}"));
        let world = Arc::new(World::new(state, avito_base, telegram.is_some(), queues)?);
        let control_address = address(&control).unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let services: [(Option<TcpListener>, Router); 3] = [
            (telegram, telegram::router(Arc::clone(&world))),
            (avito, avito::router(Arc::clone(&world))),
            (control, control::router(Arc::clone(&world))),
        ];
        let started = services.into_iter().filter_map(|(listener, router)| Some((listener?, router)));
        let servers = started.map(|(listener, router)| tokio::spawn(server::serve(listener, router))).collect();
        telegram::updates::wake(&world);
        let (telegram, avito, control) = (telegram_address, avito_address, control_address);
        Ok(Self { telegram, avito, control, state_file: config.state_file, world, servers })
    }

    /// The value for `TELEGRAM_API_BASE`. `None`: that simulator was not started.
    pub fn telegram_base(&self) -> Option<String> {
        self.telegram.map(|address| format!("http://{address}"))
    }

    /// The value for `AVITO_API_BASE`. `None`: that simulator was not started.
    pub fn avito_base(&self) -> Option<String> {
        self.avito.map(|address| format!("http://{address}"))
    }

    /// The address before `/_local/…`.
    pub fn control_base(&self) -> String {
        format!("http://{}", self.control)
    }

    /// Saves the state, if there is a file for it, and stops listening.
    pub fn stop(self) -> Result<(), SimulatorsError> {
        match &self.state_file {
            Some(path) => persistence::save(path, &self.world.state()).map_err(SimulatorsError::State),
            None => Ok(()),
        }
    }
}

impl Drop for Simulators {
    fn drop(&mut self) {
        self.world.stop();
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

async fn queues_proxy(config: &SimulatorsConfig) -> Result<Option<Proxy>, SimulatorsError> {
    let Some(port) = config.queues_port else { return Ok(None) };
    let started = Proxy::start(&config.queues_server, port).await;
    started.map(Some).map_err(|source| SimulatorsError::Port { name: "the proxy in front of the queues", port, source })
}

async fn listen(name: &'static str, port: Option<u16>) -> Result<Option<TcpListener>, SimulatorsError> {
    let Some(port) = port else { return Ok(None) };
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
    bound.map(Some).map_err(|source| SimulatorsError::Port { name, port, source })
}
