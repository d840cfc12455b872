use super::*;
use proptest::prelude::*;
use serde_json::json;

fn in_topic(more: &Value) -> Value {
    let mut message = json!({
        "message_id": 57, "message_thread_id": 12, "is_topic_message": true, "date": 1_767_225_600,
        "from": {"id": 987_654_321, "is_bot": false, "first_name": "Иван", "username": "ivan_test", "language_code": "ru"},
        "chat": {"id": -1_001_234_567_890_i64, "title": "Продажи", "type": "supergroup", "is_forum": true},
        "reply_to_message": {"message_id": 12, "forum_topic_created": {"name": "Диван · Анна", "icon_color": 7_322_096}},
    });
    for (field, value) in more.as_object().expect("an object") {
        message[field] = value.clone();
    }
    json!({"update_id": 5_000_000_000_i64, "message": message})
}

fn message(update: &Value) -> Message {
    Update::from_value(update).message().cloned().expect("a message")
}

#[test]
fn an_operators_answer_is_read_with_its_topic_and_writer() {
    let body = in_topic(&json!({"text": "Да, <b> продаю"})).to_string();
    let update = Update::read(body.as_bytes()).expect("JSON");
    let read = update.message().expect("a message");
    assert_eq!((update.id, read.message_id, read.thread_id), (Some(5_000_000_000), 57, Some(12)));
    assert_eq!((read.chat.id, read.chat.kind.as_str(), read.chat.is_forum), (-1_001_234_567_890, "supergroup", true));
    assert_eq!(read.from.as_ref().map(|from| (from.id, from.is_bot)), Some((987_654_321, false)));
    assert_eq!((read.text(), read.answers()), (Some("Да, <b> продаю"), None));
}

#[test]
fn only_another_message_than_the_topics_first_is_answered() {
    let read = message(&in_topic(&json!({"text": "да", "reply_to_message": {"message_id": 40}})));
    assert_eq!((read.answers(), read.reply_to), (Some(40), Some(40)));
}

#[test]
fn the_thread_of_a_reply_outside_topics_does_not_count() {
    let read = message(&in_topic(&json!({"text": "да", "is_topic_message": false})));
    assert_eq!((read.thread_id, read.answers()), (None, Some(12)));
}

#[test]
fn media_are_distinguished_even_if_they_come_twice() {
    let content = |fields: Value| message(&in_topic(&fields)).content;
    let media = |fields: Value| match content(fields) {
        Content::Media { media, .. } => media.as_str(),
        _ => "",
    };
    assert_eq!(media(json!({"photo": [{"file_id": "a"}], "caption": "вот"})), "photo");
    assert_eq!(media(json!({"animation": {}, "document": {}})), "animation");
    assert_eq!(media(json!({"venue": {}, "location": {}})), "venue");
    assert_eq!(media(json!({"dice": {"emoji": "🎲", "value": 3}})), "dice");
    for word in ["voice", "video", "document", "sticker", "contact", "location", "audio"] {
        assert_eq!(media(json!({word: {}})), word);
    }
    let captioned = message(&in_topic(&json!({"photo": [], "caption": "вот"})));
    assert_eq!(captioned.text(), Some("вот"));
    assert!(content(json!({"hologram": {}})) == Content::Unknown);
}

#[test]
fn service_messages_are_distinguished_from_answers() {
    let content = |fields: Value| message(&in_topic(&fields)).content;
    let created = content(json!({"forum_topic_created": {"name": "Стол · Анна", "icon_color": 1}}));
    assert!(created == Content::Service(Service::TopicCreated { name: "Стол · Анна".into() }));
    assert!(content(json!({"forum_topic_closed": {}})) == Content::Service(Service::TopicClosed));
    assert!(content(json!({"forum_topic_edited": {"name": "x"}})) == Content::Service(Service::TopicEdited));
    assert!(content(json!({"migrate_to_chat_id": -100_500})) == Content::Service(Service::MigratedTo(-100_500)));
    assert!(content(json!({"migrate_from_chat_id": -5})) == Content::Service(Service::MigratedFrom(-5)));
    assert!(content(json!({"pinned_message": {}})) == Content::Service(Service::Other("pinned_message")));
}

