//! hangproof proves that a kernel patch removes a hang. `ARCHITECTURE.md` is the map; `main` is a thin shell around `cli`.

pub mod build;
pub mod cli;
pub mod doctor;
pub mod event;
pub mod evidence;
pub mod exit;
pub mod guest;
pub mod image;
pub mod oracle;
pub mod plan;
pub mod progress;
pub mod report;
pub mod reporting;
pub mod reproducer;
pub mod rescore;
pub mod run;
pub mod shell;
pub mod source;
pub mod spec;
pub mod stats;
pub mod store;
pub mod trial;
pub mod verdict;
pub mod vm;
