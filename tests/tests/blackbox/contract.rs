//! The lock contract, one named test per rule, each shown to fail by a seeded bug.
//!
//! A rule is a function over a running cluster that looks for a breach. Every rule has two tests: on the real binary
//! it finds none, and on a binary with one known bug put back it finds one, so it is known that it can. A run that
//! breaks down for another reason passes neither.
//!
//! | rule | shown by |
//! |---|---|
//! | L1 one holder; a vote is given once | `vote-not-fsynced` |
//! | L2 tokens increase and survive | `answer-before-fsync` |
//! | L3 a grant needs a live session | `session-check-dropped` |
//! | L4 no expiry within a TTL of an acknowledged keepalive | `keepalive-from-memory` |
//! | L5 only the present leadership expires | `expiry-without-leader-check` |
//! | L6 first come, first served | `fifo-by-arrival` |
//! | L7 a release ends its own claim only | `release-by-lock-name` |
//! | L8 a replay gets the first answer | `replay-reevaluated` |
//! | L10 a guarded write is atomic with its guard | `guard-before-propose` |

mod api;
mod durable;
mod guard;
mod queue;
mod replays;
mod sessions;
mod trial;
mod waiting;
