//! The auto-reply and the filters, from a buyer's message to what Avito and Telegram got, and their settings.

mod support;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, civil::Time, tz::TimeZone};
use serde_json::{Value, json};
use support::{OutsideAccount, OutsideBot, Owner, World, variable};
use tuberry::{
    bridge::{
        auto_reply, polls,
        record::{IncomingBatch, IncomingMessage, PolledChat, record},
        sweep::sweep,
        text,
        window::Window,
    },
    platform::{
        db::{Scope, Statement},
        secrets::Secret,
    },
    tenancy::clients::{self, Settings},
};

fn must<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// A seller with an active auto-reply, and one chat.
struct Shop {
    world: World,
    owner: Owner,
    bot: OutsideBot,
    account_id: i64,
    account: OutsideAccount,
    chat: String,
}

const REPLY: &str = "Здравствуйте! Ответим утром.";

fn always(settings: &mut Settings) {
    settings.auto_reply_enabled = true;
    settings.auto_reply_always = true;
    REPLY.clone_into(&mut settings.auto_reply_text);
}

type Edit = fn(&mut Settings);

/// A message as the webhook or the poll hands it over.
fn heard(kind: &str, text: &str, seconds_ago: i64) -> IncomingMessage {
    let created = must(Timestamp::now().checked_sub(SignedDuration::from_secs(seconds_ago)));
    IncomingMessage {
        id: format!("m{}", World::new_id()),
        own: kind == "own",
        system: kind == "system",
        kind: "text".to_owned(),
        text: Some(text.to_owned()),
        text_key: Some(text::key(text)),
        attachments: json!({ "text": text }),
        created: must(Timestamp::from_second(created.as_second())),
        position: 0,
    }
}

impl Shop {
    async fn new() -> Self {
        Self::of(World::new()).await
    }

    async fn of(world: World) -> Self {
        let owner = world.owner().await;
        let (bot_row, bot) = world.bot(&owner).await;
        let (account_row, account) = world.account(&owner, bot_row.id).await;
        let body = json!({
            "user_id": account.user_id, "buyer": { "name": "Анна" },
            "item": { "id": World::new_id(), "title": "Стол", "price_string": "12 000 ₽", "url": "https://www.avito.ru/1", "city": "Москва" },
        });
        let chat = world.control("avito/chats", &body).await["chat_id"].as_str().unwrap_or_default().to_owned();
        let shop = Self { world, owner, bot, account_id: account_row.id, account, chat };
        shop.set(always).await;
        shop
    }

    async fn set(&self, edit: impl Fn(&mut Settings)) {
        must(clients::change(self.world.app, self.owner.client, self.owner.user_id, edit, |_, _| Vec::new()).await);
    }

