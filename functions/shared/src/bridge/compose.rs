//! What posts look like. Nothing here asks or tells anyone: messages and a dialog go in, drafts come out.
//! Texts of people stay plain; structure is given by entities, so that no text can break a post.

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    posts::Draft,
    words::{self, Language},
    work::{Dialog, Waiting},
};
use crate::{
    avito,
    telegram::text::{TEXT_LIMIT, split_utf16, truncate_utf16, utf16_len},
};

/// The most UTF-16 units of a post: those of a message (Bot API, `sendMessage`), less the room for a heading where there
/// are no topics.
const POST_LIMIT: usize = TEXT_LIMIT - 160;
/// The most characters of a topic's name (Bot API, `createForumTopic`).
pub(super) const NAME_LIMIT: usize = 128;
/// What a group reads.
const LANGUAGE: Language = Language::Russian;

/// The drafts that show these messages, in order. Consecutive texts that wait together are one post, a paragraph each,
/// with its time; an answer from Avito's app stands alone, and so does what is older than what was shown last.
pub fn drafts(messages: &[Waiting], last_shown: Option<Timestamp>, zone: &TimeZone) -> Vec<Draft> {
    let mut drafts = Vec::new();
    let mut run: Vec<&Waiting> = Vec::new();
    let mut newest = last_shown;
    for message in messages {
        let late = matches!((message.created, newest), (Some(created), Some(newest)) if created < newest);
        if late {
            flush(&mut run, zone, &mut drafts);
            let heading = format!("{}, {}", clock(message, zone), words::came_late(LANGUAGE));
            push_text("text", &format!("{heading}\n{}", body(message)), vec![message.id], &mut drafts);
        } else if let Some(heading) = mirror_heading(message) {
            flush(&mut run, zone, &mut drafts);
            let text = format!("{heading}\n{}", body(message));
            push_text("mirror", &text, vec![message.id], &mut drafts);
        } else {
            run.push(message);
        }
        newest = newest.max(message.created);
    }
    flush(&mut run, zone, &mut drafts);
    drafts
}

/// What stands above an answer that was not written in the topic.
fn mirror_heading(message: &Waiting) -> Option<&'static str> {
    match message.origin.as_str() {
        "avito_app" => Some(words::mirrored(LANGUAGE)),
        "auto_reply" => Some(words::auto_replied(LANGUAGE)),
        _ => None,
    }
}