#[test]
fn an_anonymous_administrator_is_recognised_by_the_groups_id() {
    let read =
        message(&in_topic(&json!({"text": "да", "from": {"id": 1_087_968_824, "is_bot": true, "first_name": "Group"},
        "sender_chat": {"id": -1_001_234_567_890_i64, "type": "supergroup"}})));
    assert!(read.is_by_anonymous_admin() && read.from.is_some_and(|from| from.is_bot));
}

#[test]
fn the_bots_own_rights_are_read() {
    let update = Update::from_value(&json!({"update_id": 7, "my_chat_member": {"date": 1_767_225_600,
        "chat": {"id": -1001, "title": "Продажи", "type": "supergroup", "is_forum": true},
        "from": {"id": 5, "is_bot": false, "first_name": "Иван"},
        "old_chat_member": {"user": {"id": 1}, "status": "left"},
        "new_chat_member": {"user": {"id": 1}, "status": "administrator", "can_manage_topics": true, "can_sing": true}}}));
    let Kind::MyChatMember(member) = update.kind else { panic!("a membership") };
    assert_eq!((member.status.as_str(), member.status_before.as_deref()), ("administrator", Some("left")));
    assert!(member.can_manage_topics && !member.can_pin_messages && member.chat.is_forum);
    assert_eq!(member.by.map(|by| by.id), Some(5));
}

#[test]
fn a_pressed_button_is_read_with_its_message_even_an_old_one() {
    let update = Update::from_value(&json!({"update_id": 8, "callback_query": {"id": "77", "data": "again:5",
        "chat_instance": "1", "from": {"id": 5, "is_bot": false, "first_name": "Иван"},
        "message": in_topic(&json!({"text": "Не отправлено"}))["message"]}}));
    let Kind::CallbackQuery(press) = update.kind else { panic!("a press") };
    let message = press.message.expect("its message");
    assert_eq!((press.id.as_str(), press.data.as_deref()), ("77", Some("again:5")));
    assert_eq!((message.message_id, message.thread_id, message.text()), (57, Some(12), Some("Не отправлено")));
    let old = Update::from_value(&json!({"update_id": 9, "callback_query": {"id": "78",
        "message": {"chat": {"id": -5, "type": "group"}, "message_id": 3, "date": 0}}}));
    let Kind::CallbackQuery(press) = old.kind else { panic!("a press") };
    assert!(press.data.is_none() && press.message.is_some_and(|message| message.text().is_none()));
}

#[test]
fn unknown_words_and_fields_lose_nothing() {
    let odd = in_topic(&json!({"text": "да", "forward_origin": {"type": "dream"}, "new_field": [1],
        "chat": {"id": -5, "type": "holochat"}, "from": null, "entities": [{"type": "smell"}]}));
    let read = message(&odd);
    assert_eq!((read.chat.kind.as_str(), read.text(), read.is_forwarded), ("holochat", Some("да"), true));
    assert!(read.from.is_none());
    let mut beside = odd;
    beside["a_field_to_come"] = json!({});
    assert_eq!(message(&beside).message_id, 57);
    assert!(Update::from_value(&json!({"update_id": 1, "dream": {}})).kind == Kind::Other("dream".into()));
}

#[test]
fn json_that_is_no_update_is_unknown_and_anything_else_an_error() {
    for body in
        ["{}", "[]", "null", r#"{"update_id":1}"#, r#"{"update_id":1,"message":{}}"#, r#"{"message":{"text":"a"}}"#]
    {
        assert!(Update::read(body.as_bytes()).is_ok_and(|update| update.kind == Kind::Unknown), "{body}");
    }
    assert!(Update::read(b"").is_err() && Update::read(b"<html>").is_err());
}

proptest! {
    #[test]
    fn no_update_is_ever_refused(field in "[a-z_]{1,20}", value in "\\PC{0,20}", number in any::<i64>()) {
        for odd in [json!(value), json!(number), json!([value]), json!({(field.clone()): value}), json!(null)] {
            let update = in_topic(&json!({(field.clone()): odd}));
            prop_assert!(Update::read(update.to_string().as_bytes()).is_ok_and(|update| update.id.is_some()));
        }
    }
}
