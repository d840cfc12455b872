//! Configuration from the environment: a function declares its variables, and one error names all that are missing.
//! The template must give the function the same variables; a test compares the two.

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
        /// TLS.
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
        /// Queue of scheduled auto-replies.
        AUTO_REPLY_QUEUE_URL = None, address;
    }
}

/// The values of the variables that a function declared.
pub struct Config(HashMap<&'static str, String>);

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
        let mut values = HashMap::new();
        let mut missing = Vec::new();
        let mut wrong = Vec::new();
        for variable in variables {
            let given = get(variable.name).filter(|text| !text.is_empty());
            let Some(value) = given.or_else(|| variable.default.map(str::to_owned)) else {
                missing.push(variable.name);
                continue;
            };
            match (variable.check)(&value) {
                Ok(()) => _ = values.insert(variable.name, value),
                Err(problem) => wrong.push(format!("{} {problem}", variable.name)),
            }
        }
        if !missing.is_empty() {
            wrong.insert(0, format!("missing {}", missing.join(", ")));
        }
        if wrong.is_empty() { Ok(Self(values)) } else { Err(ConfigError(wrong)) }
    }

    /// The value of a variable that the function declared.
    ///
    /// # Panics
    /// If the function did not declare it: a mistake in our code that the first call shows.
    pub fn text(&self, variable: Variable) -> &str {
        match self.0.get(variable.name) {
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
        assert_eq!(config.map(|config| config.number(var::JWT_EXPIRES)), Ok(Some(1800)));
    }

    impl PartialEq for Config {
        fn eq(&self, other: &Self) -> bool {
            self.0 == other.0
        }
    }

    impl std::fmt::Debug for Config {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{} variables", self.0.len())
        }
    }
}
