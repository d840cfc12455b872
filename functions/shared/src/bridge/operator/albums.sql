-- Albums of operators. Telegram sends the pictures one by one; the caption of one of them decides for all.

-- True if an album stays inside. Called by store_operator_message.
CREATE FUNCTION sql.is_inside_album(_bot_id bigint, _telegram_chat_id bigint, _media_group_id text) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN EXISTS (
        -- lookup: is_inside_album
        SELECT FROM inside_albums a
        WHERE a.bot_id = _bot_id AND a.telegram_chat_id = _telegram_chat_id AND a.media_group_id = _media_group_id
        -- end
    );
END $$;

-- Stores the caption of an album, if a picture has one, as a message of its own with its parts: it is sent behind the last picture,
-- and if it fails, it has its own notice and buttons. Captions that came before stand behind this picture too. Called by
-- store_operator_message.
CREATE FUNCTION sql.store_album_caption(_picture messages, _caption text, _parts jsonb) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _message messages;
BEGIN
    PERFORM sql.move_captions_behind(_picture);
    IF jsonb_array_length(_parts) = 0 THEN
        RETURN;
    END IF;
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                          telegram_chat_id, telegram_user_id, status, needs_post, media_group_id)
    VALUES (_picture.client_id, _picture.dialog_id, _picture.avito_account_id, _picture.bot_id, 'out', 'operator', 'text', _caption,
            _picture.author_name, _picture.telegram_chat_id, _picture.telegram_user_id, 'sending', false, _picture.media_group_id)
    RETURNING * INTO _message;
    PERFORM sql.insert_parts(_message, _parts);
END $$;

-- Puts the captions of an album behind the picture that was just stored. One of which Avito may have a part stays where it is.
-- Called by store_album_caption.
CREATE FUNCTION sql.move_captions_behind(_picture messages) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _caption messages;
    _message_id bigint;
BEGIN
    FOR _caption IN
        -- lookup: waiting_captions
        SELECT m.* FROM messages m
        WHERE m.bot_id = (_picture).bot_id AND m.telegram_chat_id = (_picture).telegram_chat_id
          AND m.media_group_id = (_picture).media_group_id AND m.telegram_message_id IS NULL AND m.id < (_picture).id
          AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state <> 'pending')
        ORDER BY m.id
        -- end
    LOOP
        INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, author_name,
                              telegram_chat_id, telegram_user_id, status, needs_post, media_group_id)
        VALUES (_caption.client_id, _caption.dialog_id, _caption.avito_account_id, _caption.bot_id, 'out', 'operator', 'text',
                _caption.text, _caption.author_name, _caption.telegram_chat_id, _caption.telegram_user_id, 'sending', false,
                _caption.media_group_id)
        RETURNING id INTO _message_id;
        UPDATE parts SET message_id = _message_id WHERE message_id = _caption.id;
        DELETE FROM messages WHERE id = _caption.id;
    END LOOP;
END $$;

-- Keeps an album inside: pictures that are not sent yet never go, those that Avito has are deleted there, and those that come later
-- are not stored. Returns wake-ups (common/wakeups.rs). Called by operator/albums.rs.
CREATE FUNCTION sql.keep_album_inside(_bot_id bigint, _telegram_chat_id bigint, _media_group_id text)
RETURNS TABLE (bot_id bigint, dialog_id bigint, wait_seconds bigint, auto_reply_at timestamptz) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog_id bigint;
BEGIN
    INSERT INTO inside_albums (bot_id, telegram_chat_id, media_group_id, client_id)
    SELECT b.bot_id, _telegram_chat_id, _media_group_id, b.client_id FROM tenancy_bots b
    WHERE b.bot_id = _bot_id AND _telegram_chat_id IN (b.group_chat_id, b.former_group_chat_id)
    ON CONFLICT DO NOTHING;
    _dialog_id := (
        -- lookup: dialog_of_album
        SELECT m.dialog_id FROM messages m
        WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.media_group_id = _media_group_id LIMIT 1
        -- end
    );
    IF _dialog_id IS NULL THEN
        RETURN;
    END IF;
    PERFORM sql.lock_dialog(_dialog_id);
    -- lookup: withdrawn_pictures
    DELETE FROM messages m
    WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.media_group_id = _media_group_id
      AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id)
      AND NOT EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state NOT IN ('pending', 'failed', 'cancelled'))
    -- end
    ;
    -- Pictures that never went have answered nobody.
    -- lookup: unanswered
    UPDATE dialogs d SET state = 'waiting'
    WHERE d.id = _dialog_id AND d.state = 'answered'
      AND NOT EXISTS (SELECT FROM messages m WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id
                      AND m.media_group_id = _media_group_id)
      AND (SELECT m.origin FROM messages m
           WHERE m.client_id = d.client_id AND m.dialog_id = d.id AND m.origin <> 'system' AND m.status <> 'filtered'
           ORDER BY m.id DESC LIMIT 1) = 'buyer'
    -- end
    ;
    RETURN QUERY
    -- lookup: pictures_to_delete
    WITH requested AS (
        UPDATE messages m SET requested_change = '{}', change_due_at = now()
        WHERE m.bot_id = _bot_id AND m.telegram_chat_id = _telegram_chat_id AND m.media_group_id = _media_group_id
          AND EXISTS (SELECT FROM parts p WHERE p.message_id = m.id AND p.state IN ('sending', 'sent'))
        RETURNING m.dialog_id
    )
    UPDATE dialogs d SET send_at = least(d.send_at, now()) FROM (SELECT DISTINCT dialog_id FROM requested) AS requested
    WHERE d.id = requested.dialog_id
    RETURNING NULL::bigint, d.id, 0::bigint, NULL::timestamptz
    -- end
    ;
END $$;
