//! The operator: observe, validate, plan, build, act, status. The operator's issue fills this crate; it holds nothing yet.
