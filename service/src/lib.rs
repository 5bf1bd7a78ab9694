//! stub

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the consensus module is its user"))]
mod peer;
