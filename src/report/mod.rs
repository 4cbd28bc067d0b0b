//! What a person reads: tables and texts, as strings that `cli` prints.

pub mod list;
