-- Dialogs that follow their account to another bot, or their bot to another group, batch by batch.

-- Notes that the dialogs of an account or of a bot are to follow it. Called by api/relocation.rs, in the transaction of the change.
CREATE FUNCTION sql.begin_relocation(_account_id bigint, _bot_id bigint, _wait_seconds double precision) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE relocations r SET changed_at = now(), due_at = now() + make_interval(secs => _wait_seconds)
    WHERE r.avito_account_id = _account_id OR r.bot_id = _bot_id;
    IF NOT FOUND THEN
        INSERT INTO relocations (client_id, avito_account_id, bot_id, due_at)
        VALUES (current_client_id(), _account_id, _bot_id, now() + make_interval(secs => _wait_seconds));
    END IF;
END $$;

-- Moves a batch of an account's dialogs to its bot. Returns how many they were: fewer than the limit means that none is left. Called
-- by api/relocation.rs.
-- Locks: the dialogs by their ids.
CREATE FUNCTION sql.relocate_account(_account_id bigint, _limit bigint) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _bot_id bigint := (SELECT a.bot_id FROM tenancy_accounts a WHERE a.avito_account_id = _account_id);
    _dialog_ids bigint[];
BEGIN
    -- Below and above apart: `<>` is found by no index.
    _dialog_ids := ARRAY(
        -- lookup: dialogs_of_other_bots
        SELECT id FROM (
            (SELECT d.id FROM dialogs d WHERE d.avito_account_id = _account_id AND d.bot_id < _bot_id
             ORDER BY d.bot_id LIMIT _limit)
            UNION ALL
            (SELECT d.id FROM dialogs d WHERE d.avito_account_id = _account_id AND d.bot_id > _bot_id
             ORDER BY d.bot_id LIMIT _limit)
        ) AS others LIMIT _limit
        -- end
    );
    PERFORM FROM dialogs d WHERE d.id = ANY(_dialog_ids) ORDER BY d.id FOR NO KEY UPDATE;
    PERFORM sql.hand_over_dialogs(_dialog_ids, _bot_id);
    RETURN cardinality(_dialog_ids);
END $$;

-- Moves a batch of a bot's dialogs to its group: they get topics there. Answers in topics of the former group still count. Returns
-- how many they were: fewer than the limit means that none is left. Called by api/relocation.rs.
-- Locks: the dialogs by their ids.
CREATE FUNCTION sql.relocate_bot(_bot_id bigint, _ending_kinds text[], _limit bigint) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    -- Without a group, every dialog is elsewhere: no group has the id 0.
    _group_id bigint := (SELECT coalesce(b.group_chat_id, 0) FROM tenancy_bots b WHERE b.bot_id = _bot_id);
    _dialog_ids bigint[];
BEGIN
    _dialog_ids := ARRAY(
        -- lookup: dialogs_in_other_groups
        SELECT id FROM (
            (SELECT d.id FROM dialogs d WHERE d.bot_id = _bot_id AND d.telegram_chat_id < _group_id
             ORDER BY d.telegram_chat_id LIMIT _limit)
            UNION ALL
            (SELECT d.id FROM dialogs d WHERE d.bot_id = _bot_id AND d.telegram_chat_id > _group_id
             ORDER BY d.telegram_chat_id LIMIT _limit)
        ) AS others LIMIT _limit
        -- end
    );
    PERFORM FROM dialogs d WHERE d.id = ANY(_dialog_ids) ORDER BY d.id FOR NO KEY UPDATE;
    -- A header may carry the first words of a dialog: they are shown in the new group.
    -- lookup: posts_that_end_with_group
    WITH ended AS (
        UPDATE posts p SET state = 'failed', error = 'shown in another group'
        FROM dialogs d
        WHERE d.id = ANY(_dialog_ids) AND p.client_id = d.client_id AND p.dialog_id = d.id AND p.state = 'pending'
          AND p.kind = ANY(_ending_kinds)
        RETURNING p.id, p.client_id
    )
    UPDATE messages m SET post_id = NULL FROM ended e
    WHERE m.client_id = e.client_id AND m.post_id = e.id AND m.needs_post AND m.status IN ('received', 'sending', 'sent')
    -- end
    ;
    UPDATE dialogs d
    SET topic_state = 'none', telegram_chat_id = NULL, telegram_topic_id = NULL, topic_closed = false, topic_emoji = '',
        hold_until = NULL, collecting_album = false
    WHERE d.id = ANY(_dialog_ids) AND d.telegram_chat_id <> _group_id;
    RETURN cardinality(_dialog_ids);
END $$;
