//! What a build's output says: how far it is, and what went wrong first.
//!
//! Pure functions of lines; the log's file is others' business.
//!
//! Read [`first_error`] first.

/// Whether a line of make's output reports that an object of the kernel is compiled (not a program for the host, not a link).
#[must_use]
pub fn is_object(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("  ") else { return false };
    matches!(rest.split_ascii_whitespace().next(), Some("CC" | "AS"))
}

/// The first error of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstError {
    /// The line, or what there is instead.
    pub text: String,
    /// The file in the tree that it names, if it names one.
    pub file: Option<String>,
    /// The disk was full.
    pub disk_full: bool,
}

/// Whether a text tells of a full disk, in the words of the C library (`ENOSPC`, `EDQUOT`).
#[must_use]
pub fn is_disk_full(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

/// The error that came first in a log, the most telling kind of them: a compiler's, a linker's, a program's, make's own.
#[must_use]
pub fn first_error(log: &str) -> FirstError {
    let disk_full = is_disk_full(log);
    let kinds: [fn(&str) -> bool; 4] = [
        |line| line.contains(": error: ") || line.contains(": fatal error: ") || line.contains(": Error: "),
        |line| line.contains("undefined reference to") || line.contains("multiple definition of") || line.starts_with("ld: "),
        |line| line.contains("not found") || line.starts_with("/bin/sh: ") || line.contains("Permission denied"),
        |line| line.contains("***"),
    ];
    let found = kinds.iter().find_map(|is_kind| log.lines().find(|line| is_kind(line)));
    let text = found.or_else(|| log.lines().rev().find(|line| !line.trim().is_empty())).unwrap_or("it said nothing").trim().to_owned();
    let file = text
        .split_once(':')
        .map(|(file, _)| file.trim_start_matches("./").to_owned())
        .filter(|file| file.contains('.') && !file.contains(' '));
    FirstError { text, file, disk_full }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_objects_only() {
        let log = [
            "  CC      mm/filemap.o",
            "  AS      arch/x86/entry/entry_64.o",
            "  HOSTCC  scripts/mod/modpost.o",
            "  LD      vmlinux.o",
            "CC x",
        ];
        assert_eq!(log.iter().filter(|line| is_object(line)).count(), 2);
    }

    #[test]
    fn the_compilers_first_error_wins_over_makes() {
        let log = "  CC      mm/filemap.o\nmake[1]: *** No rule\nmm/filemap.c: In function 'f':\nmm/filemap.c:12:3: error: 'x' undeclared\nmm/other.c:1:1: error: y\n";
        let error = first_error(log);
        assert_eq!(error.text, "mm/filemap.c:12:3: error: 'x' undeclared");
        assert_eq!(error.file.as_deref(), Some("mm/filemap.c"));
    }

    #[test]
    fn other_ends_are_told_too() {
        assert_eq!(first_error("  LD x\nld: mm/filemap.o: undefined reference to `foo'\nmake: *** [x] Error 1\n").file, None);
        assert_eq!(
            first_error("make: *** No rule to make target 'bzImage'.  Stop.\n").text,
            "make: *** No rule to make target 'bzImage'.  Stop."
        );
        assert!(first_error("as: BFD: mm/x.o: No space left on device\n").disk_full);
        assert_eq!(first_error("").text, "it said nothing");
    }
}
