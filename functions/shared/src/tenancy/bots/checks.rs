//! Checks with Telegram before a bot is connected or changed: the token's bot, and the bot's rights in the group.
//! Each refusal says what to change.

use axum::http::StatusCode;
use frankenstein::methods::{GetChatMemberParams, GetChatParams};
use serde::Deserialize;
use serde_json::json;

use super::bot::telegram as bot_api;
use crate::{
    App,
    platform::{
        config::var,
        db::DbError,
        http::{Problem, Text, text},
        secrets::Secret,
    },
    telegram,
};

/// A reason not to connect a bot.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The text is no token, or the token is not valid any more.
    #[error("the token is not that of a bot")]
    BadToken,
    /// It is the platform's own bot.
    #[error("the platform's bot cannot be connected")]
    PlatformBot,
    /// It is connected already, here or elsewhere.
    #[error("the bot is connected already")]
    Taken,
    /// Another bot has the group.
    #[error("the group belongs to another bot")]
    GroupTaken,
    /// The group does not fit; the sentence says what to change.
    #[error("the group does not fit")]
    Group(Text),
    /// Telegram did not accept the webhook's address.
    #[error("Telegram did not take the webhook: {0}")]
    Webhook(telegram::Error),
    /// Telegram cannot be asked now.
    #[error("Telegram could not be asked: {0}")]
    Telegram(telegram::Error),
    /// Our database.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<ConnectError> for Problem {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::BadToken => Self::invalid_field(
                "token",
                "bad_token",
                text(
                    "Telegram не принимает этот токен. Скопируйте его у @BotFather целиком.",
                    "Telegram does not accept this token. Copy the whole of it from @BotFather.",
                ),
            ),
            ConnectError::PlatformBot => Self::invalid_field(
                "token",
                "platform_bot",
                text(
                    "Это бот самой платформы. Создайте своего у @BotFather.",
                    "This is the platform's own bot. Make one of your own with @BotFather.",
                ),
            ),
            ConnectError::Taken => {
                Self::conflict("bot_taken", text("Этот бот уже подключён.", "This bot is connected already."))
            }
            ConnectError::GroupTaken => Self::conflict(
                "group_taken",
                text(
                    "В этой группе уже работает другой бот. Выберите другую группу или отключите его от этой.",
                    "Another bot works in this group already. Choose another group, or take that bot out of this one.",
                ),
            ),
            ConnectError::Group(detail) => Self::invalid_field("group_chat_id", "group_unfit", detail),
            ConnectError::Webhook(error) => {
                tracing::error!(%error, "Telegram did not take a webhook");
                let detail = text(
                    "Telegram не принял адрес для сообщений, бот не подключён. Попробуйте позже.",
                    "Telegram did not take our address, so the bot is not connected. Try again later.",
                );
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "webhook_failed", detail)
            }
            ConnectError::Telegram(error) => {
                tracing::warn!(%error, "Telegram could not be asked about a bot");
                let detail = text(
                    "Telegram сейчас не отвечает. Попробуйте позже.",
                    "Telegram does not answer now. Try again later.",
                );
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "telegram_unavailable", detail)
            }
            ConnectError::Db(error) => error.into(),
        }
    }
}

impl ConnectError {
    /// The error of a transaction that stores a bot: the bot or the group may be another's.
    pub(super) fn of_storing(error: DbError) -> Self {
        match error.constraint() {
            Some("bots_telegram_bot_id_key") => Self::Taken,
            Some("bots_group_chat_id_key") => Self::GroupTaken,
            _ => Self::Db(error),
        }
    }
}

/// The data that a person gives to connect a bot.
pub struct NewBot {
    /// Its token.
    pub token: Secret,
    /// The group, if it is known already.
    pub group_chat_id: Option<i64>,
    /// True if each dialog gets a topic of its own.
    pub topic_mode: bool,
}

/// A bot as Telegram knows it, in a group that fits.
pub struct Checked {
    pub(super) telegram_bot_id: i64,
    pub(super) username: String,
    pub(super) group: Option<Group>,
}

/// Asks Telegram for the token's bot, and checks that the bot has the rights that it needs in the group.
pub async fn check(app: &App, new: &NewBot) -> Result<Checked, ConnectError> {
    if !looks_like_token(new.token.expose()) {
        return Err(ConnectError::BadToken);
    }
    let bot = bot_api(app, new.token.clone());
    let me: Me = bot.call("getMe", &json!({})).await.map_err(refused_token)?;
    if me.username.eq_ignore_ascii_case(app.config().text(var::MASTER_BOT_NAME).trim_start_matches('@')) {
        return Err(ConnectError::PlatformBot);
    }
    let group = match new.group_chat_id {
        None => None,
        Some(chat_id) => {
            let params = GetChatParams::builder().chat_id(chat_id).build();
            let group: Group = bot.call("getChat", &params).await.map_err(refused_group)?;
            let params = GetChatMemberParams::builder().chat_id(chat_id).user_id(me.id.unsigned_abs()).build();
            let member: Member = bot.call("getChatMember", &params).await.map_err(refused_group)?;
            if let Some(sentence) = unfit(new.topic_mode, &group, &member) {
                return Err(ConnectError::Group(sentence));
            }
            Some(Group { bot_status: member.status, ..group })
        }
    };
    Ok(Checked { telegram_bot_id: me.id, username: me.username, group })
}

/// The fields of Telegram's answers that are read. The library's full types refuse an answer for one unknown value.
#[derive(Deserialize)]
struct Me {
    id: i64,
    username: String,
}

