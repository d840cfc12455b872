//! Notices to owners, who would not see it otherwise: a bot or an Avito account cannot work. A notice is stored in the
//! transaction in which that became known, so it is neither lost nor stored twice.

use tokio_postgres::Row;

use crate::platform::db::{ClientId, DbError, Statement, get};

/// The most notices that one round claims. The next round goes on.
const NOTICE_BATCH: i64 = 50;

/// A notice that is due.
pub struct Notice {
    /// The row's id.
    pub id: i64,
    /// The client whose owners are to be notified.
    pub client_id: ClientId,
    /// The text that they get.
    pub text: String,
}

impl Notice {
    /// Reads a row of [`claim_notices`].
    pub fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self { id: get(row, "id")?, client_id: ClientId(get(row, "client_id")?), text: get(row, "text")? })
    }
}

/// Claims the notices that are due. If the worker dies, a later round claims them again; the delay doubles each time.
pub fn claim_notices() -> Statement {
    Statement::new(
        "UPDATE owner_notices n
         SET attempts = attempts + 1, due_at = now() + interval '1 minute' * power(2, least(attempts, 8))
         WHERE id IN (SELECT id FROM owner_notices WHERE sent_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT $1)
           AND sent_at IS NULL AND due_at <= now()
         RETURNING id, client_id, text",
    )
    .bind(NOTICE_BATCH)
}

/// Notes that the owners were notified.
pub fn mark_notices_sent(ids: Vec<i64>) -> Statement {
    Statement::new("UPDATE owner_notices SET sent_at = now() WHERE id = ANY($1) AND sent_at IS NULL").bind(ids)
}

/// The text for owners of a bot that cannot work, with its name and the reason.
pub(super) const BOT_BROKEN: &str = "⚠️ Бот @%s не может работать в своей группе. Сообщения покупателей не пропали: они придут, как только бот снова будет администратором группы с правами на темы, удаление и закрепление.\nПричина: %s";

/// The text for owners of a bot that lacks a right for one thing, with its name and Telegram's words.
pub(super) const RIGHT_MISSING: &str = "⚠️ Боту @%s не хватает права в своей группе, поэтому часть сообщений показана иначе или в General. Дайте ему права администратора: темы, закрепление, удаление и все виды сообщений.\nTelegram: %s";

/// The text for owners of an account that Avito refuses, with its name and the reason.
pub(super) const ACCOUNT_REFUSED: &str = "⚠️ Avito не пускает аккаунт «%s»: новые сообщения не видны, ответы ждут. Проверьте ключи и тариф в кабинете Avito.\nПричина: %s";
