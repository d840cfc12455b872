//! Reads Rust as a list of tokens, each with its line: comments, lifetimes and characters are left out.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// The content of a string literal.
    Text,
    /// `::`, or any other single character.
    Mark,
}

#[derive(Clone, Debug)]
pub struct Token {
    pub kind: Kind,
    pub text: String,
    pub line: usize,
}

impl Token {
    /// True for this name, keyword or mark. A string literal is none.
    pub fn is(&self, text: &str) -> bool {
        self.kind != Kind::Text && self.text == text
    }
}

/// True if the tokens from `at` on are these names and marks.
pub fn follows(tokens: &[Token], at: usize, expected: &[&str]) -> bool {
    expected.iter().enumerate().all(|(index, text)| tokens.get(at + index).is_some_and(|token| token.is(text)))
}

/// Reads a file.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader { chars: source.chars().collect(), at: 0, line: 1, found: Vec::new() };
    while reader.at < reader.chars.len() {
        reader.token();
    }
    reader.found
}

/// Leaves out each item behind `#[cfg(test)]`.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        if follows(tokens, at, &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = end_of_item(tokens, at + 7);
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

/// Adds a bracket to the number of open ones.
pub fn depth_after(depth: i32, token: &Token) -> i32 {
    match token.text.as_str() {
        _ if token.kind != Kind::Mark => depth,
        "(" | "[" | "{" => depth + 1,
        ")" | "]" | "}" => depth - 1,
        _ => depth,
    }
}

/// Returns the index behind an item: behind its `;` or its block.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        depth = depth_after(depth, token);
        let ends_use = token.is("}") && follows(tokens, at + 1, &[";"]);
        if depth == 0 && (token.is(";") || token.is("}") && !ends_use) {
            return at + 1;
        }
    }
    tokens.len()
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    line: usize,
    found: Vec<Token>,
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl Reader {
    fn peek(&self, ahead: usize) -> char {
        self.chars.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn next(&mut self) -> char {
        let c = self.peek(0);
        self.at += 1;
        self.line += usize::from(c == '\n');
        c
    }

    fn skip(&mut self, count: usize) {
        for _ in 0..count {
            self.next();
        }
    }

    /// Reads on while the condition holds.
    fn take_while(&mut self, holds: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while self.at < self.chars.len() && holds(self.peek(0)) {
            text.push(self.next());
        }
        text
    }

    fn push(&mut self, kind: Kind, text: impl Into<String>, line: usize) {
        self.found.push(Token { kind, text: text.into(), line });
    }

    fn token(&mut self) {
        let line = self.line;
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => drop(self.take_while(|c| c != '\n')),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.text(line),
            ('\'', _) => self.character_or_lifetime(),
            (':', ':') => {
                self.skip(2);
                self.push(Kind::Mark, "::", line);
            }
            (c, _) if is_word(c) => self.word(line),
            _ => {
                let c = self.next();
                if !c.is_whitespace() {
                    self.push(Kind::Mark, c, line);
                }
            }
        }
    }

    fn block_comment(&mut self) {
        while self.at < self.chars.len() && (self.peek(0), self.peek(1)) != ('*', '/') {
            self.next();
        }
        self.skip(2);
    }

    /// Reads a string literal. An escape becomes a space, unless it is a quote or the end of a line.
    fn text(&mut self, line: usize) {
        self.next();
        let mut text = String::new();
        while self.at < self.chars.len() && self.peek(0) != '"' {
            let c = self.next();
            text.push(if c == '\\' { unescaped(self.next()) } else { c });
        }
        self.next();
        self.push(Kind::Text, text, line);
    }

    fn raw_text(&mut self, hashes: usize, line: usize) {
        self.skip(hashes + 1);
        let mut text = String::new();
        let is_end = |reader: &Self| reader.peek(0) == '"' && (1..=hashes).all(|ahead| reader.peek(ahead) == '#');
        while self.at < self.chars.len() && !is_end(self) {
            text.push(self.next());
        }
        self.skip(hashes + 1);
        self.push(Kind::Text, text, line);
    }

    fn character_or_lifetime(&mut self) {
        if self.peek(1) == '\\' {
            self.skip(3);
            self.take_while(|c| c != '\'');
            self.next();
        } else if self.peek(2) == '\'' {
            self.skip(3);
        } else {
            self.next();
            self.take_while(is_word);
        }
    }

    /// Reads a word, or the literal that it is the prefix of: `b"…"`, `r#"…"#`.
    fn word(&mut self, line: usize) {
        let word = self.take_while(is_word);
        let is_prefix = matches!(word.as_str(), "r" | "b" | "br" | "c" | "cr");
        let hashes = self.chars[self.at..].iter().take_while(|c| **c == '#').count();
        if is_prefix && self.peek(hashes) == '"' {
            if word.ends_with('r') { self.raw_text(hashes, line) } else { self.text(line) }
        } else if word == "r" && hashes == 1 {
            self.next();
            self.word(line);
        } else {
            self.push(Kind::Word, word, line);
        }
    }
}

fn unescaped(c: char) -> char {
    match c {
        'n' | '\n' => '\n',
        '"' => '"',
        _ => ' ',
    }
}

#[test]
fn the_reader_of_tokens_tells_names_from_texts_and_leaves_out_comments() {
    let text = "a::b // c\n/* d */ \"e \\\" f\" r#\"g \" h\"# '\"' '\\'' &'static r#type b\"i\"";
    let found: Vec<String> =
        tokens(text).iter().map(|token| format!("{:?} {} {}", token.kind, token.text, token.line)).collect();
    assert_eq!(
        found,
        ["Word a 1", "Mark :: 1", "Word b 1", "Text e \" f 2", "Text g \" h 2", "Mark & 2", "Word type 2", "Text i 2"]
    );
}

#[test]
fn items_of_tests_are_left_out() {
    let kept = |text| without_tests(&tokens(text)).iter().map(|token| token.text.clone()).collect::<Vec<_>>().join(" ");
    assert_eq!(kept("a; #[cfg(test)] mod tests { fn b() { c(); } } d;"), "a ; d ;");
    assert_eq!(kept("#[cfg(test)] mod tests; d;"), "d ;");
    assert_eq!(kept("#[cfg(test)] use a::{b, c}; d;"), "d ;");
}
