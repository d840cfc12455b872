//! A frontend's requests: it reads dialogs, replies by hand, changes bots and accounts.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Value, json};

use super::support::{Answer, SOON, Seller, Topic, database, new_number, numbered, wait_until};

impl Seller {
    /// Returns the address of the messages of the seller's newest dialog.
    async fn newest_dialog(&self) -> String {
        let dialogs = self.get("/api/dialogs").await;
        assert_eq!(dialogs.status, 200, "{dialogs:?}");
        format!("/api/dialogs/{}/messages", dialogs.body["items"][0]["id"].as_i64().expect("a dialog"))
    }

    async fn replies(&self, dialog: &str, key: &str, text: &str) -> Answer {
        let bearer = format!("Bearer {}", self.access_token);
        let headers =
            [("content-type", "application/json"), ("authorization", bearer.as_str()), ("idempotency-key", key)];
        self.stack.call(Method::POST, dialog, &headers, json!({ "text": text }).to_string().into_bytes()).await
    }

    /// Creates a group with this bot as its administrator.
    async fn new_group(&self, bot_token: &str) -> i64 {
        let group = -1_000_000_000_000 - new_number();
        let chat = json!({ "chat_id": group, "title": "Другая", "is_forum": true, "bot_token": bot_token });
        self.stack.control("telegram/chats", &chat).await;
        group
    }

    /// Connects another bot of the organisation; returns its id and its group.
    async fn another_bot(&self) -> (i64, i64) {
        let number = new_number();
        let token = format!("{number}:AA_only_for_tests_{number}");
        self.stack.control("telegram/bots", &json!({ "token": token, "username": format!("shop_{number}_bot") })).await;
        let group = self.new_group(&token).await;
        let bot = self.post("/api/bots", &json!({ "token": token, "group_chat_id": group })).await;
        assert_eq!(bot.status, 201, "{bot:?}");
        (bot.body["id"].as_i64().expect("the bot's id"), group)
    }

    /// Writes a buyer's questions during a change, and the last one after it. Returns the questions in the chat's
    /// former topic and those in the only topic of the other group.
    async fn asked_while(&self, buyer: &str, path: &str, change: Value, group: i64) -> [Vec<String>; 2] {
        let (chat, _) = self.conversation(buyer).await;
        let questions = numbered("Вопрос", 20);
        let (last, others) = questions.split_last().expect("questions");
        let ask = async {
            for question in others {
                self.buyer_writes(&chat, question).await;
            }
        };
        let ((), changed) = tokio::join!(ask, self.patch(path, &change));
        assert_eq!(changed.status, 200, "{changed:?}");
        self.buyer_writes(&chat, last).await;
        let there = self.said_in(group, last).await.said();
        let here = self.topic_of(buyer).await.expect("the former topic").said();
        // The lines of a replay begin with names, so they are left out.
        [here, there].map(|said| said.into_iter().filter(|line| line.starts_with("Вопрос ")).collect())
    }

    /// Waits until the last line of the only topic of a group is this.
    async fn said_in(&self, group: i64, last: &str) -> Topic {
        wait_until(SOON, &format!("«{last}» in the other group"), async || {
            let answer = self.stack.ask(&format!("telegram/topics?chat_id={group}")).await;
            let topics: Vec<Topic> = serde_json::from_value(answer["topics"].clone()).expect("topics");
            let mut topics = topics.into_iter().filter(|topic| topic.thread_id.is_some() && !topic.deleted);
            let topic = topics.next().filter(|_| topics.next().is_none())?;
            (topic.said().last().map(String::as_str) == Some(last)).then_some(topic)
        })
        .await
    }
}

