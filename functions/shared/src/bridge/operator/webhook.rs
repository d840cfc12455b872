//! Receives the updates of a bot's webhook: an operator's answer becomes a row with its parts, in one transaction,
//! before the 200. An update is recorded or ignored, never refused for ever: Telegram would repeat it without end, and
//! it would block every topic of the group.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::{Row, types::FromSql};

use super::{callbacks, commands, edits};
use crate::{
    App,
    bridge::{
        common::{
            queue_tasks::{AvitoTask, TelegramTask},
            text_split,
            texts::{self, Language},
        },
        rows::{bot_outbox, posts, receipts::receipt, topics},
        to_avito::pictures::{self, Sendable},
    },
    platform::{
        db::{DbError, Scope, Statement, get},
        queue::MAX_DELAY,
        secrets::Secret,
    },
    routine,
    telegram::update::{Content, Kind, Membership, Message, Person, Service, Update},
    tenancy::{bots, chats, clients},
};

/// The result of an update.
#[derive(Clone, Debug, PartialEq)]
pub enum UpdateResult {
    /// The update is recorded, or there was nothing to record.
    Done,
    /// The webhook's response carries this call of the Bot API.
    Answer(Value),
    /// The update answers a post whose message id is not stored yet: Telegram is to repeat it in a moment.
    NotYet,
    /// One of the two secrets is wrong.
    WrongSecret,
}

/// The greatest age, in seconds, of an answer to an unknown post that Telegram is to repeat ([`UpdateResult::NotYet`]).
/// It is short, because Telegram delivers no other update of the bot until then.
const MAX_NOT_YET_SECONDS: i64 = 15;

/// The secrets of a webhook call.
pub struct Credentials {
    /// The end of the call's path.
    pub path: Secret,
    /// The header `X-Telegram-Bot-Api-Secret-Token`.
    pub header: String,
}

/// Records an update of the bot. An error: the update is stored nowhere, and Telegram is to repeat it.
pub async fn receive_telegram_update(
    app: &App,
    bot_id: i64,
    credentials: &Credentials,
    payload: &Value,
) -> Result<UpdateResult, DbError> {
    if !app.keyring().derives(&credentials.path, &credentials.header) {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong header");
        return Ok(UpdateResult::WrongSecret);
    }
    let update = Update::from_value(payload);
    let scope = || Scope::TenantOf(bots::find_tenant_by_webhook_secret(bot_id, credentials.path.hash().to_vec()));
    let outcome = match commands::canned_reply(&update) {
        Some((message, name)) => {
            let results = app.db().run(scope(), vec![clients::canned_replies()]).await?;
            let replies = results.get(1).and_then(|rows| rows.first()).map(|row| get(row, "canned_replies"));
            handle_canned_reply(bot_id, message, &name, &replies.transpose()?.unwrap_or_default())
        }
        None => handle_update(bot_id, &update),
    };
    let results = app.db().run(scope(), outcome.statements).await?;
    if results.first().is_none_or(Vec::is_empty) {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong secret");
        return Ok(UpdateResult::WrongSecret);
    }
    wake(app, &results).await?;
    let has_flag = |column: &str| results.iter().flatten().any(|row| matches!(optional(row, column), Ok(Some(true))));
    if has_flag("not_yet") {
        return Ok(UpdateResult::NotYet);
    }
    let acted = has_flag("acted");
    let answer = outcome.answer.or_else(|| outcome.reply.map(|reply| reply.call(acted)));
    Ok(answer.map_or(UpdateResult::Done, UpdateResult::Answer))
}

