//! Stored functions: each file is listed in `sql.rs`, each function has a caller, and each call names a function and
//! its parameters.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rust::{Kind, Token, depth_after, follows, tokens, without_tests},
    sql::{Function, calls, functions, literals},
    tree::{SRC, Source, assert_none, sources},
};

/// A `Statement::call("name")` with the `.arg("name", …)` that are chained to it.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    /// None: the name is no literal.
    name: Option<String>,
    line: usize,
    args: Vec<(usize, String)>,
}

/// Returns the text that stands as a literal at this place.
fn text_at(tokens: &[Token], at: usize) -> Option<&Token> {
    tokens.get(at).filter(|token| token.kind == Kind::Text)
}

/// Lists the calls of a Rust file.
fn rust_calls(tokens: &[Token]) -> Vec<Call> {
    const CALL: &[&str] = &["Statement", "::", "call", "("];
    let starts = (0..tokens.len()).filter(|at| follows(tokens, *at, CALL));
    starts
        .map(|at| {
            let open = at + CALL.len() - 1;
            let name = text_at(tokens, open + 1).map(|token| token.text.clone());
            Call { name, line: tokens[at].line, args: args(tokens, open) }
        })
        .collect()
}

/// Lists the arguments that are chained to a call, up to the end of its statement. `open` is the call's own bracket.
fn args(tokens: &[Token], open: usize) -> Vec<(usize, String)> {
    let (mut depth, mut found) = (0, Vec::new());
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth = depth_after(depth, token);
        if depth < 0 || depth == 0 && (token.is(";") || token.is(",")) {
            break;
        }
        if depth == 0 && follows(tokens, at, &[".", "arg", "("]) {
            found.extend(text_at(tokens, at + 3).map(|token| (token.line, token.text.clone())));
        }
    }
    found
}

/// The stored functions of all `.sql` files, each with its file.
fn all_functions(sql: &[Source]) -> Vec<(&Source, Function)> {
    sql.iter().flat_map(|source| functions(&source.text).into_iter().map(move |function| (source, function))).collect()
}

/// Lists the files of `sql.rs`: the name of each, and the name by which its text is included.
fn listed(text: &str) -> Vec<(String, String)> {
    let tokens = tokens(text);
    let is_pair = |at: &usize| follows(&tokens, at + 1, &[",", "include_str", "!", "("]);
    let pairs = (0..tokens.len())
        .filter(is_pair)
        .filter_map(|at| Some((text_at(&tokens, at)?.text.clone(), text_at(&tokens, at + 5)?.text.clone())));
    pairs.collect()
}

/// Lists where `sql.rs` and the files differ.
fn wrongly_listed(rust: &[Source], sql: &[Source]) -> Vec<String> {
    let list = rust.iter().find(|source| source.inner() == "sql.rs").map(|source| listed(&source.text));
    let list = list.unwrap_or_default();
    let mut problems = Vec::new();
    for source in sql.iter().filter(|source| list.iter().all(|(name, _)| name != source.inner())) {
        problems.push(format!("{}: not listed in {SRC}/sql.rs", source.path));
    }
    for (name, included) in &list {
        if sql.iter().all(|source| source.inner() != name) {
            problems.push(format!("{SRC}/sql.rs: lists {name}, which is missing"));
        }
        if name != included {
            problems.push(format!("{SRC}/sql.rs: lists {included} as {name}"));
        }
    }
    problems
}

/// Lists the functions that neither Rust nor another stored function calls.
fn without_caller(rust: &[Source], sql: &[Source]) -> Vec<String> {
    let functions = all_functions(sql);
    let mut called = BTreeSet::new();
    for source in rust {
        let tokens = without_tests(&tokens(&source.text));
        called.extend(rust_calls(&tokens).into_iter().filter_map(|call| call.name));
        called.extend(literals(&tokens).flat_map(|literal| calls(&literal.text)));
    }
    for (_, function) in &functions {
        called.extend(calls(&function.text).into_iter().filter(|name| *name != function.name));
    }
    let unused = functions.iter().filter(|(_, function)| !called.contains(&function.name));
    unused
        .map(|(source, function)| format!("{}:{}: nobody calls {}", source.path, function.line, function.name))
        .collect()
}

/// Lists the calls of functions that do not exist, or exist twice, and the arguments that are no parameters.
fn wrong_calls(rust: &[Source], sql: &[Source]) -> Vec<String> {
    let mut known: BTreeMap<String, Vec<Function>> = BTreeMap::new();
    for (_, function) in all_functions(sql) {
        known.entry(function.name.clone()).or_default().push(function);
    }
    let mut problems = Vec::new();
    for source in rust {
        for call in rust_calls(&without_tests(&tokens(&source.text))) {
            problems.extend(problems_of_call(&source.path, &call, &known));
        }
    }
    problems
}

