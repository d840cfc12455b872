//! No transaction stays open during a call to Avito or Telegram: behind a pooler it would occupy a connection.

use serde_json::json;

use super::support::{SOON, Seller, database, wait_until};

/// Counts transactions that are idle for 700 ms: longer than between two statements of a transaction, shorter than a
/// slow call.
const IDLE: &str = "SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND state LIKE 'idle in transaction%' AND state_change < now() - interval '700 ms'";

#[tokio::test]
async fn no_transaction_is_open_while_avito_or_telegram_is_slow() {
    let seller = Seller::new().await;
    let slow = |target: &str, scope| json!({ "target": target, "kind": "latency", "latency_ms": 2500, "scope": scope });
    seller.stack.fault(slow("telegram", json!({ "token": seller.bot_token }))).await;
    seller.stack.fault(slow("avito", json!({ "user_id": seller.user_id }))).await;
    let since = seller.stack.calls_so_far().await;

    let talk = async {
        let (chat, thread) = seller.conversation("Анна").await;
        seller.operator_writes(thread, "Да").await;
        seller.answered(SOON, &chat, "Да").await;
    };
    let watch = async {
        let database = database().await;
        let mut watched = 0;
        wait_until(SOON, "slow calls both ways", async || {
            let idle: i64 = database.query_one(IDLE, &[]).await.expect("a number").get(0);
            assert_eq!(idle, 0, "a transaction is open during a call");
            watched += 1;
            let methods: Vec<String> = [seller.telegram_calls(since).await, seller.avito_calls(since).await]
                .concat()
                .into_iter()
                .map(|call| call.method)
                .collect();
            let slow = ["chats.get", "createForumTopic", "sendMessage", "messages.send", "setMessageReaction"];
            slow.iter().all(|method| methods.iter().any(|called| called == method)).then_some(())
        })
        .await;
        assert!(watched > 20, "it was watched {watched} times only");
    };
    tokio::join!(talk, watch);
}
