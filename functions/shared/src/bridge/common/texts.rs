//! The texts for people, in Russian and English side by side.
//! Long because all texts of the bridge stand together, so that they read as one voice.
//! A group gets Russian. An answer to one person is in the language of their `language_code`.

pub mod chats;

/// The languages of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Русский.
    Russian,
    /// English.
    English,
}

impl Language {
    /// Returns the language of a Telegram user: English only if their Telegram app is in English.
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

/// Returns the line for a message that is posted without its content. `kind` is Avito's word for its kind.
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

/// The sign before a location.
pub const LOCATION: &str = "📍";
/// The sign before a link.
pub const LINK: &str = "🔗";
/// The sign before an advertisement.
pub const ITEM: &str = "🏷";
/// The sign before a message of Avito itself.
pub const SYSTEM: &str = "ℹ️";

/// The line for a missed call.
pub fn missed_call(language: Language) -> &'static str {
    language.choose("📞 Пропущенный звонок через Avito", "📞 A missed call through Avito")
}

/// The line under a text that may be Avito's request to buy a tariff, in place of what the buyer wrote.
pub fn maybe_tariff(language: Language) -> &'static str {
    language.choose(
        "⚠️ Возможно, это не слова покупателя: так Avito просит о тарифе с доступом к API. Откройте чат в Avito.",
        "⚠️ These may not be the buyer's words: Avito asks so for a tariff with access to its API. Open the chat in Avito.",
    )
}

/// The beginning of a quote.
pub fn in_answer_to(language: Language) -> &'static str {
    language.choose("В ответ на", "In answer to")
}

/// The notice that a posted message was deleted in Avito by its writer.
pub fn deleted_by_writer(language: Language) -> &'static str {
    language.choose("🗑 Сообщение удалено в Avito.", "🗑 The message was deleted in Avito.")
}

/// The notice that a webhook reported a message that is not in Avito's list.
pub fn not_confirmed(language: Language) -> &'static str {
    language.choose(
        "⚠️ Не подтверждено Avito: в списке сообщений этого чата такого сообщения нет.",
        "⚠️ Not confirmed by Avito: its list of this chat's messages holds no such message.",
    )
}

/// The heading of a text from Avito's list, after a webhook reported another text for that message.
pub fn corrected(language: Language) -> &'static str {
    language.choose("⚠️ В Avito это сообщение другое:", "⚠️ In Avito this message is another:")
}

/// The heading of an answer that the seller wrote in Avito's app.
pub fn mirrored(language: Language) -> &'static str {
    language.choose("Вы ответили в Avito:", "You answered in Avito:")
}

/// The heading of an answer by the API. `{name}` is to be replaced by its writer's name.
pub fn answered_by(language: Language) -> &'static str {
    language.choose("✍️ {name} — из кабинета:", "✍️ {name}, from the dashboard:")
}

/// The heading of an answer by the API whose writer has no name.
pub fn answered_by_unnamed(language: Language) -> &'static str {
    language.choose("✍️ Ответ из кабинета:", "✍️ An answer from the dashboard:")
}

/// The heading of an auto-reply.
pub fn auto_replied(language: Language) -> &'static str {
    language.choose("🤖 Автоответчик:", "🤖 Auto-reply:")
}

/// The words behind the time of a message that arrived after newer ones were posted.
pub fn arrived_late(language: Language) -> &'static str {
    language.choose("пришло с опозданием", "came late")
}

/// The buyer's name if Avito gives none.
pub fn nameless_buyer(language: Language) -> &'static str {
    language.choose("Покупатель", "Buyer")
}

/// The labels of a topic's header.
pub struct HeaderLabels {
    /// The label of the buyer's name.
    pub buyer: &'static str,
    /// The label of the account's name.
    pub account: &'static str,
}

