//! A chat as Avito hands it out: who takes part, what it is about, and its last message.

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
    /// Whether there are further pages, when Avito says so.
    pub has_more: Option<bool>,
}

/// One chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Avito's id, unique within the account.
    #[serde(deserialize_with = "lenient::key")]
    pub id: String,
    /// When it began, in Unix seconds.
    #[serde(default, deserialize_with = "lenient::number")]
    pub created: Option<i64>,
    /// When something last happened in it, in Unix seconds.
    #[serde(default, deserialize_with = "lenient::number")]
    pub updated: Option<i64>,
    /// Who takes part, in no reliable order; a deleted account is missing.
    #[serde(default, deserialize_with = "lenient::list_or_nothing")]
    pub users: Vec<User>,
    /// What it is about.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub context: Option<Context>,
    /// The newest message.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub last_message: Option<Message>,
}

impl Chat {
    /// The advertisement that the chat is about.
    pub fn item(&self) -> Option<&Item> {
        self.context.as_ref().filter(|context| context.kind.as_deref() == Some("item"))?.value.as_ref()
    }

    /// `u2i`, `u2u` or `a2u`: the chat itself does not say, its id does.
    pub fn chat_type(&self) -> Option<&str> {
        self.id.split_once('-').map(|(prefix, _)| prefix).filter(|prefix| matches!(*prefix, "u2i" | "u2u" | "a2u"))
    }
}

/// The side that is not the account `own_user_id`.
pub fn counterpart(chat: &Chat, own_user_id: i64) -> Option<&User> {
    chat.users.iter().find(|user| user.id != own_user_id)
}

/// Someone who takes part in a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Avito's id; it may be a hash, different from chat to chat.
    #[serde(deserialize_with = "lenient::id")]
    pub id: i64,
    /// The name shown.
    #[serde(default, deserialize_with = "lenient::text")]
    pub name: Option<String>,
    /// What others may see.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub public_user_profile: Option<Profile>,
}

impl User {
    /// The address of the public page.
    pub fn profile_url(&self) -> Option<&str> {
        self.public_user_profile.as_ref()?.url.as_deref()
    }
}

/// What others may see of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    /// The address of the public page.
    #[serde(deserialize_with = "lenient::text")]
    pub url: Option<String>,
}

/// What a chat is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// `item`, as far as known.
    #[serde(rename = "type", deserialize_with = "lenient::text")]
    pub kind: Option<String>,
    /// The thing itself.
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
    /// Whose it is.
    #[serde(deserialize_with = "lenient::number")]
    pub user_id: Option<i64>,
    /// Where it is.
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

/// Where an advertisement is.
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
    /// How many there are.
    #[serde(deserialize_with = "lenient::number")]
    pub count: Option<i64>,
    /// Addresses of the first one by `WIDTHxHEIGHT`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub main: BTreeMap<String, String>,
}
