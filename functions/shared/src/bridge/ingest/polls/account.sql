-- Returns the seconds until an account's next poll. A webhook is trusted if it was registered at its last check and reported
-- everything in the last 24 hours; an account whose chats are not all read yet is polled often all the same. Called by
-- claim_due_polls and due_polls.
CREATE FUNCTION sql.poll_interval(
    _status text, _is_registered boolean, _poll account_polls, _usual_seconds double precision,
    _trusted_seconds double precision, _refused_seconds double precision
) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN _status <> 'active' THEN _refused_seconds
                WHEN _is_registered AND (_poll).unreported_since IS NULL AND (_poll).chats_to_read = 0
                     AND coalesce((_poll).webhook_missed_at < now() - interval '24 hours', true) THEN _trusted_seconds
                ELSE _usual_seconds END
$$;
