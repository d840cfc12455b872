-- Forgets what was kept for its time, one batch of one client at a time.

-- Removes the content of finished posts. Their ids stay: replies and quotes need them. Returns how many posts it were. Called by
-- bridge/forget.rs.
CREATE FUNCTION sql.forget_posts(_keep_days int, _limit bigint) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _post_ids bigint[] := ARRAY(
        SELECT p.id FROM posts p
        WHERE p.client_id = current_client_id() AND p.state IN ('sent', 'failed') AND p.content <> '{}'
          AND p.created_at < now() - make_interval(days => _keep_days)
        ORDER BY p.created_at LIMIT _limit
    );
BEGIN
    UPDATE posts p SET content = '{}' WHERE p.id = ANY(_post_ids) AND p.state IN ('sent', 'failed');
    RETURN cardinality(_post_ids);
END $$;

-- Removes finished parts. The floor of their dialogs rises above them, for a poll that finds them in Avito would take them for messages
-- of the app. Returns how many parts it were. Called by bridge/forget.rs.
-- Locks: the dialogs by their ids.
CREATE FUNCTION sql.forget_parts(_keep_days int, _limit bigint) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _before timestamptz := now() - make_interval(days => _keep_days);
    _part_ids bigint[] := ARRAY(
        SELECT p.id FROM parts p
        WHERE p.client_id = current_client_id() AND p.state IN ('sent', 'failed', 'cancelled', 'deleted')
          AND p.created_at < _before AND coalesce(p.sending_since < _before, true)
        ORDER BY p.created_at LIMIT _limit
    );
    _dialog_ids bigint[] := ARRAY(SELECT DISTINCT p.dialog_id FROM parts p WHERE p.id = ANY(_part_ids));
BEGIN
    PERFORM FROM dialogs d WHERE d.id = ANY(_dialog_ids) ORDER BY d.id FOR NO KEY UPDATE;
    WITH removed AS (
        DELETE FROM parts p WHERE p.id = ANY(_part_ids) AND p.state IN ('sent', 'failed', 'cancelled', 'deleted')
        RETURNING p.dialog_id, coalesce(p.sending_since, p.created_at) AS sent_at
    ), floors AS (
        -- Avito may have taken a part a little later than we sent it, and has a clock of its own.
        SELECT dialog_id, max(sent_at) + interval '1 hour' AS floor_at FROM removed GROUP BY dialog_id
    )
    UPDATE dialogs d SET floor_at = greatest(d.floor_at, floors.floor_at) FROM floors WHERE d.id = floors.dialog_id;
    RETURN cardinality(_part_ids);
END $$;

-- Removes messages that are older than the client keeps them, the oldest of a batch first. The floor of their dialogs rises to them;
-- one without a time at Avito leaves its id. What still waits to be sent or shown stays. `after_id`: from where to go on, null at the
-- end. Called by bridge/forget.rs.
-- Locks: the dialogs by their ids.
CREATE FUNCTION sql.forget_messages(_after_id bigint, _limit bigint, OUT removed bigint, OUT after_id bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _before timestamptz := (SELECT now() - make_interval(days => c.keep_days) FROM tenancy_clients c
                            WHERE c.client_id = current_client_id());
    _message_ids bigint[];
    _dialog_ids bigint[];
BEGIN
    removed := 0;
    IF _before IS NULL THEN
        RETURN;
    END IF;
    -- Ids go up with time, so the oldest rows are the first of the index.
    SELECT array_agg(oldest.id) FILTER (WHERE oldest.is_removable), array_agg(DISTINCT oldest.dialog_id) FILTER (WHERE oldest.is_removable),
           CASE WHEN count(*) = _limit AND max(oldest.created_at) < _before THEN max(oldest.id) END
    INTO _message_ids, _dialog_ids, after_id
    FROM (SELECT m.id, m.dialog_id, m.created_at,
                 m.created_at < _before AND m.status <> 'sending' AND NOT (m.needs_post AND m.post_id IS NULL) AS is_removable
          FROM messages m WHERE m.client_id = current_client_id() AND m.id > _after_id
          ORDER BY m.id LIMIT _limit) AS oldest;
    PERFORM FROM dialogs d WHERE d.id = ANY(_dialog_ids) ORDER BY d.id FOR NO KEY UPDATE;
    WITH gone AS (
        DELETE FROM messages m
        WHERE m.id = ANY(_message_ids) AND m.status <> 'sending' AND NOT (m.needs_post AND m.post_id IS NULL)
        RETURNING m.dialog_id, m.client_id, m.avito_account_id, m.avito_message_id, m.avito_created
    ), stones AS (
        INSERT INTO tombstones (avito_account_id, avito_message_id, client_id)
        SELECT avito_account_id, avito_message_id, client_id FROM gone
        WHERE avito_message_id IS NOT NULL AND avito_created IS NULL
        ON CONFLICT DO NOTHING
    ), floors AS (
        SELECT dialog_id, max(avito_created) AS floor_at, count(*) AS messages FROM gone GROUP BY dialog_id
    ), raised AS (
        UPDATE dialogs d SET floor_at = greatest(d.floor_at, floors.floor_at) FROM floors WHERE d.id = floors.dialog_id
    )
    SELECT coalesce(sum(floors.messages), 0) INTO removed FROM floors;
END $$;

-- Removes what the bridge noted of albums that stay inside: all their pictures have come. Called by bridge/forget.rs.
CREATE FUNCTION sql.forget_inside_albums(_limit bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM inside_albums a WHERE a.ctid = ANY(ARRAY(
        SELECT o.ctid FROM inside_albums o
        WHERE o.client_id = current_client_id() AND o.created_at < now() - interval '1 day'
        ORDER BY o.created_at LIMIT _limit));
END $$;
