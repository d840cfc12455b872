-- Search: the texts of a client's dialogs, once each, in a form in which they are compared.

DO $$
BEGIN
    BEGIN
        CREATE ROLE tuberry_search NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN
        NULL; -- Roles belong to the whole server. Another of its databases may have made it.
    END;
    GRANT tuberry_search TO CURRENT_USER;
END $$;

-- Both belong to Postgres' own extensions. Whoever owns the database may install them.
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS btree_gin;

-- Returns a text as a search compares it: in any case, ё as е.
CREATE FUNCTION search_key(text text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN replace(lower(text), 'ё', 'е');

-- The text of a message. Without a message: the buyer's name and the item's title.
CREATE TABLE search_texts (
    client_id bigint NOT NULL,
    dialog_id bigint NOT NULL,
    message_id bigint UNIQUE,
    text text NOT NULL,
    FOREIGN KEY (client_id, dialog_id) REFERENCES dialogs (client_id, id) ON DELETE CASCADE,
    FOREIGN KEY (client_id, message_id) REFERENCES messages (client_id, id) ON DELETE CASCADE
);
CREATE INDEX search_texts_of_dialog ON search_texts (dialog_id, client_id);
CREATE UNIQUE INDEX search_texts_of_names ON search_texts (dialog_id) WHERE message_id IS NULL;
CREATE INDEX search_texts_by_text ON search_texts USING gin (client_id, text gin_trgm_ops);

CREATE FUNCTION keep_text_of_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_texts (client_id, dialog_id, message_id, text)
    VALUES (NEW.client_id, NEW.dialog_id, NEW.id, search_key(coalesce(NEW.text, '')))
    ON CONFLICT (message_id) DO UPDATE SET text = excluded.text;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_new_text AFTER INSERT ON messages
    FOR EACH ROW WHEN (NEW.text <> '') EXECUTE FUNCTION keep_text_of_message();
CREATE TRIGGER keep_changed_text AFTER UPDATE OF text ON messages
    FOR EACH ROW WHEN (NEW.text IS DISTINCT FROM OLD.text) EXECUTE FUNCTION keep_text_of_message();

CREATE FUNCTION keep_names_of_dialog() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO search_texts (client_id, dialog_id, text)
    VALUES (NEW.client_id, NEW.id, search_key(concat_ws(E'\n', NEW.buyer ->> 'name', NEW.item ->> 'title')))
    ON CONFLICT (dialog_id) WHERE message_id IS NULL DO UPDATE SET text = excluded.text;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_new_names AFTER INSERT ON dialogs
    FOR EACH ROW WHEN (NEW.buyer IS NOT NULL OR NEW.item IS NOT NULL) EXECUTE FUNCTION keep_names_of_dialog();
CREATE TRIGGER keep_changed_names AFTER UPDATE OF buyer, item ON dialogs
    FOR EACH ROW WHEN (NEW.buyer ->> 'name' IS DISTINCT FROM OLD.buyer ->> 'name'
                       OR NEW.item ->> 'title' IS DISTINCT FROM OLD.item ->> 'title')
    EXECUTE FUNCTION keep_names_of_dialog();

-- Returns the dialogs of the texts that fit a pattern, once for each text, at most so many. Under row-level security Postgres would
-- use no index for it: it does not trust `LIKE` with the rows of other clients. So it has the rights of a role that may read this
-- table and nothing else, and asks for the client itself. A pattern without three letters or digits in a row would read the whole
-- index: callers do not ask for one.
CREATE FUNCTION search_dialogs(pattern text, max_texts int) RETURNS bigint[]
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, public, pg_temp SET plan_cache_mode = force_custom_plan SET enable_seqscan = off
    SET enable_indexscan = off SET enable_indexonlyscan = off
    AS $$
    BEGIN
        RETURN ARRAY(SELECT s.dialog_id FROM public.search_texts s
                     WHERE s.client_id = public.current_client_id() AND s.text LIKE pattern LIMIT max_texts);
    END $$;
-- Whoever becomes the owner of a function may create in its schema at that moment.
GRANT CREATE ON SCHEMA public TO tuberry_search;
ALTER FUNCTION search_dialogs OWNER TO tuberry_search;
REVOKE CREATE ON SCHEMA public FROM tuberry_search;
REVOKE ALL ON FUNCTION search_dialogs FROM PUBLIC;
GRANT EXECUTE ON FUNCTION search_dialogs TO tuberry_app;

ALTER TABLE search_texts ENABLE ROW LEVEL SECURITY;
ALTER TABLE search_texts FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON search_texts TO tuberry_app
    USING (client_id = (SELECT current_client_id())) WITH CHECK (client_id = (SELECT current_client_id()));
CREATE POLICY search ON search_texts FOR SELECT TO tuberry_search USING (true);

GRANT SELECT, INSERT, UPDATE ON search_texts TO tuberry_app;
GRANT SELECT ON search_texts TO tuberry_search;
