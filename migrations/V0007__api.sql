-- What the API needs: webhooks that are set again, replies by hand that are taken once, and lists of dialogs.

-- While Telegram is told of a new secret it may use either; the old one ends when the new one is known to be taken.
ALTER TABLE bots
    ADD COLUMN pending_webhook_hashes bytea[] NOT NULL DEFAULT '{}',
    -- who sets it has it to himself until then
    ADD COLUMN webhook_change_until timestamptz;

-- Who wrote a reply in the API.
ALTER TABLE messages ADD COLUMN author_user_id bigint;

CREATE INDEX dialogs_by_time ON dialogs (client_id, last_message_at DESC, id DESC);
CREATE INDEX messages_by_time ON messages (client_id, dialog_id, (coalesce(avito_created, created_at)), list_place, id);

-- What was asked with an `Idempotency-Key`, so that it is done once: kept for a day.
CREATE TABLE idempotency_keys (
    client_id bigint NOT NULL REFERENCES clients (id),
    user_id bigint NOT NULL,
    route text NOT NULL,
    key text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    digest bytea NOT NULL CHECK (length(digest) = 32),
    -- the row that was made
    made_id bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, user_id, route, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);

ALTER TABLE idempotency_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency_keys TO tuberry_app USING (client_id = (SELECT current_client_id()))
    WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY service ON idempotency_keys TO tuberry_service USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON idempotency_keys TO tuberry_app;
GRANT SELECT, DELETE ON idempotency_keys TO tuberry_service;
