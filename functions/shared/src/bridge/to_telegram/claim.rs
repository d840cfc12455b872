//! The SQL by which a worker claims a bot's next work, from the choice of the dialog to all that its next post is
//! composed of.

use uuid::Uuid;

use super::{
    receipts,
    work::{Completed, PreparedPosts},
};
use crate::{
    bridge::rows::{bot_outbox, posts, topic_emoji},
    platform::db::Statement,
    routine,
    tenancy::accounts,
};

/// Selects the dialog whose message has waited longest, without `_shown`, the dialog whose post is sent now.
macro_rules! oldest_message {
    () => {
        "SELECT m.dialog_id, m.created_at FROM messages m JOIN dialogs d ON d.id = m.dialog_id
         WHERE m.bot_id = _bot AND m.needs_post AND m.post_id IS NULL AND coalesce(d.hold_until <= now(), true)
           AND m.dialog_id IS DISTINCT FROM _shown
         ORDER BY m.created_at LIMIT 1"
    };
}

/// Selects the dialog whose post comes next, also without `_shown`; 0 for a post outside of dialogs. Posts with
/// messages come first, then notices, then decorations.
macro_rules! first_post {
    () => {
        "SELECT coalesce(p.dialog_id, 0) AS dialog_id,
                CASE WHEN p.kind IN ('header', 'replay', 'text', 'mirror', 'photo', 'album', 'voice', 'venue') THEN 1
                     WHEN p.kind = 'notice' THEN 2 ELSE 3 END AS claim, p.created_at, p.kind = 'reaction' AS is_receipt
         FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
         WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending') AND p.due_at <= now()
           AND coalesce(d.hold_until <= now(), true)
           AND (p.kind <> 'reaction' OR coalesce(_reactions_after <= now(), true))
           AND coalesce(p.dialog_id, 0) IS DISTINCT FROM _shown
         ORDER BY claim, p.created_at LIMIT 1"
    };
}

/// Selects a dialog's due unfinished posts, without receipts, in the order of sending.
// `clock_timestamp()`, not `now()`: another transaction may store a header after this one began, and commit before this
// statement reads. The header is then due, and goes first.
macro_rules! posts {
    () => {
        "SELECT id, kind, content, state = 'sending' AS outcome_unknown, attempts, telegram_chat_id AS chat_id, telegram_topic_id AS thread_id
         FROM posts
         WHERE bot_id = _bot AND coalesce(dialog_id, 0) = _dialog AND state IN ('pending', 'sending') AND due_at <= clock_timestamp()
           AND kind <> 'reaction'
         ORDER BY CASE WHEN kind = 'header' THEN 0 WHEN kind = 'replay' THEN 1
                       WHEN kind IN ('text', 'mirror', 'photo', 'album', 'voice', 'venue', 'notice') THEN 2 ELSE 3 END, id
         LIMIT 20"
    };
}

/// Selects a dialog's messages that need a post, in their order.
macro_rules! messages {
    () => {
        "SELECT id, origin, kind, text, attachments, author_name AS author, avito_created AS created, created_at AS arrived,
                confirmed_at IS NOT NULL AS confirmed
         -- selected before they are sorted: else Postgres reads the whole history in this order
         FROM (SELECT * FROM messages WHERE bot_id = _bot AND dialog_id = _dialog AND needs_post AND post_id IS NULL OFFSET 0) AS messages
         ORDER BY coalesce(avito_created, created_at), avito_position, id
         LIMIT 100"
    };
}

