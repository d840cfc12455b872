//! Faults of Avito and Telegram: lost answers, refusals, rate limits, deleted topics. The buyer gets an answer exactly
//! once; a topic gets a message at least once, and a repeat looks the same.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::{Call, LATER, SOON, Seller, database, numbered, wait_until};

/// Starts a fault in this seller's group; returns its id.
async fn in_group(seller: &Seller, mut fault: Value) -> u64 {
    fault["target"] = json!("telegram");
    fault["scope"] = json!({ "chat_id": seller.group });
    seller.stack.fault(fault).await
}

/// Starts a fault of this seller's Avito account.
async fn in_account(seller: &Seller, mut fault: Value) {
    fault["target"] = json!("avito");
    fault["scope"] = json!({ "user_id": seller.user_id });
    seller.stack.fault(fault).await;
}

#[tokio::test]
async fn an_answer_whose_confirmation_was_lost_reaches_the_buyer_once_and_so_does_its_twin() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Анна").await;
    in_account(&seller, json!({ "kind": "reset_after", "method": "messages.send", "times": 1 })).await;

    let first = seller.operator_writes(thread, "Да").await;
    let second = seller.operator_writes(thread, "Да").await;
    seller.operator_writes(thread, "Конец").await;

    assert_eq!(seller.answered(LATER, &chat, "Конец").await, ["Да", "Да", "Конец"]);
    seller.receipt(SOON, "Анна", first).await;
    seller.receipt(SOON, "Анна", second).await;
    // None of it was mistaken for an answer from Avito's app.
    seller.buyer_writes(&chat, "Метка").await;
    assert_eq!(seller.said(SOON, "Анна", "Метка").await.posts(), ["Здравствуйте", "Метка"]);
}

#[tokio::test]
async fn a_lost_confirmation_without_an_echo_is_found_by_reading_the_chat_back() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Борис").await;
    in_account(&seller, json!({ "kind": "webhook_withheld", "times": 100 })).await;
    in_account(&seller, json!({ "kind": "reset_after", "method": "messages.send", "times": 2 })).await;

    let first = seller.operator_writes(thread, "Один").await;
    seller.operator_writes(thread, "Два").await;
    seller.operator_writes(thread, "Три").await;

    assert_eq!(seller.answered(LATER, &chat, "Три").await, ["Один", "Два", "Три"]);
    seller.receipt(SOON, "Борис", first).await;
}

#[tokio::test]
async fn an_answer_that_never_reached_avito_is_sent_again_once() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Вера").await;
    in_account(&seller, json!({ "kind": "reset_before", "method": "messages.send", "times": 1 })).await;

    seller.operator_writes(thread, "Дойдёт").await;
    seller.operator_writes(thread, "И это").await;

    assert_eq!(seller.answered(LATER, &chat, "И это").await, ["Дойдёт", "И это"]);
}

#[tokio::test]
async fn avitos_gateway_errors_delay_answers_and_neither_lose_nor_double_nor_mix_them() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Глеб").await;
    in_account(&seller, json!({ "kind": "status", "status": 502, "method": "messages.send", "times": 2 })).await;

    for text in ["Один", "Два", "Три"] {
        seller.operator_writes(thread, text).await;
    }

    assert_eq!(seller.answered(LATER, &chat, "Три").await, ["Один", "Два", "Три"]);
}

#[tokio::test]
async fn an_answer_that_avito_refuses_for_good_gets_a_notice_and_the_next_answer_is_sent() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Дина").await;
    in_account(&seller, json!({ "kind": "status", "status": 400, "method": "messages.send", "times": 1 })).await;

    let refused = seller.operator_writes(thread, "Запрещённое").await;
    let notice = wait_until(LATER, "the refusal in the topic", async || {
        let topic = seller.topic_of("Дина").await?;
        topic.messages.into_iter().find(|message| message.from_bot && message.reply_to == Some(refused))
    })
    .await;
    assert!(notice.text.is_some_and(|text| text.starts_with("💔 Avito не принял сообщение")));

    seller.operator_writes(thread, "Можно").await;
    assert_eq!(seller.answered(LATER, &chat, "Можно").await, ["Можно"]);
}

