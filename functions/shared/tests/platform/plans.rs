//! Looks at the plan of every statement of our code: none reads the whole of a table that grows, or all rows of a client.

use std::{collections::BTreeSet, fs, path::Path};

use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};
use tuberry::sql;

use crate::{
    migrations::Database,
    rust::{Kind, tokens, without_tests},
    statements::{Found, Function, functions_of, is_statement},
};

/// Tables that grow with every message.
const GROWING: [&str; 6] = ["dialogs", "dialog_topics", "messages", "parts", "posts", "search_texts"];
/// The roles of our code. Postgres does not let all of them run each statement.
const ROLES: [&str; 3] = ["tuberry_app", "tuberry_service", "tuberry_identity"];
/// Files whose statements look at the rows of all clients, as `tuberry_service`.
const OF_ALL_CLIENTS: [&str; 1] = ["bridge/sweep.rs"];
/// Statements that read as much as they have to, with the reason.
const ALLOWED: [(&str, &str); 2] = [
    ("list_dialogs", "goes along the index of its order, and stops when the page is full"),
    ("found_dialogs", "goes along the same index, and stops after two thousand dialogs"),
];
/// A few clients with some history, of which one row in fifty waits. Postgres would read all of an empty table or index
/// as cheaply as one row.
const HISTORY: &str = "
    SET session_replication_role = replica;
    INSERT INTO dialogs (client_id, avito_account_id, bot_id, avito_chat_id, send_at, mark_read_at, telegram_chat_id,
                         telegram_topic_id, topic_state, topic_name, topic_failed_since, last_message_at)
    SELECT n % 20, n % 20, n % 20, n, CASE WHEN n % 50 = 7 THEN now() END, CASE WHEN n % 50 = 7 THEN now() END,
           CASE WHEN n % 50 <> 7 THEN n % 20 END, CASE WHEN n % 50 <> 7 THEN n END,
           CASE WHEN n % 50 = 7 THEN 'creating' ELSE 'open' END, n, CASE WHEN n % 50 = 7 THEN now() END,
           now() - make_interval(hours => n)
    FROM generate_series(1, 4000) AS n;
    INSERT INTO dialog_topics (client_id, bot_id, telegram_chat_id, telegram_topic_id, dialog_id)
    SELECT n % 20, n % 20, n % 20, n, n FROM generate_series(1, 4000) AS n;
    INSERT INTO posts (client_id, bot_id, dialog_id, kind, content, state, message_chat_id, telegram_message_ids, dedup_key)
    SELECT n % 20, n % 20, 1 + n % 4000, 'text', '{}', CASE WHEN n % 50 = 7 THEN 'pending' ELSE 'sent' END, n % 20, ARRAY[n], n
    FROM generate_series(1, 40000) AS n;
    INSERT INTO messages (client_id, dialog_id, avito_account_id, bot_id, direction, origin, kind, status, needs_post, post_id,
                          avito_message_id, avito_created, change_due_at, telegram_chat_id, telegram_message_id)
    SELECT n % 20, 1 + n % 4000, n % 20, n % 20, 'in', 'buyer', 'text', 'delivered', true, nullif(n, n / 50 * 50 + 7), n, now(),
           CASE WHEN n % 50 = 7 THEN now() END, n % 20, n
    FROM generate_series(1, 40000) AS n;
    INSERT INTO parts (client_id, dialog_id, message_id, avito_account_id, position, text, text_key, state)
    SELECT n % 20, 1 + n % 4000, n, n % 20, 0, 'x', 'x', CASE WHEN n % 50 = 7 THEN 'pending' ELSE 'sent' END
    FROM generate_series(1, 40000) AS n;
    INSERT INTO search_texts (client_id, dialog_id, message_id, text)
    SELECT n % 20, 1 + n % 4000, n, md5(n::text) FROM generate_series(1, 40000) AS n;
    SET session_replication_role = origin;
    ANALYZE";

/// Lists the statements of the library.
fn statements(src: &Path) -> Vec<Found> {
    let mut found = Vec::new();
    for (_, text) in sql::FILES {
        found.extend(functions_of(text).iter().flat_map(Function::statements));
    }
    for path in rust_files(src) {
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let place = path.strip_prefix(src).unwrap_or(&path).display().to_string();
        let literals = without_tests(&tokens(&text)).into_iter().filter(|token| token.kind == Kind::Text);
        found.extend(literals.filter(|token| is_statement(&token.text)).map(|token| Found {
            place: format!("{place}:{}", token.line),
            sql: token.text,
            types: Vec::new(),
        }));
    }
    found
}

fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap_or_else(|error| panic!("{error}")).path());
    let files = paths.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Plans statements on one connection.
struct Planner {
    client: Client,
    /// The types of columns, by their names.
    columns: Vec<(String, String)>,
    partial_indexes: BTreeSet<String>,
}

impl Planner {
    async fn new(client: Client) -> Self {
        let settings = "SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan";
        client.batch_execute(HISTORY).await.unwrap_or_else(|error| panic!("{error}"));
        client.batch_execute(settings).await.unwrap_or_else(|error| panic!("{error}"));
        let columns = "SELECT attname::text, min(format_type(atttypid, NULL)) FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
                       WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 GROUP BY 1";
        let columns = client.query(columns, &[]).await.unwrap_or_else(|error| panic!("{error}"));
        let partial = "SELECT indexrelid::regclass::text FROM pg_index WHERE indpred IS NOT NULL";
        let partial = client.query(partial, &[]).await.unwrap_or_else(|error| panic!("{error}"));
        Self {
            client,
            columns: columns.iter().map(|row| (row.get(0), row.get(1))).collect(),
            partial_indexes: partial.iter().map(|row| row.get(0)).collect(),
        }
    }

