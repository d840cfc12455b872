//! The auto-reply when its time has come: through the whole stack, and the decision without waiting.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tuberry::{
    bridge::{auto_reply, sweep::sweep},
    platform::db::{Scope, Statement},
};

use super::{Edit, REPLY, incoming, slow_world};
use crate::support::{must, shop::Shop, variable};

/// The time that the stack gives people to answer.
fn delay() -> Duration {
    Duration::from_secs(must(variable("AUTO_REPLY_DELAY_SECONDS").parse()))
}

/// Waits until any auto-reply that was still to come has arrived.
async fn let_time_pass() {
    tokio::time::sleep(delay() + Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_buyer_without_an_answer_gets_one_auto_reply_and_the_topic_shows_it() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    let scheduled_at = shop.scheduled().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    shop.write("buyer", "Ау?").await;
    shop.until_posted("Ау?").await;
    assert!(shop.scheduled_at().await.is_none_or(|later| later == scheduled_at), "a second message changed the time");
    shop.answers_become(&[REPLY]).await;
    assert!(Timestamp::now() >= scheduled_at, "it was sent before its time");
    shop.until_posted("🤖 Автоответчик:").await;
    shop.write("buyer", "Понятно, жду").await;
    shop.until_posted("Понятно, жду").await;
    assert_eq!(shop.scheduled_at().await, None, "one was sent in this interval");
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.count_posts("Автоответчик").await, 1);
    assert_eq!(shop.count_posts("Вы ответили в Avito").await, 0);
    let auto: Vec<_> = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").collect();
    assert_eq!(auto, [("auto_reply".to_owned(), "sent".to_owned(), true)]);
}

#[tokio::test]
async fn an_answer_in_the_topic_before_its_time_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    let (dialog_id, scheduled_at) = shop.scheduled_later().await;
    shop.until_posted("Ещё продаёте?").await;
    let thread = shop.topic().await.1;
    let body = json!({ "chat_id": shop.bot.chat_id, "thread_id": thread, "text": "Да, приезжайте" });
    shop.world.control("telegram/messages", &body).await;
    shop.answers_become(&["Да, приезжайте"]).await;
    assert_eq!(shop.scheduled_at().await, None);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await), "the operator had answered");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn an_answer_in_avitos_app_before_its_time_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    shop.write("seller_app", "Да, продаю").await;
    shop.until_posted("Вы ответили в Avito").await;
    assert_eq!(shop.scheduled_at().await, None);
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
}

#[tokio::test]
async fn an_answer_without_a_webhook_is_found_just_before_the_call_and_cancels_the_auto_reply() {
    let shop = Shop::replying().await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    shop.write_silently("seller_app", "Да, продаю").await;
    shop.unscheduled().await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, ["Да, продаю"]);
    assert_eq!(shop.count_posts("Автоответчик").await, 0);
    let rows = shop.rows().await;
    assert!(rows.contains(&("auto_reply".to_owned(), "failed".to_owned(), false)), "{rows:?}");
    let (_, _, last) = shop.dialog().await.unwrap_or_default();
    assert_eq!(last, None, "an auto-reply that was not sent does not count for the interval");
    shop.write("buyer", "А завтра?").await;
    shop.answers_become(&["Да, продаю", REPLY]).await;
}

#[tokio::test]
async fn an_auto_reply_whose_outcome_is_unknown_arrives_once() {
    let shop = Shop::replying().await;
    let fault = json!({ "target": "avito", "method": "messages.send", "scope": { "chat": shop.chat().await }, "kind": "reset_after", "times": 1 });
    shop.world.control("faults", &fault).await;
    shop.write("buyer", "Ещё продаёте?").await;
    shop.answers_become(&[REPLY]).await;
    shop.until_posted("🤖 Автоответчик:").await;
    let_time_pass().await;
    assert_eq!(shop.answers().await, [REPLY]);
    assert_eq!(shop.count_posts("Автоответчик").await, 1);
}

#[tokio::test]
async fn an_answer_a_moment_before_the_auto_replys_time_leaves_the_task_nothing_to_do() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 1)], false).await;
    let scheduled_at = shop.scheduled().await;
    let (dialog_id, ..) = shop.dialog().await.unwrap_or_default();
    shop.receive(vec![incoming("own", "Да", 0)], false).await;
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await));
    shop.receive(vec![incoming("buyer", "А завтра?", 0)], false).await;
    assert_ne!(shop.scheduled().await, scheduled_at);
    assert!(!must(auto_reply::send(shop.world.app, dialog_id, scheduled_at).await), "an older task finds another time");
    assert!(!shop.rows().await.iter().any(|(origin, ..)| origin == "auto_reply"));
}

#[tokio::test]
async fn of_two_tasks_for_one_scheduled_auto_reply_one_sends() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    let (scheduled_at, dialog) = (shop.scheduled().await, shop.dialog().await.unwrap_or_default().0);
    let other = slow_world();
    let sent = tokio::join!(
        auto_reply::send(shop.world.app, dialog, scheduled_at),
        auto_reply::send(other.app, dialog, scheduled_at)
    );
    assert_eq!(usize::from(must(sent.0)) + usize::from(must(sent.1)), 1);
    let auto = shop.rows().await.into_iter().filter(|(origin, ..)| origin == "auto_reply").count();
    assert_eq!(auto, 1);
}

#[tokio::test]
async fn settings_are_read_again_when_the_time_has_come() {
    let edits: [Edit; 2] = [
        |settings| settings.auto_reply_enabled = false,
        |settings| {
            settings.auto_reply_always = false;
            settings.auto_reply_start_time = settings.auto_reply_end_time.clone();
        },
    ];
    for edit in edits {
        let shop = Shop::replying_in(slow_world()).await;
        shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
        let (scheduled_at, dialog) = (shop.scheduled().await, shop.dialog().await.unwrap_or_default().0);
        shop.set(edit).await;
        assert!(!must(auto_reply::send(shop.world.app, dialog, scheduled_at).await));
        assert_eq!(shop.scheduled_at().await, None);
    }
}

#[tokio::test]
async fn the_sweep_sends_an_auto_reply_whose_wakeup_was_lost() {
    let shop = Shop::replying().await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    shop.write_silently("buyer", "Ещё продаёте?").await;
    shop.scheduled().await;
    let late = Statement::new(
        "UPDATE dialogs SET auto_reply_scheduled_at = now() - interval '3 minutes' WHERE avito_chat_id = $1",
    );
    shop.world.query(Scope::Tenant(shop.owner.client), late.bind(shop.chat().await)).await;
    assert!(must(sweep(shop.world.app).await).auto_replies >= 1);
    shop.answers_become(&[REPLY]).await;
}
