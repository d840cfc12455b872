-- Webhooks of Avito accounts, beside those of other products.

-- Stores what became of an account's webhook; what is null stays as it is. Hosts that our address replaced are remembered until
-- they are there again. The owners are notified when another product took our place, after a day of failures, and of the replaced
-- hosts when the account is switched off: each once. Called by tenancy/accounts/webhooks/settle.rs.
CREATE FUNCTION sql.store_webhook(
    _account_id bigint, _state text, _others text[], _replaced text[], _error text, _is_new boolean,
    _check_seconds double precision, _taken_over_text text, _failing_text text, _replaced_text text
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _former avito_accounts;
    _account avito_accounts;
    _text text;
    _key text;
BEGIN
    SELECT a.* INTO _former FROM avito_accounts a WHERE a.id = _account_id FOR NO KEY UPDATE;
    UPDATE avito_accounts a
    SET webhook_state = coalesce(_state, a.webhook_state),
        webhook_others = coalesce(_others, a.webhook_others),
        webhook_replaced = (
            SELECT coalesce(jsonb_agg(entry.value ORDER BY entry.value ->> 'at'), '[]') FROM (
                SELECT value FROM jsonb_array_elements(a.webhook_replaced)
                WHERE value ->> 'host' <> ALL (coalesce(_others, '{}') || _replaced)
                UNION ALL
                SELECT jsonb_build_object('host', host, 'at', now()) FROM unnest(_replaced) AS host
            ) AS entry),
        webhook_checked_at = CASE WHEN _others IS NULL THEN a.webhook_checked_at ELSE now() END,
        webhook_registered_at = CASE WHEN _is_new THEN now() ELSE a.webhook_registered_at END,
        webhook_choice = CASE WHEN a.webhook_choice = 'take' AND _state IN ('registered', 'shared', 'taken_over') THEN NULL
                              ELSE a.webhook_choice END,
        webhook_error = _error,
        webhook_attempts = CASE WHEN _error IS NULL THEN 0 ELSE a.webhook_attempts + 1 END,
        webhook_failed_since = CASE WHEN _error IS NOT NULL THEN coalesce(a.webhook_failed_since, now()) END,
        webhook_check_at = now() + make_interval(secs => _check_seconds)
    WHERE a.id = _account_id RETURNING a.* INTO _account;
    IF _account.webhook_state = 'taken_over' AND _former.webhook_state IS DISTINCT FROM 'taken_over' THEN
        _text := format(_taken_over_text, _account.name, array_to_string(_account.webhook_others, ', '));
    ELSIF _account.webhook_state = 'off' AND _former.webhook_state IS DISTINCT FROM 'off'
          AND _account.webhook_replaced <> '[]' THEN
        _text := format(_replaced_text, _account.name, (
            SELECT string_agg(value ->> 'host', ', ') FROM jsonb_array_elements(_account.webhook_replaced)));
    ELSIF _account.webhook_failed_since < now() - interval '1 day' THEN
        _text := format(_failing_text, _account.name, _error);
        _key := format('webhook:%s:%s', _account_id, extract(epoch FROM _account.webhook_failed_since)::bigint);
    END IF;
    INSERT INTO owner_notices (client_id, text, dedup_key)
    SELECT _account.client_id, _text, _key WHERE _text IS NOT NULL
    ON CONFLICT (client_id, dedup_key) DO NOTHING;
END $$;
