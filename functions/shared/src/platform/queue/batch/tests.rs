use super::*;
use crate::platform::config::{Variable, var};
use serde::{Deserialize, Serialize};
use std::sync::Mutex;

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "v")]
enum Example {
    #[serde(rename = "1")]
    At { id: i64 },
}

impl Task for Example {
    const QUEUE: Variable = var::TELEGRAM_QUEUE_URL;
}

fn event(bodies: &[(&str, &str, &str)]) -> SqsEvent {
    let records: Vec<_> = bodies
        .iter()
        .map(|(id, body, count)| {
            serde_json::json!({"messageId": id, "body": body, "attributes": {"ApproximateReceiveCount": count},
                "messageAttributes": {}})
        })
        .collect();
    serde_json::from_value(serde_json::json!({ "Records": records })).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn equal_tasks_of_a_batch_run_once_and_fail_together() {
    let body = r#"{"v":"1","id":7}"#;
    let other = r#"{"v":"1","id":8}"#;
    let batch = Batch::<Example>::read(event(&[("a", body, "1"), ("b", other, "1"), ("c", body, "2")]), Instant::now());
    assert_eq!(
        batch.tasks.iter().map(|received| (received.task.clone(), received.is_again())).collect::<Vec<_>>(),
        [(Example::At { id: 7 }, true), (Example::At { id: 8 }, false)]
    );
    let failed: Vec<_> =
        batch.answer(&[false, true]).batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
    assert_eq!(failed, ["a", "c"]);
}

/// Runs two tasks, the first of which lasts until `more` has nothing left. Returns the tasks that ran, and the
/// messages that went back.
async fn run_and_help(mut besides: Vec<i64>, stop: Instant) -> (Vec<i64>, Vec<String>) {
    let batch = event(&[("a", r#"{"v":"1","id":1}"#, "1"), ("b", r#"{"v":"1","id":2}"#, "1")]);
    let batch = Batch::<Example>::read(batch, Instant::now());
    let (worked, besides) = (Mutex::new(Vec::new()), Mutex::new(std::mem::take(&mut besides)));
    let nothing_else = tokio::sync::Notify::new();
    let handle = |Example::At { id }, _| {
        let (worked, nothing_else) = (&worked, &nothing_else);
        async move {
            if id == 1 && Instant::now() < stop {
                nothing_else.notified().await;
            }
            worked.lock().unwrap_or_else(|error| panic!("{error}")).push(id);
            // After a failure, `more` is not called any more.
            if id == 9 {
                nothing_else.notify_one();
            }
            id < 9
        }
    };
    let more = |most: usize| {
        let mut besides = besides.lock().unwrap_or_else(|error| panic!("{error}"));
        let most = most.min(besides.len());
        if most == 0 {
            nothing_else.notify_one();
        }
        std::future::ready(besides.drain(..most).map(|id| Example::At { id }).collect())
    };
    let answer = batch.work_and_help(3, stop, handle, more).await;
    let back = answer.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect();
    let mut worked = worked.into_inner().unwrap_or_else(|error| panic!("{error}"));
    worked.sort_unstable();
    (worked, back)
}

#[tokio::test]
async fn slots_that_become_free_take_more_tasks_while_others_run() {
    let later = Instant::now() + Duration::from_secs(60);
    let (worked, back) = run_and_help(vec![3, 4, 5, 6, 9], later).await;
    assert_eq!((worked, back), (vec![1, 2, 3, 4, 5, 6, 9], Vec::new()), "tasks from `more` are in no message");
}

#[tokio::test]
async fn no_more_tasks_are_taken_after_the_time_to_stop() {
    let (worked, back) = run_and_help(vec![3, 4], Instant::now()).await;
    assert_eq!((worked, back), (vec![1, 2], Vec::new()));
}

/// Dropped half-way, it would close its connection to Postgres and lose the plans cached there.
#[tokio::test]
async fn a_request_for_more_tasks_is_awaited_after_the_last_task_and_its_tasks_are_not_started() {
    let batch = event(&[("a", r#"{"v":"1","id":1}"#, "1"), ("b", r#"{"v":"1","id":2}"#, "1")]);
    let batch = Batch::<Example>::read(batch, Instant::now());
    let later = Instant::now() + Duration::from_secs(60);
    let (asked, awaited, worked) = (tokio::sync::Notify::new(), Mutex::new(false), Mutex::new(Vec::new()));
    let handle = |Example::At { id }, _| {
        let (asked, worked) = (&asked, &worked);
        async move {
            if id == 1 {
                asked.notified().await;
            }
            worked.lock().unwrap_or_else(|error| panic!("{error}")).push(id);
            true
        }
    };
    let more = |_| {
        let (asked, awaited) = (&asked, &awaited);
        async move {
            asked.notify_one();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            *awaited.lock().unwrap_or_else(|error| panic!("{error}")) = true;
            vec![Example::At { id: 3 }]
        }
    };
    batch.work_and_help(3, later, handle, more).await;
    assert!(awaited.into_inner().unwrap_or_else(|error| panic!("{error}")));
    assert_eq!(worked.into_inner().unwrap_or_else(|error| panic!("{error}")), [2, 1]);
}

#[tokio::test]
async fn slots_that_stay_free_beside_a_long_task_take_more_tasks() {
    let batch = Batch::<Example>::read(event(&[("a", r#"{"v":"1","id":1}"#, "1")]), Instant::now());
    let later = Instant::now() + Duration::from_secs(60);
    let other_is_done = tokio::sync::Notify::new();
    let handle = |Example::At { id }, _| {
        let other_is_done = &other_is_done;
        async move {
            if id == 1 {
                other_is_done.notified().await;
            } else {
                other_is_done.notify_one();
            }
            true
        }
    };
    let worked = batch.work_and_help(10, later, handle, |_| std::future::ready(vec![Example::At { id: 2 }]));
    assert!(tokio::time::timeout(Duration::from_secs(20), worked).await.is_ok());
}

#[tokio::test]
async fn a_batch_of_one_short_task_asks_for_no_more_tasks() {
    let batch = Batch::<Example>::read(event(&[("a", r#"{"v":"1","id":1}"#, "1")]), Instant::now());
    let (asked, later) = (Mutex::new(0), Instant::now() + Duration::from_secs(60));
    let more = |_| {
        *asked.lock().unwrap_or_else(|error| panic!("{error}")) += 1;
        std::future::ready(Vec::new())
    };
    batch.work_and_help(10, later, |_, _| std::future::ready(true), more).await;
    assert_eq!(asked.into_inner().unwrap_or_else(|error| panic!("{error}")), 0);
}

#[tokio::test]
async fn a_task_that_is_not_done_holds_up_only_its_own_group() {
    let record = |id: &str, group: &str, number: i64| {
        serde_json::json!({"messageId": id, "body": format!(r#"{{"v":"1","id":{number}}}"#), "messageAttributes": {},
            "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": group}})
    };
    let records = [record("a", "one", 1), record("b", "other", 2), record("c", "one", 3), record("d", "other", 4)];
    let event = serde_json::from_value(serde_json::json!({ "Records": records })).expect("an event");
    let handled = std::cell::RefCell::new(Vec::new());
    let answer = Batch::<Example>::read(event, Instant::now()).work_in_order(async |Example::At { id }, _| {
        handled.borrow_mut().push(id);
        id != 1
    });
    let failed: Vec<_> = answer.await.batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
    assert_eq!((failed, handled.into_inner()), (vec!["a".to_owned(), "c".to_owned()], vec![1, 2, 4]));
}

#[test]
fn a_message_that_is_no_task_goes_back() {
    let batch = Batch::<Example>::read(event(&[("a", "nonsense", "1")]), Instant::now());
    let failed: Vec<_> = batch.answer(&[]).batch_item_failures.into_iter().map(|f| f.item_identifier).collect();
    assert_eq!(failed, ["a"]);
}