#[tokio::test]
async fn a_token_that_avito_ended_early_is_renewed_in_both_directions() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Ефим").await;

    in_account(&seller, json!({ "kind": "token_expired" })).await;
    seller.operator_writes(thread, "С новым токеном").await;
    assert_eq!(seller.answered(SOON, &chat, "С новым токеном").await, ["С новым токеном"]);

    // A token younger than a minute is not replaced: another one would be refused as well.
    let older =
        "UPDATE avito_accounts SET token_issued_at = now() - interval '2 minutes', probed_at = NULL WHERE id = $1";
    database().await.execute(older, &[&seller.account_id]).await.expect("the account");
    in_account(&seller, json!({ "kind": "token_expired" })).await;
    seller.conversation("Жанна").await;
}

#[tokio::test]
async fn a_post_whose_confirmation_was_lost_appears_again_with_the_very_same_text() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Зоя").await;
    in_group(&seller, json!({ "kind": "reset_after", "method": "sendMessage", "times": 1 })).await;

    seller.buyer_writes(&chat, "Потерянный ответ").await;
    seller.said(SOON, "Зоя", "Потерянный ответ").await;
    seller.buyer_writes(&chat, "Дальше").await;

    let topic = seller.said(LATER, "Зоя", "Дальше").await;
    assert_eq!(topic.posts(), ["Здравствуйте", "Потерянный ответ", "Потерянный ответ", "Дальше"]);
}

#[tokio::test]
async fn a_post_that_never_reached_telegram_appears_once() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Илья").await;
    in_group(&seller, json!({ "kind": "reset_before", "method": "sendMessage", "times": 1 })).await;

    seller.buyer_writes(&chat, "Дойдёт").await;
    seller.said(SOON, "Илья", "Дойдёт").await;
    seller.buyer_writes(&chat, "Дальше").await;

    assert_eq!(seller.said(LATER, "Илья", "Дальше").await.posts(), ["Здравствуйте", "Дойдёт", "Дальше"]);
}

#[tokio::test]
async fn telegrams_gateway_errors_delay_posts_and_neither_lose_nor_mix_them() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Клара").await;
    in_group(&seller, json!({ "kind": "status", "status": 502, "method": "sendMessage", "times": 3 })).await;

    let texts = ["Один", "Два", "Три", "Четыре"];
    for text in texts {
        seller.buyer_writes(&chat, text).await;
    }

    assert_eq!(seller.said(LATER, "Клара", "Четыре").await.said()[1..], texts);
}

