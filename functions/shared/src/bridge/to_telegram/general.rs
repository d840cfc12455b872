//! A dialog that cannot have a topic: it waits and tries again, and is shown in General after a while. The bot's outbox never waits
//! for it.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    compose::post_text,
    sender::TelegramSender,
    work::{BotWork, ClaimedDialog},
};
use crate::{
    bridge::{
        common::{
            telegram_budget::time_since,
            texts::{self, Language},
        },
        rows::{posts, topics},
    },
    platform::{
        db::Statement,
        endings::{Duty, History, Outcome, Verdict, spread},
    },
    telegram::Error,
    tenancy::bots,
};

/// Holds a dialog while topics cannot be created for any. One that waited for too long is shown in General.
pub(super) fn hold_for_trial(
    work: &BotWork,
    dialog: &ClaimedDialog,
    until: Timestamp,
    now: Timestamp,
) -> Vec<Statement> {
    let failing_for = time_since(dialog.topic_failed_since, now);
    let history = History { failing_for, ..History::default() };
    if Duty::Topic.after(Outcome::Unknown, history) == Verdict::End {
        return show_in_general(work, dialog, None);
    }
    let wait = Duration::try_from(until.duration_since(now)).unwrap_or_default();
    vec![topics::note_topic_failure(dialog.id, false, wait.as_secs_f64())]
}

/// Returns the statements that follow when Telegram did not create or open a dialog's topic: it waits, or is shown in General.
pub(super) fn after_topic_failure(
    sender: &TelegramSender<'_>,
    work: &BotWork,
    dialog: &ClaimedDialog,
    error: &Error,
    now: Timestamp,
) -> Vec<Statement> {
    let mut statements = Vec::new();
    if let Error::NoRights(words) = error {
        statements.push(bots::notify_missing_right(sender.bot_id, words.clone()));
    }
    let history = History {
        attempts: dialog.topic_attempts.unsigned_abs(),
        failing_for: time_since(dialog.topic_failed_since, now),
        ..History::default()
    };
    statements.extend(match Duty::Topic.after(error.outcome(), history) {
        Verdict::Wait { wait, counts, .. } => {
            vec![topics::note_topic_failure(dialog.id, counts, spread(wait).as_secs_f64())]
        }
        Verdict::Plainer | Verdict::End => show_in_general(work, dialog, Some(error)),
    });
    statements
}

/// Shows a dialog in General, with a notice there that names the buyer and the reason.
fn show_in_general(work: &BotWork, dialog: &ClaimedDialog, error: Option<&Error>) -> Vec<Statement> {
    metrics::counter!("dialogs_shown_in_general").increment(1);
    let wait = match Duty::TopicLater.after(Outcome::Unknown, History::default()) {
        Verdict::Wait { wait, .. } => wait,
        Verdict::Plainer | Verdict::End => Duration::ZERO,
    };
    let name = post_text::name_of(dialog);
    let reason = error.map(ToString::to_string).unwrap_or_default();
    let text = format!("{}\n{name}\n{reason}", texts::shown_in_general(Language::Russian));
    let notice = posts::notice(text.trim_end(), None);
    topics::show_in_general(dialog.id, work.group().chat_id, spread(wait).as_secs_f64(), notice)
}
