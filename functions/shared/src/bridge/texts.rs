//! Every sentence the bridge says to people, in Russian and English side by side.
//! A group reads Russian; who can be asked by `language_code` is answered in their language.

/// The languages we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Русский.
    Russian,
    /// English.
    English,
}

impl Language {
    /// The language of a Telegram user: English only for those whose client is in English.
    pub fn of_code(code: Option<&str>) -> Self {
        if code.is_some_and(|code| code.starts_with("en")) { Self::English } else { Self::Russian }
    }

    fn choose(self, russian: &'static str, english: &'static str) -> &'static str {
        match self {
            Self::Russian => russian,
            Self::English => english,
        }
    }
}

/// A message of a kind that is shown as a line, by Avito's word for the kind.
pub fn kind_line(kind: &str, language: Language) -> &'static str {
    match kind {
        "image" => language.choose("🖼 Картинка — откройте чат в Avito", "🖼 A picture — open the chat in Avito"),
        "voice" => language
            .choose("🎤 Голосовое сообщение — откройте чат в Avito", "🎤 A voice message — open the chat in Avito"),
        "file" => language.choose("📎 Файл — откройте чат в Avito", "📎 A file — open the chat in Avito"),
        "video" => language.choose("🎬 Видео — откройте чат в Avito", "🎬 A video — open the chat in Avito"),
        "call" | "appCall" => language.choose("📞 Звонок через Avito", "📞 A call through Avito"),
        "deleted" => language.choose("🗑 Сообщение удалено", "🗑 The message was deleted"),
        _ => language.choose(
            "❔ Сообщение, которое бот не умеет показать, — откройте чат в Avito",
            "❔ A message the bot cannot show — open the chat in Avito",
        ),
    }
}

/// Before a place.
pub const PLACE: &str = "📍";
/// Before a link.
pub const LINK: &str = "🔗";
/// Before an advertisement.
pub const ITEM: &str = "🏷";
/// Before what Avito itself wrote.
pub const SYSTEM: &str = "ℹ️";

/// A call that nobody answered.
pub fn missed_call(language: Language) -> &'static str {
    language.choose("📞 Пропущенный звонок через Avito", "📞 A missed call through Avito")
}

/// Before what a message answers.
pub fn in_answer_to(language: Language) -> &'static str {
    language.choose("В ответ на", "In answer to")
}

/// The buyer took a message back that the topic shows.
pub fn deleted_by_writer(language: Language) -> &'static str {
    language.choose("🗑 Сообщение удалено в Avito.", "🗑 The message was deleted in Avito.")
}

/// A webhook told of a message that Avito's list does not hold.
pub fn not_confirmed(language: Language) -> &'static str {
    language.choose(
        "⚠️ Не подтверждено Avito: в списке сообщений этого чата такого сообщения нет.",
        "⚠️ Not confirmed by Avito: its list of this chat's messages holds no such message.",
    )
}

/// Before the text that Avito's list has where a webhook told of another.
pub fn corrected(language: Language) -> &'static str {
    language.choose("⚠️ В Avito это сообщение другое:", "⚠️ In Avito this message is another:")
}

/// Before what the seller wrote in Avito's app.
pub fn mirrored(language: Language) -> &'static str {
    language.choose("Вы ответили в Avito:", "You answered in Avito:")
}

/// Before what somebody answered by the API; `{name}` stands for who.
pub fn answered_by(language: Language) -> &'static str {
    language.choose("✍️ {name} — из кабинета:", "✍️ {name}, from the dashboard:")
}

/// Before what was answered by the API, when its writer has no name.
pub fn answered_by_somebody(language: Language) -> &'static str {
    language.choose("✍️ Ответ из кабинета:", "✍️ An answer from the dashboard:")
}

/// Before what nobody wrote.
pub fn auto_replied(language: Language) -> &'static str {
    language.choose("🤖 Автоответчик:", "🤖 Auto-reply:")
}

/// Behind the time of a message that came after newer ones were shown.
pub fn arrived_late(language: Language) -> &'static str {
    language.choose("пришло с опозданием", "came late")
}

/// The buyer, when Avito gives no name.
pub fn nameless_buyer(language: Language) -> &'static str {
    language.choose("Покупатель", "Buyer")
}

/// The labels of a topic's header.
pub struct HeaderLabels {
    /// Before the buyer's name.
    pub buyer: &'static str,
    /// Before the account's name.
    pub account: &'static str,
}

/// The labels of a topic's header.
pub fn header_labels(language: Language) -> HeaderLabels {
    match language {
        Language::Russian => HeaderLabels { buyer: "Покупатель:", account: "Аккаунт:" },
        Language::English => HeaderLabels { buyer: "Buyer:", account: "Account:" },
    }
}

