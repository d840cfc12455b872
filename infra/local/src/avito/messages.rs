//! Messages: reading them newest first, sending text and pictures, deleting within the hour, voices.

use serde_json::{Value, json};

use super::chats;
use super::error::Refusal;
use super::request::Call;
use super::state::{AvitoState, Chat, Message};
use super::view::View;
use crate::faults::Faults;
use crate::pictures;
use crate::world::now;

const MAX_TEXT_CHARS: usize = 1000;
const MAX_PICTURE_BYTES: usize = 24 * 1024 * 1024;
const MAX_DELETE_AGE: i64 = 3600;

/// `GET …/messages/`. Reading here marks nothing as read.
///
/// Returns the messages, and true if more are behind them.
pub(crate) fn list(
    avito: &AvitoState,
    faults: &Faults,
    owner: i64,
    call: &Call,
) -> Result<(Vec<Value>, bool), Refusal> {
    let (limit, offset) = (call.number("limit", 100, 1, 100)?, call.number("offset", 0, 0, 1000)?);
    let chat = chats::find(avito, owner, call)?;
    let view = View::new(avito.accounts.get(&owner).ok_or_else(Refusal::not_found)?, faults);
    let messages = view.newest_first(chat);
    let has_more = messages.len() > offset + limit;
    let page = messages.into_iter().skip(offset).take(limit).map(|message| rendered(chat, message, &view));
    Ok((page.collect(), has_more))
}

fn rendered(chat: &Chat, message: &Message, view: &View<'_>) -> Value {
    let mut shown = json!({
        "id": message.id, "author_id": view.id(message.author_id), "content": view.account.switches.content(message),
        "created": message.created, "direction": message.direction, "is_read": message.is_read,
        "read": message.read, "type": message.kind,
    });
    let quoted = message.quote.as_ref().and_then(|id| chat.messages.iter().find(|known| known.id == *id));
    if let Some(quoted) = quoted {
        shown["quote"] = json!({
            "id": quoted.id, "author_id": view.id(quoted.author_id), "content": view.account.switches.content(quoted),
            "created": quoted.created, "type": quoted.kind,
        });
    }
    shown
}

/// `POST …/messages`.
pub(crate) fn send(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    if call.text("type")? != "text" {
        return Err(Refusal::invalid("type", "must be text"));
    }
    let message = call.body["message"].as_object().filter(|message| message.len() == 1);
    let text = message.and_then(|message| message.get("text")?.as_str()).filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Refusal::invalid("message.text", "must be a non-empty string"))?;
    if text.chars().count() > MAX_TEXT_CHARS {
        return Err(Refusal::invalid("message.text", "must be at most 1000 characters long"));
    }
    let chat = chats::find_mut(avito, owner, call)?;
    let sent = chat.add_own("text", json!({ "text": text }));
    let chat = chat.id.clone();
    avito.announce(&chat, &sent.id, 1);
    Ok(json!({
        "id": sent.id, "created": sent.created, "direction": sent.direction, "type": sent.kind, "content": sent.content,
    }))
}

/// `POST …/messages/image`.
pub(crate) fn send_image(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let id = call.text("image_id")?;
    let sizes = sizes(avito, id).ok_or_else(|| Refusal::invalid("image_id", "is unknown"))?;
    let chat = chats::find_mut(avito, owner, call)?;
    let sent = chat.add_own("image", json!({ "image": { "sizes": sizes } }));
    let chat = chat.id.clone();
    avito.place_files(owner, &chat, &sent.content);
    avito.announce(&chat, &sent.id, 1);
    Ok(json!({
        "id": sent.id, "author_id": sent.author_id, "created": sent.created, "direction": sent.direction,
        "type": sent.kind, "content": sent.content,
    }))
}

fn sizes(avito: &AvitoState, id: &str) -> Option<Value> {
    let (name, _) = avito.files.iter().find(|(name, _)| name.rsplit_once('.').is_some_and(|(stem, _)| stem == id))?;
    let link = |size: &str| json!(format!("media:/media/chat/{size}/{name}"));
    Some(
        json!({ "1280x960": link("1280x960"), "640x480": link("640x480"), "140x105": link("140x105"), "32x32": link("32x32") }),
    )
}

/// `POST …/messages/{message_id}`: the message stays as `deleted`.
pub(crate) fn delete(avito: &mut AvitoState, owner: i64, call: &Call) -> Result<Value, Refusal> {
    let chat = chats::find_mut(avito, owner, call)?;
    let message = chat.message_mut(call.message.as_deref().unwrap_or_default()).ok_or_else(Refusal::not_found)?;
    if message.author_id != owner {
        return Err(Refusal::new(403, "Forbidden"));
    }
    if message.deleted || now() - message.created > MAX_DELETE_AGE {
        return Err(Refusal::new(400, "Bad Request"));
    }
    message.mark_deleted();
    Ok(json!({}))
}

/// `POST …/uploadImages`: one file in the part `uploadfile[]`.
pub(crate) fn upload(avito: &mut AvitoState, call: &Call) -> Result<Value, Refusal> {
    let [(name, mime, bytes)] = call.parts.as_slice() else {
        return Err(Refusal::invalid("uploadfile[]", "must be one file"));
    };
    if name != "uploadfile[]" {
        return Err(Refusal::invalid(name, "is unknown"));
    }
    if bytes.len() > MAX_PICTURE_BYTES || !pictures::is_picture(bytes) {
        return Err(Refusal::invalid("uploadfile[]", "must be a JPEG, HEIC, GIF, BMP or PNG of at most 24 MB"));
    }
    let mime = if mime.starts_with("image/") { mime } else { "image/jpeg" };
    let (id, sizes) = avito.store_picture(mime, bytes.clone(), call.user_id);
    Ok(json!({ (id): sizes }))
}

/// `GET …/getVoiceFiles`: unknown ids are left out.
pub(crate) fn voices(avito: &AvitoState, call: &Call) -> Value {
    let ids = call.list("voice_ids").unwrap_or_default();
    let known = ids.into_iter().filter(|id| avito.files.contains_key(&format!("{id}.mp4")));
    let urls = known.map(|id| (id.to_owned(), json!(format!("media:/media/voice/{id}.mp4"))));
    json!({ "voices_urls": urls.collect::<serde_json::Map<_, _>>() })
}

impl Message {
    /// Removes the content. The message stays, with the type `deleted`.
    pub(crate) fn mark_deleted(&mut self) {
        self.deleted = true;
        "deleted".clone_into(&mut self.kind);
        self.content = json!({});
    }
}
