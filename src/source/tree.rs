//! Source trees as files: cloned cheaply, fingerprinted, checked.
//!
//! A clone shares the files that no build writes (hard links), and the objects, which a build replaces; it has its own copy of everything else (reflink
//! where the filesystem has it), with all times kept, because make goes by them. What is shared must never be written: every clone checks its origin against
//! the [`Index`] taken when the origin was finished, so a tree that something wrote to is found before it is built from, not after.
//!
//! Read [`clone`] first.

use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

use super::stop::Stop;

/// A fingerprint of a tree's paths, sizes and times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(String);

/// Which files of a tree a clone shares with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All: the origin is pristine, nothing in it was made by a build.
    All,
    /// Those that the origin shares already, and objects; what else a build made there is copied.
    Shared,
}

/// Why a tree couldn't be cloned or read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An operation failed.
    #[error("{what} {}: {cause}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        cause: io::Error,
    },
    /// The tree isn't as it was when it was finished.
    #[error("{} was changed after it was finished: remove it, and hangproof makes it anew", folder.display())]
    Changed {
        /// The tree's folder in the store, with what belongs to it.
        folder: PathBuf,
    },
    /// What a build is to have made is something else.
    #[error("{} is no regular file of the tree, or a link leads to it: no kernel's makefiles make it so; read the patch and the makefiles", path.display())]
    NotPlain {
        /// What.
        path: PathBuf,
    },
    /// There is something in the tree that no source tree has.
    #[error("{} is neither file, folder nor symbolic link: remove it from the tree", path.display())]
    Special {
        /// What.
        path: PathBuf,
    },
}

impl TreeError {
    /// Of a tree in the store, which lies in a folder of its own.
    pub(super) fn changed(tree: &Path) -> Self {
        Self::Changed { folder: tree.parent().unwrap_or(tree).to_owned() }
    }
}

fn failed<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> TreeError + use<'a> {
    move |cause| TreeError::Io { what, path: path.to_owned(), cause }
}

/// What lies in a tree, in a fixed order.
struct Item {
    path: PathBuf,
    metadata: fs::Metadata,
}

fn items(tree: &Path, skip: impl Fn(&Path) -> bool) -> impl Iterator<Item = Result<Item, TreeError>> {
    let walk = walkdir::WalkDir::new(tree).min_depth(1).sort_by_file_name().into_iter();
    walk.filter_entry(move |entry| !skip(entry.path())).map(|entry| {
        let entry = entry.map_err(|failure| {
            let path = failure.path().map(Path::to_owned).unwrap_or_default();
            TreeError::Io { what: "read", path, cause: failure.into() }
        })?;
        let metadata = entry.metadata().map_err(|cause| failed("look at", entry.path())(cause.into()))?;
        Ok(Item { path: entry.into_path(), metadata })
    })
}

/// Adds an item to an index. Folders count by name only: their times change when a clone is made in them.
fn index_item(hasher: &mut blake3::Hasher, relative: &Path, item: &Item) {
    hasher.update(relative.as_os_str().as_bytes()).update(&[0]);
    if !item.metadata.is_dir() {
        hasher.update(&item.metadata.len().to_le_bytes());
        hasher.update(&item.metadata.mtime().to_le_bytes()).update(&item.metadata.mtime_nsec().to_le_bytes());
    }
}

/// The index of a finished tree.
///
/// # Errors
/// When the tree can't be read.
pub fn index(tree: &Path) -> Result<Index, TreeError> {
    let mut hasher = blake3::Hasher::new();
    for item in items(tree, |_| false) {
        let item = item?;
        index_item(&mut hasher, relative(tree, &item.path), &item);
    }
    Ok(Index(hasher.finalize().to_hex().to_string()))
}

fn relative<'a>(tree: &Path, path: &'a Path) -> &'a Path {
    path.strip_prefix(tree).unwrap_or(path)
}

/// Clones a finished tree to `to`, which doesn't exist yet.
///
/// # Errors
/// When a file can't be made, or when the origin isn't what `expected` says; then the clone is not to be used.
pub fn clone(from: &Path, to: &Path, share: Share, expected: &Index, stop: &Stop) -> Result<(), TreeError> {
    let items: Vec<_> = items(from, |_| false).collect::<Result<_, _>>()?;
    let mut hasher = blake3::Hasher::new();
    fs::create_dir(to).map_err(failed("create", to))?;
    for item in &items {
        let relative = relative(from, &item.path);
        index_item(&mut hasher, relative, item);
        if item.metadata.is_dir() {
            copy_item(item, &to.join(relative), stop)?;
        }
    }
    if Index(hasher.finalize().to_hex().to_string()) != *expected {
        return Err(TreeError::changed(from));
    }
    let replaces = !from.join("rust/core.o").exists();
    in_parallel(&items, |item| {
        let target = to.join(relative(from, &item.path));
        let shared = item.metadata.is_file() && (share == Share::All || item.metadata.nlink() > 1 || (replaces && is_object(item)));
        // A filesystem may refuse a link (too many of them, or none at all); then a copy does.
        if item.metadata.is_dir() || (shared && fs::hard_link(&item.path, &target).is_ok()) {
            return Ok(());
        }
        copy_item(item, &target, stop)
    })?;
    Ok(())
}

