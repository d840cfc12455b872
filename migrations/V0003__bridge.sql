-- The bridge: dialogs with their topics, messages (of people), posts (sent to Telegram) and parts (sent to Avito).

CREATE TABLE dialogs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    avito_account_id bigint NOT NULL,
    bot_id bigint NOT NULL,
    avito_chat_id text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'answered', 'closed', 'blocked')),
    buyer jsonb,
    item jsonb,
    confirmed_at timestamptz,
    last_message_at timestamptz NOT NULL DEFAULT now(),
    -- Time at which Avito last reported something of the dialog. Messages that follow within a few seconds wait a
    -- little, so that those which overtook each other on their way are put in order before they are posted.
    last_received_at timestamptz,
    auto_reply_last_sent_at timestamptz,
    auto_reply_scheduled_at timestamptz,
    -- Topic of the dialog.
    topic_state text NOT NULL DEFAULT 'none' CHECK (topic_state IN ('none', 'creating', 'open')),
    topic_name text,
    -- Emoji that the topic's name bears.
    topic_emoji text NOT NULL DEFAULT '',
    topic_requested_at timestamptz,
    -- True if the bridge closed the topic. It is opened before anything is posted in it.
    topic_closed boolean NOT NULL DEFAULT false,
    telegram_chat_id bigint,
    telegram_topic_id bigint,
    -- Failed attempts to create a topic, and the time of the first failure.
    topic_attempts int NOT NULL DEFAULT 0,
    topic_failed_since timestamptz,
    -- Time at which a topic is next tried for a dialog that is shown in General, because it could not have one. Null: it is not.
    in_general_until timestamptz,
    -- Failed attempts to have Avito confirm the chat, and the time of the first failure.
    confirm_attempts int NOT NULL DEFAULT 0,
    confirm_failed_since timestamptz,
    -- Time since which the dialog is shown although Avito could not be asked about it.
    provisional_since timestamptz,
    -- Times that our own code or SQL failed for what the dialog has to post, one after the other.
    set_aside_attempts int NOT NULL DEFAULT 0,
    -- Holds posts back until then: after an unknown outcome, after a failure, or until messages are in order.
    hold_until timestamptz,
    -- True if `hold_until` waits only for more pictures of an album. Any other message ends the wait.
    collecting_album boolean NOT NULL DEFAULT false,
    -- Due times of the work at Avito, and the lease of the worker that does it.
    send_at timestamptz,
    -- Nothing is sent to the chat before then: after a failure, by Avito's order, or until an album is complete.
    send_hold_until timestamptz,
    mark_read_at timestamptz,
    mark_read_attempts int NOT NULL DEFAULT 0,
    mark_read_failed_since timestamptz,
    block_requested_at timestamptz,
    -- Time at which Avito is next asked to block the buyer.
    block_due_at timestamptz,
    block_attempts int NOT NULL DEFAULT 0,
    -- Time at which Avito blocked the buyer. What the buyer writes later says that the buyer is blocked no more.
    blocked_at timestamptz,
    -- Time at Avito below which nothing is recorded: what was older is forgotten, and no poll brings it back.
    floor_at timestamptz,
    lease_owner uuid,
    lease_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    UNIQUE (avito_account_id, avito_chat_id),
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id)
);
CREATE INDEX dialogs_due ON dialogs (send_at) WHERE send_at IS NOT NULL;
-- Indexes of what belongs to a bot or an account name the client too. Row-level security asks for the client, and Postgres would
-- intersect such an index with one that holds all rows of the client.
CREATE INDEX dialogs_due_of_account ON dialogs (avito_account_id, client_id, send_at) WHERE send_at IS NOT NULL;
-- Finds the dialogs that do not have the bot of their account yet.
CREATE INDEX dialogs_of_account ON dialogs (avito_account_id, client_id, bot_id);
CREATE INDEX dialogs_by_topic ON dialogs (bot_id, client_id, telegram_chat_id, telegram_topic_id)
    WHERE telegram_chat_id IS NOT NULL;
