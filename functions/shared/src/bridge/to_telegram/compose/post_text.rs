//! The look of posts. Nothing here makes a call or a query: messages and a dialog go in, drafts come out.
//! Texts of people stay plain; entities give the structure, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    message_text::{LANGUAGE, body, clock, joins_album, media, quoted},
    styled::{MAX_ENTITIES, Styled, as_ours, put_above},
};
use crate::{
    bridge::{
        common::{chat_snapshot::snapshot_text, post_kind::PostKind, states::MessageOrigin, texts},
        rows::posts::PostDraft,
        to_telegram::work::{ClaimedDialog, PendingMessage},
    },
    platform::names::{cut, tidy},
    telegram::text::{CAPTION_LIMIT, TEXT_LIMIT, utf16_len},
};

/// The room for the heading in a group without topics, UTF-16 units.
const HEADING_ROOM: usize = 160;
/// The most UTF-16 units of a post: those of a message (Bot API, `sendMessage`), less the room for the heading.
pub(super) const POST_LIMIT: usize = TEXT_LIMIT - HEADING_ROOM;
/// The room for the emoji in a topic's name, UTF-16 units.
const EMOJI_ROOM: usize = 3;
/// The most pictures of one album (Bot API, `sendMediaGroup`).
pub(in crate::bridge::to_telegram) const MAX_PICTURES: usize = 10;
/// The most UTF-16 units of a topic's name (Bot API, `createForumTopic`).
pub(in crate::bridge::to_telegram) const NAME_LIMIT: usize = 128;

/// Composes the drafts that post these messages, in order.
///
/// Consecutive texts that wait together are one post, a paragraph each, with its time. Consecutive pictures are one
/// album. An answer that was not written in the topic has a post of its own. So has a message that quotes another, and
/// a message that is older than the last posted one.
pub(in crate::bridge::to_telegram) fn drafts(
    messages: &[PendingMessage],
    last_posted_at: Option<Timestamp>,
    zone: &TimeZone,
) -> Vec<PostDraft> {
    let mut drafts = Vec::new();
    let mut run: Vec<&PendingMessage> = Vec::new();
    let mut newest = last_posted_at;
    for message in messages {
        let late = matches!((message.created, newest), (Some(created), Some(newest)) if created < newest);
        if late {
            flush(&mut run, zone, &mut drafts);
            let heading = Styled::bold(format!("{}, {}", clock(message, zone), texts::arrived_late(LANGUAGE)));
            push_alone(PostKind::Text, &heading, message, &mut drafts);
        } else if let Some(heading) = mirror_heading(message) {
            flush(&mut run, zone, &mut drafts);
            push_alone(PostKind::Mirror, &Styled::bold(heading), message, &mut drafts);
        } else if message.reply_to.is_some() || (!joins_album(message) && media(message).is_some()) {
            flush(&mut run, zone, &mut drafts);
            push_alone(PostKind::Text, &Styled::default(), message, &mut drafts);
        } else {
            if run.last().is_some_and(|last| joins_album(last) != joins_album(message)) {
                flush(&mut run, zone, &mut drafts);
            }
            run.push(message);
        }
        newest = newest.max(message.created);
    }
    flush(&mut run, zone, &mut drafts);
    drafts
}

/// Returns the heading of an answer that was not written in the topic. None: it is no such answer.
fn mirror_heading(message: &PendingMessage) -> Option<String> {
    match message.origin {
        MessageOrigin::AvitoApp => Some(texts::mirrored(LANGUAGE).to_owned()),
        MessageOrigin::AutoReply => Some(texts::auto_replied(LANGUAGE).to_owned()),
        MessageOrigin::Api => Some(match message.author.as_deref().map(tidy).filter(|name| !name.is_empty()) {
            Some(name) => texts::answered_by(LANGUAGE).replace("{name}", cut(&name, NAME_LIMIT)),
            None => texts::answered_by_unnamed(LANGUAGE).to_owned(),
        }),
        MessageOrigin::Buyer | MessageOrigin::System | MessageOrigin::Operator => None,
    }
}

/// Adds a post with one message only, under the heading unless that is empty.
fn push_alone(kind: PostKind, heading: &Styled, message: &PendingMessage, drafts: &mut Vec<PostDraft>) {
    let first = drafts.len();
    if let Some((kind, mut content)) = media(message) {
        let caption = heading.clone().then("\n", &quoted(message).unwrap_or_default());
        if kind == PostKind::Venue || caption.units() > CAPTION_LIMIT - HEADING_ROOM {
            push_text(PostKind::Text, &caption, Vec::new(), drafts);
        } else if !caption.is_empty() {
            caption.store(&mut content, "caption", "caption_entities");
        }
        drafts.push(PostDraft { kind, content, message_ids: vec![message.id] });
    } else {
        push_text(kind, &heading.clone().then("\n", &body(message)), vec![message.id], drafts);
    }
    if let Some((reply_to, draft)) = message.reply_to.zip(drafts.get_mut(first)) {
        draft.content["reply_to"] = json!(reply_to);
    }
}

