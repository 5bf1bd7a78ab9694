//! The lock contract, one named test per rule, each shown to fail by a seeded bug.