CREATE INDEX dialogs_to_mark_read ON dialogs (mark_read_at) WHERE mark_read_at IS NOT NULL;
CREATE INDEX dialogs_unconfirmed ON dialogs (avito_account_id, client_id) WHERE confirmed_at IS NULL;
CREATE INDEX dialogs_without_topic ON dialogs (bot_id, client_id) WHERE topic_failed_since IS NOT NULL;
CREATE INDEX dialogs_creating_topics ON dialogs (bot_id, client_id, topic_name) WHERE topic_state = 'creating';
CREATE INDEX dialogs_auto_replies ON dialogs (auto_reply_scheduled_at) WHERE auto_reply_scheduled_at IS NOT NULL;
CREATE INDEX dialogs_by_time ON dialogs (client_id, last_message_at DESC, id DESC);

-- Topics that a dialog has or had. An answer that is written in a former one still finds its dialog.
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
CREATE INDEX dialog_topics_of_dialog ON dialog_topics (dialog_id, client_id);

CREATE TABLE posts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    bot_id bigint NOT NULL,
    dialog_id bigint,
    kind text NOT NULL
        CHECK (kind IN ('header', 'text', 'mirror', 'notice', 'pin', 'reaction', 'delete', 'remove_topic',
                        'photo', 'album', 'voice', 'venue', 'replay', 'edit', 'rename', 'close_topic', 'reopen_topic')),
    -- Content of the request to Telegram, without the addressee.
    content jsonb NOT NULL,
    telegram_chat_id bigint,
    telegram_topic_id bigint,
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sending', 'sent', 'failed')),
    -- Failed attempts, those of them whose answer was lost, and the time of the first failure.
    attempts int NOT NULL DEFAULT 0,
    answers_lost int NOT NULL DEFAULT 0,
    failed_since timestamptz,
    -- Time before which this post alone waits. What comes behind it in the dialog goes on.
    due_at timestamptz NOT NULL DEFAULT now(),
    telegram_message_ids bigint[] NOT NULL DEFAULT '{}',
    -- Chat in which these messages stand. Ids of messages begin anew in another group, also in the supergroup that a group becomes.
    message_chat_id bigint,
    -- Allows one post per bot and key, so that a notice is not repeated.
    dedup_key text,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    sent_at timestamptz,
    UNIQUE (client_id, id),
    UNIQUE (bot_id, dedup_key),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE
);
CREATE INDEX posts_unfinished ON posts (bot_id, client_id, due_at) WHERE state IN ('pending', 'sending');
CREATE INDEX posts_to_forget ON posts (client_id, created_at) WHERE state IN ('sent', 'failed') AND content <> '{}';
CREATE INDEX posts_of_dialog ON posts (client_id, dialog_id);
-- Finds the post that a reply answers in a group without topics. Pictures of an album have consecutive ids.
CREATE INDEX posts_by_message ON posts (bot_id, message_chat_id, (telegram_message_ids[1]));

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
    -- User who wrote a reply in the API.
    author_user_id bigint,
    -- Message at Avito.
    avito_message_id text,
    avito_created timestamptz,
    avito_position int NOT NULL DEFAULT 0,
    -- Time at which a webhook reported the message.
    webhook_reported_at timestamptz,
    confirmed_at timestamptz,
    -- Time at which a poll had read past the message's own time without finding it.
    not_found_at timestamptz,
    -- Time at which Avito reported that the writer deleted the message.
    deleted_at timestamptz,
    -- Message of an operator at Telegram.
    telegram_chat_id bigint,
    telegram_message_id bigint,
    telegram_user_id bigint,
    -- Album in Telegram that an operator's picture belongs to.
    media_group_id text,
    -- Change that an answer's writer requested, and the time from which it is carried out. `text` stays the old one
    -- until the old message is deleted in Avito.
    requested_change jsonb,
    change_due_at timestamptz,
    -- Message with the `/del` that is to be confirmed.
    delete_command_id bigint,
    status text NOT NULL CHECK (status IN ('received', 'filtered', 'sending', 'sent', 'delivered', 'read', 'failed')),
    maybe_duplicate boolean NOT NULL DEFAULT false,
    is_auto_reply boolean NOT NULL DEFAULT false,
    error text,
    -- True if the message belongs in the topic. It waits while it has no post.
    needs_post boolean NOT NULL,
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
CREATE INDEX messages_waiting ON messages (bot_id, client_id, created_at) WHERE needs_post AND post_id IS NULL;
CREATE INDEX messages_of_dialog ON messages (client_id, dialog_id, id);
CREATE INDEX messages_by_time ON messages (client_id, dialog_id, (coalesce(avito_created, created_at)), avito_position, id);
CREATE INDEX messages_of_post ON messages (client_id, post_id) WHERE post_id IS NOT NULL;
CREATE INDEX messages_of_album ON messages (bot_id, telegram_chat_id, media_group_id) WHERE media_group_id IS NOT NULL;
-- Finds what was withheld and may be shown after all.
CREATE INDEX messages_withheld ON messages (dialog_id) WHERE status = 'filtered' AND error IS NOT NULL;
CREATE INDEX messages_changing ON messages (dialog_id) WHERE change_due_at IS NOT NULL OR delete_command_id IS NOT NULL;
CREATE INDEX messages_unreported ON messages (avito_account_id, client_id, created_at)
    WHERE webhook_reported_at IS NULL AND origin = 'buyer';
