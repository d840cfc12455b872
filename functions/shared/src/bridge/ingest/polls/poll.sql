-- Polls that are due, and what follows from one that failed.

-- Takes those of the accounts that are due, and sets the times of their next polls. Returns what a poll needs (`PolledAccount` in
-- account.rs). Called by ingest/polls/poll.rs.
CREATE FUNCTION sql.claim_due_polls(
    _account_ids bigint[], _usual_seconds double precision, _trusted_seconds double precision, _refused_seconds double precision
) RETURNS TABLE (
    started_at timestamptz, watermark bigint, page_digest bytea, unread_digest bytea, list_unread boolean, judge_webhook boolean,
    has_due_chats boolean, message_calls bigint[], attempts int, client_id bigint, avito_account_id bigint, user_id bigint,
    api_client_id text, api_client_secret bytea, access_token bytea, token_expires_at timestamptz, status text,
    refused_since timestamptz
) LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    UPDATE account_polls p
    SET next_poll_at = now() + make_interval(secs => sql.poll_interval(
            a.status, w.is_registered, p, _usual_seconds, _trusted_seconds, _refused_seconds)),
        polled_at = now(),
        unread_list_at = CASE WHEN p.unread_list_at > now() THEN p.unread_list_at ELSE now() + interval '10 minutes' END
    FROM tenancy_accounts a JOIN tenancy_webhooks w ON w.avito_account_id = a.avito_account_id
    WHERE p.avito_account_id = ANY(_account_ids) AND a.avito_account_id = p.avito_account_id AND p.next_poll_at <= now()
      AND a.monitoring_enabled AND a.suspended_at IS NULL
    RETURNING p.started_at, p.watermark, p.page_digest, p.unread_digest,
              p.unread_list_at = now() + interval '10 minutes',
              coalesce(p.unreported_since <= now() - interval '60 seconds', false),
              EXISTS (SELECT FROM chat_polls c WHERE c.avito_account_id = p.avito_account_id AND c.due_at <= now()),
              p.message_calls, p.attempts,
              a.client_id, a.avito_account_id, a.user_id, a.api_client_id, a.api_client_secret, a.access_token,
              a.token_expires_at, a.status, CASE WHEN a.status <> 'active' THEN a.status_changed_at END;
END $$;

-- Notes that polls failed, and postpones the next ones. `_failures` has rows of `account_id`, `wait_seconds`, `error` and
-- `is_attempt`, which is false for a wait that was ordered. Returns
-- the accounts that were not read for two hours while others were: their owners are to be notified. Called by
-- ingest/polls/poll.rs.
CREATE FUNCTION sql.fail_polls(_failures jsonb) RETURNS TABLE (client_id bigint, avito_account_id bigint, failed_since timestamptz)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH failed AS (
        UPDATE account_polls p
        SET attempts = p.attempts + failure.is_attempt::int,
            failed_since = CASE WHEN failure.is_attempt THEN coalesce(p.failed_since, now()) ELSE p.failed_since END,
            error = failure.error,
            unread_list_at = now(), next_poll_at = now() + make_interval(secs => failure.wait_seconds)
        FROM jsonb_to_recordset(_failures) AS failure (
            account_id bigint, wait_seconds double precision, error text, is_attempt boolean)
        WHERE p.avito_account_id = failure.account_id
        RETURNING p.client_id, p.avito_account_id, p.failed_since
    )
    SELECT failed.client_id, failed.avito_account_id, failed.failed_since FROM failed
    WHERE failed.failed_since < now() - interval '2 hours'
      AND EXISTS (SELECT FROM account_polls o
                  WHERE o.failed_since IS NULL AND o.polled_at > now() - interval '1 hour'
                    AND o.avito_account_id NOT IN (SELECT f.avito_account_id FROM failed f));
END $$;

-- Judges the webhook of an account by messages that polls found first: those that it has not reported after a minute are missed.
-- True if there are such. Called by ingest/polls/poll.rs.
CREATE FUNCTION sql.judge_webhook(_account_id bigint) RETURNS boolean LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    -- lookup: unreported
    WITH unreported AS (
        SELECT m.created_at FROM messages m
        JOIN account_polls p ON p.avito_account_id = m.avito_account_id AND m.created_at >= p.unreported_since
        JOIN tenancy_webhooks w ON w.avito_account_id = m.avito_account_id AND m.avito_created > w.webhook_registered_at
        WHERE m.avito_account_id = _account_id AND m.webhook_reported_at IS NULL AND m.origin = 'buyer'
    )
    UPDATE account_polls
    SET webhook_missed_at = CASE WHEN EXISTS (SELECT FROM unreported WHERE created_at <= now() - interval '60 seconds')
                                 THEN now() ELSE webhook_missed_at END,
        unreported_since = (SELECT min(created_at) FROM unreported WHERE created_at > now() - interval '60 seconds')
    WHERE avito_account_id = _account_id
    -- end
    ;
    RETURN (SELECT webhook_missed_at = now() FROM account_polls WHERE avito_account_id = _account_id);
END $$;
