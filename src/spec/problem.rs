//! What is wrong with the definitions: every problem with its file, line, column and remedy.
//!
//! A problem is shown in two ways: as one plain line (`Display`, for scripts and logs), and with the place underlined
//! ([`Problems::underlined`], for a person). This file decides nothing and reads no file; nothing here prints.
//!
//! Read [`Problem`] first.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode, SourceSpan};

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

/// A problem as miette shows it: the place comes from the label and the remedy from the help, so that neither is in the text.
#[derive(Debug)]
struct Underlined<'a>(&'a Problem);

impl fmt::Display for Underlined<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { file, message, source, .. } = self.0;
        match source {
            Some(_) => f.write_str(message),
            None => write!(f, "{}: {message}", file.display()),
        }
    }
}

impl std::error::Error for Underlined<'_> {}

impl Diagnostic for Underlined<'_> {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.0.remedy))
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.0.source.as_ref().map(|(text, _)| &**text as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.0.source.as_ref()?;
        Some(Box::new(std::iter::once(LabeledSpan::new_with_span(None, *span))))
    }
}

impl Problems {
    /// Every problem with its line and the place underlined.
    #[must_use]
    pub fn underlined(&self, theme: GraphicalTheme) -> String {
        let handler = GraphicalReportHandler::new_themed(theme);
        let mut text = String::new();
        for problem in &self.0 {
            if handler.render_report(&mut text, &Underlined(problem)).is_err() {
                // A label outside the text would do that; the plain line still says everything.
                text.push_str(&problem.to_string());
            }
            text.push('\n');
        }
        text
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
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<&str> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    match (nearest_word(word, &known), known.as_slice()) {
        (Some(candidate), _) => format!("did you mean `{candidate}`?"),
        (None, []) => "there is none to choose from".to_owned(),
        (None, [only]) => format!("there is `{only}`"),
        (None, several) => format!("there are {}", quoted(several)),
    }
}

/// The one of `known` that `word` may be a misspelling of.
pub(super) fn nearest_word<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let near = known.iter().copied().filter(|candidate| is_near(word, candidate));
    near.min_by_key(|candidate| strsim::osa_distance(word, candidate))
}

/// `word` may be a misspelling of `candidate`: a third of it differs at most. `kernals` is near `kernels`, and `v3` is near nothing.
pub(super) fn is_near(word: &str, candidate: &str) -> bool {
    strsim::osa_distance(word, candidate) <= word.chars().count() / 3
}

fn quoted(words: &[&str]) -> String {
    let mut words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match (words.pop(), words.is_empty()) {
        (Some(last), false) => format!("{} and {last}", words.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}
