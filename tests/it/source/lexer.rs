//! Rust source as tokens: names, `::` and single characters. Comments, literals of text and
//! characters, and the quotes of lifetimes are dropped.

pub struct Token {
    pub text: String,
    pub line: usize,
}

pub fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

pub fn tokens(text: &str) -> Vec<Token> {
    let mut lexer = Lexer {
        rest: text,
        line: 1,
    };
    std::iter::from_fn(|| lexer.next_token()).collect()
}

struct Lexer<'a> {
    rest: &'a str,
    line: usize,
}

impl Lexer<'_> {
    fn skip(&mut self, bytes: usize) {
        let (skipped, rest) = self.rest.split_at(bytes.min(self.rest.len()));
        self.line += skipped.matches('\n').count();
        self.rest = rest;
    }

    fn skip_past(&mut self, end: &str) {
        let bytes = self
            .rest
            .find(end)
            .map_or(self.rest.len(), |at| at + end.len());
        self.skip(bytes);
    }

    fn next_token(&mut self) -> Option<Token> {
        loop {
            let first = self.rest.chars().next()?;
            if first.is_whitespace() {
                self.skip(first.len_utf8());
            } else if self.rest.starts_with("//") {
                self.skip_past("\n");
            } else if self.rest.starts_with("/*") {
                self.skip_past("*/");
            } else if let Some(hashes) = self.raw_text() {
                self.skip_past("\"");
                self.skip_past(&format!("\"{}", "#".repeat(hashes)));
            } else if first == '"' {
                self.skip_text('"');
            } else if first == '\'' {
                self.skip_character_or_lifetime();
            } else {
                let length = match first {
                    _ if self.rest.starts_with("::") => 2,
                    _ if is_word(first) => {
                        (self.rest.find(|it| !is_word(it))).unwrap_or(self.rest.len())
                    }
                    _ => first.len_utf8(),
                };
                let token = Token {
                    text: self.rest[..length].to_owned(),
                    line: self.line,
                };
                self.skip(length);
                return Some(token);
            }
        }
    }

    /// The number of `#` of a raw text that starts here.
    fn raw_text(&self) -> Option<usize> {
        let after = self
            .rest
            .strip_prefix("br")
            .or(self.rest.strip_prefix('r'))?;
        let hashes = after.bytes().take_while(|&it| it == b'#').count();
        after[hashes..].starts_with('"').then_some(hashes)
    }

    fn skip_text(&mut self, quote: char) {
        let mut characters = self.rest.char_indices().skip(1);
        while let Some((at, character)) = characters.next() {
            if character == '\\' {
                characters.next();
            } else if character == quote {
                return self.skip(at + 1);
            }
        }
        self.skip(self.rest.len());
    }

    fn skip_character_or_lifetime(&mut self) {
        let mut after = self.rest.chars().skip(1);
        let is_character = after.next() == Some('\\') || after.next() == Some('\'');
        if is_character {
            self.skip_text('\'');
        } else {
            self.skip(1);
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
