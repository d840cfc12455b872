//! The layers of the code: a module imports only from floors below its own, and a domain's SQL names only its own
//! tables.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The floors, from the ground up, each with the modules that it may import. Domains share the top floor: the list of
/// each includes the domains that it may call.
const FLOORS: &[(&str, &[&str])] = &[
    ("platform", &[]),
    ("app", &["platform"]),
    ("avito", &["app", "platform"]),
    ("telegram", &["app", "platform"]),
    ("tenancy", &["app", "platform", "avito", "telegram"]),
    ("identity", &["app", "platform", "avito", "telegram", "tenancy"]),
    ("bridge", &["app", "platform", "avito", "telegram", "tenancy", "identity"]),
];

/// The owner of each table. The views of tenancy are for every domain.
const TABLES: &[(&str, &[&str])] = &[
    (
        "tenancy",
        &["clients", "bots", "telegram_chats", "avito_accounts", "audit_log", "owner_notices", "idempotency_keys"],
    ),
    ("identity", &["users", "sessions", "refresh_tokens", "used_logins"]),
    ("bridge", &["dialogs", "dialog_topics", "messages", "posts", "parts", "bot_outboxes", "account_polls"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { sources(&path) } else { vec![path] }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// Lists every source file with the top-level module that it belongs to.
fn modules() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&src)
        .into_iter()
        .filter_map(|path| {
            let first = path.strip_prefix(&src).ok()?.components().next()?;
            let module = first.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).ok()?;
            (module != "lib").then_some((module, path, text))
        })
        .collect()
}

/// Lists the names behind `crate::` in a file, also within braces: `crate::{app, platform::db}`.
fn imports(text: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for path in text.split("crate::").skip(1) {
        let Some(group) = path.strip_prefix('{') else {
            found.push(word(path));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in group.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(word(std::mem::take(&mut item).trim())),
                c if depth == 0 => item.push(c),
                _ => {}
            }
        }
        found.push(word(item.trim()));
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Lists the words of the SQL in a file: of its string literals that begin as a statement does.
fn sql_words(text: &str) -> Vec<String> {
    const BEGINNINGS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
    let literals = text.split('"').skip(1).step_by(2);
    literals
        .filter(|literal| BEGINNINGS.iter().any(|word| literal.contains(word)))
        .flat_map(|literal| literal.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_owned))
        .collect()
}

#[test]
fn a_module_imports_only_from_floors_below_its_own() {
    let floors: BTreeMap<_, _> = FLOORS.iter().copied().collect();
    for (module, path, text) in modules() {
        let below = floors.get(module.as_str()).unwrap_or_else(|| panic!("{module} stands on no floor"));
        for import in imports(&text) {
            // `App` is handed to every module above it; macros are named by the crate.
            let import = if import == "App" { "app".to_owned() } else { import };
            if import != module && floors.contains_key(import.as_str()) {
                assert!(below.contains(&import.as_str()), "{} imports crate::{import}", path.display());
            }
        }
    }
}

#[test]
fn a_domain_names_no_table_of_another() {
    for (module, path, text) in modules() {
        for (owner, tables) in TABLES {
            if *owner == module {
                continue;
            }
            for word in sql_words(&text) {
                assert!(!tables.contains(&word.as_str()), "{} names {word}, a table of {owner}", path.display());
            }
        }
    }
}

#[test]
fn every_table_of_the_migrations_has_an_owner() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let owned: Vec<&str> = TABLES.iter().flat_map(|(_, tables)| tables.iter().copied()).collect();
    for entry in fs::read_dir(migrations).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for line in text.lines().filter_map(|line| line.strip_prefix("CREATE TABLE ")) {
            let table = line.trim_end_matches(" (");
            assert!(owned.contains(&table), "{table} has no owner");
        }
    }
}

#[test]
fn the_reader_of_imports_sees_through_braces() {
    let text =
        "use crate::{\n    App,\n    platform::{db::{Scope, get}, http},\n    tenancy::bots,\n};\nuse crate::avito;";
    assert_eq!(imports(text), ["App", "platform", "tenancy", "avito"]);
}

#[test]
fn the_reader_of_sql_sees_tables_in_literals_only() {
    let text = r#"let users = 1; let sql = "SELECT id FROM bots WHERE x"; // users"#;
    assert!(sql_words(text).contains(&"bots".to_owned()) && !sql_words(text).contains(&"users".to_owned()));
}
