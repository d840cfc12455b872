//! Tokens, the account itself, its webhooks and its blacklist.

use serde_json::{Value, json};

use super::error::Refusal;
use super::request::Call;
use super::state::{AvitoState, Chat, Token, message_id};
use crate::world::now;

const TOKEN_LIFE: i64 = 86_400;

/// `POST /token`. Earlier tokens stay valid, unless a fault (`single`) expires them.
pub(crate) fn token(avito: &mut AvitoState, call: &Call, single: bool) -> Result<Value, Refusal> {
    if call.text("grant_type")? != "client_credentials" {
        let body = json!({ "error": "unsupported_grant_type", "error_description": "The grant type is not supported" });
        return Err(Refusal { status: 400, body, retry_after: None });
    }
    let (id, secret) = (call.text("client_id")?, call.text("client_secret")?);
    let account = avito.accounts.values().find(|account| account.client_id == id && account.client_secret == secret);
    let user_id = account.ok_or_else(Refusal::invalid_client)?.user_id;
    if single {
        avito.expire_tokens(Some(user_id));
    }
    let token = message_id();
    avito.tokens.insert(token.clone(), Token { user_id, expires_at: now() + TOKEN_LIFE });
    Ok(json!({ "access_token": token, "expires_in": TOKEN_LIFE, "token_type": "Bearer" }))
}

/// `GET /core/v1/accounts/self`.
pub(crate) fn own(avito: &AvitoState, owner: i64) -> Result<Value, Refusal> {
    let account = avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?;
    let phone = format!("7000{:07}", owner.rem_euclid(10_000_000));
    Ok(json!({
        "id": owner,
        "name": account.name,
        "email": format!("seller-{owner}@example.com"),
        "phone": phone,
        "phones": [phone],
        "profile_url": format!("https://avito.ru/user/{owner:032x}/profile"),
    }))
}

/// `POST /messenger/v3/webhook`, `…/v1/webhook/unsubscribe`, `…/v1/subscriptions`.
pub(crate) fn webhook(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let account = avito.accounts.get_mut(&owner).ok_or_else(Refusal::not_found)?;
    if call.name == "subscriptions" {
        let all = account.webhooks.iter().map(|url| json!({ "url": url, "version": "3" }));
        return Ok(json!({ "subscriptions": all.collect::<Vec<_>>() }));
    }
    let url = call.text("url")?;
    if !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        return Err(Refusal::invalid("url", "must be an address"));
    }
    if call.name == "webhook.register" {
        account.subscribe(url);
    } else {
        account.webhooks.retain(|known| known != url);
    }
    Ok(json!({ "ok": true }))
}

/// `POST /messenger/v2/accounts/{user_id}/blacklist`; the answer has no content.
pub(crate) fn blacklist(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let users = call.body["users"].as_array().filter(|users| !users.is_empty());
    let users = users.ok_or_else(|| Refusal::invalid("users", "must be a non-empty array"))?;
    let mut ids = Vec::new();
    for user in users {
        let known = user.as_object().is_some_and(|user| user.keys().all(|name| name == "user_id" || name == "context"));
        let id = user["user_id"].as_i64().filter(|_| known);
        ids.push(id.ok_or_else(|| Refusal::invalid("users", "takes user_id and context"))?);
        let context = &user["context"];
        let only = |name: &String| name == "item_id" || name == "reason_id";
        let fits = context.is_null()
            || context.as_object().is_some_and(|context| context.keys().all(only))
                && (context["reason_id"].is_null()
                    || context["reason_id"].as_i64().is_some_and(|id| (1..=4).contains(&id)))
                && (context["item_id"].is_null() || context["item_id"].is_i64());
        if !fits {
            return Err(Refusal::invalid("context", "takes item_id and a reason_id from 1 to 4"));
        }
    }
    let mut blocked = Vec::new();
    for (id, user) in ids.into_iter().zip(users) {
        let chat = avito.chat_of_user(owner, id, user["context"]["item_id"].as_i64());
        chat.map_or(Ok(()), Chat::admit_changes)?;
        // Lists may have hashed it.
        blocked.push(chat.map_or(id, |chat| chat.buyer.id));
    }
    avito.accounts.get_mut(&owner).ok_or_else(Refusal::not_found)?.blacklist.extend(blocked);
    Ok(Value::Null)
}

/// Another product registers its address again, if that is gone.
pub(crate) fn take_back(avito: &mut AvitoState, user_id: i64, url: &str) {
    let Some(account) = avito.accounts.get_mut(&user_id) else { return };
    if account.foreign(url).is_some() && !account.webhooks.iter().any(|known| known == url) {
        account.subscribe(url);
    }
}
