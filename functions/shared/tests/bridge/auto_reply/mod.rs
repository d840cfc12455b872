//! The auto-reply and the filters, from a buyer's message to the calls to Avito and Telegram, and their settings.

mod window;

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp, civil::Time, tz::TimeZone};
use serde_json::{Value, json};
use tuberry::{
    bridge::{
        auto_reply,
        ingest::{
            incoming::{IncomingBatch, IncomingMessage, PolledChat},
            polls,
            record::record,
        },
        sweep::sweep,
        text_split,
    },
    platform::{
        db::{Scope, Statement},
        secrets::Secret,
    },
    tenancy::clients::{self, Settings},
};

use self::window::Window;
use crate::support::{Owner, World, must, shop::Shop, variable};

const REPLY: &str = "Здравствуйте! Ответим утром.";

fn always(settings: &mut Settings) {
    settings.auto_reply_enabled = true;
    settings.auto_reply_always = true;
    REPLY.clone_into(&mut settings.auto_reply_text);
}

type Edit = fn(&mut Settings);

/// Returns a message as the webhook or the poll hands it over.
fn incoming(kind: &str, text: &str, seconds_ago: i64) -> IncomingMessage {
    let created = must(Timestamp::now().checked_sub(SignedDuration::from_secs(seconds_ago)));
    IncomingMessage {
        id: format!("m{}", World::new_id()),
        own: kind == "own",
        system: kind == "system",
        kind: "text".to_owned(),
        text: Some(text.to_owned()),
        text_key: Some(text_split::key(text)),
        attachments: json!({ "text": text }),
        created: must(Timestamp::from_second(created.as_second())),
        position: 0,
    }
}

impl Shop {
    /// A shop with an active auto-reply.
    async fn replying() -> Self {
        Self::replying_in(World::new()).await
    }

    /// As [`Shop::replying`], in this world.
    async fn replying_in(world: World) -> Self {
        let shop = Self::of(world).await;
        shop.set(always).await;
        shop
    }

    async fn set(&self, edit: impl Fn(&mut Settings)) {
        must(clients::change(self.world.app, self.owner.client, self.owner.user_id, edit, |_, _| Vec::new()).await);
    }

