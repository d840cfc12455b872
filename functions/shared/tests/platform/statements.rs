//! Finds the statements of our code: those of the stored functions, and the SQL literals of Rust.

/// A statement with numbered parameters, as `PREPARE` takes it.
#[derive(Debug)]
pub struct Found {
    /// Its place: a function's name, or a file with a line.
    pub place: String,
    pub sql: String,
    /// The types of its first parameters. `unknown:name`: that of the columns of this name, or Postgres finds out.
    pub types: Vec<String>,
}

/// A stored function, as a `.sql` file has it.
pub struct Function {
    pub name: String,
    /// Parameters and declared variables, with their types.
    pub variables: Vec<(String, String)>,
    body: String,
}

/// Reads the functions of a `.sql` file.
pub fn functions_of(text: &str) -> Vec<Function> {
    text.split("CREATE FUNCTION sql.").skip(1).map(function).collect()
}

fn function(text: &str) -> Function {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("{text}"));
    let mut depth = 1;
    let is_end = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    };
    let (parameters, rest) = rest.split_once(is_end).unwrap_or_else(|| panic!("{name}"));
    let body = rest.split("$$").nth(1).unwrap_or_default();
    let declared =
        body.split_once("\nDECLARE\n").map_or("", |(_, body)| body.split("\nBEGIN\n").next().unwrap_or_default());
    let variable = |item: &str| {
        let (name, kind) = item.trim().split_once(' ')?;
        let kind = kind.split(":=").next()?.trim().trim_end_matches(';').to_owned();
        name.starts_with('_').then(|| (name.to_owned(), kind))
    };
    let parameters = parameters.split(',').filter_map(variable);
    let declarations = declared.split(";\n").filter_map(|item| item.lines().find_map(variable));
    Function { name: name.to_owned(), variables: parameters.chain(declarations).collect(), body: body.to_owned() }
}

impl Function {
    /// Lists the statements of the function.
    pub fn statements(&self) -> Vec<Found> {
        let body = self.body.replace("#variable_conflict use_column", "");
        let pieces = pieces(&words(&body));
        pieces.iter().flat_map(|piece| statements_in(piece)).map(|words| self.numbered(&words)).collect()
    }

    /// Puts a number in the place of each variable. The fields of a `record` are numbered one by one.
    fn numbered(&self, statement: &[String]) -> Found {
        // A record as a whole is in no statement.
        let of = |kind: &str| if kind == "record" { "text".to_owned() } else { kind.to_owned() };
        let mut types: Vec<String> = self.variables.iter().map(|(_, kind)| of(kind)).collect();
        let mut fields: Vec<String> = Vec::new();
        let mut number = |word: &String| {
            let (name, field) = word.split_once('.').map_or((word.as_str(), None), |(name, field)| (name, Some(field)));
            let Some(index) = self.variables.iter().position(|(variable, _)| variable == name) else {
                return word.clone();
            };
            let is_record = self.variables[index].1 == "record";
            match field {
                None => format!("${}", index + 1),
                Some(field) if !is_record => format!("(${}).{field}", index + 1),
                Some(_) => {
                    let known = fields.iter().position(|known| known == word).unwrap_or(fields.len());
                    if known == fields.len() {
                        fields.push(word.clone());
                    }
                    format!("${}", self.variables.len() + known + 1)
                }
            }
        };
        let sql = statement.iter().map(&mut number).collect::<Vec<_>>().join(" ");
        // A field mostly has the name of the column that it was read from.
        types.extend(fields.iter().map(|field| format!("unknown:{}", field.rsplit('.').next().unwrap_or_default())));
        Found { place: self.name.clone(), sql: sql.replace(" . ", "."), types }
    }
}

/// Lists the words, marks and texts of SQL. `a.b` is one word.
fn words(sql: &str) -> Vec<String> {
    let chars: Vec<char> = sql.chars().collect();
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '"');
    let (mut at, mut found) = (0, Vec::new());
    while at < chars.len() {
        let start = at;
        match chars[at] {
            '-' if chars.get(at + 1) == Some(&'-') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            '\'' | 'E' if chars[at] == '\'' || chars.get(at + 1) == Some(&'\'') => {
                at += 1 + usize::from(chars[at] == 'E');
                while at < chars.len() && (chars[at] != '\'' || chars.get(at + 1) == Some(&'\'')) {
                    at += 1 + usize::from(chars[at] == '\'');
                }
                at += 1;
            }
            c if is_word(c) => {
                let goes_on = |at: usize| {
                    is_word(chars[at])
                        || chars[at] == '.' && chars.get(at + 1).is_some_and(|c| is_word(*c) || *c == '*')
                };
                while at < chars.len() && goes_on(at) {
                    at += 1;
                }
            }
            c if "<>=!:|&~@#?-+*/".contains(c) => {
                while at < chars.len() && "<>=!:|&~@#?-+*/".contains(chars[at]) {
                    at += 1;
                }
            }
            c => {
                at += 1;
                if c.is_whitespace() {
                    continue;
                }
            }
        }
        found.push(chars[start..at].iter().collect());
    }
    found
}