#[tokio::test]
async fn a_hand_made_reply_reaches_the_buyer_once_and_its_topic_with_the_authors_name() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Анна").await;
    let dialog = seller.newest_dialog().await;

    let taken = seller.post(&dialog, &json!({ "text": "Да,\n<b>приезжайте</b>" })).await;

    assert_eq!(taken.status, 201, "{taken:?}");
    assert_eq!((&taken.body["status"], &taken.body["author_name"]), (&json!("sending"), &json!("Ольга")));
    assert_eq!(seller.answered(SOON, &chat, "Да,\n<b>приезжайте</b>").await, ["Да,\n<b>приезжайте</b>"]);
    let topic = seller.said(SOON, "Анна", "<b>приезжайте</b>").await;
    assert_eq!(topic.posts(), ["Здравствуйте", "✍️ Ольга — из кабинета:\nДа,\n<b>приезжайте</b>"]);
    let listed = wait_until(SOON, "the reply is sent", async || {
        let messages = seller.get(&dialog).await.body;
        (messages["items"][0]["status"] == "sent").then_some(messages)
    })
    .await;
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["origin"]), (&taken.body["id"], &json!("api")));
    assert_eq!(
        (&listed["items"][1]["text"], &listed["items"][1]["status"]),
        (&json!("Здравствуйте"), &json!("delivered"))
    );
    let dialogs = seller.get("/api/dialogs?unanswered=false&search=%D0%90%D0%BD%D0%BD%D0%B0").await.body;
    assert_eq!(
        (&dialogs["items"][0]["state"], &dialogs["items"][0]["buyer"]["name"]),
        (&json!("answered"), &json!("Анна"))
    );
}

#[tokio::test]
async fn a_reply_posted_twice_with_one_key_is_sent_once() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Борис").await;
    let dialog = seller.newest_dialog().await;

    let (one, other) = tokio::join!(seller.replies(&dialog, "k1", "Раз"), seller.replies(&dialog, "k1", "Раз"));
    seller.answered(SOON, &chat, "Раз").await;
    let late = seller.replies(&dialog, "k1", "Раз").await;

    assert_eq!((one.status, other.status, late.status), (201, 201, 201), "{one:?} {other:?} {late:?}");
    assert_eq!((&one.body, &one.body), (&other.body, &late.body));
    seller.replies(&dialog, "k2", "Два").await;
    assert_eq!(seller.answered(SOON, &chat, "Два").await, ["Раз", "Два"]);
}

#[tokio::test]
async fn one_key_with_another_text_is_refused() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Вера").await;
    let dialog = seller.newest_dialog().await;
    assert_eq!(seller.replies(&dialog, "k", "Раз").await.status, 201);

    let refused = seller.replies(&dialog, "k", "Два").await;

    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("idempotency_key_reused")));
    seller.replies(&dialog, "k3", "Три").await;
    assert_eq!(seller.answered(SOON, &chat, "Три").await, ["Раз", "Три"]);
}

#[tokio::test]
async fn a_reply_that_says_nothing_or_too_much_is_refused() {
    let seller = Seller::new().await;
    seller.conversation("Галина").await;
    let dialog = seller.newest_dialog().await;
    for text in [String::new(), " \n ".to_owned(), "я".repeat(4097), "\0".to_owned()] {
        assert_eq!(seller.post(&dialog, &json!({ "text": text })).await.status, 422);
    }
    for query in ["search=ab", "limit=0", "cursor=!"] {
        assert_eq!(seller.get(&format!("/api/dialogs?{query}")).await.status, 422, "{query}");
    }
    assert_eq!(seller.get("/api/dialogs?state=lost").await.status, 400);
}

#[tokio::test]
async fn another_tenants_dialog_is_not_there() {
    let seller = Seller::new().await;
    seller.conversation("Дарья").await;
    let dialog = seller.newest_dialog().await;
    let stranger = seller.stack.newcomer().await;

    let read = seller.stack.get(&dialog, Some(&stranger)).await;
    let written = seller.stack.post(&dialog, Some(&stranger), &json!({ "text": "Привет" })).await;

    assert_eq!((read.status, written.status), (404, 404));
    assert_eq!(seller.stack.get("/api/dialogs", Some(&stranger)).await.body["items"], json!([]));
    let bot = format!("/api/bots/{}", seller.bot_id);
    assert_eq!(seller.stack.get(&bot, Some(&stranger)).await.status, 404);
    assert_eq!(seller.stack.post(&format!("{bot}/webhook"), Some(&stranger), &json!({})).await.status, 404);
}

