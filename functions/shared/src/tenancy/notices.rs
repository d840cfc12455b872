//! What owners have to know although they look at nothing of ours: that a bot or an Avito account cannot work. A notice is
//! a row of the transaction in which that became known, so it is neither lost nor told twice.

use tokio_postgres::Row;

use crate::platform::db::{ClientId, DbError, Statement, get};

/// What is taken up at once; the next round goes on.
const NOTICE_BATCH: i64 = 50;

/// A notice to tell.
pub struct Notice {
    /// The row.
    pub id: i64,
    /// Whose owners are to know.
    pub client_id: ClientId,
    /// What they are to know.
    pub text: String,
}

impl Notice {
    /// Reads a row of [`claim_notices`].
    pub fn read(row: &Row) -> Result<Self, DbError> {
        Ok(Self { id: get(row, "id")?, client_id: ClientId(get(row, "client_id")?), text: get(row, "text")? })
    }
}

/// Takes the notices that are due. Whoever dies with them leaves them to a later round, later each time.
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

/// Notes that the owners know.
pub fn mark_notices_sent(ids: Vec<i64>) -> Statement {
    Statement::new("UPDATE owner_notices SET sent_at = now() WHERE id = ANY($1) AND sent_at IS NULL").bind(ids)
}

/// What owners are told of a bot that cannot work: its name and the reason.
pub(super) const BOT_BROKEN: &str = "⚠️ Бот @%s не может работать в своей группе. Сообщения покупателей не пропали: они придут, как только бот снова будет администратором группы с правами на темы, удаление и закрепление.\nПричина: %s";

/// What owners are told of an account that Avito refuses: its name and the reason.
pub(super) const ACCOUNT_REFUSED: &str = "⚠️ Avito не пускает аккаунт «%s»: новые сообщения не видны, ответы ждут. Проверьте ключи и тариф в кабинете Avito.\nПричина: %s";
