//! The faults and their times, drawn from the seed, so that a failing run can be repeated.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::people::{Market, Shop};
use super::processes;
use super::support::Stack;

/// The kinds of function that are killed at random.
const KILLED: [&str; 6] =
    ["-webhook", "deliver-to-telegram", "deliver-to-avito", "poll-accounts", "sweep", "record-intake"];

/// A fault that happens once or a few times, each time at a moment of its own.
#[derive(Clone, Copy, Debug)]
enum Event {
    PostgresRestarts,
    RedisRestarts,
    QueuesAway,
    TopicDeleted,
    GroupMigrates,
    BotThrownOut,
    TokensExpire,
    TopicAnswerLost,
}

const EVENTS: [Event; 12] = [
    Event::PostgresRestarts,
    Event::RedisRestarts,
    Event::QueuesAway,
    Event::TopicDeleted,
    Event::TopicDeleted,
    Event::TopicDeleted,
    Event::GroupMigrates,
    Event::BotThrownOut,
    Event::TokensExpire,
    Event::TokensExpire,
    Event::TopicAnswerLost,
    Event::TopicAnswerLost,
];

/// Lets everything go wrong for as long as the market lasts; all faults have ended when it returns. Returns the number
/// of functions that were killed.
pub(crate) async fn befall(market: &Market, seed: u64) -> usize {
    let standing = standing_faults(market, seed).await;
    let pause = market.size.lasts.div_f64(f64::from(u32::try_from(market.size.kills).expect("a small number")));
    let (killed, ()) = tokio::join!(
        processes::kill(&KILLED, market.size.kills * 5 / 4, pause.mul_f64(0.2)..pause.mul_f64(1.4)),
        events(market, seed)
    );
    for (shop, fault) in standing {
        shop.seller.stack.mend(fault).await;
    }
    assert!(killed >= market.size.kills, "only {killed} were there to be killed");
    killed
}

/// Starts the faults that last all the time: one call in ten fails in one of five ways, one webhook in twenty is lost,
/// and the others come in any order for a while.
async fn standing_faults(market: &Market, seed: u64) -> Vec<(&Shop, u64)> {
    let mut standing = Vec::new();
    for (index, shop) in (0_u64..).zip(&market.shops) {
        let telegram = json!({ "target": "telegram", "scope": { "token": shop.seller.bot_token } });
        let avito = json!({ "target": "avito", "scope": { "user_id": shop.seller.user_id } });
        let mut faults = Vec::new();
        for of in [&telegram, &avito] {
            let how: [(Value, f64); 5] = [
                (json!({ "kind": "status", "status": 429, "retry_after": 1 }), 0.02),
                (json!({ "kind": "status", "status": 500 }), 0.02),
                (json!({ "kind": "status", "status": 502 }), 0.02),
                (json!({ "kind": "reset_before" }), 0.02),
                (json!({ "kind": "reset_after" }), 0.02),
            ];
            faults.extend(how.map(|(how, probability)| (of.clone(), how, probability)));
        }
        faults.push((avito.clone(), json!({ "kind": "webhook_withheld" }), 0.05));
        faults.push((avito, json!({ "kind": "webhook_shuffled", "latency_ms": 1500 }), 0.2));
        for (nth, (mut fault, how, probability)) in (0_u64..).zip(faults) {
            let fields = fault.as_object_mut().expect("an object");
            fields.extend(how.as_object().expect("an object").clone());
            fields.insert("probability".to_owned(), json!(probability));
            fields.insert("seed".to_owned(), json!(seed + index * 100 + nth));
            standing.push((shop, shop.seller.stack.fault(fault).await));
        }
    }
    standing
}

/// Lets each event happen in a slot of its own, in any order; an event that lasts longer goes on beside the others.
async fn events(market: &Market, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut events = EVENTS.repeat(market.size.rounds);
    events.shuffle(&mut dice);
    let slot = market.size.lasts.div_f64(f64::from(u32::try_from(events.len()).expect("a small number")));
    let began = tokio::time::Instant::now();
    let plan: Vec<_> = (0_u32..)
        .zip(events)
        .map(|(index, event)| {
            let at = slot * index + slot.mul_f64(dice.random_range(0.0..0.5));
            (at, market.shops.choose(&mut dice).expect("a shop"), event, StdRng::seed_from_u64(dice.random()))
        })
        .collect();
    join_all(plan.into_iter().map(async |(at, shop, event, mut dice)| {
        tokio::time::sleep_until(began + at).await;
        println!("{:5.1} s: {event:?}", at.as_secs_f64());
        happen(market, shop, event, &mut dice).await;
    }))
    .await;
}

async fn happen(market: &Market, shop: &Shop, event: Event, dice: &mut StdRng) {
    let stack = &shop.seller.stack;
    let group = shop.group.load(Ordering::Relaxed);
    let in_group = |kind: &str| json!({ "target": "telegram", "kind": kind, "scope": { "chat_id": group } });
    match event {
        Event::PostgresRestarts => disturb(stack, &json!({ "restart": "postgres" })).await,
        Event::RedisRestarts => disturb(stack, &json!({ "restart": "redis" })).await,
        Event::QueuesAway => {
            stack.control("queues", &json!({ "away_seconds": 20 })).await;
        }
        Event::TopicDeleted => {
            let find = "SELECT telegram_topic_id FROM dialogs WHERE bot_id = $1 AND telegram_topic_id IS NOT NULL";
            let Some(database) = market.database().await else { return };
            let rows = database.query(find, &[&shop.seller.bot_id]).await.unwrap_or_default();
            if let Some(row) = rows.choose(dice) {
                let mut fault = in_group("topic_deleted");
                fault["thread_id"] = json!(row.get::<_, i64>(0));
                let _ = stack.try_control("faults", &fault).await;
            }
        }
        Event::GroupMigrates => {
            let answer = stack.control("faults", &in_group("migrated")).await;
            shop.group.store(answer["migrate_to_chat_id"].as_i64().expect("an id"), Ordering::Relaxed);
        }
        Event::BotThrownOut => {
            shop.bot_is_out.store(true, Ordering::Relaxed);
            let fault = stack.fault(in_group("kicked")).await;
            tokio::time::sleep(Duration::from_secs(10).min(market.size.lasts / 10)).await;
            stack.mend(fault).await;
            shop.bot_is_out.store(false, Ordering::Relaxed);
        }
        Event::TokensExpire => {
            let fault =
                json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": shop.seller.user_id } });
            stack.fault(fault).await;
        }
        Event::TopicAnswerLost => {
            let mut fault = in_group("reset_after");
            fault["method"] = json!("createForumTopic");
            fault["times"] = json!(1);
            stack.fault(fault).await;
        }
    }
}

async fn disturb(stack: &Stack, what: &Value) {
    let answer = stack.post("/_local/services", None, what).await;
    assert_eq!(answer.status, 200, "{what}: {answer:?}");
}
