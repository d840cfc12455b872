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
pub fn taken_back(language: Language) -> &'static str {
    language.choose("🗑 Сообщение удалено в Avito.", "🗑 The message was deleted in Avito.")
}

/// Before what the seller wrote in Avito's app.
pub fn mirrored(language: Language) -> &'static str {
    language.choose("Вы ответили в Avito:", "You answered in Avito:")
}

/// Before what nobody wrote.
pub fn auto_replied(language: Language) -> &'static str {
    language.choose("🤖 Автоответчик:", "🤖 Auto-reply:")
}

/// Behind the time of a message that came after newer ones were shown.
pub fn came_late(language: Language) -> &'static str {
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
pub fn nobodys_topic(language: Language) -> &'static str {
    language.choose(
        "Эта тема не связана с чатом Avito: написанное здесь покупателю не уйдёт.",
        "This topic belongs to no Avito chat: what is written here reaches no buyer.",
    )
}

/// A message that Telegram did not take.
pub fn could_not_show(language: Language) -> &'static str {
    language.choose(
        "⚠️ Сообщение покупателя не удалось показать — откройте чат в Avito.",
        "⚠️ A buyer's message could not be shown — open the chat in Avito.",
    )
}

/// What `/help` answers.
pub fn help(language: Language) -> &'static str {
    language.choose(
        "Каждая тема — чат на Avito. Ответьте в теме текстом — ответ уйдёт покупателю.\n// в начале — заметка для своих, покупатель её не увидит.\n/getid — номер этой группы и темы.",
        "Each topic is an Avito chat. Answer in the topic and the buyer gets it.\nBegin with // for a note that stays inside.\n/getid tells the ids of this group and topic.",
    )
}
