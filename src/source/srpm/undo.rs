//! What takes a package's own patches back, one by one: a search over them wants the trees in between, and builds each in a clone of the whole one.
//!
//! A patch that needed fuzz may find another place on its way back. So nothing is applied in reverse: what the patches touch is laid beside the tree, as it
//! is before the first and after each, and git writes down what differs. That applies strictly, as any patch of a kernel does. The Makefile is laid
//! there with the version that the finished tree has. The tree itself is only read.
//!
//! Read [`OwnPatches`] first, then [`Undoing`], which makes them.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::apply::{LARGEST_MAKEFILE, with_extraversion};
use crate::input;
use crate::program::Program;
use crate::source::git::forget_environment;
use crate::source::{Provenance, SourceError, TREE, failed, unreadable};
use crate::store::{Kept, Lock, Store};

/// A patch that a package brings, and that its spec file applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPatch {
    /// Its file name.
    pub name: String,
    /// It, as the package has it.
    pub file: PathBuf,
    /// A patch that takes it back from a tree whose last patch it is.
    pub undo: PathBuf,
}

/// A package's own patches in the order in which they are applied, without those that change nothing. `gc` leaves them alone while the value lives.
#[derive(Debug)]
pub struct OwnPatches {
    /// The patches.
    pub patches: Vec<OwnPatch>,
    /// There is only the bare tarball of the package, so nobody knows its patches.
    pub is_bare: bool,
    _in_use: Option<Lock>,
}

/// Part of every name in the store: raised when the same package would give other files.
const FORMAT: u32 = 1;

/// Folders of what is kept: the patches as the package has them, and what takes them back.
const OWN: &str = "own";
const UNDO: &str = "undo";

/// Digits of a patch's number, which keeps the order, and what stands between it and the patch's name.
const DIGITS: usize = 4;
const UNDOES: &str = "-undo-";

/// The name in the store of what is kept for the package of this digest.
pub fn key(sha256: &str) -> String {
    format!("srpm-patches-{}", blake3::hash(format!("{FORMAT} {sha256}").as_bytes()).to_hex())
}

impl OwnPatches {
    /// The patches of a package whose tree comes from there; none if they aren't in the store.
    pub(super) fn find(store: &Store, provenance: &Provenance) -> Result<Option<Self>, SourceError> {
        let Provenance::Srpm { sha256, patches, .. } = provenance else { return Ok(None) };
        let nothing = |is_bare| Ok(Some(Self { patches: Vec::new(), is_bare, _in_use: None }));
        let Some(sha256) = sha256 else { return nothing(true) };
        if patches.iter().all(|patch| !patch.applied) {
            return nothing(false);
        }
        let key = key(sha256);
        let in_use = store.in_use(Kept::Sources, &key)?;
        let Some(folder) = store.find(Kept::Sources, &key) else { return Ok(None) };
        let (own, undo) = (folder.join(OWN), folder.join(UNDO));
        let listed = fs::read_dir(&undo).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed("read", &undo))?;
        let mut files: Vec<String> = listed.iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        files.sort();
        let patch = |file: String| {
            let name = file.get(DIGITS + UNDOES.len()..)?.to_owned();
            Some(OwnPatch { file: own.join(&name), undo: undo.join(file), name })
        };
        Ok(Some(Self { patches: files.into_iter().filter_map(patch).collect(), is_bare: false, _in_use: Some(in_use) }))
    }
}

/// The patches of a package while they are applied.
#[derive(Debug)]
pub struct Undoing {
    tree: PathBuf,
    /// What the Makefile's version will be.
    extraversion: Option<String>,
    /// A folder with what the patches touch, and git's own beside it.
    laid: PathBuf,
    git: PathBuf,
    /// What will be kept.
    kept: PathBuf,
    /// git's name of what is laid out.
    state: String,
    number: usize,
}

