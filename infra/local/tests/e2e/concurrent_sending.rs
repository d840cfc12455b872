//! Several chats of one bot at a time: posts that are composed during another post's call, and receipts that go
//! together.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::{LATER, SOON, Seller, database, lines, wait_until};

/// The time that Telegram takes for a slow call.
const SLOW: Duration = Duration::from_secs(5);

/// Counts the messages of a bot that may be posted now.
const WAITING: &str = "SELECT count(*) FROM messages m JOIN dialogs d ON d.id = m.dialog_id
    WHERE m.bot_id = $1 AND m.needs_post AND m.post_id IS NULL AND coalesce(d.hold_until <= now(), true)";

/// Makes the group's next calls of this method slow.
async fn slow(seller: &Seller, method: &str, times: usize) {
    let fault: Value = json!({
        "target": "telegram", "method": method, "kind": "latency", "latency_ms": SLOW.as_millis(), "times": times,
        "scope": { "chat_id": seller.group },
    });
    seller.stack.fault(fault).await;
}

/// Waits until this query counts so many rows of the seller's bot.
async fn counted(seller: &Seller, count: i64, what: &str, query: &str) {
    wait_until(SOON, what, async || {
        let counted: i64 = database().await.query_one(query, &[&seller.bot_id]).await.expect("a count").get(0);
        (counted == count).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dialog_that_changes_during_another_chats_call_is_posted_as_it_is_by_then() {
    let seller = Seller::new().await;
    let (first, _) = seller.conversation("Анна").await;
    let (second, _) = seller.conversation("Борис").await;
    seller.pause_posting().await;
    seller.buyer_writes(&first, "Долго").await;
    counted(&seller, 1, "the first message waits", WAITING).await;
    seller.buyer_writes(&second, "Раз").await;
    counted(&seller, 2, "both messages wait", WAITING).await;
    slow(&seller, "sendMessage", 1).await;

    seller.resume_posting().await;
    let on_its_way = "SELECT count(*) FROM posts WHERE bot_id = $1 AND state = 'sending'";
    counted(&seller, 1, "the first post is on its way", on_its_way).await;
    seller.buyer_writes(&second, "Два").await;

    let topic = seller.said(LATER, "Борис", "Два").await;
    let posts: Vec<_> = topic.posts().into_iter().map(lines).collect();
    assert_eq!(posts, [vec!["Здравствуйте"], vec!["Раз", "Два"]], "both wait together, and so are one post");
    assert_eq!(seller.said(SOON, "Анна", "Долго").await.said(), ["Здравствуйте", "Долго"]);
}

#[tokio::test]
async fn the_next_chats_post_is_set_to_sending_by_the_transaction_that_marks_the_one_before_as_sent() {
    let seller = Seller::new().await;
    let (first, _) = seller.conversation("Анна").await;
    let (second, _) = seller.conversation("Борис").await;
    // No poll confirms the waiting messages just then: a prepared post of a changed dialog is composed again.
    for method in ["chats.list", "messages.list"] {
        let fault = json!({ "target": "avito", "method": method, "kind": "status", "status": 503,
                            "scope": { "user_id": seller.user_id } });
        seller.stack.fault(fault).await;
    }
    seller.pause_posting().await;
    seller.buyer_writes(&first, "Раз").await;
    seller.buyer_writes(&second, "Два").await;
    counted(&seller, 2, "both messages wait", WAITING).await;

    seller.resume_posting().await;
    seller.said(LATER, "Анна", "Раз").await;
    seller.said(LATER, "Борис", "Два").await;

    let together = "SELECT count(*) FROM posts before JOIN posts behind
        ON behind.bot_id = before.bot_id AND behind.created_at = before.sent_at AND behind.kind = 'text'
        WHERE before.bot_id = $1 AND before.kind = 'text'";
    counted(&seller, 1, "one transaction marked a post as sent and set another to sending", together).await;
}

#[tokio::test]
async fn a_message_is_posted_before_the_receipt_that_waits_in_its_chat() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    seller.pause_posting().await;
    let answer = seller.operator_writes(thread, "Да").await;
    let receipts = "SELECT count(*) FROM posts WHERE bot_id = $1 AND kind = 'reaction' AND state = 'pending'";
    counted(&seller, 1, "the receipt waits", receipts).await;
    seller.buyer_writes(&chat, "Ещё").await;
    counted(&seller, 1, "the message waits", WAITING).await;
    let since = seller.stack.calls_so_far().await;

    seller.resume_posting().await;
    seller.receipt(LATER, "Анна", answer).await;

    let calls = seller.telegram_calls(since).await;
    let methods: Vec<_> = calls.iter().map(|call| call.method.as_str()).collect();
    assert_eq!(methods, ["sendMessage", "setMessageReaction"]);
}

#[tokio::test]
async fn receipts_in_several_topics_are_set_at_the_same_time() {
    let seller = Seller::new().await;
    let mut answers = Vec::new();
    for buyer in ["Анна", "Борис", "Вера"] {
        answers.push((buyer, seller.conversation(buyer).await.1, 0));
    }
    seller.pause_posting().await;
    for (_, thread, answer) in &mut answers {
        *answer = seller.operator_writes(*thread, "Да").await;
    }
    let receipts = "SELECT count(*) FROM posts WHERE bot_id = $1 AND kind = 'reaction' AND state = 'pending'";
    counted(&seller, 3, "three receipts wait", receipts).await;
    slow(&seller, "setMessageReaction", 3).await;
    let since = seller.stack.calls_so_far().await;

    seller.resume_posting().await;
    for (buyer, _, answer) in answers {
        seller.receipt(LATER, buyer, answer).await;
    }

    let calls = seller.telegram_calls(since).await;
    let mut set: Vec<_> = calls.iter().filter(|call| call.method == "setMessageReaction").map(|call| call.at).collect();
    set.sort();
    assert_eq!(set.len(), 3);
    let between = Duration::try_from(set[2].duration_since(set[0])).expect("time goes on");
    assert!(between < SLOW, "{between:?} lie between the first and the last");
}

#[tokio::test]
async fn a_receipt_that_is_set_alone_does_not_delay_the_next() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Анна").await;
    let answer = seller.operator_writes(thread, "Да").await;
    seller.receipt(SOON, "Анна", answer).await;

    // A receipt that Avito's webhook requests again while it is being set is set twice. The wait of the second one is over then.
    let set = "SELECT count(*) FROM posts p JOIN bot_outboxes outbox ON outbox.bot_id = p.bot_id
        WHERE p.bot_id = $1 AND p.kind = 'reaction' AND p.state = 'sent' AND (outbox.reactions_hold_until <= p.sent_at) IS NOT FALSE";
    counted(&seller, 1, "it is set, and the next may be set", set).await;
}

#[tokio::test]
async fn receipts_that_arrive_during_a_batch_wait_for_each_other() {
    let seller = Seller::new().await;
    let (_, thread) = seller.conversation("Анна").await;
    seller.pause_posting().await;
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(seller.operator_writes(thread, "Да").await);
    }
    let receipts = "SELECT count(*) FROM posts WHERE bot_id = $1 AND kind = 'reaction' AND state = 'pending'";
    counted(&seller, 12, "all receipts wait", receipts).await;

    seller.resume_posting().await;
    for answer in answers {
        seller.receipt(LATER, "Анна", answer).await;
    }

    // Twelve are more than the eight that go together, so there are at least two batches.
    let gaps = "SELECT min(gap) >= '250 milliseconds'
        FROM (SELECT sent_at - lag(sent_at) OVER (ORDER BY sent_at) AS gap FROM posts
              WHERE bot_id = $1 AND kind = 'reaction' GROUP BY sent_at) AS round_trips";
    let row = database().await.query_one(gaps, &[&seller.bot_id]).await.expect("when they were set");
    assert_eq!(row.get::<_, Option<bool>>(0), Some(true), "a quarter of a second lies between the batches");
}
