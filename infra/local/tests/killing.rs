//! Functions die at any moment, here by SIGKILL: nothing is lost, order stays, and the buyer gets nothing twice. Alone in its
//! binary, for it ends the processes that every other test lives on.

#![cfg(target_os = "linux")]

#[path = "e2e/support.rs"]
mod support;

use std::process::Command;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use serde_json::json;
use support::{Seller, Topic, variable, wait_until};

/// The processes of this stack's workers that run now.
fn workers() -> Vec<String> {
    let assignment = |name: &str, value: &str| format!("{name}={value}");
    let endpoint = assignment("AWS_ENDPOINT_URL", &variable("AWS_ENDPOINT_URL"));
    let names = ["deliver-to-telegram", "deliver-to-avito"]
        .map(|function| assignment("AWS_LAMBDA_FUNCTION_NAME", &format!("{}-{function}", variable("STACK_NAME"))));
    let is_worker = |pid: &String| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let has = |wanted: &str| environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes());
        has(&endpoint) && names.iter().any(|name| has(name))
    };
    let processes = std::fs::read_dir("/proc").expect("a Linux machine").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).filter(is_worker).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_at_random_lose_nothing_and_double_nothing_for_the_buyers() {
    let seller = Seller::new().await;
    let mut chats = Vec::new();
    for buyer in ["Анна", "Борис", "Вера", "Глеб"] {
        let (chat, thread) = seller.conversation(buyer).await;
        chats.push((buyer, chat, thread));
    }
    // So that most of a worker's life is spent between asking and hearing the answer.
    let slow = |target: &str, method: &str, scope: serde_json::Value| json!({ "kind": "latency", "latency_ms": 400, "target": target, "method": method, "scope": scope });
    seller.stack.fault(slow("avito", "messages.send", json!({ "user_id": seller.user_id }))).await;
    seller.stack.fault(slow("telegram", "sendMessage", json!({ "chat_id": seller.group }))).await;
    let texts = |what: &str| (1..=10).map(|number| format!("{what} {number}")).collect::<Vec<_>>();
    let (questions, answers) = (texts("Вопрос"), texts("Ответ"));

    let talking = async {
        for (question, answer) in questions.iter().zip(&answers) {
            for (_, chat, thread) in &chats {
                seller.buyer_writes(chat, question).await;
                seller.operator_writes(*thread, answer).await;
            }
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    };
    let killing = async {
        let mut killed = 0;
        for _ in 0..60 {
            tokio::time::sleep(Duration::from_millis(rand::rng().random_range(50..500))).await;
            if let Some(pid) = workers().choose(&mut rand::rng()) {
                let kill = Command::new("kill").args(["-9", pid]).status().expect("kill is there");
                killed += usize::from(kill.success());
            }
        }
        killed
    };
    let ((), killed) = tokio::join!(talking, killing);
    assert!(killed > 10, "only {killed} were there to be killed");

    for (buyer, chat, _) in &chats {
        wait_until(Duration::from_secs(150), &format!("everything for and from {buyer}"), async || {
            let topic = seller.topic_of(buyer).await?;
            let arrived = |said: &[String], wanted: &[String]| wanted.iter().all(|text| said.contains(text));
            (arrived(&topic.said(), &questions) && arrived(&seller.answers(chat).await, &answers)).then_some(())
        })
        .await;
    }
    for (buyer, chat, _) in &chats {
        assert_eq!(seller.answers(chat).await, answers, "{buyer}");
        let topic: Topic = seller.topic_of(buyer).await.expect("the topic");
        assert_eq!(topic.said_at_least_once()[1..], questions, "{buyer}: {:?}", topic.posts());
    }
}
