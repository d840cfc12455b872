//! The look of posts. Nothing here makes a call or a query: messages and a dialog go in, drafts come out.
//! Texts of people stay plain; entities give the structure, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::album;
use crate::{
    avito,
    bridge::{
        common::texts::{self, Language},
        rows::posts::PostDraft,
        to_telegram::work::{ClaimedDialog, PendingMessage},
    },
    telegram::text::{CAPTION_LIMIT, TEXT_LIMIT, split_utf16, truncate_utf16, utf16_len},
};

/// The most UTF-16 units of a post: those of a message (Bot API, `sendMessage`), less the room for the heading in a
/// group without topics.
pub(in crate::bridge) const POST_LIMIT: usize = TEXT_LIMIT - 160;
/// The most characters of a topic's name (Bot API, `createForumTopic`).
pub(in crate::bridge) const NAME_LIMIT: usize = 128;
/// The most UTF-16 units of a quoted message.
const QUOTE_LIMIT: usize = 200;
/// The most UTF-16 units of Avito's word for an unknown kind of message.
const KIND_LIMIT: usize = 40;
/// The language of a group.
pub(in crate::bridge) const LANGUAGE: Language = Language::Russian;

/// Composes the drafts that post these messages, in order.
///
/// Consecutive texts that wait together are one post, a paragraph each, with its time. Consecutive pictures are one
/// album. An answer that was not written in the topic has a post of its own. So has a message that quotes another, and
/// a message that is older than the last posted one.
pub fn drafts(messages: &[PendingMessage], last_posted_at: Option<Timestamp>, zone: &TimeZone) -> Vec<PostDraft> {
    let mut drafts = Vec::new();
    let mut run: Vec<&PendingMessage> = Vec::new();
    let mut newest = last_posted_at;
    for message in messages {
        let late = matches!((message.created, newest), (Some(created), Some(newest)) if created < newest);
        if late {
            flush(&mut run, zone, &mut drafts);
            let heading = format!("{}, {}", clock(message, zone), texts::arrived_late(LANGUAGE));
            push_alone("text", Some(&heading), message, &mut drafts);
        } else if let Some(heading) = mirror_heading(message) {
            flush(&mut run, zone, &mut drafts);
            push_alone("mirror", Some(&heading), message, &mut drafts);
        } else if message.reply_to.is_some() || (!joins_album(message) && media(message).is_some()) {
            flush(&mut run, zone, &mut drafts);
            push_alone("text", None, message, &mut drafts);
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
    match message.origin.as_str() {
        "avito_app" => Some(texts::mirrored(LANGUAGE).to_owned()),
        "auto_reply" => Some(texts::auto_replied(LANGUAGE).to_owned()),
        "api" => Some(match message.author.as_deref().map(one_line).filter(|name| !name.is_empty()) {
            Some(name) => texts::answered_by(LANGUAGE).replace("{name}", &name),
            None => texts::answered_by_unnamed(LANGUAGE).to_owned(),
        }),
        _ => None,
    }
}

/// True if a message is a buyer's picture that may be posted in one album with those around it.
pub fn joins_album(message: &PendingMessage) -> bool {
    let is_alone = message.reply_to.is_some() || quoted(message).is_some();
    message.origin == "buyer" && message.kind == "image" && !is_alone && media(message).is_some()
}

/// Returns the kind and content of a post with a picture, a voice or a location. None: the message is posted as text.
fn media(message: &PendingMessage) -> Option<(&'static str, Value)> {
    let content: avito::Content = serde_json::from_value(message.attachments.clone()).ok()?;
    let (kind, mut post_content) = match message.kind.as_str() {
        "image" => ("photo", json!({ "media": [content.image?.largest().filter(|url| is_link(url))?] })),
        "voice" => ("voice", json!({ "voice_id": content.voice?.voice_id.filter(|id| !id.is_empty())? })),
        "location" => {
            let location = content.location?;
            let (latitude, longitude) = location.lat.zip(location.lon)?;
            let line = |text: Option<String>| text.map(|text| one_line(&text)).filter(|text| !text.is_empty());
            let (title, address) = (line(location.title), line(location.text));
            let title = title.or_else(|| address.clone());
            ("venue", json!({ "latitude": latitude, "longitude": longitude, "title": title, "address": address }))
        }
        _ => return None,
    };
    post_content["fallback_text"] = json!(line(message));
    Some((kind, post_content))
}

pub(in crate::bridge) fn is_link(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// Adds a post with one message only, under a heading if it has one.
fn push_alone(kind: &'static str, heading: Option<&str>, message: &PendingMessage, drafts: &mut Vec<PostDraft>) {
    let first = drafts.len();
    if let Some((kind, mut content)) = media(message) {
        let above = [heading.map(str::to_owned), quoted(message)];
        let caption = above.into_iter().flatten().collect::<Vec<_>>().join("\n");
        if kind == "venue" || utf16_len(&caption) > CAPTION_LIMIT {
            push_text("text", &caption, Vec::new(), drafts);
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
    for album in run.chunks(album::MAX_PICTURES) {
        let pictures: Vec<Value> =
            album.iter().filter_map(|message| media(message)?.1.get("media")?.get(0).cloned()).collect();
        let kind = if pictures.len() == 1 { "photo" } else { "album" };
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
            push_text("text", &std::mem::take(&mut text), std::mem::take(&mut ids), drafts);
        }
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&paragraph);
        ids.push(message.id);
    }
    if !ids.is_empty() {
        push_text("text", &text, ids, drafts);
    }
}

/// Adds one post, or several if the text is too long. The messages count as posted with the last one.
fn push_text(kind: &'static str, text: &str, message_ids: Vec<i64>, drafts: &mut Vec<PostDraft>) {
    let mut pieces: Vec<PostDraft> = split_utf16(text, POST_LIMIT)
        .into_iter()
        .map(|piece| PostDraft { kind, content: json!({ "text": piece }), message_ids: Vec::new() })
        .collect();
    if let Some(last) = pieces.last_mut() {
        last.message_ids = message_ids;
    }
    drafts.append(&mut pieces);
}

fn clock(message: &PendingMessage, zone: &TimeZone) -> String {
    let created = message.created.unwrap_or(Timestamp::UNIX_EPOCH);
    created.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// Returns the quote of the message that this one answers. None: it answers none, or the topic has that message.
fn quoted(message: &PendingMessage) -> Option<String> {
    let quote = message.attachments.get("quote").filter(|_| message.reply_to.is_none())?;
    let text = quote.get("text").and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let kind = quote.get("kind").and_then(Value::as_str).unwrap_or_default();
    let said = text.unwrap_or_else(|| texts::kind_line(kind, LANGUAGE));
    Some(format!("{} «{}»", texts::in_answer_to(LANGUAGE), truncate_utf16(&one_line(said), QUOTE_LIMIT)))
}

/// Returns a message as one text, below the quote of the message that it answers. The text is never empty.
fn body(message: &PendingMessage) -> String {
    match quoted(message) {
        Some(quoted) => format!("{quoted}\n{}", line(message)),
        None => line(message),
    }
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
    if message.origin == "system" { format!("{} {line}", texts::SYSTEM) } else { line }
}

fn labelled(label: &str, text: Option<String>, kind: &str) -> String {
    match text.filter(|text| !text.trim().is_empty()) {
        Some(text) => format!("{label} {text}"),
        None => texts::kind_line(kind, LANGUAGE).to_owned(),
    }
}

pub(in crate::bridge) fn text_of<'a>(snapshot: Option<&'a Value>, field: &str) -> Option<&'a str> {
    snapshot?.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// Returns a text as one line, without control characters: a name that a person chose must not look like another line.
pub(in crate::bridge) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// Returns the name of a dialog's topic: item and buyer.
pub fn topic_name(buyer: Option<&Value>, item: Option<&Value>) -> String {
    let buyer = text_of(buyer, "name").unwrap_or(texts::nameless_buyer(LANGUAGE));
    let name = match text_of(item, "title") {
        Some(title) => {
            let room = NAME_LIMIT.saturating_sub(utf16_len(buyer) + 3).max(NAME_LIMIT / 2);
            format!("{} · {buyer}", truncate_utf16(&one_line(title), room))
        }
        None => buyer.to_owned(),
    };
    truncate_utf16(&one_line(&name), NAME_LIMIT).to_owned()
}

/// Returns the name of a dialog's buyer.
pub(in crate::bridge) fn buyer(dialog: &ClaimedDialog) -> &str {
    text_of(dialog.buyer.as_ref(), "name").unwrap_or(texts::nameless_buyer(LANGUAGE))
}

/// Returns a message as one line of a replay.
pub(in crate::bridge) fn replay_line(message: &PendingMessage, who: &str, zone: &TimeZone) -> String {
    format!("{} {}: {}", clock(message, zone), one_line(who), one_line(&body(message)))
}

/// Returns a dialog's name for people: the name that its topic has or would have.
pub(in crate::bridge) fn name_of(dialog: &ClaimedDialog) -> String {
    topic_name(dialog.buyer.as_ref(), dialog.item.as_ref())
}

/// Adds the heading that each post has in a group without topics: item and buyer, above the text or the caption. A
/// location has neither, and stays as it is.
pub(in crate::bridge) fn with_heading(kind: &str, mut content: Value, whose: &str) -> Value {
    let field = match kind {
        "photo" | "album" | "voice" => "caption",
        _ if content["text"].is_string() => "text",
        _ => return content,
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(id: i64, seconds: i64, origin: &str, text: &str) -> PendingMessage {
        PendingMessage {
            id,
            origin: origin.to_owned(),
            kind: "text".to_owned(),
            text: Some(text.to_owned()),
            attachments: json!({}),
            created: Timestamp::from_second(seconds).ok(),
            arrived: Timestamp::UNIX_EPOCH,
            confirmed: true,
            author: None,
            reply_to: None,
        }
    }

    fn sent(id: i64, kind: &str, attachments: Value) -> PendingMessage {
        PendingMessage { kind: kind.to_owned(), text: None, attachments, ..said(id, id, "buyer", "") }
    }

    fn picture(id: i64) -> PendingMessage {
        let sizes = json!({"32x32": "https://avito.st/s.jpg", "1280x960": format!("https://avito.st/{id}.jpg")});
        sent(id, "image", json!({"image": {"sizes": sizes}}))
    }

    fn texts(drafts: &[PostDraft]) -> Vec<&str> {
        drafts.iter().filter_map(|draft| draft.content["text"].as_str()).collect()
    }

    #[test]
    fn a_single_text_is_posted_unchanged() {
        let drafts = drafts(&[said(1, 100, "buyer", "Ещё <b>продаёте</b>?")], None, &TimeZone::UTC);
        assert_eq!(
            drafts,
            [PostDraft {
                kind: "text", content: json!({"text": "Ещё <b>продаёте</b>?"}), message_ids: vec![1]
            }]
        );
    }

    #[test]
    fn texts_that_wait_together_are_one_post_with_their_times() {
        let waiting = [said(1, 60, "buyer", "Раз"), said(2, 120, "buyer", "Два")];
        assert_eq!(texts(&drafts(&waiting, None, &TimeZone::UTC)), ["00:01 Раз\n\n00:02 Два"]);
    }

    #[test]
    fn an_answer_from_avitos_app_is_posted_between_the_messages_before_and_after_it() {
        let waiting = [said(1, 60, "buyer", "Раз"), said(2, 120, "avito_app", "Да"), said(3, 180, "buyer", "Два")];
        let drafts = drafts(&waiting, None, &TimeZone::UTC);
        assert_eq!(texts(&drafts), ["Раз", "Вы ответили в Avito:\nДа", "Два"]);
        assert_eq!(drafts[1].kind, "mirror");
    }

    #[test]
    fn an_auto_reply_is_posted_under_its_heading_and_never_as_late() {
        let auto_reply = PendingMessage { created: None, ..said(2, 0, "auto_reply", "Ответим утром") };
        let drafts =
            drafts(&[said(1, 60, "buyer", "Раз"), auto_reply], Timestamp::from_second(30).ok(), &TimeZone::UTC);
        assert_eq!(texts(&drafts), ["Раз", "🤖 Автоответчик:\nОтветим утром"]);
        assert_eq!(drafts[1].kind, "mirror");
    }

    #[test]
    fn an_answer_by_the_api_is_a_post_of_its_own_under_its_writers_name_in_one_line() {
        let by = |author: Option<&str>| PendingMessage {
            created: None,
            author: author.map(str::to_owned),
            ..said(2, 0, "api", "Да\nПриезжайте")
        };
        let drafts =
            drafts(&[said(1, 60, "buyer", "Раз"), by(Some("Ольга\nПетровна")), by(None)], None, &TimeZone::UTC);
        let expected =
            ["Раз", "✍️ Ольга Петровна — из кабинета:\nДа\nПриезжайте", "✍️ Ответ из кабинета:\nДа\nПриезжайте"];
        assert_eq!(texts(&drafts), expected);
        assert_eq!(drafts[1].kind, "mirror");
    }

    #[test]
    fn consecutive_pictures_are_albums_of_ten_in_their_order_and_a_text_stands_between() {
        let mut waiting: Vec<_> = (1..=11).map(picture).collect();
        waiting.push(said(12, 12, "buyer", "Вот"));
        waiting.push(picture(13));
        let drafts = drafts(&waiting, None, &TimeZone::UTC);
        let kinds: Vec<_> = drafts.iter().map(|draft| (draft.kind, draft.message_ids.len())).collect();
        assert_eq!(kinds, [("album", 10), ("photo", 1), ("text", 1), ("photo", 1)]);
        assert_eq!(drafts[0].content["media"][9], "https://avito.st/10.jpg");
        assert_eq!(drafts[1].content["media"], json!(["https://avito.st/11.jpg"]));
    }

    #[test]
    fn voices_and_locations_are_posts_of_their_own_with_a_fallback_text() {
        let waiting = [
            sent(1, "voice", json!({"voice": {"voice_id": "v-1"}})),
            sent(2, "location", json!({"location": {"lat": 55.5, "lon": 37.5, "text": "Москва,\nТверская 1"}})),
            sent(3, "location", json!({"location": {"text": "Москва"}})),
        ];
        let drafts = drafts(&waiting, None, &TimeZone::UTC);
        assert_eq!(drafts.iter().map(|draft| draft.kind).collect::<Vec<_>>(), ["voice", "venue", "text"]);
        assert_eq!(drafts[0].content["voice_id"], "v-1");
        assert_eq!(drafts[1].content["title"], "Москва, Тверская 1");
        assert_eq!(drafts[2].content["text"], "📍 Москва");
        assert!(drafts[0].content["fallback_text"].as_str().is_some_and(|line| line.contains("Голосовое")));
    }

    #[test]
    fn a_quote_is_a_reply_if_the_topic_has_its_message_and_else_a_line() {
        let quote = json!({"quote": {"id": "q", "kind": "text", "text": "Сколько стоит?"}});
        let known =
            PendingMessage { attachments: quote.clone(), reply_to: Some(40), ..said(1, 1, "buyer", "А это") };
        let unknown = PendingMessage { attachments: quote, ..said(2, 2, "buyer", "А то") };
        let drafts = drafts(&[known, unknown], None, &TimeZone::UTC);
        assert_eq!(drafts[0].content, json!({"text": "А это", "reply_to": 40}));
        assert_eq!(drafts[1].content, json!({"text": "В ответ на «Сколько стоит?»\nА то"}));
    }

    #[test]
    fn a_late_picture_and_one_from_avitos_app_say_so_in_their_captions() {
        let late = picture(1);
        let own = PendingMessage { origin: "avito_app".to_owned(), ..picture(20) };
        let drafts = drafts(&[late, own], Timestamp::from_second(10).ok(), &TimeZone::UTC);
        assert_eq!(drafts.iter().map(|draft| draft.kind).collect::<Vec<_>>(), ["photo", "photo"]);
        assert_eq!(drafts[0].content["caption"], "00:00, пришло с опозданием");
        assert_eq!(drafts[1].content["caption"], "Вы ответили в Avito:");
    }

    #[test]
    fn a_message_without_content_or_of_an_unknown_kind_is_a_line() {
        for kind in ["file", "video", "appCall", "call", "deleted", "image", "voice", "hologram"] {
            let drafts = drafts(&[sent(1, kind, json!({}))], None, &TimeZone::UTC);
            assert!(drafts.len() == 1 && texts(&drafts)[0].chars().count() > 5, "{kind}");
        }
        let missed = sent(1, "call", json!({"call": {"status": "missed"}}));
        assert_eq!(texts(&drafts(&[missed], None, &TimeZone::UTC)), ["📞 Пропущенный звонок через Avito"]);
        let unknown = drafts(&[sent(1, "hologram", json!({}))], None, &TimeZone::UTC);
        assert!(texts(&unknown)[0].ends_with("(hologram)"));
    }

    #[test]
    fn a_message_older_than_the_last_posted_one_says_that_it_is_late() {
        let drafts = drafts(&[said(1, 60, "buyer", "Раз")], Timestamp::from_second(61).ok(), &TimeZone::UTC);
        assert_eq!(texts(&drafts), ["00:01, пришло с опозданием\nРаз"]);
    }

    #[test]
    fn a_topic_is_named_from_item_and_buyer_within_the_limit() {
        let (buyer, item) = (json!({"name": "Анна"}), json!({"title": "Стол\nдубовый"}));
        assert_eq!(topic_name(Some(&buyer), Some(&item)), "Стол дубовый · Анна");
        assert_eq!(topic_name(None, None), "Покупатель");
        let long = json!({"title": "стол ".repeat(60), "name": "Анна ".repeat(60)});
        assert!(utf16_len(&topic_name(Some(&long), Some(&long))) <= NAME_LIMIT);
    }

    #[test]
    fn a_heading_shifts_the_entities_and_changes_nothing_else() {
        assert_eq!(
            with_heading("text", json!({"text": "Да"}), "Стол · Я"),
            json!({"text": "Avito · Стол · Я\nДа", "has_heading": true})
        );
        let linked = with_heading(
            "text",
            json!({"text": "Да", "entities": [{"type": "text_link", "offset": 1, "length": 1}]}),
            "😀",
        );
        assert_eq!(linked["entities"], json!([{"type": "text_link", "offset": 12, "length": 1}]));
        assert_eq!(with_heading("photo", json!({"caption": "a"}), "Я")["caption"], "Avito · Я\na");
        assert_eq!(with_heading("photo", json!({}), "Я")["caption"], "Avito · Я");
        assert_eq!(with_heading("venue", json!({}), "Я"), json!({}));
    }

    proptest! {
        #[test]
        fn every_message_is_posted_once_and_every_post_fits(lengths in prop::collection::vec(1usize..9000, 1..12)) {
            let waiting: Vec<_> =
                (0_i64..).zip(&lengths).map(|(id, length)| said(id, id, "buyer", &"я".repeat(*length))).collect();
            let drafts = drafts(&waiting, None, &TimeZone::UTC);
            let ids: Vec<_> = drafts.iter().flat_map(|draft| draft.message_ids.clone()).collect();
            prop_assert_eq!(ids, waiting.iter().map(|message| message.id).collect::<Vec<_>>());
            prop_assert!(texts(&drafts).iter().all(|text| utf16_len(text) <= POST_LIMIT));
            let posted: usize = texts(&drafts).iter().map(|text| text.matches('я').count()).sum();
            prop_assert_eq!(posted, lengths.iter().sum::<usize>());
        }
    }
}
