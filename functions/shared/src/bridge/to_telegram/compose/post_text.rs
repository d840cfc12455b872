//! The look of posts. Nothing here makes a call or a query: messages and a dialog go in, drafts come out.
//! Texts of people stay plain; entities give the structure, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::message_text::{LANGUAGE, body, clock, joins_album, media, one_line, quoted};
use crate::{
    bridge::{
        common::{chat_snapshot::snapshot_text, post_kind::PostKind, states::MessageOrigin, texts},
        rows::posts::PostDraft,
        to_telegram::work::{ClaimedDialog, PendingMessage},
    },
    telegram::text::{CAPTION_LIMIT, TEXT_LIMIT, split_utf16, truncate_utf16, utf16_len},
};

/// The most UTF-16 units of a post: those of a message (Bot API, `sendMessage`), less the room for the heading in a
/// group without topics.
pub(super) const POST_LIMIT: usize = TEXT_LIMIT - 160;
/// The most pictures of one album (Bot API, `sendMediaGroup`).
pub(in crate::bridge::to_telegram) const MAX_PICTURES: usize = 10;
/// The most characters of a topic's name (Bot API, `createForumTopic`).
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
            let heading = format!("{}, {}", clock(message, zone), texts::arrived_late(LANGUAGE));
            push_alone(PostKind::Text, Some(&heading), message, &mut drafts);
        } else if let Some(heading) = mirror_heading(message) {
            flush(&mut run, zone, &mut drafts);
            push_alone(PostKind::Mirror, Some(&heading), message, &mut drafts);
        } else if message.reply_to.is_some() || (!joins_album(message) && media(message).is_some()) {
            flush(&mut run, zone, &mut drafts);
            push_alone(PostKind::Text, None, message, &mut drafts);
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
        MessageOrigin::Api => Some(match message.author.as_deref().map(one_line).filter(|name| !name.is_empty()) {
            Some(name) => texts::answered_by(LANGUAGE).replace("{name}", &name),
            None => texts::answered_by_unnamed(LANGUAGE).to_owned(),
        }),
        MessageOrigin::Buyer | MessageOrigin::System | MessageOrigin::Operator => None,
    }
}

/// Adds a post with one message only, under a heading if it has one.
fn push_alone(kind: PostKind, heading: Option<&str>, message: &PendingMessage, drafts: &mut Vec<PostDraft>) {
    let first = drafts.len();
    if let Some((kind, mut content)) = media(message) {
        let above = [heading.map(str::to_owned), quoted(message)];
        let caption = above.into_iter().flatten().collect::<Vec<_>>().join("\n");
        if kind == PostKind::Venue || utf16_len(&caption) > CAPTION_LIMIT {
            push_text(PostKind::Text, &caption, Vec::new(), drafts);
        } else if !caption.is_empty() {
            content["caption"] = json!(caption);
        }
        drafts.push(PostDraft { kind, content, message_ids: vec![message.id] });
    } else {
        let text = [heading.map(str::to_owned), Some(body(message))].into_iter().flatten().collect::<Vec<_>>();
        push_text(kind, &text.join("\n"), vec![message.id], drafts);
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
        let content = json!({ "media": pictures, "fallback_text": texts::kind_line("image", LANGUAGE) });
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
    let mut text = String::new();
    let mut ids = Vec::new();
    for message in run.drain(..) {
        let paragraph = if alone { body(message) } else { format!("{} {}", clock(message, zone), body(message)) };
        if !ids.is_empty() && utf16_len(&text) + 2 + utf16_len(&paragraph) > POST_LIMIT {
            push_text(PostKind::Text, &std::mem::take(&mut text), std::mem::take(&mut ids), drafts);
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&paragraph);
        ids.push(message.id);
    }
    if !ids.is_empty() {
        push_text(PostKind::Text, &text, ids, drafts);
    }
}

/// Adds one post, or several if the text is too long. The messages count as posted with the last one.
fn push_text(kind: PostKind, text: &str, message_ids: Vec<i64>, drafts: &mut Vec<PostDraft>) {
    let mut pieces: Vec<PostDraft> = split_utf16(text, POST_LIMIT)
        .into_iter()
        .map(|piece| PostDraft { kind, content: json!({ "text": piece }), message_ids: Vec::new() })
        .collect();
    if let Some(last) = pieces.last_mut() {
        last.message_ids = message_ids;
    }
    drafts.append(&mut pieces);
}

/// Returns the name of a dialog's topic: item and buyer.
pub(in crate::bridge::to_telegram) fn topic_name(buyer: Option<&Value>, item: Option<&Value>) -> String {
    let buyer = snapshot_text(buyer, "name").unwrap_or(texts::nameless_buyer(LANGUAGE));
    let name = match snapshot_text(item, "title") {
        Some(title) => {
            let room = NAME_LIMIT.saturating_sub(utf16_len(buyer) + 3).max(NAME_LIMIT / 2);
            format!("{} · {buyer}", truncate_utf16(&one_line(title), room))
        }
        None => buyer.to_owned(),
    };
    truncate_utf16(&one_line(&name), NAME_LIMIT).to_owned()
}

/// Returns the name of a dialog's buyer.
pub(in crate::bridge::to_telegram) fn buyer(dialog: &ClaimedDialog) -> &str {
    snapshot_text(dialog.buyer.as_ref(), "name").unwrap_or(texts::nameless_buyer(LANGUAGE))
}

/// Returns a dialog's name for people: the name that its topic has or would have.
pub(in crate::bridge::to_telegram) fn name_of(dialog: &ClaimedDialog) -> String {
    topic_name(dialog.buyer.as_ref(), dialog.item.as_ref())
}

/// Adds the heading that each post has in a group without topics: item and buyer, above the text or the caption. A
/// location has neither, and stays as it is.
pub(in crate::bridge::to_telegram) fn with_heading(kind: PostKind, mut content: Value, whose: &str) -> Value {
    let field = if kind.has_caption() {
        "caption"
    } else if content["text"].is_string() {
        "text"
    } else {
        return content;
    };
    let heading = format!("Avito · {whose}\n");
    let shift = utf16_len(&heading);
    let below = content[field].as_str().unwrap_or_default();
    content[field] = json!(format!("{heading}{below}").trim_end());
    content["has_heading"] = json!(true);
    for entity in content.get_mut("entities").and_then(Value::as_array_mut).into_iter().flatten() {
        entity["offset"] = json!(entity["offset"].as_u64().unwrap_or_default() + shift as u64);
    }
    content
}

#[cfg(test)]
mod tests;