/// Whether this is a file that C compilers and linkers replace when they make it anew: binutils remove it first unless it is empty (`bfd_open_file`,
/// bfd/cache.c; ld does it too), LLVM writes beside it and renames. What else is done to an object (objtool, recordmcount) is done to the new one. They are
/// most of a tree that was built with debug information: 3.4 of 3.7 GB in CentOS 7's. Of a tree with Rust in it none is one: rustc writes to what is there.
fn is_object(item: &Item) -> bool {
    item.metadata.len() > 0 && item.path.extension().is_some_and(|extension| extension == "o")
}

/// Items that a thread takes at once: a folder or a few, because threads that make files in one folder wait for each other.
const CHUNK: usize = 256;

/// Does `work` for all items, by as many threads as there are CPUs. Returns the results in the items' order.
fn in_parallel<T: Send>(items: &[Item], work: impl Fn(&Item) -> Result<T, TreeError> + Sync) -> Result<Vec<T>, TreeError> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = items.chunks(CHUNK).nth(number) else { return Ok(done) };
            done.push((number, chunk.iter().map(&work).collect::<Result<Vec<T>, _>>()?));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut chunks = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let joined = handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Result<Vec<_>, _>>().map(|all| all.into_iter().flatten().collect::<Vec<_>>())
    })?;
    chunks.sort_by_key(|(number, _)| *number);
    Ok(chunks.into_iter().flat_map(|(_, results)| results).collect())
}

/// Copies a stranger's tree without its `.git` to `to`, which doesn't exist yet.
///
/// # Errors
/// When something can't be read or written, or is no file, folder or link.
pub fn copy(from: &Path, to: &Path, stop: &Stop) -> Result<(), TreeError> {
    fs::create_dir(to).map_err(failed("create", to))?;
    for item in items(from, is_git) {
        let item = item?;
        copy_item(&item, &to.join(relative(from, &item.path)), stop)?;
    }
    Ok(())
}

/// A regular file of a stranger's tree, to which no link leads: so nobody can have it point at a file of the user's. The tree's own programs have ended.
///
/// # Errors
/// When it isn't there, or is something else.
pub fn regular(tree: &Path, relative: &Path) -> Result<PathBuf, TreeError> {
    let mut path = tree.to_owned();
    let mut kind = None;
    for component in relative.components() {
        path.push(component);
        let found = fs::symlink_metadata(&path).map_err(failed("look at", &path))?.file_type();
        if found.is_symlink() || !matches!(component, std::path::Component::Normal(_)) {
            return Err(TreeError::NotPlain { path });
        }
        kind = Some(found);
    }
    if kind.is_some_and(|kind| kind.is_file()) { Ok(path) } else { Err(TreeError::NotPlain { path }) }
}

fn is_git(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == ".git")
}

fn copy_item(item: &Item, target: &Path, stop: &Stop) -> Result<(), TreeError> {
    stop.check().map_err(failed("copy", &item.path))?;
    let kind = item.metadata.file_type();
    if kind.is_dir() {
        fs::create_dir(target).map_err(failed("create", target))
    } else if kind.is_symlink() {
        let link = fs::read_link(&item.path).map_err(failed("read", &item.path))?;
        std::os::unix::fs::symlink(link, target).map_err(failed("create", target))
    } else if kind.is_file() {
        copy_file(&item.path, &item.metadata, target)
    } else {
        Err(TreeError::Special { path: item.path.clone() })
    }
}

/// Copies a file with its time and its permissions, as a reflink where the filesystem has them.
fn copy_file(from: &Path, metadata: &fs::Metadata, to: &Path) -> Result<(), TreeError> {
    let mut source = File::open(from).map_err(failed("open", from))?;
    let mut file = File::create_new(to).map_err(failed("create", to))?;
    if rustix::fs::ioctl_ficlone(&file, &source).is_err() {
        io::copy(&mut source, &mut file).map_err(failed("write", to))?;
    }
    let mode = fs::Permissions::from_mode(0o600 | (metadata.permissions().mode() & 0o777));
    file.set_permissions(mode).map_err(failed("set the permissions of", to))?;
    let time = metadata.modified().map_err(failed("look at", from))?;
    file.set_modified(time).map_err(failed("set the time of", to))
}

/// A digest of a tree's content: paths, link targets, execute bits and bytes, but no times; without `.git`.
///
/// # Errors
/// When something can't be read, or is no file, folder or link.
pub fn content(tree: &Path, stop: &Stop) -> Result<String, TreeError> {
    let items: Vec<_> = items(tree, is_git).collect::<Result<_, _>>()?;
    let digests = in_parallel(&items, |item| item_digest(item, stop))?;
    let mut hasher = blake3::Hasher::new();
    for (item, digest) in items.iter().zip(digests) {
        hasher.update(relative(tree, &item.path).as_os_str().as_bytes()).update(&[0]);
        hasher.update(digest.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn item_digest(item: &Item, stop: &Stop) -> Result<blake3::Hash, TreeError> {
    stop.check().map_err(failed("read", &item.path))?;
    let mut hasher = blake3::Hasher::new();
    let kind = item.metadata.file_type();
    if kind.is_dir() {
        hasher.update(b"folder");
    } else if kind.is_symlink() {
        let link = fs::read_link(&item.path).map_err(failed("read", &item.path))?;
        hasher.update(b"link").update(link.as_os_str().as_bytes());
    } else if kind.is_file() {
        hasher.update(if item.metadata.mode() & 0o100 == 0 { b"file" } else { b"exec" });
        let file = File::open(&item.path).map_err(failed("open", &item.path))?;
        hasher.update_reader(file).map_err(failed("read", &item.path))?;
    } else {
        return Err(TreeError::Special { path: item.path.clone() });
    }
    Ok(hasher.finalize())
}
