//! The content of one message: its text, the quote above it, and its picture, voice or location.
//! Texts of people stay plain; entities give the structure, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::styled::Styled;
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
    platform::names::{cut, tidy},
};

/// The most UTF-16 units of a place's name or address, and of a file's name.
const PLACE_LIMIT: usize = 256;
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
            let line = |text: Option<String>| {
                text.map(|text| cut(&tidy(&text), PLACE_LIMIT).to_owned()).filter(|text| !text.is_empty())
            };
            let (title, address) = (line(location.title), line(location.text));
            let title = title.or_else(|| address.clone());
            (
                PostKind::Venue,
                json!({ "latitude": latitude, "longitude": longitude, "title": title, "address": address }),
            )
        }
        _ => return None,
    };
    line(message).store(&mut post_content, "fallback_text", "fallback_entities");
    Some((kind, post_content))
}

/// Returns a message as one text, without the quote. The text is never empty. Signs and words of ours are bold.
fn line(message: &PendingMessage) -> Styled {
    let content: avito::Content = serde_json::from_value(message.attachments.clone()).unwrap_or_default();
    let text = message.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let line = match (message.kind.as_str(), text) {
        ("text", Some(text)) if avito::is_tariff_placeholder(text) => {
            Styled::plain(text).then("\n", &Styled::bold(texts::maybe_tariff(LANGUAGE)))
        }
        ("text" | "system", Some(text)) => Styled::plain(text),
        ("link", _) => {
            let link = content.link.map(|link| {
                let title = link.preview.and_then(|preview| preview.title);
                [title, link.url.or(link.text)].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(texts::LINK, link, &message.kind)
        }
        ("call", _) if content.call.as_ref().is_some_and(|call| call.status.as_deref() == Some("missed")) => {
            Styled::bold(texts::missed_call(LANGUAGE))
        }
        ("file", _) => {
            let name = content.file.and_then(|file| file.name).map(|name| cut(&tidy(&name), PLACE_LIMIT).to_owned());
            Styled::bold(texts::kind_line("file", LANGUAGE)).then(" · ", &Styled::plain(name.unwrap_or_default()))
        }
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
            Styled::bold(texts::kind_line(&message.kind, LANGUAGE))
        }
        (kind, text) => {
            let kind = tidy(kind);
            let unknown = format!("{} ({})", texts::kind_line(&kind, LANGUAGE), cut(&kind, KIND_LIMIT));
            Styled::bold(unknown).then("\n", &Styled::plain(text.unwrap_or_default()))
        }
    };
    match message.origin {
        MessageOrigin::System => Styled::quoted(format!("{} {}", texts::SYSTEM, line.text())),
        _ => line,
    }
}

fn labelled(label: &str, text: Option<String>, kind: &str) -> Styled {
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) => Styled::bold(label).then(" ", &Styled::plain(text)),
        None => Styled::bold(texts::kind_line(kind, LANGUAGE)),
    }
}

/// Returns the quote of the message that this one answers. None: it answers none, or the topic has that message.
pub(super) fn quoted(message: &PendingMessage) -> Option<Styled> {
    let quote = message.attachments.get("quote").filter(|_| message.reply_to.is_none())?;
    let text = quote.get("text").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let kind = quote.get("kind").and_then(Value::as_str).unwrap_or_default();
    let said = match text.map(tidy).filter(|text| !text.is_empty()) {
        Some(text) => Styled::plain(format!("«{}»", cut(&text, QUOTE_LIMIT))),
        None => Styled::bold(format!("«{}»", texts::kind_line(kind, LANGUAGE))),
    };
    Some(Styled::bold(texts::in_answer_to(LANGUAGE)).then(" ", &said))
}

/// Returns a message as one text, below the quote of the message that it answers. The text is never empty.
pub(super) fn body(message: &PendingMessage) -> Styled {
    quoted(message).unwrap_or_default().then("\n", &line(message))
}

/// Returns a message as one line of a replay.
pub(in crate::bridge::to_telegram) fn replay_line(message: &PendingMessage, who: &Styled, zone: &TimeZone) -> Styled {
    let said = Styled::plain(tidy(body(message).text()));
    Styled::bold(clock(message, zone)).then(" ", who).then(": ", &said)
}

pub(super) fn clock(message: &PendingMessage, zone: &TimeZone) -> String {
    let created = message.created.unwrap_or(Timestamp::UNIX_EPOCH);
    created.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

pub(super) fn is_link(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}
