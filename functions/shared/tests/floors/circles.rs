//! Circles: no file leads back to itself by the files that it names, and none names what its own folder's `mod.rs`
//! re-exports.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    paths::{Modules, named},
    rust::{tokens, without_tests},
    tree::{SRC, Source, assert_none, sources},
};

/// The files that each file names, tests apart.
type Edges = BTreeMap<String, BTreeSet<String>>;

fn is_test(source: &Source) -> bool {
    source.path.ends_with("/tests.rs")
}

fn edges(sources: &[Source]) -> Edges {
    let modules = Modules::of(sources);
    let edges_of = |source: &Source| {
        let found = named(&source.module(), &without_tests(&tokens(&source.text)), &modules);
        let files = found.iter().filter_map(|named| modules.file_of(&named.names));
        files.filter(|file| *file != source.inner()).map(str::to_owned).collect()
    };
    let sources = sources.iter().filter(|source| !is_test(source));
    sources.map(|source| (source.inner().to_owned(), edges_of(source))).collect()
}

/// Lists the files that a file leads to, over any number of steps.
fn reached<'a>(edges: &'a Edges, start: &str) -> BTreeSet<&'a String> {
    let (mut found, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(file) = open.pop() {
        for next in edges.get(file).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

/// Describes each circle: its files, then the edges between them.
fn circles(edges: &Edges) -> Vec<String> {
    let reached: BTreeMap<&String, BTreeSet<&String>> = edges.keys().map(|file| (file, reached(edges, file))).collect();
    let circle_of = |file: &String| -> BTreeSet<&String> {
        edges.keys().filter(|other| reached[file].contains(other) && reached[other].contains(file)).collect()
    };
    let circles: BTreeSet<BTreeSet<&String>> = edges.keys().map(circle_of).filter(|circle| circle.len() > 1).collect();
    circles.iter().map(|circle| described(circle, edges)).collect()
}

fn described(circle: &BTreeSet<&String>, edges: &Edges) -> String {
    let named = |file: &String| list(edges[file].iter().filter(|other| circle.contains(other)));
    let lines = circle.iter().map(|file| format!("\n    {file} -> {}", named(file)));
    format!("a circle of {} files: {}{}", circle.len(), list(circle.iter().copied()), lines.collect::<String>())
}

fn list<'a>(files: impl Iterator<Item = &'a String>) -> String {
    files.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Lists what files name in the `mod.rs` of a folder in which they stand.
fn own_folders(sources: &[Source]) -> Vec<String> {
    let modules = Modules::of(sources);
    let mut problems = Vec::new();
    for source in sources.iter().filter(|source| !is_test(source)) {
        let module = source.module();
        let mut seen = BTreeSet::new();
        for named in named(&module, &without_tests(&tokens(&source.text)), &modules) {
            let Some(file) = modules.file_of(&named.names).filter(|file| *file != source.inner()) else { continue };
            let is_own = file.strip_suffix("mod.rs").is_some_and(|folder| source.inner().starts_with(folder));
            if is_own && seen.insert(named.names.clone()) {
                problems.push(format!("{}:{}: names {} in {file}", source.path, named.line, named.names.join("::")));
            }
        }
    }
    problems
}

#[test]
fn no_file_leads_back_to_itself() {
    assert_none(&circles(&edges(&sources(SRC, "rs"))));
}

#[test]
fn no_file_imports_from_its_own_folders_mod_rs() {
    assert_none(&own_folders(&sources(SRC, "rs")));
}

fn files(texts: &[(&str, &str)]) -> Vec<Source> {
    texts.iter().map(|(path, text)| Source { path: format!("{SRC}/{path}"), text: (*text).to_owned() }).collect()
}

#[test]
fn a_circle_is_described_with_its_edges() {
    let sources = files(&[
        ("a/mod.rs", "pub mod b; pub mod c; pub mod d;"),
        ("a/b.rs", "use super::c::C;"),
        ("a/c.rs", "use crate::a::d; fn f() { d::g() }"),
        ("a/d.rs", "fn g(x: super::b::B) {}"),
        ("a/e.rs", "use super::b::B;"),
    ]);
    let described = "a circle of 3 files: a/b.rs, a/c.rs, a/d.rs
    a/b.rs -> a/c.rs
    a/c.rs -> a/d.rs
    a/d.rs -> a/b.rs";
    assert_eq!(circles(&edges(&sources)), [described]);
}

#[test]
fn tests_make_no_circle() {
    let sources = files(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "#[cfg(test)] mod tests { use crate::a::A; }"),
        ("b/tests.rs", "use crate::a::A;"),
    ]);
    assert_eq!(circles(&edges(&sources)), [""; 0]);
}

#[test]
fn the_own_folders_mod_rs_is_seen_by_either_path() {
    let problems = |text| own_folders(&files(&[("a/mod.rs", ""), ("a/b.rs", text), ("a/c.rs", ""), ("d/mod.rs", "")]));
    assert_eq!(problems("use super::c::C; use crate::d::D;"), [""; 0]);
    assert_eq!(problems("\nuse super::C;"), [format!("{SRC}/a/b.rs:2: names a::C in a/mod.rs")]);
    assert_eq!(problems("fn f() { crate::a::g() }").len(), 1);
}
