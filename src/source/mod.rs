//! Where source trees come from: each kind yields a pristine tree in the store, and what is known of its origin.
//!
//! A tree is named by the digest of what it was made from and never written to again; whoever builds takes a [`tree::clone`]. What was fetched
//! once is found again without a network. What is fetched is a stranger's: digests are checked, archives can't reach out of their folder, and
//! nothing in a tree is run here. This module doesn't know what is built from a tree, and `build` doesn't know where a tree comes from.
//!
//! Read [`fetch`] first.

mod ahead;
mod archive;
mod debian;
mod digest;
mod directory;
mod download;
mod git;
pub mod history;
mod package;
pub mod patch;
mod payload;
mod prebuilt;
pub mod seal;
pub mod srpm;
pub mod stop;
mod tarball;
pub mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use archive::{ArchiveError, Limits, Refusal, decompressed, unpack, unpack_some};

use crate::event::Events;
use crate::fault::Whose;
use crate::program::ProgramError;
use crate::spec::{Prebuilt, Source, Srpm};
use crate::store::{Kept, Lock, Scratch, Store, StoreError};
use tree::{Index, TreeError};

/// A pristine source tree in the store. `gc` leaves it alone while the value lives.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// Digest of what the tree was made from: its name in the store.
    pub digest: String,
    /// The tree. Never to be written to.
    pub tree: PathBuf,
    /// What the tree looked like when it was finished.
    pub index: Index,
    /// Where it comes from.
    pub provenance: Provenance,
    _in_use: Arc<Lock>,
}

/// Where a source tree comes from, exactly. Part of every report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Provenance {
    /// A Debian package.
    Debian {
        /// The package.
        package: String,
        /// Its version.
        version: String,
        /// SHA-256 of the package, which is what apt's index says.
        deb_sha256: String,
        /// The tarball's name in the package.
        tarball: String,
        /// SHA-256 of the tarball.
        tarball_sha256: String,
    },
    /// A tar archive.
    Tarball {
        /// Its URL or path.
        location: String,
        /// Its SHA-256.
        sha256: String,
    },
    /// A git commit.
    Git {
        /// URL or path of the repository.
        repository: String,
        /// What was asked for.
        revision: String,
        /// The commit that this was.
        commit: String,
    },
    /// A folder.
    Directory {
        /// Its path.
        path: PathBuf,
        /// BLAKE3 of its content.
        blake3: String,
    },
    /// A binary kernel package.
    Prebuilt {
        /// Its name, or where the file is.
        package: String,
        /// Its version, if it came from an index that has one.
        version: Option<String>,
        /// SHA-256 of the package.
        sha256: String,
        /// The other packages, if the distribution divided the kernel between several.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        more: Vec<PackageRecord>,
    },
    /// A source package (SRPM), or the bare tarball of one.
    Srpm {
        /// Its URL or path.
        location: String,
        /// SHA-256 of the package; none for a bare tarball.
        sha256: Option<String>,
        /// Fingerprint or id of the key that signed it, if that was checked.
        signed_by: Option<String>,
        /// The tarball's name.
        tarball: String,
        /// SHA-256 of the tarball.
        tarball_sha256: String,
        /// SHA-1 of the tarball, which some distributions publish.
        tarball_sha1: String,
        /// The package's own patches in the order in which its spec file applies them: part of the source, none of the user's.
        patches: Vec<srpm::PatchRecord>,
        /// Lines of the spec file that seem to change the tree otherwise than by a patch, and scripts of the package that it runs: none of that is repeated.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unrepeated: Vec<String>,
        /// What `EXTRAVERSION` was set to in the Makefile, as the spec file does it.
        extraversion: Option<String>,
        /// The configurations of the package that lie at the top of the tree.
        configurations: Vec<String>,
    },
}

/// A binary package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PackageRecord {
    /// Its name, or where the file is.
    pub package: String,
    /// SHA-256 of it.
    pub sha256: String,
}

