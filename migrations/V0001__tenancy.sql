-- Tenancy: the clients of Tuberry, their bots and Avito accounts, and what is stored for each of them.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['tuberry_app', 'tuberry_identity', 'tuberry_service'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- Roles belong to the whole server. Another of its databases may have made them.
        END;
        EXECUTE format('GRANT %I TO CURRENT_USER', role_name); -- Needed by SET ROLE from Postgres 16 on.
    END LOOP;
END $$;

-- Names the tenant of the running transaction. Without one it is null, and no row is visible.
CREATE FUNCTION current_client_id() RETURNS bigint
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('app.client_id', true), '')::bigint;

CREATE TABLE clients (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    auto_reply_enabled boolean NOT NULL DEFAULT false,
    auto_reply_always boolean NOT NULL DEFAULT false,
    auto_reply_start_time time NOT NULL DEFAULT '22:00',
    auto_reply_end_time time NOT NULL DEFAULT '09:00',
    auto_reply_timezone text NOT NULL DEFAULT 'Europe/Moscow',
    auto_reply_text text NOT NULL DEFAULT '' CHECK (length(auto_reply_text) <= 1000),
    filter_keywords text NOT NULL DEFAULT '',
    hide_system_messages boolean NOT NULL DEFAULT false,
    mark_read boolean NOT NULL DEFAULT true,
    canned_replies jsonb NOT NULL DEFAULT '{}',
    -- Days after which messages are removed. Null: they stay.
    keep_days int CHECK (keep_days BETWEEN 30 AND 3650),
    suspended_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Makes a client. Identity calls it at the first sign-in of an owner, for it may not name the table.
CREATE FUNCTION create_client(client_name text) RETURNS bigint
    LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO clients (name) VALUES (client_name) RETURNING id;
END;

CREATE TABLE bots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL REFERENCES clients (id),
    telegram_bot_id bigint NOT NULL UNIQUE,
    bot_username text NOT NULL,
    token bytea NOT NULL,
    -- A group belongs to one bot: a second one would answer there too.
    group_chat_id bigint UNIQUE,
    former_group_chat_id bigint,
    topic_mode boolean NOT NULL DEFAULT true,
    webhook_secret_hash bytea NOT NULL CHECK (length(webhook_secret_hash) = 32),
    -- Hashes of new secrets that are given to Telegram. Until Telegram confirms one, it may use the old secret as well.
    pending_webhook_hashes bytea[] NOT NULL DEFAULT '{}',
    -- Reserves the webhook, until then, for the one request that is setting it.
    webhook_change_until timestamptz,
    webhook_set_at timestamptz,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'error')),
    status_reason text,
    -- Time since which the bot cannot work.
    broken_since timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id)
);

-- Groups in which a bot was seen. `bot_status` says what it may do there.
CREATE TABLE telegram_chats (
    bot_id bigint NOT NULL,
    chat_id bigint NOT NULL,
    client_id bigint NOT NULL,
    title text NOT NULL DEFAULT '',
    is_forum boolean NOT NULL DEFAULT false,
    bot_status text NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bot_id, chat_id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id) ON DELETE CASCADE
);

CREATE TABLE avito_accounts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL REFERENCES clients (id),
    bot_id bigint NOT NULL,
    name text NOT NULL,
    user_id bigint NOT NULL UNIQUE,
    api_client_id text NOT NULL,
    api_client_secret bytea NOT NULL,
    access_token bytea,
    token_issued_at timestamptz,
    token_expires_at timestamptz,
    -- Failed requests for a token, the time of the first, and the time before which no other is made. While one is under way,
    -- `token_due_at` reserves the next moments for it.
    token_attempts int NOT NULL DEFAULT 0,
    token_failed_since timestamptz,
    token_due_at timestamptz,
    -- Last time that Avito was asked if it refuses the account or one thing of it, and its answer: true if it refuses the
    -- account. Null: it is not known.
    probed_at timestamptz,
    probe_refused boolean,
    -- Probes since the last one that found an answer: each makes the time until the next one longer.
    probe_attempts int NOT NULL DEFAULT 0,
    webhook_secret bytea NOT NULL,
    webhook_secret_hash bytea NOT NULL CHECK (length(webhook_secret_hash) = 32),
    webhook_secret_since timestamptz NOT NULL DEFAULT now(),
    -- Secret of the address before this one. It is accepted until Avito has forgotten that address.
    former_webhook_secret bytea,
    former_webhook_secret_hash bytea CHECK (length(former_webhook_secret_hash) = 32),
    webhook_registered_at timestamptz,
    -- Null until Avito was asked for the first time.
    webhook_state text CHECK (webhook_state IN ('registered', 'shared', 'ask', 'left', 'taken_over', 'refused', 'off')),
    -- Order of a person. An order to take the webhook is deleted once it is carried out.
    webhook_choice text CHECK (webhook_choice IN ('take', 'leave')),
    -- Hosts of the addresses of others that Avito knows.
    webhook_others text[] NOT NULL DEFAULT '{}',
    -- Hosts of others that our address replaced: [{host, at}].
    webhook_replaced jsonb NOT NULL DEFAULT '[]',
    -- Time at which Avito last answered which addresses it knows.
    webhook_checked_at timestamptz,
    webhook_error text,
    webhook_attempts int NOT NULL DEFAULT 0,
    webhook_failed_since timestamptz,
    -- Time at which Avito is next asked. Null: nothing is to be found out.
    webhook_check_at timestamptz DEFAULT now() + interval '1 minute',
    monitoring_enabled boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'expired', 'blocked')),
    status_reason text,
    status_changed_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id)
);
CREATE INDEX avito_accounts_of_bot ON avito_accounts (client_id, bot_id);
CREATE INDEX avito_accounts_to_check ON avito_accounts (webhook_check_at);

