//! Patches, applied strictly: every hunk of every file, in order, without fuzz, or not at all.
//!
//! `git apply` does the work, because it is strict, gives changed files a new inode (so it never writes through a hard link) and applies a patch
//! as a whole or not at all. It has two silent ways to do nothing, though: inside a repository it skips what lies outside the current folder, and
//! it takes lines that it doesn't understand for a comment. So it is kept from finding a repository, and what it says it changed is compared with
//! what [`read`] found in the patch. This file judges no change; it doesn't know what a kernel is.
//!
//! Read [`apply`] first.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use super::git::forget_environment;
use crate::fault::Whose;
use crate::input;
use crate::program::{Program, ProgramError, last_lines};

/// A patch as far as it has to be understood here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// The paths in the tree that it touches.
    pub files: BTreeSet<PathBuf>,
    /// Those of them that are only renamed or copied from: git doesn't list them.
    origins: BTreeSet<PathBuf>,
    /// Its hunks in order.
    pub hunks: Vec<Hunk>,
    /// The first line that a patch of ours may not have, though one of a source package may, and why not.
    flaw: Option<(usize, &'static str)>,
}

/// A hunk of a patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// The file before the change, in the tree.
    pub file: PathBuf,
    /// Its number within the file's part of the patch, from 1.
    pub number: usize,
    /// Where it begins in the file before the change.
    pub old_start: u64,
    /// The line of its header in the patch.
    pub line: usize,
    /// How many lines of context it has. git finds no place for a hunk without any.
    pub context: u64,
}

/// What applying a patch did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// BLAKE3 of the patch file.
    pub blake3: String,
    /// The paths in the tree that it touched.
    pub files: BTreeSet<PathBuf>,
    /// Hunks that were found elsewhere than the patch says, as git tells it.
    pub offsets: Vec<String>,
}

/// Why a patch wasn't applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The file can't be read.
    #[error("read patch {}: {cause}", patch.display())]
    Read {
        /// The patch.
        patch: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// It changes nothing.
    #[error("patch {} touches no file: give a unified diff with `--- a/file` and `+++ b/file` lines", patch.display())]
    Empty {
        /// The patch.
        patch: PathBuf,
    },
    /// It has a part that can't be understood.
    #[error("patch {}, line {line}: {why}; make it anew with `git format-patch` or `diff -u`", patch.display())]
    Malformed {
        /// The patch.
        patch: PathBuf,
        /// The line.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// It names a file outside the tree.
    #[error("patch {}, line {line}: {path:?} doesn't lie in the source tree; use `a/` and `b/` paths relative to its top", patch.display())]
    Escapes {
        /// The patch.
        patch: PathBuf,
        /// The line.
        line: usize,
        /// The path.
        path: String,
    },
    /// It doesn't fit the tree.
    #[error("patch {} doesn't apply: {}; rebase it onto this source", patch.display(), failures.join("; "))]
    DoesNotApply {
        /// The patch.
        patch: PathBuf,
        /// Each hunk or file that doesn't fit.
        failures: Vec<String>,
    },
    /// git applied something else than what stands in the patch.
    #[error("patch {} names {expected:?}, but git would change {found:?}; make it anew with `git format-patch`", patch.display())]
    Skipped {
        /// The patch.
        patch: PathBuf,
        /// Files in the patch.
        expected: Vec<PathBuf>,
        /// Files that git would change.
        found: Vec<PathBuf>,
    },
    /// git is missing or can't be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
}

impl PatchError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::Empty { .. } | Self::Malformed { .. } | Self::Escapes { .. } | Self::DoesNotApply { .. } | Self::Skipped { .. } => {
                Whose::Source
            }
            Self::Read { .. } => Whose::Definition,
            Self::Program(_) => Whose::Ours,
        }
    }
}

/// Applies patches in order to a tree, which has to be a scratch copy: after an error it holds the patches before the one that failed.
///
/// # Errors
/// At the first patch that doesn't apply as a whole.
pub async fn apply(tree: &Path, patches: &[PathBuf]) -> Result<Vec<Applied>, PatchError> {
    let mut applied = Vec::new();
    for patch in patches {
        applied.push(apply_one(tree, patch).await?);
    }
    Ok(applied)
}

