//! Everything that touches openraft: the type configuration, our encodings of its types, and the log store.
//!
//! Only this module names openraft. Nothing of openraft's own serialisation reaches a disk or a wire: [`codec`] holds a
//! versioned form for each of its types, so that an upgrade of the library cannot change what is stored.

pub(crate) mod codec;
pub(crate) mod log_store;
pub(crate) mod types;
