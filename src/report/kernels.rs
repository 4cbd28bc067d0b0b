//! What went into a run's kernels, kept in the run's folder: `kernels/NAME/` with the configuration, the patches, and digests of both and of the results.
//!
//! Small files only, so that a report and a bundle need neither the store nor the definitions, which may have changed since. A patch is kept only
//! if it still is the one that was built with.
//!
//! Read [`save_inputs`] and [`Inputs`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::case::kept;
use super::text::compiled;
use super::write_whole;
use crate::build::{Applied, Built, FileRecord, Manifest};
use crate::input;
use crate::spec::Name;

/// Folder of a run's folder.
pub const KERNELS: &str = "kernels";

const CONFIG: &str = "config";
/// Digests of a kernel's results and of what was kept of it, or of a bundle's files.
pub(super) const DIGESTS: &str = "SHA256SUMS";
const PATCHES: &str = "patches";
const COMPATIBILITY: &str = "compatibility";

/// What went into a kernel, as far as the run kept it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Inputs {
    /// SHA-256 of the results, by their file's name.
    pub results: Vec<(String, String)>,
    /// The configuration, relative to the run's folder.
    pub config: Option<PathBuf>,
    /// Compatibility changes in order.
    pub compatibility: Vec<Patch>,
    /// The user's patches in order.
    pub patches: Vec<Patch>,
}

/// A patch, or another compatibility change, that went into a kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Patch {
    /// Its file's name; what was changed, if that is no patch.
    pub name: String,
    /// BLAKE3, as the build recorded it; none if it is no patch.
    pub blake3: Option<String>,
    /// SHA-256; none if the run didn't keep the patch.
    pub sha256: Option<String>,
    /// Its subject.
    pub subject: Option<String>,
    /// Mainline commits that its header names.
    pub commits: Vec<String>,
    /// The kept copy, relative to the run's folder.
    pub file: Option<PathBuf>,
}

/// The folder of what defines the trials, below the run's.
pub(super) const PIPELINE: &str = "pipeline";

/// Largest reproducer that is kept.
const LARGEST_SOURCE: u64 = 1 << 20;

/// The pipeline's definition in it.
pub(super) const DEFINITION: &str = "pipeline.yaml";

/// Keeps a pipeline's definition and its reproducer in the run's folder. Returns the reproducer's place, relative to that folder; none of a program that is
/// too large to be read by people.
///
/// # Errors
/// When one can't be read or written.
pub fn save_pipeline(run: &Path, definition: &Path, reproducer: &Path) -> io::Result<Option<PathBuf>> {
    let folder = run.join(PIPELINE);
    fs::create_dir_all(&folder)?;
    write_whole(&folder.join(DEFINITION), &input::read(definition, input::LARGEST_TEXT)?)?;
    let name = Path::new(reproducer.file_name().unwrap_or_default());
    if fs::metadata(reproducer)?.len() > LARGEST_SOURCE {
        return Ok(None);
    }
    fs::copy(reproducer, folder.join(name))?;
    Ok(Some(Path::new(PIPELINE).join(name)))
}

/// Removes what [`save_pipeline`] wrote, and nothing else: the folder may have been somebody's before.
pub fn forget_pipeline(run: &Path, reproducer: Option<&Path>) {
    let folder = run.join(PIPELINE);
    for file in [Some(DEFINITION.as_ref()), reproducer.and_then(Path::file_name)].into_iter().flatten() {
        let _ = fs::remove_file(folder.join(file));
    }
    let _ = fs::remove_dir(folder);
}

