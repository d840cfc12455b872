//! One call to Avito for an account: within its rate limit, with a valid token, and once more with a new token after a 401. A
//! refusal comes with the answer to the question what it concerns: the account, or this one thing.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

use tokio_postgres::Row;

use super::avito_rate_limit::{self, CallPriority};
use crate::{
    App, avito,
    platform::{
        db::{DbError, Scope, Statement, get},
        secrets::Secret,
    },
    tenancy::accounts::{self, AccountStatus, Keys, TokenError},
};

/// The reason why there is no result. No text of Avito's is printed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no access token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Avito did not do it, or did not say so. A refusal concerns this one thing: the account is in order.
    #[error(transparent)]
    Avito(#[from] avito::Error),
    /// Avito refuses the account. It is marked so, with this reason.
    #[error("Avito refuses the account")]
    AccountRefused(AccountStatus, String),
    /// Avito refused the call, and it is not known yet if it refuses the account.
    #[error("it is not known yet if Avito refuses the account")]
    Undecided,
    /// It was too late to begin the call: its effect could come after the lease.
    #[error("it was too late for the call")]
    TooLate,
}

impl From<DbError> for CallError {
    fn from(error: DbError) -> Self {
        Self::Token(TokenError::Db(error))
    }
}

/// The finding of a probe.
enum ProbeFinding {
    /// Avito accepts the account; with a new token, if the former one was refused.
    InOrder(Option<Secret>),
    /// Avito refuses the account, for this reason.
    Refused(String),
    /// Avito did not say, or another worker is asking.
    Unknown,
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

    /// Makes a call. After a 401 it renews the token and calls again, once. If Avito refuses it still, the probe tells if Avito
    /// refuses the account or this one thing. `not_after` is checked before each attempt: a lease that ran out must never send,
    /// else a part could go twice.
    pub async fn call<T>(
        &self,
        priority: CallPriority,
        not_after: Option<Instant>,
        call: impl AsyncFn(&avito::Client, &Secret) -> Result<avito::Reply<T>, avito::Error>,
    ) -> Result<T, CallError> {
        let mut token = self.token().await?;
        let mut error = match self.attempt(priority, not_after, &call, &token).await {
            Err(CallError::Avito(error)) if error.may_concern_account() => error,
            outcome => return outcome,
        };
        if error.is_about_token()
            && let Some(renewed) = self.renewed(&token).await?
        {
            token = renewed;
            error = match self.attempt(priority, not_after, &call, &token).await {
                Err(CallError::Avito(error)) if error.may_concern_account() => error,
                outcome => return outcome,
            };
        }
        match Box::pin(self.probe(&token)).await? {
            ProbeFinding::InOrder(None) => Err(error.into()),
            ProbeFinding::InOrder(Some(renewed)) => self.attempt(priority, not_after, &call, &renewed).await,
            ProbeFinding::Refused(reason) => Err(CallError::AccountRefused(AccountStatus::Blocked, reason)),
            ProbeFinding::Unknown => Err(CallError::Undecided),
        }
    }

    /// Asks Avito for the account itself, and for its first page of chats: both answered means that a refusal concerned one thing.
    /// Of two probes within five seconds the second is the first one's answer.
    async fn probe(&self, token: &Secret) -> Result<ProbeFinding, CallError> {
        let account_id = self.keys.account_id;
        if self.query(accounts::claim_probe(account_id)).await?.is_empty() {
            let rows = self.query(accounts::select_probe(account_id)).await?;
            let row = rows.first().ok_or(TokenError::Db(DbError::Shape))?;
            return Ok(match get(row, "probe_refused")? {
                Some(true) => ProbeFinding::Refused(get::<Option<String>>(row, "status_reason")?.unwrap_or_default()),
                Some(false) => ProbeFinding::InOrder(None),
                None => ProbeFinding::Unknown,
            });
        }
        let mut renewed = None;
        let own = async |avito: &avito::Client, token: &Secret| avito.own_account(token).await;
        let mut found = self.attempt(CallPriority::Reply, None, &own, token).await.map(|_| ());
        if let Err(CallError::Avito(error)) = &found
            && error.may_concern_account()
        {
            renewed = self.renewed(token).await?;
            let Some(token) = &renewed else {
                // The token is too new to be replaced, but Avito may have ended it early. By the next probe it is old enough.
                return Ok(ProbeFinding::Unknown);
            };
            found = self.attempt(CallPriority::Reply, None, &own, token).await.map(|_| ());
        }
        if found.is_ok() {
            let (user_id, first_page) = (self.keys.user_id, avito::ChatsQuery::default());
            let chats = async |avito: &avito::Client, token: &Secret| avito.chats(token, user_id, &first_page).await;
            found =
                self.attempt(CallPriority::Reply, None, &chats, renewed.as_ref().unwrap_or(token)).await.map(|_| ());
        }
        match found {
            Ok(()) => {
                self.query(accounts::store_probe(account_id, false)).await?;
                Ok(ProbeFinding::InOrder(renewed))
            }
            Err(CallError::Avito(error)) if error.may_concern_account() => {
                metrics::counter!("accounts_refused").increment(1);
                let reason = error.vendor_message().map_or_else(|| error.to_string(), str::to_owned);
                self.query(accounts::store_probe(account_id, true)).await?;
                self.query(accounts::mark_refused(account_id, AccountStatus::Blocked, reason.clone())).await?;
                Ok(ProbeFinding::Refused(reason))
            }
            Err(_) => Ok(ProbeFinding::Unknown),
        }
    }

    /// Renews the token that Avito refused. None: it is so new that another would be refused as well.
    async fn renewed(&self, refused: &Secret) -> Result<Option<Secret>, CallError> {
        let renewed = Box::pin(accounts::renewed_token(self.app, self.keys, refused)).await;
        let renewed = self.with_refusal_marked(renewed).await?;
        if let Some(token) = &renewed {
            self.keep(token);
        }
        Ok(renewed)
    }

    /// Marks the account as refused if Avito does not accept its keys.
    async fn with_refusal_marked<T>(&self, token: Result<T, TokenError>) -> Result<T, CallError> {
        let Err(TokenError::Refused(reason)) = token else { return Ok(token?) };
        metrics::counter!("accounts_refused").increment(1);
        let mark = accounts::mark_refused(self.keys.account_id, AccountStatus::Expired, reason.clone());
        self.query(mark).await?;
        Err(CallError::AccountRefused(AccountStatus::Expired, reason))
    }

    /// Runs a statement of the account's tenant.
    async fn query(&self, statement: Statement) -> Result<Vec<Row>, CallError> {
        Ok(self.app.db().query(Scope::Tenant(self.keys.client_id), statement).await?)
    }

    /// Makes one attempt of a call, within the account's rate limit.
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
    async fn token(&self) -> Result<Secret, CallError> {
        let kept = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(token) = kept {
            return Ok(token);
        }
        let token = Box::pin(accounts::access_token(self.app, self.keys)).await;
        let token = self.with_refusal_marked(token).await?;
        self.keep(&token);
        Ok(token)
    }

    fn keep(&self, token: &Secret) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
    }
}
