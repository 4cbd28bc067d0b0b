//! Why a kernel wasn't built: one enum for callers that branch, each message with its remedy.
//!
//! Nothing is done here.
//!
//! Read [`BuildError`] first.

use std::path::{Path, PathBuf};

use super::config::NotSet;
use super::prebuilt::PrebuiltError;
use crate::fault::Whose;
use crate::image::ImageError;
use crate::program::{Late, ProgramError};
use crate::source::SourceError;
use crate::source::patch::PatchError;
use crate::source::tree::TreeError;
use crate::spec::Name;
use crate::store::StoreError;

/// Why a kernel wasn't built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no source tree.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A patch doesn't apply.
    #[error(transparent)]
    Patch(#[from] PatchError),
    /// A tree can't be cloned.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An outside program is missing or failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A package's kernel can't be used.
    #[error(transparent)]
    Prebuilt(#[from] PrebuiltError),
    /// The modules can't be put into an archive.
    #[error(transparent)]
    Modules(#[from] ImageError),
    /// The kernel that this one extends wasn't built.
    #[error("{base}, which it extends: {cause}")]
    Base {
        /// The base.
        base: Name,
        /// Why not.
        cause: Box<Self>,
    },
    /// It was tried before, for another kernel of the run.
    #[error("{why}")]
    Before {
        /// What was said then.
        why: String,
        /// Whose fault it was.
        fault: Whose,
    },
    /// The kernel that this one extends isn't defined.
    #[error("it extends {base}, which isn't defined: define it, or correct the name")]
    NoBase {
        /// The base.
        base: Name,
    },
    /// The compiler that the toolchain names isn't on this machine; everything else is.
    #[error(
        "the toolchain's compiler {compiler} is not on this machine: `apt-get install {compiler}`, or choose another one with --toolchain KERNEL=host:COMPILER"
    )]
    NoCompiler {
        /// The compiler.
        compiler: String,
    },
    /// Programs or headers that a kernel needs are missing on this machine.
    #[error("{} missing on this machine: `apt-get install {}`", missing.join(", "), packages.join(" "))]
    MissingTools {
        /// What is missing.
        missing: Vec<String>,
        /// The Debian packages that have it.
        packages: Vec<String>,
    },
    /// The folder that a toolchain's programs run in lacks some.
    #[error("{} missing in {place}: {remedy}", missing.join(", "))]
    MissingInside {
        /// What is missing.
        missing: Vec<String>,
        /// Where.
        place: String,
        /// What to do.
        remedy: &'static str,
    },
    /// apt names no mirror of Debian.
    #[error("apt knows no mirror of Debian to make a buildroot from: let /etc/apt/sources.list name one, and run `apt-get update`")]
    NoMirror,
    /// The mirror has no such suite.
    #[error("{mirror} has no suite {suite}: correct the toolchain's suite, or name a mirror that has it with HANGPROOF_DEBIAN_MIRROR")]
    NoSuite {
        /// The suite.
        suite: String,
        /// The mirror.
        mirror: String,
    },
    /// The mirror can't be reached.
    #[error(
        "the mirror {mirror} can't be reached for a buildroot of {suite} ({said}): see that `apt-get update` works; a buildroot that was made once \
         needs no network"
    )]
    MirrorUnreachable {
        /// The suite.
        suite: String,
        /// The mirror.
        mirror: String,
        /// What apt said.
        said: String,
    },
    /// The suite hasn't the packages of the toolchain.
    #[error("Debian {suite} hasn't all packages of the toolchain ({said}): correct the toolchain's compiler or packages")]
    NoPackage {
        /// The suite.
        suite: String,
        /// What apt said.
        said: String,
    },
    /// Without root a folder with other programs needs user namespaces.
    #[error(
        "{what} can't be used without root here ({said}): allow user namespaces and give your user a range in /etc/subuid and /etc/subgid \
         (`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`), or work as root"
    )]
    NoNamespaces {
        /// What.
        what: String,
        /// What the program said.
        said: String,
    },
    /// A buildroot couldn't be made for another reason.
    #[error("no buildroot of Debian {suite} could be made ({said}): the whole log is {}", log.display())]
    NoBuildroot {
        /// The suite.
        suite: String,
        /// What mmdebstrap said.
        said: String,
        /// Its log.
        log: PathBuf,
    },
    /// There is nothing that could open a container's image.
    #[error(
        "neither podman nor docker is installed, and the toolchain is the container image {image}: `apt-get install podman`, or choose another toolchain with --toolchain"
    )]
    NoRuntime {
        /// The image.
        image: String,
    },
    /// The image isn't here and can't be fetched.
    #[error("{runtime} can't use the container image {image} ({said}): pull or load it, or choose another toolchain with --toolchain")]
    NoImage {
        /// The image.
        image: String,
        /// podman or docker.
        runtime: String,
        /// What it said.
        said: String,
    },
    /// What is to be built is no kernel.
    #[error("the source of {kernel} is no kernel: it has no Makefile at its top; name a tree, a tarball or a repository that holds one")]
    NoSource {
        /// The kernel.
        kernel: Name,
    },
    /// The source doesn't have the vendor's configuration.
    #[error(
        "the source has no configuration {}: it comes with the distribution's source package; bring it with --configuration {kernel}=FILE",
        path.display()
    )]
    NoVendor {
        /// Where it should be, relative to the tree.
        path: PathBuf,
        /// The kernel that has the configuration.
        kernel: Name,
    },
    /// An operation on a file failed.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: std::io::Error,
    },
    /// A file that a definition or an argument names can't be read.
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// A configuration file has a line that is none.
    #[error("{}:{line}: {text:?} is neither `CONFIG_X=value` nor `# CONFIG_X is not set`: correct or remove it", path.display())]
    Fragment {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: usize,
        /// The line.
        text: String,
    },
    /// Requested options didn't stick.
    #[error(
        "{} requested configuration {} not stick:{}\nturn on what they depend on, or remove them",
        .0.len(),
        if .0.len() == 1 { "symbol did" } else { "symbols did" },
        .0.iter().map(|not_set| format!("\n  {not_set}")).collect::<String>()
    )]
    Config(Vec<NotSet>),
    /// A step of make failed.
    #[error("make {target} failed: {what}{}; the whole log is {}", blame(.patch.as_ref()), log.display())]
    Make {
        /// What was made.
        target: String,
        /// The first error in the log.
        what: String,
        /// The patch that touches the file of the first error, if one does.
        patch: Option<PathBuf>,
        /// The log.
        log: PathBuf,
    },
    /// make, or another program that starts many, missed its deadline.
    #[error("{late}: look in the log {} what it did last, and run that by hand", log.display())]
    Stuck {
        /// The program.
        late: Late,
        /// Its log.
        log: PathBuf,
    },
    /// The disk is full.
    #[error("the filesystem at {} is full: make room there (`hangproof gc`), or set HANGPROOF_CACHE to a folder elsewhere{}", filesystem.display(), logged(log.as_ref()))]
    DiskFull {
        /// Where the filesystem is mounted.
        filesystem: PathBuf,
        /// The log, if the build had begun.
        log: Option<PathBuf>,
    },
    /// What make made isn't what a kernel is.
    #[error("{} is no kernel that can be read: {why}; the whole log is {}", path.display(), log.display())]
    NoKernel {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// The log.
        log: PathBuf,
    },
}

