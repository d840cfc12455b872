//! Posts and topics whose calls to Telegram go on failing.

use std::time::Duration;

use serde_json::{Value, json};
use tuberry::{bridge::api::reply::ReplyError, platform::db::Statement};

use crate::scene::Scene;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Scene {
    /// Makes a method of the Bot API fail in the shop's group, for ever. Returns the fault's id.
    async fn telegram_fails(&self, method: Option<&str>, kind: &str, more: Value) -> u64 {
        let mut fault = json!({ "target": "telegram", "kind": kind, "scope": { "chat_id": self.shop.bot.chat_id } });
        if let Some(method) = method {
            fault["method"] = json!(method);
        }
        for (name, value) in more.as_object().into_iter().flatten() {
            fault[name] = value.clone();
        }
        self.fault(fault).await
    }

    async fn count(&self, sql: &'static str) -> i64 {
        self.query(Statement::new(sql)).await[0].get(0)
    }

    async fn failed_posts(&self) -> i64 {
        self.count("SELECT count(*) FROM posts WHERE state = 'failed'").await
    }

    /// Writes as buyers whom the scene already knows, and has the poll see it.
    async fn buyers_write(&mut self, chats: &[String], text: &str) {
        for chat in chats {
            self.buyer_writes(chat, text).await;
        }
        self.poll().await;
    }
}

fn refusal(description: &str) -> Value {
    json!({ "status": 400, "body": { "ok": false, "error_code": 400, "description": description } })
}

async fn with_buyers(number: usize) -> (Scene, Vec<String>) {
    let mut scene = Scene::new().await;
    let mut chats = Vec::new();
    for index in 0..number {
        chats.push(scene.buyer_writes_first(&format!("Покупатель {index}"), "Здравствуйте").await);
    }
    scene.poll().await;
    scene.run_for(10 * MINUTE).await;
    scene.forget_calls();
    (scene, chats)
}

#[tokio::test]
async fn an_outage_of_telegram_ends_nothing_costs_few_calls_and_all_arrives_after_it() {
    let (mut scene, chats) = with_buyers(10).await;
    let began = scene.clock();
    let fault = scene.telegram_fails(None, "status", json!({ "status": 500 })).await;
    scene.buyers_write(&chats, "Вы тут?").await;
    scene.run_for(6 * MINUTE).await;

    assert_eq!(scene.failed_posts().await, 0);
    assert!(scene.most_in_a_minute("telegram") <= 20, "{} calls in a minute", scene.most_in_a_minute("telegram"));
    scene.lift(fault).await;
    scene.forget_calls();
    scene.run_for(2 * MINUTE).await;
    let arrived = scene.posted().iter().filter(|text| text.contains("Вы тут?")).count();
    assert_eq!(arrived, 10, "{:?}", scene.posted());

    scene.forget_calls();
    let fault = scene.telegram_fails(None, "status", json!({ "status": 500 })).await;
    scene.buyers_write(&chats, "Ау").await;
    scene.run_for(5 * HOUR).await;
    let first_hour = scene.calls_between("telegram", began, began + 4600.0);
    assert!(first_hour <= 60, "{first_hour} calls in the first hour");
    assert_eq!(scene.failed_posts().await, 0);
    scene.lift(fault).await;
    scene.run_for(HOUR).await;
    assert!(scene.posted().iter().filter(|text| text.contains("Ау")).count() >= 10);
    scene.end().await;
}

#[tokio::test]
async fn a_topic_that_telegram_refuses_ends_in_general_and_an_old_buyers_words_do_not_wait() {
    let (mut scene, old) = with_buyers(1).await;
    scene.telegram_fails(Some("createForumTopic"), "status", refusal("Bad Request: title must be non-empty")).await;
    let began = scene.clock();
    for index in 0..5 {
        scene.buyer_writes_first(&format!("Новый {index}"), "Есть в наличии?").await;
    }
    scene.buyers_write(&old, "Я решил").await;
    scene.run_for(Duration::from_secs(10)).await;
    assert!(scene.posted().iter().any(|text| text.contains("Я решил")), "{:?}", scene.posted());

    scene.run_for(15 * MINUTE).await;
    let names: Vec<_> = scene.calls_of("createForumTopic").iter().map(|call| call.params["name"].to_string()).collect();
    assert!(names.iter().any(|name| name.starts_with("\"Покупатель ")), "{names:?}");
    assert!(scene.calls_between("telegram", began, began + 60.0) <= 25);
    let general: Vec<_> =
        scene.calls_of("sendMessage").into_iter().filter(|call| call.params["message_thread_id"].is_null()).collect();
    let shown = general.iter().filter(|call| call.params["text"].to_string().contains("Есть в наличии?")).count();
    assert_eq!(shown, 5, "{general:?}");
    assert!(general.iter().any(|call| call.params["text"].to_string().contains("Тема для чата не создана")));

    let in_first = scene.calls_of("createForumTopic").len();
    scene.run_for(DAY).await;
    let later = scene.calls_of("createForumTopic").len() - in_first;
    assert!(later <= 5 * 4, "a topic is tried again four times a day at the most: {later}");
    scene.end().await;
}