    /// Writes in the chat in Avito.
    async fn write(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat().await, "from": from, "text": text });
        self.world.control("avito/messages", &body).await;
    }

    /// As [`Shop::write`], but without a webhook.
    async fn write_silently(&self, from: &str, text: &str) {
        let body = json!({ "chat": self.chat().await, "from": from, "text": text, "webhook": false });
        self.world.control("avito/messages", &body).await;
    }

    /// Records messages as a webhook does, or as a poll.
    async fn receive(&self, messages: Vec<IncomingMessage>, by_poll: bool) {
        let polled =
            PolledChat { buyer: json!({ "name": "Анна" }), item: Value::Null, last_message_id: None, updated: 1 };
        let batch = IncomingBatch {
            account_id: self.account_id,
            user_id: self.outside.user_id,
            chat_id: self.chat().await,
            messages,
            polled: by_poll.then_some(polled),
        };
        must(self.world.app.db().run(Scope::Tenant(self.owner.client), vec![record(self.world.app, &batch)]).await);
    }

    /// Reads the dialog's id, the time of its scheduled auto-reply and the time of the last one that was sent.
    async fn dialog(&self) -> Option<(i64, Option<Timestamp>, Option<Timestamp>)> {
        let statement = Statement::new(
            "SELECT id, auto_reply_scheduled_at, auto_reply_last_sent_at FROM dialogs WHERE avito_chat_id = $1",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat().await)).await;
        rows.first().map(|row| (row.get(0), row.get(1), row.get(2)))
    }

    async fn scheduled_at(&self) -> Option<Timestamp> {
        self.dialog().await.and_then(|(_, scheduled_at, _)| scheduled_at)
    }

    /// Lists the account's texts in the chat, of any origin, oldest first.
    async fn answers(&self) -> Vec<String> {
        let chats = self.world.ask(&format!("avito/chats?chat={}", self.chat().await)).await;
        let messages = chats["chats"][0]["messages"].as_array().cloned().unwrap_or_default();
        let own = messages.iter().filter(|message| message["direction"] == "out");
        own.map(|message| message["content"]["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Lists the texts of the group's topics, and finds the newest topic.
    async fn topic(&self) -> (Vec<String>, Option<i64>) {
        let answer = self.world.ask(&format!("telegram/topics?chat_id={}", self.bot.chat_id)).await;
        let topics = answer["topics"].as_array().cloned().unwrap_or_default();
        let of = |topic: &Value| topic["messages"].as_array().cloned().unwrap_or_default();
        let texts = topics.iter().flat_map(of).filter_map(|message| message["text"].as_str().map(str::to_owned));
        (texts.collect(), topics.iter().filter_map(|topic| topic["thread_id"].as_i64()).max())
    }

    async fn count_posts(&self, part: &str) -> usize {
        self.topic().await.0.iter().filter(|text| text.contains(part)).count()
    }

    /// Reads `(origin, status, needs_post)` of the dialog's messages, oldest first.
    async fn rows(&self) -> Vec<(String, String, bool)> {
        let statement = Statement::new(
            "SELECT m.origin, m.status, m.needs_post FROM messages m JOIN dialogs d ON d.id = m.dialog_id
             WHERE d.avito_chat_id = $1 ORDER BY m.id",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), statement.bind(self.chat().await)).await;
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    async fn answers_become(&self, expected: &[&str]) {
        let since = Instant::now();
        while self.answers().await != expected {
            assert!(since.elapsed() < Duration::from_secs(25), "{:?}", self.answers().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until an auto-reply is scheduled; returns its time.
    async fn scheduled(&self) -> Timestamp {
        let since = Instant::now();
        loop {
            if let Some(scheduled_at) = self.scheduled_at().await {
                return scheduled_at;
            }
            assert!(since.elapsed() < Duration::from_secs(10), "no auto-reply was scheduled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until an auto-reply is scheduled, and moves it by an hour: the test's next steps come before its time,
    /// however slow this machine is. Returns the dialog's id and the auto-reply's time.
    async fn scheduled_later(&self) -> (i64, Timestamp) {
        self.scheduled().await;
        let put_off = Statement::new(
            "UPDATE dialogs SET auto_reply_scheduled_at = auto_reply_scheduled_at + interval '1 hour'
             WHERE avito_chat_id = $1 AND auto_reply_scheduled_at IS NOT NULL
             RETURNING id, auto_reply_scheduled_at",
        );
        let rows = self.world.query(Scope::Tenant(self.owner.client), put_off.bind(self.chat().await)).await;
        (rows[0].get(0), rows[0].get(1))
    }

    /// Waits until no auto-reply is scheduled.
    async fn unscheduled(&self) {
        let since = Instant::now();
        while self.scheduled_at().await.is_some() {
            assert!(since.elapsed() < Duration::from_secs(20), "the auto-reply stays scheduled");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn until_posted(&self, part: &str) {
        let since = Instant::now();
        while self.count_posts(part).await == 0 {
            assert!(since.elapsed() < Duration::from_secs(20), "{part} is not posted: {:?}", self.topic().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The time that the stack gives people to answer.
fn delay() -> Duration {
    Duration::from_secs(must(variable("AUTO_REPLY_DELAY_SECONDS").parse()))
}

/// Waits until any auto-reply that was still to come has arrived.
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
async fn a_buyer_without_an_answer_gets_one_auto_reply_and_the_topic_shows_it() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    let scheduled_at = shop.scheduled().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    shop.write("buyer", "Ау?").await;
    shop.until_posted("Ау?").await;
    assert!(shop.scheduled_at().await.is_none_or(|later| later == scheduled_at), "a second message changed the time");
    shop.answers_become(&[REPLY]).await;
    assert!(Timestamp::now() >= scheduled_at, "it was sent before its time");
    shop.until_posted("🤖 Автоответчик:").await;
    shop.write("buyer", "Понятно, жду").await;
    shop.until_posted("Понятно, жду").await;
    assert_eq!(shop.scheduled_at().await, None, "one was sent in this interval");
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.count_posts("Автоответчик").await, 1);
    assert_eq!(shop.count_posts("Вы ответили в Avito").await, 0);
    let auto: Vec<_> = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").collect();
    assert_eq!(auto, [("auto_reply".to_owned(), "sent".to_owned(), true)]);
}

#[tokio::test]
async fn an_answer_in_the_topic_before_its_time_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    let (dialog_id, scheduled_at) = shop.scheduled_later().await;
    shop.until_posted("Ещё продаёте?").await;
    let thread = shop.topic().await.1;
    let body = json!({ "chat_id": shop.bot.chat_id, "thread_id": thread, "text": "Да, приезжайте" });
    shop.world.control("telegram/messages", &body).await;
    shop.answers_become(&["Да, приезжайте"]).await;
    assert_eq!(shop.scheduled_at().await, None);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await), "the operator had answered");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn an_answer_in_avitos_app_before_its_time_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    shop.write("seller_app", "Да, продаю").await;
    shop.until_posted("Вы ответили в Avito").await;
    assert_eq!(shop.scheduled_at().await, None);
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
}

#[tokio::test]
async fn an_answer_without_a_webhook_is_found_just_before_the_call_and_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    shop.write_silently("seller_app", "Да, продаю").await;
    shop.unscheduled().await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
    assert_eq!(shop.count_posts("Автоответчик").await, 0);
    let rows = shop.rows().await;
    assert!(rows.contains(&("auto_reply".to_owned(), "failed".to_owned(), false)), "{rows:?}");
    let (_, _, last) = shop.dialog().await.unwrap_or_default();
    assert_eq!(last, None, "an auto-reply that was not sent does not count for the interval");
    shop.write("buyer", "А завтра?").await;
    shop.answers_become(&["Да, продаю", REPLY]).await;
}

#[tokio::test]
async fn an_auto_reply_whose_outcome_is_unknown_arrives_once() {
    let shop = Shop::replying().await;
    let fault = json!({ "target": "avito", "method": "messages.send", "scope": { "chat": shop.chat().await }, "kind": "reset_after", "times": 1 });
    shop.world.control("faults", &fault).await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.answers_become(&[REPLY]).await;
    shop.until_posted("🤖 Автоответчик:").await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.count_posts("Автоответчик").await, 1);
}

// Scheduling, and the decision when the time has come, without waiting

/// A world with a long delay, so that the stack's own queue does not come in between.
fn slow_world() -> World {
    World::with(&[("AUTO_REPLY_DELAY_SECONDS", "75")])
}

#[tokio::test]
async fn a_buyers_new_message_schedules_an_auto_reply_after_the_delay() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    let in_seconds = shop.scheduled().await.duration_since(Timestamp::now()).as_secs_f64();
    assert!((70.0..=75.0).contains(&in_seconds), "{in_seconds}");
}

#[tokio::test]
async fn a_message_that_needs_no_answer_schedules_no_auto_reply() {
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
        let shop = Shop::replying_in(slow_world()).await;
        shop.set(edit).await;
        shop.receive(vec![incoming(kind, "Торг возможен?", seconds_ago)], false).await;
        assert_eq!(shop.scheduled_at().await, None, "{kind} {seconds_ago}");
    }
}

#[tokio::test]
async fn a_message_unread_when_the_account_was_connected_gets_no_auto_reply() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.world.query(Scope::Tenant(shop.owner.client), polls::start_polling(shop.account_id)).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 60)], true).await;
    assert_eq!(shop.scheduled_at().await, None);
    shop.receive(vec![incoming("buyer", "Ау?", 0)], true).await;
    shop.scheduled().await;
}

#[tokio::test]
async fn a_message_received_again_after_the_answer_schedules_no_auto_reply() {
    let shop = Shop::replying_in(slow_world()).await;
    let question = incoming("buyer", "Ещё продаёте?", 5);
    shop.receive(vec![question.clone()], false).await;
    shop.scheduled().await;
    shop.receive(vec![incoming("own", "Да", 0)], false).await;
    assert_eq!(shop.scheduled_at().await, None);
    shop.receive(vec![question], true).await;
    assert_eq!(shop.scheduled_at().await, None);
    // An answer in the topic cancels the auto-reply before Avito has the answer.
    let shop = Shop::replying_in(slow_world()).await;
    let question = incoming("buyer", "Ещё продаёте?", 5);
    shop.receive(vec![question.clone()], false).await;
    shop.scheduled().await;
    shop.world.query(Scope::Tenant(shop.owner.client), auto_reply::cancel_all_scheduled()).await;
    shop.receive(vec![question.clone()], false).await;
    shop.receive(vec![question], true).await;
    assert_eq!(shop.scheduled_at().await, None);
}

#[tokio::test]
async fn an_older_answer_received_late_cancels_no_auto_reply_and_an_answered_message_schedules_none() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "А цвет?", 5)], false).await;
    let scheduled_at = shop.scheduled().await;
    shop.receive(vec![incoming("own", "Да, продаю", 60)], true).await;
    assert_eq!(shop.scheduled_at().await, Some(scheduled_at));
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("own", "Да, продаю", 5)], false).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 60)], true).await;
    assert_eq!(shop.scheduled_at().await, None);
}

