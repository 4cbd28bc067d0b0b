//! Exit codes of the program: the contract with scripts and nightly jobs.
//!
//! Read [`Exit`]; nothing else in the program names a number.

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Everything as expected.
    Expected = 0,
    /// A kernel's verdict is contrary to what was expected.
    Contrary = 1,
    /// Bad usage or definition.
    Usage = 2,
    /// A verdict is inconclusive.
    Inconclusive = 3,
    /// Our own trouble.
    Trouble = 4,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