fn blame(patch: Option<&PathBuf>) -> String {
    patch.map(|patch| format!(" (the file is changed by patch {}: look there first)", patch.display())).unwrap_or_default()
}

fn logged(log: Option<&PathBuf>) -> String {
    log.map(|log| format!("; the whole log is {}", log.display())).unwrap_or_default()
}

impl BuildError {
    /// Why a program that writes a log wasn't run to its end.
    #[must_use]
    pub fn of_make(cause: ProgramError, log: &Path) -> Self {
        match cause {
            ProgramError::Late(late) => Self::Stuck { late, log: log.to_owned() },
            ProgramError::Missing { .. } | ProgramError::Start { .. } | ProgramError::Failed { .. } => Self::Program(cause),
        }
    }

    /// The filesystem that holds `place` is full.
    #[must_use]
    pub fn disk_full(place: &Path, log: Option<&Path>) -> Self {
        Self::DiskFull { filesystem: mount_point(place), log: log.map(Path::to_owned) }
    }

    /// The same error, or the full disk that is behind it. It is told by its words, because git and apt tell it in no other way.
    #[must_use]
    pub fn or_disk_full(self, place: &Path, log: Option<&Path>) -> Self {
        match self {
            Self::DiskFull { .. } | Self::Base { .. } | Self::Config(_) => self,
            other if super::log::is_disk_full(&other.to_string()) => Self::disk_full(place, log),
            other => other,
        }
    }
}

/// Where the filesystem that holds `path` is mounted.
fn mount_point(path: &Path) -> PathBuf {
    use std::os::unix::fs::MetadataExt as _;
    let device = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.dev());
    let here = device(path);
    path.ancestors().take_while(|ancestor| device(ancestor) == here).last().unwrap_or(path).to_owned()
}

impl BuildError {
    /// Whose fault it is.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::Config(_) | Self::Make { .. } | Self::NoVendor { .. } | Self::NoSource { .. } => Whose::Source,
            Self::Prebuilt(_)
            | Self::NoBase { .. }
            | Self::Fragment { .. }
            | Self::Unreadable { .. }
            // The toolchain is the definition's choice.
            | Self::NoCompiler { .. }
            | Self::NoSuite { .. }
            | Self::NoPackage { .. }
            | Self::MissingInside { .. } => Whose::Definition,
            Self::Base { cause, .. } => cause.fault(),
            Self::Before { fault, .. } => *fault,
            Self::Store(error) => error.fault(),
            Self::Source(error) => error.fault(),
            Self::Patch(error) => error.fault(),
            Self::Tree(_)
            | Self::Program(_)
            | Self::Modules(_)
            | Self::MissingTools { .. }
            | Self::NoMirror
            | Self::MirrorUnreachable { .. }
            | Self::NoNamespaces { .. }
            | Self::NoBuildroot { .. }
            | Self::NoRuntime { .. }
            | Self::NoImage { .. }
            | Self::Io { .. }
            | Self::Stuck { .. }
            | Self::DiskFull { .. }
            | Self::NoKernel { .. } => Whose::Ours,
        }
    }
}

/// An `io::Error` with what was tried on what.
pub fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> BuildError + use<'a> {
    move |cause| BuildError::Io { what, path: path.to_owned(), cause }
}

/// A file that the user named can't be read.
pub fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError + use<'_> {
    move |cause| BuildError::Unreadable { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_before_stays_whose_fault_it_was() {
        for fault in [Whose::Source, Whose::Definition] {
            let before = BuildError::Before { why: "hunk 1 finds other text".to_owned(), fault };
            assert_eq!(before.fault(), fault);
        }
    }
}
