-- The life of a post: stored, sending, sent, failed; and notices.

-- Returns the order of a kind among what a bot has to post, 1 first. `PostKind::priority` says the same.
CREATE FUNCTION sql.post_priority(_kind text) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN _kind IN ('header', 'replay', 'text', 'mirror', 'photo', 'album', 'voice', 'venue') THEN 1
                WHEN _kind = 'notice' THEN 2 ELSE 3 END
$$;

-- Returns the order of a kind within one dialog, 0 first. `PostKind::order` says the same.
CREATE FUNCTION sql.post_order(_kind text) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN _kind = 'header' THEN 0 WHEN _kind = 'replay' THEN 1
                WHEN _kind IN ('text', 'mirror', 'photo', 'album', 'voice', 'venue', 'notice') THEN 2 ELSE 3 END
$$;

-- Stores a notice of the bridge itself, at most once per bot and key. True if it was stored now.
CREATE FUNCTION sql.put_notice(_client_id bigint, _bot_id bigint, _dialog_id bigint, _content jsonb, _dedup_key text)
RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
    VALUES (_client_id, _bot_id, _dialog_id, 'notice', _content, _dedup_key)
    ON CONFLICT (bot_id, dedup_key) DO NOTHING;
    RETURN FOUND;
END $$;

-- Stores a notice in a topic that no dialog owns, at most once per bot and key. Called by notify_unowned_topic.
CREATE FUNCTION sql.put_topic_notice(
    _client_id bigint, _bot_id bigint, _telegram_chat_id bigint, _thread_id bigint, _content jsonb, _dedup_key text
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO posts (client_id, bot_id, kind, content, telegram_chat_id, telegram_topic_id, dedup_key)
    VALUES (_client_id, _bot_id, 'notice', _content, _telegram_chat_id, _thread_id, _dedup_key)
    ON CONFLICT (bot_id, dedup_key) DO NOTHING;
END $$;

-- Stores a post that carries out what an operator asked for, at most once per bot and key. `_telegram_chat_id` is null if the
-- post goes where its dialog is by then. True if it was stored now. Called by press_button and run_command.
CREATE FUNCTION sql.put_operators_post(
    _client_id bigint, _bot_id bigint, _dialog_id bigint, _kind text, _content jsonb, _telegram_chat_id bigint, _dedup_key text
) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, dedup_key)
    VALUES (_client_id, _bot_id, _dialog_id, _kind, _content, _telegram_chat_id, _dedup_key)
    ON CONFLICT (bot_id, dedup_key) DO NOTHING;
    RETURN FOUND;
END $$;

