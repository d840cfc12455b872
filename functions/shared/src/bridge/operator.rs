//! What a bot's webhook brings: an operator's answer becomes a row with its parts, in one flight, before the 200.
//! Whatever Telegram cannot be told to stop repeating is recorded or ignored, never refused: one update refused for
//! ever would block every topic of the group.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    commands, compose, edits, lanes,
    pictures::{self, Sendable},
    presses,
    receipts::receipt,
    tasks::{AvitoTask, TelegramTask},
    text, topics,
    words::{self, Language},
};
use crate::{
    App, planned,
    platform::{
        db::{DbError, Scope, Statement, get},
        queue::LONGEST_DELAY,
        secrets::Secret,
    },
    telegram::update::{Content, Kind, Membership, Message, Person, Service, Update},
    tenancy::{bots, chats, clients},
};

/// What became of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    /// It is recorded, or there was nothing to record.
    Done,
    /// It is answered with this call of the Bot API, in the webhook's response.
    Answer(Value),
    /// It answers a post whose id is not written down yet: Telegram is to repeat it in a moment.
    NotYet,
    /// One of the two secrets is wrong.
    WrongSecret,
}

/// How old an answer to an unknown post may be to be asked for again, seconds. Telegram holds back whatever else it has for
/// a bot until then, so it is short.
const NOT_YET_SECONDS: i64 = 15;

/// The secrets a webhook call carries.
pub struct Credentials {
    /// The end of its path.
    pub path: Secret,
    /// The header `X-Telegram-Bot-Api-Secret-Token`.
    pub header: String,
}

/// Takes an update of the bot. An error: nothing durable has it, Telegram is to repeat it.
pub async fn accept(app: &App, bot_id: i64, credentials: &Credentials, payload: &Value) -> Result<Accepted, DbError> {
    if !app.keyring().derives(&credentials.path, &credentials.header) {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong header");
        return Ok(Accepted::WrongSecret);
    }
    let update = Update::from_value(payload);
    let scope = || Scope::TenantOf(bots::tenant_by_webhook_secret(bot_id, credentials.path.hash().to_vec()));
    let heard = match commands::canned(&update) {
        Some((message, name)) => {
            let answers = app.db().run(scope(), vec![clients::canned_replies()]).await?;
            let replies = answers.get(1).and_then(|rows| rows.first()).map(|row| get(row, "canned_replies"));
            hear_canned(bot_id, message, &name, &replies.transpose()?.unwrap_or_default())
        }
        None => hear(bot_id, &update),
    };
    let answers = app.db().run(scope(), heard.statements).await?;
    if answers.first().is_none_or(Vec::is_empty) {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong secret");
        return Ok(Accepted::WrongSecret);
    }
    wake(app, &answers).await?;
    let says =
        |what: &str| answers.iter().flatten().any(|row| row.columns().iter().any(|column| column.name() == what));
    if says("not_yet") {
        return Ok(Accepted::NotYet);
    }
    let acted = says("acted");
    let answer = heard.answer.or_else(|| heard.reply.map(|reply| reply.call(acted)));
    Ok(answer.map_or(Accepted::Done, Accepted::Answer))
}

/// Wakes whoever the statements answered with: bots by `bot_id` and `drain_at`, dialogs by `dialog_id`, at `send_at` if
/// that is told.
async fn wake(app: &App, answers: &[Vec<tokio_postgres::Row>]) -> Result<(), DbError> {
    for row in answers.iter().skip(1).flatten() {
        let has = |name: &str| row.columns().iter().any(|column| column.name() == name);
        let until = |due: jiff::Timestamp| {
            Duration::try_from(due.duration_since(jiff::Timestamp::now())).unwrap_or_default().min(LONGEST_DELAY)
        };
        if has("dialog_id") {
            let wait = if has("send_at") { until(get(row, "send_at")?) } else { Duration::ZERO };
            app.wake(&AvitoTask::V1 { dialog_id: get(row, "dialog_id")? }, wait).await;
        } else if has("drain_at") {
            let wait = until(get(row, "drain_at")?);
            app.wake(&TelegramTask::V1 { bot_id: get(row, "bot_id")? }, wait).await;
        }
    }
    Ok(())
}

/// What to write down, and what to answer at once.
#[derive(Default)]
pub(super) struct Heard {
    pub(super) statements: Vec<Statement>,
    pub(super) answer: Option<Value>,
    /// How a pressed button is answered.
    pub(super) reply: Option<presses::Reply>,
}

