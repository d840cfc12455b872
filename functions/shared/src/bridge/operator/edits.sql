-- Changes and deletions of answers, as their writers request them. The worker that holds the dialog's lease carries them out
-- (to_avito/edits.sql).

-- Stores that an operator's answer is to have another text, and makes the dialog due. A change to an answer that Avito may have
-- waits for a moment: an operator who corrects an answer often does so twice. Nothing is stored without `_change`, for an
-- answer that is being deleted, or if Avito deletes the sent parts no more. Returns wake-ups (common/wakeups.rs). Called by
-- operator/edits.rs.
CREATE FUNCTION sql.request_change(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _telegram_message_id bigint,
    _text text,
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
          AND m.origin = 'operator' AND m.kind = 'text' AND m.text <> _text AND m.delete_command_id IS NULL
          AND _change IS NOT NULL
          AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                          AND p.sending_since < now() - make_interval(secs => _max_delete_age_seconds))
        RETURNING m.dialog_id, m.change_due_at
    )
    UPDATE dialogs d
    SET send_at = least(d.send_at, greatest(requested.change_due_at, coalesce(d.send_hold_until, requested.change_due_at)))
    FROM requested WHERE d.id = requested.dialog_id
    RETURNING NULL::bigint, d.id, sql.seconds_until(d.send_at), NULL::timestamptz
    -- end
    ;
END $$;

-- Stores that an operator's answer is to be deleted, and makes the dialog due now. Nothing is stored if Avito deletes the sent
-- parts no more. `_command_id` is the message with the `/del`. Returns wake-ups (common/wakeups.rs). Called by
-- operator/edits.rs.
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
        UPDATE messages m SET requested_change = '{}', change_due_at = now(), delete_command_id = _command_id
        WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.telegram_message_id = _telegram_message_id
          AND m.origin = 'operator'
          AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending', 'sent', 'failed'))
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sent'
                          AND p.sending_since < now() - make_interval(secs => _max_delete_age_seconds))
        RETURNING m.dialog_id
    )
    UPDATE dialogs d SET send_at = greatest(now(), coalesce(d.send_hold_until, now()))
    FROM requested WHERE d.id = requested.dialog_id
    RETURNING NULL::bigint, d.id, sql.seconds_until(d.send_at), NULL::timestamptz
    -- end
    ;
END $$;
