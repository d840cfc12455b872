//! Functions may die at any moment, here by SIGKILL: nothing is lost, and the buyer gets nothing twice. No other test
//! runs meanwhile (`.config/nextest.toml`), because these kill the processes that every other test needs.

#![cfg(target_os = "linux")]

#[path = "e2e/processes.rs"]
mod processes;
#[path = "e2e/support/mod.rs"]
mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::{Seller, Topic, wait_until};

/// The time to recover: a lease lasts 20 s, and the sweep finds work whose wake-up was lost within a minute.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(150);

/// Kills processes of these functions at random moments for some twenty seconds.
async fn kill(endings: &[&str]) {
    let killed = processes::kill(endings, 80, Duration::from_millis(50)..Duration::from_millis(450)).await;
    assert!(killed > 10, "only {killed} were there to be killed");
}

/// A seller who talks with some buyers in ten rounds.
struct Talk {
    seller: Seller,
    chats: Vec<(&'static str, String, i64)>,
    questions: Vec<String>,
    answers: Vec<String>,
}

impl Talk {
    async fn with(buyers: &[&'static str]) -> Self {
        let seller = Seller::new().await;
        let mut chats = Vec::new();
        for buyer in buyers {
            let (chat, thread) = seller.conversation(buyer).await;
            chats.push((*buyer, chat, thread));
        }
        // Slow calls: most kills then hit a worker between its call and the answer.
        let slow = |target: &str, method: &str, scope: Value| json!({ "kind": "latency", "latency_ms": 400, "target": target, "method": method, "scope": scope });
        seller.stack.fault(slow("avito", "messages.send", json!({ "user_id": seller.user_id }))).await;
        seller.stack.fault(slow("telegram", "sendMessage", json!({ "chat_id": seller.group }))).await;
        let texts = |what: &str| (1..=10).map(|number| format!("{what} {number}")).collect();
        Self { seller, chats, questions: texts("Вопрос"), answers: texts("Ответ") }
    }

    async fn go(&self) {
        for (question, answer) in self.questions.iter().zip(&self.answers) {
            for (_, chat, thread) in &self.chats {
                self.seller.buyer_writes(chat, question).await;
                self.seller.operator_writes(*thread, answer).await;
            }
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }

    /// Waits until nothing is missing on either side.
    async fn is_complete(&self) -> Vec<(&'static str, Topic, Vec<String>)> {
        let mut complete = Vec::new();
        for (buyer, chat, _) in &self.chats {
            let what = format!("everything for and from {buyer}");
            let found = wait_until(RECOVERY_TIMEOUT, &what, async || {
                let (topic, answers) = (self.seller.topic_of(buyer).await?, self.seller.answers(chat).await);
                let said = topic.said();
                let whole = self.questions.iter().all(|question| said.contains(question))
                    && self.answers.iter().all(|answer| answers.contains(answer));
                whole.then_some((*buyer, topic, answers))
            });
            complete.push(found.await);
        }
        complete
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_at_random_lose_nothing_keep_order_and_double_nothing_for_the_buyers() {
    let talk = Talk::with(&["Анна", "Борис", "Вера", "Глеб"]).await;

    tokio::join!(talk.go(), kill(&["deliver-to-telegram", "deliver-to-avito"]));

    for (buyer, topic, answers) in talk.is_complete().await {
        assert_eq!(answers, talk.answers, "{buyer}");
        assert_eq!(topic.said_at_least_once()[1..], talk.questions, "{buyer}: {:?}", topic.posts());
    }
}

/// Avito sends a webhook once. If the function dies before it records the message, the poll finds the message, perhaps
/// late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_of_every_kind_that_are_killed_at_random_lose_nothing_and_double_nothing_for_the_buyers() {
    let talk = Talk::with(&["Дина", "Егор"]).await;

    tokio::join!(talk.go(), kill(&["-webhook", "deliver-to-telegram", "deliver-to-avito", "poll-accounts", "sweep"]));

    for (buyer, topic, answers) in talk.is_complete().await {
        assert_eq!(answers, talk.answers, "{buyer}");
        let mirrored = topic.posts().into_iter().find(|post| post.starts_with("Вы ответили в Avito"));
        assert_eq!(mirrored, None, "{buyer}");
    }
}
