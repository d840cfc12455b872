-- Stores an operator's message with its parts.

-- Inserts an operator's message once, cancels the auto-reply, and makes the dialog due. A message that cannot go to Avito is stored
-- as failed, with a notice. A repeated update changes nothing, but returns again whom to wake. In a topic that no dialog owns, the
-- writer gets one notice. Returns wake-ups (common/wakeups.rs); in the first row `not_yet` is true if the message replies to a
-- post whose id may be stored in a moment. Called by operator/insert.rs.
-- Locks: first the dialog, then the outbox row, as everywhere.
CREATE FUNCTION sql.store_operator_message(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _thread_id bigint,
    _telegram_message_id bigint,
    _kind text,
    _text text,
    _author_name text,
    _telegram_user_id bigint,
    _parts jsonb,
    _refusal jsonb,
    _caption text,
    _caption_parts jsonb,
    _media_group_id text,
    _album_wait_seconds double precision,
    _reply_to_message_id bigint,
    _is_forum boolean,
    _unowned_notice jsonb,
    _left_group_notice jsonb,
    _is_new boolean,
    _is_edit boolean
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz, not_yet boolean)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _bot record;
    _dialog record;
    _dialog_id bigint;
    _message messages;
    _send_at timestamptz;
BEGIN
    SELECT b.client_id, b.group_chat_id INTO _bot
    FROM tenancy_bots b WHERE b.bot_id = _bot_id AND _telegram_chat_id IN (b.group_chat_id, b.former_group_chat_id);
    IF NOT FOUND OR _thread_id IS NULL AND sql.has_another_bot(_bot_id, _telegram_chat_id, _reply_to_message_id) THEN
        RETURN QUERY SELECT *, NULL::boolean FROM sql.notify_left_group(
            _bot_id, _telegram_chat_id, _thread_id, _reply_to_message_id, _left_group_notice);
        RETURN;
    END IF;
    IF _thread_id IS NULL THEN
        -- Read first: a post that is not `sending` any more has its id by the time the dialog is looked up.
        not_yet := _is_new AND EXISTS (SELECT FROM posts p WHERE p.bot_id = _bot_id AND p.state = 'sending');
        _dialog_id := find_dialog(_bot_id, _telegram_chat_id, _thread_id, _reply_to_message_id);
        IF _dialog_id IS NULL THEN
            RETURN NEXT;
            RETURN;
        END IF;
    ELSE
        _dialog_id := (
            -- lookup: dialog_of_topic
            SELECT t.dialog_id FROM dialog_topics t
            WHERE t.bot_id = _bot_id AND t.telegram_chat_id = _telegram_chat_id AND t.telegram_topic_id = _thread_id
            -- end
        );
        IF _dialog_id IS NULL AND _telegram_chat_id IS DISTINCT FROM _bot.group_chat_id THEN
            RETURN; -- in its former group, where another bot may work by now
        END IF;
        IF _dialog_id IS NULL THEN
            RETURN QUERY SELECT *, NULL::boolean FROM sql.notify_unowned_topic(
                _bot.client_id, _bot_id, _telegram_chat_id, _thread_id, _unowned_notice);
            RETURN;
        END IF;
    END IF;
    SELECT d.id, d.client_id, d.avito_account_id, d.bot_id INTO _dialog
    FROM dialogs d WHERE d.id = _dialog_id FOR NO KEY UPDATE;
    IF _telegram_chat_id = _bot.group_chat_id
       AND (SELECT outbox.topics_off = _is_forum FROM bot_outboxes outbox WHERE outbox.bot_id = _bot_id) THEN
        PERFORM sql.store_topic_mode(_bot_id, _telegram_chat_id, _is_forum);
    END IF;
    IF _media_group_id IS NOT NULL AND sql.is_inside_album(_bot_id, _telegram_chat_id, _media_group_id) THEN
        RETURN;
    END IF;
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                          telegram_chat_id, telegram_message_id, telegram_user_id, status, error, needs_post, media_group_id)
    VALUES (_dialog.client_id, _dialog.id, _dialog.avito_account_id, _dialog.bot_id, 'out', 'operator', _kind, _text,
            _author_name, _telegram_chat_id, _telegram_message_id, _telegram_user_id,
            CASE WHEN _refusal IS NULL THEN 'sending' ELSE 'failed' END,
            CASE WHEN _refusal IS NOT NULL THEN 'not sendable' END, false, _media_group_id)
    ON CONFLICT (bot_id, telegram_chat_id, telegram_message_id) DO NOTHING
    RETURNING * INTO _message;
    IF _message.id IS NULL AND _is_edit THEN
        _message := sql.take_refused_message(_bot_id, _telegram_chat_id, _telegram_message_id, _kind, _text);
    END IF;
    IF _message.id IS NOT NULL THEN
        PERFORM sql.insert_parts(_message, _parts);
        IF _media_group_id IS NOT NULL AND NOT _is_edit THEN
            PERFORM sql.store_album_caption(_message, _caption, _caption_parts);
        END IF;
    END IF;
    IF _refusal IS NOT NULL THEN
        IF _message.id IS NOT NULL THEN
            PERFORM sql.put_notice(_message.client_id, _message.bot_id, _message.dialog_id, _refusal, 'refused:' || _message.id);
            PERFORM sql.put_receipt(_message, '💔');
        END IF;
        RETURN QUERY SELECT *, NULL::boolean FROM sql.make_due_for_posts(_bot_id);
        RETURN;
    END IF;
    IF _message.id IS NULL THEN
        -- The message came before. As long as it is not sent, its dialog is woken again.
        SELECT unfinished.dialog_id, unfinished.send_at INTO _dialog_id, _send_at FROM (
            -- lookup: unfinished_message
            SELECT m.dialog_id, d.send_at FROM messages m JOIN dialogs d ON d.id = m.dialog_id
            WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id
              AND m.telegram_message_id = _telegram_message_id AND m.status = 'sending'
            -- end
        ) AS unfinished;
    ELSE
        UPDATE dialogs d
        -- Words to a buyer who is blocked answer nobody.
        SET state = CASE WHEN d.state = 'blocked' THEN 'blocked' ELSE 'answered' END, auto_reply_scheduled_at = NULL,
            last_message_at = now(),
            send_hold_until = greatest(d.send_hold_until, now() + make_interval(secs => _album_wait_seconds)),
            send_at = greatest(d.send_hold_until, now() + make_interval(secs => _album_wait_seconds))
        WHERE d.id = _dialog_id
        RETURNING d.send_at INTO _send_at;
    END IF;
    IF _send_at IS NOT NULL THEN
        RETURN QUERY SELECT NULL::bigint, _dialog_id, sql.seconds_until(_send_at), NULL::timestamptz, NULL::boolean;
    END IF;
