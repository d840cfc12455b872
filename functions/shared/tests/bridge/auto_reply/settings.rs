//! The settings over HTTP.

use serde_json::{Value, json};
use tuberry::platform::{
    db::{Scope, Statement},
    secrets::Secret,
};

use super::{incoming, slow_world};
use crate::support::{Owner, World, must, shop::Shop, variable};

struct Api {
    token: Secret,
}

impl Api {
    async fn of(world: &World, owner: &Owner) -> Self {
        Self { token: must(world.sign_in(owner.telegram_user_id, "Ольга").await).tokens.access }
    }

    async fn call(&self, world: &World, body: Option<&Value>) -> (u16, Value) {
        let url = format!("{}/api/clients/me", variable("STACK_API"));
        let request = match body {
            Some(body) => world.app.outside().patch(url).json(body),
            None => world.app.outside().get(url),
        };
        let answer = must(request.bearer_auth(self.token.expose()).send().await);
        let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap_or_default());
        (status, serde_json::from_str(&text).unwrap_or_default())
    }
}

#[tokio::test]
async fn an_owner_reads_and_changes_the_settings_and_each_change_is_noted() {
    let world = World::new();
    let owner = world.owner().await;
    let api = Api::of(&world, &owner).await;
    let (status, before) = api.call(&world, None).await;
    assert_eq!(
        (status, &before["auto_reply_start_time"], &before["auto_reply_timezone"]),
        (200, &json!("22:00"), &json!("Europe/Moscow"))
    );
    let change = json!({
        "name": " Столы ", "auto_reply_enabled": true, "auto_reply_start_time": "21:30", "auto_reply_timezone": "Asia/Vladivostok",
        "auto_reply_text": "Ответим утром", "filter_keywords": "казино", "hide_system_messages": true, "mark_read": false,
        "canned_replies": { "цена": "Цена окончательная." }, "unknown": 1,
    });
    let (status, after) = api.call(&world, Some(&change)).await;
    assert_eq!(status, 200, "{after}");
    assert_eq!(after["name"], "Столы");
    assert_eq!(after["auto_reply_end_time"], before["auto_reply_end_time"]);
    assert_eq!(api.call(&world, None).await, (200, after.clone()));
    assert_eq!(api.call(&world, Some(&json!({}))).await, (200, after));
    let address = must(tuberry::platform::db::parse_address(&variable("DATABASE_URL")));
    let (database, connection) = must(address.connect(tokio_postgres::NoTls).await);
    tokio::spawn(connection);
    let sql =
        "SELECT details->'name'->>'after', details->'auto_reply_enabled'->>'before', details ? 'auto_reply_always'
               FROM audit_log WHERE client_id = $1 AND user_id = $2 AND action = 'client.update'";
    let rows = must(database.query(sql, &[&owner.client.0, &owner.user_id]).await);
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].get(0), rows[0].get(1), rows[0].get::<_, bool>(2)), ("Столы", "false", false));
}

#[tokio::test]
async fn settings_that_do_not_fit_are_refused_and_nothing_changes() {
    let world = World::new();
    let owner = world.owner().await;
    let api = Api::of(&world, &owner).await;
    let before = api.call(&world, None).await;
    for (body, field) in [
        (json!({ "auto_reply_start_time": "24:00" }), "auto_reply_start_time"),
        (json!({ "auto_reply_end_time": "9:00" }), "auto_reply_end_time"),
        (json!({ "auto_reply_timezone": "Europe/Moskau" }), "auto_reply_timezone"),
        (json!({ "auto_reply_text": "я".repeat(1001) }), "auto_reply_text"),
        (json!({ "auto_reply_enabled": true, "auto_reply_text": "  " }), "auto_reply_text"),
        (json!({ "auto_reply_enabled": true }), "auto_reply_text"),
        (json!({ "name": " " }), "name"),
        (json!({ "canned_replies": { "два слова": "x" } }), "canned_replies"),
        (json!({ "canned_replies": { "a": "я".repeat(1001) } }), "canned_replies"),
        (json!({ "canned_replies": { "a".repeat(33): "x" } }), "canned_replies"),
    ] {
        let (status, problem) = api.call(&world, Some(&body)).await;
        assert_eq!((status, problem["errors"][0]["field"].as_str()), (422, Some(field)), "{body} {problem}");
    }
    assert_eq!(api.call(&world, None).await, before);
}

#[tokio::test]
async fn a_manager_reads_the_settings_and_may_not_change_them() {
    let world = World::new();
    let owner = world.owner().await;
    let statement = Statement::new("UPDATE users SET role = 'manager' WHERE id = $1").bind(owner.user_id);
    world.query(Scope::Identity, statement).await;
    let api = Api::of(&world, &owner).await;
    assert_eq!(api.call(&world, None).await.0, 200);
    assert_eq!(api.call(&world, Some(&json!({ "name": "Моё" }))).await.0, 403);
    let stranger = Api { token: Secret::new("unknown") };
    assert_eq!(stranger.call(&world, None).await.0, 401);
}

#[tokio::test]
async fn switching_off_and_on_again_cancels_scheduled_auto_replies() {
    let shop = Shop::replying_in(slow_world()).await;
    let api = Api::of(&shop.world, &shop.owner).await;
    shop.receive(vec![incoming("buyer", "Ещё продаёте?", 0)], false).await;
    let scheduled_at = shop.scheduled().await;
    let change = async |body: Value| assert_eq!(api.call(&shop.world, Some(&body)).await.0, 200);
    change(json!({ "auto_reply_enabled": true, "auto_reply_text": "Скоро ответим" })).await;
    assert_eq!(shop.scheduled_at().await, Some(scheduled_at), "nothing was switched");
    change(json!({ "auto_reply_enabled": false })).await;
    assert_eq!(shop.scheduled_at().await, None);
    change(json!({ "auto_reply_enabled": true })).await;
    assert_eq!(shop.scheduled_at().await, None);
    shop.receive(vec![incoming("buyer", "Ау?", 0)], false).await;
    shop.scheduled().await;
}
