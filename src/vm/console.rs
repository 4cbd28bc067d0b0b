//! The serial console: bytes of a hostile guest become lines with a time stamp.
//!
//! Control characters and ANSI sequences are removed, a line that never ends is cut, and the whole is bounded: beyond [`CONSOLE_LIMIT`] the
//! beginning is kept (the first event is the cause) and the rest is counted. What a line means is the oracle's business.
//!
//! Read [`Lines`] first.

/// Most bytes of one line; a longer one is cut into several.
const LINE_LIMIT: usize = 4096;

/// Most bytes of a trial's console that are kept: a noisy boot has 100 KB, a task list 1 MB.
pub const CONSOLE_LIMIT: u64 = 16 * 1024 * 1024;

/// What a line costs besides its text: its end, its time stamp and its place in memory.
const LINE_COST: u64 = 64;

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    escape: Escape,
    kept: u64,
    /// Bytes that were dropped because the console was longer than [`CONSOLE_LIMIT`].
    pub dropped: u64,
}

/// Where we are in an ANSI sequence: ESC, then either one character or `[` parameters and a letter.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Started,
    Parameters,
}

impl Lines {
    /// Takes bytes and returns the lines that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for &byte in bytes {
            match (self.escape, byte) {
                (Escape::None, b'\n') => lines.extend(self.end_line()),
                (Escape::None, 0x1b) => self.escape = Escape::Started,
                (Escape::None, byte) => {
                    if byte == b'\t' || byte >= 0x20 && byte != 0x7f {
                        self.line.push(byte);
                    }
                    if self.line.len() >= LINE_LIMIT {
                        lines.extend(self.end_line());
                    }
                }
                (Escape::Started, b'[') => self.escape = Escape::Parameters,
                (Escape::Parameters, 0x20..=0x3f) => {}
                (Escape::Started | Escape::Parameters, _) => self.escape = Escape::None,
            }
        }
        lines
    }

    /// The unfinished last line, if there is one.
    pub fn finish(&mut self) -> Option<String> {
        if self.line.is_empty() { None } else { self.end_line() }
    }

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        let size = line.len() as u64 + LINE_COST;
        if self.kept + size > CONSOLE_LIMIT {
            self.dropped += size;
            return None;
        }
        self.kept += size;
        // The control characters of above ASCII, which take two bytes, are left.
        Some(String::from_utf8_lossy(&line).replace(|c: char| c.is_control() && c != '\t', ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_colours_are_removed() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"\x1b[2J\x1b[1;31mred\x1b[0m\r\npl\x00ain\ttab\x07\xc2\x9b\r\nunfin"), ["red", "plain\ttab"]);
        assert_eq!(lines.finish().as_deref(), Some("unfin"));
        assert_eq!(lines.finish(), None);
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut lines = Lines::default();
        let chunk = vec![b'x'; 1 << 20];
        let kept: u64 = (0..20).flat_map(|_| lines.push(&chunk)).map(|line| line.len() as u64 + LINE_COST).sum();
        assert!(kept <= CONSOLE_LIMIT);
        assert_eq!(kept + lines.dropped, 20 * (1 << 20) + 20 * (1 << 20) / LINE_LIMIT as u64 * LINE_COST);
        // Empty lines are not free either.
        let mut lines = Lines::default();
        let kept = (0..20).flat_map(|_| lines.push(&vec![b'\n'; 1 << 20])).count() as u64;
        assert!(kept <= CONSOLE_LIMIT / LINE_COST);
    }

    proptest::proptest! {
        #[test]
        fn chunks_make_no_difference(bytes: Vec<u8>, cut in 0usize..64) {
            let (mut whole, mut parts) = (Lines::default(), Lines::default());
            let expected = whole.push(&bytes);
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            let mut found = parts.push(head);
            found.extend(parts.push(tail));
            proptest::prop_assert_eq!(found, expected);
            proptest::prop_assert_eq!(parts.finish(), whole.finish());
        }
    }
}
