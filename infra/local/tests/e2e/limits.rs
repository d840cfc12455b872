//! Telegram's limits, as strict as the real ones: messages wait in rows for as long as it takes, and arrive complete
//! and in order.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::support::{Call, LATER, SOON, Seller, database, numbered, variable, wait_until};

/// Sets the limits: twenty messages a minute into this seller's group, thirty calls a second by the bot.
async fn set_limits(seller: &Seller) {
    seller.stack.control("limits", &json!({ "telegram": true, "chat_id": seller.group })).await;
}

/// Lets Telegram refuse the bot's next message and order it to wait so many seconds.
async fn rate_limit(seller: &Seller, seconds: u32) {
    let fault = json!({
        "target": "telegram", "method": "sendMessage", "kind": "status", "status": 429, "retry_after": seconds,
        "times": 1, "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(fault).await;
}

/// Waits until the bot was ordered to wait; returns the calls to the group after it.
async fn calls_after_the_429(seller: &Seller, since: u64) -> Vec<Call> {
    wait_until(SOON, "the order to wait", async || {
        let calls = seller.telegram_calls(since).await;
        let refused = calls.iter().position(|call| call.status == 429)?;
        Some(calls[refused + 1..].to_vec())
    })
    .await
}

/// Moves the clocks of the bot's outbox forward by this many seconds, and sweeps.
async fn time_passes(seller: &Seller, seconds: f64) {
    let forward = "UPDATE bot_outboxes SET rate_limited_until = rate_limited_until - make_interval(secs => $2),
        broken_until = broken_until - make_interval(secs => $2),
        due_at = due_at - make_interval(secs => $2), wakeup_at = wakeup_at - make_interval(secs => $2),
        recent_sends = ARRAY(SELECT sent - ($2 * 1000)::bigint FROM unnest(recent_sends) AS sent) WHERE bot_id = $1";
    database().await.execute(forward, &[&seller.bot_id, &seconds]).await.expect("the outbox");
    seller.stack.run_schedule("sweep").await;
}

/// Counts the tasks that were given up.
async fn dead_letters(seller: &Seller) -> u64 {
    let mut sum = 0;
    for queue in ["TELEGRAM_QUEUE_URL", "AVITO_QUEUE_URL", "INTAKE_QUEUE_URL"] {
        let url = variable(queue);
        let dead = url.strip_suffix(".fifo").map_or(format!("{url}-dead"), |url| format!("{url}-dead.fifo"));
        let asked = json!({ "QueueUrl": dead, "AttributeNames": ["ApproximateNumberOfMessages"] });
        let headers =
            [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", "AmazonSQS.GetQueueAttributes")];
        let endpoint = variable("AWS_ENDPOINT_URL");
        let answer = seller.stack.call(reqwest::Method::POST, &endpoint, &headers, asked.to_string().into()).await;
        let waiting = answer.body["Attributes"]["ApproximateNumberOfMessages"].as_str().map(str::parse::<u64>);
        sum += waiting.unwrap_or_else(|| panic!("{dead}: {answer:?}")).expect("a number");
    }
    sum
}

/// Writes thirty texts of each of these buyers, in new chats.
async fn burst(seller: &Seller, buyers: &[String]) {
    join_all(buyers.iter().map(async |buyer| {
        let chat = seller.chat(buyer).await;
        for text in numbered(buyer, 30) {
            seller.buyer_writes(&chat, &text).await;
        }
    }))
    .await;
}

#[tokio::test]
async fn a_burst_of_three_hundred_texts_arrives_whole_and_in_order_in_few_posts() {
    let seller = Seller::new().await;
    set_limits(&seller).await;
    let since = seller.stack.calls_so_far().await;
    let buyers = numbered("Покупатель", 10);

    burst(&seller, &buyers).await;

    for buyer in &buyers {
        let topic = seller.said(4 * SOON, buyer, &format!("{buyer} 30")).await;
        assert_eq!(topic.said(), numbered(buyer, 30));
    }
    let calls = seller.telegram_calls(since).await;
    let sends = calls.iter().filter(|call| call.method == "sendMessage" && call.status == 200).count();
    assert!(sends <= 60, "{sends} sends");
    assert_no_call_was_early(&calls);
}

/// Checks that after each order to wait nothing was sent before its end, except reactions.
fn assert_no_call_was_early(calls: &[Call]) {
    for (index, refused) in calls.iter().enumerate() {
        let Some(seconds) = refused.retry_after else { continue };
        if let Some(next) = calls[index + 1..].iter().find(|call| call.method != "setMessageReaction") {
            let waited = Duration::try_from(next.at.duration_since(refused.at)).expect("time goes on");
            assert!(waited >= Duration::from_secs(seconds), "{} after {waited:?} of {seconds} s", next.method);
        }
    }
}

#[tokio::test]
async fn a_bot_that_is_rate_limited_does_not_delay_another_tenant() {
    let (limited, other) = tokio::join!(Seller::new(), Seller::new());
    let ((chat, _), (free, _)) = tokio::join!(limited.conversation("Анна"), other.conversation("Борис"));
    let since = limited.stack.calls_so_far().await;
    rate_limit(&limited, 20).await;
    for text in numbered("Много", 30) {
        limited.buyer_writes(&chat, &text).await;
    }
    calls_after_the_429(&limited, since).await;

    other.buyer_writes(&free, "Мимо").await;

    other.said(SOON, "Борис", "Мимо").await;
    assert_eq!(
        calls_after_the_429(&limited, since).await.len(),
        0,
        "the other had to wait for the end of the rate limit"
    );
    assert_eq!(limited.said(LATER, "Анна", "Много 30").await.said()[1..], numbered("Много", 30));
}

/// Returns the median of the delays from message to topic, by the simulators' clock: one message in each of these
/// chats, in a group and chats that were quiet before. `check` runs as soon as more than half of the delays are known.
async fn usual_delay(seller: &Seller, chats: &[(String, String)], text: &str, check: impl AsyncFn()) -> Duration {
    time_passes(seller, 60.0).await;
    let quiet = "UPDATE dialogs SET last_received_at = NULL WHERE bot_id = $1";
    database().await.execute(quiet, &[&seller.bot_id]).await.expect("the dialogs");
    let mut delays = Vec::new();
    for (index, (buyer, chat)) in chats.iter().enumerate() {
        let since = seller.stack.calls_so_far().await;
        let written = Timestamp::now();
        seller.buyer_writes(chat, text).await;
        seller.said(SOON, buyer, text).await;
        let calls = seller.telegram_calls(since).await;
        let call = calls.iter().find(|call| call.method == "sendMessage" && call.status == 200).expect("it was sent");
        delays.push(Duration::try_from(call.at.duration_since(written)).expect("time goes on"));
        if index == chats.len() / 2 {
            check().await;
        }
    }
    delays.sort();
    delays[delays.len() / 2]
}

#[tokio::test]
async fn a_burst_of_one_tenant_does_not_delay_the_messages_of_another() {
    let (busy, other) = tokio::join!(Seller::new(), Seller::new());
    set_limits(&busy).await;
    let guests = numbered("Гость", 3).into_iter();
    let chats = join_all(guests.map(async |guest| (guest.clone(), other.conversation(&guest).await.0))).await;
    let alone = usual_delay(&other, &chats, "Тихо", async || {}).await;

    let buyers = numbered("Покупатель", 10);
    burst(&busy, &buyers).await;
    let the_burst_goes_on = async || {
        let mut posted = 0;
        for buyer in &buyers {
            posted += busy.topic_of(buyer).await.map_or(0, |topic| topic.said().len());
        }
        assert!(posted < 300, "the burst was over before the other had written");
    };
    let beside = usual_delay(&other, &chats, "Мимо", the_burst_goes_on).await;

    // A post of the burst waits three seconds for its budget; a post of the other waits for none.
    let noise = Duration::from_millis(50);
    assert!(beside < 5 * alone.max(noise), "{beside:?} beside a burst, {alone:?} alone");
}

#[tokio::test]
async fn a_rate_limit_of_three_hours_loses_and_reorders_nothing_and_answers_are_still_sent() {
    let seller = Seller::new().await;
    let ((anna, thread), (boris, _)) = (seller.conversation("Анна").await, seller.conversation("Борис").await);
    let since = seller.stack.calls_so_far().await;
    rate_limit(&seller, 3 * 3600).await;
    for text in numbered("Вопрос", 5) {
        seller.buyer_writes(&anna, &text).await;
        seller.buyer_writes(&boris, &text).await;
    }
    calls_after_the_429(&seller, since).await;

    seller.operator_writes(thread, "Мы тут").await;
    assert_eq!(seller.answered(SOON, &anna, "Мы тут").await, ["Мы тут"]);
    seller.stack.run_schedule("sweep").await;
    assert_eq!(methods(&calls_after_the_429(&seller, since).await), [""; 0], "three hours are not over");
    time_passes(&seller, 3.0 * 3600.0 + 1.0).await;

    for buyer in ["Анна", "Борис"] {
        assert_eq!(seller.said(LATER, buyer, "Вопрос 5").await.said()[1..], numbered("Вопрос", 5), "{buyer}");
    }
    assert_eq!(dead_letters(&seller).await, 0);
}

fn methods(calls: &[Call]) -> Vec<&str> {
    calls.iter().map(|call| call.method.as_str()).collect()
}

#[tokio::test]
async fn a_bot_that_was_thrown_out_for_an_hour_loses_and_reorders_nothing() {
    let seller = Seller::new().await;
    let ((anna, _), (boris, _)) = (seller.conversation("Анна").await, seller.conversation("Борис").await);
    let kicked = |times: u32| -> Value {
        json!({ "target": "telegram", "kind": "kicked", "method": "sendMessage", "times": times,
                "scope": { "chat_id": seller.group } })
    };
    // Telegram does not say when the bot may come back, so the bot tries every five minutes, twelve times.
    seller.stack.fault(kicked(12)).await;
    for text in numbered("Вопрос", 5) {
        seller.buyer_writes(&anna, &text).await;
        seller.buyer_writes(&boris, &text).await;
    }

    wait_until(LATER, "the last question of both", async || {
        time_passes(&seller, 300.0).await;
        for buyer in ["Анна", "Борис"] {
            seller.topic_of(buyer).await.filter(|topic| topic.said().last().is_some_and(|last| last == "Вопрос 5"))?;
        }
        Some(())
    })
    .await;

    for buyer in ["Анна", "Борис"] {
        assert_eq!(seller.topic_of(buyer).await.expect("its topic").said()[1..], numbered("Вопрос", 5), "{buyer}");
    }
    assert_eq!(dead_letters(&seller).await, 0);
}