END $$;

-- True if a message replies to a post of a dialog that another bot shows now, in another group. Called by store_operator_message.
CREATE FUNCTION sql.has_another_bot(_bot_id bigint, _telegram_chat_id bigint, _reply_to_message_id bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN EXISTS (
        SELECT FROM dialogs d WHERE d.id = find_dialog(_bot_id, _telegram_chat_id, NULL, _reply_to_message_id) AND d.bot_id <> _bot_id);
END $$;

-- Makes an answer of a message that was refused, so that no part of it was ever to be sent. Returns it, or null. Called by
-- store_operator_message.
CREATE FUNCTION sql.take_refused_message(
    _bot_id bigint, _telegram_chat_id bigint, _telegram_message_id bigint, _kind text, _text text
) RETURNS messages LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message messages;
BEGIN
    UPDATE messages m SET kind = _kind, text = _text, status = 'sending', error = NULL
    WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.telegram_message_id = _telegram_message_id
      AND m.origin = 'operator' AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id)
      -- The parts of an older message that was sent may be forgotten.
      AND m.created_at > now() - interval '30 days'
    RETURNING m.* INTO _message
    ;
    RETURN _message;
END $$;

-- Stores a notice where an operator answers in a group that the bot has left behind, once per topic: nobody reads it there, and
-- its writer cannot know that. Returns wake-ups. Called by store_operator_message.
CREATE FUNCTION sql.notify_left_group(
    _bot_id bigint, _telegram_chat_id bigint, _thread_id bigint, _reply_to_message_id bigint, _notice jsonb
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _client_id bigint;
BEGIN
    IF find_dialog(_bot_id, _telegram_chat_id, _thread_id, _reply_to_message_id) IS NOT NULL THEN
        SELECT b.client_id INTO _client_id FROM tenancy_bots b WHERE b.bot_id = _bot_id;
        RETURN QUERY SELECT * FROM sql.notify_unowned_topic(_client_id, _bot_id, _telegram_chat_id, _thread_id, _notice);
    END IF;
END $$;

-- Stores a notice in a topic that no dialog owns, once per topic. Returns wake-ups. Called by store_operator_message and
-- notify_left_group.
CREATE FUNCTION sql.notify_unowned_topic(
    _client_id bigint, _bot_id bigint, _telegram_chat_id bigint, _thread_id bigint, _notice jsonb
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dedup_key text := format('unowned_topic:%s:%s', _telegram_chat_id, _thread_id);
BEGIN
    PERFORM sql.put_topic_notice(_client_id, _bot_id, _telegram_chat_id, _thread_id, _notice, _dedup_key);
    RETURN QUERY
    SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
    FROM posts p CROSS JOIN LATERAL sql.make_outbox_due(p.bot_id, p.client_id, p.due_at) AS outbox
    WHERE p.bot_id = _bot_id AND p.dedup_key = _dedup_key AND p.state = 'pending';
END $$;
