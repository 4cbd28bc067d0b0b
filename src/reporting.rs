//! Reports of a saved run, for others: what is private here is known, taken out, and the form is made.
//!
//! It reads a run's folder, and writes only what it is told to. A report says what the run found, and where that isn't what its evidence says.
//!
//! Read [`Saved`] first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::report::{
    Case, Comparison, Damage, LoadError, PAGE, Private, Redactor, Report, bugzilla, bundle, html, json, junit, markdown, write_whole,
};
use crate::rescore::{RULES, rescore};
use crate::source::Provenance;
use crate::store::Store;

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Plain text for a bug tracker, wrapped at 76 columns
    Bugzilla,
    /// Markdown
    Md,
    /// The data
    Json,
    /// JUnit XML
    Junit,
    /// One page that needs nothing else
    Html,
}

/// What a bundle's name ends in.
const BUNDLE: &str = ".tar.zst";

/// A run that was read from its folder.
#[derive(Debug)]
pub struct Saved {
    folder: PathBuf,
    case: Case,
    redactor: Redactor,
}

impl Saved {
    /// Reads a run's folder.
    ///
    /// # Errors
    /// When its report can't be read.
    pub fn open(folder: &Path) -> Result<Self, LoadError> {
        let mut saved = Self::beside(folder, &Store::users_own().unwrap_or_default())?;
        let again = rescore(folder, &saved.case.report);
        let (lost, rules) = (again.damaged.len(), saved.case.report.rules);
        saved.case.comparison = if !again.same_rules {
            Comparison::NotMade(format!("it was judged by rules {rules}, and these are rules {RULES}; `hangproof rescore` judges anew"))
        } else if lost > 0 && again.changes.is_empty() {
            Comparison::NotMade(format!("the evidence of {lost} of {} trials is missing or damaged", again.trials))
        } else {
            Comparison::Made(again.changes)
        };
        Ok(saved)
    }

    fn beside(folder: &Path, store: &Path) -> Result<Self, LoadError> {
        let case = Case::load(folder)?;
        let run = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let brought = brought(&case.report);
        let mut folders = vec![(case.report.definitions.as_path(), "definitions"), (store, "cache"), (run.as_path(), "run")];
        folders.extend(brought.iter().map(|folder| (folder.as_path(), "source")));
        let scratch = std::env::var_os("HANGPROOF_SCRATCH").map(PathBuf::from);
        folders.extend(scratch.as_deref().map(|folder| (folder, "scratch")));
        let redactor = Redactor::new(&Private::here(&folders));
        Ok(Self { folder: folder.to_owned(), case, redactor })
    }

    /// The report in this form.
    ///
    /// # Errors
    /// When a name can't be told without a private word.
    pub fn render(&self, format: Format) -> Result<String> {
        let case = self.redactor.value(&self.case).context("taking private words out")?;
        Ok(match format {
            Format::Bugzilla => bugzilla(&case),
            Format::Md => markdown(&case),
            Format::Json => json(&case)?,
            Format::Junit => junit(&case)?,
            Format::Html => html(&case)?,
        })
    }

