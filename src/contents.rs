//! What is in the files that definitions name, as far as it can be told before anything is built: patches and reproducers.
//!
//! `spec` knows that they are there. Whether a patch fits its source, and a program compiles or runs, is for those who try.
//!
//! Read [`check`].

use std::collections::BTreeMap;
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
/// With everything that is wrong, each with its file, and the definition that names it.
pub fn check<'a>(kernels: impl IntoIterator<Item = &'a Kernel>, pipelines: impl IntoIterator<Item = &'a Pipeline>) -> Result<(), Unsound> {
    let mut patches: BTreeMap<&Path, &Kernel> = BTreeMap::new();
    for (patch, kernel) in kernels.into_iter().flat_map(|kernel| patches_of(kernel).map(move |patch| (patch, kernel))) {
        // The one that has it first is its base.
        patches
            .entry(patch)
            .and_modify(|first| *first = if kernel.patches.len() < first.patches.len() { kernel } else { first })
            .or_insert(kernel);
    }
    let patches = patches.into_iter().filter_map(|(patch, kernel)| {
        let error = patch::check(patch).err()?;
        Some(format!("{error}\n  a patch of kernel {}, {}", kernel.name, kernel.defined_in.display()))
    });
    let programs: BTreeMap<_, _> = pipelines.into_iter().map(|pipeline| (&pipeline.reproducer.program, pipeline)).collect();
    let programs = programs.into_iter().filter_map(|(program, pipeline)| {
        let error = reproducer::check(program).err()?;
        Some(format!("{error}\n  the reproducer of pipeline {}, {}", pipeline.name, pipeline.defined_in.display()))
    });
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
