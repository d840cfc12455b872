-- The auto-reply to a buyer who gets no answer for a while.

-- Clears the scheduled time of a dialog's auto-reply, and creates the message with its parts if the setting and the interval still
-- allow it. The topic gets it once it is sent. If the time was cleared meanwhile, an answer came first, and nothing is created.
-- Returns the dialog as a wake-up (common/wakeups.rs), or no row if nothing is to be sent. Called by bridge/auto_reply.rs.
-- Locks: the dialog only.
CREATE FUNCTION sql.insert_auto_reply(_dialog_id bigint, _scheduled_at timestamptz, _text text, _parts jsonb)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _due record;
    _message messages;
BEGIN
    UPDATE dialogs d
    SET auto_reply_scheduled_at = NULL,
        auto_reply_last_sent_at = CASE WHEN rule.is_allowed THEN now() ELSE d.auto_reply_last_sent_at END,
        send_at = CASE WHEN rule.is_allowed THEN greatest(now(), coalesce(d.send_hold_until, now())) ELSE d.send_at END
    FROM (
        SELECT r.id, i.begins_at IS NOT NULL AND r.state <> 'blocked' AND r.confirmed_at IS NOT NULL
                     AND coalesce(r.auto_reply_last_sent_at < i.begins_at, true) AS is_allowed
        FROM dialogs r
        LEFT JOIN tenancy_auto_replies s ON s.client_id = r.client_id AND s.enabled AND btrim(s.text) <> ''
        LEFT JOIN LATERAL auto_reply_interval(s.always, s.start_time, s.end_time, s.zone, now()) AS i ON true
        WHERE r.id = _dialog_id
    ) AS rule
    WHERE d.id = rule.id AND d.auto_reply_scheduled_at = _scheduled_at
      -- A chat that Avito has not confirmed yet keeps its time: the sweep comes again, until an auto-reply is of no use any more.
      AND (d.confirmed_at IS NOT NULL OR _scheduled_at < now() - interval '10 minutes')
    RETURNING d.client_id, d.avito_account_id, d.bot_id, rule.is_allowed INTO _due;
    IF NOT coalesce(_due.is_allowed, false) THEN
        RETURN;
    END IF;
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, is_auto_reply,
                          status, needs_post)
    VALUES (_due.client_id, _dialog_id, _due.avito_account_id, _due.bot_id, 'out', 'auto_reply', 'text', _text, true,
            'sending', false)
    RETURNING * INTO _message;
    IF sql.insert_parts(_message, _parts) THEN
        RETURN QUERY SELECT NULL::bigint, _dialog_id, 0::bigint, NULL::timestamptz;
    END IF;
END $$;

-- Returns the time at which a buyer's message is answered automatically. Null: the auto-reply is off or not active, was sent in
-- this interval, the account was connected later, or the seller answered in Avito's app. Called by record_messages.
CREATE FUNCTION sql.auto_reply_due_at(
    _client_id bigint, _account_id bigint, _dialog_id bigint, _asked_at timestamptz, _delay_seconds double precision
) RETURNS timestamptz LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- Asked first: the interval takes long to set up.
    IF NOT (
        -- lookup: is_auto_reply_enabled
        SELECT EXISTS (SELECT FROM tenancy_auto_replies s WHERE s.client_id = _client_id AND s.enabled)
        -- end
    ) OR (
        -- What was there when the account was connected is posted, and nothing more.
        -- lookup: written_before_connection
        SELECT EXISTS (SELECT FROM account_polls p
                       WHERE p.avito_account_id = _account_id AND _asked_at < date_trunc('second', p.started_at))
        -- end
    ) OR sql.has_later_message(_client_id, _dialog_id, 'avito_app', _asked_at) THEN
        RETURN NULL;
    END IF;
    RETURN (
        -- lookup: auto_reply_due_at
        SELECT now() + make_interval(secs => _delay_seconds)
        FROM dialogs d JOIN tenancy_auto_replies s ON s.client_id = d.client_id AND s.enabled
        CROSS JOIN LATERAL auto_reply_interval(s.always, s.start_time, s.end_time, s.zone, now()) AS i
        WHERE d.id = _dialog_id AND (d.state <> 'blocked' OR _asked_at > d.blocked_at)
          AND coalesce(d.auto_reply_last_sent_at < i.begins_at, true)
        -- end
    );
END $$;
