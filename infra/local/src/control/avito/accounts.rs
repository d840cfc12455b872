//! Accounts: their keys, their switches, and the addresses of other products that are subscribed to them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Answer, Failure, parsed};
use crate::avito::state::{Account, Foreign, Subscriptions, Switches};
use crate::avito::view::TARIFF_PLACEHOLDER;
use crate::world::World;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountRequest {
    client_id: String,
    client_secret: String,
    user_id: i64,
    name: Option<String>,
    calls_per_minute: Option<u32>,
    subscriptions: Option<Subscriptions>,
    hashed_ids: Option<bool>,
    tariff_placeholder: Option<Placeholder>,
}

/// `true` is the sentence that is known of Avito; a text is another one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Placeholder {
    Known(bool),
    Other(String),
}

/// `POST /_local/avito/accounts`. Switches that are not given stay as they are.
pub(crate) async fn accounts(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: AccountRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    let taken = avito
        .accounts
        .values()
        .any(|account| account.client_id == request.client_id && account.user_id != request.user_id);
    if taken {
        return Err(Failure::conflict("Another account has this client_id."));
    }
    let account = avito.accounts.entry(request.user_id).or_insert_with(|| Account {
        user_id: request.user_id,
        client_id: String::new(),
        client_secret: String::new(),
        name: "Продавец".to_owned(),
        webhooks: Vec::new(),
        blacklist: Vec::new(),
        calls_per_minute: None,
        calls_in_minute: (0, 0),
        switches: Switches::default(),
        foreign: Vec::new(),
    });
    account.calls_per_minute = request.calls_per_minute;
    account.client_id = request.client_id;
    account.client_secret = request.client_secret;
    account.name = request.name.unwrap_or_else(|| account.name.clone());
    let subscriptions = request.subscriptions;
    let (hashed_ids, tariff_placeholder) = (request.hashed_ids, request.tariff_placeholder);
    SwitchesRequest { user_id: request.user_id, subscriptions, hashed_ids, tariff_placeholder }.apply(account);
    Ok(Json(json!({
        "user_id": account.user_id, "client_id": account.client_id, "name": account.name,
        "webhooks": account.webhooks.len(),
    })))
}

/// The switches of an account that are to change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SwitchesRequest {
    user_id: i64,
    subscriptions: Option<Subscriptions>,
    hashed_ids: Option<bool>,
    tariff_placeholder: Option<Placeholder>,
}

impl SwitchesRequest {
    fn apply(self, account: &mut Account) {
        if let Some(subscriptions) = self.subscriptions {
            account.keep(subscriptions);
        }
        if let Some(hashed_ids) = self.hashed_ids {
            account.switches.hashed_ids = hashed_ids;
        }
        if let Some(placeholder) = self.tariff_placeholder {
            account.switches.tariff_placeholder = match placeholder {
                Placeholder::Known(false) => None,
                Placeholder::Known(true) => Some(TARIFF_PLACEHOLDER.to_owned()),
                Placeholder::Other(sentence) => Some(sentence),
            };
        }
    }
}

/// `POST /_local/avito/switches`.
pub(crate) async fn switches(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: SwitchesRequest = parsed(&body)?;
    let avito = &mut world.state().avito;
    let account = avito.accounts.get_mut(&request.user_id).ok_or_else(none)?;
    request.apply(account);
    Ok(Json(json!({ "switches": account.switches })))
}

/// The refusal for an account that the simulator does not have.
pub(crate) fn none() -> Failure {
    Failure::not_found("There is no such account.")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ForeignRequest {
    user_id: i64,
    url: String,
    /// True: whenever its address is gone, the other product registers again.
    #[serde(default)]
    takes_back: bool,
    /// The delay after which it does.
    #[serde(default)]
    after_ms: u64,
}

/// `POST /_local/avito/subscriptions`: another product registers an address.
pub(crate) async fn subscribe(State(world): State<Arc<World>>, body: Bytes) -> Answer {
    let request: ForeignRequest = parsed(&body)?;
    if !url::Url::parse(&request.url).is_ok_and(|url| url.has_host()) {
        return Err(Failure::bad("url has to be an address."));
    }
    let avito = &mut world.state().avito;
    let account = avito.accounts.get_mut(&request.user_id).ok_or_else(none)?;
    account.foreign.retain(|foreign| foreign.url != request.url);
    account.subscribe(&request.url);
    let takes_back_after_ms = request.takes_back.then_some(request.after_ms);
    account.foreign.push(Foreign { url: request.url, takes_back_after_ms });
    Ok(Json(listed(account)))
}

/// The account whose addresses to list or to end. `url` None: all of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubscriptionsQuery {
    user_id: i64,
    url: Option<String>,
}

/// `GET /_local/avito/subscriptions`.
pub(crate) async fn subscriptions(State(world): State<Arc<World>>, Query(query): Query<SubscriptionsQuery>) -> Answer {
    Ok(Json(listed(world.state().avito.accounts.get(&query.user_id).ok_or_else(none)?)))
}

/// `DELETE /_local/avito/subscriptions`: addresses end, ours too. Nobody takes them back.
pub(crate) async fn unsubscribe(State(world): State<Arc<World>>, Query(query): Query<SubscriptionsQuery>) -> Answer {
    let avito = &mut world.state().avito;
    let account = avito.accounts.get_mut(&query.user_id).ok_or_else(none)?;
    let ends = |url: &String| query.url.as_ref().is_none_or(|ending| ending == url);
    account.foreign.retain(|foreign| !ends(&foreign.url));
    account.webhooks.retain(|url| !ends(url));
    Ok(Json(listed(account)))
}

fn listed(account: &Account) -> Value {
    let one = |url: &String| json!({ "url": url, "foreign": account.foreign(url).is_some() });
    json!({
        "mode": account.switches.subscriptions,
        "subscriptions": account.webhooks.iter().map(one).collect::<Vec<_>>(),
    })
}
