-- The answers of an account that waited.

-- Makes the failed answers of an account due now. Returns the dialogs as wake-ups (common/wakeups.rs). Called by
-- rows/account_work.rs.
CREATE FUNCTION sql.resume_failed_dialogs(_account_id bigint, _limit bigint)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _dialog_ids bigint[] := ARRAY(
        -- lookup: failed_dialogs
        SELECT d.id FROM dialogs d
        WHERE d.avito_account_id = _account_id AND d.send_at > now()
          AND EXISTS (SELECT FROM parts p
                      WHERE p.dialog_id = d.id AND p.state IN ('pending', 'sending', 'deleting') AND p.failed_since IS NOT NULL)
        ORDER BY d.id LIMIT _limit
        -- end
    );
BEGIN
    UPDATE parts p SET due_at = now()
    WHERE p.dialog_id = ANY(_dialog_ids) AND p.state IN ('pending', 'sending', 'deleting') AND p.due_at > now();
    RETURN QUERY
    UPDATE dialogs d SET send_at = now(), send_hold_until = NULL WHERE d.id = ANY(_dialog_ids)
    RETURNING NULL::bigint, d.id, 0::bigint, NULL::timestamptz;
END $$;
