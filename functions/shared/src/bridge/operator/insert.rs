//! Stores an operator's message with its parts, in one stored function.

use serde_json::Value;

use super::{outcome::UpdateOutcome, pictures};
use crate::{
    bridge::{
        common::texts::{self, Language},
        rows::{bot_outbox, posts, receipts::receipt},
    },
    routine,
    telegram::update::{Message, Person},
};

/// The greatest age, in seconds, of an answer to an unknown post that Telegram is to repeat
/// ([`super::webhook::UpdateResult::NotYet`]). It is short, because Telegram delivers no other update of the bot until
/// then.
const MAX_NOT_YET_SECONDS: i64 = 15;

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
pub(super) fn insert(
    bot_id: i64,
    message: &Message,
    kind: &'static str,
    parts: Value,
    refusal: Option<Value>,
) -> UpdateOutcome {
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
