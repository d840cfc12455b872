//! To Telegram: the holder of a bot's lane posts what waits, the longest-waiting dialog first, in order.
//! What was begun and not finished is sent again exactly as composed, before anything new.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use uuid::Uuid;

use super::{
    BridgeError, album,
    attachments::{self, Files, Prepared},
    budget::{Budget, later},
    compose, cures, header, lanes,
    look::Look,
    marks, moves, order, posts, receipts, replay,
    tasks::TelegramTask,
    tenants, topics,
    work::{self, Dialog, Post, Topic, Work},
};
use crate::{
    App, planned,
    platform::db::{Answers, ClientId, DbError, Scope, Statement, get},
    telegram,
    tenancy::bots,
};

/// How a drain ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Nothing is left to do now; whatever waits for its time has its wake-up.
    Done,
    /// Somebody else has the lane.
    Held,
}

/// What one step leads to.
pub(super) enum Next {
    /// Write this down and look for the next work.
    Look(Vec<Statement>),
    /// The same, of statements that lock the dialog before the lane by themselves.
    Sent(Vec<Statement>),
    /// Write this down and let go until then: nothing can be sent before.
    Rest(Vec<Statement>, Timestamp),
    /// The lane is somebody else's by now.
    Lost,
}

/// The holder of a lane.
pub(super) struct Holder<'a> {
    pub(super) app: &'a App,
    pub(super) bot_id: i64,
    pub(super) owner: Uuid,
    pub(super) client_id: ClientId,
    pub(super) telegram: telegram::Bot,
    /// A post for a topic has just come out in no topic.
    pub(super) topics_gone: AtomicBool,
    /// The messages whose order Avito was asked for already.
    pub(super) ordered: order::Asked,
}

/// Where a post goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) chat_id: i64,
    pub(super) thread_id: Option<i64>,
}

/// Works for one bot until nothing is left, `stop` is reached, or nothing may be sent. An error is our own Postgres or
/// a secret that does not open; whatever was begun is found again.
pub async fn drain_bot(app: &App, bot_id: i64, stop: Instant) -> Result<Drained, BridgeError> {
    let owner = Uuid::new_v4();
    let first = work::look(bot_id, owner, Vec::new());
    let scope = tenants::scope(&tenants::OF_BOTS, bot_id, bots::tenant_of);
    let first = work::read(&app.db().run(scope, first).await?)?;
    let mut work = match first {
        Look::Found(work) => work,
        ended => return Ok(end(app, bot_id, ended).await),
    };
    let client_id = work.bot.client_id;
    tenants::remember(&tenants::OF_BOTS, bot_id, client_id);
    let token = app.keyring().open(&work.bot.token, bots::token_place(client_id))?;
    let telegram = bots::telegram(app, token);
    let holder = Holder {
        app,
        bot_id,
        owner,
        client_id,
        telegram,
        topics_gone: AtomicBool::new(false),
        ordered: order::Asked::default(),
    };
    loop {
        let next = match Holder::hindrance(&work) {
            Some(until) => Next::Rest(Vec::new(), until),
            None if Instant::now() >= stop => Next::Rest(Vec::new(), work.lane.now),
            None => holder.step(&work).await?,
        };
        let answers = match next {
            Next::Look(outcome) => holder.run(&work, work::look(bot_id, owner, outcome)).await?,
            Next::Sent(outcome) => holder.run_as_it_is(work::look(bot_id, owner, outcome)).await?,
            Next::Rest(mut outcome, until) => {
                outcome.push(lanes::release_until(bot_id, owner, until));
                let answers = holder.run(&work, outcome).await?;
                let book =
                    answers.last().and_then(|rows| rows.first()).is_some_and(|row| get(row, "book").unwrap_or(true));
                if book {
                    let wait = Duration::try_from(until.duration_since(work.lane.current())).unwrap_or_default();
                    wake_in(app, bot_id, wait).await;
                }
                return Ok(Drained::Done);
            }
            Next::Lost => return Ok(Drained::Held),
        };
        match work::read(&answers)? {
            Look::Found(found) => work = found,
            ended => return Ok(end(app, bot_id, ended).await),
        }
    }
}

/// The bots that are due and that nobody works for, the longest-waiting first.
pub async fn due_bots(app: &App, most: usize) -> Result<Vec<i64>, DbError> {
    let due = planned!(
        "SELECT bot_id FROM bot_lanes WHERE drain_at <= now() AND (lease_until IS NULL OR lease_until < now())
         ORDER BY drain_at LIMIT $1",
    );
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    app.db().query(Scope::Service, due.bind(most)).await?.iter().map(|row| get(row, "bot_id")).collect()
}

