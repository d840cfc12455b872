//! The gauges of the sweep, in a database of their own: in the stack's the due rows of other tests would count.

use tuberry::{
    bridge::sweep::{Gauges, read_gauges},
    platform::{
        db::{Db, Timeouts, parse_address},
        migrations::apply,
        secrets::Secret,
    },
};

use crate::support::{World, must, variable};

/// Two clients, one of them suspended; three bots, four accounts and three dialogs with work at different times.
const ROWS: &str = "
    SET session_replication_role = replica;
    INSERT INTO clients (name, suspended_at) VALUES ('one', NULL), ('two', now());
    INSERT INTO bots (client_id, telegram_bot_id, bot_username, token, webhook_secret_hash, status)
    SELECT client, bot, 'bot', '', decode(repeat('00', 32), 'hex'), status
    FROM (VALUES (1, 1, 'active'), (1, 2, 'error'), (2, 3, 'error')) AS v (client, bot, status);
    INSERT INTO avito_accounts (client_id, bot_id, name, user_id, api_client_id, api_client_secret, webhook_secret,
                                webhook_secret_hash, status, monitoring_enabled, webhook_state)
    SELECT client, 1, 'account', account, '', '', '', decode(repeat('00', 32), 'hex'), status, monitored, webhook
    FROM (VALUES (1, 1, 'active', true, 'taken_over'), (1, 2, 'blocked', true, 'registered'),
                 (1, 3, 'blocked', false, 'taken_over'), (2, 4, 'blocked', true, 'taken_over'))
         AS v (client, account, status, monitored, webhook);
    -- Polls of refused, unmonitored and suspended accounts are nobody's concern.
    INSERT INTO account_polls (avito_account_id, client_id, next_poll_at)
    SELECT account, 1, now() - make_interval(secs => late) FROM (VALUES (1, 300), (2, 900), (3, 900), (4, 900)) AS v (account, late);
    -- Work that a worker has, and work that is not due yet, does not wait.
    INSERT INTO bot_outboxes (bot_id, client_id, due_at, lease_until)
    SELECT bot, 1, now() - make_interval(secs => late), now() + make_interval(secs => lease)
    FROM (VALUES (1, 900, 30), (2, 600, -30), (3, -60, NULL)) AS v (bot, late, lease);
    INSERT INTO dialogs (client_id, avito_account_id, bot_id, avito_chat_id, send_at, lease_until)
    SELECT 1, 1, 1, late::text, now() - make_interval(secs => late), now() + make_interval(secs => lease)
    FROM (VALUES (900, 30), (120, NULL), (60, NULL), (-60, NULL)) AS v (late, lease)";

#[tokio::test]
async fn the_gauges_show_what_is_due_and_not_taken_and_who_cannot_work() {
    let server = variable("MIGRATION_DATABASE_URL");
    let name = format!("gauges_{}", World::new_id());
    run(&server, &format!("CREATE DATABASE {name}")).await;
    let mut address = must(url::Url::parse(&server));
    address.set_path(&name);
    let address = Secret::new(address.as_str());
    must(apply(&address, "").await);
    let db = Db::new(Secret::new(address.expose()), String::new(), Timeouts::USUAL);
    let empty = must(read_gauges(&db).await);
    run(address.expose(), ROWS).await;
    let filled = must(read_gauges(&db).await);
    run(address.expose(), &format!("DROP SCHEMA {} CASCADE", tuberry::sql::SCHEMA)).await;
    let without_functions = must(read_gauges(&db).await);
    run(&server, &format!("DROP DATABASE {name} WITH (FORCE)")).await;

    let nothing = Gauges {
        telegram_due_seconds: 0.0,
        avito_due_seconds: 0.0,
        poll_due_seconds: 0.0,
        bots: 0,
        bots_in_error: 0,
        accounts: 0,
        accounts_refused: 0,
        accounts_taken_over: 0,
        sql_schema_missing: 0,
    };
    assert_eq!(empty, nothing);
    let ages = [filled.telegram_due_seconds, filled.avito_due_seconds, filled.poll_due_seconds];
    for (age, wanted) in ages.into_iter().zip([600.0, 120.0, 300.0]) {
        assert!((wanted..wanted + 60.0).contains(&age), "{ages:?}");
    }
    assert_eq!((filled.bots, filled.bots_in_error, filled.accounts, filled.accounts_refused), (2, 1, 2, 1));
    assert_eq!(filled.accounts_taken_over, 1);
    assert_eq!((filled.sql_schema_missing, without_functions.sql_schema_missing), (0, 1));
}

async fn run(address: &str, sql: &str) {
    let (client, connection) = must(must(parse_address(address)).connect(tokio_postgres::NoTls).await);
    tokio::spawn(connection);
    must(client.batch_execute(sql).await);
}
