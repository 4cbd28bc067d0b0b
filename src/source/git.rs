//! Revisions of git repositories, exported as plain trees by the git command line.
//!
//! Only the wanted revision is fetched, without its history, into a bare repository in the store; a commit that is there needs no network.
//! A repository is a stranger's: no hooks, no `ext::` transport, no option where a name should be, and the tree is taken from `git archive` through
//! the same gate as any archive.
//!
//! Read [`fetch`] first.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::stop::blocking;
use super::{Fetched, Provenance, Remembered, SourceError, failed, keep, kept, unpack_tree};
use crate::event::Events;
use crate::program::{Deadline, Program, ProgramError, last_lines};
use crate::store::{Kept, Store};

/// Settings that keep a repository from running anything or asking anybody.
const GUARDED: [&str; 11] = [
    "--no-replace-objects",
    "-c",
    "core.hooksPath=/dev/null",
    "-c",
    "protocol.ext.allow=never",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "gc.auto=0",
    "-c",
    "fetch.fsckObjects=true",
];

/// Brings the tree of a revision.
pub async fn fetch(store: &Store, repository: &str, revision: &str, note: &str, events: &Events) -> Result<Fetched, SourceError> {
    for (what, value) in [("git revision", revision), ("git repository", repository)] {
        let here = what == "git repository" && Path::new(value).is_absolute() && Path::new(value).is_dir();
        if !here && (value.is_empty() || value.starts_with('-') || value.chars().any(|c| c.is_control() || c.is_whitespace())) {
            return Err(SourceError::Unusable { what, value: value.to_owned() });
        }
    }
    let names_commit = is_commit(revision);
    let before: Option<Remembered> = store.recall(note);
    if names_commit
        && let Some(before) = before.clone()
        && let Some(found) = kept(store, before)?
    {
        return Ok(found);
    }
    let fresh = bring(store, repository, revision).await;
    match (fresh, before) {
        (Ok(fetched), _) => {
            store.remember(note, &Remembered { digest: fetched.digest.clone(), provenance: fetched.provenance.clone() });
            Ok(fetched)
        }
        (Err(failure), Some(before)) => match kept(store, before)? {
            Some(found) => {
                events.warn(format!("using {revision} of {repository} as it was fetched before: {failure}"));
                Ok(found)
            }
            None => Err(failure),
        },
        (Err(failure), None) => Err(failure),
    }
}

fn is_commit(revision: &str) -> bool {
    matches!(revision.len(), 40 | 64) && revision.chars().all(|c| c.is_ascii_hexdigit())
}

fn git(repository: &Path) -> Program {
    let mut git = Program::new("git", "git");
    git.command.args(GUARDED).arg("--git-dir").arg(repository).env("GIT_TERMINAL_PROMPT", "0");
    // ssh asks nobody either: it is in no foreground group, and would be stopped by the terminal when it reads from it.
    git.command.envs([("GIT_ASKPASS", "/bin/false"), ("SSH_ASKPASS", "/bin/false"), ("SSH_ASKPASS_REQUIRE", "force")]);
    forget_environment(git.command.as_std_mut());
    git
}

/// How git reads a repository of this machine without running anything that its configuration names.
#[derive(Debug, Clone)]
pub struct Reader {
    repository: PathBuf,
    /// Settings that turn off the filters that the repository defines: its attributes may ask for them wherever a file is written or compared.
    without_filters: Vec<(String, &'static str)>,
}

impl Reader {
    /// A reader of a repository, or of a folder in one.
    ///
    /// # Errors
    /// When git can't be run.
    pub async fn new(repository: &Path) -> Result<Self, ProgramError> {
        let bare = Self { repository: repository.to_owned(), without_filters: Vec::new() };
        let defined = bare.git().with(&["config", "--null", "--name-only", "--get-regexp", "^filter\\."]).output().await?;
        let defined = String::from_utf8_lossy(&defined.stdout).into_owned();
        let off = |name: &str| if name.ends_with(".required") { "false" } else { "" };
        let without_filters = defined.split('\0').filter(|name| !name.is_empty()).map(|name| (name.to_owned(), off(name))).collect();
        Ok(Self { without_filters, ..bare })
    }

