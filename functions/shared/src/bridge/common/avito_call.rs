//! One call to Avito for an account: within its rate limit, with a valid token, and once more with a new token after a 401 or 403.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use super::avito_rate_limit::{self, CallPriority};
use crate::{
    App, avito,
    platform::secrets::Secret,
    tenancy::accounts::{self, Keys, TokenError},
};

/// The reason why there is no result. No text of Avito's is printed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no access token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Avito did not do it, or did not say so.
    #[error(transparent)]
    Avito(#[from] avito::Error),
    /// It was too late to begin the call: its effect could come after the lease.
    #[error("it was too late for the call")]
    TooLate,
}

/// Calls Avito for one account, and keeps its newest token for later calls.
pub struct AvitoCaller<'a> {
    app: &'a App,
    keys: &'a Keys,
    token: Mutex<Option<Secret>>,
}

impl<'a> AvitoCaller<'a> {
    /// A caller for the account of these keys.
    pub fn new(app: &'a App, keys: &'a Keys) -> Self {
        Self { app, keys, token: Mutex::default() }
    }

    /// Avito's id of the account.
    pub fn user_id(&self) -> i64 {
        self.keys.user_id
    }

    /// Gets a token, unless this caller has one. For callers that do something else before their first call.
    pub async fn ensure_token(&self) -> Result<(), CallError> {
        self.token().await?;
        Ok(())
    }

    /// Makes a call. After a 401 or 403 it renews the token and calls again, once. `not_after` is checked before each attempt: a
    /// lease that ran out must never send, else a part could go twice.
    pub async fn call<T>(
        &self,
        priority: CallPriority,
        not_after: Option<Instant>,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<T, CallError> {
        let token = self.token().await?;
        match self.attempt(priority, not_after, &call, &token).await {
            Err(CallError::Avito(avito::Error::Unauthorized { .. })) => {
                let token = Box::pin(accounts::renewed_token(self.app, self.keys, &token)).await?;
                self.keep(&token);
                self.attempt(priority, not_after, &call, &token).await
            }
            outcome => outcome,
        }
    }

    async fn attempt<T>(
        &self,
        priority: CallPriority,
        not_after: Option<Instant>,
        call: &impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
        token: &Secret,
    ) -> Result<T, CallError> {
        // Boxed: these futures would make that of every caller large.
        Box::pin(avito_rate_limit::take(self.app, self.keys.account_id, priority)).await?;
        if not_after.is_some_and(|last| Instant::now() > last) {
            return Err(CallError::TooLate);
        }
        let reply = Box::pin(call(&accounts::avito(self.app), token)).await;
        Box::pin(avito_rate_limit::note(self.app, self.keys.account_id, &reply)).await;
        Ok(reply?.value)
    }

    /// The newest token that this caller has, or that of the account.
    async fn token(&self) -> Result<Secret, TokenError> {
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = kept {
            return Ok(token);
        }
        let token = Box::pin(accounts::access_token(self.app, self.keys)).await?;
        self.keep(&token);
        Ok(token)
    }

    fn keep(&self, token: &Secret) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }
}
