-- The emoji in a topic's name: 🔴 the buyer waits, 🟢 answered, 🤖 answered by the auto-reply.

-- Returns the emoji that the topic of a dialog should bear. Called by claimed_dialog and schedule_renames.
CREATE FUNCTION sql.wanted_topic_emoji(_client_id bigint, _dialog_id bigint, _state text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    IF _state NOT IN ('waiting', 'answered') THEN
        RETURN '';
    END IF;
    IF (
        -- lookup: last_message_is_auto_reply
        SELECT m.is_auto_reply FROM messages m
        WHERE m.client_id = _client_id AND m.dialog_id = _dialog_id AND m.origin <> 'system' ORDER BY m.id DESC LIMIT 1
        -- end
    ) THEN
        RETURN '🤖';
    END IF;
    RETURN CASE WHEN _state = 'waiting' THEN '🔴' ELSE '🟢' END;
END $$;

-- Schedules a new name for each topic of these posts that should bear another emoji. A change of the emoji starts the delay
-- again. Called by mark_reactions_set and by rows/topic_emoji.rs.
CREATE FUNCTION sql.schedule_renames(_post_ids bigint[], _delay_seconds double precision) RETURNS void
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _needed record;
BEGIN
    FOR _needed IN
        -- lookup: renames_needed
        SELECT wanted.client_id, wanted.bot_id, wanted.id, wanted.emoji
        FROM (SELECT d.client_id, d.bot_id, d.id, d.topic_emoji, sql.wanted_topic_emoji(d.client_id, d.id, d.state) AS emoji
              FROM dialogs d
              WHERE d.id = ANY (ARRAY(SELECT p.dialog_id FROM posts p WHERE p.id = ANY(_post_ids))) AND d.topic_state = 'open'
              OFFSET 0) AS wanted
        -- A sub-select for each row: as NOT EXISTS it may be joined, with what waits in all clients' outboxes.
        WHERE wanted.emoji <> wanted.topic_emoji AND wanted.emoji IS DISTINCT FROM (
            SELECT CASE WHEN p.state IN ('pending', 'sending') THEN p.content ->> 'emoji' END FROM posts p
            WHERE p.bot_id = wanted.bot_id AND p.dedup_key = 'rename:' || wanted.id)
        -- end
    LOOP
        INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, due_at, dedup_key)
        VALUES (_needed.client_id, _needed.bot_id, _needed.id, 'rename', jsonb_build_object('emoji', _needed.emoji),
                now() + make_interval(secs => _delay_seconds), 'rename:' || _needed.id)
        ON CONFLICT (bot_id, dedup_key) DO UPDATE
        SET content = excluded.content, due_at = excluded.due_at, state = 'pending', attempts = 0
        WHERE posts.state NOT IN ('pending', 'sending') OR posts.content ->> 'emoji' <> excluded.content ->> 'emoji';
    END LOOP;
END $$;
