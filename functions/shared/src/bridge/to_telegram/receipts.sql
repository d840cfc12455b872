-- Receipts that are set.

-- Stores that the reactions of these posts are set, unless a later receipt came meanwhile, or is just coming: such a row is
-- locked, and is skipped. `_has_topics`: the names of their topics may have to change with that. Called by to_telegram/receipts.rs.
CREATE FUNCTION sql.mark_reactions_set(
    _post_ids bigint[], _contents jsonb, _has_topics boolean, _rename_delay_seconds double precision
) RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    UPDATE posts SET state = 'sent', sent_at = now(), error = NULL
    WHERE id = ANY (ARRAY(SELECT p.id FROM posts p
                          WHERE p.id = ANY(_post_ids) AND p.kind = 'reaction' AND p.content = _contents -> p.id::text
                          FOR NO KEY UPDATE SKIP LOCKED));
    IF _has_topics THEN
        PERFORM sql.schedule_renames(_post_ids, _rename_delay_seconds);
    END IF;
END $$;