    /// Returns Postgres' generic plan of a statement. It uses an index wherever there is one that it could use.
    async fn plan(&self, found: &Found) -> String {
        let sql = found.sql.replace("sql.", &format!("{}.", sql::SCHEMA));
        let numbers =
            sql.split('$').skip(1).map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>());
        let count = numbers.filter_map(|number| number.parse().ok()).max().unwrap_or(0_usize);
        let known = |kind: &String| match kind.strip_prefix("unknown:") {
            Some(field) => self
                .columns
                .iter()
                .find(|(name, _)| name == field)
                .map_or("unknown".to_owned(), |(_, kind)| kind.clone()),
            None => kind.clone(),
        };
        let mut types: Vec<String> = found.types.iter().map(known).collect();
        types.resize(types.len().max(count), "unknown".to_owned());
        let service_only = OF_ALL_CLIENTS.iter().any(|file| found.place.starts_with(file));
        let mut roles = ROLES.iter().skip(usize::from(service_only));
        let mut role = roles.next();
        while let Some(name) = role {
            match self.explain(name, &sql, &types).await {
                Ok(plan) => return plan,
                Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => role = roles.next(),
                Err(error) if is_type_unknown(&error) => set_text(&mut types, &error),
                Err(error) => panic!("{error:?} in {}: {sql}", found.place),
            }
        }
        panic!("no role may run the statement of {}: {sql}", found.place)
    }

    async fn explain(&self, role: &str, sql: &str, types: &[String]) -> Result<String, tokio_postgres::Error> {
        let in_brackets =
            |items: &[String]| if items.is_empty() { String::new() } else { format!("({})", items.join(", ")) };
        let nulls = vec!["NULL".to_owned(); types.len()];
        let explain = format!(
            "BEGIN; SET LOCAL ROLE {role}; PREPARE s {} AS {sql}; EXPLAIN (COSTS off) EXECUTE s{}",
            in_brackets(types),
            in_brackets(&nulls)
        );
        let outcome = self.client.simple_query(&explain).await;
        self.client.batch_execute("ROLLBACK; DEALLOCATE ALL").await?;
        let line = |message: &SimpleQueryMessage| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        Ok(outcome?.iter().filter_map(line).collect::<Vec<_>>().join("\n"))
    }

    /// Returns the lines of a plan that read a growing table as a whole, or all rows of a client, bot or account. A whole index counts
    /// too: it may have only the rows that wait, but has those of all clients. What waits for one bot may be read.
    fn read_as_a_whole<'plan>(&self, plan: &'plan str) -> Vec<&'plan str> {
        let grows = |line: &str| GROWING.iter().any(|table| format!("{line} ").contains(&format!(" on {table} ")));
        let lines: Vec<&str> = plan.lines().chain([""]).collect();
        let is_found = |pair: &&[&str]| {
            let [line, next] = pair else { return false };
            // A bitmap's own line names the index alone, after its table.
            let index = line.split_once("Bitmap Index Scan on ").or(line.split_once(" using "));
            let index = index.and_then(|(_, rest)| rest.split_whitespace().next());
            let is_of = |table: &str| index.is_some_and(|index| index.starts_with(&format!("{table}_")));
            if line.contains("Seq Scan") {
                return grows(line);
            }
            let Some(index) = index
                .filter(|_| grows(line) || line.contains("Bitmap Index") && GROWING.iter().any(|table| is_of(table)))
            else {
                return false;
            };
            let Some((_, condition)) = next.split_once("Index Cond: (") else { return true };
            let column = condition.split(" = ").next().unwrap_or_default();
            let column = column.rsplit('.').next().unwrap_or_default();
            !condition.contains(" AND ")
                && (column == "client_id"
                    || matches!(column, "bot_id" | "avito_account_id") && !self.partial_indexes.contains(index))
        };
        lines.windows(2).filter(is_found).map(|pair| pair[0].trim()).collect()
    }
}

/// True if Postgres does not find out the type of a parameter.
fn is_type_unknown(error: &tokio_postgres::Error) -> bool {
    [&SqlState::INDETERMINATE_DATATYPE, &SqlState::AMBIGUOUS_PARAMETER].map(Some).contains(&error.code())
}

/// Has the parameter be a text that Postgres has no type for: it is only written somewhere.
fn set_text(types: &mut [String], error: &tokio_postgres::Error) {
    let message = error.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
    let number = message.rsplit('$').next().and_then(|number| number.parse::<usize>().ok());
    let kind = number.and_then(|number| types.get_mut(number - 1)).unwrap_or_else(|| panic!("{error:?}"));
    assert_eq!(kind, "unknown", "{error:?}");
    "text".clone_into(kind);
}

#[tokio::test]
async fn no_statement_reads_the_whole_of_a_table_that_grows() {
    let database = Database::new().await;
    let planner = Planner::new(database.migrated().await).await;
    let (mut read, mut seen) = (Vec::new(), 0);
    for found in statements(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let plan = planner.plan(&found).await;
        seen += usize::from(plan.contains("Index"));
        let whole = planner.read_as_a_whole(&plan);
        if !whole.is_empty() && ALLOWED.iter().all(|(place, _)| found.place != *place) {
            read.push(format!("{whole:?} in {}: {}\n{plan}", found.place, found.sql));
        }
    }
    drop(planner);
    database.dropped().await;

    assert!(seen > 250, "{seen} statements use an index");
    assert!(read.is_empty(), "{}", read.join("\n\n"));
}
