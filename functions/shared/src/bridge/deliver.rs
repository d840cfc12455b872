//! To Avito: the holder of a dialog's lease sends its parts, one at a time, in order.
//! Never twice, never lost: a part whose outcome is not known is looked for in the chat before it is sent again.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use uuid::Uuid;

use super::{
    BridgeError,
    allowance::{self, Purpose},
    auto_reply,
    blocking::{self, BlockRequest},
    bot_outbox,
    claim::Claim,
    dialog_work::{self, DialogWork, Part, SentPart},
    edits::{self, PartToDelete},
    presses, receipts,
    tasks::{AvitoTask, TelegramTask},
    tenants, text,
    words::{self, Language},
};
use crate::{
    App, avito,
    platform::{
        db::{ClientId, Scope, Statement, get},
        secrets::Secret,
    },
    tenancy::accounts::{self, TokenError},
};

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Nothing is left to do now; whatever waits for its time has its wake-up.
    Done,
    /// Somebody else has the dialog.
    Held,
}

/// An unknown outcome is left alone this long: the message may still appear in Avito's list.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Between two looks in vain.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// Looks in vain after which the part is taken as not sent.
const LOOKS: i32 = 2;
/// Avito's clock and ours may differ by this much.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_secs(10);
/// How many of a chat's newest messages are read to find a part.
const LOOK_BACK: u16 = 100;
/// How long a dialog waits whose account Avito does not let in.
const REFUSED_PAUSE: Duration = Duration::from_secs(300);

pub(super) enum Next {
    /// Write this down and go on with the next part.
    Look(Vec<Statement>),
    /// The same, of what Avito has by now.
    Sent(SentPart),
    /// Write this down and let go for a while.
    Rest(Vec<Statement>, Duration),
}

pub(super) struct Holder<'a> {
    pub(super) app: &'a App,
    pub(super) dialog_id: i64,
    pub(super) owner: Uuid,
    pub(super) client_id: ClientId,
}

/// Works for one dialog until nothing is left, `stop` is reached, or Avito wants a pause. An error is our own Postgres
/// or a secret that does not open; whatever was begun is found again.
pub async fn deliver_dialog(app: &App, dialog_id: i64, stop: Instant) -> Result<Delivered, BridgeError> {
    let owner = Uuid::new_v4();
    let first = dialog_work::claim_dialog_work(dialog_id, owner, Vec::new(), None);
    let scope = tenants::scope(&tenants::OF_DIALOGS, dialog_id, dialog_work::tenant_of);
    let first = app.db().run(scope, first).await?;
    let (mut claim, bot_to_wake) = dialog_work::read(&first)?;
    wake_bot(app, bot_to_wake).await;
    let ends = if matches!(claim, Claim::LeaseTaken) { Delivered::Held } else { Delivered::Done };
    while let Claim::Claimed(work) = claim {
        let holder = Holder { app, dialog_id, owner, client_id: work.keys.client_id };
        tenants::remember(&tenants::OF_DIALOGS, dialog_id, holder.client_id);
        let next = if work.stopped {
            work.rest(Vec::new(), REFUSED_PAUSE)
        } else if Instant::now() >= stop {
            work.rest(Vec::new(), Duration::ZERO)
        } else {
            holder.step(&work).await?
        };
        let woken = match next {
            Next::Look(mut outcome) => {
                // As all that touch both: first the dialog, then the outbox that an outcome wakes.
                if !outcome.is_empty() {
                    outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                }
                let (next, woken) = dialog_work::read(
                    &holder.run(dialog_work::claim_dialog_work(dialog_id, owner, outcome, None)).await?,
                )?;
                claim = next;
                woken
            }
            Next::Sent(sent) => {
                let statements = dialog_work::claim_dialog_work(dialog_id, owner, Vec::new(), Some(sent));
                let (next, woken) = dialog_work::read(&holder.run(statements).await?)?;
                claim = next;
                woken
            }
            Next::Rest(mut outcome, wait) => {
                outcome.insert(0, bot_outbox::lock_dialog(Some(dialog_id)));
                if !wait.is_zero() {
                    outcome.push(receipts::put_waiting_receipts(dialog_id, wait.as_secs_f64()));
                }
                outcome.push(dialog_work::release_for(dialog_id, owner, wait.as_secs_f64()));
                outcome.push(dialog_work::bot_to_wake(dialog_id));
                claim = Claim::Idle { wake_in: Some(wait) };
                woken(&holder.run(outcome).await?)?
            }
        };
        // Not when all is done: whoever has more for the bot meanwhile counts on its being sent for.
        wake_bot(app, woken).await;
    }
    if let Claim::Idle { wake_in: Some(wait) } = claim {
        app.wake(&AvitoTask::V1 { dialog_id }, wait).await;
    }
    Ok(ends)
}