impl Undoing {
    /// Begins with the tree in the scratch folder before its first patch; `touched` is what all of them touch.
    pub async fn begin(scratch: &Path, extraversion: Option<&str>, touched: &BTreeSet<PathBuf>) -> Result<Self, SourceError> {
        let folder = scratch.join("undoing");
        let [laid, git, kept] = ["laid", "git", "kept"].map(|name| folder.join(name));
        for folder in [&laid, &kept.join(OWN), &kept.join(UNDO), &git.join("info")] {
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
        }
        let tree = scratch.join(TREE);
        let mut begun = Self { tree, extraversion: extraversion.map(str::to_owned), laid, git, kept, state: String::new(), number: 0 };
        begun.git(["init", "--quiet", "--template="]).success().await?;
        // The tree's own attributes may ask for other line ends or other words than the files have; these win over them (gitattributes(5)).
        let attributes = begun.git.join("info/attributes");
        fs::write(&attributes, "* -text !eol !filter -ident !diff !working-tree-encoding\n").map_err(failed("write", &attributes))?;
        begun.lay(touched)?;
        begun.state = begun.look().await?;
        Ok(begun)
    }

    /// Takes down what the patch in `file` has done to the files that it touches.
    pub async fn applied(&mut self, file: &Path, touched: &BTreeSet<PathBuf>) -> Result<(), SourceError> {
        self.lay(touched)?;
        let before = std::mem::take(&mut self.state);
        self.state = self.look().await?;
        self.number += 1;
        if self.state == before {
            return Ok(());
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let form = ["-p", "-r", "-U3", "--text", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv"];
        let ends = ["--src-prefix=a/", "--dst-prefix=b/", &self.state, &before, "--"];
        let difference = self.git(["diff-tree"].into_iter().chain(form).chain(ends)).success().await?;
        let undo = self.kept.join(UNDO).join(format!("{:0DIGITS$}{UNDOES}{name}", self.number));
        let text = [format!("Subject: Take back {name}\n\n").as_bytes(), &difference].concat();
        fs::write(&undo, text).map_err(failed("write", &undo))?;
        let own = self.kept.join(OWN).join(&*name);
        fs::copy(file, &own).map(drop).map_err(failed("copy", file))
    }

    /// Keeps what was taken down for the package of this digest.
    pub fn keep(self, store: &Store, sha256: &str) -> Result<(), SourceError> {
        Ok(store.keep(Kept::Sources, &key(sha256), &self.kept).map(drop)?)
    }

    /// Lays files out as they are in the tree now.
    fn lay(&self, files: &BTreeSet<PathBuf>) -> Result<(), SourceError> {
        // A file may take the place of a folder, or the other way round: all that was there goes first.
        for path in files.iter().map(|file| self.laid.join(file)) {
            if fs::remove_file(&path).is_ok() {
                let folders = path.ancestors().skip(1).take_while(|folder| **folder != self.laid);
                folders.map(fs::remove_dir).take_while(Result::is_ok).for_each(drop);
            }
        }
        for file in files {
            let (from, to) = (self.tree.join(file), self.laid.join(file));
            // What is deleted isn't there, and patch(1) changes nothing but plain files.
            if !fs::symlink_metadata(&from).is_ok_and(|metadata| metadata.is_file()) {
                continue;
            }
            let folder = to.parent().unwrap_or(&self.laid);
            fs::create_dir_all(folder).map_err(failed("create", folder))?;
            fs::copy(&from, &to).map_err(failed("copy", &from))?;
            if let (true, Some(value)) = (file == Path::new("Makefile"), &self.extraversion) {
                let bytes = input::read(&to, LARGEST_MAKEFILE).map_err(unreadable(&to))?;
                let written = with_extraversion(&bytes, value).map_or(Ok(()), |changed| fs::write(&to, changed));
                written.map_err(failed("write", &to))?;
            }
        }
        Ok(())
    }

    /// git's name of what is laid out.
    async fn look(&self) -> Result<String, SourceError> {
        self.git(["add", "--all", "--force"]).success().await?;
        let name = self.git(["write-tree"]).success().await?;
        Ok(String::from_utf8_lossy(&name).trim().to_owned())
    }

    /// git with nothing of the user's settings.
    fn git<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Program {
        let mut git = Program::new("git", "git");
        forget_environment(git.command.as_std_mut());
        git.command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").current_dir(&self.laid);
        git.command.arg("--git-dir").arg(&self.git).arg("--work-tree").arg(&self.laid);
        // Names that other systems' filesystems take for `.git` are fine here.
        git.command.args(["-c", "core.quotePath=false", "-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"]);
        git.command.args(arguments);
        git
    }
}