    /// Somebody writes in Avito.
    async fn write(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat, "from": from, "text": text });
        self.world.control("avito/messages", &body).await;
    }

    /// As [`Shop::write`], but no webhook tells.
    async fn write_silently(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat, "from": from, "text": text, "webhook": false });
        self.world.control("avito/messages", &body).await;
    }

    /// Records messages as a webhook does, or as a poll.
    async fn hear(&self, messages: Vec<IncomingMessage>, by_poll: bool) {
        let synced =
            PolledChat { buyer: json!({ "name": "Анна" }), item: Value::Null, last_message_id: None, updated: 1 };
        let hearing = IncomingBatch {
            account_id: self.account_id,
            user_id: self.account.user_id,
            chat_id: self.chat.clone(),
            messages,
            polled: by_poll.then_some(synced),
        };
        must(self.world.app.db().run(Scope::Tenant(self.owner.client), record(self.world.app, &hearing)).await);
    }

    /// The dialog's id, its mark, and when an auto-reply was sent last.
    async fn dialog(&self) -> Option<(i64, Option<Timestamp>, Option<Timestamp>)> {
        let statement = Statement::new(
            "SELECT id, auto_reply_scheduled_at, auto_reply_last_sent_at FROM dialogs WHERE avito_chat_id = $1",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat.clone())).await;
        rows.first().map(|row| (row.get(0), row.get(1), row.get(2)))
    }

    async fn mark(&self) -> Option<Timestamp> {
        self.dialog().await.and_then(|(_, mark, _)| mark)
    }

    /// What the account wrote in the chat, whoever wrote it for the account, oldest first.
    async fn answers(&self) -> Vec<String> {
        let chats = self.world.ask(&format!("avito/chats?chat={}", self.chat)).await;
        let messages = chats["chats"][0]["messages"].as_array().cloned().unwrap_or_default();
        let own = messages.iter().filter(|message| message["direction"] == "out");
        own.map(|message| message["content"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The texts of the group's topics, and the newest topic.
    async fn topic(&self) -> (Vec<String>, Option<i64>) {
        let answer = self.world.ask(&format!("telegram/topics?chat_id={}", self.bot.chat_id)).await;
        let topics = answer["topics"].as_array().cloned().unwrap_or_default();
        let of = |topic: &Value| topic["messages"].as_array().cloned().unwrap_or_default();
        let texts = topics.iter().flat_map(of).filter_map(|message| message["text"].as_str().map(str::to_owned));
        (texts.collect(), topics.iter().filter_map(|topic| topic["thread_id"].as_i64()).max())
    }

    async fn shown(&self, part: &str) -> usize {
        self.topic().await.0.iter().filter(|text| text.contains(part)).count()
    }

    /// `(origin, status, needs_post)` of the dialog's messages, oldest first.
    async fn rows(&self) -> Vec<(String, String, bool)> {
        let statement = Statement::new(
            "SELECT m.origin, m.status, m.needs_post FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE d.avito_chat_id = $1 ORDER BY m.id",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat.clone())).await;
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    async fn answers_become(&self, expected: &[&str]) {
        let since = Instant::now();
        while self.answers().await != expected {
            assert!(since.elapsed() < Duration::from_secs(25), "{:?}", self.answers().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until the mark is set.
    async fn asked(&self) -> Timestamp {
        let since = Instant::now();
        loop {
            if let Some(mark) = self.mark().await {
                return mark;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "no auto-reply was scheduled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the mark is set, and moves it by an hour: whatever follows comes before its time, however slow this
    /// machine is. Gives the dialog's id and the mark.
    async fn asked_for_later(&self) -> (i64, Timestamp) {
        self.asked().await;
        let put_off = Statement::new(
            "UPDATE dialogs SET auto_reply_scheduled_at = auto_reply_scheduled_at + interval '1 hour'
             WHERE avito_chat_id = $1 AND auto_reply_scheduled_at IS NOT NULL
             RETURNING id, auto_reply_scheduled_at",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), put_off.bind(self.chat.clone())).await;
        (rows[0].get(0), rows[0].get(1))
    }

    /// Waits until the mark is gone.
    async fn unasked(&self) {
        let since = Instant::now();
        while self.mark().await.is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "the mark stays");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_shown(&self, part: &str) {
        let since = Instant::now();
        while self.shown(part).await == 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "{part} is not shown: {:?}", self.topic().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// How long the stack lets people answer.
fn delay() -> Duration {
    Duration::from_secs(must(variable("AUTO_REPLY_DELAY_SECONDS").parse()))
}

/// Longer than an auto-reply takes that is still to come.
async fn let_time_pass() {
    tokio::time::sleep(delay() + Duration::from_secs(5)).await;
}

// The rule in Postgres and in Rust

#[tokio::test]
async fn postgres_and_rust_know_the_same_intervals() {
    const ZONES: [&str; 8] = [
        "Europe/Moscow",
        "Europe/Kaliningrad",
        "Asia/Vladivostok",
        "Europe/Berlin",
        "America/St_Johns",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Pacific/Apia",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: i64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        i64::try_from(state >> 1).unwrap_or_default() % below
    };
    let (first, last) =
        (must("2010-01-01T00:00:00Z".parse::<Timestamp>()), must("2035-01-01T00:00:00Z".parse::<Timestamp>()));
    let mut cases = Vec::new();
    for zone_name in ZONES {
        let zone = must(TimeZone::get(zone_name));
        let changes: Vec<_> =
            zone.following(first).map(|change| change.timestamp()).take_while(|at| *at < last).collect();
        for number in 0..1500 {
            let at = if number % 3 == 0 || changes.is_empty() {
                first.as_second() + random(last.as_second() - first.as_second())
            } else {
                let change =
                    changes[usize::try_from(random(i64::try_from(changes.len()).unwrap_or(1))).unwrap_or_default()];
                change.as_second() + random(100_000) - 50_000
            };
            let near = number % 2 == 0;
            let mut time = || {
                let minutes = if near { random(240) } else { random(1440) };
                Time::constant(
                    i8::try_from(minutes / 60).unwrap_or_default(),
                    i8::try_from(minutes % 60).unwrap_or_default(),
                    0,
                    0,
                )
            };
            let (start, end) = (time(), time());
            cases.push((zone_name, random(5) == 0, start, end, must(Timestamp::from_second(at))));
        }
    }
    let asked: Vec<Value> = cases
        .iter()
        .map(|(zone, always, start, end, at)| json!({ "zone": zone, "always": always, "starts": start, "ends": end, "at": at }))
        .collect();
    let statement = Statement::new(
        "SELECT i.begins_at, i.ends_at
         FROM jsonb_array_elements($1) WITH ORDINALITY AS listed (element, place)
         CROSS JOIN LATERAL jsonb_to_record(element) AS asked (zone text, always boolean, starts time, ends time, at timestamptz)
         LEFT JOIN LATERAL auto_reply_interval(always, starts, ends, zone, at) AS i ON true
         ORDER BY place",
    );
    let rows = World::new().query(Scope::Service, statement.bind(Value::Array(asked))).await;
    assert_eq!(rows.len(), cases.len(), "a moment lies within one interval at most");
    let mut active = 0;
    for (row, case) in rows.iter().zip(&cases) {
        let (zone, always, start, end, at) = case;
        let window =
            Window { enabled: true, always: *always, start: *start, end: *end, zone: must(TimeZone::get(zone)) };
        let begins: Option<Timestamp> = row.get(0);
        let in_postgres = begins.zip(row.get::<_, Option<Timestamp>>(1));
        assert_eq!(in_postgres, window.active(*at), "{case:?}");
        active += usize::from(in_postgres.is_some());
    }
    assert!(active > cases.len() / 4);
}

// Through the whole stack

#[tokio::test]
async fn a_buyer_whom_nobody_answers_hears_once_and_the_topic_sees_it() {
    let shop = Shop::new().await;
    shop.write("buyer", "Ещё продаёте?").await;
    let mark = shop.asked().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    shop.write("buyer", "Ау?").await;
    shop.until_shown("Ау?").await;
    assert!(shop.mark().await.is_none_or(|later| later == mark), "a second message changed the time");
    shop.answers_become(&[REPLY]).await;
    assert!(Timestamp::now() >= mark, "it was sent before its time");
    shop.until_shown("🤖 Автоответчик:").await;
    shop.write("buyer", "Понятно, жду").await;
    shop.until_shown("Понятно, жду").await;
    assert_eq!(shop.mark().await, None, "one was sent in this interval");
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.shown("Автоответчик").await, 1);
    assert_eq!(shop.shown("Вы ответили в Avito").await, 0);
    let auto: Vec<_> = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").collect();
    assert_eq!(auto, [("auto_reply".to_owned(), "sent".to_owned(), true)]);
}

#[tokio::test]
async fn an_answer_in_the_topic_before_its_time_cancels() {
    let shop = Shop::of(World::new()).await;
    shop.write("buyer", "Ещё продаёте?").await;
    let (dialog_id, mark) = shop.asked_for_later().await;
    shop.until_shown("Ещё продаёте?").await;
    let thread = shop.topic().await.1;
    let body = json!({ "chat_id": shop.bot.chat_id, "thread_id": thread, "text": "Да, приезжайте" });
    shop.world.control("telegram/messages", &body).await;
    shop.answers_become(&["Да, приезжайте"]).await;
    assert_eq!(shop.mark().await, None);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, mark).await), "somebody had answered");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn an_answer_in_avitos_app_before_its_time_cancels() {
    let shop = Shop::new().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.asked().await;
    shop.write("seller_app", "Да, продаю").await;
    shop.until_shown("Вы ответили в Avito").await;
    assert_eq!(shop.mark().await, None);
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
}

#[tokio::test]
async fn an_answer_that_nobody_told_of_is_seen_just_before_the_call() {
    let shop = Shop::new().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.asked().await;
    shop.write_silently("seller_app", "Да, продаю").await;
    shop.unasked().await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
    assert_eq!(shop.shown("Автоответчик").await, 0);
    let rows = shop.rows().await;
    assert!(rows.contains(&("auto_reply".to_owned(), "failed".to_owned(), false)), "{rows:?}");
    let (_, _, last) = shop.dialog().await.unwrap_or_default();
    assert_eq!(last, None, "what was not sent does not count for the interval");
    shop.write("buyer", "А завтра?").await;
    shop.answers_become(&["Да, продаю", REPLY]).await;
}

#[tokio::test]
async fn an_auto_reply_whose_outcome_is_unknown_arrives_once() {
    let shop = Shop::new().await;
    let fault = json!({ "target": "avito", "method": "messages.send", "scope": { "chat": shop.chat }, "kind": "reset_after", "times": 1 });
    shop.world.control("faults", &fault).await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.answers_become(&[REPLY]).await;
    shop.until_shown("🤖 Автоответчик:").await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.shown("Автоответчик").await, 1);
}

// Scheduling and the deciding moment, without waiting

/// A world whose delay is long, so that the stack's own queue does not come in between.
fn slow_world() -> World {
    World::with(&[("AUTO_REPLY_DELAY_SECONDS", "75")])
}

#[tokio::test]
async fn a_buyers_fresh_message_sets_the_mark_to_the_delay_from_now() {
    let shop = Shop::of(slow_world()).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 0)], false).await;
    let in_seconds = shop.asked().await.duration_since(Timestamp::now()).as_secs_f64();
    assert!((70.0..=75.0).contains(&in_seconds), "{in_seconds}");
}

#[tokio::test]
async fn what_asks_for_no_answer_sets_no_mark() {
    let cases: [(&str, i64, Edit); 6] = [
        ("system", 0, |_| ()),
        ("buyer", 601, |_| ()),
        ("own", 0, |_| ()),
        ("buyer", 0, |settings| settings.auto_reply_enabled = false),
        ("buyer", 0, |settings| "торг".clone_into(&mut settings.filter_keywords)),
        ("buyer", 0, |settings| {
            settings.auto_reply_always = false;
            settings.auto_reply_start_time = settings.auto_reply_end_time.clone();
        }),
    ];
    for (kind, seconds_ago, edit) in cases {
        let shop = Shop::of(slow_world()).await;
        shop.set(edit).await;
        shop.hear(vec![heard(kind, "Торг возможен?", seconds_ago)], false).await;
        assert_eq!(shop.mark().await, None, "{kind} {seconds_ago}");
    }
}

#[tokio::test]
async fn what_was_unread_when_the_account_was_connected_is_not_answered() {
    let shop = Shop::of(slow_world()).await;
    shop.world.query(Scope::Tenant(shop.owner.client), polls::start_polling(shop.account_id)).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 60)], true).await;
    assert_eq!(shop.mark().await, None);
    shop.hear(vec![heard("buyer", "Ау?", 0)], true).await;
    shop.asked().await;
}

#[tokio::test]
async fn a_message_heard_again_after_the_answer_sets_no_mark() {
    let shop = Shop::of(slow_world()).await;
    let question = heard("buyer", "Ещё продаёте?", 5);
    shop.hear(vec![question.clone()], false).await;
    shop.asked().await;
    shop.hear(vec![heard("own", "Да", 0)], false).await;
    assert_eq!(shop.mark().await, None);
    shop.hear(vec![question], true).await;
    assert_eq!(shop.mark().await, None);
    // An answer in the topic empties the mark and stands nowhere in Avito yet.
    let shop = Shop::of(slow_world()).await;
    let question = heard("buyer", "Ещё продаёте?", 5);
    shop.hear(vec![question.clone()], false).await;
    shop.asked().await;
    shop.world.query(Scope::Tenant(shop.owner.client), auto_reply::cancel_all_scheduled()).await;
    shop.hear(vec![question.clone()], false).await;
    shop.hear(vec![question], true).await;
    assert_eq!(shop.mark().await, None);
}

#[tokio::test]
async fn an_older_answer_heard_late_leaves_the_mark_and_an_answered_message_sets_none() {
    let shop = Shop::of(slow_world()).await;
    shop.hear(vec![heard("buyer", "А цвет?", 5)], false).await;
    let mark = shop.asked().await;
    shop.hear(vec![heard("own", "Да, продаю", 60)], true).await;
    assert_eq!(shop.mark().await, Some(mark));
    let shop = Shop::of(slow_world()).await;
    shop.hear(vec![heard("own", "Да, продаю", 5)], false).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 60)], true).await;
    assert_eq!(shop.mark().await, None);
}