async fn wake_bot(app: &App, bot_id: Option<i64>) {
    if let Some(bot_id) = bot_id {
        app.wake(&TelegramTask::V1 { bot_id }, Duration::ZERO).await;
    }
}

fn woken(results: &[Vec<tokio_postgres::Row>]) -> Result<Option<i64>, BridgeError> {
    let is_bot = |row: &&tokio_postgres::Row| row.columns().iter().any(|column| column.name() == "bot_id");
    Ok(results.iter().flatten().find(is_bot).map(|row| get(row, "bot_id")).transpose()?)
}

impl Holder<'_> {
    pub(super) async fn run(&self, statements: Vec<Statement>) -> Result<crate::platform::db::ResultSets, BridgeError> {
        Ok(self.app.db().run(Scope::Tenant(self.client_id), statements).await?)
    }

    async fn step(&self, work: &DialogWork) -> Result<Next, BridgeError> {
        if let Some(part_to_delete) = &work.part_to_delete {
            return self.remove(work, part_to_delete).await;
        }
        if let Some(block_request) = &work.block_request {
            return self.block(work, block_request).await;
        }
        match &work.part {
            Some(part) if part.begun => self.look_for(work, part).await,
            Some(part) => self.send(work, part).await,
            None if work.mark_read => self.mark_read(work).await,
            None => Ok(Next::Rest(Vec::new(), FIRST_LOOK)),
        }
    }

    /// The token, or what to do without one.
    pub(super) async fn token(&self, work: &DialogWork, refused: Option<&Secret>) -> Result<Secret, Next> {
        let token = match refused {
            None => accounts::access_token(self.app, &work.keys).await,
            Some(refused) => accounts::renewed_token(self.app, &work.keys, refused).await,
        };
        token.map_err(|error| {
            tracing::warn!(dialog_id = self.dialog_id, %error, "there is no token for Avito");
            match error {
                TokenError::Refused(reason) => refused_account(work, reason),
                _ => work.rest(Vec::new(), FIRST_LOOK),
            }
        })
    }

    /// A call that somebody waits for, within what the account may call.
    pub(super) fn within<T>(
        &self,
        work: &DialogWork,
        call: impl Future<Output = Result<avito::Reply<T>, avito::Error>>,
    ) -> impl Future<Output = Result<avito::Reply<T>, avito::Error>> {
        allowance::within(self.app, work.keys.account_id, Purpose::Answer, call)
    }

    async fn send(&self, work: &DialogWork, part: &Part) -> Result<Next, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        if part.auto_reply
            && let Some(next) = self.hold_back(work, part, &token).await?
        {
            return Ok(next);
        }
        if work.lease_ends_too_soon() {
            return Ok(work.rest(Vec::new(), Duration::ZERO));
        }
        if let Some(picture) = &part.picture {
            return self.send_picture(work, part, picture, token).await;
        }
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let call = avito.send_text(&token, user_id, &work.avito_chat_id, &part.text);
        let mut answer = self.telling_who_waits(self.within(work, call)).await;
        if matches!(answer, Err(avito::Error::Unauthorized { .. })) {
            let token = match self.token(work, Some(&token)).await {
                Ok(token) => token,
                Err(next) => return Ok(next),
            };
            if work.lease_ends_too_soon() {
                return Ok(work.rest(Vec::new(), Duration::ZERO));
            }
            answer = self.within(work, avito.send_text(&token, user_id, &work.avito_chat_id, &part.text)).await;
        }
        Ok(match answer {
            Ok(reply) => Next::Sent(SentPart { part_id: part.id, avito_message_id: reply.value.id }),
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, part_id = part.id, %error, "a part was not sent");
                not_sent(work, part, error)
            }
        })
    }

    /// A call that takes long is told of while it lasts.
    pub(super) async fn telling_who_waits<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = std::pin::pin!(call);
        match tokio::time::timeout(receipts::WAITING_RECEIPT_AFTER, &mut call).await {
            Ok(answer) => answer,
            Err(_) => tokio::join!(call, Box::pin(self.tell_who_waits())).0,
        }
    }

    /// 👀 on what waits for Avito right now. It decorates: a failure costs nothing but that.
    async fn tell_who_waits(&self) {
        let told = self
            .run(vec![receipts::put_waiting_receipts(self.dialog_id, 0.0), dialog_work::bot_to_wake(self.dialog_id)])
            .await;
        match told.and_then(|results| woken(&results)) {
            Ok(bot_id) => wake_bot(self.app, bot_id).await,
            Err(error) => tracing::warn!(dialog_id = self.dialog_id, %error, "nobody was told that an answer waits"),
        }
    }

    /// Just before an auto-reply is sent: what to do instead, if somebody answered after all.
    async fn hold_back(&self, work: &DialogWork, part: &Part, token: &Secret) -> Result<Option<Next>, BridgeError> {
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let newest_first = match self
            .within(work, avito.messages(token, user_id, &work.avito_chat_id, LOOK_BACK, 0))
            .await
        {
            Ok(reply) => reply.value,
            Err(avito::Error::Unauthorized { .. }) => {
                let renewed = self.token(work, Some(token)).await;
                return Ok(Some(renewed.map_or_else(|next| next, |_| work.rest(Vec::new(), Duration::ZERO))));
            }
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "a chat could not be read before an auto-reply");
                return Ok(Some(match error {
                    avito::Error::Unknown(_) | avito::Error::Unavailable { .. } => work.rest(Vec::new(), FIRST_LOOK),
                    error => not_sent(work, part, error),
                }));
            }
        };
        if !auto_reply::buyer_waits(&newest_first, user_id) {
            return Ok(Some(Next::Look(auto_reply::cancel(part.id))));
        }
        let results = self.run(vec![auto_reply::hindrance(part.id)]).await?;
        let hindered = results.iter().flatten().next().is_some();
        Ok(hindered.then(|| Next::Look(auto_reply::cancel(part.id))))
    }

    /// Looks for a part of unknown outcome among the chat's newest messages.
    async fn look_for(&self, work: &DialogWork, part: &Part) -> Result<Next, BridgeError> {
        let waited = Duration::try_from(work.now.duration_since(part.since)).unwrap_or_default();
        if let Some(rest) = FIRST_LOOK.checked_sub(waited).filter(|rest| !rest.is_zero()) {
            return Ok(Next::Rest(Vec::new(), rest));
        }
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        let list = avito.messages(&token, work.keys.user_id, &work.avito_chat_id, LOOK_BACK, 0);
        let list = self.within(work, list).await;
        let messages = match list {
            Ok(reply) => reply.value,
            Err(avito::Error::Unauthorized { .. }) => {
                let renewed = self.token(work, Some(&token)).await;
                return Ok(renewed.map_or_else(|next| next, |_| Next::Rest(Vec::new(), Duration::ZERO)));
            }
            Err(error) => {
                tracing::warn!(dialog_id = self.dialog_id, %error, "a chat could not be read back");
                return Ok(Next::Rest(Vec::new(), error.retry_in().unwrap_or(SECOND_LOOK)));
            }
        };
        match self.find(work, part, &messages).await? {
            Some(id) => {
                metrics::counter!("parts_verified_sent").increment(1);
                Ok(Next::Sent(SentPart { part_id: part.id, avito_message_id: id }))
            }
            None if part.verify_attempts + 1 < LOOKS => {
                Ok(Next::Rest(vec![dialog_work::not_found(part.id)], SECOND_LOOK))
            }
            None => {
                let results = self.run(vec![dialog_work::begin_anew(part.id)]).await?;
                if results.iter().flatten().next().is_none() {
                    return Ok(Next::Look(Vec::new())); // its echo came in the meantime
                }
                self.send(work, part).await
            }
        }
    }

    /// The oldest own message that looks like the part, is not older than it, and is nobody else's. Pictures look alike.
    async fn find(
        &self,
        work: &DialogWork,
        part: &Part,
        newest: &[avito::Message],
    ) -> Result<Option<String>, BridgeError> {
        let earliest = part.since.checked_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN).as_second();
        let candidates: Vec<String> = newest
            .iter()
            .rev()
            .filter(|message| message.is_own(work.keys.user_id) && looks_like(part, message))
            .filter(|message| message.created.is_some_and(|created| created >= earliest))
            .map(|message| message.id.clone())
            .collect();
        if candidates.is_empty() {
            return Ok(None);
        }
        let results = self.run(vec![dialog_work::known_ids(work.keys.account_id, candidates.clone())]).await?;
        let known: Vec<String> =
            results.iter().flatten().map(|row| get(row, "avito_message_id")).collect::<Result<_, _>>()?;
        Ok(candidates.into_iter().find(|id| !known.contains(id)))
    }

    /// Takes a part back from Avito. Deleting twice is refused like deleting too late, so then the chat is looked at.
    async fn remove(&self, work: &DialogWork, part_to_delete: &PartToDelete) -> Result<Next, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let (avito, user_id) = (accounts::avito(self.app), work.keys.user_id);
        let (chat_id, message_id) = (&work.avito_chat_id, &part_to_delete.avito_message_id);
        let answer = self.within(work, avito.delete_message(&token, user_id, chat_id, message_id)).await;
        let error = match answer {
            Ok(_) | Err(avito::Error::Refused { status: 404, .. }) => {
                return Ok(Next::Look(vec![edits::removed(part_to_delete.part_id)]));
            }
            Err(error) => error,
        };
        tracing::warn!(dialog_id = self.dialog_id, part_id = part_to_delete.part_id, %error, "a part was not deleted");
        match error {
            avito::Error::Unauthorized { .. } => self.renew(work, &token).await,
            error if error.retry_in().is_some() => Ok(Next::Rest(Vec::new(), error.retry_in().unwrap_or(FIRST_LOOK))),
            error => match self.within(work, avito.messages(&token, user_id, chat_id, LOOK_BACK, 0)).await {
                Ok(list) => {
                    let is_gone =
                        |message: &avito::Message| message.id == *message_id && message.kind == avito::Kind::Deleted;
                    Ok(Next::Look(if list.value.iter().any(is_gone) {
                        vec![edits::removed(part_to_delete.part_id)]
                    } else {
                        edits::kept(part_to_delete.part_id, &avitos_words(error))
                    }))
                }
                Err(error) => Ok(Next::Rest(Vec::new(), error.retry_in().unwrap_or(SECOND_LOOK))),
            },
        }
    }

    /// Has Avito block the buyer. To block twice changes nothing.
    async fn block(&self, work: &DialogWork, block_request: &BlockRequest) -> Result<Next, BridgeError> {
        let Some(buyer_id) = block_request.buyer_id else {
            return Ok(Next::Look(vec![blocking::refused(self.dialog_id, block_request, "")]));
        };
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        match self.within(work, avito.block(&token, work.keys.user_id, buyer_id, block_request.item_id)).await {
            Ok(_) => Ok(Next::Look(vec![blocking::done(self.dialog_id, block_request)])),
            Err(avito::Error::Unauthorized { .. }) => self.renew(work, &token).await,
            Err(error) => Ok(match error.retry_in() {
                Some(wait) => Next::Rest(Vec::new(), wait),
                None => Next::Look(vec![blocking::refused(self.dialog_id, block_request, &avitos_words(error))]),
            }),
        }
    }

    /// A refused token is renewed and the step taken again; what a new token may not do either, is the account's state.
    async fn renew(&self, work: &DialogWork, refused: &Secret) -> Result<Next, BridgeError> {
        Ok(match self.token(work, Some(refused)).await {
            Ok(_) => Next::Rest(Vec::new(), FIRST_LOOK),
            Err(next) => next,
        })
    }

    async fn mark_read(&self, work: &DialogWork) -> Result<Next, BridgeError> {
        let token = match self.token(work, None).await {
            Ok(token) => token,
            Err(next) => return Ok(next),
        };
        let avito = accounts::avito(self.app);
        let call = avito.mark_read(&token, work.keys.user_id, &work.avito_chat_id);
        let answer = allowance::within(self.app, work.keys.account_id, Purpose::Patient, call).await;
        Ok(match answer {
            Err(avito::Error::Unauthorized { .. }) => match self.token(work, Some(&token)).await {
                Ok(_) => Next::Rest(Vec::new(), Duration::ZERO),
                Err(next) => next,
            },
            Err(error) if error.retry_in().is_some() => Next::Rest(Vec::new(), error.retry_in().unwrap_or(FIRST_LOOK)),
            _ => Next::Look(vec![dialog_work::marked_read(self.dialog_id)]),
        })
    }
}

