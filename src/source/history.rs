//! The history of a repository on this machine: revisions, the commits between two of them, and what differs.
//!
//! It only reads: no checkout, no index and no ref of the user's is touched, and nothing that the repository configures is run. Commits are taken along the
//! first parents, where a history is a line; what came in with a merge is the merge's.
//!
//! Read [`Repository`] first.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::git::Reader;
use crate::fault::Whose;
use crate::program::{Program, ProgramError, last_lines};
use crate::text::{for_a_shell, plain};

/// Why a repository can't be searched.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// git is missing, or failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// No repository.
    #[error("{} is no git repository ({why}): name a clone of a kernel's", path.display())]
    NoRepository {
        /// The path.
        path: PathBuf,
        /// What git says.
        why: String,
    },
    /// git doesn't trust somebody else's repository.
    #[error("{} belongs to another user, whose repository git doesn't read: `git config --global --add safe.directory {}`, if you trust it", path.display(), for_a_shell(&path.display().to_string()))]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// Its history was cut off.
    #[error("{} is a shallow clone, which lacks commits: `git -C {} fetch --unshallow`", path.display(), path.display())]
    Shallow {
        /// The repository.
        path: PathBuf,
    },
    /// It lacks files that git would fetch when they are wanted.
    #[error("{} is a partial clone, which lacks files: `git clone` it without --filter", path.display())]
    Partial {
        /// The repository.
        path: PathBuf,
    },
    /// Files were changed and not committed.
    #[error("{} has changes that are in no commit ({}): commit or stash them, so that what is tested is what the commits hold", path.display(), files.join(", "))]
    Dirty {
        /// The repository.
        path: PathBuf,
        /// Some of the files.
        files: Vec<String>,
    },
    /// No such revision.
    #[error("{} has no commit {revision:?}: name a commit, a tag or a branch of it", path.display())]
    NoCommit {
        /// The repository.
        path: PathBuf,
        /// What was asked for.
        revision: String,
    },
    /// A commit lacks a file that the kernel is configured from, or isn't a kernel.
    #[error("commit {commit} has no {file}: {why}")]
    Lacks {
        /// The commit.
        commit: String,
        /// The file.
        file: String,
        /// What it is for, and what to do.
        why: String,
    },
    /// Both ends are the same commit.
    #[error("{old} and {new} are the same commit: name two")]
    OneCommit {
        /// The older end.
        old: String,
        /// The newer one.
        new: String,
    },
    /// The newer end is the older one.
    #[error("{old} comes after {new}: {remedy}")]
    Swapped {
        /// What should be the older end.
        old: String,
        /// What should be the newer one.
        new: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Neither comes after the other.
    #[error("{new} doesn't come after {old}, they only share {base}: test that one, and name it in place of {old} if it is like it")]
    Apart {
        /// What should be the older end.
        old: String,
        /// What should be the newer one.
        new: String,
        /// The last commit that both have.
        base: String,
    },
    /// Their histories have no commit in common.
    #[error("{new} doesn't come after {old}, they have no commit in common: name two ends of one history")]
    Unrelated {
        /// What should be the older end.
        old: String,
        /// What should be the newer one.
        new: String,
    },
    /// The first parents of the newer end pass the older one by.
    #[error(
        "{old} came into {new} by a merge and isn't on its line of first parents, which goes on at {parent}: test that one, and name it in place of {old} \
         if it is like it"
    )]
    Aside {
        /// What should be the older end.
        old: String,
        /// What should be the newer one.
        new: String,
        /// The commit where the line leaves what the older end has.
        parent: String,
    },
    /// git tells of a commit in words that can't be read.
    #[error("git log says {line:?}, which is no commit: see `git -C {} fsck`", path.display())]
    Unreadable {
        /// The repository.
        path: PathBuf,
        /// The line.
        line: String,
    },
}

impl HistoryError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::NoRepository { .. }
            | Self::Foreign { .. }
            | Self::Shallow { .. }
            | Self::Partial { .. }
            | Self::Dirty { .. }
            | Self::NoCommit { .. }
            | Self::Lacks { .. }
            | Self::OneCommit { .. }
            | Self::Swapped { .. }
            | Self::Apart { .. }
            | Self::Unrelated { .. }
            | Self::Aside { .. } => Whose::Definition,
            Self::Program(_) | Self::Unreadable { .. } => Whose::Ours,
        }
    }
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its full name.
    pub id: String,
    /// The first line of its message.
    pub title: String,
    /// It has more than one parent.
    pub is_merge: bool,
    parent: String,
}