#[tokio::test]
async fn a_reply_in_an_account_that_is_not_monitored_is_refused() {
    let seller = Seller::new().await;
    seller.conversation("Егор").await;
    let dialog = seller.newest_dialog().await;
    let account = format!("/api/avito/accounts/{}", seller.account_id);
    assert_eq!(seller.patch(&account, &json!({ "monitoring_enabled": false })).await.status, 200);

    let refused = seller.post(&dialog, &json!({ "text": "Да" })).await;

    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("account_not_monitored")));
}

#[tokio::test]
async fn a_hand_made_reply_cancels_the_auto_reply() {
    let seller = Seller::new().await;
    let settings = json!({ "auto_reply_enabled": true, "auto_reply_always": true, "auto_reply_text": "Ответим позже" });
    assert_eq!(seller.patch("/api/clients/me", &settings).await.status, 200);
    let chat = seller.chat("Жанна").await;
    seller.buyer_writes(&chat, "Ещё продаёте?").await;
    // However slow this machine is, the answer comes before the auto-reply's time.
    let database = database().await;
    let put_off = "UPDATE dialogs SET auto_reply_scheduled_at = auto_reply_scheduled_at + interval '1 hour'
        WHERE avito_account_id = $1 AND auto_reply_scheduled_at IS NOT NULL";
    wait_until(SOON, "the auto-reply has its time", async || {
        (database.execute(put_off, &[&seller.account_id]).await.expect("the dialog") == 1).then_some(())
    })
    .await;
    let dialog = seller.newest_dialog().await;

    assert_eq!(seller.post(&dialog, &json!({ "text": "Продаю" })).await.status, 201);

    let scheduled = "SELECT auto_reply_scheduled_at FROM dialogs WHERE avito_account_id = $1";
    let scheduled = database.query_one(scheduled, &[&seller.account_id]).await.expect("the dialog");
    assert_eq!(scheduled.get::<_, Option<Timestamp>>(0), None);
    assert_eq!(seller.answered(SOON, &chat, "Продаю").await, ["Продаю"]);
    // There is one auto-reply a day: if it had been sent for the first question, it would stand before.
    seller.buyer_writes(&chat, "Ау?").await;
    assert_eq!(seller.answered(SOON, &chat, "Ответим позже").await, ["Продаю", "Ответим позже"]);
    let last = json!({ "text": "Конец" });
    assert_eq!(seller.post(&dialog, &last).await.status, 201);
    assert_eq!(seller.answered(SOON, &chat, "Конец").await, ["Продаю", "Ответим позже", "Конец"]);
}

#[tokio::test]
async fn a_new_webhook_secret_ends_the_old_one() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Зоя").await;
    let (url, header) = seller.telegram_webhook().await;
    let send = async |url: &str, header: &str| {
        let headers = [("content-type", "application/json"), ("x-telegram-bot-api-secret-token", header)];
        let update = json!({ "update_id": new_number() });
        seller.stack.call(Method::POST, url, &headers, update.to_string().into_bytes()).await.status
    };
    assert_eq!(send(&url, &header).await, 200);

    let set = seller.post(&format!("/api/bots/{}/webhook", seller.bot_id), &json!({})).await;

    assert_eq!(set.status, 200, "{set:?}");
    let (new_url, new_header) = seller.telegram_webhook().await;
    assert_ne!((&url, &header), (&new_url, &new_header));
    assert_eq!((send(&url, &header).await, send(&new_url, &new_header).await), (404, 200));
    seller.operator_writes(thread, "Слышно?").await;
    assert_eq!(seller.answered(SOON, &chat, "Слышно?").await, ["Слышно?"]);
}

