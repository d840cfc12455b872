-- Records what Avito says: each message becomes a row once, whoever reports it first, webhook or poll. The functions that
-- record_messages calls share its setting of plan_cache_mode.

-- Returns incoming messages as rows, from the JSON of `IncomingMessage` (incoming.rs). Called by the functions below.
CREATE FUNCTION sql.incoming_messages(_messages jsonb)
RETURNS TABLE (
    id text, own boolean, system boolean, kind text, text text, text_key text, attachments jsonb, created timestamptz,
    "position" int, placeholder boolean
) LANGUAGE sql IMMUTABLE AS $$
    SELECT * FROM jsonb_to_recordset(_messages) AS incoming (
        id text, own boolean, system boolean, kind text, text text, text_key text, attachments jsonb, created timestamptz,
        "position" int, placeholder boolean)
$$;

-- Records the messages of one chat from one source, decides how long they wait and if an auto-reply follows, and makes the
-- bot's outbox due. A poll knows the chat (`_is_poll`), a webhook does not. Returns wake-ups (common/wakeups.rs). Called by
-- ingest/record.rs.
-- Locks: first the dialog, then the outbox row, as everywhere. The dialog is locked before the account is read: an account that
-- moves to another bot has its dialogs follow batch by batch, and those that are touched before follow here.
CREATE FUNCTION sql.record_messages(
    _account_id bigint,
    _user_id bigint,
    _avito_chat_id text,
    _messages jsonb,
    _avito_message_ids text[],
    _own_message_ids text[],
    _has_deleted boolean,
    _is_poll boolean,
    _buyer jsonb,
    _item jsonb,
    _deleted_text text,
    _corrected_text text,
    _auto_reply_delay_seconds double precision,
    _reorder_window_seconds double precision,
    _reorder_wait_seconds double precision,
    _has_buffered boolean,
    _outage_window_seconds double precision,
    _outage_wait_seconds double precision
) RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _dialog_id bigint;
    _former_bot_id bigint;
    _account record;
    _changes record;
    _is_answered boolean := false;
    _auto_reply_at timestamptz;
    _hold_until timestamptz;
