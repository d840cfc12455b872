//! Reads SQL: of `.sql` files, and of the string literals of Rust.

use std::collections::BTreeSet;

use super::rust::{Kind, Token};

/// A stored function of a `.sql` file.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    /// The names of its parameters that a call gives, without those that it returns.
    pub parameters: Vec<String>,
    pub line: usize,
    /// From its `CREATE FUNCTION` to its `$$;`.
    pub text: String,
}

const CREATE: &str = "CREATE FUNCTION sql.";
const END: &str = "$$;";

impl Function {
    pub fn is_ended(&self) -> bool {
        self.text.lines().last().is_some_and(|line| line.contains(END))
    }
}

/// Lists the stored functions of a `.sql` file.
pub fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix(CREATE) else { continue };
        let name = rest.split(|c: char| !is_word(c)).next().unwrap_or_default().to_owned();
        let text = lines[index..index + length(&lines[index..])].join("\n");
        found.push(Function { name, parameters: parameters(&text), line: index + 1, text });
    }
    found
}

/// Counts the lines of a function that begins with the first of these. Without an end it goes on to the next one.
fn length(lines: &[&str]) -> usize {
    let next = lines.iter().skip(1).position(|line| line.starts_with("CREATE ")).map_or(lines.len(), |next| next + 1);
    lines[..next].iter().position(|line| line.contains(END)).map_or(next, |end| end + 1)
}

/// Lists what a `.sql` file creates besides stored functions, with its lines.
pub fn other_statements(text: &str) -> Vec<(usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.filter(|(_, line)| line.starts_with("CREATE ") && !line.starts_with(CREATE)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Leaves out the comments of SQL.
pub fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Lists the words of SQL, without comments, each with its line, counted from `first_line`.
pub fn words(first_line: usize, text: &str) -> Vec<(usize, String)> {
    let text = without_comments(text);
    let lines = (first_line..).zip(text.lines());
    lines
        .flat_map(|(number, line)| line.split(|c: char| !is_word(c)).map(move |word| (number, word.to_owned())))
        .filter(|(_, word)| !word.is_empty())
        .collect()
}

/// Lists the parameters of a function, whose text begins with its `CREATE FUNCTION`.
fn parameters(text: &str) -> Vec<String> {
    let text = without_comments(text);
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in text.chars().skip_while(|c| *c != '(') {
        depth += i32::from(c == '(') - i32::from(c == ')');
        match (c, depth) {
            (_, 0) => break,
            (',', 1) => items.push(String::new()),
            _ => items.last_mut().into_iter().for_each(|item| item.push(c)),
        }
    }
    items.iter().filter_map(|item| parameter(item.trim_start_matches('('))).collect()
}

fn parameter(item: &str) -> Option<String> {
    let mut words = item.split_whitespace();
    match words.next()? {
        "OUT" => None,
        "IN" | "INOUT" | "VARIADIC" => words.next().map(str::to_owned),
        name => Some(name.to_owned()),
    }
}

/// Lists the stored functions that SQL calls: `sql.name(`.
pub fn calls(text: &str) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut found = BTreeSet::new();
    for (at, start) in text.match_indices("sql.") {
        let is_word_before = text[..at].chars().next_back().is_some_and(is_word);
        let rest = &text[at + start.len()..];
        let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
        if !is_word_before && rest[name.len()..].starts_with('(') {
            found.insert(name);
        }
    }
    found
}

/// Lists the string literals that hold SQL.
pub fn literals(tokens: &[Token]) -> impl Iterator<Item = &Token> {
    const BEGINNINGS: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
    let holds_sql = |token: &&Token| BEGINNINGS.iter().any(|word| token.text.contains(word));
    tokens.iter().filter(|token| token.kind == Kind::Text).filter(holds_sql)
}

#[test]
fn a_function_is_read_from_create_to_its_end() {
    let text = "-- One.\nCREATE FUNCTION sql.one(_a bigint, _b numeric(4, 2), -- (why\n    OUT c int, INOUT _d text[]\n) RETURNS json
LANGUAGE plpgsql AS $$\nBEGIN\nEND $$;\n\nCREATE FUNCTION sql.two() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;\n";
    let found = functions(text);
    assert_eq!(found[0].parameters, ["_a", "_b", "_d"]);
    assert_eq!((found[0].name.as_str(), found[0].line, found[0].text.lines().count()), ("one", 2, 6));
    assert_eq!((found[1].name.as_str(), found[1].line, found[1].parameters.len()), ("two", 9, 0));
    assert!(found[0].is_ended() && found[1].is_ended());
    let found = functions("CREATE FUNCTION sql.one()\nAS $$ SELECT 1\nCREATE FUNCTION sql.two() AS $$ $$;");
    assert!(!found[0].is_ended() && found[1].is_ended());
}

#[test]
fn whatever_else_a_file_creates_is_seen() {
    let text = "CREATE FUNCTION sql.one() $$;\nCREATE OR REPLACE FUNCTION sql.two() $$;\nCREATE FUNCTION three() $$;";
    assert_eq!(other_statements(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_call_is_seen_wherever_it_stands() {
    let text = "PERFORM sql.one(1); x := sql.two(sql.three()); -- sql.four()\nSELECT mysql.five(), sql.six";
    assert_eq!(calls(text).into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}

#[test]
fn the_reader_of_sql_sees_tables_in_literals_only() {
    let tokens = super::rust::tokens("let users = 1; let sql = \"SELECT id -- clients\n FROM bots\"; // users");
    let found: Vec<_> = literals(&tokens).flat_map(|token| words(token.line, &token.text)).collect();
    let expected = [(1, "SELECT"), (1, "id"), (2, "FROM"), (2, "bots")];
    assert_eq!(found, expected.map(|(line, word)| (line, word.to_owned())));
}
