//! stub
#[allow(dead_code, reason = "nothing composes a node of it yet")]
mod raft;
#[allow(dead_code, reason = "nothing composes a node of it yet")]
mod seeded_bugs;
#[allow(dead_code, reason = "nothing composes a node of it yet")]
mod storage;
