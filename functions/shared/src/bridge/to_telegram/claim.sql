-- Claims what one bot has to do next at Telegram. Several small statements, not one: Postgres initialises every sub-plan of a
-- statement, also those that return no row. The functions that claim_bot_work calls share its setting of plan_cache_mode.

-- Commits what was just sent, stores the posts that were composed ahead, takes or renews the lease, and reads the next work as
-- JSON (`BotWork` in work.rs). With nothing to do it releases the lease. The outcome is null if the bot has no outbox. Called by
-- to_telegram/claim.rs, as the last statement of the transaction that stores what a step led to.
-- Locks: the dialog of the sent post, the dialog of the prepared posts (skipped if it is locked), then the outbox row.
CREATE FUNCTION sql.claim_bot_work(
    _bot_id bigint,
    _lease_owner uuid,
    _lease_seconds double precision,
    _recent_sends bigint[],
    _recent_reactions bigint[],
    _prepared_dialog_id bigint,
    _prepared_version text,
    _prepared_drafts jsonb,
    _is_first_sending boolean,
    _sent_post_id bigint,
    _telegram_message_ids bigint[],
    _batch_delay_seconds double precision
) RETURNS json LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _outbox bot_outboxes;
    _is_renewal boolean;
    -- Only a batch of reactions that were set charges their budget.
    _reactions_were_set boolean := _recent_reactions IS NOT NULL;
    _sending_post_id bigint;
    _sending_dialog_id bigint;
    _next record;
BEGIN
    IF _sent_post_id IS NOT NULL THEN
        -- Stored also if another worker has the lease by now: Telegram has the post.
        PERFORM sql.finish_post(_sent_post_id, _telegram_message_ids);
    END IF;
    IF _prepared_dialog_id IS NOT NULL THEN
        -- A transaction that has the dialog locked is changing it: what was composed is stale then.
        PERFORM FROM dialogs d WHERE d.id = _prepared_dialog_id FOR NO KEY UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            _prepared_dialog_id := NULL;
        END IF;
    END IF;
    SELECT outbox.* INTO _outbox FROM bot_outboxes AS outbox
    WHERE outbox.bot_id = _bot_id
      AND (outbox.lease_owner IS NULL OR outbox.lease_owner = _lease_owner OR outbox.lease_until < now())
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN json_build_object('outcome', (SELECT 'lease_taken' FROM bot_outboxes WHERE bot_outboxes.bot_id = _bot_id));
    END IF;
    _is_renewal := coalesce(_outbox.lease_owner = _lease_owner, false);
    IF _sent_post_id IS NOT NULL THEN
        _outbox.last_sent_at := now();
    END IF;
    IF _is_renewal THEN
        -- Only a worker that still holds the lease knows the budgets: another one may have charged them meanwhile.
        _outbox.recent_sends := coalesce(_recent_sends, _outbox.recent_sends);
        _outbox.recent_reactions := coalesce(_recent_reactions, _outbox.recent_reactions);
        IF _prepared_dialog_id IS NOT NULL AND sql.bot_work_version(_bot_id, _prepared_dialog_id) = _prepared_version THEN
            _sending_post_id := sql.store_prepared_posts(_prepared_dialog_id, _prepared_drafts, _is_first_sending);
        END IF;
    END IF;
    -- A dialog whose post is being sent is not claimed at the same time.
    _sending_dialog_id := CASE WHEN _sending_post_id IS NOT NULL THEN _prepared_dialog_id END;
    SELECT chosen.* INTO _next FROM sql.choose_dialog(_bot_id, _sending_dialog_id, _outbox.reactions_hold_until) AS chosen;
    IF _is_renewal AND _reactions_were_set AND _next.is_reaction THEN
        -- Reactions that came while others were set wait for more, so that they are set together.
        _outbox.reactions_hold_until := greatest(_outbox.reactions_hold_until, now() + make_interval(secs => _batch_delay_seconds));
        SELECT chosen.* INTO _next FROM sql.choose_dialog(_bot_id, _sending_dialog_id, _outbox.reactions_hold_until) AS chosen;
    END IF;
    IF _next.dialog_id IS NULL AND _sending_post_id IS NULL THEN
        RETURN sql.release_outbox(_outbox, _batch_delay_seconds);
    END IF;
    UPDATE bot_outboxes AS outbox
    SET lease_owner = _lease_owner, lease_until = now() + make_interval(secs => _lease_seconds),
        recent_sends = _outbox.recent_sends, recent_reactions = _outbox.recent_reactions, last_sent_at = _outbox.last_sent_at,
        reactions_hold_until = _outbox.reactions_hold_until
    WHERE outbox.bot_id = _bot_id
    -- A trigger may have changed the row: the budgets are those that are stored.
    RETURNING outbox.* INTO _outbox;
    RETURN json_build_object('outcome', 'claimed', 'work',
                             sql.bot_work(_outbox, _next.dialog_id, _next.is_reaction, _sending_post_id));
