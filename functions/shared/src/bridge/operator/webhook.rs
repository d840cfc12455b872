//! Receives the updates of a bot's webhook: an operator's answer becomes a row with its parts, in one transaction,
//! before the 200. An update is recorded or ignored, never refused for ever: Telegram would repeat it without end, and
//! it would block every topic of the group.

use serde_json::{Value, json};

use super::{
    albums, callbacks, commands, edits,
    insert::insert,
    outcome::{UpdateFacts, UpdateOutcome, bot_of_command, command},
    pictures::{self, Sendable},
};
use crate::{
    App,
    bridge::{
        common::{
            text_split,
            texts::{self, Language},
            wakeups::Wakeups,
        },
        rows::{bot_outbox, posts, topics},
    },
    platform::{
        db::{DbError, ResultSets, Scope, Statement, get},
        secrets::Secret,
    },
    telegram::{
        sketch,
        update::{Content, Kind, Membership, Message, Service, Update},
    },
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
    body: &[u8],
) -> Result<UpdateResult, DbError> {
    if !app.keyring().derives(&credentials.path, &credentials.header) {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong header");
        return Ok(UpdateResult::WrongSecret);
    }
    let update = Update::read(body).unwrap_or(Update { id: None, kind: Kind::Unknown });
    let scope = || Scope::TenantOf(bots::find_tenant_by_webhook_secret(bot_id, credentials.path.hash().to_vec()));
    // An answer that is edited into such a command is an answer all the same: `handle_edit` has it.
    if let Kind::Message(message) = &update.kind
        && let Some(name) = bot_of_command(message)
    {
        let results = app.db().run(scope(), vec![bots::username(bot_id)]).await?;
        if has_wrong_secret(bot_id, &results) {
            return Ok(UpdateResult::WrongSecret);
        }
        if !is_username(&results, name)? {
            // Meant for another bot, and so is all of its album.
            let album = update.message().map(|message| albums::keep_inside(bot_id, message)).unwrap_or_default();
            Wakeups::read(&app.db().run(scope(), album).await?)?.wake(app).await;
            return Ok(UpdateResult::Done);
        }
    }
    let outcome = match commands::canned_reply(&update) {
        Some((message, name)) => {
            let results = app.db().run(scope(), vec![clients::canned_replies()]).await?;
            let replies = results.get(1).and_then(|rows| rows.first()).map(|row| get(row, "canned_replies"));
            handle_canned_reply(bot_id, message, &name, &replies.transpose()?.unwrap_or_default())
        }
        None if update.kind == Kind::Unknown => handle_unreadable(bot_id, &update, body),
        None => handle_update(bot_id, &update),
    };
    let results = app.db().run(scope(), outcome.statements).await?;
    if has_wrong_secret(bot_id, &results) {
        return Ok(UpdateResult::WrongSecret);
    }
    Wakeups::read(&results)?.wake(app).await;
    let facts = UpdateFacts::read(&results)?;
    if facts.needs_repeat {
        return Ok(UpdateResult::NotYet);
    }
    let answer = outcome.answer.or_else(|| outcome.reply.map(|reply| reply.call(facts.has_acted)));
    Ok(answer.map_or(UpdateResult::Done, UpdateResult::Answer))
}

/// True if the path's secret found no bot.
fn has_wrong_secret(bot_id: i64, results: &ResultSets) -> bool {
    let is_wrong = results.first().is_none_or(Vec::is_empty);
    if is_wrong {
        tracing::warn!(bot_id, "a Telegram webhook came with a wrong secret");
    }
    is_wrong
}

/// True if the bot whose name was read has this one.
fn is_username(results: &ResultSets, name: &str) -> Result<bool, DbError> {
    let row = results.last().and_then(|rows| rows.first());
    Ok(row.map(|row| get::<String>(row, "bot_username")).transpose()?.is_some_and(|own| own.eq_ignore_ascii_case(name)))
}

fn handle_update(bot_id: i64, update: &Update) -> UpdateOutcome {
    match &update.kind {
        Kind::Message(message) => handle_message(bot_id, message),
        Kind::EditedMessage(message) if is_by_another_bot(message) => UpdateOutcome::default(),
        Kind::EditedMessage(message) => edits::handle_edit(bot_id, message),
        Kind::CallbackQuery(press) => callbacks::handle_callback(bot_id, press),
        Kind::MyChatMember(membership) => {
            UpdateOutcome { statements: handle_membership(bot_id, membership), ..UpdateOutcome::default() }
        }
        Kind::ChannelPost(_) | Kind::Other(_) | Kind::Unknown => UpdateOutcome::default(),
    }
}

/// Counts an update that cannot be read. If it is about a message in a dialog's topic, its writer gets a notice.
fn handle_unreadable(bot_id: i64, update: &Update, body: &[u8]) -> UpdateOutcome {
    metrics::counter!("updates_unknown").increment(1);
    tracing::warn!(bot_id, update_id = update.id, bytes = body.len(), "an update could not be read");
    let Some(message) = sketch(body) else { return UpdateOutcome::default() };
    let notice = Statement::new(
        "SELECT sql.put_notice(d.client_id, d.bot_id, d.id, $5, format('unreadable:%s:%s', $2::bigint, $4::bigint))
         FROM dialogs d JOIN tenancy_bots b ON b.bot_id = $1 AND $2 IN (b.group_chat_id, b.former_group_chat_id)
         WHERE d.id = find_dialog($1, $2, $3, NULL)",
    );
    let notice = notice
        .bind(bot_id)
        .bind(message.chat_id)
        .bind(message.thread_id)
        .bind(message.message_id)
        .bind(posts::notice(texts::unreadable(Language::Russian), Some(message.message_id)));
    UpdateOutcome { statements: vec![notice, bot_outbox::make_due_for_posts(bot_id)], ..UpdateOutcome::default() }
}

