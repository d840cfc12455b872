-- A reply that a person writes through the API.

-- Creates the message of a reply with its parts, if the key was claimed (tenancy/idempotency.rs) and nothing prevents the reply.
-- A person's answer cancels the scheduled auto-reply. `app.result_id` is the new message. Called by api/reply.rs, which locks
-- the dialog first and makes the outbox due afterwards.
CREATE FUNCTION sql.insert_reply(_dialog_id bigint, _text text, _author_name text, _user_id bigint, _parts jsonb) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _message messages;
BEGIN
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                          author_user_id, status, needs_post)
    SELECT d.client_id, d.id, d.avito_account_id, d.bot_id, 'out', 'api', 'text', _text, nullif(_author_name, ''), _user_id,
           'sending', true
    FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
    WHERE d.id = _dialog_id AND current_setting('app.claimed', true) = 'yes' AND d.state <> 'blocked'
      AND d.block_requested_at IS NULL AND d.confirmed_at IS NOT NULL AND a.status = 'active' AND a.monitoring_enabled AND a.suspended_at IS NULL
    RETURNING * INTO _message;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    PERFORM sql.insert_parts(_message, _parts);
    UPDATE dialogs d
    SET state = 'answered', auto_reply_scheduled_at = NULL, last_message_at = now(),
        send_at = greatest(now(), coalesce(d.send_hold_until, now()))
    WHERE d.id = _dialog_id;
    PERFORM set_config('app.result_id', _message.id::text, true);
END $$;
