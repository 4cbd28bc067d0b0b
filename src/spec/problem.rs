//! What is wrong with the definitions: every problem with its file, line, column and remedy.
//!
//! A problem is shown in two ways: as one plain line (`Display`, for scripts and logs) and as a miette diagnostic that underlines the place (for a
//! person). This file decides nothing and reads no file; nothing here prints.
//!
//! Read [`Problem`] first.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};

/// All problems of a folder of definitions, ordered by file, line and column. Never empty.
#[derive(Debug, Clone)]
pub struct Problems(pub Vec<Problem>);

/// One thing that is wrong, where, and what to do about it.
#[derive(Debug, Clone)]
pub struct Problem {
    /// The file, relative to the definitions' root.
    pub file: PathBuf,
    /// Line from 1; 0 when the problem has no line, because a folder is missing or a file can't be read.
    pub line: usize,
    /// Column from 1, in characters; 0 with line 0.
    pub column: usize,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// The file's text and the bytes to underline, if it could be read.
    pub(super) source: Option<(Arc<NamedSource<String>>, SourceSpan)>,
}

impl Problem {
    /// The key that problems are ordered by.
    pub(super) fn order(&self) -> (PathBuf, usize, usize, String) {
        (self.file.clone(), self.line, self.column, self.message.clone())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.message, self.remedy)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|(text, _)| &**text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.source.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(Some("here".to_owned()), *span))))
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A remedy for a word that isn't one of `known`: the nearest of them, or all of them.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    match known.iter().min_by_key(|candidate| strsim::osa_distance(word, candidate)) {
        Some(candidate) if is_near(word, candidate) => format!("did you mean `{candidate}`?"),
        Some(_) => format!("there is {}", quoted(&known)),
        None => "there is none to choose from".to_owned(),
    }
}

/// `word` may be a misspelling of `candidate`: a third of it differs at most. `kernals` is near `kernels`, and `x` is near nothing.
pub(super) fn is_near(word: &str, candidate: &str) -> bool {
    let length = word.chars().count();
    let distance = strsim::osa_distance(word, candidate);
    distance <= length.div_ceil(3) && distance < length
}

fn quoted(words: &[&str]) -> String {
    let mut words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match (words.pop(), words.is_empty()) {
        (Some(last), false) => format!("{} and {last}", words.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}