#[tokio::test]
async fn a_text_whose_answers_are_all_lost_stands_there_five_times_at_the_most_and_a_line_says_so() {
    let (mut scene, chats) = with_buyers(1).await;
    scene.telegram_fails(Some("sendMessage"), "reset_after", json!({})).await;
    scene.buyers_write(&chats, "Один раз").await;
    scene.run_for(2 * HOUR).await;
    let posted = scene.posted();
    let copies = posted.iter().filter(|text| text.contains("Один раз")).count();
    assert!((2..=5).contains(&copies), "{posted:?}");
    assert!(posted.iter().any(|text| text.contains("Telegram не подтвердил сообщение покупателя")), "{posted:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_missing_right_for_pictures_touches_no_other_kind_and_the_owner_is_notified_once() {
    let (mut scene, chats) = with_buyers(2).await;
    scene
        .telegram_fails(
            Some("sendPhoto"),
            "status",
            refusal("Bad Request: not enough rights to send photos to the chat"),
        )
        .await;
    for _ in 0..2 {
        let picture = json!({ "chat": chats[0], "from": "buyer", "type": "image", "webhook": false });
        scene.shop.world.control("avito/messages", &picture).await;
        scene.buyers_write(&chats[1..], "А доставка?").await;
        scene.run_for(MINUTE).await;
    }
    assert_eq!(scene.count("SELECT count(*) FROM bots WHERE status = 'error'").await, 0);
    assert!(scene.posted().iter().any(|text| text.contains("А доставка?")));
    assert!(!scene.calls_of("sendDocument").is_empty(), "the next delivery method");
    assert_eq!(scene.count("SELECT count(*) FROM owner_notices").await, 1);
    scene.end().await;
}

#[tokio::test]
async fn a_chat_that_avito_does_not_know_is_asked_for_rarely_and_new_buyers_get_their_topics_at_once() {
    let (mut scene, _) = with_buyers(1).await;
    let forged = format!("u2i-{}", scene.shop.account_id);
    scene.webhook_reports(&forged, "Пишите мне").await;
    scene.run_for(MINUTE).await;
    scene.buyer_writes_first("Новый", "Есть в наличии?").await;
    scene.poll().await;
    scene.run_for(MINUTE).await;
    assert!(scene.posted().iter().any(|text| text.contains("Есть в наличии?")), "{:?}", scene.posted());

    scene.run_for(2 * DAY).await;
    let asked = scene.calls_of("chats.get").iter().filter(|call| call.chat.as_deref() == Some(&*forged)).count();
    assert!((3..=15).contains(&asked), "{asked}");
    scene.end().await;
}

#[tokio::test]
async fn new_chats_that_wait_for_their_topics_are_confirmed_once() {
    let (mut scene, _) = with_buyers(1).await;
    scene.telegram_fails(Some("createForumTopic"), "status", json!({ "status": 500 })).await;
    // Only the worker confirms them: no poll does.
    scene.query(Statement::new("UPDATE account_polls SET next_poll_at = now() + interval '1 day'")).await;
    for index in 0..6 {
        let chat = scene.buyer_writes_first(&format!("Новый {index}"), "Есть в наличии?").await;
        scene.webhook_reports(&chat, "Есть в наличии?").await;
    }
    scene.run_for(8 * MINUTE).await;
    assert!(scene.calls_of("createForumTopic").len() > 3, "topics are tried again");
    assert_eq!(scene.calls_of("chats.get").len(), 6, "one call a chat");
    scene.end().await;
}

#[tokio::test]
async fn chats_that_avito_cannot_be_asked_about_are_shown_as_provisional_after_a_quarter_of_an_hour() {
    let (mut scene, _) = with_buyers(1).await;
    scene.avito_fails("chats.get", None, 500).await;
    for index in 0..20 {
        scene.webhook_reports(&format!("u2i-{index}-{}", scene.shop.account_id), &format!("Вопрос {index}")).await;
    }
    scene.run_for(MINUTE).await;
    assert!(scene.calls_of("chats.get").len() <= 10, "one chat at a time is asked for");
    scene.run_for(40 * MINUTE).await;
    let posted = scene.posted();
    for index in 0..20 {
        assert!(posted.iter().any(|text| text.contains(&format!("Вопрос {index}"))), "{posted:?}");
    }
    assert!(posted.iter().any(|text| text.contains("Не подтверждено Avito")), "{posted:?}");
    assert!(scene.calls_of("chats.get").len() <= 60);
    scene.end().await;
}

#[tokio::test]
async fn new_chats_that_waited_are_shown_once_avito_confirms_another_one() {
    let (mut scene, _) = with_buyers(1).await;
    let fault = scene.avito_fails("chats.get", None, 500).await;
    // Only the worker confirms them: no poll does.
    scene.query(Statement::new("UPDATE account_polls SET next_poll_at = now() + interval '1 day'")).await;
    for index in 0..6 {
        let chat = scene.buyer_writes_first(&format!("Новый {index}"), "Есть в наличии?").await;
        scene.webhook_reports(&chat, &format!("Вопрос {index}")).await;
    }
    scene.run_for(6 * MINUTE).await;
    scene.lift(fault).await;

    let chat = scene.buyer_writes_first("Седьмой", "Добрый день").await;
    scene.webhook_reports(&chat, "Добрый день").await;
    scene.run_for(2 * MINUTE).await;

    let posted = scene.posted();
    // The first one is asked for at its own time.
    for index in 1..6 {
        assert!(posted.iter().any(|text| text.contains(&format!("Вопрос {index}"))), "{posted:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_notice_in_a_topic_that_is_gone_is_dropped_at_the_first_refusal() {
    let (mut scene, _) = with_buyers(1).await;
    let notice = "INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id)
                  SELECT client_id, id, 'notice', '{\"text\": \"эта тема\"}', group_chat_id, 999999 FROM bots RETURNING id";
    scene.query(Statement::new(notice)).await;
    scene.query(Statement::new("UPDATE bot_outboxes SET due_at = now()")).await;
    scene.run_for(HOUR).await;
    assert_eq!(scene.posted().iter().filter(|text| text.contains("эта тема")).count(), 1);
    scene.end().await;
}

#[tokio::test]
async fn a_dialog_that_our_own_sql_refuses_is_set_aside_and_the_others_go_on() {
    let (mut scene, chats) = with_buyers(2).await;
    let dialog_id = scene.dialog_of(&chats[0]).await;
    scene
        .as_owner(&format!(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON posts FOR EACH ROW WHEN (NEW.dialog_id = {dialog_id} AND NEW.kind = 'text')
             EXECUTE FUNCTION refuse()"
        ))
        .await;
    scene.buyers_write(&chats, "Вы тут?").await;
    scene.run_for(HOUR).await;
    assert_eq!(scene.posted().iter().filter(|text| text.contains("Вы тут?")).count(), 1);
    assert_eq!(scene.count("SELECT count(*) FROM messages WHERE status = 'failed'").await, 0);

    scene.run_for(DAY).await;
    assert!(scene.posted().iter().any(|text| text.contains("не удалось показать")), "{:?}", scene.posted());
    scene.as_owner("DROP TRIGGER refuse ON posts").await;
    scene.buyers_write(&chats[..1], "Ещё раз").await;
    scene.run_for(HOUR).await;
    assert!(scene.posted().iter().any(|text| text.contains("Ещё раз")));
    scene.end().await;
}

#[tokio::test]
async fn neither_a_reply_nor_an_auto_reply_goes_before_avito_has_confirmed_the_chat() {
    let scene = Scene::new().await;
    let forged = format!("u2i-{}", scene.shop.account_id);
    scene.webhook_reports(&forged, "Пишите мне").await;
    let refused = scene.try_answer(&forged, "Здравствуйте").await;
    assert!(matches!(refused, Err(ReplyError::Unconfirmed)), "{refused:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_topic_that_is_closed_for_ever_costs_few_calls_and_keeps_nobody_else_waiting() {
    let (mut scene, chats) = with_buyers(2).await;
    let sql = "SELECT telegram_topic_id FROM dialogs WHERE avito_chat_id = $1";
    let thread: i64 = scene.query(Statement::new(sql).bind(chats[0].clone())).await[0].get(0);
    let scope = json!({ "scope": { "chat_id": scene.shop.bot.chat_id, "thread_id": thread } });
    scene.telegram_fails(Some("sendMessage"), "topic_closed", scope).await;
    let began = scene.clock();

    scene.buyers_write(&chats[..1], "Я первый").await;
    scene.buyers_write(&chats[1..], "Я второй").await;
    scene.run_for(Duration::from_secs(30)).await;

    assert!(scene.posted().iter().any(|text| text.contains("Я второй")), "{:?}", scene.posted());
    scene.run_for(20 * MINUTE).await;
    let calls = scene.calls_between("telegram", began, began + 60.0);
    assert!(calls <= 20, "{calls} calls in the first minute");
    let general = scene.calls_of("sendMessage").into_iter().filter(|call| call.params["message_thread_id"].is_null());
    let shown = general.filter(|call| call.params["text"].to_string().contains("Я первый")).count();
    assert_eq!(shown, 1, "the words are in General");
    scene.end().await;
}

#[tokio::test]
async fn one_topic_that_fails_keeps_its_own_waits_however_often_others_go_through() {
    let (mut scene, chats) = with_buyers(2).await;
    let sql = "SELECT telegram_topic_id FROM dialogs WHERE avito_chat_id = $1";
    let thread: i64 = scene.query(Statement::new(sql).bind(chats[0].clone())).await[0].get(0);
    let failing = json!({ "status": 500, "scope": { "chat_id": scene.shop.bot.chat_id, "thread_id": thread } });
    scene.telegram_fails(Some("sendMessage"), "status", failing).await;
    scene.buyers_write(&chats[..1], "Я первый").await;
    scene.settle().await;
    scene.forget_calls();

    for second in 0..12 {
        scene.buyers_write(&chats[1..], &format!("Я второй, {second}")).await;
        scene.run_for(Duration::from_secs(5)).await;
    }

    let tried =
        scene.calls_of("sendMessage").iter().filter(|call| call.params["text"].to_string().contains("первый")).count();
    assert!((1..=6).contains(&tried), "{tried} tries in a minute");
    assert_eq!(scene.failed_posts().await, 0);
    scene.end().await;
}

#[tokio::test]
async fn a_bot_that_was_thrown_out_is_tried_rarely_however_many_messages_come() {
    let (mut scene, chats) = with_buyers(1).await;
    let kicked = json!({ "status": 403, "body": { "ok": false, "error_code": 403, "description":
                         "Forbidden: bot was kicked from the supergroup chat" } });
    let fault = scene.telegram_fails(None, "status", kicked).await;
    let began = scene.clock();
    for number in 0..18 {
        scene.buyers_write(&chats, &format!("Слово {number}")).await;
        scene.run_for(Duration::from_secs(1)).await;
    }
    scene.run_for(30 * MINUTE).await;
    assert!(scene.calls_between("telegram", began, began + 60.0) <= 3, "{:?}", scene.calls_of("sendMessage").len());
    assert!(scene.calls_between("telegram", began, began + 3600.0) <= 12);

    // A stranger's chat says nothing of the bot's own group.
    let stranger = json!({ "id": 77, "type": "private", "first_name": "Чужой" });
    let before = scene.calls_of("sendMessage").len();
    scene.telegram_reports_membership(stranger, "member").await;
    scene.run_for(Duration::from_secs(5)).await;
    assert_eq!(scene.calls_of("sendMessage").len(), before);

    scene.lift(fault).await;
    let own = json!({ "id": scene.shop.bot.chat_id, "type": "supergroup", "title": "Продажи", "is_forum": true });
    scene.telegram_reports_membership(own, "administrator").await;
    scene.run_for(3 * MINUTE).await;
    assert!(scene.posted().iter().any(|text| text.contains("Слово 17")), "{:?}", scene.posted().last());
    scene.end().await;
}

#[tokio::test]
async fn a_bot_whose_stored_token_does_not_open_rests_and_its_owner_is_notified() {
    let (mut scene, chats) = with_buyers(1).await;
    scene.query(Statement::new("UPDATE bots SET token = decode('00', 'hex')")).await;
    scene.buyers_write(&chats, "Вы тут?").await;
    scene.run_for(HOUR).await;

    assert!(scene.calls_of("sendMessage").is_empty());
    let notices = "SELECT count(*) FROM owner_notices WHERE text LIKE '%токен не читается%'";
    assert_eq!(scene.count(notices).await, 1);
    scene.end().await;
}