/// Turns a run of messages into as few posts as their length allows.
fn flush(run: &mut Vec<&Waiting>, zone: &TimeZone, drafts: &mut Vec<Draft>) {
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

/// One post, or several when the text is too long; the messages count as shown with the last.
fn push_text(kind: &'static str, text: &str, message_ids: Vec<i64>, drafts: &mut Vec<Draft>) {
    let mut pieces: Vec<Draft> = split_utf16(text, POST_LIMIT)
        .into_iter()
        .map(|piece| Draft { kind, content: json!({ "text": piece }), message_ids: Vec::new() })
        .collect();
    if let Some(last) = pieces.last_mut() {
        last.message_ids = message_ids;
    }
    drafts.append(&mut pieces);
}

fn clock(message: &Waiting, zone: &TimeZone) -> String {
    let created = message.created.unwrap_or(Timestamp::UNIX_EPOCH);
    created.to_zoned(zone.clone()).strftime("%H:%M").to_string()
}

/// What a message says, as one text; never empty.
fn body(message: &Waiting) -> String {
    let content: avito::Content = serde_json::from_value(message.attachments.clone()).unwrap_or_default();
    let text = message.text.as_deref().map(str::trim).filter(|text| !text.is_empty());
    let line = match (message.kind.as_str(), text) {
        ("text" | "system", Some(text)) => text.to_owned(),
        ("link", _) => labelled(words::LINK, content.link.and_then(|link| link.url.or(link.text)), &message.kind),
        ("item", _) => {
            let card = content.item.map(|item| {
                [item.title, item.price_string, item.item_url].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(words::ITEM, card, &message.kind)
        }
        ("location", _) => {
            let place = content.location.map(|place| {
                let coordinates = place.lat.zip(place.lon).map(|(lat, lon)| format!("{lat}, {lon}"));
                [place.title.or(place.text), coordinates].into_iter().flatten().collect::<Vec<_>>().join(" · ")
            });
            labelled(words::PLACE, place, &message.kind)
        }
        (kind, _) => words::kind_line(kind, LANGUAGE).to_owned(),
    };
    if message.origin == "system" { format!("{} {line}", words::SYSTEM) } else { line }
}

fn labelled(label: &str, what: Option<String>, kind: &str) -> String {
    match what.filter(|what| !what.trim().is_empty()) {
        Some(what) => format!("{label} {what}"),
        None => words::kind_line(kind, LANGUAGE).to_owned(),
    }
}

fn text_of<'a>(snapshot: Option<&'a Value>, field: &str) -> Option<&'a str> {
    snapshot?.get(field)?.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// One line: what a person may have put into a name must not look like something else.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect()
}

/// The name of a dialog's topic: item and buyer.
pub fn topic_name(buyer: Option<&Value>, item: Option<&Value>) -> String {
    let buyer = text_of(buyer, "name").unwrap_or(words::nameless_buyer(LANGUAGE));
    let name = match text_of(item, "title") {
        Some(title) => {
            let room = NAME_LIMIT.saturating_sub(utf16_len(buyer) + 3).max(NAME_LIMIT / 2);
            format!("{} · {buyer}", truncate_utf16(&one_line(title), room))
        }
        None => buyer.to_owned(),
    };
    truncate_utf16(&one_line(&name), NAME_LIMIT).to_owned()
}

/// The first post of a topic: the item as a link, its price and city, the buyer, the account.
pub fn header(dialog: &Dialog) -> Value {
    let item = dialog.item.as_ref();
    let labels = words::header_labels(LANGUAGE);
    let title = text_of(item, "title").map(one_line);
    let about = [text_of(item, "price"), text_of(item, "city")]
        .into_iter()
        .flatten()
        .map(one_line)
        .collect::<Vec<_>>()
        .join(" · ");
    let buyer = text_of(dialog.buyer.as_ref(), "name").unwrap_or(words::nameless_buyer(LANGUAGE));
    let lines = [
        title.clone().unwrap_or_default(),
        about,
        format!("{} {}", labels.buyer, one_line(buyer)),
        format!("{} {}", labels.account, one_line(&dialog.account_name)),
    ];
    let text = lines.iter().filter(|line| !line.is_empty()).cloned().collect::<Vec<_>>().join("\n");
    let url = text_of(item, "url").filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    match title.zip(url) {
        Some((title, url)) => {
            let link = json!({ "type": "text_link", "offset": 0, "length": utf16_len(&title), "url": url });
            json!({ "text": text, "entities": [link] })
        }
        None => json!({ "text": text }),
    }
}

/// The name of a dialog's buyer.
pub(super) fn buyer(dialog: &Dialog) -> &str {
    text_of(dialog.buyer.as_ref(), "name").unwrap_or(words::nameless_buyer(LANGUAGE))
}

/// A message as one line of a replay.
pub(super) fn line(message: &Waiting, who: &str, zone: &TimeZone) -> String {
    format!("{} {}: {}", clock(message, zone), one_line(who), one_line(&body(message)))
}

/// A dialog as people call it: the name of its topic, had it one.
pub(super) fn name_of(dialog: &Dialog) -> String {
    topic_name(dialog.buyer.as_ref(), dialog.item.as_ref())
}

/// Where there are no topics, each post says whose it is: item and buyer, above the text.
pub(super) fn headed(mut content: Value, whose: &str) -> Value {
    let Some(text) = content["text"].as_str() else { return content };
    let heading = format!("Avito · {whose}\n");
    let shift = utf16_len(&heading);
    content["text"] = json!(format!("{heading}{text}"));
    content["headed"] = json!(true);
    for entity in content.get_mut("entities").and_then(Value::as_array_mut).into_iter().flatten() {
        entity["offset"] = json!(entity["offset"].as_u64().unwrap_or_default() + shift as u64);
    }
    content
}

/// A notice that answers a message.
pub fn notice(text: &str, reply_to: Option<i64>) -> Value {
    match reply_to {
        Some(message_id) => json!({ "text": text, "reply_to": message_id }),
        None => json!({ "text": text }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(id: i64, seconds: i64, origin: &str, text: &str) -> Waiting {
        Waiting {
            id,
            origin: origin.to_owned(),
            kind: "text".to_owned(),
            text: Some(text.to_owned()),
            attachments: json!({}),
            created: Timestamp::from_second(seconds).ok(),
        }
    }

    fn texts(drafts: &[Draft]) -> Vec<&str> {
        drafts.iter().filter_map(|draft| draft.content["text"].as_str()).collect()
    }

    #[test]
    fn one_text_is_shown_as_it_is() {
        let drafts = drafts(&[said(1, 100, "buyer", "Ещё <b>продаёте</b>?")], None, &TimeZone::UTC);
        assert_eq!(
            drafts,
            [Draft { kind: "text", content: json!({"text": "Ещё <b>продаёте</b>?"}), message_ids: vec![1] }]
        );
    }

    #[test]
    fn texts_that_wait_together_are_one_post_with_their_times() {
        let waiting = [said(1, 60, "buyer", "Раз"), said(2, 120, "buyer", "Два")];
        assert_eq!(texts(&drafts(&waiting, None, &TimeZone::UTC)), ["00:01 Раз\n\n00:02 Два"]);
    }

    #[test]
    fn an_answer_from_the_app_stands_between_what_came_before_and_after() {
        let waiting = [said(1, 60, "buyer", "Раз"), said(2, 120, "avito_app", "Да"), said(3, 180, "buyer", "Два")];
        let drafts = drafts(&waiting, None, &TimeZone::UTC);
        assert_eq!(texts(&drafts), ["Раз", "Вы ответили в Avito:\nДа", "Два"]);
        assert_eq!(drafts[1].kind, "mirror");
    }

    #[test]
    fn an_auto_reply_is_shown_as_such_and_never_as_late() {
        let auto_reply = Waiting { created: None, ..said(2, 0, "auto_reply", "Ответим утром") };
        let drafts =
            drafts(&[said(1, 60, "buyer", "Раз"), auto_reply], Timestamp::from_second(30).ok(), &TimeZone::UTC);
        assert_eq!(texts(&drafts), ["Раз", "🤖 Автоответчик:\nОтветим утром"]);
        assert_eq!(drafts[1].kind, "mirror");
    }

    #[test]
    fn an_older_message_found_later_says_so() {
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
    fn a_heading_moves_the_structure_along_and_adds_nothing_else() {
        assert_eq!(headed(json!({"text": "Да"}), "Стол · Я"), json!({"text": "Avito · Стол · Я\nДа", "headed": true}));
        let linked = headed(json!({"text": "Да", "entities": [{"type": "text_link", "offset": 1, "length": 1}]}), "😀");
        assert_eq!(linked["entities"], json!([{"type": "text_link", "offset": 12, "length": 1}]));
        assert_eq!(headed(json!({"caption": "a"}), "Я"), json!({"caption": "a"}));
    }

    proptest! {
        #[test]
        fn every_message_is_shown_once_and_every_post_fits(lengths in prop::collection::vec(1usize..9000, 1..12)) {
            let waiting: Vec<_> =
                (0_i64..).zip(&lengths).map(|(id, length)| said(id, id, "buyer", &"я".repeat(*length))).collect();
            let drafts = drafts(&waiting, None, &TimeZone::UTC);
            let ids: Vec<_> = drafts.iter().flat_map(|draft| draft.message_ids.clone()).collect();
            prop_assert_eq!(ids, waiting.iter().map(|message| message.id).collect::<Vec<_>>());
            prop_assert!(texts(&drafts).iter().all(|text| utf16_len(text) <= POST_LIMIT));
            let shown: usize = texts(&drafts).iter().map(|text| text.matches('я').count()).sum();
            prop_assert_eq!(shown, lengths.iter().sum::<usize>());
        }
    }
}
