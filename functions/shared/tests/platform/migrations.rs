//! Applying the migrations to an empty database, and the stored functions that they install.

use std::{collections::BTreeSet, path::Path, process::Command};

use tokio_postgres::{Client, NoTls};
use tuberry::{
    platform::{
        db::{ClientId, Db, Scope, Statement, Timeouts, get, parse_address},
        migrations::{apply, grant_roles},
        secrets::Secret,
    },
    sql,
};

use crate::{
    statements::functions_of,
    support::{World, variable},
};

async fn connected(address: &str) -> Client {
    let config = parse_address(address).unwrap_or_else(|error| panic!("{error}"));
    let (client, connection) = config.connect(NoTls).await.unwrap_or_else(|error| panic!("{error}"));
    tokio::spawn(connection);
    client
}

/// An empty database that only one test uses.
pub struct Database {
    name: String,
    pub address: Secret,
}

impl Database {
    pub async fn new() -> Self {
        let name = format!("migrations_{}", World::new_id());
        on_server(&format!("CREATE DATABASE {name}")).await;
        let mut address = url::Url::parse(&variable("DATABASE_URL")).unwrap_or_else(|error| panic!("{error}"));
        address.set_path(&name);
        Self { name, address: Secret::new(address.as_str()) }
    }

    pub async fn migrated(&self) -> Client {
        apply(&self.address, "").await.unwrap_or_else(|error| panic!("{error}"));
        connected(self.address.expose()).await
    }