CREATE INDEX messages_unconfirmed ON messages (avito_account_id, client_id, created_at)
    WHERE confirmed_at IS NULL AND not_found_at IS NULL AND avito_message_id IS NOT NULL;

CREATE TABLE parts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    dialog_id bigint NOT NULL,
    message_id bigint NOT NULL,
    avito_account_id bigint NOT NULL,
    position int NOT NULL,
    kind text NOT NULL DEFAULT 'text' CHECK (kind IN ('text', 'image')),
    text text CHECK (length(text) BETWEEN 1 AND 1000),
    -- Text as it is compared with Avito's: NFC, white space folded.
    text_key text,
    -- Picture as Telegram stores it: {file_id, name}.
    attachment jsonb,
    state text NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'sending', 'sent', 'failed', 'cancelled', 'deleting', 'deleted')),
    -- Failed attempts to send or to delete it, and the time of the first failure. A person who tries again starts anew.
    attempts int NOT NULL DEFAULT 0,
    failed_since timestamptz,
    -- Time before which this part alone waits. What comes behind it in the dialog goes on.
    due_at timestamptz NOT NULL DEFAULT now(),
    sending_since timestamptz,
    -- Number of times that the chat was read for a part of unknown outcome without finding it.
    verify_attempts int NOT NULL DEFAULT 0,
    -- Number of times that the chat could not be read for that, and the time of the first of them.
    verify_failures int NOT NULL DEFAULT 0,
    verify_failed_since timestamptz,
    avito_message_id text,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT parts_content_check CHECK (
        CASE kind WHEN 'text' THEN text IS NOT NULL AND text_key IS NOT NULL ELSE attachment IS NOT NULL END),
    UNIQUE (message_id, position),
    UNIQUE (avito_account_id, avito_message_id),
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, message_id) REFERENCES messages (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id)
);
-- Finds the parts of a dialog that are still to be sent or to be deleted. Each claim of a dialog's work asks for them.
CREATE INDEX parts_unfinished ON parts (dialog_id, message_id, position) WHERE state IN ('pending', 'sending', 'deleting');

CREATE INDEX parts_to_forget ON parts (client_id, created_at) WHERE state IN ('sent', 'failed', 'cancelled', 'deleted');

-- Ids at Avito of messages that were removed although they may be younger than the floor of their dialog. They are not recorded again.
CREATE TABLE tombstones (
    avito_account_id bigint NOT NULL,
    avito_message_id text NOT NULL,
    client_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (avito_account_id, avito_message_id),
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id) ON DELETE CASCADE
);

