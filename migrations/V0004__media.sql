-- Pictures, voices and places: into topics as posts of their own kinds, to Avito as parts that hold a picture.

ALTER TABLE posts DROP CONSTRAINT posts_kind_check,
    ADD CONSTRAINT posts_kind_check
    CHECK (kind IN ('header', 'text', 'mirror', 'notice', 'pin', 'reaction', 'delete', 'remove_topic',
                    'photo', 'album', 'voice', 'venue'));

ALTER TABLE messages
    -- the album in Telegram that an operator's picture belongs to
    ADD COLUMN media_group_id text,
    -- when Avito told that its writer took it back
    ADD COLUMN deleted_at timestamptz;
CREATE INDEX messages_of_album ON messages (bot_id, telegram_chat_id, media_group_id) WHERE media_group_id IS NOT NULL;

ALTER TABLE parts
    ADD COLUMN kind text NOT NULL DEFAULT 'text' CHECK (kind IN ('text', 'image')),
    -- where Telegram keeps the picture: {file_id, name}
    ADD COLUMN attachment jsonb,
    ALTER COLUMN text DROP NOT NULL,
    ALTER COLUMN text_key DROP NOT NULL,
    ADD CONSTRAINT parts_content_check CHECK (
        CASE kind WHEN 'text' THEN text IS NOT NULL AND text_key IS NOT NULL ELSE attachment IS NOT NULL END);

-- `show_after` waits only for more pictures, so any other message ends the wait.
ALTER TABLE dialogs ADD COLUMN gathering boolean NOT NULL DEFAULT false;