/// Keeps what went into a kernel in the run's folder. Returns a line for each file that can't be had any more.
///
/// # Errors
/// When the folder can't be written.
pub fn save_inputs(run: &Path, definitions: &Path, built: &Built) -> io::Result<Vec<String>> {
    let manifest = &built.manifest;
    let folder = run.join(KERNELS).join(manifest.kernel.as_str());
    fs::create_dir_all(&folder)?;
    fs::copy(&built.config, folder.join(CONFIG))?;
    let (mut missing, mut patches) = (Vec::new(), String::new());
    let compatibility: Vec<FileRecord> = manifest.compatibility.iter().filter_map(Applied::file).collect();
    for (kind, records) in [(COMPATIBILITY, &compatibility), (PATCHES, &manifest.patches)] {
        for (index, record) in records.iter().enumerate() {
            let Ok(content) = input::read(&definitions.join(&record.path), input::LARGEST_TEXT) else {
                missing.push(format!("{} of {} is gone, and is not in the run's folder", record.path.display(), manifest.kernel));
                continue;
            };
            if blake3::hash(&content).to_hex().as_str() != record.blake3 {
                missing.push(format!("{} of {} was changed since, and is not in the run's folder", record.path.display(), manifest.kernel));
                continue;
            }
            fs::create_dir_all(folder.join(kind))?;
            let name = kept_name(kind, index, record);
            write_whole(&folder.join(&name), &content)?;
            patches.push_str(&format!("{}  {name}\n", sha256(&content)));
        }
    }
    let mut digests = String::new();
    for path in [Some(&built.image), built.vmlinux.as_ref(), built.system_map.as_ref(), Some(&built.config)].into_iter().flatten() {
        let mut hasher = Sha256::new();
        io::copy(&mut input::open(path)?, &mut hasher)?;
        digests.push_str(&format!("{:x}  {}\n", hasher.finalize(), file_name(path)));
    }
    digests.push_str(&patches);
    write_whole(&folder.join(DIGESTS), digests.as_bytes())?;
    Ok(missing)
}

/// What the run's folder has of a kernel, and what is wrong with that, a line for each file.
pub(super) fn load_inputs(run: &Path, kernel: &Name, build: &Manifest) -> (Inputs, Vec<String>) {
    let folder = Path::new(KERNELS).join(kernel.as_str());
    let mut wrong = Vec::new();
    let results = digests(run, &folder, &mut wrong);
    let mut shelf = Shelf { run, folder, digests: &results, wrong };
    let config = shelf.has(CONFIG, &build.configuration.config_blake3).map(|_| shelf.folder.join(CONFIG));
    let mut patches = 0..;
    let compatibility = build.compatibility.iter().map(|applied| match applied.file() {
        Some(record) => shelf.patch(COMPATIBILITY, patches.next().unwrap_or_default(), &record),
        None => Patch { name: applied.shown(), blake3: None, sha256: None, subject: None, commits: Vec::new(), file: None },
    });
    let compatibility = compatibility.collect();
    let patches = build.patches.iter().enumerate().map(|(index, record)| shelf.patch(PATCHES, index, record)).collect();
    let wrong = shelf.wrong;
    // What went in isn't a result.
    let results = results.into_iter().filter(|(name, _)| !name.contains('/')).collect();
    (Inputs { results, config, compatibility, patches }, wrong)
}

/// What the list of digests says, by the file's name.
fn digests(run: &Path, folder: &Path, wrong: &mut Vec<String>) -> Vec<(String, String)> {
    let path = folder.join(DIGESTS);
    let list = kept(run, &path).unwrap_or_else(|error| {
        wrong.push(error.to_string());
        Vec::new()
    });
    let mut digests = Vec::new();
    for (index, line) in String::from_utf8_lossy(&list).lines().enumerate() {
        match line.split_once("  ") {
            Some((digest, name)) => digests.push((name.to_owned(), digest.to_owned())),
            None => wrong.push(format!("{}: line {}: not `DIGEST  name`", run.join(&path).display(), index + 1)),
        }
    }
    digests
}

/// What was kept of a kernel.
struct Shelf<'a> {
    run: &'a Path,
    /// Relative to the run's.
    folder: PathBuf,
    digests: &'a [(String, String)],
    wrong: Vec<String>,
}

