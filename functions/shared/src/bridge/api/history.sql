-- Dialogs and messages as a frontend reads them.

-- Returns the dialogs in which a search finds its text. A rare text is found by the index of all texts. A frequent one, and one that
-- this index does not know, is looked for in the newest dialogs: as many as are read in a moment. Called by list_dialogs.
CREATE FUNCTION sql.found_dialogs(_pattern text, _is_indexed boolean, _before_at timestamptz, _before_id bigint) RETURNS bigint[]
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    _max_texts int := 5000;
    _max_dialogs int := 2000;
    _found bigint[] := CASE WHEN _is_indexed THEN search_dialogs(_pattern, _max_texts) ELSE '{}' END;
BEGIN
    IF _is_indexed AND cardinality(_found) < _max_texts THEN
        RETURN _found;
    END IF;
    RETURN _found || ARRAY(
        SELECT newest.id FROM (
            SELECT d.id FROM dialogs d
            WHERE d.client_id = current_client_id()
              AND (d.last_message_at, d.id) < (coalesce(_before_at, 'infinity'), coalesce(_before_id, 0))
            ORDER BY d.last_message_at DESC, d.id DESC LIMIT _max_dialogs
        ) AS newest
        WHERE EXISTS (SELECT FROM search_texts s WHERE s.dialog_id = newest.id AND s.text LIKE _pattern));
END $$;

-- Returns a page of the organisation's dialogs, those with the newest messages first. A null filter takes all. Called by
-- api/history.rs. Each call gets a plan for its own filters.
CREATE FUNCTION sql.list_dialogs(
    _limit bigint,
    _before_at timestamptz,
    _before_id bigint,
    _state text,
    _avito_account_id bigint,
    _unanswered boolean,
    _search_pattern text,
    _is_indexed boolean
) RETURNS TABLE (
    id bigint, state text, avito_account_id bigint, account_name text, avito_chat_id text, buyer jsonb, item jsonb,
    last_message_at timestamptz, bot_id bigint, telegram_chat_id bigint, telegram_topic_id bigint, direction text, kind text,
    text text
) LANGUAGE plpgsql STABLE SET plan_cache_mode = force_custom_plan AS $$
#variable_conflict use_column
DECLARE
    _found bigint[];
BEGIN
    IF _search_pattern IS NOT NULL THEN
        _found := sql.found_dialogs(search_key(_search_pattern), _is_indexed, _before_at, _before_id);
    END IF;
    RETURN QUERY
    SELECT d.id, d.state, d.avito_account_id, a.name, d.avito_chat_id, d.buyer, d.item, d.last_message_at, d.bot_id,
           d.telegram_chat_id, d.telegram_topic_id, newest.direction, newest.kind, left(newest.text, 200)
    FROM dialogs d
    JOIN tenancy_accounts a ON a.avito_account_id = d.avito_account_id
    LEFT JOIN LATERAL (
        SELECT m.direction, m.kind, m.text FROM messages m
        WHERE m.client_id = d.client_id AND m.dialog_id = d.id AND m.status <> 'filtered'
        ORDER BY coalesce(m.avito_created, m.created_at) DESC, m.avito_position DESC, m.id DESC LIMIT 1
    ) AS newest ON true
    WHERE d.client_id = current_client_id()
      AND (_before_at IS NULL OR (d.last_message_at, d.id) < (_before_at, _before_id))
      AND (_state IS NULL OR d.state = _state)
      AND (_avito_account_id IS NULL OR d.avito_account_id = _avito_account_id)
      AND (_unanswered IS NULL OR (d.state = 'waiting') = _unanswered)
      AND (_search_pattern IS NULL OR d.id = ANY(_found))
    ORDER BY d.last_message_at DESC, d.id DESC
    LIMIT _limit;
END $$;

-- Returns what the API says of a message: one row. It is inlined into the calling query. Called by api/history.rs.
CREATE FUNCTION sql.message_details(_message messages) RETURNS TABLE (
    id bigint, dialog_id bigint, direction text, origin text, author_name text, kind text, text text, attachments jsonb,
    status text, maybe_duplicate boolean, error text, deleted boolean, avito_position int, created_at timestamptz,
    pictures jsonb
) LANGUAGE sql STABLE AS $$
    SELECT _message.id, _message.dialog_id, _message.direction, _message.origin, _message.author_name, _message.kind,
           _message.text, _message.attachments, _message.status, _message.maybe_duplicate, _message.error,
           _message.deleted_at IS NOT NULL OR _message.kind = 'deleted', _message.avito_position,
           coalesce(_message.avito_created, _message.created_at),
           (SELECT jsonb_agg(p.attachment ->> 'name' ORDER BY p.position) FROM parts p
            WHERE _message.origin = 'operator' AND p.message_id = _message.id AND p.kind = 'image')
$$;
