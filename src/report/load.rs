//! Why a run's report can't be used.
//!
//! What is there is read as data only; whether the folder holds what the report tells of is for others.
//!
//! Read [`LoadError`].

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Why a run's report can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It isn't there, or can't be read.
    #[error("{} can't be read: {cause}: name a run's folder, with all that the run wrote", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// It was cut off, or somebody wrote to it.
    #[error("{} is damaged, {problem}: bring it back as the run wrote it, or name another run's folder", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where, and what is wrong there.
        problem: String,
    },
    /// A newer hangproof judged it.
    #[error("{} was judged by rules {rules}, this hangproof knows those up to {known}: use the hangproof {hangproof} that wrote it", path.display())]
    Rules {
        /// The file.
        path: PathBuf,
        /// Its rules' number.
        rules: u32,
        /// The newest that this program knows.
        known: u32,
        /// The version that wrote it.
        hangproof: String,
    },
    /// Another hangproof wrote it.
    #[error("{} has schema {schema}, this hangproof reads {}: use the hangproof {hangproof} that wrote it", path.display(), super::SCHEMA)]
    Form {
        /// The file.
        path: PathBuf,
        /// Its form.
        schema: u32,
        /// The version that wrote it.
        hangproof: String,
    },
}

/// What the bytes of the report hold.
///
/// # Errors
/// With the first place that isn't what a report has there.
pub(super) fn parsed<T: DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, LoadError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let damaged = |problem: String| LoadError::Damaged { path: path.to_owned(), problem };
    let said = |path: String, error: &serde_json::Error| damaged(said(error.line(), path, error));
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| said(error.path().to_string(), error.inner()))?;
    reader.end().map_err(|error| said(".".to_owned(), &error))?;
    Ok(value)
}

/// What a line of an event log holds; `number` counts from 1.
///
/// # Errors
/// When that is no event.
pub(super) fn event(path: &Path, number: usize, line: &[u8]) -> Result<Value, LoadError> {
    let damaged = |error| LoadError::Damaged { path: path.to_owned(), problem: said(number, String::new(), &error) };
    serde_json::from_slice::<Map<_, _>>(line).map(Value::Object).map_err(damaged)
}

/// The place first, as in `line 3, column 5 (kernels[0].verdict): unknown variant`. `line` is the file's, which may be read line by line.
fn said(line: usize, path: String, error: &serde_json::Error) -> String {
    let (column, whole) = (error.column(), error.to_string());
    let what = whole.strip_suffix(&format!(" at line {} column {column}", error.line())).unwrap_or(&whole);
    // What broke off in a key has no path yet.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let path = if path.is_empty() { String::new() } else { format!(" ({path})") };
    // A word of the file may be anything.
    format!("line {line}, column {column}{path}: {what}").chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

/// Characters of what is said, which quotes the file.
const LONGEST: usize = 300;
