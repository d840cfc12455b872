//! Configuration from the environment: a function declares its variables, and one error names all that are missing.
//! The template must give the function the same variables; a test compares the two. Of a secret it gives the name under
//! which Secrets Manager has it, as `secretsmanager:<name>`; in tests the value itself may stand there.

use std::collections::HashMap;

/// One environment variable.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value if it is unset or empty. `None`: it must be set.
    pub default: Option<&'static str>,
    check: fn(&str) -> Result<(), &'static str>,
}

/// Accepts every value.
#[expect(clippy::unnecessary_wraps, reason = "it stands beside checks that can fail")]
fn any(_: &str) -> Result<(), &'static str> {
    Ok(())
}

fn address(text: &str) -> Result<(), &'static str> {
    url::Url::parse(text).map(|_| ()).map_err(|_| "is not an address")
}

fn seconds(text: &str) -> Result<(), &'static str> {
    match text.parse::<u32>() {
        Ok(1..) => Ok(()),
        _ => Err("is not a whole number of seconds above 0"),
    }
}

fn delay(text: &str) -> Result<(), &'static str> {
    match text.parse::<u32>() {
        Ok(1..=900) => Ok(()),
        _ => Err("is not a whole number of seconds from 1 to 900"),
    }
}

fn optional_number(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.parse::<i64>().is_ok() { Ok(()) } else { Err("is not a number") }
}

fn hosts(text: &str) -> Result<(), &'static str> {
    super::media::Hosts::parse(text).map(|_| ()).ok_or("is not a list of hosts, separated by commas")
}

fn long_secret(text: &str) -> Result<(), &'static str> {
    if text.len() >= 32 { Ok(()) } else { Err("is shorter than 32 characters") }
}

fn keyring(text: &str) -> Result<(), &'static str> {
    super::secrets::Keyring::parse(text)
        .map(|_| ())
        .map_err(|_| "is not `id:text,id:text` with ids 0-255 and texts of 32 characters or more")
}

