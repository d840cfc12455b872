//! No transaction stays open while the outside is asked: behind a pooler it would keep a connection from everybody else.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::support::{SOON, Seller, database, wait_until};

/// Longer than any two statements of one flight are apart; twice as long is still shorter than the calls are slow.
const LONG: Duration = Duration::from_millis(700);

/// The transactions in which nothing has happened for long: whose, and since when.
async fn idle(database: &tokio_postgres::Client) -> BTreeSet<(i32, Timestamp)> {
    let find = "SELECT pid, state_change FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'
          AND state_change < now() - make_interval(secs => $1)";
    let rows = database.query(find, &[&LONG.as_secs_f64()]).await.expect("the transactions");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

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
            let suspects = idle(&database).await;
            if !suspects.is_empty() {
                // The machine may have stood still in the middle of a flight: then it has gone on by the next look.
                tokio::time::sleep(LONG).await;
                let waiting = &suspects & &idle(&database).await;
                assert!(waiting.is_empty(), "transactions wait for the outside: {waiting:?}");
            }
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
        assert!(watched > 20, "it was watched {watched} times");
    };
    tokio::join!(talk, watch);
}