#[tokio::test]
async fn an_answer_a_moment_before_the_auto_replys_time_leaves_the_task_nothing_to_do() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 1)], false).await;
    let scheduled_at = shop.scheduled().await;
    let (dialog_id, ..) = shop.dialog().await.unwrap_or_default();
    shop.receive(vec![incoming("own", "Да", 0)], false).await;
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await));
    shop.receive(vec![incoming("buyer", "А завтра?", 0)], false).await;
    assert_ne!(shop.scheduled().await, scheduled_at);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await), "an older task finds another time");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn of_two_tasks_for_one_scheduled_auto_reply_one_sends() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    let (scheduled_at, dialog) = (shop.scheduled().await, shop.dialog().await.unwrap_or_default().0);
    let other = slow_world();
    let sent = tokio::join!(
        auto_reply::send(shop.world.app, dialog, scheduled_at),
        auto_reply::send(other.app, dialog, scheduled_at)
    );
    assert_eq!(usize::from(must(sent.0)) + usize::from(must(sent.1)), 1);
    let auto = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").count();
    assert_eq!(auto, 1);
}

#[tokio::test]
async fn settings_are_read_again_when_the_time_has_come() {
    let edits: [Edit; 2] = [
        |settings| settings.auto_reply_enabled = false,
        |settings| {
            settings.auto_reply_always = false;
            settings.auto_reply_start_time = settings.auto_reply_end_time.clone();
        },
    ];
    for edit in edits {
        let shop = Shop::replying_in(slow_world()).await;
        shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
        let (scheduled_at, dialog) = (shop.scheduled().await, shop.dialog().await.unwrap_or_default().0);
        shop.set(edit).await;
        assert!(!must(auto_reply::send(shop.world.app, dialog, scheduled_at).await));
        assert_eq!(shop.scheduled_at().await, None);
    }
}

