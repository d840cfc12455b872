//! The search for dialogs: in names, titles and texts, in any case, and only among those of one's own organisation.

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    bridge::{
        api::history::{Filter, dialogs},
        ingest::{
            incoming::{IncomingBatch, IncomingMessage, PolledChat},
            record::record,
        },
    },
    platform::{
        db::{Scope, Statement},
        page::Ranked,
    },
};

use crate::support::{World, must, shop::Shop};

impl Shop {
    /// Stores a dialog in which the buyer wrote this. Returns its id.
    async fn has_dialog(&self, buyer: &str, title: &str, text: &str) -> i64 {
        let chat_id = format!("c{}", World::new_id());
        let message = IncomingMessage {
            placeholder: false,
            id: format!("m{}", World::new_id()),
            own: false,
            system: false,
            kind: "text".to_owned(),
            text: Some(text.to_owned()),
            text_key: Some(text.to_owned()),
            attachments: json!({}),
            created: Timestamp::now(),
            position: 0,
        };
        let batch = IncomingBatch {
            account_id: self.account_id,
            user_id: self.outside.user_id,
            chat_id: chat_id.clone(),
            messages: vec![message],
            polled: Some(PolledChat { buyer: json!({ "name": buyer }), item: json!({ "title": title }) }),
        };
        self.stored(record(self.world.app, &batch)).await;
        let id = Statement::new("SELECT id FROM dialogs WHERE avito_chat_id = $1").bind(chat_id);
        self.stored(id).await[0].get(0)
    }

    async fn stored(&self, statement: Statement) -> Vec<tokio_postgres::Row> {
        self.world.query(Scope::Tenant(self.owner.client), statement).await
    }

    async fn found(&self, search: &str) -> Vec<i64> {
        let filter = Filter { search: Some(search.to_owned()), ..Filter::default() };
        let page = must(dialogs(self.world.app, self.owner.client, filter, Ranked { limit: 100, after: None }).await);
        let mut ids: Vec<i64> = page.items.iter().map(|dialog| dialog.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[tokio::test]
async fn a_search_finds_names_titles_and_texts_in_any_case_and_nothing_of_others() {
    let (shop, other) = tokio::join!(Shop::new(), Shop::new());
    let first = shop.has_dialog("Алёна", "Письменный стол", "Скидка 50%_\\ будет?").await;
    let second = shop.has_dialog("Борис", "Велосипед", "😀😀😀 ещё продаёте?").await;
    other.has_dialog("Алена", "Стол", "Скидка 50%_\\ будет?").await;

    assert_eq!(shop.found("аленА").await, [first]);
    assert_eq!(shop.found("ЕЩЕ ПРОД").await, [second]);
    assert_eq!(shop.found("стол").await, [first]);
    assert_eq!(shop.found("50%_\\").await, [first]);
    assert_eq!(shop.found("%_\\").await, [first], "the index knows no such text");
    assert_eq!(shop.found("😀😀😀").await, [second]);
    assert_eq!(shop.found("%%%").await, [0_i64; 0]);
    assert_eq!(shop.found("нет такого").await, [0_i64; 0]);
}

#[tokio::test]
async fn a_text_is_found_as_it_is_now_and_not_after_it_is_gone() {
    let shop = Shop::new().await;
    let dialog = shop.has_dialog("Алёна", "Стол", "Ещё есть?").await;
    shop.stored(Statement::new("UPDATE messages SET text = 'Заберу сегодня'")).await;
    shop.stored(Statement::new("UPDATE dialogs SET buyer = '{\"name\": \"Вера\"}'")).await;

    assert_eq!(shop.found("ещё есть").await, [0_i64; 0]);
    assert_eq!(shop.found("Алёна").await, [0_i64; 0]);
    assert_eq!(shop.found("сегодня").await, [dialog]);
    assert_eq!(shop.found("вера").await, [dialog]);
    shop.stored(Statement::new("DELETE FROM messages")).await;
    assert_eq!(shop.found("сегодня").await, [0_i64; 0]);
}