/// Cuts the body of a function where a statement of PL/pgSQL begins or ends.
fn pieces(words: &[String]) -> Vec<Vec<String>> {
    let (mut depth, mut cases, mut found) = (0, 0, vec![Vec::new()]);
    for (at, word) in words.iter().enumerate() {
        let follows_end = at > 0 && words[at - 1] == "END";
        match word.as_str() {
            "(" => depth += 1,
            ")" => depth -= 1,
            "CASE" => cases += 1,
            "END" if cases > 0 => cases -= 1,
            ";" | "THEN" | "ELSE" | "ELSIF" | "LOOP" | "BEGIN" | "END" if depth == 0 && cases == 0 => {
                found.push(Vec::new());
                continue;
            }
            "IF" if depth == 0 && cases == 0 && !follows_end => {
                found.push(Vec::new());
                continue;
            }
            _ => {}
        }
        found.last_mut().into_iter().for_each(|piece| piece.push(word.clone()));
    }
    found
}

/// Lists the statements of a piece: itself, behind `PERFORM`, `RETURN QUERY` or `FOR … IN`, or those in the brackets of an expression.
fn statements_in(piece: &[String]) -> Vec<Vec<String>> {
    const BEGINNINGS: [&str; 6] = ["WITH", "SELECT", "INSERT", "UPDATE", "DELETE", "PERFORM"];
    let (mut depth, mut found, mut open): (i32, Vec<Vec<String>>, Option<(usize, i32)>) = (0, Vec::new(), None);
    for (at, word) in piece.iter().enumerate() {
        match word.as_str() {
            "(" => {
                let begins = piece.get(at + 1).is_some_and(|next| matches!(next.as_str(), "SELECT" | "WITH"));
                if begins && open.is_none() {
                    open = Some((at + 1, depth));
                }
                depth += 1;
            }
            ")" => {
                depth -= 1;
                if let Some((start, _)) = open.filter(|(_, outside)| *outside == depth) {
                    found.push(piece[start..at].to_vec());
                    open = None;
                }
            }
            word if depth == 0 && BEGINNINGS.contains(&word) => {
                found.push(without_into(&piece[at..]));
                return found;
            }
            _ => {}
        }
    }
    found
}

/// Leaves out where PL/pgSQL puts the row.
fn without_into(statement: &[String]) -> Vec<String> {
    let (mut depth, mut kept, mut at) = (0, Vec::new(), 0);
    while let Some(word) = statement.get(at) {
        depth += i32::from(word == "(") - i32::from(word == ")");
        if word == "INTO" && depth == 0 && kept.last().is_none_or(|before| before != "INSERT") {
            at += 2;
            while statement.get(at).is_some_and(|next| next == ",") {
                at += 2;
            }
            continue;
        }
        kept.push(if at == 0 && word == "PERFORM" { "SELECT".to_owned() } else { word.clone() });
        at += 1;
    }
    kept
}

/// True for a literal that is a statement.
pub fn is_statement(literal: &str) -> bool {
    let mut words = literal.split_whitespace();
    let is_first = matches!(words.next(), Some("SELECT" | "INSERT" | "UPDATE" | "DELETE" | "WITH"));
    is_first && words.next().is_some() && !literal.contains('{')
}

#[test]
fn the_statements_of_a_function_are_found_wherever_they_stand() {
    let text = "-- Finds.\nCREATE FUNCTION sql.find(_a bigint, _b numeric(3), OUT c text) AS $$\n#variable_conflict use_column\n\
                DECLARE\n    _d int := (SELECT 1);\n    _e record;\n    _f bots;\nBEGIN\n    -- no; SELECT 0\n\
                IF EXISTS (SELECT 2 FROM t WHERE x = _a) AND ';' <> '' THEN\n\
                PERFORM sql.g(_b);\nELSE\n\
                UPDATE t SET x = CASE WHEN a THEN 1 ELSE 2 END WHERE y = _e.y AND z = _f.z RETURNING x, y INTO _d, c;\nEND IF;\n\
                FOR _e IN WITH w AS (SELECT _e.z, _e.y) INSERT INTO u SELECT 3 LOOP\nRETURN NEXT;\nEND LOOP;\nRETURN _d;\nEND $$;\n";
    let function = &functions_of(text)[0];
    let variables: Vec<_> = function.variables.iter().map(|(name, kind)| (name.as_str(), kind.as_str())).collect();
    assert_eq!(variables, [("_a", "bigint"), ("_b", "numeric(3)"), ("_d", "int"), ("_e", "record"), ("_f", "bots")]);
    let found: Vec<String> = function.statements().into_iter().map(|found| found.sql).collect();
    assert_eq!(
        found,
        [
            "SELECT 1",
            "SELECT 2 FROM t WHERE x = $1",
            "SELECT sql.g ( $2 )",
            "UPDATE t SET x = CASE WHEN a THEN 1 ELSE 2 END WHERE y = $6 AND z = ($5).z RETURNING x , y",
            "WITH w AS ( SELECT $6 , $7 ) INSERT INTO u SELECT 3",
        ]
    );
}
