-- The change of an Avito account.

-- Updates the account and records the changed fields; what is null stays as it is. An account with new keys is active again.
-- A transaction that is sent twice records them once. Called by tenancy/accounts/change.rs.
CREATE FUNCTION sql.update_account(
    _account_id bigint,
    _name text,
    _bot_id bigint,
    _monitoring_enabled boolean,
    _api_client_id text,
    _api_client_secret bytea,
    _access_token bytea,
    _token_expires_at timestamptz,
    _webhook_choice text,
    _user_id bigint
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH former AS (
        SELECT * FROM avito_accounts WHERE id = _account_id FOR NO KEY UPDATE
    ), changed AS (
        UPDATE avito_accounts a
        SET name = coalesce(_name, a.name), bot_id = coalesce(_bot_id, a.bot_id),
            monitoring_enabled = coalesce(_monitoring_enabled, a.monitoring_enabled),
            api_client_id = coalesce(_api_client_id, a.api_client_id),
            api_client_secret = coalesce(_api_client_secret, a.api_client_secret),
            access_token = coalesce(_access_token, a.access_token),
            token_expires_at = coalesce(_token_expires_at, a.token_expires_at),
            webhook_choice = coalesce(_webhook_choice, a.webhook_choice),
            status = CASE WHEN _api_client_secret IS NULL THEN a.status ELSE 'active' END,
            status_reason = CASE WHEN _api_client_secret IS NULL THEN a.status_reason END,
            status_changed_at = CASE WHEN _api_client_secret IS NULL OR a.status = 'active' THEN a.status_changed_at
                                     ELSE now() END
        FROM former WHERE a.id = former.id
        RETURNING a.*
    ), fields AS (
        SELECT field.name, jsonb_build_object('before', field.before, 'after', field.after) AS change
        FROM former CROSS JOIN changed CROSS JOIN LATERAL (VALUES
            ('name', to_jsonb(former.name), to_jsonb(changed.name)),
            ('bot_id', to_jsonb(former.bot_id), to_jsonb(changed.bot_id)),
            ('status', to_jsonb(former.status), to_jsonb(changed.status)),
            ('monitoring_enabled', to_jsonb(former.monitoring_enabled), to_jsonb(changed.monitoring_enabled)),
            ('webhook', to_jsonb(former.webhook_choice), to_jsonb(changed.webhook_choice)),
            ('api_client_id', to_jsonb(former.api_client_id), to_jsonb(changed.api_client_id))
        ) AS field (name, before, after)
        WHERE field.after IS DISTINCT FROM field.before
        UNION ALL
        SELECT 'api_client_secret', to_jsonb('***'::text) FROM former CROSS JOIN changed
        WHERE former.api_client_secret <> changed.api_client_secret
    )
    INSERT INTO audit_log (client_id, user_id, action, details)
    SELECT current_client_id(), _user_id, 'avito_account.update',
           jsonb_build_object('avito_account_id', _account_id) || jsonb_object_agg(fields.name, fields.change)
    FROM fields HAVING count(*) > 0;
END $$;
