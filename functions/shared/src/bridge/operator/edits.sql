-- Changes and deletions of answers, as their writers request them. The worker that holds the dialog's lease carries them out
-- (to_avito/edits.sql).

-- Stores that an operator's answer is to have another text or picture, and makes the dialog due. A change to an answer that Avito may have
-- waits for a moment: an operator who corrects an answer often does so twice. Nothing is stored without `_change`, for an
-- answer that is being deleted, or if Avito deletes the sent parts no more. Returns wake-ups (common/wakeups.rs). Called by
-- operator/edits.rs.
CREATE FUNCTION sql.request_change(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _telegram_message_id bigint,
    _text text,
    _picture text,
    _change jsonb,
    _edit_delay_seconds double precision,
    _max_delete_age_seconds double precision
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: request_change
    WITH requested AS (
        UPDATE messages m
        SET requested_change = _change, change_due_at = CASE
            WHEN EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state NOT IN ('pending', 'failed'))
            THEN now() + make_interval(secs => _edit_delay_seconds) ELSE now() END
        WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.telegram_message_id = _telegram_message_id
          AND m.origin = 'operator' AND (coalesce(m.text, '') <> _text OR sql.has_other_picture(m.id, _picture))
          AND m.delete_command_id IS NULL AND _change IS NOT NULL
          AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                          AND p.sending_since < now() - make_interval(secs => _max_delete_age_seconds))
        RETURNING m.id, m.dialog_id, m.change_due_at
    ), verified AS (
        -- A part of unknown outcome is looked for now: the change waits for it.
        UPDATE parts p SET due_at = now() FROM requested
        WHERE p.message_id = requested.id AND p.state = 'sending' AND p.due_at > now()
    )
    UPDATE dialogs d
    SET send_at = least(d.send_at, greatest(requested.change_due_at, coalesce(d.send_hold_until, requested.change_due_at)))
    FROM requested WHERE d.id = requested.dialog_id
    RETURNING NULL::bigint, d.id, sql.seconds_until(d.send_at), NULL::timestamptz
    -- end
    ;
END $$;

-- True if a picture is none of those that an answer has. A picture without an id that stays the same counts as the former one.
-- Called by request_change and operator/edits.rs.
CREATE FUNCTION sql.has_other_picture(_message_id bigint, _picture text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN _picture IS NOT NULL AND NOT EXISTS (
        -- lookup: same_picture
        SELECT FROM parts p
        WHERE p.message_id = _message_id AND p.kind = 'image' AND p.state NOT IN ('cancelled', 'deleted', 'deleting')
          AND coalesce(p.attachment ->> 'unique_id', _picture) = _picture
        -- end
    );
END $$;

-- Stores that an operator's answer is to be deleted, with all of its album, and makes the dialog due now. Nothing is stored of what
-- Avito deletes no more. `_command_id` is the message with the `/del`; it gets its receipt with the message that it replies to.
-- Returns wake-ups (common/wakeups.rs). Called by operator/edits.rs.
CREATE FUNCTION sql.request_deletion(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _telegram_message_id bigint,
    _command_id bigint,
    _max_delete_age_seconds double precision
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: request_deletion
    WITH requested AS (
        UPDATE messages m SET requested_change = '{}', change_due_at = now(),
               delete_command_id = CASE WHEN m.telegram_message_id = _telegram_message_id THEN _command_id END
        WHERE m.id = ANY (ARRAY(
              SELECT o.id FROM messages o
              WHERE o.bot_id = _bot_id AND o.telegram_chat_id = _telegram_chat_id
                AND o.telegram_message_id = _telegram_message_id AND o.origin = 'operator'
              UNION
              SELECT a.id FROM messages o JOIN messages a
                  ON a.bot_id = o.bot_id AND a.telegram_chat_id = o.telegram_chat_id AND a.media_group_id = o.media_group_id
              WHERE o.bot_id = _bot_id AND o.telegram_chat_id = _telegram_chat_id
                AND o.telegram_message_id = _telegram_message_id AND o.origin = 'operator'))
          AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                          AND p.sending_since < now() - make_interval(secs => _max_delete_age_seconds))
        RETURNING m.id, m.dialog_id
    ), verified AS (
        -- A part of unknown outcome is looked for now: the deletion waits for it.
        UPDATE parts p SET due_at = now() FROM requested
        WHERE p.message_id = requested.id AND p.state = 'sending' AND p.due_at > now()
    )
    UPDATE dialogs d SET send_at = greatest(now(), coalesce(d.send_hold_until, now()))
    FROM (SELECT DISTINCT dialog_id FROM requested) AS requested
    WHERE d.id = requested.dialog_id
    RETURNING NULL::bigint, d.id, sql.seconds_until(d.send_at), NULL::timestamptz
    -- end
    ;
END $$;