/// What git is to tell of a commit.
const FORMAT: &str = "--format=%H%x00%P%x00%s";

impl Commit {
    fn read(line: &str) -> Option<Self> {
        let mut fields = line.splitn(3, '\0');
        let (id, parents, title) = (fields.next()?, fields.next()?, fields.next()?);
        let parent = parents.split(' ').next().unwrap_or_default().to_owned();
        Some(Self { id: id.to_owned(), title: plain(title), is_merge: parents.contains(' '), parent })
    }

    /// Its name as people write it.
    #[must_use]
    pub fn short(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }
}

/// A repository on this machine.
#[derive(Debug, Clone)]
pub struct Repository {
    reader: Reader,
    path: PathBuf,
    git_folder: PathBuf,
}

impl Repository {
    /// Opens the repository that holds `path`.
    ///
    /// # Errors
    /// When there is none.
    pub async fn open(path: &Path) -> Result<Self, HistoryError> {
        let no_repository = |why| HistoryError::NoRepository { path: path.to_owned(), why };
        let absolute = path.canonicalize().map_err(|error| no_repository(error.to_string()))?;
        let reader = Reader::new(&absolute).await?;
        let found = Self { reader: reader.clone(), path: absolute.clone(), git_folder: absolute.clone() };
        let output = found.git(["rev-parse", "--path-format=absolute", "--git-common-dir"]).output().await?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            // git itself names the folder that it wants to have named.
            let first = why.lines().next().and_then(|line| line.split_once("dubious ownership in repository at '"));
            let foreign = first.and_then(|(_, rest)| rest.rsplit_once('\''));
            return Err(match foreign {
                Some((path, _)) => HistoryError::Foreign { path: path.into() },
                None => no_repository(last_lines(&output.stderr)),
            });
        }
        let git_folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
        let found = Self { reader, path: absolute, git_folder: git_folder.clone() };
        // A bare repository has no checkout, and is its own. A linked one has a HEAD of its own.
        let top = found.git(["rev-parse", "--show-toplevel"]).output().await?;
        let top = PathBuf::from(String::from_utf8_lossy(&top.stdout).trim_end());
        let path = if top.as_os_str().is_empty() { git_folder.clone() } else { top };
        if path == git_folder && found.lines(["rev-parse", "--is-bare-repository"]).await?.first().is_none_or(|line| line != "true") {
            return Err(no_repository("it is what git keeps of one".to_owned()));
        }
        Ok(Self { reader: Reader::new(&path).await?, path, git_folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where git keeps what is its own: no checkout holds it.
    #[must_use]
    pub fn git_folder(&self) -> &Path {
        &self.git_folder
    }

    fn git<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Program {
        let mut git = self.reader.git();
        git.command.args(arguments);
        git
    }

    async fn lines<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<Vec<String>, HistoryError> {
        let text = self.git(arguments).success().await?;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }

    /// Refuses a clone without its history, and one with changes that are in no commit.
    ///
    /// # Errors
    /// When it is one of the two.
    pub async fn whole(&self) -> Result<(), HistoryError> {
        let path = || self.path.clone();
        if self.lines(["rev-parse", "--is-shallow-repository"]).await?.first().is_some_and(|line| line == "true") {
            return Err(HistoryError::Shallow { path: path() });
        }
        let partial = ["config", "--get-regexp", r"^(extensions\.partialclone|remote\..*\.promisor)$"];
        if self.git(partial).output().await?.status.success() {
            return Err(HistoryError::Partial { path: path() });
        }
        if self.lines(["rev-parse", "--is-bare-repository"]).await?.first().is_some_and(|line| line == "true") {
            return Ok(());
        }
        let changed = self.lines(["status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all"]).await?;
        if changed.is_empty() {
            return Ok(());
        }
        let mut files: Vec<_> = changed.iter().take(3).filter_map(|line| line.get(3..)).map(str::to_owned).collect();
        if changed.len() > files.len() {
            files.push(format!("and {} more", changed.len() - files.len()));
        }
        Err(HistoryError::Dirty { path: path(), files })
    }

    /// The commit of a revision.
    ///
    /// # Errors
    /// When there is none.
    pub async fn commit(&self, revision: &str) -> Result<Commit, HistoryError> {
        let unknown = || HistoryError::NoCommit { path: self.path.clone(), revision: revision.to_owned() };
        // `log` would take a range for its end.
        let resolved =
            self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")]).output().await?;
        if !resolved.status.success() {
            return Err(unknown());
        }
        let output = self
            .git(["log", "-1", "--no-show-signature", FORMAT, "--end-of-options", &format!("{revision}^{{commit}}"), "--"])
            .output()
            .await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().filter(|_| output.status.success()).ok_or_else(unknown)?;
        Commit::read(line).ok_or_else(unknown)
    }

    /// The commits after `old` up to `new`, the oldest first, along the first parents.
    ///
    /// # Errors
    /// When `new` doesn't come after `old`; `swapped` is what to do if it is the other way round.
    pub async fn between(&self, old: &Commit, new: &Commit, swapped: &'static str) -> Result<Vec<Commit>, HistoryError> {
        let (older, newer) = (old.short().to_owned(), new.short().to_owned());
        if old == new {
            return Err(HistoryError::OneCommit { old: older, new: newer });
        }
        let base = self.git(["merge-base", &old.id, &new.id]).output().await?;
        let base = String::from_utf8_lossy(&base.stdout).trim().to_owned();
        if base == new.id {
            return Err(HistoryError::Swapped { old: older, new: newer, remedy: swapped });
        }
        if base.is_empty() {
            return Err(HistoryError::Unrelated { old: older, new: newer });
        }
        if base != old.id {
            return Err(HistoryError::Apart { old: older, new: newer, base: base.get(..12).unwrap_or_default().to_owned() });
        }
        let range = format!("{}..{}", old.id, new.id);
        let lines = self.lines(["log", "--reverse", "--first-parent", "--no-show-signature", FORMAT, &range, "--"]).await?;
        let unreadable = |line: &String| HistoryError::Unreadable { path: self.path.clone(), line: line.clone() };
        let commits: Vec<Commit> = lines.iter().map(|line| Commit::read(line).ok_or_else(|| unreadable(line))).collect::<Result<_, _>>()?;
        match commits.first() {
            Some(first) if first.parent != old.id => {
                let parent = first.parent.get(..12).unwrap_or_default().to_owned();
                Err(HistoryError::Aside { old: older, new: newer, parent })
            }
            Some(_) | None => Ok(commits),
        }
    }

    /// Whether a commit holds a file.
    ///
    /// # Errors
    /// When git can't be run.
    pub async fn holds(&self, commit: &str, file: &Path) -> Result<bool, HistoryError> {
        let name = format!("{commit}:{}", file.display());
        Ok(self.git(["cat-file", "-e", &name]).output().await?.status.success())
    }

    /// The commits that a bisection which goes on was told to be good or bad.
    ///
    /// # Errors
    /// When git fails.
    pub async fn bisected(&self) -> Result<Vec<String>, HistoryError> {
        let refs = self.lines(["for-each-ref", "--format=%(objectname) %(refname)", "refs/bisect/"]).await?;
        let told = refs.iter().filter_map(|line| line.split_once(' ')).filter(|(_, name)| !name.starts_with("refs/bisect/skip"));
        Ok(told.map(|(commit, _)| commit.to_owned()).collect())
    }

    /// Whether files of the checkout that git knows lie there.
    ///
    /// # Errors
    /// When git fails.
    pub async fn tracks(&self, folder: &Path) -> Result<bool, HistoryError> {
        let Ok(inside) = folder.strip_prefix(&self.path) else { return Ok(false) };
        let inside = if inside.as_os_str().is_empty() { Path::new(".") } else { inside };
        let mut files = self.git(["--literal-pathspecs", "ls-files", "-z", "--"].map(OsStr::new).into_iter().chain([inside.as_os_str()]));
        Ok(!files.success().await?.is_empty())
    }

    /// How many files differ between two commits.
    ///
    /// # Errors
    /// When git fails.
    pub async fn distance(&self, one: &str, other: &str) -> Result<usize, HistoryError> {
        let names = self.git(["diff-tree", "-r", "-z", "--name-only", "--no-renames", one, other, "--"]).success().await?;
        Ok(names.iter().filter(|byte| **byte == 0).count())
    }

    /// What differs between two commits, as a patch that makes `to` of `from`.
    ///
    /// # Errors
    /// When git fails.
    pub async fn difference(&self, from: &str, to: &str) -> Result<Vec<u8>, HistoryError> {
        let form = ["-p", "-r", "--full-index", "--no-renames", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/"];
        Ok(self.git(["diff-tree"].into_iter().chain(form).chain([from, to, "--"])).success().await?)
    }
}
