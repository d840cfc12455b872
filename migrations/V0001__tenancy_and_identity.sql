-- Who uses Tuberry: organisations, their people, bots and Avito accounts, and the sessions of those people.

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['tuberry_app', 'tuberry_identity', 'tuberry_service'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- roles belong to the whole server: another database of it may have made them
        END;
        EXECUTE format('GRANT %I TO CURRENT_USER', role_name); -- SET ROLE needs it from Postgres 16 on
    END LOOP;
END $$;

-- The tenant of the running transaction; null, and so no row, when none was set.
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
    suspended_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint REFERENCES clients (id),
    role text NOT NULL CHECK (role IN ('admin', 'owner', 'manager')),
    name text NOT NULL DEFAULT '',
    email text,
    phone_number text UNIQUE,
    telegram_user_id bigint UNIQUE,
    telegram_chat_id bigint,
    password_hash text,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    CHECK ((role = 'admin') = (client_id IS NULL))
);
CREATE UNIQUE INDEX users_email_key ON users (lower(email));

-- A signed-in browser. Its refresh tokens form one family that ends with it.
CREATE TABLE sessions (
    id uuid PRIMARY KEY,
    user_id bigint NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('api', 'dashboard')),
    auth_time timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_reason text
);
CREATE INDEX sessions_of_user ON sessions (user_id, created_at) WHERE ended_at IS NULL;

CREATE TABLE refresh_tokens (
    jti_hash bytea PRIMARY KEY CHECK (length(jti_hash) = 32),
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);

-- Signed login data that was already exchanged: each opens a session once.
CREATE TABLE used_logins (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX used_logins_by_age ON used_logins (used_at);

CREATE TABLE bots (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    client_id bigint NOT NULL REFERENCES clients (id),
    telegram_bot_id bigint NOT NULL UNIQUE,
    bot_username text NOT NULL,
    token bytea NOT NULL,
    group_chat_id bigint,
    former_group_chat_id bigint,
    topic_mode boolean NOT NULL DEFAULT true,
    webhook_secret_hash bytea NOT NULL CHECK (length(webhook_secret_hash) = 32),
    webhook_set_at timestamptz,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'error')),
    status_reason text,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id)
);

-- Where a bot was seen: groups it belongs to, with what it may do there.
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
    token_expires_at timestamptz,
    webhook_secret bytea NOT NULL,
    webhook_secret_hash bytea NOT NULL CHECK (length(webhook_secret_hash) = 32),
    webhook_registered_at timestamptz,
    webhook_error text,
    monitoring_enabled boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'expired', 'blocked')),
    status_reason text,
    status_changed_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (client_id, id),
    FOREIGN KEY (client_id, bot_id) REFERENCES bots (client_id, id)
);
CREATE INDEX avito_accounts_of_bot ON avito_accounts (client_id, bot_id);

CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    client_id bigint,
    user_id bigint,
    action text NOT NULL,
    details jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_of_client ON audit_log (client_id, at);

-- What tenancy shows to the statements of other domains; nobody else names its tables.
CREATE VIEW client_routes WITH (security_invoker = true) AS
    SELECT id AS client_id, name, suspended_at FROM clients;

CREATE FUNCTION create_client(client_name text) RETURNS bigint
    LANGUAGE sql
BEGIN ATOMIC
    INSERT INTO clients (name) VALUES (client_name) RETURNING id;
END;

CREATE VIEW bot_routes WITH (security_invoker = true) AS
    SELECT b.id AS bot_id, b.client_id, b.telegram_bot_id, b.token, b.group_chat_id, b.former_group_chat_id,
           b.topic_mode, b.status, c.suspended_at
    FROM bots b JOIN clients c ON c.id = b.client_id;

CREATE VIEW account_routes WITH (security_invoker = true) AS
    SELECT a.id AS avito_account_id, a.client_id, a.bot_id, a.name, a.user_id, a.api_client_id, a.api_client_secret,
           a.access_token, a.token_expires_at, a.monitoring_enabled, a.status, a.created_at,
           c.hide_system_messages, c.filter_keywords, c.mark_read, c.auto_reply_timezone AS timezone, c.suspended_at
    FROM avito_accounts a JOIN clients c ON c.id = a.client_id;

-- Row-level security: forced, so that the owner is no exception.
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['clients', 'users', 'sessions', 'refresh_tokens', 'used_logins', 'bots',
                                      'telegram_chats', 'avito_accounts', 'audit_log'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['users', 'bots', 'telegram_chats', 'avito_accounts'] LOOP
        EXECUTE format('CREATE POLICY tenant ON %I TO tuberry_app USING (client_id = (SELECT current_client_id()))
                        WITH CHECK (client_id = (SELECT current_client_id()))', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['clients', 'users', 'sessions', 'refresh_tokens', 'used_logins'] LOOP
        EXECUTE format('CREATE POLICY identity ON %I TO tuberry_identity USING (true) WITH CHECK (true)', table_name);
    END LOOP;
    FOREACH table_name IN ARRAY ARRAY['clients', 'bots', 'avito_accounts', 'used_logins'] LOOP
        EXECUTE format('CREATE POLICY service ON %I TO tuberry_service USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END $$;
CREATE POLICY tenant ON clients TO tuberry_app
    USING (id = (SELECT current_client_id())) WITH CHECK (id = (SELECT current_client_id()));
CREATE POLICY tenant_writes ON audit_log FOR INSERT TO tuberry_app
    WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY identity_writes ON audit_log FOR INSERT TO tuberry_identity WITH CHECK (true);
CREATE POLICY service_writes ON audit_log FOR INSERT TO tuberry_service WITH CHECK (true);

GRANT SELECT, UPDATE ON clients TO tuberry_app;
GRANT SELECT ON users TO tuberry_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON bots, telegram_chats, avito_accounts TO tuberry_app;
GRANT INSERT ON audit_log TO tuberry_app, tuberry_identity, tuberry_service;
GRANT SELECT, INSERT, UPDATE ON clients, users TO tuberry_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, refresh_tokens TO tuberry_identity;
GRANT SELECT, INSERT ON used_logins TO tuberry_identity;
GRANT SELECT, DELETE ON used_logins TO tuberry_service;
GRANT SELECT ON clients, bots, avito_accounts TO tuberry_service;
GRANT SELECT ON bot_routes, account_routes TO tuberry_app, tuberry_service;
GRANT SELECT ON client_routes TO tuberry_app, tuberry_identity;
