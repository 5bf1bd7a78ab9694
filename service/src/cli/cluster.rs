//! `holdfast cluster`.