    pub async fn dropped(self) {
        on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn on_server(sql: &str) {
    connected(&variable("DATABASE_URL")).await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Reads the stored functions of this code by name, with their ids.
async fn functions(client: &Client) -> Vec<(String, u32)> {
    let sql = "SELECT proname::text, oid FROM pg_proc WHERE pronamespace = to_regnamespace($1::text) ORDER BY 1";
    let rows = client.query(sql, &[&sql::SCHEMA]).await.unwrap_or_else(|error| panic!("{error}"));
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

/// A role that functions could log in as, which exists for one test.
struct Login(String);

impl Login {
    async fn new() -> Self {
        let name = format!("functions \"of\" {}", World::new_id());
        let login = Self(name);
        on_server(&format!("CREATE ROLE {} LOGIN NOINHERIT PASSWORD 'word'", login.quoted())).await;
        login
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }

    /// The number of the roles that it may take.
    async fn roles(&self, database: &Database) -> i64 {
        let sql = "SELECT count(*) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = $1)";
        let client = connected(database.address.expose()).await;
        client.query_one(sql, &[&self.0]).await.unwrap_or_else(|error| panic!("{error}")).get(0)
    }
}

#[tokio::test]
async fn the_login_of_the_functions_may_take_the_roles_of_the_tables_and_nothing_else() {
    let (database, login) = (Database::new().await, Login::new().await);
    let owner = database.migrated().await;
    drop(owner);
    let address = &database.address;
    let granted = tokio::join!(grant_roles(address, "", &login.0), grant_roles(address, "", &login.0));
    let roles = login.roles(&database).await;
    let mut address = url::Url::parse(database.address.expose()).unwrap_or_else(|error| panic!("{error}"));
    assert!(address.set_username(&login.0).is_ok() && address.set_password(Some("word")).is_ok());
    let db = Db::new(Secret::new(address.as_str()), String::new(), Timeouts::USUAL);
    let as_service = db.query(Scope::Service, Statement::new("SELECT id FROM bots")).await;
    let by_itself = connected(address.as_str()).await.batch_execute("SELECT id FROM bots").await;
    database.dropped().await;
    on_server(&format!("DROP ROLE {}", login.quoted())).await;

    assert!(granted.0.is_ok() && granted.1.is_ok(), "{granted:?}");
    assert_eq!((roles, as_service.map(|rows| rows.len()).ok()), (3, Some(0)));
    let code = by_itself.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
    assert_eq!(code.as_deref(), Some("42501"), "without a role it has no rights");
}

#[tokio::test]
async fn a_login_that_does_not_exist_is_named() {
    let database = Database::new().await;
    drop(database.migrated().await);
    let outcome = grant_roles(&database.address, "", "nobody").await;
    database.dropped().await;

    let sentence = outcome.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(sentence.contains("to the role nobody of DATABASE_LOGIN: create it first"), "{sentence}");
}

#[tokio::test]
async fn each_stored_function_is_created_once_and_later_migrations_leave_it_alone() {
    let database = Database::new().await;
    let first = functions(&database.migrated().await).await;
    let second = functions(&database.migrated().await).await;
    database.dropped().await;

    let wanted: BTreeSet<String> = sql::FILES.iter().flat_map(|(_, text)| functions_of(text)).map(|f| f.name).collect();
    assert!(wanted.len() > 40, "{wanted:?}");
    assert_eq!(first.iter().map(|(name, _)| name.clone()).collect::<BTreeSet<_>>(), wanted);
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_schema_of_other_code_stays_for_a_week_and_one_that_is_used_again_loses_its_date() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let others = format!(
        "CREATE SCHEMA sql_00000001; CREATE SCHEMA sql_00000002; CREATE SCHEMA sql_00000003; CREATE SCHEMA sql_other;
         CREATE FUNCTION sql_00000003.old() RETURNS int LANGUAGE sql AS 'SELECT 1';
         DO $$ BEGIN
             EXECUTE format('COMMENT ON SCHEMA sql_00000002 IS %L', current_date - 7);
             EXECUTE format('COMMENT ON SCHEMA sql_00000003 IS %L', current_date - 8);
             EXECUTE format('COMMENT ON SCHEMA {} IS %L', current_date - 8);
         END $$",
        sql::SCHEMA
    );
    client.batch_execute(&others).await.unwrap_or_else(|error| panic!("{error}"));
    let client = database.migrated().await;
    let schemas = "SELECT nspname::text, obj_description(oid, 'pg_namespace') = current_date::text,
                          obj_description(oid, 'pg_namespace') IS NULL
                   FROM pg_namespace WHERE nspname LIKE 'sql\\_%'";
    let rows = client.query(schemas, &[]).await.unwrap_or_else(|error| panic!("{error}"));
    database.dropped().await;

    let of = |name: &str| rows.iter().find(|row| row.get::<_, &str>(0) == name);
    assert_eq!(of("sql_00000001").map(|row| row.get::<_, Option<bool>>(1)), Some(Some(true)), "it is dated today");
    assert!(of("sql_00000002").is_some() && of("sql_other").is_some());
    assert!(of("sql_00000003").is_none(), "it was dated more than a week ago");
    assert_eq!(of(sql::SCHEMA).map(|row| row.get::<_, bool>(2)), Some(true), "its code migrates again");
}

/// Calls a fragment that needs no row.
fn priority(kind: &'static str) -> Statement {
    Statement::new("SELECT sql.post_priority($1) AS priority").bind(kind)
}

#[tokio::test]
async fn functions_that_are_missing_are_made_by_the_transaction_that_calls_them() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let db = Db::new(Secret::new(database.address.expose()), String::new(), Timeouts::USUAL);
    let with_schema = db.query(Scope::Service, priority("header")).await;
    let round_trips_with_schema = db.round_trips();
    let drop = format!("DROP SCHEMA {} CASCADE", sql::SCHEMA);
    client.batch_execute(&drop).await.unwrap_or_else(|error| panic!("{error}"));
    let without = [
        db.query(Scope::Service, priority("notice")).await,
        db.query(Scope::Tenant(ClientId(1)), priority("reaction")).await,
    ];
    let nested = Statement::call("make_due_for_posts").arg("bot_id", 1_i64);
    let nested = db.query(Scope::Tenant(ClientId(1)), nested).await;
    database.dropped().await;

    let read =
        |rows: Result<Vec<tokio_postgres::Row>, _>| get::<i32>(&rows.expect("rows")[0], "priority").expect("a number");
    assert_eq!((read(with_schema), round_trips_with_schema), (1, 1));
    assert_eq!(without.map(read), [2, 3]);
    assert_eq!(nested.map(|rows| rows.len()).ok(), Some(0), "a function calls the others");
    assert_eq!(db.round_trips(), 5, "their absence is found once, and remembered");
}

/// Behind a pooler one session of Postgres may serve two versions of the code.
#[tokio::test]
async fn functions_that_other_code_made_in_the_session_are_forgotten() {
    let database = Database::new().await;
    let client = database.migrated().await;
    let db = Db::new(Secret::new(database.address.expose()), String::new(), Timeouts::USUAL);
    let drop = format!("DROP SCHEMA {} CASCADE", sql::SCHEMA);
    client.batch_execute(&drop).await.unwrap_or_else(|error| panic!("{error}"));
    let others = "CREATE FUNCTION pg_temp.post_priority(_kind text, _more int DEFAULT 0) RETURNS text LANGUAGE sql AS 'SELECT 1'";
    let made = db.query(Scope::Service, Statement::new(others)).await;
    let called = db.query(Scope::Service, priority("notice")).await;
    database.dropped().await;

    assert!(made.is_ok(), "{made:?}");
    assert_eq!(get::<i32>(&called.expect("rows")[0], "priority").ok(), Some(2));
}

#[tokio::test]
async fn each_sql_file_runs_in_psql_as_it_is() {
    let database = Database::new().await;
    let client = database.migrated().await;
    client.batch_execute("CREATE SCHEMA sql").await.unwrap_or_else(|error| panic!("{error}"));
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut psql = Command::new("psql");
    psql.args(["--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", database.address.expose()]);
    for (path, _) in sql::FILES {
        psql.arg("--file").arg(src.join(path));
    }
    let outcome = psql.output().unwrap_or_else(|error| panic!("psql: {error}"));
    database.dropped().await;

    assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
}
