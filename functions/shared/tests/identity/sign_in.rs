//! Signing in.

use tuberry::{
    identity::{
        SignInError,
        users::{Role, find},
        ways::login_widget::{WidgetFields, sign_in},
    },
    platform::db::{Scope, Statement},
};

use crate::{
    as_identity, call_with, status,
    support::{World, must},
};

#[tokio::test]
async fn the_first_sign_in_makes_an_organisation_with_its_owner_and_the_next_finds_them() {
    let (world, id) = (World::new(), World::new_id());
    let first = must(world.sign_in(id, "Анна").await);
    let second = must(world.sign_in(id, "Анна").await);
    assert_eq!((first.account.user.role, first.account.user.name.as_str()), (Role::Owner, "Анна"));
    assert_eq!(first.account.user, second.account.user);
    assert_eq!(first.account.client.as_ref().map(|client| client.name.as_str()), Some("Анна"));
    let found = must(find(world.app, first.account.user.id).await).map(|account| account.user);
    assert_eq!(found, Some(first.account.user));
}

#[tokio::test]
async fn two_first_sign_ins_at_once_make_one_user_and_one_organisation() {
    let (one, other, id) = (World::new(), World::new(), World::new_id());
    for world in [&one, &other] {
        must(world.sign_in(World::new_id(), "Анна").await); // both are connected, so that the sign-ins overlap
    }
    let name = format!("Вместе {id}");
    let (first, second) = tokio::join!(one.sign_in(id, &name), other.sign_in(id, &name));
    assert_eq!(must(first).account.user, must(second).account.user);
    let count = Statement::new("SELECT count(*) AS count FROM clients WHERE name = $1").bind(name);
    assert_eq!(one.query(Scope::Identity, count).await[0].get::<_, i64>("count"), 1);
}

#[tokio::test]
async fn an_answer_of_the_widget_opens_one_session_only() {
    let world = World::new();
    let fields = world.widget(World::new_id(), "Анна");
    let (first, second) = tokio::join!(sign_in(world.app, &fields), sign_in(world.app, &fields));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|won| **won).count(), 1);
    assert!(matches!(sign_in(world.app, &fields).await, Err(SignInError::Used)));
}

#[tokio::test]
async fn an_answer_that_telegram_did_not_sign_is_refused() {
    let (world, id) = (World::new(), World::new_id());
    let WidgetFields(mut fields) = world.widget(id, "Анна");
    fields.insert("id".to_owned(), (id + 1).to_string());
    let outcome = sign_in(world.app, &WidgetFields(fields)).await;
    assert_eq!(outcome.err().map(status), Some(401));
}

#[tokio::test]
async fn the_configured_person_signs_in_as_the_platforms_admin_and_is_refused_without_configuration() {
    let id = World::new_id();
    let world = World::with(&[("ADMIN_TELEGRAM_ID", &id.to_string())]);
    let admin = must(world.sign_in(id, "Админ").await);
    assert_eq!((admin.account.user.role, admin.account.user.client_id), (Role::Admin, None));
    let caller = call_with(world.app, &admin).await;
    assert!(caller.is_ok_and(|caller| caller.admin().is_ok() && caller.client().is_err()));

    let without = World::with(&[("ADMIN_TELEGRAM_ID", "")]);
    assert_eq!(without.sign_in(id, "Админ").await.err().map(status), Some(403));
}

#[tokio::test]
async fn an_owner_of_an_organisation_does_not_become_admin_by_configuration() {
    let id = World::new_id();
    must(World::with(&[("ADMIN_TELEGRAM_ID", "")]).sign_in(id, "Анна").await);
    let outcome = World::with(&[("ADMIN_TELEGRAM_ID", &id.to_string())]).sign_in(id, "Анна").await;
    assert_eq!(outcome.err().map(status), Some(409));
}

#[tokio::test]
async fn a_deactivated_user_cannot_sign_in_and_loses_the_session() {
    let (world, id) = (World::new(), World::new_id());
    let signed_in = must(world.sign_in(id, "Анна").await);
    as_identity(&world, "UPDATE users SET is_active = false WHERE id = $1", signed_in.account.user.id).await;
    assert_eq!(world.sign_in(id, "Анна").await.err().map(status), Some(403));
    assert_eq!(call_with(world.app, &signed_in).await, Err(401));
}