    /// git in the repository. What the repository lacks isn't fetched, and nothing is written.
    #[must_use]
    pub fn git(&self) -> Program {
        let mut git = Program::new("git", "git");
        git.command
            .args(GUARDED)
            .args(["-c", "protocol.allow=never", "-c", "i18n.logOutputEncoding=UTF-8"])
            .arg("-C")
            .arg(&self.repository);
        git.command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        git.command.env("GIT_CONFIG_COUNT", self.without_filters.len().to_string());
        for (number, (name, value)) in self.without_filters.iter().enumerate() {
            git.command.env(format!("GIT_CONFIG_KEY_{number}"), name).env(format!("GIT_CONFIG_VALUE_{number}"), value);
        }
        forget_environment(git.command.as_std_mut());
        git
    }
}

/// A git that was started from a hook or an alias would take these for its own.
pub fn forget_environment(command: &mut Command) {
    // Those of `git rev-parse --local-env-vars`, and what changes a diff.
    for variable in [
        "GIT_ALTERNATE_OBJECT_DIRECTORIES",
        "GIT_COMMON_DIR",
        "GIT_CONFIG",
        "GIT_CONFIG_PARAMETERS",
        "GIT_DIFF_OPTS",
        "GIT_DIR",
        "GIT_EXTERNAL_DIFF",
        "GIT_GRAFT_FILE",
        "GIT_IMPLICIT_WORK_TREE",
        "GIT_INDEX_FILE",
        "GIT_INTERNAL_SUPER_PREFIX",
        "GIT_NAMESPACE",
        "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY",
        "GIT_PREFIX",
        "GIT_REPLACE_REF_BASE",
        "GIT_SHALLOW_FILE",
        "GIT_WORK_TREE",
    ] {
        command.env_remove(variable);
    }
}

async fn bring(store: &Store, repository: &str, revision: &str) -> Result<Fetched, SourceError> {
    let local = Path::new(repository);
    if local.is_dir() {
        // All that is there is at hand: a mirror would be a second copy of a whole history.
        let reader = Reader::new(local).await?;
        let commit = resolve(reader.git(), revision).await?.map_err(|why| no_revision(repository, revision, why))?;
        // Nobody checked what it holds, so it isn't taken for what the same commit is elsewhere.
        let whose = blake3::hash(repository.as_bytes()).to_hex();
        return export(store, || reader.git(), repository, revision, commit, &format!("{}-", &whose[..16])).await;
    }
    let name = format!("git-{}", &blake3::hash(repository.as_bytes()).to_hex()[..32]);
    let _turn = store.turn(&name).await?;
    let _in_use = store.in_use(Kept::Sources, &name)?;
    let mirror = store.find(Kept::Sources, &name).unwrap_or_else(|| store.place(Kept::Sources, &name));
    if !mirror.join("HEAD").exists() {
        std::fs::create_dir_all(&mirror).map_err(failed("create", &mirror))?;
        git(&mirror).with(&["init", "--quiet", "--bare"]).success().await?;
    }
    let commit = commit(&mirror, repository, revision).await?;
    export(store, || git(&mirror), repository, revision, commit, "").await
}

/// Takes the tree of a commit out of a repository of this machine.
async fn export(
    store: &Store,
    git: impl Fn() -> Program,
    repository: &str,
    revision: &str,
    commit: String,
    whose: &str,
) -> Result<Fetched, SourceError> {
    let provenance = Provenance::Git { repository: repository.to_owned(), revision: revision.to_owned(), commit: commit.clone() };
    let remembered = Remembered { digest: format!("git-commit-{whose}{commit}"), provenance };
    if let Some(found) = kept(store, remembered.clone())? {
        return Ok(found);
    }
    let (store, scratch) = (store.clone(), store.work()?);
    let export = git().with(&["archive", "--format=tar", "--prefix=source/", "--end-of-options", &commit]);
    blocking(move |stop| {
        let mut export = export.stream()?;
        let result = unpack_tree(&mut export, &scratch, stop);
        let status = export.finish()?;
        result.map_err(|cause| SourceError::Archive { archive: format!("commit {commit}"), cause })?;
        if !status.success() {
            return Err(ProgramError::Failed { program: "git archive".to_owned(), status, said: String::new() }.into());
        }
        keep(&store, &scratch, remembered)
    })
    .await
}

/// How long a fetch may be silent. With `--progress` it speaks every second or so, but for its last step: that all objects are there takes minutes for
/// all of Linux (12 million). A connection that died says nothing for ever: git has no deadline of its own.
const FETCH: Deadline = Deadline::Silent(Duration::from_secs(15 * 60));

/// The commit of a revision, fetched if it isn't here: by name first, which a server answers with one commit, and else everything it has.
async fn commit(mirror: &Path, repository: &str, revision: &str) -> Result<String, SourceError> {
    let name = format!("refs/hangproof/{}", &blake3::hash(revision.as_bytes()).to_hex()[..32]);
    if !(is_commit(revision) && resolve(git(mirror), revision).await?.is_ok()) {
        let wanted = format!("+{revision}:{name}");
        let mut one = git(mirror).with(&["fetch", "--progress", "--no-tags", "--depth=1", "--", repository, &wanted]).within(FETCH);
        if one.output().await?.status.success() {
            return resolve(git(mirror), &name).await?.map_err(|why| no_revision(repository, revision, why));
        }
        let everything = ["fetch", "--progress", "--no-tags", "--", repository, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
        let mut all = git(mirror).with(&everything).within(FETCH);
        let output = all.output().await?;
        if !output.status.success() {
            return Err(no_revision(repository, revision, last_lines(&output.stderr)));
        }
    }
    resolve(git(mirror), revision).await?.map_err(|why| no_revision(repository, revision, why))
}

fn no_revision(repository: &str, revision: &str, why: String) -> SourceError {
    SourceError::NoRevision { repository: repository.to_owned(), revision: revision.to_owned(), why }
}

async fn resolve(git: Program, revision: &str) -> Result<Result<String, String>, SourceError> {
    let mut parse = git.with(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{revision}^{{commit}}")]);
    let output = parse.output().await?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(if output.status.success() && is_commit(&commit) { Ok(commit) } else { Err("it is unknown there".to_owned()) })
}

impl Program {
    fn with(mut self, arguments: &[&str]) -> Self {
        self.command.args(arguments);
        self
    }
}