#[tokio::test]
async fn the_sweep_sends_an_auto_reply_whose_wakeup_was_lost() {
    let shop = Shop::replying().await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    shop.write_silently("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    let late = Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = now() - interval '3 minutes' WHERE avito_chat_id = $1",
    );
    shop.world.query(Scope::Tenant(shop.owner.client), late.bind(shop.chat().await)).await;
    assert!(must(sweep(shop.world.app).await).auto_replies >= 1);
    shop.answers_become(&[REPLY]).await;
}

// Filters

#[tokio::test]
async fn filtered_messages_are_stored_and_not_posted() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.set(|settings| {
        "казино, КРИПТА\nудалённая работа".clone_into(&mut settings.filter_keywords);
        settings.hide_system_messages = true;
    })
    .await;
    for text in ["Лучшее КАЗИНО города", "крипта?", "Есть Удалённая Работа"]
    {
        shop.receive(vec![incoming("buyer", text, 0)], false).await;
    }
    shop.receive(vec![incoming("system", "[Системное сообщение] Осторожно", 0)], false).await;
    assert_eq!(shop.scheduled_at().await, None);
    let filtered = |origin: &str| (origin.to_owned(), "filtered".to_owned(), false);
    assert_eq!(shop.rows().await, [filtered("buyer"), filtered("buyer"), filtered("buyer"), filtered("system")]);
    shop.receive(vec![incoming("buyer", "Удалённо не работаете?", 0)], false).await;
    shop.receive(vec![incoming("own", "Казино не здесь", 0)], false).await;
    let rows = shop.rows().await;
    assert_eq!(
        rows[4..].iter().map(|(origin, _, needs_post)| (origin.as_str(), *needs_post)).collect::<Vec<_>>(),
        [("buyer", true), ("avito_app", true)]
    );
}

#[tokio::test]
async fn a_filtered_message_never_reaches_the_topic() {
    let shop = Shop::replying().await;
    shop.set(|settings| "казино".clone_into(&mut settings.filter_keywords)).await;
    shop.write("buyer", "Казино ждёт").await;
    shop.write("buyer", "А стол есть?").await;
    shop.until_posted("А стол есть?").await;
    assert_eq!(shop.count_posts("Казино").await, 0);
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
    let stranger = Api { token: Secret::new("unknown") };
    assert_eq!(stranger.call(&world, None).await.0, 401);
}

#[tokio::test]
async fn switching_off_and_on_again_cancels_scheduled_auto_replies() {
    let shop = Shop::replying_in(slow_world()).await;
    let api = Api::of(&shop.world, &shop.owner).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    let scheduled_at = shop.scheduled().await;
    let change = async |body: Value| assert_eq!(api.call(&shop.world, Some(&body)).await.0, 200);
    change(json!({ "auto_reply_enabled": true, "auto_reply_text": "Скоро ответим" })).await;
    assert_eq!(shop.scheduled_at().await, Some(scheduled_at), "nothing was switched");
    change(json!({ "auto_reply_enabled": false })).await;
    assert_eq!(shop.scheduled_at().await, None);
    change(json!({ "auto_reply_enabled": true })).await;
    assert_eq!(shop.scheduled_at().await, None);
    shop.receive(vec![incoming("buyer", "Ау?", 0)], false).await;
    shop.scheduled().await;
}
