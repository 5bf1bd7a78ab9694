//! Rust source as a list of words and signs, without comments and without what string literals hold.
//!
//! Enough of the grammar to see paths and module declarations; a parser would be a dependency for little more.

/// One word (identifier, keyword, number) or one sign. `::` is a single sign; a literal is `""`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The text of the token.
    pub(crate) text: &'a str,
    /// The line it begins on, from 1.
    pub(crate) line: usize,
}

/// Splits a source text into its tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let (length, text) = next_token(rest, first);
        if let Some(text) = text {
            found.push(Token { text, line });
        }
        let (passed, remaining) = rest.split_at(length);
        line += passed.matches('\n').count();
        rest = remaining;
    }
    found
}

/// The length of what begins `rest`, and its token unless it is blank or a comment.
fn next_token(rest: &str, first: char) -> (usize, Option<&str>) {
    if first.is_whitespace() {
        return (first.len_utf8(), None);
    }
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment_length(rest), None);
    }
    if let Some(length) = literal_length(rest) {
        return (length, Some("\"\""));
    }
    if let Some(raw) = rest.strip_prefix("r#") {
        return (2 + word_length(raw), Some(&raw[..word_length(raw)]));
    }
    let length = match word_length(rest) {
        0 if rest.starts_with("::") => 2,
        0 => first.len_utf8(),
        word => word,
    };
    (length, Some(&rest[..length]))
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
}

/// Block comments nest.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let tail = &rest[at..];
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string or character literal that begins `rest`, if one does. A lifetime is none.
fn literal_length(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix);
        after.is_some_and(|after| {
            after.starts_with(['"', '\'']) || (prefix.ends_with('r') && opens_raw(after))
        })
    })?;
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') && opens_raw(body) {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let close = format!("\"{}", "#".repeat(hashes));
        let start = hashes + 1;
        let end = body[start..].find(&close).map_or(body.len(), |at| start + at + close.len());
        return Some(prefix.len() + end);
    }
    if body.starts_with('"') {
        return Some(prefix.len() + quoted_length(body, '"'));
    }
    let is_lifetime =
        prefix.is_empty() && !body[1..].starts_with('\\') && body[1..].chars().nth(1) != Some('\'');
    (!is_lifetime && body.starts_with('\'')).then(|| prefix.len() + quoted_length(body, '\''))
}

fn opens_raw(body: &str) -> bool {
    body.trim_start_matches('#').starts_with('"')
}

/// The length of a literal with both its quotes; a backslash hides the character after it.
fn quoted_length(body: &str, quote: char) -> usize {
    let mut hidden = false;
    for (at, c) in body.char_indices().skip(1) {
        if hidden {
            hidden = false;
        } else if c == '\\' {
            hidden = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::tokens;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_what_literals_hold_are_left_out() {
        assert_eq!(texts("a // b\n/* c /* d */ e */ f"), ["a", "f"]);
        assert_eq!(texts(r###"x("b \" c", r#"d " e"#, b"f", 'g', '\'', b'"') h"###).last(), Some(&"h"));
        assert!(!texts(r###"x(r#"d " e"#)"###).contains(&"d"));
        assert_eq!(texts("r\"a\\\" b"), ["\"\"", "b"]);
    }

    #[test]
    fn a_lifetime_is_not_a_literal() {
        assert_eq!(texts("fn f<'a>(x: &'a str) {}").len(), 16);
        assert_eq!(texts("'é' b"), ["\"\"", "b"]);
    }

    #[test]
    fn a_path_is_words_and_double_colons_with_their_lines() {
        assert_eq!(texts("use std::r#mod;"), ["use", "std", "::", "mod", ";"]);
        let lines: Vec<_> = tokens("a\n/*\n*/ b").into_iter().map(|token| token.line).collect();
        assert_eq!(lines, [1, 3]);
    }
}
