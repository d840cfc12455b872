//! A recorded message schedules an auto-reply or none.

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use serde_json::{Value, json};
use tuberry::{
    bridge::{
        auto_reply,
        ingest::{incoming::IncomingMessage, polls},
    },
    platform::db::{Scope, Statement},
};

use super::{Edit, incoming, slow_world, window::Window};
use crate::support::{World, must, shop::Shop};

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
    shop.world.query(Scope::Tenant(shop.owner.client), polls::start_polling(shop.outside.user_id)).await;
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

impl Shop {
    async fn has_state(&self, state: &'static str) {
        let set = Statement::new(
            "UPDATE dialogs SET state = $2, auto_reply_scheduled_at = NULL,
                    blocked_at = CASE $2 WHEN 'blocked' THEN now() - interval '1 minute' END
             WHERE avito_account_id = $1",
        );
        self.world.query(Scope::Tenant(self.owner.client), set.bind(self.account_id).bind(state)).await;
    }

    async fn state(&self) -> String {
        let read = Statement::new("SELECT state FROM dialogs WHERE avito_account_id = $1").bind(self.account_id);
        self.world.query(Scope::Tenant(self.owner.client), read).await[0].get(0)
    }
}

#[tokio::test]
async fn a_message_that_is_reported_again_before_it_is_posted_undoes_no_answer() {
    let shop = Shop::new().await;
    let question = incoming("buyer", "Ещё есть?", 20);
    shop.receive(vec![question.clone()], false).await;
    assert_eq!(shop.state().await, "waiting");
    shop.has_state("answered").await;

    shop.receive(vec![question.clone()], true).await;
    shop.receive(vec![question], false).await;

    assert_eq!(shop.state().await, "answered");
    shop.receive(vec![incoming("buyer", "А стул?", 5)], false).await;
    assert_eq!(shop.state().await, "waiting");
}

#[tokio::test]
async fn a_question_that_comes_after_its_answer_in_avitos_app_waits_for_none() {
    let shop = Shop::new().await;
    shop.receive(vec![incoming("own", "Да, есть", 5)], false).await;
    assert_eq!(shop.state().await, "answered");

    shop.receive(vec![incoming("buyer", "Ещё есть?", 20)], false).await;

    assert_eq!(shop.state().await, "answered");
}

#[tokio::test]
async fn what_is_no_question_of_a_buyer_asks_for_no_auto_reply() {
    let shop = Shop::replying_in(slow_world()).await;
    for kind in ["call", "appCall", "deleted"] {
        let message = IncomingMessage { kind: kind.to_owned(), text: None, ..incoming("buyer", "", 0) };
        shop.receive(vec![message], false).await;
        assert_eq!(shop.scheduled_at().await, None, "{kind}");
    }
    shop.receive(vec![incoming("buyer", "Ещё есть?", 0)], false).await;
    assert!(shop.scheduled_at().await.is_some());
}

#[tokio::test]
async fn a_blocked_buyer_stays_blocked_until_avito_reports_something_that_was_written_later() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Привет", 180)], false).await;
    shop.has_state("blocked").await;

    shop.receive(vec![incoming("buyer", "Куда пропали?", 120)], true).await;
    assert_eq!((shop.state().await.as_str(), shop.scheduled_at().await), ("blocked", None));
    shop.receive(vec![incoming("own", "Больше не пишите", 10)], true).await;
    assert_eq!(shop.state().await, "blocked");

    shop.receive(vec![incoming("buyer", "Спасибо, что разблокировали", 0)], false).await;
    assert_eq!(shop.state().await, "waiting");
    assert!(shop.scheduled_at().await.is_some());
}

#[tokio::test]
async fn an_operators_words_to_a_blocked_buyer_answer_nobody_and_to_any_other_they_do() {
    let shop = Shop::new().await;
    shop.receive(vec![incoming("buyer", "Ещё есть?", 60)], false).await;
    let topic = "INSERT INTO dialog_topics (bot_id, telegram_chat_id, telegram_topic_id, client_id, dialog_id)
                 SELECT bot_id, $2, 7, client_id, id FROM dialogs WHERE avito_account_id = $1";
    let scope = || Scope::Tenant(shop.owner.client);
    shop.world.query(scope(), Statement::new(topic).bind(shop.account_id).bind(shop.bot.chat_id)).await;
    let writes = async |message_id: i64| {
        let part = json!([{ "position": 0, "text": "Есть", "text_key": "Есть" }]);
        let store = Statement::new(
            "SELECT stored.dialog_id FROM dialogs d CROSS JOIN LATERAL sql.store_operator_message(
                 _bot_id => d.bot_id, _telegram_chat_id => $2, _thread_id => 7, _telegram_message_id => $3, _kind => 'text',
                 _text => 'Есть', _author_name => 'Ольга', _telegram_user_id => 1, _parts => $4, _refusal => NULL,
                 _caption => NULL, _caption_parts => '[]', _media_group_id => NULL, _album_wait_seconds => 0,
                 _reply_to_message_id => NULL, _is_forum => true, _unowned_notice => '{}', _left_group_notice => '{}',
                 _is_new => true, _is_edit => false) AS stored
             WHERE d.avito_account_id = $1",
        );
        let store = store.bind(shop.account_id).bind(shop.bot.chat_id).bind(message_id).bind(part);
        assert_eq!(shop.world.query(scope(), store).await.len(), 1, "it goes to Avito all the same");
    };

    shop.has_state("blocked").await;
    writes(70).await;
    assert_eq!(shop.state().await, "blocked");
    shop.has_state("waiting").await;
    writes(71).await;
    assert_eq!(shop.state().await, "answered");
}
