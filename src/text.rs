//! Words of others, for a line of ours.
//!
//! Read [`plain`].

/// `text` on one line, without control characters, which a terminal or a reader of a file would take for itself.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(plain("mm: \u{1b}[31mred\tand\u{9b}more\n\n"), "mm:  [31mred and more");
    }
}
