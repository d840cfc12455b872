//! Access: an organisation's bots and accounts are visible to its own people only.

use serde_json::json;

use super::support::{Seller, Stack, new_number};

#[tokio::test]
async fn a_stranger_sees_nothing_of_a_seller_and_cannot_use_the_sellers_bot() {
    let seller = Seller::new().await;
    let stack = &seller.stack;
    let stranger = stack.newcomer().await;

    for (path, own) in [("/api/bots", seller.bot_id), ("/api/avito/accounts", seller.account_id)] {
        let mine = stack.get(path, Some(&seller.access_token)).await;
        assert_eq!((mine.status, &mine.body["items"][0]["id"]), (200, &json!(own)), "{mine:?}");
        let theirs = stack.get(path, Some(&stranger)).await;
        assert_eq!((theirs.status, &theirs.body["items"]), (200, &json!([])), "{theirs:?}");
    }
    let account = json!({ "api_client_id": "a", "api_client_secret": "b", "bot_id": seller.bot_id });
    let refused = stack.post("/api/avito/accounts", Some(&stranger), &account).await;
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("no_such_bot")), "{refused:?}");
    let bot = json!({ "token": seller.bot_token, "group_chat_id": seller.group });
    let refused = stack.post("/api/bots", Some(&stranger), &bot).await;
    assert_eq!((refused.status, &refused.body["code"]), (409, &json!("bot_taken")), "{refused:?}");
}

#[tokio::test]
async fn a_person_who_signs_in_can_read_their_user_and_one_widget_answer_works_once() {
    let stack = Stack::new();
    let person = new_number();
    let login = Stack::widget(person);

    let first = stack.post("/api/auth/telegram", None, &login).await;
    assert_eq!(first.status, 200, "{first:?}");
    let token = first.body["access_token"].as_str().expect("a token");
    let me = stack.get("/api/auth/me", Some(token)).await;
    assert_eq!((me.status, &me.body["user"]["telegram_user_id"]), (200, &json!(person)), "{me:?}");
    assert!(me.body["client"]["id"].is_i64(), "{me:?}");

    let again = stack.post("/api/auth/telegram", None, &login).await;
    assert_eq!((again.status, &again.body["code"]), (401, &json!("login_used")), "{again:?}");
    let mut forged = Stack::widget(person);
    forged["id"] = json!(person + 1);
    let forged = stack.post("/api/auth/telegram", None, &forged).await;
    assert_eq!((forged.status, &forged.body["code"]), (401, &json!("login_refused")), "{forged:?}");
}

#[tokio::test]
async fn without_a_valid_token_there_is_nothing_to_see() {
    let stack = Stack::new();
    let token = stack.newcomer().await;
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let bent = format!("{signed}.{}", signature.chars().rev().collect::<String>());

    for path in ["/api/auth/me", "/api/bots", "/api/avito/accounts"] {
        for token in [None, Some(""), Some("nonsense"), Some(bent.as_str()), Some(&token[..token.len() / 2])] {
            let answer = stack.get(path, token).await;
            assert_eq!((answer.status, &answer.body["code"]), (401, &json!("unauthorized")), "{path}: {answer:?}");
        }
    }
}
