//! Chats as an account sees them.

use serde_json::{Value, json};

use super::error::Refusal;
use super::request::Call;
use super::state::{Account, AvitoState, Chat, Message};

const TYPES: [&str; 3] = ["u2i", "u2u", "a2u"];

/// `GET …/chats`: newest activity first.
pub(crate) fn list(avito: &AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let (limit, offset) = (call.number("limit", 100, 1, 100)?, call.number("offset", 0, 0, 1000)?);
    let types = call.list("chat_types").unwrap_or_else(|| vec!["u2i"]);
    if let Some(unknown) = types.iter().find(|name| !TYPES.contains(name)) {
        return Err(Refusal::invalid("chat_types", &format!("{unknown} is unknown")));
    }
    let unread_only = match call.query.get("unread_only").map(String::as_str) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Refusal::invalid("unread_only", "must be true or false")),
    };
    let items = call.list("item_ids");
    let about = |chat: &Chat| {
        let Some(items) = &items else { return true };
        chat.item.as_ref().is_some_and(|item| items.iter().any(|id| id.parse() == Ok(item.id)))
    };
    let mut chats: Vec<&Chat> = avito
        .chats
        .values()
        .filter(|chat| chat.user_id == owner && types.contains(&chat.kind.as_str()) && about(chat))
        .filter(|chat| !unread_only || chat.is_unread())
        .collect();
    chats.sort_by_cached_key(|chat| std::cmp::Reverse(chat.updated()));
    let has_more = chats.len() > offset + limit;
    let account = avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?;
    let page = chats.into_iter().skip(offset).take(limit).map(|chat| rendered(chat, account));
    Ok(json!({ "chats": page.collect::<Vec<_>>(), "meta": { "has_more": has_more } }))
}

/// `GET …/chats/{chat_id}`.
pub(crate) fn get(avito: &AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let chat = find(avito, owner, call)?;
    Ok(rendered(chat, avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?))
}

/// `POST …/read`.
pub(crate) fn read(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    find_mut(avito, owner, call)?.read_by_account();
    Ok(json!({ "ok": true }))
}

/// The chat of a call. Refused: it does not exist, or is another account's.
pub(crate) fn find<'a>(avito: &'a AvitoState, owner: i64, call: &Call) -> Result<&'a Chat, Refusal> {
    let chat = avito.chats.get(call.chat.as_deref().unwrap_or_default());
    chat.filter(|chat| chat.user_id == owner).ok_or_else(Refusal::not_found)
}

/// The same, to change it.
pub(crate) fn find_mut<'a>(avito: &'a mut AvitoState, owner: i64, call: &Call) -> Result<&'a mut Chat, Refusal> {
    let chat = avito.chats.get_mut(call.chat.as_deref().unwrap_or_default());
    chat.filter(|chat| chat.user_id == owner).ok_or_else(Refusal::not_found)
}

fn rendered(chat: &Chat, account: &Account) -> Value {
    let mut shown = json!({
        "id": chat.id,
        "created": chat.created,
        "updated": chat.updated(),
        "users": [user(chat.buyer.id, &chat.buyer.name, chat), user(account.user_id, &account.name, chat)],
    });
    if let Some(item) = &chat.item {
        let url = item.url.clone().unwrap_or_else(|| format!("https://avito.ru/items/{}", item.id));
        let mut value = json!({
            "id": item.id,
            "title": item.title,
            "price_string": item.price_string.clone().unwrap_or_default(),
            "status_id": 10,
            "url": url,
            "user_id": account.user_id,
            "images": { "count": 1, "main": { "140x105": "media:/media/item/140x105/item.png" } },
        });
        if let Some(city) = &item.city {
            value["location"] = json!({ "title": city, "lat": 55.75, "lon": 37.61 });
        }
        shown["context"] = json!({ "type": "item", "value": value });
    }
    if let Some(last) = chat.newest_first().first() {
        shown["last_message"] = last_message(last);
    }
    shown
}

fn last_message(message: &Message) -> Value {
    let mut shown = json!({
        "id": message.id, "author_id": message.author_id, "content": message.content, "created": message.created,
        "direction": message.direction, "type": message.kind,
    });
    if let Some(read) = message.read {
        shown["read"] = json!(read);
    }
    shown
}

fn user(id: i64, name: &str, chat: &Chat) -> Value {
    let url = format!("https://avito.ru/user/{id:032x}/profile?id={id}&src=messenger");
    let item_id = chat.item.as_ref().map(|item| item.id);
    json!({
        "id": id,
        "name": name,
        "public_user_profile": {
            "user_id": id,
            "item_id": item_id,
            "url": url,
            "avatar": {
                "default": "https://www.avito.st/stub_avatars/_/14_256x256.png",
                "images": { "64x64": "https://www.avito.st/stub_avatars/_/14_64x64.png" },
            },
        },
    })
}
