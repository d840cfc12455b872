//! The probe of an account, as it is stored: when Avito was last asked if it refuses the account or one thing of it, and the answer.

use crate::platform::db::Statement;

/// The time between two probes of an account, seconds. Not longer: until the next one, a token that Avito ended early after the last
/// one is taken for a refusal of one thing, and answers fail.
const PROBE_INTERVAL: f64 = 5.0;
/// The longest time between two probes, seconds: it doubles with each probe that found nothing out.
const MAX_PROBE_INTERVAL: f64 = 600.0;

/// Claims the next probe of an account: one at a time, and at most one in five seconds. No row: [`select_probe`] has the last one.
pub fn claim_probe(account_id: i64) -> Statement {
    Statement::new(
        "UPDATE avito_accounts SET probed_at = now(), probe_refused = NULL, probe_attempts = least(probe_attempts + 1, 20)
         WHERE id = $1 AND coalesce(
             probed_at <= now() - make_interval(secs => least($2 * power(2, greatest(probe_attempts - 1, 0)), $3)), true)
         RETURNING id",
    )
    .bind(account_id)
    .bind(PROBE_INTERVAL)
    .bind(MAX_PROBE_INTERVAL)
}

/// Stores the answer of a probe: true if Avito refuses the account.
pub fn store_probe(account_id: i64, is_refused: bool) -> Statement {
    Statement::new("UPDATE avito_accounts SET probe_refused = $2, probe_attempts = 0 WHERE id = $1")
        .bind(account_id)
        .bind(is_refused)
}

/// Selects the answer of the last probe, `probe_refused`, and the account's `status_reason`. Null: it is not known.
pub fn select_probe(account_id: i64) -> Statement {
    Statement::new("SELECT probe_refused, status_reason FROM avito_accounts WHERE id = $1").bind(account_id)
}
