-- Requests to block a buyer, once Avito has answered.

-- Finishes a request to block the buyer of a dialog, with a notice. `_state` is the dialog's new state, null if Avito refused.
-- Stores nothing if the request is finished or replaced. Called by to_avito/blocking.rs, which has the dialog locked.
CREATE FUNCTION sql.finish_block(_dialog_id bigint, _requested_at timestamptz, _state text, _notice jsonb) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog dialogs;
BEGIN
    UPDATE dialogs d SET block_requested_at = NULL, block_due_at = NULL, block_attempts = 0, state = coalesce(_state, d.state),
           blocked_at = CASE WHEN _state IS NULL THEN d.blocked_at ELSE now() END,
           auto_reply_scheduled_at = CASE WHEN _state IS NULL THEN d.auto_reply_scheduled_at END
    WHERE d.id = _dialog_id AND d.block_requested_at = _requested_at
    RETURNING d.* INTO _dialog;
    IF FOUND AND sql.put_notice(_dialog.client_id, _dialog.bot_id, _dialog.id, _notice,
                                format('blocking:%s:%s', _dialog.id, extract(epoch FROM _requested_at))) THEN
        PERFORM sql.make_outbox_due(_dialog.bot_id, _dialog.client_id, now());
    END IF;
END $$;
