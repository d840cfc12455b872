//! The snapshot of a chat that a dialog stores, its buyer and its item: made of Avito's answer, and read.

use serde_json::{Value, json};

use crate::avito;

/// Returns the parts of a chat that a dialog stores: `{id, name}` of the other side, and `{id, title, price, city, url,
/// photo}` of the item.
pub(in crate::bridge) fn snapshot(chat: &avito::Chat, own_user_id: i64) -> (Option<Value>, Option<Value>) {
    let buyer = avito::counterpart(chat, own_user_id).map(|user| json!({ "id": user.id, "name": user.name }));
    let item = chat.item().map(|item| {
        json!({ "id": item.id, "title": item.title, "price": item.price_string, "city": item.city(), "url": item.url,
                               "photo": item.image_url() })
    });
    (buyer, item)
}

/// Returns a text of a snapshot, trimmed. None: the snapshot or the text is missing, or the text is empty.
pub(in crate::bridge) fn snapshot_text<'a>(snapshot: Option<&'a Value>, field: &str) -> Option<&'a str> {
    snapshot?.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}