impl DialogWork {
    /// Getting a token took so long that another worker could take the dialog before Avito answers: sending now might
    /// send twice.
    fn lease_ends_too_soon(&self) -> bool {
        self.leased.elapsed() + allowance::REDIS_PART + avito::CALL_TIMEOUT >= dialog_work::LEASE
    }

    /// Lets go for a while. A part that was committed as `sending` and certainly not sent goes back first.
    fn rest(&self, mut outcome: Vec<Statement>, wait: Duration) -> Next {
        if let Some(part) = self.part.as_ref().filter(|part| !part.begun) {
            outcome.insert(0, dialog_work::put_back(part.id));
        }
        Next::Rest(outcome, wait)
    }
}

fn looks_like(part: &Part, message: &avito::Message) -> bool {
    if part.picture.is_some() {
        return message.kind == avito::Kind::Image;
    }
    let text = message.content.text.as_deref().filter(|_| message.kind == avito::Kind::Text);
    text.is_some_and(|text| text::key(text) == part.text_key)
}

/// Avito does not let the account in: rows wait, the owner sees why.
fn refused_account(work: &DialogWork, reason: String) -> Next {
    metrics::counter!("accounts_refused").increment(1);
    work.rest(vec![accounts::mark_refused(work.keys.account_id, "blocked", reason)], REFUSED_PAUSE)
}

