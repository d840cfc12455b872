-- Parts that Avito did not take: they wait, or they fail.

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

-- Postpones a part after a failure: alone, or with its dialog, which the caller then releases. Once an answer has failed for five
-- minutes, its topic gets the notice. Called by to_avito/claim.rs, which has the dialog locked.
CREATE FUNCTION sql.postpone_part(
    _part_id bigint, _state text, _is_attempt boolean, _is_verification boolean, _seconds double precision, _is_alone boolean,
    _notice jsonb
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _part parts;
BEGIN
    UPDATE parts p
    SET state = CASE WHEN p.state = 'sending' THEN _state ELSE p.state END,
        attempts = p.attempts + CASE WHEN _is_attempt THEN 1 ELSE 0 END,
        failed_since = coalesce(p.failed_since, now()),
        verify_failures = p.verify_failures + CASE WHEN _is_verification THEN 1 ELSE 0 END,
        verify_failed_since = CASE WHEN _is_verification THEN coalesce(p.verify_failed_since, now()) ELSE p.verify_failed_since END,
        due_at = CASE WHEN _is_alone THEN now() + make_interval(secs => _seconds) ELSE p.due_at END
    WHERE p.id = _part_id AND p.state IN ('sending', 'deleting')
    RETURNING p.* INTO _part;
    IF _part.state IN ('pending', 'sending') AND _part.failed_since <= now() - interval '5 minutes' THEN
        PERFORM sql.notify_writer(_part, _notice, 'delayed:' || _part.id);
    END IF;
END $$;

-- Puts the notice that Avito refuses the account, for an answer that waits, once for each time that it does so. Called by
-- to_avito/claim.rs, which has the dialog locked.
CREATE FUNCTION sql.notify_account_refused(_part_id bigint, _refused_since timestamptz, _notice jsonb) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _part parts;
BEGIN
    SELECT * INTO _part FROM parts p WHERE p.id = _part_id;
    PERFORM sql.notify_writer(_part, _notice, format('account:%s:%s', _part.dialog_id, extract(epoch FROM _refused_since)));
END $$;

-- Puts a notice in reply to the operator's message of a part, once per key. An auto-reply has no writer. Called by postpone_part and
-- notify_account_refused.
CREATE FUNCTION sql.notify_writer(_part parts, _notice jsonb, _dedup_key text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message messages;
BEGIN
    SELECT * INTO _message FROM messages m WHERE m.id = (_part).message_id AND NOT m.is_auto_reply;
    IF FOUND AND sql.put_notice(
        _message.client_id, _message.bot_id, _message.dialog_id,
        jsonb_strip_nulls(_notice || jsonb_build_object('reply_to', _message.telegram_message_id)),
        _dedup_key || ':' || _message.id
    ) THEN
        PERFORM sql.make_outbox_due(_message.bot_id, _message.client_id, now());
    END IF;
END $$;

-- Returns a row if a part of the account was sent since then: the witness that Avito takes parts of this account. Called by
-- to_avito/outcomes.rs.
CREATE FUNCTION sql.sent_since(_account_id bigint, _since timestamptz) RETURNS TABLE (part_id bigint) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: sent_since
    SELECT p.id
    -- By the dialogs in which something happened lately: parts have no index by time, for each sent part would pay for it. The
    -- account is compared afterwards: Postgres would read its whole index for it.
    FROM (SELECT * FROM dialogs d
          WHERE d.client_id = (SELECT a.client_id FROM tenancy_accounts a WHERE a.avito_account_id = _account_id)
            AND d.last_message_at > _since - interval '1 day' OFFSET 0) AS d
    JOIN messages m ON m.client_id = d.client_id AND m.dialog_id = d.id JOIN parts p ON p.message_id = m.id
    WHERE d.avito_account_id = _account_id AND m.direction = 'out' AND p.state = 'sent' AND p.sending_since > _since
    LIMIT 1
    -- end
    ;
END $$;