#[tokio::test]
async fn an_answer_a_moment_before_its_time_leaves_the_task_nothing_to_do() {
    let shop = Shop::of(slow_world()).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 1)], false).await;
    let mark = shop.asked().await;
    let (dialog_id, ..) = shop.dialog().await.unwrap_or_default();
    shop.hear(vec![heard("own", "Да", 0)], false).await;
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, mark).await));
    shop.hear(vec![heard("buyer", "А завтра?", 0)], false).await;
    assert_ne!(shop.asked().await, mark);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, mark).await), "an older task finds another mark");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn of_two_tasks_for_one_mark_one_sends() {
    let shop = Shop::of(slow_world()).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 0)], false).await;
    let (mark, dialog) = (shop.asked().await, shop.dialog().await.unwrap_or_default().0);
    let other = slow_world();
    let sent = tokio::join!(auto_reply::send(shop.world.app, dialog, mark), auto_reply::send(other.app, dialog, mark));
    assert_eq!(usize::from(must(sent.0)) + usize::from(must(sent.1)), 1);
    let auto = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").count();
    assert_eq!(auto, 1);
}

#[tokio::test]
async fn settings_are_looked_at_again_when_the_time_has_come() {
    let edits: [Edit; 2] = [
        |settings| settings.auto_reply_enabled = false,
        |settings| {
            settings.auto_reply_always = false;
            settings.auto_reply_start_time = settings.auto_reply_end_time.clone();
        },
    ];
    for edit in edits {
        let shop = Shop::of(slow_world()).await;
        shop.hear(vec![heard("buyer", "Ещё продаёте?", 0)], false).await;
        let (mark, dialog) = (shop.asked().await, shop.dialog().await.unwrap_or_default().0);
        shop.set(edit).await;
        assert!(!must(auto_reply::send(shop.world.app, dialog, mark).await));
        assert_eq!(shop.mark().await, None);
    }
}

