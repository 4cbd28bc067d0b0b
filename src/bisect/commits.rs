//! Kernels made of commits: each is built in a clone of the tree of the nearest commit that was built before, and compiles what differs.
//!
//! What differs is a patch, so a commit's kernel is a variant like any other, and the store finds it again. The first commit is taken out of the repository
//! whole. The user's checkout, index and refs are only read.
//!
//! Read [`over_commits`] first, then [`Commits::build`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::axis::{Frame, defined, setup};
use crate::build::{self, BuildError, Built};
use crate::event::Events;
use crate::report::{Over, Point, SearchSetup};
use crate::source::SourceError;
use crate::source::history::{Commit, HistoryError, Repository};
use crate::spec::{ConfigurationBase, Definitions, Kernel, Name, Source};
use crate::store::{Kept, Store};

/// How commits of a repository are built.
#[derive(Debug)]
pub struct Commits {
    repository: Repository,
    template: Kernel,
    commits: HashMap<Name, String>,
    /// Name of the note of what was built.
    note: String,
    /// Commits that a search can't do without.
    ends: Vec<String>,
}

/// A commit that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    commit: String,
    /// The commit in whose tree's clone it was built; none if it was taken whole.
    base: Option<String>,
    /// Key of its built tree.
    tree: String,
}

/// Files that may differ: with more, building anew is about as fast, and a chain of differences ends.
const FAR: usize = 6000;

/// What the top of a kernel's source holds.
const SOURCE: [&str; 2] = ["Makefile", "Kconfig"];

fn is_source(file: &Path) -> bool {
    SOURCE.iter().any(|other| file == Path::new(other))
}

/// How many built commits are compared with a new one.
const COMPARED: usize = 24;

/// A line of commits, from the older revision to the newer one.
///
/// # Errors
/// When the repository or a revision can't be used, or the kernel can't be built from a commit.
pub async fn over_commits(
    definitions: &Definitions,
    template: &Name,
    repository: &Path,
    [old, new]: [&str; 2],
    frame: Frame,
) -> Result<(SearchSetup, Commits)> {
    let repository = Repository::open(repository).await?;
    if repository.path().to_str().is_none() {
        bail!("{} has a name that isn't UTF-8, and reports couldn't say it: move it", repository.path().display());
    }
    repository.whole().await?;
    let (old, new) = (repository.commit(old).await?, repository.commit(new).await?);
    let swapped = if frame.find_fix {
        "exchange --good and --bad, or leave out --find-fix to look for what brought the hang"
    } else {
        "exchange --good and --bad, or add --find-fix to look for what repaired it"
    };
    let after = repository.between(&old, &new, swapped).await?;
    let mut made = Commits::new(definitions, template, repository, after.iter().chain([&old]))?;
    for end in [&old, &new] {
        made.check(end).await?;
        made.ends.push(end.id.clone());
    }
    let point = |commit: &Commit| Point {
        kernel: name_of(&commit.id),
        what: commit.id.clone(),
        title: commit.title.clone(),
        merge: commit.is_merge,
        boot_arguments: Vec::new(),
    };
    let line = std::iter::once(&old).chain(&after).map(point).collect();
    let over = Over::Commits { repository: made.repository.path().to_owned(), kernel: template.clone() };
    Ok((setup(frame, over, line)?, made))
}

/// The kernel of a commit.
fn name_of(commit: &str) -> Name {
    let short: String = commit.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    // Hexadecimal digits are a name's.
    Name::new(&format!("c-{short}")).unwrap_or_else(|_| unreachable!("c-{short} is a name"))
}