macro_rules! variables {
    ($($(#[$doc:meta])* $name:ident = $default:expr, $check:expr;)*) => {
        $($(#[$doc])* pub const $name: Variable = Variable { name: stringify!($name), default: $default, check: $check };)*
        /// Every variable that any function reads.
        pub const ALL: &[Variable] = &[$($name),*];
    };
}

/// The variables by name.
pub mod var {
    use super::{Variable, address, any, delay, hosts, keyring, long_secret, optional_number, seconds};
    variables! {
        /// Postgres, as a `postgres://` address. TLS unless it is on this machine or says `sslmode=disable`.
        DATABASE_URL = None, any;
        /// The owner of the tables, for migrations only.
        MIGRATION_DATABASE_URL = None, any;
        /// The role that functions log in as, to which `migrate` grants the roles of the tables; empty: it was granted them.
        DATABASE_LOGIN = Some(""), any;
        /// Extra root certificates for Postgres, PEM.
        DATABASE_CA = Some(""), any;
        /// Redis, as a `redis://` or `rediss://` address.
        REDIS_URL = None, any;
        /// Signs our tokens; 32 bytes or more.
        JWT_SECRET_KEY = None, long_secret;
        /// Life of an access token, seconds.
        JWT_EXPIRES = Some("1800"), seconds;
        /// Life of a refresh token, seconds.
        REFRESH_EXPIRES = Some("604800"), seconds;
        /// Encrypts secrets at rest: `id:text,id:text`, newest first.
        SECRETS_KEY = None, keyring;
        /// Admits the operator's own programs.
        SERVICE_TOKEN = None, long_secret;
        /// The platform bot; its token signs the Login Widget's data.
        MASTER_BOT_TOKEN = None, any;
        /// The platform bot's name, without `@`.
        MASTER_BOT_NAME = None, any;
        /// The Telegram user who signs in as platform admin; empty: there is no such admin.
        ADMIN_TELEGRAM_ID = Some(""), optional_number;
        /// The Bot API.
        TELEGRAM_API_BASE = Some("https://api.telegram.org"), address;
        /// Avito's API.
        AVITO_API_BASE = Some("https://api.avito.ru"), address;
        /// Hosts that files are fetched from, with their subdomains. With a port: that host and port only, also without
        /// TLS. The servers of the two APIs need not be named, if they are others than usual.
        MEDIA_HOSTS = Some("avito.ru,avito.st,api.telegram.org"), hosts;
        /// The address at which Telegram and Avito reach our webhooks.
        PUBLIC_BASE_URL = None, address;
        /// The interval between two polls of an account, seconds.
        POLL_INTERVAL_SECONDS = Some("30"), seconds;
        /// The same while Avito's webhooks report every message, seconds.
        WEBHOOK_POLL_INTERVAL_SECONDS = Some("300"), seconds;
        /// The time that people have to answer before the auto-reply does, seconds; SQS delays at most 900.
        AUTO_REPLY_DELAY_SECONDS = Some("75"), delay;
        /// Queue of wake-ups for bots.
        TELEGRAM_QUEUE_URL = None, address;
        /// Queue of wake-ups for dialogs.
        AVITO_QUEUE_URL = None, address;
        /// Queue of accounts to poll.
        POLL_QUEUE_URL = None, address;
        /// Queue of webhooks that came while Postgres was away.
        INTAKE_QUEUE_URL = None, address;
        /// Queue of those of them that nothing can record. People look at them.
        INTAKE_DEAD_LETTERS_URL = None, address;
        /// Queue of scheduled auto-replies.
        AUTO_REPLY_QUEUE_URL = None, address;
    }
}

/// The variables that are secrets: of these the template knows names alone.
pub const SECRETS: &[Variable] = &[
    var::DATABASE_URL,
    var::MIGRATION_DATABASE_URL,
    var::REDIS_URL,
    var::JWT_SECRET_KEY,
    var::SECRETS_KEY,
    var::SERVICE_TOKEN,
    var::MASTER_BOT_TOKEN,
];

/// The beginning of a value that stands for the text of a secret; its name follows.
const BY_NAME: &str = "secretsmanager:";

/// The values of the variables that a function declared.
#[derive(Clone)]
pub struct Config {
    values: HashMap<&'static str, String>,
    /// Variables whose values are still to be read, with the names of their secrets.
    named: Vec<(Variable, String)>,
}

/// Everything that is wrong with the environment, in one sentence.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("The environment is not complete: {}.", .0.join("; "))]
pub struct ConfigError(Vec<String>);

impl Config {
    /// Reads `variables` from the process's environment.
    pub fn from_env(variables: &[Variable]) -> Result<Self, ConfigError> {
        Self::read(variables, |name| std::env::var(name).ok())
    }

    /// Reads `variables` by `get`.
    pub fn read(variables: &[Variable], get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut config = Self { values: HashMap::new(), named: Vec::new() };
        let given = |name: &str| get(name).filter(|text| !text.is_empty());
        let (named, plain) = variables
            .iter()
            .partition::<Vec<_>, _>(|variable| given(variable.name).is_some_and(|value| value.starts_with(BY_NAME)));
        config.take(plain, given)?;
        let name_of = |variable: Variable| given(variable.name)?.strip_prefix(BY_NAME).map(str::to_owned);
        config.named = named.into_iter().filter_map(|variable| Some((*variable, name_of(*variable)?))).collect();
        Ok(config)
    }

    /// The names of the secrets that are still to be read; none if it is complete.
    pub fn secrets_to_read(&self) -> Vec<String> {
        self.named.iter().map(|(_, name)| name.clone()).collect()
    }

    /// The complete configuration, with the texts of its secrets by their names.
    pub fn with(&self, texts: &HashMap<String, String>) -> Result<Self, ConfigError> {
        let mut complete = Self { values: self.values.clone(), named: Vec::new() };
        let text = |name: &str| {
            let (_, name) = self.named.iter().find(|(variable, _)| variable.name == name)?;
            texts.get(name).filter(|text| !text.is_empty()).cloned()
        };
        complete.take(self.named.iter().map(|(variable, _)| variable).collect(), text)?;
        Ok(complete)
    }

    /// True if all values are those of `other`.
    pub fn is_same(&self, other: &Self) -> bool {
        self.values == other.values
    }

    /// Takes the values of `variables`, or their defaults, and checks them. The error names all that are missing or wrong.
    fn take(&mut self, variables: Vec<&Variable>, given: impl Fn(&str) -> Option<String>) -> Result<(), ConfigError> {
        let mut missing = Vec::new();
        let mut wrong = Vec::new();
        for variable in variables {
            let Some(value) = given(variable.name).or_else(|| variable.default.map(str::to_owned)) else {
                missing.push(variable.name);
                continue;
            };
            match (variable.check)(&value) {
                Ok(()) => _ = self.values.insert(variable.name, value),
                Err(problem) => wrong.push(format!("{} {problem}", variable.name)),
            }
        }
        if !missing.is_empty() {
            wrong.insert(0, format!("missing {}", missing.join(", ")));
        }
        if wrong.is_empty() { Ok(()) } else { Err(ConfigError(wrong)) }
    }

    /// The value of a variable that the function declared.
    ///
    /// # Panics
    /// If the function did not declare it: a mistake in our code that the first call shows.
    pub fn text(&self, variable: Variable) -> &str {
        match self.values.get(variable.name) {
            Some(value) => value,
            None => panic!("the function uses {} without declaring it", variable.name),
        }
    }

    /// The value of a variable that was checked to be a number. `None`: it is empty.
    pub fn number(&self, variable: Variable) -> Option<i64> {
        self.text(variable).parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_missing_names_and_wrong_values_stand_in_one_error() {
        let environment = |name: &str| (name == "PUBLIC_BASE_URL").then(|| "not an address".to_owned());
        let error = Config::read(&[var::DATABASE_URL, var::PUBLIC_BASE_URL, var::SECRETS_KEY], environment).err();
        assert_eq!(
            error.map(|error| error.to_string()).as_deref(),
            Some(
                "The environment is not complete: missing DATABASE_URL, SECRETS_KEY; PUBLIC_BASE_URL is not an address."
            )
        );
    }

    #[test]
    fn an_empty_value_means_the_default() {
        let config = Config::read(&[var::JWT_EXPIRES], |_| Some(String::new()));
        assert_eq!(must(config).number(var::JWT_EXPIRES), Some(1800));
    }

    #[test]
    fn a_secret_that_is_given_by_name_is_checked_when_its_text_is_known() {
        let environment = |name: &str| match name {
            "SECRETS_KEY" => Some("secretsmanager:tuberry/SECRETS_KEY".to_owned()),
            _ => Some("1800".to_owned()),
        };
        let config = must(Config::read(&[var::JWT_EXPIRES, var::SECRETS_KEY], environment));
        assert_eq!(config.secrets_to_read(), ["tuberry/SECRETS_KEY"]);
        let with = |text: &str| config.with(&HashMap::from([("tuberry/SECRETS_KEY".to_owned(), text.to_owned())]));
        assert!(with("short").is_err() && config.with(&HashMap::new()).is_err());
        let key = "1:a key of at least thirty-two characters";
        let complete = must(with(key));
        assert_eq!((complete.text(var::SECRETS_KEY), complete.number(var::JWT_EXPIRES)), (key, Some(1800)));
        assert!(complete.secrets_to_read().is_empty() && !complete.is_same(&config));
    }

    fn must(outcome: Result<Config, ConfigError>) -> Config {
        outcome.unwrap_or_else(|error| panic!("{error}"))
    }
}