/// Wakes the bots and dialogs that the statements returned: a bot by `bot_id` at `due_at`, a dialog by `dialog_id` at
/// `send_at`. Without `send_at` the dialog is woken at once.
async fn wake(app: &App, results: &[Vec<Row>]) -> Result<(), DbError> {
    let until = |due: jiff::Timestamp| {
        Duration::try_from(due.duration_since(jiff::Timestamp::now())).unwrap_or_default().min(MAX_DELAY)
    };
    for row in results.iter().skip(1).flatten() {
        if let Some(dialog_id) = optional(row, "dialog_id")? {
            let wait = optional(row, "send_at")?.map_or(Duration::ZERO, until);
            app.wake(&AvitoTask::V1 { dialog_id }, wait).await;
        } else if let Some(due) = optional(row, "due_at")? {
            app.wake(&TelegramTask::V1 { bot_id: get(row, "bot_id")? }, until(due)).await;
        }
    }
    Ok(())
}

/// Returns the value of a column. None: the row has no such column, or the value is null.
fn optional<'row, T: FromSql<'row>>(row: &'row Row, column: &str) -> Result<Option<T>, DbError> {
    if row.columns().iter().any(|known| known.name() == column) { get(row, column) } else { Ok(None) }
}

/// The outcome of an update: the statements to run and the answer to give at once.
#[derive(Default)]
pub(in crate::bridge) struct UpdateOutcome {
    pub(in crate::bridge) statements: Vec<Statement>,
    pub(in crate::bridge) answer: Option<Value>,
    /// The answer to a pressed button.
    pub(in crate::bridge) reply: Option<callbacks::ButtonReply>,
    /// True if one of the statements already stores whether the group has topics.
    pub(in crate::bridge) stores_topic_mode: bool,
}

fn handle_update(bot_id: i64, update: &Update) -> UpdateOutcome {
    match &update.kind {
        Kind::Message(message) => handle_message(bot_id, message),
        Kind::EditedMessage(message) => edits::handle_edit(bot_id, message),
        Kind::CallbackQuery(press) => callbacks::handle_callback(bot_id, press),
        Kind::MyChatMember(membership) => {
            UpdateOutcome { statements: handle_membership(bot_id, membership), ..UpdateOutcome::default() }
        }
        Kind::ChannelPost(_) | Kind::Other(_) => UpdateOutcome::default(),
        Kind::Unknown => {
            metrics::counter!("updates_unknown").increment(1);
            tracing::warn!(bot_id, update_id = update.id, "an update could not be read");
            UpdateOutcome::default()
        }
    }
}

/// Stores the bot's membership. A bot that is a member is made due: its rows may wait for a right that it has again.
fn handle_membership(bot_id: i64, membership: &Membership) -> Vec<Statement> {
    let chat = &membership.chat;
    let title = chat.title.clone().unwrap_or_default();
    let mut statements = vec![chats::store_chat(bot_id, chat.id, title, chat.is_forum, membership.status.clone())];
    if matches!(membership.status.as_str(), "administrator" | "creator" | "member") {
        statements.push(bot_outbox::make_due_now(bot_id));
        statements.push(bot_outbox::store_topic_mode(bot_id, chat.id, chat.is_forum));
    } else {
        statements.push(bots::mark_removed(bot_id, chat.id));
    }
    statements
}

fn handle_message(bot_id: i64, message: &Message) -> UpdateOutcome {
    if let Content::Service(service) = &message.content {
        return UpdateOutcome {
            statements: handle_service_message(bot_id, message, service),
            ..UpdateOutcome::default()
        };
    }
    let by_bot = message.from.as_ref().is_some_and(|from| from.is_bot) && !message.is_by_anonymous_admin();
    if by_bot {
        return UpdateOutcome::default();
    }
    let mut outcome = handle_person(bot_id, message);
    if !outcome.stores_topic_mode {
        outcome.statements.push(bot_outbox::store_topic_mode(bot_id, message.chat.id, message.chat.is_forum));
    }
    outcome
}

