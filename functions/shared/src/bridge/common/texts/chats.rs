//! The texts about chats of which a poll could not read all.

use super::Language;

/// The notice that a chat could not be read, behind the newest message, which Avito's list of chats shows.
pub fn chat_not_read(language: Language) -> &'static str {
    language.choose(
        "⚠️ Здесь только последнее сообщение: остальное прочитать не удалось — откройте чат в Avito.",
        "⚠️ This is the last message only: the rest could not be read — open the chat in Avito.",
    )
}

/// The notice that a chat has more new messages than Avito serves.
pub fn messages_skipped(language: Language) -> &'static str {
    language.choose(
        "⚠️ Показаны не все сообщения: более старые прочитать не удалось — откройте чат в Avito.",
        "⚠️ Not all messages are shown: older ones could not be read — open the chat in Avito.",
    )
}
