//! Reads which modules a file names: in `use` trees, in paths in the code, and in paths that attributes hold as texts.

use std::collections::BTreeMap;

use super::{
    rust::{Kind, Token, depth_after, follows},
    tree::Source,
};

/// The names of a module or an item, below the crate.
pub type Names = Vec<String>;

/// A module or an item of the crate that a file names.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub names: Names,
    pub line: usize,
}

/// The files of the crate, by their modules.
pub struct Modules {
    files: BTreeMap<Names, String>,
}

impl Modules {
    pub fn of(sources: &[Source]) -> Self {
        Self { files: sources.iter().map(|source| (source.module(), source.inner().to_owned())).collect() }
    }

    /// Returns the file in which the names are looked up: that of the longest path that is a module.
    pub fn file_of(&self, names: &[String]) -> Option<&str> {
        (0..=names.len()).rev().find_map(|length| self.files.get(&names[..length])).map(String::as_str)
    }

    fn has(&self, names: &[String]) -> bool {
        self.files.contains_key(names)
    }
}

/// A path as it is written.
struct Written {
    /// The module in which it stands, with the modules that are written inside of the file.
    base: Names,
    names: Names,
    line: usize,
    /// The name that a `use` gives it in this file.
    alias: Option<String>,
}

/// Lists each module and item of the crate that a file names, in order.
pub fn named(module: &[String], tokens: &[Token], modules: &Modules) -> Vec<Named> {
    let mut imported: BTreeMap<String, Names> = BTreeMap::new();
    let mut found = Vec::new();
    for path in written(module, tokens) {
        let Some(names) = resolve(&path, &imported, modules) else { continue };
        if let Some(alias) = path.alias {
            imported.insert(alias, names.clone());
        }
        found.push(Named { names, line: path.line });
    }
    found
}

/// Returns the path below the crate; None: it leads to another crate.
fn resolve(path: &Written, imported: &BTreeMap<String, Names>, modules: &Modules) -> Option<Names> {
    let (base, names) = (&path.base, &path.names);
    let head = names.first()?;
    let ups = names.iter().take_while(|name| *name == "super").count();
    let child = || [base.as_slice(), &names[..1]].concat();
    Some(match head.as_str() {
        "crate" => names[1..].to_vec(),
        "self" => [base, &names[1..]].concat(),
        "super" => [&base[..base.len().saturating_sub(ups)], &names[ups..]].concat(),
        _ if imported.contains_key(head) => [&imported[head], &names[1..]].concat(),
        _ if modules.has(&child()) => [base.as_slice(), names].concat(),
        _ => return None,
    })
}

/// Lists the paths of a file: first those of `use`, which may stand behind the code that needs their names.
fn written(module: &[String], tokens: &[Token]) -> Vec<Written> {
    let (mut uses, mut others) = (Vec::new(), Vec::new());
    let (mut depth, mut inside): (i32, Vec<(String, i32)>) = (0, Vec::new());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let base: Names = module.iter().chain(inside.iter().map(|(name, _)| name)).cloned().collect();
        if token.is("use") && !follows(tokens, at + 1, &["<"]) {
            let mut tree = UseTree { tokens, at: at + 1, base, found: &mut uses };
            tree.read(&[]);
            at = tree.at;
            continue;
        }
        if token.is("mod") && follows(tokens, at + 2, &["{"]) {
            inside.push((tokens[at + 1].text.clone(), depth));
            depth += 1;
            at += 3;
            continue;
        }
        depth = depth_after(depth, token);
        inside.retain(|(_, outer)| depth > *outer);
        let names = if token.kind == Kind::Text { names_in_text(&token.text) } else { names_at(tokens, at) };
        if names.len() > 1 {
            others.push(Written { base, names, line: token.line, alias: None });
        }
        at += 1;
    }
    uses.into_iter().chain(others).collect()
}

/// Returns the names of a path that begins at this token: none within a path, or in that of a visibility, `pub(in …)`.
fn names_at(tokens: &[Token], at: usize) -> Names {
    let is_within = at >= 1 && tokens[at - 1].is("::");
    let is_visibility = at >= 3 && follows(tokens, at - 3, &["pub", "(", "in"]);
    let (mut names, mut next) = (Vec::new(), at);
    while !is_within && !is_visibility && tokens.get(next).is_some_and(|token| token.kind == Kind::Word) {
        names.push(tokens[next].text.clone());
        if !follows(tokens, next + 1, &["::"]) {
            break;
        }
        next += 2;
    }
    names
}

/// Returns the names of a path that a text holds, as `#[serde(deserialize_with = "…")]` has it.
fn names_in_text(text: &str) -> Names {
    let is_path = text.contains("::") && text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == ':');
    if is_path { text.split("::").map(str::to_owned).collect() } else { Vec::new() }
}

