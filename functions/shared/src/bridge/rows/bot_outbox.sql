-- The outbox of a bot: who may work for it, and when it is due.

-- True while a worker holds the lease. No wake-up is needed then: before it releases, the worker locks the outbox row again
-- and so sees the new work. Called by make_outbox_due and claims.
CREATE FUNCTION sql.is_lease_taken(_lease_owner uuid, _lease_until timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT coalesce(_lease_owner IS NOT NULL AND _lease_until >= now(), false)
$$;

-- True if no wake-up is needed: a worker holds the lease, or another transaction made the outbox due less than a second ago
-- and sends the wake-up. A wake-up that gets lost is repaired by the next message or by the sweep.
CREATE FUNCTION sql.is_wakeup_pending(_lease_owner uuid, _lease_until timestamptz, _due_at timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(_lease_owner IS NOT NULL AND _lease_until >= now(), false)
        OR _due_at < now() AND _due_at > now() - interval '1 second'
$$;

-- Returns the whole seconds until a time, 0 if it has come: SQS' delays are whole seconds.
CREATE FUNCTION sql.seconds_until(_due_at timestamptz) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT ceil(extract(epoch FROM greatest(_due_at - now(), interval '0')))::bigint
$$;

-- Makes the outbox of a bot due at the latest then. Returns the bot, the whole seconds until it is due, and if no wake-up is
-- needed. Called by all that add work for a bot.
CREATE FUNCTION sql.make_outbox_due(_bot_id bigint, _client_id bigint, _due_at timestamptz)
RETURNS TABLE (bot_id bigint, wait_seconds bigint, due_at timestamptz, is_lease_taken boolean, wakeup_pending boolean)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at) VALUES (_bot_id, _client_id, _due_at)
    ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
    RETURNING outbox.bot_id, sql.seconds_until(outbox.due_at), outbox.due_at,
              sql.is_lease_taken(outbox.lease_owner, outbox.lease_until),
              sql.is_wakeup_pending(outbox.lease_owner, outbox.lease_until, outbox.due_at);
END $$;

-- Makes the outboxes of these bots due now, each once. For callers that put several posts: a transaction locks the rows of posts
-- before that of the outbox. Called by put_read_receipts, mark_not_found and confirm_deletions.
CREATE FUNCTION sql.make_outboxes_due(_bot_ids bigint[], _client_id bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    PERFORM sql.make_outbox_due(bot.id, _client_id, now())
    FROM (SELECT DISTINCT id FROM unnest(_bot_ids) AS bot (id) ORDER BY id) AS bot;
END $$;

-- Makes the outbox due of the bot of these messages or parts of an account. The bot has work if one of the messages needs a
-- post, or if the notice of its deletion or correction is pending. The outbox is due when the dialog's hold ends.
-- A repeated delivery wakes the bot even if the outbox became due within the last second: the first sender may have died
-- before its wake-up. Returns wake-ups (common/wakeups.rs). Called by record.sql and by polls/confirm.rs.
CREATE FUNCTION sql.make_due_for_messages(_account_id bigint, _avito_message_ids text[])
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
    FROM (
        -- lookup: bots_of_messages
        SELECT m.bot_id, m.client_id, min(greatest(d.hold_until, now())) AS due_at
        FROM messages m JOIN dialogs d ON d.id = m.dialog_id
        WHERE (m.needs_post AND m.post_id IS NULL OR EXISTS (
                   SELECT FROM posts p
                   WHERE p.bot_id = m.bot_id AND p.dedup_key IN ('deleted:' || m.id, 'corrected:' || m.id) AND p.state = 'pending'))
          -- An array, computed first: with a join, Postgres may read all messages of the client.
          AND m.id = ANY (ARRAY(
              SELECT id FROM messages WHERE avito_account_id = _account_id AND avito_message_id = ANY(_avito_message_ids)
              UNION ALL
              SELECT message_id FROM parts WHERE avito_account_id = _account_id AND avito_message_id = ANY(_avito_message_ids)))
        GROUP BY 1, 2
        -- end
    ) AS due
    CROSS JOIN LATERAL sql.make_outbox_due(due.bot_id, due.client_id, due.due_at) AS outbox
    WHERE NOT (outbox.is_lease_taken AND outbox.wait_seconds = 0);
END $$;

-- Makes a bot's outbox due for its unfinished posts. Returns the wake-up. Called by insert.sql and after an operator's edits,
-- commands and buttons.
CREATE FUNCTION sql.make_due_for_posts(_bot_id bigint)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT outbox.bot_id, NULL::bigint, outbox.wait_seconds, NULL::timestamptz
    FROM (
        -- lookup: unfinished_posts
        SELECT p.bot_id, p.client_id, min(p.due_at) AS due_at FROM posts p
        WHERE p.bot_id = _bot_id AND p.state IN ('pending', 'sending') GROUP BY 1, 2
        -- end
    ) AS due
    CROSS JOIN LATERAL sql.make_outbox_due(due.bot_id, due.client_id, due.due_at) AS outbox;
END $$;

-- Locks a dialog until the transaction ends: before the outbox, as every transaction does that touches both. Called by
-- rows/bot_outbox.rs.
CREATE FUNCTION sql.lock_dialog(_dialog_id bigint) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    PERFORM FROM dialogs d WHERE d.id = _dialog_id FOR NO KEY UPDATE;
END $$;

-- Renews the lease of an outbox. Returns the bot, or no row if another worker has the lease. Called by rows/bot_outbox.rs.
CREATE FUNCTION sql.renew_outbox_lease(_bot_id bigint, _lease_owner uuid, _lease_seconds double precision)
RETURNS TABLE (bot_id bigint) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE bot_outboxes outbox SET lease_until = now() + make_interval(secs => _lease_seconds)
    WHERE outbox.bot_id = _bot_id AND outbox.lease_owner = _lease_owner
    RETURNING outbox.bot_id;
END $$;

-- Stores if the bot's group has topics. Called by rows/bot_outbox.rs.
CREATE FUNCTION sql.store_topic_mode(_bot_id bigint, _telegram_chat_id bigint, _has_topics boolean) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    UPDATE bot_outboxes outbox SET topics_off = NOT _has_topics FROM tenancy_bots b
    WHERE outbox.bot_id = _bot_id AND b.bot_id = _bot_id AND b.group_chat_id = _telegram_chat_id
      AND outbox.topics_off = _has_topics;
END $$;

-- Stores the budget of messages that a send leaves, if the worker still holds the lease. Called by rows/bot_outbox.rs.
CREATE FUNCTION sql.charge_budget(
    _bot_id bigint, _lease_owner uuid, _recent_sends bigint[]
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    UPDATE bot_outboxes SET recent_sends = _recent_sends
    WHERE bot_id = _bot_id AND lease_owner = _lease_owner;
END $$;

-- Releases the lease of an outbox until a time, whatever waits: nothing may be sent before. Returns true if a wake-up is to be
-- sent for it, or no row if another worker has the lease. Called by rows/bot_outbox.rs.
CREATE FUNCTION sql.release_outbox_until(_bot_id bigint, _lease_owner uuid, _due_at timestamptz)
RETURNS TABLE (needs_wakeup boolean) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH plan AS (
        SELECT NOT coalesce(outbox.wakeup_at > clock_timestamp() AND outbox.wakeup_at <= _due_at + interval '1 second', false)
               AS needs_wakeup
        FROM bot_outboxes outbox WHERE outbox.bot_id = _bot_id FOR NO KEY UPDATE
    )
    UPDATE bot_outboxes outbox
    SET lease_owner = NULL, lease_until = NULL, due_at = _due_at,
        wakeup_at = CASE WHEN plan.needs_wakeup THEN _due_at ELSE outbox.wakeup_at END
    FROM plan WHERE outbox.bot_id = _bot_id AND outbox.lease_owner = _lease_owner
    RETURNING plan.needs_wakeup;
END $$;