/// Avito does not take this kind of message, by Telegram's word for the kind.
pub fn not_taken(kind: &str, language: Language) -> &'static str {
    match kind {
        "voice" | "audio" => language.choose(
            "💔 Не отправлено: Avito не принимает голосовые и звук. Напишите, пожалуйста, словами.",
            "💔 Not sent: Avito takes no voice messages and no sound. Please write it in words.",
        ),
        "video" | "video_note" | "animation" => language.choose(
            "💔 Не отправлено: Avito не принимает видео. Отправьте фото или текст.",
            "💔 Not sent: Avito takes no videos. Send a photo or a text.",
        ),
        "document" => language.choose(
            "💔 Не отправлено: из файлов Avito принимает только картинки JPEG, PNG, GIF, BMP и HEIC.",
            "💔 Not sent: of files Avito takes only pictures: JPEG, PNG, GIF, BMP and HEIC.",
        ),
        "sticker" | "dice" => language.choose(
            "💔 Не отправлено: Avito не принимает стикеры. Отправьте фото или текст.",
            "💔 Not sent: Avito takes no stickers. Send a photo or a text.",
        ),
        "contact" => language.choose(
            "💔 Не отправлено: Avito не принимает контакты. Напишите номер текстом.",
            "💔 Not sent: Avito takes no contacts. Write the number as text.",
        ),
        "location" | "venue" => language.choose(
            "💔 Не отправлено: Avito не принимает места на карте. Напишите адрес текстом.",
            "💔 Not sent: Avito takes no places on a map. Write the address as text.",
        ),
        "poll" | "checklist" => language.choose(
            "💔 Не отправлено: Avito не принимает опросы и списки. Напишите текстом.",
            "💔 Not sent: Avito takes no polls and lists. Write it as text.",
        ),
        _ => language.choose(
            "💔 Не отправлено: в Avito уходят только текст и картинки.",
            "💔 Not sent: only text and pictures go to Avito.",
        ),
    }
}

/// A picture that is larger than Telegram hands out to bots.
pub fn too_large(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: файл больше 20 МБ — столько Telegram ботам не отдаёт.",
        "💔 Not sent: the file is larger than 20 MB, and Telegram gives bots no more.",
    )
}

/// A picture that Telegram does not hand out any more.
pub fn not_handed_out(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: Telegram не отдал файл. Отправьте его ещё раз.",
        "💔 Not sent: Telegram did not hand out the file. Send it again.",
    )
}

/// A command that means nothing here.
pub fn unknown_command(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: такой команды нет. Список — /help.",
        "💔 Not sent: there is no such command. See /help.",
    )
}

/// Avito refused an answer; its own words follow.
pub fn refused_by_avito(language: Language) -> &'static str {
    language.choose("💔 Avito не принял сообщение:", "💔 Avito refused the message:")
}

/// A topic that belongs to no chat.
pub fn unowned_topic(language: Language) -> &'static str {
    language.choose(
        "Эта тема не связана с чатом Avito: написанное здесь покупателю не уйдёт.",
        "This topic belongs to no Avito chat: what is written here reaches no buyer.",
    )
}

/// A message that Telegram did not take.
pub fn could_not_post(language: Language) -> &'static str {
    language.choose(
        "⚠️ Сообщение покупателя не удалось показать — откройте чат в Avito.",
        "⚠️ A buyer's message could not be shown — open the chat in Avito.",
    )
}

/// The buttons under an answer that Avito refused.
pub fn retry_and_cancel(language: Language) -> (&'static str, &'static str) {
    (language.choose("Повторить", "Try again"), language.choose("Отменить", "Cancel"))
}

/// The buttons under the question whether to block a buyer.
pub fn block_and_dont_block(language: Language) -> (&'static str, &'static str) {
    (language.choose("Заблокировать", "Block"), language.choose("Отмена", "Cancel"))
}

/// A button that has nothing left to do.
pub fn button_did_nothing(language: Language) -> &'static str {
    language.choose("Уже не нужно", "Nothing left to do")
}

/// After «Повторить».
pub fn sending_again(language: Language) -> &'static str {
    language.choose("Отправляю ещё раз", "Sending again")
}

/// After «Отменить».
pub fn cancelled(language: Language) -> &'static str {
    language.choose("Отменено", "Cancelled")
}

/// After «Заблокировать».
pub fn blocking(language: Language) -> &'static str {
    language.choose("Блокирую", "Blocking")
}

