//! What a search's kernels are made from and its trials are made with, as one digest: a search that goes on with another is another experiment.
//!
//! What a report tells of a run (the reproducer, the machine, the limits, the image) is compared there by name. This is for what no report tells before a kernel
//! is built. It reads files and builds nothing.
//!
//! Read [`recipe`].

use std::path::Path;

use anyhow::{Context as _, Result};

use super::axis::defined;
use crate::input;
use crate::report::{Over, SearchSetup};
use crate::spec::{Change, ConfigurationBase, Definitions, Kernel, Name, Pipeline};

/// The digest (BLAKE3) of the kernels that a line is made of, and of the pipeline's experiment.
///
/// # Errors
/// When a file of a definition can't be read.
pub fn recipe(definitions: &Definitions, setup: &SearchSetup, pipeline: &Pipeline) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let kernels: Vec<&Name> = match &setup.over {
        Over::Commits { kernel, .. } | Over::Patches { kernel } | Over::Config { kernel } => vec![kernel],
        Over::Kernels => [&setup.good_end].into_iter().chain(&setup.points).map(|point| &point.kernel).collect(),
    };
    for name in kernels {
        add_kernel(&mut hasher, &definitions.root, defined(definitions, name)?)?;
    }
    let Pipeline { boot_arguments, cgroup, hang, .. } = pipeline;
    hasher.update(format!("{boot_arguments:?} {cgroup:?} {hang:?}").as_bytes());
    Ok(hasher.finalize().to_hex().to_string())
}

fn add_kernel(hasher: &mut blake3::Hasher, root: &Path, kernel: &Kernel) -> Result<()> {
    let Kernel { source, toolchain, configuration, compatibility, patches, boot_arguments, .. } = kernel;
    // The definitions may lie elsewhere: their files count by content.
    let elsewhere = |text: String| text.replace(&*root.to_string_lossy(), "");
    hasher.update(elsewhere(format!("{source:?} {toolchain:?} {:?} {boot_arguments:?}", configuration.modules)).as_bytes());
    let base = match &configuration.base {
        ConfigurationBase::File(file) => Some(file),
        other => {
            hasher.update(format!("{other:?}").as_bytes());
            None
        }
    };
    let mut files: Vec<&Path> = base.into_iter().chain(&configuration.fragments).chain(patches).map(|file| &**file).collect();
    for change in compatibility {
        match &change.change {
            Change::Patch(file) => files.push(file),
            Change::Copy { .. } | Change::Make(_) | Change::Flags(_) | Change::Configuration(_) => {}
        }
        hasher.update(elsewhere(format!("{change:?}")).as_bytes());
    }
    for file in files {
        let content = input::read(file, input::LARGEST_TEXT).with_context(|| file.display().to_string())?;
        hasher.update(&(content.len() as u64).to_le_bytes()).update(&content);
    }
    Ok(())
}