impl Commits {
    /// How these commits are built: as `template`, but for its source.
    ///
    /// # Errors
    /// When there is no such kernel, or none that is built.
    pub fn new<'a>(
        definitions: &Definitions,
        template: &Name,
        repository: Repository,
        commits: impl Iterator<Item = &'a Commit>,
    ) -> Result<Self> {
        let template = defined(definitions, template)?;
        if matches!(template.source, Source::Prebuilt(_)) {
            bail!("{} is prebuilt: name a kernel that says how the commits are built by --kernel", template.name);
        }
        let commits = commits.map(|commit| (name_of(&commit.id), commit.id.clone())).collect();
        let nothing = Source::Directory { path: PathBuf::new() };
        let template = Kernel { base: None, inherited_patches: 0, source: nothing, ..template.clone() };
        // The same commit, built in the same way, by whichever invocation.
        let recipe = format!("{:?} {}", template, repository.git_folder().display());
        let note = format!("commits-{}", &blake3::hash(recipe.as_bytes()).to_hex()[..32]);
        Ok(Self { repository, template, commits, note, ends: Vec::new() })
    }

    /// The kernel of a commit of these.
    #[must_use]
    pub fn kernel(commit: &Commit) -> Name {
        name_of(&commit.id)
    }

    /// The first file that a kernel needs and a commit lacks.
    async fn missing(&self, commit: &str) -> Result<Option<&Path>, HistoryError> {
        let configuration = match &self.template.configuration.base {
            ConfigurationBase::Vendor(file) => Some(&**file),
            _ => None,
        };
        for file in SOURCE.map(Path::new).into_iter().chain(configuration) {
            if !self.repository.holds(commit, file).await? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    /// Refuses a commit that has nothing to build, or lacks what it is configured from.
    ///
    /// # Errors
    /// When it is one.
    pub async fn check(&self, commit: &Commit) -> Result<(), HistoryError> {
        let Some(file) = self.missing(&commit.id).await? else { return Ok(()) };
        let name = &self.template.name;
        let why = if is_source(file) {
            "it is no kernel source: name another commit, or a repository that holds a kernel at its top".to_owned()
        } else {
            format!("{name} is configured from it: bring the file by `--configuration {name}=FILE`, or name another kernel by --kernel")
        };
        Err(HistoryError::Lacks { commit: commit.short().to_owned(), file: file.display().to_string(), why })
    }

    /// The same for a commit that `git bisect` has checked out: if one that this bisection was told to be good or bad lacks nothing, it is the commit's own lack, which its build tells.
    ///
    /// # Errors
    /// When all of them lack something, or there is no bisection.
    pub async fn check_step(&self, commit: &Commit) -> Result<(), HistoryError> {
        let checked = self.check(commit).await;
        if let Err(HistoryError::Lacks { .. }) = checked {
            for end in self.repository.bisected().await? {
                if self.missing(&end).await?.is_none() {
                    return Ok(());
                }
            }
        }
        checked
    }

    /// The repository.
    #[must_use]
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// What is added to the kernel command line.
    #[must_use]
    pub fn boot_arguments(&self) -> &[String] {
        &self.template.boot_arguments
    }

    /// Builds a commit.
    ///
    /// # Errors
    /// When it can't be built.
    pub async fn build(
        &self,
        store: &Store,
        definitions: &Definitions,
        kernel: &Name,
        events: &Events,
        jobs: usize,
    ) -> Result<Built, BuildError> {
        let Some(commit) = self.commits.get(kernel) else { return Err(BuildError::NoBase { base: kernel.clone() }) };
        if let Some(file) = self.missing(commit).await.map_err(history)? {
            return Err(if is_source(file) {
                BuildError::NoSource { kernel: kernel.clone() }
            } else {
                BuildError::NoVendor { path: file.to_owned(), kernel: self.template.name.clone() }
            });
        }
        let known: Vec<Link> = store.recall(&self.note).unwrap_or_default();
        let base = self.nearest(store, &known, commit).await?;
        let built = match self.attempt(store, definitions, &known, (commit, base.as_deref()), events, jobs).await {
            // A difference that can't be written as a patch: binary files, or a tree that isn't what the commit says. An end that doesn't compile in
            // another one's clone may do so from nothing, and the search depends on it.
            Err(error) if base.is_some() && (matches!(error, BuildError::Patch(_)) || self.fails_as_an_end(commit, &error)) => {
                self.attempt(store, definitions, &known, (commit, None), events, jobs).await.map(|built| (built, None))?
            }
            built => (built?, base),
        };
        let (built, base) = built;
        if known.iter().all(|link| link.commit != *commit) {
            let link = Link { commit: commit.clone(), base, tree: built.key.clone() };
            let now: Vec<Link> = store.recall(&self.note).unwrap_or_default();
            store.remember(&self.note, &now.into_iter().chain([link]).collect::<Vec<_>>());
        }
        Ok(built)
    }

    fn fails_as_an_end(&self, commit: &String, error: &BuildError) -> bool {
        matches!(error, BuildError::Make { .. }) && self.ends.contains(commit)
    }

    /// The commit to build it on: as it was built before, or the one whose built tree is there and that differs least.
    async fn nearest(&self, store: &Store, known: &[Link], commit: &str) -> Result<Option<String>, BuildError> {
        if let Some(link) = known.iter().find(|link| link.commit == commit) {
            return Ok(link.base.clone());
        }
        let there = known.iter().rev().filter(|link| store.find(Kept::Trees, &link.tree).is_some()).take(COMPARED);
        let mut best: Option<(usize, String)> = None;
        for link in there {
            // A note may speak of commits that are gone.
            let Ok(files) = self.repository.distance(&link.commit, commit).await else { continue };
            if files <= FAR && best.as_ref().is_none_or(|(least, _)| files < *least) {
                best = Some((files, link.commit.clone()));
            }
        }
        Ok(best.map(|(_, commit)| commit))
    }

    async fn attempt(
        &self,
        store: &Store,
        definitions: &Definitions,
        known: &[Link],
        (commit, base): (&str, Option<&str>),
        events: &Events,
        jobs: usize,
    ) -> Result<Built, BuildError> {
        let mut line = vec![commit];
        let mut next = base;
        while let Some(commit) = next {
            // A circle can't be, but a note is a file.
            if line.contains(&commit) {
                break;
            }
            line.push(commit);
            next = known.iter().find(|link| link.commit == commit).and_then(|link| link.base.as_deref());
        }
        line.reverse();
        let [root, ..] = line.as_slice() else { return Err(BuildError::NoBase { base: name_of(commit) }) };
        let source = Source::Git { repository: self.repository.path().display().to_string(), revision: (*root).to_owned() };
        let mut definitions = definitions.clone();
        let mut kernel = Kernel { name: name_of(root), source, ..self.template.clone() };
        definitions.kernels.insert(kernel.name.clone(), kernel.clone());
        for pair in line.windows(2) {
            let [from, to] = pair else { continue };
            let inherited_patches = kernel.patches.len();
            kernel = Kernel { name: name_of(to), base: Some(kernel.name.clone()), inherited_patches, ..kernel };
            if self.repository.distance(from, to).await.map_err(history)? > 0 {
                kernel.patches.push(self.difference(store, from, to).await?);
            }
            definitions.kernels.insert(kernel.name.clone(), kernel.clone());
        }
        build::build_for(store, &definitions, &kernel, events, jobs, true).await
    }

    /// What differs between two commits, in the store.
    async fn difference(&self, store: &Store, from: &str, to: &str) -> Result<PathBuf, BuildError> {
        let whose = blake3::hash(self.repository.git_folder().as_os_str().as_encoded_bytes()).to_hex();
        let [from16, to16] = [from, to].map(|commit| &commit[..commit.len().min(16)]);
        let key = format!("{}-{from16}..{to16}.patch", &whose[..12]);
        if let Some(found) = store.find(Kept::Sources, &key) {
            return Ok(found);
        }
        let patch = self.repository.difference(from, to).await.map_err(history)?;
        Ok(store.keep_file(Kept::Sources, &key, &patch)?)
    }
}

fn history(cause: HistoryError) -> BuildError {
    BuildError::Source(SourceError::from(cause))
}
