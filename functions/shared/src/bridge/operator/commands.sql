-- The commands of operators in a topic.

-- Runs `close`, `reopen` or `block` for the dialog in which an operator wrote the command. Its post closes or reopens an open
-- topic; else it is a notice, for `block` the question with the buttons. `{id}` in `_content` becomes the dialog's id. The
-- post's key is the message with the command, so that a repeated update does nothing. A blocked dialog is not closed. Called by
-- operator/commands.rs.
CREATE FUNCTION sql.run_command(
    _bot_id bigint,
    _telegram_chat_id bigint,
    _thread_id bigint,
    _reply_to_message_id bigint,
    _telegram_message_id bigint,
    _command text,
    _content jsonb
) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    _dialog record;
BEGIN
    SELECT * INTO _dialog FROM (
        -- lookup: dialog_of_command
        SELECT d.id, d.client_id, d.state, d.topic_state
        FROM dialogs d
        JOIN tenancy_bots b ON b.bot_id = _bot_id AND _telegram_chat_id IN (b.group_chat_id, b.former_group_chat_id)
        WHERE d.id = find_dialog(_bot_id, _telegram_chat_id, _thread_id, _reply_to_message_id)
        -- end
    ) AS dialog;
    IF NOT FOUND OR _command = 'close' AND _dialog.state = 'blocked' THEN
        RETURN;
    END IF;
    IF NOT sql.put_operators_post(
        _dialog.client_id, _bot_id, _dialog.id,
        CASE WHEN _dialog.topic_state = 'open' AND _command = 'close' THEN 'close_topic'
             WHEN _dialog.topic_state = 'open' AND _command = 'reopen' THEN 'reopen_topic'
             ELSE 'notice' END,
        replace(_content::text, '{id}', _dialog.id::text)::jsonb,
        NULL, format('command:%s:%s', _telegram_chat_id, _telegram_message_id)
    ) THEN
        RETURN;
    END IF;
    IF _command = 'close' THEN
        UPDATE dialogs d SET state = 'closed', auto_reply_scheduled_at = NULL WHERE d.id = _dialog.id;
    ELSIF _command = 'reopen' THEN
        UPDATE dialogs d SET state = 'waiting' WHERE d.id = _dialog.id AND d.state IN ('closed', 'blocked');
    END IF;
END $$;
