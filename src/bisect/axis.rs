//! What a line consists of: kernels that are defined, a kernel's patches, or what two configurations differ in; and how a point's kernel is made.
//!
//! Kernels that aren't defined are added to a copy of the definitions, as variants of a common base, so that `build` compiles only what differs.
//! Commits are made as they are wanted, in `commits`. Nothing is built here.
//!
//! Read [`Axis`] first.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::commits::Commits;
use crate::build::config::{differences, request, without_modules};
use crate::build::{self, BuildError, Built};
use crate::event::Events;
use crate::input;
use crate::report::{Over, Point, SearchSetup};
use crate::search::Design;
use crate::spec::{ConfigurationBase, Definitions, Kernel, Modules, Name, Source, nearest};
use crate::store::{Kept, Store};
use crate::text::plain;

/// How a point's kernel is made.
#[derive(Debug)]
pub enum Axis {
    /// It is one of the definitions.
    Defined,
    /// It is made of a commit.
    Commits(Box<Commits>),
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
            Self::Defined => match definitions.kernels.get(kernel) {
                Some(kernel) => build::build(store, definitions, kernel, events, jobs).await,
                None => Err(BuildError::NoBase { base: kernel.clone() }),
            },
            Self::Commits(commits) => commits.build(store, definitions, kernel, events, jobs).await,
        }
    }

    /// What is added to the kernel command line of a kernel of the line.
    #[must_use]
    pub fn boot_arguments<'a>(&'a self, definitions: &'a Definitions, kernel: &Name) -> &'a [String] {
        match self {
            Self::Defined => definitions.kernels.get(kernel).map_or(&[], |kernel| &kernel.boot_arguments),
            Self::Commits(commits) => commits.boot_arguments(),
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
    Ok(SearchSetup { design, duration, over, find_fix, good_end, points: line })
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
fn flattened(kernel: &Kernel, name: Name) -> Kernel {
    Kernel { name, base: None, inherited_patches: 0, ..kernel.clone() }
}

fn numbered(kernel: &Name, what: &str, number: usize) -> Result<Name> {
    let name = format!("{kernel}.{what}-{number}");
    Name::new(&name).with_context(|| format!("{kernel} has too long a name to number its variants"))
}

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

/// What two configurations of a kernel differ in, symbol by symbol.
///
/// # Errors
/// When there is no such kernel, a file can't be read, or they don't differ.
pub fn over_config(store: &Store, definitions: &mut Definitions, name: &Name, [old, new]: [&Path; 2], frame: Frame) -> Result<SearchSetup> {
    let kernel = defined(definitions, name)?.clone();
    if matches!(kernel.source, Source::Prebuilt(_)) {
        bail!("{name} is prebuilt, its configuration can't be changed: name a kernel that is built from source by --kernel");
    }
    let read = |path: &Path| -> Result<String> {
        let text = input::read_text(path).with_context(|| format!("reading the configuration {}", path.display()))?;
        if differences("", &text).is_empty() {
            bail!("{} is no configuration: it sets no CONFIG_ symbol; name a file such as a kernel's `.config`", path.display());
        }
        Ok(match kernel.configuration.modules {
            Modules::Keep => text,
            Modules::Off => without_modules(&text),
        })
    };
    // What the kernel's own fragments say is the same in all.
    let own: Vec<String> = kernel
        .configuration
        .fragments
        .iter()
        .map(|path| input::read_text(path))
        .collect::<Result<_, _>>()
        .context("reading its fragments")?;
    let fixed: Vec<(String, String)> = own.iter().flat_map(|text| differences("", text)).collect();
    let mut changes = differences(&read(old)?, &read(new)?);
    changes.retain(|(symbol, _)| fixed.iter().all(|(other, _)| other != symbol));
    if changes.is_empty() {
        bail!("{} and {} don't differ in what {name} leaves open", old.display(), new.display());
    }
    let first = numbered(name, "config", 0)?;
    let mut bare = flattened(&kernel, first.clone());
    bare.configuration.base = ConfigurationBase::File(old.canonicalize().with_context(|| format!("finding {}", old.display()))?);
    let title = format!("{} as it is", old.display());
    let mut line = vec![Point { kernel: first.clone(), what: "no symbol".to_owned(), title, merge: false, boot_arguments: Vec::new() }];
    let mut text = String::new();
    for (number, (symbol, value)) in (1..).zip(&changes) {
        text.push_str(&request(symbol, value));
        let point = numbered(name, "config", number)?;
        let mut variant = Kernel { name: point.clone(), base: Some(first.clone()), ..bare.clone() };
        variant.configuration.fragments.push(fragment(store, &text)?);
        definitions.kernels.insert(point.clone(), variant);
        line.push(Point {
            kernel: point,
            what: symbol.clone(),
            title: format!("becomes {value}"),
            merge: false,
            boot_arguments: Vec::new(),
        });
    }
    definitions.kernels.insert(first, bare);
    setup(frame, Over::Config { kernel: name.clone() }, line)
}

/// A fragment in the store, by its content.
fn fragment(store: &Store, text: &str) -> Result<PathBuf> {
    let key = format!("fragment-{}.config", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    match store.find(Kept::Sources, &key) {
        Some(found) => Ok(found),
        None => Ok(store.keep_file(Kept::Sources, &key, text.as_bytes())?),
    }
}