fn handle_person(bot_id: i64, message: &Message) -> UpdateOutcome {
    let language = Language::of_code(message.from.as_ref().and_then(|from| from.language_code.as_deref()));
    match (command(message), message.thread_id) {
        (Some("getid"), _) => {
            UpdateOutcome { answer: Some(answer(message, &ids(message))), ..UpdateOutcome::default() }
        }
        (Some("help" | "start"), _) => {
            UpdateOutcome { answer: Some(answer(message, texts::help(language))), ..UpdateOutcome::default() }
        }
        (_, None) if message.answers().is_none() => UpdateOutcome::default(), // General, or talk in a group without topics
        _ if message.text().is_some_and(|text| text.trim_start().starts_with("//")) => UpdateOutcome::default(),
        (Some(word), _) => commands::run_command(bot_id, message, word)
            .unwrap_or_else(|| refuse(bot_id, message, texts::unknown_command(Language::Russian))),
        (None, _) => match &message.content {
            Content::Text(text) if !text.trim().is_empty() => answer_with_text(bot_id, message, text),
            Content::Service(_) => UpdateOutcome::default(),
            Content::Text(_) | Content::Media { .. } | Content::Unknown => answer_with_media(bot_id, message),
        },
    }
}

/// Sends a canned reply as if the operator who asked for it had written its text.
fn handle_canned_reply(bot_id: i64, message: &Message, name: &str, replies: &Value) -> UpdateOutcome {
    if message.thread_id.or(message.answers()).is_none() {
        return UpdateOutcome::default();
    }
    match commands::choose_canned_reply(replies, name) {
        Ok(text) => {
            let reply = Message { content: Content::Text(text.clone()), ..message.clone() };
            answer_with_text(bot_id, &reply, &text)
        }
        Err(why) => refuse(bot_id, message, &why),
    }
}

