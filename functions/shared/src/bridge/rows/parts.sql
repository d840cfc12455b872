-- Parts: what Avito is to be sent of a message, one call each.

-- Inserts the parts of a message, `{position, kind, text, text_key, attachment}`; a part without a kind is a text. The captions of
-- one album come to stand on one message, each at a position of its own. True if there are parts. Called by store_operator_message,
-- insert_reply and insert_auto_reply.
CREATE FUNCTION sql.insert_parts(_message messages, _parts jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _captions int := 0;
BEGIN
    IF _message.media_group_id IS NOT NULL THEN
        _captions := (
            -- lookup: messages_of_album
            SELECT count(*)::int - 1 FROM messages o
            WHERE o.bot_id = (_message).bot_id AND o.telegram_chat_id = (_message).telegram_chat_id
              AND o.media_group_id = (_message).media_group_id
            -- end
        );
    END IF;
    INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, kind, text, text_key, attachment)
    SELECT _message.client_id, _message.dialog_id, _message.id, _message.avito_account_id,
           part.position + CASE WHEN part.kind = 'text' THEN 10 * _captions ELSE 0 END,
           coalesce(part.kind, 'text'), part.text, part.text_key, part.attachment
    FROM jsonb_to_recordset(_parts) AS part (position int, kind text, text text, text_key text, attachment jsonb)
    ORDER BY part.position;
    RETURN FOUND;
END $$;
