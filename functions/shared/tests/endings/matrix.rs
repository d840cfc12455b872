//! Every outside call × every outcome of a failure × two scopes: one chat or topic, and the whole account or bot. Each cell lets a
//! call fail for ever and holds the bounds on calls; the rest goes on; after an hour the failure is lifted, and what was promised
//! has arrived, or its end was told. With `ENDINGS_DAYS=1` (`make endings`) a day passes instead of an hour.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tuberry::platform::db::Statement;

use crate::{
    scene::Scene,
    support::{must, variable},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
/// A voice message as Avito has it.
const VOICE: &[u8] = include_bytes!("../fixtures/voice.mp4");
/// Cells that run at the same time.
const CONCURRENT: usize = 3;

/// The ways in which a call fails, one for each outcome.
pub const FAILURES: [(&str, &str); 4] =
    [("403", "status"), ("500", "status"), ("cut after", "reset_after"), ("hang", "hang_before")];

/// Work that leads to a call in chat X.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    Answer,
    LostAnswer,
    BuyerText,
    BuyerPicture,
    BuyerVoice,
    BuyerPlace,
    UnknownChat,
    NewBuyer,
    Deletion,
    Blocking,
    NoToken,
    Post(&'static str),
    Receipt,
    /// An operator sends a picture to the buyer.
    OperatorPicture,
    /// A buyer sends pictures one after the other.
    BuyerAlbum,
    /// A buyer sends a picture that Telegram takes for a document only.
    BuyerDocument,
    /// A buyer sends a place without a name.
    BuyerPin,
    /// Polls go on at their times.
    Polls,
    /// Avito refuses an answer, and it has to be found out if it refuses the account.
    Probe,
    /// Avito has lost our webhook, and the next check finds that out.
    LostWebhook,
    /// The account is switched off.
    SwitchedOff,
    /// The owner is notified of something.
    OwnerNotice,
}

impl Trigger {
    /// True if polls have no part in the work. Hundreds of them would only take time.
    fn is_without_polls(self) -> bool {
        matches!(self, Self::LostWebhook | Self::SwitchedOff | Self::OwnerNotice)
    }

    /// The time in which everything has arrived or ended, from the moment at which nothing hinders it any more.
    fn time_to_arrive(self) -> Duration {
        match self {
            // A new chat that Avito denies is given up at the first question after a day; two of them lie up to 7.2 hours apart.
            Self::UnknownChat => 32 * HOUR,
            // Within its first day a refused account is read again after an hour at the latest.
            Self::Polls => 70 * MINUTE,
            _ => 7 * HOUR,
        }
    }
}

/// The calls, with the work that leads to each.
const AVITO: [(&str, Trigger); 16] = [
    ("messages.send", Trigger::Answer),
    ("messages.list", Trigger::LostAnswer),
    ("chats.get", Trigger::UnknownChat),
    ("chat.read", Trigger::BuyerText),
    ("messages.delete", Trigger::Deletion),
    ("blacklist", Trigger::Blocking),
    ("voices", Trigger::BuyerVoice),
    ("token", Trigger::NoToken),
    ("media", Trigger::BuyerVoice),
    ("images.upload", Trigger::OperatorPicture),
    ("messages.image", Trigger::OperatorPicture),
    ("chats.list", Trigger::Polls),
    ("self", Trigger::Probe),
    ("subscriptions", Trigger::LostWebhook),
    ("webhook.register", Trigger::LostWebhook),
    ("webhook.unsubscribe", Trigger::SwitchedOff),
];
const TELEGRAM: [(&str, Trigger); 19] = [
    ("sendMessage", Trigger::BuyerText),
    ("sendMessage", Trigger::OwnerNotice),
    ("sendMediaGroup", Trigger::BuyerAlbum),
    ("sendDocument", Trigger::BuyerDocument),
    ("sendLocation", Trigger::BuyerPin),
    ("getFile", Trigger::OperatorPicture),
    ("file", Trigger::OperatorPicture),
    ("sendPhoto", Trigger::BuyerPicture),
    ("sendVoice", Trigger::BuyerVoice),
    ("sendVenue", Trigger::BuyerPlace),
    ("createForumTopic", Trigger::NewBuyer),
    ("pinChatMessage", Trigger::NewBuyer),
    ("setMessageReaction", Trigger::Receipt),
    ("editMessageText", Trigger::Post("edit")),
    ("deleteMessage", Trigger::Post("delete")),
    ("editForumTopic", Trigger::Answer),
    ("closeForumTopic", Trigger::Post("close_topic")),
    ("reopenForumTopic", Trigger::Post("reopen_topic")),
    ("deleteForumTopic", Trigger::Post("remove_topic")),
];
/// The calls that can fail in one chat or topic alone, because they name it.
const OF_ONE: [&str; 11] = [
    "messages.send",
    "messages.list",
    "messages.image",
    "chat.read",
    "messages.delete",
    "sendMessage",
    "sendPhoto",
    "sendMediaGroup",
    "sendDocument",
    "sendVoice",
    "sendVenue",
];
/// The calls that a person waits for, who gets the failure as the answer: `connecting.rs` lets them fail.
const ASKED_BY_PEOPLE: [&str; 4] = ["getMe", "getChat", "getChatMember", "setWebhook"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// One chat, or one topic.
    One,
    /// The account, or the bot's group.
    All,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    target: &'static str,
    call: &'static str,
    trigger: Trigger,
    failure: (&'static str, &'static str),
    scope: Scope,
}

impl fmt::Display for Cell {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} · {} · {}", self.target, self.name(), self.failure.0, scope(*self))
    }
}