/// Reads one `use`, from behind the word to its `;`.
struct UseTree<'a> {
    tokens: &'a [Token],
    at: usize,
    base: Names,
    found: &'a mut Vec<Written>,
}

impl UseTree<'_> {
    fn is_at(&self, text: &str) -> bool {
        follows(self.tokens, self.at, &[text])
    }

    /// Reads one branch; `outer` are the names before its braces.
    fn read(&mut self, outer: &[String]) {
        let mut names = outer.to_vec();
        let line = self.tokens.get(self.at).map_or(0, |token| token.line);
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "::" | "$" => self.at += 1,
                "{" => return self.read_braces(&names),
                "as" => {
                    let alias = self.tokens.get(self.at + 1).map(|token| token.text.clone());
                    self.at += 2;
                    return self.push(names, line, alias);
                }
                _ if token.kind == Kind::Word || token.is("*") => {
                    names.push(token.text.clone());
                    self.at += 1;
                }
                _ => break,
            }
        }
        self.push(names, line, None);
    }

    fn read_braces(&mut self, outer: &[String]) {
        self.at += 1;
        while self.at < self.tokens.len() && !self.is_at("}") {
            self.read(outer);
            // Over the comma, or over what this does not read.
            self.at += usize::from(!self.is_at("}"));
        }
        self.at += 1;
    }

    fn push(&mut self, mut names: Names, line: usize, alias: Option<String>) {
        if names.len() > 1 {
            names.pop_if(|name| name == "self");
        }
        let alias = alias.or_else(|| names.last().cloned()).filter(|name| name != "*" && name != "_");
        self.found.push(Written { base: self.base.clone(), names, line, alias });
    }
}

/// Lists the paths below the crate that a text names, each once.
fn names_of(module: &str, text: &str, files: &[&str]) -> Vec<String> {
    let source = |path: &&str| Source { path: (*path).to_owned(), text: String::new() };
    let modules = Modules::of(&files.iter().map(source).collect::<Vec<_>>());
    let module: Names = module.split('/').map(str::to_owned).collect();
    let found = named(&module, &super::rust::tokens(text), &modules);
    let names: std::collections::BTreeSet<String> = found.iter().map(|named| named.names.join("::")).collect();
    names.into_iter().collect()
}

#[test]
fn the_reader_of_imports_sees_through_braces() {
    let text =
        "use crate::{\n    App,\n    platform::{db::{self, Scope, get as read}, http},\n};\npub use crate::avito;
                use std::{fs, path::Path}; pub(in crate::bridge) use super::c::*;";
    assert_eq!(
        names_of("a/b", text, &[]),
        ["App", "a::c::*", "avito", "platform::db", "platform::db::Scope", "platform::db::get", "platform::http"]
    );
}

#[test]
fn paths_in_the_code_and_in_attributes_count_as_imports_do() {
    assert_eq!(
        names_of("a/b", "fn f() { crate::c::d(super::e::F, self::g::h) }", &[]),
        ["a::b::g::h", "a::e::F", "c::d"]
    );
    assert_eq!(names_of("a/b", "pub(in crate::a) fn f() { std::fs::read() } // crate::c", &[]), [""; 0]);
    let text = "macro_rules! m { () => { $crate::c::d!(); use $crate::{e::F}; use {$crate::g, h}; } }";
    assert_eq!(names_of("a/b", text, &[]), ["c::d", "e::F", "g"]);
    assert_eq!(names_of("a/b", "use super::c; #[serde(deserialize_with = \"c::d\")] x: i32", &[]), ["a::c", "a::c::d"]);
}

#[test]
fn names_that_a_file_imports_or_declares_lead_on() {
    assert_eq!(names_of("a/b", "use crate::c::d as e; fn f() { e::g() }", &[]), ["c::d", "c::d::g"]);
    assert_eq!(names_of("a", "mod b; pub use b::C; pub use other::D;", &["a/b.rs"]), ["a::b::C"]);
}

#[test]
fn a_module_inside_of_a_file_is_one_more_step() {
    assert_eq!(names_of("a/b", "mod c { use super::d::E; } use super::f;", &[]), ["a::b::d::E", "a::f"]);
}

#[test]
fn a_path_leads_to_the_file_of_its_longest_module() {
    let source = |path: &str| Source { path: path.to_owned(), text: String::new() };
    let modules = Modules::of(&[source("lib.rs"), source("a/mod.rs"), source("a/b.rs")]);
    let file = |path: &str| modules.file_of(&path.split("::").map(str::to_owned).collect::<Names>()).map(str::to_owned);
    assert_eq!(file("a::b::C").as_deref(), Some("a/b.rs"));
    assert_eq!(file("a::C").as_deref(), Some("a/mod.rs"));
    assert_eq!(file("App").as_deref(), Some("lib.rs"));
}