-- Notices that the master bot sends to the owners of a client, each once.
CREATE TABLE owner_notices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL REFERENCES clients (id),
    text text NOT NULL CHECK (length(text) BETWEEN 1 AND 4000),
    -- Allows one notice per cause and day.
    dedup_key text,
    due_at timestamptz NOT NULL DEFAULT now(),
    attempts int NOT NULL DEFAULT 0,
    sent_at timestamptz,
    -- Time at which it was given up: Telegram did not take it for three days.
    failed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    UNIQUE (client_id, dedup_key)
);
CREATE INDEX owner_notices_due ON owner_notices (due_at) WHERE sent_at IS NULL AND failed_at IS NULL;

-- Requests that came with an `Idempotency-Key`, so that each is carried out once. They are stored for a day.
CREATE TABLE idempotency_keys (
    client_id bigint NOT NULL REFERENCES clients (id),
    user_id bigint NOT NULL,
    route text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    -- Id of the row that the request created.
    result_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, user_id, route, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    client_id bigint,
    user_id bigint,
    action text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_of_client ON audit_log (client_id, at);

-- Views that the statements of other domains read. Only tenancy names its tables.
CREATE VIEW tenancy_clients WITH (security_invoker = true) AS
    SELECT id AS client_id, name, suspended_at, keep_days FROM clients;

CREATE VIEW tenancy_bots WITH (security_invoker = true) AS
    SELECT b.id AS bot_id, b.client_id, b.telegram_bot_id, b.token, b.group_chat_id, b.former_group_chat_id,
           b.topic_mode, b.status, b.broken_since, c.suspended_at
    FROM bots b JOIN clients c ON c.id = b.client_id;

CREATE VIEW tenancy_accounts WITH (security_invoker = true) AS
    SELECT a.id AS avito_account_id, a.client_id, a.bot_id, a.name, a.user_id, a.api_client_id, a.api_client_secret,
           a.access_token, a.token_expires_at, a.monitoring_enabled, a.status, a.status_changed_at, a.created_at,
           c.hide_system_messages, c.filter_keywords, c.mark_read, c.auto_reply_timezone AS timezone, c.suspended_at
    FROM avito_accounts a JOIN clients c ON c.id = a.client_id;

CREATE VIEW tenancy_webhooks WITH (security_invoker = true) AS
    SELECT id AS avito_account_id, webhook_registered_at,
           coalesce(webhook_state IN ('registered', 'shared'), false) AND webhook_error IS NULL AS is_registered,
           coalesce(webhook_state = 'taken_over', false) AS is_taken_over
    FROM avito_accounts;

CREATE VIEW tenancy_auto_replies WITH (security_invoker = true) AS
    SELECT id AS client_id, auto_reply_enabled AS enabled, auto_reply_always AS always, auto_reply_start_time AS start_time,
           auto_reply_end_time AS end_time, auto_reply_timezone AS zone, auto_reply_text AS text
    FROM clients WHERE suspended_at IS NULL;

-- Row-level security. It is forced, so that the owner is no exception.
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['clients', 'bots', 'telegram_chats', 'avito_accounts', 'owner_notices',
                                      'idempotency_keys', 'audit_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['bots', 'telegram_chats', 'avito_accounts', 'owner_notices', 'idempotency_keys'] LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO tuberry_app USING (client_id = (SELECT current_client_id()))
                        WITH CHECK (client_id = (SELECT current_client_id()))', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['clients', 'bots', 'avito_accounts', 'owner_notices', 'idempotency_keys'] LOOP
        EXECUTE format('CREATE POLICY service ON %I TO tuberry_service USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END $$;
CREATE POLICY tenant ON clients TO tuberry_app
    USING (id = (SELECT current_client_id())) WITH CHECK (id = (SELECT current_client_id()));
CREATE POLICY identity ON clients TO tuberry_identity USING (true) WITH CHECK (true);
CREATE POLICY tenant_writes ON audit_log FOR INSERT TO tuberry_app
    WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY identity_writes ON audit_log FOR INSERT TO tuberry_identity WITH CHECK (true);
CREATE POLICY service_writes ON audit_log FOR INSERT TO tuberry_service WITH CHECK (true);

GRANT SELECT, UPDATE ON clients TO tuberry_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON bots, telegram_chats, avito_accounts, idempotency_keys TO tuberry_app;
GRANT SELECT, INSERT ON owner_notices TO tuberry_app;
GRANT SELECT, INSERT, UPDATE ON clients TO tuberry_identity;
GRANT SELECT ON clients, bots, avito_accounts TO tuberry_service;
GRANT SELECT, UPDATE ON owner_notices TO tuberry_service;
GRANT SELECT, DELETE ON idempotency_keys TO tuberry_service;
GRANT INSERT ON audit_log TO tuberry_app, tuberry_identity, tuberry_service;
GRANT SELECT ON tenancy_clients TO tuberry_app, tuberry_identity, tuberry_service;
GRANT SELECT ON tenancy_bots, tenancy_accounts, tenancy_webhooks TO tuberry_app, tuberry_service;
GRANT SELECT ON tenancy_auto_replies TO tuberry_app;
