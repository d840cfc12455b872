//! Chats that cannot be read: they are noted, what their list shows is recorded, and everything else goes on.

use serde_json::{Value, json};
use tuberry::platform::db::{Scope, Statement};

use crate::support::shop::Shop;

/// The row of a chat that cannot be read.
#[derive(Debug, PartialEq)]
struct Noted {
    attempts: i32,
    wait: Option<i64>,
}

impl Shop {
    /// Has Avito fail to list the messages of a chat, or of all.
    async fn cannot_read(&self, chat: Option<&str>, failure: Value) -> Value {
        let mut fault =
            json!({ "target": "avito", "method": "messages.list", "scope": { "user_id": self.outside.user_id } });
        if let Some(chat) = chat {
            fault["scope"]["chat"] = json!(chat);
        }
        for (name, value) in failure.as_object().into_iter().flatten() {
            fault[name] = value.clone();
        }
        self.world.control("faults", &fault).await["fault_id"].clone()
    }

    async fn lift(&self, fault: &Value) {
        let url = format!("{}/_local/faults/{fault}", crate::support::variable("STACK_CONTROL"));
        let answer = self.world.app.outside().delete(url).send().await;
        assert!(answer.is_ok_and(|answer| answer.status().is_success()));
    }

    async fn noted(&self, chat: &str) -> Option<Noted> {
        let sql = "SELECT attempts, extract(epoch FROM due_at - now())::bigint AS wait FROM chat_polls
                   WHERE avito_account_id = $1 AND avito_chat_id = $2 AND failed_since IS NOT NULL";
        let statement = Statement::new(sql).bind(self.account_id).bind(chat.to_owned());
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement).await;
        rows.first().map(|row| Noted { attempts: row.get("attempts"), wait: row.get("wait") })
    }

    async fn chats_are_due(&self) {
        self.change("UPDATE chat_polls SET due_at = now() WHERE avito_account_id = $1 AND due_at IS NOT NULL").await;
    }

    /// Counts the notices in topics that contain this.
    pub(super) async fn notices_in_topics(&self, text: &str) -> i64 {
        let sql = "SELECT count(*) FROM posts WHERE kind = 'notice' AND strpos(content ->> 'text', $1) > 0";
        let statement = Statement::new(sql).bind(text.to_owned());
        self.world.query(Scope::Tenant(self.owner.client), statement).await[0].get(0)
    }

    async fn status(&self) -> String {
        let sql = "SELECT status FROM tenancy_accounts WHERE avito_account_id = $1";
        let rows = self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
        rows[0].get("status")
    }

    async fn account_attempts(&self) -> Option<i64> {
        self.polls("SELECT attempts::bigint FROM account_polls WHERE avito_account_id = $1").await
    }
}

const NOT_READ: &str = "остальное прочитать не удалось — откройте чат в Avito";

/// One chat fails as `failure` says; the older one is read in the same poll.
async fn one_chat_fails(failure: Value) {
    let shop = Shop::polled().await;
    let (x, y) = (shop.another_chat().await, shop.another_chat().await);
    let fault = shop.cannot_read(Some(&x), failure.clone()).await;
    let ago = |seconds: i64| jiff::Timestamp::now().as_second() + 2 - seconds;
    shop.change("UPDATE account_polls SET started_at = now() - interval '1 hour' WHERE avito_account_id = $1").await;
    shop.message(json!({ "chat": y, "from": "buyer", "text": "Y", "created": ago(60) })).await;
    shop.message(json!({ "chat": x, "from": "buyer", "text": "X первое", "created": ago(50) })).await;
    shop.message(json!({ "chat": x, "from": "buyer", "text": "X последнее", "created": ago(40) })).await;

    shop.poll_when_due().await;

    assert_eq!(shop.recorded().await, ["Y", "X последнее"], "{failure}");
    assert_eq!((shop.status().await.as_str(), shop.notices().await), ("active", 0), "{failure}");
    assert_eq!(shop.notices_in_topics(NOT_READ).await, 1);
    let noted = shop.noted(&x).await.unwrap_or_else(|| panic!("{failure}: it is not noted"));
    assert!(noted.attempts == 1 && noted.wait.is_some_and(|wait| (45..=73).contains(&wait)), "{noted:?}");
    assert_eq!(shop.account_attempts().await, Some(0), "one chat is not the account");

    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.message_calls(since).await, 0, "its wait is not over");
    shop.chats_are_due().await;
    shop.poll_when_due().await;
    let noted = shop.noted(&x).await.unwrap_or_else(|| panic!("{failure}: it is not noted"));
    assert!(noted.attempts == 2 && noted.wait.is_some_and(|wait| (93..=145).contains(&wait)), "{noted:?}");
    assert_eq!(shop.notices_in_topics(NOT_READ).await, 1, "once");

    shop.lift(&fault).await;
    shop.chats_are_due().await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await, ["Y", "X первое", "X последнее"]);
    assert_eq!(shop.noted(&x).await, None);
}

