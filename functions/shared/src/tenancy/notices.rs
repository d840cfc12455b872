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

/// Claims the notices that are due. If the worker dies, a later round claims them again. The wait doubles each time, up to four
/// hours; a notice that Telegram did not take for three days is given up, for the health of the bot or account says the same.
pub fn claim_notices() -> Statement {
    Statement::new(
        "WITH due AS (
             SELECT id FROM owner_notices WHERE sent_at IS NULL AND failed_at IS NULL AND due_at <= now() ORDER BY due_at LIMIT $1
         ), ended AS (
             UPDATE owner_notices SET failed_at = now()
             WHERE id IN (SELECT id FROM due) AND created_at < now() - make_interval(secs => $2)
         )
         UPDATE owner_notices n
         SET attempts = attempts + 1, due_at = now() + make_interval(secs => $3) * least(power(2, least(attempts, 20)), $4)
         WHERE id IN (SELECT id FROM due) AND sent_at IS NULL AND due_at <= now()
           AND created_at >= now() - make_interval(secs => $2)
         RETURNING id, client_id, text",
    )
    .bind(NOTICE_BATCH)
    .bind(MAX_AGE)
    .bind(FIRST_WAIT)
    .bind(MAX_WAIT / FIRST_WAIT)
}

/// The first wait of a notice, the longest, and the age at which it is given up, seconds (`Duty::OwnerNotice`).
const FIRST_WAIT: f64 = 60.0;
const MAX_WAIT: f64 = 4.0 * 3600.0;
const MAX_AGE: f64 = 72.0 * 3600.0;

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

/// The text for owners of an account whose messages Avito sends to another product, with its name and the hosts.
pub(super) const WEBHOOK_TAKEN_OVER: &str = "⚠️ Сообщения аккаунта «%s» Avito теперь отправляет не нам, а другому сервису (%s). Покупателей по-прежнему видно, но с задержкой до минуты. Если тот сервис не нужен, отключите его и верните отправку нам в настройках аккаунта. Если нужен, оставьте отправку ему там же.";

/// The text for owners of an account whose webhook fails for a day, with its name and the reason.
pub(super) const WEBHOOK_FAILS: &str = "⚠️ Avito больше суток не принимает наш адрес для сообщений аккаунта «%s»: они приходят с задержкой до минуты. Пробуем дальше.\nПричина: %s";

/// The text for owners of an account that was switched off, with its name and the hosts that we replaced.
pub(super) const WEBHOOK_REPLACED: &str =
    "Аккаунт «%s» больше не отслеживается. До нас сообщения получал %s; подключите его там заново.";

/// The reason of a registration that Avito accepted and forgot.
pub(super) const ADDRESS_NOT_KEPT: &str = "Avito не сохранил наш адрес";

/// The text for owners of an account of which more chats changed than Avito lists, with its name.
pub(super) const CHATS_SKIPPED: &str = "⚠️ У аккаунта Avito «%s» изменилось больше чатов, чем Avito показывает: показаны не все сообщения. Проверьте старые чаты в Avito.";

/// The text for owners of an account that was not read for hours, with its name.
pub(super) const ACCOUNT_NOT_READ: &str = "⚠️ Аккаунт Avito «%s» не удаётся прочитать уже больше двух часов, хотя другие читаются. То, о чём Avito не сообщил сам, пока не видно. Пробуем дальше.";