impl Shelf<'_> {
    /// The file, if it is what the kernel was built with.
    fn has(&mut self, name: &str, blake3: &str) -> Option<Vec<u8>> {
        let path = self.folder.join(name);
        let content = kept(self.run, &path).map_err(|error| self.wrong.push(error.to_string())).ok()?;
        let path = self.run.join(path);
        if blake3::hash(&content).to_hex().as_str() != blake3 {
            self.wrong.push(format!("{}: it isn't what the kernel was built with, whose digest is in report.json", path.display()));
            return None;
        }
        let listed = self.digests.iter().find(|(listed, _)| listed == name);
        if listed.is_some_and(|(_, digest)| *digest != sha256(&content)) {
            self.wrong.push(format!("{}: it isn't what {DIGESTS} lists", path.display()));
            return None;
        }
        Some(content)
    }

    fn patch(&mut self, kind: &str, index: usize, record: &FileRecord) -> Patch {
        let name = kept_name(kind, index, record);
        let content = self.has(&name, &record.blake3);
        let header = content.as_deref().map(|content| header(&String::from_utf8_lossy(content)));
        let Header { subject, commits } = header.unwrap_or_default();
        Patch {
            name: file_name(&record.path),
            blake3: Some(record.blake3.clone()),
            sha256: content.as_deref().map(sha256),
            subject,
            commits,
            file: content.is_some().then(|| self.folder.join(name)),
        }
    }
}

fn sha256(content: &[u8]) -> String {
    format!("{:x}", Sha256::digest(content))
}

/// Patches are applied in order, and two may have one name in two folders.
fn kept_name(kind: &str, index: usize, record: &FileRecord) -> String {
    format!("{kind}/{:02}-{}", index + 1, file_name(&record.path))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Header {
    subject: Option<String>,
    commits: Vec<String>,
}

/// How stable trees and distributions name the mainline commit: `commit SHA upstream.`, `[ Upstream commit SHA ]`, `(cherry picked from commit SHA)`,
/// `Upstream-commit: SHA`, `Git-commit: SHA`, `mainline SHA`.
static COMMIT: LazyLock<Regex> = LazyLock::new(|| {
    const SHA: &str = "([0-9a-f]{12,40})";
    let forms = [
        "^commit SHA upstream",
        "upstream[- ]commit:? SHA",
        "cherry picked from commit SHA",
        "^git-commit: SHA",
        r"\bmainline(?: commit)?:? SHA",
    ];
    compiled(&format!(r"(?im)(?:{})\b", forms.join("|").replace("SHA", SHA)))
});

/// Reads the text before the first change.
fn header(patch: &str) -> Header {
    let is_change = |line: &&str| line.starts_with("diff ") || line.starts_with("--- ") || line.starts_with("Index: ");
    let text: Vec<&str> = patch.lines().take_while(|line| !is_change(line)).collect();
    let mut subject = None;
    for (index, line) in text.iter().enumerate() {
        let Some(first) = line.strip_prefix("Subject:") else { continue };
        // A long subject is folded: the lines that go on begin with a blank.
        let more = text[index + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
        let whole: Vec<&str> = std::iter::once(first).chain(more.copied()).map(str::trim).collect();
        let whole = whole.join(" ");
        let bare = match whole.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((tag, rest)) if tag.starts_with("PATCH") => rest.trim().to_owned(),
            _ => whole,
        };
        subject = Some(bare);
        break;
    }
    let text = text.join("\n");
    let mut commits: Vec<String> = Vec::new();
    for found in COMMIT.captures_iter(&text) {
        let commit = found.iter().skip(1).flatten().next().map(|commit| commit.as_str().to_lowercase());
        commits.extend(commit.filter(|commit| !commits.contains(commit)));
    }
    Header { subject, commits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_their_mainline_commits() {
        let check = |text: &str, subject: Option<&str>, commits: &[&str]| {
            assert_eq!(header(text), Header { subject: subject.map(Into::into), commits: commits.iter().map(|c| (*c).into()).collect() });
        };
        let sha = "425be5679fd292a3c36cb1fe423086708a99f11a";
        check(&format!("Subject: [PATCH 2/3] x86: a\n long one\n\ncommit {sha} upstream.\n\n--- a/x\n"), Some("x86: a long one"), &[sha]);
        check(&format!("Subject: [PATCH] mm: b\n[ Upstream commit {sha} ]\n(cherry picked from commit {sha})\n"), Some("mm: b"), &[sha]);
        check("Subject: ext4: c [v2]\nBackported from mainline 425be5679fd2.\n", Some("ext4: c [v2]"), &["425be5679fd2"]);
        // What a change says is not the header's word, and a tree's own commit is nobody's.
        check(&format!("commit {sha}\n--- a/x\n+++ b/x\n+commit {sha} upstream\n"), None, &[]);
    }
}
