//! A shop: an owner with a bot in a forum and with an Avito account, all of which belong to one test. Each domain adds
//! the steps of its own tests.

use serde_json::json;
use tokio::sync::OnceCell;
use tuberry::platform::db::{Scope, Statement};

use super::{OutsideAccount, OutsideBot, Owner, World};

/// A seller as one test sees it.
pub struct Shop {
    /// The stack.
    pub world: World,
    /// The person.
    pub owner: Owner,
    /// The bot, as Telegram has it.
    pub bot: OutsideBot,
    /// The account's id.
    pub account_id: i64,
    /// The account, as Avito has it.
    pub outside: OutsideAccount,
    chat: OnceCell<String>,
}

impl Shop {
    /// A new shop in the running stack.
    pub async fn new() -> Self {
        Self::of(World::new()).await
    }

    /// A new shop in this world.
    pub async fn of(world: World) -> Self {
        let owner = world.owner().await;
        let (bot_row, bot) = world.bot(&owner).await;
        let (account, outside) = world.account(&owner, bot_row.id).await;
        Self { world, owner, bot, account_id: account.id, outside, chat: OnceCell::new() }
    }

    /// The same shop, seen by another application.
    pub fn in_world(self, world: World) -> Self {
        Self { world, ..self }
    }

    /// Returns the id of the only chat in Avito, which the first call opens.
    pub async fn chat(&self) -> String {
        let open = async || {
            let item = json!({
                "id": World::new_id(), "title": "Стол", "price_string": "12 000 ₽", "url": "https://www.avito.ru/1",
                "city": "Москва",
            });
            let chat = json!({ "user_id": self.outside.user_id, "buyer": { "name": "Анна" }, "item": item });
            self.world.control("avito/chats", &chat).await["chat_id"].as_str().unwrap_or_default().to_owned()
        };
        self.chat.get_or_init(open).await.clone()
    }

    /// Changes rows of this account; `$1` is its id.
    pub async fn change(&self, sql: &'static str) {
        self.world.query(Scope::Tenant(self.owner.client), Statement::new(sql).bind(self.account_id)).await;
    }
}
