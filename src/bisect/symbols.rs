//! What two configurations of a kernel differ in, as a line: symbol by symbol, on top of the older one.
//!
//! A point's symbols become a fragment in the store when its kernel is built: all of them at once would be some thousand files of some thousand lines.
//!
//! Read [`over_config`] first, then [`Symbols`], which makes the kernels.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::axis::{Frame, defined, flattened, numbered, setup};
use crate::build::config::{Requests, differences, request, without_modules};
use crate::build::{self, BuildError, Built};
use crate::event::Events;
use crate::input;
use crate::report::{Over, Point, SearchSetup};
use crate::spec::{ConfigurationBase, Definitions, Kernel, Modules, Name, Source};
use crate::store::{Kept, Store, StoreError};

/// How kernels with some of the symbols are made.
#[derive(Debug)]
pub struct Symbols {
    /// The kernel without any of them.
    bare: Kernel,
    /// Lines that ask for a symbol each, in order.
    requests: Vec<String>,
    /// How many of them a kernel has.
    counts: HashMap<Name, usize>,
}

/// What two configurations of a kernel differ in, symbol by symbol.
///
/// # Errors
/// When there is no such kernel, a file can't be read, or they don't differ.
pub fn over_config(definitions: &mut Definitions, name: &Name, [old, new]: [&Path; 2], frame: Frame) -> Result<(SearchSetup, Symbols)> {
    let kernel = defined(definitions, name)?.clone();
    if matches!(kernel.source, Source::Prebuilt(_)) {
        bail!("{name} is prebuilt, its configuration can't be changed: name a kernel that is built from source by --kernel");
    }
    let read = |path: &Path| -> Result<String> {
        let text = input::read_text(path).with_context(|| format!("reading the configuration {}", path.display()))?;
        if differences("", &text).is_empty() {
            bail!("{} is no configuration: it sets no CONFIG_ symbol; name a file such as a kernel's `.config`", path.display());
        }
        Requests::default().read(&[path.to_owned()])?;
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
    let is_fixed = |symbol: &String| fixed.iter().any(|(other, _)| other == symbol);
    let closed: Vec<String> = changes.iter().map(|(symbol, _)| symbol).filter(|symbol| is_fixed(symbol)).cloned().collect();
    changes.retain(|(symbol, _)| !is_fixed(symbol));
    if changes.is_empty() {
        let mut remedy = "name two that differ".to_owned();
        if !closed.is_empty() {
            let (first, all) = (closed.iter().take(5).cloned().collect::<Vec<_>>().join(", "), closed.len());
            let more = if all > 5 { format!(" and {} more", all - 5) } else { String::new() };
            remedy =
                format!("they differ in {first}{more}, which its fragments set: take it out of them, or name another kernel by --kernel");
        }
        bail!("{} and {} don't differ in what {name} leaves open: {remedy}", old.display(), new.display());
    }
    let first = numbered(name, "config", 0)?;
    let mut bare = flattened(&kernel, first.clone());
    bare.configuration.base = ConfigurationBase::File(old.canonicalize().with_context(|| format!("finding {}", old.display()))?);
    let point = |kernel: &Name, what: &str, title: String| Point {
        kernel: kernel.clone(),
        what: what.to_owned(),
        title,
        merge: false,
        boot_arguments: Vec::new(),
    };
    let mut line = vec![point(&first, "no symbol", format!("{} as it is", old.display()))];
    let mut counts = HashMap::from([(first.clone(), 0)]);
    for (number, (symbol, value)) in (1..).zip(&changes) {
        let kernel = numbered(name, "config", number)?;
        line.push(point(&kernel, symbol, format!("becomes {value}")));
        counts.insert(kernel, number);
    }
    definitions.kernels.insert(first, bare.clone());
    let requests = changes.iter().map(|(symbol, value)| request(symbol, value)).collect();
    Ok((setup(frame, Over::Config { kernel: name.clone() }, line)?, Symbols { bare, requests, counts }))
}

impl Symbols {
    /// What is added to the kernel command line.
    #[must_use]
    pub fn boot_arguments(&self) -> &[String] {
        &self.bare.boot_arguments
    }

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
        match self.counts.get(kernel) {
            None => Err(BuildError::NoBase { base: kernel.clone() }),
            // All others are built in clones of its tree.
            Some(0) => build::build_for(store, definitions, &self.bare, events, jobs, true).await,
            Some(count) => {
                let mut variant = Kernel { name: kernel.clone(), base: Some(self.bare.name.clone()), ..self.bare.clone() };
                variant.configuration.fragments.push(fragment(store, &self.requests[..*count].concat())?);
                build::build_for(store, definitions, &variant, events, jobs, false).await
            }
        }
    }
}

/// A fragment in the store, by its content.
fn fragment(store: &Store, text: &str) -> Result<PathBuf, StoreError> {
    let key = format!("fragment-{}.config", &blake3::hash(text.as_bytes()).to_hex()[..32]);
    match store.find(Kept::Sources, &key) {
        Some(found) => Ok(found),
        None => store.keep_file(Kept::Sources, &key, text.as_bytes()),
    }
}