END $$;

-- Returns the dialog whose message has waited longest for a post; posts of messages that are older go first. Without such
-- messages it is the dialog of the first post, by priority. The dialog whose post is being sent, `_sending_dialog_id`, is left
-- out. 0 stands for posts outside of dialogs; null: nothing is due. `is_reaction`: only reactions are due. Called by
-- claim_bot_work.
CREATE FUNCTION sql.choose_dialog(
    _bot_id bigint, _sending_dialog_id bigint, _reactions_hold_until timestamptz, OUT dialog_id bigint, OUT is_reaction boolean
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message record;
    _post record;
BEGIN
    SELECT oldest.dialog_id, oldest.created_at INTO _message FROM (
        -- lookup: oldest_message
        SELECT m.dialog_id, m.created_at FROM messages m JOIN dialogs d ON d.id = m.dialog_id
        WHERE m.bot_id = _bot_id AND m.needs_post AND m.post_id IS NULL AND coalesce(d.hold_until <= now(), true)
          AND m.dialog_id IS DISTINCT FROM _sending_dialog_id
        ORDER BY m.created_at LIMIT 1
        -- end
    ) AS oldest;
    SELECT first.dialog_id, first.priority, first.created_at, first.is_reaction INTO _post FROM (
        -- lookup: first_post
        SELECT coalesce(p.dialog_id, 0) AS dialog_id, sql.post_priority(p.kind) AS priority, p.created_at,
               p.kind = 'reaction' AS is_reaction
        FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
        WHERE p.bot_id = _bot_id AND p.state IN ('pending', 'sending') AND p.due_at <= now()
          AND coalesce(d.hold_until <= now(), true)
          AND (p.kind <> 'reaction' OR coalesce(_reactions_hold_until <= now(), true))
          AND coalesce(p.dialog_id, 0) IS DISTINCT FROM _sending_dialog_id
        ORDER BY priority, p.created_at LIMIT 1
        -- end
    ) AS first;
    dialog_id := _message.dialog_id;
    IF _post.dialog_id IS NOT NULL
       AND (_message.dialog_id IS NULL OR _post.priority = 1 AND _post.created_at < _message.created_at) THEN
        dialog_id := _post.dialog_id;
    END IF;
    is_reaction := _message.dialog_id IS NULL AND coalesce(_post.is_reaction, false);
END $$;

-- Releases the lease of an outbox with nothing to do now, and notes when something is due. Returns that time in seconds where a
-- wake-up is to be sent for it, or where it is so soon that the worker waits for it itself. Called by claim_bot_work.
CREATE FUNCTION sql.release_outbox(_outbox bot_outboxes, _batch_delay_seconds double precision) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _due_at timestamptz := sql.next_due_at(_outbox.bot_id, _outbox.reactions_hold_until);
    _is_soon boolean := _due_at > now() AND _due_at <= now() + make_interval(secs => _batch_delay_seconds);
    _wake_in double precision;
BEGIN
    -- One delayed wake-up per bot: hundreds of wake-ups while nothing may be sent must not cause hundreds more.
    IF _due_at IS NOT NULL AND NOT _is_soon
       AND coalesce(_outbox.wakeup_at <= clock_timestamp() OR _outbox.wakeup_at > _due_at + interval '1 second', true) THEN
        _outbox.wakeup_at := _due_at;
        _wake_in := extract(epoch FROM _due_at - now());
    END IF;
    UPDATE bot_outboxes AS outbox
    SET lease_owner = NULL, lease_until = NULL, due_at = _due_at, wakeup_at = _outbox.wakeup_at,
        recent_sends = _outbox.recent_sends, recent_reactions = _outbox.recent_reactions, last_sent_at = _outbox.last_sent_at,
        reactions_hold_until = _outbox.reactions_hold_until
    WHERE outbox.bot_id = _outbox.bot_id;
    -- A wake-up that is scheduled stays scheduled.
    RETURN CASE WHEN _is_soon THEN json_build_object('outcome', 'due_soon', 'wake_in', extract(epoch FROM _due_at - now()))
                ELSE json_build_object('outcome', 'idle', 'wake_in', _wake_in) END;
END $$;

-- Returns the time at which the first post or message of a bot is due. Called by release_outbox.
CREATE FUNCTION sql.next_due_at(_bot_id bigint, _reactions_hold_until timestamptz) RETURNS timestamptz LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: next_due_at
        SELECT least(
            (SELECT min(greatest(p.due_at, d.hold_until, CASE WHEN p.kind = 'reaction' THEN _reactions_hold_until END))
             FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
             WHERE p.bot_id = _bot_id AND p.state IN ('pending', 'sending')),
            (SELECT min(coalesce(d.hold_until, now())) FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE m.bot_id = _bot_id AND m.needs_post AND m.post_id IS NULL))
        -- end
    );
