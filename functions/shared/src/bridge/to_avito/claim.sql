-- Claims what one dialog has to send to Avito next. The functions that claim_dialog_work calls share its setting of
-- plan_cache_mode.

-- Commits what Avito was just sent, takes or renews the lease, commits the next part as `sending`, and returns the work as JSON
-- (`DialogWork` in work.rs). With nothing to do it releases the lease. Called by to_avito/claim.rs.
-- Locks: first the dialog, then the outbox row, as everywhere.
CREATE FUNCTION sql.claim_dialog_work(
    _dialog_id bigint,
    _lease_owner uuid,
    _lease_seconds double precision,
    _has_outcome boolean,
    _sent_part_id bigint,
    _avito_message_id text
) RETURNS json LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _dialog record;
    _part record;
    _part_id bigint;
    _due_at timestamptz;
    _bot_id bigint;
BEGIN
    IF _sent_part_id IS NOT NULL THEN
        -- Stored also if another worker has the lease by now: Avito has the part.
        PERFORM FROM dialogs d WHERE d.id = _dialog_id FOR NO KEY UPDATE;
        PERFORM sql.mark_part_sent(_sent_part_id, _avito_message_id);
    END IF;
    SELECT d.send_at <= now() AS is_due, coalesce(d.mark_read_at <= now(), false) AS wants_mark_read,
           d.block_requested_at IS NOT NULL AND coalesce(d.block_due_at <= now(), true) AS wants_block
    INTO _dialog FROM dialogs AS d
    WHERE d.id = _dialog_id AND (d.lease_owner IS NULL OR d.lease_owner = _lease_owner OR d.lease_until < now())
      AND (d.lease_owner = _lease_owner OR d.send_at <= now() OR d.mark_read_at <= now())
    FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT CASE WHEN d.lease_owner <> _lease_owner AND d.lease_until >= now()
                         AND (d.send_at <= now() OR d.mark_read_at <= now()) THEN 'lease_taken'
                    -- The wake-up came for a chat that was not quiet: another one comes when it is to be marked read.
                    WHEN d.mark_read_at <= now() + interval '1 minute' THEN 'idle' END AS outcome,
               extract(epoch FROM d.mark_read_at - now()) AS wake_in
        INTO _part FROM dialogs AS d WHERE d.id = _dialog_id;
        RETURN json_build_object(
            'bot_id', CASE WHEN _has_outcome THEN sql.bot_to_wake(_dialog_id) END, 'outcome', _part.outcome,
            'wake_in', CASE WHEN _part.outcome = 'idle' THEN _part.wake_in END);
    END IF;
    IF (
        -- lookup: has_requested_change
        SELECT EXISTS (SELECT FROM messages
                       WHERE dialog_id = _dialog_id AND (change_due_at IS NOT NULL OR delete_command_id IS NOT NULL))
        -- end
    ) THEN
        PERFORM sql.apply_changes(_dialog_id);
        PERFORM sql.confirm_deletions(_dialog_id);
        _has_outcome := true;
    END IF;
    IF _has_outcome THEN
        _bot_id := sql.bot_to_wake(_dialog_id);
    END IF;
    SELECT next.id, next.state INTO _part FROM (
        -- lookup: next_part
        SELECT p.id, p.state FROM parts p
        WHERE p.dialog_id = _dialog_id AND p.state IN ('pending', 'sending', 'deleting') AND p.due_at <= now()
          -- Another text waits until the former one is deleted.
          AND NOT (p.state = 'pending' AND EXISTS (SELECT FROM parts o WHERE o.message_id = p.message_id AND o.state = 'deleting'))
        ORDER BY p.state = 'deleting' DESC, p.state DESC, p.message_id, p.position LIMIT 1
        -- end
    ) AS next;
    IF _part.id IS NULL AND NOT _dialog.wants_mark_read AND NOT _dialog.wants_block THEN
        _due_at := sql.next_dialog_work_at(_dialog_id);
        UPDATE dialogs AS d SET lease_owner = NULL, lease_until = NULL, send_at = _due_at WHERE d.id = _dialog_id;
        RETURN json_build_object('outcome', 'idle', 'wake_in', extract(epoch FROM _due_at - now()), 'bot_id', _bot_id);
    END IF;
    UPDATE dialogs AS d SET lease_owner = _lease_owner, lease_until = now() + make_interval(secs => _lease_seconds)
    WHERE d.id = _dialog_id;
    _part_id := _part.id;
    IF _part.state <> 'deleting' AND (_dialog.wants_block OR NOT coalesce(_dialog.is_due, false)) THEN
        _part_id := NULL;
    ELSIF _part.state = 'pending' THEN
        UPDATE parts AS p SET state = 'sending', sending_since = now() WHERE p.id = _part_id;
    END IF;
    RETURN json_build_object('outcome', 'claimed', 'bot_id', _bot_id,
                             'work', sql.dialog_work(_dialog_id, _part_id, _part.state));
