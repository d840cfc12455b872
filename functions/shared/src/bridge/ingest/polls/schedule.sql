-- Returns the accounts whose polls are due within so many seconds, with the time until then and the interval behind it. Called by
-- ingest/polls/schedule.rs.
CREATE FUNCTION sql.due_polls(
    _within_seconds double precision, _usual_seconds double precision, _trusted_seconds double precision,
    _refused_seconds double precision
) RETURNS TABLE (avito_account_id bigint, wait_seconds double precision, interval_seconds double precision)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT p.avito_account_id, greatest(0, extract(epoch FROM p.next_poll_at - now()))::float8,
           sql.poll_interval(a.status, w.is_registered, p, _usual_seconds, _trusted_seconds,
                             _refused_seconds)
    FROM account_polls p JOIN tenancy_accounts a ON a.avito_account_id = p.avito_account_id
    JOIN tenancy_webhooks w ON w.avito_account_id = p.avito_account_id
    WHERE a.monitoring_enabled AND a.suspended_at IS NULL AND p.next_poll_at <= now() + make_interval(secs => _within_seconds)
    ORDER BY p.avito_account_id;
END $$;