fn hear(bot_id: i64, update: &Update) -> Heard {
    match &update.kind {
        Kind::Message(message) => hear_message(bot_id, message),
        Kind::EditedMessage(message) => edits::edited(bot_id, message),
        Kind::CallbackQuery(press) => presses::pressed(bot_id, press),
        Kind::MyChatMember(membership) => Heard { statements: joined(bot_id, membership), ..Heard::default() },
        Kind::ChannelPost(_) | Kind::Other(_) => Heard::default(),
        Kind::Unknown => {
            metrics::counter!("updates_unknown").increment(1);
            tracing::warn!(bot_id, update_id = update.id, "an update could not be read");
            Heard::default()
        }
    }
}

/// A right that was given back may be what the bot's rows wait for.
fn joined(bot_id: i64, membership: &Membership) -> Vec<Statement> {
    let chat = &membership.chat;
    let title = chat.title.clone().unwrap_or_default();
    let mut statements = vec![chats::remember(bot_id, chat.id, title, chat.is_forum, membership.status.clone())];
    if matches!(membership.status.as_str(), "administrator" | "creator" | "member") {
        statements.push(lanes::wake_now(bot_id));
        statements.push(lanes::topics_seen(bot_id, chat.id, chat.is_forum));
    } else {
        statements.push(bots::mark_removed(bot_id, chat.id));
    }
    statements
}

fn hear_message(bot_id: i64, message: &Message) -> Heard {
    if let Content::Service(service) = &message.content {
        return Heard { statements: happened(bot_id, message, service), ..Heard::default() };
    }
    let by_bot = message.from.as_ref().is_some_and(|from| from.is_bot) && !message.is_by_anonymous_admin();
    if by_bot {
        return Heard::default();
    }
    let mut heard = hear_person(bot_id, message);
    heard.statements.push(lanes::topics_seen(bot_id, message.chat.id, message.chat.is_forum));
    heard
}

fn hear_person(bot_id: i64, message: &Message) -> Heard {
    let language = Language::of_code(message.from.as_ref().and_then(|from| from.language_code.as_deref()));
    match (command(message), message.thread_id) {
        (Some("getid"), _) => Heard { answer: Some(answer(message, &ids(message))), ..Heard::default() },
        (Some("help" | "start"), _) => {
            Heard { answer: Some(answer(message, words::help(language))), ..Heard::default() }
        }
        (_, None) if message.answers().is_none() => Heard::default(), // General, or talk in a group without topics
        _ if message.text().is_some_and(|text| text.trim_start().starts_with("//")) => Heard::default(),
        (Some(word), _) => commands::ordered(bot_id, message, word)
            .unwrap_or_else(|| refuse(bot_id, message, words::unknown_command(Language::Russian))),
        (None, _) => match &message.content {
            Content::Text(text) if !text.trim().is_empty() => say(bot_id, message, text),
            Content::Service(_) => Heard::default(),
            Content::Text(_) | Content::Media { .. } | Content::Unknown => show(bot_id, message),
        },
    }
}

/// A canned reply is said as if its asker had written it.
fn hear_canned(bot_id: i64, message: &Message, name: &str, replies: &Value) -> Heard {
    if message.thread_id.or(message.answers()).is_none() {
        return Heard::default();
    }
    match commands::choose(replies, name) {
        Ok(text) => {
            let said = Message { content: Content::Text(text.clone()), ..message.clone() };
            say(bot_id, &said, &text)
        }
        Err(why) => refuse(bot_id, message, &why),
    }
}

/// The command a text begins with, without a bot's name behind it.
pub(super) fn command(message: &Message) -> Option<&str> {
    let word = message.text()?.split_whitespace().next()?.strip_prefix('/')?;
    let word = word.split('@').next()?;
    let is_command = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_command.then_some(word)
}

fn answer(message: &Message, text: &str) -> Value {
    let mut call = json!({ "method": "sendMessage", "chat_id": message.chat.id, "text": text });
    if let Some(thread_id) = message.thread_id {
        call["message_thread_id"] = json!(thread_id);
    }
    call
}

fn ids(message: &Message) -> String {
    match message.thread_id {
        Some(thread_id) => format!("chat_id: {}\nmessage_thread_id: {thread_id}", message.chat.id),
        None => format!("chat_id: {}", message.chat.id),
    }
}

fn happened(bot_id: i64, message: &Message, service: &Service) -> Vec<Statement> {
    match (service, message.thread_id) {
        (Service::TopicCreated { name }, Some(thread_id)) if made_by(message, bot_of(message)) => {
            topics::noticed(bot_id, message.chat.id, thread_id, name.clone())
        }
        (Service::MigratedTo(to_chat_id), _) => {
            let mut statements = vec![bots::move_group(bot_id, message.chat.id, *to_chat_id)];
            statements.extend(topics::moved(bot_id, message.chat.id, *to_chat_id));
            statements.push(lanes::wake_now(bot_id));
            statements
        }
        _ => Vec::new(),
    }
}

