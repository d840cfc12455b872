//! The content of one message: its text, the quote above it, and its picture, voice or location.
//! Texts of people stay plain; entities give the structure, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use crate::{
    avito,
    bridge::{
        common::{
            post_kind::PostKind,
            states::MessageOrigin,
            texts::{self, Language},
        },
        to_telegram::work::PendingMessage,
    },
    telegram::text::truncate_utf16,
};

/// The language of a group.
pub(super) const LANGUAGE: Language = Language::Russian;
/// The most UTF-16 units of a quoted message.
const QUOTE_LIMIT: usize = 200;
/// The most UTF-16 units of Avito's word for an unknown kind of message.
const KIND_LIMIT: usize = 40;

/// True if a message is a buyer's picture that may be posted in one album with those around it.
pub(super) fn joins_album(message: &PendingMessage) -> bool {
    let is_alone = message.reply_to.is_some() || quoted(message).is_some();
    message.origin == MessageOrigin::Buyer && message.kind == "image" && !is_alone && media(message).is_some()
}

/// Returns the kind and content of a post with a picture, a voice or a location. None: the message is posted as text.
pub(super) fn media(message: &PendingMessage) -> Option<(PostKind, Value)> {
    let content: avito::Content = serde_json::from_value(message.attachments.clone()).ok()?;
    let (kind, mut post_content) = match message.kind.as_str() {
        "image" => (PostKind::Photo, json!({ "media": [content.image?.largest().filter(|url| is_link(url))?] })),
        "voice" => (PostKind::Voice, json!({ "voice_id": content.voice?.voice_id.filter(|id| !id.is_empty())? })),
        "location" => {
            let location = content.location?;
            let (latitude, longitude) = location.lat.zip(location.lon)?;
            let line = |text: Option<String>| text.map(|text| one_line(&text)).filter(|text| !text.is_empty());
            let (title, address) = (line(location.title), line(location.text));
            let title = title.or_else(|| address.clone());
            (
                PostKind::Venue,
                json!({ "latitude": latitude, "longitude": longitude, "title": title, "address": address }),
            )
        }
        _ => return None,
    };
    post_content["fallback_text"] = json!(line(message));
    Some((kind, post_content))
}

/// Returns a message as one text, without the quote. The text is never empty.
fn line(message: &PendingMessage) -> String {
    let content: avito::Content = serde_json::from_value(message.attachments.clone()).unwrap_or_default();
    let text = message.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let line = match (message.kind.as_str(), text) {
        ("text" | "system", Some(text)) => text.to_owned(),
        ("link", _) => {
            let link = content.link.map(|link| {
                let title = link.preview.and_then(|preview| preview.title);
                [title, link.url.or(link.text)].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(texts::LINK, link, &message.kind)
        }
        ("call", _) if content.call.as_ref().is_some_and(|call| call.status.as_deref() == Some("missed")) => {
            texts::missed_call(LANGUAGE).to_owned()
        }
        ("file", _) => match content.file.and_then(|file| file.name) {
            Some(name) => format!("{} · {}", texts::kind_line("file", LANGUAGE), one_line(&name)),
            None => texts::kind_line("file", LANGUAGE).to_owned(),
        },
        ("item", _) => {
            let card = content.item.map(|item| {
                [item.title, item.price_string, item.item_url].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(texts::ITEM, card, &message.kind)
        }
        ("location", _) => {
            let location = content.location.map(|location| {
                let coordinates = location.lat.zip(location.lon).map(|(lat, lon)| format!("{lat}, {lon}"));
                [location.title.or(location.text), coordinates].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(texts::LOCATION, location, &message.kind)
        }
        ("image" | "voice" | "video" | "call" | "appCall" | "deleted", _) => {
            texts::kind_line(&message.kind, LANGUAGE).to_owned()
        }
        (kind, text) => {
            let kind = truncate_utf16(kind, KIND_LIMIT);
            let unknown = format!("{} ({})", texts::kind_line(kind, LANGUAGE), one_line(kind));
            [Some(unknown.as_str()), text].into_iter().flatten().collect::<Vec<_>>().join("\n")
        }
    };
    if message.origin == MessageOrigin::System { format!("{} {line}", texts::SYSTEM) } else { line }
}

fn labelled(label: &str, text: Option<String>, kind: &str) -> String {
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) => format!("{label} {text}"),
        None => texts::kind_line(kind, LANGUAGE).to_owned(),
    }
}

/// Returns the quote of the message that this one answers. None: it answers none, or the topic has that message.
pub(super) fn quoted(message: &PendingMessage) -> Option<String> {
    let quote = message.attachments.get("quote").filter(|_| message.reply_to.is_none())?;
    let text = quote.get("text").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let kind = quote.get("kind").and_then(Value::as_str).unwrap_or_default();
    let said = text.unwrap_or_else(|| texts::kind_line(kind, LANGUAGE));
    Some(format!("{} «{}»", texts::in_answer_to(LANGUAGE), truncate_utf16(&one_line(said), QUOTE_LIMIT)))
}

/// Returns a message as one text, below the quote of the message that it answers. The text is never empty.
pub(super) fn body(message: &PendingMessage) -> String {
    match quoted(message) {
        Some(quoted) => format!("{quoted}\n{}", line(message)),
        None => line(message),
    }
}

/// Returns a message as one line of a replay.
pub(in crate::bridge::to_telegram) fn replay_line(message: &PendingMessage, who: &str, zone: &TimeZone) -> String {
    format!("{} {}: {}", clock(message, zone), one_line(who), one_line(&body(message)))
}

pub(super) fn clock(message: &PendingMessage, zone: &TimeZone) -> String {
    let created = message.created.unwrap_or(Timestamp::UNIX_EPOCH);
    created.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

pub(super) fn is_link(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Returns a text as one line, without control characters: a name that a person chose must not look like another line.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}