/// Selects a JSON object: by the id of each of these messages that quotes another, the Telegram message of the quoted.
macro_rules! replies {
    () => {
        "SELECT json_object_agg(messages.id, (
                    -- the id is selected first: Postgres would test a condition on q on all messages of the client
                    SELECT coalesce(q.telegram_message_id, shown.telegram_message_ids[1])
                    FROM (SELECT coalesce(
                        (SELECT k.id FROM messages k WHERE k.avito_account_id = messages.avito_account_id
                         AND k.avito_message_id = messages.attachments #>> '{quote,id}'),
                        (SELECT p.message_id FROM parts p WHERE p.avito_account_id = messages.avito_account_id
                         AND p.avito_message_id = messages.attachments #>> '{quote,id}')) AS id OFFSET 0) AS quoted
                    JOIN messages q ON q.id = quoted.id
                    LEFT JOIN posts shown ON shown.id = q.post_id))
         FROM (SELECT * FROM messages WHERE bot_id = _bot AND dialog_id = _dialog AND needs_post AND post_id IS NULL
               AND attachments ? 'quote' OFFSET 0) AS messages"
    };
}

/// Selects the version of all rows that a dialog's next posts are composed of: a row that changes gets another `xmin`.
macro_rules! version {
    ($dialog:literal) => {
        concat!(
            "SELECT concat_ws(' ', d.xmin,
                 (SELECT string_agg(concat_ws(':', m.id, m.xmin), ',' ORDER BY m.id) FROM messages m
                  WHERE m.bot_id = _bot AND m.dialog_id = d.id AND m.needs_post AND m.post_id IS NULL),
                 (SELECT string_agg(concat_ws(':', p.id, p.xmin), ',' ORDER BY p.id) FROM posts p
                  WHERE p.bot_id = _bot AND p.dialog_id = d.id AND p.state IN ('pending', 'sending')))
             FROM dialogs d WHERE d.id = ",
            $dialog
        )
    };
}

/// Selects true if the dialog's topic should bear another emoji, and the dialog with its account's keys as the JSON of
/// [`super::work::ClaimedDialog`].
macro_rules! dialog {
    () => {
        concat!(
            "SELECT chosen.wanted_emoji <> chosen.topic_emoji, row_to_json(chosen)
             FROM (SELECT d.id, d.bot_id, d.state, d.topic_closed, d.topic_emoji, d.avito_chat_id, d.buyer, d.item,
                          d.confirmed_at IS NOT NULL AS confirmed, a.name AS account_name, a.timezone,
                          CASE d.topic_state
                              WHEN 'open' THEN json_build_object('open', json_build_object(
                                  'chat_id', d.telegram_chat_id, 'thread_id', d.telegram_topic_id))
                              WHEN 'creating' THEN json_build_object('creating', json_build_object(
                                  'since', d.topic_requested_at))
                              ELSE to_json('none'::text) END AS topic, ",
            accounts::keys!(),
            " AS keys, ",
            topic_emoji::wanted_emoji!(),
            " AS wanted_emoji
                   FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
                   WHERE d.id = _dialog OFFSET 0) AS chosen"
        )
    };
}

/// Selects the bot's client, and the bot as the JSON of [`super::work::ClaimedBot`].
macro_rules! bot {
    () => {
        "SELECT b.client_id, json_build_object(
             'client_id', b.client_id, 'token', b.token, 'group_chat_id', b.group_chat_id, 'topic_mode', b.topic_mode,
             'broken', b.status <> 'active', 'suspended', b.suspended_at IS NOT NULL)
         FROM tenancy_bots b WHERE b.bot_id = _bot"
    };
}

/// Selects the time, by Avito's clock, of a dialog's newest message that has a post.
macro_rules! last_posted_at {
    () => {
        "SELECT m.avito_created FROM messages m
         WHERE m.client_id = _client AND m.dialog_id = _dialog AND m.post_id IS NOT NULL AND m.avito_created IS NOT NULL
         ORDER BY m.id DESC LIMIT 1"
    };
}

/// Selects the emoji of the dialog's scheduled rename.
macro_rules! scheduled_emoji {
    () => {
        // `CASE` has the state, so that the key alone finds the row: else Postgres reads all unfinished posts of the bot.
        "SELECT CASE WHEN p.state IN ('pending', 'sending') THEN p.content ->> 'emoji' END FROM posts p
         WHERE p.bot_id = _bot AND p.dedup_key = 'rename:' || _dialog"
    };
}

/// Selects the time at which the bot's first post or message is due.
macro_rules! first_due {
    () => {
        "SELECT least(
             (SELECT min(greatest(p.due_at, d.hold_until, CASE WHEN p.kind = 'reaction' THEN _reactions_after END))
              FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
              WHERE p.bot_id = _bot AND p.state IN ('pending', 'sending')),
             (SELECT min(coalesce(d.hold_until, now())) FROM messages m JOIN dialogs d ON d.id = m.dialog_id
              WHERE m.bot_id = _bot AND m.needs_post AND m.post_id IS NULL))"
    };
}