-- Albums of operators that stay inside as a whole, because the caption of one picture is a note or a command. Pictures of an album
-- come one by one, and those without a caption may come later.
CREATE TABLE inside_albums (
    bot_id bigint NOT NULL,
    telegram_chat_id bigint NOT NULL,
    media_group_id text NOT NULL,
    client_id bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, telegram_chat_id, media_group_id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id) ON DELETE CASCADE
);
CREATE INDEX inside_albums_by_age ON inside_albums (client_id, created_at);

-- Work of one bot at Telegram: its due time, the lease of the worker that does it, and how much may still be sent.
CREATE TABLE bot_outboxes (
    bot_id bigint PRIMARY KEY,
    client_id bigint NOT NULL,
    due_at timestamptz,
    -- Time for which a delayed wake-up was sent.
    wakeup_at timestamptz,
    lease_owner uuid,
    lease_until timestamptz,
    -- Times of the messages and of the reactions that were sent in the last minute, in milliseconds since 1970, oldest first.
    recent_sends bigint[] NOT NULL DEFAULT '{}',
    recent_reactions bigint[] NOT NULL DEFAULT '{}',
    reactions_hold_until timestamptz,
    rate_limited_until timestamptz,
    -- Time before which a bot that Telegram refuses is not tried again.
    broken_until timestamptz,
    -- Time at which a message was last posted: the witness that Telegram takes messages for the group.
    last_sent_at timestamptz,
    -- Calls that fail, with the ids of up to three dialogs that failed in each. Null: none does. Once a call is out: since when, the
    -- time of the next trial, and the trials that failed.
    failing_calls jsonb,
    out_since timestamptz,
    trial_at timestamptz,
    failed_trials int NOT NULL DEFAULT 0,
    -- True if topics are switched off in the group.
    topics_off boolean NOT NULL DEFAULT false,
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id) ON DELETE CASCADE
);
CREATE INDEX bot_outboxes_due ON bot_outboxes (due_at) WHERE due_at IS NOT NULL;

-- Polling of one Avito account.
CREATE TABLE account_polls (
    avito_account_id bigint PRIMARY KEY,
    client_id bigint NOT NULL,
    next_poll_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz NOT NULL DEFAULT now(),
    -- Time of the last poll, or of the one that runs.
    polled_at timestamptz,
    -- Time, in seconds of Avito's clock, below which every chat was dealt with. It only goes up, and never beyond now.
    watermark bigint,
    -- Null while chats are left to read: the next poll goes on with them.
    page_digest bytea,
    -- Time at which the unread chats are next listed on their own.
    unread_list_at timestamptz NOT NULL DEFAULT now(),
    unread_digest bytea,
    -- Times of the last calls for messages, in seconds since 1970. A minute has a limited number of them.
    message_calls bigint[] NOT NULL DEFAULT '{}',
    -- Chats that the polls read so far of those that they found changed. Both are 0 while nothing is left to read.
    chats_read int NOT NULL DEFAULT 0,
    chats_to_read int NOT NULL DEFAULT 0,
    -- Failures in a row of the polls themselves. One chat that cannot be read is no such failure.
    attempts int NOT NULL DEFAULT 0,
    failed_since timestamptz,
    error text,
    -- Time at which a poll found a message that no webhook had reported. It is judged a minute later.
    unreported_since timestamptz,
    -- Time at which a webhook was last found missing.
    webhook_missed_at timestamptz,
    -- Calls of the account that fail, with the ids of up to three dialogs that failed in each. Null: none does. Once a call is out:
    -- since when, the time of the next trial, and the trials that failed.
    failing_calls jsonb,
    out_since timestamptz,
    trial_at timestamptz,
    failed_trials int NOT NULL DEFAULT 0,
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id) ON DELETE CASCADE
);
CREATE INDEX account_polls_due ON account_polls (next_poll_at);

