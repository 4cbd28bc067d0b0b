//! Words of others, for a line of ours.
//!
//! Read [`plain`].

/// `text` on one line, without control characters, which a terminal or a reader of a file would take for itself.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

/// What a message says first, on one line: a line that announces a list takes the list along.
#[must_use]
pub fn in_one_line(message: &str) -> String {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    if !first.ends_with(':') {
        return plain(first);
    }
    let mut listed: Vec<String> = lines.take_while(|line| line.starts_with(' ')).map(|line| line.trim().to_owned()).collect();
    if listed.len() > LISTED + 1 {
        let more = listed.split_off(LISTED).len();
        listed.push(format!("and {more} more"));
    }
    plain(format!("{first} {}", listed.join("; ")).trim_end_matches([':', ' ']))
}

/// How much of a list goes on one line.
const LISTED: usize = 3;

/// A word for a shell.
#[must_use]
pub fn for_a_shell(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else if word.chars().any(char::is_control) {
        // What a terminal would take for itself, as bash and zsh write it.
        let escaped = |c: char| match c {
            '\'' | '\\' => format!("\\{c}"),
            c if c.is_control() => c.to_string().bytes().map(|byte| format!("\\x{byte:02x}")).collect(),
            c => c.to_string(),
        };
        format!("$'{}'", word.chars().map(escaped).collect::<String>())
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_become_blanks() {
        assert_eq!(plain("mm: \u{1b}[31mred\tand\u{9b}more\n\n"), "mm:  [31mred and more");
    }

    #[test]
    fn a_list_belongs_to_the_line_that_announces_it() {
        assert_eq!(in_one_line("2 symbols did not stick:\n  A: one\n  B: two\nturn on what"), "2 symbols did not stick: A: one; B: two");
        assert_eq!(in_one_line("make failed\n  a log"), "make failed");
        assert_eq!([in_one_line("nothing:"), in_one_line("")], ["nothing", ""]);
        assert_eq!(in_one_line("5:\n  1\n  2\n  3\n  4\n  5"), "5: 1; 2; 3; and 2 more");
    }

    #[test]
    fn a_word_for_a_shell_is_one_word() {
        assert_eq!(
            [for_a_shell("a/b.c"), for_a_shell("a b"), for_a_shell("it's"), for_a_shell("")],
            ["a/b.c", "'a b'", r"'it'\''s'", "''"]
        );
        assert_eq!([for_a_shell("a "), for_a_shell("it's\n")], ["'a '", r"$'it\'s\x0a'"]);
    }
}
