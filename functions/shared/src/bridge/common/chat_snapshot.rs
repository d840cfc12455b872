//! The snapshot of a chat that a dialog stores, its buyer and its item: made of Avito's answer, and read.

use serde_json::{Value, json};

use crate::{
    avito,
    platform::names::{cut, tidy},
};

/// The most UTF-16 units of a name in a snapshot: several times what Avito allows in a title.
const NAME_LIMIT: usize = 256;

/// Returns the parts of a chat that a dialog stores: `{id, name}` of the other side, and `{id, title, price, city, url,
/// photo}` of the item.
pub(in crate::bridge) fn snapshot(chat: &avito::Chat, own_user_id: i64) -> (Option<Value>, Option<Value>) {
    let buyer = avito::counterpart(chat, own_user_id).map(|buyer| json!({ "id": buyer.id, "name": name(buyer.name) }));
    let item = chat.item().map(|item| {
        json!({
            "id": item.id, "title": name(item.title.as_deref()), "price": name(item.price_string.as_deref()),
            "city": name(item.city()), "url": item.url, "photo": item.image_url(),
        })
    });
    (buyer, item)
}

/// Returns a name as a snapshot stores it. None: it is missing, or shows nothing.
fn name(name: Option<&str>) -> Option<String> {
    let name = tidy(name?);
    (!name.is_empty()).then(|| cut(&name, NAME_LIMIT).to_owned())
}

/// Returns a text of a snapshot, trimmed. None: the snapshot or the text is missing, or the text is empty.
pub(in crate::bridge) fn snapshot_text<'a>(snapshot: Option<&'a Value>, field: &str) -> Option<&'a str> {
    snapshot?.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_tidy_names_and_none_of_those_that_show_nothing() {
        let chat = json!({ "id": "u2i-1", "users": [{ "id": 7 }, { "id": 8, "name": "\u{3164}" }], "context": { "type": "item",
            "value": { "title": "Стол\n\u{202e}дубовый", "price_string": "3\u{a0}873 ₽", "url": "https://avito.ru/i" } } });
        let chat: avito::Chat = serde_json::from_value(chat).unwrap_or_else(|error| panic!("{error}"));
        let (buyer, item) = snapshot(&chat, 7);
        assert_eq!(buyer, Some(json!({ "id": 8, "name": null })));
        let item = item.unwrap_or_default();
        assert_eq!((&item["title"], &item["price"]), (&json!("Стол дубовый"), &json!("3 873 ₽")));
        assert_eq!(snapshot_text(Some(&item), "city"), None);
    }
}