/// Builds the transaction that runs `outcome`, stores what is `completed`, and claims the bot's next work, or releases
/// the lease. The claim reads the outbox after the outcome, so that what was just sent counts first.
///
/// Stores the `prepared` posts before it claims, if their dialog has not changed (same `xmin`) and is not locked. If it
/// sets the first to `sending` (`BotWork::sending_post_id`), the claimed work is that of another dialog, which can be
/// composed during the call. If they are not stored, their dialog is claimed like any other.
pub(super) fn claim_bot_work(
    bot_id: i64,
    owner: Uuid,
    mut outcome: Vec<Statement>,
    completed: Completed,
    prepared: Option<&PreparedPosts>,
) -> Vec<Statement> {
    let (sent_post_id, message_ids) = completed.sent_post.map(|sent| (sent.post_id, sent.message_ids)).unzip();
    let drafts = prepared.map(|prepared| serde_json::to_value(&prepared.drafts).unwrap_or_default());
    outcome.push(
        routine!(
            CLAIM_PARAMETERS,
            CLAIM,
            [
                oldest_message!(),
                first_post!(),
                posts!(),
                messages!(),
                replies!(),
                dialog!(),
                last_posted_at!(),
                scheduled_emoji!(),
                receipts::receipts_due!(),
                first_due!(),
                version!("_ready"),
                bot!(),
                posts::show!(),
                posts::deliver!(),
                posts::buyers!(),
            ]
        )
        .bind(bot_id)
        .bind(owner)
        .bind(bot_outbox::LEASE.as_secs_f64())
        .bind(completed.messages.map(|budget| budget.left))
        .bind(completed.messages.map(|budget| budget.at))
        .bind(completed.reactions.map(|budget| budget.left))
        .bind(completed.reactions.map(|budget| budget.at))
        .bind(prepared.map(|prepared| prepared.dialog_id))
        .bind(prepared.map(|prepared| prepared.version.clone()))
        .bind(drafts)
        .bind(prepared.is_some_and(|prepared| prepared.is_first_sending))
        .bind(sent_post_id)
        .bind(message_ids),
    );
    outcome
}

/// The parameters of the stored function of [`claim_bot_work`], and its result.
const CLAIM_PARAMETERS: &str =
    "(_bot bigint, _owner uuid, _lease_seconds double precision, _left double precision, _left_at timestamptz,
      _reactions_left double precision, _reactions_left_at timestamptz, _ready bigint, _version text, _drafts jsonb,
      _begins boolean, _post bigint, _telegram_message_ids bigint[],
      _client bigint DEFAULT NULL, _dialog bigint DEFAULT NULL, _shown bigint DEFAULT NULL,
      _reactions_after timestamptz DEFAULT NULL, _draft jsonb DEFAULT NULL, _begun bigint DEFAULT NULL)
     RETURNS json";