#[tokio::test]
async fn the_sweep_sends_what_nobody_was_woken_for() {
    let shop = Shop::new().await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 0)], false).await;
    shop.write_silently("buyer", "Ещё продаёте?").await;
    shop.asked().await;
    let late = Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = now() - interval '3 minutes' WHERE avito_chat_id = $1",
    );
    shop.world.query(Scope::Tenant(shop.owner.client), late.bind(shop.chat.clone())).await;
    assert!(must(sweep(shop.world.app).await).auto_replies >= 1);
    shop.answers_become(&[REPLY]).await;
}

// Filters

#[tokio::test]
async fn filtered_messages_are_kept_and_not_shown() {
    let shop = Shop::of(slow_world()).await;
    shop.set(|settings| {
        "казино, КРИПТА\nудалённая работа".clone_into(&mut settings.filter_keywords);
        settings.hide_system_messages = true;
    })
    .await;
    for text in ["Лучшее КАЗИНО города", "крипта?", "Есть Удалённая Работа"]
    {
        shop.hear(vec![heard("buyer", text, 0)], false).await;
    }
    shop.hear(vec![heard("system", "[Системное сообщение] Осторожно", 0)], false).await;
    assert_eq!(shop.mark().await, None);
    let filtered = |origin: &str| (origin.to_owned(), "filtered".to_owned(), false);
    assert_eq!(shop.rows().await, [filtered("buyer"), filtered("buyer"), filtered("buyer"), filtered("system")]);
    shop.hear(vec![heard("buyer", "Удалённо не работаете?", 0)], false).await;
    shop.hear(vec![heard("own", "Казино не здесь", 0)], false).await;
    let rows = shop.rows().await;
    assert_eq!(
        rows[4..].iter().map(|(origin, _, needs_post)| (origin.as_str(), *needs_post)).collect::<Vec<_>>(),
        [("buyer", true), ("avito_app", true)]
    );
}

