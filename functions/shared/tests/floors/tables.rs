//! Tables: each has one owner, whose SQL alone names it, and within the bridge few rooms that write it.

use super::{
    rooms::room,
    rust::tokens,
    sql::{literals, words},
    tree::{SRC, Source, assert_none, sources, texts},
};

/// The owner of each table. The views of tenancy are for every domain.
const TABLES: &[(&str, &[&str])] = &[
    (
        "tenancy",
        &["clients", "bots", "telegram_chats", "avito_accounts", "audit_log", "owner_notices", "idempotency_keys"],
    ),
    ("identity", &["users", "sessions", "refresh_tokens", "used_logins"]),
    (
        "bridge",
        &[
            "dialogs",
            "dialog_topics",
            "messages",
            "posts",
            "parts",
            "inside_albums",
            "bot_outboxes",
            "account_polls",
            "chat_polls",
            "relocations",
            "tombstones",
            "search_texts",
        ],
    ),
];

/// The rooms of the bridge whose own SQL writes a table. Any other room uses a statement or a function of `rows`.
/// `claim`: the files `claim.rs` and `claim.sql` of any room, which take and release leases.
const WRITERS: &[(&str, &[&str])] = &[
    ("dialogs", &["rows", "auto_reply", "ingest", "operator", "to_telegram", "to_avito", "api", "forget"]),
    ("messages", &["rows", "auto_reply", "ingest", "operator", "to_telegram", "to_avito", "api", "forget"]),
    ("parts", &["rows", "auto_reply", "ingest", "operator", "to_avito", "forget"]),
    ("inside_albums", &["operator", "forget"]),
    ("posts", &["rows", "to_telegram", "api", "forget"]),
    ("dialog_topics", &["rows", "api", "claim"]),
    ("bot_outboxes", &["rows", "api", "claim"]),
    ("account_polls", &["rows", "ingest", "api"]),
    ("chat_polls", &["ingest"]),
    ("relocations", &["api"]),
    ("tombstones", &["forget"]),
    // Triggers write it.
    ("search_texts", &[]),
];

/// Reads the Rust and SQL files of the library.
fn library() -> Vec<Source> {
    sources(SRC, "rs").into_iter().chain(sources(SRC, "sql")).collect()
}

/// Lists the words of the SQL of a file, with their lines: of a whole `.sql` file, or of each literal.
fn pieces(source: &Source) -> Vec<Vec<(usize, String)>> {
    if source.has_extension("sql") {
        return vec![words(1, &source.text)];
    }
    literals(&tokens(&source.text)).map(|token| words(token.line, &token.text)).collect()
}

/// Lists the tables of other domains that a file names.
fn foreign_tables(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(domain) = module.first() else { return Vec::new() };
    let mut problems = Vec::new();
    for (line, word) in pieces(source).concat() {
        let owner = TABLES.iter().find(|(owner, tables)| owner != domain && tables.contains(&word.as_str()));
        if let Some((owner, _)) = owner {
            problems.push(format!("{}:{line}: names {word}, a table of {owner}", source.path));
        }
    }
    problems
}

/// Lists the tables that SQL writes, with their lines.
fn written(words: &[(usize, String)]) -> Vec<(usize, String)> {
    let stands_behind = |at: usize, expected: &[&str]| {
        let before = at.checked_sub(expected.len()).map(|start| &words[start..at]);
        before.is_some_and(|before| before.iter().map(|(_, word)| word).eq(expected))
    };
    let beginnings: [&[&str]; 3] = [&["INSERT", "INTO"], &["UPDATE"], &["DELETE", "FROM"]];
    let is_written = |at: &usize| beginnings.iter().any(|beginning| stands_behind(*at, beginning));
    (0..words.len()).filter(is_written).map(|at| words[at].clone()).collect()
}

/// Lists the tables that a file of the bridge writes though its room may not.
fn foreign_writes(source: &Source) -> Vec<String> {
    let module = source.module();
    let Some(room) = room(&module) else { return Vec::new() };
    let is_claim = module.last().is_some_and(|name| name == "claim");
    let mut problems = Vec::new();
    for (line, table) in pieces(source).iter().flat_map(|words| written(words)) {
        let writers = WRITERS.iter().find(|(written, _)| *written == table).map(|(_, writers)| *writers);
        let Some(writers) = writers else { continue };
        if !(writers.contains(&room) || is_claim && writers.contains(&"claim")) {
            let only = writers.join(", ");
            problems.push(format!("{}:{line}: {room} writes {table}, as only {only} may", source.path));
        }
    }
    problems
}

#[test]
fn a_domain_names_no_table_of_another() {
    assert_none(&library().iter().flat_map(foreign_tables).collect::<Vec<_>>());
}

#[test]
fn a_room_of_the_bridge_writes_only_its_own_tables() {
    assert_none(&library().iter().flat_map(foreign_writes).collect::<Vec<_>>());
}

#[test]
fn every_table_of_the_migrations_has_an_owner() {
    let owned: Vec<&str> = TABLES.iter().flat_map(|(_, tables)| tables.iter().copied()).collect();
    let mut problems = Vec::new();
    for source in texts("migrations") {
        for line in source.text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")) {
            let table = line.trim_end_matches(" (");
            if !owned.contains(&table) {
                problems.push(format!("{}: {table} has no owner", source.path));
            }
        }
    }
    assert_none(&problems);
}

#[test]
fn every_table_of_the_bridge_has_writers() {
    let bridge = TABLES.iter().find(|(owner, _)| *owner == "bridge").map(|(_, tables)| *tables).unwrap_or_default();
    let without = bridge.iter().filter(|table| WRITERS.iter().all(|(written, _)| written != *table));
    assert_none(&without.map(|table| format!("{table} has no writers")).collect::<Vec<_>>());
}

fn file(path: &str, text: &str) -> Source {
    Source { path: format!("{SRC}/{path}"), text: text.to_owned() }
}

#[test]
fn a_foreign_table_is_named_with_its_line() {
    let found = foreign_tables(&file("bridge/a.rs", "\nlet bots = \"SELECT 1 FROM bots, tenancy_bots, dialogs\";"));
    assert_eq!(found, [format!("{SRC}/bridge/a.rs:2: names bots, a table of tenancy")]);
    let sql = "-- users\nCREATE FUNCTION sql.x() AS $$ SELECT 1 FROM users $$;";
    assert_eq!(foreign_tables(&file("tenancy/a.sql", sql)).len(), 1);
}

#[test]
fn a_table_is_written_by_insert_update_and_delete_alone() {
    let sql = "WITH a AS (INSERT INTO posts (id) VALUES (1)) UPDATE parts SET x = 1 FROM dialogs; DELETE FROM messages
               SELECT 1 FROM bot_outboxes FOR UPDATE; -- UPDATE dialogs";
    let found = written(&words(1, sql));
    assert_eq!(found.iter().map(|(_, table)| table.as_str()).collect::<Vec<_>>(), ["posts", "parts", "messages"]);
}

#[test]
fn claim_files_write_leases_and_no_other_file_of_their_room() {
    let lease = "\"UPDATE bot_outboxes SET lease_until = now()\"";
    assert_eq!(foreign_writes(&file("bridge/to_telegram/claim.rs", lease)), [""; 0]);
    let found = foreign_writes(&file("bridge/to_telegram/topic.rs", lease));
    assert_eq!(
        found,
        [format!("{SRC}/bridge/to_telegram/topic.rs:1: to_telegram writes bot_outboxes, as only rows, api, claim may")]
    );
}