#[derive(Deserialize)]
pub(super) struct Group {
    pub(super) id: i64,
    r#type: String,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) is_forum: bool,
    #[serde(skip)]
    pub(super) bot_status: String,
}

#[derive(Default, Deserialize)]
struct Member {
    status: String,
    #[serde(default)]
    can_manage_topics: bool,
    #[serde(default)]
    can_delete_messages: bool,
    #[serde(default)]
    can_pin_messages: bool,
}

/// True if the text may be a token. Only such texts are put into a URL.
fn looks_like_token(token: &str) -> bool {
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    token.len() <= 128
        && token.split_once(':').is_some_and(|(id, secret)| {
            !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) && !secret.is_empty() && is_word(secret)
        })
}

/// Returns the id of the token's bot, as the token itself states it. `None`: the text is no token.
pub(super) fn bot_of(token: &Secret) -> Option<i64> {
    token.expose().split_once(':').and_then(|(id, _)| id.parse().ok())
}

fn refused_token(error: telegram::Error) -> ConnectError {
    match error {
        telegram::Error::BadToken => ConnectError::BadToken,
        error => ConnectError::Telegram(error),
    }
}

fn refused_group(error: telegram::Error) -> ConnectError {
    match error {
        telegram::Error::ChatNotFound
        | telegram::Error::Kicked(_)
        | telegram::Error::NoRights(_)
        | telegram::Error::Refused { .. } => ConnectError::Group(text(
            "Бот не видит этой группы. Добавьте его в группу администратором и проверьте её номер.",
            "The bot does not see this group. Add it to the group as an administrator and check the group's id.",
        )),
        telegram::Error::Migrated { to_chat_id } => ConnectError::Group(Text {
            ru: format!("У группы теперь другой номер: {to_chat_id}.").into(),
            en: format!("The group has another id now: {to_chat_id}.").into(),
        }),
        error => ConnectError::Telegram(error),
    }
}

/// Returns what has to change in the group before the bot can work there. `None`: the group fits.
fn unfit(topic_mode: bool, group: &Group, member: &Member) -> Option<Text> {
    if !matches!(group.r#type.as_str(), "group" | "supergroup") {
        return Some(text("Это не группа. Нужна группа Telegram.", "This is not a group. A Telegram group is needed."));
    }
    if topic_mode && !group.is_forum {
        return Some(text(
            "В группе выключены темы. Включите их в настройках группы.",
            "Topics are switched off in the group. Switch them on in the group's settings.",
        ));
    }
    if member.status != "administrator" {
        return Some(text(
            "Бот не администратор группы. Назначьте его администратором.",
            "The bot is not an administrator of the group. Make it one.",
        ));
    }
    let needed = [
        (!topic_mode || member.can_manage_topics, "управление темами", "manage topics"),
        (member.can_delete_messages, "удаление сообщений", "delete messages"),
        (member.can_pin_messages, "закрепление сообщений", "pin messages"),
    ];
    let missing: Vec<_> = needed.iter().filter(|(given, ..)| !given).collect();
    if missing.is_empty() {
        return None;
    }
    let join = |name: fn(&(bool, &'static str, &'static str)) -> &'static str| {
        missing.iter().map(|right| name(right)).collect::<Vec<_>>().join(", ")
    };
    Some(Text {
        ru: format!("Боту не хватает прав в группе: {}.", join(|right| right.1)).into(),
        en: format!("The bot lacks rights in the group: {}.", join(|right| right.2)).into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(kind: &str, is_forum: bool) -> Group {
        Group { id: -100, r#type: kind.to_owned(), title: None, is_forum, bot_status: String::new() }
    }

    fn administrator(topics: bool, delete: bool, pin: bool) -> Member {
        Member {
            status: "administrator".to_owned(),
            can_manage_topics: topics,
            can_delete_messages: delete,
            can_pin_messages: pin,
        }
    }

    #[test]
    fn the_sentence_names_exactly_what_is_missing() {
        let sentence = |topic_mode, group: &Group, member: &Member| {
            unfit(topic_mode, group, member).map(|text| (text.ru.into_owned(), text.en.into_owned()))
        };
        let forum = group("supergroup", true);
        assert_eq!(sentence(true, &forum, &administrator(true, true, true)), None);
        assert_eq!(
            sentence(true, &forum, &administrator(false, true, false)),
            Some((
                "Боту не хватает прав в группе: управление темами, закрепление сообщений.".to_owned(),
                "The bot lacks rights in the group: manage topics, pin messages.".to_owned()
            ))
        );
        let member = Member { status: "member".to_owned(), ..Member::default() };
        assert!(sentence(true, &forum, &member).is_some_and(|(_, en)| en.contains("not an administrator")));
        let all = administrator(true, true, true);
        assert!(sentence(true, &group("supergroup", false), &all).is_some_and(|(_, en)| en.contains("Topics")));
        assert!(sentence(true, &group("private", false), &all).is_some_and(|(_, en)| en.contains("not a group")));
    }

    #[test]
    fn a_plain_group_fits_a_bot_without_topics() {
        assert!(unfit(false, &group("group", false), &administrator(false, true, true)).is_none());
    }

    #[test]
    fn only_what_looks_like_a_token_is_put_into_an_address() {
        assert!(looks_like_token("123456789:AAFakeTokenForTestsOnly_abcdefghijklmn"));
        for text in ["", ":", "123:", "abc:def", "1:a/../x", "1:a?b", "1:ж", "123456789"] {
            assert!(!looks_like_token(text), "{text}");
        }
    }
}