/// What a look that found nothing to do leads to.
async fn end(app: &App, bot_id: i64, look: Look<Work>) -> Drained {
    match look {
        Look::Held => return Drained::Held,
        Look::Idle { wake_in: Some(wait) } => wake_in(app, bot_id, wait).await,
        Look::Idle { wake_in: None } | Look::Gone | Look::Found(_) => {}
    }
    Drained::Done
}

/// One delayed wake-up for what waits; beyond the queue's longest delay the sweep does it.
async fn wake_in(app: &App, bot_id: i64, wait: Duration) {
    if wait <= crate::platform::queue::LONGEST_DELAY {
        app.wake(&TelegramTask::V1 { bot_id }, wait).await;
    }
}

/// How long a suspended organisation's rows wait before somebody looks again.
const SUSPENDED_PAUSE: Duration = Duration::from_secs(3600);

/// Whether doing it twice is the same as once.
fn is_repeatable(kind: &str) -> bool {
    matches!(kind, "reaction" | "pin" | "edit" | "rename" | "close_topic" | "reopen_topic")
}

/// Whether sending it is one message of Telegram's, or a receipt: nothing is to be written down but that.
fn is_one_message(kind: &str) -> bool {
    matches!(kind, "text" | "mirror" | "notice" | "photo" | "voice" | "venue" | "reaction")
}

/// Whether what a post was written for has passed: the dialog is open again, or its topic is gone.
fn is_pointless(kind: &str, dialog: &Dialog, one_chat: bool) -> bool {
    let has_topic = matches!(dialog.topic, Topic::Open { .. }) && !one_chat;
    match kind {
        "close_topic" => !has_topic || dialog.state != "closed",
        "reopen_topic" => !has_topic || dialog.state == "closed",
        "header" | "replay" | "rename" => !has_topic,
        _ => false,
    }
}

/// What is known of a post's content before it is begun.
enum Composed {
    /// It stands in the row.
    AsItIs,
    /// It is this, and is written down with the beginning.
    Now(Value),
    /// Nothing is to be sent any more.
    Pointless,
}

