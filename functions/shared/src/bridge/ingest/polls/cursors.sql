-- Cursors of chats, and chats that cannot be read for now.

-- Stores the cursors of chats that need no reading: their newest messages are from before the account was connected. `_chats` has
-- rows of `id`, `updated`, `message_id` and `kind`. Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.store_listed_cursors(_account_id bigint, _chats jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO chat_polls (avito_account_id, avito_chat_id, client_id, listed_updated, listed_message_id, listed_kind,
                            synced_message_id)
    SELECT _account_id, chat.id, current_client_id(), chat.updated, chat.message_id, chat.kind, chat.message_id
    FROM jsonb_to_recordset(_chats) AS chat (id text, updated bigint, message_id text, kind text)
    ON CONFLICT (avito_account_id, avito_chat_id) DO NOTHING;
END $$;

-- Stores the cursor of a chat that was read, and forgets its failures. Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.store_chat_cursor(
    _account_id bigint, _avito_chat_id text, _listed_updated bigint, _listed_message_id text, _listed_kind text,
    _synced_message_id text
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO chat_polls AS c (avito_account_id, avito_chat_id, client_id, listed_updated, listed_message_id, listed_kind,
                                 synced_message_id)
    VALUES (_account_id, _avito_chat_id, current_client_id(), _listed_updated, _listed_message_id, _listed_kind,
            _synced_message_id)
    ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE
    SET listed_updated = excluded.listed_updated, listed_message_id = excluded.listed_message_id,
        listed_kind = excluded.listed_kind, synced_message_id = coalesce(excluded.synced_message_id, c.synced_message_id),
        attempts = 0, failed_since = NULL, due_at = NULL, error = NULL;
END $$;

-- Notes that a chat could not be read, with its state in Avito's list; the cursor stays. After a week of failures the chat is
-- read again only when it changes, which begins a new count. Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.fail_chat_poll(
    _account_id bigint, _avito_chat_id text, _listed_updated bigint, _listed_message_id text, _listed_kind text, _error text,
    _wait_seconds double precision
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO chat_polls AS c (avito_account_id, avito_chat_id, client_id, listed_updated, listed_message_id, listed_kind,
                                 attempts, failed_since, due_at, error)
    VALUES (_account_id, _avito_chat_id, current_client_id(), _listed_updated, _listed_message_id, _listed_kind,
            1, now(), now() + make_interval(secs => _wait_seconds), _error)
    ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE
    SET listed_updated = excluded.listed_updated, listed_message_id = excluded.listed_message_id,
        listed_kind = excluded.listed_kind, error = excluded.error,
        attempts = CASE WHEN c.failed_since IS NOT NULL AND c.due_at IS NULL THEN 1 ELSE c.attempts + 1 END,
        failed_since = CASE WHEN c.failed_since IS NOT NULL AND c.due_at IS NULL THEN now()
                            ELSE coalesce(c.failed_since, now()) END,
        due_at = CASE WHEN c.due_at IS NOT NULL AND c.failed_since < now() - interval '7 days' THEN NULL
                      ELSE excluded.due_at END;
END $$;

-- Puts the notice that a chat was not read beyond the message that Avito's list shows, once per row of failures. Returns wake-ups
-- (common/wakeups.rs). Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.notify_unread_chat(_account_id bigint, _avito_chat_id text, _text text)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog record;
BEGIN
    SELECT d.id, d.client_id, d.bot_id, extract(epoch FROM c.failed_since)::bigint AS failed_since INTO _dialog
    FROM dialogs d JOIN chat_polls c ON c.avito_account_id = d.avito_account_id AND c.avito_chat_id = d.avito_chat_id
    WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id AND c.failed_since IS NOT NULL;
    IF FOUND AND sql.put_notice(_dialog.client_id, _dialog.bot_id, _dialog.id, jsonb_build_object('text', _text),
                                'chat_unread:' || _dialog.id || ':' || _dialog.failed_since) THEN
        RETURN QUERY SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
                     FROM sql.make_outbox_due(_dialog.bot_id, _dialog.client_id, now()) AS outbox;
    END IF;
END $$;

-- Puts the notice that messages before this one were skipped: Avito does not serve that many. Returns wake-ups
-- (common/wakeups.rs). Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.notify_skipped_messages(_account_id bigint, _avito_chat_id text, _oldest_message_id text, _text text)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog dialogs;
BEGIN
    SELECT d.* INTO _dialog FROM dialogs d WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id;
    IF FOUND AND sql.put_notice(_dialog.client_id, _dialog.bot_id, _dialog.id, jsonb_build_object('text', _text),
                                'skipped:' || _dialog.id || ':' || _oldest_message_id) THEN
        RETURN QUERY SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
                     FROM sql.make_outbox_due(_dialog.bot_id, _dialog.client_id, now()) AS outbox;
    END IF;
END $$;

-- Locks the dialog of a chat until the transaction ends, before anything else of it. Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.lock_dialog_of_chat(_account_id bigint, _avito_chat_id text) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM dialogs d WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id FOR NO KEY UPDATE;
END $$;

-- Marks messages of a chat that its list shows as deleted, among those that are known. Called by ingest/polls/cursors.rs.
CREATE FUNCTION sql.mark_listed_deleted(_account_id bigint, _avito_chat_id text, _messages jsonb, _deleted_text text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sql.mark_deleted(_account_id, d.id, _messages, _deleted_text)
    FROM dialogs d WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id;
END $$;
