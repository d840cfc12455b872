-- Returns the keys of an account as the JSON of `Keys` (keys.rs); secrets are sealed. Called by the claims of the bridge.
CREATE FUNCTION sql.account_keys(_account tenancy_accounts) RETURNS json LANGUAGE sql STABLE AS $$
    SELECT json_build_object(
        'client_id', _account.client_id, 'account_id', _account.avito_account_id, 'user_id', _account.user_id,
        'api_client_id', _account.api_client_id, 'api_client_secret', _account.api_client_secret,
        'access_token', _account.access_token, 'token_expires_at', _account.token_expires_at)
$$;
