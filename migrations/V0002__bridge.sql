-- The bridge: what people wrote (messages), what we put into Telegram (posts) and into Avito (parts).

CREATE TABLE dialogs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    avito_account_id bigint NOT NULL,
    bot_id bigint NOT NULL,
    avito_chat_id text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'answered', 'closed', 'blocked')),
    buyer jsonb,
    item jsonb,
    proven_at timestamptz,
    last_message_at timestamptz NOT NULL DEFAULT now(),
    auto_reply_last_sent_at timestamptz,
    auto_reply_scheduled_at timestamptz,
    -- the topic
    topic_state text NOT NULL DEFAULT 'none' CHECK (topic_state IN ('none', 'creating', 'open')),
    topic_name text,
    topic_requested_at timestamptz,
    telegram_chat_id bigint,
    telegram_topic_id bigint,
    -- nothing is posted before: a lost answer is waited for, a failing post is given time
    show_after timestamptz,
    -- what the poll has seen of this chat, with all before it
    synced_message_id text,
    synced_updated bigint,
    -- the way to Avito: when it is next due, and who works on it
    send_at timestamptz,
    mark_read_at timestamptz,
    lease_owner uuid,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    UNIQUE (avito_account_id, avito_chat_id),
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id)
);
CREATE INDEX dialogs_due ON dialogs (send_at) WHERE send_at IS NOT NULL;
CREATE INDEX dialogs_to_mark_read ON dialogs (mark_read_at) WHERE mark_read_at IS NOT NULL;
CREATE INDEX dialogs_creating_topics ON dialogs (bot_id, topic_name) WHERE topic_state = 'creating';

-- Every topic a dialog has had: an answer written in a former one still finds its dialog.
CREATE TABLE dialog_topics (
    bot_id bigint NOT NULL,
    telegram_chat_id bigint NOT NULL,
    telegram_topic_id bigint NOT NULL,
    client_id bigint NOT NULL,
    dialog_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, telegram_chat_id, telegram_topic_id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE
);
CREATE INDEX dialog_topics_of_dialog ON dialog_topics (client_id, dialog_id);

CREATE TABLE posts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    bot_id bigint NOT NULL,
    dialog_id bigint,
    kind text NOT NULL CHECK (kind IN ('header', 'text', 'mirror', 'notice', 'pin', 'reaction', 'delete', 'remove_topic')),
    -- what exactly is asked of Telegram, without the addressee
    content jsonb NOT NULL,
    telegram_chat_id bigint,
    telegram_topic_id bigint,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    attempts int NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    telegram_message_ids bigint[] NOT NULL DEFAULT '{}',
    -- one post per key: a notice that is told once is told once
    once_key text,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    UNIQUE (client_id, id),
    UNIQUE (bot_id, once_key),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE
);
CREATE INDEX posts_unfinished ON posts (bot_id, due_at) WHERE state IN ('pending', 'sending');
CREATE INDEX posts_of_dialog ON posts (client_id, dialog_id);

CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    dialog_id bigint NOT NULL,
    avito_account_id bigint NOT NULL,
    bot_id bigint NOT NULL,
    direction text NOT NULL CHECK (direction IN ('in', 'out')),
    origin text NOT NULL CHECK (origin IN ('buyer', 'system', 'operator', 'avito_app', 'api', 'auto_reply')),
    kind text NOT NULL,
    text text,
    attachments jsonb NOT NULL DEFAULT '{}',
    author_name text,
    -- as Avito knows it
    avito_message_id text,
    avito_created timestamptz,
    list_place int NOT NULL DEFAULT 0,
    confirmed_at timestamptz,
    -- as Telegram knows an operator's message
    telegram_chat_id bigint,
    telegram_message_id bigint,
    telegram_user_id bigint,
    status text NOT NULL CHECK (status IN ('received', 'filtered', 'sending', 'sent', 'delivered', 'read', 'failed')),
    maybe_duplicate boolean NOT NULL DEFAULT false,
    is_auto_reply boolean NOT NULL DEFAULT false,
    error text,
    -- the way to the topic: waits while true and no post carries it
    to_show boolean NOT NULL,
    post_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    UNIQUE (avito_account_id, avito_message_id),
    UNIQUE (bot_id, telegram_chat_id, telegram_message_id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id),
    FOREIGN KEY (client_id, post_id) REFERENCES posts (client_id, id)
);
CREATE INDEX messages_waiting ON messages (bot_id, created_at) WHERE to_show AND post_id IS NULL;
CREATE INDEX messages_of_dialog ON messages (client_id, dialog_id, id);
CREATE INDEX messages_of_post ON messages (client_id, post_id) WHERE post_id IS NOT NULL;

CREATE TABLE parts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    dialog_id bigint NOT NULL,
    message_id bigint NOT NULL,
    avito_account_id bigint NOT NULL,
    place int NOT NULL,
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 1000),
    -- the text as it is compared with what Avito shows: NFC, white space folded
    text_key text NOT NULL,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'cancelled')),
    attempts int NOT NULL DEFAULT 0,
    sending_since timestamptz,
    -- how often the chat was read for a part of unknown outcome without finding it
    lookups int NOT NULL DEFAULT 0,
    avito_message_id text,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (message_id, place),
    UNIQUE (avito_account_id, avito_message_id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, message_id) REFERENCES messages (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id)
);
CREATE INDEX parts_unfinished ON parts (dialog_id, id) WHERE state IN ('pending', 'sending');

-- The way to Telegram of one bot: when it is next due, who works on it, and how much may still be sent.
CREATE TABLE bot_lanes (
    bot_id bigint PRIMARY KEY,
    client_id bigint NOT NULL,
    drain_at timestamptz,
    -- for when a delayed wake-up is under way
    wake_at timestamptz,
    lease_owner uuid,
    lease_until timestamptz,
    budget double precision NOT NULL DEFAULT 20,
    budget_at timestamptz NOT NULL DEFAULT now(),
    flood_until timestamptz,
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id) ON DELETE CASCADE
);
CREATE INDEX bot_lanes_due ON bot_lanes (drain_at) WHERE drain_at IS NOT NULL;

-- The poll of one Avito account.
CREATE TABLE account_polls (
    avito_account_id bigint PRIMARY KEY,
    client_id bigint NOT NULL,
    next_poll_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now(),
    -- Avito's clock, seconds; only upwards
    watermark bigint,
    page_digest bytea,
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id) ON DELETE CASCADE
);
CREATE INDEX account_polls_due ON account_polls (next_poll_at);

DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['dialogs', 'dialog_topics', 'posts', 'messages', 'parts', 'bot_lanes',
                                      'account_polls'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tuberry_app USING (client_id = (SELECT current_client_id()))
                        WITH CHECK (client_id = (SELECT current_client_id()))', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['dialogs', 'bot_lanes', 'account_polls'] LOOP
        EXECUTE format('CREATE POLICY service ON %I TO tuberry_service USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON dialogs, dialog_topics, posts, messages, parts TO tuberry_app;
GRANT SELECT, INSERT, UPDATE ON bot_lanes, account_polls TO tuberry_app;
GRANT SELECT ON dialogs, bot_lanes TO tuberry_service;
GRANT SELECT, UPDATE ON account_polls TO tuberry_service;