/// Returns the labels of a topic's header.
pub fn header_labels(language: Language) -> HeaderLabels {
    match language {
        Language::Russian => HeaderLabels { buyer: "Покупатель:", account: "Аккаунт:" },
        Language::English => HeaderLabels { buyer: "Buyer:", account: "Account:" },
    }
}

/// The refusal of a message that Avito does not take. `kind` is Telegram's word for its kind.
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

/// The refusal of a picture that is larger than the files that Telegram gives to bots.
pub fn too_large(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: файл больше 20 МБ — столько Telegram ботам не отдаёт.",
        "💔 Not sent: the file is larger than 20 MB, and Telegram gives bots no more.",
    )
}

/// The refusal of a picture that could not be fetched from Telegram.
pub fn not_handed_out(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: Telegram не отдал файл. Отправьте его ещё раз.",
        "💔 Not sent: Telegram did not hand out the file. Send it again.",
    )
}

/// The refusal of an unknown command.
pub fn unknown_command(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: такой команды нет. Список — /help.",
        "💔 Not sent: there is no such command. See /help.",
    )
}

/// The beginning of the notice that Avito refused an answer. Avito's message follows.
pub fn refused_by_avito(language: Language) -> &'static str {
    language.choose("💔 Avito не принял сообщение:", "💔 Avito refused the message:")
}

/// The notice that an answer is still on its way after five minutes of failures.
pub fn avito_takes_nothing_yet(language: Language) -> &'static str {
    language.choose(
        "⏳ Avito пока не принимает сообщение, пробую дальше. Отменить — /del.",
        "⏳ Avito does not take the message yet; I go on trying. To cancel it, use /del.",
    )
}

/// The notice that an answer was not sent: Avito took nothing for too long.
pub fn avito_took_nothing(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: Avito не принимает это сообщение. Отправьте его ещё раз, если оно ещё нужно.",
        "💔 Not sent: Avito does not take this message. Send it again if it is still needed.",
    )
}

/// The notice that nobody knows if an answer reached Avito.
pub fn outcome_unknown(language: Language) -> &'static str {
    language.choose(
        "💔 Неизвестно, дошло ли сообщение: посмотрите в Avito. Само оно ещё раз не уйдёт.",
        "💔 It is unknown if the message arrived: look in Avito. It is not sent again by itself.",
    )
}

/// The notice that an answer waits because Avito refuses the account.
pub fn account_refused(language: Language) -> &'static str {
    language.choose(
        "⏳ Avito сейчас не принимает этот аккаунт. Ответ ждёт до суток и уйдёт, когда аккаунт заработает.",
        "⏳ Avito does not accept this account now. The answer waits up to a day and goes once the account works.",
    )
}

/// The notice in a topic that belongs to no chat.
pub fn unowned_topic(language: Language) -> &'static str {
    language.choose(
        "Эта тема не связана с чатом Avito: написанное здесь покупателю не уйдёт.",
        "This topic belongs to no Avito chat: what is written here reaches no buyer.",
    )
}

/// The refusal of a message that could not be read: it is too large, or not in a form that is known.
pub fn unreadable(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: это сообщение не удалось прочитать. Отправьте его ещё раз, короче или без оформления.",
        "💔 Not sent: this message could not be read. Send it once more, shorter or without formatting.",
    )
}

/// The notice that a buyer's message could not be posted, because Telegram did not take it.
pub fn could_not_post(language: Language) -> &'static str {
    language.choose(
        "⚠️ Сообщение покупателя не удалось показать — откройте чат в Avito.",
        "⚠️ A buyer's message could not be shown — open the chat in Avito.",
    )
}

/// The notice that Telegram did not confirm a buyer's message, which was sent several times.
pub fn posting_not_confirmed(language: Language) -> &'static str {
    language.choose(
        "⚠️ Telegram не подтвердил сообщение покупателя: оно может стоять выше, и не раз.",
        "⚠️ Telegram did not confirm a buyer's message: it may stand above, and more than once.",
    )
}

