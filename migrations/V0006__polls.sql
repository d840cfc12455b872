-- How often an account is polled, where its webhook stands, and what no poll has seen yet.

ALTER TABLE account_polls
    -- a poll found what no webhook has told of yet: judged a minute later
    ADD COLUMN untold_since timestamptz,
    -- when a webhook was last found missing
    ADD COLUMN webhook_missed_at timestamptz,
    -- when the unread chats are next listed apart
    ADD COLUMN unread_list_at timestamptz NOT NULL DEFAULT now() + interval '10 minutes' * random(),
    ADD COLUMN unread_digest bytea;

ALTER TABLE messages
    -- when a webhook told of it
    ADD COLUMN told_at timestamptz,
    -- when a poll had read past its time and not found it
    ADD COLUMN doubted_at timestamptz;
CREATE INDEX messages_untold ON messages (avito_account_id, created_at) WHERE told_at IS NULL AND origin = 'buyer';
CREATE INDEX messages_unconfirmed ON messages (avito_account_id, created_at)
    WHERE confirmed_at IS NULL AND doubted_at IS NULL AND avito_message_id IS NOT NULL;

ALTER TABLE avito_accounts
    -- when Avito is next asked whether it still knows our address
    ADD COLUMN webhook_check_at timestamptz NOT NULL DEFAULT now() + interval '1 day' * random(),
    ADD COLUMN webhook_secret_since timestamptz NOT NULL DEFAULT now(),
    -- the address before this one: heard until Avito has been told to forget it
    ADD COLUMN former_webhook_secret bytea,
    ADD COLUMN former_webhook_secret_hash bytea CHECK (length(former_webhook_secret_hash) = 32);
CREATE INDEX avito_accounts_to_check ON avito_accounts (webhook_check_at);

CREATE VIEW account_webhooks WITH (security_invoker = true) AS
    SELECT id AS avito_account_id, webhook_registered_at,
           webhook_registered_at IS NOT NULL AND webhook_error IS NULL AS is_registered
    FROM avito_accounts;
GRANT SELECT ON account_webhooks TO tuberry_app, tuberry_service;