/// Whether a file is a patch, for whatever tree.
///
/// # Errors
/// As [`read`], or when it can't be read.
pub fn check(patch: &Path) -> Result<(), PatchError> {
    open(patch).map(drop)
}

/// A patch file's bytes, and what was read in them.
fn open(patch: &Path) -> Result<(Vec<u8>, Patch), PatchError> {
    let bytes = input::read(patch, input::LARGEST_TEXT).map_err(|cause| PatchError::Read { patch: patch.to_owned(), cause })?;
    let read = read(patch, &String::from_utf8_lossy(&bytes))?;
    match read.flaw {
        Some((line, why)) => Err(PatchError::Malformed { patch: patch.to_owned(), line, why: why.to_owned() }),
        None => Ok((bytes, read)),
    }
}

async fn apply_one(tree: &Path, patch: &Path) -> Result<Applied, PatchError> {
    let (bytes, Patch { files, origins, hunks, .. }) = open(patch)?;
    let found = would_change(tree, patch).await?;
    let expected: BTreeSet<_> = files.difference(&origins).cloned().collect();
    if found != expected {
        let [expected, found] = [expected, found].map(|paths| paths.into_iter().collect());
        return Err(PatchError::Skipped { patch: patch.to_owned(), expected, found });
    }
    let mut git = guarded(tree);
    git.command.args(["apply", "--verbose", "--whitespace=nowarn", "--"]).arg(patch);
    let output = git.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        let offsets = said.lines().filter(|line| line.starts_with("Hunk #")).map(ToOwned::to_owned).collect();
        return Ok(Applied { blake3: blake3::hash(&bytes).to_hex().to_string(), files, offsets });
    }
    Err(PatchError::DoesNotApply { patch: patch.to_owned(), failures: failures(&said, &hunks) })
}

/// git in a tree that it takes for no repository, even if the tree lies in one or has one in it.
fn guarded(tree: &Path) -> Program {
    let mut git = Program::new("git", "git");
    forget_environment(git.command.as_std_mut());
    let parent = tree.canonicalize().ok().and_then(|tree| tree.parent().map(Path::to_owned));
    git.command.current_dir(tree).env("GIT_CEILING_DIRECTORIES", parent.unwrap_or_else(|| PathBuf::from("/")));
    git.command.args(["-c", "core.hooksPath=/dev/null", "-c", "apply.ignoreWhitespace=no", "-c", "core.autocrlf=false"]);
    git
}

/// The files that git would change.
async fn would_change(tree: &Path, patch: &Path) -> Result<BTreeSet<PathBuf>, PatchError> {
    let mut git = guarded(tree);
    git.command.args(["apply", "--numstat", "-z", "--"]).arg(patch);
    let output = git.output().await?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(PatchError::DoesNotApply { patch: patch.to_owned(), failures: failures(&said, &[]) });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // `ADDED TAB DELETED TAB PATH NUL`
    Ok(text.split('\0').filter_map(|record| record.splitn(3, '\t').nth(2)).map(PathBuf::from).collect())
}

/// git's complaints, with the hunk where it names a line.
fn failures(said: &str, hunks: &[Hunk]) -> Vec<String> {
    let complaints: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("error: ")).collect();
    let located: Vec<_> = complaints.iter().filter_map(|complaint| located(complaint, hunks)).collect();
    if !located.is_empty() {
        return located;
    }
    let plain: Vec<String> = complaints.iter().map(|complaint| (*complaint).to_owned()).collect();
    if plain.is_empty() { vec![last_lines(said.as_bytes())] } else { plain }
}

/// `patch failed: FILE:LINE` as file, line and hunk.
fn located(complaint: &str, hunks: &[Hunk]) -> Option<String> {
    let (file, line) = complaint.strip_prefix("patch failed: ")?.rsplit_once(':')?;
    let line: u64 = line.parse().ok()?;
    let hunk = hunks.iter().find(|hunk| hunk.file == Path::new(file) && hunk.old_start == line)?;
    let why = if hunk.context == 0 { "has no lines of context (`diff -U3` gives them)" } else { "finds other text" };
    Some(format!("hunk {} of {file} (line {line} there, line {} of the patch) {why}", hunk.number, hunk.line))
}