BEGIN
    SELECT d.id, d.bot_id INTO _dialog_id, _former_bot_id FROM dialogs d
    WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id FOR NO KEY UPDATE;
    SELECT a.client_id, a.bot_id, a.hide_system_messages, a.filter_keywords, a.monitoring_enabled INTO _account
    FROM tenancy_accounts a WHERE a.avito_account_id = _account_id AND a.user_id = _user_id;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF _former_bot_id <> _account.bot_id THEN
        PERFORM sql.hand_over_dialogs(ARRAY[_dialog_id], _account.bot_id);
    END IF;
    IF _dialog_id IS NULL OR _is_poll THEN
        _dialog_id := sql.upsert_dialog(_account.client_id, _account_id, _account.bot_id, _avito_chat_id, _buyer, _item, _is_poll);
    END IF;
    IF cardinality(_own_message_ids) > 0 THEN
        PERFORM sql.adopt_echoes(_account_id, _dialog_id, _messages);
    END IF;
    IF _has_deleted AND _account.monitoring_enabled THEN
        PERFORM sql.mark_deleted(_account_id, _dialog_id, _messages, _deleted_text);
    END IF;
    IF _is_poll THEN
        PERFORM sql.correct_texts(_dialog_id, _messages, _corrected_text);
    END IF;
    PERFORM sql.insert_messages(_account.client_id, _account_id, _account.bot_id, _dialog_id, _messages, _is_poll,
                                _account.hide_system_messages, _account.filter_keywords, _account.monitoring_enabled);
    IF cardinality(_own_message_ids) > 0 THEN
        RETURN QUERY SELECT put.bot_id, NULL::bigint, 0::bigint, NULL::timestamptz
                     FROM sql.put_sent_receipts(_account_id, _own_message_ids) AS put;
    END IF;
    SELECT * INTO _changes FROM (
        -- Only what this very transaction inserted is new, by `created_at = now()`: a message that is reported again neither asks
        -- nor answers anew.
        -- lookup: changes
        SELECT coalesce(bool_or(m.created_at = now()), false) AS has_new,
               coalesce(bool_or(m.post_id IS NULL AND m.kind <> 'image'), false) AS more_than_pictures,
               coalesce(bool_or(m.post_id IS NULL AND m.needs_post), false) AS waits,
               (array_agg(m.direction ORDER BY m.avito_created DESC, m.avito_position DESC)
                FILTER (WHERE m.created_at = now() AND m.origin <> 'system' AND m.kind <> 'deleted'))[1] AS direction,
               max(m.avito_created) FILTER (WHERE m.post_id IS NULL AND m.origin <> 'system') AS last_at,
               max(m.avito_created) FILTER (WHERE m.created_at = now() AND m.origin = 'avito_app') AS answered_at,
               max(m.avito_created) FILTER (WHERE m.created_at = now() AND m.origin = 'buyer') AS written_at,
               max(m.avito_created) FILTER (WHERE m.created_at = now() AND m.origin = 'buyer'
                                            AND m.kind NOT IN ('deleted', 'call', 'appCall')) AS asked_at
        -- One by one: for as many as an array might hold, Postgres would read all of a small account.
        FROM unnest(_avito_message_ids) AS ids (avito_id) CROSS JOIN LATERAL (
            SELECT * FROM messages m WHERE m.avito_account_id = _account_id AND m.avito_message_id = ids.avito_id OFFSET 0) AS m
        WHERE m.status <> 'filtered'
        -- end
    ) AS changes;
    IF _changes.answered_at IS NOT NULL THEN
        _is_answered := NOT sql.has_later_message(_account.client_id, _dialog_id, 'buyer', _changes.answered_at);
    END IF;
    IF _changes.asked_at > now() - interval '10 minutes' THEN
        _auto_reply_at := sql.auto_reply_due_at(_account.client_id, _account_id, _dialog_id, _changes.asked_at,
                                                _auto_reply_delay_seconds);
    END IF;
    IF _changes.has_new AND NOT _is_poll THEN
        _hold_until := sql.reorder_hold_until(_account.bot_id, _dialog_id, _reorder_window_seconds, _reorder_wait_seconds,
                                              _has_buffered, _outage_window_seconds, _outage_wait_seconds);
    END IF;
    UPDATE dialogs d
    SET last_message_at = greatest(d.last_message_at, _changes.last_at),
        -- A blocked buyer cannot write, so one who writes was unblocked in Avito. A buyer's message that comes late waits for
        -- nothing if the seller answered it in Avito's app.
        state = CASE WHEN d.state = 'blocked' AND NOT coalesce(_changes.written_at > d.blocked_at, false) THEN 'blocked'
                     WHEN _changes.direction = 'in' AND (d.state = 'waiting' OR NOT sql.has_later_message(
                          d.client_id, d.id, 'avito_app', _changes.written_at)) THEN 'waiting'
                     WHEN _changes.direction = 'out' AND _is_answered AND d.state <> 'closed' THEN 'answered'
                     ELSE d.state END,
        auto_reply_scheduled_at = coalesce(CASE WHEN NOT _is_answered THEN d.auto_reply_scheduled_at END, _auto_reply_at),
        hold_until = CASE WHEN d.hold_until > now() AND NOT (d.collecting_album AND _changes.more_than_pictures)
                          THEN d.hold_until ELSE _hold_until END,
        last_received_at = CASE WHEN _changes.has_new THEN now() ELSE d.last_received_at END,
        collecting_album = d.collecting_album AND NOT _changes.more_than_pictures
    WHERE d.id = _dialog_id
    RETURNING d.hold_until,
              CASE WHEN d.auto_reply_scheduled_at = now() + make_interval(secs => _auto_reply_delay_seconds)
                   THEN d.auto_reply_scheduled_at END
    INTO _hold_until, _auto_reply_at;
    IF _auto_reply_at IS NOT NULL THEN
        RETURN QUERY SELECT NULL::bigint, _dialog_id, 0::bigint, _auto_reply_at;
    END IF;
    IF _changes.has_new AND _changes.waits AND cardinality(_own_message_ids) = 0 AND NOT _has_deleted AND NOT _is_poll THEN
        RETURN QUERY SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
                     FROM sql.make_outbox_due(_account.bot_id, _account.client_id, greatest(_hold_until, now())) AS outbox
                     WHERE NOT (outbox.wakeup_pending AND outbox.wait_seconds = 0);
    ELSE
        RETURN QUERY SELECT * FROM sql.make_due_for_messages(_account_id, _avito_message_ids);
    END IF;
END $$;