#[tokio::test]
async fn a_webhook_that_telegram_refuses_leaves_the_old_one() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Инна").await;
    let webhook = format!("/api/bots/{}/webhook", seller.bot_id);
    let fault = json!({
        "target": "telegram", "method": "setWebhook", "kind": "status", "status": 400, "times": 1,
        "scope": { "token": seller.bot_token },
    });
    seller.stack.fault(fault).await;

    assert_eq!(seller.post(&webhook, &json!({})).await.status, 503);

    seller.operator_writes(thread, "Слышно?").await;
    assert_eq!(seller.answered(SOON, &chat, "Слышно?").await, ["Слышно?"]);
    assert_eq!(seller.post(&webhook, &json!({})).await.status, 200);
}

#[tokio::test]
async fn another_bots_token_is_refused_and_a_stranger_changes_nothing() {
    let (seller, other) = tokio::join!(Seller::new(), Seller::new());
    let bot = format!("/api/bots/{}", seller.bot_id);

    let refused = seller.patch(&bot, &json!({ "token": other.bot_token })).await;

    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("another_bot")), "{refused:?}");
    assert_eq!(other.patch(&bot, &json!({ "topic_mode": false })).await.status, 404);
    assert_eq!(seller.get(&bot).await.body["topic_mode"], true);
}

#[tokio::test]
async fn in_another_group_dialogs_get_new_topics_with_a_replay() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Карина").await;
    let group = seller.new_group(&seller.bot_token).await;

    let moved = seller.patch(&format!("/api/bots/{}", seller.bot_id), &json!({ "group_chat_id": group })).await;

    assert_eq!((moved.status, &moved.body["group_chat_id"]), (200, &json!(group)), "{moved:?}");
    seller.buyer_writes(&chat, "Беру!").await;
    let topic = seller.said_in(group, "Беру!").await;
    assert!(topic.posts()[0].contains("Карина: Здравствуйте"), "{topic:?}");
}

#[tokio::test]
async fn an_account_that_moves_to_another_bot_is_posted_in_that_bots_group() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Лидия").await;
    let (bot_id, group) = seller.another_bot().await;

    let account = format!("/api/avito/accounts/{}", seller.account_id);
    let moved = seller.patch(&account, &json!({ "bot_id": bot_id })).await;

    assert_eq!((moved.status, &moved.body["bot_id"]), (200, &json!(bot_id)), "{moved:?}");
    seller.buyer_writes(&chat, "Беру!").await;
    let topic = seller.said_in(group, "Беру!").await;
    let answer = json!({ "chat_id": group, "thread_id": topic.thread(), "text": "Ждём" });
    seller.stack.control("telegram/messages", &answer).await;
    assert_eq!(seller.answered(SOON, &chat, "Ждём").await, ["Ждём"]);
    assert_eq!(seller.patch(&account, &json!({ "bot_id": 1_i64 << 40 })).await.status, 422);
}

#[tokio::test]
async fn a_message_that_a_moved_accounts_former_bot_finds_is_posted_by_the_new_one_without_waiting_for_the_sweep() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Мила").await;
    let (bot_id, group) = seller.another_bot().await;
    let account = format!("/api/avito/accounts/{}", seller.account_id);
    assert_eq!(seller.patch(&account, &json!({ "bot_id": bot_id })).await.status, 200);
    seller.buyer_writes(&chat, "Беру!").await;
    seller.said_in(group, "Беру!").await;
    // Both are paused while the message is given to the former one, as if it had been received before the move.
    let pause = "UPDATE bot_outboxes SET rate_limited_until = now() + interval '1 hour' WHERE bot_id = ANY($1)";
    let bots = [seller.bot_id, bot_id];
    database().await.execute(pause, &[&bots.as_slice()]).await.expect("the outboxes");
    seller.buyer_writes(&chat, "Сегодня?").await;
    let give_back = "WITH given AS (
            UPDATE messages m SET bot_id = $2 FROM bot_outboxes outbox
            WHERE m.bot_id = $1 AND m.text = 'Сегодня?' AND m.post_id IS NULL AND outbox.bot_id = $1
              AND outbox.lease_owner IS NULL AND outbox.due_at > now() + interval '30 minutes'
            RETURNING m.id
        )
        UPDATE bot_outboxes SET rate_limited_until = NULL, due_at = NULL WHERE bot_id = $1 AND EXISTS (SELECT FROM given)";
    wait_until(SOON, "the new bot was woken and is rate limited", async || {
        let given = database().await.execute(give_back, &[&bot_id, &seller.bot_id]).await.expect("the message");
        (given == 1).then_some(())
    })
    .await;

    seller.resume_posting().await;

    // The sweep would find it too, within a minute.
    let posted = tokio::time::timeout(Duration::from_secs(20), seller.said_in(group, "Сегодня?")).await;
    assert!(posted.is_ok(), "the new bot was not woken");
}