/// Why there is no source tree.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An outside program is missing or failed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A repository of this machine can't be used.
    #[error(transparent)]
    History(#[from] history::HistoryError),
    /// A tree can't be read or written.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// An operation on a file failed.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// A file that a definition or an argument names can't be read.
    #[error("{} can't be read: {cause}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// An archive was refused or is damaged.
    #[error("{archive}: {cause}")]
    Archive {
        /// The archive.
        archive: String,
        /// What is wrong with it.
        cause: ArchiveError,
    },
    /// Something has another content than it should have.
    #[error("{what} has {algorithm} {found}, expected {expected}: fetch it again, or correct the definition if the new content is right")]
    Digest {
        /// What.
        what: String,
        /// `SHA-256` or `SHA-1`.
        algorithm: &'static str,
        /// The digest that it should have.
        expected: String,
        /// The digest that it has.
        found: String,
    },
    /// A name or version in a definition can't be one.
    #[error("{value:?} is no {what}: correct the definition")]
    Unusable {
        /// What it should be.
        what: &'static str,
        /// What it is.
        value: String,
    },
    /// apt doesn't know the package or version.
    #[error(
        "apt has no package {wanted}: `apt-get update`, and see that /etc/apt/sources.list names a release that has it{}",
        if *fetched { "" } else { " (no version of it was fetched before)" }
    )]
    NoPackage {
        /// Package, and version if one is wanted.
        wanted: String,
        /// Whether another version was fetched before.
        fetched: bool,
    },
    /// The package has no source tarball.
    #[error("package {package} holds no usr/src/*.tar.*: name one like linux-source-6.1")]
    NoTarball {
        /// The package.
        package: String,
    },
    /// The file is no package.
    #[error(
        "{package} is neither a Debian nor an rpm package: name that of a kernel, such as linux-image-6.1.0-56-cloud-amd64_6.1.192-2_amd64.deb"
    )]
    NoPackageFile {
        /// The package.
        package: String,
    },
    /// The headers of an rpm package are damaged.
    #[error("{package} is no usable rpm package: {why}; fetch it again")]
    Rpm {
        /// The package.
        package: String,
        /// What is wrong.
        why: String,
    },
    /// A source package where a binary one is wanted.
    #[error("{package} is a source package: write `source: {{srpm: ...}}`, or name the binary package of a kernel")]
    NotBinary {
        /// The package.
        package: String,
    },
    /// A file would have to be downloaded, and nothing tells whether it is the right one.
    #[error(
        "{url} isn't downloaded, since its definition knows no digest of it: bring the file by other means, and name it with \
         --source KERNEL=FILE (once for each package of the kernel), or its folder with --vault"
    )]
    UnknownDigest {
        /// From where.
        url: String,
    },
    /// A source package can't be used.
    #[error(transparent)]
    Srpm(#[from] srpm::SrpmError),
    /// A download failed.
    #[error("download {url}: {why}; bring the file by other means and name its path instead of the URL")]
    Download {
        /// From where.
        url: String,
        /// What the program said.
        why: String,
    },
    /// The revision isn't in the repository.
    #[error("{repository} has no revision {revision}: {why}; name a commit, tag or branch that it has")]
    NoRevision {
        /// The repository.
        repository: String,
        /// The revision.
        revision: String,
        /// What git said.
        why: String,
    },
    /// The source is no folder, or is not there.
    #[error("{} is no folder: correct the path", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
    },
}

impl SourceError {
    /// Whose fault it is: what isn't what it is named as is that of who named it.
    #[must_use]
    pub fn fault(&self) -> Whose {
        match self {
            Self::Store(error) => error.fault(),
            Self::History(error) => error.fault(),
            Self::Tree(TreeError::Special { .. } | TreeError::NotPlain { .. })
            | Self::Archive { cause: ArchiveError::Damaged(_) | ArchiveError::Compression(_) | ArchiveError::Refused { .. }, .. }
            | Self::Unreadable { .. }
            | Self::Digest { .. }
            | Self::Unusable { .. }
            | Self::NoTarball { .. }
            | Self::NoPackageFile { .. }
            | Self::Rpm { .. }
            | Self::NotBinary { .. }
            | Self::UnknownDigest { .. }
            | Self::NoRevision { .. }
            | Self::NoFolder { .. } => Whose::Definition,
            Self::Srpm(error) => error.fault(),
            Self::Tree(TreeError::Io { .. } | TreeError::Changed { .. })
            | Self::Archive { cause: ArchiveError::Write { .. }, .. }
            | Self::Program(_)
            | Self::Io { .. }
            | Self::NoPackage { .. }
            | Self::Download { .. } => Whose::Ours,
        }
    }
}

