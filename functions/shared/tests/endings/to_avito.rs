//! Answers whose calls to Avito go on failing.

use std::time::Duration;

use tuberry::platform::db::Statement;

use crate::scene::Scene;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A scene with two chats that have topics, X and Y.
async fn two_chats() -> (Scene, String, String) {
    let mut scene = Scene::new().await;
    let x = scene.buyer_writes_first("Анна", "Здравствуйте").await;
    let y = scene.buyer_writes_first("Борис", "Добрый день").await;
    scene.poll().await;
    scene.run_for(2 * MINUTE).await;
    scene.forget_calls();
    (scene, x, y)
}

/// Holds the bounds of `failure.md` §5 for one thing that fails.
fn assert_few_calls(scene: &Scene, method: &str, began: f64) {
    let calls: Vec<f64> = scene.calls_of(method).iter().map(|call| call.at - began).collect();
    let within = |seconds: f64| calls.iter().filter(|at| **at < seconds).count();
    let in_a_minute =
        calls.iter().map(|from| calls.iter().filter(|at| (*from..from + 60.0).contains(*at)).count()).max();
    assert!(in_a_minute.unwrap_or_default() <= 15, "{method}: {calls:?}");
    assert!(within(3600.0) <= 60 && within(86_400.0) <= 200, "{method}: {calls:?}");
}

#[tokio::test]
async fn an_answer_that_avito_refuses_fails_at_once_with_its_words_and_the_account_stays_active() {
    let (mut scene, x, y) = two_chats().await;
    scene.avito_fails("messages.send", Some(&x), 403).await;
    scene.answer(&x, "в X").await;
    scene.answer(&y, "в Y").await;
    scene.run_for(MINUTE).await;

    assert_eq!(scene.statuses(&x).await, ["failed"]);
    assert_eq!(scene.statuses(&y).await, ["sent"]);
    assert_eq!(scene.answers_in(&y).await, ["в Y"]);
    assert!(scene.posted().iter().any(|text| text.starts_with("💔 Avito не принял сообщение")), "{:?}", scene.posted());
    assert_eq!(scene.calls_of("messages.send").iter().filter(|call| call.chat.as_deref() == Some(&*x)).count(), 1);
    assert!(scene.calls_of("token").is_empty(), "no new token for a refusal of one thing");
    let status = scene.query(Statement::new("SELECT status FROM avito_accounts")).await;
    assert_eq!(status[0].get::<_, String>("status"), "active");
    scene.end().await;
}

#[tokio::test]
async fn an_answer_that_fails_without_end_is_given_up_once_another_chat_goes_through() {
    let (mut scene, x, y) = two_chats().await;
    let began = scene.clock();
    scene.avito_fails("messages.send", Some(&x), 500).await;
    scene.answer(&x, "в X").await;
    for _ in 0..15 {
        scene.answer(&y, "в Y").await;
        scene.run_for(MINUTE).await;
    }
    assert_eq!(scene.statuses(&x).await, ["failed"]);
    let posted = scene.posted();
    assert!(posted.iter().any(|text| text.contains("Неизвестно, дошло ли")), "{posted:?}");
    assert_few_calls(&scene, "messages.send", began);
    assert!(scene.calls_of("token").is_empty());
    scene.end().await;
}

#[tokio::test]
async fn an_outage_of_hours_ends_nothing_and_all_answers_arrive_after_it_in_their_order() {
    let (mut scene, x, y) = two_chats().await;
    let began = scene.clock();
    let fault = scene.avito_fails("messages.send", None, 500).await;
    scene.answer(&x, "один").await;
    scene.answer(&x, "два").await;
    scene.answer(&y, "три").await;
    scene.run_for(3 * HOUR).await;
    assert_eq!(scene.statuses(&x).await, ["sending", "sending"]);
    let delayed = scene.posted().iter().filter(|text| text.contains("Avito пока не принимает")).count();
    assert!((2..=3).contains(&delayed), "one notice an answer that was tried: {:?}", scene.posted());
    let hour = scene.calls_of("messages.send").iter().filter(|call| call.at < began + 3600.0).count();
    assert!(hour <= 60, "{hour} calls in the first hour");

    scene.lift(fault).await;
    scene.run_for(HOUR).await;
    let mut answers = scene.answers_in(&x).await;
    answers.sort();
    assert_eq!(answers, ["два", "один"]);
    assert_eq!(scene.answers_in(&y).await, ["три"]);
    scene.end().await;
}

