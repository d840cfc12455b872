//! Words: how doc comments begin, and the words of the private language that this code once had.

use std::collections::BTreeSet;

use serde_json::Value;

use super::tree::{Source, assert_none, sources, texts};

/// A doc comment begins with a verb or a noun, never with one of these.
const QUESTIONS: &[&str] =
    &["What", "Whether", "How", "Who", "Whom", "Whose", "Whoever", "Whatever", "Where", "When", "Why", "Which"];

/// Words that have plain ones instead; `functions/GLOSSARY.md` has those. With `!`: a macro.
const PRIVATE: &[&str] = &[
    "lane",
    "flight",
    "hearing",
    "hindrance",
    "cures",
    "drain_at",
    "once_key",
    "to_show",
    "told_at",
    "planned!",
    "routine!",
];

/// The parts of the repository that are read for private words.
const READ: &[&str] = &["functions", "infra", "migrations", "README.md", "template.yaml"];
/// The file that lists them.
const OWN_LIST: &str = "functions/shared/tests/floors/words.rs";

/// A doc comment: its first line, and the text that utoipa makes of it.
struct Comment {
    line: usize,
    text: String,
}

/// Lists the doc comments of a file.
fn comments(text: &str) -> Vec<Comment> {
    let mut found: Vec<Comment> = Vec::new();
    let mut before = None;
    for (number, line) in (1..).zip(text.lines()) {
        let doc = doc(line.trim());
        match (doc, found.last_mut()) {
            (Some((mark, content)), Some(comment)) if before == Some(mark) => {
                comment.text = format!("{}\n{content}", comment.text);
            }
            (Some((_, content)), _) => found.push(Comment { line: number, text: content.to_owned() }),
            (None, _) => {}
        }
        before = doc.map(|(mark, _)| mark);
    }
    found
}

/// Returns the mark of a line of a doc comment, and what stands behind it.
fn doc(line: &str) -> Option<(&str, &str)> {
    let (mark, content) = line.split_at_checked(3)?;
    let is_doc = mark == "//!" || mark == "///" && !content.starts_with('/');
    is_doc.then(|| (mark, content.strip_prefix(' ').unwrap_or(content).trim_end()))
}

/// Lists the doc comments that begin with a question, unless they are a description or, up to an empty line, a summary
/// of the public API.
fn questions(source: &Source, public: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    for comment in comments(&source.text) {
        let first = comment.text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        let summary = comment.text.split("\n\n").next().unwrap_or_default();
        let is_public = public.contains(&comment.text) || public.contains(summary);
        if QUESTIONS.contains(&first) && !is_public {
            let line = comment.text.lines().next().unwrap_or_default();
            problems.push(format!("{}:{}: begins with {first}: {line}", source.path, comment.line));
        }
    }
    problems
}

/// Collects all descriptions and summaries of an `OpenAPI` document.
fn public_texts(value: &Value, found: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::String(text) if key == "description" || key == "summary" => drop(found.insert(text.clone())),
            _ => public_texts(value, found),
        }
    }
    value.as_array().into_iter().flatten().for_each(|value| public_texts(value, found));
}

/// Lists the private words of a file, but not the flight of "in flight".
fn private_words(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let mut before = String::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        for word in words(&line.to_lowercase()) {
            let is_in_flight = word == "flight" && before == "in";
            if PRIVATE.contains(&word.as_str()) && !is_in_flight {
                problems.push(format!("{}:{number}: {word}", source.path));
            }
            before = word;
        }
    }
    problems
}

/// Lists the words of a line; a `!` behind a word belongs to it if the word is a private macro.
fn words(line: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let pieces = line.split_inclusive(|c| !is_word(c)).map(|piece| {
        let word = piece.trim_end_matches(|c| !is_word(c));
        if PRIVATE.contains(&piece) { piece } else { word }
    });
    pieces.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_doc_comment_begins_with_a_verb_or_a_noun() {
    let mut public = BTreeSet::new();
    for source in texts("functions/api/openapi.json") {
        let document = serde_json::from_str(&source.text).unwrap_or_else(|error| panic!("{}: {error}", source.path));
        public_texts(&document, &mut public);
    }
    assert_none(&sources("functions", "rs").iter().flat_map(|source| questions(source, &public)).collect::<Vec<_>>());
}

#[test]
fn private_words_are_gone() {
    let sources = READ.iter().flat_map(|folder| texts(folder)).filter(|source| source.path != OWN_LIST);
    assert_none(&sources.flat_map(|source| private_words(&source)).collect::<Vec<_>>());
}

fn file(text: &str) -> Source {
    Source { path: "a.rs".to_owned(), text: text.to_owned() }
}

#[test]
fn the_first_word_of_a_comment_counts() {
    let problems =
        |text: &str, public: &[&str]| questions(&file(text), &public.iter().map(|text| (*text).to_owned()).collect());
    let text =
        "//! Whether it is.\n\n/// One.\n/// What follows is no beginning.\nfn f() {}\n    /// Which one.\n// Why.";
    assert_eq!(
        problems(text, &[]),
        ["a.rs:1: begins with Whether: Whether it is.", "a.rs:6: begins with Which: Which one."]
    );
    assert_eq!(problems("/// Whatsoever.\n/// However.\n//// Why.", &[]), [""; 0]);
}

#[test]
fn what_the_public_api_says_may_stand() {
    let problems = |text: &str| {
        let mut public = BTreeSet::new();
        let document = serde_json::json!({"a": [{"description": "What it\nsays."}, {"summary": "Who is there."}]});
        public_texts(&document, &mut public);
        questions(&file(text), &public).len()
    };
    assert_eq!(problems("/// What it\n/// says."), 0);
    assert_eq!(problems("/// Who is there.\n///\n/// More."), 0);
    assert_eq!(problems("/// What it"), 1);
    assert_eq!(problems("/// What it\n/// says. And more."), 1);
}

#[test]
fn private_words_are_seen_as_whole_words() {
    let text = "Lane planes bot_lane\nin flight, a flight\nplanned planned!(x) not planned! hearing";
    assert_eq!(
        private_words(&file(text)),
        ["a.rs:1: lane", "a.rs:2: flight", "a.rs:3: planned!", "a.rs:3: planned!", "a.rs:3: hearing"]
    );
}
