//! Plans the posts of a dialog's waiting messages: composed from a claim, and stored only if the dialog has not changed
//! since. So the next dialog is composed during the call for the last one. One transaction then stores the result of
//! that call and sets the next post to `sending`.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{
    compose::{album, post_text},
    message_order,
    send::{call, media},
    sender::{SendPlan, TelegramSender, TelegramStep},
    work::{BotWork, ClaimedDialog, PreparedPosts, Target},
};
use crate::bridge::{
    common::telegram_budget::{TelegramBudget, later},
    rows::topics,
};

impl SendPlan {
    /// Plans the first `count` messages of a dialog. The error is the time until `budget` suffices for the first post.
    fn of(
        work: &BotWork,
        dialog: &ClaimedDialog,
        count: usize,
        target: Target,
        budget: &TelegramBudget,
    ) -> Result<Self, Duration> {
        let zone = TimeZone::get(&dialog.timezone).unwrap_or(TimeZone::UTC);
        let mut drafts = post_text::drafts(&work.messages[..count], dialog.last_posted_at, &zone);
        if work.is_headed(dialog) {
            let name = post_text::name_of(dialog);
            for draft in &mut drafts {
                draft.content = post_text::with_heading(draft.kind, std::mem::take(&mut draft.content), &name);
            }
        }
        let is_first_sending = !drafts[0].kind.needs_files();
        let prepared = PreparedPosts { dialog_id: dialog.id, version: work.version.clone(), drafts, is_first_sending };
        let cost = media::cost(&prepared.first_post(0));
        Ok(Self { prepared, target, left: budget.take(cost, work.outbox.now)? })
    }
}

impl TelegramSender<'_> {
    /// Plans the posts of a dialog's waiting messages, once they can be posted: albums are complete, positions are
    /// known or were asked for, the topic is open, and the budget suffices.
    pub(super) async fn plan_messages(&self, work: &BotWork, dialog: &ClaimedDialog, target: Target) -> TelegramStep {
        let (ready, complete_at) = album::ready_messages(&work.messages, work.outbox.now);
        if ready == 0 {
            return TelegramStep::Commit(vec![topics::hold_for_album(dialog.id, complete_at)]);
        }
        if let Some(next) = message_order::fetch_positions(self, dialog, &work.messages[..ready]).await {
            return next;
        }
        if dialog.topic_closed && call::reopen_topic(self, target).await {
            return TelegramStep::Commit(vec![topics::set_topic_closed(dialog.id, false)]);
        }
        match SendPlan::of(work, dialog, ready, target, &work.outbox.budget) {
            Ok(plan) => match work.held_until(call::method_of(&plan.prepared.first_post(0))) {
                Some(until) => {
                    let wait = Duration::try_from(until.duration_since(work.outbox.now)).unwrap_or_default();
                    TelegramStep::Commit(vec![topics::hold_dialog(dialog.id, wait.as_secs_f64())])
                }
                None => TelegramStep::SendPlanned(plan),
            },
            Err(wait) => TelegramStep::ReleaseUntil(Vec::new(), later(work.outbox.now, wait)),
        }
    }

    /// Plans the next dialog's posts during the call of a post that leaves `left` of the budget. None: the dialog needs
    /// another step first, or the budget does not suffice.
    pub(super) fn compose_next(&self, work: Box<BotWork>, left: &TelegramBudget) -> Option<(Box<BotWork>, SendPlan)> {
        let dialog = work.dialog.as_ref().filter(|dialog| dialog.bot_id == self.bot_id && !dialog.topic_closed)?;
        let target = work.target_of(dialog)?;
        let (ready, _) = album::ready_messages(&work.messages, work.outbox.now);
        let is_sent_next = Self::blocked_until(&work).is_none()
            && work.posts.first().is_none_or(|post| post.kind.only_decorates())
            && ready > 0
            && !message_order::needs_positions(self, &work.messages[..ready]);
        let plan = is_sent_next.then(|| SendPlan::of(&work, dialog, ready, target, left))?.ok()?;
        if work.held_until(call::method_of(&plan.prepared.first_post(0))).is_some() {
            return None;
        }
        Some((work, plan))
    }
}