/// What Avito says of its refusal, for the people in the topic.
fn avitos_words(error: avito::Error) -> String {
    match error {
        avito::Error::Refused { message, .. }
        | avito::Error::Unauthorized { message, .. }
        | avito::Error::PaymentRequired { message } => message,
        _ => String::new(),
    }
}

pub(super) fn not_sent(work: &DialogWork, part: &Part, error: avito::Error) -> Next {
    let growing = Duration::from_secs(1 << part.attempts.clamp(0, 6));
    match error {
        // A gateway's 5xx may hide a message that was sent, so it is looked for like a lost answer.
        avito::Error::Unknown(_) | avito::Error::Unavailable { .. } => {
            metrics::counter!("avito_outcomes_unknown").increment(1);
            Next::Rest(Vec::new(), FIRST_LOOK)
        }
        avito::Error::NotSent(_) => Next::Rest(vec![dialog_work::put_back(part.id)], growing),
        avito::Error::RateLimited { retry_after } => {
            metrics::counter!("avito_429").increment(1);
            Next::Rest(vec![dialog_work::put_back(part.id)], retry_after)
        }
        avito::Error::Unauthorized { message, .. } | avito::Error::PaymentRequired { message } => {
            metrics::counter!("accounts_refused").increment(1);
            let refused = accounts::mark_refused(work.keys.account_id, "blocked", message);
            Next::Rest(vec![dialog_work::put_back(part.id), refused], REFUSED_PAUSE)
        }
        avito::Error::Refused { message, .. } => {
            metrics::counter!("parts_failed").increment(1);
            let notice = json!({
                "text": format!("{} {message}", words::refused_by_avito(Language::Russian)),
                "reply_markup": presses::failure_buttons(),
            });
            let error = if message.is_empty() { "refused by Avito".to_owned() } else { message };
            Next::Look(dialog_work::failed(part.id, error, &notice))
        }
    }
}
