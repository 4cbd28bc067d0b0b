//! What is in the files that definitions name, as far as it can be told before anything is built: patches and reproducers.
//!
//! `spec` knows that they are there. Whether a patch fits its source, and a program compiles or runs, is for those who try.
//!
//! Read [`check`].

use std::collections::BTreeSet;
use std::path::Path;

use crate::reproducer;
use crate::source::patch;
use crate::spec::{Change, Kernel, Pipeline};

/// Files that can't be what a definition takes them for.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct Unsound(Vec<String>);

/// Looks into each patch of `kernels` and the reproducer of each of `pipelines`.
///
/// # Errors
/// With everything that is wrong, each with its file.
pub fn check<'a>(kernels: impl IntoIterator<Item = &'a Kernel>, pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Result<(), Unsound> {
    let patches: BTreeSet<&Path> = kernels.into_iter().flat_map(patches_of).collect();
    let patches = patches.into_iter().filter_map(|patch| patch::check(patch).err().map(|error| error.to_string()));
    let programs: BTreeSet<_> = pipelines.into_iter().map(|pipeline| &pipeline.reproducer.program).collect();
    let programs = programs.into_iter().filter_map(|program| reproducer::check(program).err().map(|error| error.to_string()));
    let wrong: Vec<String> = patches.chain(programs).collect();
    if wrong.is_empty() { Ok(()) } else { Err(Unsound(wrong)) }
}

fn patches_of(kernel: &Kernel) -> impl Iterator<Item = &Path> {
    let changes = kernel.compatibility.iter().filter_map(|compatibility| match &compatibility.change {
        Change::Patch(patch) => Some(patch),
        Change::Copy { .. } | Change::Make(_) | Change::Flags(_) | Change::Configuration(_) => None,
    });
    changes.chain(&kernel.patches).map(|path| path.as_path())
}