/// After the question whether to block was answered with no.
pub fn not_blocking(language: Language) -> &'static str {
    language.choose("Не заблокирован", "Not blocked")
}

/// What `/block` asks.
pub fn block_whom(language: Language) -> &'static str {
    language.choose(
        "Заблокировать покупателя в Avito? Он больше не сможет писать этому аккаунту.",
        "Block the buyer in Avito? They can write to this account no more.",
    )
}

/// Avito has blocked the buyer.
pub fn blocked(language: Language) -> &'static str {
    language.choose("Покупатель заблокирован в Avito.", "The buyer is blocked in Avito.")
}

/// Avito has not blocked the buyer; its own words follow.
pub fn not_blocked(language: Language) -> &'static str {
    language.choose("💔 Avito не заблокировал покупателя.", "💔 Avito did not block the buyer.")
}

/// After `/close` where there is no topic to close.
pub fn closed(language: Language) -> &'static str {
    language.choose("Диалог закрыт.", "The dialog is closed.")
}

/// After `/reopen` where there is no topic to open.
pub fn reopened(language: Language) -> &'static str {
    language.choose("Диалог снова открыт.", "The dialog is open again.")
}

/// An answer was changed more than an hour after it went.
pub fn too_late_to_change(language: Language) -> &'static str {
    language.choose("💔 Не изменено: прошло больше часа.", "💔 Not changed: more than an hour has passed.")
}

/// The caption or the file of an answer was changed.
pub fn only_text_changes(language: Language) -> &'static str {
    language.choose("💔 Не изменено: изменить можно только текст.", "💔 Not changed: only a text can be changed.")
}

/// An answer was changed into a note, a command or nothing.
pub fn changed_into_no_answer(language: Language) -> &'static str {
    language.choose(
        "💔 Не изменено: покупатель видит прежний текст. Удалить его — /del ответом на сообщение.",
        "💔 Not changed: the buyer sees the former text. To delete it, reply with /del.",
    )
}

/// `/del` of something else than an answer.
pub fn delete_what(language: Language) -> &'static str {
    language.choose(
        "Напишите /del ответом на сообщение, которое ушло покупателю.",
        "Write /del as a reply to the message that went to the buyer.",
    )
}

/// `/del` more than an hour after the answer went.
pub fn too_late_to_delete(language: Language) -> &'static str {
    language.choose("💔 Не удалено: прошло больше часа.", "💔 Not deleted: more than an hour has passed.")
}

/// Avito did not delete a message; its own words follow.
pub fn avito_did_not_delete(language: Language) -> &'static str {
    language.choose(
        "💔 Avito не удалил сообщение, покупатель видит прежнее.",
        "💔 Avito did not delete the message, the buyer sees the former one.",
    )
}

/// There are no canned replies.
pub fn no_canned_replies(language: Language) -> &'static str {
    language.choose("💔 Не отправлено: готовых ответов ещё нет.", "💔 Not sent: there are no canned replies yet.")
}

/// No canned reply has this name; those that there are follow.
pub fn canned_replies_are(language: Language) -> &'static str {
    language.choose("💔 Не отправлено: такого готового ответа нет. Есть:", "💔 Not sent: no such reply. There are:")
}

/// Whoever answered, in a replay.
pub fn you(language: Language) -> &'static str {
    language.choose("Вы", "You")
}

/// Above the messages that a new topic brings along.
pub fn last_messages(language: Language) -> &'static str {
    language.choose("↩️ Последние сообщения:", "↩️ The last messages:")
}

/// What `/help` answers.
pub fn help(language: Language) -> &'static str {
    language.choose(
        "Каждая тема — чат на Avito. Ответьте в теме текстом — ответ уйдёт покупателю. Изменить ответ можно в течение часа.\n\
         👀 ждёт, 👌 дошло до Avito, 👍 прочитано, 💔 не ушло.\n\
         // в начале — заметка для своих, покупатель её не увидит.\n\
         /del ответом на своё сообщение — удалить его у покупателя.\n\
         /q имя — готовый ответ.\n\
         /close и /reopen — закрыть и открыть диалог.\n\
         /block — заблокировать покупателя.\n\
         /getid — номер этой группы и темы.",
        "Each topic is an Avito chat. Answer in the topic and the buyer gets it. You can change an answer within the hour.\n\
         👀 waiting, 👌 Avito has it, 👍 read, 💔 did not go.\n\
         Begin with // for a note that stays inside.\n\
         /del as a reply to your message deletes it for the buyer.\n\
         /q name sends a canned reply.\n\
         /close and /reopen close and open the dialog.\n\
         /block blocks the buyer.\n\
         /getid tells the ids of this group and topic.",
    )
}
