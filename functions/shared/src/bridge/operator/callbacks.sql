-- Presses on buttons under notices.

-- Does what a pressed button asks for: `retry` and `cancel` for the message `_target_id`, `block` and `dont_block` for the
-- dialog. It acts once, by the state of its row. An edit of the post that bears the buttons removes them and adds a line to
-- `_text`: `_acted_line` if the button did something, else `_nothing_line`. Without `_text` there is no edit. Returns a row if
-- the button did something: a wake-up (common/wakeups.rs), without a dialog if none is to be woken. Called by
-- operator/callbacks.rs.
CREATE FUNCTION sql.press_button(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _action text,
    _target_id bigint,
    _telegram_message_id bigint,
    _text text,
    _acted_line text,
    _nothing_line text
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _target record;
    _has_acted boolean := true;
    _send_at timestamptz;
BEGIN
    SELECT * INTO _target FROM (
        -- lookup: target_of_button
        SELECT m.client_id, m.dialog_id FROM messages m
        WHERE _action IN ('retry', 'cancel') AND m.id = _target_id AND m.bot_id = _bot_id
        UNION ALL
        SELECT d.client_id, d.id FROM dialogs d
        WHERE _action IN ('block', 'dont_block') AND d.id = _target_id AND d.bot_id = _bot_id
        -- end
    ) AS target
    WHERE EXISTS (SELECT FROM tenancy_bots b
                  WHERE b.bot_id = _bot_id AND _telegram_chat_id IN (b.group_chat_id, b.former_group_chat_id));
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF _action = 'retry' THEN
        -- lookup: retry_parts
        UPDATE parts p SET state = 'pending', attempts = 0, failed_since = NULL, due_at = now(), verify_attempts = 0,
               verify_failures = 0, verify_failed_since = NULL, error = NULL
        WHERE p.message_id = _target_id AND p.state = 'failed'
        -- end
        ;
        _has_acted := FOUND;
        IF _has_acted THEN
            UPDATE dialogs d SET send_at = greatest(now(), coalesce(d.send_hold_until, now())) WHERE d.id = _target.dialog_id
            RETURNING d.send_at INTO _send_at;
            UPDATE messages m SET status = 'sending', error = NULL WHERE m.id = _target_id;
        END IF;
    ELSIF _action = 'cancel' THEN
        -- lookup: cancel_parts
        UPDATE parts p SET state = 'cancelled' WHERE p.message_id = _target_id AND p.state = 'failed'
        -- end
        ;
        _has_acted := FOUND;
    ELSIF _action = 'block' THEN
        UPDATE dialogs d SET block_requested_at = now(), send_at = greatest(now(), coalesce(d.send_hold_until, now()))
        WHERE d.id = _target_id AND d.state <> 'blocked' AND d.block_requested_at IS NULL
        RETURNING d.send_at INTO _send_at;
        _has_acted := FOUND;
    END IF;
    IF _text IS NOT NULL THEN
        PERFORM sql.put_operators_post(
            _target.client_id, _bot_id, _target.dialog_id, 'edit',
            jsonb_build_object('message_id', _telegram_message_id, 'text',
                concat(_text, E'\n\n', CASE WHEN _has_acted THEN _acted_line ELSE _nothing_line END)),
            _telegram_chat_id, format('button:%s:%s', _telegram_chat_id, _telegram_message_id));
    END IF;
    IF _has_acted THEN
        RETURN QUERY SELECT NULL::bigint, CASE WHEN _send_at IS NOT NULL THEN _target.dialog_id END,
                            sql.seconds_until(_send_at), NULL::timestamptz;
    END IF;
END $$;
