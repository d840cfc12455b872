//! Gives each event the [`App`] that it works with. Where the environment has names of secrets instead of their values,
//! the first event reads all of them in one call, and later ones again after a while: a changed secret needs no
//! deployment.

use std::{collections::HashMap, pin::Pin, time::Duration};

use tokio::sync::Mutex;

use crate::{
    app::{App, Need, variables},
    platform::{
        config::{Config, ConfigError},
        idle::Moment,
        secret_store::{self, StoreError},
    },
};

/// The time for which secrets are used before they are read again.
const MAX_AGE: Duration = Duration::from_secs(300);
/// The same after they could not be read again: those that are known stay in use.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// An event has no [`App`] to work with.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Secrets could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Their values do not fit.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

type Read = Pin<Box<dyn Future<Output = Result<HashMap<String, String>, StoreError>> + Send>>;

/// A function's configuration as it starts with it, and the App that was made of it.
pub struct AppSource {
    config: Config,
    needs: &'static [Need],
    read: Box<dyn Fn(Vec<String>) -> Read + Send + Sync>,
    max_age: Duration,
    current: Mutex<Option<Current>>,
}

struct Current {
    app: &'static App,
    since: Moment,
    valid_for: Duration,
}

impl AppSource {
    /// Reads the environment for `needs`; reads no secret and opens nothing.
    pub fn from_env(needs: &'static [Need]) -> Result<Self, ConfigError> {
        let config = Config::from_env(&variables(needs))?;
        Ok(Self::new(config, needs, MAX_AGE, |names| Box::pin(secret_store::read(names))))
    }

    fn new(
        config: Config,
        needs: &'static [Need],
        max_age: Duration,
        read: impl Fn(Vec<String>) -> Read + Send + Sync + 'static,
    ) -> Self {
        Self { config, needs, read: Box::new(read), max_age, current: Mutex::new(None) }
    }

    /// The App for an event that comes now.
    pub async fn app(&self) -> Result<&'static App, SourceError> {
        let mut current = self.current.lock().await;
        let known = current.as_ref().map(|current| current.app);
        if let Some(current) = &*current
            && current.since.elapsed() < current.valid_for
        {
            return Ok(current.app);
        }
        let (app, valid_for) = match (self.make(known).await, known) {
            (Ok(app), _) => (app, self.max_age),
            (Err(error), Some(app)) => {
                tracing::error!(%error, "secrets could not be read again; the known ones stay in use");
                (app, RETRY_INTERVAL)
            }
            (Err(error), None) => return Err(error),
        };
        *current = Some(Current { app, since: Moment::now(), valid_for });
        Ok(app)
    }

    /// Makes the App, or keeps the one that is known if nothing has changed.
    async fn make(&self, known: Option<&'static App>) -> Result<&'static App, SourceError> {
        let names = self.config.secrets_to_read();
        let config =
            if names.is_empty() { self.config.clone() } else { self.config.with(&(self.read)(names).await?)? };
        if let Some(app) = known {
            if app.config().is_same(&config) {
                return Ok(app);
            }
            tracing::info!("secrets have changed");
            app.retire();
        }
        // Never freed: handlers keep it, and there is one per process and change of a secret.
        Ok(Box::leak(Box::new(App::new(config, self.needs))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex as PlainMutex};

    use super::*;
    use crate::platform::config::var;

    /// Secrets Manager, as one test fills it.
    #[derive(Clone, Default)]
    struct Store {
        texts: Arc<PlainMutex<HashMap<String, String>>>,
        calls: Arc<PlainMutex<Vec<Vec<String>>>>,
    }

    impl Store {
        fn put(&self, name: &str, text: &str) {
            self.texts.lock().expect("no panic").insert(format!("tuberry/{name}"), text.to_owned());
        }

        fn calls(&self) -> Vec<Vec<String>> {
            self.calls.lock().expect("no panic").clone()
        }

        fn source(&self, needs: &'static [Need], max_age: Duration) -> AppSource {
            let environment = |name: &str| Some(format!("secretsmanager:tuberry/{name}"));
            let config = Config::read(&variables(needs), environment).unwrap_or_else(|error| panic!("{error}"));
            let (texts, calls) = (Arc::clone(&self.texts), Arc::clone(&self.calls));
            AppSource::new(config, needs, max_age, move |names| {
                calls.lock().expect("no panic").push(names.clone());
                let texts = texts.lock().expect("no panic").clone();
                let missing: Vec<_> = names.into_iter().filter(|name| !texts.contains_key(name)).collect();
                let outcome = if missing.is_empty() { Ok(texts) } else { Err(StoreError::Refused(missing.join(", "))) };
                Box::pin(async move { outcome })
            })
        }
    }

    const NEEDS: &[Need] = &[Need::Cache, Need::Tokens];
    const LONG: &str = "thirty-two characters or even more";

    fn filled() -> Store {
        let store = Store::default();
        store.put("REDIS_URL", "redis://127.0.0.1:1");
        store.put("JWT_SECRET_KEY", LONG);
        store
    }

    #[tokio::test]
    async fn all_secrets_are_read_in_one_call_by_the_first_event_and_no_sooner_and_then_kept() {
        let store = filled();
        let source = store.source(NEEDS, MAX_AGE);
        assert!(store.calls().is_empty());
        let first = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        let second = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(store.calls(), [["tuberry/JWT_SECRET_KEY", "tuberry/REDIS_URL"]]);
        assert!(std::ptr::eq(first, second));
        assert_eq!(first.config().text(var::JWT_SECRET_KEY), LONG);
    }

    #[tokio::test]
    async fn a_changed_secret_is_used_by_the_first_event_after_the_known_ones_became_old() {
        let store = filled();
        let source = store.source(NEEDS, Duration::ZERO);
        let first = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        let same = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        assert!(std::ptr::eq(first, same), "connections stay while nothing changes");
        store.put("REDIS_URL", "redis://127.0.0.1:2");
        let changed = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(changed.config().text(var::REDIS_URL), "redis://127.0.0.1:2");
        assert_eq!(store.calls().len(), 3);
    }

    #[tokio::test]
    async fn without_secrets_an_event_fails_and_with_known_ones_it_goes_on() {
        let store = Store::default();
        store.put("REDIS_URL", "redis://127.0.0.1:1");
        let source = store.source(NEEDS, Duration::ZERO);
        let refused = source.app().await.err().map(|error| error.to_string());
        assert_eq!(refused.as_deref(), Some("Secrets Manager gives no text for tuberry/JWT_SECRET_KEY"));
        store.put("JWT_SECRET_KEY", "short");
        let wrong = source.app().await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(wrong.contains("JWT_SECRET_KEY is shorter than 32 characters") && !wrong.contains("short."), "{wrong}");
        store.put("JWT_SECRET_KEY", LONG);
        let first = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        store.put("JWT_SECRET_KEY", "short");
        for _ in 0..2 {
            let kept = source.app().await.unwrap_or_else(|error| panic!("{error}"));
            assert!(std::ptr::eq(first, kept));
        }
        assert_eq!(store.calls().len(), 4, "it is not tried again with each event");
    }

    #[tokio::test]
    async fn an_environment_without_names_of_secrets_needs_no_call() {
        let store = Store::default();
        let plain = Config::read(&variables(NEEDS), |name| Some(format!("{LONG} {name}")))
            .unwrap_or_else(|error| panic!("{error}"));
        let source = AppSource { config: plain, ..store.source(NEEDS, MAX_AGE) };
        let app = source.app().await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(app.config().text(var::REDIS_URL), format!("{LONG} REDIS_URL"));
        assert!(store.calls().is_empty());
    }
}
