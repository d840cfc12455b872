//! Lengths: 400 lines a file, unless it says why it is longer, and 120 lines a stored function.

use super::{
    sql::{functions, other_statements},
    tree::{SRC, Source, assert_none, sources},
};

const MAX_LINES_OF_FILE: usize = 400;
const MAX_LINES_OF_FUNCTION: usize = 120;

fn too_long_file(source: &Source) -> Option<String> {
    let lines = source.text.lines().count();
    let begins_reason = |line: &str| line.starts_with("//! Long because") || line.starts_with("-- Long because");
    let is_too_long = lines > MAX_LINES_OF_FILE && !source.text.lines().any(begins_reason);
    is_too_long.then(|| format!("{}: {lines} lines, and no line `//! Long because …`", source.path))
}

/// Lists the functions of a `.sql` file that are too long, and those that cannot be read.
fn too_long_functions(source: &Source) -> Vec<String> {
    let mut problems: Vec<String> = other_statements(&source.text)
        .iter()
        .map(|(number, line)| format!("{}:{number}: `{line}` is no `CREATE FUNCTION sql.…`", source.path))
        .collect();
    for function in functions(&source.text) {
        let (lines, item) = (function.text.lines().count(), format!("{}:{}", source.path, function.line));
        if !function.is_ended() {
            problems.push(format!("{item}: {} has no end, `$$;`", function.name));
        } else if lines > MAX_LINES_OF_FUNCTION {
            problems.push(format!("{item}: {} has {lines} lines", function.name));
        }
    }
    problems
}

#[test]
fn a_file_has_at_most_400_lines_or_says_why() {
    let sources = sources(SRC, "rs").into_iter().chain(sources(SRC, "sql"));
    assert_none(&sources.filter_map(|source| too_long_file(&source)).collect::<Vec<_>>());
}

#[test]
fn a_stored_function_has_at_most_120_lines() {
    assert_none(&sources(SRC, "sql").iter().flat_map(too_long_functions).collect::<Vec<_>>());
}

fn file(path: &str, text: String) -> Source {
    Source { path: path.to_owned(), text }
}

#[test]
fn a_long_file_is_named_unless_it_says_why() {
    let problem = |lines, first: &str| too_long_file(&file("a.rs", first.to_owned() + &"\n".repeat(lines)));
    assert_eq!(problem(400, ""), None);
    assert_eq!(problem(401, "").as_deref(), Some("a.rs: 401 lines, and no line `//! Long because …`"));
    assert_eq!(problem(401, "//! One.\n//! Long because one method per call.\n"), None);
}

#[test]
fn a_long_function_is_named_and_one_without_an_end_too() {
    let problems = |lines, end: &str| {
        let text = format!("\nCREATE FUNCTION sql.one() AS $$\n{}{end}", "x\n".repeat(lines));
        too_long_functions(&file("a.sql", text))
    };
    assert_eq!(problems(118, "END $$;"), [""; 0]);
    assert_eq!(problems(119, "END $$;"), ["a.sql:2: one has 121 lines"]);
    assert_eq!(problems(1, "END"), ["a.sql:2: one has no end, `$$;`"]);
    assert_eq!(too_long_functions(&file("a.sql", "CREATE TABLE t ();".to_owned())).len(), 1);
}
