//! Reads the chats that a poll has planned, one by one. Each is recorded with its cursor in one transaction. One that
//! cannot be read is noted with the time of the next attempt, and the others go on.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    account::{PollError, PolledAccount, Scale},
    cursors::{self, Cursor, Listed},
    pages::{self, MAX_OFFSET, MAX_PAGES},
    plan::ChatToRead,
};
use crate::{
    App, avito,
    bridge::{
        common::{avito_call::AvitoCaller, chat_snapshot::snapshot, wakeups::Wakeups},
        ingest::{
            incoming::{IncomingBatch, IncomingMessage, PolledChat, incoming_message},
            record::{record, show_withheld},
        },
        rows::bot_outbox,
    },
    platform::{
        certainty::Certainty,
        db::{DbError, Scope, Statement},
        limits,
    },
};

/// The most calls for messages of an account in any minute: the others are for answers, and for lists.
pub(super) const MAX_CALLS_A_MINUTE: usize = 20;
/// The time of a poll that is left for storing what it found.
const TIME_TO_STORE: Duration = Duration::from_secs(1);
/// A call that would have less time than this is left to the next poll.
const MIN_CALL_TIME: Duration = Duration::from_secs(2);
/// So many chats in a row whose answers are lost mean that Avito answers for no chat.
const MAX_LOST_ANSWERS: usize = 3;
/// So many chats in a row that Avito refuses mean that it refuses all.
const MAX_REFUSALS: usize = 10;

/// The findings of a poll, chat by chat.
#[derive(Default)]
pub(super) struct Findings {
    /// Own messages that the buyer has read, the newest of each chat.
    pub(super) read: Vec<String>,
    /// Messages that the poll brought.
    pub(super) seen: Vec<String>,
    /// Chats that were read.
    pub(super) chats_read: usize,
}

/// Reads chats for one poll, within its time and its calls.
pub(super) struct ChatReader<'a> {
    app: &'a App,
    account: &'a PolledAccount,
    caller: &'a AvitoCaller<'a>,
    stop: Instant,
    /// The times of the calls for messages in the last minute, seconds since 1970.
    calls: Vec<i64>,
    lost_answers: usize,
    refusals: usize,
    pub(super) findings: Findings,
}

/// The end of reading one chat.
pub(super) enum Outcome {
    /// It is recorded, or noted as failed.
    Done,
    /// The calls or the time do not suffice for it; nothing of it is recorded.
    BrokeOff,
}

/// The messages of a chat after its cursor.
#[derive(Default)]
struct ReadBack {
    /// The messages to record, newest first.
    unseen: Vec<avito::Message>,
    /// Older messages of the pages that were read, which may have been deleted since.
    older: Vec<avito::Message>,
    /// The newest message of all.
    newest: Option<String>,
    /// The newest own message that the buyer has read.
    read: Option<String>,
    /// True if Avito serves no message as old as the cursor, although there is more.
    is_cut: bool,
}

impl<'a> ChatReader<'a> {
    pub(super) fn new(app: &'a App, account: &'a PolledAccount, caller: &'a AvitoCaller<'a>, stop: Instant) -> Self {
        let minute_ago = Timestamp::now().as_second() - 60;
        let calls = account.message_calls.iter().copied().filter(|time| *time > minute_ago).collect();
        Self { app, account, caller, stop, calls, lost_answers: 0, refusals: 0, findings: Findings::default() }
    }

    /// The times of the calls for messages in the last minute.
    pub(super) fn calls(&self) -> Vec<i64> {
        self.calls.clone()
    }

    /// True if a call fits into the time and the calls that are left.
    pub(super) fn may_call(&self) -> bool {
        self.calls.len() < MAX_CALLS_A_MINUTE && Instant::now() + MIN_CALL_TIME + TIME_TO_STORE < self.stop
    }

    /// True if the calls that are left suffice for a chat of any length.
    pub(super) fn may_read_any(&self) -> bool {
        self.calls.len() + MAX_PAGES <= MAX_CALLS_A_MINUTE
    }

    /// Reads one page of a chat. None: no call is left for it. A call that outlasts the poll counts as one without answer.
    pub(super) async fn page(&mut self, chat_id: &str, offset: u16) -> Result<Option<Vec<avito::Message>>, PollError> {
        if !self.may_call() {
            return Ok(None);
        }
        self.calls.push(Timestamp::now().as_second());
        let last = self.stop.checked_sub(TIME_TO_STORE).unwrap_or(self.stop);
        let page = tokio::time::timeout_at(last.into(), pages::messages(self.caller, chat_id, offset)).await;
        page.unwrap_or(Err(PollError::Avito(avito::Error::Unknown(None)))).map(Some)
    }