END $$;

-- Returns the time at which a dialog with nothing to do now has something to do: a change of an answer, a part that waits alone,
-- or a buyer who is to be blocked. Called by claim_dialog_work.
CREATE FUNCTION sql.next_dialog_work_at(_dialog_id bigint) RETURNS timestamptz LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: next_dialog_work_at
        SELECT least(
            (SELECT min(m.change_due_at) FROM messages m
             WHERE m.dialog_id = _dialog_id AND m.change_due_at IS NOT NULL
               -- apply_changes waits for a part of unknown outcome, which has a time of its own.
               AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state = 'sending')),
            (SELECT min(p.due_at) FROM parts p
             WHERE p.dialog_id = _dialog_id AND p.state IN ('pending', 'sending', 'deleting')
               -- Another text waits until the former one is deleted.
               AND NOT (p.state = 'pending'
                        AND EXISTS (SELECT FROM parts o WHERE o.message_id = p.message_id AND o.state = 'deleting'))),
            (SELECT coalesce(d.block_due_at, now()) FROM dialogs d
             WHERE d.id = _dialog_id AND d.block_requested_at IS NOT NULL))
        -- end
    );
END $$;

-- Returns the bot to wake for the receipts and notices of a dialog, if its outbox is due and no wake-up is pending.
-- Called by claim_dialog_work and by to_avito/claim.rs.
CREATE FUNCTION sql.bot_to_wake(_dialog_id bigint) RETURNS bigint LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: bot_to_wake
        SELECT outbox.bot_id FROM dialogs d JOIN bot_outboxes outbox ON outbox.bot_id = d.bot_id
        WHERE d.id = _dialog_id AND outbox.due_at <= now()
          AND NOT sql.is_wakeup_pending(outbox.lease_owner, outbox.lease_until, outbox.due_at)
        -- end
    );
END $$;

-- Returns all that is needed for the next step of a dialog. `_part_state` is the state in which the part was found.
-- Called by claim_dialog_work.
CREATE FUNCTION sql.dialog_work(_dialog_id bigint, _part_id bigint, _part_state text) RETURNS json LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN (
        -- lookup: dialog_work
        SELECT json_build_object(
            'now', now(), 'buyer', d.buyer, 'item', d.item, 'avito_chat_id', d.avito_chat_id,
            'block_requested_at', CASE WHEN coalesce(d.block_due_at <= now(), true) THEN d.block_requested_at END,
            'block_attempts', d.block_attempts, 'mark_read', coalesce(d.mark_read_at <= now(), false),
            'mark_read_attempts', d.mark_read_attempts, 'mark_read_failed_since', d.mark_read_failed_since,
            'keys', sql.account_keys(a), 'is_suspended', a.suspended_at IS NOT NULL,
            'outage', CASE WHEN o.failing_calls IS NOT NULL THEN json_build_object(
                'calls', o.failing_calls, 'since', o.out_since, 'trial_at', o.trial_at, 'attempts', o.failed_trials) END,
            'refused_since', CASE WHEN a.status <> 'active' THEN a.status_changed_at END,
            'part', CASE WHEN p.id IS NOT NULL THEN json_build_object(
                'id', p.id, 'state', _part_state, 'text', coalesce(p.text, ''), 'text_key', coalesce(p.text_key, ''),
                'attachment', p.attachment, 'sending_since', p.sending_since, 'verify_attempts', p.verify_attempts,
                'attempts', p.attempts, 'failed_since', p.failed_since, 'verify_failures', p.verify_failures,
                'verify_failed_since', p.verify_failed_since, 'avito_message_id', p.avito_message_id, 'is_auto_reply',
                (SELECT m.is_auto_reply FROM messages m WHERE m.client_id = p.client_id AND m.id = p.message_id)) END)
        FROM dialogs d JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
        LEFT JOIN parts p ON p.id = _part_id
        LEFT JOIN account_polls o ON o.avito_account_id = d.avito_account_id
        WHERE d.id = _dialog_id
        -- end
    );
