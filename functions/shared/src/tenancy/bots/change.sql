-- The change of a bot.

-- Updates the bot and records the changed fields; a null token stays as it is. A transaction that is sent twice records them
-- once. Called by tenancy/bots/change.rs.
CREATE FUNCTION sql.update_bot(
    _bot_id bigint, _token bytea, _group_chat_id bigint, _topic_mode boolean, _bot_username text, _user_id bigint
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    WITH former AS (
        SELECT id, token, group_chat_id, topic_mode, bot_username FROM bots WHERE id = _bot_id FOR NO KEY UPDATE
    ), changed AS (
        UPDATE bots b
        SET token = coalesce(_token, b.token), group_chat_id = _group_chat_id, topic_mode = _topic_mode,
            bot_username = _bot_username,
            former_group_chat_id = CASE WHEN former.group_chat_id IS DISTINCT FROM _group_chat_id THEN former.group_chat_id
                                        ELSE b.former_group_chat_id END,
            status = 'active', status_reason = NULL, broken_since = NULL
        FROM former WHERE b.id = former.id
        RETURNING b.*
    ), fields AS (
        SELECT field.name, jsonb_build_object('before', field.before, 'after', field.after) AS change
        FROM former CROSS JOIN changed CROSS JOIN LATERAL (VALUES
            ('group_chat_id', to_jsonb(former.group_chat_id), to_jsonb(changed.group_chat_id)),
            ('topic_mode', to_jsonb(former.topic_mode), to_jsonb(changed.topic_mode)),
            ('bot_username', to_jsonb(former.bot_username), to_jsonb(changed.bot_username))
        ) AS field (name, before, after)
        WHERE field.after IS DISTINCT FROM field.before
        UNION ALL
        SELECT 'token', to_jsonb('***'::text) FROM former CROSS JOIN changed WHERE former.token <> changed.token
    )
    INSERT INTO audit_log (client_id, user_id, action, details)
    SELECT current_client_id(), _user_id, 'bot.update',
           jsonb_build_object('bot_id', _bot_id) || jsonb_object_agg(fields.name, fields.change)
    FROM fields HAVING count(*) > 0;
END $$;

-- Stores the new id that Telegram gave the group of a bot. A group belongs to one bot: if another has it, also of another client,
-- this one gets none, as if it was removed. Returns the bot to the transaction that stores it first. Called by tenancy/bots/bot.rs.
CREATE FUNCTION sql.move_group(_bot_id bigint, _from_chat_id bigint, _to_chat_id bigint) RETURNS TABLE (id bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    BEGIN
        RETURN QUERY
        UPDATE bots b SET group_chat_id = _to_chat_id, former_group_chat_id = _from_chat_id
        WHERE b.id = _bot_id AND b.group_chat_id = _from_chat_id RETURNING b.id;
    EXCEPTION WHEN unique_violation THEN
        UPDATE bots b SET group_chat_id = NULL, former_group_chat_id = _from_chat_id, status = 'error',
               status_reason = 'another bot has the group'
        WHERE b.id = _bot_id;
    END;
END $$;
