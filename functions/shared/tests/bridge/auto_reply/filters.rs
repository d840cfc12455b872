//! Filtered messages: stored, and neither posted nor answered.

use super::{incoming, slow_world};
use crate::support::shop::Shop;

#[tokio::test]
async fn filtered_messages_are_stored_and_not_posted() {
    let shop = Shop::replying_in(slow_world()).await;
    shop.set(|settings| {
        "казино, КРИПТА\nудалённая работа".clone_into(&mut settings.filter_keywords);
        settings.hide_system_messages = true;
    })
    .await;
    for text in ["Лучшее КАЗИНО города", "крипта?", "Есть Удалённая Работа"]
    {
        shop.receive(vec![incoming("buyer", text, 0)], false).await;
    }
    shop.receive(vec![incoming("system", "[Системное сообщение] Осторожно", 0)], false).await;
    assert_eq!(shop.scheduled_at().await, None);
    let filtered = |origin: &str| (origin.to_owned(), "filtered".to_owned(), false);
    assert_eq!(shop.rows().await, [filtered("buyer"), filtered("buyer"), filtered("buyer"), filtered("system")]);
    shop.receive(vec![incoming("buyer", "Удалённо не работаете?", 0)], false).await;
    shop.receive(vec![incoming("own", "Казино не здесь", 0)], false).await;
    let rows = shop.rows().await;
    assert_eq!(
        rows[4..].iter().map(|(origin, _, needs_post)| (origin.as_str(), *needs_post)).collect::<Vec<_>>(),
        [("buyer", true), ("avito_app", true)]
    );
}

#[tokio::test]
async fn a_filtered_message_never_reaches_the_topic() {
    let shop = Shop::replying().await;
    shop.set(|settings| "казино".clone_into(&mut settings.filter_keywords)).await;
    shop.write("buyer", "Казино ждёт").await;
    shop.write("buyer", "А стол есть?").await;
    shop.until_posted("А стол есть?").await;
    assert_eq!(shop.count_posts("Казино").await, 0);
}
