//! The content of finished trees, noted beside them, so that a tree that somebody wrote to is found before a kernel of it is kept.
//!
//! Clones share files with their origin, and what a makefile or a patch of a stranger's does in a clone may write through to it, with sizes and times
//! put back. So the bytes are looked at again during each build, by a thread that takes what time the compilers leave. A build that writes to its own
//! origin spoils its own kernel only; the next one from there fails. This file prevents nothing and repairs nothing.
//!
//! Read [`Checking`] first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::stop::{Stop, StopOnDrop};
use super::tree::{self, TreeError};

/// Beside the tree's folder.
const SEAL: &str = "content";

/// How little a check matters beside a build's own processes (nice(2)).
const LOWEST: i32 = 19;

fn place(tree: &Path) -> PathBuf {
    tree.with_file_name(SEAL)
}

/// Notes a finished tree's content, unless it is noted already. It is for a time when no stranger's program runs in a clone of it.
///
/// # Errors
/// When the tree can't be read or the note not be written.
pub fn seal(tree: &Path, stop: &Stop) -> Result<(), TreeError> {
    let place = place(tree);
    if place.exists() {
        return Ok(());
    }
    let failed = |cause: io::Error| TreeError::Io { what: "write", path: place.clone(), cause };
    let content = tree::content(tree, stop)?;
    // Whole or not at all; two that write it write the same.
    let folder = tree.parent().unwrap_or(tree);
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    io::Write::write_all(&mut file, content.as_bytes()).map_err(failed)?;
    file.persist(&place).map(drop).map_err(|failure| failed(failure.error))
}

/// A look at a sealed tree that goes on.
#[derive(Debug)]
pub struct Checking {
    ended: tokio::sync::oneshot::Receiver<Result<(), TreeError>>,
    tree: PathBuf,
    _wanted: StopOnDrop,
}

impl Checking {
    /// Begins to compare a sealed tree with its seal. It ends when this is dropped.
    #[must_use]
    pub fn begin(tree: &Path) -> Self {
        let (sender, ended) = tokio::sync::oneshot::channel();
        let (stop, path) = (Stop::default(), tree.to_owned());
        let wanted = stop.clone();
        // A thread of its own, because its low priority would stay with one of the pool.
        std::thread::spawn(move || {
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), LOWEST);
            let _ = sender.send(check(&path, &wanted));
        });
        Self { ended, tree: tree.to_owned(), _wanted: StopOnDrop(stop) }
    }

    /// Waits for what it finds.
    ///
    /// # Errors
    /// When the tree isn't what it was when it was sealed, or can't be read.
    pub async fn end(self) -> Result<(), TreeError> {
        let lost = || TreeError::Io { what: "read", path: self.tree.clone(), cause: io::Error::other("the thread that reads it ended") };
        self.ended.await.unwrap_or_else(|_| Err(lost()))
    }
}

fn check(tree: &Path, stop: &Stop) -> Result<(), TreeError> {
    let place = place(tree);
    let sealed = fs::read_to_string(&place).map_err(|cause| TreeError::Io { what: "read", path: place.clone(), cause })?;
    if tree::content(tree, stop)? == sealed { Ok(()) } else { Err(TreeError::changed(tree)) }
}