/// A file that the user named can't be read.
fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> SourceError + use<'_> {
    move |cause| SourceError::Unreadable { path: path.to_owned(), cause }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> SourceError + use<'a> {
    move |cause| SourceError::Io { what, path: path.to_owned(), cause }
}

/// What was fetched for a source: enough to find it again without a network.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Remembered {
    digest: String,
    provenance: Provenance,
}

/// Brings a source tree into the store, unless it is there.
///
/// # Errors
/// When it can't be fetched, isn't what the definition says, or is hostile.
pub async fn fetch(store: &Store, source: &Source, events: &Events) -> Result<Fetched, SourceError> {
    let note = note_name(source);
    // Two programs that want the same source take turns; the second one finds it.
    let _turn = store.turn(&note).await?;
    match source {
        Source::Debian { package, version } => debian::fetch(store, package, version.as_deref(), Taken::Tree, events).await,
        Source::Tarball { location, sha256 } => tarball::fetch(store, location, sha256.as_deref(), events).await,
        Source::Git { repository, revision } => git::fetch(store, repository, revision, &note, events).await,
        Source::Directory { path } => directory::fetch(store, path).await,
        Source::Prebuilt(Prebuilt::Debian { package, version }) => {
            debian::fetch(store, package, version.as_deref(), Taken::Kernel, events).await
        }
        Source::Prebuilt(Prebuilt::Files(files)) => prebuilt::fetch(store, files, events).await,
        Source::Srpm(package) => srpm::fetch(store, package, events).await,
    }
}

/// Brings a source package's own patches into the store, unless they are there.
///
/// # Errors
/// When it can't be fetched, isn't what the definition says, or is hostile.
pub async fn own_patches(store: &Store, srpm: &Srpm, events: &Events) -> Result<srpm::OwnPatches, SourceError> {
    let _turn = store.turn(&note_name(&Source::Srpm(srpm.clone()))).await?;
    srpm::own_patches(store, srpm, events).await
}

/// What a Debian package is brought for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// A source tree.
    Tree,
    /// A binary kernel, in a package.
    Kernel,
}

fn note_name(source: &Source) -> String {
    format!("source-{}", &blake3::hash(format!("{source:?}").as_bytes()).to_hex()[..32])
}

/// The tree of a digest, if it is in the store.
fn kept(store: &Store, remembered: Remembered) -> Result<Option<Fetched>, SourceError> {
    let Remembered { digest, provenance } = remembered;
    let in_use = Arc::new(store.in_use(Kept::Sources, &digest)?);
    let Some(folder) = store.find(Kept::Sources, &digest) else { return Ok(None) };
    let path = folder.join(INDEX);
    let index = std::fs::read(&path).map_err(failed("read", &path))?;
    let index = serde_json::from_slice(&index).map_err(|cause| failed("read", &path)(cause.into()))?;
    Ok(Some(Fetched { digest, tree: folder.join(TREE), index, provenance, _in_use: in_use }))
}

/// The tree's folder in its place in the store, beside its index.
const TREE: &str = "tree";
const INDEX: &str = "index.json";

/// Moves the tree that was made in the scratch folder at [`TREE`] into its place.
fn keep(store: &Store, scratch: &Scratch, remembered: Remembered) -> Result<Fetched, SourceError> {
    let finished = scratch.path().join("finished");
    std::fs::create_dir(&finished).map_err(failed("create", &finished))?;
    let tree = finished.join(TREE);
    std::fs::rename(scratch.path().join(TREE), &tree).map_err(failed("rename", &tree))?;
    let index = tree::index(&tree)?;
    let path = finished.join(INDEX);
    let written = serde_json::to_vec(&index).map_err(io::Error::from).and_then(|index| std::fs::write(&path, index));
    written.map_err(failed("write", &path))?;
    let place = store.keep(Kept::Sources, &remembered.digest, &finished)?;
    kept(store, remembered)?.ok_or_else(|| failed("find", &place)(io::ErrorKind::NotFound.into()))
}

/// Unpacks an archive into the scratch folder's [`TREE`].
fn unpack_tree(archive: impl io::Read, scratch: &Scratch, stop: &stop::Stop) -> Result<(), ArchiveError> {
    let tree = scratch.path().join(TREE);
    std::fs::create_dir(&tree).map_err(|cause| ArchiveError::Write { path: tree.clone(), cause })?;
    ahead::ahead(decompressed(archive)?, |bytes| unpack(bytes, &tree, Limits::default(), stop))
}
