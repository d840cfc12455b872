//! The one table of waits and ends. Of whatever failed it says if the failure counts as an attempt, how long to wait, and
//! what ends the repetitions. No other module has a wait or a count of its own.
//!
//! The table is pure: attempts, and the time since the first failure, stand on the row that waits. The n-th wait is the
//! first one, doubled n - 1 times, up to a cap; [`spread`] then moves it by up to a fifth, so that rows that failed together
//! do not come back together.

use std::time::Duration;

use strum::VariantArray;

/// A duty that is tried again when it fails: one sort of call, for one sort of row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, VariantArray)]
pub enum Duty {
    /// A post that shows what people wrote: text, mirror, picture, album, voice, place, replay.
    Words,
    /// The header of a topic.
    Header,
    /// A notice in a dialog's topic.
    DialogNotice,
    /// A notice about the end of a post or a part: no end without it.
    EndNotice,
    /// A notice outside of dialogs.
    Notice,
    /// A post that only decorates: a reaction, a pin, a name, an edit, a deletion, a topic closed, opened or removed.
    Decoration,
    /// The topic of a dialog.
    Topic,
    /// The topic of a dialog that is shown in General, because it could not have one.
    TopicLater,
    /// The files of a post, from Avito or its media hosts.
    PostFiles,
    /// A text or a picture of an answer, on its way to Avito.
    Part,
    /// The upload of an answer's picture, with the download from Telegram before it.
    Upload,
    /// The chat that is read to find a part of unknown outcome.
    Verification,
    /// The deletion of a part in Avito.
    Deletion,
    /// A buyer who is put on Avito's black list.
    Blocking,
    /// A chat that is marked read.
    MarkRead,
    /// The auto-reply.
    AutoReply,
    /// An access token of an account.
    Token,
    /// Avito's confirmation of a new chat.
    Confirmation,
    /// The poll of an account.
    AccountPoll,
    /// The poll of one chat.
    ChatPoll,
    /// The address at which Avito calls us.
    Webhook,
    /// A notice to the owners of a client.
    OwnerNotice,
    /// A bot that Telegram refuses.
    BotRefused,
    /// An account that Avito refuses.
    AccountRefused,
    /// The one call that is tried while a call of a bot or an account is out.
    Trial,
    /// A row that our own code or SQL refuses.
    SetAside,
}

/// The outcome of a call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing happened outside: no connection came about, or our own budget or lease did not allow the call.
    NotSent,
    /// The other side, or our own count of its limits, orders this wait.
    Limited(Duration),
    /// The call was sent, and its answer was lost: it may have been done.
    AnswerLost,
    /// The other side is out of order, or its answer cannot be read. It may have been done all the same.
    Unknown,
    /// The other side refuses this one thing.
    Refused,
    /// Our own code or SQL refuses the row.
    OurFault,
}

/// The history of a row, at the failure that is to be judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The attempts that failed before this one.
    pub attempts: u32,
    /// Of those, the attempts whose answer was lost.
    pub answers_lost: u32,
    /// The time since the first failure.
    pub failing_for: Duration,
    /// True if another row of the same account, or of the same group, went through since the first failure.
    pub has_witness: bool,
}

/// The consequence of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same call is made again after a while.
    Wait {
        /// The wait, not yet [`spread`].
        wait: Duration,
        /// True if the failure counts as an attempt.
        counts: bool,
        /// True if what comes behind the row goes before it from now on: it may be the witness that is missing.
        lets_others_pass: bool,
    },
    /// The next plainer form is tried at once. If there is none, it ends.
    Plainer,
    /// It ends, with the notice that its kind has.
    End,
}

/// The end of repetitions after unknown outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnknownEnd {
    /// The row ends at its so many-th attempt.
    At(u32),
    /// The row ends at its so many-th attempt, or its so many-th lost answer, if there is a witness.
    WithWitness { attempts: u32, answers_lost: u32 },
    /// The row ends at this age, and at its so many-th attempt with a witness.
    AgeOrWitness { attempts: u32, age: Duration },
    /// The row ends at this age.
    Age(Duration),
    /// It is tried as long as it serves something.
    Never,
}

/// The consequence of a refusal of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RefusalEnd {
    /// A plainer form is tried.
    Plainer,
    /// It ends at once.
    AtOnce,
    /// It is repeated like an unknown outcome, and ends at the so many-th attempt.
    At(u32),
    /// It is repeated after these waits, and ends a day after the first.
    NotYet(&'static [Duration]),
    /// It is repeated like an unknown outcome, without an end.
    Again,
}