-- Takes back a post: one that is not sent is never sent, and what Telegram has of it is deleted there. Called by
-- merge_app_message.
CREATE FUNCTION sql.withdraw_post(_post_id bigint, _reason text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE posts SET state = 'failed', error = _reason WHERE id = _post_id AND state = 'pending';
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
    SELECT p.client_id, p.bot_id, p.dialog_id, 'delete', jsonb_build_object('message_id', message_id), 'mirror:' || p.id
    FROM posts p CROSS JOIN LATERAL unnest(p.telegram_message_ids) AS message_id
    WHERE p.id = _post_id AND p.state IN ('sending', 'sent')
    ON CONFLICT (bot_id, dedup_key) DO NOTHING;
END $$;

-- Finishes a post that Telegram has. Its messages are delivered, and their chat is to be marked read in a while.
-- `_telegram_message_ids` is null if they are stored already. Locks the dialog first. Called by claim_bot_work and by rows/posts.rs.
CREATE FUNCTION sql.finish_post(_post_id bigint, _telegram_message_ids bigint[]) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog_id bigint := (SELECT p.dialog_id FROM posts p WHERE p.id = _post_id);
    _ended_post_id bigint;
BEGIN
    PERFORM FROM dialogs d WHERE d.id = _dialog_id FOR NO KEY UPDATE;
    UPDATE posts p
    SET state = 'sent', sent_at = now(), error = NULL,
        telegram_message_ids = coalesce(_telegram_message_ids, p.telegram_message_ids),
        message_chat_id = coalesce(
            p.telegram_chat_id,
            (SELECT d.telegram_chat_id FROM dialogs d WHERE d.id = _dialog_id AND d.topic_state = 'open'),
            (SELECT b.group_chat_id FROM tenancy_bots b WHERE b.bot_id = p.bot_id))
    WHERE p.id = _post_id
    RETURNING (p.content ->> 'ends_post')::bigint INTO _ended_post_id;
    IF _ended_post_id IS NOT NULL THEN
        PERFORM sql.end_post(_ended_post_id, 'Telegram did not take it');
    END IF;
    -- lookup: deliver
    UPDATE messages SET status = 'delivered' WHERE post_id = _post_id AND direction = 'in' AND status = 'received'
    -- end
    ;
    IF FOUND AND (
        -- lookup: has_buyers_message
        SELECT EXISTS (SELECT FROM messages m WHERE m.post_id = _post_id AND m.origin = 'buyer')
        -- end
    ) THEN
        -- A chat that could not be marked read waits as long as it did.
        UPDATE dialogs d
        SET mark_read_at = greatest(now() + interval '30 seconds', CASE WHEN d.mark_read_attempts > 0 THEN d.mark_read_at END)
        FROM tenancy_accounts a
        WHERE d.id = _dialog_id AND a.avito_account_id = d.avito_account_id AND a.mark_read;
    END IF;
END $$;

-- Drops a post, and frees the messages that it carries, so that another post shows them. Called by rows/posts.rs, which has the dialog
-- locked.
CREATE FUNCTION sql.drop_post(_post_id bigint, _reason text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE posts SET state = 'failed', error = _reason WHERE id = _post_id AND state IN ('pending', 'sending');
    -- lookup: messages_of_dropped_post
    UPDATE messages SET post_id = NULL WHERE post_id = _post_id AND needs_post AND status IN ('received', 'sending', 'sent')
    -- end
    ;
END $$;

-- Ends an unfinished post that failed: its incoming messages are not shown. Called by finish_post, where the notice about that is
-- sent.
CREATE FUNCTION sql.end_post(_post_id bigint, _error text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE posts SET state = 'failed', error = _error WHERE id = _post_id AND state IN ('pending', 'sending');
    IF FOUND THEN
        -- lookup: messages_of_ended_post
        UPDATE messages SET status = 'failed', error = _error WHERE post_id = _post_id AND direction = 'in'
        -- end
        ;
    END IF;
END $$;

-- Ends all that a dialog has to post, because our own code or SQL refused it too often. A notice informs the operators. Called by
-- rows/set_aside.rs, which has the dialog locked.
CREATE FUNCTION sql.end_dialog_work(_dialog_id bigint, _notice jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog dialogs;
BEGIN
    UPDATE dialogs d SET set_aside_attempts = 0, hold_until = NULL WHERE d.id = _dialog_id RETURNING d.* INTO _dialog;
    -- lookup: posts_of_set_aside
    UPDATE posts SET state = 'failed', error = 'set aside too often'
    WHERE bot_id = _dialog.bot_id AND dialog_id = _dialog_id AND state IN ('pending', 'sending')
    -- end
    ;
    -- lookup: messages_of_set_aside
    UPDATE messages SET status = CASE WHEN direction = 'in' THEN 'failed' ELSE status END, error = 'set aside too often',
           needs_post = false
    WHERE bot_id = _dialog.bot_id AND dialog_id = _dialog_id AND needs_post AND post_id IS NULL
    -- end
    ;
    PERFORM sql.put_notice(_dialog.client_id, _dialog.bot_id, _dialog_id, _notice,
                           format('set_aside:%s:%s', _dialog_id, extract(epoch FROM now())));
END $$;

-- Stores posts that were composed ahead, in their order, with the messages that each shows. The first is committed as
-- `sending` if `_is_first_sending`. Returns its id then, else null. Called by claim_bot_work.
CREATE FUNCTION sql.store_prepared_posts(_dialog_id bigint, _drafts jsonb, _is_first_sending boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _draft jsonb;
    _post_id bigint;
    _sending_post_id bigint;
BEGIN
    FOR _draft IN SELECT value FROM jsonb_array_elements(_drafts) LOOP
        INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, state)
        SELECT d.client_id, d.bot_id, d.id, _draft ->> 'kind', _draft -> 'content',
               CASE WHEN _is_first_sending THEN 'sending' ELSE 'pending' END
        FROM dialogs d WHERE d.id = _dialog_id
        RETURNING id INTO _post_id;
        -- lookup: messages_of_draft
        UPDATE messages m SET post_id = _post_id
        WHERE m.id = ANY (ARRAY(SELECT jsonb_array_elements(_draft -> 'message_ids')::bigint)) AND m.post_id IS NULL
        -- end
        ;
        IF _is_first_sending THEN
            _sending_post_id := _post_id;
            _is_first_sending := false;
        END IF;
    END LOOP;
    RETURN _sending_post_id;
END $$;

-- Commits a stored post as `sending`, if the worker still holds the lease. Its messages may appear twice if it was `sending`
-- before. A topic that turned out to be a dialog's is not removed. Returns the post's id, or no row.
CREATE FUNCTION sql.mark_post_sending(
    _bot_id bigint, _lease_owner uuid, _post_id bigint, _outcome_unknown boolean, _content jsonb
) RETURNS TABLE (id bigint) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: mark_post_sending
    WITH started AS (
        UPDATE posts p SET state = CASE WHEN owned.is_owned THEN 'sent' ELSE 'sending' END, content = coalesce(_content, p.content)
        FROM bot_outboxes outbox CROSS JOIN LATERAL (
            SELECT EXISTS (SELECT FROM posts r JOIN dialog_topics t
                ON t.bot_id = r.bot_id AND t.telegram_chat_id = r.telegram_chat_id
               AND t.telegram_topic_id = r.telegram_topic_id
                WHERE r.id = _post_id AND r.kind = 'remove_topic') AS is_owned) AS owned
        WHERE p.id = _post_id AND outbox.bot_id = _bot_id AND outbox.lease_owner = _lease_owner AND p.state IN ('pending', 'sending')
        RETURNING p.id, p.state
    ), uncertain AS (
        UPDATE messages m SET maybe_duplicate = true FROM started WHERE _outcome_unknown AND m.post_id = started.id
    )
    SELECT started.id FROM started WHERE started.state = 'sending'
    -- end
    ;
END $$;

-- Attaches messages that need a post to a post that was just committed as `sending`. Called by rows/posts.rs.
CREATE FUNCTION sql.attach_messages(_post_id bigint, _message_ids bigint[]) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    -- lookup: attach_messages
    UPDATE messages m SET post_id = p.id FROM posts p
    WHERE p.id = _post_id AND p.state = 'sending' AND m.id = ANY(_message_ids) AND m.needs_post AND m.post_id IS NULL
    -- end
    ;
END $$;