    /// Writes the bundle.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn bundle(&mut self, place: &Path) -> io::Result<()> {
        let left_out = bundle(&self.folder, &self.case, &self.redactor, place)?;
        self.case.damaged.extend(left_out);
        Ok(())
    }

    /// Where a report of this form, or a bundle, is written: a file that is new, or a regular one, and none of the run's but its page, which is made again
    /// from the rest. A link stays, and what it leads to is written.
    ///
    /// # Errors
    /// When it may not be written, and what to do.
    pub fn place(&self, named: &Path, format: Option<Format>) -> Result<PathBuf, String> {
        let (shown, choose) = (named.display(), "choose another file");
        let cant = |error: io::Error, remedy: &str| format!("{shown} can't be written: {error}: {remedy}");
        let folder = named.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = folder.canonicalize().map_err(|error| cant(error, "make its folder, or choose another file"))?;
        // A regular file behind /dev/stdout would be replaced, and a shell's `>>` has it open.
        let is_open = [Some(folder.clone()), fs::read_link(named).ok()].into_iter().flatten().any(|path| path.starts_with("/proc"));
        if is_open || fs::metadata(named).is_ok_and(|found| !found.is_file()) {
            let remedy = format.map_or("", |_| ", or leave out --out for standard output");
            return Err(format!("{shown} is no regular file: name one{remedy}"));
        }
        let place = match (fs::symlink_metadata(named), named.file_name()) {
            (Err(error), Some(name)) if error.kind() == io::ErrorKind::NotFound => folder.join(name),
            _ => named.canonicalize().map_err(|error| cant(error, choose))?,
        };
        let run = self.folder.canonicalize().map_err(|error| cant(error, choose))?;
        if place == run.join(PAGE) && format != Some(Format::Html) {
            return Err(format!("{} is the run's page: {choose}, or --format html", place.display()));
        }
        if place.is_file() && place.starts_with(&run) && place != run.join(PAGE) {
            return Err(format!("{} is a file of the run itself: {choose}", place.display()));
        }
        if format.is_none() && !place.to_string_lossy().ends_with(BUNDLE) {
            return Err(format!("{shown} is no name for a bundle, a tar archive compressed by zstd: name a file that ends in {BUNDLE}"));
        }
        Ok(place)
    }

    /// Whether the report says what its evidence says, by the rules that it was judged by.
    #[must_use]
    pub fn comparison(&self) -> &Comparison {
        &self.case.comparison
    }

    /// What was left out.
    #[must_use]
    pub fn damaged(&self) -> &[Damage] {
        &self.case.damaged
    }
}

/// The folders of what was brought by hand: of local sources, and of files that the command names.
fn brought(report: &Report) -> Vec<PathBuf> {
    let sources = report.kernels.iter().filter_map(|kernel| match &kernel.build.as_ref()?.source {
        Provenance::Directory { path, .. } => Some(path.display().to_string()),
        Provenance::Tarball { location, .. } | Provenance::Srpm { location, .. } => Some(location.clone()),
        Provenance::Git { repository, .. } => Some(repository.clone()),
        Provenance::Prebuilt { package, .. } => Some(package.clone()),
        Provenance::Debian { .. } => None,
    });
    let words = report.command.split_whitespace().map(|word| word.trim_matches('\''));
    let named = words.map(|word| word.rsplit_once('=').map_or(word, |(_, value)| value).to_owned());
    let paths = sources.chain(named).map(PathBuf::from).filter(|path| path.is_absolute());
    // What every machine has is nobody's.
    let own = paths.filter(|path| !["/usr", "/dev", "/proc", "/sys", "/bin", "/sbin"].iter().any(|system| path.starts_with(system)));
    own.filter_map(|path| Some(path.parent()?.to_owned())).collect()
}

/// Writes the page into a run's folder.
///
/// # Errors
/// When it can't be written.
pub fn save_page(folder: &Path, store: &Path) -> Result<PathBuf> {
    let page = Saved::beside(folder, store)?.render(Format::Html)?;
    let path = folder.join(PAGE);
    write_whole(&path, page.as_bytes())?;
    Ok(path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn folders_of_what_was_brought_by_hand_are_private() {
        let saved = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/report/run.json");
        let mut report: Report = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
        report.kernels.truncate(1);
        report.command = "hangproof run p --source k=/srv/acme/tree --configuration 'k=/srv/a.config' --set x=/usr/bin/y".to_owned();
        let path = PathBuf::from("/data/linux");
        report.kernels[0].build.as_mut().unwrap().source = Provenance::Directory { path, blake3: String::new() };
        assert_eq!(brought(&report), ["/data", "/srv/acme", "/srv"].map(PathBuf::from));
    }
}
