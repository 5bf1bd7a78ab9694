//! `holdfast dev`.
