//! A setting that no code reads is a lie to whoever sets it.

use crate::repository::SourceFile;
use crate::tokens::{Token, tokens};

/// Where the configuration of a node is declared: a folder, or one module.
const DECLARED_IN: [&str; 2] = ["service/src/config/", "service/src/config.rs"];

/// Where it must be read.
const READ_IN: &str = "service/src/";

/// The fields of configuration structs that no other file of the service reads as `.field`.
pub(crate) fn unread_fields(files: &[SourceFile]) -> Vec<String> {
    let rust = || files.iter().filter(|file| file.is_rust() && file.path.starts_with(READ_IN));
    let mut found = Vec::new();
    for declaring in rust().filter(|file| DECLARED_IN.iter().any(|place| file.path.starts_with(place))) {
        let elsewhere: Vec<_> =
            rust().filter(|file| file.path != declaring.path).map(|file| tokens(&file.text)).collect();
        for field in fields(&tokens(&declaring.text)) {
            if !elsewhere.iter().any(|tokens| reads(tokens, field.text)) {
                found.push(format!("{}:{}: nothing reads {}", declaring.path, field.line, field.text));
            }
        }
    }
    found
}

fn reads(tokens: &[Token<'_>], field: &str) -> bool {
    tokens.windows(2).any(|pair| pair[0].text == "." && pair[1].text == field)
}

/// The names in `pub field:` and `pub(crate) field:`.
fn fields<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "pub") {
        let restricted = tokens.get(at + 1).is_some_and(|next| next.text == "(" && next.line == token.line);
        let name_at = if restricted { at + 4 } else { at + 1 };
        if let (Some(name), Some(colon)) = (tokens.get(name_at), tokens.get(name_at + 1))
            && colon.text == ":"
        {
            found.push(*name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::unread_fields;
    use crate::repository::SourceFile;

    const DECLARATION: &str = "
        pub(crate) struct RaftConfig {
            /// How often.
            pub(crate) heartbeat_ms: u64,
            pub election_ms: u64,
        }
        impl RaftConfig { pub(crate) fn check(&self) -> bool { self.heartbeat_ms < self.election_ms } }";

    #[test]
    fn a_field_that_only_its_own_file_reads_is_caught() {
        let files = [
            SourceFile::new("service/src/config/raft.rs", DECLARATION),
            SourceFile::new(
                "service/src/node.rs",
                "fn f(c: &RaftConfig) { g(c.heartbeat_ms); } // c.election_ms",
            ),
        ];
        assert_eq!(unread_fields(&files), ["service/src/config/raft.rs:5: nothing reads election_ms"]);
    }

    #[test]
    fn fields_that_another_file_reads_pass() {
        let files = [
            SourceFile::new("service/src/config.rs", DECLARATION),
            SourceFile::new("service/src/node.rs", "f(c.heartbeat_ms, c.election_ms)"),
        ];
        assert_eq!(unread_fields(&files), Vec::<String>::new());
    }
}
