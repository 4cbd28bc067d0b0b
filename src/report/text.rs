//! Plain text for a bug tracker, wrapped.
//!
//! Read [`wrapped`].

use regex::Regex;

/// `text` wrapped at `width` columns; the first line begins with `first`, the others with `rest`. A word that is too long stands alone.
#[must_use]
pub(super) fn wrapped(text: &str, width: usize, first: &str, rest: &str) -> String {
    let options = textwrap::Options::new(width)
        .initial_indent(first)
        .subsequent_indent(rest)
        // Words are split at blanks only, whatever features of textwrap another crate turns on.
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A number of things, as in `1 CPU` and `2 CPUs`.
#[must_use]
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[expect(clippy::expect_used, reason = "the patterns are constants, and tests use each")]
pub(super) fn compiled(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is a regular expression")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_no_plural() {
        assert_eq!([0, 1, 2].map(|count| counted(count, "CPU")), ["0 CPUs", "1 CPU", "2 CPUs"]);
    }
}