impl Cell {
    /// The call, and to whom it goes if that is not the group.
    fn name(self) -> String {
        if self.trigger == Trigger::OwnerNotice { format!("{} to an owner", self.call) } else { self.call.to_owned() }
    }
}

impl Scene {
    /// Prepares what a trigger needs, before the failure begins.
    async fn prepare(&mut self, trigger: Trigger, x: &str) {
        let fault = match trigger {
            Trigger::BuyerDocument => {
                let refused =
                    json!({ "ok": false, "error_code": 400, "description": "Bad Request: PHOTO_INVALID_DIMENSIONS" });
                json!({ "target": "telegram", "method": "sendPhoto", "kind": "status", "status": 400, "body": refused,
                        "scope": { "chat_id": self.shop.bot.chat_id } })
            }
            Trigger::Probe => json!({ "target": "avito", "method": "messages.send", "kind": "status", "status": 403,
                                      "scope": { "chat": x } }),
            Trigger::OwnerNotice => return self.owner_starts_the_master_bot().await,
            _ => return,
        };
        self.fault(fault).await;
    }

    /// Does the work that leads to a call in chat X.
    async fn pull(&mut self, trigger: Trigger, x: &str) {
        match trigger {
            Trigger::Answer | Trigger::Probe => self.answer(x, "ответ").await,
            Trigger::LostAnswer => {
                let lost = json!({ "target": "avito", "method": "messages.send", "kind": "reset_before", "times": 1,
                                   "scope": { "chat": x } });
                self.fault(lost).await;
                self.answer(x, "ответ").await;
            }
            Trigger::BuyerText => self.buyer_writes(x, "Вы тут?").await,
            Trigger::BuyerPicture | Trigger::BuyerDocument => self.buyer_sends(x, json!({ "type": "image" })).await,
            Trigger::BuyerVoice => {
                self.buyer_sends(x, json!({ "type": "voice", "voice": STANDARD.encode(VOICE) })).await;
            }
            Trigger::BuyerPlace => {
                let place = json!({ "lat": 55.75, "lon": 37.61, "title": "Москва", "kind": "", "text": "Москва" });
                self.buyer_sends(x, json!({ "type": "location", "location": place })).await;
            }
            Trigger::UnknownChat => self.webhook_reports(&format!("u2i-{}", self.shop.account_id), "Кто это?").await,
            Trigger::NewBuyer => {
                self.buyer_writes_first("Новый", "Есть в наличии?").await;
            }
            Trigger::Deletion => {
                self.answer(x, "ответ").await;
                self.run_for(Duration::from_secs(5)).await;
                let delete = "UPDATE messages SET requested_change = '{}', change_due_at = now(), delete_command_id = 5, origin = 'operator'
                              WHERE direction = 'out'";
                self.query(Statement::new(delete)).await;
                self.query(Statement::new("UPDATE dialogs SET send_at = now()")).await;
            }
            Trigger::Blocking => {
                let block = "UPDATE dialogs SET block_requested_at = now(), send_at = now() WHERE avito_chat_id = $1";
                self.query(Statement::new(block).bind(x.to_owned())).await;
            }
            Trigger::NoToken => {
                self.query(Statement::new("UPDATE avito_accounts SET access_token = NULL")).await;
                self.answer(x, "ответ").await;
            }
            Trigger::Post(kind) => {
                let post = "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, telegram_chat_id, telegram_topic_id, dedup_key)
                            SELECT client_id, bot_id, CASE WHEN $2 <> 'remove_topic' THEN id END, $2,
                                   '{\"message_id\": 1, \"text\": \"да\"}', CASE WHEN $2 = 'remove_topic' THEN telegram_chat_id END,
                                   CASE WHEN $2 = 'remove_topic' THEN 777 END, 'matrix:' || $2
                            FROM dialogs WHERE avito_chat_id = $1";
                self.query(Statement::new(post).bind(x.to_owned()).bind(kind)).await;
                let close = "UPDATE dialogs SET state = 'closed' WHERE avito_chat_id = $1 AND $2 = 'close_topic'";
                self.query(Statement::new(close).bind(x.to_owned()).bind(kind)).await;
                self.query(Statement::new("UPDATE bot_outboxes SET due_at = now()")).await;
            }
            Trigger::Receipt => {
                let reaction = "INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, dedup_key)
                                SELECT client_id, bot_id, id, 'reaction', '{\"message_id\": 1, \"emoji\": \"👌\"}', 'matrix:reaction'
                                FROM dialogs WHERE avito_chat_id = $1";
                self.query(Statement::new(reaction).bind(x.to_owned())).await;
                self.query(Statement::new("UPDATE bot_outboxes SET due_at = now()")).await;
            }
            Trigger::OperatorPicture => self.operator_sends_a_picture(x).await,
            Trigger::BuyerAlbum => {
                for _ in 0..3 {
                    self.buyer_sends(x, json!({ "type": "image" })).await;
                }
            }
            Trigger::BuyerPin => {
                let place = json!({ "lat": 55.75, "lon": 37.61, "title": "", "kind": "", "text": "" });
                self.buyer_sends(x, json!({ "type": "location", "location": place })).await;
            }
            Trigger::Polls => {
                self.buyer_writes(x, "Вы тут?").await;
                self.run_schedules();
            }
            Trigger::LostWebhook => {
                self.lose_webhook().await;
                self.check_webhook_now().await;
            }
            Trigger::SwitchedOff => {
                self.query(Statement::new("UPDATE avito_accounts SET monitoring_enabled = false")).await;
                self.check_webhook_now().await;
            }
            Trigger::OwnerNotice => {
                let notice = "INSERT INTO owner_notices (client_id, dedup_key, text) SELECT id, 'matrix', 'Проверьте бота' FROM clients";
                self.query(Statement::new(notice)).await;
                self.run_schedules_without_polls().await;
            }
        }
    }