struct Row {
    first: Duration,
    cap: Duration,
    unknown: UnknownEnd,
    refused: RefusalEnd,
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(3600 * hours)
}

const DAY: Duration = hours(24);

/// The cap of the waits of a row that would have ended, had it a witness.
const OUTAGE_CAP: Duration = minutes(30);

/// The first wait, and the longest, after a call that did not leave.
const NOT_SENT: (Duration, Duration) = (seconds(2), seconds(60));

/// The longest wait after several limits in a row, if none of them ordered a longer one.
const LIMITED_CAP: Duration = minutes(15);

/// The shortest and the longest wait that we let ourselves be ordered.
pub const ORDERED: (Duration, Duration) = (seconds(1), DAY);

/// The waits for a chat that Avito does not know yet, or does not show.
const NOT_YET: &[Duration] = &[seconds(10), minutes(1), minutes(10), hours(1), hours(6)];

/// An older auto-reply is of no use to the buyer.
const AUTO_REPLY_AGE: Duration = minutes(10);

impl Duty {
    fn row(self) -> Row {
        use RefusalEnd::{Again, At as RefusedAt, AtOnce, NotYet, Plainer};
        use UnknownEnd::{Age, AgeOrWitness, At, Never, WithWitness};
        let (first, cap, unknown, refused) = match self {
            Self::Words => (seconds(1), seconds(60), WithWitness { attempts: 10, answers_lost: 5 }, Plainer),
            Self::Header => (seconds(1), seconds(60), At(3), Plainer),
            Self::DialogNotice => (seconds(1), seconds(60), At(5), AtOnce),
            Self::EndNotice => (seconds(1), OUTAGE_CAP, Never, Plainer),
            Self::Notice => (seconds(10), minutes(10), At(3), AtOnce),
            Self::Decoration => (seconds(1), seconds(60), At(3), AtOnce),
            Self::Topic => (seconds(10), hours(1), Age(minutes(10)), RefusedAt(5)),
            Self::TopicLater => (hours(6), hours(6), Never, Again),
            Self::PostFiles => (seconds(1), seconds(60), At(4), AtOnce),
            Self::Part => (seconds(3), seconds(60), AgeOrWitness { attempts: 10, age: DAY }, AtOnce),
            Self::Upload => (seconds(10), minutes(5), AgeOrWitness { attempts: 5, age: DAY }, AtOnce),
            Self::Verification => (seconds(5), minutes(5), AgeOrWitness { attempts: 7, age: DAY }, AtOnce),
            Self::Deletion => (seconds(5), minutes(5), At(5), AtOnce),
            Self::Blocking => (seconds(5), minutes(2), At(5), AtOnce),
            Self::MarkRead => (seconds(30), minutes(10), At(3), AtOnce),
            Self::AutoReply => (seconds(3), seconds(60), Age(AUTO_REPLY_AGE), AtOnce),
            Self::Token => (seconds(3), minutes(5), Never, Again),
            Self::Confirmation => (seconds(10), minutes(10), Never, NotYet(NOT_YET)),
            Self::AccountPoll => (seconds(30), minutes(15), Never, Again),
            Self::ChatPoll => (minutes(1), hours(6), Never, Again),
            Self::Webhook | Self::BotRefused => (minutes(5), hours(6), Never, Again),
            Self::OwnerNotice => (minutes(1), hours(4), Age(hours(72)), Again),
            Self::AccountRefused => (minutes(5), hours(1), Never, Again),
            Self::Trial => (seconds(1), seconds(60), Never, Again),
            Self::SetAside => (minutes(1), hours(1), At(10), AtOnce),
        };
        Row { first, cap, unknown, refused }
    }

    /// Judges a failure: what follows it.
    pub fn after(self, outcome: Outcome, history: History) -> Verdict {
        let again = |wait: Duration| Verdict::Wait { wait, counts: false, lets_others_pass: false };
        match outcome {
            Outcome::NotSent if self.is_too_old(history) => Verdict::End,
            Outcome::NotSent => again(outage_wait(NOT_SENT, history.failing_for)),
            Outcome::Limited(ordered) => {
                let ordered = ordered.clamp(ORDERED.0, ORDERED.1);
                // A second limit at once doubles the wait: so it grows with the time since the first.
                again(ordered.max(history.failing_for.min(LIMITED_CAP)))
            }
            Outcome::AnswerLost | Outcome::Unknown => self.after_unknown(outcome, history),
            Outcome::Refused => self.after_refusal(history),
            Outcome::OurFault => Self::SetAside.after_unknown(outcome, history),
        }
    }

