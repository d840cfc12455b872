-- Puts a notice for each posted message of a chat, written since then (seconds since 1970), that is still provisional although the
-- chat was read back past its time. Returns wake-ups (common/wakeups.rs). Called by ingest/polls/confirm.rs.
CREATE FUNCTION sql.mark_not_found(_account_id bigint, _avito_chat_id text, _since bigint, _text text)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message record;
    _client_id bigint;
    _bot_ids bigint[] := '{}';
BEGIN
    FOR _message IN
        -- lookup: not_found
        UPDATE messages m SET not_found_at = now() FROM dialogs d, posts p
        WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id AND m.dialog_id = d.id
          AND m.confirmed_at IS NULL AND m.not_found_at IS NULL AND m.avito_message_id IS NOT NULL
          AND m.avito_created >= to_timestamp(_since::float8) AND m.created_at <= now() - interval '1 minute'
          AND p.id = m.post_id AND p.state = 'sent'
        RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, p.telegram_message_ids[1] AS telegram_message_id
        -- end
    LOOP
        IF sql.put_notice(_message.client_id, _message.bot_id, _message.dialog_id,
                          jsonb_build_object('text', _text, 'reply_to', _message.telegram_message_id),
                          'not_found:' || _message.id) THEN
            _client_id := _message.client_id;
            IF _message.bot_id <> ALL (_bot_ids) THEN
                _bot_ids := _bot_ids || _message.bot_id;
            END IF;
        END IF;
    END LOOP;
    PERFORM sql.make_outboxes_due(_bot_ids, _client_id);
    RETURN QUERY SELECT b.id, NULL::bigint, 0::bigint, NULL::timestamptz FROM unnest(_bot_ids) AS b (id);
END $$;
