-- Dialogs that are shown by another bot from now on.

-- Gives dialogs to this bot: their unfinished posts end, and what these carried is shown by the new bot. Messages of operators in
-- former topics are no longer answers to the buyer: the former bot may be gone, and could not post what follows. A dialog that the
-- bot has already stays as it is. Called by record_messages and relocate_account, which have the dialogs locked.
CREATE FUNCTION sql.hand_over_dialogs(_dialog_ids bigint[], _bot_id bigint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- lookup: posts_of_former_bot
    WITH unfinished AS (
        UPDATE posts p SET state = 'failed', error = 'shown by another bot'
        FROM dialogs d
        WHERE d.id = ANY(_dialog_ids) AND d.bot_id <> _bot_id AND p.client_id = d.client_id AND p.dialog_id = d.id
          AND p.state IN ('pending', 'sending')
        RETURNING p.id, p.client_id
    )
    UPDATE messages m SET post_id = NULL FROM unfinished u
    WHERE m.client_id = u.client_id AND m.post_id = u.id AND m.needs_post
    -- end
    ;
    -- lookup: messages_of_former_bot
    UPDATE messages m SET bot_id = _bot_id FROM dialogs d
    WHERE d.id = ANY(_dialog_ids) AND d.bot_id <> _bot_id AND m.client_id = d.client_id AND m.dialog_id = d.id
      AND m.needs_post AND m.post_id IS NULL
    -- end
    ;
    -- lookup: topics_of_former_bot
    DELETE FROM dialog_topics t USING dialogs d
    WHERE d.id = ANY(_dialog_ids) AND d.bot_id <> _bot_id AND t.client_id = d.client_id AND t.dialog_id = d.id
    -- end
    ;
    UPDATE dialogs d
    SET bot_id = _bot_id, topic_state = 'none', telegram_chat_id = NULL, telegram_topic_id = NULL, topic_closed = false,
        topic_emoji = '', hold_until = NULL, collecting_album = false
    WHERE d.id = ANY(_dialog_ids) AND d.bot_id <> _bot_id;
END $$;