-- Polling of one chat, also of a chat without a dialog: its cursor, and the attempts to read it while that fails.
CREATE TABLE chat_polls (
    avito_account_id bigint NOT NULL,
    avito_chat_id text NOT NULL,
    client_id bigint NOT NULL,
    -- The chat as Avito's list showed it when it was last dealt with: time, last message, and the kind of that message.
    listed_updated bigint,
    listed_message_id text,
    listed_kind text,
    -- Last message of this chat that a poll has read. The messages before it were read as well.
    synced_message_id text,
    -- Failures in a row to read it. Without a failure and with a due time, the last poll broke off in this chat.
    attempts int NOT NULL DEFAULT 0,
    failed_since timestamptz,
    -- Time of the next attempt. Null after a week of failures: then only a change of the chat causes another.
    due_at timestamptz,
    error text,
    PRIMARY KEY (avito_account_id, avito_chat_id),
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id) ON DELETE CASCADE
);
CREATE INDEX chat_polls_due ON chat_polls (avito_account_id, due_at) WHERE due_at IS NOT NULL;

-- Accounts whose dialogs follow them to another bot, and bots whose dialogs follow them to another group: batch by batch, each in a
-- transaction of its own. The row stays until a last look finds no dialog left behind.
CREATE TABLE relocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL,
    avito_account_id bigint UNIQUE,
    bot_id bigint UNIQUE,
    changed_at timestamptz NOT NULL DEFAULT now(),
    -- Time from which the sweep goes on with it.
    due_at timestamptz NOT NULL,
    CHECK (num_nonnulls(avito_account_id, bot_id) = 1),
    FOREIGN KEY (client_id, avito_account_id) REFERENCES avito_accounts (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id) ON DELETE CASCADE
);
CREATE INDEX relocations_due ON relocations (due_at);

-- Finds the dialog of a message: by its topic, or in a group without topics by the message that it replies to.
CREATE FUNCTION find_dialog(bot bigint, chat bigint, topic bigint, reply bigint) RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (
        SELECT found.dialog_id FROM (
            SELECT t.dialog_id FROM dialog_topics t
            WHERE t.bot_id = bot AND t.telegram_chat_id = chat AND t.telegram_topic_id = topic
            UNION ALL
            SELECT p.dialog_id FROM posts p
            WHERE topic IS NULL AND p.bot_id = bot AND p.message_chat_id = chat AND p.dialog_id IS NOT NULL
              AND p.telegram_message_ids[1] BETWEEN reply - 9 AND reply AND reply = ANY (p.telegram_message_ids)
            UNION ALL
            SELECT m.dialog_id FROM messages m
            WHERE topic IS NULL AND m.bot_id = bot AND m.telegram_chat_id = chat AND m.telegram_message_id = reply
        ) AS found LIMIT 1
    );

-- Row-level security. It is forced, so that the owner is no exception.
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['dialogs', 'dialog_topics', 'posts', 'messages', 'parts', 'inside_albums',
                                      'bot_outboxes', 'account_polls', 'chat_polls', 'relocations', 'tombstones'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY tenant ON %I TO tuberry_app USING (client_id = (SELECT current_client_id()))
                        WITH CHECK (client_id = (SELECT current_client_id()))', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['dialogs', 'bot_outboxes', 'account_polls', 'chat_polls', 'relocations'] LOOP
        EXECUTE format('CREATE POLICY service ON %I TO tuberry_service USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON dialogs, dialog_topics, posts, messages, parts, relocations TO tuberry_app;
GRANT SELECT, INSERT, DELETE ON inside_albums TO tuberry_app;
GRANT SELECT, INSERT, UPDATE ON bot_outboxes, account_polls, chat_polls TO tuberry_app;
GRANT SELECT, INSERT ON tombstones TO tuberry_app;
GRANT SELECT ON dialogs, bot_outboxes, chat_polls, relocations TO tuberry_service;
GRANT SELECT, UPDATE ON account_polls TO tuberry_service;
