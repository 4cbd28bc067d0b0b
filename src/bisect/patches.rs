//! A kernel's patches as a line: those of its source package, if its source is one, as the spec file applies them; then those of its definition.
//!
//! The package's own patches are in its tree, so what is tested without some of them is a variant that takes them back: each kernel of the line is built in a clone
//! of one, and that is the kernel with the whole package, which may be built already. A kernel that extends another one has a stack of its own, and
//! the package isn't looked into.
//!
//! Read [`over_patches`].

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::axis::{Axis, Frame, defined, flattened, numbered, setup};
use crate::event::{Event, Events};
use crate::input;
use crate::report::{Over, Point, SearchSetup};
use crate::source;
use crate::source::srpm::OwnPatches;
use crate::spec::{Definitions, Kernel, Name, Source, Srpm};
use crate::store::Store;
use crate::text::plain;

/// The patches of a kernel, patch by patch, on top of its source; if that is a source package, on top of the tarball in it.
///
/// # Errors
/// When there is no such kernel, it has no patches, or the package can't be had.
pub async fn over_patches(
    store: &Store,
    definitions: &mut Definitions,
    name: &Name,
    frame: Frame,
    events: &Events,
) -> Result<(SearchSetup, Axis)> {
    let kernel = defined(definitions, name)?.clone();
    let package = match (&kernel.source, &kernel.base) {
        (Source::Prebuilt(_), _) => {
            bail!("{name} is prebuilt and has no patches to search: name a kernel with a stack of them by --kernel")
        }
        (Source::Srpm(srpm), None) => {
            events.send(Event::BuildStep { kernel: name.clone(), step: format!("reading the patches of {}", srpm.file) });
            let own = source::own_patches(store, srpm, events).await;
            Some((srpm, own.with_context(|| format!("reading the patches of {name}'s source package"))?))
        }
        (Source::Srpm(_), Some(_))
        | (Source::Debian { .. } | Source::Tarball { .. } | Source::Git { .. } | Source::Directory { .. }, _) => None,
    };
    let own = package.as_ref().map_or(&[][..], |(_, own)| &own.patches);
    if own.is_empty() && kernel.patches.is_empty() {
        bail!(no_patches(definitions, &kernel, package.as_ref().map(|(srpm, own)| (*srpm, own))));
    }
    let whole = numbered(name, "patch", own.len())?;
    let bare = Kernel { patches: Vec::new(), ..flattened(&kernel, whole.clone()) };
    let stack = kernel.patches.iter().map(|patch| (definitions.shown(patch).display().to_string(), subject(patch)));
    let first = match &package {
        Some((srpm, own)) if !own.patches.is_empty() => format!("the tarball of {} without the package's patches", srpm.file),
        Some(_) | None => "the kernel without its patches".to_owned(),
    };
    let named = own.iter().map(|patch| (patch.name.clone(), subject(&patch.file)));
    let all: Vec<(String, String)> = std::iter::once(("no patch".to_owned(), first)).chain(named).chain(stack).collect();
    let mut line = Vec::new();
    for (number, (what, title)) in all.into_iter().enumerate() {
        let point = numbered(name, "patch", number)?;
        let patches = match number.checked_sub(own.len()) {
            // The last one goes first.
            None => own[number..].iter().rev().map(|patch| patch.undo.clone()).collect(),
            Some(applied) => kernel.patches[..applied].to_vec(),
        };
        let base = (point != whole).then(|| whole.clone());
        definitions.kernels.insert(point.clone(), Kernel { name: point.clone(), base, patches, ..bare.clone() });
        line.push(Point { kernel: point, what, title, merge: false, boot_arguments: Vec::new() });
    }
    let setup = setup(frame, Over::Patches { kernel: name.clone() }, line)?;
    Ok((setup, package.map_or(Axis::Defined, |(_, own)| Axis::Package(own))))
}

/// Why there is no line, and what to do.
fn no_patches(definitions: &Definitions, kernel: &Kernel, package: Option<(&Srpm, &OwnPatches)>) -> String {
    let name = &kernel.name;
    let another = "name a kernel with a stack of them by --kernel";
    match (package, definitions.origin(name)) {
        (Some((srpm, own)), _) if own.is_bare => {
            format!("{name} has no patches to search, since they aren't in the bare tarball: put {} beside it, or {another}", srpm.file)
        }
        (Some((srpm, _)), _) => {
            format!("{name} has no patches to search: the spec file of {} applies none, and its definition has none; {another}", srpm.file)
        }
        (None, Some(origin)) if origin != name && matches!(kernel.source, Source::Srpm(_)) => {
            format!("{name} has no patches to search: {another}, or {origin}, whose source package may bring some")
        }
        (None, _) => format!("{name} has no patches to search: {another}"),
    }
}

/// The subject of a patch that has one.
fn subject(patch: &Path) -> String {
    let text = input::read(patch, input::LARGEST_TEXT).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let header = text.lines().take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "));
    let subject = header.filter_map(|line| line.strip_prefix("Subject: ")).next().unwrap_or_default();
    plain(subject.strip_prefix("[PATCH] ").unwrap_or(subject))
}
