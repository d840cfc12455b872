-- Returns the bots that are due and that no worker works for, the longest-waiting first. One that became due in this very moment
-- has a wake-up under way. Called by to_telegram/worker.rs.
CREATE FUNCTION sql.due_bots(_limit bigint) RETURNS TABLE (bot_id bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    -- lookup: due_bots
    SELECT bot_id FROM bot_outboxes
    WHERE due_at <= now() - interval '50 milliseconds' AND (lease_until IS NULL OR lease_until < now())
    ORDER BY due_at LIMIT _limit
    -- end
    ;
END $$;
