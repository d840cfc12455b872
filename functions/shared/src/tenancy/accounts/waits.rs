//! The wait before the next attempt of a duty that goes on as long as it serves something.

use std::time::Duration;

use crate::platform::endings::{Duty, History, Outcome, Verdict, spread};

/// Returns the wait by the one table of waits and ends. `attempts` counts the failures in a row before this one.
pub fn wait(duty: Duty, attempts: i32) -> Duration {
    let history = History { attempts: attempts.unsigned_abs(), ..History::default() };
    match duty.after(Outcome::Unknown, history) {
        Verdict::Wait { wait, .. } => spread(wait),
        // A duty with an end has no further attempt.
        Verdict::Plainer | Verdict::End => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_and_webhooks_are_tried_as_long_as_they_serve_something() {
        for (duty, longest) in [(Duty::AccountPoll, 900), (Duty::ChatPoll, 21_600), (Duty::Webhook, 21_600)] {
            let waits = [0, 1, 2, 10, i32::MAX].map(|attempts| wait(duty, attempts));
            assert!(waits.windows(2).take(2).all(|pair| pair[0] < pair[1]), "{duty:?}");
            assert!(waits.iter().all(|wait| !wait.is_zero() && *wait <= Duration::from_secs(longest).mul_f64(1.2)));
        }
    }
}