END $$;

-- Returns all that a worker needs for the next post of a dialog, or the reactions that are due. Called by claim_bot_work.
CREATE FUNCTION sql.bot_work(_outbox bot_outboxes, _dialog_id bigint, _is_reaction boolean, _sending_post_id bigint) RETURNS json
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _bot_id bigint := _outbox.bot_id;
    _client_id bigint;
    _bot json;
    _needs_rename boolean;
    _dialog json;
    _scheduled_emoji text;
    _last_posted_at timestamptz;
    _messages json;
    _version text;
    _replies json;
BEGIN
    SELECT found.* INTO _client_id, _bot FROM (
        -- lookup: bot
        SELECT b.client_id, json_build_object(
            'client_id', b.client_id, 'token', b.token, 'group_chat_id', b.group_chat_id, 'topic_mode', b.topic_mode,
            'broken', b.status <> 'active', 'broken_since', b.broken_since, 'suspended', b.suspended_at IS NOT NULL)
        FROM tenancy_bots b WHERE b.bot_id = _bot_id
        -- end
    ) AS found;
    IF _dialog_id > 0 AND NOT _is_reaction THEN
        SELECT found.needs_rename, found.dialog INTO _needs_rename, _dialog FROM sql.claimed_dialog(_dialog_id) AS found;
        IF _needs_rename THEN
            _scheduled_emoji := (
                -- The state stands in `CASE`, so that the key alone finds the row: else Postgres reads all unfinished posts.
                -- lookup: scheduled_emoji
                SELECT CASE WHEN p.state IN ('pending', 'sending') THEN p.content ->> 'emoji' END FROM posts p
                WHERE p.bot_id = _bot_id AND p.dedup_key = 'rename:' || _dialog_id
                -- end
            );
        END IF;
        _messages := sql.pending_messages(_bot_id, _dialog_id);
        IF _messages IS NOT NULL THEN
            _last_posted_at := (
                -- lookup: last_posted_at
                SELECT m.avito_created FROM messages m
                WHERE m.client_id = _client_id AND m.dialog_id = _dialog_id AND m.post_id IS NOT NULL AND m.avito_created IS NOT NULL
                ORDER BY m.id DESC LIMIT 1
                -- end
            );
            _version := sql.bot_work_version(_bot_id, _dialog_id);
        END IF;
        IF _messages::text LIKE '%"quote"%' THEN
            _replies := sql.reply_targets(_bot_id, _dialog_id);
        END IF;
    END IF;
    RETURN json_build_object(
        'outbox', json_build_object(
            'budget', _outbox.recent_sends, 'reactions', _outbox.recent_reactions,
            'topics_off', _outbox.topics_off, 'rate_limited_until', _outbox.rate_limited_until,
            'broken_until', _outbox.broken_until,
            'last_sent_at', _outbox.last_sent_at, 'now', now()),
        'outage', CASE WHEN _outbox.failing_calls IS NOT NULL THEN json_build_object(
            'calls', _outbox.failing_calls, 'since', _outbox.out_since, 'trial_at', _outbox.trial_at,
            'attempts', _outbox.failed_trials) END,
        'bot', _bot, 'dialog', _dialog, 'scheduled_emoji', _scheduled_emoji, 'last_posted_at', _last_posted_at,
        'posts', CASE WHEN _dialog_id IS NOT NULL AND NOT _is_reaction THEN sql.pending_posts(_bot_id, _dialog_id) END,
        'messages', _messages, 'replies', _replies,
        'receipts', CASE WHEN _is_reaction THEN sql.due_reactions(_bot_id, _outbox.reactions_hold_until) END,
        'version', _version, 'sending_post_id', _sending_post_id);