-- Finds or makes the dialog of a chat, with the bot that shows it now. Returns its id. Called by record_messages.
CREATE FUNCTION sql.upsert_dialog(
    _client_id bigint, _account_id bigint, _bot_id bigint, _avito_chat_id text, _buyer jsonb, _item jsonb, _is_confirmed boolean
) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog_id bigint;
BEGIN
    INSERT INTO dialogs AS d (client_id, avito_account_id, bot_id, avito_chat_id, buyer, item, confirmed_at)
    VALUES (_client_id, _account_id, _bot_id, _avito_chat_id, _buyer, _item, CASE WHEN _is_confirmed THEN now() END)
    ON CONFLICT (avito_account_id, avito_chat_id) DO UPDATE
    SET bot_id = excluded.bot_id,
        -- The topic of another bot is not ours to write in.
        topic_state = CASE WHEN d.bot_id = excluded.bot_id THEN d.topic_state ELSE 'none' END,
        buyer = coalesce(excluded.buyer, d.buyer),
        item = coalesce(excluded.item, d.item),
        confirmed_at = coalesce(d.confirmed_at, excluded.confirmed_at)
    RETURNING d.id INTO _dialog_id;
    RETURN _dialog_id;
END $$;

-- Adopts echoes of our own sends, which may come before the answers to them. One part of a dialog is under way at a time, so the
-- oldest own message that looks like it and belongs to no other part or message is it. Avito counts in seconds and by its own
-- clock. Called by record_messages.
CREATE FUNCTION sql.adopt_echoes(_account_id bigint, _dialog_id bigint, _messages jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- lookup: adopt_echoes
    WITH echo AS (
        SELECT DISTINCT ON (p.id) p.id AS part_id, incoming.id AS avito_message_id
        FROM sql.incoming_messages(_messages) AS incoming
        JOIN parts p ON p.dialog_id = _dialog_id AND p.state = 'sending' AND p.kind = incoming.kind
                    AND (p.kind = 'image' OR p.text_key = incoming.text_key)
        WHERE incoming.own AND incoming.created >= p.sending_since - interval '10 seconds'
          AND NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = _account_id AND o.avito_message_id = incoming.id)
          AND NOT EXISTS (SELECT FROM messages o WHERE o.avito_account_id = _account_id AND o.avito_message_id = incoming.id)
        ORDER BY p.id, incoming.created, incoming.position
    ), adopted AS (
        UPDATE parts p SET state = 'sent', avito_message_id = echo.avito_message_id
        FROM echo WHERE p.id = echo.part_id
        RETURNING p.id, p.message_id
    )
    UPDATE messages m SET status = 'sent', needs_post = m.needs_post OR m.is_auto_reply
    FROM adopted
    WHERE m.id = adopted.message_id AND m.status = 'sending'
      AND NOT EXISTS (SELECT FROM parts o WHERE o.message_id = m.id AND o.id <> adopted.id
                      AND o.state NOT IN ('sent', 'cancelled', 'deleted'))
    -- end
    ;
END $$;

-- Marks messages that their writer deleted. Where the topic shows one, a notice says so; where not yet, a line stands in its
-- place. Called by record_messages.
CREATE FUNCTION sql.mark_deleted(_account_id bigint, _dialog_id bigint, _messages jsonb, _deleted_text text) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _deleted record;
BEGIN
    FOR _deleted IN
        -- lookup: mark_deleted
        WITH deleted AS (
            UPDATE messages m SET deleted_at = now(), kind = CASE WHEN m.post_id IS NULL THEN 'deleted' ELSE m.kind END
            FROM sql.incoming_messages(_messages) AS incoming
            WHERE m.dialog_id = _dialog_id AND m.avito_account_id = _account_id AND m.avito_message_id = incoming.id
              AND incoming.kind = 'deleted' AND m.kind <> 'deleted' AND m.deleted_at IS NULL
            RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id
        )
        SELECT deleted.*, p.telegram_message_ids[1] AS telegram_message_id FROM deleted JOIN posts p ON p.id = deleted.post_id
        -- end
    LOOP
        PERFORM sql.put_notice(
            _deleted.client_id, _deleted.bot_id, _deleted.dialog_id,
            jsonb_strip_nulls(jsonb_build_object('text', _deleted_text, 'reply_to', _deleted.telegram_message_id)),
            'deleted:' || _deleted.id);
    END LOOP;
END $$;

