-- Changes and deletions of answers, on their way to Avito.

-- Makes parts of a dialog's requested changes that are due: what Avito has is to be deleted, what it does not have is cancelled,
-- and the new text follows behind. A part of unknown outcome is waited for. Called by claim_dialog_work.
CREATE FUNCTION sql.apply_changes(_dialog_id bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- lookup: apply_changes
    WITH due AS (
        SELECT m.id, m.client_id, m.dialog_id, m.avito_account_id, m.requested_change, m.text FROM messages m
        WHERE m.dialog_id = _dialog_id AND m.change_due_at <= now()
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sending')
    ), given_up AS (
        UPDATE parts p SET state = CASE WHEN p.state = 'sent' THEN 'deleting' ELSE 'cancelled' END,
               attempts = 0, failed_since = NULL, due_at = now()
        FROM due WHERE p.message_id = due.id AND p.state IN ('sent', 'pending', 'failed')
    ), instead AS (
        INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, kind, text, text_key, attachment)
        SELECT due.client_id, due.dialog_id, due.id, due.avito_account_id, part.position + 1 +
               (SELECT max(p.position) FROM parts p WHERE p.message_id = due.id),
               coalesce(part.kind, 'text'), part.text, part.text_key, part.attachment
        FROM due CROSS JOIN jsonb_to_recordset(due.requested_change -> 'parts')
            AS part (position int, kind text, text text, text_key text, attachment jsonb)
        ORDER BY part.position
    )
    UPDATE messages m
    SET requested_change = jsonb_build_object('was', due.text), change_due_at = NULL,
        text = coalesce(due.requested_change ->> 'text', m.text),
        status = CASE WHEN due.requested_change ? 'text' THEN 'sending' WHEN m.status = 'sending' THEN 'failed' ELSE m.status END,
        error = CASE WHEN due.requested_change ? 'text' THEN NULL ELSE 'deleted by the operator' END
    FROM due WHERE m.id = due.id
    -- end
    ;
END $$;

-- Confirms with 👌 on the `/del` what is deleted for good. Called by claim_dialog_work.
CREATE FUNCTION sql.confirm_deletions(_dialog_id bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _command record;
    _client_id bigint;
    _bot_ids bigint[] := '{}';
BEGIN
    FOR _command IN
        -- lookup: finished_deletions
        WITH finished AS (
            SELECT m.id, m.delete_command_id FROM messages m
            WHERE m.dialog_id = _dialog_id AND m.delete_command_id IS NOT NULL AND m.change_due_at IS NULL
              AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id
                              AND p.state IN ('pending', 'sending', 'deleting'))
        ), confirmed AS (
            UPDATE messages m SET delete_command_id = NULL FROM finished WHERE m.id = finished.id
            RETURNING m.client_id, m.bot_id, m.dialog_id, m.telegram_chat_id, finished.delete_command_id, m.id
        )
        SELECT * FROM confirmed
        -- end
    LOOP
        IF sql.put_reaction(_command.client_id, _command.bot_id, _command.dialog_id, _command.telegram_chat_id,
                            _command.delete_command_id, '👌', 'receipt:deleted:' || _command.id) THEN
            _bot_ids := _bot_ids || _command.bot_id;
            _client_id := _command.client_id;
        END IF;
    END LOOP;
    PERFORM sql.make_outboxes_due(_bot_ids, _client_id);
END $$;

-- Takes back the deletion of a part that Avito refused: the part and its message are sent again, with the former text, the parts
-- of the new text are cancelled, and a notice informs the writer. Called by to_avito/edits.rs, which has the dialog locked.
CREATE FUNCTION sql.mark_delete_refused(_part_id bigint, _notice jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message messages;
BEGIN
    UPDATE messages m
    SET delete_command_id = NULL, status = CASE WHEN m.status = 'read' THEN 'read' ELSE 'sent' END,
        text = coalesce(m.requested_change ->> 'was', m.text), error = NULL
    FROM parts p WHERE p.id = _part_id AND p.state = 'deleting' AND m.id = p.message_id
    RETURNING m.* INTO _message;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF sql.put_notice(
        _message.client_id, _message.bot_id, _message.dialog_id,
        jsonb_strip_nulls(_notice || jsonb_build_object('reply_to', _message.telegram_message_id)),
        'delete_refused:' || _part_id
    ) THEN
        PERFORM sql.make_outbox_due(_message.bot_id, _message.client_id, now());
    END IF;
    UPDATE parts o SET state = CASE WHEN o.state = 'deleting' THEN 'sent' ELSE 'cancelled' END
    WHERE o.message_id = _message.id AND o.state IN ('deleting', 'pending');
END $$;