fn bot_of(message: &Message) -> Option<&Person> {
    message.from.as_ref().filter(|from| from.is_bot)
}

fn made_by(message: &Message, bot: Option<&Person>) -> bool {
    bot.is_some() && !message.is_by_anonymous_admin()
}

/// A text to the buyer: as many parts as Avito's limit makes of it.
fn say(bot_id: i64, message: &Message, said: &str) -> Heard {
    let parts: Vec<Value> = (0..)
        .zip(text::split(&said.replace('\0', ""), text::AVITO_LIMIT))
        .map(|(place, part)| json!({ "place": place, "text_key": text::key(&part), "text": part }))
        .collect();
    insert(bot_id, message, "text", json!(parts), None)
}

/// A picture to the buyer, with its caption behind it, or the reason why it is none.
fn show(bot_id: i64, message: &Message) -> Heard {
    match pictures::sendable(message, Language::Russian) {
        Sendable::Refused(why) => refuse(bot_id, message, why),
        Sendable::Parts(parts) => {
            let mut heard = insert(bot_id, message, "image", parts, None);
            if let Some(album) = &message.media_group_id {
                heard.statements.insert(1, caption_behind(bot_id, message, album));
            }
            heard
        }
    }
}

/// An album's caption comes with its first picture, and follows the last: each picture takes it along.
fn caption_behind(bot_id: i64, message: &Message, album: &str) -> Statement {
    Statement::new(
        "UPDATE parts p SET message_id = m.id
         FROM messages m
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3
           AND p.kind = 'text' AND p.state = 'pending' AND p.message_id IN (
             SELECT o.id FROM messages o
             WHERE o.bot_id = $1 AND o.telegram_chat_id = $2 AND o.media_group_id = $4 AND o.id < m.id)",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
    .bind(album.to_owned())
}

/// What cannot go to Avito is kept, and refused in the topic at once.
fn refuse(bot_id: i64, message: &Message, why: &str) -> Heard {
    let kind = match &message.content {
        Content::Media { media, .. } => media.as_str(),
        Content::Text(_) => "command",
        Content::Service(_) | Content::Unknown => "unknown",
    };
    insert(bot_id, message, kind, json!([]), Some(compose::notice(why, Some(message.message_id))))
}

/// Inserts an operator's message once. A repeated update finds its row and changes nothing, but wakes again what may
/// not have been woken.
fn insert(bot_id: i64, message: &Message, kind: &'static str, parts: Value, refusal: Option<Value>) -> Heard {
    let author = message.from.as_ref();
    let refused = refusal.is_some();
    let row = planned!(concat!(
        "WITH inserted AS (
             INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                                   telegram_chat_id, telegram_message_id, telegram_user_id, status, error, to_show,
                                   media_group_id)
             SELECT d.client_id, d.id, d.avito_account_id, d.bot_id, 'out', 'operator', $5, $6, $7, $2, $4, $8,
                    CASE WHEN $10::jsonb IS NULL THEN 'sending' ELSE 'failed' END,
                    CASE WHEN $10 IS NULL THEN NULL ELSE 'not sendable' END, false, $11
             FROM dialogs d
             JOIN bot_routes r ON r.bot_id = $1 AND $2 IN (r.group_chat_id, r.former_group_chat_id)
             WHERE d.id = dialog_written_in($1, $2, $3, $13)
             ON CONFLICT (bot_id, telegram_chat_id, telegram_message_id) DO NOTHING
             RETURNING id, client_id, dialog_id, avito_account_id, bot_id, telegram_chat_id, telegram_message_id
         ), cut AS (
             INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, place, kind, text, text_key, attachment)
             SELECT i.client_id, i.dialog_id, i.id, i.avito_account_id,
                    -- the captions of one album come to stand on one message, each in a place of its own
                    part.place + CASE WHEN part.kind = 'text' THEN 10 * (
                        SELECT count(*)::int FROM messages o
                        WHERE o.bot_id = $1 AND o.telegram_chat_id = $2 AND o.media_group_id = $11) ELSE 0 END,
                    coalesce(part.kind, 'text'), part.text, part.text_key, part.attachment
             FROM inserted i
             CROSS JOIN jsonb_to_recordset($9) AS part (place int, kind text, text text, text_key text, attachment jsonb)
             ORDER BY part.place
         ), refused AS (
             INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, once_key)
             SELECT client_id, bot_id, dialog_id, 'notice', $10, 'refused:' || id FROM inserted WHERE $10 IS NOT NULL
         ), broken AS (
             SELECT * FROM inserted WHERE $10 IS NOT NULL
         ), receipt AS (",
        receipt!("💔", "broken"),
        ")
         UPDATE dialogs d
         SET state = 'answered', auto_reply_scheduled_at = NULL, last_message_at = now(),
             send_at = greatest(coalesce(d.send_at, now()), now() + make_interval(secs => $12))
         FROM inserted i WHERE d.id = i.dialog_id AND $10 IS NULL"
    ))
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.thread_id)
    .bind(message.message_id)
    .bind(kind)
    .bind(message.text().map(|text| text.replace('\0', "")))
    .bind(author.map(name))
    .bind(author.map(|author| author.id))
    .bind(parts)
    .bind(refusal)
    .bind(message.media_group_id.clone())
    .bind(message.media_group_id.as_ref().map_or(0.0, |_| pictures::ALBUM_WAIT.as_secs_f64()))
    .bind(message.answers());
    let mut statements = vec![row, unfinished(bot_id, message)];
    if let Some(thread_id) = message.thread_id {
        statements.push(told_once(bot_id, message, thread_id));
        statements.push(if refused {
            lanes::wake_for_posts(bot_id)
        } else {
            wake_for_notice(bot_id, message, thread_id)
        });
    } else {
        if refused {
            statements.push(lanes::wake_for_posts(bot_id));
        }
        statements.push(not_yet(bot_id, message));
    }
    Heard { statements, ..Heard::default() }
}

