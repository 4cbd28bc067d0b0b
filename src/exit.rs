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
    /// A step of `git bisect run`: this commit can't be tested.
    Skip = 125,
    /// A step of `git bisect run`: stop, for what is wrong isn't the commit.
    Abort = 128,
    /// Interrupted by the user.
    Interrupted = 130,
}

impl Exit {
    /// As `git bisect run` understands it: 1 is bad there, and what is above 127 stops it.
    #[must_use]
    pub fn of_a_step(self) -> Self {
        match self {
            Self::Expected | Self::Contrary | Self::Skip | Self::Abort | Self::Interrupted => self,
            Self::Usage | Self::Inconclusive | Self::Trouble => Self::Abort,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