/// Stores `_post` as sent and the prepared `_drafts`, takes or renews the lease, and reads the next work; with nothing
/// to do it releases the lease. Lock order: the dialog of `_post`, the dialog `_ready` (skipped if locked), the outbox.
// Several small statements, not one: Postgres initialises every sub-plan of a statement, also those that return no row.
const CLAIM: &str = concat!(
    "DECLARE
         kept boolean;
         reactions_were_set boolean;
         booked timestamptz;
         due timestamptz;
         soon boolean;
         since timestamptz;
         next record;
         budget_left double precision;
         budget_updated_at timestamptz;
         reaction_budget_left double precision;
         reaction_budget_updated_at timestamptz;
         topics_off boolean;
         rate_limited_until timestamptz;
         wake_in double precision;
         bot json;
         dialog json;
         needs_rename boolean;
         scheduled_emoji text;
         last_posted_at timestamptz;
         messages json;
         replies json;
         posts json;
         receipts json;
         version text;
     BEGIN
         IF _post IS NOT NULL THEN
             ",
    posts::finish!(),
    ";
         END IF;
         IF _ready IS NOT NULL THEN
             -- as every transaction that touches both: before the outbox; a transaction that has it locked changes it
             PERFORM FROM dialogs d WHERE d.id = _ready FOR NO KEY UPDATE SKIP LOCKED;
             IF NOT FOUND THEN
                 _ready := NULL;
             END IF;
         END IF;
         SELECT outbox.lease_owner = _owner, outbox.wakeup_at, outbox.reactions_hold_until, outbox.topics_off, outbox.rate_limited_until,
                outbox.budget_left, outbox.budget_updated_at, outbox.reaction_budget_left, outbox.reaction_budget_updated_at
         INTO kept, booked, _reactions_after, topics_off, rate_limited_until,
              budget_left, budget_updated_at, reaction_budget_left, reaction_budget_updated_at
         FROM bot_outboxes AS outbox
         WHERE outbox.bot_id = _bot
           AND (outbox.lease_owner IS NULL OR outbox.lease_owner = _owner OR outbox.lease_until < now())
         FOR NO KEY UPDATE;
         IF NOT FOUND THEN
             RETURN json_build_object('outcome', (SELECT 'lease_taken' FROM bot_outboxes WHERE bot_outboxes.bot_id = _bot));
         END IF;
         reactions_were_set := _reactions_left IS NOT NULL;
         -- if another worker had the lease meanwhile, the budget that it left counts
         _left := coalesce(CASE WHEN kept THEN _left END, budget_left);
         _left_at := coalesce(CASE WHEN kept THEN _left_at END, budget_updated_at);
         _reactions_left := coalesce(CASE WHEN kept THEN _reactions_left END, reaction_budget_left);
         _reactions_left_at := coalesce(CASE WHEN kept THEN _reactions_left_at END, reaction_budget_updated_at);
         IF kept AND _ready IS NOT NULL AND (",
    version!("_ready"),
    ") = _version THEN
             ",
    posts::write_down!("_ready"),
    ";
             _shown := CASE WHEN _begun IS NOT NULL THEN _ready END;
         END IF;
         SELECT oldest.dialog_id, oldest.created_at INTO _dialog, since FROM (",
    oldest_message!(),
    ") AS oldest;
         SELECT first.dialog_id, first.claim, first.created_at, first.is_receipt INTO next FROM (",
    first_post!(),
    ") AS first;
         IF next.dialog_id IS NOT NULL AND (_dialog IS NULL OR next.claim = 1 AND next.created_at < since) THEN
             _dialog := next.dialog_id;
         END IF;
         IF kept AND reactions_were_set AND since IS NULL AND next.is_receipt THEN
             -- reactions that came while others were set wait for more, so that they go together
             _reactions_after := greatest(_reactions_after, now() + ",
    receipts::batch_delay!(),
    ");
             SELECT first.dialog_id, first.claim, first.created_at, first.is_receipt INTO next FROM (",
    first_post!(),
    ") AS first;
             _dialog := next.dialog_id;
         END IF;
         IF _dialog IS NULL AND _begun IS NULL THEN
             due := (",
    first_due!(),
    ");
             soon := due > now() AND due <= now() + ",
    receipts::batch_delay!(),
    ";
             -- none if one is scheduled: hundreds of wake-ups while nothing may be sent must not cause hundreds more
             IF due IS NOT NULL AND NOT soon
                AND coalesce(booked <= clock_timestamp() OR booked > due + interval '1 second', true) THEN
                 booked := due;
                 wake_in := extract(epoch FROM due - now());
             END IF;
             UPDATE bot_outboxes AS outbox
             SET lease_owner = NULL, lease_until = NULL, due_at = due, wakeup_at = booked,
                 budget_left = _left, budget_updated_at = _left_at, reactions_hold_until = _reactions_after,
                 reaction_budget_left = _reactions_left, reaction_budget_updated_at = _reactions_left_at
             WHERE outbox.bot_id = _bot;
             -- a wake-up that is scheduled stays scheduled
             RETURN CASE WHEN soon THEN json_build_object('outcome', 'due_soon', 'wake_in', extract(epoch FROM due - now()))
                         ELSE json_build_object('outcome', 'idle', 'wake_in', wake_in) END;
         END IF;
         UPDATE bot_outboxes AS outbox
         SET lease_owner = _owner, lease_until = now() + make_interval(secs => _lease_seconds),
             budget_left = _left, budget_updated_at = _left_at, reactions_hold_until = _reactions_after,
             reaction_budget_left = _reactions_left, reaction_budget_updated_at = _reactions_left_at
         WHERE outbox.bot_id = _bot
         RETURNING outbox.budget_left, outbox.budget_updated_at, outbox.reaction_budget_left, outbox.reaction_budget_updated_at
         INTO budget_left, budget_updated_at, reaction_budget_left, reaction_budget_updated_at;
         SELECT found.* INTO _client, bot FROM (",
    bot!(),
    ") AS found;
         IF since IS NULL AND next.is_receipt THEN
             receipts := (SELECT json_agg(receipt) FROM (",
    receipts::receipts_due!(),
    ") AS receipt);
             _dialog := NULL;
         END IF;
         IF _dialog > 0 THEN
             SELECT found.* INTO needs_rename, dialog FROM (",
    dialog!(),
    ") AS found;
             IF needs_rename THEN
                 scheduled_emoji := (",
    scheduled_emoji!(),
    ");
             END IF;
             messages := (SELECT json_agg(message) FROM (",
    messages!(),
    ") AS message);
             IF messages IS NOT NULL THEN
                 last_posted_at := (",
    last_posted_at!(),
    ");
                 version := (",
    version!("_dialog"),
    ");
             END IF;
             IF messages::text LIKE '%\"quote\"%' THEN
                 replies := (",
    replies!(),
    ");
             END IF;
         END IF;
         IF _dialog IS NOT NULL THEN
             posts := (SELECT json_agg(post) FROM (",
    posts!(),
    ") AS post);
         END IF;
         RETURN json_build_object('outcome', 'claimed', 'work', json_build_object(
             'outbox', json_build_object(
                 'budget', json_build_object('left', budget_left, 'at', budget_updated_at),
                 'reactions', json_build_object('left', reaction_budget_left, 'at', reaction_budget_updated_at),
                 'topics_off', topics_off, 'rate_limited_until', rate_limited_until, 'now', now()),
             'bot', bot, 'dialog', dialog, 'scheduled_emoji', scheduled_emoji, 'last_posted_at', last_posted_at, 'posts', posts,
             'messages', messages, 'replies', replies, 'receipts', receipts, 'version', version, 'sending_post_id', _begun));
     END"
);
