//! A chat as Avito returns it: its users, its subject and its last message.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    lenient,
    message::{Message, is_tariff_placeholder, largest},
};

/// One page of chats, newest activity first.
#[derive(Clone, Debug, PartialEq)]
pub struct ChatsPage {
    /// The chats.
    pub chats: Vec<Chat>,
    /// True if there are further pages. None: Avito does not say.
    pub has_more: Option<bool>,
}

/// One chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Avito's id, unique within the account.
    #[serde(deserialize_with = "lenient::key")]
    pub id: String,
    /// The time of its creation, in Unix seconds.
    #[serde(default, deserialize_with = "lenient::number")]
    pub created: Option<i64>,
    /// The time of its last change, in Unix seconds, as Avito says it. It is not cut to a range: of a time to come each list
    /// would have another one then, and the chat would seem to change with each.
    #[serde(default, deserialize_with = "lenient::number")]
    pub updated: Option<i64>,
    /// Its users, in no reliable order; a deleted account is missing.
    #[serde(default, deserialize_with = "lenient::list_or_nothing")]
    pub users: Vec<User>,
    /// Its subject.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub context: Option<Context>,
    /// The newest message.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub last_message: Option<Message>,
}

impl Chat {
    /// The advertisement that the chat is about. None: it has another subject, or none.
    pub fn item(&self) -> Option<&Item> {
        self.context.as_ref().filter(|context| context.kind.as_deref() == Some("item"))?.value.as_ref()
    }

    /// `u2i`, `u2u` or `a2u`, as the id says; the chat has no field for it. None: the id says something else.
    pub fn chat_type(&self) -> Option<&str> {
        self.id.split_once('-').map(|(prefix, _)| prefix).filter(|prefix| matches!(*prefix, "u2i" | "u2u" | "a2u"))
    }
}

/// The other side of a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counterpart<'a> {
    /// The id under which the chat knows it. None: the chat does not say.
    pub id: Option<i64>,
    /// The displayed name.
    pub name: Option<&'a str>,
}

impl<'a> Counterpart<'a> {
    fn of(user: &'a User) -> Self {
        Self { id: user.id, name: user.name.as_deref() }
    }
}

/// Finds the other side of a chat of the account `own_user_id`. None: it was deleted, or the chat does not say who it is.
///
/// Ids may be hashed, so that none is the account's. The author of the newest message, if the buyer wrote it, is the buyer then;
/// if the account wrote it, the other user is.
pub fn counterpart(chat: &Chat, own_user_id: i64) -> Option<Counterpart<'_>> {
    let is_account = |user: &&User| user.id == Some(own_user_id);
    if chat.users.iter().any(|user| is_account(&user)) {
        return chat.users.iter().find(|user| !is_account(user)).map(Counterpart::of);
    }
    let last = chat.last_message.as_ref().filter(|message| !message.is_system());
    let Some((last, author)) = last.and_then(|last| Some((last, last.author_id?))) else {
        // Of one user without a message nothing says that it is the account.
        let mut users = chat.users.iter();
        let only = users.next()?;
        return users.next().is_none().then(|| Counterpart::of(only));
    };
    let is_author = |user: &&User| user.id == Some(author);
    if last.is_own(own_user_id) {
        let mut others = chat.users.iter().filter(|user| !is_author(user));
        let other = others.next()?;
        return others.next().is_none().then(|| Counterpart::of(other));
    }
    let name = chat.users.iter().find(is_author).and_then(|user| user.name.as_deref());
    Some(Counterpart { id: Some(author), name })
}

/// True if Avito shows its request to buy a tariff in place of the texts: it stands in every chat with a text of a list's page,
/// in two or more with different people. In fewer chats somebody may have written it.
pub fn shows_tariff_placeholders(chats: &[Chat], own_user_id: i64) -> bool {
    let texts = chats.iter().filter_map(|chat| Some((chat, chat.last_message.as_ref()?.content.text.as_deref()?)));
    let mut people = BTreeSet::new();
    for (chat, text) in texts {
        if !is_tariff_placeholder(text) {
            return false;
        }
        let person = counterpart(chat, own_user_id).and_then(|person| person.id);
        people.insert(person.map_or_else(|| chat.id.clone(), |id| id.to_string()));
    }
    people.len() > 1
}

/// A user of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Avito's id; it may be a hash, different from chat to chat. None: it is no number.
    #[serde(default, deserialize_with = "lenient::number")]
    pub id: Option<i64>,
    /// The displayed name.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// The public profile.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub public_user_profile: Option<Profile>,
}

impl User {
    /// The address of the public page.
    pub fn profile_url(&self) -> Option<&str> {
        self.public_user_profile.as_ref()?.url.as_deref()
    }
}

/// The public profile of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The address of the public page.
    #[serde(deserialize_with = "lenient::text")]
    pub url: Option<String>,
}

