//! What waits in a dialog becomes posts: composed of what was read, and written down only if it still stands so. So the next
//! dialog is composed while Telegram has the last one's post, and one transaction finishes that and begins this.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    album, attachments,
    budget::{Budget, later},
    compose, cures,
    drain::{Holder, Next, Target},
    order, topics,
    work::{BotWork, ClaimedDialog, Post, PreparedPosts},
};

/// What waited in a dialog, as it is going to be shown.
pub(super) struct Composition {
    /// What is written down.
    pub(super) ready: PreparedPosts,
    /// Where it goes.
    pub(super) target: Target,
    /// What its first post leaves of the budget.
    pub(super) left: Budget,
}

impl Composition {
    /// Of the first so many messages of a dialog, while `budget` is left; or how long to wait until there is enough.
    fn of(
        work: &BotWork,
        dialog: &ClaimedDialog,
        count: usize,
        target: Target,
        budget: Budget,
    ) -> Result<Self, Duration> {
        let zone = TimeZone::get(&dialog.timezone).unwrap_or(TimeZone::UTC);
        let mut drafts = compose::drafts(&work.messages[..count], dialog.last_shown, &zone);
        if work.one_chat().is_some() {
            let whose = compose::name_of(dialog);
            for draft in &mut drafts {
                draft.content = compose::headed(draft.kind, std::mem::take(&mut draft.content), &whose);
            }
        }
        let begins = !attachments::needs_files(drafts[0].kind);
        let ready = PreparedPosts { dialog_id: dialog.id, version: work.version.clone(), drafts, begins };
        let cost = attachments::cost(&ready.first_post(0));
        Ok(Self { ready, target, left: budget.take(cost, work.outbox.now)? })
    }
}

impl PreparedPosts {
    /// Its first post, by this id.
    pub(super) fn first_post(&self, id: i64) -> Post {
        let first = &self.drafts[0];
        Post {
            id,
            kind: first.kind.to_owned(),
            content: first.content.clone(),
            begun: false,
            attempts: 0,
            chat_id: None,
            thread_id: None,
        }
    }
}

impl Holder<'_> {
    /// Composes what waits in a dialog, as soon as it can be shown.
    pub(super) async fn show(&self, work: &BotWork, dialog: &ClaimedDialog, target: Target) -> Next {
        let (ready, whole_at) = album::ready(&work.messages, work.outbox.now);
        if ready == 0 {
            return Next::Look(vec![album::gather(dialog.id, whole_at)]);
        }
        if let Some(next) = order::settle(self, dialog, &work.messages[..ready]).await {
            return next;
        }
        if dialog.topic_closed && cures::reopen(self, target).await {
            return Next::Look(vec![topics::closed(dialog.id, false)]);
        }
        match Composition::of(work, dialog, ready, target, work.outbox.budget) {
            Ok(composition) => Next::Show(composition),
            Err(wait) => Next::Rest(Vec::new(), later(work.outbox.now, wait)),
        }
    }

    /// Composes what waits behind a post that leaves `left`, where nothing else is to be done for it.
    pub(super) fn compose_behind(&self, work: Box<BotWork>, left: Budget) -> Option<(Box<BotWork>, Composition)> {
        let dialog = work.dialog.as_ref().filter(|dialog| dialog.bot_id == self.bot_id && !dialog.topic_closed)?;
        let target = work.place(dialog)?;
        let (ready, _) = album::ready(&work.messages, work.outbox.now);
        let is_shown_next = Self::hindrance(&work).is_none()
            && work.posts.first().is_none_or(|post| cures::only_decorates(&post.kind))
            && ready > 0
            && !order::is_to_be_asked(self, &work.messages[..ready]);
        let composition = is_shown_next.then(|| Composition::of(&work, dialog, ready, target, left))?.ok()?;
        Some((work, composition))
    }
}