-- Puts what Avito's list says in the place of what a webhook reported: the list is right. Where the topic shows the other text, a
-- notice says so. Called by record_messages and by polls/confirm.rs.
CREATE FUNCTION sql.correct_texts(_dialog_id bigint, _messages jsonb, _corrected_text text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _corrected record;
BEGIN
    FOR _corrected IN
        -- lookup: correct_texts
        WITH corrected AS (
            UPDATE messages m SET text = incoming.text, attachments = m.attachments || incoming.attachments
            FROM sql.incoming_messages(_messages) AS incoming
            WHERE m.dialog_id = _dialog_id AND m.avito_message_id = incoming.id AND m.confirmed_at IS NULL
              AND m.kind = 'text' AND incoming.kind = 'text' AND NOT coalesce(incoming.placeholder, false)
              AND normalize(regexp_replace(btrim(m.text), '\s+', ' ', 'g'))
                  <> normalize(regexp_replace(btrim(incoming.text), '\s+', ' ', 'g'))
            RETURNING m.id, m.client_id, m.bot_id, m.dialog_id, m.post_id, m.text
        )
        SELECT corrected.*, p.telegram_message_ids[1] AS telegram_message_id
        FROM corrected JOIN posts p ON p.id = corrected.post_id
        -- end
    LOOP
        PERFORM sql.put_notice(
            _corrected.client_id, _corrected.bot_id, _corrected.dialog_id,
            jsonb_strip_nulls(jsonb_build_object(
                -- Characters of two units at the most, of which Telegram takes 4,096. The buyer's words stand outside the entity.
                'text', _corrected_text || ' ' || left(_corrected.text, 1900), 'reply_to', _corrected.telegram_message_id,
                'entities', jsonb_build_array(jsonb_build_object('type', 'bold', 'offset', 0, 'length', length(_corrected_text))))),
            'corrected:' || _corrected.id);
    END LOOP;
END $$;

-- Inserts messages, each once. A poll confirms what only a webhook reported; a webhook that comes second is noted. What comes
-- while the account is not followed is withheld; show_withheld shows what is still unread when it is followed again. Called by
-- record_messages.
CREATE FUNCTION sql.insert_messages(
    _client_id bigint, _account_id bigint, _bot_id bigint, _dialog_id bigint, _messages jsonb, _is_poll boolean,
    _hide_system_messages boolean, _filter_keywords text, _is_followed boolean
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _floor_at timestamptz := (SELECT d.floor_at FROM dialogs d WHERE d.id = _dialog_id);
BEGIN
    -- lookup: insert_messages
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, attachments,
                          avito_message_id, avito_created, avito_position, confirmed_at, webhook_reported_at, status, needs_post,
                          error)
    SELECT _client_id, _dialog_id, _account_id, _bot_id,
           CASE WHEN incoming.own THEN 'out' ELSE 'in' END,
           CASE WHEN incoming.own THEN 'avito_app' WHEN incoming.system THEN 'system' ELSE 'buyer' END,
           incoming.kind, incoming.text, incoming.attachments, incoming.id, incoming.created, incoming.position,
           CASE WHEN _is_poll THEN now() END, CASE WHEN NOT _is_poll THEN now() END,
           CASE WHEN filter.is_hidden OR NOT _is_followed THEN 'filtered' WHEN incoming.own THEN 'sent' ELSE 'received' END,
           _is_followed AND NOT filter.is_hidden,
           CASE WHEN NOT _is_followed AND NOT filter.is_hidden THEN 'the account is not followed' END
    FROM sql.incoming_messages(_messages) AS incoming
    CROSS JOIN LATERAL (
        SELECT NOT incoming.own AND (
            (incoming.system AND _hide_system_messages)
            OR EXISTS (SELECT FROM regexp_split_to_table(_filter_keywords, '[,\n]') AS keyword
                       WHERE btrim(keyword) <> '' AND strpos(lower(incoming.text), lower(btrim(keyword))) > 0)
        ) AS is_hidden
    ) AS filter
    WHERE NOT EXISTS (SELECT FROM parts o WHERE o.avito_account_id = _account_id AND o.avito_message_id = incoming.id)
      -- What was removed does not come back.
      AND NOT EXISTS (SELECT FROM tombstones t WHERE t.avito_account_id = _account_id AND t.avito_message_id = incoming.id)
      AND (coalesce(incoming.created > _floor_at, true) OR (
          SELECT true FROM messages o WHERE o.avito_account_id = _account_id AND o.avito_message_id = incoming.id OFFSET 0))
    ORDER BY incoming.created, incoming.position
    ON CONFLICT (avito_account_id, avito_message_id) DO UPDATE
    SET confirmed_at = coalesce(messages.confirmed_at, excluded.confirmed_at),
        webhook_reported_at = coalesce(messages.webhook_reported_at, excluded.webhook_reported_at),
        attachments = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                           THEN messages.attachments || excluded.attachments ELSE messages.attachments END,
        avito_position = CASE WHEN messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL
                              THEN excluded.avito_position ELSE messages.avito_position END
    WHERE (messages.confirmed_at IS NULL AND excluded.confirmed_at IS NOT NULL)
       OR (messages.webhook_reported_at IS NULL AND excluded.webhook_reported_at IS NOT NULL)
    -- end
    ;
END $$;

-- Shows messages that were withheld because Avito knew no such chat (`hide_unknown_chat` in to_telegram/confirmation.rs), and confirms
-- their chat: a poll has found it. Of those that came while the account was not followed it shows the messages that the poll has
-- found unread, `_avito_message_ids`. Returns wake-ups (common/wakeups.rs). Called by ingest/record.rs.
CREATE FUNCTION sql.show_withheld(_account_id bigint, _avito_chat_id text, _avito_message_ids text[])
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _dialog_id bigint;
BEGIN
    SELECT d.id INTO _dialog_id FROM dialogs d
    WHERE d.avito_account_id = _account_id AND d.avito_chat_id = _avito_chat_id FOR NO KEY UPDATE;
    -- What waited for the confirmation waits no more.
    UPDATE dialogs d
    SET confirmed_at = coalesce(d.confirmed_at, now()), confirm_attempts = 0, confirm_failed_since = NULL,
        hold_until = CASE WHEN d.confirm_failed_since IS NULL THEN d.hold_until END
    WHERE d.id = _dialog_id AND (d.confirmed_at IS NULL OR d.confirm_failed_since IS NOT NULL);
    IF FOUND THEN
        RETURN QUERY SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
                     FROM dialogs d CROSS JOIN LATERAL sql.make_outbox_due(d.bot_id, d.client_id, now()) AS outbox
                     WHERE d.id = _dialog_id;
    END IF;
    RETURN QUERY
    WITH shown AS (
        -- lookup: withheld
        UPDATE messages m
        SET needs_post = true, status = CASE WHEN m.direction = 'in' THEN 'received' ELSE 'sent' END, error = NULL
        WHERE m.dialog_id = _dialog_id AND m.status = 'filtered' AND m.error IS NOT NULL
          AND (m.error = 'Avito knows no such chat'
               OR m.error = 'the account is not followed' AND m.avito_message_id = ANY (_avito_message_ids))
        RETURNING m.bot_id, m.client_id
        -- end
    )
    SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
    FROM (SELECT DISTINCT shown.bot_id, shown.client_id FROM shown) AS bot
    CROSS JOIN LATERAL sql.make_outbox_due(bot.bot_id, bot.client_id, now()) AS outbox;
END $$;

-- True if the dialog holds a message of this origin that is later. Called by record_messages and auto_reply_due_at.
CREATE FUNCTION sql.has_later_message(_client_id bigint, _dialog_id bigint, _origin text, _than timestamptz) RETURNS boolean
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: has_later_message
        SELECT EXISTS (SELECT FROM messages o WHERE o.client_id = _client_id AND o.dialog_id = _dialog_id AND o.origin = _origin
                       AND o.avito_created > _than)
        -- end
    );
