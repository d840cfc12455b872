//! Telegram's limits, as strict as the real ones: what has to wait waits, in rows, for as long as it takes, and comes
//! whole and in order.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::support::{Call, LATER, SOON, Seller, database, numbered, variable, wait_until};

/// Twenty messages a minute into this seller's group, thirty calls a second by the bot.
async fn limited(seller: &Seller) {
    seller.stack.control("limits", &json!({ "telegram": true, "chat_id": seller.group })).await;
}

/// The seller's bot is told to be silent.
async fn ordered_to_be_silent(seller: &Seller, seconds: u32) {
    let fault = json!({
        "target": "telegram", "method": "sendMessage", "kind": "status", "status": 429, "retry_after": seconds,
        "times": 1, "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(fault).await;
}

/// Waits until the order was given; gives what was sent to the group after it.
async fn after_the_order(seller: &Seller, since: u64) -> Vec<Call> {
    wait_until(SOON, "the order to be silent", async || {
        let calls = seller.telegram_calls(since).await;
        let order = calls.iter().position(|call| call.status == 429)?;
        Some(calls[order + 1..].to_vec())
    })
    .await
}

/// The clocks of a bot's way to Telegram go forward by this many seconds.
async fn time_passes(seller: &Seller, seconds: f64) {
    let forward = "UPDATE bot_outboxes SET rate_limited_until = rate_limited_until - make_interval(secs => $2),
        due_at = due_at - make_interval(secs => $2), wakeup_at = wakeup_at - make_interval(secs => $2),
        budget_updated_at = budget_updated_at - make_interval(secs => $2) WHERE bot_id = $1";
    database().await.execute(forward, &[&seller.bot_id, &seconds]).await.expect("the outbox");
    seller.stack.run_schedule("sweep").await;
}

/// How many tasks were given up.
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

/// Thirty texts of each of these buyers, in chats that are new.
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
    limited(&seller).await;
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
    assert_silence_was_kept(&calls);
}

/// Whatever was ordered, nothing was sent before its time.
fn assert_silence_was_kept(calls: &[Call]) {
    for (place, order) in calls.iter().enumerate() {
        let Some(seconds) = order.retry_after else { continue };
        if let Some(next) = calls[place + 1..].iter().find(|call| call.method != "setMessageReaction") {
            let silence = Duration::try_from(next.at.duration_since(order.at)).expect("time goes on");
            assert!(silence >= Duration::from_secs(seconds), "{} after {silence:?} of {seconds} s", next.method);
        }
    }
}

#[tokio::test]
async fn a_bot_that_has_to_be_silent_does_not_hold_up_another_tenant() {
    let (silent, other) = tokio::join!(Seller::new(), Seller::new());
    let ((chat, _), (free, _)) = tokio::join!(silent.conversation("Анна"), other.conversation("Борис"));
    let since = silent.stack.calls_so_far().await;
    ordered_to_be_silent(&silent, 20).await;
    for text in numbered("Много", 30) {
        silent.buyer_writes(&chat, &text).await;
    }
    after_the_order(&silent, since).await;

    other.buyer_writes(&free, "Мимо").await;

    other.said(SOON, "Борис", "Мимо").await;
    assert_eq!(after_the_order(&silent, since).await.len(), 0, "the other had to wait for the silence to end");
    assert_eq!(silent.said(LATER, "Анна", "Много 30").await.said()[1..], numbered("Много", 30));
}

/// How long a message takes to its topic, by the simulators' clock, in a group and chats that were silent before: the
/// delay in the middle of one in each. `check` is made as soon as more than half of them are known.
async fn usual_delay(seller: &Seller, chats: &[(String, String)], text: &str, check: impl AsyncFn()) -> Duration {
    time_passes(seller, 60.0).await;
    let silent = "UPDATE dialogs SET last_received_at = NULL WHERE bot_id = $1";
    database().await.execute(silent, &[&seller.bot_id]).await.expect("the dialogs");
    let mut delays = Vec::new();
    for (place, (buyer, chat)) in chats.iter().enumerate() {
        let since = seller.stack.calls_so_far().await;
        let written = Timestamp::now();
        seller.buyer_writes(chat, text).await;
        seller.said(SOON, buyer, text).await;
        let calls = seller.telegram_calls(since).await;
        let call = calls.iter().find(|call| call.method == "sendMessage" && call.status == 200).expect("it was sent");
        delays.push(Duration::try_from(call.at.duration_since(written)).expect("time goes on"));
        if place == chats.len() / 2 {
            check().await;
        }
    }
    delays.sort();
    delays[delays.len() / 2]
}

#[tokio::test]
async fn a_burst_of_one_tenant_does_not_delay_the_messages_of_another() {
    let (busy, other) = tokio::join!(Seller::new(), Seller::new());
    limited(&busy).await;
    let guests = numbered("Гость", 9).into_iter();
    let chats = join_all(guests.map(async |guest| (guest.clone(), other.conversation(&guest).await.0))).await;
    let alone = usual_delay(&other, &chats, "Тихо", async || {}).await;

    let buyers = numbered("Покупатель", 10);
    burst(&busy, &buyers).await;
    let the_burst_goes_on = async || {
        let mut shown = 0;
        for buyer in &buyers {
            shown += busy.topic_of(buyer).await.map_or(0, |topic| topic.said().len());
        }
        assert!(shown < 300, "the burst was over before the other had written");
    };
    let beside = usual_delay(&other, &chats, "Мимо", the_burst_goes_on).await;

    // One post of the burst waits three seconds for its place in the minute; the other waits for none.
    let noise = Duration::from_millis(50);
    assert!(beside < 5 * alone.max(noise), "{beside:?} beside a burst, {alone:?} alone");
}

#[tokio::test]
async fn a_silence_of_three_hours_loses_and_reorders_nothing_and_answers_still_go() {
    let seller = Seller::new().await;
    let ((anna, thread), (boris, _)) = (seller.conversation("Анна").await, seller.conversation("Борис").await);
    let since = seller.stack.calls_so_far().await;
    ordered_to_be_silent(&seller, 3 * 3600).await;
    for text in numbered("Вопрос", 5) {
        seller.buyer_writes(&anna, &text).await;
        seller.buyer_writes(&boris, &text).await;
    }
    after_the_order(&seller, since).await;

    seller.operator_writes(thread, "Мы тут").await;
    assert_eq!(seller.answered(SOON, &anna, "Мы тут").await, ["Мы тут"]);
    seller.stack.run_schedule("sweep").await;
    assert_eq!(kinds(&after_the_order(&seller, since).await), [""; 0], "three hours are not over");
    time_passes(&seller, 3.0 * 3600.0 + 1.0).await;

    for buyer in ["Анна", "Борис"] {
        assert_eq!(seller.said(LATER, buyer, "Вопрос 5").await.said()[1..], numbered("Вопрос", 5), "{buyer}");
    }
    assert_eq!(dead_letters(&seller).await, 0);
}

fn kinds(calls: &[Call]) -> Vec<&str> {
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
    // It is not told when it may come back, so it has to look for itself: every five minutes, twelve times.
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
