//! A recorded message schedules an auto-reply or none.

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use serde_json::{Value, json};
use tuberry::{
    bridge::{auto_reply, ingest::polls},
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