#[tokio::test]
async fn a_filtered_message_never_reaches_the_topic() {
    let shop = Shop::new().await;
    shop.set(|settings| "казино".clone_into(&mut settings.filter_keywords)).await;
    shop.write("buyer", "Казино ждёт").await;
    shop.write("buyer", "А стол есть?").await;
    shop.until_shown("А стол есть?").await;
    assert_eq!(shop.shown("Казино").await, 0);
}

// Settings over HTTP

struct Api {
    token: Secret,
}

impl Api {
    async fn of(world: &World, owner: &Owner) -> Self {
        Self { token: must(world.sign_in(owner.telegram_user_id, "Ольга").await).tokens.access }
    }

    async fn call(&self, world: &World, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}/api/clients/me", variable("STACK_API"));
        let request = match body {
            Some(body) => world.app.outside().patch(url).json(body),
            None => world.app.outside().get(url),
        };
        let answer = must(request.bearer_auth(self.token.expose()).send().await);
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

#[tokio::test]
async fn an_owner_reads_and_changes_the_settings_and_each_change_is_noted() {
    let world = World::new();
    let owner = world.owner().await;
    let api = Api::of(&world, &owner).await;
    let (status, before) = api.call(&world, None).await;
    assert_eq!(
        (status, &before["auto_reply_start_time"], &before["auto_reply_timezone"]),
        (200, &json!("22:00"), &json!("Europe/Moscow"))
    );
    let change = json!({
        "name": " Столы ", "auto_reply_enabled": true, "auto_reply_start_time": "21:30", "auto_reply_timezone": "Asia/Vladivostok",
        "auto_reply_text": "Ответим утром", "filter_keywords": "казино", "hide_system_messages": true, "mark_read": false,
        "canned_replies": { "цена": "Цена окончательная." }, "unknown": 1,
    });
    let (status, after) = api.call(&world, Some(&change)).await;
    assert_eq!(status, 200, "{after}");
    assert_eq!(after["name"], "Столы");
    assert_eq!(after["auto_reply_end_time"], before["auto_reply_end_time"]);
    assert_eq!(api.call(&world, None).await, (200, after.clone()));
    assert_eq!(api.call(&world, Some(&json!({}))).await, (200, after));
    let address = must(tuberry::platform::db::parse_address(&variable("DATABASE_URL")));
    let (database, connection) = must(address.connect(tokio_postgres::NoTls).await);
    tokio::spawn(connection);
    let sql =
        "SELECT details->'name'->>'after', details->'auto_reply_enabled'->>'before', details ? 'auto_reply_always'
               FROM audit_log WHERE client_id = $1 AND user_id = $2 AND action = 'client.update'";
    let rows = must(database.query(sql, &[&owner.client.0, &owner.user_id]).await);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].get(0), rows[0].get(1), rows[0].get::<_, bool>(2)), ("Столы", "false", false));
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused_and_nothing_changes() {
    let world = World::new();
    let owner = world.owner().await;
    let api = Api::of(&world, &owner).await;
    let before = api.call(&world, None).await;
    for (body, field) in [
        (json!({ "auto_reply_start_time": "24:00" }), "auto_reply_start_time"),
        (json!({ "auto_reply_end_time": "9:00" }), "auto_reply_end_time"),
        (json!({ "auto_reply_timezone": "Europe/Moskau" }), "auto_reply_timezone"),
        (json!({ "auto_reply_text": "я".repeat(1001) }), "auto_reply_text"),
        (json!({ "auto_reply_enabled": true, "auto_reply_text": "  " }), "auto_reply_text"),
        (json!({ "auto_reply_enabled": true }), "auto_reply_text"),
        (json!({ "auto_reply_text": "a\u{0}b" }), "auto_reply_text"),
        (json!({ "name": " " }), "name"),
        (json!({ "canned_replies": { "два слова": "x" } }), "canned_replies"),
        (json!({ "canned_replies": { "a": "я".repeat(1001) } }), "canned_replies"),
        (json!({ "canned_replies": { "a".repeat(33): "x" } }), "canned_replies"),
    ] {
        let (status, problem) = api.call(&world, Some(&body)).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{body} {problem}");
    }
    assert_eq!(api.call(&world, None).await, before);
}