END $$;

-- Returns the time until which a new message waits for those that it overtook. Null: it waits for none. Just after an outage it
-- waits longer: what was buffered meanwhile is still on its way. If a message of the dialog has waited as long already, nothing
-- waits any more: a buyer who writes without a pause is posted all the same. Called by record_messages.
CREATE FUNCTION sql.reorder_hold_until(
    _bot_id bigint, _dialog_id bigint, _window_seconds double precision, _wait_seconds double precision, _has_buffered boolean,
    _outage_window_seconds double precision, _outage_wait_seconds double precision
) RETURNS timestamptz LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF (
        -- lookup: has_waited_long
        SELECT EXISTS (SELECT FROM messages w
                       WHERE w.bot_id = _bot_id AND w.dialog_id = _dialog_id AND w.needs_post AND w.post_id IS NULL
                         AND w.created_at < now() - make_interval(secs => _outage_wait_seconds))
        -- end
    ) THEN
        RETURN NULL;
    END IF;
    IF _has_buffered OR pg_postmaster_start_time() > now() - make_interval(secs => _outage_window_seconds) THEN
        RETURN now() + make_interval(secs => _outage_wait_seconds);
    END IF;
    IF (SELECT d.last_received_at > now() - make_interval(secs => _window_seconds) FROM dialogs d WHERE d.id = _dialog_id) THEN
        RETURN now() + make_interval(secs => _wait_seconds);
    END IF;
    RETURN NULL;
END $$;