/// Returns the command at the beginning of a text, without the bot's name behind it. None: the text is no command.
pub(in crate::bridge) fn command(message: &Message) -> Option<&str> {
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

fn handle_service_message(bot_id: i64, message: &Message, service: &Service) -> Vec<Statement> {
    match (service, message.thread_id) {
        (Service::TopicCreated { name }, Some(thread_id)) if is_created_by(message, bot_of(message)) => {
            topics::store_reported_topic(bot_id, message.chat.id, thread_id, name.clone())
        }
        (Service::MigratedTo(to_chat_id), _) => {
            let mut statements = vec![bots::move_group(bot_id, message.chat.id, *to_chat_id)];
            statements.extend(topics::move_topics(bot_id, message.chat.id, *to_chat_id));
            statements.push(bot_outbox::make_due_now(bot_id));
            statements
        }
        _ => Vec::new(),
    }
}

fn bot_of(message: &Message) -> Option<&Person> {
    message.from.as_ref().filter(|from| from.is_bot)
}

fn is_created_by(message: &Message, bot: Option<&Person>) -> bool {
    bot.is_some() && !message.is_by_anonymous_admin()
}

/// Sends a text to the buyer, in as many parts as Avito's limit requires.
fn answer_with_text(bot_id: i64, message: &Message, text: &str) -> UpdateOutcome {
    let parts: Vec<Value> = (0..)
        .zip(text_split::split(&text.replace('\0', ""), text_split::AVITO_LIMIT))
        .map(|(position, part)| json!({ "position": position, "text_key": text_split::key(&part), "text": part }))
        .collect();
    insert(bot_id, message, "text", json!(parts), None)
}

/// Sends a picture to the buyer, and its caption after it. Refuses any other media, with the reason.
fn answer_with_media(bot_id: i64, message: &Message) -> UpdateOutcome {
    match pictures::sendable(message, Language::Russian) {
        Sendable::Refused(why) => refuse(bot_id, message, why),
        Sendable::Parts(parts) => {
            let mut outcome = insert(bot_id, message, "image", parts, None);
            if let Some(album) = &message.media_group_id {
                outcome.statements.insert(1, move_album_caption(bot_id, message, album));
            }
            outcome
        }
    }
}

/// Moves an album's caption to this picture. Telegram sends the caption with the first picture; the buyer gets it after
/// the last one.
fn move_album_caption(bot_id: i64, message: &Message, album: &str) -> Statement {
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

/// Stores a message that cannot go to Avito, and refuses it in the topic at once.
fn refuse(bot_id: i64, message: &Message, why: &str) -> UpdateOutcome {
    let kind = match &message.content {
        Content::Media { media, .. } => media.as_str(),
        Content::Text(_) => "command",
        Content::Service(_) | Content::Unknown => "unknown",
    };
    insert(bot_id, message, kind, json!([]), Some(posts::notice(why, Some(message.message_id))))
}

/// The dialog of a topic.
macro_rules! dialog_of_topic {
    () => {
        "SELECT t.dialog_id FROM dialog_topics t
         WHERE t.bot_id = _bot AND t.telegram_chat_id = _chat AND t.telegram_topic_id = _thread"
    };
}

/// Counts the messages of an album that are stored already.
macro_rules! of_album {
    () => {
        "SELECT count(*)::int FROM messages o WHERE o.bot_id = _bot AND o.telegram_chat_id = _chat AND o.media_group_id = _album"
    };
}

/// Selects the dialog to wake for a repeated message, as long as the message is not sent.
macro_rules! unfinished {
    () => {
        "SELECT NULL::bigint, NULL::timestamptz, m.dialog_id, d.send_at, NULL::boolean
         FROM messages m JOIN dialogs d ON d.id = m.dialog_id
         WHERE m.bot_id = _bot AND m.telegram_chat_id = _chat AND m.telegram_message_id = _message AND m.status = 'sending'
           AND d.send_at IS NOT NULL"
    };
}

/// The parameters and the returned columns of the stored function of [`insert`].
const INSERT_PARAMETERS: &str = "(_bot bigint, _chat bigint, _thread bigint, _message bigint, _kind text, _text text, _author text, _author_id bigint,
     _parts jsonb, _refusal jsonb, _album text, _album_seconds double precision, _answered bigint, _is_forum boolean,
     _unowned_notice jsonb, _is_new boolean)
     RETURNS TABLE (bot_id bigint, due_at timestamptz, dialog_id bigint, send_at timestamptz, not_yet boolean)";
/// The body of that function.
const INSERT: &str = concat!(
    "DECLARE
         route record;
         dialog record;
         inserted bigint;
         captions int := 0;
     BEGIN
         SELECT r.client_id, r.group_chat_id INTO route
         FROM tenancy_bots r WHERE r.bot_id = _bot AND _chat IN (r.group_chat_id, r.former_group_chat_id);
         IF NOT FOUND THEN
             RETURN;
         END IF;
         IF _thread IS NULL THEN
             -- before find_dialog: a post that is not sending any more has stored its ids when find_dialog reads
             not_yet := _is_new AND EXISTS (SELECT FROM posts p WHERE p.bot_id = _bot AND p.state = 'sending');
             dialog_id := find_dialog(_bot, _chat, _thread, _answered);
             IF dialog_id IS NULL THEN
                 RETURN NEXT;
                 RETURN;
             END IF;
             not_yet := NULL;
         ELSE
             dialog_id := (",
    dialog_of_topic!(),
    ");
             IF dialog_id IS NULL THEN
                 INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id, dedup_key)
                 VALUES (route.client_id, _bot, 'notice', _unowned_notice, _chat, _thread, format('unowned_topic:%s:%s', _chat, _thread))
                 ON CONFLICT (bot_id, dedup_key) DO NOTHING;
                 RETURN QUERY
                 INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at)
                 SELECT p.bot_id, p.client_id, p.due_at FROM posts p
                 WHERE p.bot_id = _bot AND p.dedup_key = format('unowned_topic:%s:%s', _chat, _thread) AND p.state = 'pending'
                 ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
                 RETURNING outbox.bot_id, outbox.due_at, NULL::bigint, NULL::timestamptz, NULL::boolean;
                 RETURN;
             END IF;
         END IF;
         SELECT d.id, d.client_id, d.avito_account_id, d.bot_id INTO dialog
         FROM dialogs d WHERE d.id = dialog_id FOR NO KEY UPDATE;
         -- a transaction that locks both locks the dialog first
         IF _chat = route.group_chat_id AND (SELECT outbox.topics_off = _is_forum FROM bot_outboxes outbox WHERE outbox.bot_id = _bot) THEN
             UPDATE bot_outboxes outbox SET topics_off = NOT _is_forum WHERE outbox.bot_id = _bot;
         END IF;
         IF _album IS NOT NULL THEN
             captions := (",
    of_album!(),
    ");
         END IF;
         INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                               telegram_chat_id, telegram_message_id, telegram_user_id, status, error, needs_post,
                               media_group_id)
         VALUES (dialog.client_id, dialog.id, dialog.avito_account_id, dialog.bot_id, 'out', 'operator', _kind, _text,
                 _author, _chat, _message, _author_id, CASE WHEN _refusal IS NULL THEN 'sending' ELSE 'failed' END,
                 CASE WHEN _refusal IS NOT NULL THEN 'not sendable' END, false, _album)
         ON CONFLICT (bot_id, telegram_chat_id, telegram_message_id) DO NOTHING
         RETURNING id INTO inserted;
         IF inserted IS NOT NULL THEN
             INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, kind, text, text_key, attachment)
             SELECT dialog.client_id, dialog.id, inserted, dialog.avito_account_id,
                    -- the captions of an album end up on one message, each at positions of its own
                    part.position + CASE WHEN part.kind = 'text' THEN 10 * captions ELSE 0 END,
                    coalesce(part.kind, 'text'), part.text, part.text_key, part.attachment
             FROM jsonb_to_recordset(_parts) AS part (position int, kind text, text text, text_key text, attachment jsonb)
             ORDER BY part.position;
         END IF;
         IF _refusal IS NULL AND inserted IS NULL THEN
             RETURN QUERY ",
    unfinished!(),
    ";
         ELSIF _refusal IS NULL THEN
             UPDATE dialogs d
             SET state = 'answered', auto_reply_scheduled_at = NULL, last_message_at = now(),
                 send_at = greatest(coalesce(d.send_at, now()), now() + make_interval(secs => _album_seconds))
             WHERE d.id = dialog.id
             RETURNING d.send_at INTO send_at;
             RETURN NEXT;
         ELSE
             IF inserted IS NOT NULL THEN
                 INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                 VALUES (dialog.client_id, dialog.bot_id, dialog.id, 'notice', _refusal, 'refused:' || inserted);
                 ",
    receipt!("💔", "(SELECT * FROM messages m WHERE m.id = inserted) AS broken", ""),
    ";
             END IF;
             RETURN QUERY ",
    bot_outbox::posts_due!("_bot"),
    ", NULL::bigint, NULL::timestamptz, NULL::boolean;
         END IF;
     END"
);

