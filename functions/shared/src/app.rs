//! The context of every handler: configuration, and clients that are opened on first use.
//! A function declares its needs: a missing variable stops its start, and no other variable is read.

use std::{sync::OnceLock, time::Duration};

use crate::platform::{
    cache::Cache,
    config::{Config, Variable, var},
    db::{Db, Timeouts},
    idle::{HttpClient, MAX_HTTP_IDLE},
    media::{Hosts, Media},
    queue::{Queue, QueueError, Task},
    secrets::{Keyring, Secret},
};

/// A need of a function. It stands for the environment variables behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Postgres, with the rights of the running code.
    Database,
    /// Postgres, with short timeouts for webhooks.
    FastDatabase,
    /// Postgres, as the tables' owner.
    OwnerDatabase,
    /// Redis.
    Cache,
    /// The key that signs our tokens.
    Tokens,
    /// The lifetimes of the tokens that we issue.
    TokenLifetimes,
    /// The keys that seal and open stored secrets.
    Secrets,
    /// The token of the operator's own programs.
    ServiceToken,
    /// The platform bot's token.
    MasterBotToken,
    /// The platform bot's name.
    MasterBotName,
    /// The platform admin's Telegram id.
    AdminTelegramId,
    /// The address of the Bot API.
    TelegramApi,
    /// The address of Avito's API.
    AvitoApi,
    /// The hosts of pictures and voice files.
    MediaHosts,
    /// The address at which webhooks reach us.
    PublicBaseUrl,
    /// The poll intervals of accounts.
    PollInterval,
    /// The time that people have to answer before the auto-reply does.
    AutoReplyDelay,
    /// The queue of wake-ups for bots.
    TelegramQueue,
    /// The queue of wake-ups for dialogs.
    AvitoQueue,
    /// The queue of accounts to poll.
    PollQueue,
    /// The queue that buffers webhooks while Postgres is away.
    IntakeQueue,
    /// The queue of webhooks that nothing can record.
    IntakeDeadLetters,
    /// The queue of scheduled auto-replies.
    AutoReplyQueue,
}

impl Need {
    /// The environment variables that it stands for.
    pub fn variables(self) -> &'static [Variable] {
        match self {
            Self::Database | Self::FastDatabase => &[var::DATABASE_URL, var::DATABASE_CA],
            Self::OwnerDatabase => &[var::MIGRATION_DATABASE_URL, var::DATABASE_CA, var::DATABASE_LOGIN],
            Self::Cache => &[var::REDIS_URL],
            Self::Tokens => &[var::JWT_SECRET_KEY],
            Self::TokenLifetimes => &[var::JWT_EXPIRES, var::REFRESH_EXPIRES],
            Self::Secrets => &[var::SECRETS_KEY],
            Self::ServiceToken => &[var::SERVICE_TOKEN],
            Self::MasterBotToken => &[var::MASTER_BOT_TOKEN],
            Self::MasterBotName => &[var::MASTER_BOT_NAME],
            Self::AdminTelegramId => &[var::ADMIN_TELEGRAM_ID],
            Self::TelegramApi => &[var::TELEGRAM_API_BASE],
            Self::AvitoApi => &[var::AVITO_API_BASE],
            Self::MediaHosts => &[var::MEDIA_HOSTS, var::TELEGRAM_API_BASE, var::AVITO_API_BASE],
            Self::PublicBaseUrl => &[var::PUBLIC_BASE_URL],
            Self::PollInterval => &[var::POLL_INTERVAL_SECONDS, var::WEBHOOK_POLL_INTERVAL_SECONDS],
            Self::AutoReplyDelay => &[var::AUTO_REPLY_DELAY_SECONDS],
            Self::TelegramQueue => &[var::TELEGRAM_QUEUE_URL],
            Self::AvitoQueue => &[var::AVITO_QUEUE_URL],
            Self::PollQueue => &[var::POLL_QUEUE_URL],
            Self::IntakeQueue => &[var::INTAKE_QUEUE_URL],
            Self::IntakeDeadLetters => &[var::INTAKE_DEAD_LETTERS_URL],
            Self::AutoReplyQueue => &[var::AUTO_REPLY_QUEUE_URL],
        }
    }
}

/// The variables behind `needs`, each once.
pub fn variables(needs: &[Need]) -> Vec<Variable> {
    let mut all: Vec<Variable> = needs.iter().flat_map(|need| need.variables()).copied().collect();
    all.sort_by_key(|variable| variable.name);
    all.dedup_by_key(|variable| variable.name);
    all
}

/// The longest that a call to Avito or Telegram may take; then its answer counts as lost.
const OUTSIDE_TIMEOUT: Duration = Duration::from_secs(10);
const OUTSIDE_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Configuration and clients of one process.
pub struct App {
    config: Config,
    timeouts: Timeouts,
    db: OnceLock<Db>,
    cache: OnceLock<Cache>,
    queue: Queue,
    keyring: OnceLock<Keyring>,
    outside: HttpClient,
    media: OnceLock<Media>,
    call_timeout: Option<Duration>,
}