/// The subject of a chat.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// `item`, as far as known.
    #[serde(rename = "type", deserialize_with = "lenient::text")]
    pub kind: Option<String>,
    /// The subject itself.
    #[serde(deserialize_with = "lenient::or_default")]
    pub value: Option<Item>,
}

/// An advertisement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Item {
    /// Avito's id.
    #[serde(deserialize_with = "lenient::number")]
    pub id: Option<i64>,
    /// Its title.
    #[serde(deserialize_with = "lenient::text")]
    pub title: Option<String>,
    /// Its price with the currency, with non-breaking spaces.
    #[serde(deserialize_with = "lenient::text")]
    pub price_string: Option<String>,
    /// Its page.
    #[serde(deserialize_with = "lenient::text")]
    pub url: Option<String>,
    /// 20 means removed.
    #[serde(deserialize_with = "lenient::number")]
    pub status_id: Option<i64>,
    /// Its owner's id.
    #[serde(deserialize_with = "lenient::number")]
    pub user_id: Option<i64>,
    /// Its location.
    #[serde(deserialize_with = "lenient::or_default")]
    pub location: Option<Place>,
    /// Its pictures.
    #[serde(deserialize_with = "lenient::or_default")]
    pub images: Option<Images>,
}

impl Item {
    /// The town.
    pub fn city(&self) -> Option<&str> {
        self.location.as_ref()?.title.as_deref()
    }

    /// The main picture in its largest size.
    pub fn image_url(&self) -> Option<&str> {
        largest(&self.images.as_ref()?.main)
    }
}

/// The location of an advertisement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The town.
    #[serde(deserialize_with = "lenient::text")]
    pub title: Option<String>,
    /// Latitude.
    #[serde(deserialize_with = "lenient::or_default")]
    pub lat: Option<f64>,
    /// Longitude.
    #[serde(deserialize_with = "lenient::or_default")]
    pub lon: Option<f64>,
}

/// The pictures of an advertisement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Images {
    /// The number of pictures.
    #[serde(deserialize_with = "lenient::number")]
    pub count: Option<i64>,
    /// Addresses of the first one by `WIDTHxHEIGHT`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub main: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn chat(users: &Value, last_message: &Value) -> Chat {
        serde_json::from_value(json!({ "id": "u2i-1", "users": users, "last_message": last_message }))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn said(author: i64, direction: &str) -> Value {
        json!({ "id": "m", "author_id": author, "direction": direction, "type": "text", "content": { "text": "Да" } })
    }

    #[test]
    fn with_hashed_ids_the_buyer_is_the_author_of_what_came_in_or_not_the_author_of_what_went_out() {
        let users = json!([{ "id": 111, "name": "Лавка" }, { "id": 222, "name": "Анна" }]);
        let anna = Some(Counterpart { id: Some(222), name: Some("Анна") });
        assert_eq!(counterpart(&chat(&users, &said(222, "in")), 7), anna);
        assert_eq!(counterpart(&chat(&users, &said(111, "out")), 7), anna);
        assert_eq!(counterpart(&chat(&users, &said(333, "in")), 7), Some(Counterpart { id: Some(333), name: None }));
        assert_eq!(counterpart(&chat(&users, &Value::Null), 7), None);
        // The buyer's account was deleted, so the seller is the only user.
        let seller = json!([users[0].clone()]);
        assert_eq!(counterpart(&chat(&seller, &said(111, "out")), 7), None);
        assert_eq!(counterpart(&chat(&seller, &said(222, "in")), 7), Some(Counterpart { id: Some(222), name: None }));
        assert_eq!(counterpart(&chat(&users, &said(1, "in")), 7), None, "Avito itself wrote it");
        assert_eq!(counterpart(&chat(&users, &said(7, "out")), 111), anna, "the account's own id stands among them");
        let texts = json!([{ "id": "a1b2", "name": "Анна" }]);
        assert_eq!(counterpart(&chat(&texts, &Value::Null), 7), Some(Counterpart { id: None, name: Some("Анна") }));
    }

    #[test]
    fn the_request_for_a_tariff_counts_only_in_all_chats_of_several_people() {
        let asks = "Чтобы видеть сообщения, перейдите на подписку с доступом к API";
        let of = |buyer: i64, text: Option<&str>| {
            let message = text.map(|text| json!({ "id": "m", "author_id": buyer, "content": { "text": text } }));
            chat(&json!([{ "id": 7 }, { "id": buyer }]), &message.unwrap_or_default())
        };
        assert!(shows_tariff_placeholders(&[of(1, Some(asks)), of(2, Some(asks)), of(3, None)], 7));
        assert!(!shows_tariff_placeholders(&[of(5, Some(asks))], 7));
        assert!(!shows_tariff_placeholders(&[of(5, Some(asks)), of(5, Some(asks))], 7));
        assert!(!shows_tariff_placeholders(&[of(5, Some(asks)), of(6, Some("Добрый день")), of(8, Some(asks))], 7));
        assert!(!shows_tariff_placeholders(&[], 7));
    }
}
