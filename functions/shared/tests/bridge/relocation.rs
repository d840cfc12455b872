//! Dialogs that follow their account or bot, batch by batch, also when the work breaks off between two of them.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    bridge::{
        api::relocation::{self, RELOCATION_BATCH, Relocated},
        ingest::{
            incoming::{IncomingBatch, IncomingMessage},
            record::record,
        },
    },
    platform::db::{Scope, Statement},
    tenancy::{accounts, bots},
};

use crate::support::{World, must, shop::Shop};

/// More than two batches.
const DIALOGS: i64 = 2 * RELOCATION_BATCH + 50;

impl Shop {
    /// Stores dialogs of the account with topics in its bot's group.
    async fn has_dialogs(&self) {
        let dialogs = "WITH made AS (
                INSERT INTO dialogs (client_id, avito_account_id, bot_id, avito_chat_id, topic_state, telegram_chat_id,
                                     telegram_topic_id, confirmed_at)
                SELECT a.client_id, a.avito_account_id, a.bot_id, format('c%s_%s', $1::bigint, n), 'open', b.group_chat_id, n, now()
                FROM tenancy_accounts a JOIN tenancy_bots b USING (bot_id) CROSS JOIN generate_series(1, $2::bigint) AS n
                WHERE a.avito_account_id = $1
                RETURNING id, client_id, bot_id, telegram_chat_id, telegram_topic_id
            )
            INSERT INTO dialog_topics (client_id, bot_id, telegram_chat_id, telegram_topic_id, dialog_id)
            SELECT client_id, bot_id, telegram_chat_id, telegram_topic_id, id FROM made";
        self.query(Statement::new(dialogs).bind(self.account_id).bind(DIALOGS)).await;
    }

    async fn query(&self, statement: Statement) -> Vec<tokio_postgres::Row> {
        self.world.query(Scope::Tenant(self.owner.client), statement).await
    }

    /// Counts the dialogs of the account that its bot shows, and those that have a topic in the bot's group or none.
    async fn followed(&self) -> (i64, i64) {
        let count = "SELECT count(*) FILTER (WHERE d.bot_id = a.bot_id),
                            count(*) FILTER (WHERE coalesce(d.telegram_chat_id = b.group_chat_id, true))
                     FROM dialogs d JOIN tenancy_accounts a USING (avito_account_id) JOIN tenancy_bots b ON b.bot_id = a.bot_id
                     WHERE d.avito_account_id = $1 AND d.avito_chat_id LIKE 'c%'";
        let rows = self.query(Statement::new(count).bind(self.account_id)).await;
        (rows[0].get(0), rows[0].get(1))
    }

    /// Has the sweep look after the shop's relocations now; returns how many there are afterwards.
    async fn relocations_after_a_sweep(&self) -> i64 {
        self.query(Statement::new("UPDATE relocations SET due_at = now() - interval '1 hour'")).await;
        must(relocation::finish_relocations(self.world.app).await);
        self.query(Statement::new("SELECT count(*) FROM relocations")).await[0].get(0)
    }

    /// Gives the account another bot, as the endpoint does before its dialogs follow. Returns the bot's id.
    async fn gets_another_bot(&self) -> i64 {
        let (bot, _) = self.world.bot(&self.owner).await;
        let change = accounts::Change { bot_id: Some(bot.id), ..accounts::Change::default() };
        let around = |meaning| relocation::account_change_statements(self.account_id, meaning);
        let (app, owner) = (self.world.app, &self.owner);
        must(accounts::change(app, owner.client, owner.user_id, self.account_id, change, around).await);
        bot.id
    }

    async fn is_told_by_webhook(&self, chat_id: String) {
        let message = IncomingMessage {
            placeholder: false,
            id: format!("m{}", World::new_id()),
            own: false,
            system: false,
            kind: "text".to_owned(),
            text: Some("Ещё есть?".to_owned()),
            text_key: Some("Ещё есть?".to_owned()),
            attachments: json!({}),
            created: Timestamp::now(),
            position: 0,
        };
        let batch = IncomingBatch {
            account_id: self.account_id,
            user_id: self.outside.user_id,
            chat_id,
            messages: vec![message],
            polled: None,
        };
        self.query(record(self.world.app, &batch)).await;
    }
}

