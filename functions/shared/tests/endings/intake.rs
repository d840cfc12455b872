//! A buffered webhook that our own SQL refuses: it holds up neither its chat nor the others, and is not lost.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tuberry::bridge::{
    ingest::intake::{IntakeError, record_from_intake},
    queue_tasks::IntakeTask,
};

use crate::{
    scene::Scene,
    support::{World, must, variable},
};

const MINUTE: Duration = Duration::from_secs(60);

impl Scene {
    /// A buffered webhook about a buyer's message in a chat.
    fn buffered(&self, chat: &str, text: &str) -> IntakeTask {
        let (id, now) = (World::new_id(), jiff::Timestamp::now().as_second());
        let message = json!({ "id": format!("m-{id}"), "chat_id": chat, "user_id": self.shop.outside.user_id, "author_id": 7,
                              "chat_type": "u2i", "type": "text", "content": { "text": text }, "created": now });
        let payload = json!({ "id": format!("w-{id}"), "version": "v3.0.0", "timestamp": now,
                              "payload": { "type": "message", "value": message } });
        IntakeTask::V1 { account_id: self.shop.account_id, payload: payload.to_string() }
    }

    /// SQS delivers a task, for the so many-th time.
    async fn receive(&self, task: &IntakeTask, receipt: u32) -> Result<(), IntakeError> {
        let deadline = Instant::now() + Duration::from_secs(10);
        record_from_intake(self.shop.world.app, task, receipt, deadline).await
    }
}

/// Calls SQS, and returns its answer.
async fn sqs(world: &World, action: &str, body: Value) -> Value {
    let request =
        world.app.outside().post(variable("AWS_ENDPOINT_URL")).header("content-type", "application/x-amz-json-1.0");
    let answer = request.header("x-amz-target", format!("AmazonSQS.{action}")).body(body.to_string()).send().await;
    must(serde_json::from_str(&must(must(answer).text().await)))
}

#[tokio::test]
async fn a_webhook_that_our_own_sql_refuses_is_shown_as_unreadable_at_its_third_receipt() {
    let mut scene = Scene::new().await;
    let chat = scene.buyer_writes_first("Анна", "Здравствуйте").await;
    scene.poll().await;
    scene.run_for(MINUTE).await;
    scene.as_owner("ALTER TABLE messages ADD CHECK (kind <> 'text' OR text NOT LIKE 'Яд%')").await;
    let refused = scene.buffered(&chat, "Яд в словах");

    assert!(scene.receive(&refused, 1).await.is_err());
    assert!(scene.receive(&refused, 2).await.is_err());
    must(scene.receive(&refused, 3).await);
    must(scene.receive(&scene.buffered(&chat, "А доставка?"), 1).await);
    scene.run_for(MINUTE).await;

    let posted = scene.posted();
    let shown: Vec<_> = posted.iter().filter(|text| text.contains("Яд в словах")).collect();
    assert!(shown.len() == 1 && shown[0].contains('❔'), "{posted:?}");
    assert!(posted.iter().any(|text| text.contains("А доставка?")), "{posted:?}");
    scene.end().await;
}

#[tokio::test]
async fn a_webhook_that_our_own_sql_refuses_in_any_form_goes_to_the_dead_letters_and_its_chat_goes_on() {
    let world = World::new();
    let name = format!("dead-{}.fifo", World::new_id());
    let created = sqs(&world, "CreateQueue", json!({ "QueueName": name, "Attributes": { "FifoQueue": "true" } })).await;
    let queue = created["QueueUrl"].as_str().unwrap_or_default();
    let mut scene = Scene::with(&[("INTAKE_DEAD_LETTERS_URL", queue)]).await;
    let chat = scene.buyer_writes_first("Анна", "Здравствуйте").await;
    scene.poll().await;
    scene.run_for(MINUTE).await;
    scene.as_owner("ALTER TABLE messages ADD CHECK (text NOT LIKE 'Яд%')").await;
    let refused = scene.buffered(&chat, "Яд в словах");

    must(scene.receive(&refused, 3).await);
    must(scene.receive(&scene.buffered(&chat, "А доставка?"), 1).await);
    scene.run_for(MINUTE).await;

    let received = sqs(&world, "ReceiveMessage", json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10 })).await;
    let bodies: Vec<_> =
        received["Messages"].as_array().into_iter().flatten().filter_map(|one| one["Body"].as_str()).collect();
    assert_eq!(bodies, [must(serde_json::to_string(&refused))]);
    assert!(scene.posted().iter().any(|text| text.contains("А доставка?")));
    sqs(&world, "DeleteQueue", json!({ "QueueUrl": queue })).await;
    scene.end().await;
}