/// Stores the bot's membership. A bot that is a member is made due: its rows may wait for a right that it has again.
fn handle_membership(bot_id: i64, membership: &Membership) -> Vec<Statement> {
    let chat = &membership.chat;
    let title = chat.title.as_deref().unwrap_or_default();
    let mut statements = vec![chats::store_chat(bot_id, chat.id, title, chat.is_forum, membership.status.clone())];
    if matches!(membership.status.as_str(), "administrator" | "creator" | "member") {
        statements.push(topics::try_topics_again(bot_id, Some(chat.id)));
        statements.push(bot_outbox::make_due_in(bot_id, chat.id));
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
    if is_by_another_bot(message) {
        return UpdateOutcome::default();
    }
    let mut outcome = handle_person(bot_id, message);
    if !outcome.stores_topic_mode {
        outcome.statements.push(bot_outbox::store_topic_mode(bot_id, message.chat.id, message.chat.is_forum));
    }
    outcome
}

fn is_by_another_bot(message: &Message) -> bool {
    message.from.as_ref().is_some_and(|from| from.is_bot) && !message.is_by_anonymous_admin()
}

fn handle_person(bot_id: i64, message: &Message) -> UpdateOutcome {
    let language = Language::of_code(message.from.as_ref().and_then(|from| from.language_code.as_deref()));
    match (command(message), message.thread_id) {
        (Some("getid"), _) => {
            let outcome = UpdateOutcome { answer: Some(answer(message, &ids(message))), ..UpdateOutcome::default() };
            albums::without_media(bot_id, message, outcome)
        }
        (Some("help" | "start"), _) => {
            let outcome =
                UpdateOutcome { answer: Some(answer(message, texts::help(language))), ..UpdateOutcome::default() };
            albums::without_media(bot_id, message, outcome)
        }
        (_, None) if message.answers().is_none() => UpdateOutcome::default(), // General, or talk in a group without topics
        _ if message.text().is_some_and(|text| text.trim_start().starts_with("//")) => {
            UpdateOutcome { statements: albums::keep_inside(bot_id, message), ..UpdateOutcome::default() }
        }
        (Some(word), _) => match commands::run_command(bot_id, message, word) {
            Some(outcome) => albums::without_media(bot_id, message, outcome),
            None => refuse_all(bot_id, message, texts::unknown_command(Language::Russian)),
        },
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
    match (commands::choose_canned_reply(replies, name), &message.content) {
        (Ok(text), Content::Media { media, file, .. }) => {
            let content = Content::Media { media: *media, file: file.clone(), caption: Some(text) };
            answer_with_media(bot_id, &Message { content, ..message.clone() })
        }
        (Ok(text), _) => {
            let reply = Message { content: Content::Text(text.clone()), ..message.clone() };
            answer_with_text(bot_id, &reply, &text)
        }
        (Err(why), _) => refuse_all(bot_id, message, &why),
    }
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
        (Service::TopicCreated { name }, Some(thread_id)) => match message.from.as_ref().filter(|from| from.is_bot) {
            Some(bot) if !message.is_by_anonymous_admin() => {
                topics::store_reported_topic(bot_id, bot.id, message.chat.id, thread_id, name.clone())
            }
            _ => Vec::new(),
        },
        (Service::MigratedTo(to_chat_id), _) => {
            let mut statements = vec![bots::move_group(bot_id, message.chat.id, *to_chat_id)];
            statements.extend(topics::move_topics(bot_id, message.chat.id, *to_chat_id));
            statements.push(topics::try_topics_again(bot_id, Some(*to_chat_id)));
            statements.push(bot_outbox::make_due_in(bot_id, *to_chat_id));
            statements
        }
        _ => Vec::new(),
    }
}

/// Sends a text to the buyer, in as many parts as Avito's limit requires.
fn answer_with_text(bot_id: i64, message: &Message, text: &str) -> UpdateOutcome {
    let parts = text_split::parts_of(text, 0);
    insert(bot_id, message, "text", json!(parts), None)
}

/// Sends a picture to the buyer, and its caption after it. Refuses any other media, with the reason.
fn answer_with_media(bot_id: i64, message: &Message) -> UpdateOutcome {
    match pictures::sendable(message, Language::Russian) {
        Sendable::Refused(why) => refuse(bot_id, message, why),
        Sendable::Parts(parts) => insert(bot_id, message, "image", parts, None),
    }
}

/// Refuses a message, and keeps the rest of its album inside.
fn refuse_all(bot_id: i64, message: &Message, why: &str) -> UpdateOutcome {
    let mut outcome = refuse(bot_id, message, why);
    outcome.statements.extend(albums::keep_inside(bot_id, message));
    outcome
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
