//! One definition file while it is checked: its text, and what was found wrong so far.
//!
//! A check that fails says so here and goes on; it never returns early with an error, because *all* errors of a file are wanted. This file knows
//! no particular definition.
//!
//! Read [`Sheet`] first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;

use super::marks::{Finding, MOST_FINDINGS, Node, Place};
use super::problem::Problem;
use super::words::{self, Wrong};

/// Largest definition file: fifty times what one needs. Parts of a YAML parser take time that grows with the square of the size; at this size
/// the worst texts of `tests/definitions.rs` take a second in a debug build.
const LARGEST: u64 = 64 * 1024;

/// A file and what was found wrong with it.
#[derive(Debug)]
pub(super) struct Sheet {
    /// Absolute path.
    pub path: PathBuf,
    /// Path relative to the definitions' root.
    pub shown: PathBuf,
    /// What it holds; empty if it can't be read.
    pub text: String,
    findings: Vec<Finding>,
    /// Programs of this machine that aren't there.
    absent: Vec<Finding>,
    unreadable: Option<Wrong>,
}

impl Sheet {
    /// Reads a file. One that can't be read is a finding too.
    pub fn open(root: &Path, path: PathBuf) -> Self {
        let (text, unreadable) = match read(&path) {
            Ok(text) => (text, None),
            Err(wrong) => (String::new(), Some(wrong)),
        };
        let shown = path.strip_prefix(root).unwrap_or(&path).to_owned();
        Self { path, shown, text, findings: Vec::new(), absent: Vec::new(), unreadable }
    }

    /// The text could be read.
    pub fn is_readable(&self) -> bool {
        self.unreadable.is_none()
    }

    /// There is enough to mend before anything more is worth a look.
    pub fn is_full(&self) -> bool {
        self.findings.len() >= MOST_FINDINGS
    }

    /// Notes something wrong.
    pub fn say(&mut self, place: Place, message: impl Into<String>, remedy: impl Into<String>) {
        if !self.is_full() {
            self.findings.push(Finding { place, message: message.into(), remedy: remedy.into() });
        }
    }

    /// Notes everything that reading the YAML found.
    pub fn extend(&mut self, findings: Vec<Finding>) {
        self.findings.extend(findings);
    }

    /// The value, or a note of what is wrong with it.
    pub fn value<T>(&mut self, checked: Result<T, Wrong>, place: Place) -> Option<T> {
        checked.map_err(|wrong| self.say(place, wrong.message, wrong.remedy)).ok()
    }

    /// The value of a key that has to be there. `parent` is the map that holds it.
    pub fn required<T>(&mut self, value: Option<T>, parent: &Node, key: &str) -> Option<T> {
        if value.is_none() && !parent.excuses(key) {
            self.say(parent.key(key), format!("the key `{key}` is missing"), format!("add `{key}:`"));
        }
        value
    }

    /// Checks every item of the list at `key`.
    pub fn each<T>(&mut self, items: Option<Vec<String>>, marks: &Node, key: &str, check: impl Fn(&str) -> Result<T, Wrong>) -> Vec<T> {
        let list = marks.at(key);
        let mut checked = Vec::new();
        for (index, item) in items.unwrap_or_default().into_iter().enumerate() {
            if self.is_full() {
                break;
            }
            checked.extend(self.value(check(&item), list.item(index).place));
        }
        checked
    }

    /// As [`Sheet::each`], for a list in which nothing may be twice.
    pub fn each_once<T>(
        &mut self,
        items: Option<Vec<String>>,
        marks: &Node,
        key: &str,
        check: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Vec<T> {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().flatten().enumerate() {
            if !seen.insert(item) {
                self.say(marks.at(key).item(index).place, format!("`{item}` is listed twice"), "keep one of the two");
            }
        }
        self.each(items, marks, key, check)
    }

    /// As [`Sheet::each_once`], for programs of this machine. One that isn't there is no mistake of the file, and in nobody's way who doesn't use it:
    /// it is noted apart.
    pub fn host_programs(&mut self, items: Option<Vec<String>>, marks: &Node, key: &str) -> Vec<PathBuf> {
        for (index, item) in items.iter().flatten().enumerate() {
            let why = match fs::metadata(item) {
                Ok(found) if found.is_file() => continue,
                Ok(_) => "is no file",
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => "is not on this machine",
                Err(_) => "can't be looked at",
            };
            let remedy = "install the package that brings it, or correct the path".to_owned();
            self.absent.push(Finding { place: marks.at(key).item(index).place, message: format!("`{item}` {why}"), remedy });
        }
        self.each_once(items, marks, key, words::absolute)
    }

    /// `description:`, one line.
    pub fn description(&mut self, text: Option<String>, marks: &Node) -> Option<String> {
        let text = self.required(text, marks, "description")?;
        let fine = !text.trim().is_empty() && !text.chars().any(char::is_control);
        let checked = if fine { Ok(text) } else { words::wrong("a description is one line of text", "say in a few words what it is") };
        self.value(checked, marks.at("description").place)
    }

    /// The problems of the file, and apart the programs of this machine that aren't there.
    pub fn problems(self) -> (Vec<Problem>, Vec<Problem>) {
        let Self { shown, text, findings, absent, unreadable, .. } = self;
        if let Some(Wrong { message, remedy }) = unreadable {
            return (vec![Problem { file: shown, line: 0, column: 0, message, remedy, source: None }], Vec::new());
        }
        let source = Arc::new(NamedSource::new(shown.to_string_lossy(), text));
        let problem = |Finding { place, message, remedy }| Problem {
            file: shown.clone(),
            line: place.line,
            column: place.column,
            message: visible(&message),
            remedy: visible(&remedy),
            source: Some((Arc::clone(&source), (place.offset, place.length).into())),
        };
        (findings.into_iter().map(problem).collect(), absent.into_iter().map(problem).collect())
    }
}

/// Escapes what would move a terminal's cursor: keys and names come from a file that may be anybody's.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

fn read(path: &Path) -> Result<String, Wrong> {
    let unreadable =
        |error: std::io::Error| Wrong { message: format!("can't be read: {error}"), remedy: "make it a readable file".to_owned() };
    let mut bytes = Vec::new();
    // Before it is opened: opening a named pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return words::wrong("is no regular file", "make it one");
    }
    let file = File::open(path).map_err(unreadable)?;
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return words::wrong("is larger than 64 KiB", "a definition is a page of text");
    }
    let text = String::from_utf8(bytes).or_else(|_| words::wrong("is not UTF-8", "save it as UTF-8"))?;
    // libyaml takes a byte order mark for a document of its own.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}
