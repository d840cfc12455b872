//! Whom a recorded message sends for: the bot whose outbox nobody works for, and for which nobody was just sent.

mod support;

use jiff::Timestamp;
use serde_json::json;
use support::World;
use tuberry::{
    bridge::record::{IncomingBatch, IncomingMessage, record},
    platform::db::{Scope, Statement, get},
};

fn must<T, E: std::fmt::Display>(outcome: Result<T, E>) -> T {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// A buyer's text as a webhook tells of it.
fn said(id: &str) -> IncomingMessage {
    IncomingMessage {
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
async fn who_is_there_or_was_just_sent_for_is_not_sent_for_and_who_is_gone_is() {
    let world = World::new();
    let owner = world.owner().await;
    let (bot, _) = world.bot(&owner).await;
    let (account, outside) = world.account(&owner, bot.id).await;
    let scope = || Scope::Tenant(owner.client);
    // Whether somebody has the outbox, seconds; and since when it is due, seconds.
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
    let (nobody, somebody, in_an_hour) = (-1.0, 20.0, -3600.0);
    let outboxes = [
        (1, None, false),
        (2, Some(outbox(somebody, in_an_hour)), true),
        (3, Some(outbox(nobody, in_an_hour)), false),
        (4, Some(outbox(nobody, 0.5)), true),
        (5, Some(outbox(nobody, 2.0)), false),
        // Told once more: whoever told of it first may have died before sending for anybody.
        (5, Some(outbox(nobody, 0.5)), false),
    ];
    let (mut told, mut expected) = (Vec::new(), Vec::new());
    for (place, outbox, is_sent_for) in outboxes {
        expected.push((vec![(bot.id, is_sent_for)], true));
        let hearing = IncomingBatch {
            account_id: account.id,
            user_id: outside.user_id,
            chat_id: format!("u2i-{place}-{}", account.id),
            messages: vec![said(&format!("{place}-{}", account.id))],
            polled: None,
        };
        // In one transaction: the moment is the same, whatever this machine does meanwhile.
        let mut statements: Vec<_> = outbox.into_iter().chain(record(world.app, &hearing)).collect();
        statements.push(
            Statement::new(
                "SELECT due_at <= now() + interval '10 seconds' AS is_due FROM bot_outboxes WHERE bot_id = $1",
            )
            .bind(bot.id),
        );
        let answers = must(world.app.db().run(scope(), statements).await);
        let [.., recorded, is_due] = answers.as_slice() else { panic!("{answers:?}") };
        let woken: Vec<(i64, bool)> =
            recorded.iter().map(|row| (must(get(row, "bot_id")), must(get(row, "sent_for")))).collect();
        told.push((woken, must(get::<bool>(&is_due[0], "is_due"))));
    }
    assert_eq!(told, expected);
}