/// Reads which files a patch touches and where its hunks are.
///
/// # Errors
/// When it touches no file, has a hunk whose length isn't what its header says, or a path outside the tree.
pub fn read(patch: &Path, text: &str) -> Result<Patch, PatchError> {
    let mut reading = Reading {
        patch,
        files: BTreeSet::new(),
        origins: BTreeSet::new(),
        changed: BTreeSet::new(),
        hunks: Vec::new(),
        old: None,
        new: None,
        number: 0,
    };
    let mut flaw = None;
    let mut lines = (1..).zip(text.lines()).peekable();
    let returns: BTreeSet<usize> = (1..).zip(text.split('\n')).filter(|(_, line)| line.ends_with('\r')).map(|(number, _)| number).collect();
    while let Some((number, line)) = lines.next() {
        if let Some(header) = line.strip_prefix("@@ -") {
            if returns.contains(&number) {
                flaw.get_or_insert((
                    number,
                    "its lines end in a carriage return, as a mail program leaves them (`dos2unix` takes them away)",
                ));
            }
            let (old, new) = reading.hunk(number, header)?;
            reading.body(number, old, new, &mut lines)?;
        } else if let Some(path) = line.strip_prefix("--- ")
            && lines.peek().is_some_and(|(_, next)| next.starts_with("+++ "))
        {
            reading.old = reading.path(number, path)?;
            reading.number = 0;
        } else if let Some(path) = line.strip_prefix("+++ ") {
            reading.new = reading.path(number, path)?;
            reading.touch(number)?;
            if !lines.peek().is_some_and(|(_, next)| next.starts_with("@@ -")) {
                flaw.get_or_insert((number, "no hunk follows"));
            }
        } else {
            reading.extended(number, line)?;
        }
    }
    if reading.files.is_empty() {
        return Err(PatchError::Empty { patch: patch.to_owned() });
    }
    let Reading { files, mut origins, changed, hunks, .. } = reading;
    origins.retain(|origin| !changed.contains(origin));
    Ok(Patch { files, origins, hunks, flaw })
}

struct Reading<'a> {
    patch: &'a Path,
    files: BTreeSet<PathBuf>,
    origins: BTreeSet<PathBuf>,
    /// What is there after the patch, or is deleted by it.
    changed: BTreeSet<PathBuf>,
    hunks: Vec<Hunk>,
    old: Option<PathBuf>,
    new: Option<PathBuf>,
    number: usize,
}

