//! The posts that messages become.

use super::*;
use crate::bridge::common::post_kind::PostKind;
use MessageOrigin::{Api, AutoReply, AvitoApp, Buyer};
use proptest::prelude::*;

fn said(id: i64, seconds: i64, origin: MessageOrigin, text: &str) -> PendingMessage {
    PendingMessage {
        id,
        origin,
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
    PendingMessage { kind: kind.to_owned(), text: None, attachments, ..said(id, id, Buyer, "") }
}

fn picture(id: i64) -> PendingMessage {
    let sizes = json!({"32x32": "https://avito.st/s.jpg", "1280x960": format!("https://avito.st/{id}.jpg")});
    sent(id, "image", json!({"image": {"sizes": sizes}}))
}

/// Lists the parts of a text that stand in entities.
fn ours(content: &Value, field: &str) -> Vec<String> {
    let units: Vec<u16> = content[field].as_str().unwrap_or_default().encode_utf16().collect();
    let entities = content[if field == "text" { "entities" } else { "caption_entities" }].as_array();
    let place =
        |entity: &Value, name: &str| usize::try_from(entity[name].as_u64().unwrap_or_default()).unwrap_or_default();
    let part = |entity: &Value| {
        let start = place(entity, "offset");
        String::from_utf16_lossy(&units[start..start + place(entity, "length")])
    };
    entities.into_iter().flatten().map(part).collect()
}

fn texts(drafts: &[PostDraft]) -> Vec<&str> {
    drafts.iter().filter_map(|draft| draft.content["text"].as_str()).collect()
}

#[test]
fn a_single_text_is_posted_unchanged() {
    let drafts = drafts(&[said(1, 100, Buyer, "Ещё <b>продаёте</b>?")], None, &TimeZone::UTC);
    assert_eq!(
        drafts,
        [PostDraft {
            kind: PostKind::Text, content: json!({"text": "Ещё <b>продаёте</b>?"}), message_ids: vec![1]
        }]
    );
}

#[test]
fn texts_that_wait_together_are_one_post_with_their_times() {
    let waiting = [said(1, 60, Buyer, "Раз"), said(2, 120, Buyer, "Два")];
    let drafts = drafts(&waiting, None, &TimeZone::UTC);
    assert_eq!(texts(&drafts), ["00:01 Раз\n\n00:02 Два"]);
    assert_eq!(ours(&drafts[0].content, "text"), ["00:01", "00:02"]);
}

#[test]
fn an_answer_from_avitos_app_is_posted_between_the_messages_before_and_after_it() {
    let waiting = [said(1, 60, Buyer, "Раз"), said(2, 120, AvitoApp, "Да"), said(3, 180, Buyer, "Два")];
    let drafts = drafts(&waiting, None, &TimeZone::UTC);
    assert_eq!(texts(&drafts), ["Раз", "Вы ответили в Avito:\nДа", "Два"]);
    assert_eq!(drafts[1].kind, PostKind::Mirror);
    assert_eq!(ours(&drafts[1].content, "text"), ["Вы ответили в Avito:"]);
}

#[test]
fn an_auto_reply_is_posted_under_its_heading_and_never_as_late() {
    let auto_reply = PendingMessage { created: None, ..said(2, 0, AutoReply, "Ответим утром") };
    let drafts = drafts(&[said(1, 60, Buyer, "Раз"), auto_reply], Timestamp::from_second(30).ok(), &TimeZone::UTC);
    assert_eq!(texts(&drafts), ["Раз", "🤖 Автоответчик:\nОтветим утром"]);
    assert_eq!(drafts[1].kind, PostKind::Mirror);
}

#[test]
fn an_answer_by_the_api_is_a_post_of_its_own_under_its_writers_name_in_one_line() {
    let by = |author: Option<&str>| PendingMessage {
        created: None,
        author: author.map(str::to_owned),
        ..said(2, 0, Api, "Да\nПриезжайте")
    };
    let drafts = drafts(&[said(1, 60, Buyer, "Раз"), by(Some("Ольга\nПетровна")), by(None)], None, &TimeZone::UTC);
    let expected = ["Раз", "✍️ Ольга Петровна — из кабинета:\nДа\nПриезжайте", "✍️ Ответ из кабинета:\nДа\nПриезжайте"];
    assert_eq!(texts(&drafts), expected);
    assert_eq!(drafts[1].kind, PostKind::Mirror);
}

#[test]
fn consecutive_pictures_are_albums_of_ten_in_their_order_and_a_text_stands_between() {
    let mut waiting: Vec<_> = (1..=11).map(picture).collect();
    waiting.push(said(12, 12, Buyer, "Вот"));
    waiting.push(picture(13));
    let drafts = drafts(&waiting, None, &TimeZone::UTC);
    let kinds: Vec<_> = drafts.iter().map(|draft| (draft.kind, draft.message_ids.len())).collect();
    assert_eq!(kinds, [(PostKind::Album, 10), (PostKind::Photo, 1), (PostKind::Text, 1), (PostKind::Photo, 1)]);
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
    assert_eq!(
        drafts.iter().map(|draft| draft.kind).collect::<Vec<_>>(),
        [PostKind::Voice, PostKind::Venue, PostKind::Text]
    );
    assert_eq!(drafts[0].content["voice_id"], "v-1");
    assert_eq!(drafts[1].content["title"], "Москва, Тверская 1");
    assert_eq!(drafts[2].content["text"], "📍 Москва");
    assert!(drafts[0].content["fallback_text"].as_str().is_some_and(|line| line.contains("Голосовое")));
}

#[test]
fn a_quote_is_a_reply_if_the_topic_has_its_message_and_else_a_line() {
    let quote = json!({"quote": {"id": "q", "kind": "text", "text": "Сколько стоит?"}});
    let known = PendingMessage { attachments: quote.clone(), reply_to: Some(40), ..said(1, 1, Buyer, "А это") };
    let unknown = PendingMessage { attachments: quote, ..said(2, 2, Buyer, "А то") };
    let drafts = drafts(&[known, unknown], None, &TimeZone::UTC);
    assert_eq!(drafts[0].content, json!({"text": "А это", "reply_to": 40}));
    assert_eq!(drafts[1].content["text"], "В ответ на «Сколько стоит?»\nА то");
    assert_eq!(ours(&drafts[1].content, "text"), ["В ответ на"]);
}

#[test]
fn a_late_picture_and_one_from_avitos_app_say_so_in_their_captions() {
    let late = picture(1);
    let own = PendingMessage { origin: AvitoApp, ..picture(20) };
    let drafts = drafts(&[late, own], Timestamp::from_second(10).ok(), &TimeZone::UTC);
    assert_eq!(drafts.iter().map(|draft| draft.kind).collect::<Vec<_>>(), [PostKind::Photo, PostKind::Photo]);
    assert_eq!(drafts[0].content["caption"], "00:00, пришло с опозданием");
    assert_eq!(ours(&drafts[0].content, "caption"), ["00:00, пришло с опозданием"]);
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
    let drafts = drafts(&[said(1, 60, Buyer, "Раз")], Timestamp::from_second(61).ok(), &TimeZone::UTC);
    assert_eq!(texts(&drafts), ["00:01, пришло с опозданием\nРаз"]);
}

#[test]
fn a_topic_is_named_from_item_and_buyer_within_the_limit() {
    let (buyer, item) = (json!({"name": "Анна"}), json!({"title": "Стол\nдубовый"}));
    assert_eq!(topic_name(Some(&buyer), Some(&item)), "Стол дубовый · Анна");
    assert_eq!(topic_name(None, None), "Покупатель");
    let long = json!({"title": "стол ".repeat(60), "name": "Анна ".repeat(60)});
    assert!(utf16_len(&topic_name(Some(&long), Some(&long))) <= NAME_LIMIT);
    let blank = json!({"name": "\u{3164}", "title": "\u{200b}"});
    assert_eq!(topic_name(Some(&blank), Some(&blank)), "Покупатель");
    assert_eq!(topic_name(Some(&json!({"name": "А\u{202e}Б"})), Some(&blank)), "АБ");
}

#[test]
fn a_text_that_asks_for_a_tariff_is_posted_with_a_line_under_it() {
    let asks = said(1, 1, Buyer, "Чтобы прочитать, перейдите на подписку с\u{a0}доступом к API");
    let drafts = drafts(&[asks], None, &TimeZone::UTC);
    assert!(texts(&drafts)[0].starts_with("Чтобы прочитать, перейдите"));
    assert!(ours(&drafts[0].content, "text")[0].starts_with("⚠️ Возможно, это не слова покупателя"));
}

#[test]
fn words_of_avito_are_quoted_and_a_line_of_ours_is_bold() {
    let system =
        PendingMessage {
            origin: MessageOrigin::System, kind: "system".into(), ..said(1, 1, Buyer, "Чат открыт")
        };
    let drafts = drafts(&[system, sent(2, "deleted", json!({}))], None, &TimeZone::UTC);
    assert_eq!(drafts[0].content["entities"][1]["type"], "blockquote");
    assert_eq!(ours(&drafts[0].content, "text"), ["00:00", "ℹ️ Чат открыт", "00:00", "🗑 Сообщение удалено"]);
}

#[test]
fn a_heading_shifts_the_entities_and_changes_nothing_else() {
    assert_eq!(
        with_heading(PostKind::Text, json!({"text": "Да"}), "Стол · Я"),
        json!({"text": "Avito · Стол · Я\nДа", "has_heading": true,
               "entities": [{"type": "bold", "offset": 0, "length": 16}]})
    );
    let notice = with_heading(PostKind::Notice, json!({"text": "Диалог закрыт."}), "Я");
    assert_eq!(ours(&notice, "text"), ["Avito · Я", "Диалог закрыт."]);
    let linked = with_heading(
        PostKind::Text,
        json!({"text": "Да", "entities": [{"type": "text_link", "offset": 1, "length": 1}]}),
        "😀",
    );
    assert_eq!(linked["entities"][1], json!({"type": "text_link", "offset": 12, "length": 1}));
    assert_eq!(with_heading(PostKind::Photo, json!({"caption": "a"}), "Я")["caption"], "Avito · Я\na");
    assert_eq!(with_heading(PostKind::Photo, json!({}), "Я")["caption"], "Avito · Я");
    assert_eq!(with_heading(PostKind::Venue, json!({}), "Я"), json!({}));
}

proptest! {
    #[test]
    fn every_message_is_posted_once_and_every_post_fits(lengths in prop::collection::vec(1usize..9000, 1..12)) {
        let waiting: Vec<_> =
            (0_i64..).zip(&lengths).map(|(id, length)| said(id, id, Buyer, &"я".repeat(*length))).collect();
        let drafts = drafts(&waiting, None, &TimeZone::UTC);
        let ids: Vec<_> = drafts.iter().flat_map(|draft| draft.message_ids.clone()).collect();
        prop_assert_eq!(ids, waiting.iter().map(|message| message.id).collect::<Vec<_>>());
        prop_assert!(texts(&drafts).iter().all(|text| utf16_len(text) <= POST_LIMIT));
        let posted: usize = texts(&drafts).iter().map(|text| text.matches('я').count()).sum();
        prop_assert_eq!(posted, lengths.iter().sum::<usize>());
    }

    #[test]
    fn nothing_that_a_buyer_writes_stands_in_an_entity(
        texts in prop::collection::vec("(Вы ответили в Avito:\n|⚠️ |14:05 |[👀я]|\n\n|\\*|<b>|🤖 Автоответчик:\n){1,12}", 1..8),
        late in any::<bool>(), quote in any::<bool>(),
    ) {
        // Each character of the buyer is one that no line of ours has.
        let theirs = |text: &str| text.chars().map(|char| if char.is_whitespace() { char } else { 'ю' }).collect::<String>();
        let waiting: Vec<_> = (0_i64..).zip(&texts).map(|(id, text)| {
            let attachments = if quote { json!({"quote": {"id": "q", "kind": "text", "text": theirs(text)}}) } else { json!({}) };
            PendingMessage { attachments, ..said(id, id * 60, Buyer, &theirs(text)) }
        }).collect();
        let posted_before = late.then(|| Timestamp::from_second(100_000).ok()).flatten();
        for draft in drafts(&waiting, posted_before, &TimeZone::UTC) {
            for content in [draft.content.clone(), with_heading(draft.kind, draft.content, "Стол")] {
                let inside = ours(&content, "text").concat();
                prop_assert!(!inside.contains('ю'), "{}", inside);
                let all = content["text"].as_str().unwrap_or_default().chars().filter(|char| !char.is_whitespace());
                let outside = all.filter(|char| !"ю«»".contains(*char)).count();
                let inside = inside.chars().filter(|char| !char.is_whitespace() && !"«»".contains(*char)).count();
                prop_assert_eq!(outside, inside);
            }
        }
    }
}