#[tokio::test]
async fn a_chat_that_avito_refuses_or_fails_for_does_not_keep_others_from_being_read() {
    let body = json!({ "error": { "code": 0, "message": "нет" } });
    for status in [403, 404, 400, 402, 500] {
        one_chat_fails(json!({ "kind": "status", "status": status, "body": body })).await;
    }
    one_chat_fails(json!({ "kind": "reset_before" })).await;
}

#[tokio::test]
async fn a_chat_whose_messages_hang_does_not_keep_others_from_being_read() {
    let shop = Shop::polled().await;
    let (x, y) = (shop.another_chat().await, shop.another_chat().await);
    shop.cannot_read(Some(&x), json!({ "kind": "latency", "latency_ms": 30_000 })).await;
    shop.writes(&y, "Y", false).await;
    shop.message(json!({ "chat": x, "from": "buyer", "text": "X", "created": jiff::Timestamp::now().as_second() + 1 }))
        .await;

    shop.poll_when_due().await;

    let mut recorded = shop.recorded().await;
    recorded.sort_unstable();
    assert_eq!(recorded, ["X", "Y"]);
    assert!(shop.noted(&x).await.is_some());
}

#[tokio::test]
async fn a_chat_that_avito_lists_and_otherwise_denies_is_shown_as_far_as_the_list_goes() {
    let shop = Shop::polled().await;
    let (x, y) = (shop.another_chat().await, shop.another_chat().await);
    shop.writes(&y, "Y", false).await;
    shop.message(json!({ "chat": x, "from": "buyer", "text": "X", "created": jiff::Timestamp::now().as_second() + 1 }))
        .await;
    shop.world.control("avito/chats/state", &json!({ "chat": x, "state": "hidden" })).await;
    shop.poll_when_due().await;
    let mut recorded = shop.recorded().await;
    recorded.sort_unstable();
    assert_eq!(recorded, ["X", "Y"]);
    assert_eq!((shop.status().await.as_str(), shop.notices_in_topics(NOT_READ).await), ("active", 1));
}

#[tokio::test]
async fn after_a_week_a_chat_is_tried_again_only_when_it_changes() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    let fault = shop.cannot_read(Some(&chat), json!({ "kind": "status", "status": 404 })).await;
    shop.writes(&chat, "Раз", false).await;
    shop.poll_when_due().await;
    let week =
        "UPDATE chat_polls SET failed_since = now() - interval '8 days', due_at = now() WHERE avito_account_id = $1";
    shop.change(week).await;
    shop.poll_when_due().await;
    assert_eq!(shop.noted(&chat).await.map(|noted| noted.wait), Some(None));
    let since = shop.calls_so_far().await;
    shop.poll_when_due().await;
    assert_eq!(shop.message_calls(since).await, 0);

    shop.lift(&fault).await;
    shop.message(
        json!({ "chat": chat, "from": "buyer", "text": "Два", "created": jiff::Timestamp::now().as_second() + 1 }),
    )
    .await;
    shop.poll_when_due().await;
    assert_eq!(shop.recorded().await, ["Раз", "Два"]);
    assert_eq!(shop.noted(&chat).await, None);
}