/// Inserts an operator's message once. A repeated update finds its row and changes nothing, but wakes the dialog again:
/// the first wake-up may be lost.
///
/// A message in a topic of the bot's group that no dialog owns gets a notice, once for each topic. In a group without
/// topics an operator may answer a post before its message id is stored. Telegram is to repeat the update then: a post
/// of the bot is `sending`, and the answer is new.
fn insert(bot_id: i64, message: &Message, kind: &'static str, parts: Value, refusal: Option<Value>) -> UpdateOutcome {
    let author = message.from.as_ref();
    let is_new = message
        .date
        .is_some_and(|date| jiff::Timestamp::now().as_second().abs_diff(date) <= MAX_NOT_YET_SECONDS.unsigned_abs());
    let row = routine!(
        INSERT_PARAMETERS,
        INSERT,
        [dialog_of_topic!(), of_album!(), unfinished!(), bot_outbox::posts_due!("_bot")]
    )
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
    .bind(message.answers())
    .bind(message.chat.is_forum)
    .bind(posts::notice(texts::unowned_topic(Language::Russian), None))
    .bind(is_new);
    UpdateOutcome { statements: vec![row], stores_topic_mode: true, ..UpdateOutcome::default() }
}

fn name(person: &Person) -> String {
    [Some(person.first_name.as_str()), person.last_name.as_deref()].into_iter().flatten().collect::<Vec<_>>().join(" ")
}
