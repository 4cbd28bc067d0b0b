//! The guest's disks and its initramfs, made without root privileges.
//!
//! What is made is kept in the store under the hash of everything that went into it, so that it is made once. Nothing here starts a guest of the
//! user's, and no program of an image is ever executed on the host.
//!
//! Read [`disks::make`] for the root filesystem and [`initramfs`] for the rest; [`tree::Tree`] is what both are written from.

pub mod closure;
pub mod disks;
pub mod initramfs;
pub mod programs;
mod recipe;
mod root;
pub mod tree;
mod uml;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::program::ProgramError;
use crate::store::StoreError;

pub use disks::{Description, Disks, make};
pub use initramfs::{Payload, base, for_trial};

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Programs of other packages are missing.
    #[error("{} missing: apt-get install {}", programs::named(.0), programs::packages(.0))]
    Programs(Vec<programs::Needed>),
    /// A program can't be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A program's file is damaged or of a foreign kind.
    #[error("{} can't be read as a 64-bit ELF program: {cause}", path.display())]
    Elf {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: object::Error,
    },
    /// A library that a program needs is nowhere.
    #[error("{} needs the library {library}, which is in no library folder: install the package that holds it", program.display())]
    Library {
        /// The program.
        program: PathBuf,
        /// The library's name.
        library: String,
    },
    /// A path that can't be in a guest.
    #[error("{} is no path of a guest: use an absolute path without `..`", .0.display())]
    GuestPath(PathBuf),
    /// The content is larger than the filesystem.
    #[error("image {image} needs about {needed} MiB and its size is {size} MiB: raise `size` in its definition")]
    TooSmall {
        /// The image.
        image: String,
        /// What its content needs.
        needed: u64,
        /// What its definition says.
        size: u64,
    },
    /// User-mode Linux did not come to an end.
    #[error("user-mode linux did not finish within {} s; it said:\n{log}", after.as_secs())]
    Deadline {
        /// How long it was given.
        after: Duration,
        /// The end of what it said.
        log: String,
    },
    /// User-mode Linux ended before its work was done.
    #[error("user-mode linux failed to make the disks; it said:\n{log}")]
    Uml {
        /// The end of what it said.
        log: String,
    },
    /// What was made is not what was asked for.
    #[error("the disk {} is not what was asked for: {found}", disk.display())]
    Wrong {
        /// The disk.
        disk: PathBuf,
        /// What was found instead.
        found: String,
    },
    /// A description in the store that this program didn't write.
    #[error("{}: {cause}: remove the folder, it is only a cache", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// Why it can't be read.
        cause: serde_json::Error,
    },
    /// Work on another thread was lost.
    #[error("the work was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

/// For `map_err`: an operation on a file failed.
fn failed(what: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> ImageError {
    move |cause| ImageError::Io { what, path: path.as_ref().to_owned(), cause }
}

/// A hash as it appears in names of the store: 128 bits are plenty against accidents.
fn short(hasher: &blake3::Hasher) -> String {
    let mut hex = hasher.finalize().to_hex().to_string();
    hex.truncate(32);
    hex
}
