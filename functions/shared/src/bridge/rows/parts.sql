-- Parts: what Avito is to be sent of a message, one call each.

-- Inserts the parts of a message, `{position, kind, text, text_key, attachment}`; a part without a kind is a text. True if there are
-- parts. Called by store_operator_message, store_album_caption, insert_reply and insert_auto_reply.
CREATE FUNCTION sql.insert_parts(_message messages, _parts jsonb) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, kind, text, text_key, attachment)
    SELECT _message.client_id, _message.dialog_id, _message.id, _message.avito_account_id,
           part.position, coalesce(part.kind, 'text'), part.text, part.text_key, part.attachment
    FROM jsonb_to_recordset(_parts) AS part (position int, kind text, text text, text_key text, attachment jsonb)
    ORDER BY part.position;
    RETURN FOUND;
END $$;