    /// Reads a chat and records it with its cursor. Its failure is noted, and is no error of the poll. Error: no further
    /// chat can be read now.
    pub(super) async fn read(&mut self, chat: &ChatToRead<'_>) -> Result<Outcome, PollError> {
        let outcome = match self.read_back(chat.id, chat.synced).await {
            Ok(Some(read_back)) => self.record(chat, read_back).await,
            Ok(None) => return Ok(Outcome::BrokeOff),
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                (self.lost_answers, self.refusals) = (0, 0);
                self.findings.chats_read += 1;
                Ok(Outcome::Done)
            }
            Err(error) => {
                if error.scale() == Scale::Chat {
                    self.set_aside(chat, &error).await?;
                }
                self.count_failure(error).map(|()| Outcome::Done)
            }
        }
    }

    /// Notes that a chat could not be read, with what the list shows of it.
    pub(super) async fn set_aside(&mut self, chat: &ChatToRead<'_>, error: &PollError) -> Result<(), PollError> {
        let account_id = self.account.keys.account_id;
        let note = || cursors::fail(account_id, chat.id, chat.listed.clone(), chat.attempts, error);
        self.record_last(chat.chat, chat.id, note).await
    }

    /// Notes that a chat could not be read to confirm its messages. Error: no further chat can be read now.
    pub(super) async fn note_failure(
        &mut self,
        chat_id: &str,
        cursor: &Cursor,
        error: PollError,
    ) -> Result<(), PollError> {
        if error.scale() == Scale::Chat {
            let attempts = cursor.failures.map_or(0, |failures| failures.attempts);
            let account_id = self.account.keys.account_id;
            self.run(vec![cursors::fail(account_id, chat_id, cursor.listed.clone(), attempts, &error)]).await?;
        }
        self.count_failure(error)
    }

    /// Counts failures in a row. Error: it is about the account, or there are so many that it is not about the chats.
    fn count_failure(&mut self, error: PollError) -> Result<(), PollError> {
        if error.scale() == Scale::Account {
            return Err(error);
        }
        tracing::warn!(account_id = self.account.keys.account_id, %error, "a chat was not read");
        metrics::counter!("chats_not_read").increment(1);
        let PollError::Avito(answer) = &error else { return Ok(()) };
        match answer.certainty() {
            Certainty::Refused => self.refusals += 1,
            Certainty::NotDone | Certainty::MaybeDone | Certainty::Done => self.lost_answers += 1,
        }
        let goes_on = self.lost_answers < MAX_LOST_ANSWERS && self.refusals < MAX_REFUSALS;
        if goes_on { Ok(()) } else { Err(PollError::NoChat) }
    }

    /// Records what the list shows of a chat that failed before and may not be tried yet.
    pub(super) async fn record_listed(&mut self, chat: &avito::Chat, listed: Listed) -> Result<(), PollError> {
        let account_id = self.account.keys.account_id;
        let note = || cursors::note_listed(account_id, &chat.id, listed.clone());
        self.record_last(Some(chat), &chat.id, note).await
    }

    /// Records the newest message of a chat as its list shows it, with `note`. What our own database refuses is left
    /// out: only `note` is stored then.
    async fn record_last(
        &mut self,
        chat: Option<&avito::Chat>,
        chat_id: &str,
        note: impl Fn() -> Statement,
    ) -> Result<(), PollError> {
        let account_id = self.account.keys.account_id;
        let batch = chat.and_then(|chat| self.last_message(chat));
        let messages = batch.iter().flat_map(|batch| &batch.messages);
        let shown = messages.map(|message| message.id.clone()).collect();
        let mut statements = vec![cursors::lock_dialog(account_id, chat_id)];
        statements.extend(batch.as_ref().map(|batch| record(self.app, batch)));
        statements.extend(chat.map(|_| show_withheld(account_id, chat_id, shown)));
        statements.extend([note(), cursors::notify_unread(account_id, chat_id)]);
        match self.run(statements).await {
            Err(DbError::Statement(_) | DbError::Constraint { .. } | DbError::Shape) => self.run(vec![note()]).await?,
            outcome => {
                outcome?;
                let messages = batch.into_iter().flat_map(|batch| batch.messages);
                self.findings.seen.extend(messages.map(|message| message.id));
            }
        }
        Ok(())
    }

    /// The newest message of a chat as its list shows it. None: it is not to be recorded.
    fn last_message(&self, chat: &avito::Chat) -> Option<IncomingBatch> {
        let message = chat.last_message.as_ref().filter(|message| self.is_wanted(message) == Some(true))?;
        Some(self.batch(chat.id.clone(), vec![incoming_message(message, self.account.keys.user_id, 0)], Some(chat)))
    }

    fn batch(&self, chat_id: String, messages: Vec<IncomingMessage>, chat: Option<&avito::Chat>) -> IncomingBatch {
        let (buyer, item) = chat.map(|chat| snapshot(chat, self.account.keys.user_id)).unwrap_or_default();
        IncomingBatch {
            account_id: self.account.keys.account_id,
            user_id: self.account.keys.user_id,
            chat_id,
            messages,
            polled: Some(PolledChat { buyer: buyer.unwrap_or_default(), item: item.unwrap_or_default() }),
        }
    }

    /// True if a message is to be recorded: it was written since the account was connected, or was still unread then.
    /// None: it was too old even then. A message without a time counts as new, as it does where it is recorded.
    fn is_wanted(&self, message: &avito::Message) -> Option<bool> {
        let created = message.created.unwrap_or(i64::MAX);
        let is_unread = message.is_read == Some(false) && !self.is_own(message) && !message.is_system();
        (created >= self.account.oldest_unread()).then_some(created >= self.account.started || is_unread)
    }

    fn is_own(&self, message: &avito::Message) -> bool {
        message.is_own(self.account.keys.user_id)
    }

    /// Reads the messages after `synced`, newest first. None: the calls or the time do not suffice.
    async fn read_back(&mut self, chat_id: &str, synced: Option<&str>) -> Result<Option<ReadBack>, PollError> {
        let mut found = ReadBack::default();
        for offset in (0..=MAX_OFFSET).step_by(usize::from(avito::MAX_PAGE_SIZE)) {
            let Some(page) = self.page(chat_id, offset).await? else { return Ok(None) };
            let is_last = page.len() < usize::from(avito::MAX_PAGE_SIZE);
            found.newest = found.newest.or_else(|| page.first().map(|message| message.id.clone()));
            let is_read = |message: &&avito::Message| message.read.is_some() && self.is_own(message);
            found.read = found.read.or_else(|| page.iter().find(is_read).map(|message| message.id.clone()));
            let mut has_end = false;
            for message in page {
                has_end = has_end || synced == Some(message.id.as_str()) || self.is_wanted(&message).is_none();
                match self.is_wanted(&message) {
                    Some(true) if !has_end => found.unseen.push(message),
                    _ => found.older.push(message),
                }
            }
            if has_end || is_last {
                return Ok(Some(found));
            }
        }
        found.is_cut = true;
        Ok(Some(found))
    }

    async fn record(&mut self, chat: &ChatToRead<'_>, read_back: ReadBack) -> Result<(), PollError> {
        let ReadBack { unseen, older, newest, read, is_cut } = read_back;
        let (account_id, user_id) = (self.account.keys.account_id, self.account.keys.user_id);
        let incoming = |messages: &[avito::Message]| -> Vec<IncomingMessage> {
            let oldest_first = (0..).zip(messages.iter().rev());
            oldest_first.map(|(position, message)| incoming_message(message, user_id, position)).collect()
        };
        let mut statements = vec![cursors::lock_dialog(account_id, chat.id)];
        if !unseen.is_empty() {
            statements.push(record(self.app, &self.batch(chat.id.to_owned(), incoming(&unseen), chat.chat)));
        }
        let deleted: Vec<avito::Message> =
            older.into_iter().filter(|message| message.kind == avito::Kind::Deleted).collect();
        if !deleted.is_empty() {
            let messages = serde_json::to_value(incoming(&deleted)).unwrap_or(Value::Array(Vec::new()));
            statements.push(cursors::mark_deleted(account_id, chat.id, messages));
            let ids = deleted.into_iter().map(|message| message.id).collect();
            statements.push(bot_outbox::make_due_for_messages(account_id, ids));
        }
        let seen: Vec<String> = unseen.iter().map(|message| message.id.clone()).collect();
        statements.push(show_withheld(account_id, chat.id, seen.clone()));
        statements.push(cursors::store(account_id, chat.id, chat.listed.clone(), newest));
        if is_cut && let Some(oldest) = unseen.last() {
            limits::count("messages");
            statements.push(cursors::notify_skipped(account_id, chat.id, oldest.id.clone()));
        }
        self.run(statements).await?;
        self.findings.read.extend(read);
        self.findings.seen.extend(seen);
        Ok(())
    }

    /// Runs a transaction for the account's tenant, and wakes those that it made due.
    pub(super) async fn run(&self, statements: Vec<Statement>) -> Result<(), DbError> {
        let results = self.app.db().run(Scope::Tenant(self.account.keys.client_id), statements).await?;
        Wakeups::read(&results)?.wake(self.app).await;
        Ok(())
    }
}