#[tokio::test]
async fn dialogs_follow_their_account_in_batches_and_the_sweep_goes_on_with_those_that_were_left() {
    let shop = Shop::new().await;
    shop.has_dialogs().await;
    shop.gets_another_bot().await;
    assert_eq!(shop.followed().await.0, 0);

    let moved =
        must(relocation::move_batch(shop.world.app, shop.owner.client, Relocated::Account(shop.account_id)).await);

    assert_eq!((moved, shop.followed().await.0), (RELOCATION_BATCH, RELOCATION_BATCH));
    assert_eq!(shop.relocations_after_a_sweep().await, 0);
    assert_eq!(shop.followed().await, (DIALOGS, DIALOGS));
    let topics = shop.query(Statement::new("SELECT count(*) FROM dialog_topics")).await;
    assert_eq!(topics[0].get::<_, i64>(0), 0, "answers in topics of the former bot are no answers");
}

#[tokio::test]
async fn a_dialog_of_which_avito_reports_something_before_its_batch_follows_with_it() {
    let shop = Shop::new().await;
    shop.has_dialogs().await;
    let bot_id = shop.gets_another_bot().await;

    let chat_id = format!("c{}_{DIALOGS}", shop.account_id);
    shop.is_told_by_webhook(chat_id.clone()).await;

    let read = Statement::new(
        "SELECT d.bot_id, d.topic_state, m.bot_id, (SELECT count(*) FROM dialog_topics t WHERE t.dialog_id = d.id)
         FROM dialogs d JOIN messages m ON m.dialog_id = d.id WHERE d.avito_chat_id = $1",
    );
    let rows = shop.query(read.bind(chat_id)).await;
    let row: (i64, String, i64, i64) = (rows[0].get(0), rows[0].get(1), rows[0].get(2), rows[0].get(3));
    assert_eq!((row.0, row.2, row.3), (bot_id, bot_id, 0));
    assert_ne!(row.1, "open", "the topic of another bot is not ours to write in");
    assert_eq!(shop.followed().await.0, 1);
}

#[tokio::test]
async fn dialogs_follow_their_bot_to_another_group_in_batches_that_can_be_repeated() {
    let shop = Shop::new().await;
    shop.has_dialogs().await;
    let bot_id: i64 = shop.query(Statement::new("SELECT bot_id FROM tenancy_bots")).await[0].get(0);
    let group = json!({
        "chat_id": -1_000_000_000_000 - World::new_id() % 1_000_000_000_000, "title": "Новая", "is_forum": true,
        "bot_token": shop.bot.token.expose(),
    });
    shop.world.control("telegram/chats", &group).await;
    let change = bots::Change { token: None, group_chat_id: group["chat_id"].as_i64(), topic_mode: None };
    let around = |moves: bool| {
        assert!(moves);
        relocation::group_change_statements(bot_id)
    };
    let (app, owner) = (shop.world.app, &shop.owner);
    must(bots::change(app, owner.client, owner.user_id, bot_id, change, around).await);
    assert_eq!(shop.followed().await.1, 0);

    let moved = must(relocation::move_batch(app, owner.client, Relocated::Bot(bot_id)).await);

    assert_eq!((moved, shop.followed().await.1), (RELOCATION_BATCH, RELOCATION_BATCH));
    let is_over = relocation::move_all(app, owner.client, Relocated::Bot(bot_id), Instant::now()).await;
    assert!(!must(is_over), "its time is over before it begins");
    assert_eq!(shop.relocations_after_a_sweep().await, 0);
    assert_eq!(shop.followed().await.1, DIALOGS);
    assert_eq!(must(relocation::move_batch(app, owner.client, Relocated::Bot(bot_id)).await), 0);
    let topics = shop.query(Statement::new("SELECT count(*) FROM dialog_topics")).await;
    assert_eq!(topics[0].get::<_, i64>(0), DIALOGS, "answers in topics of the former group still count");
}
