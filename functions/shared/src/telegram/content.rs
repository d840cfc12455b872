//! The content of a message: a text, one of the media, or a notice of something that happened in the chat.

use serde_json::Value;

/// The content of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// A text.
    Text(String),
    /// Something else a person sent.
    Media {
        /// Its kind.
        media: Media,
        /// The text under it.
        caption: Option<String>,
        /// The file of a photo or a document. None for all others.
        file: Option<File>,
    },
    /// Something that happened in the chat.
    Service(Service),
    /// A content that this code does not know.
    Unknown,
}

/// A file that Telegram stores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The id by which it is requested.
    pub id: String,
    /// The id that stays the same for all bots and at all times.
    pub unique_id: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its type, as the sender's app reports it.
    pub mime: Option<String>,
    /// Its name; photos have none.
    pub name: Option<String>,
}

/// The things that a person can send besides a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// A picture.
    Photo,
    /// A voice message.
    Voice,
    /// A piece of music.
    Audio,
    /// A video.
    Video,
    /// A round video.
    VideoNote,
    /// A silent video.
    Animation,
    /// A file.
    Document,
    /// A sticker.
    Sticker,
    /// A person's telephone number.
    Contact,
    /// A location with a name.
    Venue,
    /// A location.
    Location,
    /// A poll.
    Poll,
    /// Anything else, by Telegram's word for it.
    Other(&'static str),
}

impl Media {
    /// Telegram's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Other(word) => word,
            known => MEDIA.iter().find(|(_, media)| *media == known).map_or("", |(word, _)| word),
        }
    }
}

/// Something that happened in a chat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// A topic was created.
    TopicCreated {
        /// Its name.
        name: String,
    },
    /// A topic was renamed or got another icon.
    TopicEdited,
    /// A topic was closed.
    TopicClosed,
    /// A topic was opened again.
    TopicReopened,
    /// The group became the supergroup of this id.
    MigratedTo(i64),
    /// The supergroup was the group of this id.
    MigratedFrom(i64),
    /// Anything else, by Telegram's word for it.
    Other(&'static str),
}

/// The media, by field. Some come twice, as themselves and in a form that older apps know: the first match counts.
pub(super) const MEDIA: &[(&str, Media)] = &[
    ("animation", Media::Animation),
    ("venue", Media::Venue),
    ("photo", Media::Photo),
    ("voice", Media::Voice),
    ("audio", Media::Audio),
    ("video", Media::Video),
    ("video_note", Media::VideoNote),
    ("document", Media::Document),
    ("sticker", Media::Sticker),
    ("contact", Media::Contact),
    ("location", Media::Location),
    ("poll", Media::Poll),
    ("checklist", Media::Other("checklist")),
    ("dice", Media::Other("dice")),
    ("game", Media::Other("game")),
    ("giveaway", Media::Other("giveaway")),
    ("invoice", Media::Other("invoice")),
    ("live_photo", Media::Other("live_photo")),
    ("paid_media", Media::Other("paid_media")),
    ("rich_message", Media::Other("rich_message")),
    ("story", Media::Other("story")),
];

/// The notices that are not read further.
pub(super) const SERVICE: &[&str] = &[
    "boost_added",
    "channel_chat_created",
    "chat_background_set",
    "chat_owner_changed",
    "chat_owner_left",
    "chat_shared",
    "checklist_tasks_added",
    "checklist_tasks_done",
    "connected_website",
    "delete_chat_photo",
    "direct_message_price_changed",
    "general_forum_topic_hidden",
    "general_forum_topic_unhidden",
    "gift",
    "gift_upgrade_sent",
    "giveaway_completed",
    "giveaway_created",
    "giveaway_winners",
    "group_chat_created",
    "left_chat_member",
    "managed_bot_created",
    "message_auto_delete_timer_changed",
    "new_chat_members",
    "new_chat_photo",
    "new_chat_title",
    "paid_message_price_changed",
    "passport_data",
    "pinned_message",
    "poll_option_added",
    "poll_option_deleted",
    "proximity_alert_triggered",
    "refunded_payment",
    "successful_payment",
    "suggested_post_approval_failed",
    "suggested_post_approved",
    "suggested_post_declined",
    "suggested_post_paid",
    "suggested_post_refunded",
    "supergroup_chat_created",
    "unique_gift",
    "users_shared",
    "video_chat_ended",
    "video_chat_participants_invited",
    "video_chat_scheduled",
    "video_chat_started",
    "web_app_data",
    "write_access_allowed",
];

/// Reads the content of the message `value`.
pub(super) fn read(value: &Value) -> Content {
    let has = |field: &str| value.get(field).is_some_and(|value| !value.is_null());
    if let Some(text) = value["text"].as_str() {
        return Content::Text(text.to_owned());
    }
    if let Some((_, media)) = MEDIA.iter().find(|(field, _)| has(field)) {
        let caption = value["caption"].as_str().map(str::to_owned);
        return Content::Media { media: *media, caption, file: file(*media, value) };
    }
    service(value, has).map_or(Content::Unknown, Content::Service)
}

/// The file of a photo, in its largest size, or of a document. None: the media is another one.
fn file(media: Media, value: &Value) -> Option<File> {
    let file = match media {
        Media::Photo => value["photo"].as_array()?.iter().max_by_key(|size| {
            size["width"].as_u64().unwrap_or_default().saturating_mul(size["height"].as_u64().unwrap_or_default())
        })?,
        Media::Document => &value["document"],
        _ => return None,
    };
    let text = |field: &str| file[field].as_str().map(str::to_owned);
    Some(File {
        id: text("file_id")?,
        unique_id: text("file_unique_id"),
        size: file["file_size"].as_u64(),
        mime: text("mime_type"),
        name: text("file_name"),
    })
}

fn service(value: &Value, has: impl Fn(&str) -> bool) -> Option<Service> {
    if has("forum_topic_created") {
        let name = value["forum_topic_created"]["name"].as_str().unwrap_or_default().to_owned();
        return Some(Service::TopicCreated { name });
    }
    let topics = [
        ("forum_topic_edited", Service::TopicEdited),
        ("forum_topic_closed", Service::TopicClosed),
        ("forum_topic_reopened", Service::TopicReopened),
    ];
    let topic = topics.into_iter().find(|(field, _)| has(field)).map(|(_, service)| service);
    topic
        .or_else(|| value["migrate_to_chat_id"].as_i64().map(Service::MigratedTo))
        .or_else(|| value["migrate_from_chat_id"].as_i64().map(Service::MigratedFrom))
        .or_else(|| SERVICE.iter().find(|field| has(field)).map(|field| Service::Other(field)))
}