fn problems_of_call(path: &str, call: &Call, known: &BTreeMap<String, Vec<Function>>) -> Vec<String> {
    let Some(name) = &call.name else { return vec![format!("{path}:{}: a call without a literal name", call.line)] };
    let [function] = known.get(name).map(Vec::as_slice).unwrap_or_default() else {
        let count = known.get(name).map_or(0, Vec::len);
        return vec![format!("{path}:{}: calls {name}, of which there are {count}", call.line)];
    };
    let unknown = call.args.iter().filter(|(_, arg)| !function.parameters.contains(&format!("_{arg}")));
    unknown.map(|(line, arg)| format!("{path}:{line}: {name} has no parameter _{arg}")).collect()
}

#[test]
fn every_sql_file_is_listed() {
    assert_none(&wrongly_listed(&sources(SRC, "rs"), &sources(SRC, "sql")));
}

#[test]
fn every_stored_function_has_a_caller() {
    assert_none(&without_caller(&sources(SRC, "rs"), &sources(SRC, "sql")));
}

#[test]
fn every_call_names_a_stored_function_and_its_parameters() {
    assert_none(&wrong_calls(&sources(SRC, "rs"), &sources(SRC, "sql")));
}

fn file(path: &str, text: &str) -> Vec<Source> {
    vec![Source { path: format!("{SRC}/{path}"), text: text.to_owned() }]
}

#[test]
fn the_list_and_the_files_agree() {
    let list = "pub const FILES: &[(&str, &str)] = &[(\"a/b.sql\", include_str!(\"a/b.sql\")), (\"c.sql\", include_str!(\"d.sql\"),)];";
    let found = wrongly_listed(&file("sql.rs", list), &file("a/b.sql", ""));
    assert_eq!(
        found,
        [format!("{SRC}/sql.rs: lists c.sql, which is missing"), format!("{SRC}/sql.rs: lists d.sql as c.sql")]
    );
    assert_eq!(wrongly_listed(&[], &file("a/b.sql", "")), [format!("{SRC}/a/b.sql: not listed in {SRC}/sql.rs")]);
}

#[test]
fn a_function_is_called_by_rust_by_a_literal_or_by_another_function() {
    let sql = file(
        "a.sql",
        "CREATE FUNCTION sql.one() AS $$ sql.two() $$;\nCREATE FUNCTION sql.two() AS $$ $$;
CREATE FUNCTION sql.three() AS $$ sql.three() $$;\nCREATE FUNCTION sql.four() AS $$ $$;",
    );
    let rust = "fn f() { Statement::call(\"one\"); Statement::new(\"SELECT sql.four()\") }";
    assert_eq!(without_caller(&file("a.rs", rust), &sql), [format!("{SRC}/a.sql:3: nobody calls three")]);
    assert_eq!(without_caller(&file("a.rs", "#[cfg(test)] mod tests { Statement::call(\"one\"); }"), &sql).len(), 3);
}

#[test]
fn the_arguments_of_a_call_are_those_of_its_own_chain() {
    let text = "let a = [Statement::call(\"one\")\n.arg(\"b\", f(Statement::call(\"two\").arg(\"c\", 1)))\n.arg(\"d\", {x; y}), other.arg(\"e\", 1)];
                Statement::call(NAME)";
    let named = |name: &str, line, args: &[(usize, &str)]| Call {
        name: Some(name.to_owned()),
        line,
        args: args.iter().map(|(line, arg)| (*line, (*arg).to_owned())).collect(),
    };
    let unnamed = Call { name: None, line: 4, args: Vec::new() };
    assert_eq!(
        rust_calls(&tokens(text)),
        [named("one", 1, &[(2, "b"), (3, "d")]), named("two", 2, &[(2, "c")]), unnamed]
    );
}

#[test]
fn a_wrong_name_and_a_wrong_argument_are_named() {
    let sql = file("a.sql", "CREATE FUNCTION sql.one(_a int) AS $$ $$;");
    let problems = |text| wrong_calls(&file("a.rs", text), &sql);
    assert_eq!(problems("Statement::call(\"one\").arg(\"a\", 1);"), [""; 0]);
    assert_eq!(problems("Statement::call(\"one\").arg(\"b\", 1);"), [format!("{SRC}/a.rs:1: one has no parameter _b")]);
    assert_eq!(problems("Statement::call(\"two\");"), [format!("{SRC}/a.rs:1: calls two, of which there are 0")]);
}
