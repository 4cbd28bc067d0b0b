//! A kernel's stack of patches as a line, on top of the kernel with the source.
//!
//! Read [`over_patches`].

use std::path::Path;

use anyhow::{Result, bail};

use super::axis::{Frame, defined, flattened, numbered, setup};
use crate::input;
use crate::report::{Over, Point, SearchSetup};
use crate::spec::{Definitions, Kernel, Name, Source};
use crate::text::plain;

/// The patch stack of a kernel, patch by patch, on top of the kernel with the source.
///
/// # Errors
/// When there is no such kernel, or it has no patches.
pub fn over_patches(definitions: &mut Definitions, name: &Name, frame: Frame) -> Result<SearchSetup> {
    let kernel = defined(definitions, name)?.clone();
    if matches!(kernel.source, Source::Prebuilt(_)) || kernel.patches.is_empty() {
        bail!("{name} has no patches to search: name a kernel with a stack of them by --kernel");
    }
    let first = numbered(name, "patch", 0)?;
    let bare = Kernel { patches: Vec::new(), ..flattened(&kernel, first.clone()) };
    let mut line = vec![Point {
        kernel: first.clone(),
        what: "no patch".to_owned(),
        title: "the kernel without its patches".to_owned(),
        merge: false,
        boot_arguments: Vec::new(),
    }];
    for (number, patch) in (1..).zip(&kernel.patches) {
        let point = numbered(name, "patch", number)?;
        let patches = kernel.patches[..number].to_vec();
        let variant = Kernel { name: point.clone(), base: Some(first.clone()), patches, inherited_patches: 0, ..bare.clone() };
        definitions.kernels.insert(point.clone(), variant);
        line.push(Point {
            kernel: point,
            what: definitions.shown(patch).display().to_string(),
            title: subject(patch),
            merge: false,
            boot_arguments: Vec::new(),
        });
    }
    definitions.kernels.insert(first, bare);
    setup(frame, Over::Patches { kernel: name.clone() }, line)
}

/// The subject of a patch that has one.
fn subject(patch: &Path) -> String {
    let text = input::read(patch, input::LARGEST_TEXT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let header = text.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "));
    let subject = header.filter_map(|line| line.strip_prefix("Subject: ")).next().unwrap_or_default();
    plain(subject.strip_prefix("[PATCH] ").unwrap_or(subject))
}
