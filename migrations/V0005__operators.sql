-- What operators do besides answering, what becomes of topics, and what owners are told.

-- An answer that its writer changed or took back: what it is to be, and from when. The old text is kept until Avito has
-- given up what it shows.
ALTER TABLE messages
    ADD COLUMN change jsonb,
    ADD COLUMN change_due_at timestamptz,
    -- the `/del` to confirm
    ADD COLUMN withdrawn_by bigint;
CREATE INDEX messages_changing ON messages (dialog_id) WHERE change_due_at IS NOT NULL OR withdrawn_by IS NOT NULL;

ALTER TABLE parts DROP CONSTRAINT parts_state_check,
    ADD CONSTRAINT parts_state_check
    CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'cancelled', 'deleting', 'deleted'));

ALTER TABLE dialogs
    ADD COLUMN block_requested_at timestamptz,
    -- the topic was closed by us, so it is opened before anything is shown in it
    ADD COLUMN topic_closed boolean NOT NULL DEFAULT false,
    -- the mark that the topic's name bears
    ADD COLUMN topic_mark text NOT NULL DEFAULT '';

ALTER TABLE posts DROP CONSTRAINT posts_kind_check,
    ADD CONSTRAINT posts_kind_check
    CHECK (kind IN ('header', 'text', 'mirror', 'notice', 'pin', 'reaction', 'delete', 'remove_topic',
                    'photo', 'album', 'voice', 'venue', 'replay', 'edit', 'rename', 'close_topic', 'reopen_topic'));
-- Whom a reply in a group without topics answers; the pictures of an album have ids in a row.
CREATE INDEX posts_by_message ON posts (bot_id, (telegram_message_ids[1]));

ALTER TABLE bot_lanes
    ADD COLUMN reaction_budget double precision NOT NULL DEFAULT 20,
    ADD COLUMN reaction_budget_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN reactions_after timestamptz,
    -- topics were switched off in the group
    ADD COLUMN topics_off boolean NOT NULL DEFAULT false;

-- The dialog in which something was written: by the topic, or where there are none by the message that it answers.
CREATE FUNCTION dialog_written_in(bot bigint, chat bigint, topic bigint, reply bigint) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (
        SELECT found.dialog_id FROM (
            SELECT t.dialog_id FROM dialog_topics t
            WHERE t.bot_id = bot AND t.telegram_chat_id = chat AND t.telegram_topic_id = topic
            UNION ALL
            SELECT p.dialog_id FROM posts p
            WHERE topic IS NULL AND p.bot_id = bot AND p.dialog_id IS NOT NULL
              AND p.telegram_message_ids[1] BETWEEN reply - 9 AND reply AND reply = ANY (p.telegram_message_ids)
            UNION ALL
            SELECT m.dialog_id FROM messages m
            WHERE topic IS NULL AND m.bot_id = bot AND m.telegram_chat_id = chat AND m.telegram_message_id = reply
        ) AS found LIMIT 1
    );

-- What the master bot tells the owners of an organisation, each once.
CREATE TABLE owner_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL REFERENCES clients (id),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 4000),
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 0,
    told_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id)
);
CREATE INDEX owner_notices_due ON owner_notices (due_at) WHERE told_at IS NULL;

ALTER TABLE owner_notices ENABLE ROW LEVEL SECURITY;
ALTER TABLE owner_notices FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON owner_notices TO tuberry_app USING (client_id = (SELECT current_client_id()))
    WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY service ON owner_notices TO tuberry_service USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON owner_notices TO tuberry_app;
GRANT SELECT, UPDATE ON owner_notices TO tuberry_service;
