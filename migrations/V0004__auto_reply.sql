-- The auto-reply: functions that say when it is active. The statement that records a buyer's message calls them.

-- Finds the first moment at which the clock of a zone shows this time or a later one. For a time that the clock skips,
-- this is the moment of the jump. For a time that it shows twice, this is the first of the two moments.
CREATE FUNCTION local_time_to_utc(wall timestamp, zone text) RETURNS timestamptz
    LANGUAGE sql STABLE PARALLEL SAFE
    AS $$
        SELECT CASE
            WHEN by_former AT TIME ZONE zone = wall THEN by_former
            WHEN usual AT TIME ZONE zone = wall THEN usual
            ELSE (SELECT min(minute)
                  FROM generate_series(date_trunc('minute', usual - (usual AT TIME ZONE zone - wall)), usual + interval '1 minute',
                                       interval '1 minute') AS minute
                  WHERE minute AT TIME ZONE zone >= wall)
        END
        FROM (SELECT wall AT TIME ZONE zone AS usual) AS postgres
        -- For a time that the clock shows twice, Postgres takes the second moment. A day before, the clock still had
        -- the offset of the first.
        CROSS JOIN LATERAL (SELECT usual - interval '24 hours' AS former) AS day_before
        CROSS JOIN LATERAL (SELECT (wall - (former AT TIME ZONE zone - former AT TIME ZONE 'UTC')) AT TIME ZONE 'UTC' AS by_former)
            AS first
    $$;

-- Finds the interval in which the auto-reply is active at this moment, or no row. An interval begins once on each local
-- day: at the start of the window, or at midnight when the auto-reply is always active. Equal times mean never.
CREATE FUNCTION auto_reply_interval(always boolean, start_time time, end_time time, zone text, at timestamptz)
    RETURNS TABLE (begins_at timestamptz, ends_at timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 1
    AS $$
        SELECT begins, ends
        -- The day before: a window may cross midnight. The day after: a clock may have been set back over midnight.
        FROM generate_series(-1, 1) AS shift
        CROSS JOIN LATERAL (SELECT (at AT TIME ZONE zone)::date + shift AS day) AS local
        CROSS JOIN LATERAL (
            SELECT local_time_to_utc(day + CASE WHEN always THEN time '00:00' ELSE start_time END, zone) AS begins,
                   local_time_to_utc(CASE WHEN always OR end_time < start_time THEN day + 1 ELSE day END
                               + CASE WHEN always THEN time '00:00' ELSE end_time END, zone) AS ends
        ) AS moments
        WHERE (always OR start_time <> end_time) AND begins <= at AND at < ends
    $$;