/// Checks that all questions are posted, here or there; in each topic in their order, none twice.
fn assert_whole([here, there]: &[Vec<String>; 2]) {
    let all = numbered("Вопрос", 20);
    let in_order =
        |said: &[String]| said.iter().map(|one| all.iter().position(|other| other == one)).is_sorted_by(|a, b| a < b);
    assert!(in_order(here) && in_order(there), "{here:?} and {there:?}");
    let missing: Vec<_> = all.iter().filter(|question| !here.contains(question) && !there.contains(question)).collect();
    assert!(missing.is_empty(), "{missing:?} of {here:?} and {there:?}");
}

#[tokio::test]
async fn messages_written_while_an_account_moves_are_posted_by_its_former_bot_or_by_the_new_one() {
    let seller = Seller::new().await;
    let (bot_id, group) = seller.another_bot().await;
    let account = format!("/api/avito/accounts/{}", seller.account_id);
    assert_whole(&seller.asked_while("Марина", &account, json!({ "bot_id": bot_id }), group).await);
}

#[tokio::test]
async fn messages_written_while_a_bot_moves_are_posted_in_its_former_group_or_in_the_new_one() {
    let seller = Seller::new().await;
    let group = seller.new_group(&seller.bot_token).await;
    let bot = format!("/api/bots/{}", seller.bot_id);
    assert_whole(&seller.asked_while("Нина", &bot, json!({ "group_chat_id": group }), group).await);
}

#[tokio::test]
async fn new_keys_of_a_refused_account_activate_it_again() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Мария").await;
    let (account, user_id) = (format!("/api/avito/accounts/{}", seller.account_id), seller.user_id);
    let keys =
        |secret: &str| json!({ "client_id": format!("id-{user_id}"), "client_secret": secret, "user_id": user_id });
    seller.stack.control("avito/accounts", &keys("a newer secret")).await;
    let expired = json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": user_id } });
    seller.stack.fault(expired).await;
    seller.operator_writes(thread, "Да").await;
    let status = async || seller.get("/api/avito/accounts").await.body["items"][0]["status"].clone();
    wait_until(SOON, "the account is refused", async || (status().await != "active").then_some(())).await;
    assert_eq!(seller.post(&seller.newest_dialog().await, &json!({ "text": "Да" })).await.status, 409);

    assert_eq!(seller.patch(&account, &json!({ "api_client_secret": "a wrong one" })).await.status, 422);
    let other = Seller::new().await;
    let foreign = json!({
        "api_client_id": format!("id-{}", other.user_id), "api_client_secret": format!("secret-of-{}", other.user_id),
    });
    let refused = seller.patch(&account, &foreign).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("another_account")));
    let changed = seller.patch(&account, &json!({ "api_client_secret": "a newer secret" })).await;

    assert_eq!((changed.status, &changed.body["status"]), (200, &json!("active")), "{changed:?}");
    assert_eq!(changed.body["webhook_error"], Value::Null);
    assert_eq!(seller.answered(SOON, &chat, "Да").await, ["Да"]);
}
