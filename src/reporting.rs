//! Reports of a saved run, for others: what is private here is known, taken out, and the form is made.
//!
//! It reads a run's folder, and writes only what it is told to. Judging again is `rescore`'s business: a report says what the run found.
//!
//! Read [`Saved`] first.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::report::{Case, LoadError, PAGE, Private, Redactor, bugzilla, bundle, html, junit, markdown, write_whole};
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
        Self::beside(folder, &Store::users_own().unwrap_or_default())
    }

    fn beside(folder: &Path, store: &Path) -> Result<Self, LoadError> {
        let case = Case::load(folder)?;
        let run = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let folders = [(case.report.definitions.as_path(), "definitions"), (store, "cache"), (run.as_path(), "run")];
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
            Format::Json => serde_json::to_string_pretty(&case.report)?,
            Format::Junit => junit(&case)?,
            Format::Html => html(&case)?,
        })
    }

    /// Writes the bundle.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn bundle(&self, place: &Path) -> io::Result<()> {
        bundle(&self.folder, &self.case, &self.redactor, place)
    }

    /// Whether a report or a bundle may be written there: no file of the run may be lost by it, but a page, which is made again from the rest.
    ///
    /// # Errors
    /// When it may not, and what to do.
    pub fn may_write(&self, place: &Path) -> Result<(), String> {
        let (Ok(place), Ok(run)) = (place.canonicalize(), self.folder.canonicalize()) else { return Ok(()) };
        if place.is_file() && place.starts_with(&run) && place != run.join(PAGE) {
            return Err(format!("{} is a file of the run itself: choose another file", place.display()));
        }
        Ok(())
    }

    /// One line for each trial whose evidence can't be read.
    #[must_use]
    pub fn damaged(&self) -> &[String] {
        &self.case.damaged
    }
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