#[tokio::test]
async fn a_rate_limit_is_obeyed_to_the_second_however_late_it_came_and_nothing_is_lost() {
    let seller = Seller::new().await;
    let (chat, _) = seller.conversation("Леонид").await;
    let since = seller.stack.calls_so_far().await;
    let limit = json!({ "kind": "status", "status": 429, "retry_after": 6, "method": "sendMessage", "times": 1 });
    in_group(&seller, limit).await;
    in_group(&seller, json!({ "kind": "latency", "latency_ms": 5000, "method": "sendMessage", "times": 1 })).await;

    // Each wakes the bot, also while it is rate limited.
    let texts = numbered("Ау", 50);
    for text in &texts {
        seller.buyer_writes(&chat, text).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(seller.said(LATER, "Леонид", "Ау 50").await.said()[1..], texts);

    let calls = seller.telegram_calls(since).await;
    let limited = calls.iter().position(|call| call.status == 429).expect("the bot was rate limited");
    let next = &calls[limited + 1];
    let waited = Duration::try_from(next.at.duration_since(calls[limited].at)).expect("time goes on");
    assert!(waited >= Duration::from_secs(6), "after {waited:?}: {:?}", next.method);
}

#[tokio::test]
async fn a_topic_whose_confirmation_was_lost_is_found_and_no_second_one_is_used() {
    let seller = Seller::new().await;
    let chat = seller.chat("Марина").await;
    in_group(&seller, json!({ "kind": "reset_after", "method": "createForumTopic", "times": 1 })).await;

    seller.buyer_writes(&chat, "Первое").await;
    wait_until(LATER, "the message in one topic", async || {
        seller.topics().await.iter().any(|topic| topic.said() == ["Первое"]).then_some(())
    })
    .await;
    seller.buyer_writes(&chat, "Второе").await;
    wait_until(SOON, "the second message beside the first", async || {
        seller.topics().await.iter().any(|topic| topic.said() == ["Первое", "Второе"]).then_some(())
    })
    .await;

    let topics = seller.topics().await;
    let used: Vec<_> = topics
        .iter()
        .filter(|topic| topic.messages.iter().any(|message| message.from_bot && message.text.is_some()))
        .collect();
    assert_eq!(used.len(), 1, "{topics:?}");
    assert_eq!(used[0].headers().len(), 1);
}

#[tokio::test]
async fn a_deleted_topic_is_created_anew_with_its_header_and_works_both_ways() {
    let seller = Seller::new().await;
    let (chat, former) = seller.conversation("Никита").await;
    in_group(&seller, json!({ "kind": "topic_deleted", "thread_id": former })).await;

    seller.buyer_writes(&chat, "Вы тут?").await;

    let topic = seller.said(LATER, "Никита", "Вы тут?").await;
    assert_ne!(topic.thread(), former);
    assert_eq!((topic.headers().len(), topic.posts().len(), topic.posts()[1]), (1, 2, "Вы тут?"));
    assert!(topic.posts()[0].ends_with("Никита: Здравствуйте"), "delivered messages are replayed");
    seller.operator_writes(topic.thread(), "Тут").await;
    assert_eq!(seller.answered(SOON, &chat, "Тут").await, ["Тут"]);
}

#[tokio::test]
async fn a_closed_topic_is_opened_again_for_the_message() {
    let seller = Seller::new().await;
    let (chat, thread) = seller.conversation("Ольга").await;
    in_group(&seller, json!({ "kind": "topic_closed", "thread_id": thread })).await;

    seller.buyer_writes(&chat, "Ещё вопрос").await;

    assert_eq!(seller.said(SOON, "Ольга", "Ещё вопрос").await.thread(), thread);
}

#[tokio::test]
async fn one_failing_topic_does_not_delay_the_others() {
    let seller = Seller::new().await;
    let (slow, thread) = seller.conversation("Пётр").await;
    let (quick, _) = seller.conversation("Роман").await;
    let fault = json!({ "kind": "status", "status": 500, "method": "sendMessage", "thread_id": thread });
    let fault = in_group(&seller, fault).await;

    seller.buyer_writes(&slow, "Медленно").await;
    seller.buyer_writes(&quick, "Быстро").await;

    assert_eq!(seller.said(SOON, "Роман", "Быстро").await.said(), ["Здравствуйте", "Быстро"]);
    seller.stack.mend(fault).await;
    assert_eq!(seller.said(LATER, "Пётр", "Медленно").await.said(), ["Здравствуйте", "Медленно"]);
}

/// The time in which five answers pass a storm: each that is lost is looked for up to half a minute before it goes again.
const STORM: Duration = Duration::from_mins(4);

#[tokio::test]
async fn a_storm_on_both_sides_loses_nothing_and_doubles_nothing_for_the_buyers() {
    let seller = Seller::new().await;
    let mut chats = BTreeMap::new();
    for buyer in ["Семён", "Тамара"] {
        chats.insert(buyer, seller.conversation(buyer).await);
    }
    for kind in ["reset_before", "reset_after"] {
        let fault = json!({ "kind": kind, "method": "messages.send", "probability": 0.25, "seed": 7 });
        in_account(&seller, fault).await;
        let fault = json!({ "kind": kind, "method": "sendMessage", "probability": 0.6, "seed": 8, "times": 2 });
        in_group(&seller, fault).await;
    }

    let (questions, answers) = (numbered("Вопрос", 5), numbered("Ответ", 5));
    for (question, answer) in questions.iter().zip(&answers) {
        for (chat, thread) in chats.values() {
            seller.buyer_writes(chat, question).await;
            seller.operator_writes(*thread, answer).await;
        }
    }

    for (buyer, (chat, _)) in &chats {
        assert_eq!(seller.answered(STORM, chat, "Ответ 5").await, answers, "{buyer}");
        let said = seller.said(LATER, buyer, "Вопрос 5").await.said_at_least_once();
        assert_eq!(said[1..], questions, "{buyer}");
    }
    let cut = |calls: Vec<Call>| calls.iter().filter(|call| call.status == 0).count();
    assert!(cut(seller.telegram_calls(0).await) > 0 && cut(seller.avito_calls(0).await) > 0, "there was no storm");
}
