//! Chats as an account sees them.

use serde_json::{Value, json};

use super::error::Refusal;
use super::request::Call;
use super::state::{AvitoState, Chat, ChatState, Message};
use super::view::View;
use crate::faults::Faults;

const TYPES: [&str; 3] = ["u2i", "u2u", "a2u"];

/// `GET …/chats`: newest activity first.
pub(crate) fn list(avito: &AvitoState, faults: &Faults, owner: i64, call: &Call) -> Result<Value, Refusal> {
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
    let view = View::new(avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?, faults);
    let mut chats: Vec<(&Chat, Option<&Message>)> = avito
        .chats
        .values()
        .filter(|chat| chat.user_id == owner && types.contains(&chat.kind.as_str()) && about(chat))
        .filter(|chat| chat.state != ChatState::Gone && (!unread_only || chat.is_unread()))
        .map(|chat| (chat, view.newest(chat)))
        .collect();
    chats.sort_by_key(|(chat, newest)| std::cmp::Reverse(updated(chat, *newest)));
    let has_more = chats.len() > offset + limit;
    let page = chats.into_iter().skip(offset).take(limit).map(|(chat, newest)| rendered(chat, newest, &view));
    Ok(json!({ "chats": page.collect::<Vec<_>>(), "meta": { "has_more": has_more } }))
}

/// `GET …/chats/{chat_id}`.
pub(crate) fn get(avito: &AvitoState, faults: &Faults, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let chat = find(avito, owner, call)?;
    let view = View::new(avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?, faults);
    Ok(rendered(chat, view.newest(chat), &view))
}

/// `POST …/read`.
pub(crate) fn read(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    find_mut(avito, owner, call)?.read_by_account();
    Ok(json!({ "ok": true }))
}

/// The chat of a call, to read it. Refused: it does not exist, is another account's, or is hidden.
pub(crate) fn find<'a>(avito: &'a AvitoState, owner: i64, call: &Call) -> Result<&'a Chat, Refusal> {
    let chat = avito.chats.get(call.chat.as_deref().unwrap_or_default());
    let chat = chat.filter(|chat| chat.user_id == owner && !chat.is_out_of_sight());
    chat.ok_or_else(Refusal::not_found)
}

/// The same, to change something in it. Refused too: it is closed.
pub(crate) fn find_mut<'a>(avito: &'a mut AvitoState, owner: i64, call: &Call) -> Result<&'a mut Chat, Refusal> {
    let chat = avito.chats.get_mut(call.chat.as_deref().unwrap_or_default());
    let chat = chat.filter(|chat| chat.user_id == owner).ok_or_else(Refusal::not_found)?;
    chat.admit_changes()?;
    Ok(chat)
}

impl Chat {
    fn is_out_of_sight(&self) -> bool {
        matches!(self.state, ChatState::Hidden | ChatState::Gone)
    }

    /// Refuses what changes the chat, if its state does.
    pub(crate) fn admit_changes(&self) -> Result<(), Refusal> {
        match self.state {
            ChatState::Open => Ok(()),
            ChatState::Closed => Err(Refusal::new(403, "Forbidden")),
            ChatState::Hidden | ChatState::Gone => Err(Refusal::not_found()),
        }
    }
}

/// The time of the newest activity.
fn updated(chat: &Chat, newest: Option<&Message>) -> i64 {
    chat.updated.or_else(|| newest.map(|message| message.created)).unwrap_or(chat.created)
}

fn rendered(chat: &Chat, newest: Option<&Message>, view: &View<'_>) -> Value {
    let account = view.account;
    let seller = user(view.id(account.user_id), &account.name, chat);
    let mut shown = json!({
        "id": chat.id,
        "created": chat.created,
        "updated": updated(chat, newest),
        "users": [user(view.id(chat.buyer.id), &chat.buyer.name, chat), seller],
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
    if let Some(newest) = newest {
        shown["last_message"] = last_message(newest, view);
    }
    shown
}

fn last_message(message: &Message, view: &View<'_>) -> Value {
    let mut shown = json!({
        "id": message.id, "author_id": view.id(message.author_id), "content": view.account.switches.content(message),
        "created": message.created, "direction": message.direction, "type": message.kind,
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
