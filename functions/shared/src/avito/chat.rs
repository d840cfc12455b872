//! A chat as Avito returns it: its users, its subject and its last message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    lenient,
    message::{Message, largest},
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
    /// The time of its last change, in Unix seconds.
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

/// The user that is not the account `own_user_id`. None: the other account was deleted.
pub fn counterpart(chat: &Chat, own_user_id: i64) -> Option<&User> {
    chat.users.iter().find(|user| user.id != own_user_id)
}

/// A user of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Avito's id; it may be a hash, different from chat to chat.
    #[serde(deserialize_with = "lenient::id")]
    pub id: i64,
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
