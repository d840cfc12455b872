-- Receipts: reactions on the messages of operators. One reaction per message, and the latest counts.

-- Puts a receipt on a message, if an operator wrote it in Telegram. A later receipt replaces one that still waits. True if
-- something changed.
CREATE FUNCTION sql.put_receipt(_message messages, _emoji text) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF _message.telegram_message_id IS NULL THEN
        RETURN false;
    END IF;
    RETURN sql.put_reaction(_message.client_id, _message.bot_id, _message.dialog_id, _message.telegram_chat_id,
                            _message.telegram_message_id, _emoji, 'receipt:' || _message.id);
END $$;

-- Puts a reaction on a message in Telegram. Of one key the latest counts: it replaces one that still waits. True if something
-- changed. Called by put_receipt and confirm_deletions.
CREATE FUNCTION sql.put_reaction(
    _client_id bigint, _bot_id bigint, _dialog_id bigint, _telegram_chat_id bigint, _telegram_message_id bigint, _emoji text,
    _dedup_key text
) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, dedup_key)
    VALUES (_client_id, _bot_id, _dialog_id, 'reaction',
            jsonb_build_object('message_id', _telegram_message_id, 'emoji', _emoji), _telegram_chat_id, _dedup_key)
    ON CONFLICT (bot_id, dedup_key) DO UPDATE
    SET content = excluded.content, state = 'pending', attempts = 0, due_at = now()
    WHERE posts.content IS DISTINCT FROM excluded.content;
    RETURN FOUND;
END $$;

-- 👀 on the answers of a dialog that Avito will not have within `_after_seconds` of their writing, because nothing is sent to
-- it for `_wait_seconds`. Called by rows/receipts.rs.
CREATE FUNCTION sql.put_waiting_receipts(_dialog_id bigint, _wait_seconds double precision, _after_seconds double precision)
RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _bot record;
BEGIN
    FOR _bot IN
        SELECT DISTINCT m.bot_id, m.client_id FROM messages m
        WHERE m.id = ANY (ARRAY(
            -- lookup: late_answers
            -- The key is made first: with `||` in the comparison no index is used under row-level security.
            SELECT late.id FROM (
                SELECT m.id, m.bot_id, 'receipt:' || m.id AS receipt_key FROM messages m
                WHERE m.dialog_id = _dialog_id AND m.origin = 'operator' AND m.status = 'sending'
                  AND m.created_at + make_interval(secs => _after_seconds) <= now() + make_interval(secs => _wait_seconds)
                  AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('pending', 'sending'))
                OFFSET 0
            ) AS late
            WHERE NOT EXISTS (SELECT FROM posts r WHERE r.bot_id = late.bot_id AND r.dedup_key = late.receipt_key)
            -- end
        )) AND sql.put_receipt(m, '👀')
    LOOP
        PERFORM sql.make_outbox_due(_bot.bot_id, _bot.client_id, now());
    END LOOP;
END $$;

-- 👌 on answers that Avito reported, in case the answer to our own send never comes. Returns the bots. Called by record.sql.
CREATE FUNCTION sql.put_sent_receipts(_account_id bigint, _avito_message_ids text[])
RETURNS TABLE (bot_id bigint) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT outbox.bot_id
    FROM (SELECT DISTINCT m.bot_id, m.client_id FROM messages m
          WHERE m.id = ANY (ARRAY(
              -- lookup: sent_answers
              SELECT m.id FROM parts p JOIN messages m ON m.id = p.message_id AND m.status = 'sent'
              WHERE p.avito_account_id = _account_id AND p.avito_message_id = ANY(_avito_message_ids) AND p.state = 'sent'
              -- end
          )) AND sql.put_receipt(m, '👌')) AS put
    CROSS JOIN LATERAL sql.make_outbox_due(put.bot_id, put.client_id, now()) AS outbox;
END $$;

-- 👍 on what the buyers have read: of each chat, all answers up to the newest own message that Avito shows as read, of which
-- `_avito_message_ids` is a list. Returns wake-ups. Called by rows/receipts.rs.
CREATE FUNCTION sql.put_read_receipts(_account_id bigint, _avito_message_ids text[])
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _message messages;
    _client_id bigint;
    _bot_ids bigint[] := '{}';
BEGIN
    FOR _message IN
        -- lookup: read_answers
        WITH up_to AS (
            SELECT p.dialog_id, p.message_id FROM parts p
            WHERE p.avito_account_id = _account_id AND p.avito_message_id = ANY(_avito_message_ids) AND p.state = 'sent'
            UNION
            SELECT m.dialog_id, m.id FROM messages m
            WHERE m.avito_account_id = _account_id AND m.avito_message_id = ANY(_avito_message_ids) AND m.direction = 'out'
        )
        UPDATE messages m SET status = 'read' FROM up_to
        WHERE m.dialog_id = up_to.dialog_id AND m.id <= up_to.message_id AND m.direction = 'out' AND m.status = 'sent'
        RETURNING m.*
        -- end
    LOOP
        IF sql.put_receipt(_message, '👍') AND _message.bot_id <> ALL (_bot_ids) THEN
            _bot_ids := _bot_ids || _message.bot_id;
            _client_id := _message.client_id;
        END IF;
    END LOOP;
    PERFORM sql.make_outboxes_due(_bot_ids, _client_id);
    RETURN QUERY SELECT b.id, NULL::bigint, 0::bigint, NULL::timestamptz FROM unnest(_bot_ids) AS b (id);
END $$;