impl Reading<'_> {
    fn malformed(&self, line: usize, why: impl Into<String>) -> PatchError {
        PatchError::Malformed { patch: self.patch.to_owned(), line, why: why.into() }
    }

    /// A path of a `---` or `+++` line, without its first folder; none for `/dev/null`.
    fn path(&self, line: usize, path: &str) -> Result<Option<PathBuf>, PatchError> {
        let path = path.split('\t').next().unwrap_or_default().trim_end();
        if path == "/dev/null" {
            return Ok(None);
        }
        let inside = Path::new(path).components().skip(1).collect::<PathBuf>();
        self.inside(line, path, &inside).map(Some)
    }

    fn inside(&self, line: usize, shown: &str, path: &Path) -> Result<PathBuf, PatchError> {
        let normal = path.components().all(|component| matches!(component, Component::Normal(name) if name != ".git"));
        let absolute = shown.starts_with('/') || shown.starts_with('"');
        let upwards = Path::new(shown).components().any(|component| component == Component::ParentDir);
        if normal && !absolute && !upwards && !path.as_os_str().is_empty() {
            Ok(path.to_owned())
        } else {
            Err(PatchError::Escapes { patch: self.patch.to_owned(), line, path: shown.to_owned() })
        }
    }

    fn touch(&mut self, line: usize) -> Result<(), PatchError> {
        if self.old.is_none() && self.new.is_none() {
            return Err(self.malformed(line, "both files are /dev/null"));
        }
        // What git shows for a file is its new name, or the old one if it is deleted.
        let file = self.new.clone().or_else(|| self.old.clone());
        self.changed.extend(file.clone());
        self.files.extend(file);
        Ok(())
    }

    /// git's headers of changes without a hunk: renames, copies, modes.
    fn extended(&mut self, line: usize, text: &str) -> Result<(), PatchError> {
        for header in ["rename from ", "rename to ", "copy from ", "copy to "] {
            if let Some(path) = text.strip_prefix(header) {
                let path = self.inside(line, path, Path::new(path))?;
                if header.ends_with("from ") {
                    self.origins.insert(path.clone())
                } else {
                    self.changed.insert(path.clone())
                };
                self.files.insert(path);
            }
        }
        if let Some(paths) = text.strip_prefix("diff --git a/") {
            // `PATH b/PATH`: the same twice unless it is a rename, which has lines of its own.
            let half = paths.len().saturating_sub(" b/".len()) / 2;
            if paths.get(half..half + 3) == Some(" b/") && paths.get(..half) == paths.get(half + 3..) {
                let path = self.inside(line, paths, Path::new(&paths[..half]))?;
                self.files.insert(path);
            }
        }
        if text.starts_with("GIT binary patch") || text.starts_with("Binary files ") {
            return Err(self.malformed(line, "it changes a binary file"));
        }
        Ok(())
    }

    /// Takes in a hunk's header; returns how many lines it has of the old and of the new file.
    fn hunk(&mut self, line: usize, header: &str) -> Result<(u64, u64), PatchError> {
        let ranges = header.split_once(" @@").and_then(|(ranges, _)| ranges.split_once(" +"));
        let parsed = ranges.and_then(|(old, new)| Some((range(old)?, range(new)?)));
        let Some(((old_start, old), (_, new))) = parsed else { return Err(self.malformed(line, "this hunk header is damaged")) };
        let Some(file) = self.old.clone().or_else(|| self.new.clone()) else {
            return Err(self.malformed(line, "this hunk belongs to no file"));
        };
        self.number += 1;
        self.hunks.push(Hunk { file, number: self.number, old_start, line, context: 0 });
        Ok((old, new))
    }

    /// Takes in a hunk's lines. One line too many would be a comment to git, and the change would be lost without a word.
    fn body<'t>(
        &mut self,
        header: usize,
        mut old: u64,
        mut new: u64,
        lines: &mut std::iter::Peekable<impl Iterator<Item = (usize, &'t str)>>,
    ) -> Result<(), PatchError> {
        while old > 0 || new > 0 {
            let Some((number, line)) = lines.next() else { return Err(self.malformed(header, "this hunk ends too early")) };
            let (from_old, from_new) = match line.bytes().next() {
                Some(b' ') | None => (1, 1),
                Some(b'-') => (1, 0),
                Some(b'+') => (0, 1),
                Some(b'\\') => (0, 0),
                Some(_) => return Err(self.malformed(number, "this line belongs to no hunk, but the hunk before it ends too early")),
            };
            let (Some(rest_old), Some(rest_new)) = (old.checked_sub(from_old), new.checked_sub(from_new)) else {
                return Err(self.malformed(header, "this hunk has other lines than its header says"));
            };
            (old, new) = (rest_old, rest_new);
            if let Some(hunk) = self.hunks.last_mut().filter(|_| (from_old, from_new) == (1, 1)) {
                hunk.context += 1;
            }
        }
        match lines.peek() {
            // `-- ` is the signature of a mail.
            Some((number, line)) if line.starts_with(['+', ' ']) || (line.starts_with('-') && !line.starts_with("--")) => {
                Err(self.malformed(*number, "this line is one more than the hunk's header says"))
            }
            _ => Ok(()),
        }
    }
}

/// `START,LENGTH` or `START`.
fn range(text: &str) -> Option<(u64, u64)> {
    let (start, length) = text.split_once(',').unwrap_or((text, "1"));
    Some((start.parse().ok()?, length.parse().ok()?))
}
