//! How a point's kernel is made, and what all lines have in common; and the line of kernels that are defined.
//!
//! Kernels that aren't defined are variants of a common base, so that `build` compiles only what differs. Patches' are added to a copy of the definitions;
//! commits' and configurations' are made as they are wanted. The other lines have a file each: `commits`, `patches`, `symbols`.
//!
//! Read [`Axis`] first.

use anyhow::{Context as _, Result, bail};

use super::commits::Commits;
use super::symbols::Symbols;
use crate::build::{self, BuildError, Built};
use crate::event::Events;
use crate::report::{Over, Point, SearchSetup};
use crate::search::Design;
use crate::source::srpm::OwnPatches;
use crate::spec::{Definitions, Kernel, Name, nearest};
use crate::store::Store;

/// How a point's kernel is made.
#[derive(Debug)]
pub enum Axis {
    /// It is one of the definitions.
    Defined,
    /// It is one of the definitions, and made by patches of a source package, which are in use for as long.
    Package(OwnPatches),
    /// It is made of a commit.
    Commits(Box<Commits>),
    /// It is made of a configuration and some symbols.
    Symbols(Box<Symbols>),
}

impl Axis {
    /// Builds a kernel of the line.
    ///
    /// # Errors
    /// When it can't be built.
    pub async fn build(
        &self,
        store: &Store,
        definitions: &Definitions,
        kernel: &Name,
        events: &Events,
        jobs: usize,
    ) -> Result<Built, BuildError> {
        match self {
            Self::Defined | Self::Package(_) => match definitions.kernels.get(kernel) {
                Some(kernel) => build::build(store, definitions, kernel, events, jobs).await,
                None => Err(BuildError::NoBase { base: kernel.clone() }),
            },
            Self::Commits(commits) => commits.build(store, definitions, kernel, events, jobs).await,
            Self::Symbols(symbols) => symbols.build(store, definitions, kernel, events, jobs).await,
        }
    }

    /// What is added to the kernel command line of a kernel of the line.
    #[must_use]
    pub fn boot_arguments<'a>(&'a self, definitions: &'a Definitions, kernel: &Name) -> &'a [String] {
        match self {
            Self::Defined | Self::Package(_) => definitions.kernels.get(kernel).map_or(&[], |kernel| &kernel.boot_arguments),
            Self::Commits(commits) => commits.boot_arguments(),
            Self::Symbols(symbols) => symbols.boot_arguments(),
        }
    }
}

/// What all lines are made from.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// What is to be shown.
    pub design: Design,
    /// What is looked for is what ended the hang.
    pub find_fix: bool,
    /// Seconds of load of a trial.
    pub duration: f64,
}

/// A search over a line that goes from the oldest, an end, to the newest, the other end.
pub(super) fn setup(frame: Frame, over: Over, mut line: Vec<Point>) -> Result<SearchSetup> {
    if line.len() < 2 {
        bail!("there is nothing between the ends: name two different ones");
    }
    let Frame { design, find_fix, duration } = frame;
    if find_fix {
        line.reverse();
    }
    let good_end = line.remove(0);
    Ok(SearchSetup { design, duration, over, find_fix, good_end, points: line, skip: Vec::new(), recipe: String::new() })
}

/// The kernel of this name.
pub(super) fn defined<'a>(definitions: &'a Definitions, name: &Name) -> Result<&'a Kernel> {
    let remedy = || nearest(name.as_str(), definitions.kernels.keys().map(Name::as_str));
    definitions.kernels.get(name).with_context(|| format!("kernel {name} is not defined: {}", remedy()))
}

/// A line of kernels that are defined, from the oldest to the newest.
///
/// # Errors
/// When one is named twice, or there are fewer than two.
pub fn over_kernels(definitions: &Definitions, kernels: &[Name], frame: Frame) -> Result<SearchSetup> {
    let mut line: Vec<Point> = Vec::new();
    for name in kernels {
        let kernel = defined(definitions, name)?;
        if line.iter().any(|point| point.kernel == *name) {
            bail!("{name} is named twice: name each kernel of the line once, from the oldest to the newest");
        }
        line.push(Point {
            kernel: name.clone(),
            what: name.to_string(),
            title: kernel.description.clone(),
            merge: false,
            boot_arguments: kernel.boot_arguments.clone(),
        });
    }
    setup(frame, Over::Kernels, line)
}

/// The kernel that others are made from, whole: what it extends is in it.
pub(super) fn flattened(kernel: &Kernel, name: Name) -> Kernel {
    Kernel { name, base: None, inherited_patches: 0, ..kernel.clone() }
}

/// A name for a kernel of a line.
pub(super) fn numbered(kernel: &Name, what: &str, number: usize) -> Result<Name> {
    let name = format!("{kernel}.{what}-{number}");
    Name::new(&name).with_context(|| format!("{kernel} has too long a name to number its variants"))
}
