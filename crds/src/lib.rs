//! The custom resource types of Holdfast. The operator's issue fills this crate; it holds nothing yet.