#[tokio::test]
async fn a_manager_reads_the_settings_and_may_not_change_them() {
    let world = World::new();
    let owner = world.owner().await;
    let statement = Statement::new("UPDATE users SET role = 'manager' WHERE id = $1").bind(owner.user_id);
    world.query(Scope::Identity, statement).await;
    let api = Api::of(&world, &owner).await;
    assert_eq!(api.call(&world, None).await.0, 200);
    assert_eq!(api.call(&world, Some(&json!({ "name": "Моё" }))).await.0, 403);
    let stranger = Api { token: Secret::new("nobody's") };
    assert_eq!(stranger.call(&world, None).await.0, 401);
}

#[tokio::test]
async fn switching_off_and_on_again_forgets_what_was_to_be_sent() {
    let shop = Shop::of(slow_world()).await;
    let api = Api::of(&shop.world, &shop.owner).await;
    shop.hear(vec![heard("buyer", "Ещё продаёте?", 0)], false).await;
    let mark = shop.asked().await;
    let change = async |body: Value| assert_eq!(api.call(&shop.world, Some(&body)).await.0, 200);
    change(json!({ "auto_reply_enabled": true, "auto_reply_text": "Скоро ответим" })).await;
    assert_eq!(shop.mark().await, Some(mark), "nothing was switched");
    change(json!({ "auto_reply_enabled": false })).await;
    assert_eq!(shop.mark().await, None);
    change(json!({ "auto_reply_enabled": true })).await;
    assert_eq!(shop.mark().await, None);
    shop.hear(vec![heard("buyer", "Ау?", 0)], false).await;
    shop.asked().await;
}