#[tokio::test]
async fn an_answer_that_waited_a_day_is_never_sent_by_itself() {
    let (mut scene, x, _) = two_chats().await;
    let fault = scene.avito_fails("messages.send", None, 500).await;
    scene.answer(&x, "вчера").await;
    scene.run_for(DAY + HOUR).await;
    assert_eq!(scene.statuses(&x).await, ["failed"]);
    scene.lift(fault).await;
    scene.run_for(HOUR).await;
    assert_eq!(scene.answers_in(&x).await, Vec::<String>::new());
    scene.end().await;
}

#[tokio::test]
async fn a_chat_that_cannot_be_read_after_a_lost_answer_ends_in_a_question_and_the_next_answer_goes() {
    let (mut scene, x, _) = two_chats().await;
    scene.avito_fails("messages.list", Some(&x), 404).await;
    let lost = serde_json::json!({ "target": "avito", "method": "messages.send", "kind": "reset_before", "times": 1, "scope": { "chat": x } });
    scene.fault(lost).await;
    scene.answer(&x, "первый").await;
    scene.run_for(MINUTE).await;
    scene.answer(&x, "второй").await;
    scene.run_for(2 * HOUR).await;

    assert_eq!(scene.statuses(&x).await, ["failed", "sent"]);
    assert_eq!(scene.answers_in(&x).await, ["второй"]);
    assert!(scene.posted().iter().any(|text| text.contains("Неизвестно, дошло ли")));
    assert_eq!(scene.calls_of("messages.list").len(), 1, "a refusal is not repeated");
    scene.end().await;
}

#[tokio::test]
async fn a_chat_whose_marking_as_read_is_refused_is_asked_once_and_keeps_its_token() {
    let (mut scene, x, _) = two_chats().await;
    scene.avito_fails("chat.read", Some(&x), 403).await;
    scene.buyer_writes(&x, "Вы тут?").await;
    scene.poll().await;
    scene.run_for(HOUR).await;
    let reads = scene.calls_of("chat.read").iter().filter(|call| call.chat.as_deref() == Some(&*x)).count();
    assert_eq!(reads, 1);
    assert!(scene.calls_of("token").is_empty());
    scene.end().await;
}

#[tokio::test]
async fn thirty_dialogs_whose_token_avito_does_not_give_make_one_request_at_a_time() {
    let (mut scene, x, y) = two_chats().await;
    let expire = serde_json::json!({ "target": "avito", "kind": "token_expired", "scope": { "user_id": scene.shop.outside.user_id } });
    scene.fault(expire).await;
    scene.query(Statement::new("UPDATE avito_accounts SET access_token = NULL")).await;
    let fault = scene.avito_fails("token", None, 500).await;
    let began = scene.clock();
    for chat in [&x, &y] {
        scene.answer(chat, "ответ").await;
    }
    scene.run_for(HOUR).await;
    let tokens: Vec<f64> = scene.calls_of("token").iter().map(|call| call.at - began).collect();
    assert!(tokens.len() <= 25 && tokens.iter().filter(|at| **at < 60.0).count() <= 6, "{tokens:?}");

    scene.lift(fault).await;
    scene.run_for(HOUR).await;
    assert_eq!(scene.answers_in(&x).await, ["ответ"]);
    scene.end().await;
}

#[tokio::test]
async fn an_account_whose_sends_all_fail_makes_few_calls_however_many_answers_wait() {
    let mut scene = Scene::new().await;
    let mut chats = Vec::new();
    for index in 0..10 {
        chats.push(scene.buyer_writes_first(&format!("Покупатель {index}"), "Здравствуйте").await);
    }
    scene.poll().await;
    scene.run_for(10 * MINUTE).await;
    scene.forget_calls();
    let began = scene.clock();
    let fault = scene.avito_fails("messages.send", None, 500).await;
    for chat in &chats {
        scene.answer(chat, "Да, продаём").await;
    }
    scene.run_for(HOUR).await;
    assert!(scene.calls_of("messages.send").len() <= 60, "{}", scene.calls_of("messages.send").len());
    let worst = scene.most_in_a_minute("avito");
    assert!(worst <= 20, "{worst} calls in a minute");
    let first_hour = scene.calls_between("avito", began, began + 3600.0);
    assert!(first_hour <= 60, "{first_hour} calls in the first hour");

    scene.lift(fault).await;
    scene.run_for(15 * MINUTE).await;
    for chat in &chats {
        assert_eq!(scene.answers_in(chat).await, ["Да, продаём"]);
    }
    scene.end().await;
}

