//! A message as Avito returns it: in lists, in chats, in webhooks and in the answer to a send.
//! Contents have no `Debug` that shows them: what people write never reaches a log.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::lenient;

/// One message of a chat.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Avito's id, unique within the account.
    #[serde(deserialize_with = "lenient::key")]
    pub id: String,
    /// Its author; the answer to a send does not say.
    #[serde(default, deserialize_with = "lenient::number")]
    pub author_id: Option<i64>,
    /// The time of its creation, in Unix seconds by Avito's clock.
    #[serde(default, deserialize_with = "lenient::created")]
    pub created: Option<i64>,
    /// Its direction, as seen by the asking account; webhooks do not say.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub direction: Option<Direction>,
    /// Its kind.
    #[serde(default, rename = "type", deserialize_with = "lenient::or_default")]
    pub kind: Kind,
    /// Its content.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub content: Content,
    /// True if the asking account has read it.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub is_read: Option<bool>,
    /// The time at which the other side read it, in Unix seconds.
    #[serde(default, deserialize_with = "lenient::read")]
    pub read: Option<i64>,
    /// The message it answers.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub quote: Option<Quote>,
}

/// The beginning of Avito's own notices.
const SYSTEM_PREFIX: &str = "[Системное сообщение]";

impl Message {
    /// True if Avito itself wrote it. No single sign is reliable, so any of them counts.
    pub fn is_system(&self) -> bool {
        self.kind == Kind::System
            || matches!(self.author_id, Some(0 | 1))
            || self.content.flow_id.as_deref().is_some_and(|flow| !flow.is_empty())
            || self.content.text.as_deref().is_some_and(|text| text.trim_start().starts_with(SYSTEM_PREFIX))
    }

    /// True if the account `user_id` wrote it. Lists say it by the direction; the ids of authors in them may be hashed.
    pub fn is_own(&self, user_id: i64) -> bool {
        match self.direction {
            Some(direction) => direction == Direction::Out,
            None => self.author_id == Some(user_id),
        }
    }
}

/// The messages of a list. One without an id gets an id that is made of its content: else people never see it.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Message>, D::Error> {
    let mut values = Vec::<Value>::deserialize(deserializer)?;
    for fields in values.iter_mut().filter_map(Value::as_object_mut) {
        let has_id = matches!(fields.get("id"), Some(Value::Number(_)))
            || fields.get("id").and_then(Value::as_str).is_some_and(|id| !id.is_empty());
        if !has_id && fields.contains_key("content") {
            metrics::counter!("avito_messages_nameless").increment(1);
            let content = ["created", "author_id", "type", "content"].map(|field| fields.get(field).cloned());
            let digest = Sha256::digest(format!("{content:?}"));
            fields.insert("id".to_owned(), format!("nameless-{}", hex::encode(&digest[..16])).into());
        }
    }
    lenient::list(Value::from(values)).map_err(serde::de::Error::custom)
}

/// The direction of a message, as seen by the asking account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the account.
    In,
    /// From the account.
    Out,
}

/// The kinds of messages that Avito names, and those that it may add.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Kind {
    /// A text.
    Text,
    /// A picture.
    Image,
    /// A voice message; its file is requested by id.
    Voice,
    /// A link with a preview.
    Link,
    /// An advertisement.
    Item,
    /// A location.
    Location,
    /// A telephone call.
    Call,
    /// A call inside the app; comes without content.
    AppCall,
    /// A file; comes without content.
    File,
    /// A video; comes without content.
    Video,
    /// A notice by Avito.
    System,
    /// A deleted message.
    Deleted,
    /// A kind that this code does not know, by Avito's word for it.
    Other(String),
}

impl Kind {
    /// Avito's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
            Self::Voice => "voice",
            Self::Link => "link",
            Self::Item => "item",
            Self::Location => "location",
            Self::Call => "call",
            Self::AppCall => "appCall",
            Self::File => "file",
            Self::Video => "video",
            Self::System => "system",
            Self::Deleted => "deleted",
            Self::Other(word) => word,
        }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::Other(String::new())
    }
}

impl From<String> for Kind {
    fn from(word: String) -> Self {
        match word.as_str() {
            "text" => Self::Text,
            "image" => Self::Image,
            "voice" => Self::Voice,
            "link" => Self::Link,
            "item" => Self::Item,
            "location" => Self::Location,
            "call" => Self::Call,
            "appCall" => Self::AppCall,
            "file" => Self::File,
            "video" => Self::Video,
            "system" => Self::System,
            "deleted" => Self::Deleted,
            _ => Self::Other(word),
        }
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.as_str().to_owned()
    }
}