/// The notice in General about a dialog that cannot have a topic. The buyer's name and Telegram's words follow.
pub fn shown_in_general(language: Language) -> &'static str {
    language.choose(
        "⚠️ Тема для чата не создана, сообщения показаны здесь. Чтобы ответить, ответьте на сообщение.",
        "⚠️ A chat could not have a topic, so its messages are shown here. To answer, reply to a message.",
    )
}

/// The safe name of a topic whose own name Telegram refuses; some digits follow.
pub fn safe_topic_name(language: Language) -> &'static str {
    nameless_buyer(language)
}

/// The notice that a chat is shown although Avito could not be asked about it.
pub fn chat_not_confirmed(language: Language) -> &'static str {
    language.choose(
        "⚠️ Не подтверждено Avito: о чате не удалось спросить. Проверьте его в Avito.",
        "⚠️ Not confirmed by Avito: it could not be asked about the chat. Check it in Avito.",
    )
}

/// The buttons under an answer that Avito refused.
pub fn retry_and_cancel(language: Language) -> (&'static str, &'static str) {
    (language.choose("Повторить", "Try again"), language.choose("Отменить", "Cancel"))
}

/// The buttons under the question if a buyer is to be blocked.
pub fn block_and_dont_block(language: Language) -> (&'static str, &'static str) {
    (language.choose("Заблокировать", "Block"), language.choose("Отмена", "Cancel"))
}

/// The answer to a press on a button that has nothing left to do.
pub fn button_did_nothing(language: Language) -> &'static str {
    language.choose("Уже не нужно", "Nothing left to do")
}

/// The answer to a press on «Повторить».
pub fn sending_again(language: Language) -> &'static str {
    language.choose("Отправляю ещё раз", "Sending again")
}

/// The answer to a press on «Отменить».
pub fn cancelled(language: Language) -> &'static str {
    language.choose("Отменено", "Cancelled")
}

/// The answer to a press on «Заблокировать».
pub fn blocking(language: Language) -> &'static str {
    language.choose("Блокирую", "Blocking")
}

/// The answer to a press on «Отмена» under the question if a buyer is to be blocked.
pub fn not_blocking(language: Language) -> &'static str {
    language.choose("Не заблокирован", "Not blocked")
}

/// The question that `/block` asks.
pub fn block_whom(language: Language) -> &'static str {
    language.choose(
        "Заблокировать покупателя в Avito? Он больше не сможет писать этому аккаунту.",
        "Block the buyer in Avito? They can write to this account no more.",
    )
}

/// The notice that Avito has blocked the buyer.
pub fn blocked(language: Language) -> &'static str {
    language.choose("Покупатель заблокирован в Avito.", "The buyer is blocked in Avito.")
}

/// The beginning of the notice that Avito has not blocked the buyer. Avito's reason follows.
pub fn not_blocked(language: Language) -> &'static str {
    language.choose("💔 Avito не заблокировал покупателя.", "💔 Avito did not block the buyer.")
}

/// The notice after `/close` if there is no topic to close.
pub fn closed(language: Language) -> &'static str {
    language.choose("Диалог закрыт.", "The dialog is closed.")
}

/// The notice after `/reopen` if there is no topic to open.
pub fn reopened(language: Language) -> &'static str {
    language.choose("Диалог снова открыт.", "The dialog is open again.")
}

/// The refusal of an edit more than an hour after the answer was sent.
pub fn too_late_to_change(language: Language) -> &'static str {
    language.choose("💔 Не изменено: прошло больше часа.", "💔 Not changed: more than an hour has passed.")
}

/// The refusal of an edit that puts something else than a text or a picture in an answer's place.
pub fn only_text_and_pictures_change(language: Language) -> &'static str {
    language.choose(
        "💔 Не изменено: изменить можно только текст и картинку.",
        "💔 Not changed: only a text and a picture can be changed.",
    )
}

