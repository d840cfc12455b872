//! Settles the webhook of one account: asks Avito which addresses it knows, does what follows, and stores the outcome.
//! Of others' addresses only the hosts are kept: their paths hold secrets.

use std::{collections::BTreeSet, time::Duration};

use tokio_postgres::Row;
use url::Url;

use super::{
    address::{self, secret_context},
    state::{Action, Before, Ours, WebhookState, after_registration, decide, variant},
};
use crate::{
    App, avito,
    platform::{
        db::{ClientId, DbError, Scope, Statement, get},
        endings::Duty,
        secrets::{Secret, SecretsError},
    },
    tenancy::{
        accounts::{
            account::AvitoAccount,
            keys::Keys,
            tokens::{self, TokenError},
            waits,
        },
        notices,
    },
};

/// The time until Avito is asked what became of a registration, if it could not be asked at once.
const FIRST_CHECK: Duration = Duration::from_secs(5 * 60);
/// The time between two checks of a webhook that is ours.
const USUAL_CHECK: Duration = Duration::from_secs(24 * 3600);
/// The time between two looks if another product has gone.
const WAITING_CHECK: Duration = Duration::from_secs(6 * 3600);
/// The most hosts of others that are stored.
const MAX_OTHERS: usize = 10;

/// A reason why a webhook was not settled.
#[derive(Debug, thiserror::Error)]
pub(super) enum SettleError {
    #[error(transparent)]
    Db(#[from] DbError),
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Avito(#[from] avito::Error),
}

impl SettleError {
    /// The reason in words, for the account's owner. None: our own database failed.
    fn reason(&self) -> Option<String> {
        match self {
            Self::Db(_) | Self::Token(TokenError::Db(_)) => None,
            Self::Token(TokenError::Refused(reason)) => Some(reason.clone()),
            Self::Avito(error) => Some(words(error)),
            error @ (Self::Secrets(_) | Self::Token(_)) => Some(error.to_string()),
        }
    }
}

fn words(error: &avito::Error) -> String {
    error.vendor_message().map_or_else(|| error.to_string(), str::to_owned)
}

/// Finds an account as [`Account::read`] needs it.
const READ: &str = "
    SELECT client_id, id AS avito_account_id, user_id, api_client_id, api_client_secret, access_token, token_expires_at,
           webhook_secret, former_webhook_secret, webhook_state, webhook_choice, webhook_attempts,
           monitoring_enabled
    FROM avito_accounts WHERE id = $1";

/// An account whose webhook is settled.
pub(super) struct Account {
    pub(super) keys: Keys,
    pub(super) secret: Secret,
    pub(super) former: Option<Secret>,
    pub(super) before: Before,
    pub(super) attempts: i32,
}

impl Account {
    pub(super) fn read(app: &App, row: &Row) -> Result<Self, SettleError> {
        let keys = Keys::read(row)?;
        let open = |sealed: Vec<u8>| app.keyring().open(&sealed, secret_context(keys.client_id));
        let secret = open(get(row, "webhook_secret")?)?;
        let former = get::<Option<Vec<u8>>>(row, "former_webhook_secret")?.map(open).transpose()?;
        let before = Before {
            state: variant(row, "webhook_state")?,
            choice: variant(row, "webhook_choice")?,
            is_monitored: get(row, "monitoring_enabled")?,
        };
        Ok(Self { keys, secret, former, before, attempts: get(row, "webhook_attempts")? })
    }

    fn scope(&self) -> Scope {
        Scope::Tenant(self.keys.client_id)
    }
}

/// The addresses that Avito knows of an account.
struct Known {
    ours: Ours,
    /// Addresses of ours besides the present one.
    former: Vec<String>,
    /// The hosts of others.
    others: BTreeSet<String>,
}

/// The outcome that is stored.
struct Settled {
    /// None: it stays as it is.
    state: Option<WebhookState>,
    /// The hosts of others. None: Avito could not be asked.
    others: Option<BTreeSet<String>>,
    /// The hosts that our registration replaced.
    replaced: BTreeSet<String>,
    error: Option<String>,
    /// True if Avito has just taken our address.
    is_new: bool,
}

/// Settles the webhook of an account: registers it, ends it, or leaves it to others. Returns the account as it is then.
/// If Avito does not answer, the account says so, and the next check tries again.
pub async fn settle(app: &App, client: ClientId, account_id: i64) -> Result<AvitoAccount, DbError> {
    let rows = app.db().query(Scope::Tenant(client), Statement::new(READ).bind(account_id)).await?;
    let settled = match Account::read(app, rows.first().ok_or(DbError::Shape)?) {
        Ok(account) => settle_account(app, &account).await,
        Err(error) => Err(error),
    };
    match settled {
        Err(SettleError::Db(error)) => return Err(error),
        Err(error) => tracing::error!(account_id, %error, "a webhook was not settled"),
        Ok(()) => {}
    }
    let rows = app.db().query(Scope::Tenant(client), AvitoAccount::find(account_id)).await?;
    rows.first().map_or(Err(DbError::Shape), AvitoAccount::read)
}

/// Settles the webhook of an account, and stores the outcome. Failures of Avito are part of the outcome.
pub(super) async fn settle_account(app: &App, account: &Account) -> Result<(), SettleError> {
    let settled = match attempt(app, account).await {
        Ok(settled) => settled,
        Err(error) => {
            let Some(reason) = error.reason() else { return Err(error) };
            tracing::warn!(account_id = account.keys.account_id, %error, "a webhook was not settled");
            Settled {
                state: state_without_answer(account.before),
                others: None,
                replaced: BTreeSet::new(),
                error: Some(reason),
                is_new: false,
            }
        }
    };
    app.db().query(account.scope(), store(account, settled)).await?;
    Ok(())
}

/// Returns the state of an account about which Avito could not be asked. None: it stays.
fn state_without_answer(before: Before) -> Option<WebhookState> {
    match before.state {
        _ if !before.is_monitored => Some(WebhookState::Off),
        None => Some(WebhookState::Refused),
        Some(_) => None,
    }
}

async fn attempt(app: &App, account: &Account) -> Result<Settled, SettleError> {
    if !account.before.is_monitored && account.before.state.is_none() {
        // It was never registered.
        return Ok(Settled {
            state: Some(WebhookState::Off),
            others: None,
            replaced: BTreeSet::new(),
            error: None,
            is_new: false,
        });
    }
    let token = tokens::access_token(app, &account.keys).await?;
    let (token, known) = match ask(app, account, &token).await {
        // Once: a call that is refused with the new token too would cost another one at each check.
        Err(error) if error.is_about_token() && account.attempts == 0 => {
            let Some(token) = tokens::renewed_token(app, &account.keys, &token).await? else {
                return Err(error.into());
            };
            let known = ask(app, account, &token).await?;
            (token, known)
        }
        known => (token, known?),
    };
    match decide(account.before, known.ours, !known.others.is_empty()) {
        Action::Register => register(app, account, &token, known).await,
        Action::Unsubscribe(state) => {
            let error = unsubscribe(app, account, &token, &known, true).await.err().map(|error| words(&error));
            Ok(Settled {
                state: Some(state),
                others: Some(known.others),
                replaced: BTreeSet::new(),
                error,
                is_new: false,
            })
        }
        Action::Keep(state) => {
            if known.ours == Ours::Current {
                unsubscribe(app, account, &token, &known, false).await?;
                app.db().query(account.scope(), forget_former(account)).await?;
            }
            Ok(Settled {
                state: Some(state),
                others: Some(known.others),
                replaced: BTreeSet::new(),
                error: None,
                is_new: false,
            })
        }
    }
}

/// Registers our address, and asks again what Avito knows then: an answer may be lost, and another address replaced
/// without a word.
async fn register(app: &App, account: &Account, token: &Secret, before: Known) -> Result<Settled, SettleError> {
    let url = address::address(app, account.keys.account_id, &account.secret);
    let outcome = tokens::avito(app).register_webhook(token, &url).await;
    metrics::counter!("webhooks_registered").increment(1);
    let refusal = outcome.as_ref().err().map(words);
    let Ok(known) = ask(app, account, token).await else {
        // Registered or not, the next check finds out.
        let state = Some(if refusal.is_none() { WebhookState::Registered } else { WebhookState::Refused });
        return Ok(Settled {
            state,
            others: None,
            // The others that were there may be gone. One that is seen again is struck off.
            replaced: before.others,
            is_new: refusal.is_none(),
            error: refusal,
        });
    };
    let state = after_registration(known.ours, !known.others.is_empty(), refusal.is_none());
    let is_new = known.ours == Ours::Current;
    let not_kept = || notices::ADDRESS_NOT_KEPT.to_owned();
    let has_failed = !is_new && state != WebhookState::TakenOver;
    let error = has_failed.then(|| refusal.unwrap_or_else(not_kept));
    let replaced = if is_new { before.others.difference(&known.others).cloned().collect() } else { BTreeSet::new() };
    Ok(Settled { state: Some(state), others: Some(known.others), replaced, error, is_new })
}

/// Unsubscribes former addresses of ours, and the present one if `all`. Addresses of others stay.
async fn unsubscribe(
    app: &App,
    account: &Account,
    token: &Secret,
    known: &Known,
    all: bool,
) -> Result<(), avito::Error> {
    let present =
        (all && known.ours == Ours::Current).then(|| address::address(app, account.keys.account_id, &account.secret));
    for url in known.former.iter().chain(&present) {
        tokens::avito(app).unsubscribe_webhook(token, url).await?;
    }
    Ok(())
}

/// Asks Avito which addresses it knows of the account.
async fn ask(app: &App, account: &Account, token: &Secret) -> Result<Known, avito::Error> {
    let subscriptions = tokens::avito(app).subscriptions(token).await?.value;
    let present = address::address(app, account.keys.account_id, &account.secret);
    let secrets: Vec<&str> =
        [Some(&account.secret), account.former.as_ref()].into_iter().flatten().map(Secret::expose).collect();
    let beginning = address::beginning(app);
    // An address that leads to this installation is ours, and so is one that it had under another name.
    let is_ours =
        |url: &String| url.starts_with(&beginning) || url.rsplit('/').next().is_some_and(|end| secrets.contains(&end));
    let (ours, others): (Vec<String>, Vec<String>) =
        subscriptions.into_iter().map(|subscription| subscription.url).partition(is_ours);
    let former: Vec<String> = ours.iter().filter(|url| **url != present).cloned().collect();
    let ours = if ours.contains(&present) {
        Ours::Current
    } else if former.is_empty() {
        Ours::Gone
    } else {
        Ours::Former
    };
    Ok(Known { ours, former, others: others.iter().map(|url| host(url)).take(MAX_OTHERS).collect() })
}

/// Returns the host of an address; nothing else of it may be shown.
fn host(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "?".to_owned())
}

/// Forgets the former secret, once Avito knows the present one alone.
fn forget_former(account: &Account) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET former_webhook_secret = NULL, former_webhook_secret_hash = NULL
         WHERE id = $1 AND webhook_secret_hash = $2 AND former_webhook_secret IS NOT NULL",
    )
    .bind(account.keys.account_id)
    .bind(account.secret.hash().to_vec())
}

fn store(account: &Account, settled: Settled) -> Statement {
    let Settled { state, others, replaced, error, is_new } = settled;
    let wait = match (&error, state) {
        (Some(_), _) => Some(waits::wait(Duty::Webhook, account.attempts)),
        (None, _) if others.is_none() && is_new => Some(FIRST_CHECK),
        (None, Some(WebhookState::Registered | WebhookState::Shared)) => Some(USUAL_CHECK),
        (None, Some(WebhookState::Off)) => None,
        (None, _) => Some(WAITING_CHECK),
    };
    let list = |hosts: BTreeSet<String>| hosts.into_iter().collect::<Vec<String>>();
    Statement::call("store_webhook")
        .arg("account_id", account.keys.account_id)
        .arg("state", state.map(<&'static str>::from))
        .arg("others", others.map(list))
        .arg("replaced", list(replaced))
        .arg("error", error)
        .arg("is_new", is_new)
        .arg("check_seconds", wait.map(|wait| wait.as_secs_f64()))
        .arg("taken_over_text", notices::WEBHOOK_TAKEN_OVER)
        .arg("failing_text", notices::WEBHOOK_FAILS)
        .arg("replaced_text", notices::WEBHOOK_REPLACED)
}
