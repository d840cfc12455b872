use super::*;
use crate::avito::{Kind, is_tariff_placeholder};
use serde_json::json;

fn read(body: &str) -> Option<Notification> {
    Notification::read(body.as_bytes()).expect("JSON")
}

fn of(kind: &str, content: &Value) -> Notification {
    let value = json!({"id": "9f0c", "chat_id": "u2i-AbC", "user_id": 1, "author_id": 2, "created": 1_754_916_284,
        "type": kind, "chat_type": "u2i", "content": content, "item_id": 3, "published_at": "2025-08-11T12:44:44Z"});
    let body = json!({"id": "0b7d", "version": "v3.0.0", "timestamp": 1_754_916_287, "payload": {"type": "message", "value": value}});
    Notification::from_value(body).expect("readable").expect("a message")
}

const SEEN: [&str; 4] = [
    r#"{"id":"64bff4ff-1111-4222-8333-444455556666","version":"v3.0.0","timestamp":1693831255,"payload":{"type":"message","value":{"id":"da47387aa97e86b10fdd513942620000","chat_id":"u2i-xNG6BsZqGy6XaZaW0oZv00","user_id":353200001,"author_id":121180001,"created":1693831255,"type":"text","chat_type":"u2i","content":{"text":"Здравствуйте, в наличии?"},"item_id":3363700001}}}"#,
    r#"{"id":"e7fe3e32-1111-4222-8333-444455556666","version":"v3.0.0","timestamp":1707486142,"payload":{"type":"message","value":{"id":"5c1e","chat_id":"u2i-eaK3A2JW1iRBkCS~9UkP00","user_id":370440001,"author_id":237560001,"created":1707486141,"type":"text","chat_type":"u2i","content":{"text":"Добрый день"},"item_id":3749320001}}}"#,
    r#"{"id":"0b7d9c1e-1111-4222-8333-444455556666","version":"v3.0.0","timestamp":1754916287,"payload":{"type":"message","value":{"id":"9f0c","chat_id":"u2i-AbCdEfGhIjKlMnOpQrSt00","user_id":370440001,"author_id":237560002,"created":1754916284,"type":"text","chat_type":"u2i","content":{"text":"…"},"item_id":4490000001,"published_at":"2025-08-11T12:44:44Z"}}}"#,
    r#"{"id":"97d14aac-1111-4222-8333-444455556666","version":"v3.0.0","timestamp":1694000000,"payload":{"type":"message","value":{"id":"1a2b","chat_id":"u2i-TOYzRVLyb9Hw_l7u2aBT00","user_id":353200001,"author_id":121180002,"created":1693999999,"type":"text","chat_type":"u2i","content":{"text":"…"},"item_id":3363700002}}}"#,
];

#[test]
fn every_delivery_seen_in_the_wild_is_read() {
    for body in SEEN {
        let seen = read(body).expect("a message");
        assert_eq!(seen.message.kind, Kind::Text);
        assert!(!seen.message.is_system() && !seen.message.is_own(seen.user_id));
    }
    let first = read(SEEN[0]).expect("a message");
    assert_eq!((first.user_id, first.item_id), (353_200_001, Some(3_363_700_001)));
    assert_eq!(first.delivery_id.as_deref(), Some("64bff4ff-1111-4222-8333-444455556666"));
    assert_eq!(first.message.content.text.as_deref(), Some("Здравствуйте, в наличии?"));
}

#[test]
fn json_that_reports_no_message_is_none_and_anything_else_an_error() {
    let others = [
        "{}",
        "[]",
        "null",
        "7",
        r#"{"payload":null}"#,
        r#"{"payload":{"type":"chat_read","value":{"id":"1","chat_id":"u2i-1","user_id":1}}}"#,
    ];
    for body in others {
        assert!(read(body).is_none(), "{body}");
    }
    let nameless = [
        r#"{"payload":{"type":"message"}}"#,
        r#"{"payload":{"type":"message","value":{"id":"1","chat_id":"u2i-1"}}}"#,
        r#"{"payload":{"type":"message","value":{"user_id":1,"chat_id":"u2i-1"}}}"#,
    ];
    for body in ["", "{", "<html>"].into_iter().chain(nameless) {
        assert!(Notification::read(body.as_bytes()).is_err(), "{body}");
    }
}