impl Holder<'_> {
    /// Runs a flight about `work`. Whoever hears of a message locks its dialog and then the lane; in the other order the
    /// two would wait for each other.
    pub(super) async fn run(&self, work: &Work, mut flight: Vec<Statement>) -> Result<Answers, BridgeError> {
        flight.insert(0, lanes::lock_dialog(work.dialog.as_ref().map(|dialog| dialog.id)));
        let mut answers = self.run_as_it_is(flight).await?;
        answers.remove(0);
        Ok(answers)
    }

    /// Runs a flight that locks the dialog it is about by itself.
    async fn run_as_it_is(&self, flight: Vec<Statement>) -> Result<Answers, BridgeError> {
        Ok(self.app.db().run(Scope::Tenant(self.client_id), flight).await?)
    }

    /// Until when nothing can be sent, whatever waits.
    fn hindrance(work: &Work) -> Option<Timestamp> {
        if let Some(until) = work.lane.flood_until.filter(|until| *until > work.lane.now) {
            return Some(until);
        }
        (work.bot.suspended || work.bot.group_chat_id.is_none()).then(|| later(work.lane.now, SUSPENDED_PAUSE))
    }

    async fn step(&self, work: &Work) -> Result<Next, BridgeError> {
        let content = work.posts.first().filter(|post| !cures::only_decorates(&post.kind));
        let decoration = work.posts.first().filter(|post| cures::only_decorates(&post.kind));
        let place = |dialog: &Dialog| match (work.one_chat(), dialog.topic) {
            (Some(_), _) if !dialog.proven => None,
            (Some(target), _) => Some(target),
            (None, Topic::Open { chat_id, thread_id }) => Some(Target { chat_id, thread_id: Some(thread_id) }),
            (None, Topic::None | Topic::Creating { .. }) => None,
        };
        // What is left of a dialog that moved to another bot goes where it was to go, or to the group.
        let (dialog, moved) = match &work.dialog {
            Some(dialog) if dialog.bot_id != self.bot_id => (None, Some(dialog)),
            dialog => (dialog.as_ref(), None),
        };
        if let Some(dialog) = moved.filter(|_| !work.messages.is_empty()) {
            return Ok(Next::Look(moves::hand_over(dialog.id)));
        }
        match (dialog, content, decoration) {
            (Some(dialog), content, _) if content.is_some() || !work.messages.is_empty() => {
                match (place(dialog), content) {
                    (Some(target), Some(post)) => self.finish(work, post, target).await,
                    (Some(target), None) => self.show(work, dialog, target).await,
                    (None, _) if work.one_chat().is_some() => Ok(topics::prove(self, dialog).await),
                    (None, _) => topics::establish(self, work, dialog).await,
                }
            }
            (_, Some(post), _) | (_, _, Some(post)) => {
                let group = Target { chat_id: work.bot.group_chat_id.unwrap_or_default(), thread_id: None };
                let topic = dialog.and_then(place).unwrap_or(group);
                let target = post.chat_id.map_or(topic, |chat_id| Target { chat_id, thread_id: post.thread_id });
                self.finish(work, post, target).await
            }
            (_, None, None) => Ok(Next::Look(Vec::new())),
        }
    }

    /// Composes what waits, writes it all down with the first post begun, and sends that one.
    async fn show(&self, work: &Work, dialog: &Dialog, target: Target) -> Result<Next, BridgeError> {
        let (ready, whole_at) = album::ready(&work.messages, work.lane.now);
        if ready == 0 {
            return Ok(Next::Look(vec![album::gather(dialog.id, whole_at)]));
        }
        if let Some(next) = order::settle(self, dialog, &work.messages[..ready]).await {
            return Ok(next);
        }
        let zone = TimeZone::get(&dialog.timezone).unwrap_or(TimeZone::UTC);
        let mut drafts = compose::drafts(&work.messages[..ready], dialog.last_shown, &zone);
        if work.one_chat().is_some() {
            let whose = compose::name_of(dialog);
            for draft in &mut drafts {
                draft.content = compose::headed(draft.kind, std::mem::take(&mut draft.content), &whose);
            }
        }
        let mut post = Post {
            id: 0,
            kind: drafts[0].kind.to_owned(),
            content: drafts[0].content.clone(),
            begun: false,
            attempts: 0,
            chat_id: None,
            thread_id: None,
        };
        let left = match self.budget_for(work, &post) {
            Ok(left) => left,
            Err(next) => return Ok(next),
        };
        let begins = !attachments::needs_files(&post.kind);
        let mut flight = vec![posts::insert(self.bot_id, self.owner, dialog.id, &drafts, begins)];
        if dialog.topic_closed && cures::reopen(self, target).await {
            flight.push(topics::closed(dialog.id, false));
        }
        let answers = self.run_as_it_is(flight).await?;
        let row = answers.first().and_then(|rows| rows.first()).ok_or(DbError::Shape)?;
        if get(row, "repeated")? {
            return Ok(Next::Look(Vec::new()));
        }
        let Some(id) = get(row, "id")? else { return Ok(Next::Lost) };
        if !begins {
            return Ok(Next::Look(Vec::new()));
        }
        post.id = id;
        Ok(self.send(work, &post, target, left, Files::default()).await)
    }

    /// Begins a post that was written down earlier, and sends it.
    async fn finish(&self, work: &Work, post: &Post, target: Target) -> Result<Next, BridgeError> {
        let mut composed = match self.composed(work, post).await? {
            Composed::AsItIs => None,
            Composed::Now(content) => Some(content),
            Composed::Pointless => return Ok(Next::Look(vec![posts::sent(post.id, Some(Vec::new()))])),
        };
        let mut carried = Vec::new();
        if let Some((both, message_ids)) = composed.as_ref().and_then(|alone| header::under_pressure(work, post, alone))
        {
            (composed, carried) = (Some(both), message_ids);
        }
        if post.kind == "rename" && !work.lane.budget.is_half_free(work.lane.now) {
            return Ok(Next::Look(vec![posts::postpone(post.id, marks::ROOM_PAUSE)]));
        }
        let left = match self.budget_for(work, post) {
            Ok(left) => left,
            Err(next) => return Ok(next),
        };
        let files = match self.prepare(work, post).await {
            Prepared::Ready(files) => files,
            Prepared::Not(outcome) => return Ok(Next::Look(outcome)),
        };
        // What changes nothing when done twice is not begun before the call.
        if !is_repeatable(&post.kind) {
            let flight = vec![
                lanes::keep(self.bot_id, self.owner),
                posts::begin(self.bot_id, self.owner, post.id, post.begun, composed.clone()),
                posts::carry(post.id, carried),
            ];
            let answers = self.run(work, flight).await?;
            if answers.first().is_none_or(Vec::is_empty) {
                return Ok(Next::Lost);
            }
            if answers.get(1).is_none_or(Vec::is_empty) {
                return Ok(Next::Look(Vec::new()));
            }
            if post.begun {
                metrics::counter!("posts_sent_again").increment(1);
            }
        }
        let content = composed.unwrap_or_else(|| post.content.clone());
        Ok(self.send(work, &Post { content, kind: post.kind.clone(), ..*post }, target, left, files).await)
    }

    /// What a post says that was written down before it could be composed. Posts of a topic that is no more say whose they
    /// are.
    async fn composed(&self, work: &Work, post: &Post) -> Result<Composed, BridgeError> {
        let Some(dialog) = &work.dialog else { return Ok(Composed::AsItIs) };
        let has_text = post.content.get("text").is_some();
        let one_chat = work.one_chat().is_some();
        Ok(match post.kind.as_str() {
            kind if is_pointless(kind, dialog, one_chat) => Composed::Pointless,
            "rename" => marks::name(post, dialog).map_or(Composed::Pointless, Composed::Now),
            "header" if !has_text => Composed::Now(header::header(dialog)),
            "replay" if !has_text => {
                replay::compose(self, work, dialog).await?.map_or(Composed::Pointless, Composed::Now)
            }
            kind if one_chat && !post.begun && !cures::only_decorates(kind) && post.content.get("headed").is_none() => {
                Composed::Now(compose::headed(kind, post.content.clone(), &compose::name_of(dialog)))
            }
            _ => Composed::AsItIs,
        })
    }

    /// What a post leaves of its budget, to be written down once it is sent; or what to do while it cannot be.
    fn budget_for(&self, work: &Work, post: &Post) -> Result<Budget, Next> {
        let now = work.lane.now;
        if post.kind == "reaction" {
            let pause = |wait| Next::Look(vec![receipts::pause(self.bot_id, self.owner, later(now, wait))]);
            return work.lane.reactions.take(1, now).map_err(pause);
        }
        let cost = if matches!(post.kind.as_str(), "edit" | "rename") { 1 } else { attachments::cost(post) };
        work.lane.budget.take(cost, now).map_err(|wait| Next::Rest(Vec::new(), later(now, wait)))
    }

    async fn send(&self, work: &Work, post: &Post, target: Target, left: Budget, files: Files<'_>) -> Next {
        let is_reaction = post.kind == "reaction";
        let write_down = if is_reaction { receipts::spend } else { lanes::spend };
        let spent = || write_down(self.bot_id, self.owner, left);
        let answer = self.call(post, target, files).await;
        match answer {
            Ok(message_ids) => {
                let mut outcome = Vec::new();
                if post.kind == "header"
                    && let Some(message_id) = message_ids.first()
                {
                    outcome.push(posts::pin(post.id, *message_id));
                }
                match (post.kind.as_str(), &work.dialog) {
                    ("reaction", _) => {
                        outcome.push(receipts::set(self.bot_id, self.owner, post.id, post.content.clone(), left));
                    }
                    ("close_topic" | "reopen_topic", Some(dialog)) => {
                        outcome.push(topics::closed(dialog.id, post.kind == "close_topic"));
                        outcome.push(posts::sent(post.id, Some(message_ids)));
                    }
                    ("rename", Some(dialog)) => {
                        let mark = post.content["mark"].as_str().unwrap_or_default();
                        outcome.push(marks::shown(dialog.id, mark));
                        outcome.push(posts::sent(post.id, Some(message_ids)));
                    }
                    _ => outcome.extend(attachments::appeared(post, message_ids)),
                }
                if post.kind != "rename" && work.one_chat().is_none() {
                    outcome.extend(work.dialog.as_ref().and_then(marks::owed));
                }
                if self.topics_gone.swap(false, Ordering::Relaxed) {
                    outcome.push(lanes::topics_off(self.bot_id));
                }
                if !is_reaction {
                    outcome.push(spent());
                }
                if work.bot.broken {
                    outcome.push(bots::mark_working(self.bot_id));
                }
                if is_one_message(&post.kind) { Next::Sent(outcome) } else { Next::Look(outcome) }
            }
            Err(error) => {
                tracing::warn!(bot_id = self.bot_id, post_id = post.id, kind = post.kind, %error, "a post was not sent");
                if let telegram::Error::Refused { .. } = error
                    && let Some(mut outcome) = attachments::other_way(post, false).or_else(|| header::plainer(post))
                {
                    outcome.push(spent());
                    return Next::Look(outcome);
                }
                let cost = (!matches!(error, telegram::Error::NotSent(_))).then(spent);
                cures::after(self, work, post, target, error, cost.into_iter().collect()).await
            }
        }
    }
}