/// The content of a message: the part named by its kind, or nothing.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Content {
    /// The text of a text message or a notice.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A picture.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// A voice message.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub voice: Option<Voice>,
    /// A link.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// An advertisement.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub item: Option<ItemCard>,
    /// A location.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// A telephone call.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// A file, which Avito includes now and then.
    #[serde(deserialize_with = "lenient::or_default", skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// The one of Avito's robots that wrote it.
    #[serde(deserialize_with = "lenient::text", skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<String>,
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Content(..)")
    }
}

/// A picture in the sizes that Avito made of it.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Image {
    /// Addresses by `WIDTHxHEIGHT`.
    #[serde(deserialize_with = "lenient::or_default")]
    pub sizes: BTreeMap<String, String>,
}

impl Image {
    /// The address of the largest size. The available sizes vary. None: there is none.
    pub fn largest(&self) -> Option<&str> {
        largest(&self.sizes)
    }
}

/// The address with the largest area among `WIDTHxHEIGHT` keys.
pub(super) fn largest(sizes: &BTreeMap<String, String>) -> Option<&str> {
    let area = |key: &str| {
        let (width, height) = key.split_once('x')?;
        width.parse::<u64>().ok()?.checked_mul(height.parse().ok()?)
    };
    sizes.iter().max_by_key(|(key, _)| area(key)).map(|(_, url)| url.as_str())
}

/// A voice message.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Voice {
    /// The id by which its file is requested.
    #[serde(deserialize_with = "lenient::text")]
    pub voice_id: Option<String>,
}

/// A link.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    /// The text of the link.
    #[serde(deserialize_with = "lenient::text")]
    pub text: Option<String>,
    /// The address that it leads to.
    #[serde(deserialize_with = "lenient::text")]
    pub url: Option<String>,
    /// Avito's preview of that address.
    #[serde(deserialize_with = "lenient::or_default")]
    pub preview: Option<LinkPreview>,
}

/// Avito's preview of a link.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LinkPreview {
    /// The page's title.
    #[serde(deserialize_with = "lenient::text")]
    pub title: Option<String>,
    /// The page's own description.
    #[serde(deserialize_with = "lenient::text")]
    pub description: Option<String>,
    /// The site.
    #[serde(deserialize_with = "lenient::text")]
    pub domain: Option<String>,
    /// The page's address.
    #[serde(deserialize_with = "lenient::text")]
    pub url: Option<String>,
}

/// An advertisement sent as a message.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ItemCard {
    /// Its title.
    #[serde(deserialize_with = "lenient::text")]
    pub title: Option<String>,
    /// Its price with the currency.
    #[serde(deserialize_with = "lenient::text")]
    pub price_string: Option<String>,
    /// Its page.
    #[serde(deserialize_with = "lenient::text")]
    pub item_url: Option<String>,
    /// Its picture.
    #[serde(deserialize_with = "lenient::text")]
    pub image_url: Option<String>,
}

/// A location.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    /// Latitude.
    #[serde(deserialize_with = "lenient::or_default")]
    pub lat: Option<f64>,
    /// Longitude.
    #[serde(deserialize_with = "lenient::or_default")]
    pub lon: Option<f64>,
    /// Its name.
    #[serde(deserialize_with = "lenient::text")]
    pub title: Option<String>,
    /// Its address.
    #[serde(deserialize_with = "lenient::text")]
    pub text: Option<String>,
    /// `house`, `street`, `area`, ….
    #[serde(deserialize_with = "lenient::text")]
    pub kind: Option<String>,
}

/// A telephone call.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Call {
    /// `missed`, as far as known.
    #[serde(deserialize_with = "lenient::text")]
    pub status: Option<String>,
    /// The account that was called.
    #[serde(deserialize_with = "lenient::number")]
    pub target_user_id: Option<i64>,
}

/// A file.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct File {
    /// Its name.
    #[serde(deserialize_with = "lenient::text")]
    pub name: Option<String>,
}

/// The message that another one answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    /// Avito's id of it.
    #[serde(deserialize_with = "lenient::key")]
    pub id: String,
    /// Its author.
    #[serde(default, deserialize_with = "lenient::number")]
    pub author_id: Option<i64>,
    /// The time of its creation, in Unix seconds.
    #[serde(default, deserialize_with = "lenient::number")]
    pub created: Option<i64>,
    /// Its kind.
    #[serde(default, rename = "type", deserialize_with = "lenient::or_default")]
    pub kind: Kind,
    /// Its content.
    #[serde(default, deserialize_with = "lenient::or_default")]
    pub content: Content,
}

/// True if a text is Avito's request to buy a tariff, as far as its words say so. A person may write them too: alone they
/// prove nothing.
pub fn is_tariff_placeholder(text: &str) -> bool {
    const WORDS: &str = "перейдите на подписку с доступом к api";
    const MAX_CHARS: usize = 300;
    text.chars().count() <= MAX_CHARS
        && text.split_whitespace().map(str::to_lowercase).collect::<Vec<_>>().join(" ").contains(WORDS)
}
