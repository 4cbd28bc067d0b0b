//! What a spec file does to the unpacked tarball: its patches, its version, its configurations.
//!
//! A spec file's patches may need fuzz, which `source::patch` refuses, so patch(1) applies them here: as unified diffs only, because an ed script in a
//! patch is a program, and only after [`patch::read`] has found every path in the tree. The tree is a scratch folder's, and shares no file with another.
//!
//! Read [`patches`] first. What takes them back is `undo`'s.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::undo::Undoing;
use super::{PatchRecord, Recipe, SrpmError};
use crate::input;
use crate::program::{Program, last_lines};
use crate::source::digest::sha256;
use crate::source::patch;
use crate::source::stop::Stop;
use crate::source::{SourceError, TREE, failed, unreadable};

/// Applies the patches of a recipe, whose files lie in `payload`, to the tree in the scratch folder. What takes them back is returned too, unless none is
/// applied.
pub async fn patches(
    scratch: &Path,
    payload: &Path,
    recipe: &Recipe,
    package: &str,
) -> Result<(Vec<PatchRecord>, Option<Undoing>), SourceError> {
    let tree = scratch.join(TREE);
    let (mut read, mut all) = (Vec::new(), BTreeSet::new());
    for hook in &recipe.applied {
        let file = payload.join(&hook.patch);
        let bytes = input::read(&file, input::LARGEST_TEXT).map_err(unreadable(&file))?;
        // As `wc -l` counts.
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_wanted = hook.more_lines_than.is_none_or(|least| lines > least);
        let touched = is_wanted.then(|| touched(&file, &bytes));
        all.extend(touched.iter().flatten().flatten().cloned());
        read.push((hook, file, touched));
    }
    let is_any = read.iter().any(|(_, _, touched)| touched.is_some());
    let mut undoing = if is_any { Some(Undoing::begin(scratch, recipe.extraversion.as_deref(), &all).await?) } else { None };
    let record = |name: &str, applied| {
        let file = payload.join(name);
        let sha256 = sha256(&file, &Stop::default()).map_err(failed("read", &file))?;
        Ok::<_, SourceError>(PatchRecord { name: name.to_owned(), sha256, applied })
    };
    let mut records = Vec::new();
    for (hook, file, touched) in read {
        let applied = touched.is_some();
        if let Some(touched) = touched {
            let fails = |why| SrpmError::Patch { package: package.to_owned(), patch: hook.patch.clone(), why };
            let touched = touched.map_err(fails)?;
            apply(&tree, &file, recipe.fuzz).await?.map_err(fails)?;
            if let Some(undoing) = &mut undoing {
                undoing.applied(&file, &touched).await?;
            }
        }
        records.push(record(&hook.patch, applied)?);
    }
    for patch in &recipe.unnamed {
        records.push(record(patch, false)?);
    }
    Ok((records, undoing))
}

/// The files that a patch touches, by its old and its new names, if it is a unified diff of plain files in the tree.
fn touched(file: &Path, bytes: &[u8]) -> Result<BTreeSet<PathBuf>, String> {
    let text = String::from_utf8_lossy(bytes);
    let patch = patch::read(file, &text).map_err(|error| error.to_string())?;
    match text.lines().find(|line| has_odd_mode(line)) {
        Some(line) => Err(format!("it makes something else than a plain file ({})", line.trim().escape_debug())),
        None => Ok(patch.files.into_iter().chain(patch.hunks.into_iter().map(|hunk| hunk.file)).collect()),
    }
}

/// Whether a line of git's gives a file a mode that is no plain file's. patch(1) takes any white space before it (`fetchmode`, src/pch.c).
fn has_odd_mode(line: &str) -> bool {
    let words: Vec<_> = line.split_whitespace().collect();
    let (["new" | "old", "mode", mode] | ["new" | "deleted", "file", "mode", mode] | ["index", _, mode]) = words[..] else {
        return false;
    };
    u32::from_str_radix(mode, 8).is_ok_and(|mode| mode & 0o170_000 != 0o100_000)
}

/// Runs patch(1). The inner result is what it says of the patch.
async fn apply(tree: &Path, file: &Path, fuzz: u32) -> Result<Result<(), String>, SourceError> {
    let mut program = Program::new("patch", "patch");
    program.command.current_dir(tree).env_remove("POSIXLY_CORRECT").env_remove("PATCH_GET").env_remove("SIMPLE_BACKUP_SUFFIX");
    program.command.args(["-p1", &format!("-F{fuzz}"), "--unified", "--forward", "--batch", "--no-backup-if-mismatch", "--reject-file=-"]);
    program.command.arg("--input").arg(file);
    let output = program.output().await?;
    if output.status.success() {
        return Ok(Ok(()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let failures = failures(&said);
    Ok(Err(if failures.is_empty() { last_lines(&[output.stdout, output.stderr].concat()) } else { failures.join("; ") }))
}

/// Each hunk that patch(1) says has failed, with its file.
fn failures(said: &str) -> Vec<String> {
    let (mut file, mut failures) = ("", Vec::new());
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("patching file ") {
            file = name;
        } else if let Some((number, line)) = line.strip_prefix("Hunk #").and_then(|rest| rest.split_once(" FAILED at ")) {
            failures.push(format!("hunk {number} of {file} (line {} there) finds other text", line.trim_end_matches('.')));
        }
    }
    failures
}

/// Largest Makefile at a kernel's top: Linux 6.1's has 66 kB.
pub const LARGEST_MAKEFILE: u64 = 16 << 20;

/// Sets the Makefile's `EXTRAVERSION`, so that `uname -r` says what the distribution's kernel says.
pub fn extraversion(tree: &Path, value: &str, package: &str, spec: &str) -> Result<(), SourceError> {
    let path = tree.join("Makefile");
    let missing = || SrpmError::Extraversion { package: package.to_owned(), spec: spec.to_owned() };
    let is_file = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err(missing().into());
    }
    let bytes = input::read(&path, LARGEST_MAKEFILE).map_err(unreadable(&path))?;
    let written = with_extraversion(&bytes, value).ok_or_else(missing)?;
    fs::write(&path, written).map_err(failed("write", &path))
}

/// A Makefile with this `EXTRAVERSION`; none if it has no line for one.
pub fn with_extraversion(makefile: &[u8], value: &str) -> Option<Vec<u8>> {
    let mut found = false;
    let mut written = Vec::with_capacity(makefile.len() + value.len());
    for line in makefile.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"EXTRAVERSION") {
            found = true;
            written.extend_from_slice(format!("EXTRAVERSION = {value}\n").as_bytes());
        } else {
            written.extend_from_slice(line);
        }
    }
    found.then_some(written)
}

/// Lays configurations at the top of the tree, as the spec file does.
pub fn configurations(payload: &Path, names: &[String], tree: &Path) -> Result<(), SourceError> {
    for name in names {
        let target = tree.join(name);
        let copied = fs::File::create_new(&target).and_then(|mut file| io::copy(&mut fs::File::open(payload.join(name))?, &mut file));
        copied.map_err(failed("create", &target))?;
    }
    Ok(())
}