#[test]
fn the_contents_of_every_kind_are_readable() {
    let image = of("image", &json!({"image": {"sizes": {"640x480": "b", "1280x960": "a", "odd": "c"}}}));
    assert_eq!(image.message.content.image.and_then(|image| image.largest().map(str::to_owned)).as_deref(), Some("a"));
    let voice = of("voice", &json!({"voice": {"voice_id": "59f5"}}));
    assert_eq!(voice.message.content.voice.and_then(|voice| voice.voice_id).as_deref(), Some("59f5"));
    let call = of("call", &json!({"call": {"status": "missed", "target_user_id": 1}}));
    assert_eq!(call.message.content.call.and_then(|call| call.target_user_id), Some(1));
    let item = of("item", &json!({"item": {"title": "Диван", "price_string": "3\u{a0}873 ₽", "item_url": "u"}}));
    assert_eq!(item.message.content.item.and_then(|item| item.title).as_deref(), Some("Диван"));
    let link = of("link", &json!({"link": {"text": "t", "url": "u", "preview": {}}}));
    assert_eq!(link.message.content.link.and_then(|link| link.url).as_deref(), Some("u"));
    let location = of("location", &json!({"location": {"kind": "house", "lat": 55.5, "lon": 37, "title": "дом"}}));
    assert_eq!(location.message.content.location.and_then(|location| location.lon), Some(37.0));
    let file = of("file", &json!({"file": {"name": "a.pdf"}}));
    assert_eq!(file.message.content.file.and_then(|file| file.name).as_deref(), Some("a.pdf"));
    for kind in ["deleted", "file", "video", "appCall", "hologram"] {
        assert_eq!(of(kind, &json!({})).message.kind.as_str(), kind);
    }
    assert_eq!(of("hologram", &json!({})).message.kind, Kind::Other("hologram".into()));
}

#[test]
fn an_odd_field_costs_only_itself() {
    for content in [json!(null), json!([]), json!({"image": "x", "text": null}), json!({"link": {"preview": 7}})] {
        assert_eq!(of("text", &content).message.content.text, None);
    }
    let texts = json!({"payload": {"type": "message", "value": {"id": "1", "chat_id": "u2u-1", "user_id": "1",
        "author_id": "2", "created": null, "type": 5, "content": {"text": "да"}, "item_id": null}}, "timestamp": 1_754_916_287});
    let read = Notification::from_value(texts).expect("readable").expect("a message");
    assert_eq!((read.user_id, read.message.author_id, read.message.created), (1, Some(2), Some(1_754_916_287)));
    assert_eq!(read.message.content.text.as_deref(), Some("да"));
}

#[test]
fn any_single_sign_is_enough_for_a_system_message() {
    assert!(of("system", &json!({"text": "x"})).message.is_system());
    assert!(of("text", &json!({"text": "x", "flow_id": "two_way_chats"})).message.is_system());
    assert!(of("text", &json!({"text": "[Системное сообщение] x"})).message.is_system());
    for author in [0, 1] {
        let mut message = of("text", &json!({"text": "x"})).message;
        message.author_id = Some(author);
        assert!(message.is_system());
    }
    assert!(!of("text", &json!({"text": "x", "flow_id": ""})).message.is_system());
}

#[test]
fn the_request_to_buy_a_tariff_is_distinguished_from_what_people_write() {
    assert!(is_tariff_placeholder("Чтобы видеть сообщения, Перейдите на подписку\u{a0}с доступом к API."));
    for written in ["А есть подписка с доступом в зал?", "Вы продаёте подписку с доступом к API?", ""]
    {
        assert!(!is_tariff_placeholder(written), "{written}");
    }
}

#[test]
fn a_printed_notification_does_not_show_its_text() {
    assert!(!format!("{:?}", of("text", &json!({"text": "секрет"}))).contains("секрет"));
}
