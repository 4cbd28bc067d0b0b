//! Standard output and standard error: how wide, how coloured, and that nothing of others' gets through that a terminal would take for itself.
//!
//! Read [`show`] and [`complain`].

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};

use crate::text::plain;

pub(super) fn theme() -> miette::GraphicalTheme {
    if colour() { miette::GraphicalTheme::unicode() } else { miette::GraphicalTheme::unicode_nocolor() }
}

/// Whether to colour standard output: a terminal, and `NO_COLOR` isn't set.
pub(super) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) fn width() -> Option<u16> {
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Some(160);
    }
    // A terminal that doesn't know its size says 0.
    Some(rustix::termios::tcgetwinsize(stdout).map_or(0, |size| size.ws_col)).map(|columns| if columns < 40 { 80 } else { columns })
}

/// Says it on standard error, if that can be written.
pub(super) fn complain(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}

/// Lines of ours with words of others in them, without what a terminal would take for itself.
pub(super) fn readable(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// Prints a result; a reader that has gone away (`| head`) is no trouble.
///
/// # Errors
/// When it can't be written otherwise: into a file on a full disk.
pub(super) fn show(text: &str) -> Result<()> {
    use std::io::Write as _;
    let mut stdout = std::io::stdout();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("writing to standard output"),
        _ => Ok(()),
    }
}