    /// Avito forgets our address, without a word.
    async fn lose_webhook(&self) {
        let url =
            format!("{}/_local/avito/subscriptions?user_id={}", variable("STACK_CONTROL"), self.shop.outside.user_id);
        must(self.shop.world.app.outside().delete(url).send().await);
    }

    async fn check_webhook_now(&mut self) {
        self.query(Statement::new("UPDATE avito_accounts SET webhook_check_at = now()")).await;
        self.run_schedules_without_polls().await;
    }

    async fn run_schedules_without_polls(&mut self) {
        self.query(Statement::new("UPDATE account_polls SET next_poll_at = now() + interval '30 days'")).await;
        self.run_schedules();
    }

    /// Returns what a standing duty has not brought about, although nothing hinders it any more.
    async fn undone(&mut self, trigger: Trigger) -> Option<String> {
        let (is_done, what): (&'static str, _) = match trigger {
            Trigger::Polls => (
                "SELECT count(*) FROM messages WHERE text = 'Вы тут?' AND direction = 'in'",
                "no poll found the message",
            ),
            Trigger::LostWebhook => (
                "SELECT count(*) FROM avito_accounts WHERE webhook_state = 'registered' AND webhook_error IS NULL",
                "the webhook is not registered again",
            ),
            Trigger::SwitchedOff => (
                "SELECT count(*) FROM avito_accounts WHERE webhook_state = 'off' AND webhook_error IS NULL",
                "the webhook is not unsubscribed",
            ),
            Trigger::OwnerNotice => (
                "SELECT count(*) FROM owner_notices WHERE sent_at IS NOT NULL OR failed_at IS NOT NULL",
                "the owner's notice is still due",
            ),
            _ => return None,
        };
        (self.number(is_done).await == 0).then(|| what.to_owned())
    }

