//! Applying the migrations to an empty database, and the stored functions that they install.

mod support;

use support::{World, variable};
use tokio_postgres::{Client, NoTls};
use tuberry::{
    planned,
    platform::{
        db::{ClientId, Db, Scope, Statement, Timeouts, get, parse_address},
        migrations::apply,
        plans,
        secrets::Secret,
    },
    routine,
};

async fn connected(address: &str) -> Client {
    let config = parse_address(address).unwrap_or_else(|error| panic!("{error}"));
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| panic!("{error}"));
    tokio::spawn(connection);
    client
}

/// An empty database that only one test uses.
struct Database {
    name: String,
    address: Secret,
}

impl Database {
    async fn new() -> Self {
        let name = format!("migrations_{}", World::new_id());
        on_server(&format!("CREATE DATABASE {name}")).await;
        let mut address = url::Url::parse(&variable("DATABASE_URL")).unwrap_or_else(|error| panic!("{error}"));
        address.set_path(&name);
        Self { name, address: Secret::new(address.as_str()) }
    }

    async fn migrated(&self) -> Client {
        apply(&self.address, "").await.unwrap_or_else(|error| panic!("{error}"));
        connected(self.address.expose()).await
    }

    async fn dropped(self) {
        on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn on_server(sql: &str) {
    connected(&variable("DATABASE_URL")).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Reads the stored functions by name, with their ids.
async fn functions(client: &Client) -> Vec<(String, u32)> {
    let sql = "SELECT proname::text, oid FROM pg_proc WHERE pronamespace = 'plans'::regnamespace ORDER BY 1";
    let rows = client.query(sql, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn migrations_started_three_times_at_once_are_applied_once() {
    let database = Database::new().await;
    let address = &database.address;
    let (one, two, three) = tokio::join!(apply(address, ""), apply(address, ""), apply(address, ""));
    let again = apply(address, "").await;
    database.dropped().await;

    let applied = [one, two, three].map(|outcome| outcome.unwrap_or_else(|error| panic!("{error}")));
    let some: Vec<_> = applied.iter().filter(|names| !names.is_empty()).collect();
    assert_eq!(some.len(), 1, "{applied:?}");
    assert_eq!(some[0].first().map(String::as_str), Some("V0001__tenancy"));
    assert_eq!(again.ok(), Some(Vec::new()));
}

#[tokio::test]
async fn each_stored_function_is_created_once_and_later_migrations_leave_it_alone() {
    let database = Database::new().await;
    let first = functions(&database.migrated().await).await;
    let second = functions(&database.migrated().await).await;
    database.dropped().await;

    let mut wanted: Vec<String> = plans::all().map(plans::Planned::name).collect();
    wanted.sort();
    wanted.dedup();
    assert!(wanted.len() > 20, "{wanted:?}");
    assert_eq!(first.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), wanted);
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_function_of_other_code_stays_for_a_week_and_one_with_another_result_is_created_again() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let mut ours = functions(&client).await.into_iter().map(|(name, _)| name);
    let (changed, returned) = (ours.next().unwrap_or_default(), ours.next().unwrap_or_default());
    let others = format!(
        "CREATE FUNCTION plans.unmarked() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION plans.recent() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION plans.old() RETURNS int LANGUAGE sql AS 'SELECT 1';
         CREATE FUNCTION pg_temp.mark(name text, days int) RETURNS void LANGUAGE plpgsql AS $$
         BEGIN
             EXECUTE (SELECT format('COMMENT ON FUNCTION %s IS %L', oid::regprocedure, current_date - days)
                      FROM pg_proc WHERE proname = name);
         END $$;
         SELECT pg_temp.mark('recent', 7), pg_temp.mark('old', 8), pg_temp.mark('{returned}', 8);
         ALTER FUNCTION plans.{changed} RENAME TO misplaced;
         CREATE FUNCTION plans.{changed}(text) RETURNS text LANGUAGE sql AS 'SELECT $1'"
    );
    client.batch_execute(&others).await.unwrap_or_else(|error| panic!("{error}"));
    let client = database.migrated().await;
    let names: Vec<String> = functions(&client).await.into_iter().map(|(name, _)| name).collect();
    let body = format!("SELECT prosrc FROM pg_proc WHERE proname = '{changed}'");
    let bodies = client.query(&body, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    let comment = format!("SELECT obj_description(oid, 'pg_proc') FROM pg_proc WHERE proname = '{returned}'");
    let comment = client.query_one(&comment, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    database.dropped().await;

    for remaining in ["unmarked", "recent", "misplaced", &returned] {
        assert!(names.contains(&remaining.to_owned()), "{remaining}: {names:?}");
    }
    assert_eq!(comment.get::<_, Option<String>>(0), None, "a function that the code calls again loses its date");
    assert!(!names.contains(&"old".to_owned()), "{names:?}");
    assert_eq!(bodies.len(), 1);
    assert!(bodies[0].get::<_, String>(0).contains("BEGIN"));
}

/// A `planned!` statement that only this test uses.
fn sum(one: i64, other: i64) -> Statement {
    planned!("SELECT $1::bigint + $2::bigint AS sum").bind(one).bind(other)
}

#[tokio::test]
async fn a_statement_whose_function_is_missing_is_sent_as_it_is_written() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let db = Db::new(Secret::new(database.address.expose()), String::new(), Timeouts::USUAL);
    let with_function = db.query(Scope::Service, sum(1, 2)).await;
    let round_trips_with_function = db.round_trips();
    client.batch_execute("DROP SCHEMA plans CASCADE").await.unwrap_or_else(|error| panic!("{error}"));
    let without = [db.query(Scope::Service, sum(3, 4)).await, db.query(Scope::Service, sum(5, 6)).await];
    database.dropped().await;

    let read = |rows: Result<Vec<tokio_postgres::Row>, _>| get::<i64>(&rows.expect("rows")[0], "sum").expect("a sum");
    assert_eq!((read(with_function), round_trips_with_function), (3, 1));
    assert_eq!(without.map(read), [7, 11]);
    assert_eq!(db.round_trips(), 4, "the absence is found once, and remembered");
}

/// A `routine!` that only this test uses.
fn twice(what: i64) -> Statement {
    routine!(
        "(_what bigint, _again bigint DEFAULT NULL) RETURNS TABLE (twice bigint)",
        "BEGIN _again := _what; twice := _what + _again; RETURN NEXT; END",
        []
    )
    .bind(what)
}

#[tokio::test]
async fn a_stored_function_that_is_missing_is_created_for_the_session_that_calls_it() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let db = Db::new(Secret::new(database.address.expose()), String::new(), Timeouts::USUAL);
    let with_function = db.query(Scope::Tenant(ClientId(1)), twice(1)).await;
    client.batch_execute("DROP SCHEMA plans CASCADE").await.unwrap_or_else(|error| panic!("{error}"));
    let without =
        [db.query(Scope::Tenant(ClientId(1)), twice(2)).await, db.query(Scope::Tenant(ClientId(1)), twice(3)).await];
    database.dropped().await;

    let read =
        |rows: Result<Vec<tokio_postgres::Row>, _>| get::<i64>(&rows.expect("rows")[0], "twice").expect("a number");
    assert_eq!(read(with_function), 2);
    assert_eq!(without.map(read), [4, 6]);
}

/// Tables that grow with every message.
const GROWING: [&str; 5] = ["dialogs", "dialog_topics", "messages", "parts", "posts"];
/// A few clients with some history, of which one row in fifty waits. Postgres would read all of an empty table or index
/// as cheaply as one row.
const HISTORY: &str = "
    SET session_replication_role = replica;
    INSERT INTO dialogs (client_id, avito_account_id, bot_id, avito_chat_id, send_at)
    SELECT n % 20, n % 20, n % 20, n, CASE WHEN n % 50 = 7 THEN now() END FROM generate_series(1, 4000) AS n;
    INSERT INTO dialog_topics (client_id, bot_id, telegram_chat_id, telegram_topic_id, dialog_id)
    SELECT n % 20, n % 20, n % 20, n, n FROM generate_series(1, 4000) AS n;
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, state)
    SELECT n % 20, n % 20, 1 + n % 4000, 'text', '{}', CASE WHEN n % 50 = 7 THEN 'pending' ELSE 'sent' END
    FROM generate_series(1, 40000) AS n;
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, status, needs_post, post_id,
                          avito_message_id, avito_created)
    SELECT n % 20, 1 + n % 4000, n % 20, n % 20, 'in', 'buyer', 'text', 'delivered', true, nullif(n, n / 50 * 50 + 7), n, now()
    FROM generate_series(1, 40000) AS n;
    INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, text, text_key, state)
    SELECT n % 20, 1 + n % 4000, n, n % 20, 0, 'x', 'x', CASE WHEN n % 50 = 7 THEN 'pending' ELSE 'sent' END
    FROM generate_series(1, 40000) AS n;
    SET session_replication_role = origin;
    ANALYZE";

/// Reads a function's parameters: their names, as far as they have any, and their types.
async fn parameters(client: &Client, function: &str) -> (Vec<String>, Vec<String>) {
    let ask = "SELECT coalesce(proargnames[1:pronargs], '{}'), ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) AS t)
               FROM pg_proc WHERE proname = $1 AND pronamespace = 'plans'::regnamespace";
    let row = client.query_one(ask, &[&function]).await.unwrap_or_else(|error| panic!("{error}: {function}"));
    (row.get(0), row.get(1))
}

/// Returns Postgres' generic plan of a function's statement. It uses an index wherever there is one that it could use.
async fn plan(client: &Client, function: &str, sql: &str) -> String {
    let (names, types) = parameters(client, function).await;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let numbered = |word: &str| match names.iter().position(|name| name == word) {
        Some(index) if !word.is_empty() => format!("${}", index + 1),
        _ => word.to_owned(),
    };
    let words = sql.split_inclusive(|c| !is_name(c)).map(|piece| match piece.char_indices().last() {
        Some((end, last)) if !is_name(last) => format!("{}{last}", numbered(&piece[..end])),
        _ => numbered(piece),
    });
    let sql: String = words.collect();
    let (types, nulls) = (types.join(", "), vec!["NULL"; types.len()].join(", "));
    let (types, nulls) = if types.is_empty() { (types, nulls) } else { (format!("({types})"), format!("({nulls})")) };
    let explain = format!("PREPARE s {types} AS {sql}; EXPLAIN (COSTS off) EXECUTE s{nulls}; DEALLOCATE s");
    let messages = client.simple_query(&explain).await.unwrap_or_else(|error| panic!("{error}: {sql}"));
    let lines = messages.iter().filter_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the lines of a plan that read a growing table as a whole, or all rows of a tenant. A whole index counts too:
/// it may have only the rows that wait, but has those of all tenants.
fn read_as_a_whole(plan: &str) -> Vec<&str> {
    let grows = |line: &str| GROWING.iter().any(|table| format!("{line} ").contains(&format!(" on {table} ")));
    let lines: Vec<&str> = plan.lines().chain([""]).collect();
    let by_tenant = |line: &str| line.contains("Cond: (client_id = ") && !line.contains(" AND ");
    let by_nothing = |pair: &[&str]| pair[0].contains("Index") && !pair[1].contains("Index Cond: ");
    let is_whole = |pair: &[&str]| pair[0].contains("Seq Scan") || by_tenant(pair[1]) || by_nothing(pair);
    // A bitmap's own line names the index alone, after its table.
    let bitmap = |line: &str| {
        let is_of = |table: &&str| line.contains(&format!("Bitmap Index Scan on {table}_"));
        GROWING.iter().any(is_of)
    };
    let is_found = |pair: &&[&str]| grows(pair[0]) && is_whole(pair) || bitmap(pair[0]) && by_nothing(pair);
    let scans = lines.windows(2).filter(is_found);
    scans.map(|pair| pair[0].trim()).collect()
}

#[tokio::test]
async fn no_stored_function_reads_the_whole_of_a_table_that_grows() {
    let database = Database::new().await;
    let client = database.migrated().await;
    client.batch_execute(HISTORY).await.unwrap_or_else(|error| panic!("{error}"));
    let settings = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; SET ROLE tuberry_app";
    client.batch_execute(settings).await.unwrap_or_else(|error| panic!("{error}"));
    let (mut read, mut seen) = (Vec::new(), 0);
    let statements = plans::all().flat_map(|planned| planned.statements().iter().map(|sql| (planned.name(), *sql)));
    for (function, sql) in statements {
        let plan = plan(&client, &function, sql).await;
        seen += usize::from(plan.contains("Index"));
        if !read_as_a_whole(&plan).is_empty() {
            read.push(format!("{:?} in {sql}\n{plan}", read_as_a_whole(&plan)));
        }
    }
    database.dropped().await;

    assert!(seen > 30, "{seen} statements use an index");
    assert!(read.is_empty(), "{}", read.join("\n\n"));
}