/// The refusal of an edit of an answer that was cancelled or deleted.
pub fn cancelled_before(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: этот ответ отменён или удалён. Напишите его заново.",
        "💔 Not sent: this answer was cancelled or deleted. Write it anew.",
    )
}

/// The notice that what stands above a command does not go to the buyer.
pub fn stays_under_command(language: Language) -> &'static str {
    language.choose(
        "💔 Не отправлено: команда выполнена, а то, что над ней, покупателю не уходит. Отправьте его без команды.",
        "💔 Not sent: the command is carried out, and what stands above it does not go. Send it without a command.",
    )
}

/// The refusal of an edit of an album's caption.
pub fn caption_of_album_stays(language: Language) -> &'static str {
    language.choose(
        "💔 Не изменено: подпись альбома не меняется. Удалить альбом — /del ответом на любую его картинку.",
        "💔 Not changed: the caption of an album stays. To delete the album, reply to any of its pictures with /del.",
    )
}

/// The notice in a group that the bot has left behind. Its dialogs go on in another group.
pub fn left_group(language: Language) -> &'static str {
    language.choose(
        "⚠️ Диалоги теперь в другой группе: написанное здесь покупателю не уйдёт.",
        "⚠️ The dialogs are in another group by now: what is written here reaches no buyer.",
    )
}

/// The refusal of an edit that turns an answer into a note, a command or nothing.
pub fn changed_into_no_answer(language: Language) -> &'static str {
    language.choose(
        "💔 Не изменено: покупатель видит прежний текст. Удалить его — /del ответом на сообщение.",
        "💔 Not changed: the buyer sees the former text. To delete it, reply with /del.",
    )
}

/// The refusal of `/del` for a message that is not an answer.
pub fn delete_what(language: Language) -> &'static str {
    language.choose(
        "Напишите /del ответом на сообщение, которое ушло покупателю.",
        "Write /del as a reply to the message that went to the buyer.",
    )
}

/// The refusal of `/del` more than an hour after the answer was sent.
pub fn too_late_to_delete(language: Language) -> &'static str {
    language.choose("💔 Не удалено: прошло больше часа.", "💔 Not deleted: more than an hour has passed.")
}

/// The reason for which a bot cannot work, in its health and its owner's notice: its stored token cannot be read.
pub fn token_does_not_open(language: Language) -> &'static str {
    language
        .choose("сохранённый токен не читается, введите его заново", "the stored token cannot be read, enter it again")
}

/// The answer to `/del` for a message that the buyer does not have: it was cancelled, deleted, or never sent.
pub fn nothing_to_delete(language: Language) -> &'static str {
    language.choose(
        "Удалять нечего: этого сообщения у покупателя нет.",
        "There is nothing to delete: the buyer does not have this message.",
    )
}

/// The beginning of the notice that Avito did not delete a message. Avito's reason follows.
pub fn avito_did_not_delete(language: Language) -> &'static str {
    language.choose(
        "💔 Avito не удалил сообщение, покупатель видит прежнее.",
        "💔 Avito did not delete the message, the buyer sees the former one.",
    )
}

/// The refusal of `/q` if the client has no canned replies.
pub fn no_canned_replies(language: Language) -> &'static str {
    language.choose("💔 Не отправлено: готовых ответов ещё нет.", "💔 Not sent: there are no canned replies yet.")
}

/// The refusal of `/q` with an unknown name. The known names follow.
pub fn canned_replies_are(language: Language) -> &'static str {
    language.choose("💔 Не отправлено: такого готового ответа нет. Есть:", "💔 Not sent: no such reply. There are:")
}

/// The name, in a replay, of everyone who answered the buyer.
pub fn you(language: Language) -> &'static str {
    language.choose("Вы", "You")
}

/// The heading of a replay.
pub fn last_messages(language: Language) -> &'static str {
    language.choose("↩️ Последние сообщения:", "↩️ The last messages:")
}

/// The answer to `/help`.
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
