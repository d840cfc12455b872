-- Parts that Avito refuses.

-- Marks a part and the unsent rest of its message as failed for good, with 💔 and a notice. `{id}` in the notice becomes the
-- message's id. Called by to_avito/outcomes.rs, which has the dialog locked.
CREATE FUNCTION sql.mark_part_failed(_part_id bigint, _error text, _notice text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _part parts;
    _message messages;
BEGIN
    SELECT * INTO _part FROM parts p WHERE p.id = _part_id;
    UPDATE parts o SET state = 'failed', error = _error
    WHERE o.message_id = _part.message_id AND o.state IN ('pending', 'sending');
    UPDATE messages m SET status = 'failed', error = _error WHERE m.id = _part.message_id RETURNING m.* INTO _message;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM sql.put_receipt(_message, '💔');
    IF sql.put_notice(
        _message.client_id, _message.bot_id, _message.dialog_id,
        jsonb_strip_nulls(replace(_notice, '{id}', _message.id::text)::jsonb
                          || jsonb_build_object('reply_to', _message.telegram_message_id)),
        format('refused:%s:%s', _message.id, extract(epoch FROM _part.sending_since))
    ) THEN
        PERFORM sql.make_outbox_due(_message.bot_id, _message.client_id, now());
    END IF;
END $$;