impl App {
    /// Opens nothing; the configuration has the variables of `needs`.
    pub fn new(config: Config, needs: &[Need]) -> Self {
        let timeouts = if needs.contains(&Need::FastDatabase) { Timeouts::SHORT } else { Timeouts::USUAL };
        Self {
            config,
            timeouts,
            db: OnceLock::new(),
            cache: OnceLock::new(),
            queue: Queue::default(),
            keyring: OnceLock::new(),
            outside: HttpClient::new(MAX_HTTP_IDLE, || {
                reqwest::Client::builder()
                    .connect_timeout(OUTSIDE_CONNECT_TIMEOUT)
                    .timeout(OUTSIDE_TIMEOUT)
                    .redirect(reqwest::redirect::Policy::none())
            }),
            media: OnceLock::new(),
            call_timeout: None,
        }
    }

    /// Sets a shorter timeout of calls to Avito and Telegram, for tests.
    #[must_use]
    pub fn with_call_timeout(self, timeout: Duration) -> Self {
        Self { call_timeout: Some(timeout), ..self }
    }

    /// The timeout of calls to Avito and Telegram. None: each client has its own.
    pub fn call_timeout(&self) -> Option<Duration> {
        self.call_timeout
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Postgres.
    pub fn db(&self) -> &Db {
        self.db.get_or_init(|| {
            let address = Secret::new(self.config.text(var::DATABASE_URL));
            Db::new(address, self.config.text(var::DATABASE_CA).to_owned(), self.timeouts)
        })
    }

    /// Closes what lies idle, when another App takes its place.
    pub fn retire(&self) {
        if let Some(db) = self.db.get() {
            db.close_idle();
        }
    }

    /// Redis.
    pub fn cache(&self) -> &Cache {
        self.cache.get_or_init(|| Cache::new(Secret::new(self.config.text(var::REDIS_URL))))
    }

    /// The keys that open stored secrets.
    pub fn keyring(&self) -> &Keyring {
        self.keyring.get_or_init(|| {
            Keyring::parse(self.config.text(var::SECRETS_KEY)).expect("the keys were checked when they were read")
        })
    }

    /// The HTTP client for Avito and Telegram. Its connections outlive an invocation, until they were idle for long.
    pub fn outside(&self) -> reqwest::Client {
        self.outside.get()
    }

    /// The client for files at addresses that others gave us. Where an API has another address than usual, its server is
    /// one that files are fetched from.
    pub fn media(&self) -> &Media {
        self.media.get_or_init(|| {
            let hosts = Hosts::parse(self.config.text(var::MEDIA_HOSTS));
            let hosts = hosts.expect("the hosts were checked when they were read");
            let bases = [var::TELEGRAM_API_BASE, var::AVITO_API_BASE].into_iter();
            let others = bases.filter(|base| base.default != Some(self.config.text(*base)));
            Media::new(others.fold(hosts, |hosts, base| hosts.and_server_of(self.config.text(base))))
        })
    }

    /// Puts a task into its queue.
    pub async fn send<T: Task>(&self, task: &T, delay: Duration) -> Result<(), QueueError> {
        self.queue.send(&self.config, task, delay).await
    }

    /// Puts tasks into their queue.
    pub async fn send_many<T: Task>(&self, tasks: &[T], delay: Duration) -> Result<(), QueueError> {
        self.queue.send_many(&self.config, tasks, delay).await
    }

    /// Puts a task into its FIFO queue.
    pub async fn send_in_order<T: Task>(&self, task: &T, group: &str, deduplication: &str) -> Result<(), QueueError> {
        self.queue.send_in_order(&self.config, task, group, deduplication).await
    }

    /// Sends a wake-up. If SQS does not take it, the sweep finds the rows.
    pub async fn wake<T: Task>(&self, task: &T, delay: Duration) {
        self.wake_many(std::slice::from_ref(task), delay).await;
    }

    /// Sends wake-ups. If SQS does not take them, the sweep finds the rows.
    pub async fn wake_many<T: Task>(&self, tasks: &[T], delay: Duration) {
        if let Err(error) = self.send_many(tasks, delay).await {
            metrics::counter!("wakeups_lost").increment(1);
            tracing::warn!(%error, "a wake-up was lost; the sweep will find the rows");
        }
    }

    /// Checks that SQS answers for this queue.
    pub async fn ping_queue(&self, queue: Variable) -> Result<(), QueueError> {
        self.queue.ping(&self.config, queue).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::media::MediaError;

    /// An App whose APIs have these addresses.
    fn app(bases: &[(&str, &str)]) -> App {
        let needs = &[Need::MediaHosts];
        let given = |name: &str| bases.iter().find(|(base, _)| *base == name).map(|(_, address)| (*address).to_owned());
        App::new(Config::read(&variables(needs), given).unwrap_or_else(|error| panic!("{error}")), needs)
    }

    #[tokio::test]
    async fn files_come_from_the_server_of_an_api_without_being_named_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        drop(listener);
        let file = format!("{server}/file/bot1:a/voice.oga");
        for base in ["TELEGRAM_API_BASE", "AVITO_API_BASE"] {
            // Nobody answers there, but it was asked.
            assert_eq!(app(&[(base, &server)]).media().fetch(&file, 9).await, Err(MediaError::Unavailable), "{base}");
        }
        assert_eq!(app(&[]).media().fetch(&file, 9).await, Err(MediaError::NotAllowed));
    }
}
