//! Floors and rooms: a module imports only from floors below its own, and a room of the bridge only from those that its
//! table allows.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    paths::{Modules, Named, named},
    rust::tokens,
    tree::{SRC, Source, assert_none, sources},
};

/// The floors, from the ground up, each with the modules that it may import. Domains share the top floor: the list of
/// each includes the domains that it may call.
const FLOORS: &[(&str, &[&str])] = &[
    ("sql", &[]),
    ("platform", &["sql"]),
    ("app", &["platform"]),
    ("wiring", &["app", "platform"]),
    ("avito", &["app", "platform"]),
    ("telegram", &["app", "platform"]),
    ("tenancy", &["app", "platform", "avito", "telegram"]),
    ("identity", &["app", "platform", "avito", "telegram", "tenancy"]),
    ("bridge", &["app", "platform", "avito", "telegram", "tenancy", "identity"]),
];

/// The rooms of the bridge, from the ground up, each with the rooms that it may import. The four that send and receive
/// do not know each other.
const ROOMS: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("common", &["error"]),
    ("rows", &["error", "common"]),
    ("auto_reply", &["error", "common", "rows"]),
    ("ingest", &["error", "common", "rows", "auto_reply"]),
    ("operator", &["error", "common", "rows"]),
    ("to_telegram", &["error", "common", "rows"]),
    ("to_avito", &["error", "common", "rows", "auto_reply"]),
    ("api", &["error", "common", "rows"]),
    ("sweep", &["error", "common"]),
    ("forget", &["error"]),
];

/// Returns the floor that a path below the crate names.
fn floor(names: &[String]) -> Option<&str> {
    // `lib.rs` hands `App` to every module above the app.
    names.first().map(|name| if name == "App" { "app" } else { name.as_str() })
}

/// Returns the room that a path below the crate names.
pub fn room(names: &[String]) -> Option<&str> {
    names.get(1).filter(|_| names[0] == "bridge").map(String::as_str)
}

/// Lists the imports that a table does not allow, each file that is imported once. `place` finds the row of the table
/// in a path.
fn not_allowed(sources: &[Source], table: &[(&str, &[&str])], place: fn(&[String]) -> Option<&str>) -> Vec<String> {
    let table: BTreeMap<_, _> = table.iter().copied().collect();
    let modules = Modules::of(sources);
    let mut problems = Vec::new();
    for source in sources {
        let module = source.module();
        let Some(own) = place(&module) else { continue };
        let Some(allowed) = table.get(own) else {
            problems.push(format!("{}: {own} stands in no table", source.path));
            continue;
        };
        let mut seen = BTreeSet::new();
        for Named { names, line } in named(&module, &tokens(&source.text), &modules) {
            let other = place(&names).filter(|other| *other != own && table.contains_key(other));
            let is_wrong = other.is_some_and(|other| !allowed.contains(&other));
            if is_wrong && seen.insert(modules.file_of(&names).map(str::to_owned)) {
                problems.push(format!("{}:{line}: {own} imports {}", source.path, names.join("::")));
            }
        }
    }
    problems
}

#[test]
fn a_module_imports_only_from_floors_below_its_own() {
    assert_none(&not_allowed(&sources(SRC, "rs"), FLOORS, floor));
}

#[test]
fn a_room_of_the_bridge_imports_only_from_rooms_that_the_table_allows() {
    assert_none(&not_allowed(&sources(SRC, "rs"), ROOMS, room));
}

/// Returns the problems of a file among empty ones.
fn problems_of(path: &str, text: &str, table: &[(&str, &[&str])], place: fn(&[String]) -> Option<&str>) -> Vec<String> {
    let source = |path: &str, text: &str| Source { path: format!("{SRC}/{path}"), text: text.to_owned() };
    let others = ["bridge/mod.rs", "bridge/to_avito/work.rs", "bridge/operator/edits.rs"];
    let others = others.iter().filter(|other| **other != path).map(|other| source(other, ""));
    not_allowed(&others.chain([source(path, text)]).collect::<Vec<_>>(), table, place)
}

#[test]
fn an_import_from_above_or_beside_is_named() {
    let problems = |path, text| problems_of(path, text, ROOMS, room);
    let upward = problems(
        "bridge/rows/posts.rs",
        "\nuse crate::bridge::{common::claim, to_avito::work::Part};\n use super::super::to_avito::work;",
    );
    assert_eq!(upward, [format!("{SRC}/bridge/rows/posts.rs:2: rows imports bridge::to_avito::work::Part")]);
    let sideways = "fn f() { super::super::operator::edits::g() }";
    assert_eq!(problems("bridge/to_avito/work.rs", sideways).len(), 1);
    assert_eq!(problems("bridge/auto_reply.rs", "use super::{error::BridgeError, rows::posts};"), [""; 0]);
    assert_eq!(problems("bridge/cellar.rs", ""), [format!("{SRC}/bridge/cellar.rs: cellar stands in no table")]);
}

#[test]
fn a_floor_knows_none_above_it() {
    let problems = |path, text| problems_of(path, text, FLOORS, floor);
    assert_eq!(problems("tenancy/bots.rs", "use crate::{App, platform::db};"), [""; 0]);
    assert_eq!(problems("platform/db.rs", "use crate::App;").len(), 1);
    assert_eq!(problems("tenancy/bots.rs", "use crate::identity::users;").len(), 1);
}
