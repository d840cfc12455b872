//! Whom a recorded message sends for: the bot whose lane nobody works for.

mod support;

use jiff::Timestamp;
use serde_json::json;
use support::World;
use tuberry::{
    bridge::record::{Heard, Hearing, record},
    platform::db::{Scope, Statement, get},
};

fn must<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// A buyer's text as a webhook tells of it.
fn said(id: &str) -> Heard {
    Heard {
        id: id.to_owned(),
        own: false,
        system: false,
        kind: "text".to_owned(),
        text: Some("Здравствуйте".to_owned()),
        text_key: Some("Здравствуйте".to_owned()),
        attachments: json!({}),
        created: Timestamp::now(),
        place: 0,
    }
}

#[tokio::test]
async fn who_is_there_already_is_not_sent_for_and_who_is_gone_is() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    let scope = || Scope::Tenant(owner.client);
    let lease = |seconds: f64| {
        Statement::new(
            "UPDATE bot_lanes SET lease_owner = gen_random_uuid(), lease_until = now() + make_interval(secs => $2),
                    drain_at = now() + interval '1 hour'
             WHERE bot_id = $1",
        )
        .bind(bot.id)
        .bind(seconds)
    };
    let mut told = Vec::new();
    for (place, leased) in [(1, None), (2, Some(20.0)), (3, Some(-1.0))] {
        if let Some(seconds) = leased {
            must(world.app.db().query(scope(), lease(seconds)).await);
        }
        let hearing = Hearing {
            account_id: account.id,
            user_id: outside.user_id,
            chat_id: format!("u2i-{place}-{}", account.id),
            messages: vec![said(&format!("{place}-{}", account.id))],
            synced: None,
        };
        let mut flight = record(world.app, &hearing);
        flight.push(
            Statement::new(
                "SELECT drain_at <= now() + interval '10 seconds' AS is_due FROM bot_lanes WHERE bot_id = $1",
            )
            .bind(bot.id),
        );
        let answers = must(world.app.db().run(scope(), flight).await);
        let woken: Vec<(i64, bool)> =
            answers[0].iter().map(|row| (must(get(row, "bot_id")), must(get(row, "held")))).collect();
        told.push((woken, must(get::<bool>(&answers[1][0], "is_due"))));
    }
    assert_eq!(told, [false, true, false].map(|held| (vec![(bot.id, held)], true)));
}
