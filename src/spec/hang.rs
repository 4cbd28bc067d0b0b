//! The hang that a pipeline looks for: `hang: signature:`, and its form.
//!
//! It lists tasks that must be stuck, each by a function of its stack and, if it matters, its name. Whether a hang is this one is the oracle's to say.
//!
//! Read [`HangSignature`] first.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::marks::Node;
use super::raw;
use super::sheet::Sheet;
use super::words::{Wrong, wrong};

/// Who is stuck where in the hang that a pipeline looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HangSignature {
    /// Each of these is there; one at least.
    pub tasks: Vec<StuckTask>,
}

/// A task that is stuck in the hang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StuckTask {
    /// Its name; one that ends in `*` stands for all that begin so. Any task if not given.
    pub task: Option<String>,
    /// A function of its stack.
    #[serde(rename = "in")]
    pub function: String,
}

/// A task's name has at most so many bytes (`TASK_COMM_LEN` without its end).
const LONGEST_NAME: usize = 15;

/// A symbol of the kernel has fewer bytes (`KSYM_NAME_LEN`).
const LONGEST_FUNCTION: usize = 512;

impl StuckTask {
    /// Whether it means tasks of this name.
    #[must_use]
    pub fn names(&self, comm: &str) -> bool {
        match &self.task {
            None => true,
            Some(task) => task.strip_suffix('*').map_or(comm == task, |begin| comm.starts_with(begin)),
        }
    }
}

impl fmt::Display for StuckTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.task {
            None => write!(f, "in {}", self.function),
            Some(task) => write!(f, "{task} in {}", self.function),
        }
    }
}

/// Checks `hang:`.
pub(super) fn signature(sheet: &mut Sheet, hang: raw::Hang, marks: &Node) -> Option<HangSignature> {
    let tasks = sheet.required(hang.signature, marks, "signature")?;
    let marks = marks.at("signature");
    if tasks.is_empty() && marks.lost.is_empty() {
        sheet.say(
            marks.place,
            "a signature of nothing is every hang's",
            "list tasks such as `in: jbd2_log_wait_commit`, or leave `hang` out",
        );
    }
    let mut checked = Vec::new();
    for (index, raw::StuckTask { task, function: stack }) in tasks.into_iter().enumerate() {
        let marks = marks.item(index);
        let given = task.is_some();
        let task = task.and_then(|task| sheet.value(name(&task), marks.at("task").place));
        let Some(stack) = sheet.required(stack, marks, "in") else { continue };
        let Some(function) = sheet.value(function(&stack), marks.at("in").place) else { continue };
        if given == task.is_some() {
            checked.push(StuckTask { task, function });
        }
    }
    Some(HangSignature { tasks: checked })
}

fn name(text: &str) -> Result<String, Wrong> {
    let begin = text.strip_suffix('*').unwrap_or(text);
    if begin.is_empty() || begin.len() > LONGEST_NAME || begin.contains('*') || begin.chars().any(char::is_control) {
        return wrong(format!("{text:?} is no task's name"), "write up to 15 characters as `ps` shows them, or the first of them and `*`");
    }
    Ok(text.to_owned())
}

fn function(text: &str) -> Result<String, Wrong> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    if text.len() >= LONGEST_FUNCTION || !text.starts_with(begins) || !text.chars().all(fine) {
        return wrong(format!("{text:?} is no function"), "write one function of the stack, without suffix and offset");
    }
    Ok(text.to_owned())
}