END $$;

-- Stores that Avito has a part, under its id. An own message of that id which was taken for one from Avito's app is ours after
-- all: its row goes, and so does its post. With its last part the message is sent: an operator's message gets its receipt, an
-- auto-reply is posted. Called by claim_dialog_work, which has the dialog locked.
CREATE FUNCTION sql.mark_part_sent(_part_id bigint, _avito_message_id text) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _mistaken_id bigint := (
        -- lookup: mistaken
        SELECT m.id FROM parts p JOIN messages m
            ON m.avito_account_id = p.avito_account_id AND m.avito_message_id = _avito_message_id AND m.origin = 'avito_app'
        WHERE p.id = _part_id
        -- end
    );
    _message messages;
BEGIN
    IF _mistaken_id IS NOT NULL THEN
        PERFORM sql.merge_app_message(_mistaken_id);
    END IF;
    UPDATE parts SET state = 'sent', avito_message_id = _avito_message_id, error = NULL
    WHERE id = _part_id AND state IN ('sending', 'sent');
    UPDATE messages m SET status = 'sent', needs_post = m.needs_post OR m.is_auto_reply
    WHERE m.id = (SELECT p.message_id FROM parts p WHERE p.id = _part_id) AND m.status IN ('sending', 'sent')
      AND NOT EXISTS (SELECT FROM parts o WHERE o.message_id = m.id AND o.state NOT IN ('sent', 'cancelled', 'deleted'))
    RETURNING m.* INTO _message;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF sql.put_receipt(_message, '👌') AND NOT _message.is_auto_reply THEN
        -- While reactions are on hold and the outbox is due when the hold ends, its due time stays. The row is locked all the same.
        INSERT INTO bot_outboxes AS outbox (bot_id, client_id, due_at) VALUES (_message.bot_id, _message.client_id, now())
        ON CONFLICT (bot_id) DO UPDATE SET due_at = least(outbox.due_at, excluded.due_at)
        WHERE (outbox.due_at > greatest(now(), outbox.reactions_hold_until)) IS NOT FALSE;
    ELSIF _message.is_auto_reply THEN
        PERFORM sql.make_outbox_due(_message.bot_id, _message.client_id, now());
    END IF;
END $$;

-- Deletes a message that was taken for one from Avito's app, and what shows it in the topic. Called by mark_part_sent.
CREATE FUNCTION sql.merge_app_message(_message_id bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _post_id bigint;
BEGIN
    DELETE FROM messages m WHERE m.id = _message_id RETURNING m.post_id INTO _post_id;
    PERFORM sql.withdraw_post(_post_id, 'our own answer');
END $$;

-- Releases the lease of a dialog; its work is due again in so many seconds. Called by to_avito/claim.rs.
CREATE FUNCTION sql.release_dialog(_dialog_id bigint, _lease_owner uuid, _seconds double precision) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    UPDATE dialogs
    SET lease_owner = NULL, lease_until = NULL,
        send_at = CASE WHEN send_at IS NOT NULL THEN now() + make_interval(secs => _seconds) END,
        -- Only what is to be sent now is held: the next answer of a dialog without any does not wait.
        send_hold_until = CASE WHEN _seconds > 0 AND send_at IS NOT NULL THEN now() + make_interval(secs => _seconds)
                               ELSE send_hold_until END
    WHERE id = _dialog_id AND lease_owner = _lease_owner;
END $$;
