//! The wake-up after a recorded message: it is sent unless a worker holds the bot's lease or a wake-up was just sent.

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    bridge::ingest::{
        incoming::{IncomingBatch, IncomingMessage},
        record::record,
    },
    platform::db::{Scope, Statement, get},
};

use crate::support::{World, must};

/// Returns a buyer's text as a webhook reports it.
fn reported(id: &str) -> IncomingMessage {
    IncomingMessage {
        placeholder: false,
        id: id.to_owned(),
        own: false,
        system: false,
        kind: "text".to_owned(),
        text: Some("Здравствуйте".to_owned()),
        text_key: Some("Здравствуйте".to_owned()),
        attachments: json!({}),
        created: Timestamp::now(),
        position: 0,
    }
}

#[tokio::test]
async fn a_bot_is_woken_unless_a_worker_holds_its_lease_or_a_wakeup_was_just_sent() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    let scope = || Scope::Tenant(owner.client);
    // Sets the seconds that the lease still lasts, and the seconds since the outbox is due.
    let outbox = |lease: f64, due_since: f64| {
        Statement::new(
            "UPDATE bot_outboxes SET lease_owner = gen_random_uuid(), lease_until = now() + make_interval(secs => $2),
                    due_at = now() - make_interval(secs => $3)
             WHERE bot_id = $1",
        )
        .bind(bot.id)
        .bind(lease)
        .bind(due_since)
    };
    let (free, leased, in_an_hour) = (-1.0, 20.0, -3600.0);
    let outboxes = [
        (1, None, true),
        (2, Some(outbox(leased, in_an_hour)), false),
        (3, Some(outbox(free, in_an_hour)), true),
        (4, Some(outbox(free, 0.5)), false),
        (5, Some(outbox(free, 2.0)), true),
        // A repeated delivery: the first sender may have died before its wake-up.
        (5, Some(outbox(free, 0.5)), true),
    ];
    let (mut outcomes, mut expected) = (Vec::new(), Vec::new());
    for (number, outbox, is_woken) in outboxes {
        expected.push((is_woken.then_some(bot.id).into_iter().collect(), true));
        let batch = IncomingBatch {
            account_id: account.id,
            user_id: outside.user_id,
            chat_id: format!("u2i-{number}-{}", account.id),
            messages: vec![reported(&format!("{number}-{}", account.id))],
            polled: None,
        };
        // In one transaction: the moment is the same, however slow this machine is.
        let mut statements: Vec<_> = outbox.into_iter().chain([record(world.app, &batch)]).collect();
        statements.push(
            Statement::new(
                "SELECT due_at <= now() + interval '10 seconds' AS is_due FROM bot_outboxes WHERE bot_id = $1",
            )
            .bind(bot.id),
        );
        let result_sets = must(world.app.db().run(scope(), statements).await);
        let [.., recorded, is_due] = &result_sets[..] else { panic!("{result_sets:?}") };
        let woken: Vec<i64> = recorded.iter().map(|row| must(get(row, "bot_id"))).collect();
        outcomes.push((woken, must(get::<bool>(&is_due[0], "is_due"))));
    }
    assert_eq!(outcomes, expected);
}
