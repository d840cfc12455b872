-- Finds the tenant of a webhook or of a task, and runs the rest of the transaction as that tenant. A tenant is that of the row
-- whose secret matched, never the payload's. No row: there is none, and what follows sees no rows.

-- The bot that a task names. Called by tenancy/bots/bot.rs.
CREATE FUNCTION sql.find_tenant_of_bot(_bot_id bigint) RETURNS TABLE (setting text, client_id bigint, bot_id bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY SELECT set_config('app.client_id', b.client_id::text, true), b.client_id, b.id FROM bots b WHERE b.id = _bot_id;
END $$;

-- The bot whose webhook carries a secret with this hash, also one that Telegram is being given. Called by tenancy/bots/bot.rs.
CREATE FUNCTION sql.find_tenant_by_bot_secret(_bot_id bigint, _secret_hash bytea)
RETURNS TABLE (
    setting text, client_id bigint, bot_id bigint, telegram_bot_id bigint, group_chat_id bigint, former_group_chat_id bigint,
    topic_mode boolean, status text
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT set_config('app.client_id', b.client_id::text, true), b.client_id, b.id, b.telegram_bot_id, b.group_chat_id,
           b.former_group_chat_id, b.topic_mode, b.status
    FROM bots b
    WHERE b.id = _bot_id AND (_secret_hash = b.webhook_secret_hash OR _secret_hash = ANY (b.pending_webhook_hashes));
END $$;

-- The account that a task names. Called by tenancy/accounts/account.rs.
CREATE FUNCTION sql.find_tenant_of_account(_account_id bigint)
RETURNS TABLE (setting text, client_id bigint, avito_account_id bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT set_config('app.client_id', a.client_id::text, true), a.client_id, a.id FROM avito_accounts a WHERE a.id = _account_id;
END $$;

-- The account whose webhook carries a secret with this hash, or did before its last change. Called by
-- tenancy/accounts/webhooks.rs.
CREATE FUNCTION sql.find_tenant_by_account_secret(_account_id bigint, _secret_hash bytea)
RETURNS TABLE (setting text, client_id bigint, avito_account_id bigint, user_id bigint, bot_id bigint, status text)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT set_config('app.client_id', a.client_id::text, true), a.client_id, a.id, a.user_id, a.bot_id, a.status
    FROM avito_accounts a
    WHERE a.id = _account_id AND _secret_hash IN (a.webhook_secret_hash, a.former_webhook_secret_hash);
END $$;