#[tokio::test]
async fn if_avito_answers_for_no_chat_the_poll_ends_after_three_and_the_next_comes_later_each_time() {
    let shop = Shop::polled().await;
    for number in 0..8 {
        let chat = shop.another_chat().await;
        shop.writes(&chat, &format!("{number}"), false).await;
    }
    let fault = shop.cannot_read(None, json!({ "kind": "status", "status": 500 })).await;
    for attempt in 1..=2 {
        let since = shop.calls_so_far().await;
        shop.poll_when_due().await;
        assert_eq!((shop.message_calls(since).await, shop.account_attempts().await), (3, Some(attempt)));
    }
    shop.lift(&fault).await;
    shop.chats_are_due().await;
    shop.poll_when_due().await;
    assert_eq!((shop.recorded().await.len(), shop.account_attempts().await), (8, Some(0)));
}

#[tokio::test]
async fn an_account_whose_chats_are_all_refused_stays_active() {
    let shop = Shop::polled().await;
    for number in 0..12 {
        let chat = shop.another_chat().await;
        shop.writes(&chat, &format!("{number}"), false).await;
    }
    shop.cannot_read(None, json!({ "kind": "status", "status": 403 })).await;
    shop.poll_when_due().await;
    assert_eq!((shop.status().await.as_str(), shop.account_attempts().await), ("active", Some(1)));
    assert_eq!((shop.recorded().await.len(), shop.notices().await), (10, 0));
}

#[tokio::test]
async fn a_provisional_message_of_a_chat_that_cannot_be_read_is_confirmed_when_it_can_and_others_at_once() {
    let shop = Shop::polled().await;
    let (x, y) = (shop.another_chat().await, shop.another_chat().await);
    shop.poll_when_due().await;
    for (chat, text) in [(&x, "X"), (&y, "Y")] {
        shop.message(json!({ "chat": chat, "from": "buyer", "text": text, "webhook": true })).await;
    }
    shop.recorded_are(2).await;
    shop.change("UPDATE messages SET created_at = created_at - interval '2 minutes' WHERE avito_account_id = $1").await;
    // Only the check of provisional messages reads them: the list is as the last poll saw it.
    let fault = shop.cannot_read(Some(&x), json!({ "kind": "status", "status": 403 })).await;
    shop.poll_when_due().await;
    let sql = "SELECT count(*) FROM messages WHERE avito_account_id = $1 AND confirmed_at IS NOT NULL AND text = 'Y'";
    assert_eq!(shop.count(sql).await, 1);
    assert_eq!(shop.status().await, "active");
    shop.lift(&fault).await;
}

#[tokio::test]
async fn a_deleted_message_is_found_at_once_where_the_list_shows_it_and_else_with_the_next_change() {
    let shop = Shop::polled().await;
    let chat = shop.chat().await;
    let write = async |text: &str| {
        let message = json!({ "chat": chat, "from": "buyer", "text": text });
        shop.message(message).await["message_id"].clone()
    };
    let (first, last) = (write("Первое").await, write("Последнее").await);
    shop.poll_when_due().await;
    let delete = async |id: &Value| {
        shop.message(json!({ "chat": chat, "from": "buyer", "message_id": id, "type": "deleted" })).await;
    };
    let deleted = async || {
        shop.count("SELECT count(*) FROM messages WHERE avito_account_id = $1 AND deleted_at IS NOT NULL").await
    };

    delete(&last).await;
    shop.poll_when_due().await;
    assert_eq!(deleted().await, 1);
    delete(&first).await;
    shop.poll_when_due().await;
    assert_eq!(deleted().await, 1, "the list is as it was");
    write("Ещё").await;
    shop.poll_when_due().await;
    assert_eq!(deleted().await, 2);
}

#[tokio::test]
async fn the_owner_of_an_account_that_was_not_read_for_two_hours_is_notified_once_if_others_are_read() {
    let (shop, other) = (Shop::polled().await, Shop::polled().await);
    let unavailable = json!({ "target": "avito", "method": "chats.list", "kind": "status", "status": 503,
                               "scope": { "user_id": shop.outside.user_id } });
    shop.world.control("faults", &unavailable).await;
    shop.poll_when_due().await;
    let before = shop.seconds_to_next_poll().await;
    assert_eq!(shop.notices().await, 0);
    shop.change("UPDATE account_polls SET failed_since = now() - interval '3 hours' WHERE avito_account_id = $1").await;
    other.poll_when_due().await;
    shop.poll_when_due().await;
    shop.poll_when_due().await;
    assert_eq!(shop.notices().await, 1);
    assert!(before > 0 && shop.account_attempts().await == Some(3));
}
