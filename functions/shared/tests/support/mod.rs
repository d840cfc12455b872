//! The base of the tests: the local stack's Postgres and Redis, its simulators of Telegram and Avito, and people, bots
//! and accounts that belong to one test each.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]

pub mod shop;

use std::{collections::BTreeMap, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use rand::RngExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tuberry::{
    App,
    app::{Need, variables},
    identity::{
        SignInError,
        ways::login_widget::{SignedIn, WidgetFields, sign_in},
    },
    platform::{
        config::{Config, var},
        db::{ClientId, Scope, Statement},
        secrets::Secret,
    },
    tenancy::{
        accounts::{self, AvitoAccount, NewAccount, webhooks},
        bots::{self, Bot, NewBot},
    },
};

/// The needs of all functions together, so that a test can play any of them.
const NEEDS: &[Need] = &[
    Need::Database,
    Need::Cache,
    Need::Tokens,
    Need::TokenLifetimes,
    Need::Secrets,
    Need::MasterBotToken,
    Need::MasterBotName,
    Need::AdminTelegramId,
    Need::TelegramApi,
    Need::AvitoApi,
    Need::MediaHosts,
    Need::PublicBaseUrl,
    Need::PollInterval,
    Need::AutoReplyDelay,
    Need::ServiceToken,
    Need::TelegramQueue,
    Need::AvitoQueue,
    Need::PollQueue,
    Need::IntakeQueue,
    Need::IntakeDeadLetters,
    Need::AutoReplyQueue,
];

/// The stack as one test sees it.
pub struct World {
    /// The application that handlers get.
    pub app: &'static App,
}

/// A person who owns an organisation.
pub struct Owner {
    /// The organisation.
    pub client: ClientId,
    /// The person.
    pub user_id: i64,
    /// Telegram's id of the person.
    pub telegram_user_id: i64,
}

/// A bot as Telegram's simulator has it, in a group of its own.
pub struct OutsideBot {
    /// Its token.
    pub token: Secret,
    /// The group.
    pub chat_id: i64,
}

/// An account as Avito's simulator has it.
pub struct OutsideAccount {
    /// The keys' public half.
    pub api_client_id: String,
    /// The keys' secret half.
    pub api_client_secret: String,
    /// Avito's id.
    pub user_id: i64,
}

impl World {
    /// The running stack.
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// The running stack, with some variables set otherwise.
    pub fn with(changed: &[(&str, &str)]) -> Self {
        Self::of(App::new(Self::config(changed), NEEDS))
    }

    /// As [`World::with`]; calls to Avito and Telegram end after this time.
    pub fn with_call_timeout(changed: &[(&str, &str)], timeout: Duration) -> Self {
        Self::of(App::new(Self::config(changed), NEEDS).with_call_timeout(timeout))
    }

    fn of(app: App) -> Self {
        Self { app: Box::leak(Box::new(app)) }
    }

    fn config(changed: &[(&str, &str)]) -> Config {
        assert!(
            std::env::var("DATABASE_URL").is_ok_and(|address| !address.is_empty()),
            "run `make test`: these tests need the local stack"
        );
        let get = |name: &str| match changed.iter().find(|(changed, _)| *changed == name) {
            Some((_, value)) => Some((*value).to_owned()),
            // The simulators' hosts, which the stack gives to its functions alone.
            None if name == "MEDIA_HOSTS" => Some("127.0.0.1".to_owned()),
            None => std::env::var(name).ok(),
        };
        must(Config::read(&variables(NEEDS), get))
    }

    /// Returns an id that no other test has, nor any earlier run on the same database.
    pub fn new_id() -> i64 {
        rand::rng().random_range(1_000_000_000_000..1_000_000_000_000_000)
    }

    /// Signs a person in; for the first time if no user has this Telegram id.
    pub async fn sign_in(&self, telegram_user_id: i64, first_name: &str) -> Result<SignedIn, SignInError> {
        sign_in(self.app, &self.widget(telegram_user_id, first_name)).await
    }

    /// Returns the fields that the Login Widget hands to the page, signed now.
    pub fn widget(&self, telegram_user_id: i64, first_name: &str) -> WidgetFields {
        let fields = [
            ("id", telegram_user_id.to_string()),
            ("first_name", first_name.to_owned()),
            ("auth_date", Timestamp::now().as_second().to_string()),
            // makes two answers of one second differ
            ("username", format!("user_{}", Self::new_id())),
        ];
        let mut fields: BTreeMap<String, String> =
            fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let key = Sha256::digest(self.app.config().text(var::MASTER_BOT_TOKEN));
        let mut mac = must(Hmac::<Sha256>::new_from_slice(&key));
        mac.update(lines.join("\n").as_bytes());
        fields.insert("hash".to_owned(), hex::encode(mac.finalize().into_bytes()));
        WidgetFields(fields)
    }

    /// Creates an organisation with its owner.
    pub async fn owner(&self) -> Owner {
        let telegram_user_id = Self::new_id();
        let signed_in = must(self.sign_in(telegram_user_id, "Ольга").await);
        let client = signed_in.account.tenant().unwrap_or_else(|| panic!("an owner has an organisation"));
        Owner { client, user_id: signed_in.account.user.id, telegram_user_id }
    }

    /// Creates a bot that is administrator of a new forum, with these rights besides all usual ones.
    pub async fn outside_bot(&self, rights: Value) -> OutsideBot {
        let token = format!("{}:{}", Self::new_id(), Secret::random().expose());
        let chat_id = -1_000_000_000_000 - Self::new_id() % 1_000_000_000_000;
        let username = format!("test_{}_bot", Self::new_id());
        self.control("telegram/bots", &json!({ "token": token, "username": username })).await;
        let mut chat = json!({ "chat_id": chat_id, "title": "Продажи", "is_forum": true, "bot_token": token });
        if rights != Value::Null {
            chat["rights"] = rights;
        }
        self.control("telegram/chats", &chat).await;
        OutsideBot { token: Secret::new(token), chat_id }
    }

    /// Connects a bot, as the endpoint does.
    pub async fn connect_bot(&self, owner: &Owner, outside: &OutsideBot) -> Result<Bot, bots::ConnectError> {
        let new = NewBot { token: outside.token.clone(), group_chat_id: Some(outside.chat_id), topic_mode: true };
        let checked = bots::check(self.app, &new).await?;
        bots::connect(self.app, owner.client, owner.user_id, new, checked).await
    }

    /// Creates and connects an owner's bot, in a forum of its own.
    pub async fn bot(&self, owner: &Owner) -> (Bot, OutsideBot) {
        let outside = self.outside_bot(Value::Null).await;
        let bot = must(self.connect_bot(owner, &outside).await);
        (bot, outside)
    }

    /// Creates an account with new keys at Avito's simulator.
    pub async fn outside_account(&self) -> OutsideAccount {
        let account = OutsideAccount {
            api_client_id: Secret::random().expose().to_owned(),
            api_client_secret: Secret::random().expose().to_owned(),
            user_id: Self::new_id(),
        };
        let body = json!({
            "client_id": account.api_client_id, "client_secret": account.api_client_secret,
            "user_id": account.user_id, "name": "Велосипеды",
        });
        self.control("avito/accounts", &body).await;
        account
    }

    /// Connects an account as the endpoint does, but for its polls: another process would run them.
    pub async fn connect_account(
        &self,
        owner: &Owner,
        bot_id: i64,
        outside: &OutsideAccount,
    ) -> Result<AvitoAccount, accounts::ConnectError> {
        let new = NewAccount {
            name: None,
            api_client_id: outside.api_client_id.clone(),
            api_client_secret: Secret::new(outside.api_client_secret.clone()),
            bot_id,
            monitoring_enabled: true,
            webhook: None,
        };
        let checked = accounts::check(self.app, &new).await?;
        let account = accounts::insert(self.app, owner.client, owner.user_id, new, checked, |_| Vec::new()).await?;
        Ok(webhooks::settle(self.app, owner.client, account.id).await?)
    }

    /// Creates an owner's Avito account and connects it to a bot.
    pub async fn account(&self, owner: &Owner, bot_id: i64) -> (AvitoAccount, OutsideAccount) {
        let outside = self.outside_account().await;
        let account = must(self.connect_account(owner, bot_id, &outside).await);
        (account, outside)
    }

    /// Sends a command to the simulators.
    pub async fn control(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/_local/{path}", variable("STACK_CONTROL"));
        let outcome = self.app.outside().post(url).json(body).send().await;
        let answer = must(outcome);
        let (status, text) = (answer.status(), answer.text().await.unwrap_or_default());
        assert!(status.is_success(), "/_local/{path} answered {status}: {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Reads from the simulators.
    pub async fn ask(&self, path_and_query: &str) -> Value {
        let url = format!("{}/_local/{path_and_query}", variable("STACK_CONTROL"));
        let outcome = self.app.outside().get(url).send().await;
        let answer = must(outcome);
        let text = answer.text().await.unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("/_local/{path_and_query}: {error}: {text}"))
    }

    /// Runs one statement and returns its rows.
    pub async fn query(&self, scope: Scope, statement: Statement) -> Vec<tokio_postgres::Row> {
        must(self.app.db().query(scope, statement).await)
    }
}

/// Returns the outcome's value; the test fails with its error.
#[track_caller]
pub fn must<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// Reads a variable that the stack gives to every test.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("run `make test`: {name} is not set"))
}