#[tokio::test]
async fn a_deletion_and_a_blocking_that_avito_refuses_end_with_a_notice_and_a_later_answer_goes() {
    for status in [403, 500] {
        let (mut scene, x, _) = two_chats().await;
        scene.answer(&x, "ответ").await;
        scene.run_for(MINUTE).await;
        scene.forget_calls();
        let began = scene.clock();
        scene.avito_fails("messages.delete", Some(&x), status).await;
        scene.avito_fails("blacklist", None, status).await;
        let delete = "UPDATE messages SET requested_change = '{}', change_due_at = now(), delete_command_id = 5, origin = 'operator'
                      WHERE direction = 'out'";
        scene.query(Statement::new(delete)).await;
        scene.query(Statement::new("UPDATE dialogs SET block_requested_at = now(), send_at = now()")).await;
        scene.run_for(Duration::from_secs(5)).await;
        scene.query(Statement::new("UPDATE dialogs SET block_requested_at = NULL WHERE block_attempts = 0")).await;
        scene.query(Statement::new("INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, text, status, needs_post)
             SELECT client_id, dialog_id, avito_account_id, bot_id, 'out', 'api', 'text', 'позже', 'sending', false FROM messages WHERE direction = 'out' LIMIT 1")).await;
        scene
            .query(Statement::new(
                "INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, text, text_key)
             SELECT client_id, dialog_id, id, avito_account_id, 0, text, text FROM messages WHERE text = 'позже'",
            ))
            .await;
        scene
            .query(Statement::new(
                "UPDATE dialogs SET send_at = now() WHERE id = (SELECT dialog_id FROM messages WHERE text = 'позже')",
            ))
            .await;
        scene.run_for(Duration::from_secs(20)).await;
        assert!(scene.answers_in(&x).await.contains(&"позже".to_owned()), "{status}: {:?}", scene.answers_in(&x).await);

        scene.run_for(2 * HOUR).await;
        let posted = scene.posted();
        assert!(posted.iter().any(|text| text.contains("Avito не удалил сообщение")), "{status}: {posted:?}");
        assert!(posted.iter().any(|text| text.contains("Avito не заблокировал")), "{status}: {posted:?}");
        assert_few_calls(&scene, "messages.delete", began);
        assert_few_calls(&scene, "blacklist", began);
        assert!(scene.calls_of("token").is_empty());
        scene.end().await;
    }
}

#[tokio::test]
async fn another_text_waits_for_the_deletion_of_the_former_one_and_later_answers_do_not() {
    let (mut scene, x, _) = two_chats().await;
    scene.answer(&x, "по пять").await;
    scene.run_for(Duration::from_secs(5)).await;
    let fault = scene.avito_fails("messages.delete", Some(&x), 500).await;
    let change = "UPDATE messages SET change_due_at = now(), origin = 'operator', requested_change =
                      '{\"text\": \"по шесть\", \"parts\": [{\"position\": 0, \"text\": \"по шесть\", \"text_key\": \"по шесть\"}]}'
                  WHERE direction = 'out'";
    scene.query(Statement::new(change)).await;
    scene.query(Statement::new("UPDATE dialogs SET send_at = now()")).await;
    scene.run_for(Duration::from_secs(3)).await;
    scene.answer(&x, "доставка завтра").await;
    scene.run_for(Duration::from_secs(10)).await;
    let answers = scene.answers_in(&x).await;
    assert!(
        answers.contains(&"доставка завтра".to_owned()) && !answers.contains(&"по шесть".to_owned()),
        "{answers:?}"
    );

    scene.lift(fault).await;
    scene.run_for(MINUTE).await;
    assert!(scene.answers_in(&x).await.contains(&"по шесть".to_owned()), "{:?}", scene.answers_in(&x).await);
    scene.end().await;
}

#[tokio::test]
async fn an_answer_whose_row_our_own_sql_refuses_goes_once_and_its_writer_is_notified() {
    let (mut scene, x, y) = two_chats().await;
    let began = scene.clock();
    scene
        .as_owner(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON parts FOR EACH ROW WHEN (NEW.text = 'в X' AND NEW.state = 'sent')
             EXECUTE FUNCTION refuse()",
        )
        .await;
    scene.answer(&x, "в X").await;
    scene.answer(&y, "в Y").await;
    scene.run_for(DAY).await;

    assert_eq!(scene.answers_in(&x).await, ["в X"], "Avito has it once");
    assert_eq!(scene.answers_in(&y).await, ["в Y"]);
    assert_eq!(scene.statuses(&x).await, ["failed"]);
    assert!(scene.posted().iter().any(|text| text.contains("Неизвестно, дошло ли")), "{:?}", scene.posted());
    assert_few_calls(&scene, "messages.list", began);
    scene.end().await;
}

#[tokio::test]
async fn a_deletion_that_our_own_sql_refuses_ends_with_a_notice_and_answers_go_on() {
    let (mut scene, x, _) = two_chats().await;
    scene.answer(&x, "первый").await;
    scene.run_for(MINUTE).await;
    let began = scene.clock();
    scene
        .as_owner(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no'; END $$;
             CREATE TRIGGER refuse BEFORE UPDATE ON parts FOR EACH ROW WHEN (NEW.state = 'deleted') EXECUTE FUNCTION refuse()",
        )
        .await;
    let delete =
        "UPDATE messages SET requested_change = '{}', change_due_at = now(), delete_command_id = 5, origin = 'operator'
                  WHERE direction = 'out'";
    scene.query(Statement::new(delete)).await;
    scene.query(Statement::new("UPDATE dialogs SET send_at = now()")).await;
    scene.run_for(MINUTE).await;
    scene.answer(&x, "второй").await;
    scene.run_for(DAY).await;

    assert!(scene.answers_in(&x).await.contains(&"второй".to_owned()));
    assert!(scene.posted().iter().any(|text| text.contains("Avito не удалил")), "{:?}", scene.posted());
    assert_few_calls(&scene, "messages.delete", began);
    scene.end().await;
}

#[tokio::test]
async fn a_refused_account_that_has_chats_to_mark_as_read_rests_and_answers_at_once_when_it_is_taken_again() {
    let (mut scene, x, _) = two_chats().await;
    scene.query(Statement::new("UPDATE avito_accounts SET status = 'blocked', status_changed_at = now()")).await;
    scene.query(Statement::new("UPDATE dialogs SET mark_read_at = now()")).await;
    // With a wake-up that is due at once after each, the workers would turn in a circle here.
    scene.run_for(HOUR / 2).await;
    assert!(scene.calls_of("chat.read").is_empty());

    scene.query(Statement::new("UPDATE avito_accounts SET status = 'active', status_changed_at = now()")).await;
    scene.answer(&x, "снова тут").await;
    scene.run_for(Duration::from_secs(5)).await;
    assert_eq!(scene.answers_in(&x).await, ["снова тут"]);
    scene.end().await;
}

#[tokio::test]
async fn an_answer_of_unknown_outcome_that_its_writer_deletes_never_goes() {
    let (mut scene, x, _) = two_chats().await;
    let fault = scene.avito_fails("messages.send", Some(&x), 500).await;
    let answer = scene.operator_writes(&x, "лишнее").await;
    scene.run_for(12 * MINUTE).await;

    scene.operator_replies(&x, answer, "/del").await;
    scene.run_for(5 * MINUTE).await;
    scene.lift(fault).await;
    scene.answer(&x, "нужное").await;
    scene.run_for(3 * HOUR).await;

    assert_eq!(scene.answers_in(&x).await, ["нужное"]);
    scene.end().await;
}

#[tokio::test]
async fn answers_do_not_wait_for_deletions_blockings_and_mark_reads_whose_calls_are_out() {
    let mut scene = Scene::new().await;
    let mut chats = Vec::new();
    for number in 0..4 {
        chats.push(scene.buyer_writes_first(&format!("Покупатель {number}"), "Здравствуйте").await);
    }
    scene.poll().await;
    scene.run_for(2 * MINUTE).await;
    for chat in &chats {
        scene.answer(chat, "первый").await;
    }
    scene.run_for(10 * Duration::from_secs(1)).await;
    for method in ["messages.delete", "blacklist", "chat.read"] {
        scene.avito_fails(method, None, 500).await;
    }
    let delete =
        "UPDATE messages SET requested_change = '{}', change_due_at = now(), delete_command_id = 5, origin = 'operator'
                  WHERE direction = 'out'";
    scene.query(Statement::new(delete)).await;
    scene.query(Statement::new("UPDATE dialogs SET send_at = now(), mark_read_at = now()")).await;
    scene.run_for(MINUTE).await;

    for chat in &chats {
        scene.answer(chat, "второй").await;
    }
    scene.run_for(Duration::from_secs(15)).await;

    for chat in &chats {
        let answers = scene.answers_in(chat).await;
        assert!(answers.contains(&"второй".to_owned()), "{answers:?}");
    }
    scene.end().await;
}

#[tokio::test]
async fn a_deletion_of_what_the_buyer_does_not_have_is_told_and_an_edit_of_a_forgotten_answer_sends_nothing() {
    let (mut scene, x, _) = two_chats().await;
    let answer = scene.operator_writes(&x, "лишнее").await;
    scene.run_for(MINUTE).await;
    scene.query(Statement::new("UPDATE parts SET state = 'cancelled'")).await;
    scene.operator_replies(&x, answer, "/del").await;
    scene.run_for(MINUTE).await;
    assert!(scene.posted().iter().any(|text| text.contains("Удалять нечего")), "{:?}", scene.posted());

    let sent = scene.answers_in(&x).await;
    scene.operator_edits(&x, 4_711, 3 * DAY, "правка через три дня").await;
    scene.run_for(MINUTE).await;
    assert_eq!(scene.answers_in(&x).await, sent);
    scene.end().await;
}