END $$;

-- Returns a dialog with the keys of its account (`ClaimedDialog` in work.rs), and true if its topic should bear another emoji.
-- Called by bot_work.
CREATE FUNCTION sql.claimed_dialog(_dialog_id bigint, OUT needs_rename boolean, OUT dialog json) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    SELECT chosen.wanted_emoji <> chosen.topic_emoji, row_to_json(chosen) INTO needs_rename, dialog
    FROM (
        -- lookup: dialog
        SELECT d.id, d.bot_id, d.state, d.topic_closed, d.topic_emoji, d.avito_chat_id, d.buyer, d.item,
               coalesce(d.confirmed_at, d.provisional_since) IS NOT NULL AS confirmed, a.name AS account_name, a.timezone,
               d.topic_attempts, d.topic_failed_since, coalesce(d.in_general_until > now(), false) AS in_general,
               d.confirm_attempts, d.confirm_failed_since, d.set_aside_attempts,
               a.mark_read AND d.mark_read_at IS NULL AS schedules_mark_read,
               CASE d.topic_state
                   WHEN 'open' THEN json_build_object('open', json_build_object(
                       'chat_id', d.telegram_chat_id, 'thread_id', d.telegram_topic_id))
                   WHEN 'creating' THEN json_build_object('creating', json_build_object('since', d.topic_requested_at))
                   ELSE to_json('none'::text) END AS topic,
               sql.account_keys(a) AS keys, sql.wanted_topic_emoji(d.client_id, d.id, d.state) AS wanted_emoji
        FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
        WHERE d.id = _dialog_id OFFSET 0
        -- end
    ) AS chosen;
END $$;

-- Returns the messages of a dialog that need a post, in their order (`PendingMessage` in work.rs). Called by bot_work.
CREATE FUNCTION sql.pending_messages(_bot_id bigint, _dialog_id bigint) RETURNS json LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT json_agg(message) FROM (
        -- lookup: pending_messages
        SELECT id, origin, kind, text, attachments, author_name AS author, avito_created AS created, created_at AS arrived,
               confirmed_at IS NOT NULL AS confirmed
        -- Selected before they are sorted: else Postgres reads the whole history in this order.
        FROM (SELECT * FROM messages WHERE bot_id = _bot_id AND dialog_id = _dialog_id AND needs_post AND post_id IS NULL
              OFFSET 0) AS messages
        ORDER BY coalesce(avito_created, created_at), avito_position, id
        LIMIT 100
        -- end
    ) AS message);
END $$;