    async fn buyer_sends(&self, chat: &str, content: Value) {
        let mut message = json!({ "chat": chat, "from": "buyer", "webhook": false });
        for (name, value) in content.as_object().into_iter().flatten() {
            message[name] = value.clone();
        }
        self.shop.world.control("avito/messages", &message).await;
    }

    async fn number(&self, sql: &'static str) -> i64 {
        self.query(Statement::new(sql)).await[0].get(0)
    }

    async fn thread_of(&self, chat: &str) -> i64 {
        let sql = "SELECT coalesce(telegram_topic_id, 0) AS thread FROM dialogs WHERE avito_chat_id = $1";
        self.query(Statement::new(sql).bind(chat.to_owned())).await[0].get("thread")
    }
}

/// Runs one cell. Returns its row of the table, or what does not hold.
async fn run(cell: Cell) -> Result<String, String> {
    let mut scene = Scene::new().await;
    let x = scene.buyer_writes_first("Анна", "Здравствуйте").await;
    let y = scene.buyer_writes_first("Борис", "Добрый день").await;
    scene.poll().await;
    scene.run_for(3 * MINUTE).await;
    scene.forget_calls();
    scene.prepare(cell.trigger, &x).await;
    let began = scene.clock();
    let mut fault = json!({ "target": cell.target, "method": cell.call, "kind": cell.failure.1 });
    if cell.failure.1 == "status" {
        fault["status"] = json!(cell.failure.0.parse::<u16>().unwrap_or_default());
    }
    fault["scope"] = match (cell.target, cell.scope) {
        ("avito", Scope::One) => json!({ "chat": x }),
        ("avito", Scope::All) => json!({ "user_id": scene.shop.outside.user_id }),
        _ if cell.trigger == Trigger::OwnerNotice => json!({ "chat_id": scene.shop.owner.telegram_user_id }),
        (_, Scope::One) => json!({ "chat_id": scene.shop.bot.chat_id, "thread_id": scene.thread_of(&x).await }),
        (_, Scope::All) => json!({ "chat_id": scene.shop.bot.chat_id }),
    };
    let fault = scene.fault(fault).await;
    scene.pull(cell.trigger, &x).await;
    if cell.scope == Scope::One {
        scene.buyer_writes(&y, "А доставка?").await;
        scene.answer(&y, "Да, есть").await;
    }
    if !cell.trigger.is_without_polls() {
        scene.poll().await;
    }
    scene.run_for(Duration::from_secs(30)).await;
    let mut broken = Vec::new();
    if cell.scope == Scope::One {
        // (a) The rest goes on.
        if !scene.posted().iter().any(|text| text.contains("А доставка?")) {
            broken.push("the other chat's words were not shown within 30 s".to_owned());
        }
        if scene.answers_in(&y).await != ["Да, есть"] {
            broken.push("the other chat's answer did not go within 30 s".to_owned());
        }
    }
    scene.run_for(30 * MINUTE / 60 + 29 * MINUTE + 30 * MINUTE).await;
    // (b) Calls stay few.
    let of_call = |to: f64| {
        let calls = scene.calls_of(cell.call);
        calls.iter().filter(|call| call.at >= began && call.at < began + to).count()
    };
    let (minute, hour) = (of_call(60.0), of_call(3600.0));
    let tokens = scene.calls_of("token").len();
    if hour == 0 {
        broken.push("the call was never made".to_owned());
    }
    if minute > 15 || hour > 60 {
        broken.push(format!("{minute} calls in the first minute, {hour} in the first hour"));
    }
    if cell.call != "token" && tokens > 1 {
        broken.push(format!("{tokens} tokens"));
    }
    let mut day = String::new();
    if std::env::var("ENDINGS_DAYS").is_ok() {
        scene.run_for(23 * HOUR).await;
        day = of_call_all(&scene, cell.call).to_string();
        if of_call_all(&scene, cell.call) > 500 {
            broken.push(format!("{day} calls in a day"));
        }
    }
    // (d) Nothing is lost: after the failure is over everything has arrived or has ended, and no end is without a notice.
    scene.lift(fault).await;
    if !cell.trigger.is_without_polls() {
        scene.poll().await;
    }
    scene.run_for(cell.trigger.time_to_arrive()).await;
    broken.extend(scene.undone(cell.trigger).await);
    broken.extend(
        scene
            .called()
            .into_iter()
            .filter(|call| !is_listed(call))
            .map(|(target, method)| format!("{target} {method} was called and is missing from the table")),
    );
    let waiting = "SELECT count(*) FROM messages WHERE status IN ('received', 'sending')";
    let waiting = scene.number(waiting).await;
    if waiting > 0 {
        broken.push(format!("{waiting} messages still wait"));
    }
    let failed = scene.number("SELECT count(*) FROM messages WHERE status = 'failed' AND NOT is_auto_reply").await;
    let posted = scene.posted();
    let notices = posted.iter().filter(|text| text.starts_with(['⚠', '💔', '⏳'])).count();
    // (c) Somebody is notified.
    if failed > 0 && notices == 0 {
        broken.push(format!("{failed} messages ended without a notice"));
    }
    scene.end().await;
    let end = if failed > 0 { "ended, with a notice" } else { "arrived" };
    if broken.is_empty() {
        Ok(format!(
            "| {} | {} | {} | {minute} | {hour} | {day} | {end} | {notices} |",
            cell.name(),
            cell.failure.0,
            scope(cell)
        ))
    } else {
        Err(format!("{cell}: {}", broken.join("; ")))
    }
}

