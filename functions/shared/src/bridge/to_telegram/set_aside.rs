//! Work that our own code or SQL refuses: it is set aside under the same lease, and the next is taken. So is work that turns in a
//! circle: claimed twice, with no call made and no row changed.

use super::work::BotWork;
use crate::{
    bridge::{
        common::texts::{self, Language},
        rows::{posts, set_aside},
    },
    platform::{
        db::Statement,
        endings::{Duty, History, Outcome, Verdict, spread},
    },
};

/// The dialog, or the post outside of dialogs, that a claim was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A dialog, and the times that it was set aside.
    Dialog(i64, i32),
    /// A post, and its failed attempts.
    Post(i64, i32),
}

impl Subject {
    /// Returns the subject of claimed work. None: it has none.
    pub(super) fn of(work: &BotWork) -> Option<Self> {
        let dialog = work.dialog.as_ref().map(|dialog| Self::Dialog(dialog.id, dialog.set_aside_attempts));
        let first = || work.posts.first().or(work.receipts.first()).map(|post| Self::Post(post.id, post.attempts));
        dialog.or_else(first)
    }

    /// Returns the statements that set it aside, or that end its work with a notice.
    pub(super) fn set_aside(self) -> Vec<Statement> {
        metrics::counter!("rows_set_aside").increment(1);
        let (Self::Dialog(_, attempts) | Self::Post(_, attempts)) = self;
        let history = History { attempts: attempts.unsigned_abs(), ..History::default() };
        match (Duty::SetAside.after(Outcome::OurFault, history), self) {
            (Verdict::Wait { wait, .. }, Self::Dialog(id, _)) => {
                vec![set_aside::set_aside_dialog(id, spread(wait).as_secs_f64())]
            }
            (Verdict::Wait { wait, .. }, Self::Post(id, _)) => {
                vec![set_aside::set_aside_post(id, spread(wait).as_secs_f64())]
            }
            (_, Self::Dialog(id, _)) => {
                let notice = posts::notice(texts::could_not_post(Language::Russian), None);
                vec![set_aside::end_dialog_work(id, notice)]
            }
            (_, Self::Post(id, _)) => posts::mark_post_failed(id, "set aside too often".to_owned(), None),
        }
    }
}

/// The rows of claimed work. The same again, after nothing was done, means that the worker turns in a circle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint {
    subject: Option<Subject>,
    version: String,
    posts: Vec<(i64, i32)>,
}

impl Fingerprint {
    /// Returns that of claimed work.
    pub(super) fn of(work: &BotWork) -> Self {
        let posts = work.posts.iter().chain(&work.receipts).map(|post| (post.id, post.attempts)).collect();
        Self { subject: Subject::of(work), version: work.version.clone(), posts }
    }
}