/// Adds pictures as albums. A single picture is a photo.
fn push_pictures(run: &[&PendingMessage], drafts: &mut Vec<PostDraft>) {
    for album in run.chunks(MAX_PICTURES) {
        let pictures: Vec<Value> =
            album.iter().filter_map(|message| media(message)?.1.get("media")?.get(0).cloned()).collect();
        let kind = if pictures.len() == 1 { PostKind::Photo } else { PostKind::Album };
        let mut content = json!({ "media": pictures });
        let line = Styled::bold(texts::kind_line("image", LANGUAGE));
        line.store(&mut content, "fallback_text", "fallback_entities");
        drafts.push(PostDraft { kind, content, message_ids: album.iter().map(|message| message.id).collect() });
    }
}

/// Turns a run of messages into as few posts as their length allows.
fn flush(run: &mut Vec<&PendingMessage>, zone: &TimeZone, drafts: &mut Vec<PostDraft>) {
    if run.first().is_some_and(|message| joins_album(message)) {
        push_pictures(&std::mem::take(run), drafts);
        return;
    }
    let alone = run.len() == 1;
    let mut text = Styled::default();
    let mut ids = Vec::new();
    for message in run.drain(..) {
        let time = if alone { Styled::default() } else { Styled::bold(clock(message, zone)) };
        let paragraph = time.then(" ", &body(message));
        // One entity stays free for the heading in a group without topics.
        let fits = text.units() + 2 + paragraph.units() <= POST_LIMIT
            && text.count_entities() + paragraph.count_entities() < MAX_ENTITIES;
        if !ids.is_empty() && !fits {
            push_text(PostKind::Text, &std::mem::take(&mut text), std::mem::take(&mut ids), drafts);
        }
        text = text.then("\n\n", &paragraph);
        ids.push(message.id);
    }
    if !ids.is_empty() {
        push_text(PostKind::Text, &text, ids, drafts);
    }
}

/// Adds one post, or several if the text is too long. The messages count as posted with the last one.
fn push_text(kind: PostKind, text: &Styled, message_ids: Vec<i64>, drafts: &mut Vec<PostDraft>) {
    let pieces = text.split(POST_LIMIT).into_iter();
    let mut pieces: Vec<PostDraft> =
        pieces.map(|piece| PostDraft { kind, content: piece.content(), message_ids: Vec::new() }).collect();
    if let Some(last) = pieces.last_mut() {
        last.message_ids = message_ids;
    }
    drafts.append(&mut pieces);
}

/// Returns the name of a dialog's topic: item and buyer, with room for the emoji.
pub(in crate::bridge::to_telegram) fn topic_name(buyer: Option<&Value>, item: Option<&Value>) -> String {
    let limit = NAME_LIMIT - EMOJI_ROOM;
    let buyer = buyers_name(buyer);
    let title = snapshot_text(item, "title").map(tidy).filter(|title| !title.is_empty());
    let name = match title {
        Some(title) => {
            let room = limit.saturating_sub(utf16_len(&buyer) + 3).max(limit / 2);
            format!("{} · {buyer}", cut(&title, room))
        }
        None => buyer,
    };
    cut(&name, limit).to_owned()
}

/// Returns the name in a buyer's snapshot, or the word for a buyer without one.
pub(super) fn buyers_name(buyer: Option<&Value>) -> String {
    let name = snapshot_text(buyer, "name").map(tidy).filter(|name| !name.is_empty());
    name.map_or_else(|| texts::nameless_buyer(LANGUAGE).to_owned(), |name| cut(&name, NAME_LIMIT).to_owned())
}

/// Returns the name of a dialog's buyer.
pub(in crate::bridge::to_telegram) fn buyer(dialog: &ClaimedDialog) -> String {
    buyers_name(dialog.buyer.as_ref())
}

/// Returns a dialog's name for people: the name that its topic has or would have.
pub(in crate::bridge::to_telegram) fn name_of(dialog: &ClaimedDialog) -> String {
    topic_name(dialog.buyer.as_ref(), dialog.item.as_ref())
}

/// Adds the heading that each post has in a group without topics: item and buyer, above the text or the caption. A
/// location has neither, and stays as it is.
pub(in crate::bridge::to_telegram) fn with_heading(kind: PostKind, content: Value, whose: &str) -> Value {
    let mut content = if kind == PostKind::Notice { as_ours(content) } else { content };
    let (field, entities_field) = if kind.has_caption() {
        ("caption", "caption_entities")
    } else if content["text"].is_string() {
        ("text", "entities")
    } else {
        return content;
    };
    put_above(&mut content, &Styled::bold(format!("Avito · {whose}")), field, entities_field);
    content["has_heading"] = json!(true);
    content
}

#[cfg(test)]
mod tests;