/// True if the table has the call.
fn is_listed((target, method): &(String, String)) -> bool {
    let table: &[(&str, Trigger)] = if target == "avito" { &AVITO } else { &TELEGRAM };
    table.iter().any(|(call, _)| call == method) || ASKED_BY_PEOPLE.contains(&method.as_str())
}

fn scope(cell: Cell) -> &'static str {
    if cell.scope == Scope::One { "one" } else { "all" }
}

fn of_call_all(scene: &Scene, call: &str) -> usize {
    scene.calls_of(call).len()
}

/// Runs the cells of a service in a scope, prints their table, and fails with all cells that do not hold.
async fn run_all(target: &'static str, table: &[(&'static str, Trigger)], scope: Scope) {
    let all = table
        .iter()
        .flat_map(|(call, trigger)| FAILURES.map(|failure| Cell { target, call, trigger: *trigger, failure, scope }));
    let only = std::env::var("ENDINGS_ONLY").unwrap_or_default();
    let cells: Vec<_> = all.filter(|cell| cell.to_string().contains(&only)).collect();
    let outcomes: Vec<_> = stream::iter(cells).map(|cell| Box::pin(run(cell))).buffered(CONCURRENT).collect().await;
    let mut broken = Vec::new();
    for outcome in outcomes {
        match outcome {
            Ok(row) => eprintln!("{row}"),
            Err(why) => broken.push(why),
        }
    }
    assert!(broken.is_empty(), "{} cells do not hold:\n{}", broken.len(), broken.join("\n"));
}

#[tokio::test]
async fn a_call_to_avito_that_fails_in_one_chat_leaves_the_others_alone() {
    run_all("avito", &of_one(&AVITO), Scope::One).await;
}

#[tokio::test]
async fn a_call_to_avito_that_fails_for_an_account_stays_rare_and_ends_or_arrives() {
    run_all("avito", &AVITO[..8], Scope::All).await;
}

#[tokio::test]
async fn a_call_for_files_lists_and_webhooks_that_fails_for_an_account_stays_rare_and_ends_or_arrives() {
    run_all("avito", &AVITO[8..], Scope::All).await;
}

#[tokio::test]
async fn a_call_to_telegram_that_fails_in_one_topic_leaves_the_others_alone() {
    run_all("telegram", &of_one(&TELEGRAM), Scope::One).await;
}

#[tokio::test]
async fn a_call_to_telegram_that_fails_in_a_group_stays_rare_and_ends_or_arrives() {
    run_all("telegram", &TELEGRAM, Scope::All).await;
}

fn of_one(table: &[(&'static str, Trigger)]) -> Vec<(&'static str, Trigger)> {
    let is_of_one = |(call, trigger): &&(&str, Trigger)| OF_ONE.contains(call) && *trigger != Trigger::OwnerNotice;
    table.iter().filter(is_of_one).copied().collect()
}