-- Returns the message in Telegram that shows the quoted message, by the id of each pending message that quotes another.
-- Called by bot_work.
CREATE FUNCTION sql.reply_targets(_bot_id bigint, _dialog_id bigint) RETURNS json LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: reply_targets
        SELECT json_object_agg(messages.id, (
                   -- The id is selected first: as a condition on q it would be tried on all messages of the client.
                   SELECT coalesce(q.telegram_message_id, shown.telegram_message_ids[1])
                   FROM (SELECT coalesce(
                       (SELECT k.id FROM messages k WHERE k.avito_account_id = messages.avito_account_id
                        AND k.avito_message_id = messages.attachments #>> '{quote,id}'),
                       (SELECT p.message_id FROM parts p WHERE p.avito_account_id = messages.avito_account_id
                        AND p.avito_message_id = messages.attachments #>> '{quote,id}')) AS id OFFSET 0) AS quoted
                   JOIN messages q ON q.id = quoted.id
                   LEFT JOIN posts shown ON shown.id = q.post_id))
        FROM (SELECT * FROM messages WHERE bot_id = _bot_id AND dialog_id = _dialog_id AND needs_post AND post_id IS NULL
              AND attachments ? 'quote' OFFSET 0) AS messages
        -- end
    );
END $$;

-- Returns the due unfinished posts of a dialog, without reactions, in the order of sending (`Post` in work.rs). 0 stands for
-- posts outside of dialogs. Called by bot_work.
CREATE FUNCTION sql.pending_posts(_bot_id bigint, _dialog_id bigint) RETURNS json LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT json_agg(post) FROM (
        -- `clock_timestamp()`, not `now()`: another transaction may store a header after this one began, and commit before this
        -- statement reads. The header is due then, and goes first.
        -- lookup: pending_posts
        SELECT id, kind, content, state = 'sending' AS outcome_unknown, attempts, answers_lost, failed_since,
               telegram_chat_id AS chat_id, telegram_topic_id AS thread_id
        FROM posts
        WHERE bot_id = _bot_id AND coalesce(dialog_id, 0) = _dialog_id AND state IN ('pending', 'sending')
          AND due_at <= clock_timestamp() AND kind <> 'reaction'
        ORDER BY sql.post_order(kind), id
        LIMIT 20
        -- end
    ) AS post);
END $$;

-- Returns the reactions of all dialogs that may be set now: at most eight, so that a new message waits for one round of calls
-- only. Called by bot_work.
CREATE FUNCTION sql.due_reactions(_bot_id bigint, _reactions_hold_until timestamptz) RETURNS json LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (SELECT json_agg(reaction) FROM (
        -- lookup: due_reactions
        SELECT p.id, p.kind, p.content, p.state = 'sending' AS outcome_unknown, p.attempts, p.answers_lost, p.failed_since,
               p.telegram_chat_id AS chat_id, p.telegram_topic_id AS thread_id
        FROM posts p LEFT JOIN dialogs d ON d.id = p.dialog_id
        WHERE p.bot_id = _bot_id AND p.state IN ('pending', 'sending') AND p.kind = 'reaction' AND p.due_at <= clock_timestamp()
          AND coalesce(_reactions_hold_until <= now(), true) AND coalesce(d.hold_until <= now(), true)
        ORDER BY p.id LIMIT 8
        -- end
    ) AS reaction);
END $$;

-- Returns the version of all rows that the next posts of a dialog are composed of: a row that changes gets another `xmin`.
-- Called by claim_bot_work and bot_work.
CREATE FUNCTION sql.bot_work_version(_bot_id bigint, _dialog_id bigint) RETURNS text LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: bot_work_version
        SELECT concat_ws(' ', d.xmin,
            (SELECT string_agg(concat_ws(':', m.id, m.xmin), ',' ORDER BY m.id) FROM messages m
             WHERE m.bot_id = _bot_id AND m.dialog_id = d.id AND m.needs_post AND m.post_id IS NULL),
            (SELECT string_agg(concat_ws(':', p.id, p.xmin), ',' ORDER BY p.id) FROM posts p
             WHERE p.bot_id = _bot_id AND p.dialog_id = d.id AND p.state IN ('pending', 'sending')))
        FROM dialogs d WHERE d.id = _dialog_id
        -- end
    );
END $$;