fn name(person: &Person) -> String {
    [Some(person.first_name.as_str()), person.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The dialog to wake for this message, as long as it is not sent.
fn unfinished(bot_id: i64, message: &Message) -> Statement {
    planned!(
        "SELECT m.dialog_id, d.send_at FROM messages m JOIN dialogs d ON d.id = m.dialog_id
         WHERE m.bot_id = $1 AND m.telegram_chat_id = $2 AND m.telegram_message_id = $3 AND m.status = 'sending'
           AND d.send_at IS NOT NULL",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.message_id)
}

/// In a group without topics somebody may answer a post before its id is written down: then a post is under way, and the
/// answer is new.
fn not_yet(bot_id: i64, message: &Message) -> Statement {
    let is_new = message
        .date
        .is_some_and(|date| jiff::Timestamp::now().as_second().abs_diff(date) <= NOT_YET_SECONDS.unsigned_abs());
    planned!(
        "SELECT true AS not_yet FROM bot_routes r
         WHERE $4 AND r.bot_id = $1 AND $2 IN (r.group_chat_id, r.former_group_chat_id)
           AND dialog_written_in($1, $2, NULL, $3) IS NULL
           AND EXISTS (SELECT FROM posts p WHERE p.bot_id = $1 AND p.state = 'sending')",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(message.answers())
    .bind(is_new)
}

/// Who writes in a topic of the bot's group that no dialog owns is told so, once.
fn told_once(bot_id: i64, message: &Message, thread_id: i64) -> Statement {
    planned!(
        "INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id, once_key)
         SELECT client_id, bot_id, 'notice', $4, $2, $3, format('nobody:%s:%s', $2::bigint, $3::bigint)
         FROM bot_routes r
         WHERE r.bot_id = $1 AND $2 IN (r.group_chat_id, r.former_group_chat_id) AND NOT EXISTS (
             SELECT FROM dialog_topics t
             WHERE t.bot_id = $1 AND t.telegram_chat_id = $2 AND t.telegram_topic_id = $3)
         ON CONFLICT (bot_id, once_key) DO NOTHING",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(thread_id)
    .bind(compose::notice(words::nobodys_topic(Language::Russian), None))
}

fn wake_for_notice(bot_id: i64, message: &Message, thread_id: i64) -> Statement {
    planned!(
        "INSERT INTO bot_lanes AS lane (bot_id, client_id, drain_at)
         SELECT p.bot_id, p.client_id, p.due_at FROM posts p
         WHERE p.bot_id = $1 AND p.once_key = format('nobody:%s:%s', $2::bigint, $3::bigint) AND p.state = 'pending'
         ON CONFLICT (bot_id) DO UPDATE SET drain_at = least(lane.drain_at, excluded.drain_at)
         RETURNING bot_id, drain_at",
    )
    .bind(bot_id)
    .bind(message.chat.id)
    .bind(thread_id)
}