    /// Returns the wait of something that counts no attempts: each wait is as long as the failure so far, so that waits double.
    pub fn wait_while_failing(self, failing_for: Duration) -> Duration {
        failing_for.clamp(self.row().first, self.cap_at(failing_for))
    }

    /// True if so many answers were lost that it is not sent again before a witness shows that the other side answers at all.
    pub fn awaits_witness(self, lost: u32) -> bool {
        matches!(self.row().unknown, UnknownEnd::WithWitness { answers_lost, .. } if lost >= answers_lost)
    }

    /// Returns the wait for a witness.
    pub fn wait_for_witness(self, failing_for: Duration) -> Duration {
        failing_for.clamp(self.row().first, OUTAGE_CAP)
    }

    fn is_too_old(self, history: History) -> bool {
        match self.row().unknown {
            UnknownEnd::Age(age) | UnknownEnd::AgeOrWitness { age, .. } => history.failing_for >= age,
            UnknownEnd::At(_) | UnknownEnd::WithWitness { .. } | UnknownEnd::Never => false,
        }
    }

    fn after_unknown(self, outcome: Outcome, history: History) -> Verdict {
        let row = self.row();
        let attempts = history.attempts.saturating_add(1);
        let answers_lost = history.answers_lost.saturating_add(u32::from(outcome == Outcome::AnswerLost));
        let (is_last, needs_witness) = match row.unknown {
            UnknownEnd::At(last) => (attempts >= last, false),
            UnknownEnd::WithWitness { attempts: most, answers_lost: most_lost } => {
                (attempts >= most || answers_lost >= most_lost, true)
            }
            UnknownEnd::AgeOrWitness { attempts: last, .. } => (attempts >= last, true),
            UnknownEnd::Age(_) | UnknownEnd::Never => (false, false),
        };
        if self.is_too_old(history) || is_last && (history.has_witness || !needs_witness) {
            return Verdict::End;
        }
        let cap = if is_last { OUTAGE_CAP } else { self.cap_at(history.failing_for) };
        Verdict::Wait { wait: doubled(row.first, history.attempts, cap), counts: true, lets_others_pass: is_last }
    }

    fn after_refusal(self, history: History) -> Verdict {
        let row = self.row();
        let attempts = history.attempts.saturating_add(1);
        let again = |wait| Verdict::Wait { wait, counts: true, lets_others_pass: false };
        match row.refused {
            RefusalEnd::Plainer => Verdict::Plainer,
            RefusalEnd::AtOnce => Verdict::End,
            RefusalEnd::At(last) if attempts >= last || self.is_too_old(history) => Verdict::End,
            RefusalEnd::NotYet(_) if history.failing_for >= DAY => Verdict::End,
            RefusalEnd::NotYet(waits) => {
                let index = usize::try_from(history.attempts).unwrap_or(usize::MAX).min(waits.len() - 1);
                again(waits[index])
            }
            RefusalEnd::At(_) | RefusalEnd::Again => {
                again(doubled(row.first, history.attempts, self.cap_at(history.failing_for)))
            }
        }
    }

    /// The cap of the waits of a row that has been failing for so long.
    fn cap_at(self, failing_for: Duration) -> Duration {
        match self {
            Self::Trial if failing_for >= hours(1) => minutes(10),
            Self::Trial if failing_for >= minutes(10) => minutes(5),
            Self::AccountRefused if failing_for >= DAY => hours(6),
            _ => self.row().cap,
        }
    }
}

/// Returns `first`, doubled `times` times, up to `cap`.
fn doubled(first: Duration, times: u32, cap: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.min(20)).unwrap_or(u32::MAX)).min(cap)
}

/// Returns the wait of an outage that is not counted: it doubles, so each wait is as long as the outage so far.
fn outage_wait((first, cap): (Duration, Duration), failing_for: Duration) -> Duration {
    failing_for.saturating_add(first).min(cap)
}

/// Moves a wait by up to a fifth in either direction.
pub fn spread(wait: Duration) -> Duration {
    wait.mul_f64(rand::random_range(0.8..=1.2))
}

#[cfg(test)]
mod tests;
