//! What went into a run's kernels, kept in the run's folder: `kernels/NAME/` with the configuration, the patches and the results' digests.
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

use super::case::text_of;
use super::text::compiled;
use super::write_whole;
use crate::build::{Applied, Built, FileRecord, Manifest};
use crate::input;
use crate::spec::Name;

/// Folder of a run's folder.
pub const KERNELS: &str = "kernels";

const CONFIG: &str = "config";
const DIGESTS: &str = "SHA256SUMS";
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

/// Keeps what went into a kernel in the run's folder. Returns a line for each file that can't be had any more.
///
/// # Errors
/// When the folder can't be written.
pub fn save_inputs(run: &Path, definitions: &Path, built: &Built) -> io::Result<Vec<String>> {
    let manifest = &built.manifest;
    let folder = run.join(KERNELS).join(manifest.kernel.as_str());
    fs::create_dir_all(&folder)?;
    fs::copy(&built.config, folder.join(CONFIG))?;
    let mut missing = Vec::new();
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
            write_whole(&folder.join(kind).join(kept_name(index, record)), &content)?;
        }
    }
    let mut digests = String::new();
    for path in [Some(&built.image), built.vmlinux.as_ref(), built.system_map.as_ref(), Some(&built.config)].into_iter().flatten() {
        let mut hasher = Sha256::new();
        io::copy(&mut input::open(path)?, &mut hasher)?;
        digests.push_str(&format!("{:x}  {}\n", hasher.finalize(), file_name(path)));
    }
    write_whole(&folder.join(DIGESTS), digests.as_bytes())?;
    Ok(missing)
}

/// What the run's folder has of a kernel.
pub(super) fn load_inputs(run: &Path, kernel: &Name, build: &Manifest) -> Inputs {
    let folder = Path::new(KERNELS).join(kernel.as_str());
    let read = |kind: &str, index: usize, record: &FileRecord| patch(run, &folder.join(kind).join(kept_name(index, record)), record);
    let mut patches = 0..;
    let compatibility = build.compatibility.iter().map(|applied| match applied.file() {
        Some(record) => read(COMPATIBILITY, patches.next().unwrap_or_default(), &record),
        None => Patch { name: applied.shown(), blake3: None, sha256: None, subject: None, commits: Vec::new(), file: None },
    });
    let digests = text_of(&run.join(&folder).join(DIGESTS)).unwrap_or_default();
    let pair = |line: &str| line.split_once("  ").map(|(digest, name)| (name.to_owned(), digest.to_owned()));
    let config = folder.join(CONFIG);
    Inputs {
        results: digests.lines().filter_map(pair).collect(),
        config: run.join(&config).is_file().then_some(config),
        compatibility: compatibility.collect(),
        patches: build.patches.iter().enumerate().map(|(index, record)| read(PATCHES, index, record)).collect(),
    }
}

fn patch(run: &Path, kept: &Path, record: &FileRecord) -> Patch {
    let content =
        input::read(&run.join(kept), input::LARGEST_TEXT).ok().filter(|content| blake3::hash(content).to_hex().as_str() == record.blake3);
    let header = content.as_deref().map(|content| header(&String::from_utf8_lossy(content)));
    let Header { subject, commits } = header.unwrap_or_default();
    Patch {
        name: file_name(&record.path),
        blake3: Some(record.blake3.clone()),
        sha256: content.as_deref().map(|content| format!("{:x}", Sha256::digest(content))),
        subject,
        commits,
        file: content.is_some().then(|| kept.to_owned()),
    }
}

/// Patches are applied in order, and two may have one name in two folders.
fn kept_name(index: usize, record: &FileRecord) -> String {
    format!("{:02}-{}", index + 1, file_name(&record.path))
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
