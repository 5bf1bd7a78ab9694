//! Which folder may name what. The rules are absences: the only folder that may break each is listed with it.

use crate::repository::SourceFile;
use crate::tokens::{Token, tokens};

/// Words that the code of a folder must not contain.
struct Rule {
    /// The folder that the rule is about; empty for the whole repository.
    folder: &'static str,
    /// The modules (without `.rs`) and folders inside it that may.
    except: &'static [&'static str],
    names: Names,
    reason: &'static str,
}

enum Names {
    /// These identifiers, wherever they stand.
    Words(&'static [&'static str]),
    /// Modules of the same crate, named by `crate::` or `super::`.
    Modules(&'static [&'static str]),
}

const RULES: &[Rule] = &[
    Rule {
        folder: "",
        except: &["service/src/storage"],
        names: Names::Words(&["rocksdb", "librocksdb_sys"]),
        reason: "only storage names rocksdb",
    },
    Rule {
        folder: "",
        except: &["service/src/raft"],
        names: Names::Words(&["openraft", "openraft_rt", "openraft_rt_tokio", "openraft_macros"]),
        reason: "only raft names openraft",
    },
    Rule {
        folder: "service/core",
        except: &[],
        names: Names::Words(&[
            "tokio",
            "futures_util",
            "Instant",
            "SystemTime",
            "rand",
            "HashMap",
            "HashSet",
        ]),
        reason: "core has no runtime, clock, randomness or unordered collection",
    },
    Rule {
        folder: "service/src/raft",
        except: &[],
        names: Names::Modules(&["http", "watch", "gossip"]),
        reason: "raft imports neither http, watch nor gossip; the composition root wires channels",
    },
    Rule {
        folder: "service",
        except: &["service/src/http", "service/api"],
        names: Names::Words(&["StatusCode"]),
        reason: "only http and api know status codes",
    },
];

/// Every name in a folder that must not name it.
pub(crate) fn violations(files: &[SourceFile]) -> Vec<String> {
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let tokens = tokens(&file.text);
        for rule in RULES.iter().filter(|rule| rule.covers(&file.path)) {
            for token in rule.names.named_in(&tokens) {
                found.push(format!("{}:{}: names {}: {}", file.path, token.line, token.text, rule.reason));
            }
        }
    }
    found
}

impl Rule {
    fn covers(&self, path: &str) -> bool {
        is_in(path, self.folder) && !self.except.iter().any(|folder| is_in(path, folder))
    }
}

/// Whether a file is in a folder, or is the module file that stands for it.
fn is_in(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

impl Names {
    fn named_in<'a>(&self, tokens: &[Token<'a>]) -> Vec<Token<'a>> {
        match self {
            Self::Words(words) => {
                tokens.iter().filter(|token| words.contains(&token.text)).copied().collect()
            }
            Self::Modules(modules) => {
                let heads = crate_path_heads(tokens);
                heads.into_iter().filter(|token| modules.contains(&token.text)).collect()
            }
        }
    }
}

/// The first segment after `crate::` or `super::` of each path, also within the braces of a `use`.
fn crate_path_heads<'a>(tokens: &[Token<'a>]) -> Vec<Token<'a>> {
    let mut heads = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let starts_path = matches!(pair[0].text, "crate" | "super") && pair[1].text == "::";
        // `pub(crate) ::x` is not written by anyone, and rustfmt keeps the parenthesis apart.
        if starts_path {
            heads.extend(segment_heads(&tokens[at + 2..]));
        }
    }
    heads
}

/// The segments that a path tail names first: itself, or each alternative of a brace group.
fn segment_heads<'a>(tail: &[Token<'a>]) -> Vec<Token<'a>> {
    let Some(first) = tail.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![*first];
    }
    let mut heads = Vec::new();
    let mut depth = 0_usize;
    let mut previous = "";
    for token in tail {
        match token.text {
            "}" if depth == 1 => break,
            "}" => depth -= 1,
            "{" => depth += 1,
            _ if depth == 1 && matches!(previous, "{" | ",") => heads.push(*token),
            _ => {}
        }
        previous = token.text;
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::violations;
    use crate::repository::SourceFile;

    fn count(path: &str, text: &str) -> usize {
        violations(&[SourceFile::new(path, text)]).len()
    }

    #[test]
    fn rocksdb_is_named_by_storage_alone() {
        let text = "use rocksdb::DB;";
        assert_eq!(count("service/src/raft/log_store.rs", text), 1);
        assert_eq!(count("service/src/storage_extra/mod.rs", text), 1);
        assert_eq!(count("tests/src/lib.rs", text), 1);
        assert_eq!(count("service/src/storage/mod.rs", text), 0);
        assert_eq!(count("service/src/storage.rs", text), 0);
        assert_eq!(count("service/src/node.rs", "// rocksdb\nlet a = \"rocksdb\";"), 0);
    }

    #[test]
    fn openraft_is_named_by_raft_alone() {
        assert_eq!(count("service/src/http/error.rs", "let e: openraft::error::Fatal = f();"), 1);
        assert_eq!(count("service/src/storage/log.rs", "use openraft_rt_tokio::TokioRuntime;"), 1);
        assert_eq!(count("service/src/raft/mod.rs", "use openraft::Raft;"), 0);
    }

    #[test]
    fn core_names_no_clock_runtime_randomness_or_unordered_map() {
        let sources = [
            "use std::time::Instant;",
            "let t = std::time::SystemTime::now();",
            "use tokio::sync::mpsc;",
            "use rand::Rng;",
            "use std::collections::{BTreeMap, HashMap};",
            "use openraft::Vote;",
            "use rocksdb::DB;",
        ];
        for source in sources {
            assert_eq!(count("service/core/src/lock.rs", source), 1, "{source}");
        }
        assert_eq!(count("service/core/src/lock.rs", "use std::time::Duration;"), 0);
        assert_eq!(count("service/src/node.rs", "use std::time::Instant;"), 0);
    }

    #[test]
    fn raft_does_not_import_what_sits_above_it() {
        let sources = [
            "use crate::http::Router;",
            "use crate::{config, watch::Hub};",
            "fn f() { super::super::gossip::start(); }",
            "use crate::{a::{b, c}, gossip};",
        ];
        for source in sources {
            assert_eq!(count("service/src/raft/mod.rs", source), 1, "{source}");
        }
        assert_eq!(count("service/src/raft/mod.rs", "use tokio::sync::watch; use crate::{a::watch, b};"), 0);
        assert_eq!(count("service/src/node.rs", "use crate::http::Router;"), 0);
    }

    #[test]
    fn status_codes_are_known_to_http_and_api_alone() {
        let text = "use axum::http::StatusCode;";
        assert_eq!(count("service/src/raft/mod.rs", text), 1);
        assert_eq!(count("service/core/src/lib.rs", text), 1);
        assert_eq!(count("service/src/http/error.rs", text), 0);
        assert_eq!(count("service/api/src/error.rs", text), 0);
        assert_eq!(count("tests/tests/cluster/main.rs", text), 0);
    }
}
