-- Identity: the people of the clients, and their sessions.

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

-- Signed-in browsers. The refresh tokens of a session form one family that ends with it.
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
CREATE INDEX sessions_by_end ON sessions ((least(ended_at, expires_at)));

CREATE TABLE refresh_tokens (
    jti_hash bytea PRIMARY KEY CHECK (length(jti_hash) = 32),
    session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    issued_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_end ON refresh_tokens (expires_at);

-- Signed login data that was already exchanged. It opens a session only once.
CREATE TABLE used_logins (
    digest bytea PRIMARY KEY CHECK (length(digest) = 32),
    used_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX used_logins_by_age ON used_logins (used_at);

-- Row-level security. It is forced, so that the owner is no exception.
DO $$
DECLARE
    table_name text;
BEGIN
    FOREACH table_name IN ARRAY ARRAY['users', 'sessions', 'refresh_tokens', 'used_logins'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', table_name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', table_name);
        EXECUTE format('CREATE POLICY identity ON %I TO tuberry_identity USING (true) WITH CHECK (true)', table_name);
    END LOOP;
END $$;
CREATE POLICY tenant ON users TO tuberry_app
    USING (client_id = (SELECT current_client_id())) WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY service ON used_logins TO tuberry_service USING (true) WITH CHECK (true);

GRANT SELECT ON users TO tuberry_app;
GRANT SELECT, INSERT, UPDATE ON users TO tuberry_identity;
GRANT SELECT, INSERT, UPDATE, DELETE ON sessions, refresh_tokens TO tuberry_identity;
GRANT SELECT, INSERT ON used_logins TO tuberry_identity;
GRANT SELECT, DELETE ON used_logins TO tuberry_service;
